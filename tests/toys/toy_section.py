"""A section of the report: how fast the dynamics ran."""

import plotly.graph_objects as go

from piwsl.report.context import Context
from piwsl.report.figures import fragment, styled
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

TEMPLATE = """
<p class="soft">Medians of {{ runs }} runs.</p>
{{ figure }}
"""


class Speed(ReportSection):
    """A bar for each loss."""

    title = "Speed of the dynamics"
    place = 30  # after our stability, which has this place, too
    each = True

    def html(self, context: Context) -> str:
        """Return the figure."""
        speed = context.runs.groupby("loss", sort=False)["steps_per_second"].median()
        colours = [context.colours[loss] for loss in speed.index]
        figure = go.Figure(go.Bar(x=speed.index, y=speed, marker={"color": colours}))
        figure.update_yaxes(title_text="steps a second")
        return render(TEMPLATE, runs=len(context.runs), figure=fragment(styled(figure)))
