"""How long replicas live: the survival curve of Kaplan and Meier, with intervals that few replicas do not fool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta


@dataclass(frozen=True)
class SurvivalPoint:
    """The curve from one time on, until the next."""

    time: float
    at_risk: int
    """Replicas that were running just before."""
    failed: int
    """At this time."""
    survival: float
    low: float
    high: float


def kaplan_meier(times: Sequence[float], failed: Sequence[bool], confidence: float = 0.95) -> list[SurvivalPoint]:
    """Estimate which share of replicas is still stable after a time.

    Kaplan and Meier, J. Am. Stat. Assoc. 53, 457 (1958). The interval at each time is that of Clopper and Pearson,
    Biometrika 26, 404 (1934), for as many independent replicas as Greenwood's variance is worth: Dorey and Korn, Stat.
    Med. 6, 679 (1987). Where all replicas run equally long it is the exact binomial one; where none has failed it has
    a width, too.

    Args:
        times: when each replica failed, or when it was last seen.
        failed: whether it failed then.
        confidence: of each interval.

    Returns:
        A point at time 0, one at each time of failures, one at the end.

    Raises:
        ValueError: there are no times.
    """
    at, gone = np.asarray(times, dtype=float), np.asarray(failed, dtype=bool)
    if len(at) == 0:
        raise ValueError("no replicas")
    points = [SurvivalPoint(0.0, len(at), 0, 1.0, *clopper_pearson(len(at), len(at), confidence))]
    survival, greenwood, worth = 1.0, 0.0, float(len(at))
    for time in sorted({*at[gone].tolist(), float(at.max())}):
        risk, deaths = int((at >= time).sum()), int((gone & (at == time)).sum())
        survival *= 1 - deaths / risk
        if survival == 1:
            worth = float(risk)
        elif survival > 0:
            greenwood += deaths / (risk * (risk - deaths))
            # S (1 - S) / n is the variance of n independent replicas, S² times Greenwood's sum that of the curve.
            worth = (1 - survival) / (survival * greenwood)
        low, high = clopper_pearson(survival * worth, worth, confidence)
        points.append(SurvivalPoint(float(time), risk, deaths, survival, low, high))
    return points


def clopper_pearson(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a share, exact for whole numbers.

    Args:
        successes: of the trials.
        trials: need not be whole.
        confidence: that the interval holds the share.
    """
    tail = (1 - confidence) / 2
    low = 0.0 if successes <= 0 else float(beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes >= trials else float(beta.ppf(1 - tail, successes + 1, trials - successes))
    return low, high


def in_words(stable: Sequence[float], failed: Sequence[bool], whole: float) -> str:
    """Say how long replicas were stable, a time that was cut off as such.

    Args:
        stable: ps, of each replica.
        failed: whether it failed then.
        whole: ps, of the simulation.

    Returns:
        Such as "at least 1 ps, none of 6 failed", or "2 of 6 failed, the first after 0.31 ps, of 1 ps".
    """
    count = len(stable)
    if not any(failed):
        return f"at least {whole:g} ps, {'the one replica did not fail' if count == 1 else f'none of {count} failed'}"
    first = min(time for time, gone in zip(stable, failed, strict=True) if gone)
    who = "the one replica" if count == 1 else f"{sum(failed)} of {count}"
    return f"{who} failed, {'after' if sum(failed) == 1 else 'the first after'} {first:.3g} ps, of {whole:g} ps"
