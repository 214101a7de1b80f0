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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from piwsl.errors import PiwslError
from piwsl.files import read_json, write_json
from piwsl.workflow.presence import NoLocks, alone
from piwsl.workflow.snakemake_notes import FOLDER

# Below Snakemake's own folder.
SUBMIT = "submit"
# Where Snakemake looks for one.
SNAKEFILES = ("Snakefile", "workflow/Snakefile")
# Of Snakemake alone, with 10,000 jobs: its jobs ask for their own.
MEMORY_MB = 2000
# Before the time limit of its job Snakemake is put back in the queue, s: a controller may be away for a while.
NOTICE_SECONDS = 120
ANSWER_SECONDS = 60
# At its time limit, and after a failure of its node, Snakemake starts again and goes on with jobs that wait or run. At
# its limit it is killed first, for TERM, which SLURM sends to what it puts back in the queue, has it cancel them.
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
    until scontrol requeue "$SLURM_JOB_ID"; do echo "not yet; again in 5 s"; sleep 5; done
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
    host: str | None = None
    """Of a process."""
    process: list[int] | None = None
    """Its number, and when it began: another may have the number by and by."""

    def lines(self) -> Iterator[str]:
        """Yield what a user needs to know of it."""
        yield f"Snakemake runs as {self.where}"
        yield f"follow it: tail -F {shlex.quote(self.log)}"
        yield f"stop it, and its jobs: {self.stop}"


def start(
    arguments: Sequence[str], in_job: bool, sbatch: str = "", profile: str | None = None, folder: Path = FOLDER
) -> Started:
    """Start Snakemake in the working directory.

    Args:
        arguments: of Snakemake, beside the profile.
        in_job: whether it runs in a job of SLURM; else as a process of this machine.
        sbatch: further options of sbatch.
        profile: of Snakemake.
        folder: Snakemake's own.

    Raises:
        PiwslError: there is no workflow, or no such profile, one that was submitted, or another, runs here already, or
            SLURM does not take the job.
    """
    if not any(Path(place).is_file() for place in SNAKEFILES):
        raise PiwslError(f"{Path.cwd()}: no Snakefile is here; go to the folder that Snakemake is started in")
    options = _options(sbatch)
    partition = [] if profile is None else list(_of_profile(_profile_file(profile)))
    own = folder / SUBMIT
    own.mkdir(parents=True, exist_ok=True)
    # Last: before it, what stands after --configfile would be another of them.
    command = [sys.executable, "-m", "snakemake", *arguments, *([] if profile is None else ["--profile", profile])]
    log = own / f"{time.strftime('%Y%m%dT%H%M%S')}.log"
    with _alone(own) as lock:
        check_over(folder)
        with suppress(NoLocks), alone(folder):
            pass
        started = _submitted(command, log, options, partition) if in_job else _detached(command, log, lock)
        write_json(own / "started.json", asdict(started))
    return started


def check_over(folder: Path = FOLDER) -> None:
    """Refuse where a Snakemake that was submitted waits or runs.

    Args:
        folder: Snakemake's own.

    Raises:
        PiwslError: it does, or SLURM cannot be asked.
    """
    earlier = _earlier(folder / SUBMIT)
    if earlier is not None and (_runs_here(earlier) if earlier.job is None else earlier.job in queued()):
        raise _already(earlier)


@contextmanager
def _alone(own: Path) -> Iterator[int]:
    """Hold the lock that a process of this machine, once started, holds until its end."""
    with (own / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            earlier = _earlier(own)
            if earlier is not None and _runs_here(earlier):
                raise _already(earlier) from None
            raise PiwslError(f"{own}: another piwsl submit is at work, or has started one elsewhere") from None
        except OSError:  # some shared disks know no locks
            pass
        yield lock.fileno()


def _earlier(own: Path) -> Started | None:
    note = own / "started.json"
    return Started(**read_json(note)) if note.exists() else None


def _already(earlier: Started) -> PiwslError:
    return PiwslError(f"Snakemake runs here already, as {earlier.where} ({earlier.log}); stop it: {earlier.stop}")


def _runs_here(earlier: Started) -> bool:
    """Whether a process of this machine is that Snakemake, and no later one of its number."""
    if earlier.process is None or earlier.host != socket.gethostname():
        return False
    number, began = earlier.process
    return _began(number) == began


def _began(process: int) -> int | None:
    """Return when a process began, in ticks since the machine did; None where it is over."""
    try:
        # After the name, which may hold blanks and brackets.
        state, *fields = Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else int(fields[18])


def queued() -> dict[str, str]:
    """Ask SLURM for this user's jobs that wait or run: working directory by number, of an array its first.

    Raises:
        PiwslError: SLURM cannot be asked.
    """
    done = _said(["squeue", "--all", "--noheader", "--user", str(os.geteuid()), "--format", "%F %Z"])
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise PiwslError(f"squeue: {said}: whether jobs still run is not known; try again")
    jobs = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())
    jobs.pop(os.environ.get("SLURM_JOB_ID", ""), None)
    return jobs


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


def _options(sbatch: str) -> list[str]:
    try:
        return shlex.split(sbatch)
    except ValueError as error:
        raise PiwslError(f"--sbatch {sbatch}: {error}") from None


def _submitted(command: Sequence[str], log: Path, options: Sequence[str], partition: Sequence[str]) -> Started:
    script = JOB.format(
        memory=MEMORY_MB,
        notice=NOTICE_SECONDS,
        options="\n".join(f"#SBATCH {option}" for option in partition),
        folder=shlex.quote(str(Path.cwd())),
        command=shlex.join(command),
    )
    # What the user says stands on the command line, which goes before the script.
    done = _said(["sbatch", "--parsable", f"--output={log.absolute()}", *options], script)
    if done.returncode:
        raise PiwslError(f"SLURM does not take it: {' '.join(done.stderr.split())}; say --sbatch OPTIONS")
    job = done.stdout.strip().split(";")[0]
    return Started(f"job {job} of SLURM", str(log), f"scancel {job}", job)


def _profile_file(profile: str) -> Path:
    """Find a profile as Snakemake does: in this folder, among the user's and the machine's, or at its path."""
    from snakemake.cli import get_profile_dir

    found = get_profile_dir(profile)
    if found is None:
        raise PiwslError(f"there is no profile '{profile}'; say --profile, or --cores N for this machine alone")
    return found[1]


def _of_profile(file: Path) -> Iterator[str]:
    """Yield partition and account of a profile's jobs, which are Snakemake's, too."""
    from snakemake.profiles import ConfigFileParserException, ProfileConfigFileParser

    try:
        with file.open(encoding="utf-8") as stream:
            said = ProfileConfigFileParser().parse(stream).get("default-resources", [])
    except ConfigFileParserException as error:
        raise PiwslError(f"{file}: {' '.join(str(error).split())}") from None
    resources = dict(each.split("=", 1) for each in ([said] if isinstance(said, str) else said))
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
    host, began = socket.gethostname(), _began(process.pid)
    identity = None if began is None else [process.pid, began]
    return Started(
        f"process {process.pid} of {host}", str(log), f"kill -INT -{process.pid}", host=host, process=identity
    )


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
