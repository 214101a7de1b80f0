"""Correlation where a spin has no electron to correlate, or no orbital to correlate into."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from helpers import MEMORY_MB
from pyscf import gto, scf

from piwsl.reference.calculations import Outcome, run_level
from piwsl.reference.differences import central_difference_forces
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.failures import FrameFailure

HYDROGEN = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.9]])
# Name, atoms, multiplicity, frozen core: no β electron is correlated.
ONE_SPIN = {
    "hydrogen": (HYDROGEN, 3, True),
    "lithium": (Atoms("Li"), 4, True),
    "beryllium above its core": (Atoms("Be"), 3, {"Be": 1}),
    "carbon above its core": (Atoms("C"), 5, True),
}
SOLVERS: tuple[dict[str, Any], ...] = (
    {"method": "mp2"},
    {"method": "ccsd"},
    {"method": "ccsd(t)"},
    {"method": "ccsd(t)", "natural_orbitals": 1e-7},
    {"method": "ccsd(t)", "orbitals": "restricted"},
)


def computed(atoms: Atoms, multiplicity: int, basis: str = "cc-pvdz", **keys: Any) -> Outcome:
    return run_level(atoms, PySCF.model_validate({"basis": basis} | keys), 0, multiplicity, MEMORY_MB)


def correlation(atoms: Atoms, multiplicity: int, basis: str = "cc-pvdz", **keys: Any) -> float:
    energies = computed(atoms, multiplicity, basis, **keys).energies
    return next(energy for part, energy in energies.items() if part.method == keys["method"])


@pytest.mark.parametrize("fitted", [False, True], ids=["conventional", "fitted"])
@pytest.mark.parametrize("case", ONE_SPIN)
def test_electrons_of_one_spin_correlate_with_each_other(case, fitted):
    atoms, multiplicity, frozen = ONE_SPIN[case]
    mp2, ccsd, triples, natural, restricted = (
        correlation(atoms, multiplicity, frozen_core=frozen, density_fitting=fitted, **solver) for solver in SOLVERS
    )
    assert triples <= ccsd < mp2 < -1e-3
    # Orbitals that MP2 does not reach by symmetry are cut off at any threshold.
    assert natural == pytest.approx(triples, abs=2e-5)
    assert restricted == pytest.approx(triples, abs=1e-5)


@pytest.mark.parametrize("case", ONE_SPIN)
def test_fitted_coupled_cluster_of_one_spin_begins_at_fitted_mp2_and_is_close_to_conventional(case):
    atoms, multiplicity, frozen = ONE_SPIN[case]
    stages = [
        {"method": "hf", "bases": ["cc-pvdz"], "density_fitting": True},
        {"method": "mp2", "bases": ["cc-pvdz"], "density_fitting": True},
        {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"], "density_fitting": True},
    ]
    level = PySCF.model_validate({"stages": stages, "frozen_core": frozen})
    together = {
        part.method: energy for part, energy in run_level(atoms, level, 0, multiplicity, MEMORY_MB).energies.items()
    }
    alone = {"frozen_core": frozen, "density_fitting": True}
    assert together["mp2"] == pytest.approx(correlation(atoms, multiplicity, method="mp2", **alone), abs=1e-9)
    conventional = correlation(atoms, multiplicity, method="ccsd(t)", frozen_core=frozen)
    assert together["ccsd(t)"] == pytest.approx(conventional, abs=3e-4)
    assert together["ccsd(t)"] != pytest.approx(conventional, abs=1e-9)


def test_mp2_of_one_spin_is_the_sum_over_its_pairs():
    # Σ_{i<j, a<b} |(ia|jb) - (ib|ja)|² / (ε_i + ε_j - ε_a - ε_b): Szabo, Ostlund, Modern Quantum Chemistry, eq. 6.71.
    molecule = gto.M(atom="H 0 0 0; H 0 0 0.9", basis="cc-pvdz", spin=2, verbose=0)
    mean_field = scf.UHF(molecule).run(conv_tol=1e-11)
    orbitals, energies = mean_field.mo_coeff[0], mean_field.mo_energy[0]
    integrals = np.einsum(
        "pqrs,pi,qa,rj,sb->iajb", molecule.intor("int2e"), *[orbitals[:, :2], orbitals[:, 2:]] * 2, optimize=True
    )
    first, second = integrals[0, :, 1, :], integrals[0, :, 1, :].T
    gaps = energies[:2].sum() - energies[2:, None] - energies[None, 2:]
    by_hand = 0.5 * np.sum((first - second) ** 2 / gaps)
    assert correlation(HYDROGEN, 3, method="mp2", density_fitting=False) == pytest.approx(by_hand, abs=1e-8)


@pytest.mark.parametrize("keys", [{"natural_orbitals": 1e-4}, {}], ids=["natural", "whole"])
def test_forces_by_differences_of_one_spin_start_from_its_amplitudes(keys):
    level = PySCF.model_validate({"method": "ccsd(t)", "basis": "cc-pvdz", "density_fitting": True} | keys)
    near = level.displaced(HYDROGEN, 0, 3, MEMORY_MB)
    (_, _, slope), (_, _, opposite) = central_difference_forces(HYDROGEN, lambda moved: near(moved).energy)
    analytic = PySCF.model_validate({"method": "ccsd", "basis": "cc-pvdz"})
    forces = analytic.single_point(HYDROGEN, 0, 3, MEMORY_MB, True).forces
    assert opposite == pytest.approx(-slope, abs=1e-8)
    # Triples need three electrons; what is left is the error of fitting.
    assert opposite == pytest.approx(forces[1, 2], abs=0.01)


# Neon has no empty orbital in a minimal basis, nitrogen none of α.
@pytest.mark.parametrize("fitted", [False, True], ids=["conventional", "fitted"])
@pytest.mark.parametrize(("symbol", "multiplicity"), [("Ne", 1), ("He", 1), ("N", 4), ("O", 3), ("F", 2)])
def test_where_no_empty_orbital_can_be_reached_there_is_no_correlation(symbol, multiplicity, fitted):
    for solver in SOLVERS:
        of_closed_shell = solver.get("orbitals") == "restricted" and multiplicity == 1
        keys = solver | {"density_fitting": fitted} | ({"orbitals": None} if of_closed_shell else {})
        assert correlation(Atoms(symbol), multiplicity, "sto-3g", **keys) == pytest.approx(0.0, abs=1e-10)


def test_without_correlation_the_gradient_is_that_of_the_mean_field():
    atoms = Atoms("He2", positions=[[0, 0, 0], [0, 0, 1.0]])
    coupled, mean_field = (
        PySCF.model_validate({"method": method, "basis": "sto-3g", "density_fitting": False})
        for method in ("ccsd(t)", "hf")
    )
    found = [level.single_point(atoms, 0, 1, MEMORY_MB, True) for level in (coupled, mean_field)]
    assert found[0].energy == found[1].energy
    np.testing.assert_allclose(found[0].forces, found[1].forces, atol=1e-12)


def test_triples_of_one_spin_beside_another_without_an_empty_orbital_are_refused_in_a_line():
    atoms = Atoms("N2", positions=[[0, 0, 0], [0, 0, 1.2]])
    with pytest.raises(FrameFailure, match="no virtual orbital of one spin is left in this basis; take a larger one"):
        computed(atoms, 7, "sto-3g", method="ccsd(t)", frozen_core=False)
    assert correlation(atoms, 7, "sto-3g", method="ccsd", frozen_core=False) < 0.0
