"""Snakemake started on the cluster of one node, and what to look at and to wait for."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from snakemake_executor_plugin_submitit.waiting import in_queue

# Ends what would not end.
PATIENCE_SECONDS = 1800.0
OPTIONS = (
    "--executor", "submitit", "--jobs", "50", "--latency-wait", "10", "--seconds-between-status-checks", "1",
    "--default-resources", "slurm_partition=cpu", "mem_mb=300", "runtime=30",
)  # fmt: skip


def _hear() -> None:
    """Hear signals that a shell's background, or nohup, keeps from these tests."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Workflow:
    """A Snakefile, and the process that works on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None

    def write(self, snakefile: str) -> None:
        (self.folder / "Snakefile").write_text(snakefile)

    def start(self, *arguments: str, path: str = "") -> None:
        """Start Snakemake; `path` goes before PATH."""
        environment = os.environ | {"PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *OPTIONS, *arguments],
            cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
            preexec_fn=_hear,
        )  # fmt: skip

    def wait(self) -> tuple[int, str]:
        """Wait for the end; return exit code and output."""
        assert self.process is not None
        output, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, output

    def run(self, *arguments: str, path: str = "") -> tuple[int, str]:
        self.start(*arguments, path=path)
        return self.wait()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []


def wrapper(folder: Path, name: str, text: str) -> str:
    """Put a program before the real one on PATH; return the folder for PATH."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/bash\n{text}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def queue() -> list[tuple[str, str]]:
    """Return the jobs that wait, run, or are about to end, one line a task of an array: id and state."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    command = ["squeue", "--all", "-h", "-r", "-o", "%i %T"]
    # Without an answer nobody knows: no job would be one of the answers.
    while (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(1.0)
    return [(line.split()[0], line.split()[1]) for line in done.stdout.splitlines()]


def running() -> list[str]:
    return [job for job, state in queue() if state == "RUNNING"]


def waiting() -> set[str]:
    return {job for job, state in queue() if state == "PENDING"}


def was_put_back(job: str, times: int) -> bool:
    """Whether a job has ended and come back to the queue so often; it waits there, or runs again."""
    queued = in_queue().get(job)
    return queued is not None and queued.restarts >= times and queued.state != "COMPLETING"


def states(jobs: Iterable[str]) -> set[str]:
    """Return what SLURM's accounts say of jobs."""
    command = ["sacct", "-X", "-n", "-P", "-o", "State", "-j", ",".join(jobs)]
    return set(subprocess.run(command, capture_output=True, text=True).stdout.splitlines())


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that will be."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"no {what} in {PATIENCE_SECONDS:g} s"
        time.sleep(0.3)


def until_said(workflow: Workflow, words: str) -> None:
    """Read what Snakemake says until these words."""
    assert any(words in line for line in workflow.process.stdout), f"Snakemake has not said {words}"


def let_go(workflow: Workflow) -> None:
    """Tell jobs that wait for it that they may end."""
    (workflow.folder / "go").touch()


def said_to_be_made(workflow: Workflow) -> int:
    """Return of how many outputs Snakemake's marks say that they are made, by a job that is at work on others."""
    count = 0
    for mark in (workflow.folder / ".snakemake" / "incomplete").rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # jobs take them away
            count += '"made": true' in mark.read_text()
    return count


def limit_time(job: str, minutes: int) -> None:
    """Give a job another time limit."""
    subprocess.run(["scontrol", "update", f"jobid={job}", f"timelimit={minutes}"], check=True)


def near_its_limit(job: str) -> None:
    """Leave a job that runs one to two minutes: one that SLURM is to signal a minute before is signalled within one.

    SLURM looks each half minute, and signals what would be late at its next look.
    """
    used = subprocess.run(["squeue", "-h", "-j", job, "-o", "%M"], capture_output=True, text=True, check=True).stdout
    minutes = int(used.split(":")[-2])
    limit_time(job, minutes + 2)


def put_back_at_its_limit(job: str, minutes: int) -> None:
    """Let a job come near its time limit, and give it this one (min) when it has come back to the queue."""
    near_its_limit(job)
    until(lambda: was_put_back(job, 1), "job that was put back at its time limit")
    limit_time(job, minutes)


def preempt(workflow: Workflow) -> None:
    """Take the GPUs of a job of partition gpulow, which says in `trace` that it has begun."""
    until(lambda: workflow.lines("trace"), "start of the job")
    subprocess.run(
        ["sbatch", "-p", "gpu", "--gres=gpu:2", "--mem=100", "-o", "/dev/null", "--wrap", "sleep 3"], check=True
    )
