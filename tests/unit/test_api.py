"""The library without the grid: what `import piwsl` offers, and the commands beside it. Its page's examples run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from helpers import ROOT, displaced, morse_frames
from typer.testing import CliRunner

import piwsl
from piwsl.cli import app
from piwsl.config import Loss
from piwsl.errors import PiwslError
from piwsl.models.storage import read_header
from piwsl.structures.frames import label, without_labels, write_frames

QUICK = {"architecture": "painn", "features": 16, "layers": 1, "cutoff": 4.0, "training": {"steps": 60}}
PAGE = ROOT / "docs" / "reference" / "python.md"


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    return piwsl.train(morse_frames("H2O", 20, forces=True), tmp_path_factory.mktemp("quick") / "model", QUICK)


def test_a_potential_is_trained_on_frames_tested_and_used(potential):
    test = morse_frames("H2O", 10, seed=5, forces=True)
    errors = piwsl.evaluate(potential, test)
    spread = 1000 * np.std([atoms.info["REF_energy"] for atoms in test])
    assert errors["energy_mae_meV"] < spread
    predicted = piwsl.predict(potential, test)
    labels = np.array([atoms.info["REF_energy"] for atoms in test])
    energies = np.array([atoms.get_potential_energy() for atoms in predicted])
    assert 1000 * np.abs(energies - labels).mean() == pytest.approx(errors["energy_mae_meV"])
    frames, summary = piwsl.simulate(potential, test[0], time=0.005, temperature=100)
    assert summary["ended"] == "completed"
    assert len(frames) > 1


def test_what_is_trained_is_what_a_run_of_the_grid_trains(potential, tmp_path):
    again = piwsl.train(morse_frames("H2O", 20, forces=True), tmp_path / "model", QUICK, Loss())
    frames = morse_frames("H2O", 3, seed=7)
    ours, theirs = (
        [atoms.get_potential_energy() for atoms in piwsl.predict(each, frames)] for each in (again, potential)
    )
    assert ours == theirs
    other = piwsl.train(morse_frames("H2O", 20, forces=True), tmp_path / "other", QUICK, seed=1)
    assert [atoms.get_potential_energy() for atoms in piwsl.predict(other, frames)] != ours
    provenance = read_header(tmp_path / "model" / "model.safetensors")["provenance"]
    assert provenance["seed"] == 0
    assert "run" not in provenance


def test_frames_of_a_pool_take_part(tmp_path):
    pool = [without_labels(atoms) for atoms in morse_frames("H2O", 10, seed=3)]
    loss = {"pitc": {"weight": 1.0, "order": "quadratic"}, "pool": 0.5}
    piwsl.train(morse_frames("H2O", 10), tmp_path / "model", QUICK, loss, pool=pool)
    history = (tmp_path / "model" / "history.csv").read_text()
    assert "training_pitc" in history.splitlines()[0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": "pain"}, "no architecture 'pain'; did you mean 'painn'"),
        ({"loss": {"energi": 1}}, "unknown key 'energi'; did you mean 'energy'"),
        ({"loss": {"energy": 0.0}}, "the loss has energy: 0, but none of the .* frames of the data has forces"),
        ({"loss": {"pisc": {"weight": 1.0}, "pool": 0.5}}, "the loss takes frames of the pool, and the data has none"),
        ({"model": QUICK | {"atomic_references": {"H": -13.6}}}, "the model, the data: .* has no energy of O"),
        ({"frames": [molecule("H2O")]}, "frame 0 has no REF_energy"),
        ({"frames": []}, "there is no frame to learn from"),
    ],
    ids=["architecture", "key", "no forces", "no pool", "no reference", "no energy", "no frames"],
)
def test_what_cannot_be_trained_is_refused_before_it_is(tmp_path, change, complaint):
    given = {"frames": morse_frames("H2O", 5), "model": QUICK, "loss": None} | change
    with pytest.raises(PiwslError, match=complaint):
        piwsl.train(given["frames"], tmp_path / "model", given["model"], given["loss"])
    assert not (tmp_path / "model" / "model.safetensors").exists()


def test_a_free_atom_says_what_molecules_are_bound_by_and_an_ion_does_not(tmp_path):
    molecules = morse_frames("H2O", 8)
    atoms = [label(Atoms(symbol, [[0.0, 0.0, 0.0]]), energy, None) for symbol, energy in (("H", 0.5), ("O", 0.25))]
    ions = [atom.copy() for atom in atoms]
    for ion in ions:
        ion.info |= {"charge": 1, "REF_energy": 99.0}
    stated = QUICK | {"atomic_references": "free_atoms", "training": {"steps": 2, "validation_fraction": 0}}
    potential = piwsl.train([*molecules, *atoms, *ions], tmp_path / "with", stated)
    energies = potential.references.energies
    # All but one constant an atom is theirs.
    assert float(energies[1] - energies[8]) == pytest.approx(0.25, abs=1e-9)
    with pytest.raises(PiwslError, match="the dataset has no free H, O"):
        piwsl.train([*molecules, *ions], tmp_path / "without", stated)


def test_a_model_is_not_written_over(potential, tmp_path):
    piwsl.train(morse_frames("H2O", 5), tmp_path, QUICK | {"training": {"steps": 2}})
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(PiwslError, match="is there already; name another folder"):
        piwsl.train(morse_frames("H2O", 5), tmp_path, QUICK)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_an_interrupted_training_goes_on(tmp_path):
    # Killed at its second validation, in a process of its own.
    frames = tmp_path / "frames.xyz"
    write_frames(frames, morse_frames("H2O", 20, forces=True))
    section = QUICK | {"training": {"steps": 60, "validate_every": 10}}
    code = f"""
import os, piwsl
from piwsl.training.checkpoints import Checkpoints
save, count = Checkpoints.on_train_epoch_end, []
def killed(self, trainer, module):
    save(self, trainer, module)
    count.append(1)
    if len(count) == 2:
        os._exit(9)
Checkpoints.on_train_epoch_end = killed
piwsl.train(piwsl.read_frames({frames.name!r}), "model", {section!r})
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert killed.returncode == 9, killed.stderr
    assert list((tmp_path / "model" / "checkpoints").glob("*.ckpt"))
    resumed = piwsl.train(piwsl.read_frames(frames), tmp_path / "model", section)
    whole = piwsl.train(piwsl.read_frames(frames), tmp_path / "whole", section)
    energies = [piwsl.predict(each, [molecule("H2O")])[0].get_potential_energy() for each in (resumed, whole)]
    assert energies[0] == energies[1]


def test_an_unlabelled_frame_has_no_error(potential):
    with pytest.raises(PiwslError, match="frame 1: has no REF_energy and no REF_forces to compare with"):
        piwsl.evaluate(potential, [morse_frames("H2O", 1)[0], molecule("H2O")])


def test_geometries_are_labelled(tmp_path):
    (frame,), (record,) = piwsl.label([molecule("H2")], level="demo", store=tmp_path)
    assert record["status"] == "ok"
    assert -32.5 < frame.info["REF_energy"] < -30.0  # eV
    with pytest.raises(PiwslError, match="no level 'ccsdt-cb'; did you mean 'ccsdt-cbs'"):
        piwsl.label([molecule("H2")], level="ccsdt-cb", store=tmp_path)


def command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_the_commands_train_and_evaluate_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(Path("frames.xyz"), morse_frames("H2O", 20, forces=True))
    write_frames(Path("test.xyz"), morse_frames("H2O", 5, seed=4, forces=True))
    Path("mine.yaml").write_text("model: {architecture: schnet, features: 16, cutoff: 4.0}\nloss: {forces: 10}\n")
    code, output = command("train", "frames.xyz", "model", "--config", "mine.yaml", "--steps", 30)
    assert code == 0, output
    header = read_header(Path("model/model.safetensors"))
    assert header["config"]["architecture"] == "schnet"
    assert header["config"]["training"]["steps"] == 30
    assert header["provenance"]["loss"]["forces"] == 10.0
    code, output = command("evaluate", "model/model.safetensors", "test.xyz", "--errors", "errors.json")
    assert code == 0, output
    found = json.loads(Path("errors.json").read_text())
    assert re.search(r"force_mae_meV_per_A: [0-9.]+", output)
    assert found["test_frames"] == 5
    assert found["stress_mae_meV_per_A3"] is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("models: {}", "mine.yaml: unknown key 'models'; known are loss, model"),
        ("model: painn", "mine.yaml: model: expected keys and values"),
        ("model: {architecture: painn, training: 3}", "model.training: expected keys and values"),
        ("loss: {pitc: 3}", "mine.yaml: pitc: expected keys and values"),
    ],
    ids=["unknown key", "a word", "training", "term"],
)
def test_a_file_that_is_not_right_is_refused_in_one_line(tmp_path, monkeypatch, text, complaint):
    monkeypatch.chdir(tmp_path)
    write_frames(Path("frames.xyz"), morse_frames("H2O", 5))
    Path("mine.yaml").write_text(text)
    result = CliRunner().invoke(app, ["train", "frames.xyz", "model", "--config", "mine.yaml", "--steps", "2"])
    assert result.exit_code == 1
    assert complaint in result.output.replace("\n", " ")


def test_the_names_are_there_and_cost_nothing_until_they_are_used():
    code = """
import sys, piwsl
assert "torch" not in sys.modules
print(*dir(piwsl))
for name in dir(piwsl):
    getattr(piwsl, name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(piwsl.__all__)


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    write_frames(Path("geometries.xyz"), [displaced("H2O", 0.05, random) for _ in range(12)])
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(examples) >= 4
    scope: dict = {}
    for example in examples:
        exec(example, scope)  # one after the other, as a reader would


def test_a_model_file_says_level_charge_and_multiplicity_of_what_it_learned(tmp_path):
    frames = morse_frames("H2O", 8)
    for atoms in frames[::2]:
        atoms.info |= {"total_charge": 1, "total_spin": 2}
    piwsl.train(frames, tmp_path / "model", "gaussian_process", level="CCSD(T)/CBS")
    provenance = read_header(tmp_path / "model" / "model.safetensors")["provenance"]
    assert provenance["level"] == "CCSD(T)/CBS"
    assert provenance["electrons"] == [{"charge": 0, "multiplicity": 1}, {"charge": 1, "multiplicity": 2}]
