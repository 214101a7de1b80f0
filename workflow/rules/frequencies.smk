"""Minima and vibrations of models and cheap levels: of some runs for the report, by `snakemake frequencies` of all."""


rule vibrate:
    input:
        dataset=DATA.part("test"),
        model=RUN.model,
    output:
        frequencies=RUN.frequencies,
    log:
        layout.log("vibrate/{dataset}/{model}/{loss}/n{size}-seed{seed}"),
    benchmark:
        layout.benchmark("vibrate/{dataset}/{model}/{loss}/n{size}-seed{seed}")
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        run=run_of,
        code=jobs.code["vibrate"],
    message:
        "Minima and vibrations of {wildcards.model}, {wildcards.loss}, {wildcards.size} frames, seed {wildcards.seed} on {wildcards.dataset}"
    script:
        "../scripts/vibrate.py"


rule vibrate_levels:
    input:
        dataset=DATA.part("test"),
    output:
        frequencies=DATA.frequencies,
    log:
        layout.log("vibrate-levels/{dataset}"),
    benchmark:
        layout.benchmark("vibrate-levels/{dataset}")
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=480,
    params:
        levels=lambda wildcards: jobs.cheap_levels(wildcards.dataset),
        code=jobs.code["vibrate_levels"],
    message:
        "Minima and vibrations of the cheap levels of {wildcards.dataset}"
    script:
        "../scripts/vibrate_levels.py"
