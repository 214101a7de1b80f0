"""Named test sets: geometries that no dataset has, and what is left of each set without training frames.

In between they are datasets of test frames alone, made by the rules of all datasets. No training depends on them.
"""


rule take_whole_file:
    input:
        # Its content is compared, not its time.
        frames=lambda wildcards: ancient(
            jobs.computed[wildcards.dataset].geometries.file
        ),
    output:
        frames=DATA.candidates("test", "given"),
    log:
        layout.log("take/{dataset}"),
    wildcard_constraints:
        dataset=one_of(jobs.whole_files()),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        geometries=lambda wildcards: jobs.computed[
            wildcards.dataset
        ].geometries.beyond_defaults(),
        contents=lambda wildcards: jobs.contents(
            jobs.computed[wildcards.dataset].geometries.file
        ),
        code=jobs.code["take_whole_file"],
    message:
        "Taking all geometries of {input.frames} for {wildcards.dataset}"
    script:
        "../scripts/take_whole_file.py"


rule scan:
    input:
        molecule=lambda wildcards: ancient(
            jobs.computed[wildcards.dataset].molecule.file or []
        ),
    output:
        frames=DATA.candidates("test", "given"),
    log:
        layout.log("scan/{dataset}"),
    benchmark:
        layout.benchmark("scan/{dataset}")
    wildcard_constraints:
        dataset=one_of(jobs.scans()),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        molecule=lambda wildcards: jobs.computed[
            wildcards.dataset
        ].molecule.beyond_defaults(),
        contents=lambda wildcards: jobs.contents(
            jobs.computed[wildcards.dataset].molecule.file
        ),
        scan=lambda wildcards: jobs.test_sets[wildcards.dataset].scan.beyond_defaults(),
        name=lambda wildcards: jobs.test_sets[wildcards.dataset].name,
        code=jobs.code["scan"],
    message:
        "Geometries along the scan {wildcards.dataset}"
    script:
        "../scripts/scan.py"


rule make_test_set:
    input:
        labelled=layout.dataset(named_test()).part("test"),
        training=DATA.part("training"),
    output:
        dataset=DATA.test_set(),
    log:
        layout.log("dataset/{dataset}/tests/{test}"),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        along=lambda wildcards: jobs.test_sets[
            named_test(wildcards.dataset, wildcards.test)
        ].along,
        units=lambda wildcards: jobs.units(
            named_test(wildcards.dataset, wildcards.test)
        ),
        code=jobs.code["make_test_set"],
    message:
        "Making the test set {wildcards.test} of {wildcards.dataset}, without its training frames"
    script:
        "../scripts/make_test_set.py"


rule evaluate_on:
    input:
        dataset=DATA.test_set(),
        model=RUN.model,
    output:
        errors=RUN.test().errors,
        predictions=RUN.test().predictions,
        worst=RUN.test().worst,
    log:
        layout.log("evaluate/{dataset}/{model}/{loss}/n{size}-seed{seed}-on-{test}"),
    benchmark:
        layout.benchmark(
            "evaluate/{dataset}/{model}/{loss}/n{size}-seed{seed}-on-{test}"
        )
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        run=run_of,
        test=lambda wildcards: wildcards.test,
        model=lambda wildcards: experiment.models[wildcards.model].beyond_defaults(),
        loss=lambda wildcards: experiment.losses[wildcards.loss].beyond_defaults(),
        code=jobs.code["evaluate"],
    message:
        "Testing {wildcards.model}, {wildcards.loss}, {wildcards.size} frames, seed {wildcards.seed} of {wildcards.dataset} on {wildcards.test}"
    script:
        "../scripts/evaluate.py"
