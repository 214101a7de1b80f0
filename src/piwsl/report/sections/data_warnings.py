"""What looked odd about the data, before all numbers that are made of them."""

from __future__ import annotations

from piwsl.data.dataset import Dataset
from piwsl.records import dataset_of
from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

TEMPLATE = """\
<p>This was seen when the datasets were made. It may be as it should; if not, no number below means anything.</p>
<ul class="verdicts">
{% for name, found in warnings.items() %}
{% for warning in found %}
<li class="worse">{{ warning }}<span class="where">{{ name }}</span></li>
{% endfor %}
{% endfor %}
</ul>
"""


class DataWarnings(ReportSection):
    """A line a warning; datasets in order are left out."""

    title = "Look at the data first"
    place = 10

    def html(self, context: Context) -> str:
        """Return the warnings that stand in the dataset files."""
        warnings = {}
        for path in context.datasets:
            with Dataset(path) as dataset:
                warnings[path.parent.name] = dataset.warnings()
        for path in context.test_sets:
            with Dataset(path) as dataset:
                warnings[f"{dataset_of(path)}, test set {path.stem}"] = dataset.warnings()
        return render(TEMPLATE, warnings=warnings) if any(warnings.values()) else ""
