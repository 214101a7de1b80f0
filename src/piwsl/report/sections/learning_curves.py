"""Errors against the number of labelled frames."""

from __future__ import annotations

import itertools

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from piwsl.report.context import Context
from piwsl.report.figures import at_values, fragment, one_two_five, styled
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection
from piwsl.report.tables import MEASURES

TEMPLATE = """\
<p class="soft">Dots are seeds, diamonds their means
{%- if cheap %}; dashed is a cheap level as it is, which needs no training{% endif %}.</p>
{{ figure }}
"""

# One a cheap level; more than three are seldom.
DASHES = ("dash", "dot", "dashdot")
# By which factor lines of cheap levels go beyond the sizes.
BEYOND = 1.15


class LearningCurves(ReportSection):
    """A figure for each dataset and model."""

    title = "Learning curves"
    place = 10
    each = True

    def html(self, context: Context) -> str:
        """Return the figure."""
        cheap = context.cheap[context.cheap["dataset"].isin(context.runs["dataset"])]
        figure = fragment(learning_curves(context.runs, context.colours, cheap))
        return render(TEMPLATE, figure=figure, cheap=len(cheap) > 0)


def learning_curves(table: pd.DataFrame, colours: dict[str, str], cheap: pd.DataFrame) -> go.Figure:
    """Draw errors against the number of labelled frames: a dot a seed, a line through the means.

    Args:
        table: the runs of one dataset and model.
        colours: by loss.
        cheap: the cheap levels of the dataset, as of `piwsl.report.tables.cheap_table`: a dashed line each.
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
        _draw_levels(figure, column, measure, table["size"], cheap)
        figure.update_xaxes(title_text="labelled frames", row=1, col=column, **at_values(table["size"]))
        figure.update_yaxes(row=1, col=column, **one_two_five(pd.concat([table[measure], cheap[measure]])))
    return styled(figure)


def _draw_levels(figure: go.Figure, column: int, measure: str, sizes: pd.Series, cheap: pd.DataFrame) -> None:
    """Draw the error of each cheap level as a line a little beyond all sizes, so that there is one where one size is.

    It is a trace, not one of plotly's shapes: axes take its value into their range, and the legend names it.
    """
    for (_, row), dash in zip(cheap.iterrows(), itertools.cycle(DASHES), strict=False):
        figure.add_trace(
            go.Scatter(
                x=[sizes.min() / BEYOND, sizes.max() * BEYOND],
                y=[row[measure]] * 2,
                mode="lines",
                name=row["level"],
                legendgroup=row["level"],
                showlegend=column == 1,
                line={"color": "#616e7c", "width": 1.5, "dash": dash},
                hovertemplate="not trained: %{y:.3g}",
            ),
            row=1,
            col=column,
        )
