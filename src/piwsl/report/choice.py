"""Figures whose runs are chosen in the page: what is drawn of each goes into it in few bytes; choice.js draws it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from piwsl.report.context import Context
from piwsl.report.figures import drawn, fragment
from piwsl.report.markup import render
from piwsl.report.panels import Look, Panel, Series
from piwsl.report.printed import printed
from piwsl.report.words import run_in_words

Array = NDArray[np.float64]
# So many points of a run are drawn, and fewer of each where there are many runs: a page of 200 has 1,000 of each.
MOST_OF_RUN, LEAST_OF_RUN, MOST_OF_ALL = 1000, 100, 200_000
# Longer arrays are packed: 65,536 steps from their least number to their largest are finer than any screen.
WRITTEN_OUT = 64
STEPS = 65_535
TEMPLATE = """\
<div class="runs">
<p class="choice" hidden>
<label>Run <select>{% for which in choices %}
<option{% if which == default %} selected{% endif %}>{{ which }}</option>
{% endfor %}</select></label>
<label>Loss <select><option value="">all</option>
{% for loss in losses %}<option>{{ loss }}</option>{% endfor %}
</select></label></p>
<div class="panels">{% for name, figure, still in figures %}
<div data-name="{{ name }}">{{ figure }}{{ still }}</div>
{% endfor %}</div>
<p class="soft">Shown: <output>{{ shown }}</output>.</p>
<script type="application/json">{{ data | tojson }}</script>
</div>
"""
STILL = '<noscript><img src="data:image/webp;base64,{{ picture }}" alt="{{ said }}"></noscript>'
STILL_DPI = 150


@dataclass(frozen=True)
class OfRun:
    """What a figure shows of one run."""

    x: Array
    """(M,)."""
    y: Array
    """(M,)."""
    words: str
    """Its numbers in short."""


NOTHING = OfRun(np.empty(0), np.empty(0), "")


@dataclass(frozen=True)
class Choosable:
    """A figure that shows one run of each loss, or of one."""

    empty: Panel
    """Its axes, and what belongs to no run; `said` begins the sentence."""
    like: Series
    """How a run is drawn, whatever its name, look and numbers."""

    def of(self, which: str, runs: Mapping[str, Mapping[str, OfRun]], looks: Mapping[str, Look]) -> Panel:
        """Return the figure of some runs.

        Args:
            which: the runs in words.
            runs: what figures show of each, by loss and the figure's name.
            looks: by loss.
        """
        shown = {loss: of_run[self.empty.name] for loss, of_run in runs.items() if self.empty.name in of_run}
        series = (replace(self.like, name=loss, x=run.x, y=run.y, look=looks[loss]) for loss, run in shown.items())
        numbers = "; ".join(f"{loss}: {run.words}" for loss, run in shown.items())
        said = f"{self.empty.said}, {which}. {numbers}."
        return replace(self.empty, said=said, series=(*series, *self.empty.series))


def points_of_run(runs: int) -> int:
    """Return how many points of each of so many runs are drawn at most."""
    return max(LEAST_OF_RUN, min(MOST_OF_RUN, MOST_OF_ALL // max(runs, 1)))


def chosen_in_page(
    context: Context, figures: Sequence[Choosable], of_runs: Mapping[int, Mapping[str, OfRun]], height: int
) -> Markup:
    """Return figures side by side, below what chooses their runs; those of `Context.example` are shown first.

    Args:
        context: of one dataset and model.
        figures: what is shown.
        of_runs: what the figures show of each run, by the index of the run in `context.runs` and the figure's name.
        height: of a figure, pixels.
    """
    default = context.example()[0]
    which = pd.Series(map(run_in_words, context.runs["size"], context.runs["seed"]), index=context.runs.index)
    example = {
        loss: of_runs[index]
        for index, loss, words in zip(context.runs.index, context.runs["loss"], which, strict=True)
        if words == default
    }
    losses = list(dict.fromkeys(context.runs["loss"]))
    shown = []
    for figure in figures:
        panel = figure.of(default, example, context.looks)
        empty = figure.of(default, {loss: {figure.empty.name: NOTHING} for loss in losses}, context.looks)
        shown.append((figure.empty.name, fragment(drawn(empty, height), panel.said, panel.title), still(panel)))
    return render(
        TEMPLATE,
        default=default,
        shown=f"{default}: {', '.join(example)}",
        choices=list(dict.fromkeys(which)),
        losses=losses,
        figures=shown,
        data=_data(context.runs["loss"], which, of_runs) | {"said": {f.empty.name: f.empty.said for f in figures}},
    )


def _data(losses: pd.Series, which: pd.Series, of_runs: Mapping[int, Mapping[str, OfRun]]) -> dict[str, Any]:
    """Return what choice.js draws, as JSON takes it."""
    arrays = _Arrays()
    runs = [
        {"loss": loss, "which": words, "figures": {name: arrays.drawn(one) for name, one in of_runs[index].items()}}
        for index, loss, words in zip(losses.index, losses, which, strict=True)
    ]
    return {"losses": list(dict.fromkeys(losses)), "runs": runs, "arrays": arrays.written}


def still(panel: Panel) -> Markup:
    """Return a figure as a picture that is seen where scripts do not run."""
    picture = BytesIO()
    printed(panel).savefig(picture, format="webp", dpi=STILL_DPI)
    return render(STILL, picture=b64encode(picture.getvalue()).decode(), said=panel.said)


class _Arrays:
    """Arrays as they go into the page, each once: runs share labels."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self._numbers: dict[bytes, int] = {}

    def drawn(self, run: OfRun) -> dict[str, Any]:
        """Return what a figure shows of a run, its arrays by their numbers among those written."""
        return {"x": self._number(run.x), "y": self._number(run.y), "words": run.words}

    def _number(self, values: Array) -> int:
        key = np.asarray(values, dtype=np.float64).tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self.written)
            self.written.append(packed(values))
        return self._numbers[key]


def packed(values: Array) -> list[float] | dict[str, Any]:
    """Return finite numbers as JSON takes them: few as they are, many as steps from the least of them.

    Returns:
        Numbers of five digits, or low, step and bits: Base64 of unsigned integers n of 16 bits, little-endian, that
        stand for low + step n.
    """
    if len(values) <= WRITTEN_OUT:
        return [float(f"{value:.5g}") for value in values]
    low, step = float(values.min()), float(np.ptp(values)) / STEPS
    steps = np.zeros(len(values)) if step == 0.0 else np.rint((values - low) / step)
    return {"low": low, "step": step, "bits": b64encode(steps.astype("<u2").tobytes()).decode()}
