"""A section of the report: how fast the dynamics ran."""

from piwsl.report.context import Context
from piwsl.report.figures import panels
from piwsl.report.markup import render
from piwsl.report.panels import Axis, Panel, Series, at_values
from piwsl.report.sections import ReportSection

TEMPLATE = """
<p class="soft">Medians of {{ runs }} runs.</p>
{{ figures }}
"""


class Speed(ReportSection):
    """A curve for each loss."""

    title = "Speed of the dynamics"
    place = 30  # after our stability, which has this place, too
    each = True

    def panels(self, context: Context) -> list[Panel]:
        """Return the figure."""
        speed = {
            loss: runs.groupby("size")["steps_per_second"].median()
            for loss, runs in context.runs.groupby("loss", sort=False)
        }
        series = [
            Series(loss, steps.index, steps, context.looks[loss], points=9, line=2) for loss, steps in speed.items()
        ]
        said = "; ".join(f"{loss} {steps.iloc[-1]:.0f}" for loss, steps in speed.items())
        return [
            Panel(
                name="speed",
                title="Speed",
                said=f"Steps a second of the dynamics, at the largest size: {said}.",
                x=at_values("labelled frames", context.runs["size"]),
                y=Axis("steps a second"),
                series=tuple(series),
            )
        ]

    def html(self, context: Context) -> str:
        """Return the figure, and of how many runs it is."""
        return render(TEMPLATE, runs=len(context.runs), figures=panels(self.panels(context)))
