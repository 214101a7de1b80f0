"""The first screen: what was asked, what came out, how sure that is and what it cost, in sentences with numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from piwsl.config import ComputedDataset
from piwsl.evaluation.comparison import CONFIDENCE, LEAST_SEEDS, Comparison
from piwsl.evaluation.predictions import read_predictions
from piwsl.report.context import Context
from piwsl.report.markup import render, rounded
from piwsl.report.sections import ReportSection
from piwsl.report.sections.best import Candidate, best, dynamics, errors_in_words, ranked, training_frames
from piwsl.report.sections.cost import cost_in_words, costs
from piwsl.report.sections.errors import mean_rows
from piwsl.report.sections.verdicts import INTERVAL_IN_WORDS, MEASURES, comparisons, pooled
from piwsl.report.words import level_in_words, model_in_words

MILLI = 1000.0
# Of more names, datasets and comparisons it is said how many there are.
MOST_NAMED = 4
UNDECIDED = "undecided"

TEMPLATE = """\
<dl class="summary">
{% for lead, lines in answers.items() if lines %}
<dt>{{ lead }}</dt>
<dd>{% for line in lines %}<p>{{ line }}</p>{% endfor %}</dd>
{% endfor %}
</dl>
"""


class Summary(ReportSection):
    """Four answers."""

    title = "In short"
    place = 12

    def html(self, context: Context) -> str:
        """Return the answers; of runs that are not there, and jobs that were not measured, nothing is said."""
        found = pooled(comparisons(context.runs, context.experiment)) if len(context.runs) else []
        spent = costs(context)
        answers = {
            "What was asked": [asked(context), *models_asked(context)],
            "What came out": [*came_out(context), *compared(found)],
            "How sure it is": [*how_sure(context), *decided(found)],
            "What it cost": [cost_in_words(spent)] if spent else [],
        }
        return render(TEMPLATE, answers=answers)


def asked(context: Context) -> str:
    """Say what was trained, on what, and which comparison was meant."""
    experiment = context.experiment
    models, datasets = list(experiment.models), [_dataset(name, context) for name in experiment.datasets]
    every = [run.size for run in experiment.runs()]
    sizes = " to ".join(map(str, dict.fromkeys((min(every), max(every)))))
    said = f"How well {named(models, 'models')} {_verb('predict', models)} {named(datasets, 'datasets')} "
    said += f"from {sizes} labelled frames"
    pairs = dict.fromkeys(pair for pairs in experiment.compared_losses().values() for pair in pairs)
    terms = {weak: ", ".join(experiment.losses[weak].terms) for weak, _ in pairs}
    words = {weak: weak if of == weak else f"{weak} ({of})" for weak, of in terms.items()}
    added = [f"what {words[weak]} adds to {plain}" for weak, plain in pairs]
    if len(added) > MOST_NAMED:
        added = [f"what {len(terms)} weak losses add to supervised ones"]
    said += "".join(f", and {each}" for each in added)
    runs, seeds = len(experiment.runs()), len(experiment.seeds)
    return f"{said}: {_count(runs, 'training')}, {_count(seeds, 'seed')}."


def models_asked(context: Context) -> Iterator[str]:
    """Yield what models are whose names do not say it, where they are few."""
    models = context.experiment.models
    words = {name: said for name, model in models.items() if (said := model_in_words(name, model))}
    if words and len(models) <= MOST_NAMED:
        yield f"{'; '.join(f'{name}: {said}' for name, said in words.items())}."


def _count(number: int, of: str) -> str:
    return f"{number} {of}" if number == 1 else f"{number} {of}s"


def _verb(verb: str, subjects: Sequence[str]) -> str:
    return f"{verb}s" if len(subjects) == 1 else verb


def _dataset(name: str, context: Context) -> str:
    section = context.experiment.datasets[name]
    level = level_in_words(context.experiment, section.level) if isinstance(section, ComputedDataset) else section.level
    return f"{name} ({level})" if level else name


def named(names: Sequence[str], kind: str) -> str:
    """Return names in a row, or how many of a kind there are where they are many."""
    if len(names) > MOST_NAMED:
        return f"{len(names)} {kind}"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def came_out(context: Context) -> Iterator[str]:
    """Yield a sentence on the best potential of each dataset, and how many models learned nothing.

    Beside it stands what needs no training. Of many datasets the first are told.
    """
    simulation = context.experiment.first_simulation
    told = best_of_each(context)
    for dataset, candidate in told[:MOST_NAMED]:
        section = context.experiment.datasets[dataset]
        of_files = {*section.further_levels} - {*section.cheap_levels}  # known of their frames, and in no model's place
        there = (context.not_trained["dataset"] == dataset) & ~context.not_trained["level"].isin(of_files)
        levels = context.not_trained[there]
        without = _rivals(levels, candidate.force_measure)
        beside = f"; without training: {'; '.join(without)}" if without else ""
        simulated = simulation is not None and candidate.is_simulated
        stable = f" {dynamics(candidate, simulation.conditions)}." if simulation and simulated else ""
        said = f"{_name(candidate)} is best, with mean absolute errors of {errors_in_words(candidate)}"
        yield f"{_of(dataset, told)}{said}{beside}.{stable}"
    if len(told) > MOST_NAMED:
        yield f"{len(told) - MOST_NAMED} more datasets stand below."
    rows = [row for row in mean_rows(context) if row.seeds is not None] if len(context.runs) else []
    if idle := sum(bool(row.no_better) for row in rows):
        yield f"{idle} of {len(rows)} means over seeds are no better than the best constant, in energies or in forces."


def best_of_each(context: Context) -> list[tuple[str, Candidate]]:
    """Return the best potential of each dataset that has one: of those that run by themselves, where there are some."""
    found = []
    for dataset, runs in context.runs.groupby("dataset", sort=False):
        alone, corrected = best(runs, context.experiment)
        if chosen := alone or corrected:
            found.append((str(dataset), chosen))
    return found


def _of(dataset: str, told: Sequence[tuple[str, Candidate]]) -> str:
    """Return what a sentence on a dataset begins with, where there are several."""
    return f"{dataset}: " if len(told) > 1 else ""


def _name(candidate: Candidate) -> str:
    return f"{candidate.model} ({candidate.loss}, {candidate.size} frames)"


def _rivals(levels: pd.DataFrame, force_measure: str) -> list[str]:
    return [
        f"{row['level']} {rounded(row['energy_mae_meV'], 3)} meV"
        + ("" if np.isnan(row[force_measure]) else f" and {rounded(row[force_measure], 3)} meV/Å")
        for _, row in levels.dropna(subset=["energy_mae_meV"]).iterrows()
    ]


def compared(found: list[Comparison]) -> Iterator[str]:
    """Yield a line a pair of which anything is decided, where these are few: by how much its errors differ."""
    pairs: dict[str, list[Comparison]] = {}
    for comparison in found:
        names = [*comparison.shared.values(), f"{comparison.candidate} against {comparison.baseline}"]
        pairs.setdefault(", ".join(names), []).append(comparison)
    told = {pair: both for pair, both in pairs.items() if any(one.ratio.verdict != UNDECIDED for one in both)}
    for pair, both in [*told.items()][:MOST_NAMED]:
        yield f"{pair}: {', '.join(f'{MEASURES[one.measure]} errors {_difference(one)}' for one in both)}."
    if len(told) > MOST_NAMED:
        yield f"{len(told) - MOST_NAMED} more comparisons of which something is decided stand below."


def _difference(comparison: Comparison) -> str:
    verdict, ratio = comparison.ratio.verdict, comparison.ratio.value
    if verdict in ("better", "worse"):
        return f"{rounded(100 * abs(ratio - 1), 2)} % {'lower' if ratio < 1 else 'higher'}"
    return verdict


def how_sure(context: Context) -> Iterator[str]:
    """Yield what seeds and test frames leave open of the energy error of each best potential, and which is the next."""
    told = best_of_each(context)
    for dataset, chosen in told[:MOST_NAMED]:
        said, frames = _of_seeds(dataset, chosen, context), _energy_errors(dataset, chosen, context)
        labelled = frames[np.isfinite(frames)]
        if len(labelled) > 1:
            low, high = (rounded(end, 2) for end in interval_of_mean(labelled))
            said += f"; {len(labelled)} test frames leave {low} to {high} meV, the {INTERVAL_IN_WORDS} of their mean"
        yield f"{_of(dataset, told)}{said}."
        if (second := runner_up(dataset, chosen, context)) is not None:
            apart = told_apart(_energy_errors(dataset, second, context) - frames)
            yield f"{_of(dataset, told)}{_name(second)} is next, with {errors_in_words(second)}; {apart}."


def _of_seeds(dataset: str, chosen: Candidate, context: Context) -> str:
    """Say how far energy errors of seeds lie apart, and whether other training frames are among what they differ in."""
    errors = _runs_of(dataset, chosen, context)["energy_mae_meV"]
    if len(errors) == 1:
        return "one seed, which says nothing of another"
    if chosen.seeds == 1:
        return f"{len(errors)} seeds gave one model, of the same {chosen.size} frames: they say nothing of others"
    ends = list(dict.fromkeys(rounded(end, 3) for end in (errors.min(), errors.max())))
    return f"{len(errors)} seeds{_of_same(dataset, chosen, context)} gave {' to '.join(ends)} meV in energies"


def _of_same(dataset: str, chosen: Candidate, context: Context) -> str:
    """Say that seeds have the same frames, and why, where they have."""
    if context.experiment.datasets[dataset].acquisition is not None:
        why = "an acquisition chose them"
    elif chosen.size == training_frames(context.datasets, dataset):
        why = "there are no more"
    else:
        return ""
    return f", all of the same {chosen.size} frames ({why}),"


def runner_up(dataset: str, chosen: Candidate, context: Context) -> Candidate | None:
    """Return the best of another model or loss, of the kind that the best is of; None where there is none."""
    runs = context.runs[context.runs["dataset"] == dataset]
    alone, corrected = ranked(runs, context.experiment)
    of_kind = alone if context.experiment.models[chosen.model].baseline is None else corrected
    others = (other for other in of_kind if (other.model, other.loss) != (chosen.model, chosen.loss))
    return next(others, None)


def _runs_of(dataset: str, candidate: Candidate, context: Context) -> pd.DataFrame:
    said = {"dataset": dataset, "model": candidate.model, "loss": candidate.loss, "size": candidate.size}
    return context.runs[(context.runs[list(said)] == pd.Series(said)).all(axis="columns")]


def _energy_errors(dataset: str, candidate: Candidate, context: Context) -> NDArray[np.float64]:
    """Return the sizes of energy errors of test frames, meV: means over seeds; NaN of frames without a label."""
    sizes = []
    for index in _runs_of(dataset, candidate, context).index.astype(int):
        found = read_predictions(context.files[index].predictions)["energy"]
        sizes.append(MILLI * np.abs(found.predicted - found.label))
    return np.asarray(np.mean(sizes, axis=0))


def told_apart(differences: NDArray[np.float64]) -> str:
    """Say whether Student's interval of the mean of differences leaves out 0, and on which side it lies.

    The best has the least geometric mean of both errors: the next may have less of that of energies.

    Args:
        differences: (M,), errors of energies of the next less those of the best, meV; NaN are passed over.
    """
    known = differences[np.isfinite(differences)]
    if len(known) < 2 or abs(known.mean()) <= _half_interval(known):
        return "energies of these test frames do not tell the two apart"
    of_next = ": those of the next are better" if known.mean() < 0 else ""
    return f"energies of these test frames tell the two apart{of_next}"


def _half_interval(values: NDArray[np.float64]) -> float:
    """Return half of Student's interval of CONFIDENCE of the mean of independent values, t s/√n."""
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def interval_of_mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the interval of CONFIDENCE of the mean of independent values that are not negative: m ± t s/√n.

    Args:
        values: (n,), n > 1.
    """
    half = _half_interval(values)
    return max(float(values.mean() - half), 0.0), float(values.mean() + half)


def decided(found: list[Comparison]) -> Iterator[str]:
    """Yield how many comparisons are decided."""
    if found:
        counts = Counter(comparison.ratio.verdict for comparison in found)
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        pooled = ", sizes pooled" if any(comparison.size is None for comparison in found) else ""
        yield f"{len(found)} paired comparisons{pooled}: {said}. A verdict takes {LEAST_SEEDS} seeds."
