"""The report of an experiment that is not finished: of what is there, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from piwsl.data.dataset import TEST, TRAINING
from piwsl.records import dataset_of
from piwsl.report.context import Stage
from piwsl.report.write import ReportFiles, write_report
from piwsl.workflow.graph import measured
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.layout import RECORDS
from piwsl.workflow.outdated import Outdated, outdated
from piwsl.workflow.status import State, Status


def write_partial_report(jobs: Jobs, status: Status) -> bool:
    """Write the report of what is there, and a table of the runs that are tested, beside those of the finished one.

    Args:
        jobs: of the experiment.
        status: says which of them are done.

    Returns:
        Whether there was anything to report; if not, what was reported before is taken away.
    """
    found = outdated(jobs.experiment)
    status = without(status, found)
    layout, files = jobs.layout, results_so_far(jobs, status)
    html, table = Path(layout.partial_report), Path(layout.partial_table)
    if not (files.errors or files.records or files.datasets):
        html.unlink(missing_ok=True)
        table.unlink(missing_ok=True)
        return False
    left_out = [f"{each.path}: {each.said}" for each in found]
    write_report(jobs.experiment, files, html, table, unfinished=stages(status), left_out=left_out)
    return True


def without(status: Status, results: Sequence[Outdated]) -> Status:
    """Return the status with jobs as waiting whose results are not those of the config, and those that build upon them.

    Args:
        status: jobs, each after those whose results it takes.
        results: what is not of the config.
    """
    paths, again = {each.path for each in results}, set[str]()
    for each in status.found:
        if not paths.isdisjoint(each.job.results) or not again.isdisjoint(each.job.after):
            again.add(each.job.name)
    found = [
        replace(each, state=State.WAITING) if each.state == State.DONE and each.job.name in again else each
        for each in status.found
    ]
    return replace(status, found=found)


def stages(status: Status) -> list[Stage]:
    """Count the jobs of each rule, the report aside."""
    return [
        Stage(
            rule,
            jobs=len(found),
            done=sum(each.state == State.DONE for each in found),
            failed=sum(each.state == State.FAILED for each in found),
        )
        for rule, found in status.by_rule().items()
        if rule != "report"
    ]


def results_so_far(jobs: Jobs, status: Status) -> ReportFiles:
    """Return what the report is made of, as far as it is there: of runs that are tested, all or nothing.

    Simulations of a run count when all of them are done.
    """
    layout = jobs.layout
    done = {result for each in status.of(State.DONE) for result in each.job.results}

    def there(paths: Iterable[str]) -> list[Path]:
        return [Path(path) for path in paths if path in done]

    tested = [run for run in jobs.runs if layout.run(run).errors in done]
    runs = [layout.run(run) for run in tested]
    simulations = [
        [layout.run(run).simulation(name).summary for name in jobs.experiment.simulated(run)] for run in tested
    ]
    parts = [(name, part) for name in jobs.computed for part in (TRAINING, TEST)]
    datasets = {name: layout.dataset(name).whole for name in jobs.experiment.datasets}
    return ReportFiles(
        errors=[Path(run.errors) for run in runs],
        predictions=[Path(run.predictions) for run in runs],
        histories=[Path(run.history) for run in runs],
        worst=[Path(run.worst) for run in runs],
        simulations=[Path(path) for paths in simulations if done.issuperset(paths) for path in paths],
        frequencies=there(layout.run(run).frequencies for run in jobs.examples()),
        frequencies_of_levels=there(jobs.frequencies_of_levels()),
        records=there(path for name, part in parts for path in jobs.labelled(name, part, RECORDS)),
        atoms=there(path for name in jobs.computed for path in jobs.free_atoms(name)),
        datasets=there(datasets.values()),
        tests=there(files.errors for files in jobs.tests()),
        # What has learned nothing is tested on them, which takes the training frames.
        test_sets=[path for path in there(jobs.files_of_test_sets()) if datasets[dataset_of(path)] in done],
        rounds=there(jobs.rounds.every_record()),
        benchmarks=Path(layout.benchmarks),
        jobs=measured(jobs),
    )
