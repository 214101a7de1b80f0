"""What the user hears of jobs that do not run: why they wait, once it lasts, and that one was put back in the queue."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from snakemake_executor_plugin_submitit.scheduler import fields_of_queue

# Before the first look, and between two, s.
PAUSE_SECONDS = 120.0
# Before the same is said again, s.
REPEAT_SECONDS = 3600.0
FIELDS = ("JobArrayID", "State", "Reason", "RestartCnt")
# SLURM's words for jobs that wait for nothing but their turn.
IN_WORDS = {
    "Resources": "until nodes are free",
    "Priority": "behind jobs of a higher priority",
    "None": "not looked at yet",
    "Dependency": "for another job",
    "BeginTime": "until the time that they may begin at",
    "JobHeldUser": "held by you (scontrol release)",
    "JobHeldAdmin": "held by the administrators",
    "ReqNodeNotAvail": "for nodes that are reserved or down",
}


@dataclass(frozen=True)
class Queued:
    """A job in the queue."""

    state: str
    reason: str
    restarts: int


class Waiting:
    """Looks into the queue now and then, and says what has become different."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet.

        Args:
            tell: takes a line.
            clock: gives seconds.
        """
        self._tell, self._clock = tell, clock
        self._next = clock() + PAUSE_SECONDS
        self._said: tuple[frozenset[str], float] = (frozenset(), 0.0)
        self._restarts: dict[str, int] = {}
        self._taken_over: set[str] = set()

    def take_over(self, job_id: str, restarts: int) -> None:
        """Say nothing of what became of a job before this run.

        Args:
            job_id: of SLURM.
            restarts: how often it was put back in the queue, as far as it has said so itself.
        """
        self._taken_over.add(job_id)
        self._restarts[job_id] = restarts

    def hear(self, job_id: str, label: str, restarts: int) -> None:
        """Say that a job was put back in the queue, if that has not been said: no look may have seen it.

        Args:
            job_id: of SLURM.
            label: rule and wildcards.
            restarts: how often it was.
        """
        if restarts > self._restarts.get(job_id, 0):
            self._restarts[job_id] = restarts
            self._tell(f"Job {job_id} ({label}) was put back in the queue (restart {restarts}).")

    def look(self, labels: Mapping[str, str]) -> None:
        """Say, if it is time to, why jobs wait and which were put back in the queue.

        Args:
            labels: of all jobs that are not over, by id.
        """
        if self._clock() < self._next:
            return
        self._next = self._clock() + PAUSE_SECONDS
        found = {job_id: queued for job_id, queued in in_queue().items() if job_id in labels}
        for job_id, queued in found.items():
            if job_id in self._taken_over:
                self._taken_over.remove(job_id)
                self._restarts[job_id] = queued.restarts
            self.hear(job_id, labels[job_id], queued.restarts)
        self._say_why(queued.reason for queued in found.values() if queued.state == "PENDING")

    def _say_why(self, reasons: Iterable[str]) -> None:
        counts = Counter(reasons)
        said, at = self._said
        if not counts or (counts.keys() == said and self._clock() - at < REPEAT_SECONDS):
            return
        self._said = frozenset(counts), self._clock()
        self._tell(f"Jobs that wait: {', '.join(_in_words(*found) for found in counts.most_common())}.")


def _in_words(reason: str, count: int) -> str:
    return f"{count} {IN_WORDS[reason]} ({reason})" if reason in IN_WORDS else f"{count} ({reason})"


def in_queue() -> dict[str, Queued]:
    """Return the jobs of this user in the queue, tasks of arrays one by one; none where SLURM does not answer."""
    rows = (row for row in fields_of_queue(FIELDS) if row[3].isdigit())
    # "ReqNodeNotAvail, UnavailableNodes:n[1-9]": which nodes they are changes all the time.
    return {job_id: Queued(state, reason.split(",")[0], int(restarts)) for job_id, state, reason, restarts in rows}
