"""From labelled frames, ours or the user's, to one dataset file."""


rule assemble_dataset:
    input:
        training=lambda wildcards: labelled(wildcards.dataset, ("training",), ".xyz"),
        test=lambda wildcards: labelled(
            wildcards.dataset, ("test-forces", "test"), ".xyz"
        ),
        records=lambda wildcards: labelled(
            wildcards.dataset, ("training", "test-forces", "test"), ".jsonl"
        ),
        atoms=lambda wildcards: isolated_atoms_of(wildcards.dataset),
        pool=lambda wildcards: pool_of(wildcards.dataset),
    output:
        dataset=f"{DATA}/dataset.h5",
    log:
        f"{LOGS}/dataset/{{dataset}}.log",
    wildcard_constraints:
        dataset=one_of(COMPUTED),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        max_failed=lambda wildcards: COMPUTED[wildcards.dataset].labelling.max_failed,
        weak_forces=lambda wildcards: COMPUTED[wildcards.dataset].weak_forces,
    message:
        "Assembling the dataset {wildcards.dataset}"
    script:
        "../scripts/assemble_dataset.py"


rule import_dataset:
    input:
        frames=lambda wildcards: GIVEN[wildcards.dataset].file,
        test=lambda wildcards: GIVEN[wildcards.dataset].test_file or [],
        pool=lambda wildcards: GIVEN[wildcards.dataset].pool_file or [],
    output:
        dataset=f"{DATA}/dataset.h5",
    log:
        f"{LOGS}/dataset/{{dataset}}.log",
    wildcard_constraints:
        dataset=one_of(GIVEN),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        dataset=lambda wildcards: GIVEN[wildcards.dataset].beyond_defaults(),
        contents=lambda wildcards: contents(
            GIVEN[wildcards.dataset].file,
            GIVEN[wildcards.dataset].test_file,
            GIVEN[wildcards.dataset].pool_file,
        ),
    message:
        "Importing the dataset {wildcards.dataset} from {input.frames}"
    script:
        "../scripts/import_dataset.py"
