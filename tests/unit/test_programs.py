"""Programs of others: found, run in a folder of their own, ended with all that they started, and what becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import molecule
from helpers import MEMORY_MB, until

from piwsl.config import ConfigError, parse_level
from piwsl.errors import PiwslError
from piwsl.reference import programs
from piwsl.reference.checks import check_level
from piwsl.reference.failures import FrameFailure, JobFailure, failing_at
from piwsl.reference.programs import Finished, Program, run

SHELL = Program("sh", "sh", "PIWSL_SH", "install it")


def script(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def finished(folder: Path, text: str) -> Finished:
    return run([script(folder, text)], folder, folder / "output", {})


def test_output_and_status_come_back_and_the_environment_goes_in(tmp_path, monkeypatch):
    monkeypatch.setenv("TAKEN_AWAY", "x")
    path = script(tmp_path, 'echo "$GIVEN,$TAKEN_AWAY,$(pwd)"; echo wrong >&2; exit 3')
    found = run([path], tmp_path, tmp_path / "output", {"GIVEN": "a b", "TAKEN_AWAY": ""})
    assert found == Finished(3, f"a b,,{tmp_path}\nwrong\n")
    assert found.last_line() == "wrong"


@pytest.mark.parametrize(
    ("text", "failure", "said"),
    [
        ("echo 'Error (ORCA_MDCI): not enough memory'; exit 1", JobFailure, "not enough memory"),
        ("echo 'terminate called: std::bad_alloc' >&2; exit 134", JobFailure, "out of memory"),
        ("kill -KILL $$", JobFailure, "was killed, as where memory gives out"),
        ("echo 'write: No space left on device'; exit 1", JobFailure, "no room left on the disk"),
        ("kill -TERM $$", JobFailure, r"program was stopped \(SIGTERM\)"),
    ],
)
def test_where_the_machine_gives_out_the_job_fails_and_no_frame(tmp_path, text, failure, said):
    with pytest.raises(failure, match=said), failing_at("step"):
        finished(tmp_path, text)


def test_words_of_memory_of_a_program_that_succeeds_are_no_failure(tmp_path):
    assert finished(tmp_path, "echo 'will not run out of memory'").status == 0


def test_what_a_program_leaves_running_is_ended_with_it(tmp_path):
    finished(tmp_path, "sleep 1000 & echo $! > child")
    until(lambda: not alive(int((tmp_path / "child").read_text())), "end of the child")


def alive(process: int) -> bool:
    try:
        # A zombie of a container without init is as good as gone.
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter where it goes while its file is read
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interruption_ends_the_program_and_its_children_and_removes_its_folder(tmp_path, number):
    path = script(tmp_path, f"trap '' TERM; sleep 1000 & echo $! > {tmp_path}/child; wait; sleep 1000")
    # A shell's background job does not hear SIGINT, and Python does not then, either.
    code = f"""
import signal
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from piwsl.reference import programs
from piwsl.reference.programs import Program, run, scratch_folder
programs.GRACE_SECONDS = 0.5
with scratch_folder(Program("a", "a", "A", "")) as folder:
    run([{path!r}], folder, folder / "output", {{}})
"""
    started = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, stderr=-3)
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip(), "child")
    (folder,) = tmp_path.glob("piwsl-a-*")

    started.send_signal(number)

    assert started.wait(600) != 0
    until(lambda: not alive(int((tmp_path / "child").read_text())), "end of the child")
    assert not folder.exists()


def started_and_struck(monkeypatch) -> list[subprocess.Popen]:
    """Have a signal come when a program has just been started; return what was started."""
    started = []

    class Struck(subprocess.Popen):
        def __init__(self, *given, **named) -> None:
            super().__init__(*given, **named)
            started.append(self)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(programs.subprocess, "Popen", Struck)
    return started


def test_an_interruption_while_a_program_starts_ends_it_as_well(tmp_path, monkeypatch):
    started = started_and_struck(monkeypatch)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        finished(tmp_path, "sleep 1000")
    assert [program.returncode for program in started] == [-signal.SIGTERM]


@pytest.fixture
def hears_interruptions():
    """Heed SIGINT, which a process that a shell started in the background does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_interruptions")
def test_a_second_interruption_while_a_program_is_ended_does_not_leave_it(tmp_path, monkeypatch):
    started, ending = started_and_struck(monkeypatch), programs._signal_group

    def struck(process: subprocess.Popen, number: signal.Signals) -> None:
        signal.raise_signal(signal.SIGINT)
        ending(process, number)

    monkeypatch.setattr(programs, "_signal_group", struck)
    with pytest.raises(KeyboardInterrupt):
        finished(tmp_path, "sleep 1000")
    assert [program.returncode for program in started] == [-signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_is_named_by_a_variable_of_the_environment(tmp_path, monkeypatch):
    path = script(tmp_path, "true")
    monkeypatch.setenv("PIWSL_SH", path)
    assert SHELL.path() == Path(path)
    monkeypatch.setenv("PIWSL_SH", str(tmp_path / "nothing"))
    assert SHELL.path() is None
    assert SHELL.missing() == (
        f"sh is missing: PIWSL_SH={tmp_path}/nothing names no program; install it, or say where it is with PIWSL_SH"
    )


def test_a_program_that_is_missing_is_a_line_before_anything_is_computed_and_no_failed_frame_later(monkeypatch):
    monkeypatch.setenv("PIWSL_PSI4", "/nowhere/psi4")
    level = parse_level({"engine": "psi4", "method": "hf", "basis": "cc-pvdz"}, "level")
    with pytest.raises(PiwslError, match="psi4 is missing: PIWSL_PSI4=/nowhere/psi4 names no program; install it"):
        check_level(level, {"H"})
    with pytest.raises(JobFailure, match="psi4 is missing"):
        level.single_point(molecule("H2"), 0, 1, MEMORY_MB, False)


def test_psi4_makes_no_fitting_basis(tmp_path, monkeypatch):
    monkeypatch.setenv("PIWSL_PSI4", script(tmp_path, "true"))
    level = parse_level({"engine": "psi4", "method": "mp2", "basis": "6-31g"}, "level")
    with pytest.raises(PiwslError, match="psi4 makes no fitting basis for '6-31g'; name one"):
        check_level(level, {"H"})


def test_psi4_that_ends_without_energies_fails_the_job(tmp_path, monkeypatch):
    monkeypatch.setenv("PIWSL_PSI4", script(tmp_path, "echo 'ImportError: libmkl'; exit 1"))
    level = parse_level({"engine": "psi4", "method": "hf", "basis": "cc-pvdz"}, "level")
    with pytest.raises(JobFailure, match="psi4 ended with status 1 and no energies: ImportError: libmkl"):
        level.single_point(molecule("H2"), 0, 1, MEMORY_MB, False)


REFUSED = [
    ({"method": "dlpno-ccsd(t)", "basis": "cc-pvdz"}, "engine 'psi4' has no 'dlpno-ccsd(t)'; it has hf, "),
    ({"method": "dft", "functional": "pbe", "basis": "cc-pvdz"}, "engine 'psi4' has no 'dft'"),
    ({"method": "hf", "basis": "cc-pvdz", "stages": []}, "give one of stages, method"),
    ({"stages": [{"method": "mp2", "bases": ["cc-pvdz"]}]}, "exactly one stage must be 'hf'"),
    ({"preset": "demo"}, "unknown key 'preset'"),
    # Keys of PySCF's levels alone.
    ({"method": "mp2", "basis": "cc-pvdz", "frozen_core": {"Na": 5}}, "frozen_core"),
    ({"method": "mp2", "basis": "cc-pvdz", "orbitals": "restricted"}, "unknown key 'orbitals'"),
    ({"method": "mp2", "basis": "cc-pvdz", "element_bases": {}}, "unknown key 'element_bases'"),
]


@pytest.mark.parametrize(("level", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_levels_that_psi4_has_not_are_refused(level, said):
    with pytest.raises(ConfigError) as refused:
        parse_level({"engine": "psi4", **level}, "level")
    assert said in str(refused.value)


def test_a_level_of_psi4_is_named_after_it_and_has_energies_of_its_own():
    levels = [parse_level({"engine": name, "method": "mp2", "basis": "cc-pvdz"}, "level") for name in ("pyscf", "psi4")]
    assert str(levels[1]) == f"{levels[0]} (psi4)"
    assert levels[0].recipe()["stages"] == levels[1].recipe()["stages"]
    water, free = molecule("H2O"), Atoms("O")
    for atoms, multiplicity in ((water, 1), (free, 3)):
        ours, theirs = (level.cost(atoms, 0, multiplicity, False) for level in levels)
        assert theirs.cpu_s > ours.cpu_s
        assert theirs.memory_mb == ours.memory_mb


def test_local_coupled_cluster_is_not_called_ccsd_t_and_pyscf_says_who_has_it():
    with pytest.raises(ConfigError, match=r"engine 'pyscf' has no 'dlpno-ccsd\(t\)'.*; engine 'orca' has it"):
        parse_level({"method": "dlpno-ccsd(t)", "basis": "cc-pvdz"}, "level")


def test_a_frame_of_which_the_program_says_why_it_fails_fails_alone(tmp_path, monkeypatch):
    said = '{"failed": "hf/sto-3g", "error": "RuntimeError: singular overlap"}'
    monkeypatch.setenv("PIWSL_PSI4", script(tmp_path, f"echo '{said}' > energies.json; exit 1"))
    level = parse_level({"engine": "psi4", "method": "hf", "basis": "sto-3g", "density_fitting": False}, "level")
    with pytest.raises(FrameFailure) as failed:
        level.single_point(molecule("H2"), 0, 1, MEMORY_MB, False)
    assert (failed.value.step, failed.value.reason) == ("hf/sto-3g", "psi4: RuntimeError: singular overlap")
