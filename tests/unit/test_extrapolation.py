"""The extrapolation formulas return the limit of the model function that each is derived from."""

from __future__ import annotations

import math

import pytest

from piwsl.config import Level
from piwsl.reference.calculations import Component, composite_energy, required_components
from piwsl.reference.extrapolation import correlation_limit, hartree_fock_limit


@pytest.mark.parametrize("cardinal", [3, 4, 5])
def test_hartree_fock_limit_of_an_exponential(cardinal):
    def energy(x):
        return -76.06 + 2.5 * math.exp(-1.63 * x)

    assert hartree_fock_limit(energy(cardinal - 1), energy(cardinal)) == pytest.approx(-76.06, abs=1e-12)


@pytest.mark.parametrize("cardinal", [3, 4, 5])
def test_correlation_limit_of_an_inverse_cube(cardinal):
    def energy(x):
        return -0.3 + 0.8 / x**3

    assert correlation_limit(energy(cardinal - 1), energy(cardinal), cardinal) == pytest.approx(-0.3, abs=1e-12)


def test_correlation_limit_by_hand():
    # (27 · -0.25 - 8 · -0.20) / 19
    assert correlation_limit(-0.20, -0.25, cardinal=3) == pytest.approx((-6.75 + 1.6) / 19)


FOCAL_POINT = Level.model_validate(
    {
        "stages": [
            {"method": "hf", "bases": ["cc-pvdz", "cc-pvtz"]},
            {"method": "mp2", "bases": ["cc-pvdz", "cc-pvtz"]},
            {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"]},
        ]
    }
)


def test_a_focal_point_scheme_needs_each_part_once():
    assert [str(part) for part in required_components(FOCAL_POINT)] == [
        "df-hf/cc-pvdz",
        "df-hf/cc-pvtz",
        "df-mp2/cc-pvdz",
        "df-mp2/cc-pvtz",
        "ccsd(t)/cc-pvdz",
        "mp2/cc-pvdz",
    ]


def test_a_focal_point_scheme_adds_limits_and_a_correction():
    energies = {
        Component("hf", "cc-pvdz", True): -1.0,
        Component("hf", "cc-pvtz", True): -1.1,
        Component("mp2", "cc-pvdz", True): -0.20,
        Component("mp2", "cc-pvtz", True): -0.25,
        Component("mp2", "cc-pvdz", False): -0.21,
        Component("ccsd(t)", "cc-pvdz", False): -0.23,
    }
    expected = hartree_fock_limit(-1.0, -1.1) + correlation_limit(-0.20, -0.25, 3) + (-0.23 + 0.21)
    assert composite_energy(FOCAL_POINT, energies) == pytest.approx(expected, abs=1e-14)
