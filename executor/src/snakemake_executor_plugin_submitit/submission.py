"""Giving jobs to submitit: alike ones as one array, again where the scheduler could not be reached."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from snakemake_executor_plugin_submitit.payload import JobCommand
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.signals import put_off

PAUSE_SECONDS = 5.0
# sbatch's words where nothing has reached the scheduler: to say it again can then submit nothing twice.
UNREACHED = "Unable to contact slurm controller"
# What it says where the scheduler has answered; with one of the words below it may have taken the jobs all the same.
REFUSED = "Batch job submission failed: "
ANSWER_LOST = re.compile(
    "timed out|zero bytes|message|receive|communication|connection|transport|socket|pipe|standby|protocol|unspecified",
    re.IGNORECASE,
)
# What sbatch says where a user, an account or a QOS has as many jobs as it may have.
NO_ROOM = re.compile(r"(QOS|Assoc)(Max|Grp)Submit\w*Limit")
# What SLURM_ variables of a user's own say, and those of a job do not.
NOT_OF_A_JOB = {"SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_TIME_FORMAT"}


class SubmissionError(RuntimeError):
    """The scheduler did not take a job; the text has its words."""


class RefusedError(SubmissionError):
    """The scheduler has certainly not taken it; of other errors it may be that its answer alone was lost."""


class NoRoomError(RuntimeError):
    """The scheduler takes so many jobs only once others have ended; the text is the name of the limit."""


def submitit_parameters(parameters: Mapping[str, Any], settings: ExecutorSettings, array_size: int) -> dict[str, Any]:
    """Return what submitit's AutoExecutor is told, for the kind of cluster that is set."""
    if settings.cluster != "slurm":
        keys = ("name", "timeout_min", "stderr_to_stdout")
        return {key: parameters[key] for key in keys if key in parameters}
    told = dict(parameters) | {
        "slurm_signal_delay_s": settings.signal_delay,
        "slurm_array_parallelism": array_size,
    }
    if _several_tasks(parameters):
        return told | _for_several_tasks(told, settings)
    # Since 22.05 a job step does not take this over from its job.
    return told | {"slurm_srun_args": ["--cpus-per-task", str(parameters["cpus_per_task"])]}


def _several_tasks(parameters: Mapping[str, Any]) -> bool:
    return bool(parameters["nodes"] * parameters["tasks_per_node"] > 1)


def _for_several_tasks(told: Mapping[str, Any], settings: ExecutorSettings) -> dict[str, Any]:
    """Return what lets Snakemake run once, outside of any job step: its rule starts the tasks, by mpirun or srun."""
    additional = {
        "nodes": told["nodes"],
        "ntasks_per_node": told["tasks_per_node"],
        # To the batch script itself, which has become the one process that submitit knows of.
        "signal": f"B:USR2@{settings.signal_delay}",
    }
    return {
        "nodes": 1,
        "tasks_per_node": 1,
        "slurm_use_srun": False,
        "slurm_additional_parameters": dict(told["slurm_additional_parameters"]) | additional,
    }


def submit(
    commands: Sequence[JobCommand],
    folder: Path,
    parameters: Mapping[str, Any],
    settings: ExecutorSettings,
    patience: float,
    submitted: Callable[[list[Any]], None],
    comment: str = "",
) -> None:
    """Submit commands that ask for the same, as one array.

    Args:
        commands: what to run.
        folder: for submitit's files.
        parameters: as `parameters.submission_parameters` gives them.
        settings: of the executor.
        patience: seconds for which an unreachable scheduler is tried again.
        submitted: takes submitit's jobs, in the order of the commands. No signal comes between sbatch and its end:
            a job that runs and is on no list would escape being cancelled.
        comment: by which a user tells the jobs apart, until each says its own; one of `slurm_extra` goes before.

    Raises:
        SubmissionError: the jobs were not accepted; a RefusedError where this is certain.
        NoRoomError: so many may not be submitted now.
    """
    told = submitit_parameters(parameters, settings, len(commands))
    if comment and settings.cluster == "slurm":
        told["slurm_comment"] = comment
    deadline = time.monotonic() + patience
    while True:
        executor = submitit.AutoExecutor(
            folder=folder,
            cluster=settings.cluster,
            slurm_max_num_timeout=settings.requeues,
            # In place of the shell, where no job step is: signals of SLURM go to that process.
            slurm_python=f"exec {shlex.quote(sys.executable)}" if _several_tasks(parameters) else None,
        )
        executor.update_parameters(**told)
        # Processes of this machine are of the job that this one runs in; other jobs are not.
        outside = _outside_of_a_job() if settings.cluster == "slurm" else contextlib.nullcontext()
        try:
            with put_off(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                with outside, executor.batch():
                    jobs = [executor.submit(command) for command in commands]
                submitted(jobs)
            return
        except (FailedJobError, FailedSubmissionError) as error:
            if limit := NO_ROOM.search(str(error)):
                raise NoRoomError(limit[0]) from None
            if UNREACHED not in str(error) or time.monotonic() > deadline:
                raise (RefusedError if _is_refusal(str(error)) else SubmissionError)(str(error)) from None
        time.sleep(PAUSE_SECONDS)


def _is_refusal(words: str) -> bool:
    return (UNREACHED in words or REFUSED in words) and not ANSWER_LOST.search(words)


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Hide the job that this process may run in: its memory, GPUs, array would be those of what is submitted."""
    own = {name: os.environ[name] for name in os.environ if name.startswith("SLURM_")}
    for name in own.keys() - NOT_OF_A_JOB:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(own)
