"""How to use what was trained: where the model of each run lies, and lines to copy."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import pandas as pd

from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection
from piwsl.report.sections.best import best

TEMPLATE = """\
<p>Paths are from the folder that the experiment was run in; a model file needs nothing beside it.</p>
{% for line in lines %}
<p><strong>{{ line.dataset }}</strong>: the best potential, {{ line.model }} ({{ line.loss }}) of {{ line.size }}
frames, seed {{ line.seed }}, in ASE,</p>
<pre>from ase.io import read
import piwsl

atoms = read("frames.xyz")
atoms.calc = piwsl.PotentialCalculator(piwsl.load_model({{ line.quoted }}))
print(atoms.get_potential_energy(), atoms.get_forces())</pre>
<p>and on the command line.</p>
<pre>piwsl predict {{ line.shell }} frames.xyz predicted.xyz
piwsl md {{ line.shell }} frames.xyz --temperature {{ "%g" | format(temperature) }} --time 1</pre>
{% endfor %}
<details><summary>The model files of all {{ rows | length }} runs</summary>
<div class="scroll"><table class="sortable">
<thead><tr>
{% for title in ("Dataset", "Model", "Loss") %}
<th scope="col"><button type="button">{{ title }}</button></th>
{% endfor %}
{% for title in ("Frames", "Seed") %}
<th scope="col" class="number"><button type="button">{{ title }}</button></th>
{% endfor %}
<th scope="col">File</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><td>{{ row.dataset }}</td><td>{{ row.model }}</td><td>{{ row.loss }}</td><td class="number">{{ row.size }}</td>
<td class="number">{{ row.seed }}</td><td class="text"><code>{{ row.path }}</code></td></tr>
{% endfor %}
</tbody></table></div></details>
"""


@dataclass(frozen=True)
class Trained:
    """The model of a run."""

    dataset: str
    model: str
    loss: str
    size: int
    seed: int
    path: str

    @property
    def quoted(self) -> str:
        """The path as Python writes it."""
        return repr(self.path)

    @property
    def shell(self) -> str:
        """The path as one word of a shell."""
        return shlex.quote(self.path)


class UseOfModels(ReportSection):
    """Lines to copy for the best potential of each dataset, and the file of every run."""

    title = "Using a potential"
    place = 70

    def html(self, context: Context) -> str:
        """Return the lines and the table."""
        if context.runs.empty:
            return ""
        lines = [line for _, runs in context.runs.groupby("dataset", sort=False) if (line := _best(runs, context))]
        simulation = context.experiment.first_simulation
        temperature = 300.0 if simulation is None else simulation.temperatures[0]
        return render(TEMPLATE, lines=lines, rows=trained(context.runs, context), temperature=temperature)


def trained(runs: pd.DataFrame, context: Context) -> list[Trained]:
    """Return the models of runs, in their order."""
    return [
        Trained(row["dataset"], row["model"], row["loss"], row["size"], row["seed"], context.files[index].model)
        for (_, row), index in zip(runs.iterrows(), runs.index.astype(int), strict=True)
    ]


def _best(runs: pd.DataFrame, context: Context) -> Trained | None:
    """Return the model of the first seed of the best potential of a dataset; None where no error is a number."""
    alone, corrected = best(runs, context.experiment)
    chosen = alone or corrected
    if chosen is None:
        return None
    same = (runs["model"] == chosen.model) & (runs["loss"] == chosen.loss) & (runs["size"] == chosen.size)
    return trained(runs[same], context)[0]
