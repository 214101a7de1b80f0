"""Training learns, is reproducible to the bit, survives interruptions, and never resumes what is not its own."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, morse_frames
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event

import piwsl
from piwsl.config import PISC, PITC, Loss, PaiNN, Run, Training, WeakForces
from piwsl.data.batch import graph
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_dataset
from piwsl.data.splits import split_frames
from piwsl.errors import PiwslError
from piwsl.evaluation.errors import error_summary
from piwsl.evaluation.predict import predict
from piwsl.files import read_json
from piwsl.models.storage import read_header
from piwsl.structures.structure import from_atoms
from piwsl.training.batches import StepBatches, frames_of_step
from piwsl.training.run import Devices, train

WEAK = Loss(pitc=PITC(weight=0.1), pisc=PISC(weight=0.01), displacement=0.01)


def small(**training) -> PaiNN:
    settings = Training(**({"steps": 60, "validate_every": 15, "batch_size": 4} | training))
    return PaiNN(architecture="painn", cutoff=4.0, features=16, layers=2, radial=8, training=settings)


def run(size: int = 20, seed: int = 0) -> Run:
    return Run(dataset="d", model="m", loss="l", size=size, seed=seed)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "dataset.h5"
    mixed = morse_frames("H2O", 30) + morse_frames("NH3", 20, forces=True)
    write_dataset(path, {TRAINING: mixed, TEST: morse_frames("H2O", 20, seed=5, forces=True)})
    return path


def train_in(folder: Path, dataset: Path, model: PaiNN, loss: Loss = WEAK, point: Run | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    train(dataset, point or run(), model, loss, folder / "model.safetensors", folder / "history.csv")
    return folder / "model.safetensors"


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = load_file(first), load_file(second)
    # Bit by bit: the references of unknown elements are NaN, which no comparison of numbers calls equal.
    return ours.keys() == theirs.keys() and all(
        ours[key].numpy().tobytes() == theirs[key].numpy().tobytes() for key in ours
    )


def test_training_learns_energies_and_forces_that_it_was_not_shown(dataset, tmp_path):
    model = small(steps=600, validate_every=100, learning_rate=5e-3)
    path = train_in(tmp_path, dataset, model, Loss(energy=100.0, forces=1.0), run(size=50))
    with Dataset(dataset) as opened:
        test = opened.structures(opened.indices(TEST))
    errors = error_summary(test, predict(piwsl.load_model(path), test))
    spread = 1000 * np.std([structure.energy for structure in test])
    forces = 1000 * np.abs(np.concatenate([structure.forces.ravel() for structure in test])).mean()
    assert errors["energy_mae_meV"] < 0.2 * spread
    assert errors["force_mae_meV_per_A"] < 0.3 * forces
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["step"].tolist() == [100, 200, 300, 400, 500, 600]
    assert history["validation_loss"].iloc[-1] < 0.1 * history["validation_loss"].iloc[0]


def test_the_saved_energies_have_no_constant_error_on_the_training_frames(tmp_path):
    # Forces weigh so much more that no gradient reaches the constant in so few steps.
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: morse_frames("NH3", 30, forces=True), TEST: morse_frames("NH3", 2)})
    loss = Loss(energy=1e-4, forces=100.0, **{"pitc": PITC(weight=0.01), "displacement": 0.01})
    model = piwsl.load_model(train_in(tmp_path, path, small(), loss))
    with Dataset(path) as opened:
        chosen = split_frames(opened.indices(TRAINING), 20, 0, 0.2)
        training = opened.structures(chosen.training)
    residuals = predict(model, training).energy - [structure.energy for structure in training]
    assert abs(residuals.mean()) < 1e-5
    assert residuals.std() > 1e-3


def test_a_loss_without_forces_never_sees_those_that_are_labelled(tmp_path):
    with_forces, without = tmp_path / "with.h5", tmp_path / "without.h5"
    for path, forces in ((with_forces, True), (without, False)):
        write_dataset(path, {TRAINING: morse_frames("NH3", 30, forces=forces), TEST: morse_frames("NH3", 2)})
    # Adversarial directions and validation would look at the labels, too.
    loss = Loss(forces=0.0, pitc=PITC(weight=0.1), displacement=0.01, direction="adversarial")
    ours = train_in(tmp_path / "a", with_forces, small(), loss)
    assert same_weights(ours, train_in(tmp_path / "b", without, small(), loss))
    assert "training_forces" not in pd.read_csv(tmp_path / "a" / "history.csv")


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(dataset, tmp_path):
    first = train_in(tmp_path / "a", dataset, small())
    second = train_in(tmp_path / "b", dataset, small())
    assert first.read_bytes() == second.read_bytes()
    assert not same_weights(first, train_in(tmp_path / "c", dataset, small(), point=run(seed=1)))


def test_the_weights_that_are_kept_are_those_that_did_best_in_validation(dataset, tmp_path):
    train_in(tmp_path, dataset, small())
    history = pd.read_csv(tmp_path / "history.csv")
    assert read_header(tmp_path / "model.safetensors")["provenance"]["best"] == pytest.approx(
        history["validation_criterion"].min()
    )


INTERRUPTED = """
import sys, os, signal
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_training
from piwsl.training.module import PotentialModule

original = PotentialModule.training_step
def dying(self, batch, index):
    if self.global_step == {step}:
        os.kill(os.getpid(), {signal:d})
    return original(self, batch, index)
PotentialModule.training_step = dying
test_training.train_in(Path({folder!r}), Path({dataset!r}), test_training.small(**{training!r}))
"""


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory) -> Path:
    """The model of a run that was not interrupted."""
    return train_in(tmp_path_factory.mktemp("whole"), dataset, small())


def interrupt(folder: Path, dataset: Path, step: int, number: int, **training) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own that sends itself a signal at a step."""
    tests = str(Path(__file__).parent)
    script = INTERRUPTED.format(
        tests=tests, signal=number, step=step, folder=str(folder), dataset=str(dataset), training=training
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}:{tests}"}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("step", [7, 15, 40])
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(dataset, whole, tmp_path, step):
    folder = tmp_path / "killed"
    killed = interrupt(folder, dataset, step, signal.SIGKILL)
    assert killed.returncode == -9
    assert any((folder / "checkpoints").glob("*.ckpt")) == (step >= 15)
    assert same_weights(whole, train_in(folder, dataset, small()))
    assert (folder / "history.csv").read_text() == whole.with_name("history.csv").read_text()
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize(("step", "number"), [(3, signal.SIGTERM), (14, signal.SIGUSR2), (40, signal.SIGUSR2)])
def test_a_run_that_is_told_to_stop_goes_on_from_that_very_step(dataset, whole, tmp_path, step, number):
    folder = tmp_path / "stopped"
    stopped = interrupt(folder, dataset, step, number)
    assert stopped.returncode == 1
    assert f"training was stopped by {number.name} at step {step + 1}; started again" in stopped.stderr
    (newest,) = sorted((folder / "checkpoints").glob("*.ckpt"))[-1:]
    assert newest.name == f"step-{step + 1:09d}.ckpt"
    assert same_weights(whole, train_in(folder, dataset, small()))
    assert (folder / "history.csv").read_text() == whole.with_name("history.csv").read_text()


@pytest.mark.parametrize("damage", ["cut off", "empty"])
def test_a_checkpoint_that_cannot_be_read_falls_back_to_the_one_before(dataset, whole, tmp_path, capfd, damage):
    folder = tmp_path / "killed"
    interrupt(folder, dataset, 40, signal.SIGKILL)
    older, newest = sorted((folder / "checkpoints").glob("*.ckpt"))
    content = newest.read_bytes()
    newest.write_bytes({"cut off": content[: len(content) // 2], "empty": b""}[damage])
    assert same_weights(whole, train_in(folder, dataset, small()))
    assert f"{newest} cannot be read" in capfd.readouterr().out
    assert older.name == "step-000000015.ckpt"


def test_a_checkpoint_of_another_config_is_set_aside(dataset, tmp_path, capfd):
    folder = tmp_path / "run"
    interrupt(folder, dataset, 40, signal.SIGKILL)
    changed = train_in(folder, dataset, small(learning_rate=2e-3))
    assert any((folder / "checkpoints-superseded-1").glob("*.ckpt"))
    assert "set aside" in capfd.readouterr().out
    assert same_weights(changed, train_in(tmp_path / "fresh", dataset, small(learning_rate=2e-3)))


def test_checkpoints_of_another_training_procedure_are_set_aside(dataset, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    interrupt(folder, dataset, 40, signal.SIGKILL)
    monkeypatch.setattr("piwsl.training.run.PROCEDURE_VERSION", 99)
    train_in(folder, dataset, small())
    assert any((folder / "checkpoints-superseded-1").glob("*.ckpt"))


def test_a_size_that_misses_an_element_is_refused_before_training(tmp_path):
    frames = {TRAINING: morse_frames("H2O", 5), TEST: morse_frames("NH3", 2)}
    write_dataset(tmp_path / "dataset.h5", frames)
    with pytest.raises(PiwslError, match="4 training frames of size 5, seed 0 hold no N"):
        train_in(tmp_path, tmp_path / "dataset.h5", small(), point=run(size=5))


def test_two_processes_do_not_train_the_same_run(dataset, tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PiwslError, match="another process is training this run"):
            train_in(tmp_path, dataset, small())


def test_a_diverging_run_says_at_which_step_and_in_which_term(dataset, tmp_path):
    sensible = small()
    wild = sensible.training.model_copy(update={"learning_rate": 1e6})
    beyond_bounds = sensible.model_copy(update={"training": wild})
    with pytest.raises(PiwslError, match=r"diverged at step \d+.*energy (nan|inf).*lower learning_rate"):
        train_in(tmp_path, dataset, beyond_bounds, Loss())
    note = read_json(tmp_path / "diverged" / "batch.json")
    assert len(note["frames"]) == 4
    with Dataset(dataset) as opened:
        assert set(note["frames"]) <= set(opened.indices(TRAINING).tolist())
    assert read_header(tmp_path / "diverged" / "model.safetensors")["provenance"]["step"] == note["step"]


# So small a rate changes no weight: no validation after the first is better.
IDLE = {"learning_rate": 1e-30}


def test_the_plateau_schedule_lowers_the_rate_where_nothing_improves(dataset, tmp_path):
    idle = IDLE | {"schedule": "plateau", "plateau_patience": 1, "plateau_factor": 0.1}
    interrupt(tmp_path, dataset, 50, signal.SIGTERM, **idle)
    (newest,) = sorted((tmp_path / "checkpoints").glob("*.ckpt"))[-1:]
    state = torch.load(newest, weights_only=True)
    assert state["global_step"] == 51
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-32)


def test_the_plateau_schedule_survives_an_interruption(dataset, tmp_path):
    plateau = {"schedule": "plateau", "plateau_patience": 1, "learning_rate": 0.05}
    whole = train_in(tmp_path / "whole", dataset, small(**plateau))
    folder = tmp_path / "stopped"
    interrupt(folder, dataset, 40, signal.SIGTERM, **plateau)
    assert same_weights(whole, train_in(folder, dataset, small(**plateau)))


@pytest.mark.parametrize("step", [40, 44], ids=["before it", "at it"])
def test_training_ends_early_where_nothing_improves_interrupted_or_not(dataset, tmp_path, step):
    model = small(**IDLE, early_stopping=2)
    whole = train_in(tmp_path / "whole", dataset, model)
    assert pd.read_csv(tmp_path / "whole" / "history.csv")["step"].tolist() == [15, 30, 45]
    folder = tmp_path / "stopped"
    interrupt(folder, dataset, step, signal.SIGTERM, **IDLE, early_stopping=2)
    assert same_weights(whole, train_in(folder, dataset, model))
    assert pd.read_csv(folder / "history.csv")["step"].tolist() == [15, 30, 45]


def test_forces_of_a_cheaper_level_are_learned_from_while_their_weight_lasts(tmp_path):
    frames = morse_frames("NH3", 30)
    labelled = morse_frames("NH3", 30, forces=True)
    for frame, source in zip(frames, labelled, strict=True):
        frame.arrays["WEAK_forces"] = source.arrays["REF_forces"]
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: frames, TEST: morse_frames("NH3", 10, seed=5, forces=True)})

    def force_error(loss: Loss, name: str) -> float:
        model = train_in(tmp_path / name, path, small(steps=600, validate_every=600, learning_rate=5e-3), loss)
        with Dataset(path) as opened:
            test = opened.structures(opened.indices(TEST))
        return error_summary(test, predict(piwsl.load_model(model), test))["force_mae_meV_per_A"]

    weak = Loss(weak_forces=WeakForces(weight=1.0))
    assert force_error(weak, "weak") < 0.5 * force_error(Loss(), "none")
    fading = weak.model_copy(update={"weak_forces": WeakForces(weight=1.0, until=60)})
    assert [fading.weak_forces.factor(step) for step in (0, 30, 60, 61)] == [1.0, 0.5, 0.0, 0.0]
    train_in(tmp_path / "fading", path, small(steps=120, validate_every=60), fading)
    assert pd.read_csv(tmp_path / "fading" / "history.csv")["training_weak_forces"].isna().tolist() == [False, True]


def test_a_loss_on_forces_that_no_frame_has_is_refused_before_training(dataset, tmp_path):
    with pytest.raises(PiwslError, match="none of the 16 training frames of dataset 'd' has forces of a cheaper level"):
        train_in(tmp_path, dataset, small(), Loss(weak_forces=WeakForces(weight=1.0)))


def test_a_loss_of_forces_alone_is_refused_where_no_frame_has_them(tmp_path):
    write_dataset(tmp_path / "dataset.h5", {TRAINING: morse_frames("H2O", 20), TEST: morse_frames("H2O", 2)})
    with pytest.raises(PiwslError, match="energy: 0, but none of the 16 training frames of dataset 'd' has forces"):
        train_in(tmp_path, tmp_path / "dataset.h5", small(), Loss(energy=0.0))


def test_forces_are_learned_from_alone(dataset, tmp_path):
    train_in(tmp_path, dataset, small(steps=200, validate_every=100, learning_rate=5e-3), Loss(energy=0.0))
    history = pd.read_csv(tmp_path / "history.csv")
    assert "training_energy" not in history
    assert history["validation_forces_rmse"].iloc[-1] < 0.7 * history["validation_forces_rmse"].iloc[0]


def events(file: Path) -> list[Event]:
    """Read a file of TensorBoard: records of a length (8 bytes, 4 of checksum), the event, 4 bytes of checksum."""
    content, found, position = file.read_bytes(), [], 0
    while position < len(content):
        length = int.from_bytes(content[position : position + 8], "little")
        found.append(Event.FromString(content[position + 12 : position + 12 + length]))
        position += 16 + length
    return found


def shown_by_tensorboard(folder: Path) -> dict[int, float]:
    """Return the validation loss by step, as TensorBoard lays the files of a run over one another."""
    shown: dict[int, float] = {}
    for file in sorted((folder / "tensorboard").glob("events*"), key=lambda path: path.stat().st_mtime):
        for event in events(file):
            for value in event.summary.value:
                if value.tag == "validation_loss":
                    shown[event.step] = value.simple_value
    return shown


def test_the_history_is_there_while_a_run_goes_on_and_for_tensorboard(dataset, tmp_path):
    folder = tmp_path / "run"
    interrupt(folder, dataset, 40, signal.SIGKILL)
    assert pd.read_csv(folder / "history.csv")["step"].tolist() == [15, 30]
    train_in(folder, dataset, small())
    shown = shown_by_tensorboard(folder)
    history = pd.read_csv(folder / "history.csv")
    assert shown == pytest.approx(dict(zip(history["step"], history["validation_loss"], strict=True)), rel=1e-5)


@pytest.mark.parametrize("killed", [True, False])
def test_a_new_training_is_shown_without_an_earlier_one_of_another_config(dataset, tmp_path, killed):
    folder = tmp_path / "run"
    if killed:
        interrupt(folder, dataset, 40, signal.SIGKILL)
    else:
        train_in(folder, dataset, small())
    assert 15 in shown_by_tensorboard(folder)
    train_in(folder, dataset, small(steps=20, validate_every=10))
    assert list(shown_by_tensorboard(folder)) == [10, 20]


def test_mixed_precision_learns_too(dataset, tmp_path):
    train_in(tmp_path, dataset, small(mixed_precision=True, steps=300, validate_every=50, learning_rate=5e-3), Loss())
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["validation_loss"].iloc[-1] < 0.5 * history["validation_loss"].iloc[0]
    tensors = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32, torch.float64}


def test_several_processes_learn_what_one_does(tmp_path):
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: morse_frames("NH3", 30), TEST: morse_frames("NH3", 2)})
    alone = train_in(tmp_path / "alone", path, small(), Loss())
    folder = tmp_path / "both"
    folder.mkdir()
    train(
        path, run(), small(), Loss(), folder / "model.safetensors", folder / "history.csv",
        threads=2, devices=Devices("cpu", 2),
    )  # fmt: skip
    ours, theirs = load_file(alone), load_file(folder / "model.safetensors")
    for name, tensor in ours.items():
        # Half of the frames of each step each, and the mean of their gradients: the same up to rounding.
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-2, atol=2e-4, equal_nan=True)
    assert pd.read_csv(folder / "history.csv")["step"].tolist() == [15, 30, 45, 60]


def test_every_frame_is_learned_from_equally_often():
    counts = np.bincount(np.concatenate([frames_of_step(10, 4, seed=0, step=step) for step in range(25)]))
    assert counts.tolist() == [10] * 10
    assert sorted(frames_of_step(3, 8, seed=0, step=1).tolist()) == [0, 1, 2]


def test_the_order_depends_on_seed_and_step_alone():
    orders = [[frames_of_step(10, 4, seed, step).tolist() for step in range(5)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_batches_are_those_of_their_steps():
    graphs = [graph(from_atoms(atoms), 4.0, torch.float64) for atoms in morse_frames("H2O", 6)]
    batches = StepBatches(graphs, 2, seed=0, steps=range(3, 5))
    assert len(batches) == 2
    for step, batch in zip(range(3, 5), batches, strict=True):
        chosen = frames_of_step(6, 2, seed=0, step=step)
        torch.testing.assert_close(batch.positions, torch.cat([graphs[index].positions for index in chosen]))
