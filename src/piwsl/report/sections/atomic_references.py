"""What the atomic references of models come from, below the energies of free atoms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

SAME = ["dataset", "model", "references"]
TEMPLATE = """\
<h3>Atomic references</h3>
<p>The part of a model's energy that elements alone say.</p>
<div class="scroll"><table>
<thead><tr><th>Dataset</th><th>Model</th><th>Losses</th><th>Frames</th><th>Atomic references</th></tr></thead>
<tbody>
{% for row in rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
"""


class AtomicReferences(ReportSection):
    """A row a dataset, model and kind of references."""

    place = 61

    def html(self, context: Context) -> str:
        """Return what the model files of the runs say; nothing where none does."""
        rows = list(_rows(context))
        return render(TEMPLATE, rows=rows) if rows else ""


def _rows(context: Context) -> Iterator[tuple[str, ...]]:
    for (dataset, model, said), runs in context.runs.groupby(SAME, sort=False):
        yield str(dataset), str(model), _listed(runs["loss"]), _listed(runs["size"]), str(said)


def _listed(values: Any) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))
