"""Ratios of errors with their intervals: worked out by hand, and what may be said of them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from piwsl.evaluation.comparison import Ratio, by_seed, compare, holm, log_ratios, ratio_of

# Student's t of 2 degrees of freedom that leaves 2.5 % above it, of any table.
T_2 = 4.302653


def runs(errors: dict[tuple[str, int, int], float | None]) -> pd.DataFrame:
    """Return a table of runs, from errors by loss, size and seed."""
    rows = [
        {
            "dataset": "d",
            "model": "m",
            "loss": loss,
            "size": size,
            "seed": seed,
            "error": error,
            "pair_potential": False,
            "observation": f"seed {seed}",
        }
        for (loss, size, seed), error in errors.items()
    ]
    return pd.DataFrame(rows)


def test_the_interval_is_students_on_the_logarithm():
    found = ratio_of(np.log([0.5, 0.6, 0.72]))  # a geometric series: mean log 0.6, deviation log 1.2
    half = T_2 * math.log(1.2) / math.sqrt(3)
    assert found.value == pytest.approx(0.6)
    assert found.interval == pytest.approx((0.6 * math.exp(-half), 0.6 * math.exp(half)), rel=1e-5)
    # Of 2 degrees of freedom: P(|T| > t) = 1 - t / sqrt(2 + t^2).
    t = -math.log(0.6) / (math.log(1.2) / math.sqrt(3))
    assert found.p_value == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert (found.seeds, found.verdict) == (3, "better")


def test_a_ratio_and_its_inverse_are_as_sure():
    ratios = np.log([0.5, 0.6, 0.72])
    there, back = ratio_of(ratios), ratio_of(-ratios)
    assert back.value == pytest.approx(1 / there.value)
    assert back.interval == pytest.approx((1 / there.interval[1], 1 / there.interval[0]))
    assert (there.verdict, back.verdict) == ("better", "worse")


@pytest.mark.parametrize(
    ("value", "interval", "seeds", "verdict"),
    [
        (0.5, (0.4, 0.6), 3, "better"),
        (2.0, (1.5, 2.5), 3, "worse"),
        (0.5, (0.4, 0.6), 2, "undecided"),
        (0.5, None, 1, "undecided"),
        (0.9, (0.7, 1.1), 3, "undecided"),
        (1.0, (0.7, 1.4), 9, "undecided"),
        (1.00002, (1.00001, 1.00003), 3, "alike"),
        (1.001, (0.995, 1.007), 3, "alike"),
        (1.0, (1.0, 1.0), 3, "alike"),
        (0.97, (0.95, 0.99), 3, "better"),
    ],
)
def test_what_may_be_said(value, interval, seeds, verdict):
    assert Ratio(value, interval, 0.01, seeds).verdict == verdict


def test_one_seed_has_no_interval():
    assert ratio_of(np.log([0.5])) == Ratio(0.5, None, None, 1)


def test_two_seeds_far_apart_have_an_interval_that_a_float_holds():
    low, high = ratio_of(np.array([-200.0, 200.0])).interval
    assert 0.0 < low < 1.0 < high < math.inf


def test_seeds_are_the_observations_whatever_the_number_of_sizes():
    # Both sizes of a seed say the same, as where they share frames: that must not count twice.
    errors = {("base", size, seed): 1.0 for size in (10, 20) for seed in range(3)}
    errors |= {("weak", size, seed): ratio for size in (10, 20) for seed, ratio in enumerate([0.5, 0.6, 0.72])}
    whole, *each = compare(runs(errors), "loss", "base", ["weak"], "error")
    assert (whole.size, [one.size for one in each]) == (None, [10, 20])
    assert whole.ratio.seeds == 3
    assert whole.ratio.interval == pytest.approx(each[0].ratio.interval)


def test_sizes_are_pooled_within_a_seed():
    index = pd.MultiIndex.from_tuples([(10, 0), (20, 0), (10, 1), (20, 1), (40, 1)], names=["size", "seed"])
    logarithms = pd.Series(np.log([0.5, 0.8, 1.0, 0.25, 9.0]), index=index)
    # 40 frames, which one seed lacks, would make the other unlike.
    seeds = pd.Series([f"seed {seed}" for _, seed in index], index=index)
    np.testing.assert_allclose(by_seed(logarithms, seeds), np.log([math.sqrt(0.4), 0.5]))
    assert by_seed(logarithms.iloc[[0, 3]], seeds.iloc[[0, 3]]).size == 0


def test_only_like_runs_with_errors_are_paired():
    errors = {("base", 10, 0): 2.0, ("weak", 10, 0): 1.0, ("base", 10, 1): 2.0, ("weak", 10, 2): 1.0}
    errors |= {("base", 10, 3): None, ("weak", 10, 3): 1.0, ("base", 10, 4): 0.0, ("weak", 10, 4): 0.0}
    (found,) = compare(runs(errors), "loss", "base", ["weak", "not there"], "error")
    assert (found.ratio.value, found.ratio.seeds, found.size) == (pytest.approx(0.5), 1, 10)
    table = runs(errors).set_index(["size", "seed"])
    assert len(log_ratios(table["error"][:0], table["error"][:0])) == 0


def test_without_labels_there_is_nothing_to_say():
    assert compare(runs({("base", 10, 0): None, ("weak", 10, 0): None}), "loss", "base", ["weak"], "error") == []


def test_models_are_compared_at_the_same_loss_and_unlike_ones_are_known():
    table = pd.concat(
        [runs({("base", 10, 0): 1.0}).assign(model="one"),
         runs({("base", 10, 0): 3.0}).assign(model="two", pair_potential=True)]
    )  # fmt: skip
    (found,) = compare(table, "model", "one", ["two"], "error")
    assert (found.ratio.value, found.shared, found.unlike) == (
        pytest.approx(3.0),
        {"dataset": "d", "loss": "base"},
        True,
    )


def test_holm_holds_the_smallest_against_the_strictest():
    # 0.01 < 0.05/3, 0.02 < 0.05/2, 0.04 < 0.05/1.
    assert holm([0.04, 0.01, 0.02], 0.05) == [True, True, True]
    # 0.03 > 0.05/2: neither it nor what is larger stands.
    assert holm([0.04, 0.01, 0.03], 0.05) == [False, True, False]
    assert holm([], 0.05) == []
