"""One training of the workflow: killed and gone on, its model under another config, its data on a local disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiment import TINY, configure, prepare
from helpers import morse_frames, snakemake

from piwsl.files import read_json
from piwsl.records import Benchmark, read_benchmark
from piwsl.structures.frames import write_frames

RUN = Path("results/tiny/mine/painn/supervised/n4/seed0")
JOB = Path("results/tiny/benchmarks/train/mine/painn/supervised/n4-seed0.tsv")
EDITS = {
    "datasets": {"mine": TINY["datasets"]["mine"]},
    "losses": {"supervised": {}},
    "exclude": [],
    "models__painn__training": {"steps": 600, "validate_every": 50, "learning_rate": 1e-3},
}


@pytest.fixture(scope="module")
def killed_and_gone_on(tmp_path_factory) -> tuple[Path, Benchmark]:
    """A folder with the model of a training that was killed once, and what that had taken by then."""
    folder = tmp_path_factory.mktemp("killed")
    prepare(folder)
    configure(folder, **EDITS)
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1", str(RUN / "model.safetensors")], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    note, deadline = folder / RUN / "checkpoints" / "pieces.json", time.monotonic() + 900
    while not note.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "Snakemake ended before it could be killed"
    assert note.exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    noted = Benchmark.model_validate(read_json(note))
    assert snakemake(folder, "--unlock").returncode == 0
    result = snakemake(folder, str(RUN / "model.safetensors"))
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, noted


def test_what_a_training_took_before_it_was_killed_is_counted(killed_and_gone_on):
    folder, noted = killed_and_gone_on
    found = read_benchmark(folder / JOB)
    (folder / JOB).with_suffix(".earlier.json").rename(folder / "aside.json")
    last = read_benchmark(folder / JOB)
    (folder / "aside.json").rename((folder / JOB).with_suffix(".earlier.json"))
    assert found == noted + last
    # The first piece has imported torch, at the least.
    assert noted.cpu_s > 0.5


def test_a_model_of_another_config_is_not_tested_under_the_names_of_this_one(killed_and_gone_on):
    """As where times of files alone decide what is made again, or a model was copied from elsewhere."""
    folder, _ = killed_and_gone_on
    configure(folder, **EDITS | {"models__painn__training": EDITS["models__painn__training"] | {"batch_size": 2}})
    result = snakemake(folder, "--rerun-triggers", "mtime", "--", str(RUN / "errors.json"))
    assert result.returncode != 0
    log = (folder / "results/tiny/logs/evaluate/mine/painn/supervised/n4-seed0.log").read_text()
    assert log.startswith(f"error: {RUN}/model.safetensors: trained with models.painn.training.batch_size: ")
    assert log.endswith(f", and the config says 2; train it again: snakemake --forcerun {RUN}/model.safetensors\n")
    assert not (folder / RUN / "errors.json").exists()
    configure(folder, **EDITS)
    result = snakemake(folder, "--rerun-triggers", "mtime", "--", str(RUN / "errors.json"))
    assert result.returncode == 0, result.stdout + result.stderr


# Read by every Python that starts with its folder on the path: a node with a disk of its own. Of what was copied
# nothing is left where it lay.
NODE = """
import sys
if sys.orig_argv[-1].endswith(".train.py"):
    from piwsl.data import dataset, local_disk
    local_disk._problem = lambda path, folder: ""
    move = dataset.Dataset.move_to_local_disk
    def moved(self):
        move(self)
        self.path.write_bytes(b"")
    dataset.Dataset.move_to_local_disk = moved
"""


def test_what_does_not_fit_the_memory_is_read_from_a_copy_on_a_local_disk_that_is_gone_afterwards(
    tmp_path, monkeypatch
):
    prepare(tmp_path)
    # Fifty frames and their neighbours take more than half of a megabyte.
    resources = {"to_local_disk": True, "threads": 2, "mem_mb": 1}
    edits = {"sizes": [50], "models__painn__training__steps": 20, "models__painn__resources": resources}
    configure(tmp_path, **EDITS | edits)
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 60, forces=True))
    node, disk = tmp_path / "node", tmp_path / "disk-of-the-node"
    node.mkdir()
    disk.mkdir()
    (node / "sitecustomize.py").write_text(NODE)
    monkeypatch.setenv("PYTHONPATH", f"{node}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("SLURM_TMPDIR", str(disk))
    result = snakemake(tmp_path, str(RUN.parent.parent / "n50" / "seed0" / "model.safetensors"))
    assert result.returncode == 0, result.stdout + result.stderr
    training = Path("results/tiny/datasets/mine/training.h5")
    log = (tmp_path / "results/tiny/logs/train/mine/painn/supervised/n50-seed0.log").read_text()
    assert f"{training} is read from a copy in {disk}\n" in log
    assert (tmp_path / training).stat().st_size == 0
    assert not [*disk.iterdir()]
