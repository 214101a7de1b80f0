"""Bases by element: functions and core potentials, what fits them, what takes the place of what is not there."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from ase import Atoms
from ase.build import molecule
from helpers import MEMORY_MB
from pyscf import gto, mp, scf
from scipy.linalg import eigh

from piwsl.config import ConfigError
from piwsl.config.levels import parse_level
from piwsl.errors import PiwslError
from piwsl.reference import basis_sets
from piwsl.reference.basis_sets import core_potential, functions, has_element
from piwsl.reference.calculations import build_molecule, level_energy, run_level
from piwsl.reference.components import required_components
from piwsl.reference.costs import sizes_of
from piwsl.reference.element_bases import fitting_basis, orbital_basis
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.recipe import level_key

IODIDE = Atoms("HI", positions=[[0, 0, 0], [0, 0, 1.609]])
WITH_POTENTIAL = {"cc-pVTZ": {"I": "cc-pVTZ-PP"}}


def level(method: str, basis: str, **more: Any) -> PySCF:
    found = parse_level({"method": method, "basis": basis} | more, "level")
    assert isinstance(found, PySCF)
    return found


def energies(atoms: Atoms, of_level: PySCF) -> list[float]:
    return [*run_level(atoms, of_level, 0, 1, MEMORY_MB).energies.values()]


@pytest.mark.parametrize(
    ("basis", "symbol", "taken"),
    [
        ("cc-pcvtz", "O", "cc-pcvtz"),
        ("cc-pcvtz", "H", "cc-pvtz"),  # no core to correlate
        ("aug-cc-pwcvqz", "H", "aug-cc-pvqz"),
        ("cc-pcvtz", "I", "cc-pcvtz"),  # which has a core: it is missing
        ("cc-pv(t+d)z", "S", "cc-pv(t+d)z"),
        ("aug-cc-pv(d+d)z", "Ca", "aug-cc-pvdz"),  # no tight d function is defined
        ("cc-pvdz", "H", "cc-pvdz"),
    ],
)
def test_an_element_without_a_core_or_a_d_shell_has_the_valence_basis(basis, symbol, taken):
    assert orbital_basis(level("hf", basis), basis, symbol) == taken


def test_core_valence_sets_add_functions_for_cores_to_what_hydrogen_has():
    of_level = level("mp2", "cc-pcvtz", density_fitting=False, frozen_core=False)
    outcome = run_level(molecule("H2O"), of_level, 0, 1, MEMORY_MB)
    assert outcome.notes["bases_of_elements"] == {"cc-pcvtz": {"H": "cc-pvtz"}}
    hand = gto.M(atom=pyscf_atoms(molecule("H2O")), basis={"O": "cc-pcvtz", "H": "cc-pvtz"}, verbose=0)
    mean_field = scf.RHF(hand).run(conv_tol=1e-11)
    assert [*outcome.energies.values()] == pytest.approx([mean_field.e_tot, mp.MP2(mean_field).run().e_corr], abs=1e-8)
    # Their functions are for what the valence set leaves out: correlation of the core, 40 mEh of oxygen.
    valence = energies(molecule("H2O"), level("mp2", "cc-pvtz", density_fitting=False, frozen_core=False))
    assert 0.02 < valence[1] - [*outcome.energies.values()][1] < 0.06


def pyscf_atoms(atoms: Atoms) -> list[Any]:
    return list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True))


def test_tight_d_functions_lower_the_energy_of_sulphur_dioxide_as_published():
    # 2 to 3 kcal/mol of the HF energy: Dunning, Peterson, Wilson, J. Chem. Phys. 114, 9244 (2001), section I; in a
    # double-zeta basis it is more.
    lower = (
        energies(molecule("SO2"), level("hf", "cc-pvdz"))[0] - energies(molecule("SO2"), level("hf", "cc-pv(d+d)z"))[0]
    )
    assert 0.005 < lower < 0.08


# Fitting bases by orbital basis, element and purpose.
FITTED = {
    ("cc-pvtz", "O", "jk"): "cc-pvtz-jkfit",
    ("cc-pvtz", "O", "ri"): "cc-pvtz-ri",
    ("cc-pvtz", "Li", "jk"): "def2-universal-jkfit",  # of lithium no cc-pvtz-jkfit was made
    ("cc-pvtz", "Li", "ri"): "cc-pvtz-ri",
    ("cc-pcvtz", "O", "jk"): "def2-universal-jkfit",
    ("cc-pcvtz", "O", "ri"): "cc-pwcvtz-rifit",
    ("cc-pcvtz", "H", "jk"): "cc-pvtz-jkfit",
    ("cc-pv(t+d)z", "S", "ri"): "cc-pvtz-ri",
    ("def2-tzvp", "I", "jk"): "def2-universal-jkfit",
    ("def2-tzvp", "I", "ri"): "def2-tzvp-rifit",
    ("cc-pvtz-pp", "I", "jk"): "def2-universal-jkfit",
    ("cc-pvtz-pp", "I", "ri"): "autoaux",
    ("6-31g", "O", "jk"): "def2-universal-jkfit",
    ("6-31g", "O", "ri"): "autoaux",
    ("sto-3g", "I", "jk"): "autoaux",  # def2-universal-jkfit is made for iodine without 1s to 3d
}


@pytest.mark.parametrize(("basis", "symbol", "purpose"), FITTED)
def test_what_fits_an_element(basis, symbol, purpose):
    assert fitting_basis(level("mp2", basis), basis, symbol, purpose) == FITTED[basis, symbol, purpose]


@pytest.mark.parametrize(
    ("basis", "symbol", "jk", "more"),
    [
        ("cc-pvtz", "C", "cc-pvtz-jkfit", {"element_bases": {"cc-pvtz": {"C": "aug-cc-pvtz"}}}),
        ("sto-3g", "I", "def2-universal-jkfit", {}),
    ],
)
def test_to_name_the_fitting_basis_of_the_family_is_to_name_none(basis, symbol, jk, more):
    named, plain = level("hf", basis, auxiliary_bases={basis: {"jk": jk}}, **more), level("hf", basis, **more)
    assert level_key(named) == level_key(plain)
    assert fitting_basis(named, basis, symbol, "jk") == fitting_basis(plain, basis, symbol, "jk") != jk


# What fitting may cost the sum of HF and MP2, Eh; with the family's own it is 1e-4 in double zeta.
@pytest.mark.parametrize(
    ("atoms", "basis", "more"),
    [
        (molecule("H2O"), "6-31g*", {}),
        (molecule("H2O"), "cc-pcvdz", {"frozen_core": False}),
        (molecule("LiH"), "cc-pvtz", {"frozen_core": False}),
        (molecule("HCl"), "cc-pv(d+d)z", {}),
        (IODIDE, "cc-pvtz", {"element_bases": WITH_POTENTIAL}),
        (IODIDE, "sto-3g", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_takes_the_place_of_a_fitting_basis_fits(atoms, basis, more):
    fitted, conventional = (
        sum(energies(atoms, level("mp2", basis, density_fitting=fitted, **more))) for fitted in (True, False)
    )
    assert fitted == pytest.approx(conventional, abs=3e-4)


def test_an_element_may_have_a_basis_of_its_own_with_the_core_potential_that_belongs_to_it():
    of_level = level("mp2", "cc-pvtz", density_fitting=False, element_bases=WITH_POTENTIAL)
    assert of_level.problem({"H", "I"}) is None
    hand = gto.M(
        atom=pyscf_atoms(IODIDE), basis={"H": "cc-pvtz", "I": "cc-pvtz-pp"}, ecp={"I": "cc-pvtz-pp"}, verbose=0
    )
    mean_field = scf.RHF(hand).run(conv_tol=1e-11)
    correlation = mp.MP2(mean_field, frozen=4).run().e_corr
    assert energies(IODIDE, of_level) == pytest.approx([mean_field.e_tot, correlation], abs=1e-8)
    key = required_components(of_level)[0].mean_field
    assert sizes_of(IODIDE, key, of_level, 0, 1).orbitals == hand.nao


def test_bases_of_elements_are_extrapolated_with_those_that_they_stand_for():
    others = {basis: {"I": f"{basis}-pp"} for basis in ("cc-pvdz", "cc-pvtz")}
    stage = {"method": "hf", "bases": ["cc-pvdz", "cc-pvtz"], "density_fitting": False}
    mixed = PySCF.model_validate({"stages": [stage], "element_bases": others})
    outcome = run_level(IODIDE, mixed, 0, 1, MEMORY_MB)
    small, large = outcome.energies.values()
    limit = large + (large - small) / (math.exp(1.63) - 1)
    assert level_energy(mixed, outcome).energy == pytest.approx(limit, abs=1e-9)
    assert outcome.notes["bases_of_elements"] == {basis: {"I": f"{basis}-pp"} for basis in ("cc-pvdz", "cc-pvtz")}
    # Molecules of heavy elements alone name the bases themselves, with the same exponents.
    heavy = PySCF.model_validate({"stages": [stage | {"bases": ["cc-pvdz-pp", "cc-pvtz-pp"]}]})
    assert heavy.stages[0].limit() == mixed.stages[0].limit()
    with pytest.raises(ValueError, match="different families"):
        PySCF.model_validate({"stages": [stage | {"bases": ["cc-pvdz", "cc-pvtz-pp"]}]})


@pytest.mark.parametrize(
    ("basis", "symbol", "electrons"), [("def2-tzvp", "Ce", 28), ("aug-cc-pvtz-pp", "Br", 10), ("def2-tzvp", "I", 28)]
)
def test_functions_and_core_potential_come_together_from_pyscf_or_the_exchange(basis, symbol, electrons):
    assert functions(basis, symbol)
    potential = core_potential(basis, symbol)
    assert potential is not None
    assert potential[0] == electrons


def test_the_exchange_has_the_functions_that_pyscf_has():
    import basis_set_exchange
    from pyscf.gto.basis import parse_nwchem

    for basis, symbol in (("cc-pvtz", "O"), ("def2-tzvp", "I")):
        text = basis_set_exchange.get_basis(basis, elements=symbol, fmt="nwchem", header=False)
        spectra = []
        for of_element in (parse_nwchem.parse(text, symbol), functions(basis, symbol)):
            atom = gto.M(atom=symbol, basis={symbol: of_element}, spin=None, verbose=0)
            kinetic, overlap = atom.intor("int1e_kin"), atom.intor("int1e_ovlp")
            spectra.append(eigh(kinetic, overlap, eigvals_only=True).tolist())
        assert spectra[0] == pytest.approx(spectra[1], rel=1e-6)


LACKING = {
    "an element that nobody has": ({"basis": "cc-pvtz"}, "'cc-pvtz' has no I in PySCF or the Basis Set Exchange"),
    "an element that its own basis has not": (
        {"basis": "cc-pvtz", "element_bases": {"cc-pvtz": {"I": "cc-pvdz"}}}, "'cc-pvdz' has no I",
    ),
    "a core potential that nobody has": (
        {"basis": "cc-pvtz", "element_bases": {"cc-pvtz": {"I": "ccecp-cc-pvtz"}}}, "made for an effective core",
    ),
    "another Hamiltonian": ({"basis": "cc-pvtz-dk"}, "contracted for a relativistic Hamiltonian"),
    "another Hamiltonian, of an element": (
        {"basis": "cc-pvtz", "element_bases": {"cc-pvtz": {"I": "x2c-tzvpall"}}}, "contracted for a relativistic",
    ),
    "a fitting basis that was named": (
        {"basis": "def2-svp", "auxiliary_bases": {"def2-svp": {"ri": "cc-pvtz-ri"}}}, "'cc-pvtz-ri' has no I",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", LACKING)
def test_what_is_lacking_is_said_before_anything_is_computed(what):
    given, why = LACKING[what]
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(level("mp2", **given).problem({"H", "I"}))


def test_what_pyscf_lacks_needs_the_exchange(monkeypatch):
    monkeypatch.setitem(sys.modules, "basis_set_exchange", None)
    has_element.cache_clear()
    assert level("mp2", "cc-pvtz").problem({"H", "O"}) is None
    problem = level("mp2", "cc-pvtz").problem({"Li"})
    assert problem == "bases that PySCF lacks need basis-set-exchange; pip install 'piwsl[reference]'"
    with pytest.raises(PiwslError, match="basis-set-exchange"):
        basis_sets.functions("nonsense", "H")


def test_a_level_says_which_elements_have_other_bases():
    assert level("mp2", "cc-pvtz").remark({"H", "O"}) is None
    assert level("hf", "cc-pvtz").remark({"H", "Li"}) == "def2-universal-jkfit for Li in cc-pvtz-jkfit"
    frozen = {"density_fitting": False, "frozen_core": {"I": 23}}
    conventional = level("mp2", "cc-pvtz", element_bases=WITH_POTENTIAL, **frozen)
    assert conventional.remark({"H", "I"}) == "cc-pvtz-pp for I in cc-pvtz"


@pytest.mark.parametrize("basis", ["cc-pvdz", "aug-cc-pvdz", "cc-pvtz"])
@pytest.mark.parametrize("symbol", ["Zn", "Ge", "Se", "Kr"])
def test_exchange_of_a_full_d_shell_is_fitted(basis, symbol):
    """cc-pvdz-jkfit has no g functions, which products of two d functions reach: it leaves 0.5 to 0.7 Hartree."""
    atom, charge = Atoms(symbol, positions=[[0, 0, 0]]), {"Ge": 2, "Se": -2}.get(symbol, 0)
    fitted, exact = (
        level_energy(of_level, run_level(atom, of_level, charge, 1, MEMORY_MB)).energy
        for of_level in (level("hf", basis), level("hf", basis, density_fitting=False))
    )
    assert fitted == pytest.approx(exact, abs=2e-4)


def test_fitting_hydrogen_bromide_does_not_change_how_it_is_bound():
    atoms = Atoms("HBr", positions=[[0, 0, 0], [0, 0, 1.3]])
    fitted, exact = (
        level("hf", "cc-pvdz", density_fitting=fitting).single_point(atoms, 0, 1, MEMORY_MB, True).forces[0, 2]
        for fitting in (True, False)
    )
    assert fitted == pytest.approx(exact, abs=2e-3)  # eV/Å, where cc-pvdz-jkfit is 0.1 off
    assert level("hf", "cc-pvdz").remark({"H", "Br"}) == "cc-pvtz-jkfit for Br in cc-pvdz-jkfit"


def test_a_level_says_which_shells_its_bases_are_not_made_for():
    """PySCF's cores leave 3d of bromine and 4d of iodine with the valence."""
    said = level("mp2", "cc-pvtz").remark({"H", "Br"})
    assert (
        said
        == "3d of Br is correlated, which cc-pvtz is not made for: say frozen_core: {Br: 14}, or take cc-pwCVXZ for it"
    )
    assert level("mp2", "cc-pvtz", frozen_core={"Br": 14}).remark({"H", "Br"}) is None
    assert level("mp2", "cc-pvtz", frozen_core=False).remark({"H", "Br"}) is None
    assert level("hf", "cc-pvtz").remark({"H", "Br"}) is None
    for_cores = level("mp2", "cc-pwcvtz", density_fitting=False, element_bases={"cc-pwcvtz": {"Br": "cc-pwcvtz-pp"}})
    assert "3d" not in str(for_cores.remark({"H", "Br"}))
    assert "4d of I is" in str(level("mp2", "def2-tzvp").remark({"I"}))
    assert "is correlated" not in str(level("mp2", "cc-pvtz").remark({"H", "Zn"}))


@pytest.mark.parametrize(
    ("symbol", "shell", "count"), [("Li", "1s", 1), ("Be", "1s", 1), ("Na", "2s 2p", 5), ("Mg", "2s 2p", 5)]
)
def test_a_level_says_which_outer_cores_cc_pvxz_is_not_made_for(symbol, shell, count):
    said = level("mp2", "cc-pvtz").remark({"H", symbol})
    assert f"{shell} of {symbol} is correlated, which cc-pvtz is not made for" in said
    assert f"say frozen_core: {{{symbol}: {count}}}" in said
    assert "is correlated" not in level("mp2", "cc-pvtz", frozen_core={symbol: count}).remark({"H", symbol})
    assert "is correlated" not in str(level("mp2", "def2-tzvp").remark({"H", symbol}))
    assert "is correlated" not in level("hf", "cc-pvtz").remark({"H", symbol})


def test_the_bond_of_sodium_hydride_has_its_minimum_where_the_outer_core_is_frozen():
    """It is 1.887 Å long. Correlation of 2s and 2p without functions for it would have it shorter than 1.6 Å."""
    short, measured = (Atoms("NaH", positions=[[0, 0, 0], [0, 0, length]]) for length in (1.6, 1.887))
    for frozen_core, binds in (({"Na": 5}, True), (True, False)):
        cbs = parse_level({"preset": "mp2-cbs", "frozen_core": frozen_core, "doubtful": "ignore"}, "level")
        at_short, at_measured = (cbs.single_point(atoms, 0, 1, 4000, False).energy for atoms in (short, measured))
        assert (at_measured < at_short) is binds


def test_freezing_a_d_shell_changes_how_hydrogen_bromide_is_bound():
    """Correlation of 3d without functions for it pulls too hard: by 0.2 eV/Å in cc-pVTZ."""
    atoms = Atoms("HBr", positions=[[0, 0, 0], [0, 0, 1.4243]])
    every, valence = (
        level("mp2", "cc-pvtz", **keys).single_point(atoms, 0, 1, 4000, True).forces[0, 2]
        for keys in ({}, {"frozen_core": {"Br": 14}})
    )
    assert every - valence == pytest.approx(0.20, abs=0.02)


def test_bases_of_elements_are_part_of_what_an_energy_depends_on():
    plain, said = level("hf", "cc-pvtz"), level("hf", "cc-pvtz", element_bases=WITH_POTENTIAL)
    assert level_key(said) != level_key(plain)
    assert level_key(said) == level_key(level("hf", "cc-pVTZ", element_bases={"cc-pvtz": {"I": "cc-pvtz-pp"}}))
    for nothing in ({"cc-pvqz": {"I": "cc-pvqz-pp"}}, {"cc-pvtz": {"O": "cc-pVTZ"}}, {"cc-pvtz": {}}):
        assert level_key(level("hf", "cc-pvtz", element_bases=nothing)) == level_key(plain)
    with pytest.raises(ConfigError, match="no element 'iodine'"):
        level("hf", "cc-pvtz", element_bases={"cc-pvtz": {"iodine": "cc-pvtz-pp"}})


def test_a_molecule_of_one_basis_is_built_by_its_name():
    assert build_molecule(molecule("H2O"), {"H": "cc-pvdz", "O": "cc-pvdz"}, 0, 1, 1000).basis == "cc-pvdz"
