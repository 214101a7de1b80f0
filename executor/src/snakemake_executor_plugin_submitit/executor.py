"""The executor: submits what is ready, looks for what has ended, cancels.

Jobs that are ready together and ask for the same go in as one array; one process asks for all of them at once.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import submitit
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_submitit import results, scheduler, states, submission
from snakemake_executor_plugin_submitit.attach import Decision, decide
from snakemake_executor_plugin_submitit.frozen import frozen_config
from snakemake_executor_plugin_submitit.logs import last_lines, log_path
from snakemake_executor_plugin_submitit.notes import Note, Notebook, content_of, key_of
from snakemake_executor_plugin_submitit.parameters import ResourceError, submission_parameters
from snakemake_executor_plugin_submitit.partitions import check_fits
from snakemake_executor_plugin_submitit.payload import JobCommand
from snakemake_executor_plugin_submitit.private import NotOurs, make_folders
from snakemake_executor_plugin_submitit.settings import CLUSTERS

LAST_LINES = 20
# How long a job that is over may keep its result to itself, s: files of other nodes take a while to be seen.
LATENCY_SECONDS = 20.0
# How long a job of outdated content may take to end after it was cancelled, s.
CANCELLATION_SECONDS = 60.0
# Between two questions about jobs of an earlier run, s.
PAUSE_SECONDS = 1.0
# How long the scheduler and its accounting may be away when they are needed to go on, s.
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Ready:
    """A job that is about to be submitted."""

    job: JobExecutorInterface
    note_key: str
    content: str
    log: Path
    parameters: dict[str, Any]

    @property
    def label(self) -> str:
        """Rule and wildcards, as its log is named."""
        return f"{self.log.parent.name}/{self.log.stem}"


class Executor(RemoteExecutor):
    """Submits, asks, cancels."""

    def __post_init__(self) -> None:
        """Check the settings and the cluster before anything is submitted.

        Raises:
            WorkflowError: a setting or a cluster that would not work.
        """
        self.settings = self.workflow.executor_settings
        if self.settings.cluster not in CLUSTERS:
            raise WorkflowError(f"submitit-cluster: found '{self.settings.cluster}'; known are {', '.join(CLUSTERS)}")
        self.slurm = self.settings.cluster == "slurm"
        self.folder = Path(self.settings.folder).absolute()
        try:
            make_folders(self.folder, *(self.folder / name for name in ("jobs", "notes", "logs", "cancelled")))
        except (NotOurs, OSError) as error:
            raise WorkflowError(f"submitit-folder: {error}") from None
        self.notebook = Notebook(self.folder)
        # Of this run alone: SLURM may have begun to count its jobs anew since an earlier one.
        self.jobs_folder = self.folder / "jobs" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        # Read now: a user may edit the files while jobs wait.
        self._config = frozen_config(self.workflow)
        # Folders of jobs that this run looks after: its own, and those of jobs that it took over.
        self._folders = {self.jobs_folder}
        self._listening = False
        self._over_since: dict[str, float] = {}
        # All that was submitted and is not known to be over. Snakemake's own list is empty while they are looked after.
        self._active: dict[str, SubmittedJobInfo] = {}
        # The thread that looks after jobs runs already: what it needs is there before SLURM is asked, which takes long.
        seconds = self.workflow.remote_execution_settings.seconds_between_status_checks
        self._accounting = states.Accounting(seconds, self.logger.warning)
        if self.slurm:
            try:
                self._limits = scheduler.limits()
            except scheduler.SchedulerError as error:
                raise WorkflowError(str(error)) from None

    def run_jobs(self, jobs: list[JobExecutorInterface]) -> None:
        """Submit all that is ready: what asks for the same as one array; attach to what runs already."""
        self._listen()
        ready = []
        for job in jobs:
            self.run_job_pre(job)
            try:
                ready.append(self._prepare(job))
            except ResourceError as error:
                self._report_error(SubmittedJobInfo(job), f"{error}. ")
        alike: dict[str, list[Ready]] = {}
        for item in self._attached(ready):
            alike.setdefault(repr(sorted(item.parameters.items())), []).append(item)
        size = min(self.settings.array_size, self._limits.array_size) if self.slurm else self.settings.array_size
        for items in alike.values():
            for start in range(0, len(items), size):
                self._submit(items[start : start + size])

    def run_job(self, job: JobExecutorInterface) -> None:
        """Submit one job."""
        self.run_jobs([job])

    def _listen(self) -> None:
        """Let TERM cancel what was submitted, as Ctrl-C does; Snakemake itself would only stop submitting."""
        if not self._listening:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            self._listening = True

    def _prepare(self, job: JobExecutorInterface) -> Ready:
        rules = sorted(str(rule) for rule in job.rules)
        key = key_of(rules, [str(path) for path in job.output])
        members = list(job.jobs) if job.is_group() else [job]
        wildcards = {} if job.is_group() else dict(job.wildcards_dict)
        made_by = repr([[str(member.rule), repr(member.params)] for member in members])
        content = content_of(made_by, [str(path) for path in job.input])
        log = log_path(self.folder / "logs", job.name, wildcards, key)
        parameters = submission_parameters(job.name, dict(job.resources), _threads(job))
        if self.slurm:
            check_fits(parameters, self._limits.partitions)
        return Ready(job, key, content, log, parameters)

    def _attached(self, ready: list[Ready]) -> list[Ready]:
        """Take over jobs of an earlier Snakemake, and return those that are to be submitted."""
        noted = {item.note_key: self.notebook.read(item.note_key) for item in ready}
        known = {key: note for key, note in noted.items() if note is not None}
        if not self.slurm or not known:
            return ready
        # Without an answer nobody knows whether they still run: to submit then would be to run them twice.
        found = states.query_patiently((note.job_id for note in known.values()), PATIENCE_SECONDS, PAUSE_SECONDS)
        new, stale = [], []
        for item in ready:
            note = known.get(item.note_key)
            if note is None:
                new.append(item)
                continue
            job: Any = submitit.SlurmJob(folder=note.folder, job_id=note.job_id)
            problem = results.problem(job) if job.paths.result_pickle.exists() else None
            decision = decide(note.content == item.content, found.get(note.job_id, "NONE"), problem)
            if decision is Decision.GO_ON:
                self.logger.info(f"Going on with job {note.job_id} ({item.label}), submitted by an earlier run.")
                self._folders.add(Path(note.folder))
                self._report(replace(item, log=Path(note.log)), job)
            else:
                new.append(item)
            if decision is Decision.REPLACE:
                stale.append(note.job_id)
        scheduler.cancel(stale)
        self._wait_for_the_end(stale)
        return new

    def _wait_for_the_end(self, job_ids: list[str]) -> None:
        """Wait until cancelled jobs write nowhere any more: their successors write to the same files."""
        deadline = time.monotonic() + CANCELLATION_SECONDS
        while job_ids and time.monotonic() < deadline:
            found = states.query_patiently(job_ids, PATIENCE_SECONDS, PAUSE_SECONDS)
            job_ids = [job_id for job_id in job_ids if not states.is_over(found.get(job_id, "UNKNOWN"))]
            time.sleep(PAUSE_SECONDS if job_ids else 0.0)

    def _submit(self, items: list[Ready]) -> None:
        try:
            submission.submit(
                [self._command(item) for item in items],
                self.jobs_folder,
                items[0].parameters,
                self.settings,
                PATIENCE_SECONDS,
                lambda jobs: self._list(items, jobs),
            )
        except (submission.SubmissionError, OSError) as error:
            for item in items:
                self._report_error(SubmittedJobInfo(item.job), f"{item.label}: it was not accepted: {error}. ")

    def _list(self, items: list[Ready], jobs: list[Any]) -> None:
        """Take jobs that were submitted into the list, and note them for a later run."""
        for item, job in zip(items, jobs, strict=True):
            note = Note(item.note_key, item.content, job.job_id, str(self.jobs_folder), str(item.log))
            try:
                self.notebook.write(note)
            except OSError as error:
                self.logger.warning(
                    f"Job {job.job_id} ({item.label}) is not remembered, should this run be killed: {error}"
                )
            self._report(item, job)

    def _command(self, item: Ready) -> JobCommand:
        item.log.unlink(missing_ok=True)
        marker = self._cancelled(item.note_key)
        marker.unlink(missing_ok=True)
        # The job's CPUs, for not every cluster hides from a job those that are not its own; the last `--cores` counts.
        cores = ["--cores", str(item.parameters["cpus_per_task"])]
        return JobCommand(
            command=shlex.split(self.format_job_exec(item.job)) + cores + self._config.arguments(self.jobs_folder),
            folder=Path.cwd(),
            log=item.log,
            cancelled=marker,
            environment=self.envvars(),
            patience=max(5.0, self.settings.signal_delay - 10.0),
        )

    def _report(self, item: Ready, job: Any) -> None:
        aux = {"key": item.note_key, "log": item.log, "job": job}
        info = SubmittedJobInfo(item.job, external_jobid=job.job_id, aux=aux)
        self._active[job.job_id] = info
        self.report_job_submission(info)

    def _cancelled(self, key: str) -> Path:
        return self.folder / "cancelled" / key

    def additional_general_args(self) -> str:
        """Return what the inner Snakemake is told: it runs its job itself, and reads no profile."""
        return "--executor local --workflow-profile none"

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report what has ended, and yield what has not."""
        jobs = [_aux(info)["job"] for info in active_jobs]
        ended = results.results(job.paths.folder for job in jobs)
        if self.slurm:
            self._accounting.ask(job.job_id for job in jobs if job.paths.result_pickle not in ended)
        for info in active_jobs:
            problem = self._problem(info, ended)
            if problem is None:
                yield info
                continue
            aux = _aux(info)
            self._active.pop(aux["job"].job_id, None)
            self.notebook.forget(aux["key"])
            if problem:
                log, own = aux["log"], aux["job"].paths.stdout
                end = last_lines(log, LAST_LINES)
                message = (
                    f"Job {info.external_jobid}: {problem}. The scheduler's words are in {own}. End of {log}:\n{end}\n"
                )
                self._report_error(info, message)
            else:
                results.discard(aux["job"])
                self.report_job_success(info)

    def _report_error(self, info: SubmittedJobInfo, message: str) -> None:
        if info.job.is_group():
            self.logger.error(message)  # Snakemake shows none for groups
        self.report_job_error(info, msg=message)

    def _problem(self, info: SubmittedJobInfo, ended: set[Path]) -> str | None:
        """Return None while a job is not over, "" where it succeeded, and else what happened."""
        job = _aux(info)["job"]
        if self.settings.cluster == "debug" or job.paths.result_pickle in ended:
            return results.problem(job)
        if self.slurm:
            state = self._accounting.state(job.job_id)
            over = states.is_over(state)
        else:
            state = str(job.state)
            over = state in ("FINISHED", "INTERRUPTED")
        if not over:
            self._over_since.pop(job.job_id, None)
            return None
        # A node that failed may give its job back to the queue; a result may not be seen here yet.
        since = self._over_since.setdefault(job.job_id, time.monotonic())
        patience = min(LATENCY_SECONDS, self.workflow.execution_settings.latency_wait)
        if time.monotonic() - since < patience:
            return None
        return states.reason(state, last_lines(job.paths.stdout, LAST_LINES))

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel all jobs for good: what would put itself back in the queue is told not to first."""
        jobs = list(self._active.values())  # jobs that end meanwhile are taken off it
        for info in jobs:
            marker = self._cancelled(_aux(info)["key"])
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
            self.notebook.forget(_aux(info)["key"])
            if self.settings.cluster == "local":
                # submitit's own way to cancel kills after a second. Its id is that of the process that watches the job.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(str(info.external_jobid)), signal.SIGTERM)
        if self.slurm:
            scheduler.cancel(str(info.external_jobid) for info in jobs)

    def shutdown(self) -> None:
        """Ask for nothing any more, and leave no folder that nobody needs."""
        super().shutdown()
        for folder in self._folders:
            results.tidy(folder)


def _threads(job: JobExecutorInterface) -> int:
    return int(job.resources.get("_cores", job.threads)) if job.is_group() else int(job.threads)


def _aux(info: SubmittedJobInfo) -> dict[str, Any]:
    assert info.aux is not None
    return info.aux
