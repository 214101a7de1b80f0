"""Energies of free atoms, below those of the frames."""

from __future__ import annotations

from piwsl.records import dataset_of, read_free_atoms
from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

TEMPLATE = """\
<h3>Free atoms at the level of the labels</h3>
<div class="scroll"><table>
<thead><tr><th>Dataset</th><th>Element</th><th class="number">Energy (eV)</th></tr></thead>
<tbody>
{% for dataset, symbol, found in atoms %}
<tr><td>{{ dataset }}</td><td>{{ symbol }}</td>
<td class="number">
{{- found.step ~ ": " ~ found.reason if found.energy_eV is none else ("%.4f" | format(found.energy_eV)) | minus -}}
</td></tr>
{% endfor %}
</tbody></table></div>
"""


class FreeAtoms(ReportSection):
    """A row a dataset and element: the energy, or why there is none."""

    place = 60

    def html(self, context: Context) -> str:
        """Return the energies that computed datasets have."""
        atoms = [
            (dataset_of(path), symbol, found)
            for path in context.free_atoms
            for symbol, found in read_free_atoms(path).items()
        ]
        return render(TEMPLATE, atoms=atoms) if atoms else ""
