"""What a figure shows, whoever draws it: axes and named series; on the page figures.py draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

# Each has a contrast of 3 or more with white and with the page in the dark; those after the first three are told apart
# by dash and symbol, too, for the colour-blind.
PALETTE = ("#0072B2", "#D55E00", "#00916A", "#C2609A", "#A87900", "#8566C9", "#2A93C4", "#7A7F87")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down")
GREY = "#616e7c"
# A figure with more points says no more, and a page of many grows by tens of megabytes.
MOST_POINTS = 2000
# Axes are never of less than this factor, so that what agrees to five digits looks as it is: alike.
LEAST_FACTOR = 1.25
# By which share of its length an axis goes beyond the data.
MARGIN = 0.06
# From so many on there is a tick a decade.
MANY_DECADES = 5


@dataclass(frozen=True)
class Look:
    """How all that belongs to one name is drawn."""

    colour: str
    dash: str = "solid"
    symbol: str = "circle"


def loss_looks(losses: Sequence[str]) -> dict[str, Look]:
    """Give each loss its look; dashes and symbols come round at other numbers than colours."""
    return {
        loss: Look(PALETTE[n % len(PALETTE)], DASHES[n % len(DASHES)], SYMBOLS[n % len(SYMBOLS)])
        for n, loss in enumerate(losses)
    }


@dataclass(frozen=True)
class Axis:
    """An axis: its title with the unit; where it is logarithmic; ticks and range where these are not left open."""

    title: str
    log: bool = False
    ticks: tuple[float, ...] = ()
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """Points, joined or not."""

    name: str
    x: ArrayLike
    y: ArrayLike
    look: Look
    points: float = 0.0
    """Size of the symbols in pixels; 0 for none."""
    line: float = 0.0
    """Width of the line in pixels; 0 for none."""
    opacity: float = 1.0
    legend: bool = True
    hover: str = ""
    """Plotly's template of what is said of a point; "" for nothing."""
    more: ArrayLike = field(default=())
    """What else the template names, as customdata."""
    steps: bool = False
    """Whether each value holds until the next."""
    band: tuple[ArrayLike, ArrayLike] | None = None
    """Ends of an interval about each value, low and high: a faint band."""


@dataclass(frozen=True)
class Panel:
    """One plot."""

    name: str
    """Of its files."""
    title: str
    said: str
    """What it shows, in a sentence, for those who do not see it."""
    x: Axis
    y: Axis
    series: tuple[Series, ...]


def stepped(
    x: ArrayLike, low: ArrayLike, high: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of a band whose ends hold from each x until the next, (M,) each to (2M - 1,)."""
    return np.repeat(x, 2)[1:], np.repeat(low, 2)[:-1], np.repeat(high, 2)[:-1]


def thinned(
    x: NDArray[np.float64], y: NDArray[np.float64], most: int = MOST_POINTS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pairs of numbers, (M,) each, or so many of them drawn at random, the same ones each time."""
    if len(x) <= most:
        return x, y
    kept = np.sort(np.random.default_rng(0).choice(len(x), most, replace=False))
    return x[kept], y[kept]


def at_values(title: str, values: pd.Series) -> Axis:
    """Return a logarithmic axis with ticks at the values themselves."""
    ticks = sorted({float(value) for value in values})
    return Axis(title, log=True, ticks=tuple(ticks), range=_reach(ticks[0], ticks[-1]))


def one_two_five(title: str, values: pd.Series) -> Axis:
    """Return a logarithmic axis with ticks at 1, 2 and 5 of each decade, or fewer, or round ones."""
    positive = values[(values > 0) & np.isfinite(values)]
    if positive.empty:
        return Axis(title)
    low, high = _reach(float(positive.min()), float(positive.max()))
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    digits = (1, 2, 5) if len(decades) <= MANY_DECADES else (1,)
    ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    within = [float(f"{tick:.6g}") for tick in ticks if low <= tick <= high]
    return Axis(title, log=True, ticks=tuple(within if len(within) > 1 else _round(low, high)), range=(low, high))


def _reach(low: float, high: float) -> tuple[float, float]:
    """Return the ends of a logarithmic axis for values from low to high."""
    middle, half = np.sqrt(low * high), np.sqrt(max(high / low, LEAST_FACTOR))
    beyond = half ** (1.0 + 2.0 * MARGIN)
    return float(middle / beyond), float(middle * beyond)


def _round(low: float, high: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(f"{tick:.6g}") for tick in ticks if low <= tick <= high]
