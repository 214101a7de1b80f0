"""ORCA's levels, by a program that plays ORCA (tests/toys/orca.py), and by outputs that ORCA would write.

ORCA itself cannot be installed by a test: its input and output are written as its manual and its outputs have them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from helpers import MEMORY_MB, ROOT

from piwsl.config import ConfigError, parse_level
from piwsl.errors import PiwslError
from piwsl.reference.checks import check_level
from piwsl.reference.components import MeanFieldKey
from piwsl.reference.failures import FrameFailure, JobFailure, failing_at
from piwsl.reference.forces import check_forces
from piwsl.reference.labelling import label_frames
from piwsl.reference.orca import Run, input_text, read
from piwsl.reference.program_level import Molecule
from piwsl.reference.programs import Finished
from piwsl.workflow.planned import divisions

HARTREE = 27.211386
TOYS = ROOT / "tests" / "toys"
LOCAL = {"method": "dlpno-ccsd(t)", "basis": "cc-pvdz"}
FOCAL_POINT = {
    "stages": [
        {"method": "hf", "bases": ["cc-pvdz", "cc-pvtz"]},
        {"method": "mp2", "bases": ["cc-pvdz", "cc-pvtz"]},
        {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"]},
    ]
}
CORRECTED = [
    {"method": "hf", "bases": ["cc-pvdz"]},
    {"method": "mp2", "bases": ["cc-pvdz"]},
    {"method": "dlpno-ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"]},
]


def level(**keys):
    return parse_level({"engine": "orca", **keys}, "level")


@pytest.fixture
def played(tmp_path, monkeypatch) -> Path:
    monkeypatch.syspath_prepend(TOYS)
    import orca

    (tmp_path / "programs").mkdir()
    program = orca.installed(tmp_path / "programs")
    monkeypatch.setenv("PIWSL_ORCA", str(program))
    return program


def saying(folder: Path, monkeypatch, text: str, status: int = 0) -> None:
    """Let ORCA be a program that says a text, whatever it is asked."""
    (folder / "said").write_text(text)
    program = folder / "orca"
    program.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] || cat '{folder}/said'\nexit {status}\n")
    program.chmod(0o755)
    (folder / "orca_mdci").touch()
    monkeypatch.setenv("PIWSL_ORCA", str(program))


MOLECULES = {
    "focal point": (molecule("H2O"), 0, 1, FOCAL_POINT),
    "a radical": (molecule("OH"), 0, 2, {"method": "mp2", "basis": "cc-pvdz"}),
    "a cation": (molecule("NH3"), 1, 2, {"method": "ccsd", "basis": "cc-pvdz"}),
    "all electrons": (molecule("HF"), 0, 1, {"method": "ccsd(t)", "basis": "cc-pvdz", "frozen_core": False}),
    "HI": (Atoms("IH", [[0, 0, 0], [0, 0, 1.609]]), 0, 1,
           {"method": "mp2", "basis": "def2-svp", "density_fitting": False}),
    "one electron": (Atoms("H"), 0, 2, {"method": "ccsd(t)", "basis": "cc-pvdz"}),
}  # fmt: skip


@pytest.mark.parametrize("name", MOLECULES)
def test_what_is_asked_and_read_is_the_molecule_and_the_level_part_by_part(played, name):
    atoms, charge, multiplicity, keys = MOLECULES[name]
    ours = parse_level(keys, "level").single_point(atoms.copy(), charge, multiplicity, MEMORY_MB, False)

    found = level(**keys).single_point(atoms.copy(), charge, multiplicity, MEMORY_MB, False)

    expected = ours.notes["components_Eh"]
    parts = {part: found.notes["components_Eh"][part] for part in expected}
    assert parts == pytest.approx(expected, abs=2e-7)
    assert found.energy == pytest.approx(ours.energy, abs=HARTREE * 2e-7)
    for key, how in ours.notes["scf"].items():
        assert found.notes["scf"][key].get("s_squared") == pytest.approx(how.get("s_squared"), abs=1e-4)
    assert found.notes["orca"] == "6.0.1"


def test_a_local_correction_is_of_one_scf_and_holds_both_parts(played):
    found = level(stages=CORRECTED).single_point(molecule("H2O"), 0, 1, MEMORY_MB, False)
    parts = found.notes["components_Eh"]
    assert {"df-hf/cc-pvdz", "df-mp2/cc-pvdz", "df-dlpno-ccsd(t)/cc-pvdz"} <= parts.keys()
    assert 0 > parts["df-dlpno-ccsd/cc-pvdz"] > parts["df-dlpno-ccsd(t)/cc-pvdz"]
    assert found.energy == pytest.approx(
        HARTREE * (parts["df-hf/cc-pvdz"] + parts["df-dlpno-ccsd(t)/cc-pvdz"]),
        rel=1e-7,
    )
    assert found.notes["t1_diagnostic"] == 0.0123
    assert found.notes["frozen_orbitals"] == 1


def test_a_frame_is_labelled_once_its_record_believed_and_its_folder_gone(played, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    records = []
    for _ in range(2):
        frames, rows = label_frames(
            [molecule("H2O")], level(**LOCAL), tmp_path, None, MEMORY_MB, progress=lambda line: None
        )
        records += rows
    assert [record["stored"] for record in records] == [False, True]
    assert records[0]["versions"]["orca"] == "6.0.1"
    assert frames[0].info["REF_energy"] == records[0]["energy_eV"]
    assert list(scratch.iterdir()) == []


KEY = MeanFieldKey("cc-pvtz", density_fitting=True)
WATER = Molecule(molecule("H2O"), 0, 1, 8000, 4)


def test_the_input_of_local_coupled_cluster_of_a_closed_shell():
    text = input_text(Run(KEY, "dlpno-ccsd(t)", "step"), WATER, "tight", True, False, "run0.gbw")
    assert text == (
        "! RHF DLPNO-CCSD(T) TightPNO RIJK FrozenCore VeryTightSCF NoAutoStart MORead\n"
        "%maxcore 1400\n"
        "%pal nprocs 4 end\n"
        "%basis\n"
        '  Basis "cc-pvtz"\n'
        '  AuxJK "cc-pvtz/JK"\n'
        '  AuxC "cc-pvtz/C"\n'
        "end\n"
        "%scf MaxIter 300 end\n"
        "%mdci STol 1e-7 MaxIter 100 end\n"
        '%moinp "run0.gbw"\n'
        "* xyz 0 1\n"
        "O      0.000000000000     0.000000000000     0.119262000000\n"
        "H      0.000000000000     0.763239000000    -0.477047000000\n"
        "H      0.000000000000    -0.763239000000    -0.477047000000\n"
        "*\n"
    )


@pytest.mark.parametrize(
    ("basis", "fitted", "names"),
    [
        ("cc-pvdz", True, {"AuxJK": "AutoAux", "AuxC": "cc-pvdz/C"}),
        ("aug-cc-pvqz", True, {"AuxJK": "aug-cc-pvqz/JK", "AuxC": "aug-cc-pvqz/C"}),
        ("def2-tzvpp", True, {"AuxJK": "def2/JK", "AuxC": "def2-tzvpp/C"}),
        ("cc-pwcvtz", True, {"AuxJK": "AutoAux", "AuxC": "cc-pwcvtz/C"}),
        ("6-31g*", True, {"AuxJK": "AutoAux", "AuxC": "AutoAux"}),
        ("cc-pvtz", False, {}),
    ],
)
def test_fitting_bases_are_orcas_own_or_made_by_it(basis, fitted, names):
    text = input_text(Run(MeanFieldKey(basis, fitted), "mp2", "step"), WATER, "tight", True, False, "")
    assert dict(re.findall(r'  (Aux\w+) "(.*)"', text)) == names
    assert (" RI-MP2 RIJK " in text) == fitted


def test_there_are_no_more_processes_than_pairs_of_electrons():
    text = input_text(Run(KEY, "mp2", "step"), Molecule(molecule("H2"), 0, 1, 1000, 8), "tight", True, False, "")
    assert "%pal nprocs 1 end" in text
    assert "%maxcore 700" in text


# Lines of outputs of ORCA 6.0.
BANNER = "                         Program Version 6.0.1  -  RELEASE   -\n"
CONVERGED = """               *           SCF CONVERGED AFTER   8 CYCLES          *
Total Energy       :        -74.96357424008319 Eh           -2039.86256 eV
  Last DIIS Error            ...    1.9995e-03  Tolerance :   1.0000e-06
"""
AMPLITUDES = """               --- The Coupled-Cluster iterations have converged ---
E(0)                                       ...    -74.963574245
E(TOT)                                     ...    -75.013487814
T1 diagnostic                              ...      0.004919716
Triples Correction (T)                     ...     -0.000068492
Final correlation energy                   ...     -0.049982061
E(CCSD)                                    ...    -75.013487814
E(CCSD(T))                                 ...    -75.013556306
"""
END = """-------------------------   --------------------
FINAL SINGLE POINT ENERGY       -75.013556305763
-------------------------   --------------------
                             ****ORCA TERMINATED NORMALLY****
"""
GOOD = BANNER + CONVERGED + AMPLITUDES + END
RUN = Run(MeanFieldKey("sto-3g", False), "ccsd(t)", "ccsd(t)/sto-3g")


def test_energies_are_read_as_differences_from_the_scf():
    found = read(RUN, Finished(0, GOOD))
    assert found.scf == -74.96357424008319
    assert found.correlation["ccsd(t)"] == pytest.approx(-0.049982065680, abs=1e-12)
    assert found.correlation["ccsd"] == pytest.approx(-0.049913574, abs=1e-9)
    assert (found.t1_diagnostic, found.version) == (0.004919716, "6.0.1")


MEMORY = """ Error  (ORCA_SCF): Not enough memory available!
                    Memory available for SCF calculation:          1.0 MB
       ====>        Please increase MaxCore to more than:         29.9 MB
Error (ORCA_SCF): ... aborting the run
ORCA finished by error termination in LEANSCF
"""
BAD = {
    "SCF": (
        BANNER + "[file orca_leanscf/orca_leanscf.cpp, line 306]: Error (ORCA_LEANSCF): unfortunately,\n"
        "the SCF has not converged. There may be a way out but we have to stop here\n"
        "ORCA finished by error termination in LEANSCF\n",
        FrameFailure,
        "ccsd(t)/sto-3g: SCF not converged",
    ),
    "an SCF that goes on": (
        GOOD.replace("-75.013556305763", "-75.013556305763 (Wavefunction not fully converged!)"),
        FrameFailure,
        "SCF not converged",
    ),
    "amplitudes": (
        BANNER + CONVERGED + "      --- The Coupled-Cluster iterations have NOT converged ---\n"
        "ORCA finished by error termination in MDCI\n",
        FrameFailure,
        "amplitudes not converged",
    ),
    "amplitudes unsaid": (BANNER + CONVERGED + END, FrameFailure, "does not say that the amplitudes converged"),
    "no energies": (
        GOOD.replace("FINAL SINGLE POINT ENERGY       -75.013556305763", ""),
        FrameFailure,
        "its output has no energies",
    ),
    "electrons": (
        BANNER + "Error : multiplicity (1) is odd and number of electrons (9) is odd -> impossible\n",
        FrameFailure,
        "ORCA ended with an error: Error : multiplicity (1) is odd and number of electrons (9) is odd -> impossible",
    ),
    "memory": (BANNER + MEMORY, JobFailure, "says 'Not enough memory'); raise labelling.mem_mb"),
    "a module that is killed": (
        BANNER + CONVERGED + "ORCA finished by error termination in MDCI\n",
        JobFailure,
        "ORCA's MDCI ended without a word, as where memory gives out",
    ),
    "half an output": (BANNER + CONVERGED, JobFailure, "ORCA stopped half way (status 0), as where it is killed"),
    "no output": ("", JobFailure, "it wrote nothing"),
    "disk": (BANNER + "write: No space left on device\n", JobFailure, "no room left on the disk"),
    "old": (GOOD.replace("6.0.1", "4.2.1"), JobFailure, "ORCA 4.2.1 is too old; 5 or later is needed"),
}


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("name", BAD)
def test_what_goes_wrong_fails_the_frame_or_the_job(tmp_path, monkeypatch, name, status):
    text, failure, said = BAD[name]
    saying(tmp_path, monkeypatch, text, status)
    with pytest.raises(failure) as failed, failing_at("orca"):
        level(method="ccsd(t)", basis="sto-3g").single_point(molecule("H2O"), 0, 1, MEMORY_MB, False)
    assert said.replace("status 0", f"status {status}") in str(failed.value)


def test_two_runs_on_two_scf_states_fail_the_frame(tmp_path, monkeypatch):
    program = tmp_path / "orca"
    saying(tmp_path, monkeypatch, GOOD.replace("E(CCSD)", "E(-)"))
    other = GOOD.replace("Total Energy       :        -74.96", "Total Energy       :        -74.95")
    (tmp_path / "other").write_text(other)
    program.write_text(f"#!/bin/sh\n[ $1 = run0.inp ] && cat {tmp_path}/said || cat {tmp_path}/other\n")
    with pytest.raises(FrameFailure, match=r"its SCF is \+0.010000 Eh off that of the run before"):
        level(stages=CORRECTED).single_point(molecule("H2O"), 0, 1, MEMORY_MB, False)


def test_a_program_that_is_missing_or_another_of_the_name_is_a_line_and_never_started(tmp_path, monkeypatch):
    monkeypatch.setenv("PIWSL_ORCA", str(tmp_path / "orca"))
    with pytest.raises(PiwslError, match=r"ORCA is missing: PIWSL_ORCA=.*; install it \(https://orcaforum"):
        check_level(level(**LOCAL), {"H"})
    (tmp_path / "orca").write_text(f"#!/bin/sh\ntouch {tmp_path}/spoken\n")
    (tmp_path / "orca").chmod(0o755)
    line = r"is not ORCA \(no orca_mdci beside it\); say where ORCA is with PIWSL_ORCA"
    with pytest.raises(PiwslError, match=line):
        check_level(level(**LOCAL), {"H"})
    with pytest.raises(JobFailure, match=line):
        level(**LOCAL).single_point(molecule("H2"), 0, 1, MEMORY_MB, False)
    assert not (tmp_path / "spoken").exists()


def test_an_old_orca_and_one_that_lacks_libraries_are_lines_before_anything_is_computed(tmp_path, monkeypatch):
    starts = {
        "echo 'Program Version 4.2.1'": "ORCA 4.2.1 is too old",
        "echo no libmpi.so >&2; exit 127": "cannot be started: no libmpi.so",
    }
    for number, (text, line) in enumerate(starts.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        saying(folder, monkeypatch, "")
        (folder / "orca").write_text(f"#!/bin/sh\n{text}\n")
        with pytest.raises(PiwslError, match=line):
            check_level(level(**LOCAL), {"H"})


def test_a_basis_that_nobody_knows_is_found_before_anything_is_computed(played):
    with pytest.raises(PiwslError, match="basis 'cc-pvtzz' has no H"):
        check_level(level(method="mp2", basis="cc-pvtzz"), {"H"})
    # PySCF's levels have cc-pVTZ there, which ORCA is not told.
    with pytest.raises(PiwslError, match="basis 'cc-pcvtz' has no H; name another"):
        check_level(level(method="mp2", basis="cc-pcvtz"), {"C", "H"})
    assert check_level(level(**LOCAL), {"H", "C", "O"}) is None


def test_local_energies_have_no_forces_by_differences_and_the_rest_has():
    with pytest.raises(PiwslError, match=r"dlpno-ccsd\(t\) has no forces by differences: its energy is not smooth"):
        check_forces(level(**LOCAL), {1}, "differences")
    check_forces(level(method="mp2", basis="cc-pvdz"), {1}, "differences")


def test_what_an_energy_depends_on_is_in_its_recipe():
    def recipe(**keys) -> str:
        return str(level(**keys).recipe())

    assert recipe(**LOCAL) == recipe(**LOCAL, pno="tight") != recipe(**LOCAL, pno="normal")
    mp2 = {"method": "mp2", "basis": "cc-pvdz"}
    assert recipe(**mp2) == recipe(**mp2, pno="normal"), "no pair natural orbitals in MP2"
    assert recipe(**mp2) != recipe(**mp2, frozen_core=False)


def test_tighter_and_larger_costs_more():
    def seconds(name: str, **keys) -> float:
        return level(**(LOCAL | keys)).cost(molecule(name), 0, 1, False).cpu_s

    loose_to_tight = [seconds("CH3OH", pno=pno) for pno in ("loose", "normal", "tight", "very_tight")]
    assert np.all(np.diff(loose_to_tight) > 0)
    assert seconds("CH3OH", method="dlpno-ccsd(t1)") > seconds("CH3OH") > seconds("CH3OH", method="mp2")
    assert seconds("C6H6") > seconds("CH3OH")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (LOCAL | {"density_fitting": False}, "'dlpno-ccsd(t)' always has it"),
        ({"method": "dft", "basis": "cc-pvdz", "functional": "pbe"}, "engine 'orca' has no 'dft'"),
        (LOCAL | {"pno": "tightest"}, "pno: input should be 'loose', 'normal', 'tight' or 'very_tight'"),
        ({"stages": [{"method": "hf", "bases": ["cc-pvdz"]}, {"method": "mp2", "bases": ["cc-pvdz"]},
                     {"method": "dlpno-ccsd(t)", "bases": ["cc-pvdz"]}]},
         "+1 mp2 +1 dlpno-ccsd(t), expected one method"),
    ],
)  # fmt: skip
def test_levels_that_are_none_are_refused(keys, said):
    with pytest.raises(ConfigError) as refused:
        level(**keys)
    assert said in str(refused.value)


def test_a_level_is_named_for_what_it_is():
    assert str(level(**LOCAL)) == "DF-HF/cc-pvdz + DF-DLPNO-CCSD(T)/cc-pvdz, frozen core (ORCA)"


@pytest.mark.usefixtures("played")
def test_a_budget_buys_no_slopes_of_local_energies_and_of_others():
    water = {"molecule": {"name": "H2O"}, "sampling": {"temperatures": [300]}, "budget": {"cpu_hours": 20}}
    levels = {"local": {"engine": "orca"} | LOCAL, "mp2": {"engine": "orca", "method": "mp2", "basis": "cc-pvdz"}}
    keys = {"levels": levels, "datasets": {name: water | {"level": name} for name in levels}}
    bought = {name: each.frames["test_slope_frames"] for name, each in divisions(keys, "config.yaml").items()}
    assert bought == {"local": 0, "mp2": 100}
