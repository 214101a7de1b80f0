"""Errors of all models on named test sets, beside those on the dataset's own test frames: means over seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import pandas as pd

from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection, Table
from piwsl.report.sections.errors import GROUP, Cell, cell_of, shares_labelled
from piwsl.report.tables import AXES, CONSTANT, TESTED, observed
from piwsl.report.words import model_in_words

OWN = "test frames"
# As of `piwsl.report.tables.run_table`; an earlier version did not count them all.
COUNTS = ["test_frames", "test_energy_frames", "test_force_frames"]
LABELS = {"energies": "energy", "forces": "force"}

TEMPLATE = """\
<p>Mean absolute errors, mean ± standard deviation over seeds, on {{ own }} of the dataset, for comparison, and on each
of its named test sets. No model was trained on any of these; comparisons of losses and models are of the dataset's own
test frames.</p>
{% for table in tables %}
{% if table.labelled %}
<p>{{ table.labelled }}</p>
{% endif %}
<div class="scroll"><table class="sortable" id="tests-{{ loop.index }}">
<caption>{{ table.dataset }}</caption>
<thead><tr>
{% for title, number in table.columns %}
<th scope="col"{% if number %} class="number"{% endif %}><button type="button">{{ title }}</button></th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in table.rows %}
<tr>
<td data-value="{{ row.model }}">{{ row.model }}
{%- for line in row.more %}<span class="more">{{ line }}</span>{% endfor %}</td>
<td class="number" data-value="{{ row.size or "" }}">{{ row.size or "–" }}</td><td>{{ row.loss }}</td>
{% for cell in row.cells %}<td class="number" data-value="{{ "" if cell.value != cell.value else cell.value }}">
{{- cell.text }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
"""


@dataclass(frozen=True)
class Row:
    """What one model of one loss and size, or something that nobody trained, makes of all test sets."""

    model: str
    more: list[str]
    """What the model is, beyond what its name says; of a level, how many frames have its labels, where not all."""
    size: int | None
    loss: str
    cells: list[Cell]


@dataclass(frozen=True)
class TestSets:
    """The test sets of one dataset."""

    dataset: str
    measured: list[tuple[str, str]]
    """Test set and measure of each cell of a row."""
    rows: list[Row]
    labelled: str
    """How many frames have energies or forces, where not all; else ""."""

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Titles, and whether numbers stand below."""
        cells = [(f"{test}: {TESTED[measure]}", True) for test, measure in self.measured]
        return [("Model", False), ("Frames", True), ("Loss", False), *cells]

    def words(self) -> pd.DataFrame:
        """Return the table as text."""
        titles = ["Dataset", *(title for title, _ in self.columns)]
        rows = [
            [self.dataset, row.model, row.size or "–", row.loss, *(cell.text for cell in row.cells)]
            for row in self.rows
        ]
        return pd.DataFrame(rows, columns=titles).astype(str)


class ErrorsOnNamedTests(ReportSection):
    """A table a dataset that has named test sets."""

    title = "Errors on further test sets"
    place = 31

    def tables(self, context: Context) -> dict[str, Table]:
        """Return all in one table, if there is such a set."""
        if not (tables := tables_of_tests(context)):
            return {}
        words = pd.concat([table.words() for table in tables]).fillna("–")
        return {"tests": Table(numbers_of_tests(context), words)}

    def html(self, context: Context) -> str:
        """Return the tables; nothing where there is no such set."""
        tables = tables_of_tests(context)
        return render(TEMPLATE, tables=tables, own=OWN) if tables else ""


def numbers_of_tests(context: Context) -> pd.DataFrame:
    """Return errors on named test sets as numbers: a row a (dataset, model, size, loss) and set, means over seeds.

    What nobody trained stands first, as a model of the loss "not trained".
    """
    once = context.tests.groupby([*GROUP, "test", "observation"], sort=False)[list(TESTED)].mean()
    grouped = once.groupby(level=[*GROUP, "test"], sort=False)
    means = grouped.agg(["mean", "std"])
    means.columns = ["_".join(names) for names in means.columns.to_flat_index()]
    means.insert(0, "seeds", grouped.size())
    named = {"level": "model"} | {name: f"{name}_mean" for name in TESTED}
    not_trained = context.untrained.rename(columns=named).assign(loss="not trained")
    return pd.concat([not_trained, means.reset_index()]).reindex(columns=[*GROUP, "test", *means.columns])


def tables_of_tests(context: Context) -> list[TestSets]:
    """Return a table for each dataset with named test sets, in the order of the runs."""
    own = context.runs.assign(test=OWN).reindex(columns=[*AXES, "test", *TESTED, *COUNTS, "observation"])
    further = dict([*context.tests.groupby("dataset", sort=False)])
    return [
        _table(str(dataset), pd.concat([rows, further[dataset]]), context)
        for dataset, rows in own.groupby("dataset", sort=False)
        if dataset in further
    ]


def _table(dataset: str, errors: pd.DataFrame, context: Context) -> TestSets:
    constants, cheap = context.constants.assign(test=OWN, level=CONSTANT), context.cheap.assign(test=OWN)
    untrained = pd.concat([constants, cheap, context.untrained]).fillna({"known": ""})
    measured = [
        (str(test), name)
        for test, rows in errors.groupby("test", sort=False)
        for name in TESTED
        if rows[name].notna().any()
    ]
    rows = [*_not_trained(untrained[untrained["dataset"] == dataset], measured), *_trained(errors, measured, context)]
    return TestSets(dataset, measured, rows, labelled_in_words(errors))


def labelled_in_words(errors: pd.DataFrame) -> str:
    """Say of how many frames of each test set energies and forces are known, where that is not all; else ""."""
    shares = {kind: shares_labelled(errors, "test", quantity) for kind, quantity in LABELS.items()}
    said = [f"{kind} of {', '.join(of_sets)}" for kind, of_sets in shares.items() if of_sets]
    return f"Errors are those of the frames that have such a label: {'; '.join(said)}." if said else ""


def _not_trained(untrained: pd.DataFrame, measured: list[tuple[str, str]]) -> Iterator[Row]:
    for level, rows in untrained.groupby("level", sort=False):
        yield Row(str(level), _known(rows), None, "not trained", _cells(rows, measured))


def _known(rows: pd.DataFrame) -> list[str]:
    """Say of how many frames of each test set the errors of a level are, where that is not all."""
    pairs = zip(rows["test"], rows["known"], strict=True)
    return [known if test == OWN else f"{test}: {known}" for test, known in pairs if known]


def _trained(errors: pd.DataFrame, measured: list[tuple[str, str]], context: Context) -> Iterator[Row]:
    for group, rows in errors.groupby(["model", "size", "loss"], sort=False):
        model, size, loss = cast(tuple[str, int, str], group)
        words = model_in_words(model, context.experiment.models[model])
        once = [observed(rows[rows["test"] == test].astype({name: float}), name) for test, name in measured]
        cells = [cell_of(name, values) for (_, name), values in zip(measured, once, strict=True)]
        yield Row(model, [words] if words else [], size, loss, cells)


def _cells(rows: pd.DataFrame, measured: list[tuple[str, str]]) -> list[Cell]:
    return [cell_of(name, rows.loc[rows["test"] == test, name].astype(float)) for test, name in measured]
