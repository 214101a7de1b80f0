"""From a molecule, or from geometries, to labelled frames."""


rule sample:
    input:
        # Its content is compared, not its time.
        molecule=lambda wildcards: ancient(
            jobs.computed[wildcards.dataset].molecule.file or []
        ),
    output:
        frames=DATA.candidates("{part}", "{kind}{temperature}K"),
    log:
        layout.log("sample/{dataset}/{part}-{kind}{temperature}K"),
    benchmark:
        layout.benchmark("sample/{dataset}/{part}-{kind}{temperature}K")
    wildcard_constraints:
        dataset=one_of(jobs.computed),
        kind="|modes-",
        temperature="[0-9.e+]+",
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
        sampling=lambda wildcards: jobs.sampling(
            wildcards.dataset, wildcards.temperature
        ),
        frames=lambda wildcards: jobs.frames_of_source(
            wildcards.dataset, wildcards.part
        ),
        code=jobs.code["sample"],
    message:
        "Sampling {wildcards.dataset}: {params.frames} {wildcards.part} frames on GFN2-xTB at {wildcards.kind}{wildcards.temperature} K"
    script:
        "../scripts/sample.py"


rule split_geometries:
    input:
        frames=lambda wildcards: ancient(
            jobs.geometries(wildcards.dataset, wildcards.part).file
        ),
    output:
        frames=DATA.candidates("{part}", "given"),
    log:
        layout.log("split/{dataset}/{part}"),
    benchmark:
        layout.benchmark("split/{dataset}/{part}")
    wildcard_constraints:
        dataset=one_of(name for name in jobs.computed if name not in jobs.test_sets),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        geometries=lambda wildcards: jobs.geometries(
            wildcards.dataset, wildcards.part
        ).beyond_defaults(),
        pool_frames=lambda wildcards: jobs.pool_of_file(
            wildcards.dataset, wildcards.part
        ),
        contents=lambda wildcards: jobs.contents(
            jobs.geometries(wildcards.dataset, wildcards.part).file
        ),
        code=jobs.code["split_geometries"],
    message:
        "Taking frames of {input.frames} for {wildcards.part}"
    script:
        "../scripts/split_geometries.py"


rule select:
    input:
        candidates=lambda wildcards: jobs.candidates(wildcards.dataset, wildcards.part),
    output:
        frames=DATA.frames("{part}"),
    log:
        layout.log("select/{dataset}/{part}"),
    benchmark:
        layout.benchmark("select/{dataset}/{part}")
    wildcard_constraints:
        dataset=one_of(jobs.computed),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        frames=lambda wildcards: jobs.frames_wanted(wildcards.dataset, wildcards.part),
        candidates_each=lambda wildcards: jobs.candidates_each(
            wildcards.dataset, wildcards.part
        ),
        # Not compared, for it takes the input: what it follows from is.
        origin=lambda wildcards, input: origin_of(
            jobs, wildcards.dataset, wildcards.part
        ),
        code=jobs.code["select"],
    message:
        "Selecting {params.frames} {wildcards.part} frames of {wildcards.dataset}"
    script:
        "../scripts/select.py"


# Forces by differences take dozens of energies: where one job would take long, others compute them beforehand.
rule displace:
    input:
        frames=lambda wildcards: DATA.frames(jobs.part_of(wildcards.labels)),
    output:
        records=DATA.displaced("{labels}", "{work}", "{batch}"),
    log:
        layout.log("displace/{dataset}/{labels}/{work}/{batch}/{share}"),
    benchmark:
        layout.benchmark("displace/{dataset}/{labels}/{work}/{batch}/{share}")
    wildcard_constraints:
        dataset=one_of(jobs.computed),
        labels="training|test|test-forces|test-slopes|round-[0-9]+",
        work="[0-9a-f]+",
        batch="[0-9]+-[0-9]+",
        share="[0-9]+-of-[0-9]+",
    retries: 2
    conda:
        "../../envs/piwsl.yaml"
    threads: lambda wildcards: jobs.batch(wildcards).threads
    resources:
        mem_mb=growing(lambda wildcards: jobs.batch(wildcards).mem_mb),
        runtime=growing(lambda wildcards: jobs.batch(wildcards).share_runtime),
    params:
        recipe=lambda wildcards: jobs.recipe(jobs.level_name(wildcards.dataset)),
        engine=lambda wildcards: jobs.engine(jobs.level_name(wildcards.dataset)),
        level=lambda wildcards, input: jobs.plain_level(
            jobs.level_name(wildcards.dataset)
        ),
        position=lambda wildcards: jobs.batch(wildcards).start,
        forces=lambda wildcards: jobs.batch(wildcards).forces,
        share=jobs.share,
        store=layout.store,
        code=jobs.code["displace"],
    message:
        "Labelling {wildcards.dataset}: displaced energies of {wildcards.labels} frame {params.position}, share {wildcards.share} (progress in {log})"
    script:
        "../scripts/displace.py"


rule label:
    input:
        frames=lambda wildcards: DATA.frames(jobs.part_of(wildcards.labels)),
        # Its energies are in the store; what failed there fails here, with its reason.
        displaced=jobs.displaced,
    output:
        labelled=DATA.batch("{labels}", "{work}", "{batch}", LABELLED),
        records=DATA.batch("{labels}", "{work}", "{batch}", RECORDS),
    log:
        layout.log("label/{dataset}/{labels}/{work}/{batch}"),
    benchmark:
        layout.benchmark("label/{dataset}/{labels}/{work}/{batch}")
    wildcard_constraints:
        dataset=one_of(jobs.computed),
        labels="training|test|test-forces|test-slopes|round-[0-9]+",
        work="[0-9a-f]+",
        batch="[0-9]+-[0-9]+",
    # A full disk or too little memory stops the job; what is finished is in the store.
    retries: 2
    conda:
        "../../envs/piwsl.yaml"
    threads: lambda wildcards: jobs.batch(wildcards).threads
    resources:
        mem_mb=growing(lambda wildcards: jobs.batch(wildcards).mem_mb),
        runtime=growing(lambda wildcards: jobs.batch(wildcards).runtime),
    params:
        recipe=lambda wildcards: jobs.recipe(jobs.level_name(wildcards.dataset)),
        engine=lambda wildcards: jobs.engine(jobs.level_name(wildcards.dataset)),
        # Not compared, for it takes the input: however a level is worded, its recipe is what is computed.
        level=lambda wildcards, input: jobs.plain_level(
            jobs.level_name(wildcards.dataset)
        ),
        start=lambda wildcards: jobs.batch(wildcards).start,
        stop=lambda wildcards: jobs.batch(wildcards).stop,
        forces=lambda wildcards: jobs.batch(wildcards).forces,
        store=layout.store,
        code=jobs.code["label"],
    message:
        "Labelling {wildcards.dataset}: {wildcards.labels} frames {params.start} to {params.stop} (progress in {log})"
    script:
        "../scripts/label.py"


rule take_geometries:
    input:
        frames=lambda wildcards: ancient(
            jobs.given_files(wildcards.dataset, wildcards.part)
        ),
    output:
        frames=DATA.frames("{part}"),
    log:
        layout.log("take/{dataset}/{part}"),
    benchmark:
        layout.benchmark("take/{dataset}/{part}")
    wildcard_constraints:
        dataset=one_of(jobs.given),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=growing(lambda wildcards: 4000),
        runtime=30,
    params:
        settings=lambda wildcards: jobs.geometry_settings(
            wildcards.dataset, wildcards.part
        ),
        contents=lambda wildcards: jobs.contents(
            *jobs.given_files(wildcards.dataset, wildcards.part)
        ),
        # Not compared, for it takes the input: what the part depends on stands above.
        dataset=lambda wildcards, input: jobs.given[wildcards.dataset].beyond_defaults(),
        origin=lambda wildcards, input: origin_of(
            jobs, wildcards.dataset, wildcards.part
        ),
        code=jobs.code["take_geometries"],
    message:
        "Taking the {wildcards.part} geometries of {wildcards.dataset} for cheap levels"
    script:
        "../scripts/take_geometries.py"


rule label_cheaply:
    input:
        frames=jobs.frames_to_label_cheaply,
    output:
        labelled=DATA.cheap_batch("{level}", "{part}", "{work}", "{batch}", LABELLED),
        records=DATA.cheap_batch("{level}", "{part}", "{work}", "{batch}", RECORDS),
    log:
        layout.log("label/{dataset}/{level}/{part}/{work}/{batch}"),
    benchmark:
        layout.benchmark("label/{dataset}/{level}/{part}/{work}/{batch}")
    wildcard_constraints:
        dataset=one_of(jobs.datasets),
        level=one_of(experiment.levels),
        part="training|test|pool|round-[0-9]+",
        work="[0-9a-f]+",
        batch="[0-9]+-[0-9]+",
    retries: 2
    conda:
        "../../envs/piwsl.yaml"
    threads: lambda wildcards: jobs.cheap_batch(wildcards).threads
    resources:
        mem_mb=growing(lambda wildcards: jobs.cheap_batch(wildcards).mem_mb),
        runtime=growing(lambda wildcards: jobs.cheap_batch(wildcards).runtime),
    params:
        recipe=lambda wildcards: jobs.recipe(wildcards.level),
        engine=lambda wildcards: jobs.engine(wildcards.level),
        level=lambda wildcards, input: jobs.plain_cheap_level(wildcards.level),
        start=lambda wildcards: jobs.cheap_batch(wildcards).start,
        stop=lambda wildcards: jobs.cheap_batch(wildcards).stop,
        forces="analytic",
        store=layout.store,
        code=jobs.code["label"],
    message:
        "Labelling {wildcards.dataset} with {wildcards.level}: {wildcards.part} frames {params.start} to {params.stop} (progress in {log})"
    script:
        "../scripts/label.py"


rule label_free_atoms:
    output:
        energies=DATA.free_atoms,
    log:
        layout.log("isolated-atoms/{dataset}"),
    benchmark:
        layout.benchmark("isolated-atoms/{dataset}")
    wildcard_constraints:
        dataset=one_of(jobs.computed),
    retries: 2
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=growing(lambda wildcards: 2000),
        runtime=growing(lambda wildcards: 60),
    params:
        recipe=lambda wildcards: jobs.recipe(jobs.level_name(wildcards.dataset)),
        engine=lambda wildcards: jobs.engine(jobs.level_name(wildcards.dataset)),
        level=lambda wildcards, output: jobs.plain_level(
            jobs.level_name(wildcards.dataset)
        ),
        symbols=lambda wildcards: jobs.symbols(wildcards.dataset),
        store=layout.store,
        code=jobs.code["label_free_atoms"],
    message:
        "Computing the free atoms of {wildcards.dataset}"
    script:
        "../scripts/label_free_atoms.py"
