"""The best potential of each dataset, in a sentence: what it learned from, how wrong it is, and what costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from piwsl.config import ComputedDataset, Experiment
from piwsl.data.dataset import TRAINING, Dataset
from piwsl.report.context import Context
from piwsl.report.markup import render, rounded
from piwsl.report.sections import ReportSection
from piwsl.report.sections.errors import BY_SLOPES, force_measure
from piwsl.report.tables import observed
from piwsl.report.words import level_in_words, model_in_words
from piwsl.structures.labels import REFERENCE

TEMPLATE = """\
<p>The model with the smallest errors on the test frames
{%- if corrected %}, among those that run by themselves, without a cheap level at every step{% endif %}: geometric mean
of energies and forces (energies alone where nothing is known of test forces), means over seeds. It was chosen by these
same errors, which flatters it a little.</p>
<ul class="verdicts">
{% for line in lines %}
<li class="{{ line.kind }}">{{ line.text }}<span class="where">{{ line.where }}</span></li>
{% endfor %}
</ul>
"""


class BestPotential(ReportSection):
    """A line a dataset."""

    title = "The best potential"
    place = 15

    def html(self, context: Context) -> str:
        """Return a line for each dataset of which any model has errors that are numbers."""
        lines, any_corrected = [], False
        for dataset, runs in context.runs.groupby("dataset", sort=False):
            alone, corrected = best(runs, context.experiment)
            if alone or corrected:
                any_corrected |= corrected is not None
                lines.append(line(str(dataset), alone, corrected, context))
        return render(TEMPLATE, lines=lines, corrected=any_corrected) if lines else ""


@dataclass(frozen=True)
class Candidate:
    """A model with its loss at one size: means over seeds."""

    model: str
    loss: str
    size: int
    seeds: int
    """Those that are one observation count as one."""
    energy: float
    """Mean absolute error, meV."""
    force: float
    """Likewise, meV/Å, or the root mean square error that slopes say; NaN where no test frame has either."""
    stable_ps: float
    """NaN, as the time and how many failed, of what is not simulated."""
    time_ps: float
    failed: float
    """How many replicas of all seeds; NaN, too, of records of one replica that do not count it."""
    force_measure: str = "force_mae_meV_per_A"
    """Which of the two."""

    @property
    def is_simulated(self) -> bool:
        """Whether any of its seeds is."""
        return not np.isnan(self.time_ps)

    @property
    def score(self) -> float:
        """What is smallest of the best: geometric mean of both errors, or the one that there is; NaN of no number."""
        return self.energy if np.isnan(self.force) else float(np.sqrt(self.energy * self.force))


def ranked(runs: pd.DataFrame, experiment: Experiment) -> tuple[list[Candidate], list[Candidate]]:
    """Return the models that run by themselves, and those that correct a cheap level, the best first.

    Args:
        runs: of one dataset.
        experiment: says which correct a cheap level.
    """
    found = sorted(candidates(runs), key=lambda candidate: candidate.score)
    alone = [candidate for candidate in found if experiment.models[candidate.model].baseline is None]
    return alone, [candidate for candidate in found if candidate not in alone]


def best(runs: pd.DataFrame, experiment: Experiment) -> tuple[Candidate | None, Candidate | None]:
    """Return the first of each kind of `ranked`, if there is one; arguments as there."""
    alone, corrected = ranked(runs, experiment)
    return next(iter(alone), None), next(iter(corrected), None)


def candidates(runs: pd.DataFrame) -> Iterator[Candidate]:
    """Yield all models, losses and sizes of one dataset, but for those of which an error of any seed is no number."""
    measure = force_measure(runs)
    forces_known = runs[measure].notna().any()
    for group, rows in runs.groupby(["model", "loss", "size"], sort=False):
        model, loss, size = cast(tuple[str, str, int], group)
        candidate = Candidate(
            model,
            loss,
            size,
            seeds=rows["observation"].nunique(),
            energy=float(observed(rows, "energy_mae_meV").mean(skipna=False)),
            force=float(observed(rows, measure).mean(skipna=False)),
            stable_ps=float(observed(rows, "stable_ps").mean()),
            time_ps=float(rows["time_ps"].max()),
            failed=float(rows["failed"].sum(min_count=1)),
            force_measure=measure,
        )
        errors = [candidate.energy, *([candidate.force] if forces_known else [])]
        if np.isfinite(errors).all():
            yield candidate


def line(dataset: str, alone: Candidate | None, corrected: Candidate | None, context: Context) -> dict[str, str]:
    """Say in words what the best model of a dataset is worth.

    Args:
        dataset: its name.
        alone: the best that runs by itself, if any.
        corrected: the best that corrects a cheap level; one of both there is.
        context: what else is known of the dataset.

    Returns:
        text; where, in small letters; kind: "better" than each cheap level, "worse" than one, or "undecided".
    """
    shown = alone or cast(Candidate, corrected)
    experiment = context.experiment
    # A level that files bring is known at no other geometry: nobody has it in place of a model.
    computed = context.cheap["level"].isin(experiment.datasets[dataset].cheap_levels)
    cheap = context.cheap[(context.cheap["dataset"] == dataset) & computed]
    compared = [against(shown, row, level_in_words(experiment, row["level"])) for _, row in cheap.iterrows()]
    said = [f"{_result(shown, dataset, context)}{': ' if compared else ''}{'; '.join(text for text, _ in compared)}"]
    if experiment.first_simulation is not None and shown.is_simulated:
        said.append(dynamics(shown, experiment.first_simulation.conditions))
    if alone is None:
        said.append(f"It computes {_baseline(shown, experiment)} at every step; no model here runs by itself")
    elif corrected is not None and corrected.score < alone.score:
        named = f"{corrected.model} ({corrected.loss}), which computes {_baseline(corrected, experiment)} at every step"
        learned = learned_from(corrected, dataset, context)
        said.append(f"Better is {named}, with {learned}: {errors_in_words(corrected)}")
    where = f"{dataset}, {'one seed' if shown.seeds == 1 else f'means over {shown.seeds} seeds'}"
    return {"text": ". ".join(said) + ".", "where": where, "kind": _kind([kind for _, kind in compared])}


def _result(shown: Candidate, dataset: str, context: Context) -> str:
    """Say what a model learned from, which it is, and its errors."""
    more = model_in_words(shown.model, context.experiment.models[shown.model])
    name = f"{shown.model} ({'; '.join(filter(None, (more, shown.loss)))})"
    return f"With {learned_from(shown, dataset, context)}, {name} errs on average by {errors_in_words(shown)}"


def _baseline(candidate: Candidate, experiment: Experiment) -> str:
    return level_in_words(experiment, str(experiment.models[candidate.model].baseline))


def errors_in_words(candidate: Candidate) -> str:
    """Return mean errors, those of forces where they are known, or what slopes say of them."""
    energies = f"{rounded(candidate.energy, 3)} meV in energies"
    if np.isnan(candidate.force):
        return energies
    by_slopes = " (root mean square, by slopes)" if candidate.force_measure == BY_SLOPES else ""
    return f"{energies} and {rounded(candidate.force, 3)} meV/Å in forces{by_slopes}"


def learned_from(candidate: Candidate, dataset: str, context: Context) -> str:
    """Return how many labels of the reference level a model had, its teachers' included, and the level.

    Args:
        candidate: whose frames for validation count, too.
        dataset: its name.
        context: the config says the level; of given frames, the file how many have energies, and forces.
    """
    experiment = context.experiment
    losses, teacher = [experiment.losses[candidate.loss]], experiment.models[candidate.model].teacher
    while teacher is not None:
        losses.append(experiment.losses[teacher.loss])
        teacher = experiment.models[teacher.model].teacher
    energies, forces = (labelled(context.datasets, dataset, quantity) for quantity in ("energy", "forces"))
    section = experiment.datasets[dataset]
    level = level_in_words(experiment, section.level) if isinstance(section, ComputedDataset) else section.level
    of_level = f" ({level})" if level else ""
    if not any(loss.energy for loss in losses):
        return f"the reference forces of {'' if forces.all() else 'some of '}{candidate.size} frames{of_level}"
    said = energies_in_words(energies, candidate.size, of_level)
    if not forces.any() or not any(loss.forces for loss in losses):
        return said
    if energies.all():
        return f"{said} and {'the forces' if forces.all() else 'forces of some'} of these frames"
    return f"{said} and {'the forces of all' if forces.all() else 'forces of some of them'}"


def energies_in_words(known: NDArray[np.bool_], size: int, of_level: str) -> str:
    """Say how many reference energies so many frames have.

    Args:
        known: (M,), which training frames of the dataset have one.
        size: how many of these are taken; of fewer than all, how many have one differs from seed to seed.
        of_level: the level in brackets.
    """
    if known.all():
        return f"{size} reference energies{of_level}"
    return f"reference energies of {known.sum() if size == len(known) else 'some'} of {size} frames{of_level}"


def training_frames(paths: list[Path], dataset: str) -> int | None:
    """Return how many training frames a dataset has; None without a file."""
    for path in paths:
        if path.parent.name == dataset:
            with Dataset(path) as opened:
                return len(opened.indices(TRAINING))
    return None


def labelled(paths: list[Path], dataset: str, quantity: Literal["energy", "forces"]) -> NDArray[np.bool_]:
    """Return which training frames of a dataset have a label of the reference level, (M,).

    Without a file no frame is known: all of them have it, and none has.
    """
    for path in paths:
        if path.parent.name == dataset:
            with Dataset(path) as opened:
                return opened.labelled(REFERENCE, quantity)[opened.indices(TRAINING)]
    return np.empty(0, dtype=np.bool_)


def against(candidate: Candidate, cheap: pd.Series, level: str) -> tuple[str, str]:
    """Compare a model with a cheap level.

    Args:
        candidate: the model.
        cheap: errors of the level, a row of `Context.cheap`.
        level: its name in words.

    Returns:
        The words, and a verdict: "better" or "worse" in all that is known, else "undecided".
    """
    below = {"energies": candidate.energy < cheap["energy_mae_meV"]}
    figures = f"{rounded(cheap['energy_mae_meV'], 3)} meV"
    if not np.isnan(candidate.force):
        below["forces"] = candidate.force < cheap[candidate.force_measure]
        figures += f", {rounded(cheap[candidate.force_measure], 3)} meV/Å"
    gives = f"what {level} gives, which needs no training ({figures})"
    if all(below.values()):
        return f"below {gives}", "better"
    if not any(below.values()):
        return f"not below {gives}", "worse"
    (lower,) = (quantity for quantity, smaller in below.items() if smaller)
    return f"only in {lower} below {gives}", "undecided"


def _kind(verdicts: list[str]) -> str:
    """Return what holds against all cheap levels: as good as the least verdict."""
    if "worse" in verdicts:
        return "worse"
    return "better" if verdicts and set(verdicts) == {"better"} else "undecided"


def dynamics(candidate: Candidate, conditions: str) -> str:
    """Say how long simulations stayed stable, on average where there are several; time and temperature in words.

    Steps need not divide the time: the last of a simulation in which nothing failed may end before it.
    """
    if candidate.failed == 0 or candidate.stable_ps >= candidate.time_ps:
        return f"Its dynamics stayed stable for all of {conditions}"
    return f"Its dynamics stayed stable for {rounded(candidate.stable_ps, 2)} of {conditions} on average"
