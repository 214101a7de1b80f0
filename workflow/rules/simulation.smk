"""Molecular dynamics with a trained model."""


rule simulate:
    input:
        dataset=DATA.part("test"),
        model=RUN.model,
    output:
        trajectory=RUN.trajectory,
        summary=RUN.simulation,
    log:
        layout.log("simulate/{dataset}/{model}/{loss}/n{size}-seed{seed}"),
    benchmark:
        layout.benchmark("simulate/{dataset}/{model}/{loss}/n{size}-seed{seed}")
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        run=run_of,
        code=jobs.code["simulate"],
        simulation=experiment.simulation.beyond_defaults(),
    message:
        "Simulating with {wildcards.model}, {wildcards.loss}, {wildcards.size} frames, seed {wildcards.seed} on {wildcards.dataset}"
    script:
        "../scripts/simulate.py"
