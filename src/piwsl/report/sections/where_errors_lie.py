"""Errors by element and temperature, the angle between forces, and whether a model is a physical one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from piwsl.report.context import Context
from piwsl.report.markup import render, rounded
from piwsl.report.sections import ReportSection

TEMPLATE = """\
{% for table in tables %}
<p>{{ table.words }}</p>
<div class="scroll"><table>
<thead><tr><th scope="col" class="number">Frames</th><th scope="col">Loss</th>
{% for title in table.titles %}<th scope="col" class="number">{{ title | whole }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr><td class="number">{{ row.size }}</td><td>{{ row.loss }}</td>
{% for cell in row.cells %}<td class="number">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
<p class="soft">Means over seeds; of forces a component. Frames with the largest errors are in <code>worst.xyz</code>
beside each model.</p>
"""
# Pattern of a column of the runs, and its title there.
WHERE = {
    r"force_angle_deg": "Angle between forces (°)",
    r"force_mae_by_element_(\w+)_meV_per_A": "Forces on {} (meV/Å)",
    r"energy_mae_by_temperature_([\d.e+-]+)K_meV": "Energies, {}\u00a0K (meV)",
    r"force_mae_by_temperature_([\d.e+-]+)K_meV_per_A": "Forces, {}\u00a0K (meV/Å)",
}
PHYSICAL = {
    r"consistency_force_minus_slope_meV_per_A": "Forces − slope (meV/Å)",
    r"consistency_loop_work_meV": "Work around a loop (meV)",
    r"consistency_rotation_energy_meV": "Turned: energy (meV)",
    r"consistency_rotation_force_meV_per_A": "forces (meV/Å)",
    r"consistency_translation_energy_meV": "Moved: energy (meV)",
    r"consistency_translation_force_meV_per_A": "forces (meV/Å)",
}


@dataclass(frozen=True)
class _Table:
    words: str
    titles: list[str]
    rows: list[dict[str, object]]


class WhereErrorsLie(ReportSection):
    """Two tables for each dataset and model."""

    title = "Where errors lie"
    place = 22
    each = True

    def html(self, context: Context) -> str:
        """Return the tables of what is known."""
        tables = [
            _table("Mean absolute errors by element and by the temperature of sampling.", WHERE, context.runs),
            _table(
                "Root mean squares of what is 0 on a true energy surface, on a few test frames in double precision: "
                "forces less the slope of the energy, work around closed loops (by quadrature, which of a rough "
                "network leaves some meV), and what turning or moving a molecule changes.",
                PHYSICAL,
                context.runs,
            ),
        ]
        for test, rows in context.of_tests():
            tables.append(_table(f"Mean absolute errors on the test set {test}, likewise.", WHERE, rows))
        known = [table for table in tables if table.titles]
        return render(TEMPLATE, tables=known) if known else ""


def _table(words: str, patterns: Mapping[str, str], runs: pd.DataFrame) -> _Table:
    columns = titles_of(patterns, runs)
    means = runs.groupby(["size", "loss"], sort=False)[[*columns]].mean()
    rows = [
        {"size": size, "loss": loss, "cells": [_number(value) for value in row]}
        for (size, loss), row in zip(means.index, means.to_numpy(), strict=True)
    ]
    return _Table(words, [*columns.values()], rows)


def titles_of(patterns: Mapping[str, str], runs: pd.DataFrame) -> dict[str, str]:
    """Return the titles of columns that have a number, in the order of the patterns.

    Args:
        patterns: of the names of columns, to titles in which {} stands for what the pattern's group is.
        runs: a row a run.
    """
    return {
        column: title.format(*match.groups())
        for pattern, title in patterns.items()
        for column in runs.columns
        if (match := re.fullmatch(pattern, column)) and runs[column].notna().any()
    }


def _number(value: float) -> str:
    """Write a number; what is far below any error that counts, as such."""
    if pd.isna(value):
        return "–"
    return "< 0.001" if abs(value) < 1e-3 else rounded(value, 2)
