"""What a Gaussian process cannot learn, or be asked about, is refused before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from helpers import displaced, morse_frames
from typer.testing import CliRunner

from piwsl.architectures.gaussian_process import GaussianProcess
from piwsl.cli import app
from piwsl.config import parse_model
from piwsl.structures.frames import write_frames

PROCESS = {"process": {"architecture": "gaussian_process"}}
NETWORK = {"painn": {"architecture": "painn"}}
STUDENT = {"architecture": "painn", "teacher": {"model": "process", "loss": "supervised"}}
SAMPLED = {
    "molecule": {"name": "H2O"},
    "sampling": {"temperatures": [300]},
    "training_frames": 8,
    "test_frames": 2,
}
GEOMETRIES = {"geometries": {"file": "frames.xyz"}, "training_frames": 8, "test_frames": 2}

Says = Callable[..., str]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Say what is found of an experiment with one dataset, whose files are there."""
    monkeypatch.chdir(tmp_path)

    def check(files: Mapping[str, list[Atoms]], dataset: Mapping[str, Any], models: Any = PROCESS, **keys: Any) -> str:
        for path, frames in files.items():
            write_frames(Path(path), frames)
        level = {} if "file" in dataset else {"level": "mp2-cbs"}
        experiment = {"datasets": {"own": level | dataset}, "models": models, "losses": {"supervised": {}}}
        text = yaml.safe_dump({"experiment": "e", "sizes": [8], "seeds": [0]} | experiment | keys)
        Path("config.yaml").write_text(text)
        result = CliRunner().invoke(app, ["check", "config.yaml"])
        assert "Traceback" not in result.output
        return result.output

    return check


def many(*names: str) -> list[Atoms]:
    rng = np.random.default_rng(0)
    return [displaced(names[number % len(names)], 0.05, rng) for number in range(20)]


MIXED = "knows one molecule, and frames are of H2O and H3N (dataset 'own'); choose another model, or leave its runs out"


def test_geometries_of_two_molecules_are_not_labelled_for_it(says: Says) -> None:
    assert MIXED in says({"frames.xyz": many("H2O", "NH3")}, GEOMETRIES)
    assert "is in order" in says({"frames.xyz": many("H2O", "NH3")}, GEOMETRIES, NETWORK)
    assert "is in order" in says({"frames.xyz": many("H2O")}, GEOMETRIES)


def test_one_that_only_teaches_is_asked_too(says: Says) -> None:
    taught = {"models": PROCESS | {"student": STUDENT}, "exclude": [{"model": "process"}]}
    assert MIXED in says({"frames.xyz": many("H2O", "NH3")}, GEOMETRIES | {"pool_frames": 4}, **taught)


def test_frames_that_are_given_are_of_one_molecule_too(says: Says) -> None:
    mixed = {"frames.xyz": morse_frames("H2O", 10) + morse_frames("NH3", 10)}
    given = {"file": "frames.xyz", "test_frames": 4}
    assert MIXED in says(mixed, given)
    assert "is in order" in says(mixed, given, NETWORK)
    two = {"own": given, "alone": {"file": "alone.xyz", "test_frames": 4}}
    mixed |= {"alone.xyz": morse_frames("H2O", 20)}
    models = PROCESS | NETWORK
    left_out = [{"dataset": "own", "model": "process"}]
    assert "is in order" in says(mixed, given, models, datasets=two, exclude=left_out)
    assert MIXED in says(mixed, given, models, datasets=two)


def test_neither_crystals_nor_single_atoms_are_molecules(says: Says) -> None:
    cells = [bulk("NaCl", "rocksalt", a=5.6, cubic=True) for _ in range(12)]
    for number, cell in enumerate(cells):
        cell.rattle(0.05, seed=number)
        cell.info["REF_energy"] = float(number)
    given = {"file": "frames.xyz", "test_frames": 4}
    assert "knows one molecule, and frames are periodic (dataset 'own')" in says({"frames.xyz": cells}, given)
    assert "the frames have one atom" in str(parse_model(PROCESS["process"], "e").frames_problem([Atoms("He")]))


def test_a_named_test_set_of_another_molecule_is_refused_as_it_would_end_the_run(says: Says) -> None:
    files = {"frames.xyz": many("H2O2"), "others.xyz": many("H2O")}
    dataset = GEOMETRIES | {"tests": {"others": {"file": "others.xyz"}}}
    said = says(files, dataset)
    assert "frames are of H2O and H2O2 (test 'others' of dataset 'own'); choose another model" in said
    assert "is in order" in says(files, dataset, NETWORK)


@pytest.fixture
def few_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four frames of water with forces, which have an energy and nine components each."""
    monkeypatch.setattr(GaussianProcess, "most_labels", 40)


@pytest.mark.usefixtures("few_labels")
@pytest.mark.parametrize("given", [True, False])
def test_more_labels_than_it_takes_are_not_computed(says: Says, given: bool) -> None:
    files, dataset = {}, SAMPLED | {"training_forces": True}
    if given:
        files, dataset = {"frames.xyz": morse_frames("H2O", 20, forces=True)}, {"file": "frames.xyz", "test_frames": 4}
    said = says(files, dataset, sizes=[5])
    assert "models.process: learns from 40 labels at most, and 5 frames of dataset 'own' have 50 energies and" in said
    assert "is in order" in says({}, dataset, sizes=[4])
    assert "is in order" in says({}, dataset, NETWORK, sizes=[5])
    assert "is in order" in says({}, dataset, losses={"supervised": {"forces": 0}}, sizes=[5])
    assert "is in order" in says({}, dataset, losses={"supervised": {"energy": 0}}, sizes=[4])
    taught = PROCESS | {"student": STUDENT}
    pool = {"pool_file": "frames.xyz"} if given else {"pool_frames": 4}
    assert "learns from 40" in says({}, dataset | pool, taught, sizes=[5], exclude=[{"model": "process"}])


@pytest.mark.usefixtures("few_labels")
def test_frames_that_may_have_no_forces_are_not_counted(says: Says) -> None:
    frames = morse_frames("H2O", 20, forces=True)
    for atoms in frames[::2]:
        del atoms.arrays["REF_forces"]
    assert "is in order" in says({"frames.xyz": frames}, {"file": "frames.xyz", "test_frames": 4}, sizes=[5])


@pytest.mark.usefixtures("few_labels")
def test_each_round_of_an_acquisition_is_counted(says: Says) -> None:
    """Of the last round its own model is the only one that learns, and none here is of the grid."""
    rounds = {"start": 2, "rounds": 2, "each": 2, "by": "variance", "model": "process", "loss": "supervised"}
    dataset = SAMPLED | {"training_forces": True, "acquisition": rounds}
    assert "is in order" in says({}, dataset, PROCESS | NETWORK, sizes=[6], exclude=[{"model": "process"}])
    rounds["each"] = 3
    assert "5 frames of dataset 'own' have 50" in says(
        {}, dataset, PROCESS | NETWORK, sizes=[8], exclude=[{"model": "process"}]
    )
