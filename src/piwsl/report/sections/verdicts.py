"""What weak supervision bought: each weakly supervised loss against the supervised one, seed by seed, in words."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from piwsl.config import Experiment
from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

TEMPLATE = """\
{% if verdicts %}
<p>Each weakly supervised loss against the supervised one on the same frames, seed by seed. A direction is named only
where every seed agrees; few seeds prove little.</p>
<ul class="verdicts">
{% for verdict in verdicts %}
<li class="{{ verdict.kind }}">{{ verdict.text }}<span class="where">{{ verdict.where }}</span></li>
{% endfor %}
</ul>
{% else %}
<p>This experiment has no pair of a weakly supervised and a supervised loss on the same frames to compare.</p>
{% endif %}
"""


class Verdicts(ReportSection):
    """A line a comparison."""

    title = "What weak supervision bought"
    place = 20

    def html(self, context: Context) -> str:
        """Return the verdicts, or that there is nothing to compare."""
        found = comparisons(context.runs, context.experiment)
        return render(TEMPLATE, verdicts=[sentence(comparison) for comparison in found])


@dataclass(frozen=True)
class Comparison:
    """A weak loss against the supervised one with the same dataset, model and size."""

    dataset: str
    model: str
    size: int
    weak: str
    supervised: str
    measure: str
    change_percent: float
    """Mean over seeds of the paired relative change; negative is a smaller error."""
    better: int
    """Seeds in which the weak loss had the smaller error."""
    seeds: int
    unlike: bool
    """Whether the models of one loss correct a pair potential and those of the other do not."""

    @property
    def chance(self) -> float:
        """How often all seeds would agree on one direction if there were no effect: 2 (1/2)^seeds."""
        return 2.0 ** (1 - self.seeds)

    @property
    def verdict(self) -> str:
        """What may be said: a direction only where all of at least two seeds agree."""
        if self.seeds < 2 or self.better not in (0, self.seeds):
            return "undecided"
        return "better" if self.better else "worse"


def comparisons(table: pd.DataFrame, experiment: Experiment) -> list[Comparison]:
    """Compare every weakly supervised loss with the first supervised one of the config, seed by seed.

    Args:
        table: one row a run.
        experiment: says which losses are supervised by labels of the reference level alone.
    """
    supervised = next((name for name, loss in experiment.losses.items() if loss.supervised), None)
    if supervised is None:
        return []
    found = []
    for (dataset, model, size), group in table.groupby(["dataset", "model", "size"], sort=False):
        by_loss = {str(loss): rows.set_index("seed") for loss, rows in group.groupby("loss", sort=False)}
        if supervised not in by_loss:
            continue
        base = by_loss[supervised]
        for loss, rows in by_loss.items():
            if experiment.losses[loss].supervised:
                continue
            for measure in ("energy_mae_meV", "force_mae_meV_per_A"):
                ratio = (rows[measure] / base[measure]).dropna()
                if len(ratio):
                    found.append(
                        Comparison(
                            str(dataset),
                            str(model),
                            int(str(size)),
                            loss,
                            supervised,
                            measure,
                            change_percent=float(100 * (ratio.mean() - 1)),
                            better=int((ratio < 1).sum()),
                            seeds=len(ratio),
                            unlike=bool((rows["pair_potential"] != base["pair_potential"]).loc[ratio.index].any()),
                        )
                    )
    return found


def sentence(found: Comparison) -> dict[str, str]:
    """Say in words what one comparison shows."""
    quantity = {"energy_mae_meV": "energy", "force_mae_meV_per_A": "force"}[found.measure]
    change = abs(found.change_percent)
    if found.verdict == "undecided":
        seeds = "one seed decides nothing" if found.seeds < 2 else f"better in {found.better} of {found.seeds} seeds"
        average = f"{found.change_percent:+.0f} %".replace("-", "−")
        text = f"no clear effect on the {quantity} error ({average} on average; {seeds})"
    else:
        direction = "lower" if found.verdict == "better" else "higher"
        text = (
            f"{quantity} error {change:.0f} % {direction}, in all {found.seeds} seeds "
            f"(without any effect they would agree {100 * found.chance:.2g} % of the time)"
        )
    if found.unlike:
        text += (
            "; with one of the two losses the network corrects a pair potential, with the other it does not: say "
            "pair_potential: true or false to see what the loss alone does"
        )
    where = f"{found.dataset}, {found.model}, {found.size} frames, {found.weak} against {found.supervised}"
    return {"where": where, "text": text, "kind": found.verdict}
