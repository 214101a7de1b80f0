"""Snakemake started on the cluster of one node, and what to look at and to wait for."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_SECONDS = 300.0
OPTIONS = (
    "--executor", "submitit", "--jobs", "50", "--latency-wait", "10", "--seconds-between-status-checks", "1",
    "--default-resources", "slurm_partition=cpu", "mem_mb=300", "runtime=5",
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
    """Return the jobs that wait or run, one line a task of an array: id and state."""
    answer = subprocess.run(["squeue", "-h", "-r", "-o", "%i %T"], capture_output=True, text=True).stdout
    jobs = [(line.split()[0], line.split()[1]) for line in answer.splitlines()]
    return [(job, state) for job, state in jobs if state != "COMPLETING"]


def running() -> list[str]:
    return [job for job, state in queue() if state == "RUNNING"]


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something that will be."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} in {seconds:g} s"
        time.sleep(0.3)


def preempt(workflow: Workflow) -> None:
    """Let a job of partition gpulow, which says in `trace` that it has begun, count a while; then take its GPUs."""
    until(lambda: workflow.lines("trace"), "start of the job")
    time.sleep(3)
    subprocess.run(
        ["sbatch", "-p", "gpu", "--gres=gpu:2", "--mem=100", "-o", "/dev/null", "--wrap", "sleep 3"], check=True
    )
