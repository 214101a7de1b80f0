"""One training of the workflow: killed and gone on, and its model under another config."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiment import TINY, configure, prepare
from helpers import snakemake

from piwsl.files import read_json
from piwsl.records import Benchmark, read_benchmark

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
    note, deadline = folder / RUN / "checkpoints" / "pieces.json", time.monotonic() + 240
    while not note.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "Snakemake ended before it could be killed"
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
