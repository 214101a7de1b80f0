"""Frames that are read when they are asked for train what frames in memory train, by as many processes as one likes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import ROOT, morse_frames
from safetensors.torch import load_file
from test_training import struck

from piwsl.architectures.gaussian_process import GaussianProcess
from piwsl.architectures.painn import PaiNN
from piwsl.config import Loss, Run, Training
from piwsl.data import local_disk as local_disk_module
from piwsl.data import memory, views
from piwsl.data.batch import Batch
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset, content_hash, write_dataset
from piwsl.data.memory import memory_of_job
from piwsl.data.views import HeldView, StoredView, View, held, in_memory, stored
from piwsl.errors import PiwslError
from piwsl.loss_terms.pitc import PITC
from piwsl.structures.frames import without_labels
from piwsl.structures.structure import Structure
from piwsl.training import module as training_module
from piwsl.training import references
from piwsl.training import run as training_run
from piwsl.training.batches import StepBatches
from piwsl.training.frames import frames_of_run
from piwsl.training.run import Devices, train_run

CUTOFF = 4.0
WEAK = Loss(forces=1.0, pitc=PITC(weight=0.1), displacement=0.01, pool=0.5)
ENERGIES = Loss(pitc=PITC(weight=0.1), displacement=0.01, pool=0.5)


def labelled_frames() -> list[Atoms]:
    """Return water and ammonia, with forces and without, of which some are charged."""
    frames = morse_frames("H2O", 30) + morse_frames("NH3", 20, forces=True)
    for atoms in frames[::7]:
        atoms.info |= {"charge": 1, "multiplicity": 2}
    return frames


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("data") / "dataset.h5"
    pool = [without_labels(atoms) for name in ("H2O", "NH3") for atoms in morse_frames(name, 5, seed=9)]
    write_dataset(found, {TRAINING: labelled_frames(), TEST: morse_frames("H2O", 5, seed=5, forces=True), POOL: pool})
    return found


@pytest.fixture
def nothing_is_held(monkeypatch):
    """As if the frames were too many for the memory."""
    monkeypatch.setattr(views, "MOST_HELD", 0.0)


def both(path: Path) -> tuple[HeldView, StoredView]:
    """Return some frames of a file, not in its order, in memory and not."""
    dataset = Dataset(path)
    places = dataset.indices(TRAINING)[[3, 40, 7, 8, 21, 14, 33]]
    return held(dataset.structures(places), places), StoredView(places, dataset, places)


def same(ours: View, theirs: View) -> bool:
    """Whether views hold the same frames, to the last bit."""
    return [*map(_content, ours)] == [*map(_content, theirs)] and ours.indices.tolist() == theirs.indices.tolist()


def _content(structure: Structure) -> str:
    return content_hash([structure])


def small(**training) -> PaiNN:
    settings = Training(**({"steps": 30, "validate_every": 10, "batch_size": 4} | training))
    return PaiNN(architecture="painn", cutoff=CUTOFF, features=16, layers=2, radial=8, training=settings)


def run(size: int = 30) -> Run:
    return Run(dataset="d", model="m", loss="l", size=size, seed=0)


def trained(folder: Path, path: Path, loss: Loss, threads: int = 1, **training) -> dict[str, bytes]:
    """Train, and return the weights to the last bit."""
    folder.mkdir()
    train_run(path, run(), small(**training), loss, folder / "model.safetensors", folder / "history.csv", threads)
    return {name: weights.numpy().tobytes() for name, weights in load_file(folder / "model.safetensors").items()}


def test_a_view_is_the_same_sequence_whether_frames_are_in_memory_or_not(path):
    in_memory, stored = both(path)
    assert len(in_memory) == len(stored) == 7
    assert same(in_memory, stored)
    assert same(in_memory[2:6], stored[2:6])
    assert same(in_memory[::-1], stored[::-1])
    order = np.array([5, 0, 0, 3])
    assert same(in_memory.taken(order), stored.taken(order))
    assert same(in_memory[:2].joined(in_memory[4:]), stored[:2].joined(stored[4:]))
    assert _content(in_memory[-1]) == _content(stored[-1])
    with pytest.raises(IndexError):
        stored[7]


def test_what_a_view_knows_of_its_frames_is_what_they_say(path):
    in_memory, stored = both(path)
    for places in (slice(None), slice(1), slice(2, 3), slice(0)):
        ours, theirs = in_memory[places], stored[places]
        assert ours.elements() == theirs.elements() == {n for each in ours for n in each.numbers.tolist()}
        assert ours.electrons() == theirs.electrons() == {(each.charge, each.multiplicity) for each in ours}
        assert ours.have_forces() == theirs.have_forces() == any(each.forces is not None for each in ours)
        assert ours.have_energies() == theirs.have_energies() == bool(len(ours))
        assert ours.have_stress() == theirs.have_stress() is False
    assert (1, 2) in stored.electrons()
    assert stored.without_forces().have_forces() is in_memory.without_forces().have_forces() is False
    assert same(in_memory.without_forces(), stored.without_forces())


def test_a_change_is_made_to_each_frame_and_names_the_one_it_fails_on(path):
    in_memory, stored = both(path)

    def doubled(structure):
        if structure.charge:
            raise PiwslError("is charged")
        return replace(structure, positions=2 * structure.positions)

    neutral = [place for place, structure in enumerate(in_memory) if not structure.charge]
    ours, theirs = (each.taken(np.array(neutral)).mapped(doubled) for each in (in_memory, stored))
    assert same(ours, theirs)
    np.testing.assert_array_equal(ours[0].positions, 2 * in_memory[neutral[0]].positions)
    with pytest.raises(PiwslError, match=r"^frame 7: is charged"):
        in_memory.mapped(doubled)
    with pytest.raises(PiwslError, match=r"^frame 7: is charged"):
        [*stored.mapped(doubled)]


def test_a_sample_holds_every_element(path):
    in_memory, stored = both(path)
    water = int(np.flatnonzero([8 in structure.numbers for structure in in_memory])[0])
    for frames in (in_memory, stored):
        without_oxygen = next(n for n in range(len(frames)) if 8 not in frames[n].numbers)
        ordered = frames.taken(np.array([without_oxygen, without_oxygen, water, water]))
        assert [_content(each) for each in ordered.sample(1)] == [_content(ordered[0]), _content(ordered[2])]
        assert len(ordered.sample(4)) == 4
        assert len(frames.sample(1000)) == len(frames)


def test_all_frames_are_held_where_their_graphs_fit_together(path, capsys):
    dataset = Dataset(path)
    places = dataset.indices(TRAINING)
    parts = [stored(dataset, places[:40]), stored(dataset, places[40:], first=100), stored(dataset, places[:0])]
    found = in_memory(parts, CUTOFF, memory=4e9)
    assert all(isinstance(each, HeldView) for each in found)
    assert all(same(ours, theirs) for ours, theirs in zip(found, parts, strict=True))
    assert found[1].indices.tolist() == (100 + places[40:]).tolist()
    graphs = held(dataset.structures(places)).graphs(CUTOFF, torch.float32)
    all_of_them = len(graphs) * views.OVERHEAD + sum(each.nbytes for graph in graphs for each in graph.tensors())
    assert isinstance(in_memory(parts, CUTOFF, 2.2 * all_of_them)[0], HeldView)
    assert capsys.readouterr().out == ""
    assert all(isinstance(each, StoredView) for each in in_memory(parts, CUTOFF, 2.2 * all_of_them, copies=2))
    assert all(isinstance(each, StoredView) for each in in_memory(parts, CUTOFF, 1.8 * all_of_them))  # more than either
    assert "frames stay in the file: with their neighbours they would take 0.00" in capsys.readouterr().out


def test_memory_is_judged_by_frames_from_all_over_a_file(tmp_path):
    few, many = morse_frames("H2O", 60), morse_frames("CH3CH2OCH3", 60)
    write_dataset(tmp_path / "dataset.h5", {TRAINING: few + many, TEST: few[:1]})
    dataset = Dataset(tmp_path / "dataset.h5")
    frames = stored(dataset, dataset.indices(TRAINING))
    graphs = held([*frames]).graphs(CUTOFF, torch.float32)
    taken = len(graphs) * views.OVERHEAD + sum(each.nbytes for graph in graphs for each in graph.tensors())
    assert isinstance(in_memory([frames], CUTOFF, memory=2.1 * taken)[0], HeldView)
    assert isinstance(in_memory([frames], CUTOFF, memory=1.9 * taken)[0], StoredView)


def test_a_training_holds_what_fits_half_of_the_memory_that_its_job_has(path, tmp_path, monkeypatch):
    found = []

    def noted(*arguments):
        found.append(frames_of_run(*arguments))
        return found[-1]

    monkeypatch.setattr(training_run, "frames_of_run", noted)
    for number, (mem_mb, devices) in enumerate([(4, 1), (1, 1), (4, 8)]):
        (folder := tmp_path / str(number)).mkdir()
        monkeypatch.setattr(training_run, "train", lambda *arguments: None)
        files = (folder / "model.safetensors", folder / "history.csv")
        train_run(path, run(50), small(), WEAK, *files, devices=Devices("cpu", devices), mem_mb=mem_mb)
    assert [each.in_memory for each in found] == [True, False, False]


def test_a_job_has_what_it_was_given_as_far_as_machine_and_control_groups_have_it(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    assert (memory_of_job(None), memory_of_job(9000)) == (memory.UNKNOWN, 9e9)

    def says(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    says("proc/meminfo", "MemTotal:       300000000 kB\nMemAvailable:   200000000 kB\n")
    assert (memory_of_job(None), memory_of_job(9000)) == (1024 * 2e8, 9e9)
    says("proc/self/cgroup", "0::/slurm/job\n")
    says("cgroup/slurm/job/memory.max", "max\n")
    says("cgroup/slurm/memory.max", "16000000000\n")
    assert (memory_of_job(None), memory_of_job(20000), memory_of_job(9000)) == (16e9, 16e9, 9e9)
    says("proc/self/cgroup", "4:memory:/elsewhere\n3:cpuset:/\n0::/\n")  # version 1, in a container
    says("cgroup/memory/memory.limit_in_bytes", "8000000000\n")
    assert memory_of_job(9000) == 8e9


@pytest.mark.parametrize("loss", [WEAK, ENERGIES, Loss()], ids=["forces", "energies", "plain"])
@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_read_on_the_way_trains_the_same_model(path, tmp_path, loss, threads, monkeypatch):
    torch.set_num_threads(1)
    expected = trained(tmp_path / "held", path, loss)
    monkeypatch.setattr(views, "MOST_HELD", 0.0)
    # With two threads another process makes the batches; computing is left to one, whose sums have one order.
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    assert trained(tmp_path / "stored", path, loss, threads) == expected


def test_processes_that_share_the_steps_have_loaders_of_their_own(path, tmp_path, monkeypatch):
    (tmp_path / "held").mkdir()
    (tmp_path / "stored").mkdir()
    found = []
    for folder, most in (("held", views.MOST_HELD), ("stored", 0.0)):
        monkeypatch.setattr(views, "MOST_HELD", most)
        files = (tmp_path / folder / "model.safetensors", tmp_path / folder / "history.csv")
        train_run(path, run(), small(), WEAK, *files, threads=4, devices=Devices("cpu", 2))
        found.append({name: weights.numpy().tobytes() for name, weights in load_file(files[0]).items()})
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (small(validation_fraction=0.0), Loss()),
        (small().model_copy(update={"members": 2}), ENERGIES),
        (GaussianProcess(architecture="gaussian_process", cutoff=CUTOFF), Loss()),
    ],
    ids=["without validation", "committee", "process"],
)
def test_whatever_is_trained_may_stay_in_the_file(tmp_path, monkeypatch, model, loss):
    path = tmp_path / "dataset.h5"
    pool = [without_labels(atoms) for atoms in morse_frames("H2O", 5, seed=9)]
    write_dataset(path, {TRAINING: morse_frames("H2O", 30), TEST: morse_frames("H2O", 5, seed=5), POOL: pool})
    found = []
    for most in (views.MOST_HELD, 0.0):
        monkeypatch.setattr(views, "MOST_HELD", most)
        folder = tmp_path / f"{most:g}"
        folder.mkdir()
        train_run(path, run(), model, loss, folder / "model.safetensors", folder / "history.csv")
        weights = load_file(folder / "model.safetensors")
        found.append({name: each.numpy().tobytes() for name, each in weights.items()})
    assert found[0] == found[1]


@pytest.mark.usefixtures("nothing_is_held")
def test_a_short_training_reads_a_part_of_the_frames(tmp_path, monkeypatch):
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: morse_frames("H2O", 2000), TEST: morse_frames("H2O", 2)})
    monkeypatch.setattr(views, "READ_AT_ONCE", 20)
    monkeypatch.setattr(training_run, "MOST_FITTED", 20)
    monkeypatch.setattr(references, "MOST_FITTED", 20)
    monkeypatch.setattr(training_module, "REFIT_STRUCTURES", 20)
    seen: set[int] = set()
    read = Dataset._read

    def noted(self: Dataset, first: int, last: int) -> list[Structure]:
        seen.update(range(first, last))
        return read(self, first, last)

    monkeypatch.setattr(Dataset, "_read", noted)
    model = small(steps=10, validate_every=10, validation_fraction=0.005).model_copy(update={"pair_potential": False})
    train_run(path, run(2000), model, Loss(), tmp_path / "model.safetensors", tmp_path / "history.csv")
    assert 40 < len(seen) < 300


@pytest.mark.parametrize(("devices", "threads", "count"), [(1, 1, 0), (1, 2, 1), (1, 8, 1), (2, 1, 0), (2, 4, 1)])
def test_loaders_take_the_cores_that_are_left(devices, threads, count):
    assert training_run._loaders(Devices("cpu", devices), threads) == count


def test_a_gpu_has_more_loaders():
    assert training_run._loaders(Devices("gpu", 1), 16) == 4
    assert training_run._loaders(Devices("gpu", 4), 16) == 3


def test_what_goes_wrong_in_a_loader_is_said_as_if_there_were_none(path, tmp_path, monkeypatch):
    monkeypatch.setattr(views, "MOST_HELD", 0.0)
    made = StepBatches.__getitem__

    def failing(self: StepBatches, step: int) -> Batch:
        if step == 7:
            raise PiwslError("frame 5: atoms 0 and 1 lie on one another")
        return made(self, step)

    monkeypatch.setattr(StepBatches, "__getitem__", failing)
    before = set(children_of(os.getpid()))
    with pytest.raises(PiwslError, match=r"^frame 5: atoms 0 and 1 lie on one another$"):
        trained(tmp_path / "run", path, Loss(), threads=2)
    assert set(children_of(os.getpid())) <= before


@pytest.mark.usefixtures("nothing_is_held")
def test_what_frames_lack_is_refused_in_the_same_words(path, tmp_path):
    for loss, words in (
        (Loss(stress=1.0), "has stress, but none of the 27 training frames"),
        (Loss(weak_forces={"weight": 1.0}), "none of the 27 training frames of dataset 'd' has forces of a cheaper"),
    ):
        frames = frames_of_run(path, None, run(), small(), loss)
        assert isinstance(frames.training, StoredView)
        with pytest.raises(PiwslError, match=words):
            train_run(path, run(), small(), loss, tmp_path / "model.safetensors", tmp_path / "history.csv")


def hash_of(frames: View) -> str:
    digest = hashlib.sha256()
    frames.add_to(digest)
    return digest.hexdigest()


def moved(structure: Structure) -> Structure:
    return replace(structure, positions=structure.positions + 1.0)


def test_the_hash_of_what_is_stored_knows_frames_order_and_changes(path):
    _, stored = both(path)
    others = stored[::-1], stored[1:], stored.without_forces(), stored.mapped(moved)
    found = [hash_of(each) for each in (stored, *others)]
    assert len(set(found)) == 5
    assert hash_of(both(path)[1]) == found[0]


def test_frames_of_a_file_have_one_hash_in_memory_or_not(path):
    _, stored = both(path)
    (read,) = in_memory([stored], CUTOFF, memory=1e9)
    assert isinstance(read, HeldView)
    order = np.array([5, 0, 0, 3])
    assert hash_of(read) == hash_of(stored)
    assert hash_of(read.taken(order).mapped(moved)) == hash_of(stored.taken(order).mapped(moved))
    assert hash_of(read[:2].joined(read[4:])) == hash_of(stored[:2].joined(stored[4:]))


@pytest.fixture
def local_disk(tmp_path, monkeypatch):
    """A folder for temporary files that passes for one on a disk of the node; nothing but the name tells it apart."""
    folder = tmp_path / "local"
    folder.mkdir()
    monkeypatch.setenv("SLURM_TMPDIR", str(folder))
    monkeypatch.setattr(local_disk_module, "_problem", lambda path, folder: "")
    return folder


@pytest.mark.usefixtures("nothing_is_held")
def test_a_training_from_a_copy_on_a_local_disk_ends_with_the_same_weights_and_leaves_none(
    path, tmp_path, local_disk, capsys
):
    models = []
    for to_local_disk in (False, True):
        folder = tmp_path / f"trained-{to_local_disk}"
        folder.mkdir()
        arguments = (path, run(), small(), Loss(), folder / "model.safetensors", folder / "history.csv")
        train_run(*arguments, threads=2, to_local_disk=to_local_disk)
        models.append((folder / "model.safetensors").read_bytes())
    assert models[0] == models[1]
    assert capsys.readouterr().out.count(f"{path} is read from a copy in {local_disk}") == 1
    assert not [*local_disk.iterdir()]


@pytest.mark.usefixtures("nothing_is_held")
def test_the_copy_is_what_is_read_and_has_no_name(path, tmp_path, local_disk):
    original = shutil.copy(path, tmp_path / "dataset.h5")
    frames = frames_of_run(original, None, run(), small(), Loss(), to_local_disk=True)
    assert not [*local_disk.iterdir()]
    positions = frames.training[0].positions
    original.write_bytes(b"")  # it is not looked at any more
    assert np.array_equal(frames.training[0].positions, positions)


def test_what_fits_the_memory_is_not_copied(path, local_disk, capsys):
    frames_of_run(path, None, run(), small(), Loss(), to_local_disk=True)
    assert "copy" not in capsys.readouterr().out


@pytest.mark.usefixtures("nothing_is_held")
def test_without_room_on_a_disk_of_its_own_the_file_is_read_where_it_lies(path, tmp_path, monkeypatch, capsys):
    def said(folder: Path) -> str:
        monkeypatch.setenv("SLURM_TMPDIR", str(folder))
        frames = frames_of_run(path, None, run(), small(), Loss(), to_local_disk=True)
        assert len(frames.training[0].numbers)
        stays, line = capsys.readouterr().out.splitlines()
        assert "frames stay in the file" in stays
        return line

    assert said(tmp_path) == f"{path} is read where it lies: {tmp_path} is on the same disk"
    assert "/dev/shm is no disk, but takes memory of the job; let TMPDIR name a disk" in said(Path("/dev/shm"))
    assert "failed: [Errno 2] No such file" in said(tmp_path / "missing")
    monkeypatch.setattr(local_disk_module, "_kind_of_disk", lambda device: "ext4")
    monkeypatch.setattr(local_disk_module, "SPARE", 2**60)
    assert "/dev/shm has " in said(Path("/dev/shm"))


def test_a_frame_that_is_damaged_on_disk_ends_the_training_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(views, "MOST_HELD", 0.0)
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: labelled_frames(), TEST: morse_frames("NH3", 5, forces=True)})
    frames = frames_of_run(path, None, run(), small(), Loss())
    data = bytearray(path.read_bytes())
    place = data.find(frames.training[0].positions.tobytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(PiwslError, match=r"dataset.h5: is damaged .*is not what was written"):
        trained(tmp_path / "run", path, Loss(), threads=2)


SCRIPT = """
import sys
from pathlib import Path
from test_views import *
from piwsl.data import memory, views
views.MOST_HELD = 0.0
folder, path = Path(sys.argv[1]), Path(sys.argv[2])
model = small(steps=1_000_000, validate_every=100_000)
print("begun", flush=True)
try:
    train_run(path, run(), model, WEAK, folder / "model.safetensors", folder / "history.csv", threads=2)
except PiwslError as error:
    sys.exit(str(error))
"""


def children_of(process: int) -> list[int]:
    """Return the processes that a process started."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_heeded(number: signal.Signals, process: int) -> bool:
    """Return whether a process catches a signal, or ignores it."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigCgt:", "SigIgn:"))]
    return bool((masks[0] | masks[1]) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_to_all_processes_of_a_job_ends_them_all_at_a_checkpoint(path, tmp_path, number):
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}:{Path(__file__).parent}"}
    arguments = [sys.executable, "-c", SCRIPT, tmp_path, path]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, env=environment, start_new_session=True) as training:
        deadline = time.monotonic() + 900
        loaders: list[int] = []
        while not (loaders and all(is_heeded(number, process) for process in (training.pid, *loaders))):
            assert time.monotonic() < deadline
            time.sleep(0.1)
            loaders = children_of(training.pid)
        os.killpg(training.pid, number)
        _, said = training.communicate(timeout=900)
    assert f"training was stopped by {number.name} at step" in said.decode()
    assert [*tmp_path.glob("checkpoints/step-*.ckpt")]
    assert not any(Path(f"/proc/{loader}").exists() for loader in loaders)


@pytest.mark.usefixtures("nothing_is_held")
@pytest.mark.parametrize(
    ("number", "threads", "share_held"),
    [(signal.SIGTERM, 1, 0.0), (signal.SIGTERM, 2, 0.0), (signal.SIGKILL, 2, 0.0), (signal.SIGTERM, 1, 0.5)],
    ids=["", "loaders", "killed", "then there is more memory"],
)
def test_a_training_that_reads_on_the_way_and_is_stopped_ends_with_the_weights_of_one_that_was_not(
    path, tmp_path, monkeypatch, number, threads, share_held
):
    whole = trained(tmp_path / "whole", path, WEAK, threads)
    (folder := tmp_path / "stopped").mkdir()
    files = folder / "model.safetensors", folder / "history.csv"

    def train() -> None:
        train_run(path, run(), small(), WEAK, *files, threads)

    stopped = struck(train, number, lambda module: module.global_step == 17)
    assert stopped.returncode == (-9 if number == signal.SIGKILL else 1), stopped.stderr
    newest = sorted((folder / "checkpoints").glob("step-*.ckpt"))[-1].name
    assert newest == ("step-000000010.ckpt" if number == signal.SIGKILL else "step-000000018.ckpt")
    assert not files[0].exists()
    monkeypatch.setattr(views, "MOST_HELD", share_held)
    train()
    assert not [*folder.glob("checkpoints*")]
    assert {name: weights.numpy().tobytes() for name, weights in load_file(files[0]).items()} == whole
    assert files[1].read_text() == (tmp_path / "whole" / "history.csv").read_text()
