"""Levels of labels that were computed elsewhere."""

from __future__ import annotations

from piwsl.config import GivenDataset
from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

TEMPLATE = """\
{% for name, level in given.items() %}
<p><strong>{{ name }}</strong>: labels of level {{ level }}, computed elsewhere.</p>
{% endfor %}
"""


class GivenLevels(ReportSection):
    """A line a given dataset whose level is said."""

    place = 70

    def html(self, context: Context) -> str:
        """Return what the config says of them."""
        given = {
            name: dataset.level
            for name, dataset in context.experiment.datasets.items()
            if isinstance(dataset, GivenDataset) and dataset.level
        }
        return render(TEMPLATE, given=given)
