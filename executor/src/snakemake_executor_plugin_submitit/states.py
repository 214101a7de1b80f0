"""What has become of jobs: one sacct call for all of them, and what its states mean."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable

from submitit.slurm.slurm import SlurmInfoWatcher

PENDING_OR_RUNNING = {
    "PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING",
    "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED", "PREEMPTED", "SPECIAL_EXIT", "UNKNOWN",
}  # fmt: skip
REASONS = {
    "OUT_OF_MEMORY": "it needed more memory than it asked for (mem_mb)",
    "TIMEOUT": "it reached its time limit (runtime), and has been put back in the queue as often as is allowed",
    "CANCELLED": "it was cancelled (scancel); if its rule has retries left, it is submitted again",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node could not be booted",
    "DEADLINE": "it passed its deadline",
    "FAILED": "it ended without a result",
    "COMPLETED": "it ended without a result",
    "GONE": "it left the queue without a result; no accounts said why (time, memory, scancel, node)",
}
# What the node's daemon writes to a job's output where the state alone does not say it.
MEMORY_WORDS = ("exceeded memory limit", "oom-kill", "Out Of Memory")
SACCT_SECONDS = 60
# Of an answer that cannot be read, in a message.
ANSWER_LETTERS = 200
# Rounds between two questions, at most, while nothing ends without a result.
LONGEST_PAUSE_ROUNDS = 6


class AccountingError(RuntimeError):
    """sacct does not answer."""


def master(job_id: str) -> str:
    """Return the id of the array that a job is of, or its own."""
    return job_id.split("_")[0]


def query(job_ids: Iterable[str]) -> dict[str, str]:
    """Ask sacct, once, for the states of jobs.

    Args:
        job_ids: as sbatch names them, `123` or `123_4`.

    Returns:
        State by job id, in sacct's words; jobs that it does not know yet are left out.

    Raises:
        AccountingError: sacct failed, gave no answer in time, or one that cannot be read.
    """
    masters = sorted({master(job_id) for job_id in job_ids})
    if not masters:
        return {}
    command = ["sacct", "-X", "--parsable2", "-o", "JobID,State", "-j", ",".join(masters)]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=True, timeout=SACCT_SECONDS
        ).stdout
    except FileNotFoundError:
        raise AccountingError("there is no sacct on PATH") from None
    except OSError as error:
        raise AccountingError(f"sacct cannot be started: {error}") from None
    except subprocess.TimeoutExpired:
        raise AccountingError(f"sacct gave no answer in {SACCT_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        raise AccountingError(f"sacct failed: {error.stderr.strip() or error.returncode}") from None
    try:
        info = SlurmInfoWatcher(delay_s=0).read_info(answer)
        return {job_id: stats["State"].split()[0].rstrip("+") for job_id, stats in info.items()}
    except (KeyError, IndexError):
        raise AccountingError(f"sacct's answer cannot be read: {answer[:ANSWER_LETTERS]!r}") from None


class Accounting:
    """What sacct said last; it is asked the less often the longer nothing happens.

    A job that ends well is known by its result: sacct is there for those that will never have one.
    """

    def __init__(
        self,
        shortest: float,
        complain: Callable[[str], None],
        query: Callable[[Iterable[str]], dict[str, str]] = query,
    ) -> None:
        """Know nothing yet.

        Args:
            shortest: seconds between two questions at least.
            complain: is told, once, that SLURM does not answer.
            query: asks for the states of jobs.
        """
        self._shortest, self._complain, self._query = shortest, complain, query
        self._pause = shortest
        self._next = time.monotonic() + shortest
        self._states: dict[str, str] = {}
        self._complained = False

    def ask(self, job_ids: Iterable[str]) -> None:
        """Ask for these jobs, if it is time to."""
        if time.monotonic() < self._next:
            return
        wanted = set(job_ids)
        try:
            found = self._query(wanted)
        except AccountingError as error:
            if not self._complained:
                self._complain(f"{error}; jobs go on, and are asked for again.")
            self._complained = True
        else:
            self._states = found
            self._complained = False
            # A node that failed may give its job back: what seems over is looked at again soon.
            over = any(is_over(found.get(job_id, "UNKNOWN")) for job_id in wanted)
            longer = min(2 * self._pause, LONGEST_PAUSE_ROUNDS * self._shortest)
            self._pause = self._shortest if over else longer
        self._next = time.monotonic() + self._pause

    def state(self, job_id: str) -> str:
        """Return what sacct said last of a job."""
        return self._states.get(job_id, "UNKNOWN")


def is_over(state: str) -> bool:
    """Whether a job in this state will not run any more."""
    return state not in PENDING_OR_RUNNING


def reason(state: str, output: str) -> str:
    """Say why a job in this state, with this end of its output, has no result."""
    if any(word in output for word in MEMORY_WORDS):
        state = "OUT_OF_MEMORY"
    return REASONS.get(state, f"it ended in state {state}")
