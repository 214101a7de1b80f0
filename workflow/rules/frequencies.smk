"""Minima and vibrations of trained models beside those of cheap levels: `snakemake frequencies`."""


localrules:
    frequencies,


rule frequencies:
    input:
        [layout.run(run).frequencies for run in jobs.runs],
    message:
        "Minima and vibrations of all models are found"


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
        levels=lambda wildcards: jobs.cheap_levels(wildcards.dataset),
        code=jobs.code["vibrate"],
    message:
        "Minima and vibrations of {wildcards.model}, {wildcards.loss}, {wildcards.size} frames, seed {wildcards.seed} on {wildcards.dataset}"
    script:
        "../scripts/vibrate.py"
