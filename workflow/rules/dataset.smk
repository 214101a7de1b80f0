"""From labelled frames, ours or the user's, to dataset files: one a part, and one of all for people and the report.

A job depends on the part that it takes: other test frames train nothing anew.
"""


rule assemble_part:
    input:
        training=lambda wildcards: (
            jobs.labelled(wildcards.dataset, "training", LABELLED)
            if wildcards.part == "training"
            else []
        ),
        test=lambda wildcards: (
            jobs.labelled(wildcards.dataset, "test", LABELLED)
            if wildcards.part == "test"
            else []
        ),
        records=lambda wildcards: jobs.labelled(
            wildcards.dataset, wildcards.part, RECORDS
        ),
        atoms=lambda wildcards: (
            jobs.free_atoms(wildcards.dataset) if wildcards.part == "training" else []
        ),
        pool=lambda wildcards: (
            jobs.frames_of_pool(wildcards.dataset) if wildcards.part == "pool" else []
        ),
        cheap=lambda wildcards: jobs.cheap_labels(
            wildcards.dataset, LABELLED, wildcards.part
        ),
        cheap_records=lambda wildcards: jobs.cheap_labels(
            wildcards.dataset, RECORDS, wildcards.part
        ),
    output:
        dataset=DATA.part("{part}"),
    log:
        layout.log("dataset/{dataset}/{part}"),
    benchmark:
        layout.benchmark("dataset/{dataset}/{part}")
    wildcard_constraints:
        dataset=one_of(jobs.computed),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        weak_forces=lambda wildcards: (
            jobs.computed[wildcards.dataset].weak_forces
            if wildcards.part != "test"
            else None
        ),
        # Not compared, for it takes the input: the frames are the same whatever it says.
        max_failed=lambda wildcards, input: jobs.computed[
            wildcards.dataset
        ].labelling.max_failed,
        # Not compared, for it takes the input: words about the frames, which stay what they are.
        level=lambda wildcards, input: jobs.level_in_words(wildcards.dataset),
        code=jobs.code["assemble_dataset"],
    message:
        "Assembling the {wildcards.part} frames of {wildcards.dataset}"
    script:
        "../scripts/assemble_dataset.py"


rule assemble_dataset:
    input:
        training=lambda wildcards: jobs.labelled(
            wildcards.dataset, "training", LABELLED
        ),
        test=lambda wildcards: jobs.labelled(wildcards.dataset, "test", LABELLED),
        records=lambda wildcards: [
            path
            for part in ("training", "test")
            for path in jobs.labelled(wildcards.dataset, part, RECORDS)
        ],
        atoms=lambda wildcards: jobs.free_atoms(wildcards.dataset),
        pool=lambda wildcards: jobs.frames_of_pool(wildcards.dataset),
        cheap=lambda wildcards: jobs.cheap_labels(wildcards.dataset, LABELLED),
        cheap_records=lambda wildcards: jobs.cheap_labels(wildcards.dataset, RECORDS),
    output:
        dataset=DATA.whole,
    log:
        layout.log("dataset/{dataset}"),
    benchmark:
        layout.benchmark("dataset/{dataset}")
    wildcard_constraints:
        dataset=one_of(jobs.computed),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        max_failed=lambda wildcards: jobs.computed[
            wildcards.dataset
        ].labelling.max_failed,
        weak_forces=lambda wildcards: jobs.computed[wildcards.dataset].weak_forces,
        # Not compared, for it takes the input: words about the frames, which stay what they are.
        level=lambda wildcards, input: jobs.level_in_words(wildcards.dataset),
        code=jobs.code["assemble_dataset"],
    message:
        "Assembling the dataset {wildcards.dataset}"
    script:
        "../scripts/assemble_dataset.py"


rule import_part:
    input:
        # Their content is compared, not their time.
        frames=lambda wildcards: ancient(
            jobs.given_files(wildcards.dataset, wildcards.part)
        ),
        cheap=lambda wildcards: jobs.cheap_labels(
            wildcards.dataset, LABELLED, wildcards.part
        ),
        cheap_records=lambda wildcards: jobs.cheap_labels(
            wildcards.dataset, RECORDS, wildcards.part
        ),
    output:
        dataset=DATA.part("{part}"),
    log:
        layout.log("dataset/{dataset}/{part}"),
    benchmark:
        layout.benchmark("dataset/{dataset}/{part}")
    wildcard_constraints:
        dataset=one_of(jobs.given),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=growing(lambda wildcards: 4000),
        runtime=reading_time,
    params:
        settings=lambda wildcards: jobs.given_settings(
            wildcards.dataset, wildcards.part
        ),
        contents=lambda wildcards: jobs.contents(
            *jobs.given_files(wildcards.dataset, wildcards.part)
        ),
        # Not compared, for it takes the input: what the part depends on stands above.
        dataset=lambda wildcards, input: jobs.given[wildcards.dataset].beyond_defaults(),
        part=lambda wildcards: wildcards.part,
        code=jobs.code["import_dataset"],
    message:
        "Importing the {wildcards.part} frames of {wildcards.dataset} from {input.frames}"
    script:
        "../scripts/import_dataset.py"


rule import_dataset:
    input:
        frames=lambda wildcards: ancient(jobs.given_files(wildcards.dataset)),
        cheap=lambda wildcards: jobs.cheap_labels(wildcards.dataset, LABELLED),
        cheap_records=lambda wildcards: jobs.cheap_labels(wildcards.dataset, RECORDS),
    output:
        dataset=DATA.whole,
        dropped=DATA.dropped,
        split=DATA.split,
    log:
        layout.log("dataset/{dataset}"),
    benchmark:
        layout.benchmark("dataset/{dataset}")
    wildcard_constraints:
        dataset=one_of(jobs.given),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=growing(lambda wildcards: 4000),
        runtime=reading_time,
    params:
        settings=lambda wildcards: jobs.given_settings(wildcards.dataset),
        contents=lambda wildcards: jobs.contents(*jobs.given_files(wildcards.dataset)),
        # Not compared, as above.
        dataset=lambda wildcards, input: jobs.given[wildcards.dataset].beyond_defaults(),
        part=None,
        code=jobs.code["import_dataset"],
    message:
        "Importing the dataset {wildcards.dataset} from {input.frames}"
    script:
        "../scripts/import_dataset.py"
