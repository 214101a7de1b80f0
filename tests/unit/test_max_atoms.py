"""Steps of no more atoms than a limit: each frame once an epoch, a function of seed and step, alone and by several."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import morse_frames, plain_experiment
from test_training import interrupt, same_weights, small, train_in, two_processes_learn_what_one_does, unlabelled
from test_training import run as point
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.config import ConfigError, Loss, Training, parse_section
from piwsl.data import views
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset, write_dataset
from piwsl.data.views import held, stored
from piwsl.errors import PiwslError
from piwsl.loss_terms.pitc import PITC
from piwsl.structures.frames import write_frames
from piwsl.training.batches import OrderBySize, Packing, ends_of_steps, even_ends_of_steps
from piwsl.training.run import train_run

SIZES = np.random.default_rng(0).integers(2, 40, 101)
MOST = 100


def epochs(packing: Packing, sizes: np.ndarray, count: int) -> list[list[np.ndarray]]:
    """Return the steps of epochs: an epoch ends when all frames were there."""
    found, step = [], 0
    for _ in range(count):
        steps: list[np.ndarray] = []
        while sum(map(len, steps)) < len(sizes):
            steps.append(packing.frames(step))
            step += 1
        found.append(steps)
    return found


def test_each_frame_is_learned_from_once_an_epoch():
    for steps in epochs(Packing(SIZES, MOST, seed=3), SIZES, 20):
        assert sorted(np.concatenate(steps).tolist()) == [*range(101)]


def test_no_step_has_more_atoms_and_none_is_empty():
    for most in (int(SIZES.max()), MOST, 10_000):
        for steps in epochs(Packing(SIZES, most, seed=0), SIZES, 5):
            atoms = [SIZES[frames].sum() for frames in steps]
            assert 0 < min(atoms) <= max(atoms) <= most


def test_steps_are_as_few_as_their_order_allows_and_even():
    rng = np.random.default_rng(1)
    for most in (40, 60, 300):
        sizes = rng.integers(1, 41, 200)
        greedy, even = ends_of_steps(sizes, most), even_ends_of_steps(sizes, most)
        # No cut with a lower limit than the fullest step's has as few.
        fullest = max(part.sum() for part in np.split(sizes, even[:-1]))
        assert len(even) == len(greedy)
        if fullest > sizes.max():
            assert len(ends_of_steps(sizes, int(fullest) - 1)) > len(greedy)
    atoms = [part.sum() for part in np.split(np.full(41, 10), even_ends_of_steps(np.full(41, 10), 200)[:-1])]
    assert atoms == [140, 140, 130]  # not 200, 200, 10


def test_mixed_sizes_fill_steps():
    (steps,) = epochs(Packing(SIZES, MOST, seed=0), SIZES, 1)
    assert SIZES.sum() / (MOST * len(steps)) > 0.85


def test_frames_of_a_step_are_a_function_of_seed_and_step():
    whole = Packing(SIZES, MOST, seed=5)
    steps = [whole.frames(step).tolist() for step in range(150)]
    for step in (149, 3, 77):  # whichever is asked for first
        assert Packing(SIZES, MOST, seed=5).frames(step).tolist() == steps[step]
    assert [whole.frames(step).tolist() for step in range(150)] == steps
    assert Packing(SIZES, MOST, seed=6).frames(0).tolist() != steps[0]


def test_epochs_have_other_orders_and_end_with_a_step():
    first, second = epochs(Packing(SIZES, MOST, seed=0), SIZES, 2)
    assert [step.tolist() for step in first] != [step.tolist() for step in second]


def test_equal_sizes_are_equally_many_structures():
    packing = Packing(np.full(12, 5), 20, seed=0)
    assert [len(packing.frames(step)) for step in range(9)] == [4] * 9


def test_the_pool_has_its_part_of_the_atoms_of_each_step():
    pool = np.random.default_rng(1).integers(2, 20, 57)
    limits = Training(max_atoms=120).room_of_step(0.25)
    assert limits == (90, 30)
    order = OrderBySize(SIZES, limits, 0, pool)
    seen = []
    for step in range(40):
        frames = order.frames(step)
        of_pool = frames >= 101
        assert not of_pool[0]
        assert of_pool[1]
        assert SIZES[frames[~of_pool]].sum() <= 90
        assert pool[frames[of_pool] - 101].sum() <= 30
        seen += (frames[of_pool] - 101).tolist()
    assert sorted(seen[:57]) == [*range(57)]  # an epoch of its own


def test_sizes_are_known_without_reading_frames(tmp_path):
    frames = morse_frames("H2O", 2) + morse_frames("NH3", 2) + morse_frames("CH3OH", 1)
    write_dataset(tmp_path / "d.h5", {TRAINING: frames, TEST: frames[:1]})
    with Dataset(tmp_path / "d.h5") as dataset:
        places = np.array([4, 0, 2])
        assert dataset.sizes().tolist() == [3, 3, 4, 4, 6, 3]
        assert stored(dataset, places).sizes().tolist() == [6, 3, 4]
        assert held(dataset.structures(places)).sizes().tolist() == [6, 3, 4]


# Trainings.

BY_ATOMS = small(max_atoms=17)
LOSS = Loss(forces=1.0, pitc=PITC(weight=0.1), displacement=0.01)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "dataset.h5"
    mixed = morse_frames("H2O", 30) + morse_frames("NH3", 20, forces=True)
    pool = unlabelled("H2O", 5) + unlabelled("NH3", 4)
    write_dataset(path, {TRAINING: mixed, TEST: morse_frames("H2O", 5, seed=5, forces=True), POOL: pool})
    return path


@pytest.mark.parametrize("pool", [0.0, 0.5])
def test_a_run_that_is_told_to_stop_ends_with_the_weights_of_one_that_was_not(dataset, tmp_path, pool):
    loss = LOSS.model_copy(update={"pool": pool})
    whole = train_in(tmp_path / "whole", dataset, BY_ATOMS, loss)
    stopped = interrupt(tmp_path / "run", dataset, 37, signal.SIGTERM, loss, max_atoms=17)
    assert "training was stopped by SIGTERM at step 38; started again" in stopped.stderr
    assert same_weights(train_in(tmp_path / "run", dataset, BY_ATOMS, loss), whole)


def test_frames_that_are_read_by_other_processes_train_the_same(dataset, tmp_path, monkeypatch):
    whole = train_in(tmp_path / "whole", dataset, BY_ATOMS, LOSS)
    monkeypatch.setattr(views, "MOST_HELD", 0)
    (tmp_path / "read").mkdir()
    files = tmp_path / "read" / "model.safetensors", tmp_path / "read" / "history.csv"
    train_run(dataset, point(), BY_ATOMS, LOSS, *files, threads=2)
    assert same_weights(files[0], whole)


def test_several_processes_learn_what_one_does(tmp_path):
    path = tmp_path / "dataset.h5"
    frames = morse_frames("H2O", 15, forces=True) + morse_frames("NH3", 15, forces=True)
    write_dataset(path, {TRAINING: frames, TEST: morse_frames("NH3", 2)})
    model = BY_ATOMS.model_copy(update={"dtype": "float64"})  # in which rounding does not grow to a difference
    two_processes_learn_what_one_does(tmp_path, path, model, LOSS)


def test_a_frame_that_is_larger_than_a_step_is_refused_before_training(dataset, tmp_path):
    model = small(max_atoms=3)
    with pytest.raises(
        PiwslError, match=r"training\.max_atoms: 3, and training frame \d+ has 4 atoms; raise max_atoms$"
    ):
        train_in(tmp_path, dataset, model, Loss())
    model = small(max_atoms=7)
    with pytest.raises(
        PiwslError, match=r"7, 3 of them for frames of the training, and training frame \d+ has 4 atoms"
    ):
        train_in(tmp_path, dataset, model, LOSS.model_copy(update={"pool": 0.5}))
    assert not (tmp_path / "model.safetensors").exists()


def checked(folder: Path, **training: Any) -> tuple[int, str]:
    config = plain_experiment() | {"levels": {}, "sizes": [4]}
    config["models"]["painn"] |= {"atomic_references": "fitted", "training": training}
    config["datasets"] = {"mine": {"file": "mine.xyz", "test_frames": 2}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["check", "config.yaml"])
    return result.exit_code, result.output


def test_check_refuses_a_limit_that_a_frame_is_above(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "mine.xyz", morse_frames("CH3OH", 8))
    assert checked(tmp_path, max_atoms=6)[0] == 0
    code, said = checked(tmp_path, max_atoms=5)
    assert (code, said.count("\n")) == (1, 1)
    assert (
        "models.painn.training.max_atoms: 5, and training frame 0 (CH4O) has 6 atoms; raise max_atoms (dataset 'mine')"
        in said
    )


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"max_atoms": 100, "batch_size": 8}, "leave one of the two out"),
        ({"max_atoms": 100, "compile": True}, "compile is for one size"),
        ({"max_atoms": 1}, "max_atoms"),
    ],
)
def test_what_does_not_go_with_it_is_refused(keys, said):
    with pytest.raises(ConfigError, match=said):
        parse_section(Training, keys, "models.painn.training")
