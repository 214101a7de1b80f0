"""`piwsl clean` says what killed runs and edits have left, takes away that and nothing else, and only when told to."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest
from experiment import configure, edited, prepare
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.config import Run
from piwsl.workflow.layout import Layout

LAYOUT = Layout("tiny")
NAMED = LAYOUT.run(Run(dataset="water", model="painn", loss="supervised", size=4, seed=0)).folder
FORMER = LAYOUT.run(Run(dataset="water", model="painn", loss="supervised", size=4, seed=1)).folder
ASIDE = f"{NAMED}/checkpoints-superseded-1/newest.ckpt"
HALF = f"{NAMED}/.model-0123456789abcdef.safetensors"
PART = "results/downloads/rmd17/.ethanol.npz.part"
LOG = ".snakemake/submitit/logs/train/seed=0-12345678.log"
# What nobody may lose: a result, a checkpoint to go on from, an energy, whatever it is called.
NEEDED = (
    f"{NAMED}/model.safetensors",
    f"{NAMED}/checkpoints/newest.ckpt",
    "results/labels/hf/ab/.energy-0123456789abcdef.json",
    "results/downloads/rmd17/ethanol.npz",
    "results/other/water/painn/supervised/n4/seed1/model.safetensors",
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory in which runs were killed an hour and more ago."""
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in (ASIDE, HALF, PART, LOG, f"{FORMER}/model.safetensors", *NEEDED):
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(500_000))
        os.utime(file, (time.time() - 4000.0, time.time() - 4000.0))
    return tmp_path


def clean(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["clean", "config.yaml", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def left() -> set[str]:
    return {path for path in (ASIDE, HALF, PART, LOG, f"{FORMER}/model.safetensors") if Path(path).exists()}


def test_what_is_left_is_said_and_taken_away_when_told_to(folder):
    every = left()
    said = clean()
    assert left() == every
    assert "to remove with --yes: 2.0 MB" in said
    assert all(str(Path(path)) in said for path in (Path(ASIDE).parent, HALF, PART, LOG))
    assert f"runs that the config does not name: 1, 0.5 MB; they stay without --runs\n  {FORMER}" in said
    assert "removed: 2.0 MB" in clean("--yes")
    assert left() == {f"{FORMER}/model.safetensors"}
    assert "removed: 0.5 MB" in clean("--runs", "--yes")
    assert not left()
    assert not Path(FORMER).exists()
    assert all(Path(path).exists() for path in NEEDED)
    assert clean() == "to remove with --yes: 0.0 MB\n"


def test_while_snakemake_holds_the_folder_nothing_is_taken_away(folder):
    Path(".snakemake/locks").mkdir()
    Path(".snakemake/locks/0.output.lock").write_text("results/other/report.html\n")
    every = left()
    assert "a Snakemake runs here, or was killed" in clean("--yes", "--runs", code=1)
    assert left() == every


def test_what_a_process_holds_or_still_writes_stays(folder):
    Path(HALF).touch()
    with Path(FORMER, ".lock").open("w") as training:
        fcntl.flock(training, fcntl.LOCK_EX)
        downloading = os.open(Path(PART).parent, os.O_RDONLY)
        fcntl.flock(downloading, fcntl.LOCK_EX)
        clean("--yes", "--runs")
        os.close(downloading)
    assert left() == {HALF, PART, f"{FORMER}/model.safetensors"}


def test_a_run_beside_the_grid_that_teaches_is_named(folder):
    painn = edited()["models"]["painn"]
    student = {**painn, "teacher": {"model": "painn", "loss": "weak"}}
    only = [{"dataset": "water", "model": "student", "loss": "supervised"}]
    configure(folder, models={"painn": painn, "student": student}, only=only, exclude=[])
    teacher = LAYOUT.run(Run(dataset="water", model="painn", loss="weak", size=4, seed=0)).folder
    Path(teacher).mkdir(parents=True)
    said = clean()
    assert NAMED in said
    assert teacher not in said
