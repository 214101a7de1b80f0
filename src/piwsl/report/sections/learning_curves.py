"""Errors against the number of labelled frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import pandas as pd

from piwsl.report.context import Context
from piwsl.report.figures import panels
from piwsl.report.markup import render, rounded
from piwsl.report.panels import GREY, Look, Panel, Series, at_values, one_two_five
from piwsl.report.sections import ReportSection
from piwsl.report.sections.errors import force_measure
from piwsl.report.tables import MEASURES

TEMPLATE = """\
<p class="soft">Faint symbols are seeds, the line goes through their means
{%- if not_trained %}; thin and grey is what needs no training: {{ not_trained }}{% endif %}.</p>
{{ figures }}
"""

# One a line of what is not trained; more than four are seldom.
DASHES = ("longdash", "dash", "dot", "dashdot")
# By which factor these lines go beyond the sizes.
BEYOND = 1.15


class LearningCurves(ReportSection):
    """Figures for each dataset and model; of one size the table of errors says as much."""

    title = "Learning curves"
    place = 10
    each = True

    def panels(self, context: Context) -> list[Panel]:
        """Return the figures; none of one size."""
        if context.runs["size"].nunique() < 2:
            return []
        return learning_curves(context.runs, context.looks, _not_trained(context))

    def html(self, context: Context) -> str:
        """Return the figures, if there are any, and what is drawn how."""
        found, names = self.panels(context), ", ".join(_not_trained(context)["level"])
        return render(TEMPLATE, figures=panels(found), not_trained=names) if found else ""


def _not_trained(context: Context) -> pd.DataFrame:
    return context.not_trained[context.not_trained["dataset"].isin(context.runs["dataset"])]


def learning_curves(table: pd.DataFrame, looks: Mapping[str, Look], not_trained: pd.DataFrame) -> list[Panel]:
    """Draw errors against the number of labelled frames: a symbol a seed, a line through the means.

    Args:
        table: the runs of one dataset and model.
        looks: by loss.
        not_trained: the best constant and the cheap levels of the dataset, as of `Context.not_trained`: a line each.

    Returns:
        A panel for energies and, where they are labelled, one for forces, or one for what slopes say of these.
    """
    measures = [name for name in ("energy_mae_meV", force_measure(table)) if table[name].notna().any()]
    return [_panel(measure, table, looks, not_trained) for measure in measures]


def _panel(measure: str, table: pd.DataFrame, looks: Mapping[str, Look], not_trained: pd.DataFrame) -> Panel:
    return Panel(
        name=f"learning-curve-{measure.partition('_')[0]}",
        title=MEASURES[measure],
        said=f"{in_words(measure, table)} {rivals_in_words(measure, not_trained)}".strip(),
        x=at_values("labelled frames", table["size"]),
        y=one_two_five(MEASURES[measure], pd.concat([table[measure], not_trained[measure]])),
        series=(*of_losses(measure, table, looks), *_of_levels(measure, table["size"], not_trained)),
    )


def in_words(measure: str, table: pd.DataFrame) -> str:
    """Say which mean error each loss has at its smallest and at its largest size."""
    said = []
    for loss, rows in table.groupby("loss", sort=False):
        means = rows.groupby("size")[measure].mean().dropna()
        if len(means):
            ends = [
                f"{rounded(means.loc[size], 3)} at {size}" for size in dict.fromkeys([means.index[0], means.index[-1]])
            ]
            said.append(f"{loss} {' and '.join(ends)} frames")
    return f"{MEASURES[measure]} against labelled frames, means over seeds: {'; '.join(said)}."


def rivals_in_words(measure: str, not_trained: pd.DataFrame) -> str:
    """Say how wrong what needs no training is."""
    known = not_trained.dropna(subset=[measure])
    said = [f"{row['level']} {rounded(row[measure], 3)}" for _, row in known.iterrows()]
    return f"Without training: {', '.join(said)}." if said else ""


def of_losses(measure: str, table: pd.DataFrame, looks: Mapping[str, Look]) -> Iterator[Series]:
    """Yield a symbol a seed and a line through the means of each loss, against the size.

    Args:
        measure: a column of the table.
        table: a row a run, with its loss, size and seed.
        looks: by loss.
    """
    for loss, rows in table.groupby("loss", sort=False):
        name, means = str(loss), rows.groupby("size")[measure].mean()
        hover = "%{x} frames, seed %{customdata}: %{y:.3g}"
        sizes, errors, seeds = rows["size"], rows[measure], rows["seed"]
        yield Series(name, sizes, errors, looks[name], points=7, opacity=0.5, legend=False, hover=hover, more=seeds)
        hover = "%{x} frames, mean over seeds: %{y:.3g}"
        yield Series(name, means.index, means, looks[name], points=9, line=2, hover=hover)


def _of_levels(measure: str, sizes: pd.Series, not_trained: pd.DataFrame) -> Iterator[Series]:
    """Yield the error of each as a line a little beyond all sizes: there is one where one size is."""
    ends = [sizes.min() / BEYOND, sizes.max() * BEYOND]
    for (_, row), dash in zip(not_trained.iterrows(), itertools.cycle(DASHES), strict=False):
        yield Series(row["level"], ends, [row[measure]] * 2, Look(GREY, dash), line=1.5, hover="not trained: %{y:.3g}")
