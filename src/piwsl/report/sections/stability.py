"""How the dynamics of every run went: how long replicas stayed stable, and how like the reference they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, cast

import numpy as np
import pandas as pd

from piwsl.config import ReplicaSimulation
from piwsl.records import Stability, read_record
from piwsl.report.context import Context
from piwsl.report.figures import panels
from piwsl.report.markup import render, rounded
from piwsl.report.panels import GREY, Axis, Look, Panel, Series, at_values, one_two_five
from piwsl.report.sections import ReportSection
from piwsl.report.sections.learning_curves import of_losses
from piwsl.simulation.survival import SurvivalPoint, in_words, kaplan_meier

TEMPLATE = """{% for simulation in simulations %}
<p><strong>{{ simulation.name }}</strong>: {{ simulation.words }}.
{% if simulation.reactive %} Not judged, for reference frames themselves take them that far: the bonds
{{ simulation.reactive }}.{% endif %}</p>
<div class="scroll"><table>
<thead><tr><th class="number">Frames</th><th>Loss</th><th>Stability</th>
{% for title in simulation.columns %}<th class="number">{{ title | whole }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in simulation.rows %}
<tr><td class="number">{{ row.size }}</td><td>{{ row.loss }}</td><td>{{ row.stability }}
{%- if row.reasons %}<span class="more">{{ row.reasons }}</span>{% endif %}</td>
{% for title in simulation.columns %}<td class="number">{{ row.cells[title] }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{{ simulation.figures }}
{% endfor %}
<p class="soft">Figures are of the largest size, h(r) and spectra of its first seed. Shares of stable replicas are
estimates of Kaplan and Meier: thin lines are seeds, the thick one is of the replicas of all seeds together. How far
seeds lie apart says how sure that is. Of one seed alone there is a band, the 95 % interval of Clopper and Pearson for
more replicas of the same model; of other seeds it says nothing. h(r) is the distribution of all distances within a
molecule, its error the integral of the difference to the test frames, from 0 to 2. These were sampled at temperatures
of their own, so that it is not 0 for a perfect model. Mean temperatures, one a bath, scatter about it by about
√(2/fn) of it for f degrees of freedom and n = replicas × time × friction.</p>
"""
# Of a vibrational spectrum, cm⁻¹.
SPECTRUM = (0.0, 4500.0)
# How far above the highest value an axis that begins at 0 goes.
ABOVE = 1.05
# Lines of seeds.
THIN, FAINT = 1.0, 0.6
UNKNOWN = "–"
COLUMNS = ("Mean T (K)", "Error of h(r)", "Drift (meV/atom/ps)")


@dataclass(frozen=True)
class _Kind:
    """The records of one simulation, size and loss: a seed each."""

    size: int
    loss: str
    records: list[Stability]

    @property
    def stable(self) -> list[float]:
        """ps, of all replicas of all seeds."""
        return [outcome.stable_ps for record in self.records for outcome in record.outcomes]

    @property
    def failed(self) -> list[bool]:
        """Likewise."""
        return [outcome.failed for record in self.records for outcome in record.outcomes]

    def row(self) -> dict[str, Any]:
        """Return the cells of a table, those of `COLUMNS` by their titles."""
        reasons = dict.fromkeys(outcome.reason for record in self.records for outcome in record.outcomes)
        errors = [found.error for record in self.records for found in record.distances]
        drifts = [record.drift_meV_per_atom_per_ps for record in self.records]
        cells = (
            self._temperatures(),
            _mean(errors, 2),
            _mean([drift.mean for drift in drifts if drift is not None and drift.mean is not None], 2),
        )
        return {
            "size": self.size,
            "loss": self.loss,
            "stability": self._stability(),
            "reasons": "; ".join(reason for reason in reasons if reason),
            "cells": dict(zip(COLUMNS, cells, strict=True)),
        }

    def _temperatures(self) -> str:
        """Return the mean of each bath over the seeds that know one, as the config has them in order."""
        of_seeds = [record.mean_temperatures_K or [record.mean_temperature_K] for record in self.records]
        baths = [_mean([each for each in of_bath if each is not None], 3) for of_bath in zip_longest(*of_seeds)]
        return ", ".join(baths) if set(baths) != {UNKNOWN} else UNKNOWN

    def _stability(self) -> str:
        """Say how many replicas failed: of all seeds, for seeds are models of their own, and of each."""
        if not self.stable:
            return self.records[0].ended
        words = in_words(self.stable, self.failed, self.records[0].time_ps)
        of_seeds = [sum(outcome.failed for outcome in record.outcomes) for record in self.records]
        return f"{words}; by seed {', '.join(map(str, of_seeds))}" if len(of_seeds) > 1 and any(of_seeds) else words


def _mean(values: list[float], digits: int) -> str:
    return rounded(sum(values) / len(values), digits) if values else UNKNOWN


class StabilityOfDynamics(ReportSection):
    """A table and figures for each simulation, dataset and model."""

    title = "Stability of molecular dynamics"
    place = 30
    each = True

    def panels(self, context: Context) -> list[Panel]:
        """Return the figures of all simulations."""
        return [panel for name in context.experiment.simulations for panel in _panels(name, context)]

    def html(self, context: Context) -> str:
        """Return the tables and figures; nothing without a simulation."""
        every = [_shown(name, section, context) for name, section in context.experiment.simulations.items()]
        simulations = [shown for shown in every if shown["rows"]]
        return render(TEMPLATE, simulations=simulations) if simulations else ""


def _shown(name: str, section: ReplicaSimulation, context: Context) -> dict[str, object]:
    kinds = list(_kinds(name, context))
    rows = [kind.row() for kind in kinds]
    ensemble = "constant energy" if section.ensemble == "nve" else "Langevin dynamics"
    reactive = {bond for kind in kinds for record in kind.records for bond in record.reactive_bonds}
    return {
        "name": name,
        "words": f"{ensemble}, {section.conditions}, timestep {section.timestep:g} fs",
        "reactive": ", ".join(sorted(reactive)),
        # The drift, of what runs in a heat bath, is no row's.
        "columns": [title for title in COLUMNS if any(row["cells"][title] != UNKNOWN for row in rows)],
        "rows": rows,
        "figures": panels(_panels(name, context), height=360),
    }


def _panels(name: str, context: Context) -> list[Panel]:
    """Return the figures of a simulation: of what is known."""
    kinds, looks = list(_kinds(name, context)), context.looks
    largest = [kind for kind in kinds if kind.size == max(kind.size for kind in kinds)]
    drawn = (survival(name, largest, looks), drift(name, kinds, looks), distances(name, largest, looks),
             spectra(name, largest, looks))  # fmt: skip
    return [panel for panel in drawn if panel is not None]


def _kinds(name: str, context: Context) -> Iterator[_Kind]:
    for group, runs in context.runs.groupby(["size", "loss"], sort=False):
        size, loss = cast(tuple[int, str], group)
        simulated = runs[[name in context.files[index].simulations for index in runs.index]]
        once = simulated.drop_duplicates("observation")  # replicas of one seed start as those of another
        found = [context.files[index].simulations[name] for index in once.index]
        if found:  # none of an experiment that is not finished
            yield _Kind(size, loss, [read_record(Stability, path) for path in found])


def survival(simulation: str, kinds: Sequence[_Kind], looks: Mapping[str, Look]) -> Panel | None:
    """Draw which share of replicas is stable after a time, a curve a loss; None of records without replicas.

    Of several seeds each has a curve, too. Replicas of one seed are of one model: those of all together are not
    independent, so that an interval is of one seed alone.

    Args:
        simulation: its name.
        kinds: of one size.
        looks: by loss.
    """
    series, said = [], []
    for kind in kinds:
        if kind.stable:
            curve, look = kaplan_meier(kind.stable, kind.failed), looks[kind.loss]
            seeds = [record for record in kind.records if record.outcomes]
            if len(seeds) > 1:
                series += [_of_seed(kind.loss, record, look) for record in seeds]
            whole = _survival(kind.loss, curve, look)
            band = None if len(seeds) > 1 else ([point.low for point in curve], [point.high for point in curve])
            series.append(replace(whole, points=6, line=2, band=band))
            said.append(f"{kind.loss} {rounded(curve[-1].survival, 2)} after {rounded(curve[-1].time, 2)} ps")
    return _panel(
        f"survival-{simulation}",
        "Stable replicas",
        f"Share of replicas that are stable in '{simulation}' against time: {'; '.join(said)}.",
        Axis("time (ps)"),
        Axis("share", range=(0.0, ABOVE)),
        series,
    )


def _survival(loss: str, curve: Sequence[SurvivalPoint], look: Look) -> Series:
    times, shares = [point.time for point in curve], [point.survival for point in curve]
    return Series(loss, x=times, y=shares, look=look, hover="%{y:.2f} from %{x:.3g} ps on", steps=True)


def _of_seed(loss: str, record: Stability, look: Look) -> Series:
    outcomes = record.outcomes
    curve = kaplan_meier([outcome.stable_ps for outcome in outcomes], [outcome.failed for outcome in outcomes])
    hover = f"seed {record.seed}: %{{y:.2f}} from %{{x:.3g}} ps on"
    return replace(_survival(loss, curve, look), line=THIN, opacity=FAINT, legend=False, hover=hover)


def drift(simulation: str, kinds: Sequence[_Kind], looks: Mapping[str, Look]) -> Panel | None:
    """Draw the size of the mean drift of the total energy against the number of labelled frames.

    Args:
        simulation: its name.
        kinds: of all sizes.
        looks: by loss.

    Returns:
        None where no drift is known, as of what runs in a heat bath.
    """
    known = [
        {"size": kind.size, "loss": kind.loss, "seed": record.seed, "drift": abs(found.mean)}
        for kind in kinds
        for record in kind.records
        if (found := record.drift_meV_per_atom_per_ps) is not None and found.mean is not None
    ]
    if not known:
        return None
    table, title = pd.DataFrame(known), "|drift| (meV/atom/ps)"
    means = table.groupby("loss", sort=False)["drift"].mean()
    said = "; ".join(f"{loss} {rounded(mean, 2)}" for loss, mean in means.items())
    return _panel(
        f"drift-{simulation}",
        "Drift of the energy",
        f"Size of the drift of the energy in '{simulation}', meV/atom/ps, against labelled frames; means: {said}.",
        at_values("labelled frames", table["size"]),
        one_two_five(title, table["drift"]),
        list(of_losses("drift", table, looks)),
    )


def distances(simulation: str, kinds: Sequence[_Kind], looks: Mapping[str, Look]) -> Panel | None:
    """Draw h(r) of the first molecule beside that of the test frames, a curve a loss; None where it is not known.

    Args:
        simulation: its name.
        kinds: of one size; of the first seed of each.
        looks: by loss.
    """
    found = {kind.loss: kind.records[0].distances[0] for kind in kinds if kind.records[0].distances}
    series = [
        Series(loss, shown.r_A, shown.density_per_A, looks[loss], line=1.5, hover="%{x:.2f} Å: %{y:.3g}")
        for loss, shown in found.items()
    ]
    for shown in [*found.values()][-1:]:
        series.append(Series("test frames", shown.r_A, shown.reference_per_A, Look(GREY, "dot"), line=1.5))
    formula = next((shown.formula for shown in found.values()), "")
    errors = "; ".join(f"{loss} {rounded(shown.error, 2)}" for loss, shown in found.items())
    return _panel(
        f"distances-{simulation}",
        "Distances",
        f"Distribution h(r) of distances in {formula} in '{simulation}' beside the test frames; its error: {errors}.",
        Axis(f"distance in {formula} (Å)"),
        _from_zero("h(r) (1/Å)", series),
        series,
    )


def spectra(simulation: str, kinds: Sequence[_Kind], looks: Mapping[str, Look]) -> Panel | None:
    """Draw vibrational spectra, a curve a loss; None where no velocities were kept.

    Args:
        simulation: its name.
        kinds: of one size; of the first seed of each.
        looks: by loss.
    """
    found = {kind.loss: spectrum for kind in kinds if (spectrum := kind.records[0].spectrum) is not None}
    series = [
        Series(loss, shown.wavenumber_per_cm, shown.intensity, looks[loss], line=1.5, hover="%{x:.0f} cm⁻¹: %{y:.2f}")
        for loss, shown in found.items()
    ]
    highest = "; ".join(
        f"{loss} {shown.wavenumber_per_cm[int(np.argmax(shown.intensity))]:.0f}" for loss, shown in found.items()
    )
    return _panel(
        f"spectrum-{simulation}",
        "Vibrational spectrum",
        f"Vibrational spectrum in '{simulation}'; its highest peak, cm⁻¹: {highest}.",
        Axis("wavenumber (cm⁻¹)", range=SPECTRUM),
        _from_zero("intensity (largest is 1)", series),
        series,
    )


def _panel(name: str, title: str, said: str, x: Axis, y: Axis, series: Sequence[Series]) -> Panel | None:
    return Panel(name, title, said, x, y, tuple(series)) if series else None


def _from_zero(title: str, series: Sequence[Series]) -> Axis:
    """Return an axis from 0 to above all values."""
    highest = max((float(np.nanmax(one.y)) for one in series), default=1.0)
    return Axis(title, range=(0.0, ABOVE * highest))
