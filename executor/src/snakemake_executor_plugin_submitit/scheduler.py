"""What is said to SLURM besides questions about jobs: is it there, what does it allow, cancel these."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from snakemake_executor_plugin_submitit.partitions import Partition, partitions
from snakemake_executor_plugin_submitit.states import AccountingError, query

# What scancel says of jobs that need not be cancelled.
OVER = re.compile(r"Invalid job id|already complet", re.IGNORECASE)
# Its words where nothing has reached the scheduler. They count whatever the exit code: some versions' tells nothing.
AWAY = ("Unable to contact slurm controller", "Connection refused", "timed out")
ANSWER_SECONDS = 60
# Letters of a field of squeue's.
FIELD_WIDTH = 64
# Between two attempts, s.
PAUSE_SECONDS = 2.0


class SchedulerError(RuntimeError):
    """There is no SLURM that jobs can be given to; the text says what was found and what to do."""


@dataclass(frozen=True)
class Limits:
    """What the cluster allows."""

    partitions: dict[str, Partition]
    array_size: int
    no_accounts: str = ""
    """Why accounting (slurmdbd) cannot be asked, if it cannot."""
    cluster: str = ""
    """Its name, where it is known."""


def limits() -> Limits:
    """Ask the cluster for its limits, and whether it keeps accounts.

    Raises:
        SchedulerError: there is no SLURM, or it does not answer.
    """
    try:
        found = partitions()
    except FileNotFoundError:
        raise SchedulerError("there is no SLURM here (no sinfo on PATH); say --submitit-cluster local") from None
    except subprocess.CalledProcessError as error:
        raise SchedulerError(
            f"SLURM does not answer (sinfo: {error.stderr.strip() or error.returncode}); try again when it does"
        ) from None
    try:
        query([str(sys.maxsize % 2**31 - 1)])
        no_accounts = ""
    except AccountingError as error:
        no_accounts = str(error)
    configured = _configured()
    size = configured.get("MaxArraySize")
    # 0: the cluster has no arrays.
    array_size = max(1, int(size)) if size else sys.maxsize
    return Limits(found, array_size, no_accounts, configured.get("ClusterName", ""))


def cluster_name() -> str:
    """Return what the cluster is called; "" where it does not say."""
    return _configured().get("ClusterName", "")


def _configured() -> dict[str, str]:
    """Ask how the cluster is configured: the first word of each value by its name, or nothing."""
    try:
        answer = subprocess.run(["scontrol", "show", "config"], check=False, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return {}
    return dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(\S+)", answer, re.MULTILINE))


def condensed(job_ids: Iterable[str]) -> list[str]:
    """Write tasks of one array as one: `7_1`, `7_2`, `7_4`, `8` are `7_[1-2,4]` and `8`."""
    tasks: dict[str, list[int]] = {}
    for job_id in job_ids:
        master, _, task = job_id.partition("_")
        tasks.setdefault(master, []).extend([int(task)] if task else [])
    return [f"{master}_[{_ranges(sorted(found))}]" if found else master for master, found in tasks.items()]


def _ranges(numbers: list[int]) -> str:
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def cancel(job_ids: Iterable[str], patience: float, complain: Callable[[str], None]) -> list[str]:
    """Cancel jobs; those that are over already are no error.

    Args:
        job_ids: as sbatch names them.
        patience: seconds for which a scheduler that is away, or does not do it, is asked again.
        complain: is told, once, that it does not.

    Returns:
        What could not be cancelled, as `condensed` writes it.
    """
    wanted, deadline, complained = condensed(job_ids), time.monotonic() + patience, False
    while wanted and (words := _scancel(wanted)):
        if not complained:
            complain(words)
        complained = True
        if time.monotonic() > deadline:
            return wanted
        time.sleep(PAUSE_SECONDS)
    return []


def _scancel(wanted: list[str]) -> str:
    """Say it once; return scancel's words where jobs may be left that are not cancelled."""
    try:
        done = subprocess.run(["scancel", *wanted], check=False, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return f"scancel gave no answer in {ANSWER_SECONDS} s"
    except OSError as error:
        return f"scancel cannot be started: {error}"
    words = done.stderr.strip()
    if done.returncode == 0:
        return words if any(word in words for word in AWAY) else ""
    lines = words.splitlines()
    errors = [line for line in lines if "error:" in line] or lines
    if errors and all(map(OVER.search, errors)):
        return ""
    return words or f"scancel ended with exit code {done.returncode}"


def queue(patience: float) -> dict[str, str]:
    """Ask which jobs of this user wait, run, or are about to end: state by job id, tasks of arrays one by one.

    Args:
        patience: seconds for which a scheduler that is away is asked again.

    Raises:
        SchedulerError: it was away all the time, or there is no squeue.
    """
    return _of_queue("%T", patience)


def scripts(patience: float) -> dict[str, str]:
    """Ask for the scripts of the jobs of this user that wait, run, or are about to end; as `queue`."""
    return _of_queue("%o", patience)


def _of_queue(field: str, patience: float) -> dict[str, str]:
    """Return one field of squeue's by job id."""
    deadline = time.monotonic() + patience
    while True:
        try:
            answer = _squeue("--format", f"%i {field}")
        except (OSError, subprocess.SubprocessError) as error:
            if time.monotonic() >= deadline:
                raise SchedulerError(f"SLURM does not answer (squeue: {error})") from None
            time.sleep(PAUSE_SECONDS)
        else:
            pairs = (line.partition(" ") for line in answer.splitlines())
            return {job_id: value.strip() for job_id, _, value in pairs}


def states_with_or_without_accounts(job_ids: Iterable[str]) -> dict[str, str]:
    """Return what the accounts say of jobs; where they do not answer, what the queue tells.

    One that is not there any more is GONE; one that is there is none of those that are over, whatever it is called.

    Raises:
        AccountingError: SLURM does not answer.
    """
    wanted = list(job_ids)
    try:
        return query(wanted)
    except AccountingError:
        pass
    try:
        found = queue(0.0)
    except SchedulerError as error:
        raise AccountingError(str(error)) from None
    return {job_id: "UNKNOWN" if job_id in found else "GONE" for job_id in wanted}


def _squeue(*arguments: str) -> str:
    """Ask for all jobs of this user, in hidden partitions, too, whatever the user's variables say for squeue.

    Raises:
        OSError: there is no squeue.
        subprocess.SubprocessError: it failed, or gave no answer in time.
    """
    command = ["squeue", "--noheader", "--all", "--array", "--user", str(os.geteuid()), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, errors="replace", timeout=ANSWER_SECONDS, env=environment
    )
    return done.stdout


def fields_of_queue(fields: Sequence[str]) -> list[list[str]]:
    """Return fields of all jobs of this user in the queue, as squeue calls them, tasks of arrays one by one.

    Nothing where SLURM does not answer: it is asked for what is good to know.
    """
    columns = ",".join(f"{field}:{FIELD_WIDTH}|" for field in fields)
    try:
        answer = _squeue("--Format", columns)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = ([cell.strip() for cell in line.split("|")[: len(fields)]] for line in answer.splitlines())
    return [row for row in rows if len(row) == len(fields)]
