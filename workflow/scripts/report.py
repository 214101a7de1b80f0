from pathlib import Path

from piwsl.config import Experiment
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.report.write import ForPrint, ReportFiles, write_report
    from piwsl.workflow.outdated import check_settings

    experiment, files = Experiment.model_validate(snakemake.params.experiment), snakemake.input
    check_settings(experiment)
    write_report(
        experiment,
        ReportFiles(
            errors=[Path(path) for path in files.errors],
            predictions=[Path(path) for path in files.predictions],
            histories=[Path(path) for path in files.histories],
            simulations=[Path(path) for path in files.simulations],
            frequencies=[Path(path) for path in files.frequencies],
            frequencies_of_levels=[Path(path) for path in files.frequencies_of_levels],
            records=[Path(path) for path in files.records],
            atoms=[Path(path) for path in files.atoms],
            datasets=[Path(path) for path in files.datasets],
            worst=[Path(path) for path in files.worst],
            tests=[Path(path) for path in files.tests],
            test_sets=[Path(path) for path in files.test_sets],
            rounds=[Path(path) for path in files.rounds],
            benchmarks=Path(snakemake.params.benchmarks),
            jobs=snakemake.params.jobs,
        ),
        html_path=Path(snakemake.output.html),
        table_path=Path(snakemake.output.table),
        for_print=ForPrint(Path(snakemake.output.figures), Path(snakemake.output.tables)),
    )
