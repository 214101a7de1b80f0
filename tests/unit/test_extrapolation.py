"""The extrapolation formulas return the limit of the model function that each is derived from, and their own slopes."""

from __future__ import annotations

import math

import pytest
from pyscf import gto, scf

from piwsl.config import Extrapolation
from piwsl.config.stages import SQUARE_ROOT_EXPONENTS
from piwsl.reference.components import Component, MeanFieldKey, composite_energy, required_components
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.extrapolation import ExtrapolationError, basis_set_limit

LAWS = {
    "exponential": lambda exponent, x: math.exp(-exponent * x),
    "exponential-sqrt": lambda exponent, x: math.exp(-exponent * math.sqrt(x)),
    "power": lambda exponent, x: x**-exponent,
}


@pytest.mark.parametrize("cardinal", [2, 3, 4])
@pytest.mark.parametrize(("formula", "exponent"), [("exponential", 1.63), ("exponential-sqrt", 5.46), ("power", 3.0)])
def test_two_points_give_the_limit_of_their_law(formula, exponent, cardinal):
    energies = [-76.06 + 2.5 * LAWS[formula](exponent, x) for x in (cardinal, cardinal + 1)]
    limit = basis_set_limit(Extrapolation(formula, exponent, cardinal), energies)
    assert limit.energy == pytest.approx(-76.06, abs=1e-12)


@pytest.mark.parametrize("exponent", [0.7, 1.63])
def test_three_points_give_the_limit_of_an_exponential_of_any_exponent(exponent):
    energies = [-76.06 + 2.5 * math.exp(-exponent * x) for x in (2, 3, 4)]
    assert basis_set_limit(Extrapolation("three-point", None, 2), energies).energy == pytest.approx(-76.06, abs=1e-12)


@pytest.mark.parametrize("energies", [(-1.0, -1.1, -1.3), (-1.0, -1.1, -1.05), (-1.0, -1.0, -1.0)])
def test_three_points_that_do_not_converge_are_refused(energies):
    with pytest.raises(ExtrapolationError, match="do not converge exponentially"):
        basis_set_limit(Extrapolation("three-point", None, 2), energies)


@pytest.mark.parametrize(
    ("extrapolation", "energies"),
    [
        (Extrapolation("exponential", 1.63, 3), [-1.00, -1.10]),
        (Extrapolation("power", 2.4, 2), [-0.20, -0.25]),
        (Extrapolation("three-point", None, 2), [-1.00, -1.10, -1.13]),
    ],
)
def test_slopes_are_the_derivatives_of_the_limit(extrapolation, energies):
    slopes = basis_set_limit(extrapolation, energies).slopes
    for position, slope in enumerate(slopes):
        moved = [[e + sign * 1e-6 * (n == position) for n, e in enumerate(energies)] for sign in (1, -1)]
        ahead, behind = (basis_set_limit(extrapolation, point).energy for point in moved)
        assert slope == pytest.approx((ahead - behind) / 2e-6, rel=1e-6)
    # A constant added to all energies is added to the limit.
    assert sum(slopes) == pytest.approx(1.0)


def test_correlation_limit_by_hand():
    # (27 · -0.25 - 8 · -0.20) / 19
    limit = basis_set_limit(Extrapolation("power", 3.0, 2), [-0.20, -0.25])
    assert limit.energy == pytest.approx((-6.75 + 1.6) / 19)


def test_families_bring_their_exponents():
    def limits(bases: list[str], **options: str) -> list[Extrapolation]:
        stages = [{"method": "hf", "bases": bases, **options}, {"method": "mp2", "bases": bases}]
        return [stage.limit() for stage in PySCF.model_validate({"stages": stages}).stages]

    assert limits(["cc-pvtz", "cc-pvqz"]) == [("exponential", 1.63, 3), ("power", 3.0, 3)]
    assert limits(["cc-pvdz", "cc-pvtz"], extrapolation="exponential-sqrt")[0] == ("exponential-sqrt", 4.42, 2)
    assert limits(["def2-svp", "def2-tzvp"]) == [("exponential-sqrt", 10.39, 2), ("power", 2.40, 2)]
    assert limits(["def2-TZVPP", "def2-QZVPP"]) == [("exponential-sqrt", 7.88, 3), ("power", 2.97, 3)]


FOCAL_POINT = PySCF.model_validate(
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
    def part(method: str, basis: str, fitted: bool) -> Component:
        return Component(method, MeanFieldKey(basis, fitted))

    energies = {
        part("hf", "cc-pvdz", True): -1.0,
        part("hf", "cc-pvtz", True): -1.1,
        part("mp2", "cc-pvdz", True): -0.20,
        part("mp2", "cc-pvtz", True): -0.25,
        part("mp2", "cc-pvdz", False): -0.21,
        part("ccsd(t)", "cc-pvdz", False): -0.23,
    }
    decay = math.exp(-1.63)
    hartree_fock, mp2 = (-1.1 + decay * 1.0) / (1 - decay), (-6.75 + 1.6) / 19
    total = composite_energy(FOCAL_POINT, energies)
    assert total.energy == pytest.approx(hartree_fock + mp2 + (-0.23 + 0.21), abs=1e-14)
    assert total.slopes[-2:] == (1.0, -1.0)


def test_the_exponents_of_every_family_bring_water_near_its_hartree_fock_limit():
    bases = {
        "cc": ["cc-pvdz", "cc-pvtz", "cc-pvqz"],
        "aug-cc": ["aug-cc-pvdz", "aug-cc-pvtz", "aug-cc-pvqz"],
        "def2": ["def2-svp", "def2-tzvpp", "def2-qzvpp"],
    }

    def energy(basis: str) -> float:
        molecule = gto.M(atom="O 0 0 0.1193; H 0 0.7632 -0.477; H 0 -0.7632 -0.477", basis=basis, verbose=0)
        return float(scf.RHF(molecule).density_fit(auxbasis="cc-pv5z-jkfit").run(conv_tol=1e-10).e_tot)

    # The limit by another formula, from larger bases.
    limit = basis_set_limit(Extrapolation("exponential", 1.63, 4), [energy("cc-pvqz"), energy("cc-pv5z")]).energy
    for group, names in bases.items():
        energies = [energy(name) for name in names]
        for smallest in (2, 3):
            exponent = SQUARE_ROOT_EXPONENTS[group, smallest]
            pair = energies[smallest - 2 : smallest]
            found = basis_set_limit(Extrapolation("exponential-sqrt", exponent, smallest), pair).energy
            assert abs(found - limit) < 0.4 * abs(pair[1] - limit), (group, smallest)
