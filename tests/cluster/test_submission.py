"""Snakemake in a job of a real SLURM: it outlives its time limit, and takes its jobs along when it is stopped."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from workflows import put_back_at_its_limit, queue, running, states, until

from piwsl.errors import PiwslError
from piwsl.workflow.submission import Started, queued, start

PROFILE = """
executor: submitit
jobs: 10
rerun-incomplete: true
seconds-between-status-checks: 1
latency-wait: 10
default-resources:
  slurm_partition: hidden
  mem_mb: 300
  runtime: 30
"""
TWO_AT_WORK = """
rule all:
    input: "0.txt", "1.txt"
rule one:
    output: "{n}.txt"
    shell: "echo {wildcards.n} >> trace; while [ ! -e go ]; do sleep 0.2; done; touch {output}"
"""


@pytest.fixture
def at_work(workflow, monkeypatch):
    """A Snakemake in a job of SLURM, with two jobs at work."""
    monkeypatch.chdir(workflow.folder)
    workflow.write(TWO_AT_WORK)
    Path("slurm").mkdir()
    Path("slurm/config.yaml").write_text(PROFILE)

    def begin(sbatch: str = "") -> Started:
        started = start([], in_job=True, sbatch=sbatch, profile="slurm")
        until(lambda: len(workflow.lines("trace")) == 2, "start of the jobs")
        return started

    return begin


def test_it_runs_in_the_partition_of_its_jobs_and_alone(workflow, at_work):
    started = at_work()
    asked = subprocess.run(
        ["squeue", "--all", "-h", "-j", started.job, "-o", "%P %C %m"], capture_output=True, text=True
    ).stdout
    assert asked.split() == ["hidden", "1", "2000M"]
    jobs = queued()
    assert started.job in jobs
    assert len(jobs) > 1
    assert {Path(place) for place in jobs.values()} == {Path.cwd()}
    with pytest.raises(PiwslError, match=f"already, as job {started.job} of SLURM .*; stop it: scancel {started.job}"):
        start([], in_job=True, profile="slurm")
    Path("go").touch()
    until(lambda: not queue(), "empty queue")
    assert "3 of 3 steps (100%) done" in Path(started.log).read_text()
    # Now another may be submitted.
    again = start([], in_job=True, profile="slurm")
    until(lambda: not queue(), "end of the other")
    assert "Nothing to be done" in Path(again.log).read_text()


def test_stopping_it_cancels_its_jobs(workflow, at_work):
    started = at_work()
    jobs = running()
    subprocess.run(started.stop, shell=True, check=True)
    until(lambda: not queue(), "empty queue")
    until(lambda: states(jobs) == {"CANCELLED by 0"}, "cancellation of all in the accounts")
    assert "Cancelling" in Path(started.log).read_text()
    assert not Path("0.txt").exists()


def test_at_its_time_limit_it_goes_back_to_the_queue_and_on_with_its_jobs(workflow, at_work, monkeypatch):
    # The controller is away at first.
    refuses = f'[ "$1" = requeue ] && [ ! -e {workflow.folder}/refused ] && touch {workflow.folder}/refused && exit 1'
    programs = workflow.folder / "bin"
    programs.mkdir()
    (programs / "scontrol").write_text(f'#!/bin/bash\n{refuses}\nexec /usr/bin/scontrol "$@"\n')
    (programs / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    started = at_work("--time=30 --signal=B:USR1@60")
    jobs = {job for job in running() if job != started.job}
    put_back_at_its_limit(started.job, minutes=30)
    until(lambda: "Going on with job" in Path(started.log).read_text(), "second start")
    assert jobs <= set(running())
    Path("go").touch()
    until(lambda: not queue(), "empty queue")
    assert Path("0.txt").exists()
    assert Path("1.txt").exists()
    assert sorted(workflow.lines("trace")) == ["0", "1"]
    assert Path("refused").exists()


def test_what_slurm_does_not_take_is_said(workflow, at_work):
    with pytest.raises(PiwslError, match=r"SLURM does not take it: sbatch: error: invalid partition.* say --sbatch"):
        at_work("--partition=nowhere")
