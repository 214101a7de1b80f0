"""A disk that is full or can only be read, while a model is trained and tested: one line, nothing half, and again."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import test_training
import torch
from ase.build import molecule
from helpers import ROOT, morse_frames
from test_cli import call
from test_model_files import MODELS, untrained

import piwsl
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.files import refusal, write_atomically
from piwsl.models import save_model
from piwsl.models.storage import read_header
from piwsl.simulation.trajectory import Trajectory
from piwsl.structures.frames import read_frames, write_frames

ADVICE = "no room left on the disk; free some, then start again: what is finished is kept"


def fill(folder: Path) -> Path:
    """Leave no room on a disk; return the file to delete."""
    filling = folder / "filling"
    subprocess.run(["dd", "if=/dev/zero", f"of={filling}", "bs=4096"], capture_output=True)
    return filling


TRAIN = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from piwsl.logs import logged_to
with logged_to({log!r}):
    import subprocess
    import test_training, test_full_disk
    from piwsl.training.module import PotentialModule
    original = PotentialModule.training_step
    def filling(self, batch, index):
        if self.global_step == {step}:
            test_full_disk.fill(Path({disk!r}))
        return original(self, batch, index)
    PotentialModule.training_step = filling
    test_training.train_in(Path({folder!r}), Path({dataset!r}), test_training.small())
"""


def train(folder: Path, dataset: Path, log: Path, step: int = -1) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own; at a step the disk is filled."""
    paths = [str(Path(__file__).parent), str(ROOT / "tests")]
    script = TRAIN.format(
        paths=paths, log=str(log), step=step, disk=str(folder.parent), folder=str(folder), dataset=str(dataset)
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=1800)


@pytest.fixture
def dataset(tmp_path) -> Path:
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: morse_frames("H2O", 30), TEST: morse_frames("H2O", 4, seed=5)})
    return path


def test_a_disk_that_fills_up_in_training_ends_it_in_one_line_and_the_next_attempt_goes_on(dataset, disk):
    folder, log = disk / "run", disk / "log"
    stopped = train(folder, dataset, log, step=40)
    assert stopped.returncode != 0
    assert stopped.stderr.startswith(f"error: {disk}")
    assert stopped.stderr.endswith(f": {ADVICE}\n")
    assert stopped.stderr.count("\n") == 1
    assert not (folder / "model.safetensors").exists()
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"]
    assert {path.name for path in (folder / "checkpoints").glob("*.ckpt")} == {
        "step-000000015.ckpt", "step-000000030.ckpt",
    }  # fmt: skip
    (disk / "filling").unlink()
    resumed = train(folder, dataset, log)
    assert resumed.returncode == 0, resumed.stderr
    assert "step 15 of" not in log.read_text()
    assert read_header(folder / "model.safetensors")["elements"] == ["H", "O"]
    assert torch.isfinite(piwsl.load_model(folder / "model.safetensors").learned.scale)


def test_results_that_can_only_be_read_end_a_training_in_one_line(dataset, disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OSError, match="Read-only file system") as caught:
        test_training.train_in(disk, dataset, test_training.small())
    assert refusal(caught.value) == f"{disk}/.lock: the disk can only be read; choose a place that can be written to"


def test_whoever_fails_on_a_full_disk_without_saying_so_is_understood(disk):
    filling = fill(disk)
    weights = {"weights": torch.zeros(100_000)}
    with pytest.raises(OSError, match=r"No space left on device: '.*/checkpoint'"):
        write_atomically(disk / "checkpoint", lambda path: torch.save(weights, path))
    assert [path.name for path in disk.iterdir()] == ["filling"]
    filling.unlink()
    with pytest.raises(KeyError):
        write_atomically(disk / "other", lambda path: weights["absent"])


def test_a_disk_that_fills_up_in_dynamics_keeps_what_was_computed(disk):
    path, given = disk / "trajectory.xyz", []

    def until_it_fails() -> None:
        file = Trajectory(path)
        for step in itertools.count():
            file.add(molecule("C6H6"))
            given.append(step)

    with pytest.raises(OSError, match=r"No space left on device: '.*/trajectory\.xyz'"):
        until_it_fails()
    assert len(read_frames(path)) == len(given) > 100


def test_a_full_disk_is_said_before_anything_is_predicted(disk, tmp_path):
    save_model(tmp_path / "model.safetensors", untrained(MODELS["painn"]), {})
    write_frames(tmp_path / "frames.xyz", morse_frames("H2O", 2))
    fill(disk)
    model, frames, out = str(tmp_path / "model.safetensors"), str(tmp_path / "frames.xyz"), str(disk / "out.xyz")
    for arguments in (["predict", model, frames, out], ["md", model, frames, "--trajectory", out, "--time", "1000"]):
        assert call(*arguments, code=1) == f"error: {out}: {ADVICE}\n"
    assert [path.name for path in disk.iterdir()] == ["filling"]
