"""What the atomic references of models come from, and what baselines are multiplied by, below the free atoms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

SAME = ["dataset", "model", "references"]
TEMPLATE = """\
<h3>Atomic references and baselines</h3>
<p>The part of a model's energy that elements alone say, and how many times it takes the level that it corrects.</p>
<div class="scroll"><table>
<thead><tr><th>Dataset</th><th>Model</th><th>Losses</th><th>Frames</th><th>Baseline</th>
<th>Atomic references</th></tr></thead>
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
        name = context.experiment.models[str(model)].baseline
        beneath = "" if name is None else f"{_range(runs['baseline_scale'].dropna())} {name}"
        yield str(dataset), str(model), _listed(runs["loss"]), _listed(runs["size"]), beneath, str(said)


def _range(scales: Any) -> str:
    """Return the least and the largest factor, or the one that all have."""
    if not len(scales):
        return ""
    least, largest = (f"{number:.2f}" for number in (scales.min(), scales.max()))
    return f"{least} ×" if least == largest else f"{least} to {largest} ×"


def _listed(values: Any) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))
