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
<p class="soft">Error of the averaged weights on the validation frames; {{ shown }}.</p>
{{ figure }}
"""


class Training(ReportSection):
    """A figure for each dataset and model."""

    title = "Training"
    place = 40
    each = True

    def html(self, context: Context) -> str:
        """Return the figure."""
        shown, files = context.example()
        figure = fragment(histories({loss: found.history for loss, found in files.items()}, context.colours))
        return render(TEMPLATE, shown=shown, figure=figure)


def histories(paths: dict[str, Path], colours: dict[str, str]) -> go.Figure:
    """Draw the validation error of the energy in the course of training.

    Args:
        paths: history CSV of one run for each loss.
        colours: by loss.
    """
    figure = go.Figure()
    for loss, path in paths.items():
        rows = pd.read_csv(path)
        figure.add_trace(
            go.Scatter(
                x=rows["step"],
                y=1000 * rows["validation_energy_rmse"],
                mode="lines",
                name=loss,
                line={"color": colours[loss], "width": 2},
                hovertemplate="step %{x}: %{y:.3g} meV/atom",
            )
        )
    figure.update_xaxes(title_text="optimiser step")
    shown = pd.concat([1000 * pd.read_csv(path)["validation_energy_rmse"] for path in paths.values()])
    figure.update_yaxes(title_text="validation RMSE (meV/atom)", **one_two_five(shown))
    return styled(figure, height=360)
