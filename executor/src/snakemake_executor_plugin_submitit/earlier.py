"""Jobs of earlier runs of Snakemake: what has become of them, as notes, SLURM and results say; and ending them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit
from snakemake_interface_executor_plugins.logging import LoggerExecutorInterface

from snakemake_executor_plugin_submitit import results, scheduler
from snakemake_executor_plugin_submitit.attach import Earlier
from snakemake_executor_plugin_submitit.marks import made_until, marks_of
from snakemake_executor_plugin_submitit.notes import Note, Notebook
from snakemake_executor_plugin_submitit.ready import Member, Ready

# How long a job may take to end after it was cancelled, s.
CANCELLATION_SECONDS = 180.0
# Between two looks at whether it has, s.
PAUSE_SECONDS = 1.0


def submitted_job(note: Note) -> Any:
    """Return submitit's job that a note tells of."""
    return submitit.SlurmJob(folder=note.folder, job_id=note.job_id)


class EarlierJobs:
    """Those that notes tell of: no Snakemake has recorded what became of them."""

    def __init__(
        self,
        workflow: Any,
        notebook: Notebook,
        cancelled: Callable[[str], Path],
        logger: LoggerExecutorInterface,
        patience: float,
    ) -> None:
        """Look at nothing yet.

        Args:
            workflow: Snakemake's.
            notebook: where jobs are noted.
            cancelled: by the name of a job's members as a whole, the file that says that it must not come back.
            logger: Snakemake's.
            patience: seconds that a scheduler that is away is waited for.
        """
        self._workflow, self._notebook, self._cancelled = workflow, notebook, cancelled
        self._logger, self._patience = logger, patience

    def of(self, ready: Iterable[Ready]) -> dict[str, Earlier]:
        """Return what has become of members that an earlier run has submitted, by their keys."""
        noted = [(item, member, self._notebook.read(member.key)) for item in ready for member in item.members]
        if not any(note for _, _, note in noted):
            return {}
        # Without an answer nobody knows whether they still run: to submit then would be to run them twice.
        queue = scheduler.queue(self._patience)
        known = {
            member.key: self._known(item, member, note, queue.get(note.job_id))
            for item, member, note in noted
            if note is not None
        }
        for item in ready:
            made = {member.key for member in item.members if member.key in known and known[member.key].made}
            known |= {key: replace(known[key], made=False) for key in made - item.staying(made)}
        return known

    def _known(self, item: Ready, member: Member, note: Note, state: str | None) -> Earlier:
        job = submitted_job(note)
        problem = results.problem(job) if job.paths.result_pickle.exists() else None
        same = note.content == member.content and not self._is_forced(member.job)
        # It has asked for something else, and has not begun: a log is written from the first moment.
        outdated = bool(note.asked and item.asked) and note.asked != item.asked
        waits_in_vain = outdated and state == "PENDING" and not Path(note.log).exists()
        made = same and self._is_made(member, job.paths.result_pickle if problem == "" else None)
        # It has made this member, and does not again, though its outputs are gone or were edited.
        is_past = not made and made_until(marks_of(self._workflow.persistence, member.job.output)) is not None
        fits = same and note.whole == item.whole and problem is None and state != "COMPLETING"
        return Earlier(
            note,
            alive=state is not None,
            fits=fits and not waits_in_vain and not is_past and not self._cancelled(note.whole).exists(),
            made=made,
        )

    def _is_forced(self, job: Any) -> bool:
        """Whether the user has said that this job is to be run, whatever has been made."""
        settings = self._workflow.dag_settings
        files = set(settings.forcerun) | (set(self._workflow.dag.targetfiles) if settings.forcetargets else set())
        return job.rule in self._workflow.dag.forcerules or not files.isdisjoint(job.output)

    def _is_made(self, member: Member, result: Path | None) -> bool:
        """Whether all outputs are there, as their job has left them, and recorded by no Snakemake.

        Args:
            member: one that was submitted.
            result: of its job, if that has ended well. Of a group that has not, marks tell which members have.
        """
        outputs = list(member.job.output)
        incomplete = self._workflow.async_run(self._workflow.persistence.incomplete(member.job))
        if not outputs or len(incomplete) != len(outputs):
            return False
        last = result.stat().st_mtime if result else made_until(marks_of(self._workflow.persistence, outputs))
        return last is not None and self._notebook.precedes(member.key, outputs, last)

    def end(self, notes: list[Note]) -> set[str]:
        """Cancel jobs of an earlier run for good, and wait until they write nowhere; return those that still may."""
        job_ids = {note.job_id for note in notes}
        if not job_ids:
            return set()
        self._logger.info(
            f"Cancelling what an earlier run has submitted otherwise: {' '.join(scheduler.condensed(job_ids))}"
        )
        for note in notes:
            self._cancelled(note.whole).touch()
        scheduler.cancel(job_ids, self._patience, self._logger.warning)
        deadline = time.monotonic() + CANCELLATION_SECONDS
        while (left := job_ids & scheduler.queue(self._patience).keys()) and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
        return left
