"""`piwsl clean` says what killed runs and edits have left, takes away that and nothing else, and only when told to."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiment import configure, edited, prepare
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.config import Run
from piwsl.workflow.layout import Layout
from piwsl.workflow.presence import join

LAYOUT = Layout("tiny")
NAMED = LAYOUT.run(Run(dataset="water", model="painn", loss="supervised", size=4, seed=0)).folder
FORMER = LAYOUT.run(Run(dataset="water", model="painn", loss="supervised", size=4, seed=1)).folder
ASIDE = f"{NAMED}/checkpoints-superseded-1/newest.ckpt"
HALF = f"{NAMED}/.model-0123456789abcdef.safetensors"
PART = "results/downloads/rmd17/.ethanol.npz.part"
UNPACKED = "results/downloads/rmd17/..azobenzene.npz-0123456789abcdef.unpacked"
LOG = ".snakemake/submitit/logs/train/seed=0-12345678.log"
OF_SUBMIT = ".snakemake/submit/20260101T000000.log"
LEFT = (ASIDE, HALF, PART, UNPACKED, LOG, OF_SUBMIT, f"{FORMER}/model.safetensors")
# What nobody may lose: a result, a checkpoint to go on from, an energy, whatever it is called.
NEEDED = (
    f"{NAMED}/model.safetensors",
    f"{NAMED}/checkpoints/newest.ckpt",
    "results/labels/hf/ab/.energy-0123456789abcdef.json",
    "results/downloads/rmd17/ethanol.npz",
    "results/other/water/painn/supervised/n4/seed1/model.safetensors",
    # Copies of a user's.
    f"{NAMED}-before-edit/model.safetensors",
    f"{NAMED}-before-edit/checkpoints-superseded-1/newest.ckpt",
    f"{NAMED}.tar.gz",
    f"{NAMED}/checkpoints-superseded-1.tar",
    FORMER.replace("/n4/", "/n4-old/") + "/model.safetensors",
    FORMER.replace("/water/", "/water-old/") + "/model.safetensors",
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory in which runs were killed an hour and more ago."""
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1, 2):
        trained_once(seed)
    for path in (*LEFT, *NEEDED):
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(500_000))
        os.utime(file, (time.time() - 4000.0, time.time() - 4000.0))
    (tmp_path / "elsewhere").mkdir()
    Path(NAMED).with_name("seed2").symlink_to(tmp_path / "elsewhere")
    with_queue(monkeypatch, "")
    return tmp_path


def trained_once(seed: int) -> None:
    log = Path(LAYOUT.log(f"train/water/painn/supervised/n4-seed{seed}"))
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()


def with_queue(monkeypatch, text: str, code: int = 0) -> None:
    """Put a squeue on PATH that says this."""
    Path("bin").mkdir(exist_ok=True)
    Path("bin/queue").write_text(text)
    Path("bin/squeue").write_text(f'#!/bin/bash\ncat "$(dirname "$0")/queue"\nexit {code}\n')
    Path("bin/squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{Path('bin').absolute()}:/bin")


def handed_over(job: str) -> None:
    """Let Snakemake have noted a job of a scheduler, and not have seen it end."""
    note = Path(".snakemake/incomplete", base64.urlsafe_b64encode(b"out.txt").decode())
    note.parent.mkdir(exist_ok=True)
    note.write_text(json.dumps({"external_jobid": job}))


def clean(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["clean", "config.yaml", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def left() -> set[str]:
    return {path for path in LEFT if Path(path).exists()}


def test_what_is_left_is_said_and_taken_away_when_told_to(folder):
    every = left()
    said = clean()
    assert left() == every
    assert "to remove with --yes: 3.0 MB" in said
    assert all(str(Path(path)) in said for path in (Path(ASIDE).parent, HALF, PART, UNPACKED, LOG, OF_SUBMIT))
    assert f"runs that the config does not name: 1, 0.5 MB; they stay without --runs\n  {FORMER}" in said
    assert "removed: 3.0 MB" in clean("--yes")
    assert left() == {f"{FORMER}/model.safetensors"}
    assert "removed: 0.5 MB" in clean("--runs", "--yes")
    assert not left()
    assert not Path(FORMER).exists()
    assert all(Path(path).exists() for path in NEEDED)
    assert Path(NAMED).with_name("seed2").is_symlink()
    assert clean() == "to remove with --yes: 0.0 MB\n"


def test_while_snakemake_holds_the_folder_nothing_is_taken_away(folder):
    Path(".snakemake/locks").mkdir()
    Path(".snakemake/locks/0.output.lock").write_text("results/other/report.html\n")
    every = left()
    assert "a Snakemake runs here, or was killed" in clean("--yes", "--runs", code=1)
    assert left() == every


@pytest.mark.parametrize("held", [".", "simulations/nvt"])
def test_what_a_process_holds_or_still_writes_stays(folder, held):
    Path(HALF).touch()
    Path(FORMER, held).mkdir(parents=True, exist_ok=True)
    with Path(FORMER, held, ".lock").open("w") as training_or_simulation:
        fcntl.flock(training_or_simulation, fcntl.LOCK_EX)
        downloading = os.open(Path(PART).parent, os.O_RDONLY)
        fcntl.flock(downloading, fcntl.LOCK_EX)
        clean("--yes", "--runs")
        os.close(downloading)
    assert left() == {HALF, PART, f"{FORMER}/model.safetensors"}


def test_all_runs_are_named_before_they_go(folder):
    for seed in range(10, 30):
        trained_once(seed)
        Path(NAMED).with_name(f"seed{seed}").mkdir()
    said = clean("--runs")
    assert all(f"\n  {Path(NAMED).with_name(f'seed{seed}')}\n" in said for seed in range(10, 30))


def test_a_snakemake_without_its_lock_keeps_the_folder(folder):
    # What the first of two that ends takes away.
    assert not Path(".snakemake/locks").exists()
    child = os.fork()
    if child == 0:
        join()
        Path("joined").touch()
        time.sleep(600)
        os._exit(0)
    while not Path("joined").exists():
        time.sleep(0.05)
    every = left()
    assert "a Snakemake, or piwsl clean, is at work here; wait for its end" in clean("--yes", "--runs", code=1)
    assert left() == every
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert "removed" in clean("--yes")


def test_each_snakemake_of_the_workflow_lets_others_know(folder):
    with Path("Snakefile").open("a") as file:
        file.write(
            f"\nimport subprocess\nsubprocess.run([{sys.executable!r}, '-m', 'piwsl', 'clean', 'config.yaml'])\n"
        )
    done = subprocess.run([sys.executable, "-m", "snakemake", "--dry-run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a Snakemake, or piwsl clean, is at work here; wait for its end" in done.stderr
    assert "to remove" not in done.stdout


def test_a_disk_without_locks_is_left_alone(folder, monkeypatch):
    def without(handle: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", without)
    every = left()
    assert "this disk knows no locks" in clean("--yes", code=1)
    assert left() == every


def test_jobs_of_this_folder_keep_results_whoever_submitted_them(folder, monkeypatch):
    results = {ASIDE, HALF, f"{FORMER}/model.safetensors"}
    with_queue(monkeypatch, f"7 {folder}\n8 {folder.parent}\n")
    assert "1 jobs wait or run (7): results were not looked at" in clean("--yes", "--runs")
    assert left() == results
    # Of another folder, or the very one that asks.
    with_queue(monkeypatch, f"7 {folder}\n8 {folder.parent}\n")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    clean("--yes", "--runs")
    assert not left()


def test_what_slurm_does_not_say_is_not_known(folder, monkeypatch):
    every = left()
    with_queue(monkeypatch, "", code=1)
    assert "squeue: exit code 1: whether jobs still run is not known" in clean("--yes", code=1)
    assert left() == every


def test_without_squeue_jobs_that_no_snakemake_has_seen_end_keep_results(folder, monkeypatch):
    handed_over("5000007_0")
    Path("bin/squeue").unlink()
    monkeypatch.setenv("PATH", str(folder / "bin"))
    assert "whether jobs still run (5000007) is not known here: results were not looked at" in clean("--yes", "--runs")
    assert left() == {ASIDE, HALF, f"{FORMER}/model.safetensors"}
    with_queue(monkeypatch, "")
    clean("--yes", "--runs")
    assert not left()


def test_a_job_of_another_executor_keeps_results(folder, monkeypatch):
    for job, said in (
        ("5000007", "1 jobs wait or run (5000007)"),
        ("of-a-cloud", "whether jobs still run (of-a-cloud)"),
    ):
        handed_over(job)
        with_queue(monkeypatch, "5000007 /elsewhere\n")
        assert said in clean("--yes", "--runs")
        assert HALF in left()


def test_jobs_of_another_folder_of_the_executor_are_found_there(folder):
    jobs = Path("mine/jobs/20260101T000000-1")
    jobs.mkdir(parents=True)
    (jobs / f"{os.getpid()}_submitted.pkl").touch()
    said = clean("--yes", "--runs", "--submitit-folder", "mine")
    assert f"1 jobs wait or run ({os.getpid()})" in said
    assert LOG in left()


def test_a_snakemake_that_was_submitted_and_waits_keeps_the_folder(folder, monkeypatch):
    Path(".snakemake/submit/started.json").write_text(
        json.dumps({"where": "job 7 of SLURM", "log": OF_SUBMIT, "stop": "scancel 7", "job": "7"})
    )
    every = left()
    with_queue(monkeypatch, "7 /elsewhere\n")
    assert "already, as job 7 of SLURM" in clean("--yes", code=1)
    assert left() == every


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
