"""Minima and harmonic frequencies of models beside those of cheap levels: a sharper test than a mean error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from ase import Atoms

from piwsl.records import Frequencies, FrequenciesOfLevels, StationaryPoint, read_record
from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection
from piwsl.surface.relaxation import distance

TEMPLATE = """\
<p>A test frame of each molecule, relaxed on each surface, and harmonic frequencies there, imaginary ones negative. Of
each loss the model of the largest size and the first seed. Modes that symmetry makes equal tell how well a model knows
it. {% if cheap %}Cheap levels ({{ cheap }}) stand beside them for scale: they are not the reference.{% endif %}</p>
{% for table in tables %}
<div class="scroll"><table>
<caption>{{ table.molecule }}: harmonic frequencies (cm⁻¹)</caption>
<thead><tr><th scope="col">Mode</th>
{% for column in table.columns %}<th scope="col" class="number">{{ column.title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr><th scope="row">{{ loop.index }}</th>{% for cell in row %}<td class="number">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
{% if table.apart %}
<tr><th scope="row">Minimum from that of {{ table.columns[0].title }} (RMSD, Å)</th>
{% for cell in table.apart %}<td class="number">{{ cell }}</td>{% endfor %}</tr>
{% endif %}
</tbody></table></div>
{% for column in table.columns if column.point.problem %}
<p class="soft">{{ column.title }}: {{ column.point.problem }}.</p>
{% endfor %}
{% endfor %}
"""
# Of larger molecules the lowest.
MODES_SHOWN = 60


@dataclass(frozen=True)
class Column:
    """A molecule on one surface."""

    title: str
    point: StationaryPoint
    cheap: bool = False
    """Whether it is that of a cheap level."""


class FrequenciesOfModels(ReportSection):
    """A table a molecule, for each dataset and model."""

    title = "Minima and vibrations"
    place = 27
    each = True

    def html(self, context: Context) -> str:
        """Return the tables; nothing of periodic frames, or where none were found."""
        columns = [*_columns(context)]
        starts = dict.fromkeys(column.point.start for column in columns)
        tables = [_table([column for column in columns if column.point.start == start]) for start in starts]
        cheap = dict.fromkeys(column.title for column in columns if column.cheap)
        return render(TEMPLATE, tables=tables, cheap=", ".join(cheap)) if tables else ""


def _columns(context: Context) -> Iterator[Column]:
    """Yield what cheap levels say, and then each loss."""
    dataset, model = context.runs["dataset"].iloc[0], context.runs["model"].iloc[0]
    for path in context.frequencies_of_levels:
        levels = read_record(FrequenciesOfLevels, path)
        if levels.dataset == dataset:
            yield from (Column(point.surface, point, cheap=True) for point in levels.points)
    for path in context.frequencies:
        run = read_record(Frequencies, path)
        if (run.dataset, run.model) == (dataset, model):
            yield from (Column(run.loss, point) for point in run.points)


def _table(columns: list[Column]) -> dict[str, object]:
    modes = zip_longest(*(column.point.frequencies_per_cm[:MODES_SHOWN] for column in columns))
    apart = [_apart(columns[0].point, column.point) for column in columns]
    return {
        "molecule": columns[0].point.molecule,
        "columns": columns,
        "rows": [["–" if mode is None else f"{mode:.0f}" for mode in row] for row in modes],
        "apart": apart if any(cell != "–" for cell in apart[1:]) else None,
    }


def _apart(first: StationaryPoint, second: StationaryPoint) -> str:
    """Return how far the atoms of two minima are apart, in words; a dash where one has none."""
    if not (first.positions_A and second.positions_A):
        return "–"
    # Their elements are those of one molecule in one order.
    one, other = (Atoms(f"H{len(point.positions_A)}", positions=point.positions_A) for point in (first, second))
    return f"{distance(one, other):.4f}"
