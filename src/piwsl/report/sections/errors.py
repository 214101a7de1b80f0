"""Errors of all models on the test frames, and how long their dynamics stay stable: means over seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

import pandas as pd

from piwsl.report.context import Context
from piwsl.report.markup import mean_and_spread, render
from piwsl.report.sections import ReportSection, Table
from piwsl.report.tables import MEASURES, observed
from piwsl.report.words import model_in_words

GROUP = ["dataset", "model", "size", "loss"]
# Classes of cells: numbers, and what a narrow page leaves out.
NUMBER, WIDE = "number", "wide"
ASIDE = ("energy_constant_meV",)
BY_SLOPES = "force_rmse_from_slopes_meV_per_A"
# Columns where any run has them: most test sets have no such labels.
RARE = (BY_SLOPES, "stress_mae_meV_per_A3")
# An error of at least this share of a constant's is no better than that.
NO_BETTER = 0.95

TEMPLATE = """\
<p>Mean absolute errors against the reference, mean ± standard deviation over seeds: of other training frames and
another start; only of another start, and of which frames validate, where an acquisition chose the frames or all that
there are were taken. Seeds of a model in closed form that learn the same frames are one. Energies are totals of a
structure, forces{% if stress %} and stresses{% endif %} are components. Constant is the part of an energy error that
all frames of one composition share: forces, dynamics and relative energies do not know it.
{{ labelled }}
{% if slopes %}
By slopes is an estimate of the root mean square error of force components: test frames without forces have the slope of
the energy along one random direction each. {{ slopes }}
{% endif %}
{% if simulation %}
Stable MD is the time until a bond left its reference length by more than
{{ "%g" | format(simulation.bond_tolerance) }} Å or the energy exploded, out of {{ simulation.conditions }}, mean over
replicas; ≥ stands before a mean over seeds in some of which none failed, for such a time is only cut off.
{% endif %}
All runs one by one are in <code>{{ table }}</code> beside this file.</p>
{% if constant %}
<p>The best constant does not look at positions: its energy is the mean over all training frames of the composition, its
forces are zero.
{% if no_better %}
<strong>{{ no_better }} of {{ trained }} rows of trained models are no better than that in energies or in forces
</strong>({{ "%g" | format(100 * share) }} % of its error, or more); they say so below their loss.
{% else %}
Every trained model is better than that in all that is labelled.
{% endif %}
</p>
{% endif %}
<p class="soft narrow">A wider page, this one turned for one, has more columns.</p>
<p class="filter"><label for="filter-errors">Rows with the words</label>
<input id="filter-errors" type="search" data-table="errors">
<output>{{ rows | length }} of {{ rows | length }} rows</output></p>
<div class="scroll" tabindex="0" role="region" aria-label="Errors on the test frames, a table">
<table id="errors" class="sortable">
<thead><tr>
{% for title, kind in columns %}
<th scope="col" class="{{ kind }}"><button type="button">{{ title | whole }}</button></th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr{% if loop.first or loop.previtem.group != row.group %} class="first"{% endif %}>
<td class="{{ columns[0][1] }}">{{ row.dataset }}</td>
<td data-value="{{ row.model }}">{{ row.model }}
{%- if row.more %}<span class="more">{{ row.more }}</span>{% endif %}</td>
{{ number(row.size, columns[2][1]) }}
<td data-value="{{ row.loss }}">{{ row.loss }}
{%- if row.no_better %}<span class="more">{{ row.no_better }}</span>{% endif %}</td>
{{ number(row.seeds, columns[4][1]) }}
{% for cell in row.cells %}
<td class="{{ columns[5 + loop.index0][1] }}" data-value="{{ "" if cell.value != cell.value else cell.value }}">
{{- cell.text }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% if cheap %}
<p class="soft">What is not trained is another level as it is, on the test frames that have its labels. To its
energies is added the constant an element that fits the energies of all training frames best (least squares), for those
of two levels differ by such constants; its forces are compared as they are. No dynamics was run on it.</p>
{% endif %}
"""
MACROS = """\
{% macro number(value, kind) -%}
<td class="{{ kind }}" data-value="{{ "" if value is none else value }}">{{ "–" if value is none else value }}</td>
{%- endmacro %}
"""


@dataclass(frozen=True)
class Cell:
    """A mean over seeds: in words, and as the number (NaN where there is none)."""

    text: str
    value: float


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    dataset: str
    model: str
    more: str
    """What the model is, beyond what its name says; of a level, how many test frames have its labels, where not all."""
    size: int | None
    """Frames; None of what is not trained."""
    loss: str
    seeds: int | None
    cells: tuple[Cell, ...]
    """In the order of `MEASURES`."""
    no_better: str = ""
    """In what it is no better than the best constant, in words."""

    def cells_of(self, measures: Collection[str]) -> tuple[Cell, ...]:
        """Return the cells of some measures."""
        return tuple(cell for name, cell in zip(MEASURES, self.cells, strict=True) if name in measures)

    @property
    def group(self) -> tuple[str, str, int | None]:
        """Return what rows have in common between two lines."""
        return self.dataset, self.model, self.size


class MeanErrors(ReportSection):
    """A row a dataset, model, size and loss; above those of a dataset the best constant and its cheap levels."""

    title = "Errors on the test frames"
    place = 30

    def tables(self, context: Context) -> dict[str, Table]:
        """Return the table."""
        return {"errors": Table(error_table(context), words_of_rows(mean_rows(context), measures_shown(context)))}

    def html(self, context: Context) -> str:
        """Return the table, and what its columns are; nothing before any run is tested."""
        rows = mean_rows(context)
        if not rows:
            return ""
        several = context.runs["dataset"].nunique() > 1
        names = [("Dataset", "" if several else WIDE), ("Model", ""), ("Frames", NUMBER), ("Loss", ""),
                 ("Seeds", f"{NUMBER} {WIDE}")]  # fmt: skip
        shown = measures_shown(context)
        measured = [(title, f"{NUMBER} {WIDE}" if name in ASIDE else NUMBER) for name, title in shown.items()]
        return render(
            MACROS + TEMPLATE,
            simulation=context.experiment.first_simulation,
            columns=names + measured,
            rows=[replace(row, cells=row.cells_of(shown)) for row in rows],
            labelled=labelled_in_words(context.runs),
            slopes=sureness_of_slopes(context.runs),
            stress="stress_mae_meV_per_A3" in shown,
            table=context.table,
            cheap=len(context.cheap) > 0,
            constant=len(context.constants) > 0,
            trained=sum(row.seeds is not None for row in rows),
            no_better=sum(bool(row.no_better) for row in rows),
            share=NO_BETTER,
        )


def means_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over seeds, a row a (dataset, model, size, loss), in the table's order.

    `failed` is how many replicas of the simulation did, of all seeds. Seeds that are one observation count as one.
    """
    once = table.groupby([*GROUP, "observation"], sort=False)
    grouped = once[list(MEASURES)].mean().groupby(level=GROUP, sort=False).agg(["mean", "std"])
    grouped["seeds"] = once.size().groupby(level=GROUP, sort=False).size()
    grouped["failed"] = once["failed"].max().groupby(level=GROUP, sort=False).sum(min_count=1)
    return grouped


def error_table(context: Context) -> pd.DataFrame:
    """Return the table as numbers: a row as of `mean_rows`, mean and standard deviation of each measure."""
    means = means_over_seeds(context.runs)
    means.columns = ["_".join(filter(None, names)) for names in means.columns.to_flat_index()]
    named = {"level": "model"} | {name: f"{name}_mean" for name in MEASURES}
    not_trained = context.not_trained.rename(columns=named).assign(loss="not trained")
    return pd.concat([not_trained, means.reset_index()]).reindex(
        columns=[*GROUP, "seeds", *means.columns.drop("seeds")]
    )


def measures_shown(context: Context) -> dict[str, str]:
    """Return `MEASURES`, without what slopes say of forces, and stress, where no test frame of any run has one."""
    return {name: title for name, title in MEASURES.items() if name not in RARE or context.runs[name].notna().any()}


def labelled_in_words(runs: pd.DataFrame) -> str:
    """Say of how many test frames of each dataset the energies are known, where that is not all; else ""."""
    said = shares_labelled(runs, "dataset", "energy")
    return f"Energies are those of the test frames that have one: {', '.join(said)}." if said else ""


def shares_labelled(runs: pd.DataFrame, by: str, quantity: str) -> list[str]:
    """Say of how many test frames a label is known, where that is not all and not none.

    Args:
        runs: errors, as of `piwsl.report.tables.run_table` or `tested_table`.
        by: the column that says whose frames are meant.
        quantity: "energy" or "force".
    """
    said = []
    for name, rows in runs.groupby(by, sort=False):
        every, known = (rows.get(f"test_{kind}frames", pd.Series()).max() for kind in ("", f"{quantity}_"))
        if 0 < known < every:  # false where an earlier version did not count them
            said.append(f"{known:.0f} of {every:.0f} of {name}")
    return said


def sureness_of_slopes(runs: pd.DataFrame) -> str:
    """Say how sure the choice of test frames leaves what their slopes say of forces; "" without slopes."""
    relative = (100 * runs["force_rmse_from_slopes_error_meV_per_A"] / runs[BY_SLOPES]).dropna()
    if not len(relative):
        return ""
    ends = dict.fromkeys(f"{end:.0f}" for end in (relative.min(), relative.max()))
    return f"The choice of these frames and directions leaves a standard error of {' to '.join(ends)} % of it."


def words_of_rows(rows: list[Row], measures: Mapping[str, str]) -> pd.DataFrame:
    """Return rows as they stand in the report, as text.

    Args:
        rows: of `mean_rows`.
        measures: titles of the columns by measure, of `measures_shown`.
    """
    named = [
        {"Dataset": row.dataset, "Model": row.model, "Frames": row.size or "–", "Loss": row.loss,
         "Seeds": row.seeds or "–"}
        | dict(zip(measures.values(), (cell.text for cell in row.cells_of(measures)), strict=True))
        for row in rows
    ]  # fmt: skip
    return pd.DataFrame(named)


def mean_rows(context: Context) -> list[Row]:
    """Return the rows of the report's table: mean ± standard deviation over seeds.

    Above the runs of a dataset stand the best constant and its cheap levels.
    """
    rows: list[Row] = []
    for group, runs in context.runs.groupby(GROUP, sort=False):
        dataset, model, size, loss = cast(tuple[str, str, int, str], group)
        constants = context.constants[context.constants["dataset"] == dataset]
        if not rows or rows[-1].dataset != dataset:
            rows += _not_trained(context.not_trained[context.not_trained["dataset"] == dataset])
        cells = tuple(
            _stable(runs) if name == "stable_ps" else cell_of(name, observed(runs, name)) for name in MEASURES
        )
        more = model_in_words(model, context.experiment.models[model])
        rows.append(
            Row(dataset, model, more, size, loss, runs["observation"].nunique(), cells, no_better(runs, constants))
        )
    return rows


def force_measure(runs: pd.DataFrame) -> str:
    """Return the column of the errors of forces: of whole forces, or what slopes say where no test frame has those."""
    return BY_SLOPES if runs["force_mae_meV_per_A"].isna().all() else "force_mae_meV_per_A"


def no_better(runs: pd.DataFrame, constants: pd.DataFrame) -> str:
    """Say in what runs are on average no better than the best constant of their dataset; "" where they are in all."""
    kinds = {"energies": "energy_mae_meV", "forces": force_measure(runs)}
    found = [
        kind
        for kind, name in kinds.items()
        if len(constants) and runs[name].mean() >= NO_BETTER * constants[name].iloc[0]
    ]
    return f"{' and '.join(found)} no better than a constant" if found else ""


def _not_trained(levels: pd.DataFrame) -> Iterator[Row]:
    for _, row in levels.iterrows():
        cells = tuple(cell_of(name, row[[name]]) for name in MEASURES)
        yield Row(row["dataset"], row["level"], row.get("known", ""), None, "not trained", None, cells)


def cell_of(measure: str, values: pd.Series) -> Cell:
    """Return mean and standard deviation of a measure over seeds, one value an observation, as a cell."""
    mean, spread = float(values.mean()), float(values.std())
    if math.isnan(mean):
        return Cell("not labelled" if measure == "force_mae_meV_per_A" else "–", mean)
    return Cell(mean_and_spread(mean, spread), mean)


def _stable(runs: pd.DataFrame) -> Cell:
    """Return how long dynamics stayed stable: a time that the simulation's end cut off is a bound, not a value."""
    cell = cell_of("stable_ps", observed(runs, "stable_ps"))
    lasted = runs.loc[runs["stable_ps"].notna(), "failed"] == 0  # of the runs that are simulated
    if len(lasted) and lasted.all():
        return Cell(f"all of {runs['time_ps'].max():g} ps", cell.value)
    return Cell(f"≥ {cell.text}", cell.value) if lasted.any() else cell
