"""psi4's levels: the energies of PySCF's, by the program itself."""

from __future__ import annotations

import pytest
from ase import Atoms
from ase.build import molecule
from helpers import MEMORY_MB

from piwsl.config import parse_level
from piwsl.errors import PiwslError
from piwsl.reference.checks import check_level
from piwsl.reference.engines import psi4
from piwsl.reference.failures import FrameFailure
from piwsl.reference.labelling import label_frames

pytestmark = pytest.mark.usefixtures("psi4")

TOLERANCE_HARTREE = 1e-7
HARTREE = 27.211386
FOCAL_POINT = {
    "stages": [
        {"method": "hf", "bases": ["cc-pvdz", "cc-pvtz"]},
        {"method": "mp2", "bases": ["cc-pvdz", "cc-pvtz"]},
        {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"]},
    ]
}
CONVENTIONAL = {"method": "ccsd(t)", "basis": "cc-pvdz"}
MOLECULES = {
    "water, focal point": (molecule("H2O"), 0, 1, FOCAL_POINT),
    "OH, a radical": (molecule("OH"), 0, 2, CONVENTIONAL),
    "O2 below a saddle point": (molecule("O2"), 0, 3, {"method": "mp2", "basis": "cc-pvdz"}),
    "cation": (Atoms("NH4", [[0, 0, 0], *[[0.59 * x, 0.59 * y, 0.59 * x * y] for x in (1, -1) for y in (1, -1)]]), 1, 1,
               {"method": "mp2", "basis": "cc-pvdz"}),
    "HI with a core potential": (Atoms("IH", [[0, 0, 0], [0, 0, 1.609]]), 0, 1,
                                 {"method": "mp2", "basis": "def2-tzvp", "density_fitting": False}),
    "HI, fitted": (Atoms("IH", [[0, 0, 0], [0, 0, 1.609]]), 0, 1, {"method": "mp2", "basis": "def2-tzvp"}),
    "an iodine atom, fitted": (Atoms("I"), 0, 2, {"method": "mp2", "basis": "def2-svp"}),
    "NaI, fitted": (Atoms("NaI", [[0, 0, 0], [0, 0, 2.711]]), 0, 1, {"method": "mp2", "basis": "def2-tzvp"}),
    "CH3I, fitted": (Atoms("CH3I", [[0, 0, 0], [1.03, 0, -0.34], [-0.515, 0.892, -0.34], [-0.515, -0.892, -0.34],
                                    [0, 0, 2.13]]), 0, 1, {"method": "mp2", "basis": "def2-svp"}),
    "all electrons correlated": (molecule("HF"), 0, 1, {"method": "mp2", "basis": "cc-pvdz", "frozen_core": False}),
    "a singlet with unrestricted orbitals": (Atoms("H2", [[0, 0, 0], [0, 0, 2.5]]), 0, 1,
                                             {"method": "hf", "basis": "cc-pvdz", "unrestricted": True}),
    "one electron": (Atoms("H"), 0, 2, CONVENTIONAL),
}  # fmt: skip


@pytest.mark.parametrize("name", MOLECULES)
def test_energies_are_those_of_pyscf_part_by_part(name):
    atoms, charge, multiplicity, level = MOLECULES[name]

    ours, other = (
        parse_level({"engine": engine, **level}, "level").single_point(
            atoms.copy(), charge, multiplicity, MEMORY_MB, False
        )
        for engine in ("pyscf", "psi4")
    )

    assert other.energy == pytest.approx(ours.energy, abs=HARTREE * TOLERANCE_HARTREE)
    assert other.notes["components_Eh"] == pytest.approx(ours.notes["components_Eh"], abs=TOLERANCE_HARTREE)
    assert other.notes["frozen_orbitals"] == ours.notes.get("frozen_orbitals", 0)
    assert other.notes.get("t1_diagnostic", 0) == pytest.approx(ours.notes.get("t1_diagnostic", 0), abs=1e-6)
    for key, how in ours.notes["scf"].items():
        assert other.notes["scf"][key].get("s_squared") == pytest.approx(how.get("s_squared"), abs=1e-5)


def test_a_frame_is_labelled_once_and_its_record_says_by_what(tmp_path):
    level = parse_level({"engine": "psi4", "method": "hf", "basis": "sto-3g", "density_fitting": False}, "level")
    frames, ((first, second)) = [], ([], [])
    for records in (first, second):
        done, rows = label_frames([molecule("H2")], level, tmp_path, None, MEMORY_MB, progress=lambda line: None)
        frames += done
        records += rows
    assert [record["stored"] for record in (*first, *second)] == [False, True]
    assert frames[0].info["REF_energy"] == frames[1].info["REF_energy"] == pytest.approx(-30.4, abs=0.1)
    assert first[0]["versions"]["psi4"].startswith("1.")


def test_a_basis_that_psi4_lacks_is_found_before_anything_is_computed():
    level = parse_level({"engine": "psi4", "method": "hf", "basis": "cc-pvdz", "density_fitting": False}, "level")
    with pytest.raises(PiwslError, match="basis 'cc-pvdz' has no I in psi4; name another"):
        check_level(level, {"H", "I"})


def test_a_fitting_basis_for_core_potentials_is_none_of_all_electrons():
    """psi4 takes it, and the energy of HI is 28 Hartree too low."""
    level = parse_level({"engine": "psi4", "method": "hf", "basis": "sto-3g"}, "level")
    check_level(level, {"H", "Br"})
    with pytest.raises(PiwslError, match="'def2-qzvpp-jkfit' is made for core potentials, and 'sto-3g' has all"):
        check_level(level, {"H", "I"})
    check_level(parse_level({"engine": "psi4", "method": "hf", "basis": "def2-svp"}, "level"), {"H", "I"})


def test_a_fitting_basis_without_pairs_of_d_is_none_of_a_full_d_shell():
    """psi4's cc-pvdz-jkfit, too, has no g functions: fitted HF of HBr is 0.67 Hartree too high."""
    level = {"engine": "psi4", "method": "mp2", "basis": "cc-pvdz"}
    said = r"'cc-pvdz-jkfit' does not fit 3d of Br; say auxiliary_bases: {cc-pvdz: {jk: cc-pvtz-jkfit}}"
    with pytest.raises(PiwslError, match=said):
        check_level(parse_level(level, "level"), {"H", "Br"})
    check_level(parse_level(level, "level"), {"H", "Cl"})
    named = {"auxiliary_bases": {"cc-pvdz": {"jk": "cc-pvtz-jkfit"}}}
    check_level(parse_level(level | named, "level"), {"H", "Br"})


def test_an_scf_that_does_not_converge_fails_its_frame(monkeypatch):
    monkeypatch.setitem(psi4.CONVERGED, "maxiter", 2)
    level = parse_level({"engine": "psi4", "method": "hf", "basis": "sto-3g", "density_fitting": False}, "level")
    with pytest.raises(FrameFailure, match=r"hf/sto-3g: psi4: .*Could not converge SCF iterations") as failed:
        level.single_point(molecule("H2O"), 0, 1, MEMORY_MB, False)
    assert failed.value.step == "hf/sto-3g"
