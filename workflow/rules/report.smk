"""One report of all runs."""


rule report:
    input:
        errors=[run_path(run, "errors.json") for run in RUNS],
        predictions=[run_path(run, "predictions.npz") for run in RUNS],
        histories=[run_path(run, "history.csv") for run in RUNS],
        simulations=[run_path(run, "simulation.json") for run in RUNS],
        records=lambda wildcards: [
            path
            for name in COMPUTED
            for path in labelled(name, ("training", "test-forces", "test"), ".jsonl")
        ],
        atoms=[path for name in COMPUTED for path in isolated_atoms_of(name)],
        datasets=[
            f"{DATA}/dataset.h5".format(dataset=name)
            for name in dict.fromkeys(run.dataset for run in RUNS)
        ],
    output:
        html=report(
            REPORT,
            caption="../report/report.rst",
            category="Report",
            labels={"content": "all runs"},
        ),
        table=report(
            f"{EXPERIMENT}/results.csv",
            caption="../report/results.rst",
            category="Tables",
            labels={"content": "errors and stability of every run"},
        ),
    log:
        f"{LOGS}/report.log",
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        experiment=experiment.beyond_defaults(),
    message:
        "Writing the report"
    script:
        "../scripts/report.py"
