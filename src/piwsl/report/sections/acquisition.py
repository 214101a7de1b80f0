"""Which frames were bought in rounds, by what, and how unsure that was of the candidates."""

from __future__ import annotations

import pandas as pd

from piwsl.records import Round, read_record
from piwsl.report.context import Context
from piwsl.report.markup import render, rounded
from piwsl.report.sections import ReportSection, Table

# Of the table, by its columns.
TITLES = {
    "dataset": "Dataset",
    "round": "Round",
    "bought": "Frames",
    "by": "Chosen by",
    "candidates": "Candidates",
    "spread_median": "Median spread",
    "spread_largest": "Largest spread",
    "unit": "",
    "failed": "Failed and replaced",
}
IN_WORDS = {"eV": ("meV", 1000.0), "eV/Å": ("meV/Å", 1000.0)}

TEMPLATE = """\
{% for name, said in asked.items() %}
<p><strong>{{ name }}</strong>: {{ said }}</p>
{% endfor %}
<div class="scroll"><table>
<thead><tr>{% for title in titles %}<th{% if loop.index0 > 0 %} class="number"{% endif %}>{{ title }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr>{% for title in titles %}<td{% if loop.index0 > 0 %} class="number"{% endif %}>{{ row[title] }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% if failures %}
<p>Frames that failed, and in whose place the next best were labelled:</p>
<ul>{% for line in failures %}<li>{{ line }}</li>{% endfor %}</ul>
{% endif %}
<p class="soft">The spread is how unsure the model was, before the round, of the candidates that were left: of their
energy by variance, of the force on an atom by disagreement. Seeds of one size learn the same frames: how they differ
says nothing of what another choice of frames would have given.</p>
"""


class Acquisition(ReportSection):
    """A row a dataset and round."""

    title = "Which frames were labelled"
    place = 48

    def tables(self, context: Context) -> dict[str, Table]:
        """Return a row a round; none where all frames were labelled at once."""
        rounds = [read_record(Round, path) for path in context.rounds]
        numbers, words = pd.DataFrame(map(_numbers, rounds)), pd.DataFrame(map(_in_words, rounds))
        return {"acquisition": Table(numbers, words)} if rounds else {}

    def html(self, context: Context) -> str:
        """Return what the records of the rounds say; nothing where there are none."""
        rounds = [read_record(Round, path) for path in context.rounds]
        if not rounds:
            return ""
        failures = [
            f"{each.dataset}, round {each.round}: candidate {index}: {reason}"
            for each in rounds
            for index, reason in each.failed.items()
        ]
        asked = {name: _asked(context, name) for name in dict.fromkeys(each.dataset for each in rounds)}
        return render(
            TEMPLATE, asked=asked, titles=TITLES.values(), rows=[_in_words(each) for each in rounds], failures=failures
        )


def _asked(context: Context, dataset: str) -> str:
    """Say in a sentence what chooses the frames of a dataset."""
    acquisition = context.experiment.datasets[dataset].acquisition
    assert acquisition is not None
    rounds = f"{acquisition.rounds} round{'s' if acquisition.rounds > 1 else ''} of {acquisition.each}"
    start = f"{acquisition.start} frames at random, then {rounds}"
    if acquisition.model is None:
        return f"{start} at random, too."
    return (
        f"{start} by {acquisition.by} of the model {acquisition.model} with loss {acquisition.loss}, seed "
        f"{acquisition.seed}, trained on the frames before."
    )


def _numbers(found: Round) -> dict[str, str | float | None]:
    known = found.model_dump(include={*TITLES} - {"bought", "failed"})
    values = known | {"bought": len(found.bought), "failed": len(found.failed)}
    return {key: values[key] for key in TITLES}


def _in_words(found: Round) -> dict[str, str]:
    unit, factor = IN_WORDS.get(str(found.unit), ("", 1.0))
    spreads = {
        key: "–" if (value := getattr(found, key)) is None else rounded(factor * value, 3)
        for key in ("spread_median", "spread_largest")
    }
    values = _numbers(found) | spreads | {"unit": unit}
    return {title: str(values[key]) for key, title in TITLES.items()}
