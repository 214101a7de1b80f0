"""Energies along scans: curves of models and cheap levels beside the reference, and how high barriers are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from piwsl.config import ComputedTest, GivenTest
from piwsl.data.dataset import TEST, Dataset
from piwsl.evaluation.curves import Ends, curve_errors, ends_of
from piwsl.evaluation.predictions import read_predictions
from piwsl.records import dataset_of
from piwsl.report.context import Context
from piwsl.report.figures import panels
from piwsl.report.markup import render, rounded
from piwsl.report.panels import GREY, Axis, Look, Panel, Series
from piwsl.report.sections import ReportSection
from piwsl.report.tables import AXES, observed
from piwsl.structures.coordinates import KINDS
from piwsl.structures.labels import REFERENCE

MILLI = 1000.0
# Of cheap levels, one after the other.
CHEAP_DASHES = ("dot", "dashdot", "longdash", "dash")
COLUMNS = {
    "height_meV": "Height (meV)",
    "height_error_meV": "its error (meV)",
    "rmse_meV": "RMSE (meV)",
    "largest_meV": "Largest (meV)",
}
Array = NDArray[np.float64]

TEMPLATE = """\
<p>Energies of one set of geometries on each surface, from where the reference is lowest; curves of {{ shown }}. RMSE
and the largest error are of energies along the scan less their mean difference from the reference. Means ± standard
deviation over seeds.</p>
{{ figures }}
{% for table in tables %}
<div class="scroll"><table>
<caption>{{ table.title }}. The height is the energy at {{ table.high }} above that at {{ table.low }}
{{- table.unit }}.</caption>
<thead><tr><th scope="col" class="number">Frames</th><th scope="col">Surface</th>
{% for column in columns %}<th scope="col" class="number">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr><td class="number">{{ row.size }}</td><td>{{ row.surface }}</td>
{% for cell in row.cells %}<td class="number">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
"""


@dataclass(frozen=True)
class Scanned:
    """The frames of a scan that have an energy, and what the reference and cheap levels say of them."""

    name: str
    coordinate: str
    """In words."""
    unit: str
    periodic: bool
    values: Array
    """(M,) of the coordinate, in the order of the scan."""
    reference: Array
    """(M,), eV."""
    cheap: dict[str, Array]
    """By level."""
    places: NDArray[np.int64]
    """(M,) of these frames among all of the test set, which models have predicted."""

    @property
    def ends(self) -> Ends:
        """Where heights are taken."""
        return ends_of(self.reference, self.periodic)

    @property
    def axis(self) -> str:
        """The title of the coordinate's axis."""
        return f"{self.coordinate} ({self.unit})"


class Scans(ReportSection):
    """Curves and a table a scan, for each dataset and model."""

    title = "Scans"
    place = 26
    each = True

    def panels(self, context: Context) -> list[Panel]:
        """Return a figure for each scan."""
        return [_panel(scanned, _example(scanned, rows, context), context) for scanned, rows in _scans(context)]

    def html(self, context: Context) -> str:
        """Return figures and tables; nothing where no test set is a scan."""
        tables = [_table(scanned, rows) for scanned, rows in _scans(context)]
        if not tables:
            return ""
        figures = panels(self.panels(context))
        return render(TEMPLATE, shown=context.example()[0], figures=figures, tables=tables, columns=COLUMNS.values())


def _scans(context: Context) -> Iterator[tuple[Scanned, pd.DataFrame]]:
    """Yield the scans of the one dataset here, each with the rows of the runs here."""
    dataset = str(context.runs["dataset"].iloc[0])
    files = {path.stem: path for path in context.test_sets if dataset_of(path) == dataset}
    for name, rows in context.of_tests():
        section = context.experiment.datasets[dataset]
        coordinate = coordinate_of(section.tests[name])
        if coordinate is not None:
            yield scanned_of(name, coordinate, files[name], section.further_levels), rows


def coordinate_of(test: ComputedTest | GivenTest) -> tuple[str, str] | None:
    """Return the coordinate of a test set in words, and its unit; None where that is no scan."""
    scan = test.scan if isinstance(test, ComputedTest) else None
    if scan is not None and scan.mode is not None:
        return f"Vibration {scan.mode}", "√(ħ/ω)"
    atoms = test.along if scan is None else scan.along
    if atoms is None:
        return None
    kind, unit = KINDS[len(atoms)]
    return f"{kind.capitalize()} {'-'.join(map(str, atoms))}", unit


def scanned_of(name: str, coordinate: tuple[str, str], path: Path, levels: list[str]) -> Scanned:
    """Read a scan.

    Args:
        name: of the test set.
        coordinate: as of `coordinate_of`.
        path: dataset file of the test set.
        levels: names of levels whose labels it may have; those that lack a frame are no curve, and left out.
    """
    with Dataset(path) as dataset:
        test = dataset.indices(TEST)
        places = np.flatnonzero(dataset.labelled(REFERENCE, "energy")[test])
        structures = dataset.structures(test[places])
        whole = [level for level in levels if dataset.labelled(level, "energy")[test[places]].all()]
    words, unit = coordinate
    return Scanned(
        name=name,
        coordinate=words,
        unit=unit,
        periodic=words.startswith("Dihedral"),
        values=np.array([structure.coordinate for structure in structures]),
        reference=np.array([structure.energy for structure in structures]),
        cheap={
            level: np.array([structure.at_level(level).energy for structure in structures], dtype=float)
            for level in whole
        },
        places=places,
    )


def _example(scanned: Scanned, rows: pd.DataFrame, context: Context) -> dict[str, Array]:
    """Return the energies, eV, of one run of each loss, as the figures of other sections show them."""
    shown = rows[rows["size"] == rows["size"].max()]
    shown = shown[shown["seed"] == shown["seed"].iloc[0]]
    return {row.loss: _energies(scanned, row.predictions) for row in shown.itertuples()}


def _energies(scanned: Scanned, path: Path) -> Array:
    """Return what a model says of the frames of a scan, eV."""
    return read_predictions(path)["energy"].predicted[scanned.places]


def _panel(scanned: Scanned, models: dict[str, Array], context: Context) -> Panel:
    cheap = {
        level: (energies, Look(GREY, CHEAP_DASHES[number % len(CHEAP_DASHES)]))
        for number, (level, energies) in enumerate(scanned.cheap.items())
    }
    curves = cheap | {loss: (energies, context.looks[loss]) for loss, energies in models.items()}
    hover = f"%{{x:.4g}} {scanned.unit}, %{{y:.4g}} meV"
    reference = Series(
        "reference", scanned.values, _relative(scanned.reference, scanned), Look(GREY), points=8, hover=hover
    )
    lines = [
        Series(name, scanned.values, _relative(energies, scanned), look, line=2, hover=hover)
        for name, (energies, look) in curves.items()
    ]
    return Panel(
        name=f"scan-{scanned.name}",
        title=scanned.name,
        said=f"{scanned.name}: energy along {scanned.axis}, of reference, {', '.join(curves)}.",
        x=Axis(scanned.axis),
        y=Axis("energy (meV)"),
        series=(reference, *lines),
    )


def _relative(energies: Array, scanned: Scanned) -> Array:
    return np.asarray(MILLI * (energies - energies[scanned.ends.low]))


def _table(scanned: Scanned, rows: pd.DataFrame) -> dict[str, object]:
    ends = scanned.ends
    own = curve_errors(scanned.reference, scanned.reference, ends)
    untrained = [{"size": "–", "surface": "reference", "cells": [rounded(own["height_meV"], 4), "–", "–", "–"]}]
    for level, energies in scanned.cheap.items():
        found = curve_errors(scanned.reference, energies, ends)
        untrained.append({"size": "–", "surface": level, "cells": [rounded(found[name], 3) for name in COLUMNS]})
    return {
        "title": f"{scanned.name}, {scanned.coordinate.lower()}",
        "low": f"{scanned.values[ends.low]:.4g}",
        "high": f"{scanned.values[ends.high]:.4g}",
        "unit": f" {scanned.unit}",
        "rows": [*untrained, *_trained(scanned, rows)],
    }


def _trained(scanned: Scanned, rows: pd.DataFrame) -> Iterator[dict[str, object]]:
    measures = pd.DataFrame(
        [curve_errors(scanned.reference, _energies(scanned, path), scanned.ends) for path in rows["predictions"]],
        index=rows.index,
    )
    for group, own in rows[[*AXES, "observation"]].join(measures).groupby(["size", "loss"], sort=False):
        size, loss = cast(tuple[int, str], group)
        cells = [_cell(observed(own, name)) for name in COLUMNS]
        yield {"size": size, "surface": loss, "cells": cells}


def _cell(values: pd.Series) -> str:
    mean = rounded(float(values.mean()), 3)
    return f"{mean} ± {rounded(float(values.std()), 2)}" if len(values) > 1 else mean
