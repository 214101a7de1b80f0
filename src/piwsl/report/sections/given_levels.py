"""Levels of labels that were computed elsewhere, and whom to cite for those that are published."""

from __future__ import annotations

from piwsl.catalogue import find
from piwsl.config import GivenDataset
from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

TEMPLATE = """\
{% for name, level, citation in given %}
<p><strong>{{ name }}</strong>: labels of level {{ level }}, computed elsewhere
{%- if citation %}: {{ citation }}{% endif %}.</p>
{% endfor %}
{% for name, levels in further %}
<p><strong>{{ name }}</strong>: labels of further levels, computed elsewhere: {{ levels }}.</p>
{% endfor %}
"""


class GivenLevels(ReportSection):
    """A line a given dataset whose level is said, and one whose files bring further levels."""

    place = 70

    def html(self, context: Context) -> str:
        """Return what the config, and of published sets the catalogue, says of them."""
        given = [
            (name, dataset.level, find(dataset.catalogue).citation if dataset.catalogue else None)
            for name, dataset in context.experiment.datasets.items()
            if isinstance(dataset, GivenDataset) and dataset.level
        ]
        further = [
            (name, ", ".join(f"{each} ({said.level})" if said.level else each for each, said in levels.items()))
            for name, dataset in context.experiment.datasets.items()
            if isinstance(dataset, GivenDataset) and (levels := dataset.given_levels)
        ]
        return render(TEMPLATE, given=given, further=further)
