"""What was found about the data, and what of it was left out, before all numbers that are made of them."""

from __future__ import annotations

from pathlib import Path

from piwsl.data.dataset import Dataset
from piwsl.records import Finding, dataset_of
from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

# What is asked about stands above the table, which has all whose kind is known: earlier versions wrote a line alone.
TEMPLATE = """\
<p>This was seen when the datasets were made. It may be as it should; if not, no number below means anything.</p>
{% if asked %}
<ul class="verdicts">
{% for name, found in asked %}
<li class="worse">{{ found.said }}<span class="where">{{ name }}</span></li>
{% endfor %}
</ul>
{% endif %}
{% if table %}
<div class="scroll"><table>
<thead><tr>
<th>Dataset</th><th>What</th><th class="number">Frames</th><th>The first of them</th><th>Done</th>
</tr></thead>
<tbody>
{% for name, found in table %}
<tr><td>{{ name }}</td><td>{{ found.kind.replace("_", " ") }}{% if found.level %}, {{ found.level }}{% endif %}</td>
<td class="number">{{ found.frames if found.frames is not none else "all" }}</td>
<td>{{ found.which }}</td><td>{{ found.done }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% if dropped %}
<p class="soft">Frames are called by their positions in the file. All that <code>drop</code> left out stand, with why,
in <code>dropped.csv</code> beside the dataset file.</p>
{% endif %}
"""


class DataWarnings(ReportSection):
    """A line a question, a row a finding; datasets in order are left out."""

    title = "Look at the data first"
    place = 10

    def html(self, context: Context) -> str:
        """Return the findings that stand in the dataset files."""
        names = {path: path.parent.name for path in context.datasets}
        names |= {path: f"{dataset_of(path)}, test set {path.stem}" for path in context.test_sets}
        every = [(name, found) for path, name in names.items() for found in _findings(path)]
        if not every:
            return ""
        asked = [(name, found) for name, found in every if found.done != "dropped"]
        table = [(name, found) for name, found in every if found.kind]
        return render(TEMPLATE, table=table, asked=asked, dropped=len(asked) < len(every))


def _findings(path: Path) -> list[Finding]:
    with Dataset(path) as dataset:
        return dataset.findings()
