"""What an experiment cost: CPU, GPU and wall time of its jobs by stage, and what the label store spared it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from piwsl.config import ComputedDataset, Experiment
from piwsl.config.level_checks import unquestioned
from piwsl.records import Benchmark, read_benchmark, read_displaced, read_free_atoms, read_labellings
from piwsl.report.context import Context
from piwsl.report.markup import render, rounded
from piwsl.report.sections import ReportSection, Table

HOUR = 3600.0
GEOMETRIES, REFERENCE, CHEAP, FILES = "Geometries", "Reference energies", "Cheap levels", "Dataset files"
TRAINING, ERRORS, DYNAMICS, VIBRATIONS = "Training", "Errors on the test frames", "Dynamics", "Minima and vibrations"
# By the folder of their benchmarks, in the order in which data flows.
STAGES = {
    "sample": GEOMETRIES,
    "split": GEOMETRIES,
    "take": GEOMETRIES,
    "select": GEOMETRIES,
    "scan": GEOMETRIES,
    "choose": GEOMETRIES,
    "displace": REFERENCE,
    "label": REFERENCE,
    "complete": REFERENCE,
    "isolated-atoms": REFERENCE,
    "label-cheaply": CHEAP,
    "vibrate-levels": CHEAP,
    "dataset": FILES,
    "train": TRAINING,
    "teach": TRAINING,
    "evaluate": ERRORS,
    "simulate": DYNAMICS,
    "vibrate": VIBRATIONS,
}
# Parts of the benchmark's path of a job that labels with a cheap level; one of the reference level has a part less.
PARTS_OF_CHEAP = 6

# What a budget pays, and what its shares are called there; the others are of the level of the labels.
BUDGETED = (GEOMETRIES, REFERENCE, CHEAP)
SHARES = {"sampling": GEOMETRIES, "cheap levels": CHEAP}

TEMPLATE = """\
<p>{{ words }}{% if budget %} {{ budget }}{% endif %}</p>
<div class="scroll"><table>
<thead><tr><th scope="col">Stage</th>
{% for title in columns %}<th scope="col" class="number">{{ title | whole }}</th>{% endfor %}</tr></thead>
<tbody>
{% for stage, cells in rows %}
<tr{% if loop.last %} class="first"{% endif %}><th scope="row">{{ stage }}</th>
{% for cell in cells %}<td class="number">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p class="soft">As Snakemake measured the jobs whose results are here, each when it ran last; of trainings and dynamics
that were stopped and went on also the pieces before, each up to what it had saved. One that failed in the end has
nothing. This report and Snakemake itself are not counted{% if former.jobs %}, nor
{{ "is" if former.jobs == 1 else "are" }} {{ former.jobs }} {{ "job" if former.jobs == 1 else "jobs" }} of before edits
of the configuration, whose results it has no more: {{ duration(former.cpu_h, "CPU") }}{% endif %}.
Time of jobs is what they took one by one.
{% if gpus %}GPU time is that of trainings, times the GPUs that the configuration gives them.{% endif %}
{% if unknown %}Of {{ unknown }} of the jobs nothing could be read.{% endif %}
{% if stored %}Energies out of the label store cost nothing here: jobs that were stopped, or experiments before, had
spent on them what the last column says.{% endif %}</p>
"""


@dataclass
class Cost:
    """What the jobs of a stage took."""

    stage: str
    jobs: int = 0
    unknown: int = 0
    """Of how many of the jobs nothing is known."""
    cpu_h: float = 0.0
    wall_h: float = 0.0
    gpu_h: float = 0.0
    stored_cpu_h: float | None = None
    """What energies out of the label store had taken; None where there are none."""
    planned_cpu_h: float | None = None
    """What its frames were estimated to take when budgets were divided; None where no dataset has one."""

    def add(self, benchmark: Benchmark | None, gpus: int) -> None:
        """Count a job."""
        self.jobs += 1
        if benchmark is None:
            self.unknown += 1
        else:
            self.cpu_h += benchmark.cpu_s / HOUR
            self.wall_h += benchmark.wall_s / HOUR
            self.gpu_h += gpus * benchmark.wall_s / HOUR


# Numbers of a stage, given the whole; {unit} is that of times, in which all are hours.
COLUMNS: dict[str, Callable[[Cost, Cost], float | None]] = {
    "Jobs": lambda cost, whole: cost.jobs,
    "CPU ({unit})": lambda cost, whole: cost.cpu_h,
    "Planned (CPU, {unit})": lambda cost, whole: cost.planned_cpu_h,
    "CPU (%)": lambda cost, whole: 100.0 * cost.cpu_h / whole.cpu_h if whole.cpu_h else None,
    "Time of jobs ({unit})": lambda cost, whole: cost.wall_h,
    "GPU ({unit})": lambda cost, whole: cost.gpu_h or None,
    "Out of the label store (CPU, {unit})": lambda cost, whole: cost.stored_cpu_h,
}


class WhatItCost(ReportSection):
    """A row a stage."""

    title = "What it cost"
    place = 75

    def tables(self, context: Context) -> dict[str, Table]:
        """Return the table; none where no job was measured."""
        found = costs(context)
        return {"cost": Table(pd.DataFrame([asdict(cost) for cost in found]), _words(found))} if found else {}

    def html(self, context: Context) -> str:
        """Return the table; nothing where no job was measured."""
        found = costs(context)
        if not found:
            return ""
        whole, words = total(found), _words(found)
        return render(
            TEMPLATE,
            words=cost_in_words(found),
            budget=budget_in_words(context.experiment, found),
            columns=list(words.columns[1:]),
            rows=[(stage, cells) for stage, *cells in words.itertuples(index=False)],
            gpus=whole.gpu_h > 0,
            unknown=whole.unknown,
            stored=whole.stored_cpu_h is not None,
            former=former(context),
            duration=duration,
        )


def costs(context: Context) -> list[Cost]:
    """Return what the stages of an experiment cost, in the order of `STAGES`; nothing where no job was measured."""
    found = {stage: Cost(stage) for stage in STAGES.values()}
    for path, parts in _benchmarks(context, of_config=True):
        folder = "label-cheaply" if parts[0] == "label" and len(parts) == PARTS_OF_CHEAP else parts[0]
        stage = STAGES.get(folder, folder)
        model = context.experiment.models.get(parts[2]) if folder == "train" else None
        found.setdefault(stage, Cost(stage)).add(read_benchmark(path), 0 if model is None else model.resources.gpus)
    if stored := _stored_seconds(context):
        found[REFERENCE].stored_cpu_h = stored / HOUR
    for stage, hours in _planned_hours(context.experiment).items():
        found[stage].planned_cpu_h = hours
    measured = any(cost.jobs > cost.unknown for cost in found.values())
    wanted = [cost for cost in found.values() if cost.jobs or cost.stored_cpu_h or cost.planned_cpu_h]
    return wanted if measured else []


def former(context: Context) -> Cost:
    """Return what jobs took whose results the configuration has no more: of other levels, runs, rounds."""
    found = Cost("Before edits")
    for path, _ in _benchmarks(context, of_config=False):
        found.add(read_benchmark(path), gpus=0)
    return found


def _benchmarks(context: Context, of_config: bool) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield the benchmark of each job, and its path from their folder: kind, dataset, ...

    Args:
        context: says which jobs the configuration has.
        of_config: whether those are wanted, or the others.
    """
    if context.benchmarks is None:
        return
    for path in sorted(context.benchmarks.glob("*/**/*.tsv")):
        place = path.relative_to(context.benchmarks)
        if (context.jobs is None or place.as_posix().removesuffix(".tsv") in context.jobs) == of_config:
            yield path, place.parts


def _stored_seconds(context: Context) -> float:
    """Return the CPU time of energies that were in the label store before any job of the experiment asked for them."""
    labellings = [labelling for path in context.records for labelling in read_labellings(path)]
    labellings += [labelling for path in context.free_atoms for labelling in read_free_atoms(path).values()]
    # What a labelling job found there, jobs of displaced energies may just have put there.
    displaced = [labelling for path in context.records for labelling in read_displaced(path)]
    just = sum(labelling.cpu_s or 0.0 for labelling in displaced if not labelling.stored)
    stored = sum(labelling.stored_cpu_s or 0.0 for labelling in labellings)
    return max(stored - just, 0.0)


def _budgets(experiment: Experiment) -> dict[str, ComputedDataset]:
    """Return the datasets that are computed, by their names, where each has a budget; else none."""
    computed = {name: each for name, each in experiment.datasets.items() if isinstance(each, ComputedDataset)}
    return computed if all(each.budget is not None for each in computed.values()) else {}


def _planned_hours(experiment: Experiment) -> dict[str, float]:
    """Return the CPU hours that were planned of budgets, by stage; none where a dataset that is computed has none."""
    found: dict[str, float] = {}
    for name, section in _budgets(experiment).items():
        from piwsl.reference.budget import planned  # with PySCF, which other reports do without

        cheap = [unquestioned(experiment.levels[each]) for each in section.cheap_levels]
        for share in planned(name, section, experiment.levels[section.level], cheap):
            stage = SHARES.get(share.what, REFERENCE)
            found[stage] = found.get(stage, 0.0) + share.cpu_hours
    return found


def total(found: list[Cost]) -> Cost:
    """Return the sum of all stages."""
    stored = [cost.stored_cpu_h for cost in found if cost.stored_cpu_h is not None]
    planned = [cost.planned_cpu_h for cost in found if cost.planned_cpu_h is not None]
    return Cost(
        "All",
        jobs=sum(cost.jobs for cost in found),
        unknown=sum(cost.unknown for cost in found),
        cpu_h=sum(cost.cpu_h for cost in found),
        wall_h=sum(cost.wall_h for cost in found),
        gpu_h=sum(cost.gpu_h for cost in found),
        stored_cpu_h=sum(stored) if stored else None,
        planned_cpu_h=sum(planned) if planned else None,
    )


def cost_in_words(found: list[Cost]) -> str:
    """Say in a sentence what an experiment cost, what of that reference energies, and what those had cost before."""
    whole, of = total(found), {cost.stage: cost for cost in found}
    shares = []
    for stage, words in ((REFERENCE, "reference energies"), (TRAINING, "training"), (DYNAMICS, "dynamics")):
        if stage in of and whole.cpu_h:
            shares.append(f"{_percent(of[stage].cpu_h / whole.cpu_h)} for {words}")
    said = f"{whole.jobs} jobs took {duration(whole.cpu_h, 'CPU')}{': ' if shares else ''}{_listed(shares)}"
    if whole.gpu_h:
        said += f"; and {duration(whole.gpu_h, 'GPU')} for training"
    if whole.stored_cpu_h:
        said += (
            f". Reference energies that were in the label store had taken {duration(whole.stored_cpu_h, 'CPU')} before"
        )
    return f"{said}."


def budget_in_words(experiment: Experiment, found: list[Cost]) -> str | None:
    """Say what was planned and spent of the budgets of an experiment; None where a dataset that is computed has none.

    What energies out of the label store had taken counts as spent.
    """
    budgets = [each.budget.cpu_hours for each in _budgets(experiment).values() if each.budget is not None]
    if not budgets:
        return None
    spent = sum(cost.cpu_h + (cost.stored_cpu_h or 0.0) for cost in found if cost.stage in BUDGETED)
    of = "budget was" if len(budgets) == 1 else "budgets were"
    return (
        f"The {of} {duration(sum(budgets), 'CPU')}, of which {duration(total(found).planned_cpu_h or 0.0, 'CPU')} were "
        "planned by estimate; geometries, reference energies and cheap levels took "
        f"{duration(spent, 'CPU')}, those of free atoms, named test sets and out of the label store "
        "included."
    )


def duration(hours: float, of: str = "") -> str:
    """Write a time in the unit that gives it a number to read, of CPU or GPU."""
    scale, unit = next(
        (pair for pair in ((1.0, "hours"), (60.0, "minutes")) if hours * pair[0] >= 1.0), (HOUR, "seconds")
    )
    return " ".join(filter(None, (rounded(hours * scale, 2), of, unit)))


def _percent(share: float) -> str:
    return "less than 1 %" if 0.0 < share < 0.01 else f"{100.0 * share:.0f} %"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _words(found: list[Cost]) -> pd.DataFrame:
    """Return the table as the page has it, the whole last: columns of which something is known, in hours or minutes."""
    whole = total(found)
    unit, scale = ("h", 1.0) if whole.wall_h >= 1.0 else ("min", 60.0)
    known = {title: of for title, of in COLUMNS.items() if of(whole, whole) is not None}
    return pd.DataFrame(
        [
            {"Stage": cost.stage}
            | {
                title.format(unit=unit): _cell(of(cost, whole), scale if "{unit}" in title else 1.0)
                for title, of in known.items()
            }
            for cost in (*found, whole)
        ]
    )


def _cell(number: float | None, scale: float) -> str:
    if number is None:
        return "–"
    return rounded(scale * number, 2) if isinstance(number, float) else str(number)
