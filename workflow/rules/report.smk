"""One report of all runs."""


rule report:
    input:
        errors=[layout.run(run).errors for run in jobs.runs],
        predictions=[layout.run(run).predictions for run in jobs.runs],
        tests=[files.errors for files in jobs.tests()],
        predictions_of_tests=[files.predictions for files in jobs.tests()],
        test_sets=jobs.files_of_test_sets(),
        rounds=jobs.rounds.every_record(),
        histories=[layout.run(run).history for run in jobs.runs],
        worst=[layout.run(run).worst for run in jobs.runs],
        simulations=[files.summary for files in jobs.simulations()],
        frequencies=[layout.run(run).frequencies for run in jobs.examples()],
        frequencies_of_levels=jobs.frequencies_of_levels(),
        records=lambda wildcards: [
            path
            for name in jobs.computed
            for part in ("training", "test")
            for path in jobs.labelled(name, part, RECORDS)
        ],
        atoms=[path for name in jobs.computed for path in jobs.free_atoms(name)],
        datasets=[
            layout.dataset(name).whole
            for name in dict.fromkeys(run.dataset for run in jobs.runs)
        ],
    output:
        html=report(
            layout.report,
            caption="../report/report.rst",
            category="Report",
            labels={"content": "all runs"},
        ),
        table=report(
            layout.table,
            caption="../report/results.rst",
            category="Tables",
            labels={"content": "errors and stability of every run"},
        ),
        figures=report(
            directory(layout.figures),
            patterns=["{dataset}/{model}/{name}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            subcategory="{dataset}, {model}",
            labels={"figure": "{name}"},
        ),
        tables=report(
            directory(layout.tables),
            patterns=["{name}.csv"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"content": "{name}"},
        ),
    log:
        layout.log("report"),
    benchmark:
        layout.benchmark("report")
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        **jobs.sections_of_others(),
        experiment=experiment.beyond_defaults(),
        levels=jobs.levels(),
        # No input: a result whose benchmark is lost is as good.
        benchmarks=layout.benchmarks,
        # Not compared, for it takes the input: labels that are there stay as they were cut into jobs.
        jobs=lambda wildcards, input: measured(jobs),
        code=jobs.code["report"],
    message:
        "Writing the report"
    script:
        "../scripts/report.py"


# What is there already, without doing anything else: it takes no file as input, for Snakemake would make that first.
rule partial_report:
    log:
        layout.log("partial-report"),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        experiment=experiment.beyond_defaults(),
    message:
        "Writing a report of what is there"
    script:
        "../scripts/partial_report.py"
