"""How the reference energies of computed datasets came about."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from piwsl.config import ComputedDataset
from piwsl.records import Labelling, dataset_of, read_labellings
from piwsl.report.context import Context
from piwsl.report.markup import render, rounded
from piwsl.report.sections import ReportSection, Table

# Of doubtful ones.
FRAMES_SHOWN = 20

# Of the table for print, by its columns.
TITLES = {
    "dataset": "Dataset",
    "labelled": "Labelled",
    "failed": "Failed",
    "cpu_s_per_energy": "CPU s an energy",
    "largest_t1": "Largest T1",
    "frozen_orbitals": "Frozen",
    "scf_not_by_diis": "SCF not by DIIS",
    "doubtful": "Doubtful",
    "with_forces": "With forces",
}

WAYS = {"differences": "central differences", "slope": "slopes along one direction"}

TEMPLATE = """\
{% for name, level in computed %}
<p><strong>{{ name }}</strong>: level <code>{{ level }}</code>,
E = {{ levels[level] }}.</p>
{% endfor %}
<div class="scroll"><table>
<thead><tr><th>Dataset</th><th class="number">Labelled</th><th class="number">Failed</th>
<th class="number">CPU s an energy</th><th class="number">Largest T1</th><th class="number">Frozen</th>
<th class="number">SCF not by DIIS</th><th class="number">Doubtful</th>
<th>Forces</th></tr></thead>
<tbody>
{% for summary in references %}
<tr><td>{{ summary.dataset }}</td><td class="number">{{ summary.labelled }}</td>
<td class="number">{{ summary.failed | length }}</td>
<td class="number">
{{- "%.2f" | format(summary.seconds_per_energy) if summary.seconds_per_energy is not none else "–" -}}
</td>
<td class="number">{{ "%.4f" | format(summary.largest_t1) if summary.largest_t1 is not none else "–" }}</td>
<td class="number">{{ summary.frozen_orbitals if summary.frozen_orbitals is not none else "–" }}</td>
<td class="number">{{ summary.uneasy_scf }}</td><td class="number">{{ summary.doubtful | length }}</td>
<td>
{%- for how, count in summary.forces.items() %}
{{- count }} ({{ ways.get(how, how) }}) {% else %}none{% endfor -%}
</td></tr>
{% endfor %}
</tbody></table></div>
{% for summary in references if summary.failed %}
<h3>Failed frames of {{ summary.dataset }}</h3>
<div class="scroll"><table><thead><tr><th>Frame</th><th>Step</th><th>Reason</th></tr></thead><tbody>
{% for row in summary.failed %}
<tr><td>{{ row.frame }}</td><td>{{ row.step }}</td><td>{{ row.reason }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
{% for summary in references if summary.doubtful %}
<h3>Doubtful frames of {{ summary.dataset }}</h3>
<p>One determinant may not describe them: their labels stand in the data, and may be wrong by far more than the level's
error elsewhere.</p>
<div class="scroll"><table><thead><tr><th>Frame</th><th>Why</th></tr></thead><tbody>
{% for row in summary.doubtful[:shown] %}
<tr><td>{{ row.frame }}</td><td>{{ row.doubt }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if summary.doubtful | length > shown %}
<p class="soft">And {{ summary.doubtful | length - shown }} more, in the records of the labelling jobs.</p>
{% endif %}
{% endfor %}
<p class="soft">CPU seconds are medians; frozen are the orbitals left uncorrelated; not by DIIS are frames of which an
SCF converged only by what is tried after that; doubtful are frames whose T1
diagnostic is beyond <code>max_t1</code>, or whose restricted orbitals are a saddle point.</p>
"""


class Reference(ReportSection):
    """Levels, counts, cost and failures, a row a dataset."""

    title = "Reference energies"
    place = 50

    def tables(self, context: Context) -> dict[str, Table]:
        """Return a row a dataset; none where nothing was computed."""
        rows = [_numbers(summary) for summary in reference_summaries(context.records)]
        words = [{title: _in_words(row[key]) for key, title in TITLES.items()} for row in rows]
        return {"reference-energies": Table(pd.DataFrame(rows), pd.DataFrame(words))} if rows else {}

    def html(self, context: Context) -> str:
        """Return what the records of the labelling jobs say; nothing where there are none."""
        references = reference_summaries(context.records)
        if not references:
            return ""
        computed = [
            (name, dataset.level)
            for name, dataset in context.experiment.datasets.items()
            if isinstance(dataset, ComputedDataset)
        ]
        return render(
            TEMPLATE,
            computed=computed,
            levels=context.experiment.levels,
            references=references,
            shown=FRAMES_SHOWN,
            ways=WAYS,
        )


@dataclass(frozen=True)
class ReferenceSummary:
    """How the reference energies of a computed dataset came about."""

    dataset: str
    labelled: int
    failed: list[Labelling]
    seconds_per_energy: float | None
    """Median CPU seconds of one energy of the level."""
    largest_t1: float | None
    frozen_orbitals: int | None
    forces: dict[str, int]
    """How many frames have forces, by how those were computed; of "slope" one component alone."""
    doubtful: list[Labelling]
    uneasy_scf: int
    """Frames with an SCF that plain DIIS did not converge."""


def _numbers(summary: ReferenceSummary) -> dict[str, str | float | None]:
    return {
        "dataset": summary.dataset,
        "labelled": summary.labelled,
        "failed": len(summary.failed),
        "cpu_s_per_energy": summary.seconds_per_energy,
        "largest_t1": summary.largest_t1,
        "frozen_orbitals": summary.frozen_orbitals,
        "scf_not_by_diis": summary.uneasy_scf,
        "doubtful": len(summary.doubtful),
        "with_forces": sum(count for how, count in summary.forces.items() if how != "slope"),
    }


def _in_words(value: str | float | None) -> str:
    if value is None:
        return "–"
    return rounded(value, 2) if isinstance(value, float) else str(value)


def reference_summaries(records: list[Path]) -> list[ReferenceSummary]:
    """Summarise the records of all batches, a summary a dataset.

    Args:
        records: JSON lines of the batches, below .../datasets/<dataset>/.
    """
    found: dict[str, list[Labelling]] = {}
    for path in records:
        found.setdefault(dataset_of(path), []).extend(read_labellings(path))
    return [_summary(dataset, labellings) for dataset, labellings in found.items()]


def _summary(dataset: str, labellings: list[Labelling]) -> ReferenceSummary:
    good = [labelling for labelling in labellings if labelling.status == "ok"]
    seconds = [labelling.cpu_s for labelling in good if labelling.cpu_s is not None]
    return ReferenceSummary(
        dataset=dataset,
        labelled=len(good),
        failed=[labelling for labelling in labellings if labelling.status == "failed"],
        seconds_per_energy=float(np.median(seconds)) if seconds else None,
        largest_t1=max((found.t1_diagnostic for found in good if found.t1_diagnostic is not None), default=None),
        frozen_orbitals=good[0].frozen_orbitals if good else None,
        forces=dict(Counter(found.forces for found in good if found.forces)),
        doubtful=[found for found in good if found.doubt is not None],
        uneasy_scf=sum(any(how.converged_by not in (None, "DIIS") for how in found.scf.values()) for found in good),
    )
