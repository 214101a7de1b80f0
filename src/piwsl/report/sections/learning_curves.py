"""Errors against the number of labelled frames."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from piwsl.report.context import Context
from piwsl.report.figures import at_values, fragment, one_two_five, styled
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection
from piwsl.report.tables import MEASURES

TEMPLATE = """\
<p class="soft">Dots are seeds, diamonds their means.</p>
{{ figure }}
"""


class LearningCurves(ReportSection):
    """A figure for each dataset and model."""

    title = "Learning curves"
    place = 10
    each = True

    def html(self, context: Context) -> str:
        """Return the figure."""
        figure = fragment(learning_curves(context.runs, context.colours))
        return render(TEMPLATE, figure=figure)


def learning_curves(table: pd.DataFrame, colours: dict[str, str]) -> go.Figure:
    """Draw errors against the number of labelled frames: a dot a seed, a line through the means.

    Args:
        table: the runs of one dataset and model.
        colours: by loss.
    """
    measures = [name for name in ("energy_mae_meV", "force_mae_meV_per_A") if table[name].notna().any()]
    figure = make_subplots(cols=len(measures), subplot_titles=[MEASURES[name] for name in measures])
    for column, measure in enumerate(measures, start=1):
        for loss, rows in table.groupby("loss", sort=False):
            colour = colours[str(loss)]
            means = rows.groupby("size")[measure].mean()
            figure.add_trace(
                go.Scatter(
                    x=rows["size"],
                    y=rows[measure],
                    mode="markers",
                    name=str(loss),
                    legendgroup=str(loss),
                    showlegend=False,
                    marker={"color": colour, "size": 7, "opacity": 0.5},
                    customdata=rows["seed"],
                    hovertemplate="%{x} frames, seed %{customdata}: %{y:.3g}",
                ),
                row=1,
                col=column,
            )
            figure.add_trace(
                go.Scatter(
                    x=means.index,
                    y=means,
                    mode="lines+markers",
                    name=str(loss),
                    legendgroup=str(loss),
                    showlegend=column == 1,
                    line={"color": colour, "width": 2},
                    marker={"color": colour, "size": 9, "symbol": "diamond"},
                    hovertemplate="%{x} frames, mean over seeds: %{y:.3g}",
                ),
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text="labelled frames", row=1, col=column, **at_values(table["size"]))
        figure.update_yaxes(row=1, col=column, **one_two_five(table[measure]))
    return styled(figure)
