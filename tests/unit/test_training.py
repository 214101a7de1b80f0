"""Training learns, is reproducible to the bit, survives interruptions, and never resumes what is not its own."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms
from helpers import forked, morse_frames
from lightning.pytorch.strategies.launchers import multiprocessing as launching
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector as Lightning
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event

import piwsl
from piwsl import holding
from piwsl.architectures.painn import PaiNN
from piwsl.config import Loss, Run, Training
from piwsl.data.batch import graph
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset, write_dataset
from piwsl.data.splits import split_frames
from piwsl.errors import PiwslError
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import predict
from piwsl.files import read_json
from piwsl.loss_terms.pisc import PISC
from piwsl.loss_terms.pitc import PITC
from piwsl.loss_terms.weak_forces import WeakForces
from piwsl.models.storage import read_header
from piwsl.structures.frames import without_labels
from piwsl.structures.seeds import generator
from piwsl.structures.structure import from_atoms
from piwsl.training import batches, progress
from piwsl.training.batches import Order, StepBatches, frames_of_step
from piwsl.training.checkpoints import STOPPING_SIGNALS, Interrupted
from piwsl.training.module import PotentialModule, averaging
from piwsl.training.progress import time_left
from piwsl.training.run import Devices, train_run

WEAK = Loss(pitc=PITC(weight=0.1), pisc=PISC(weight=0.01), displacement=0.01)
OF_POOL = WEAK.model_copy(update={"pool": 0.5})


def small(**training) -> PaiNN:
    settings = Training(**({"steps": 60, "validate_every": 15, "batch_size": 4} | training))
    # Morse frames are pairs: with a pair potential nothing would be left to learn.
    return PaiNN(
        architecture="painn", cutoff=4.0, features=16, layers=2, radial=8, pair_potential=False, training=settings
    )


def run(size: int = 20, seed: int = 0) -> Run:
    return Run(dataset="d", model="m", loss="l", size=size, seed=seed)


def unlabelled(name: str, count: int, weak_forces: bool = False) -> list[Atoms]:
    """Return frames of a pool, other ones than those that are labelled; with the true forces as weak labels."""
    frames = []
    for atoms in morse_frames(name, count, seed=9, forces=True):
        frames.append(without_labels(atoms))
        if weak_forces:
            frames[-1].arrays["WEAK_forces"] = atoms.arrays["REF_forces"]
    return frames


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "dataset.h5"
    mixed = morse_frames("H2O", 30) + morse_frames("NH3", 20, forces=True)
    write_dataset(path, {TRAINING: mixed, TEST: morse_frames("H2O", 20, seed=5, forces=True)})
    return path


@pytest.fixture(scope="module")
def with_pool(tmp_path_factory) -> Path:
    """The same dataset with a pool beside it."""
    path = tmp_path_factory.mktemp("data") / "dataset.h5"
    mixed = morse_frames("H2O", 30) + morse_frames("NH3", 20, forces=True)
    test = morse_frames("H2O", 20, seed=5, forces=True)
    write_dataset(path, {TRAINING: mixed, TEST: test, POOL: unlabelled("H2O", 5) + unlabelled("NH3", 4)})
    return path


def train_in(folder: Path, dataset: Path, model: PaiNN, loss: Loss = WEAK, point: Run | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    train_run(dataset, point or run(), model, loss, folder / "model.safetensors", folder / "history.csv")
    return folder / "model.safetensors"


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = load_file(first), load_file(second)
    # Bit by bit: the references of unknown elements are NaN, which no comparison of numbers calls equal.
    return ours.keys() == theirs.keys() and all(
        ours[key].numpy().tobytes() == theirs[key].numpy().tobytes() for key in ours
    )


def two_processes_learn_what_one_does(folder: Path, dataset: Path, model: PaiNN, loss: Loss) -> None:
    """Compare the weights of a run on one process, and on two; where it looked at validation, too."""
    alone = train_in(folder / "alone", dataset, model, loss)
    both = folder / "both"
    both.mkdir()
    weights, history = both / "model.safetensors", both / "history.csv"
    train_run(dataset, run(), model, loss, weights, history, threads=2, devices=Devices("cpu", 2))
    ours, theirs = load_file(alone), load_file(weights)
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-4, atol=1e-6, equal_nan=True)
    assert pd.read_csv(history)["step"].tolist() == [15, 30, 45, 60]


def test_training_learns_energies_and_forces_that_it_was_not_shown(dataset, tmp_path):
    model = small(steps=400, validate_every=100, learning_rate=5e-3).model_copy(update={"radial": 20})
    path = train_in(tmp_path, dataset, model, Loss(), run(size=50))
    with Dataset(dataset) as opened:
        test = opened.structures(opened.indices(TEST))
    errors = error_summary(test, predict(piwsl.load_model(path), test))
    spread = 1000 * np.std([structure.energy for structure in test])
    forces = 1000 * np.abs(np.concatenate([structure.forces.ravel() for structure in test])).mean()
    assert errors["energy_mae_meV"] < 0.2 * spread
    assert errors["force_mae_meV_per_A"] < 0.3 * forces
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["step"].tolist() == [100, 200, 300, 400]
    assert history["validation_loss"].iloc[-1] < 0.2 * history["validation_loss"].iloc[0]


def test_a_pair_potential_is_the_default_where_no_forces_are_learned_from(tmp_path):
    def fitted(name: str, loss: Loss, forces: bool) -> bool:
        frames = morse_frames("NH3", 6, forces=forces)
        for frame in frames:
            frame.arrays["WEAK_forces"] = np.zeros((len(frame), 3))
        path = tmp_path / f"{name}.h5"
        write_dataset(path, {TRAINING: frames, TEST: morse_frames("NH3", 2)})
        model = small(steps=2, validate_every=2).model_copy(update={"pair_potential": "auto"})
        header = read_header(train_in(tmp_path / name, path, model, loss, run(size=6)))
        return header["pair_potential"]

    assert fitted("energies", Loss(), forces=False)
    assert fitted("forces not looked at", Loss(forces=0.0), forces=True)
    assert not fitted("forces", Loss(), forces=True)
    assert not fitted("weak forces", Loss(weak_forces=WeakForces(weight=1.0)), forces=False)


def test_what_a_pair_potential_knows_is_in_the_saved_model(dataset, tmp_path):
    def error(pair_potential: bool) -> float:
        model = small().model_copy(update={"pair_potential": pair_potential})
        path = train_in(tmp_path / str(pair_potential), dataset, model, point=run(size=50))
        with Dataset(dataset) as opened:
            test = opened.structures(opened.indices(TEST))
        return error_summary(test, predict(piwsl.load_model(path), test))["force_mae_meV_per_A"]

    assert error(True) < 0.01 * error(False)


def test_the_saved_energies_have_no_constant_error_on_the_training_frames(tmp_path):
    # Forces weigh so much more that no gradient reaches the constant in so few steps.
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: morse_frames("NH3", 30, forces=True), TEST: morse_frames("NH3", 2)})
    loss = Loss(energy=1e-4, forces=100.0, **{"pitc": PITC(weight=0.01), "displacement": 0.01})
    model = piwsl.load_model(train_in(tmp_path, path, small(), loss))
    with Dataset(path) as opened:
        chosen = split_frames(opened.indices(TRAINING), 20, 0, small().training.validation_fraction)
        training = opened.structures(chosen.training)
    residuals = predict(model, training).energy - [structure.energy for structure in training]
    assert abs(residuals.mean()) < 1e-5
    assert residuals.std() > 1e-3


def test_which_frames_a_run_learned_from_stands_beside_its_model(dataset, whole):
    found = read_json(whole.with_name("frames.json"))
    with Dataset(dataset) as opened:
        split = split_frames(opened.indices(TRAINING), 20, 0, small().training.validation_fraction)
    in_model = read_header(whole)["provenance"]["data"]
    assert found == {"training": split.training.tolist(), "validation": split.validation.tolist(), "data": in_model}


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


def saved_and_seen(folder: Path, dataset: Path, monkeypatch, **training) -> tuple[dict, list[dict], pd.Series]:
    """Train; return the saved weights, the averaged ones at each validation and the criterion of each."""
    seen: list[dict[str, torch.Tensor]] = []
    validate = PotentialModule.validate

    def watched(self) -> None:
        validate(self)
        seen.append({name: value.clone() for name, value in self.averaged.module.state_dict().items()})

    monkeypatch.setattr(PotentialModule, "validate", watched)
    path = train_in(folder, dataset, small(**training))
    return load_file(path), seen, pd.read_csv(folder / "history.csv")["validation_criterion"]


def is_of(saved: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> bool:
    """Whether saved weights are these, but for the references, which are fitted once more."""
    of_network = {name: value for name, value in weights.items() if name.startswith("learned.network.")}
    return all(torch.equal(saved[name], value) for name, value in of_network.items())


def test_weights_whose_learning_rate_fell_to_zero_are_kept_whatever_few_frames_say(dataset, tmp_path, monkeypatch):
    # At one of these rates, which depends on the processor, the few validation frames are best before the end.
    for rate in (0.02, 0.03, 0.05):
        saved, seen, criteria = saved_and_seen(
            tmp_path / str(rate), dataset, monkeypatch, learning_rate=rate, steps=150
        )
        if criteria.idxmin() < len(criteria) - 1:
            break
    assert criteria.idxmin() < len(criteria) - 1
    assert is_of(saved, seen[-1])


def test_the_plateau_rule_keeps_the_weights_that_did_best_in_validation(dataset, tmp_path, monkeypatch):
    saved, seen, criteria = saved_and_seen(
        tmp_path, dataset, monkeypatch, learning_rate=0.05, schedule="plateau", plateau_factor=0.9, steps=150
    )
    assert criteria.idxmin() < len(criteria) - 1
    assert is_of(saved, seen[criteria.idxmin()])
    assert not is_of(saved, seen[-1])


def test_all_frames_can_be_learned_from_even_a_single_one(tmp_path):
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: morse_frames("NH3", 3, forces=True), TEST: morse_frames("NH3", 2)})
    train_in(tmp_path, path, small(validation_fraction=0), point=run(size=1))
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["step"].tolist() == [15, 30, 45, 60]
    assert not [name for name in history if name.startswith("validation")]


@pytest.mark.parametrize("judged", [{"schedule": "plateau"}, {"early_stopping": 3}], ids=["plateau", "early stopping"])
def test_what_goes_by_validation_needs_frames_for_it(judged):
    with pytest.raises(ValueError, match=r"validation_fraction: .* say more than 0"):
        Training(validation_fraction=0, **judged)


def test_averaged_weights_forget_where_they_began_in_a_short_training():
    parameter = [torch.tensor([0.0])]
    update = averaging(0.999)
    for step in range(1, 101):
        update(parameter, [torch.tensor([1.0])], torch.tensor(step))
    # Not 0.999^100 = 0.90: what is left is the product of (1 + n) / (10 + n), 11! 9! / 110! ... about 1e-9.
    assert float(1.0 - parameter[0]) < 1e-6
    late = [torch.tensor([0.0])]
    update(late, [torch.tensor([1.0])], torch.tensor(1_000_000))
    assert float(late[0]) == pytest.approx(0.001)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory) -> Path:
    """The model of a run that was not interrupted."""
    return train_in(tmp_path_factory.mktemp("whole"), dataset, small())


def struck(
    train: Callable[[], object], number: int, is_here: Callable[[PotentialModule], bool]
) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own, which sends itself a signal at the step that is said."""
    learn = PotentialModule.training_step

    def learn_or_die(module: PotentialModule, *given: Any) -> torch.Tensor:
        if is_here(module):
            os.kill(os.getpid(), number)
        return learn(module, *given)

    def train_until_then() -> None:
        PotentialModule.training_step = learn_or_die  # type: ignore[method-assign]
        train()

    return forked(train_until_then)


def interrupt(
    folder: Path, dataset: Path, step: int, number: int, loss: Loss = WEAK, **training
) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own that sends itself a signal at a step."""
    model = small(**training)
    return struck(lambda: train_in(folder, dataset, model, loss), number, lambda module: module.global_step == step)


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


def test_a_run_that_is_told_to_stop_while_it_starts_stops_at_its_first_step_and_gives_the_signals_back(
    dataset, whole, tmp_path, monkeypatch
):
    before, listen = [signal.getsignal(number) for number in STOPPING_SIGNALS], Lightning.register_signal_handlers

    def struck(connector: Lightning) -> None:
        listen(connector)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Lightning, "register_signal_handlers", struck)
    with pytest.raises(Interrupted, match="stopped by SIGTERM at step 1;"):
        train_in(tmp_path, dataset, small())
    monkeypatch.undo()
    assert [signal.getsignal(number) for number in STOPPING_SIGNALS] == before
    assert same_weights(whole, train_in(tmp_path, dataset, small()))
    assert [signal.getsignal(number) for number in STOPPING_SIGNALS] == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_processes_that_train_together_hear_what_came_while_they_were_started(dataset, tmp_path, monkeypatch):
    start, learn = launching.mp.start_processes, PotentialModule.training_step
    told = multiprocessing.get_context("fork").Event()

    def struck(*given: Any, **named: Any) -> Any:
        started = start(*given, **named)
        signal.raise_signal(signal.SIGUSR2)
        told.set()
        return started

    def once_told(module: PotentialModule, *given: Any) -> torch.Tensor:
        assert told.wait(600)
        return learn(module, *given)

    monkeypatch.setattr(launching.mp, "start_processes", struck)
    monkeypatch.setattr(PotentialModule, "training_step", once_told)
    files = tmp_path / "model.safetensors", tmp_path / "history.csv"
    with pytest.raises(PiwslError, match=r"^training was stopped by SIGUSR2 at step 1; started again"):
        train_run(dataset, run(), small(), WEAK, *files, threads=2, devices=Devices("cpu", 2))
    assert [path.name for path in tmp_path.glob("checkpoints/*.ckpt")] == ["step-000000001.ckpt"]


def test_what_the_pieces_before_the_last_took_is_left_until_a_run_is_not_interrupted(dataset, tmp_path, monkeypatch):
    begin = PotentialModule.configure_optimizers

    def busy(module: PotentialModule) -> Any:
        while time.process_time() < 0.6:
            pass
        return begin(module)

    monkeypatch.setattr(PotentialModule, "configure_optimizers", busy)
    folder, earlier = tmp_path / "run", tmp_path / "benchmarks" / "n20-seed0.earlier.json"
    note = folder / "checkpoints" / "pieces.json"
    interrupt(folder, dataset, 20, signal.SIGKILL)
    first = read_json(note)
    interrupt(folder, dataset, 40, signal.SIGUSR2)
    both = read_json(note)
    # Each was busy, and the second was not asked to stop in vain.
    assert both["cpu_s"] > first["cpu_s"] + 0.5 > 1.0
    assert both["wall_s"] > first["wall_s"] + 0.5
    files = (folder / "model.safetensors", folder / "history.csv")
    train_run(dataset, run(), small(), WEAK, *files, earlier_path=earlier)
    assert read_json(earlier) == {key: both[key] for key in ("wall_s", "cpu_s")}
    train_run(dataset, run(), small(), WEAK, *files, earlier_path=earlier)
    assert not earlier.exists()


def test_a_run_that_takes_of_the_pool_goes_on_as_if_it_had_not_been_interrupted(with_pool, tmp_path):
    whole = train_in(tmp_path / "whole", with_pool, small(), OF_POOL)
    stopped = interrupt(tmp_path / "stopped", with_pool, 20, signal.SIGTERM, OF_POOL)
    assert "training was stopped by SIGTERM at step 21; started again" in stopped.stderr
    assert same_weights(whole, train_in(tmp_path / "stopped", with_pool, small(), OF_POOL))


def test_a_pool_is_part_of_a_run_only_where_its_loss_takes_of_it(dataset, whole, with_pool, tmp_path):
    beside = train_in(tmp_path / "beside", with_pool, small())
    assert same_weights(whole, beside)
    learnt = train_in(tmp_path / "learnt", with_pool, small(), OF_POOL)
    assert not same_weights(whole, learnt)
    hashes = [read_header(model)["provenance"]["data"] for model in (whole, beside, learnt)]
    assert hashes[0] == hashes[1] != hashes[2]


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
    changed = train_in(folder, dataset, small(learning_rate=3e-3))
    assert any((folder / "checkpoints-superseded-1").glob("*.ckpt"))
    assert "set aside" in capfd.readouterr().out
    assert same_weights(changed, train_in(tmp_path / "fresh", dataset, small(learning_rate=3e-3)))


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


def test_a_pool_that_nothing_can_be_learned_from_is_refused_before_training(dataset, tmp_path):
    with pytest.raises(
        PiwslError, match="loss 'l' takes frames of the pool, and dataset 'd' has none; say pool_frames"
    ):
        train_in(tmp_path, dataset, small(), OF_POOL)
    path = tmp_path / "dataset.h5"
    frames = {TRAINING: morse_frames("H2O", 20), TEST: morse_frames("H2O", 2)}
    for atoms in frames[TRAINING]:
        atoms.arrays["WEAK_forces"] = np.zeros((3, 3))
    write_dataset(path, frames | {POOL: unlabelled("H2O", 2) + unlabelled("CH3OH", 2)})
    with pytest.raises(PiwslError, match="the pool of dataset 'd' holds C, which the 18 training frames do not"):
        train_in(tmp_path, path, small(), OF_POOL)
    blind = Loss(weak_forces=WeakForces(weight=1.0), pool=0.5)
    with pytest.raises(PiwslError, match="weak_forces for the pool, but none of its 4 frames in dataset 'd' has such"):
        train_in(tmp_path, path, small(), blind)


def test_the_model_file_says_which_references_it_has_and_their_differences_are_kept(tmp_path):
    path = tmp_path / "dataset.h5"
    frames = {TRAINING: morse_frames("H2O", 30), TEST: morse_frames("H2O", 2)}
    write_dataset(path, frames, {1: -13.6, 8: -2036.0})
    model = small().model_copy(update={"atomic_references": "free_atoms"})
    saved = train_in(tmp_path, path, model)
    header = read_header(saved)
    assert header["config"]["atomic_references"] == "free_atoms"
    assert header["provenance"]["atomic_references"] == {"H": -13.6, "O": -2036.0}
    references = piwsl.load_model(saved).references.energies
    assert float(references[8] - references[1]) == pytest.approx(-2022.4, abs=1e-9)
    write_dataset(path, frames, {1: -13.6})
    with pytest.raises(PiwslError, match=r"model 'm', dataset 'd': atomic_references: free_atoms: .* no free O; give"):
        train_in(tmp_path, path, model)


def test_two_processes_do_not_train_the_same_run(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(holding, "PATIENCE_SECONDS", 0.0)
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PiwslError, match="another process is at work on this run"):
            train_in(tmp_path, dataset, small())
    assert not (tmp_path / "frames.json").exists()  # the other one's would stand there


def test_a_diverging_run_says_at_which_step_and_in_which_term(dataset, tmp_path):
    sensible = small()
    wild = sensible.training.model_copy(update={"learning_rate": 1e6})
    beyond_bounds = sensible.model_copy(update={"training": wild, "pair_potential": True})
    with pytest.raises(PiwslError, match=r"diverged at step \d+.*energy (nan|inf).*lower learning_rate"):
        train_in(tmp_path, dataset, beyond_bounds, Loss())
    note = read_json(tmp_path / "diverged" / "batch.json")
    assert len(note["frames"]) == 4
    with Dataset(dataset) as opened:
        assert set(note["frames"]) <= set(opened.indices(TRAINING).tolist())
    header = read_header(tmp_path / "diverged" / "model.safetensors")
    assert header["provenance"]["step"] == note["step"]
    assert header["pair_potential"]  # of which the network is the correction: alone it is no potential


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
    test = morse_frames("NH3", 10, seed=5, forces=True)
    of_pool = tmp_path / "pool.h5"
    write_dataset(of_pool, {TRAINING: frames, TEST: test, POOL: unlabelled("NH3", 30, weak_forces=True)})
    labelled = morse_frames("NH3", 30, forces=True)
    for frame, source in zip(frames, labelled, strict=True):
        frame.arrays["WEAK_forces"] = source.arrays["REF_forces"]
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: frames, TEST: test})

    def force_error(loss: Loss, name: str, path: Path = path) -> float:
        model = train_in(tmp_path / name, path, small(steps=300, validate_every=300, learning_rate=5e-3), loss)
        with Dataset(path) as opened:
            test = opened.structures(opened.indices(TEST))
        return error_summary(test, predict(piwsl.load_model(model), test))["force_mae_meV_per_A"]

    weak = Loss(weak_forces=WeakForces(weight=1.0))
    without = force_error(Loss(), "none")
    assert force_error(weak, "weak") < 0.5 * without
    assert force_error(weak.model_copy(update={"pool": 0.5}), "pool", of_pool) < 0.5 * without
    fading = weak.model_copy(update={"weak_forces": WeakForces(weight=1.0, until=60)})
    assert [fading.weak_forces.factor(step, fading) for step in (0, 30, 60, 61)] == [1.0, 0.5, 0.0, 0.0]
    train_in(tmp_path / "fading", path, small(steps=120, validate_every=60), fading)
    assert pd.read_csv(tmp_path / "fading" / "history.csv")["training_weak_forces"].isna().tolist() == [False, True]


def test_a_loss_on_forces_that_no_frame_has_is_refused_before_training(dataset, tmp_path):
    with pytest.raises(PiwslError, match="none of the 18 training frames of dataset 'd' has forces of a cheaper level"):
        train_in(tmp_path, dataset, small(), Loss(weak_forces=WeakForces(weight=1.0)))


def test_a_loss_of_forces_alone_is_refused_where_no_frame_has_them(tmp_path):
    write_dataset(tmp_path / "dataset.h5", {TRAINING: morse_frames("H2O", 20), TEST: morse_frames("H2O", 2)})
    with pytest.raises(PiwslError, match="energy: 0, but none of the 18 training frames of dataset 'd' has forces"):
        train_in(tmp_path, tmp_path / "dataset.h5", small(), Loss(energy=0.0))


def test_forces_are_learned_from_alone(dataset, tmp_path):
    training = {"steps": 200, "validate_every": 100, "learning_rate": 5e-3, "validation_fraction": 0.2}
    train_in(tmp_path, dataset, small(**training), Loss(energy=0.0))
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


@pytest.mark.parametrize(
    ("passed", "seconds"),
    [
        ({"first": 0, "step": 100}, 10.0 * 1400 / 100),
        ({"first": 500, "step": 600}, 10.0 * 900 / 100),  # those of an earlier process took none of this one's time
        ({"first": 500, "step": 600, "members_after": 2}, 10.0 * (900 + 2 * 1500) / 100),
        ({"first": 0, "step": 1500}, 0.0),
        ({"first": 1500, "step": 1500}, 0.0),
    ],
    ids=["from the start", "resumed", "a committee", "through", "nothing was left"],
)
def test_the_time_left_is_that_of_the_steps_left_at_the_rate_of_this_process(passed, seconds):
    assert time_left(10.0, steps=1500, **passed) == pytest.approx(seconds)


@pytest.mark.parametrize(("patience", "bound"), [(None, ""), (100, "at most ")])
def test_a_log_says_how_long_is_left_and_that_it_may_end_early(dataset, tmp_path, capfd, monkeypatch, patience, bound):
    clock = iter([0.0, 2.0, 32.0, 62.0])  # made, begun, and after each stretch that is left
    folder, stopping = tmp_path / "run", {"early_stopping": patience}
    interrupt(folder, dataset, 40, signal.SIGKILL, **stopping)
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    capfd.readouterr()
    train_in(folder, dataset, small(**stopping))
    first, last = [line.partition("):")[0] for line in capfd.readouterr().out.splitlines() if line.startswith("step")]
    assert first == f"step 45 of 60 (30 s, {bound}30 s left"
    assert last == f"step 60 of 60 (1 min 00 s, {bound}0 s left"


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
    model = small(mixed_precision=True, steps=300, validate_every=50, learning_rate=5e-3)
    train_in(tmp_path, dataset, model.model_copy(update={"radial": 20}), Loss())
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["validation_loss"].iloc[-1] < 0.5 * history["validation_loss"].iloc[0]
    tensors = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32, torch.float64}


def test_several_processes_learn_what_one_does_whoever_has_the_port_of_an_earlier_training(tmp_path, monkeypatch):
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: morse_frames("NH3", 30), TEST: morse_frames("NH3", 2)})
    alone = train_in(tmp_path / "alone", path, small(), Loss())
    folder = tmp_path / "both"
    folder.mkdir()
    with socket.create_server(("", 0)) as another:
        monkeypatch.setenv("MASTER_PORT", str(another.getsockname()[1]))
        train_run(
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


def test_the_order_of_an_epoch_is_drawn_once_whatever_steps_ask_for_it(monkeypatch):
    drawn = []
    monkeypatch.setattr(batches, "generator", lambda *key: drawn.append(key) or generator(*key))
    for step in range(50):  # two epochs, of labelled frames and of the pool
        for stream in ("batches", "pool"):
            frames_of_step(101, 4, seed=7, step=step, stream=stream)
    assert drawn == [("batches", 7, 0), ("pool", 7, 0), ("batches", 7, 1), ("pool", 7, 1)]


def test_batches_are_those_of_their_steps():
    graphs = [graph(from_atoms(atoms), 4.0, torch.float64) for atoms in morse_frames("H2O", 6)]
    found = StepBatches(graphs, Order(6, 2, seed=0), steps=range(3, 5))
    assert len(found) == 2
    for step, batch in zip(range(3, 5), found, strict=True):
        chosen = frames_of_step(6, 2, seed=0, step=step)
        torch.testing.assert_close(batch.positions, torch.cat([graphs[index].positions for index in chosen]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_loader_outlives_a_signal_that_comes_while_it_starts(number, monkeypatch):
    started = batches._outlive_signals

    def struck(worker: int) -> None:
        os.kill(os.getpid(), number)
        started(worker)

    monkeypatch.setattr(batches, "_outlive_signals", struck)
    graphs = [graph(from_atoms(atoms), 4.0, torch.float64) for atoms in morse_frames("H2O", 6)]
    found = StepBatches(graphs, Order(6, 2, seed=0), steps=range(6), loaders=2)
    assert len(list(found)) == 6
    assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(
    ("share", "labelled", "unlabelled"), [(0.0, 8, 0), (0.01, 7, 1), (0.3, 6, 2), (0.5, 4, 4), (0.99, 1, 7)]
)
def test_a_share_of_each_step_is_of_the_pool_and_is_spread_over_its_places(share, labelled, unlabelled):
    order = Order(labelled=20, batch_size=8, seed=0, pool=10, share=share)
    for step in range(5):
        of_pool = order.frames(step) >= 20
        assert of_pool.tolist() == order.of_pool.tolist()
        assert np.bincount(of_pool, minlength=2).tolist() == [labelled, unlabelled]
        # Any first places have at least their part of the pool's, and not one more; and some that is labelled.
        excess = np.cumsum(of_pool) - np.arange(1, 9) * unlabelled / 8
        assert not of_pool[0]
        assert (-unlabelled / 8 <= excess).all()
        assert (excess < 1).all()
        assert of_pool[1] == bool(unlabelled)


def test_every_frame_of_the_pool_is_learned_from_equally_often_in_an_order_of_its_own():
    order = Order(labelled=10, batch_size=8, seed=0, pool=10, share=0.5)
    steps = np.array([order.frames(step) for step in range(25)])
    assert np.bincount(steps.ravel()).tolist() == [10] * 20
    assert (steps[:, ~order.of_pool] != steps[:, order.of_pool] - 10).any()
    # Fewer labelled frames, or a smaller pool, than their part of a step are all taken.
    assert sorted(Order(3, 8, 0, 2, 0.5).frames(1).tolist()) == [0, 1, 2, 3, 4]
