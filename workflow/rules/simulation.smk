"""Molecular dynamics with a trained model: one job a run and simulation."""


rule simulate:
    input:
        dataset=DATA.part("test"),
        model=RUN.model,
    output:
        trajectory=RUN.simulation().trajectory,
        series=RUN.simulation().series,
        summary=RUN.simulation().summary,
    log:
        layout.log("simulate/{dataset}/{model}/{loss}/n{size}-seed{seed}/{simulation}"),
    benchmark:
        layout.benchmark(
            "simulate/{dataset}/{model}/{loss}/n{size}-seed{seed}/{simulation}"
        )
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=growing(lambda wildcards: 2000),
        runtime=240,
    params:
        run=run_of,
        code=jobs.code["simulate"],
        simulation=lambda wildcards: experiment.simulations[
            wildcards.simulation
        ].beyond_defaults(),
        # Not compared, for it takes the input: a place says nothing of the result.
        earlier_pieces=lambda wildcards, input: layout.earlier_pieces(
            f"simulate/{wildcards.dataset}/{wildcards.model}/{wildcards.loss}/n{wildcards.size}-seed{wildcards.seed}/{wildcards.simulation}"
        ),
    message:
        "Simulation '{wildcards.simulation}' with {wildcards.model}, {wildcards.loss}, {wildcards.size} frames, seed {wildcards.seed} on {wildcards.dataset} (progress in {log})"
    script:
        "../scripts/simulate.py"
