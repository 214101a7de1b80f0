"""A page that lays experiments side by side: errors on the test frames that they share, costs, configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import pandas as pd
from markupsafe import Markup

from piwsl.config import Experiment
from piwsl.config.section import dotted
from piwsl.evaluation.comparison import Comparison, compare
from piwsl.files import write_text
from piwsl.report.figures import panels, plotly
from piwsl.report.markup import mean_and_spread, page, render, rounded
from piwsl.report.panels import loss_looks
from piwsl.report.sections.errors import means_over_seeds
from piwsl.report.sections.learning_curves import learning_curves
from piwsl.report.sections.verdicts import verdicts_on
from piwsl.report.write import Part, anchored

SHOWN = {"energy_mae_meV": "Energy MAE (meV)", "force_mae_meV_per_A": "Force MAE (meV/Å)"}

SETS = """\
{% for line in said %}
<p>{% if line.warning %}<strong>{{ line.text }}</strong>{% else %}{{ line.text }}{% endif %}</p>
{% endfor %}
<div class="scroll"><table>
<thead><tr><th>Experiment</th><th>Dataset</th><th>Test frames</th><th class="number">Number</th>
<th>Level of theory</th><th class="number">Runs</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><td>{{ row.experiment }}</td><td>{{ row.dataset }}</td><td>{{ row.set }}</td>
<td class="number">{{ row.frames }}</td><td>{{ row.level }}</td><td class="number">{{ row.runs }}</td></tr>
{% endfor %}
</tbody></table></div>
"""
ERRORS = """\
<p>Mean absolute errors, mean ± standard deviation over seeds. What stands in one row has the same names of model and
loss, and as many frames; what stands behind the names is compared at the end.</p>
<p class="filter"><label for="filter-{{ name }}">Rows with the words</label>
<input id="filter-{{ name }}" type="search" data-table="{{ name }}">
<output>{{ rows | length }} of {{ rows | length }} rows</output></p>
<div class="scroll" tabindex="0" role="region" aria-label="Errors side by side, a table">
<table id="{{ name }}" class="sortable">
<thead><tr>
{% for title, number in columns %}
<th scope="col"{% if number %} class="number"{% endif %}><button type="button">{{ title }}</button></th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr><td>{{ row.model }}</td><td class="number">{{ row.size }}</td><td>{{ row.loss }}</td>
<td>{{ row.seeds }}</td>
{% for cell in row.cells %}<td class="number" data-value="{{ cell.value }}">{{ cell.text }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{{ figures }}
{{ verdicts }}
"""
COLUMNS = """\
<p>{{ said }}</p>
<div class="scroll"><table>
<thead><tr><th>{{ first }}</th>{% for name in names %}<th{% if numbers %} class="number"{% endif %}>{{ name }}</th>
{% endfor %}</tr></thead>
<tbody>
{% for key, cells in rows.items() %}
<tr><td><code>{{ key }}</code></td>
{% for cell in cells %}<td{% if numbers %} class="number"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
"""


@dataclass(frozen=True)
class FramesTested:
    """The test frames of a dataset."""

    content: str
    """Hash of geometries and labels of the reference level."""
    geometries: str
    """Hash of geometries alone."""
    frames: int
    energies: int
    """How many of them have an energy."""
    level: str
    """Of theory, in words."""


@dataclass(frozen=True)
class Compared:
    """An experiment, and what it gave."""

    name: str
    """One of the page alone has it."""
    experiment: Experiment | None
    """None where its configuration is not there any more."""
    runs: pd.DataFrame
    """A row a run, as `piwsl.report.tables.run_table` returns them."""
    tests: Mapping[str, FramesTested]
    """By dataset."""
    hours: Mapping[str, float]
    """That jobs took, by kind of job."""


def write_comparison(compared: Sequence[Compared], path: Path) -> list[str]:
    """Write the page.

    Args:
        compared: the experiments, two or more; the first is what others are compared with.
        path: HTML to write; figures and scripts are inside.

    Returns:
        What cannot be compared, a line each.
    """
    shared = sets_in(compared)
    said = list(obstacles(compared, shared))
    parts = [Part(2, "What is compared", _what(compared, shared, said))]
    for name, members in shared.items():
        title = f"Errors on {name}" if len(members) > 1 else f"Errors on {name}, of {members[0][0].name} alone"
        parts.append(Part(2, title, _errors(name, members)))
    parts.append(Part(2, "Costs", _costs(compared)))
    parts.append(Part(2, "What differs in the configurations", _configurations(compared)))
    html = page(
        title=" and ".join(each.name for each in compared),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        plotly=plotly(),
        runs=sum(len(each.runs) for each in compared),
        parts=anchored(parts),
    )
    write_text(path, html)
    return said


Members = list[tuple[Compared, str]]
"""Experiments, and the dataset of each."""


def sets_in(compared: Sequence[Compared]) -> dict[str, Members]:
    """Return by name who has which test frames; two sets are one where geometries and labels are the same."""
    found: dict[str, Members] = {}
    for each in compared:
        for dataset, test in each.tests.items():
            found.setdefault(test.content, []).append((each, dataset))
    return {f"test set {number}": members for number, members in enumerate(found.values(), 1)}


def obstacles(compared: Sequence[Compared], shared: Mapping[str, Members]) -> Iterator[str]:
    """Say what cannot be compared, and why; nothing where all have all test frames."""
    for first, second in combinations(compared, 2):
        if not any({first.name, second.name} <= {each.name for each, _ in members} for members in shared.values()):
            names = f"{first.name} and {second.name}"
            yield f"{names} have no test set in common: their errors are not compared{_why(first, second)}"
    for each in compared:
        if each.experiment is None:
            yield f"The configuration of {each.name} is not there any more, and is not compared"


def _why(first: Compared, second: Compared) -> str:
    """Say where two have the same test geometries with other labels."""
    for dataset, test in first.tests.items():
        for other in second.tests.values():
            if test.geometries == other.geometries:
                return f"; test geometries of {dataset} are the same, labels are not ({test.level} and {other.level})"
    return ""


def _what(compared: Sequence[Compared], shared: Mapping[str, Members], said: Sequence[str]) -> Markup:
    rows = [
        {
            "experiment": each.name,
            "dataset": dataset,
            "set": name,
            "frames": _counted(each.tests[dataset]),
            "level": each.tests[dataset].level,
            "runs": int((each.runs["dataset"] == dataset).sum()),
        }
        for name, members in shared.items()
        for each, dataset in members
    ]
    rule = (
        "Test sets are one where geometries and labels of their frames are the same to the last bit. Ratios are those "
        f"of the error of another experiment over that of {compared[0].name}, or of the first that has the set."
    )
    lines = [*({"text": f"{line}.", "warning": True} for line in said), {"text": rule, "warning": False}]
    return render(SETS, said=lines, rows=rows)


def _counted(test: FramesTested) -> str:
    """Say how many test frames there are, and how many have an energy, where not all."""
    return f"{test.frames}{f', {test.energies} with energies' if test.energies < test.frames else ''}"


def _errors(name: str, members: Members) -> Markup:
    """Return errors side by side, learning curves, and what is sure."""
    runs = {each.name: each.runs[each.runs["dataset"] == dataset] for each, dataset in members}
    first, *others = runs
    titles = [(f"{title}, {each}", True) for title in SHOWN.values() for each in runs]
    return render(
        ERRORS,
        name=name.replace(" ", "-"),
        columns=[("Model", False), ("Frames", True), ("Loss", False), ("Seeds", False), *titles],
        rows=side_by_side(runs),
        figures=Markup("").join(_curves(runs)),
        verdicts=Markup(verdicts_on(comparisons(name, runs, first, others), "the experiment")),
    )


def side_by_side(runs: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return a row a model, size and loss: errors of each experiment, one measure after the other.

    Args:
        runs: by experiment, of one test set; there may be none of some.
    """
    means = {name: means_over_seeds(table).droplevel("dataset") for name, table in runs.items() if len(table)}
    keys = dict.fromkeys(key for table in means.values() for key in table.index)
    return [
        {
            "model": model,
            "size": size,
            "loss": loss,
            "seeds": " and ".join(_seeds(means.get(name), (model, size, loss)) for name in runs),
            "cells": [_cell(means.get(name), (model, size, loss), measure) for measure in SHOWN for name in runs],
        }
        for model, size, loss in cast(list[tuple[str, int, str]], list(keys))
    ]


def _seeds(means: pd.DataFrame | None, key: tuple[str, int, str]) -> str:
    return "–" if means is None or key not in means.index else str(int(means["seeds"][key]))


def _cell(means: pd.DataFrame | None, key: tuple[str, int, str], measure: str) -> dict[str, str]:
    if means is None or key not in means.index:
        return {"text": "–", "value": ""}
    mean, spread = (float(means[measure, part][key]) for part in ("mean", "std"))
    if mean != mean:
        return {"text": "not labelled" if measure.startswith("force") else "–", "value": ""}
    return {"text": mean_and_spread(mean, spread), "value": str(mean)}


def _curves(runs: Mapping[str, pd.DataFrame]) -> Iterator[Markup]:
    """Yield learning curves of each model that several experiments have, at more than one size."""
    table = pd.concat([own.assign(loss=own["loss"] + f" ({name})", experiment=name) for name, own in runs.items()])
    for model, rows in table.groupby("model", sort=False):
        if rows["experiment"].nunique() > 1 and rows["size"].nunique() > 1:
            looks = loss_looks(list(dict.fromkeys(rows["loss"])))
            drawn = panels(learning_curves(rows, looks, rows[:0]))
            yield render("<h3>{{ model }}</h3>{{ drawn }}", model=model, drawn=drawn)


def comparisons(name: str, runs: Mapping[str, pd.DataFrame], first: str, others: Sequence[str]) -> list[Comparison]:
    """Compare experiments by runs alike in model, loss, size and seed, of one test set.

    Args:
        name: of the test set.
        runs: by experiment.
        first: what others are compared with.
        others: experiments.
    """
    # What is compared stands where `compare` has models, and what both have where it has losses.
    table = pd.concat(
        [
            table.assign(dataset=name, loss=table["model"] + ", " + table["loss"], model=experiment)
            for experiment, table in runs.items()
        ]
    )
    return [found for measure in SHOWN for found in compare(table, "model", first, others, measure)]


def _costs(compared: Sequence[Compared]) -> Markup:
    kinds = dict.fromkeys(kind for each in compared for kind in each.hours)
    rows = {kind: [_hours(each.hours.get(kind)) for each in compared] for kind in kinds}
    rows["in all"] = [_hours(sum(each.hours.values())) for each in compared]
    said = (
        "Hours that jobs took, one after another, the last time that each ran. Energies that were in the store took "
        "nothing here: an experiment that shares them with an earlier one costs less than it would alone."
    )
    return render(COLUMNS, said=said, first="Jobs", names=[each.name for each in compared], rows=rows, numbers=True)


def _hours(hours: float | None) -> str:
    return "–" if hours is None else rounded(hours, 2)


def _configurations(compared: Sequence[Compared]) -> Markup:
    known = [each for each in compared if each.experiment is not None]
    flat = [dotted(cast(Experiment, each.experiment)) for each in known]
    keys = dict.fromkeys(key for keys in flat for key in keys if key != "experiment")
    rows = {key: [each.get(key, "–") for each in flat] for key in keys if len({each.get(key) for each in flat}) > 1}
    said = (
        "Keys whose values differ, as the files are now, defaults included; a dash stands where there is no such key."
        if rows
        else "Nothing: all keys have the same values, as the files are now, defaults included."
    )
    return render(COLUMNS, said=said, first="Key", names=[each.name for each in known], rows=rows, numbers=False)
