"""Whether one loss or model is better than another: ratios of errors of like runs, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
# With fewer, the interval says more of its two numbers than of the method.
LEAST_SEEDS = 3
# Ratios nearer to 1 than this matter to nobody, however sure they are.
MARGIN = 0.02
# Two seeds may give intervals that no float holds.
LARGEST_LOG = 100.0
AXES = ("dataset", "model", "loss", "size", "seed")

Verdict = Literal["better", "worse", "alike", "undecided"]


@dataclass(frozen=True)
class Ratio:
    """The error of a candidate over that of a baseline: below 1 the candidate is better."""

    value: float
    """Geometric mean over seeds."""
    interval: tuple[float, float] | None
    """Of CONFIDENCE, by Student's t on the logarithm; None of one seed."""
    p_value: float | None
    """How likely a mean logarithm so far from 0 is if there is no effect; None of one seed."""
    seeds: int
    """Those of which both models are the same functions of the same frames count as one."""

    @property
    def verdict(self) -> Verdict:
        """What may be said.

        Undecided below LEAST_SEEDS; alike where the ratio, or all of its interval, is within MARGIN of 1; undecided
        where the interval holds 1.
        """
        if self.interval is None or self.seeds < LEAST_SEEDS:
            return "undecided"
        low, high = self.interval
        if low <= 1.0 <= high:
            return "alike" if _small(low) and _small(high) else "undecided"
        if _small(self.value):
            return "alike"
        return "better" if high < 1.0 else "worse"


def _small(ratio: float) -> bool:
    return abs(math.log(ratio)) <= math.log1p(MARGIN)


def ratio_of(logarithms: NDArray[np.float64]) -> Ratio:
    """Return the mean of logarithms of ratios with its t interval: exp(m ± t s/√n), s with n - 1 degrees of freedom.

    The two-sided p value is that of a mean of 0. (Student, "The probable error of a mean", Biometrika 6, 1 (1908); on
    logarithms, for a ratio and its inverse are to be as far from 1.)

    Args:
        logarithms: (n,), one a seed; seeds are independent, sizes within a seed are not.

    Raises:
        ValueError: there are none.
    """
    count = len(logarithms)
    if not count:
        raise ValueError("no ratio to take the mean of")
    mean = float(np.mean(logarithms))
    if count == 1:
        return Ratio(math.exp(mean), None, None, count)
    deviation = float(np.std(logarithms, ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * deviation
    statistic = abs(mean) / deviation if deviation else math.inf
    p_value = float(2.0 * stats.t.sf(statistic, count - 1)) if mean else 1.0
    low, high = np.exp(np.clip([mean - half, mean + half], -LARGEST_LOG, LARGEST_LOG)).tolist()
    return Ratio(math.exp(mean), (low, high), p_value, count)


def log_ratios(candidate: pd.Series, baseline: pd.Series) -> pd.Series:
    """Return logarithms of the ratios of errors of runs that are alike in size and seed.

    Args:
        candidate: errors, indexed by (size, seed).
        baseline: likewise.

    Returns:
        Indexed likewise; runs without a like one, or without an error above 0, are left out.
    """
    both = pd.DataFrame({"candidate": candidate, "baseline": baseline}, dtype=float)
    both = both[(both > 0).all(axis=1)]
    return pd.Series(np.log(both["candidate"] / both["baseline"]), index=both.index)


def by_seed(logarithms: pd.Series, observations: pd.Series) -> NDArray[np.float64]:
    """Pool sizes: return the mean logarithm of each seed, over the sizes that all seeds have.

    Runs of one seed share frames, for its larger training sets hold its smaller ones; a seed is therefore one
    observation, whatever number of sizes it was run at. A size that some seed lacks would make seeds unlike. So are
    seeds one observation where models and frames are the same; a size at which all are is pooled with no other, for it
    would add no spread to that of the others.

    Args:
        logarithms: indexed by (size, seed).
        observations: likewise, text that is the same where runs are one observation.

    Returns:
        (observations,); empty where seeds have no size in common.
    """
    wide = logarithms.unstack("seed").dropna()
    if not len(wide):
        return np.empty(0)
    which = observations.unstack("seed").loc[wide.index, wide.columns]
    differ = which.nunique(axis="columns") > 1
    if differ.any():
        wide, which = wide[differ], which[differ]
    of_seeds = wide.mean(axis="index").groupby(which.agg("; ".join), sort=False)
    return of_seeds.mean().to_numpy(dtype=float)


@dataclass(frozen=True)
class Comparison:
    """A candidate against a baseline that differs from it on one axis of the grid alone."""

    axis: str
    """model or loss."""
    candidate: str
    baseline: str
    shared: dict[str, str]
    """What both have: dataset, and loss or model."""
    size: int | None
    """None where sizes are pooled."""
    measure: str
    """Column of the table of runs."""
    ratio: Ratio
    unlike: bool
    """Whether the networks of one correct a pair potential and those of the other do not."""


def compare(
    runs: pd.DataFrame, axis: Literal["model", "loss"], baseline: str, candidates: Sequence[str], measure: str
) -> list[Comparison]:
    """Compare each candidate with a baseline, pooled over sizes, then size by size.

    Args:
        runs: a row a run: columns of AXES, `measure`, pair_potential, and observation, text that is the same of seeds
            whose models are the same function of the same frames.
        axis: what candidates and baseline are.
        baseline: a value of that axis.
        candidates: further values.
        measure: an error, the smaller the better.

    Returns:
        For each dataset and value of the other axis that has runs of both: the pooled comparison, where there is more
        than one size, and one a size.
    """
    other = "loss" if axis == "model" else "model"
    found = []
    for (dataset, value), group in runs.groupby(["dataset", other], sort=False):
        of = {str(name): rows.set_index(["size", "seed"]) for name, rows in group.groupby(axis, sort=False)}
        for candidate in candidates:
            if baseline not in of or candidate not in of:
                continue
            logarithms = log_ratios(of[candidate][measure], of[baseline][measure])
            pair = of[candidate]["pair_potential"], of[baseline]["pair_potential"]
            unlike = (pair[0] != pair[1].reindex(pair[0].index)).reindex(logarithms.index)
            both = of[candidate]["observation"] + " and " + of[baseline]["observation"]
            shared = {"dataset": str(dataset), other: str(value)}
            for size, part in _portions(logarithms):
                ratios = by_seed(part, both.reindex(part.index))
                if len(ratios):
                    said = bool(unlike.loc[part.index].any())
                    found.append(
                        Comparison(axis, candidate, baseline, shared, size, measure, ratio_of(ratios), unlike=said)
                    )
    return found


def _portions(logarithms: pd.Series) -> list[tuple[int | None, pd.Series]]:
    """Return all sizes together, where there are several, and each alone."""
    sizes = sorted({int(size) for size in logarithms.index.get_level_values("size")})
    each: list[tuple[int | None, pd.Series]] = [(size, logarithms.loc[[size]]) for size in sizes]
    return [(None, logarithms), *each] if len(sizes) > 1 else each


def holm(p_values: Sequence[float], error_rate: float = 1.0 - CONFIDENCE) -> list[bool]:
    """Return which of several effects stand when the chance of even one false one is to be at most `error_rate`.

    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 65 (1979): the smallest p value
    is held against error_rate/k, the next against error_rate/(k - 1), until one is larger.

    Args:
        p_values: one a comparison, in any order.
        error_rate: of the whole family.
    """
    stands = [False] * len(p_values)
    for rank, position in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[position] > error_rate / (len(p_values) - rank):
            break
        stands[position] = True
    return stands
