"""Snakemake executor that submits through submitit: to SLURM, to processes of this machine, or inline for debugging.

Jobs that are ready together and ask for the same go in as one array; one process asks for all of them at once.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import submitit
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from snakemake_executor_plugin_submitit import states
from snakemake_executor_plugin_submitit.logs import last_lines, log_path
from snakemake_executor_plugin_submitit.notes import Note, Notebook, content_of, key_of
from snakemake_executor_plugin_submitit.parameters import ResourceError, submission_parameters
from snakemake_executor_plugin_submitit.partitions import Partition, check_fits, partitions
from snakemake_executor_plugin_submitit.payload import JobCommand

CLUSTERS = ("slurm", "local", "debug")
LAST_LINES = 20
# How long a job that is over may keep its result to itself, s: files of other nodes take a while to be seen.
LATENCY_SECONDS = 20.0
# How long a job of outdated content may take to end after it was cancelled, s.
CANCELLATION_SECONDS = 60.0
# Between two questions about jobs of an earlier run, s, and how long sacct may fail to answer them.
PAUSE_SECONDS = 1.0
ACCOUNTING_PATIENCE_SECONDS = 600.0


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """What can be set of the executor."""

    cluster: str = field(
        default="slurm", metadata={"help": "Where to submit: slurm, local (processes here) or debug (inline)."}
    )
    array_size: int = field(default=500, metadata={"help": "Most jobs of one array.", "type": int})
    requeues: int = field(
        default=10, metadata={"help": "How often a job may reach its time limit and be put back.", "type": int}
    )
    signal_delay: int = field(
        default=90,
        metadata={"help": "Seconds before its time limit that a job is told to save its state.", "type": int},
    )
    folder: Path = field(
        default=Path(".snakemake/submitit"),
        metadata={"help": "On a file system that nodes share: job files, notes and logs.", "type": Path},
    )


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    # Handed to the job as they are: no shell reads them.
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=2,
)


@dataclass(frozen=True)
class Ready:
    """A job that is about to be submitted."""

    job: JobExecutorInterface
    note_key: str
    content: str
    log: Path
    parameters: dict[str, Any]


class Executor(RemoteExecutor):
    """Submits, asks, cancels."""

    def __post_init__(self) -> None:
        """Check the settings and the cluster before anything is submitted.

        Raises:
            WorkflowError: a setting or a cluster that would not work.
        """
        settings = self.workflow.executor_settings
        self.cluster = settings.cluster
        if self.cluster not in CLUSTERS:
            raise WorkflowError(f"submitit-cluster: found '{self.cluster}'; known are {', '.join(CLUSTERS)}")
        self.folder = Path(settings.folder).absolute()
        self.notebook = Notebook(self.folder / "notes")
        # Of this run alone: SLURM may have begun to count its jobs anew since an earlier one.
        self.jobs_folder = self.folder / "jobs" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        self._states: dict[str, str] = {}
        self._over_since: dict[str, float] = {}
        self._complained = False
        self._listening = False
        self._partitions = _check_slurm() if self.cluster == "slurm" else {}

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
        size = self.workflow.executor_settings.array_size
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
        if self.cluster == "slurm":
            check_fits(parameters, self._partitions)
        return Ready(job, key, content, log, parameters)

    def _attached(self, ready: list[Ready]) -> list[Ready]:
        """Take over jobs of an earlier Snakemake, and return those that are to be submitted."""
        noted = {item.note_key: self.notebook.read(item.note_key) for item in ready}
        known = {key: note for key, note in noted.items() if note is not None}
        if self.cluster != "slurm" or not known:
            return ready
        # Without an answer nobody knows whether they still run: to submit then would be to run them twice.
        found = states.query_patiently(
            (note.job_id for note in known.values()), ACCOUNTING_PATIENCE_SECONDS, PAUSE_SECONDS
        )
        new, stale = [], []
        for item in ready:
            note = known.get(item.note_key)
            if note is None:
                new.append(item)
                continue
            job: Any = submitit.SlurmJob(folder=note.folder, job_id=note.job_id)
            alive = not states.is_over(found.get(note.job_id, "NONE")) and not job.paths.result_pickle.exists()
            if note.content == item.content and (alive or _succeeded(job)):
                self.logger.info(f"Going on with job {note.job_id} ({item.job.name}), submitted by an earlier run.")
                self._report(replace(item, log=Path(note.log)), job)
            else:
                new.append(item)
                stale += [note.job_id] if alive else []
        self._end(stale)
        self._wait_for_the_end(stale)
        return new

    def _wait_for_the_end(self, job_ids: list[str]) -> None:
        """Wait until cancelled jobs write nowhere any more: their successors write to the same files."""
        deadline = time.monotonic() + CANCELLATION_SECONDS
        while job_ids and time.monotonic() < deadline:
            found = states.query_patiently(job_ids, ACCOUNTING_PATIENCE_SECONDS, PAUSE_SECONDS)
            job_ids = [job_id for job_id in job_ids if not states.is_over(found.get(job_id, "UNKNOWN"))]
            time.sleep(PAUSE_SECONDS if job_ids else 0.0)

    def _submit(self, items: list[Ready]) -> None:
        executor = submitit.AutoExecutor(
            folder=self.jobs_folder,
            cluster=self.cluster,
            slurm_max_num_timeout=self.workflow.executor_settings.requeues,
        )
        parameters = items[0].parameters
        if self.cluster == "slurm":
            parameters = parameters | {
                "slurm_signal_delay_s": self.workflow.executor_settings.signal_delay,
                "slurm_array_parallelism": self.workflow.executor_settings.array_size,
                # Since 22.05 a job step does not take this over from its job.
                "slurm_srun_args": ["--cpus-per-task", str(parameters["cpus_per_task"])],
            }
        else:
            keys = ("name", "timeout_min", "stderr_to_stdout")
            parameters = {key: parameters[key] for key in keys if key in parameters}
        executor.update_parameters(**parameters)
        try:
            with executor.batch():
                jobs = [executor.submit(self._command(item)) for item in items]
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            for item in items:
                self._report_error(SubmittedJobInfo(item.job), f"{item.job.name}: it was not accepted: {error}. ")
            return
        for item, job in zip(items, jobs, strict=True):
            self.notebook.write(Note(item.note_key, item.content, job.job_id, str(self.jobs_folder), str(item.log)))
            self._report(item, job)

    def _command(self, item: Ready) -> JobCommand:
        item.log.unlink(missing_ok=True)
        marker = self._cancelled(item.note_key)
        marker.unlink(missing_ok=True)
        return JobCommand(
            command=shlex.split(self.format_job_exec(item.job)),
            folder=Path.cwd(),
            log=item.log,
            cancelled=marker,
            environment=self.envvars(),
            patience=max(5.0, self.workflow.executor_settings.signal_delay - 10.0),
        )

    def _report(self, item: Ready, job: Any) -> None:
        aux = {"key": item.note_key, "log": item.log, "job": job}
        self.report_job_submission(SubmittedJobInfo(item.job, external_jobid=job.job_id, aux=aux))

    def _cancelled(self, key: str) -> Path:
        return self.folder / "cancelled" / key

    @property
    def cores(self) -> str:
        """Return what the inner Snakemake may use: what the scheduler gave."""
        return "all"

    def additional_general_args(self) -> str:
        """Return what the inner Snakemake is told: it runs its job itself, and reads no profile."""
        return "--executor local --workflow-profile none"

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report what has ended, and yield what has not."""
        if self.cluster == "slurm" and active_jobs:
            self._ask(active_jobs)
        for info in active_jobs:
            problem = self._problem(info)
            if problem is None:
                yield info
                continue
            assert info.aux is not None
            self.notebook.forget(info.aux["key"])
            if problem:
                log, own = info.aux["log"], info.aux["job"].paths.stdout
                end = last_lines(log, LAST_LINES)
                message = (
                    f"Job {info.external_jobid}: {problem}. The scheduler's words are in {own}. End of {log}:\n{end}\n"
                )
                self._report_error(info, message)
            else:
                self.report_job_success(info)

    def _report_error(self, info: SubmittedJobInfo, message: str) -> None:
        if info.job.is_group():
            self.logger.error(message)  # Snakemake shows none for groups
        self.report_job_error(info, msg=message)

    def _ask(self, active_jobs: list[SubmittedJobInfo]) -> None:
        waiting = [
            str(info.external_jobid)
            for info in active_jobs
            if info.aux and not info.aux["job"].paths.result_pickle.exists()
        ]
        try:
            self._states |= states.query(waiting)
            self._complained = False
        except states.AccountingError as error:
            if not self._complained:
                self.logger.warning(f"{error}; jobs go on, and are asked for again.")
                self._complained = True

    def _problem(self, info: SubmittedJobInfo) -> str | None:
        """Return None while a job is not over, "" where it succeeded, and else what happened."""
        assert info.aux is not None
        job = info.aux["job"]
        if self.cluster == "debug":
            job.done()
        if job.paths.result_pickle.exists() or self.cluster == "debug":
            kind, value = _result(job)
            if kind == "success":
                return "" if value == 0 else f"its command ended with exit code {value}"
            return str(value).strip().splitlines()[-1]
        job_id = str(info.external_jobid)
        state = self._states.get(job_id, "UNKNOWN") if self.cluster == "slurm" else str(job.state)
        over = states.is_over(state) if self.cluster == "slurm" else state in ("FINISHED", "INTERRUPTED")
        if not over:
            self._over_since.pop(job_id, None)
            return None
        # A node that failed may give its job back to the queue; a result may not be seen here yet.
        since = self._over_since.setdefault(job_id, time.monotonic())
        patience = min(LATENCY_SECONDS, self.workflow.execution_settings.latency_wait)
        if time.monotonic() - since < patience:
            return None
        return states.reason(state, last_lines(job.paths.stdout, LAST_LINES))

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel jobs for good: what would put itself back in the queue is told not to first."""
        for info in active_jobs:
            if info.aux is not None:
                marker = self._cancelled(info.aux["key"])
                marker.parent.mkdir(parents=True, exist_ok=True)
                marker.touch()
                self.notebook.forget(info.aux["key"])
                if self.cluster == "local":
                    info.aux["job"].cancel(check=False)
        if self.cluster == "slurm":
            self._end([str(info.external_jobid) for info in active_jobs])

    def _end(self, job_ids: list[str]) -> None:
        if job_ids:
            subprocess.run(["scancel", *job_ids], check=False, capture_output=True)


def _threads(job: JobExecutorInterface) -> int:
    return int(job.resources.get("_cores", job.threads)) if job.is_group() else int(job.threads)


def _result(job: Any) -> tuple[str, Any]:
    """Return what submitit kept of a job that is over: success and exit code, or error and traceback."""
    try:
        return ("success", job.result())
    except submitit.core.utils.UncompletedJobError as error:
        return ("error", error)


def _succeeded(job: Any) -> bool:
    return job.paths.result_pickle.exists() and _result(job) == ("success", 0)


def _check_slurm() -> dict[str, Partition]:
    """Return the partitions of a cluster that can be worked with."""
    try:
        found = partitions()
    except (OSError, subprocess.CalledProcessError):
        raise WorkflowError("there is no SLURM here (sinfo does not run); say --submitit-cluster local") from None
    try:
        states.query([str(sys.maxsize % 2**31 - 1)])
    except states.AccountingError as error:
        raise WorkflowError(
            f"{error}. Without accounting nobody learns that a job was killed; ask for slurmdbd, or say "
            "--submitit-cluster local"
        ) from None
    return found
