"""The course of training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from piwsl.report.context import Context
from piwsl.report.figures import fragment, one_two_five, styled
from piwsl.report.markup import render
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

    def html(self, context: Context) -> str:
        """Return the figure; nothing where no frame was kept for validation."""
        shown, files = context.example()
        errors = {loss: validation_errors(found.history) for loss, found in files.items()}
        if all(rows.empty for rows in errors.values()):
            return ""
        return render(TEMPLATE, shown=shown, figure=fragment(histories(errors, context.colours)))


def histories(errors: dict[str, pd.Series], colours: dict[str, str]) -> go.Figure:
    """Draw the validation error of the energy in the course of training.

    Args:
        errors: by loss, as of `validation_errors`.
        colours: by loss.
    """
    figure = go.Figure()
    for loss, rows in errors.items():
        figure.add_trace(
            go.Scatter(
                x=rows.index,
                y=rows,
                mode="lines",
                name=loss,
                line={"color": colours[loss], "width": 2},
                hovertemplate="step %{x}: %{y:.3g} meV/atom",
            )
        )
    figure.update_xaxes(title_text="optimiser step")
    figure.update_yaxes(title_text="validation RMSE (meV/atom)", **one_two_five(pd.concat(errors.values())))
    return styled(figure, height=360)


def validation_errors(path: Path) -> pd.Series:
    """Read the validation error of the energy at each step, meV an atom; of members the root mean square over them."""
    rows = pd.read_csv(path)
    if "validation_energy_rmse" not in rows:
        return pd.Series(dtype=float)
    squares = (1000.0 * rows["validation_energy_rmse"]) ** 2
    return squares.groupby(rows["step"]).mean() ** 0.5
