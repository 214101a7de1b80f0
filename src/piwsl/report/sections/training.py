"""The course of training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from piwsl.report.context import Context
from piwsl.report.figures import panels
from piwsl.report.markup import render, rounded
from piwsl.report.panels import Axis, Look, Panel, Series, one_two_five
from piwsl.report.sections import ReportSection

TEMPLATE = """\
<p class="soft">Error of the averaged weights on the validation frames, of a committee the root mean square over its
members; {{ shown }}.</p>
{{ figure }}
"""


class Training(ReportSection):
    """A figure for each dataset and model."""

    title = "Training"
    place = 40
    each = True

    def panels(self, context: Context) -> list[Panel]:
        """Return the figure; none where no frame was kept for validation, or nothing was done in steps."""
        _, files = context.example()
        errors = {loss: validation_errors(found.history) for loss, found in files.items()}
        return [histories(errors, context.looks)] if any(len(rows) > 1 for rows in errors.values()) else []

    def html(self, context: Context) -> str:
        """Return the figure, if there is one, and of which runs it is."""
        shown, found = context.example()[0], self.panels(context)
        return render(TEMPLATE, shown=shown, figure=panels(found, height=360)) if found else ""


def histories(errors: dict[str, pd.Series], looks: Mapping[str, Look]) -> Panel:
    """Draw the validation error of the energy in the course of training.

    Args:
        errors: by loss, as of `validation_errors`.
        looks: by loss.
    """
    hover = "step %{x}: %{y:.3g} meV/atom"
    title = "validation RMSE (meV/atom)"
    last = "; ".join(f"{loss} {rounded(rows.iloc[-1], 3)}" for loss, rows in errors.items() if len(rows))
    return Panel(
        name="training",
        title="",
        said=f"Validation RMSE of the energy in the course of training; at the last step, meV/atom: {last}.",
        x=Axis("optimiser step"),
        y=one_two_five(title, pd.concat(errors.values())),
        series=tuple(Series(loss, rows.index, rows, looks[loss], line=2, hover=hover) for loss, rows in errors.items()),
    )


def validation_errors(path: Path) -> pd.Series:
    """Read the validation error of the energy at each step, meV an atom; of members the root mean square over them."""
    rows = pd.read_csv(path)
    if "validation_energy_rmse" not in rows:
        return pd.Series(dtype=float)
    squares = (1000.0 * rows["validation_energy_rmse"]) ** 2
    return squares.groupby(rows["step"]).mean() ** 0.5
