"""Which loss is better than the same without terms, which model than the first: in pairs, and how sure that is."""

from __future__ import annotations

from collections import defaultdict

import pandas as pd

from piwsl.config import Experiment
from piwsl.evaluation.comparison import CONFIDENCE, LEAST_SEEDS, MARGIN, Comparison, Ratio, compare, holm
from piwsl.report.context import Context
from piwsl.report.markup import render, rounded
from piwsl.report.sections import ReportSection, Table

MEASURES = {"energy_mae_meV": "energy", "force_mae_meV_per_A": "force", "slope_mae_meV_per_A": "slope"}
MARGIN_IN_WORDS = f"{100 * MARGIN:.0f} %"
# Ratios beyond it, or its inverse, are not written out.
FARTHEST = 1000
INTERVAL_IN_WORDS = f"{100 * CONFIDENCE:.0f} % interval"

TITLES = {
    "where": "What",
    "size": "Frames",
    "quantity": "Error",
    "ratio": "Ratio",
    "interval": INTERVAL_IN_WORDS,
    "seeds": "Seeds",
    "verdict": "Verdict",
}

TEMPLATE = """\
<p>Ratios of mean absolute errors on the same test frames, of runs alike in all but {{ axes }}: the mean over seeds of
their logarithm, with Student's {{ interval }}. Sizes are pooled within a seed, for they share frames. The interval
covers the start of training, and the choice of training frames where seeds differ in it: not of an acquisition, nor at
a size that takes all frames. Seeds of which both models are fitted in closed form to the same frames are one, and a
size at which all are is pooled with no other. The test frames are the same for all. Undecided below {{ least }} seeds
or where the interval holds 1; alike within {{ margin }}.</p>
{% if verdicts %}
<ul class="verdicts">
{% for verdict in verdicts %}
<li class="{{ verdict.kind }}"><span class="where">{{ verdict.where }}</span>{{ verdict.text }}</li>
{% endfor %}
</ul>
{% endif %}
<p>{{ multiplicity }}</p>
{% if rows %}
<details{% if few %} open{% endif %}><summary>
{{- "" if few else "Size by size, " }}{{ rows | length }} comparisons, not corrected for their number</summary>
<div class="scroll"><table>
<thead><tr><th>{{ titles.where }}</th><th class="number">{{ titles.size }}</th><th>{{ titles.quantity }}</th>
<th class="number">{{ titles.ratio }}</th><th class="number">{{ titles.interval }}</th>
<th class="number">{{ titles.seeds }}</th><th>{{ titles.verdict }}</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><td>{{ row.where }}</td><td class="number">{{ row.size }}</td><td>{{ row.quantity }}</td>
<td class="number">{{ row.ratio }}</td><td class="number">{{ row.interval }}</td><td class="number">{{ row.seeds }}</td>
<td>{{ row.verdict }}</td></tr>
{% endfor %}
</tbody></table></div></details>
{% endif %}
"""


class Verdicts(ReportSection):
    """A line a comparison; nothing where an experiment has one model, and no weak loss beside a supervised one."""

    title = "Paired comparisons"
    place = 20

    def tables(self, context: Context) -> dict[str, Table]:
        """Return the comparisons; none where there are none."""
        found = comparisons(context.runs, context.experiment)
        if not found:
            return {}
        words = pd.DataFrame([_row(comparison) for comparison in found]).rename(columns=TITLES)
        return {"comparisons": Table(pd.DataFrame([_numbers(comparison) for comparison in found]), words)}

    def html(self, context: Context) -> str:
        """Return the verdicts, pooled over sizes and size by size."""
        found = comparisons(context.runs, context.experiment)
        return verdicts_on(found, " or ".join(f"the {axis}" for axis in dict.fromkeys(each.axis for each in found)))


def verdicts_on(found: list[Comparison], axes: str) -> str:
    """Return what comparisons show, pooled over sizes and size by size; "" of none.

    Those of too few seeds for a verdict stand in the table alone.

    Args:
        found: the comparisons.
        axes: what runs that are compared differ in, in words.
    """
    if not found:
        return ""
    whole = pooled(found)
    stands = standing(whole)
    told = [pair for pair in zip(whole, stands, strict=True) if pair[0].ratio.seeds >= LEAST_SEEDS]
    return render(
        TEMPLATE,
        axes=axes,
        interval=INTERVAL_IN_WORDS,
        titles=TITLES,
        least=LEAST_SEEDS,
        margin=MARGIN_IN_WORDS,
        verdicts=[sentence(comparison, stood) for comparison, stood in told],
        multiplicity=multiplicity(whole, stands),
        few=len(told) < len(whole),
        rows=[_row(each) for each in found if each not in whole or each.ratio.seeds < LEAST_SEEDS],
    )


def comparisons(runs: pd.DataFrame, experiment: Experiment) -> list[Comparison]:
    """Compare weakly supervised losses with the supervised ones beside them, and models with the first of them.

    Models are compared at the first supervised loss; where there is none, at the first loss.

    Args:
        runs: one row a run.
        experiment: says which losses are supervised by labels of the reference level alone.
    """
    supervised = [name for name, loss in experiment.losses.items() if loss.supervised]
    weak = [name for name in experiment.losses if name not in supervised]
    first, *others = experiment.models
    plain = (supervised or weak)[0]
    found = []
    for measure in MEASURES:
        for (dataset, model), pairs in experiment.compared_losses().items():
            own = runs[(runs["dataset"] == dataset) & (runs["model"] == model)]
            for candidate, beside in pairs:
                found += compare(own, "loss", beside, [candidate], measure)
        found += compare(runs[runs["loss"] == plain], "model", first, others, measure)
    return sorted(found, key=lambda comparison: (comparison.axis, _where(comparison)))


def pooled(found: list[Comparison]) -> list[Comparison]:
    """Return one comparison of each pair and measure: over all sizes, or of the only size there is."""
    of: dict[tuple[str, str, str], list[Comparison]] = defaultdict(list)
    for comparison in found:
        of[comparison.axis, _where(comparison), comparison.measure].append(comparison)
    return [first for first, *rest in of.values() if first.size is None or not rest]


def _decidable(comparison: Comparison) -> bool:
    return comparison.ratio.p_value is not None and comparison.ratio.seeds >= LEAST_SEEDS


def standing(found: list[Comparison]) -> list[bool]:
    """Return which comparisons stand when all of those with enough seeds are one family."""
    tested = [comparison for comparison in found if _decidable(comparison)]
    stands = iter(holm([comparison.ratio.p_value or 0.0 for comparison in tested]))
    return [_decidable(comparison) and next(stands) for comparison in found]


def multiplicity(found: list[Comparison], stands: list[bool]) -> str:
    """Say in words what so many comparisons would show by chance."""
    tested = sum(map(_decidable, found))
    if not tested:
        return f"No verdict: none of these comparisons has the {LEAST_SEEDS} seeds that one takes."
    chance = rounded((1.0 - CONFIDENCE) * tested, 2)
    called = [stood for comparison, stood in zip(found, stands, strict=True) if _called(comparison.ratio)]
    said = (
        f"{tested} comparisons with {LEAST_SEEDS} seeds or more: without any effect, {chance} of their intervals would "
        "leave 1 out by chance, on average."
    )
    if not called:
        return f"{said} None is called better or worse."
    return (
        f"{said} {len(called)} called better or worse, of which {sum(called)} stand after Holm's correction for "
        "their number."
    )


def _called(ratio: Ratio) -> bool:
    return ratio.verdict in ("better", "worse")


def sentence(found: Comparison, stands: bool) -> dict[str, str]:
    """Say in words what one comparison shows.

    Args:
        found: the comparison, of seeds enough for a verdict.
        stands: whether it does, in the family of all.
    """
    ratio, quantity = found.ratio, MEASURES[found.measure]
    numbers = f"ratio {_ratio(ratio.value)}"
    if ratio.interval is not None:
        numbers += f", {INTERVAL_IN_WORDS} {_interval(ratio)}"
    numbers += f", {ratio.seeds} seeds"
    if ratio.verdict == "undecided":
        text = f"undecided on the {quantity} error: the interval holds 1 ({numbers})"
    elif ratio.verdict == "alike":
        text = f"{quantity} errors alike: any difference is too small to matter ({numbers})"
    else:
        direction = "lower" if ratio.verdict == "better" else "higher"
        text = f"{quantity} error {rounded(100 * abs(ratio.value - 1), 3)} % {direction} ({numbers})"
        text += "" if stands else "; it does not stand the correction for their number"
    if _unlike(found):
        text += (
            "; with one of the two losses the network corrects a pair potential, with the other it does not: say "
            "pair_potential: true or false to see what is due to it"
        )
    sizes = "sizes pooled" if found.size is None else f"{found.size} frames"
    return {"where": f"{_where(found)}, {sizes}", "text": text, "kind": ratio.verdict}


def _unlike(found: Comparison) -> bool:
    """Return whether one of two losses has a pair potential beneath the network, and the other has not."""
    return found.unlike and found.axis == "loss"  # models differ in more than that


def _where(found: Comparison) -> str:
    return ", ".join([*found.shared.values(), f"{found.candidate} against {found.baseline}"])


def _interval(ratio: Ratio) -> str:
    return "–" if ratio.interval is None else " to ".join(_ratio(end) for end in ratio.interval)


def _ratio(value: float) -> str:
    """Write a ratio; of one beyond all sense, only that."""
    if value > FARTHEST:
        return f"> {FARTHEST}"
    return f"< {1 / FARTHEST}" if value < 1 / FARTHEST else rounded(value, 3)


def _row(found: Comparison) -> dict[str, str]:
    return {
        "where": _where(found),
        "size": "pooled" if found.size is None else str(found.size),
        "quantity": MEASURES[found.measure],
        "ratio": _ratio(found.ratio.value),
        "interval": _interval(found.ratio),
        "seeds": str(found.ratio.seeds),
        "verdict": found.ratio.verdict + ("; one corrects a pair potential" if _unlike(found) else ""),
    }


def _numbers(found: Comparison) -> dict[str, object]:
    low, high = found.ratio.interval or (None, None)
    return {
        **{axis: found.shared.get(axis) for axis in ("dataset", "model", "loss")},
        "axis": found.axis,
        "candidate": found.candidate,
        "baseline": found.baseline,
        "size": found.size,
        "measure": found.measure,
        "ratio": found.ratio.value,
        "low": low,
        "high": high,
        "seeds": found.ratio.seeds,
        "verdict": found.ratio.verdict,
    }
