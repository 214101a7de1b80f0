"""Frozen cores: PySCF's, or as many orbitals of an element as a level says; counted right with core potentials."""

from __future__ import annotations

from typing import Any

import pytest
from ase import Atoms
from ase.build import molecule
from helpers import MEMORY_MB
from pyscf import mp, scf

from piwsl.config import ConfigError
from piwsl.config.levels import parse_level
from piwsl.reference.calculations import build_molecule, run_level
from piwsl.reference.components import required_components
from piwsl.reference.cores import core_problem, frozen_by_element, frozen_orbitals
from piwsl.reference.costs import sizes_of
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.failures import FrameFailure
from piwsl.reference.recipe import level_key


def level(frozen_core: Any, basis: str = "def2-svp", method: str = "mp2") -> PySCF:
    given = {"method": method, "basis": basis, "density_fitting": False, "frozen_core": frozen_core}
    found = parse_level(given, "level")
    assert isinstance(found, PySCF)
    return found


SALT = Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 2.36]])
IODIDE = Atoms("NaI", positions=[[0, 0, 0], [0, 0, 2.71]])
# Cl: 1s to 2p. Def2's potential of iodine has 28 electrons: of its core of 18 orbitals, 4s and 4p are left.
COUNTS: dict[str, tuple[Atoms, Any, dict[str, int]]] = {
    "PySCF's": (SALT, True, {"Na": 1, "Cl": 5}),
    "none": (SALT, False, {"Na": 0, "Cl": 0}),
    "those of one element": (SALT, {"Na": 5}, {"Na": 5, "Cl": 5}),
    "of an element that is not there": (SALT, {"Li": 1}, {"Na": 1, "Cl": 5}),
    "beside a core potential": (IODIDE, {"Na": 5}, {"Na": 5, "I": 4}),
    "with 4d beside a core potential": (IODIDE, {"I": 23}, {"Na": 1, "I": 9}),
    "fewer than the core potential has": (IODIDE, {"I": 9}, {"Na": 1, "I": 0}),
}


@pytest.mark.parametrize("which", COUNTS)
def test_orbitals_of_each_element_are_frozen(which):
    atoms, frozen, counts = COUNTS[which]
    built = build_molecule(atoms, "def2-svp", 0, 1, MEMORY_MB)
    assert frozen_by_element(built, level(frozen).frozen_core) == counts
    assert frozen_orbitals(built, level(frozen).frozen_core) == sum(counts.values())


def test_pyscf_freezes_nothing_of_lithium_and_beryllium_and_only_1s_of_sodium_and_magnesium():
    # What the documentation says; a later PySCF may freeze more, and then it must say so.
    atoms = Atoms("LiBeBNeNaMgAlZnGa", positions=[[0, 0, 5 * n] for n in range(9)])
    built = build_molecule(atoms, "def2-svp", 0, 2, MEMORY_MB)
    assert [*frozen_by_element(built, True).values()] == [0, 0, 1, 1, 1, 1, 5, 5, 9]


def test_every_atom_of_an_element_counts():
    assert frozen_orbitals(build_molecule(molecule("CH3CH2OH"), "sto-3g", 0, 1, MEMORY_MB), True) == 3


def test_the_energy_is_that_of_so_many_frozen_orbitals_and_the_record_says_how_many():
    outcome = run_level(SALT, level({"Na": 5}), 0, 1, MEMORY_MB)
    mean_field = scf.RHF(build_molecule(SALT, "def2-svp", 0, 1, MEMORY_MB)).run(conv_tol=1e-11)
    found = outcome.energies[required_components(level({"Na": 5}))[1]]
    assert found == pytest.approx(mp.MP2(mean_field, frozen=10).run().e_corr, abs=1e-8)
    assert outcome.notes["frozen_orbitals"] == 10
    assert outcome.notes["frozen_orbitals_of"] == {"Na": 5, "Cl": 5}


def test_the_estimate_counts_with_them():
    key = required_components(level(True))[0].mean_field
    assert [sizes_of(SALT, key, level(frozen), 0, 1).frozen for frozen in (True, {"Na": 5}, False)] == [6, 10, 0]


def test_what_is_frozen_to_the_last_pair_has_no_correlation_energy():
    # One valence electron is left: without its core, an alkali atom correlates nothing.
    alkali = run_level(Atoms("Li"), level({"Li": 1}), 0, 2, MEMORY_MB)
    assert [*alkali.energies.values()][1] == 0.0
    assert [*run_level(Atoms("Li"), level(True), 0, 2, MEMORY_MB).energies.values()][1] < 0.0


def test_a_core_that_electrons_do_not_fill_fails_the_frame():
    with pytest.raises(FrameFailure, match="1 orbitals are frozen, and 0 electrons have the rarer spin"):
        run_level(Atoms("Li"), level({"Li": 1}), 0, 4, MEMORY_MB)


# 4d of iodine lies below 2p of sodium: nine orbitals are two of sodium and seven of iodine, and NaI is bound by 0.6 eV
# in place of 3.2.
@pytest.mark.parametrize("density_fitting", [False, True])
def test_a_core_above_the_valence_of_another_element_fails_the_frame(density_fitting):
    keys = {"method": "mp2", "basis": "def2-svp", "frozen_core": {"Na": 5}, "density_fitting": density_fitting}
    with pytest.raises(FrameFailure, match=r"of the 9 lowest orbitals 2\.0 are of Na, and 5 are to be"):
        run_level(IODIDE, PySCF.model_validate(keys), 0, 1, MEMORY_MB)


@pytest.mark.parametrize(("atoms", "multiplicity"), [(molecule("CN"), 2), (molecule("SO2"), 1), (SALT, 1)])
def test_cores_are_told_by_whose_orbitals_they_are(atoms, multiplicity):
    unrestricted = scf.UHF if multiplicity > 1 else scf.RHF
    mean_field = unrestricted(build_molecule(atoms, "def2-svp", 0, multiplicity, MEMORY_MB)).run()
    assert core_problem(mean_field, True) is None
    assert core_problem(mean_field, False) is None
    # The lowest in another's place.
    valence = frozen_orbitals(mean_field.mol, True)
    mean_field.mo_coeff[..., [0, valence]] = mean_field.mo_coeff[..., [valence, 0]]
    assert "to be frozen" in str(core_problem(mean_field, True))


def test_counts_that_are_pyscfs_own_are_the_level_without_them():
    assert level_key(level({"Na": 1, "C": 1})) == level_key(level(True))
    assert len({level_key(level(frozen)) for frozen in (True, False, {"Na": 5}, {"Na": 5, "Li": 1})}) == 4
    assert level_key(level({"Na": 5, "Li": 1})) == level_key(level({"Li": 1, "Na": 5}))
    assert level_key(level({"Na": 5}, method="hf")) == level_key(level(True, method="hf"))
    assert str(level({"Na": 5, "Li": 1})).endswith("frozen core (Na 5, Li 1)")


@pytest.mark.parametrize(
    ("frozen", "why"),
    [
        ({"Na": 6}, "Na has pairs of electrons for 0 to 5"),
        ({"Na": -1}, "-1 is no count"),
        ({"Na": True}, "True is no count"),
        ({"Na": 1.0}, "1.0 is no count"),
        ({"sodium": 5}, "no element 'sodium'"),
        ({False: 1}, "no element 'False'"),  # nobelium in YAML
        ({}, "say true, false, or a count"),
        (5, "say true, false, or a count"),
    ],
)
def test_what_is_no_core_is_refused(frozen, why):
    with pytest.raises(ConfigError, match=why):
        level(frozen)
