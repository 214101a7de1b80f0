"""Predictions against labels of the test frames, and how their errors are distributed, of runs chosen in the page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from piwsl.evaluation.predictions import read_formulas, read_predictions
from piwsl.report.choice import Choosable, OfRun, chosen_in_page, points_of_run
from piwsl.report.context import Context
from piwsl.report.markup import render, rounded
from piwsl.report.panels import GREY, MOST_POINTS, Axis, Look, Panel, Series, one_two_five, thinned
from piwsl.report.sections import ReportSection

MILLI = 1000.0
# Where the distribution of a run is drawn, of all that it has.
SHARES = np.arange(0.02, 1.01, 0.02)
# Axes begin where so much of the distribution of each run lies below.
LEAST_SHARE = 0.1
LOOK = Look(GREY)
TEMPLATE = """\
<p>Energies of test frames, less the mean label of their composition, and components of forces, or slopes of the energy
along one direction of a frame, where these are labelled; the dashed line is perfect agreement. Beside them is the share
of all whose absolute error is at most so large.</p>
{{ figures }}
<p class="soft">{{ drawn }}</p>
"""

Pairs = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Labels, and what was predicted."""


class Parity(ReportSection):
    """Two figures of energies, of forces and of slopes for each dataset and model, where these are labelled."""

    title = "Parity"
    place = 20
    each = True

    def panels(self, context: Context) -> list[Panel]:
        """Return the figures of one run of each loss."""
        which, files = context.example()
        pairs = {loss: pairs_of(found.predictions) for loss, found in files.items()}
        of_runs = {loss: of_run(found, MOST_POINTS) for loss, found in pairs.items()}
        return [figure.of(which, of_runs, context.looks) for figure in figures(list(pairs.values()))]

    def html(self, context: Context) -> str:
        """Return the figures, and how many of the points are drawn; nothing where nothing is to be compared."""
        most = points_of_run(len(context.files))
        pairs = {index: pairs_of(context.files[index].predictions) for index in context.runs.index}
        of_runs = {index: of_run(found, most) for index, found in pairs.items()}
        shown = figures(list(pairs.values()))
        if not shown:
            return ""
        in_page = chosen_in_page(context, shown, of_runs, height=420)
        return render(TEMPLATE, figures=in_page, drawn=_drawn(pairs.values(), most))


def pairs_of(path: Path) -> dict[str, Pairs]:
    """Return what was predicted for the test frames beside the labels.

    Args:
        path: Parquet.

    Returns:
        `energy`, eV, both less the mean label of the frame's composition; `force`, components, eV/Å, and `slope`,
        eV/Å, none where none is labelled.
    """
    found = read_predictions(path)
    energy = found["energy"]
    mean = pd.Series(energy.label).groupby(read_formulas(path)).transform("mean").to_numpy()
    others = {name: (found[name].label, found[name].predicted) for name in ("force", "slope")}
    return {"energy": (energy.label - mean, energy.predicted - mean), **others}


@dataclass(frozen=True)
class _Quantity:
    name: str
    title: str
    """Of parity."""
    unit: str
    of_errors: str
    unit_of_errors: str


QUANTITIES = (
    _Quantity("energy", "Relative energies", "eV", "Errors of energies", "meV"),
    _Quantity("force", "Force components", "eV/Å", "Errors of force components", "meV/Å"),
    _Quantity("slope", "Slopes of the energy", "eV/Å", "Errors of slopes", "meV/Å"),
)


def figures(pairs: Sequence[Mapping[str, Pairs]]) -> list[Choosable]:
    """Return the figures without a run: parity and errors of energies and, where labelled, of forces and slopes.

    Args:
        pairs: of all runs that may be put into them, as of `pairs_of`; axes are the same for all.
    """
    shown = []
    for quantity in QUANTITIES:
        of_quantity = [_finite(of_run[quantity.name]) for of_run in pairs]
        if any(len(label) for label, _ in of_quantity):
            shown += [_parity(quantity, of_quantity), _distribution(quantity, of_quantity)]
    return shown


def _finite(pair: Pairs) -> Pairs:
    known = np.isfinite(pair[0]) & np.isfinite(pair[1])
    return pair[0][known], pair[1][known]


def _parity(quantity: _Quantity, pairs: Sequence[Pairs]) -> Choosable:
    labels = np.concatenate([label for label, _ in pairs])
    ends = [float(labels.min()), float(labels.max())]
    unit = quantity.unit
    return Choosable(
        empty=Panel(
            name=f"parity-{quantity.name}",
            title=quantity.title,
            said=f"{quantity.title}, models against the reference on the test frames",
            x=Axis(f"reference ({unit})"),
            y=Axis(f"model ({unit})"),
            series=(Series("equal", ends, ends, Look(GREY, "dash"), line=1, legend=False),),
        ),
        like=Series("", (), (), LOOK, points=6, opacity=0.65, hover="reference %{x:.3f}, model %{y:.3f} " + unit),
    )


def _distribution(quantity: _Quantity, pairs: Sequence[Pairs]) -> Choosable:
    """Return the empirical cumulative distribution of absolute errors.

    It is comparable between runs whose errors differ by orders of magnitude (Pernot and Savin, J. Chem. Phys. 148,
    241707 (2018)).
    """
    errors = [quantiles(label, predicted)[SHARES >= LEAST_SHARE] for label, predicted in pairs if len(label)]
    unit = quantity.unit_of_errors
    return Choosable(
        empty=Panel(
            name=f"errors-{quantity.name}",
            title=quantity.of_errors,
            said=f"{quantity.of_errors} of the test frames, which share of them is at most so large",
            x=one_two_five(f"absolute error ({unit})", pd.Series(np.concatenate(errors))),
            y=Axis("share (%)", range=(0.0, 100.0)),
            series=(),
        ),
        like=Series("", (), (), LOOK, line=2, hover="%{y:.0f} % below %{x:.3g} " + unit),
    )


def quantiles(label: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return below which absolute error, in thousandths of a unit, each of SHARES of some pairs lie, or at it."""
    return MILLI * np.quantile(np.abs(predicted - label), SHARES, method="inverted_cdf")


def of_run(pairs: Mapping[str, Pairs], most: int) -> dict[str, OfRun]:
    """Return what figures show of a run, by their names; of what is not labelled, nothing.

    Args:
        pairs: as of `pairs_of`.
        most: points of parity.
    """
    shown = {}
    for quantity in QUANTITIES:
        label, predicted = _finite(pairs[quantity.name])
        if len(label):
            mean = rounded(MILLI * float(np.abs(predicted - label).mean()), 3)
            errors, unit = quantiles(label, predicted), quantity.unit_of_errors
            half, most_of_them = (rounded(float(errors[np.argmin(np.abs(SHARES - share))]), 3) for share in (0.5, 0.9))
            words = f"mean absolute difference {mean} {unit}{_lost(pairs[quantity.name])}"
            shown[f"parity-{quantity.name}"] = OfRun(*thinned(label, predicted, most), words)
            words = f"half are up to {half}, 90 % up to {most_of_them} {unit}"
            shown[f"errors-{quantity.name}"] = OfRun(errors, 100.0 * SHARES, words)
    return shown


def _lost(pair: Pairs) -> str:
    lost = np.count_nonzero(np.isfinite(pair[0]) & ~np.isfinite(pair[1]))
    return f" ({lost} are no number)" if lost else ""


def _drawn(pairs: Collection[Mapping[str, Pairs]], most: int) -> str:
    """Return how many points of a run are drawn against the reference."""
    said = []
    for quantity, words in (("energy", "energies"), ("force", "force components"), ("slope", "slopes")):
        count = max(len(_finite(of_run[quantity])[0]) for of_run in pairs)
        if count:
            said.append(
                f"{most:,} of {count:,} {words}, chosen at random" if count > most else f"all {count:,} {words}"
            )
    return f"Drawn against the reference: {'; '.join(said)}. The shares are of all."
