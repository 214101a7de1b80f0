"""One job a run: a dataset and a point of the grid to a trained model."""


rule train:
    input:
        dataset=f"{DATA}/dataset.h5",
    output:
        model=f"{RUN}/model.safetensors",
        history=f"{RUN}/history.csv",
    log:
        f"{LOGS}/train/{{dataset}}/{{model}}/{{loss}}/n{{size}}-seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{dataset}}/{{model}}/{{loss}}/n{{size}}-seed{{seed}}.tsv"
    conda:
        "../../envs/piwsl.yaml"
    threads: lambda wildcards: job_resources(wildcards).threads
    resources:
        mem_mb=growing(lambda wildcards: job_resources(wildcards).mem_mb),
        runtime=growing(lambda wildcards: job_resources(wildcards).runtime),
        gpu=lambda wildcards: job_resources(wildcards).gpus,
    params:
        run=run_of,
        model=lambda wildcards: experiment.models[wildcards.model].beyond_defaults(),
        loss=lambda wildcards: experiment.losses[wildcards.loss].beyond_defaults(),
    message:
        "Training {wildcards.model} with loss {wildcards.loss} on {wildcards.size} frames of {wildcards.dataset}, seed {wildcards.seed} (progress in {log})"
    script:
        "../scripts/train.py"
