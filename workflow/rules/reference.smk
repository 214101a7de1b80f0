"""From a molecule to labelled frames."""


rule sample:
    output:
        frames=f"{DATA}/trajectories/{{part}}-{{temperature}}K.xyz",
    log:
        f"{LOGS}/sample/{{dataset}}/{{part}}-{{temperature}}K.log",
    benchmark:
        f"{BENCHMARKS}/sample/{{dataset}}/{{part}}-{{temperature}}K.tsv"
    wildcard_constraints:
        dataset=one_of(COMPUTED),
        part="training|test",
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
        sampling=sampling_of,
        frames=frames_per_trajectory,
    message:
        "Sampling {wildcards.dataset}: {params.frames} {wildcards.part} frames from GFN2-xTB dynamics at {wildcards.temperature} K"
    script:
        "../scripts/sample.py"


rule select:
    input:
        trajectories=trajectories_of,
    output:
        frames=f"{DATA}/frames/{{part}}.xyz",
    log:
        f"{LOGS}/select/{{dataset}}/{{part}}.log",
    wildcard_constraints:
        dataset=one_of(COMPUTED),
        part="training|test",
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        frames=lambda wildcards: frames_wanted(
            COMPUTED[wildcards.dataset], wildcards.part
        ),
    message:
        "Selecting {params.frames} {wildcards.part} frames of {wildcards.dataset}"
    script:
        "../scripts/select.py"


rule label:
    input:
        frames=lambda wildcards: f"{DATA}/frames/{batch_of(wildcards)[0]}.xyz",
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
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=growing(lambda wildcards: COMPUTED[wildcards.dataset].labelling.mem_mb),
        runtime=growing(lambda wildcards: COMPUTED[wildcards.dataset].labelling.runtime),
    params:
        level=lambda wildcards: experiment.levels[
            COMPUTED[wildcards.dataset].level
        ].beyond_defaults(),
        start=lambda wildcards: batch_of(wildcards)[1],
        stop=lambda wildcards: batch_of(wildcards)[2],
        store=LABEL_STORE,
    message:
        "Labelling {wildcards.dataset}: {wildcards.labels} frames {params.start} to {params.stop} (progress in {log})"
    script:
        "../scripts/label.py"
