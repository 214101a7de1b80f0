"""Snakemake started so that it outlives the terminal: in a small job of SLURM, or as a process of its own session."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from piwsl.errors import PiwslError
from piwsl.files import read_json, write_json
from piwsl.workflow.snakemake_notes import FOLDER

# Where Snakemake looks for one.
SNAKEFILES = ("Snakefile", "workflow/Snakefile")
# Of Snakemake alone, with 10,000 jobs: its jobs ask for their own.
MEMORY_MB = 2000
# Before the time limit of its job Snakemake is put back in the queue, s.
NOTICE_SECONDS = 120
ANSWER_SECONDS = 60
# At its time limit, and after a failure of its node, Snakemake starts again and goes on with jobs that wait or run. At
# its limit it is killed, for other signals have it cancel them: those of who stops it, or puts it back in the queue.
JOB = """#!/bin/bash
#SBATCH --job-name=snakemake
#SBATCH --cpus-per-task=1
#SBATCH --mem={memory}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@{notice}
{options}
cd {folder} || exit 1
snakemake=({command})
process=
back_to_the_queue() {{
    echo "The time limit is near: Snakemake goes back to the queue"
    kill -KILL $process
    scontrol requeue "$SLURM_JOB_ID"
    exit 1
}}
trap back_to_the_queue USR1
# Snakemake hears it, too, and cancels its jobs, which takes a moment.
trap : TERM INT
[ "${{SLURM_RESTART_COUNT:-0}}" = 0 ] || "${{snakemake[@]}}" --unlock
"${{snakemake[@]}}" &
process=$!
wait $process
code=$?
while kill -0 $process 2> /dev/null; do wait $process; code=$?; done
exit $code
"""


@dataclass(frozen=True)
class Started:
    """A Snakemake that goes on by itself."""

    where: str
    """In words."""
    log: str
    stop: str
    """The command that stops it, and its jobs."""
    job: str | None = None
    """Of SLURM."""

    def lines(self) -> Iterator[str]:
        """Yield what a user needs to know of it."""
        yield f"Snakemake runs as {self.where}"
        yield f"follow it: tail -F {shlex.quote(self.log)}"
        yield f"stop it, and its jobs: {self.stop}"


def start(arguments: Sequence[str], in_job: bool, sbatch: str = "", folder: Path = FOLDER) -> Started:
    """Start Snakemake in the working directory.

    Args:
        arguments: of Snakemake.
        in_job: whether it runs in a job of SLURM; else as a process of this machine.
        sbatch: further options of sbatch.
        folder: Snakemake's own.

    Raises:
        PiwslError: there is no workflow, one that was submitted, or another, runs here already, or SLURM does not take
            the job.
    """
    if not any(Path(place).is_file() for place in SNAKEFILES):
        raise PiwslError(f"{Path.cwd()}: no Snakefile is here; go to the folder that Snakemake is started in")
    own = folder / "submit"
    own.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", *arguments]
    log = own / f"{time.strftime('%Y%m%dT%H%M%S')}.log"
    with _alone(own) as lock:
        _check_free(own, folder)
        started = _submitted(command, log, sbatch, arguments) if in_job else _detached(command, log, lock)
        write_json(own / "started.json", asdict(started))
    return started


@contextmanager
def _alone(own: Path) -> Iterator[int]:
    """Hold the lock that a process of this machine, once started, holds until its end."""
    with (own / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _runs(own) from None
        yield lock.fileno()


def _runs(own: Path) -> PiwslError:
    note = own / "started.json"
    if not note.exists():
        return PiwslError(f"{own}: another piwsl submit is at work; try again")
    earlier = Started(**read_json(note))
    return PiwslError(f"Snakemake runs here already, as {earlier.where} ({earlier.log}); stop it: {earlier.stop}")


def _check_free(own: Path, folder: Path) -> None:
    """Refuse where a Snakemake waits, runs, or was killed."""
    note = own / "started.json"
    if note.exists() and (job := Started(**read_json(note)).job) is not None and _in_queue(job):
        raise _runs(own)
    if any((folder / "locks").glob("*.lock")):
        raise PiwslError(
            f"{folder / 'locks'}: a Snakemake runs here, or was killed; wait for its end, or, when it is over, say "
            "snakemake --unlock"
        )


def _in_queue(job: str) -> bool:
    """Ask SLURM; one that it does not know any more is over."""
    done = _said(["squeue", "--all", "--noheader", "--jobs", job, "--format", "%T"])
    if done.returncode and "Invalid job id" not in done.stderr:
        raise PiwslError(f"squeue: {done.stderr.strip()}: whether job {job} still runs is not known; try again")
    return bool(done.stdout.strip())


def _said(command: Sequence[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    # Whatever a user's variables would have squeue leave out.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=ANSWER_SECONDS, env=environment
        )
    except FileNotFoundError:
        raise PiwslError(f"there is no {command[0]} here; go to where jobs are submitted") from None
    except subprocess.TimeoutExpired:
        raise PiwslError(f"{command[0]} gave no answer in {ANSWER_SECONDS} s; try again") from None


def _submitted(command: Sequence[str], log: Path, sbatch: str, arguments: Sequence[str]) -> Started:
    options = [f"#SBATCH {option}" for option in _of_profile(arguments)]
    script = JOB.format(
        memory=MEMORY_MB,
        notice=NOTICE_SECONDS,
        options="\n".join(options),
        folder=shlex.quote(str(Path.cwd())),
        command=shlex.join(command),
    )
    # What the user says stands on the command line, which goes before the script.
    done = _said(["sbatch", "--parsable", f"--output={log.absolute()}", *shlex.split(sbatch)], script)
    if done.returncode:
        raise PiwslError(f"SLURM does not take it: {' '.join(done.stderr.split())}; say --sbatch OPTIONS")
    job = done.stdout.strip().split(";")[0]
    return Started(f"job {job} of SLURM", str(log), f"scancel {job}", job)


def _of_profile(arguments: Sequence[str]) -> Iterator[str]:
    """Yield partition and account of a profile's jobs, which are Snakemake's, too."""
    from snakemake.profiles import ProfileConfigFileParser

    profiles = [after for before, after in pairwise(arguments) if before == "--profile"]
    for file in (Path(profile, "config.yaml") for profile in profiles):
        if file.is_file():
            with file.open(encoding="utf-8") as stream:
                said = ProfileConfigFileParser().parse(stream).get("default-resources", [])
            resources = dict(each.split("=", 1) for each in said)
            for name, option in (("slurm_partition", "partition"), ("slurm_account", "account")):
                if value := resources.get(name):
                    yield f"--{option}={value}"


def _detached(command: Sequence[str], log: Path, lock: int) -> Started:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_scope(), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_hear_interrupts,
            pass_fds=[lock],
        )
    stop = f"kill -INT -{process.pid}"
    return Started(f"process {process.pid} of {socket.gethostname()}", str(log), stop)


def _scope() -> list[str]:
    """Return what keeps a process when its user logs out, where the machine ends those of users otherwise."""
    scope = ["systemd-run", "--user", "--scope", "--quiet"]
    if shutil.which(scope[0]) is None:
        return []
    answers = subprocess.run([*scope, "true"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
    return scope if answers else []


def _hear_interrupts() -> None:
    """Undo what a shell does to processes in its background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
