"""The executor: submits what is ready, looks for what has ended, cancels.

Jobs that are ready together and ask for the same go in as one array; one process asks for all of them at once.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.utils import encode_target_jobs_cli_args

from snakemake_executor_plugin_submitit import results, scheduler, states, submission, unnoted
from snakemake_executor_plugin_submitit.attach import Decision, Earlier, decide
from snakemake_executor_plugin_submitit.content import content_of
from snakemake_executor_plugin_submitit.earlier import EarlierJobs, submitted_job
from snakemake_executor_plugin_submitit.frozen import frozen_config
from snakemake_executor_plugin_submitit.groups import CPUS, bounded_resources, groups_of, shared_resources
from snakemake_executor_plugin_submitit.logs import last_lines, log_path
from snakemake_executor_plugin_submitit.marks import in_files, marks_of, still_made
from snakemake_executor_plugin_submitit.notes import Note, Notebook, key_of, whole_of
from snakemake_executor_plugin_submitit.parameters import ResourceError, submission_parameters
from snakemake_executor_plugin_submitit.partitions import check_fits, goes_elsewhere, grown_to_fit
from snakemake_executor_plugin_submitit.parts import Part, bring_back, set_aside, without
from snakemake_executor_plugin_submitit.payload import JobCommand
from snakemake_executor_plugin_submitit.private import NotOurs, make_folders
from snakemake_executor_plugin_submitit.ready import Member, Ready, and_more
from snakemake_executor_plugin_submitit.settings import CLUSTERS
from snakemake_executor_plugin_submitit.waiting import Waiting

LAST_LINES = 20
# How long a job that is over may keep its result to itself, s: files of other nodes take a while to be seen.
LATENCY_SECONDS = 20.0
# How long the scheduler may be away when it is needed to go on, s.
PATIENCE_SECONDS = 600.0
# Before jobs are tried again of which there were too many, s.
ROOM_SECONDS = 10.0
# How long it may be away when all jobs shall be cancelled, s: as it restarts, and somebody waits for the end.
LAST_PATIENCE_SECONDS = 180.0


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
        if self.settings.group_gpu_mem_mb < 0:
            raise WorkflowError(f"submitit-group-gpu-mem-mb: found {self.settings.group_gpu_mem_mb}; expected MB, or 0")
        self.slurm = self.settings.cluster == "slurm"
        self.folder = Path(self.settings.folder).absolute()
        try:
            make_folders(self.folder, *(self.folder / name for name in ("jobs", "notes", "logs", "cancelled")))
        except (NotOurs, OSError) as error:
            raise WorkflowError(f"submitit-folder: {error}") from None
        self.notebook = Notebook(self.folder)
        self._earlier = EarlierJobs(self.workflow, self.notebook, self._cancelled, self.logger, PATIENCE_SECONDS)
        # Read now: a user may edit the files while jobs wait.
        self._config = frozen_config(self.workflow)
        self._listening = self._looked_for_unnoted = False
        self._complained_of_room = False
        self._over_since: dict[str, float] = {}
        # Jobs that a cluster sends elsewhere than to its default partition, whose limits are not theirs.
        self._elsewhere: set[JobExecutorInterface] = set()
        # All that was submitted and is not known to be over. Snakemake's own list is empty while they are looked after.
        self._active: dict[str, SubmittedJobInfo] = {}
        # Members that are made of groups that have failed, and those whose outputs have another name for a moment.
        self._made: dict[JobExecutorInterface, list[Part]] = {}
        self._aside: dict[JobExecutorInterface, list[Part]] = {}
        # Keys of notes, and jobs whose files nobody needs any more, once Snakemake has recorded what became of a job.
        self._over: dict[JobExecutorInterface, tuple[list[str], list[Any]]] = {}
        # The thread that looks after jobs runs already: what it needs is there before SLURM is asked, which takes long.
        seconds = self.workflow.remote_execution_settings.seconds_between_status_checks
        self._accounting = states.Accounting(seconds, self.logger.warning)
        self._waiting = Waiting(self.logger.info)
        if self.slurm:
            try:
                self._limits = scheduler.limits()
            except scheduler.SchedulerError as error:
                raise WorkflowError(str(error)) from None
            if self._limits.no_accounts:
                self.logger.warning(
                    f"{self._limits.no_accounts}. While accounting (slurmdbd) does not answer the queue is asked: that "
                    "a job was killed is known by its having left, and not why."
                )
                query = scheduler.states_with_or_without_accounts
                self._accounting = states.Accounting(seconds, self.logger.warning, query)
        # Of this run alone: SLURM may have begun to count its jobs anew since an earlier one. With the place where its
        # jobs are, the cluster or this machine: elsewhere nobody could say whether they run.
        place = self._limits.cluster if self.slurm else socket.gethostname()
        self.jobs_folder = self.folder / "jobs" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}@{place}"
        # Folders of jobs that this run looks after: its own, and those of jobs that it took over.
        self._folders = {self.jobs_folder}
        self._check_groups()

    def _check_groups(self) -> None:
        """Refuse groups that would never start: one is ready late, when much has been computed. Warn of a database.

        Raises:
            WorkflowError: how many there are, and what one of them asks for.
        """
        refused = []
        groups = groups_of(self.workflow.dag)
        if groups and not in_files(self.workflow.persistence):
            self.logger.warning(
                "--persistence-backend db: which members of a group are made is not known where it fails or is put "
                "back in the queue, and all of them are made again; groups are better off with files (the default)."
            )
        for group in groups:
            try:
                self._parameters(group)
            except ResourceError as error:
                alone = all(map(self._is_accepted, group.jobs))
                refused.append(f"{error} (--group-components, --submitit-group-cpus)" if alone else str(error))
        if refused:
            raise WorkflowError(f"{len(refused)} group(s) would never start: {refused[0]}")

    def _is_accepted(self, job: JobExecutorInterface) -> bool:
        try:
            self._parameters(job)
        except ResourceError:
            return False
        return True

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
        try:
            self._look_for_unnoted()
            new = self._attached(ready)
        except scheduler.SchedulerError as error:
            raise WorkflowError(str(error)) from None
        alike: dict[str, list[Ready]] = {}
        for item in new:
            alike.setdefault(repr(sorted(item.parameters.items())), []).append(item)
        size = min(self.settings.array_size, self._limits.array_size) if self.slurm else self.settings.array_size
        for items in alike.values():
            for start in range(0, len(items), size):
                self._submit(items[start : start + size])

    def run_job(self, job: JobExecutorInterface) -> None:
        """Submit one job."""
        self.run_jobs([job])

    def _listen(self) -> None:
        """Let TERM, and a terminal that is closed, cancel what was submitted, as Ctrl-C does.

        Snakemake itself would only stop submitting at the first, and die of the second. What nohup has started goes on.
        """
        if not self._listening:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                signal.signal(signal.SIGHUP, signal.default_int_handler)
            self._listening = True

    def _look_for_unnoted(self) -> None:
        """Note what earlier runs had submitted when they were killed and had not noted yet."""
        if self.slurm and not self._looked_for_unnoted:
            unnoted.note_unnoted(self.folder, self.notebook, PATIENCE_SECONDS, self.logger.warning)
        self._looked_for_unnoted = True

    def _prepare(self, job: JobExecutorInterface) -> Ready:
        jobs: list[Any] = list(job.jobs) if job.is_group() else [job]
        made = frozenset(str(path) for one in jobs for path in one.output)
        members = tuple(Member(one, key_of(one.rule.name, map(str, one.output)), content_of(one, made)) for one in jobs)
        whole = whole_of(member.key for member in members)
        wildcards = {} if job.is_group() else dict(job.wildcards_dict)
        log = log_path(self.folder / "logs", job.name, wildcards, whole)
        return Ready(job, members, whole, log, self._parameters(job))

    def _parameters(self, job: JobExecutorInterface) -> dict[str, Any]:
        """Return what a job asks for; errors as of `submission_parameters` and `check_fits`."""
        resources = self._resources(job)
        parameters = submission_parameters(job.name, resources, resources[CPUS])
        if self.slurm:
            if job.attempt == 1 and goes_elsewhere(parameters, self._limits.partitions):
                self._elsewhere.add(job)
            if job.attempt > 1 and job not in self._elsewhere:
                parameters = grown_to_fit(parameters, self._limits.partitions)
            check_fits(parameters, self._limits.partitions)
        return parameters

    def _resources(self, job: JobExecutorInterface) -> dict[str, Any]:
        if not job.is_group():
            return dict(job.resources)
        known = self._limits.partitions if self.slurm else {}
        return bounded_resources(job, self.settings.group_cpus, known, self.settings.group_gpu_mem_mb)

    def _attached(self, ready: list[Ready]) -> list[Ready]:
        """Take over jobs of an earlier Snakemake, and return those that are to be submitted."""
        earlier = self._earlier.of(ready) if self.slurm else {}
        new: list[Ready] = []
        in_the_way: list[Note] = []
        for item, known in [(item, [earlier.get(member.key) for member in item.members]) for item in ready]:
            decision, notes = decide(known), [member.note for member in known if member is not None]
            if decision is Decision.TAKE_OVER:
                self._take_over(item, notes)
                continue
            self._leave_made(item, known)
            if decision is Decision.GO_ON:
                self._go_on(item, next(member.note for member in known if member is not None and not member.made))
            else:
                new.append(item)
            if decision is Decision.REPLACE:
                in_the_way += [member.note for member in known if member is not None and member.alive]
        left = self._earlier.end(in_the_way)
        return [item for item in new if not self._is_blocked(item, left)]

    def _leave_made(self, item: Ready, known: list[Earlier | None]) -> None:
        """Remember which members of a group an earlier run has made: the others alone are at work, or are submitted."""
        pairs = zip(item.members, known, strict=True)
        made = [self._part(member) for member, earlier in pairs if earlier is not None and earlier.made]
        if made:
            self._made[item.job] = made
            self.logger.info(f"{item.label}: {len(made)} of its {len(item.members)} members are made, and stay.")

    def _take_over(self, item: Ready, notes: list[Note]) -> None:
        jobs = {note.job_id: submitted_job(note) for note in notes}
        self.logger.info(f"Job {', '.join(jobs)}, submitted by an earlier run, has made {item.label}.")
        self._folders.update(Path(note.folder) for note in notes)
        self._over[item.job] = ([member.key for member in item.members], list(jobs.values()))
        self.report_job_success(SubmittedJobInfo(item.job))

    def _go_on(self, item: Ready, note: Note) -> None:
        self.logger.info(f"Going on with job {note.job_id} ({item.label}), submitted by an earlier run.")
        self._folders.add(Path(note.folder))
        job = submitted_job(note)
        self._waiting.take_over(note.job_id, results.restarts(job))
        self._report(replace(item, log=Path(note.log)), job)

    def _is_blocked(self, item: Ready, left: set[str]) -> bool:
        """Report a job as failed whose files another one that does not end may write to."""
        notes = [self.notebook.read(member.key) for member in item.members] if left else []
        blocking = sorted({note.job_id for note in notes if note is not None} & left)
        if blocking:
            self._report_error(
                SubmittedJobInfo(item.job),
                f"{item.label}: job {', '.join(blocking)} of an earlier run writes to the same files, was cancelled, "
                "and does not end; start again when it has. ",
            )
        return bool(blocking)

    def _submit(self, items: list[Ready]) -> None:
        """Submit jobs that ask for the same as one array; in parts where SLURM takes no more of them now."""
        size = len(items)
        while items:
            try:
                self._submit_array(items[:size])
                items = items[size:]
            except submission.NoRoomError as error:
                size = size // 2 or self._wait_for_room(len(items), str(error))

    def _wait_for_room(self, count: int, limit: str) -> int:
        if not self._complained_of_room:
            self.logger.warning(f"{limit}: {count} jobs are submitted as others of yours end.")
        self._complained_of_room = True
        time.sleep(ROOM_SECONDS)
        return count

    def _submit_array(self, items: list[Ready]) -> None:
        try:
            with unnoted.submitting(self.jobs_folder):
                submission.submit(
                    [self._command(item) for item in items],
                    self.jobs_folder,
                    items[0].parameters,
                    self.settings,
                    PATIENCE_SECONDS,
                    lambda jobs: self._list(items, jobs),
                    comment=and_more([item.label for item in items]),
                )
        except (submission.SubmissionError, OSError) as error:
            for item in items:
                self._report_error(SubmittedJobInfo(item.job), f"{item.label}: it was not accepted: {error}. ")

    def _list(self, items: list[Ready], jobs: list[Any]) -> None:
        """Take jobs that were submitted into the list, and note them for a later run."""
        for item, job in zip(items, jobs, strict=True):
            if self.slurm:
                self._note(item, job.job_id)
            members = f": {', '.join(item.names)}" if item.job.is_group() else ""
            self.logger.info(f"Submitted {item.label} as job {job.job_id}{members}.")
            self._report(item, job)

    def _note(self, item: Ready, job_id: str) -> None:
        try:
            for member in self._left(item):
                self.notebook.write(
                    Note(
                        member.key, member.content, item.whole, job_id, str(self.jobs_folder), str(item.log), item.asked
                    )
                )
        except OSError as error:
            self.logger.warning(f"Job {job_id} ({item.label}) is not remembered, should this run be killed: {error}")

    def _left(self, item: Ready) -> list[Member]:
        """Return the members of a job that are not made: notes of the others are of the jobs that have made them."""
        made = {part.key for part in self._made.get(item.job, [])}
        return [member for member in item.members if member.key not in made]

    def _command(self, item: Ready) -> JobCommand:
        item.log.unlink(missing_ok=True)
        marker = self._cancelled(item.whole)
        marker.unlink(missing_ok=True)
        # The others are no affair of this job: it neither makes them nor marks them.
        parts = [self._part(member) for member in self._left(item)]
        command = without(shlex.split(self.format_job_exec(item.job)), parts, self._made.get(item.job, []))
        keep_going = item.job.is_group() and self.workflow.execution_settings.keep_going
        return JobCommand(
            command=[
                *command,
                *(["--keep-going"] if keep_going else []),
                *self._share(item),
                *self._config.arguments(self.jobs_folder),
            ],
            folder=Path.cwd(),
            log=item.log,
            cancelled=marker,
            environment=self.envvars(),
            patience=max(5.0, self.settings.signal_delay - 10.0),
            parts=parts,
            comment=self._comment(item),
        )

    def _comment(self, item: Ready) -> str:
        """Return what a job of SLURM says of itself; "" where the user has given a comment."""
        given = "comment" in item.parameters["slurm_additional_parameters"]
        return item.label if self.slurm and not given else ""

    def _part(self, member: Member) -> Part:
        job, marks = member.job, marks_of(self.workflow.persistence, member.job.output)
        outputs, logs = (tuple(Path(str(path)).absolute() for path in paths) for paths in (job.output, job.log))
        (target,) = encode_target_jobs_cli_args(job.get_target_spec())
        return Part(member.key, member.content, target, outputs, tuple(marks), logs)

    def _share(self, item: Ready) -> list[str]:
        """Return what the inner Snakemake is told of its job's share: members of a group wait for each other's."""
        # Not every cluster hides from a job CPUs that are not its own. The last `--cores` counts.
        share = ["--cores", str(item.parameters["cpus_per_task"])]
        if not item.job.is_group():
            return share
        bounds = shared_resources(item.job, self._resources(item.job), self.settings.group_gpu_mem_mb)
        return [*share, "--resources", *(f"{name}={bound}" for name, bound in bounds.items())] if bounds else share

    def _report(self, item: Ready, job: Any) -> None:
        aux = {"item": item, "log": item.log, "job": job}
        info = SubmittedJobInfo(item.job, external_jobid=job.job_id, aux=aux)
        self._active[job.job_id] = info
        with still_made(mark for part in self._made.get(item.job, []) for mark in part.marks):
            self.report_job_submission(info)

    def _cancelled(self, whole: str) -> Path:
        return self.folder / "cancelled" / whole

    def additional_general_args(self) -> str:
        """Return what the inner Snakemake is told: it runs its job itself, and reads no profile."""
        return "--executor local --workflow-profile none"

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report what has ended, and yield what has not."""
        jobs = [_aux(info)["job"] for info in active_jobs]
        ended = results.results(job.paths.folder for job in jobs)
        if self.slurm:
            self._ask(active_jobs, ended)
        for info in active_jobs:
            try:
                problem = self._problem(info, ended)
                if problem is not None:
                    self._report_end(info, problem)
            except Exception as error:  # of one job: the others are looked after
                self._give_up(info, error)
                continue
            if problem is None:
                yield info

    def _ask(self, active_jobs: list[SubmittedJobInfo], ended: set[Path]) -> None:
        """Ask SLURM about all jobs. Where that goes wrong, what was heard last is what is known of them."""
        items = {_aux(info)["job"]: _aux(info)["item"] for info in active_jobs}
        try:
            self._accounting.ask(job.job_id for job in items if job.paths.result_pickle not in ended)
            self._waiting.look({job.job_id: item.label for job, item in items.items()})
        except Exception as error:  # whatever it is, it is the fault of none of them
            self.logger.warning(f"SLURM was not asked: {type(error).__name__}: {error}; jobs go on.")

    def _give_up(self, info: SubmittedJobInfo, error: Exception) -> None:
        """Cancel a job that cannot be looked after. Its note stays: a retry waits for its end."""
        job_id = str(info.external_jobid)
        self._active.pop(job_id, None)
        self._forbid_return([info])
        if self.slurm:
            scheduler.cancel([job_id], 0.0, self.logger.warning)
        self._report_error(
            info, f"Job {job_id}: it cannot be looked after and is cancelled: {type(error).__name__}: {error}. "
        )

    def _report_end(self, info: SubmittedJobInfo, problem: str) -> None:
        """Tell Snakemake that a job is over, and what went wrong, or ""."""
        item, job, log = (_aux(info)[name] for name in ("item", "job", "log"))
        self._active.pop(job.job_id, None)
        if self.slurm:
            self._waiting.hear(job.job_id, item.label, results.restarts(job))
        if problem and item.job.is_group():
            self._look_for_made(item)
        members = self._left(item) if problem else item.members
        self._over[info.job] = ([member.key for member in members], [] if problem else [job])
        if not problem:
            self.report_job_success(info)
            return
        end = last_lines(log, LAST_LINES)
        message = f"Job {info.external_jobid}: {problem}. The scheduler's words are in {job.paths.stdout}. "
        self._report_error(info, f"{message}End of {log}:\n{end}\n")

    def _look_for_made(self, item: Ready) -> None:
        """Remember what members have been made of a group that has failed."""
        before = self._made.get(item.job, [])
        made = [part for part in map(self._part, item.members) if part in before or part.was_made()]
        staying = item.staying(part.key for part in made)
        self._made[item.job] = made = [part for part in made if part.key in staying]
        if made:
            self.logger.info(f"{item.label}: {len(made)} of its {len(item.members)} members are made, and stay.")

    def handle_job_success(self, job: JobExecutorInterface) -> None:
        """Forget a job that Snakemake has recorded."""
        self._forget(job)

    def handle_job_error(self, job: JobExecutorInterface) -> None:
        """Forget a job that is over; what was never submitted in this run may still be, by an earlier one."""
        self._bring_back(job)
        self._forget(job)

    def _forget(self, job: JobExecutorInterface) -> None:
        keys, jobs = self._over.pop(job, ([], []))
        with self._or_warn("Notes or files of a job that is over stay"):
            for key in keys:
                self.notebook.forget(key)
            for one in jobs:
                results.discard(one)

    @contextlib.contextmanager
    def _or_warn(self, what: str) -> Iterator[None]:
        """Warn of what cannot be written, as on a disk that is full: a run goes on without."""
        try:
            yield
        except OSError as error:
            self.logger.warning(f"{what}: {error}")

    def _report_error(self, info: SubmittedJobInfo, message: str) -> None:
        if info.job.is_group():
            self.logger.error(message)  # Snakemake shows none for groups
            self._set_aside(info.job)
        self.report_job_error(info, msg=message)

    def print_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **kwargs: Any) -> None:
        """Let Snakemake say that a job failed; it counts as failed though that cannot be said."""
        try:
            super().print_job_error(job_info, msg, **kwargs)
        except Exception as error:
            self.logger.error(f"{msg or ''}({type(error).__name__}: {error})")

    def _set_aside(self, job: JobExecutorInterface) -> None:
        """Keep what members of a group have made: Snakemake now removes the outputs of all."""
        made = self._made.get(job, [])
        try:
            set_aside(made)
            self._aside[job] = made
        except OSError as error:
            self._make_again(job, error)

    def _bring_back(self, job: JobExecutorInterface) -> None:
        try:
            bring_back(self._aside.pop(job, []))
        except OSError as error:
            self._make_again(job, error)

    def _make_again(self, job: JobExecutorInterface, error: OSError) -> None:
        """Count no member of a group as made."""
        self._made.pop(job, None)
        self.logger.warning(f"{job.name}: what its members have made may be lost, and is made again: {error}")

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
        """Cancel all jobs for good: what would put itself back in the queue is told not to first.

        Notes stay: a job may take a while to end, and the next run waits for that before it submits another.
        """
        jobs = list(self._active.values())  # jobs that end meanwhile are taken off it
        self._forbid_return(jobs)
        if self.settings.cluster == "local":
            for info in jobs:
                # submitit's own way to cancel kills after a second. Its id is that of the process that watches the job.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(str(info.external_jobid)), signal.SIGTERM)
        if self.slurm:
            self._scancel([str(info.external_jobid) for info in jobs])

    def _forbid_return(self, jobs: Iterable[SubmittedJobInfo]) -> None:
        """Tell jobs not to put themselves back in the queue. On a disk that is full they are cancelled all the same."""
        errors = []
        for info in jobs:
            try:
                self._cancelled(_aux(info)["item"].whole).touch()
            except OSError as error:
                errors.append(error)
        if errors:
            self.logger.warning(f"{len(errors)} jobs may come back from the queue once they are cancelled: {errors[0]}")

    def _scancel(self, job_ids: list[str]) -> None:
        if not job_ids:
            return
        told = " ".join(scheduler.condensed(job_ids))
        self.logger.info(f"Cancelling {told}; Ctrl-C again leaves them.")
        left = [told]
        with contextlib.suppress(KeyboardInterrupt):
            left = scheduler.cancel(job_ids, LAST_PATIENCE_SECONDS, self.logger.warning)
        if left:
            self.logger.error(f"Not cancelled: {told}. Say scancel {told}; the next run does before it submits.")

    def shutdown(self) -> None:
        """Ask for nothing any more, and leave no folder that nobody needs."""
        with self._or_warn("A temporary folder stays"):
            super().shutdown()
        for job in list(self._aside):
            self._bring_back(job)
        with self._or_warn("Notes of jobs that are over stay"):
            for part in (part for made in self._made.values() for part in made):
                if not any(mark.exists() for mark in part.marks):
                    self.notebook.forget(part.key)  # no run will ask for it
        for folder in self._folders:
            with self._or_warn(f"{folder} stays"):
                results.tidy(folder)


def _aux(info: SubmittedJobInfo) -> dict[str, Any]:
    assert info.aux is not None
    return info.aux
