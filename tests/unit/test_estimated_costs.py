"""Estimates beside measured times of molecules and levels that the cost model was not fitted to.

The times are in tests/unit/costs.jsonl, which tests/benchmarks/fit_costs.py writes.
"""

from __future__ import annotations

import sys

import pytest
from helpers import ROOT

from piwsl.reference.costs import SECONDS

sys.path.append(str(ROOT / "tests" / "benchmarks"))

from fit_costs import CHECK, FIT, SHORTEST_SECONDS, Measured, measured

KEPT = measured()
CHECKED = [each for each in KEPT if each.purpose == "check"]


@pytest.mark.parametrize("case", CHECKED, ids=Measured.in_words)
def test_estimates_hold_within_a_factor_of_two(case):
    ratio = (case.estimated() + SHORTEST_SECONDS) / (case.taken() + SHORTEST_SECONDS)
    assert 0.5 < ratio < 2.0


def test_what_is_measured_is_what_the_benchmark_asks_for():
    for purpose, cases in (("fit", FIT), ("check", CHECK)):
        asked = {Measured(purpose, name, each.level, each.forces, {}).in_words() for each in cases
                 for name in each.molecules.split()}  # fmt: skip
        assert {each.in_words() for each in KEPT if each.purpose == purpose} == asked


def test_nothing_is_checked_that_was_fitted():
    fitted = {each.in_words() for each in KEPT if each.purpose == "fit"}
    assert fitted.isdisjoint(each.in_words() for each in CHECKED)


def test_the_comparison_is_broad_enough():
    presets = [each.level.get("preset") for each in CHECKED]
    assert {"demo", "ccsdt-cbs", "ccsdt-cbs-tz", "mp2-cbs", "dft"} <= {*presets}
    assert {"NO2", "HCO", "CH3", "OH", "O2"} <= {each.molecule for each in CHECKED}  # open shells
    assert {"HI", "HBr"} <= {each.molecule for each in CHECKED}  # one with a core potential
    assert {each.forces for each in CHECKED} == {None, "analytic", "differences"}
    gradients = [each for each in CHECKED if each.forces == "analytic" and each.level.get("method") == "ccsd(t)"]
    assert len(gradients) >= 3
    assert min(each.taken() for each in CHECKED) < 1.0 < 30.0 < max(each.taken() for each in CHECKED)


def test_every_multiplication_that_is_counted_takes_time_and_is_fitted_to_something():
    counted = {name for each in KEPT if each.purpose == "fit" for one in each.calculations() for name in one.work}
    assert counted == SECONDS.keys()
    assert all(seconds > 0 for seconds in SECONDS.values())
