"""Errors of a trained model on the test frames of its dataset."""


rule evaluate:
    input:
        dataset=DATA.part("test"),
        model=RUN.model,
    output:
        errors=RUN.errors,
        predictions=RUN.predictions,
        worst=RUN.worst,
    log:
        layout.log("evaluate/{dataset}/{model}/{loss}/n{size}-seed{seed}"),
    benchmark:
        layout.benchmark("evaluate/{dataset}/{model}/{loss}/n{size}-seed{seed}")
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        run=run_of,
        model=lambda wildcards: experiment.models[wildcards.model].beyond_defaults(),
        loss=lambda wildcards: experiment.losses[wildcards.loss].beyond_defaults(),
        like_validation=lambda wildcards: experiment.test_is_like_validation(
            wildcards.dataset, wildcards.model
        ),
        code=jobs.code["evaluate"],
    message:
        "Testing {wildcards.model}, {wildcards.loss}, {wildcards.size} frames, seed {wildcards.seed} on {wildcards.dataset}"
    script:
        "../scripts/evaluate.py"
