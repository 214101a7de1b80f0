"""Whether models know how uncertain they are: errors on the test frames against the spread that was predicted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from piwsl.evaluation.predictions import read_predictions
from piwsl.report.context import Context
from piwsl.report.figures import panels
from piwsl.report.markup import render, rounded
from piwsl.report.panels import GREY, MOST_POINTS, Look, Panel, Series, one_two_five, thinned
from piwsl.report.sections import ReportSection

MILLI = 1000.0
# Errors and spreads within this factor of each other are called alike.
ALIKE = 1.25
QUANTITIES = {"energy": "Energies", "force": "Forces"}
COLUMNS = {
    "error_over_spread": "Error / spread",
    "miscalibration_area": "Miscalibration area",
    "spread_scale": "Scale",
    "scaled_miscalibration_area": "Area with it",
}

TEMPLATE = """\
<p>Error / spread is that of root mean squares on the test frames. The miscalibration area is 0 where errors fall within
the intervals of a normal distribution of that spread as often as they should, and 0.5 at worst. The scale is what
spreads are to be multiplied by, as told by frames that members of a committee did not learn from: no test label is in
it. It is told where test frames were drawn as these were. Means over seeds.</p>
<ul class="verdicts">
{% for line in conclusions %}
<li>{{ line }}</li>
{% endfor %}
</ul>
<div class="scroll"><table>
<thead><tr><th class="number">Frames</th><th>Loss</th><th>Quantity</th>
{% for title in columns %}<th class="number">{{ title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
<tr><td class="number">{{ row.size }}</td><td>{{ row.loss }}</td><td>{{ row.quantity }}</td>
{% for cell in row.cells %}<td class="number">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p class="soft">A dot a test frame, or a component of a force; {{ shown }}. Errors of a normal distribution lie below
the dashed line, error = spread, two times in three. Of more than {{ most }} points a loss, {{ most }} are drawn.</p>
{{ figures }}
"""


class Calibration(ReportSection):
    """A table and a figure for each dataset and model that predicts a spread."""

    title = "How well it knows its errors"
    place = 25
    each = True

    def panels(self, context: Context) -> list[Panel]:
        """Return the figures; none where no run shown has a spread."""
        _, files = context.example()
        spreads = {loss: found.predictions for loss, found in files.items() if _has_spread(found.predictions)}
        return spread_and_error(spreads, context.looks) if spreads else []

    def html(self, context: Context) -> str:
        """Return what is to be concluded, the table and the figures; nothing where no run has a spread."""
        runs = context.runs
        known = [name for name in QUANTITIES if f"{name}_error_over_spread" in runs and _of(runs, name).any()]
        figures = self.panels(context)
        if not known or not figures:
            return ""
        return render(
            TEMPLATE,
            conclusions=[conclusion(name, runs) for name in known],
            columns=list(COLUMNS.values()),
            rows=[row for name in known for row in table_rows(name, runs)],
            shown=context.example()[0],
            figures=panels(figures, height=480),
            most=MOST_POINTS,
        )


def _of(runs: pd.DataFrame, quantity: str) -> pd.Series:
    """Return which runs say something of a quantity."""
    return runs[f"{quantity}_error_over_spread"].notna()


def _has_spread(predictions: Path) -> bool:
    return read_predictions(predictions)["energy"].std is not None


def conclusion(quantity: str, runs: pd.DataFrame) -> str:
    """Return in a sentence what a spread is good for: what holds of all sizes and losses, by their means over seeds.

    Args:
        quantity: energy or force.
        runs: of one dataset and model.
    """
    means = _means(quantity, runs)
    ratios, scales = means[f"{quantity}_error_over_spread"], means[f"{quantity}_spread_scale"]
    begin = f"{QUANTITIES[quantity]}: errors were {_range(ratios)} times the spread"
    if _alike(ratios):
        return f"{begin}; it may be taken for the error as it is."
    if scales.isna().all():
        return f"{begin}; no scale is known, so that it tells sure from unsure frames, not how large an error is."
    if _alike(ratios / scales):
        return f"{begin}; multiplied by {_range(scales)}, as held-out frames say, it may be taken for the error."
    said = f"{begin}, where held-out frames say {_range(scales)}"
    return f"{said}; it tells sure from unsure frames, not how large an error is."


def _alike(ratios: pd.Series) -> bool:
    """Whether errors and spreads are called alike of all; of no number they are not."""
    return bool(ratios.between(1.0 / ALIKE, ALIKE).all())


def _range(values: pd.Series) -> str:
    low, high = rounded(values.min(), 2), rounded(values.max(), 2)
    return low if low == high else f"{low} to {high}"


def _means(quantity: str, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the measures of a quantity by size and loss: means over seeds."""
    measures = [f"{quantity}_{name}" for name in COLUMNS]
    numbers = runs.assign(**{name: pd.to_numeric(runs[name]) for name in measures})
    return numbers[_of(runs, quantity)].groupby(["size", "loss"], sort=False)[measures].mean()


def table_rows(quantity: str, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of the table as text: means over seeds.

    Args:
        quantity: energy or force.
        runs: of one dataset and model.
    """
    rows = []
    for group, values in _means(quantity, runs).iterrows():
        size, loss = cast(tuple[int, str], group)
        cells = ["–" if pd.isna(value) else rounded(value, 2) for value in values]
        rows.append({"size": size, "loss": loss, "quantity": QUANTITIES[quantity], "cells": cells})
    return rows


def spread_and_error(predictions: Mapping[str, Path], looks: Mapping[str, Look]) -> list[Panel]:
    """Draw the size of errors against the spread that was predicted, both axes logarithmic.

    Args:
        predictions: Parquet file of one run for each loss.
        looks: by loss.

    Returns:
        A panel for energies and, where their spread is known, one for components of forces.
    """
    found = {
        quantity: {loss: spread_of(path, quantity) for loss, path in predictions.items()} for quantity in QUANTITIES
    }
    shown = [_panel("energy", "Energy (meV)", found["energy"], looks)]
    if any(len(spread) for spread, _ in found["force"].values()):
        shown.append(_panel("force", "Force component (meV/Å)", found["force"], looks))
    return shown


def spread_of(path: Path, quantity: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return predicted spreads and the sizes of errors of what is labelled, meV or meV/Å; none without a spread."""
    compared = read_predictions(path)[quantity]
    if compared.std is None:
        return np.empty(0), np.empty(0)
    labelled = ~np.isnan(compared.label)
    return MILLI * compared.std[labelled], MILLI * np.abs(compared.predicted - compared.label)[labelled]


def _panel(
    quantity: str,
    title: str,
    found: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    looks: Mapping[str, Look],
) -> Panel:
    spreads, errors = ([pair[side] for pair in found.values()] for side in (0, 1))
    hover = "spread %{x:.3g}, error %{y:.3g}"
    dots = [
        Series(loss, *thinned(*pair), looks[loss], points=5, opacity=0.5, hover=hover) for loss, pair in found.items()
    ]
    return Panel(
        name=f"calibration-{quantity}",
        title=title,
        said=f"{title}: sizes of errors on the test frames against the predicted spread, of {', '.join(found)}.",
        x=one_two_five("spread", pd.Series(np.concatenate(spreads))),
        y=one_two_five("error", pd.Series(np.concatenate(errors))),
        series=(*dots, *_equality(spreads)),
    )


def _equality(spreads: list[NDArray[np.float64]]) -> list[Series]:
    """Return error = spread over all positive spreads, as a line."""
    together = np.concatenate(spreads)
    positive = together[together > 0.0]
    if not len(positive):
        return []
    ends = [float(positive.min()), float(positive.max())]
    return [Series("equal", ends, ends, Look(GREY, "dash"), line=1, legend=False)]
