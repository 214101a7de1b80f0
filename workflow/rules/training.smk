"""One job a run: a dataset and a point of the grid to a trained model; and one where that teaches another."""


rule train:
    input:
        dataset=jobs.training_file,
        pool=jobs.train_pool,
    output:
        model=RUN.model,
        history=RUN.history,
    log:
        layout.log("train/{dataset}/{model}/{loss}/n{size}-seed{seed}"),
    benchmark:
        layout.benchmark("train/{dataset}/{model}/{loss}/n{size}-seed{seed}")
    conda:
        "../../envs/piwsl.yaml"
    threads: lambda wildcards: jobs.resources(wildcards.model).threads
    resources:
        mem_mb=growing(lambda wildcards: jobs.resources(wildcards.model).mem_mb),
        runtime=growing(lambda wildcards: jobs.resources(wildcards.model).runtime),
        gpu=lambda wildcards: jobs.resources(wildcards.model).gpus,
        gpu_mem_mb=lambda wildcards: jobs.resources(wildcards.model).gpu_mem_mb,
        to_local_disk=lambda wildcards: int(
            jobs.resources(wildcards.model).to_local_disk
        ),
    params:
        run=run_of,
        model=lambda wildcards: experiment.models[wildcards.model].beyond_defaults(),
        loss=lambda wildcards: experiment.losses[wildcards.loss].beyond_defaults(),
        code=jobs.code["train"],
        baseline=lambda wildcards: jobs.baseline(wildcards.model),
        others=lambda wildcards: jobs.others(wildcards.model, wildcards.loss),
        # Not compared, for it takes the input: the frames are the same whatever it says.
        distributions=lambda wildcards, input: jobs.distributions(wildcards.dataset),
        level=lambda wildcards, input: jobs.level_in_words(wildcards.dataset),
        # Nor is a place: it says nothing of the result.
        earlier_pieces=lambda wildcards, input: layout.earlier_pieces(
            f"train/{wildcards.dataset}/{wildcards.model}/{wildcards.loss}/n{wildcards.size}-seed{wildcards.seed}"
        ),
    message:
        "Training {wildcards.model} with loss {wildcards.loss} on {wildcards.size} frames of {wildcards.dataset}, seed {wildcards.seed} (progress in {log})"
    script:
        "../scripts/train.py"


rule teach:
    input:
        model=RUN.model,
        pool=DATA.part("pool"),
    output:
        taught=RUN.taught,
    log:
        layout.log("teach/{dataset}/{model}/{loss}/n{size}-seed{seed}"),
    benchmark:
        layout.benchmark("teach/{dataset}/{model}/{loss}/n{size}-seed{seed}")
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=jobs.code["teach"],
    message:
        "Labelling the pool of {wildcards.dataset} with {wildcards.model}, {wildcards.loss}, {wildcards.size} frames, seed {wildcards.seed}"
    script:
        "../scripts/teach.py"
