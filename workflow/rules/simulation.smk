"""Molecular dynamics with a trained model."""


rule simulate:
    input:
        dataset=f"{DATA}/dataset.h5",
        model=f"{RUN}/model.safetensors",
    output:
        trajectory=f"{RUN}/trajectory.xyz",
        summary=f"{RUN}/simulation.json",
    log:
        f"{LOGS}/simulate/{{dataset}}/{{model}}/{{loss}}/n{{size}}-seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/simulate/{{dataset}}/{{model}}/{{loss}}/n{{size}}-seed{{seed}}.tsv"
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        run=run_of,
        simulation=experiment.simulation.beyond_defaults(),
    message:
        "Simulating with {wildcards.model}, {wildcards.loss}, {wildcards.size} frames, seed {wildcards.seed} on {wildcards.dataset}"
    script:
        "../scripts/simulate.py"
