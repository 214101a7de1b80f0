"""What is said to SLURM besides questions about jobs: is it there, what does it allow, cancel these."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from snakemake_executor_plugin_submitit.partitions import Partition, partitions
from snakemake_executor_plugin_submitit.states import AccountingError, query


class SchedulerError(RuntimeError):
    """There is no SLURM that jobs can be given to; the text says what was found and what to do."""


@dataclass(frozen=True)
class Limits:
    """What the cluster allows."""

    partitions: dict[str, Partition]
    array_size: int


def limits() -> Limits:
    """Ask the cluster for its limits, and whether it keeps accounts.

    Raises:
        SchedulerError: there is no SLURM, it does not answer, or it keeps no accounts.
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
    except AccountingError as error:
        raise SchedulerError(
            f"{error}. Without accounting nobody learns that a job was killed; ask for slurmdbd, or say "
            "--submitit-cluster local"
        ) from None
    return Limits(found, _largest_array())


def _largest_array() -> int:
    answer = subprocess.run(["scontrol", "show", "config"], check=False, capture_output=True, text=True).stdout
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer, re.MULTILINE)
    # 0: the cluster has no arrays.
    return max(1, int(found[1])) if found else sys.maxsize


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


def cancel(job_ids: Iterable[str]) -> None:
    """Cancel jobs; those that are over already are no error."""
    if wanted := condensed(job_ids):
        subprocess.run(["scancel", *wanted], check=False, capture_output=True)
