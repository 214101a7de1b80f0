"""Errors of all models on the test frames, and how long their dynamics stay stable: means over seeds."""

from __future__ import annotations

import math
from typing import Any, cast

import pandas as pd

from piwsl.config import Experiment
from piwsl.report.context import Context
from piwsl.report.markup import render, rounded
from piwsl.report.sections import ReportSection
from piwsl.report.tables import MEASURES
from piwsl.report.words import beyond_architecture

GROUP = ["dataset", "model", "size", "loss"]

TEMPLATE = """\
<p>Mean absolute errors against the reference, mean ± standard deviation over seeds. Energies are totals of a structure,
forces are components. Constant is the part of an energy error that all frames of one composition share: forces,
dynamics and relative energies do not know it.
{% if simulation %}
Stable MD is the time until a bond left its reference length by more than
{{ "%g" | format(simulation.bond_tolerance) }} Å or the energy exploded, out of {{ simulation.conditions }}, mean over
replicas; ≥ where none failed, for such a time is only cut off.
{% endif %}
All runs one by one are in <code>results.csv</code> beside this file.</p>
<div class="scroll"><table>
<thead><tr><th>Dataset</th><th>Model</th><th class="number">Frames</th><th>Loss</th><th class="number">Seeds</th>
{% for title in measures %}<th class="number">{{ title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
{% set first = loop.first or loop.previtem.group != row.group %}
<tr{% if first %} class="first"{% endif %}>
<td>{{ row.group[0] if first }}</td>
<td>{{ row.group[1] if first }}
{%- if row.more and (loop.first or loop.previtem.group[:2] != row.group[:2]) %}<span class="more">{{ row.more }}</span>
{%- endif %}</td>
<td class="number">{{ row.group[2] if first }}</td><td>{{ row.loss }}</td><td class="number">{{ row.seeds }}</td>
{% for cell in row.cells %}<td class="number">{{ cell }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% if cheap %}
<p class="soft">What is not trained is a cheap level as it is. To its energies is added the constant an element that
fits the energies of all training frames best (least squares), for those of two levels differ by such constants; its
forces are compared as they are. No dynamics was run on it.</p>
{% endif %}
"""


class MeanErrors(ReportSection):
    """A row a dataset, model, size and loss; above those of a dataset its cheap levels."""

    title = "Errors on the test frames"
    place = 30

    def html(self, context: Context) -> str:
        """Return the table, and what its columns are."""
        return render(
            TEMPLATE,
            simulation=context.experiment.first_simulation,
            measures=list(MEASURES.values()),
            rows=mean_rows(context.runs, context.cheap, context.experiment),
            cheap=len(context.cheap) > 0,
        )


def means_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over seeds, a row a (dataset, model, size, loss), in the table's order.

    `failed` is how many replicas of the simulation did, of all seeds.
    """
    grouped = table.groupby(GROUP, sort=False)[list(MEASURES)].agg(["mean", "std"])
    grouped["seeds"] = table.groupby(GROUP, sort=False)["seed"].count()
    grouped["failed"] = table.groupby(GROUP, sort=False)["failed"].sum(min_count=1)
    return grouped


def mean_rows(table: pd.DataFrame, cheap: pd.DataFrame, experiment: Experiment) -> list[dict[str, Any]]:
    """Return the rows of the report's table as text: mean ± standard deviation over seeds.

    Args:
        table: one row a run.
        cheap: one row a cheap level, as of `piwsl.report.tables.cheap_table`; they stand above the dataset's runs.
        experiment: says what models are beyond their architectures, which stands below their names.
    """
    rows: list[dict[str, Any]] = []
    for group, values in means_over_seeds(table).iterrows():
        dataset, model, size, loss = cast(tuple[str, str, int, str], group)
        if not rows or rows[-1]["group"][0] != dataset:
            rows += _rows_of_levels(cheap[cheap["dataset"] == dataset])
        cells = [_mean_and_spread(name, values[name]["mean"], values[name]["std"]) for name in MEASURES]
        if values["failed"].iloc[0] == 0:
            cells[list(MEASURES).index("stable_ps")] = f"≥ {rounded(values['stable_ps']['mean'], 3)}"
        seeds = int(values["seeds"].iloc[0])
        more = beyond_architecture(experiment.models[model])
        row = {"group": (dataset, model, size), "more": more, "loss": loss, "seeds": seeds, "cells": cells}
        rows.append(row)
    return rows


def _rows_of_levels(cheap: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "group": (row["dataset"], row["level"], "–"),
            "more": "",
            "loss": "not trained",
            "seeds": "–",
            "cells": [_mean_and_spread(name, row[name], math.nan) for name in MEASURES],
        }
        for _, row in cheap.iterrows()
    ]


def _mean_and_spread(measure: str, mean: float, spread: float) -> str:
    if pd.isna(mean):
        return "not labelled" if measure == "force_mae_meV_per_A" else "–"
    return rounded(mean, 3) if pd.isna(spread) else f"{rounded(mean, 3)} ± {rounded(spread, 2)}"
