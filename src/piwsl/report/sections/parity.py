"""Predictions against labels of the test frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from piwsl.evaluation.predictions import read_predictions
from piwsl.report.context import Context
from piwsl.report.figures import panels
from piwsl.report.markup import render, rounded
from piwsl.report.panels import GREY, MOST_POINTS, Axis, Look, Panel, Series, thinned
from piwsl.report.sections import ReportSection

TEMPLATE = """\
<p class="soft">Test frames; {{ shown }}. The dashed line is perfect agreement. Of more than {{ most }} points a loss,
{{ most }} are drawn, chosen at random.</p>
{{ figures }}
"""


class Parity(ReportSection):
    """A figure for each dataset and model."""

    title = "Parity"
    place = 20
    each = True

    def panels(self, context: Context) -> list[Panel]:
        """Return the figures."""
        _, files = context.example()
        return parity({loss: found.predictions for loss, found in files.items()}, context.looks)

    def html(self, context: Context) -> str:
        """Return the figures, and of which runs they are."""
        figures = panels(self.panels(context), height=480)
        return render(TEMPLATE, shown=context.example()[0], figures=figures, most=MOST_POINTS)


Pairs = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Labels, and what was predicted."""


def parity(predictions: Mapping[str, Path], looks: Mapping[str, Look]) -> list[Panel]:
    """Draw predictions against labels of the test frames, energies relative to the mean label.

    Args:
        predictions: Parquet file of one run for each loss.
        looks: by loss.

    Returns:
        A panel for energies and, where they are labelled, one for components of forces.
    """
    energies = {loss: energy_pairs(path) for loss, path in predictions.items()}
    forces = {loss: force_pairs(path) for loss, path in predictions.items()}
    shown = [_panel("energy", "Energy (eV, less the mean label)", energies, looks)]
    if any(len(label) for label, _ in forces.values()):
        shown.append(_panel("force", "Force component (eV/Å)", forces, looks))
    return shown


def energy_pairs(path: Path) -> Pairs:
    """Return energies of the test frames less the mean label, eV."""
    found = read_predictions(path)["energy"]
    mean = found.label.mean()
    return found.label - mean, found.predicted - mean


def force_pairs(path: Path) -> Pairs:
    """Return components of forces on the test frames, eV/Å; none where none is labelled."""
    found = read_predictions(path)["force"]
    return found.label, found.predicted


def _panel(quantity: str, title: str, pairs: Mapping[str, Pairs], looks: Mapping[str, Look]) -> Panel:
    ends = [end for pair in pairs.values() for values in pair if len(values) for end in (values.min(), values.max())]
    line = [float(np.nanmin(ends)), float(np.nanmax(ends))]
    mean = "; ".join(f"{loss} {rounded(float(np.abs(b - a).mean()), 3)}" for loss, (a, b) in pairs.items() if len(a))
    return Panel(
        name=f"parity-{quantity}",
        title=title,
        said=f"{title} of models against the reference on the test frames; mean absolute differences: {mean}.",
        x=Axis("reference"),
        y=Axis("model"),
        series=(
            *(_dots(loss, pair, looks[loss]) for loss, pair in pairs.items()),
            Series("equal", line, line, Look(GREY, "dash"), line=1, legend=False),
        ),
    )


def _dots(loss: str, pair: Pairs, look: Look) -> Series:
    return Series(loss, *thinned(*pair), look, points=7, opacity=0.65, hover="reference %{x:.3f}, model %{y:.3f}")
