"""Engines of reference energies: ours besides PySCF, and one from outside the package in a run of the pipeline."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.calculators.morse import MorsePotential
from helpers import ROOT, displaced, distribution, snakemake

from piwsl.config import ComputedDataset, ConfigError, Cost, Experiment, Level, SinglePoint, parse_level, parse_section
from piwsl.config.levels import ENGINES
from piwsl.errors import PiwslError
from piwsl.files import read_json, read_json_lines
from piwsl.reference.checks import check_level
from piwsl.reference.differences import central_difference_forces
from piwsl.reference.labelling import label_frames
from piwsl.reference.planning import label_batches
from piwsl.reference.recipe import level_key, recipe
from piwsl.report.sections.making import brought
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY
from piwsl.workflow.jobs import Jobs

MORSE = '''
from ase.calculators.morse import MorsePotential
from pydantic import Field

from piwsl.config import Cost, Level, SinglePoint


class Morse(Level):
    """A Morse potential between all pairs of atoms."""

    depth: float = Field(1.0, gt=0, description="eV; of the well of a pair.")

    def single_point(self, atoms, charge, multiplicity, memory_mb, forces):
        atoms.calc = MorsePotential(epsilon=self.depth, r0=1.1, rho0=2.0, rcut1=8.0, rcut2=9.0)
        return SinglePoint(atoms.get_potential_energy(), atoms.get_forces() if forces else None)

    def cost(self, atoms, charge, multiplicity, forces):
        return Cost(cpu_s=0.001 * len(atoms), memory_mb=100)

    def analytic_problem(self, multiplicity):
        return None
'''
ENTRY = {"piwsl.reference.engines": "morse = toy_engine:Morse"}


def by_ase(frame: Atoms, depth: float) -> Atoms:
    """A frame's geometry with the potential of the toy, by ASE alone."""
    potential = MorsePotential(epsilon=depth, r0=1.1, rho0=2.0, rcut1=8.0, rcut2=9.0)
    return Atoms(frame.numbers, frame.positions, calculator=potential)


def water(seed: int) -> Atoms:
    return displaced("H2O", 0.05, np.random.default_rng(seed))


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """A folder of its own on Python's path, with a distribution that brings the engine."""
    (tmp_path / "site").mkdir()
    return installed(tmp_path / "site", monkeypatch)


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
    return distribution(folder, "toy_engine", MORSE, ENTRY)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Iterator[Callable[[str], None]]:
    """Installs, for this process, a distribution that brings the engine as a source has it."""

    def install(source: str) -> None:
        distribution(tmp_path / "site", "toy_engine", source, ENTRY)
        monkeypatch.syspath_prepend(tmp_path / "site")
        vars(ENGINES).pop("_others", None)

    yield install
    vars(ENGINES).pop("_others", None)
    sys.modules.pop("toy_engine", None)


CONFIG = {
    "experiment": "toy",
    "levels": {"own": {"engine": "morse", "depth": 2.0}},
    "datasets": {
        "water": {
            "geometries": {"file": "given.xyz", "blocks": 3, "test_fraction": 0.34},
            "level": "own",
            "training_frames": 3,
            "training_forces": True,
            "test_frames": 1,
        }
    },
    "models": {"painn": {"architecture": "painn", "features": 8, "layers": 1, "training": {"steps": 2}}},
    "losses": {"supervised": {}},
    "sizes": [3],
    "seeds": [0],
}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Iterator[Path]:
    """A folder in which the frames of an experiment with a level of the toy's are labelled."""
    folder = tmp_path_factory.mktemp("experiment")
    for name in ("workflow", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "profiles").symlink_to("workflow/profiles")
    ase.io.write(folder / "given.xyz", [water(seed) for seed in range(6)])
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "site").mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        installed(folder / "site", monkeypatch)
        done = snakemake(folder, "--until", "label", "label_free_atoms")
        assert done.returncode == 0, done.stdout + done.stderr
        yield folder


def test_the_page_on_extending_shows_the_engine_of_these_tests():
    assert f"```python\n{MORSE.strip()}\n```" in (ROOT / "docs/how-to/extend.md").read_text()


def piwsl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "piwsl", *arguments], cwd=folder, capture_output=True, text=True)


def test_an_engine_from_outside_is_planned_for(labelled):
    plan = piwsl(labelled, "plan", "config.yaml")
    assert "water: own = morse (depth 2.0)" in plan.stdout, plan.stderr
    assert "3 frames" in plan.stdout


def test_an_engine_from_outside_labels_the_frames_of_an_experiment(labelled):
    files = labelled / "results/toy/datasets/water"
    (training,) = (files / "labels/training").rglob("*.xyz")
    frames = ase.io.read(training, ":")
    assert len(frames) == 3
    for atoms in frames:
        expected = by_ase(atoms, 2.0)
        assert atoms.info[ENERGY_KEY] == pytest.approx(expected.get_potential_energy(), abs=1e-8)
        np.testing.assert_allclose(atoms.arrays[FORCES_KEY], expected.get_forces(), atol=1e-6)
    (record, *_) = read_json_lines(training.with_suffix(".jsonl"))
    assert (record["status"], record["forces"]) == ("ok", "analytic")
    assert record["versions"]["morse"].startswith("toy_engine 1.0, ")
    (level,) = (labelled / "results/labels").glob("*/level.json")
    assert read_json(level) == {"level": "morse (depth 2.0)", "engine": "morse", "depth": 2.0}
    (free_atoms,) = files.glob("*atoms*.json")
    assert {symbol: atom["energy_eV"] for symbol, atom in read_json(free_atoms).items()} == {"H": 0.0, "O": 0.0}


def test_another_version_of_an_engine_tries_again_and_computes_no_finished_energy_again(labelled):
    def planned() -> bool:
        done = snakemake(labelled, "--dry-run", "--until", "label")
        assert done.returncode == 0, done.stdout + done.stderr
        return re.search(r"^label +2$", done.stdout + done.stderr, flags=re.MULTILINE) is not None

    assert not planned()
    (labelled / "site/toy_engine.py").write_text(MORSE + "\n\nLATER = True\n")
    assert planned()
    done = snakemake(labelled, "--until", "label")
    assert done.returncode == 0, done.stdout + done.stderr
    records = [row for path in (labelled / "results/toy").rglob("*.jsonl") for row in read_json_lines(path)]
    assert [record["stored"] for record in records] == [True] * 4


def test_forces_by_differences_are_those_of_the_engine(toy, tmp_path):
    ase.io.write(tmp_path / "one.xyz", water(1))
    (tmp_path / "level.yaml").write_text("engine: morse\n")
    forces = []
    for how in ("analytic", "differences"):
        done = piwsl(tmp_path, "label", "one.xyz", f"{how}.xyz", "--level", "level.yaml", "--forces", how)
        assert done.returncode == 0, done.stderr
        forces.append(ase.io.read(tmp_path / f"{how}.xyz").arrays[FORCES_KEY])
    np.testing.assert_allclose(*forces, atol=1e-5)


BROKEN = [
    ("engine: mors\n", MORSE, "level.yaml: engine: no engine 'mors'; did you mean 'morse'?"),
    (
        "engine: x\n",
        MORSE,
        "level.yaml: engine: no engine 'x'; known are mace, morse, orca, piwsl, psi4, pyscf, sum, tblite",
    ),
    ("engine: morse\ndept: 1.0\n", MORSE, "level.yaml: unknown key 'dept'; did you mean 'depth'?"),
    ("engine: morse\ndepth: -1.0\n", MORSE, "level.yaml: depth: input should be greater than 0, found -1.0"),
    (
        "engine: morse\n",
        "import orca_that_nobody_has\n",
        "level.yaml: engine: toy_engine 1.0 brings piwsl.reference.engines 'morse', which cannot be loaded "
        "(ModuleNotFoundError: No module named 'orca_that_nobody_has'); mend or uninstall it",
    ),
    (
        "engine: morse\n",
        "class Morse:\n    pass\n",
        "level.yaml: engine: toy_engine 1.0: toy_engine:Morse is no Level of piwsl's; mend its entry point",
    ),
    (
        "engine: morse\n",
        "from piwsl.config import Level\n\nclass Morse(Level):\n    pass\n",
        "level.yaml: engine: toy_engine 1.0: toy_engine:Morse lacks cost, single_point; see piwsl's Level",
    ),
    (
        "engine: morse\n",
        MORSE + "\n    def problem(self, symbols):\n        return f'no parameters of {min(symbols)}; take it out'\n",
        "no parameters of H; take it out",
    ),
]


@pytest.mark.parametrize(("level", "source", "line"), BROKEN, ids=[str(number) for number in range(len(BROKEN))])
def test_what_is_wrong_with_a_level_or_its_engine_is_one_line(toy, tmp_path, level, source, line):
    (toy / "toy_engine.py").write_text(source)
    (tmp_path / "level.yaml").write_text(level)
    ase.io.write(tmp_path / "one.xyz", water(1))

    done = piwsl(tmp_path, "label", "one.xyz", "out.xyz", "--level", "level.yaml")

    shown = done.stderr.replace("\n", "")
    assert (done.returncode, shown) == (1, f"error: {line}")


class Given(Level):
    """An engine that gives what it is told."""

    engine: str = "given"

    def single_point(self, atoms, charge, multiplicity, memory_mb, forces) -> SinglePoint:
        return self.answer(atoms)

    def cost(self, atoms, charge, multiplicity, forces):
        raise NotImplementedError

    def analytic_problem(self, multiplicity) -> None:
        return None


def refused(atoms: Atoms) -> SinglePoint:
    raise RuntimeError("the SCF did not\nconverge")


def ended(atoms: Atoms) -> SinglePoint:
    sys.exit("no licence")


WRONG = {
    "SystemExit: no licence": ended,
    "RuntimeError: the SCF did not converge": refused,
    "ValueError: gave the energy nan": lambda atoms: SinglePoint(float("nan")),
    "ValueError: gave forces that are not three finite numbers for each of 3 atoms": lambda atoms: SinglePoint(1.0),
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_is_no_result_is_a_failure_of_the_frame_and_kept_nowhere(tmp_path, reason):
    class Wrong(Given):
        def single_point(self, atoms, charge, multiplicity, memory_mb, forces) -> SinglePoint:
            return WRONG[reason](atoms)

    frames, (record,) = label_frames([water(1)], Wrong(), tmp_path, "analytic", 1000, progress=lambda line: None)

    assert (frames, record["status"], record["step"], record["reason"]) == ([], "failed", "given", reason)
    assert not list(tmp_path.rglob("*.json"))


def test_an_engine_says_nothing_in_the_place_of_a_record(tmp_path):
    class Talkative(Given):
        def single_point(self, atoms, charge, multiplicity, memory_mb, forces) -> SinglePoint:
            notes = {"energy_eV": 7.0, "numbers": [], "status": "odd", "geometry": "flat", "cycles": 9}
            return SinglePoint(-1.0, notes=notes)

    for stored in (False, True):
        _, (record,) = label_frames([water(1)], Talkative(), tmp_path, None, 1000, progress=lambda line: None)
        assert (record["status"], record["energy_eV"], record["stored"]) == ("ok", -1.0, stored)
        assert (len(record["geometry"]), record["cycles"]) == (64, 9)


def test_the_time_of_a_program_that_an_engine_runs_is_time_of_the_frame(tmp_path):
    class Outside(Given):
        def single_point(self, atoms, charge, multiplicity, memory_mb, forces) -> SinglePoint:
            subprocess.run([sys.executable, "-c", "while __import__('time').process_time() < 0.3: pass"], check=True)
            return SinglePoint(-1.0)

    _, (record,) = label_frames([water(1)], Outside(), tmp_path, None, 1000, progress=lambda line: None)
    assert record["cpu_s"] > 0.2  # the two clocks tick apart, by some hundredths of a second


def test_a_frame_that_is_said_to_take_no_time_is_planned_for():
    class Free(Given):
        def cost(self, atoms, charge, multiplicity, forces) -> Cost:
            return Cost(cpu_s=0.0, memory_mb=0.0)

    section = {"geometries": {"file": "given.xyz"}, "level": "x", "training_frames": 10, "test_frames": 1}
    batches = label_batches(ComputedDataset.model_validate(section), [water(0)], Free())
    assert {(name, batch.mem_mb) for (_, name), batch in batches.items()} == {
        ("00000-00010", 300),
        ("00000-00001", 300),
    }


def test_a_level_of_another_engine_has_energies_of_its_own():
    levels = [
        {"method": "hf", "basis": "cc-pvdz"},
        {"engine": "tblite"},
        {"engine": "tblite", "method": "gfn1-xtb"},
        {"engine": "tblite", "accuracy": 0.01},
    ]
    assert len({level_key(parse_level(level, "level")) for level in levels}) == len(levels)
    assert "engine" not in recipe(parse_level(levels[0], "level")), "found where energies were kept before"
    assert recipe(parse_level(levels[1], "level"))["engine"] == "tblite"


@pytest.mark.parametrize("method", ["gfn2-xtb", "gfn1-xtb"])
@pytest.mark.parametrize(("charge", "multiplicity"), [(0, 1), (1, 2), (0, 3)])
def test_forces_of_tblite_are_the_slope_of_its_energies(method, charge, multiplicity):
    level = parse_level({"engine": "tblite", "method": method}, "level")
    atoms = displaced("CH3OH", 0.05, np.random.default_rng(0))

    def point(moved: Atoms, forces: bool = False) -> SinglePoint:
        return level.single_point(moved.copy(), charge, multiplicity, 1000, forces)

    # Of a triplet the energy bends so much that the usual step leaves 6e-5 eV/Å, sixteen times less at half of it.
    slope = central_difference_forces(atoms, lambda moved: point(moved).energy, step=0.002)
    np.testing.assert_allclose(point(atoms, forces=True).forces, slope, atol=3e-6)


def test_tblite_says_what_it_is_and_lacks():
    level = parse_level({"engine": "tblite"}, "level")
    assert str(level) == "GFN2-xTB"
    assert level.problem({"H", "Rn"}) is None
    assert level.problem({"H", "U"}) == "GFN2-xTB has no U; name another level"
    with pytest.raises(ConfigError, match="level: method: input should be 'gfn2-xtb' or 'gfn1-xtb', found 'gfn3'"):
        parse_level({"engine": "tblite", "method": "gfn3"}, "level")


def test_frames_that_take_milliseconds_make_one_job():
    section = {"geometries": {"file": "given.xyz"}, "level": "x", "training_frames": 1000, "test_frames": 10}
    dataset = ComputedDataset.model_validate(section | {"training_forces": True})
    batches = label_batches(dataset, [water(0)], parse_level({"engine": "tblite"}, "level"))
    assert {name for _, name in batches} == {"00000-01000", "00000-00010"}
    assert {batch.forces for (labels, _), batch in batches.items() if labels == "training"} == {"analytic"}


WORKING = (
    MORSE
    + """
    def {method}(self, *arguments):
        return {answer}
"""
)


def test_what_brings_an_engine_is_named_to_trainings_and_by_the_report(here):
    here(MORSE)
    experiment = parse_section(Experiment, CONFIG, "config.yaml")
    named = {"reference.engines.morse": "toy_engine 1.0"}
    assert Jobs(experiment, ROOT / "workflow" / "scripts").distributions("water") == named
    assert brought(experiment) == named


NO_ANSWERS = {
    ("problem", "3"): "problem() gives 3, expected str or None",
    ("problem", "self.nothing"): "problem() failed (AttributeError: 'Morse' object has no attribute 'nothing')",
    ("recipe", "None"): "recipe() gives None, expected dict",
    ("recipe", "{'depth': {1.0}}"): (
        "recipe() gives no plain values (TypeError: Object of type set is not JSON serializable)"
    ),
    ("recipe", "{1: 2}"): "recipe() gives keys that are no text",
    ("__str__", "self"): "__str__() gives Morse(engine='morse', depth=1.0), expected str",
    ("versions", "'1.0'"): "versions() gives '1.0', expected dict",
    ("of_free_atoms", "None"): "of_free_atoms() gives None, expected Level",
    ("analytic_problem", "False"): "analytic_problem() gives False, expected str or None",
    ("record_problem", "0"): "record_problem() gives 0, expected str or None",
}


@pytest.mark.parametrize(("method", "answer"), NO_ANSWERS, ids=list(map(str, range(len(NO_ANSWERS)))))
def test_what_an_engine_answers_and_is_no_answer_is_one_line_that_names_it(here, tmp_path, method, answer):
    here(WORKING.format(method=method, answer=answer))
    level = parse_level({"engine": "morse"}, "level")

    def label() -> None:
        check_level(level, {"H", "O"})
        for _ in range(2):  # the second time from the store
            label_frames([water(1)], level, tmp_path, "analytic", 1000, progress=lambda line: None)

    with pytest.raises(PiwslError) as refused:
        label()
    assert str(refused.value) == f"toy_engine 1.0: engine 'morse': {NO_ANSWERS[method, answer]}; mend it"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("12.0", "gives 12.0, expected Cost"),
        ("Cost(cpu_s='long', memory_mb=1.0)", "gives cpu_s 'long', expected a number from 0 on"),
        ("Cost(cpu_s=1.0, memory_mb=float('nan'))", "gives memory_mb nan, expected a number from 0 on"),
    ],
)
def test_a_cost_that_is_none_is_one_line_that_names_the_engine(here, answer, problem):
    here(WORKING.format(method="cost", answer=answer))
    section = {"geometries": {"file": "given.xyz"}, "level": "x", "training_frames": 10, "test_frames": 1}
    with pytest.raises(PiwslError, match=re.escape(f"toy_engine 1.0: engine 'morse': cost() {problem}; mend it")):
        label_batches(ComputedDataset.model_validate(section), [water(0)], parse_level({"engine": "morse"}, "level"))


@pytest.mark.parametrize(
    ("notes", "reason"),
    [
        (
            {"orbitals": np.float32(3)},
            "notes that are no plain values (Object of type float32 is not JSON serializable)",
        ),
        ({3: 1}, "notes whose keys are no text"),
        ({"t1_diagnostic": "high"}, "the note t1_diagnostic: input should be a valid number, unable to parse string"),
        ({"scf": [1]}, "the note scf: input should be a valid dictionary"),
    ],
)
def test_notes_that_no_record_can_hold_are_a_failure_of_the_frame(tmp_path, notes, reason):
    class Noting(Given):
        def single_point(self, atoms, charge, multiplicity, memory_mb, forces) -> SinglePoint:
            return SinglePoint(-1.0, notes=notes)

    frames, (record,) = label_frames([water(1)], Noting(), tmp_path, None, 1000, progress=lambda line: None)

    assert (frames, record["status"]) == ([], "failed")
    assert record["reason"].startswith(f"ValueError: gave {reason}")
    assert not list(tmp_path.rglob("*.json"))
