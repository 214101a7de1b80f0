"""Rounds of an acquisition: which frames each has, asked of a model of the rounds before it, and what is bought of them.

The numbers of frames are known beforehand, so the graph is, too. A round depends on those before it, and a size on the
rounds that it has: further rounds redo nothing.
"""


rule choose_round:
    input:
        candidates=lambda wildcards: jobs.rounds.candidates(wildcards.dataset),
        before=lambda wildcards: jobs.rounds.records(
            wildcards.dataset, range(int(wildcards.round))
        ),
        model=jobs.rounds.model,
    output:
        frames=DATA.frames(round_name("{round}")),
        chosen=DATA.chosen(),
    log:
        layout.log("choose/{dataset}/round-{round}"),
    benchmark:
        layout.benchmark("choose/{dataset}/round-{round}")
    wildcard_constraints:
        dataset=one_of(jobs.rounds.acquisitions),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=growing(lambda wildcards: 4000),
        runtime=growing(lambda wildcards: 60),
    params:
        wanted=jobs.rounds.wanted,
        # Not compared, for it takes the input: what it follows from is.
        origin=lambda wildcards, input: origin_of(
            jobs, wildcards.dataset, round_name(wildcards.round)
        ),
        code=jobs.code["choose_round"],
    message:
        "Choosing the frames of round {wildcards.round} of {wildcards.dataset}"
    script:
        "../scripts/choose_round.py"


# What failed is replaced here; mostly, nothing is computed.
rule complete_round:
    input:
        chosen=DATA.chosen(),
        frames=DATA.frames(round_name("{round}")),
        labelled=lambda wildcards: jobs.rounds.labelled_as_chosen(wildcards, LABELLED),
        records=lambda wildcards: jobs.rounds.labelled_as_chosen(wildcards, RECORDS),
    output:
        frames=DATA.bought(LABELLED),
        records=DATA.bought(RECORDS),
        bought=DATA.bought(ROUND),
    log:
        layout.log("complete/{dataset}/round-{round}"),
    benchmark:
        layout.benchmark("complete/{dataset}/round-{round}")
    wildcard_constraints:
        dataset=one_of(
            name for name in jobs.rounds.acquisitions if name in jobs.computed
        ),
    retries: 2
    conda:
        "../../envs/piwsl.yaml"
    threads: lambda wildcards: jobs.rounds.labelling_job(wildcards).threads
    resources:
        mem_mb=growing(lambda wildcards: jobs.rounds.labelling_job(wildcards).mem_mb),
        runtime=growing(lambda wildcards: jobs.rounds.labelling_job(wildcards).runtime),
    params:
        recipe=lambda wildcards: jobs.recipe(jobs.level_name(wildcards.dataset)),
        engine=lambda wildcards: jobs.engine(jobs.level_name(wildcards.dataset)),
        # Not compared, for they take the input.
        level=lambda wildcards, input: jobs.plain_level(
            jobs.level_name(wildcards.dataset)
        ),
        max_failed=lambda wildcards, input: jobs.computed[
            wildcards.dataset
        ].labelling.max_failed,
        forces=lambda wildcards: jobs.rounds.labelling_job(wildcards).forces,
        store=layout.store,
        code=jobs.code["complete_round"],
    message:
        "Putting round {wildcards.round} of {wildcards.dataset} together"
    script:
        "../scripts/complete_round.py"


rule assemble_size:
    input:
        training=lambda wildcards: jobs.rounds.labelled(
            wildcards.dataset,
            jobs.rounds.of_size(wildcards.dataset, wildcards.size),
            LABELLED,
        ),
        test=[],
        records=lambda wildcards: jobs.rounds.labelled(
            wildcards.dataset,
            jobs.rounds.of_size(wildcards.dataset, wildcards.size),
            RECORDS,
        ),
        atoms=lambda wildcards: jobs.free_atoms(wildcards.dataset),
        pool=[],
        cheap=lambda wildcards: jobs.rounds.cheap_labels(
            wildcards.dataset, wildcards.size, LABELLED
        ),
        cheap_records=lambda wildcards: jobs.rounds.cheap_labels(
            wildcards.dataset, wildcards.size, RECORDS
        ),
    output:
        dataset=DATA.of_size(),
    log:
        layout.log("dataset/{dataset}/n{size}"),
    benchmark:
        layout.benchmark("dataset/{dataset}/n{size}")
    wildcard_constraints:
        dataset=one_of(
            name for name in jobs.rounds.acquisitions if name in jobs.computed
        ),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        weak_forces=lambda wildcards: jobs.computed[wildcards.dataset].weak_forces,
        # Not compared, for it takes the input: the frames are the same whatever it says.
        max_failed=lambda wildcards, input: jobs.computed[
            wildcards.dataset
        ].labelling.max_failed,
        level=lambda wildcards, input: jobs.level_in_words(wildcards.dataset),
        code=jobs.code["assemble_dataset"],
    message:
        "Assembling the first {wildcards.size} training frames of {wildcards.dataset}"
    script:
        "../scripts/assemble_dataset.py"


rule take_size:
    input:
        training=DATA.part("training"),
        rounds=lambda wildcards: jobs.rounds.records(
            wildcards.dataset,
            jobs.rounds.of_size(wildcards.dataset, wildcards.size),
        ),
    output:
        dataset=DATA.of_size(),
    log:
        layout.log("dataset/{dataset}/n{size}"),
    benchmark:
        layout.benchmark("dataset/{dataset}/n{size}")
    wildcard_constraints:
        dataset=one_of(name for name in jobs.rounds.acquisitions if name in jobs.given),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=jobs.code["take_size"],
    message:
        "Taking the first {wildcards.size} training frames of {wildcards.dataset}"
    script:
        "../scripts/take_size.py"
