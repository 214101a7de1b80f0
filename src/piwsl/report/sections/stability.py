"""How long the dynamics of every run stayed stable."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from piwsl.report.context import Context
from piwsl.report.figures import fragment, styled
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

TEMPLATE = """\
<p class="soft">A bar a run; the dashed line is the whole simulation.</p>
{{ figure }}
"""


class StabilityOfDynamics(ReportSection):
    """A figure for each dataset and model."""

    title = "Stability of molecular dynamics"
    place = 30
    each = True

    def html(self, context: Context) -> str:
        """Return the figure."""
        figure = fragment(stability(context.runs, context.colours))
        return render(TEMPLATE, figure=figure)


def stability(table: pd.DataFrame, colours: dict[str, str]) -> go.Figure:
    """Draw how long the dynamics of every run stayed stable, a bar a run.

    Args:
        table: the runs of one dataset and model.
        colours: by loss.
    """
    figure = go.Figure()
    for loss, rows in table.groupby("loss", sort=False):
        figure.add_trace(
            go.Bar(
                x=[rows["size"].map("{} frames".format), rows["seed"].map("seed {}".format)],
                y=rows["stable_ps"],
                name=str(loss),
                marker={"color": colours[str(loss)]},
                customdata=np.stack([rows["ended"], rows["mean_temperature_K"]], axis=1),
                hovertemplate="%{y:.3f} ps, %{customdata[0]}, mean %{customdata[1]:.0f} K",
            )
        )
    wanted = float(table["time_ps"].max())
    figure.add_hline(y=wanted, line={"color": "#616e7c", "dash": "dash", "width": 1})
    figure.update_yaxes(title_text="stable time (ps)", range=[0, 1.08 * wanted])
    return styled(figure, height=380)
