"""Errors of a trained model on the test frames of its dataset."""


rule evaluate:
    input:
        dataset=f"{DATA}/dataset.h5",
        model=f"{RUN}/model.safetensors",
    output:
        errors=f"{RUN}/errors.json",
        predictions=f"{RUN}/predictions.npz",
    log:
        f"{LOGS}/evaluate/{{dataset}}/{{model}}/{{loss}}/n{{size}}-seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{dataset}}/{{model}}/{{loss}}/n{{size}}-seed{{seed}}.tsv"
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        run=run_of,
    message:
        "Testing {wildcards.model}, {wildcards.loss}, {wildcards.size} frames, seed {wildcards.seed} on {wildcards.dataset}"
    script:
        "../scripts/evaluate.py"
