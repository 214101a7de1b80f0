"""Fitted Coulomb and exchange of densities that come without orbitals, beside PySCF's own."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from helpers import MEMORY_MB, displaced
from pyscf import df

from piwsl.reference.calculations import build_molecule
from piwsl.reference.components import MeanFieldKey
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.low_rank import LowRankDF, in_orbitals
from piwsl.reference.mean_field import converge, mean_field_object, projected

LEVEL = PySCF.model_validate({"method": "hf", "basis": "cc-pvtz"})


def water():
    return build_molecule(molecule("H2O"), "cc-pvtz", 0, 1, MEMORY_MB)


def of_rank(rank: int, functions: int, shape: tuple[int, ...] = (), seed: int = 0) -> np.ndarray:
    """Return symmetric matrices of a rank, of eigenvalues of both signs, as a response to a rotation of orbitals is."""
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(2, *shape, functions, rank // 2))
    found = np.einsum("...pi,...qi->...pq", left, right)
    return found + np.swapaxes(found, -1, -2)


@pytest.mark.parametrize("shape", [(), (1,), (2,), (3,)])
@pytest.mark.parametrize("rank", [0, 2, 10, 58])
def test_coulomb_and_exchange_are_those_of_pyscf(rank, shape):
    built = water()
    dm = of_rank(rank, built.nao, shape)
    found = LowRankDF(built, auxbasis="cc-pvtz-jkfit").get_jk(dm)
    expected = df.DF(built, auxbasis="cc-pvtz-jkfit").get_jk(dm)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape == dm.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-11 * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("wanted", [{"with_j": False}, {"with_k": False}, {"hermi": 0}])
def test_what_is_asked_for_is_what_is_given(wanted):
    built = water()
    dm = of_rank(4, built.nao)
    dm = dm if wanted != {"hermi": 0} else np.triu(dm)
    found = LowRankDF(built, auxbasis="cc-pvtz-jkfit").get_jk(dm, **wanted)
    expected = df.DF(built, auxbasis="cc-pvtz-jkfit").get_jk(dm, **wanted)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_a_density_is_the_difference_of_two_of_orbitals():
    dm = of_rank(6, 20, (2,))
    parts = in_orbitals(dm)
    np.testing.assert_allclose(parts[:2] - parts[2:], dm, atol=1e-12)
    assert [np.count_nonzero(each) for each in parts.mo_occ] == [3, 3, 3, 3]
    assert (parts.mo_occ >= 0).all()
    of_orbitals = np.einsum("kpi,ki,kqi->kpq", parts.mo_coeff, parts.mo_occ, parts.mo_coeff)
    np.testing.assert_allclose(of_orbitals, parts, atol=1e-12)


def test_a_density_of_high_rank_is_left_as_it_is():
    assert in_orbitals(of_rank(12, 20)[None]) is None
    assert in_orbitals(of_rank(10, 20)[None]) is not None


@pytest.mark.parametrize(("charge", "multiplicity", "orbitals"), [(0, 1, None), (1, 2, None), (1, 2, "restricted")])
def test_a_projected_guess_takes_no_more_than_its_orbitals(charge, multiplicity, orbitals):
    level = LEVEL.model_copy(update={"orbitals": orbitals})
    atoms = displaced("H2O", 0.03, np.random.default_rng(0))
    smaller, larger = (build_molecule(atoms, basis, charge, multiplicity, MEMORY_MB) for basis in ("sto-3g", "cc-pvtz"))
    found, _ = converge(smaller, MeanFieldKey("sto-3g", density_fitting=False), level)
    guess = projected(found, larger)
    parts = in_orbitals(guess.reshape(-1, larger.nao, larger.nao))
    electrons = (5,) if multiplicity == 1 else larger.nelec
    assert [np.count_nonzero(each) for each in parts.mo_occ] == [*electrons, *(0 for _ in electrons)]


@pytest.mark.parametrize(("name", "orbitals"), [("CH3", None), ("CN", None), ("CN", "restricted")])
def test_a_minimum_of_fitted_orbitals_is_the_one_that_pyscf_finds(name, orbitals):
    level = LEVEL.model_copy(update={"orbitals": orbitals})
    built = build_molecule(displaced(name, 0.05, np.random.default_rng(1)), "cc-pvdz", 0, 2, MEMORY_MB)
    key = MeanFieldKey("cc-pvdz", density_fitting=True)
    ours, _ = converge(built, key, level, follow=True)
    theirs = mean_field_object(built, key, level)
    theirs.with_df = df.DF(built, auxbasis="cc-pvdz-jkfit")
    theirs.kernel(dm0=ours.make_rdm1())
    assert ours.e_tot == pytest.approx(theirs.e_tot, abs=1e-9)
    assert theirs.stability(return_status=True)[2]
