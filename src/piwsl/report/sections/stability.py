"""How the dynamics of every run went: how long replicas stayed stable, and how like the reference they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import plotly.graph_objects as go
from markupsafe import Markup

from piwsl.config import ReplicaSimulation
from piwsl.records import Distances, Stability, read_record
from piwsl.report.context import Context
from piwsl.report.figures import fragment, styled
from piwsl.report.markup import render, rounded
from piwsl.report.sections import ReportSection
from piwsl.simulation.survival import SurvivalPoint, in_words, kaplan_meier

TEMPLATE = """{% for simulation in simulations %}
<p><strong>{{ simulation.name }}</strong>: {{ simulation.words }}.
{% if simulation.reactive %} Not judged, for reference frames themselves take them that far: the bonds
{{ simulation.reactive }}.{% endif %}</p>
<div class="scroll"><table>
<thead><tr><th class="number">Frames</th><th>Loss</th><th>Stability</th>
{% for title in simulation.columns %}<th class="number">{{ title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in simulation.rows %}
<tr><td class="number">{{ row.size }}</td><td>{{ row.loss }}</td><td>{{ row.stability }}
{%- if row.reasons %}<span class="more">{{ row.reasons }}</span>{% endif %}</td>
{% for cell in row.cells %}<td class="number">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% for figure in simulation.figures %}
{{ figure }}
{% endfor %}
{% endfor %}
<p class="soft">Shares of stable replicas are estimates of Kaplan and Meier over all seeds; bands are 95 % intervals of
Clopper and Pearson. h(r) is the distribution of all distances within a molecule, its error the integral of the
difference to the test frames, from 0 to 2. These were sampled at temperatures of their own, so that it is not 0 for a
perfect model.</p>
"""
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

    def row(self) -> dict[str, object]:
        """Return the cells of a table."""
        reasons = dict.fromkeys(outcome.reason for record in self.records for outcome in record.outcomes)
        words = in_words(self.stable, self.failed, self.records[0].time_ps) if self.stable else self.records[0].ended
        errors = [found.error for record in self.records for found in record.distances]
        drifts = [record.drift_meV_per_atom_per_ps for record in self.records]
        cells = [
            _mean([record.mean_temperature_K for record in self.records], 3),
            _mean(errors, 2),
            _mean([drift.mean for drift in drifts if drift is not None and drift.mean is not None], 2),
        ]
        return {
            "size": self.size,
            "loss": self.loss,
            "stability": words,
            "reasons": "; ".join(reason for reason in reasons if reason),
            "cells": cells,
        }


def _mean(values: list[float], digits: int) -> str:
    return rounded(sum(values) / len(values), digits) if values else "–"


class StabilityOfDynamics(ReportSection):
    """A table and figures for each simulation, dataset and model."""

    title = "Stability of molecular dynamics"
    place = 30
    each = True

    def html(self, context: Context) -> str:
        """Return the tables and figures; nothing without a simulation."""
        every = [_shown(name, section, context) for name, section in context.experiment.simulations.items()]
        simulations = [shown for shown in every if shown["rows"]]
        return render(TEMPLATE, simulations=simulations) if simulations else ""


def _shown(name: str, section: ReplicaSimulation, context: Context) -> dict[str, object]:
    kinds = list(_kinds(name, context))
    largest = [kind for kind in kinds if kind.size == max(kind.size for kind in kinds)]
    figures = [survival(largest, context.colours)]
    if any(record.distances for kind in largest for record in kind.records):
        figures.append(distances(largest, context.colours))
    if any(record.spectrum for kind in largest for record in kind.records):
        figures.append(spectra(largest, context.colours))
    ensemble = "constant energy" if section.ensemble == "nve" else "Langevin dynamics"
    reactive = {bond for kind in kinds for record in kind.records for bond in record.reactive_bonds}
    return {
        "name": name,
        "words": f"{ensemble}, {section.conditions}, timestep {section.timestep:g} fs",
        "reactive": ", ".join(sorted(reactive)),
        "columns": COLUMNS,
        "rows": [kind.row() for kind in kinds],
        "figures": [Markup(fragment(figure)) for figure in figures],
    }


def _kinds(name: str, context: Context) -> Iterator[_Kind]:
    for group, runs in context.runs.groupby(["size", "loss"], sort=False):
        size, loss = cast(tuple[int, str], group)
        found = [path for index in runs.index if (path := context.files[index].simulations.get(name))]
        if found:  # none of an experiment that is not finished
            yield _Kind(size, loss, [read_record(Stability, path) for path in found])


def survival(kinds: list[_Kind], colours: dict[str, str]) -> go.Figure:
    """Draw which share of replicas is stable after a time, a curve a loss.

    Args:
        kinds: of one size.
        colours: by loss.
    """
    figure = go.Figure()
    for kind in kinds:
        if not kind.stable:
            continue
        curve = kaplan_meier(kind.stable, kind.failed)
        figure.add_trace(_band(curve, colours[kind.loss]))
        figure.add_trace(
            go.Scatter(
                x=[point.time for point in curve],
                y=[point.survival for point in curve],
                line={"shape": "hv", "color": colours[kind.loss]},
                mode="lines",
                name=kind.loss,
            )
        )
    figure.update_xaxes(title_text="time (ps)", rangemode="tozero")
    figure.update_yaxes(title_text="stable replicas (share)", range=[0, 1.05])
    return styled(figure, height=340)


def _band(curve: list[SurvivalPoint], colour: str) -> go.Scatter:
    times, lows, highs = zip(*((point.time, point.low, point.high) for point in curve), strict=True)
    stepped = [time for time in times for _ in (0, 1)][1:]
    low, high = ([value for value in values for _ in (0, 1)][:-1] for values in (lows, highs))
    return go.Scatter(
        x=[*stepped, *stepped[::-1]],
        y=[*high, *low[::-1]],
        mode="lines",
        fill="toself",
        fillcolor=colour,
        opacity=0.15,
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )


def distances(kinds: list[_Kind], colours: dict[str, str]) -> go.Figure:
    """Draw h(r) of the first molecule beside that of the reference frames, a curve a loss.

    Args:
        kinds: of one size; of the first seed of each.
        colours: by loss.
    """
    figure = go.Figure()
    shown: Distances | None = None
    for kind in kinds:
        found = kind.records[0].distances
        if not found:
            continue
        shown = found[0]
        line = {"color": colours[kind.loss], "width": 1.5}
        figure.add_trace(go.Scatter(x=shown.r_A, y=shown.density_per_A, name=kind.loss, line=line, mode="lines"))
    if shown is not None:
        line = {"color": "#616e7c", "dash": "dot"}
        figure.add_trace(go.Scatter(x=shown.r_A, y=shown.reference_per_A, name="test frames", line=line, mode="lines"))
        figure.update_xaxes(title_text=f"distance in {shown.formula} (Å)")
    figure.update_yaxes(title_text="h(r) (1/Å)", rangemode="tozero")
    return styled(figure, height=340)


def spectra(kinds: list[_Kind], colours: dict[str, str]) -> go.Figure:
    """Draw vibrational spectra, a curve a loss.

    Args:
        kinds: of one size; of the first seed of each.
        colours: by loss.
    """
    figure = go.Figure()
    for kind in kinds:
        found = kind.records[0].spectrum
        if found is not None:
            line = {"color": colours[kind.loss], "width": 1.5}
            figure.add_trace(
                go.Scatter(x=found.wavenumber_per_cm, y=found.intensity, name=kind.loss, line=line, mode="lines")
            )
    figure.update_xaxes(title_text="wavenumber (cm⁻¹)", range=[0, 4500])
    figure.update_yaxes(title_text="intensity (largest is 1)", rangemode="tozero")
    return styled(figure, height=340)
