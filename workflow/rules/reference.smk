"""From a molecule, or from geometries, to labelled frames."""


rule sample:
    input:
        molecule=lambda wildcards: COMPUTED[wildcards.dataset].molecule.file or [],
    output:
        frames=f"{DATA}/candidates/{{part}}-{{kind}}{{temperature}}K.xyz",
    log:
        f"{LOGS}/sample/{{dataset}}/{{part}}-{{kind}}{{temperature}}K.log",
    benchmark:
        f"{BENCHMARKS}/sample/{{dataset}}/{{part}}-{{kind}}{{temperature}}K.tsv"
    wildcard_constraints:
        dataset=one_of(COMPUTED),
        part="training|test|pool",
        kind="|modes-",
        temperature="[0-9.e+]+",
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        molecule=lambda wildcards: COMPUTED[
            wildcards.dataset
        ].molecule.beyond_defaults(),
        contents=lambda wildcards: contents(COMPUTED[wildcards.dataset].molecule.file),
        sampling=sampling_of,
        frames=frames_of_source,
    message:
        "Sampling {wildcards.dataset}: {params.frames} {wildcards.part} frames on GFN2-xTB at {wildcards.kind}{wildcards.temperature} K"
    script:
        "../scripts/sample.py"


rule split_geometries:
    input:
        frames=lambda wildcards: COMPUTED[wildcards.dataset].geometries.file,
    output:
        frames=f"{DATA}/candidates/{{part}}-given.xyz",
    log:
        f"{LOGS}/split/{{dataset}}/{{part}}.log",
    wildcard_constraints:
        dataset=one_of(COMPUTED),
        part="training|test|pool",
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        geometries=lambda wildcards: COMPUTED[
            wildcards.dataset
        ].geometries.beyond_defaults(),
        pool_frames=lambda wildcards: COMPUTED[wildcards.dataset].pool_frames or 0,
        contents=lambda wildcards: contents(COMPUTED[wildcards.dataset].geometries.file),
    message:
        "Taking blocks of {input.frames} for {wildcards.part}"
    script:
        "../scripts/split_geometries.py"


rule select:
    input:
        candidates=candidates_of,
    output:
        frames=f"{DATA}/frames/{{part}}.xyz",
    log:
        f"{LOGS}/select/{{dataset}}/{{part}}.log",
    wildcard_constraints:
        dataset=one_of(COMPUTED),
        part="training|test|pool",
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        frames=frames_wanted,
        candidates_each=candidates_each,
    message:
        "Selecting {params.frames} {wildcards.part} frames of {wildcards.dataset}"
    script:
        "../scripts/select.py"


rule label:
    input:
        frames=lambda wildcards: f"{DATA}/frames/{batch_of(wildcards).part}.xyz",
    output:
        labelled=f"{DATA}/labels/{{labels}}/{{batch}}.xyz",
        records=f"{DATA}/labels/{{labels}}/{{batch}}.jsonl",
    log:
        f"{LOGS}/label/{{dataset}}/{{labels}}/{{batch}}.log",
    benchmark:
        f"{BENCHMARKS}/label/{{dataset}}/{{labels}}/{{batch}}.tsv"
    wildcard_constraints:
        dataset=one_of(COMPUTED),
        labels="training|test|test-forces",
        batch="[0-9]+",
    # A full disk or too little memory stops the job; what is finished is in the store.
    retries: 2
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=growing(lambda wildcards: batch_of(wildcards).mem_mb),
        runtime=growing(lambda wildcards: batch_of(wildcards).runtime),
    params:
        level=level_of,
        recipe=recipe_of,
        start=lambda wildcards: batch_of(wildcards).start,
        stop=lambda wildcards: batch_of(wildcards).stop,
        forces=lambda wildcards: batch_of(wildcards).forces,
        store=LABEL_STORE,
    message:
        "Labelling {wildcards.dataset}: {wildcards.labels} frames {params.start} to {params.stop} (progress in {log})"
    script:
        "../scripts/label.py"


rule label_isolated_atoms:
    input:
        frames=[f"{DATA}/frames/training.xyz", f"{DATA}/frames/test.xyz"],
    output:
        energies=f"{DATA}/isolated-atoms.json",
    log:
        f"{LOGS}/isolated-atoms/{{dataset}}.log",
    wildcard_constraints:
        dataset=one_of(COMPUTED),
    retries: 2
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=growing(lambda wildcards: 2000),
        runtime=growing(lambda wildcards: 60),
    params:
        level=level_of,
        recipe=recipe_of,
        store=LABEL_STORE,
    message:
        "Computing the free atoms of {wildcards.dataset}"
    script:
        "../scripts/label_isolated_atoms.py"
