"""Experiments: in order, what they take, how far they are, and side by side."""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from piwsl.cli.application import command, warn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from piwsl.config import ComputedDataset, Experiment, GivenDataset
    from piwsl.reference.budget import Division
    from piwsl.reference.planning import Plan
    from piwsl.workflow.test_sets import NamedTest

# Of a budget.
LITTLE_USED = 0.8


@command
def check(config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment.")]) -> None:
    """Check an experiment without running it, count its runs, and say what given datasets hold.

    Example: `piwsl check config.yaml`
    """
    from piwsl.preflight import costly_datasets, load_experiment, remarks

    experiment = load_experiment(config)
    for remark in remarks(experiment):
        print(remark)
    warn(config, costly_datasets(experiment))
    print(f"{config}: experiment '{experiment.experiment}' is in order, {len(experiment.runs())} training runs")


@command
def plan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment.")],
    results: Annotated[Path, typer.Option(help="Where results are; what is there is not planned.")] = Path("results"),
) -> None:
    """Say what reference energies and labels of cheap levels take, before anything is submitted.

    Frames, those that are stored already, jobs, CPU hours, memory and disk of each dataset; first of a budget how it is
    divided, and the keys that would say the same without it. CPU hours are mostly good within a factor of two.

    Example: `piwsl plan config.yaml`
    """
    from piwsl.config import ComputedDataset, read_yaml
    from piwsl.data.dataset import PARTS, TEST
    from piwsl.preflight import costly_datasets, load_experiment
    from piwsl.reference.planning import KnownFrames, Planned, of_all_rounds, plan_dataset
    from piwsl.workflow.cheap_labels import CheapJobs
    from piwsl.workflow.jobs import Jobs
    from piwsl.workflow.origins import are_of_config
    from piwsl.workflow.planned import divisions

    experiment = load_experiment(config)
    warn(config, costly_datasets(experiment))
    counted, planned = _Counted(), Planned()
    left: dict[str, float] = defaultdict(float)
    budgets = divisions(read_yaml(config), str(config))
    jobs = Jobs(experiment, Path("workflow/scripts"))
    tests, runs = jobs.test_sets, jobs.runs
    taken = {run.dataset for run in runs}
    sections = experiment.datasets | {name: test.section for name, test in tests.items()}
    for name, dataset in sections.items():
        owner = tests[name].dataset if name in tests else name
        if owner not in taken:
            print(f"{name}: not counted, for no run takes it")
            continue
        folder, store = results / experiment.experiment / "datasets" / name, results / "labels"
        parts = (TEST,) if name in tests else PARTS
        known = KnownFrames(
            folder,
            dataset if isinstance(dataset, ComputedDataset) else None,
            whole=name in tests,
            is_current=partial(are_of_config, jobs, name, folder),
        )
        cheap = CheapJobs(name, dataset, experiment.levels, parts).plans(known, store, planned)
        if isinstance(dataset, ComputedDataset):
            _print_level(name, dataset, experiment, budgets.get(name))
            level = experiment.levels[dataset.level]
            reference = of_all_rounds(plan_dataset(name, dataset, level, known, store, planned))
            left[owner] += sum(counted.add(name, row, _shared(row, dataset, tests.get(name))) for row in reference)
        elif dataset.cheap_levels:
            print(f"{name}: {dataset.file}, with cheap levels")
        for row in of_all_rounds(cheap):
            counted.add(name, row, _shared(row, dataset, tests.get(name)))
    for name, hours in left.items():
        _print_savings(name, experiment, tests.values(), hours)
    choosing = len(set(experiment.trained(runs)) - set(runs))
    beside = f", and {choosing} whose models choose frames" if choosing else ""
    print(
        f"In all {counted.jobs} jobs, about {counted.hours:.2g} CPU hours, for reference energies and cheap levels; "
        f"{len(runs)} training runs{beside}."
    )


class _Counted:
    """What plans add up to: labels that datasets share count once."""

    def __init__(self) -> None:
        self.jobs, self.hours = 0, 0.0
        self._first: dict[tuple[object, ...], str] = {}

    def add(self, name: str, row: Plan, shared: tuple[object, ...] | None) -> float:
        """Print a plan of a dataset, and return the CPU hours that it takes beyond those of datasets before it.

        Args:
            name: of the dataset.
            row: the plan.
            shared: what its labels follow from; None where they are the dataset's own.
        """
        self.jobs += row.jobs
        first = self._first.setdefault(shared, name) if shared else name
        if first != name:
            print(f"  {row.labels}: {row.frames} frames, those of {first}; {row.jobs} jobs that find their labels")
            return 0.0
        _print_plan(row)
        self.hours += row.cpu_hours
        return row.cpu_hours


def _shared(row: Plan, dataset: ComputedDataset | GivenDataset, test: NamedTest | None) -> tuple[object, ...] | None:
    """Return what the labels of a row follow from; None where they are the dataset's own."""
    from piwsl.config import ComputedDataset
    from piwsl.reference.planning import shared_labels

    shared = shared_labels(row, dataset) if isinstance(dataset, ComputedDataset) else None
    return shared and (*shared, test and test.said.model_dump_json())


def _print_level(name: str, dataset: ComputedDataset, experiment: Experiment, division: Division | None) -> None:
    from piwsl.preflight import level_remark

    print(f"{name}: {dataset.level} = {experiment.levels[dataset.level]}")
    if remark := level_remark(dataset, experiment):
        print(f"  {remark}")
    if division is not None:
        _print_division(dataset, division)


def _print_division(dataset: ComputedDataset, division: Division) -> None:
    assert dataset.budget is not None
    shares = ", ".join(f"{share.what} {share.frames} frames {share.cpu_hours:.2g}" for share in division.shares)
    frames = {key: number for key, number in division.frames.items() if number}
    keys = [f"{key}: {number}" for key, number in frames.items()]
    if division.acquisition is not None:
        keys += [f"acquisition.{key}: {getattr(division.acquisition, key)}" for key in ("rounds", "each")]
    print(f"  budget {dataset.budget.cpu_hours:g} CPU hours, {division.cpu_hours:.2g} planned: {shares}")
    print(f"  in place of the budget: {', '.join(keys)}")
    if division.cpu_hours < LITTLE_USED * dataset.budget.cpu_hours:
        left = f"{dataset.budget.cpu_hours - division.cpu_hours:.2g} CPU hours are left"
        if division.learned >= LITTLE_USED * division.most_taken:
            print(f"  {left}: further frames have more labels than a model takes; without forces, there may be more")
        else:
            with_forces = division.forces_by == "analytic" and not dataset.training_forces
            worth = "forces (training_forces: true), or a sharper level," if with_forces else "a sharper level"
            print(f"  {left}: further energies of one molecule teach little; {worth} would be worth more")


def _print_savings(name: str, experiment: Experiment, tests: Iterable[NamedTest], hours: float) -> None:
    """Print what would make a dataset's energies cheaper, of so many CPU hours that they and its test sets' take."""
    from piwsl.config import ComputedDataset
    from piwsl.reference.savings import savings

    own = [test.section for test in tests if test.dataset == name]
    sections = [each for each in (experiment.datasets[name], *own) if isinstance(each, ComputedDataset)]
    beside = " with its test sets" if own else ""
    for line in savings(sections, experiment.levels[sections[0].level], hours):
        print(f"{name}{beside}: {line}")


def _print_plan(row: Plan) -> None:
    stored = "frames not made yet" if row.stored is None else f"{row.stored} stored"
    forces = f" with forces ({row.forces})" if row.forces else ""
    forces = " with the slope along one direction" if row.forces == "slope" else forces
    cores = f" and {row.threads} cores" if row.threads > 1 else ""
    jobs = f"{row.jobs} job{'s' if row.jobs > 1 else ''} of {row.mem_mb} MB{cores}"
    takes = f"{row.cpu_hours:.2g} CPU hours, {row.disk_mb:.1f} MB to keep, {row.scratch_mb:.0f} MB of scratch a job"
    print(f"  {row.labels}: {row.frames} frames{forces}, {stored}: {jobs}, {takes}")


@command
def status(config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment.")]) -> None:
    """Say how far an experiment has come: jobs done, running, failed and waiting, by rule, and the time left.

    In the folder where Snakemake runs or ran; it looks at files alone, and changes none. Times are those of jobs alike
    that have ended, of labelling jobs the cost model's, set right by the energies that are there.

    Example: `piwsl status config.yaml`
    """
    from time import time

    from piwsl.preflight import named_experiment
    from piwsl.workflow.jobs import Jobs
    from piwsl.workflow.status import status_of
    from piwsl.workflow.status_lines import status_lines

    now = time()
    jobs = Jobs(named_experiment(config), Path("workflow/scripts"))
    for line in status_lines(status_of(jobs, now), now):
        print(line)


@command
def submit(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="-- SNAKEMAKE", help="Options of Snakemake, beside those below.")
    ] = None,
    profile: Annotated[str, typer.Option(help="Of Snakemake.")] = "slurm",
    cores: Annotated[int | None, typer.Option(help="Run on so many cores of this machine, without a profile.")] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Run Snakemake on this machine, its jobs by the profile.")
    ] = False,
    sbatch: Annotated[str, typer.Option(help="Options of sbatch for Snakemake's own job.")] = "",
) -> None:
    """Start Snakemake so that it outlives the terminal, and say how to follow and to stop it.

    In a small job of SLURM (one CPU, the partition and account of the profile), which goes back to the queue at its
    time limit and then goes on with the jobs that wait or run; with --here or --cores as a process of this machine.

    Example: `piwsl submit config.yaml`, or `piwsl submit config.yaml --cores 2`
    """
    import shutil

    from piwsl.errors import PiwslError
    from piwsl.preflight import load_experiment
    from piwsl.workflow.jobs import Jobs
    from piwsl.workflow.submission import start

    experiment = load_experiment(config)
    in_job = cores is None and not here
    if in_job and shutil.which("sbatch") is None:
        raise PiwslError("there is no SLURM here (no sbatch); say --cores N, or --here for a profile without it")
    if in_job and (missing := Jobs(experiment, Path("workflow/scripts")).to_download()):
        said = "; ".join(f"piwsl data download {name}" for name in missing)
        raise PiwslError(f"nodes may have no network, and published files are missing: say {said} first, or --here")
    # Targets among the options stand first: --configfile would take them for further files.
    arguments = [*(options or []), "--configfile", str(config), *([] if cores is None else ["--cores", str(cores)])]
    for line in start(arguments, in_job, sbatch, profile if cores is None else None).lines():
        print(line)


@command
def clean(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment.")],
    runs: Annotated[bool, typer.Option("--runs", help="Take away runs, too, that the config does not name.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Take it away; without, it is only said.")] = False,
    submitit_folder: Annotated[Path, typer.Option(help="Where Snakemake was told to keep files of jobs.")] = Path(
        ".snakemake/submitit"
    ),
) -> None:
    """Say what killed runs and edits have left on the disk, and how much it is; with --yes, take it away.

    In the folder where Snakemake ran: files of the executor of jobs that are over, files that were not written to
    their end, partial downloads, checkpoints that were set aside. Reference energies stay, and what jobs need that
    wait or run.

    Example: `piwsl clean config.yaml`
    """
    from piwsl.preflight import named_experiment
    from piwsl.workflow import leftovers
    from piwsl.workflow.jobs import Jobs
    from piwsl.workflow.presence import alone

    jobs = Jobs(named_experiment(config), Path("workflow/scripts"))
    with alone():
        found = leftovers.find(jobs, submitit_folder)
        asked = [each for each in found.leftovers if runs or each.kind != leftovers.Kind.RUN]
        for line in leftovers.lines(found, asked):
            print(line)
        if yes:
            leftovers.remove(asked)
    megabytes = sum(each.size for each in asked) / 1e6
    print(f"{'removed' if yes else 'to remove with --yes'}: {megabytes:.1f} MB")


@command
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Folders of results, two or more.")],
    page: Annotated[Path, typer.Option(metavar="OUT.html", help="The page to write.")] = Path("comparison.html"),
) -> None:
    """Lay experiments side by side on one page: errors, what they cost, what differs in their configurations.

    Errors are compared on test frames that are the same to the last bit, labels included; where there are none, the
    page and the terminal say so. The first folder is what others are compared with.

    Example: `piwsl compare results/ammonia results/ammonia-with-forces`
    """
    from piwsl.workflow.compare import compare_folders

    for line in compare_folders(folders, page):
        print(f"warning: {line}", file=sys.stderr)
    print(f"compared: {page}")


@command
def schema() -> None:
    """Print the JSON schema of an experiment, for editors.

    Example: `piwsl schema > workflow/schemas/config.schema.json`
    """
    from piwsl.config import json_schema

    print(json_schema(), end="")
