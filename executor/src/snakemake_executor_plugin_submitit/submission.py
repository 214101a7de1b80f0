"""Giving jobs to submitit: alike ones as one array, again where the scheduler could not be reached."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from snakemake_executor_plugin_submitit.payload import JobCommand
from snakemake_executor_plugin_submitit.settings import ExecutorSettings

PAUSE_SECONDS = 5.0
# sbatch's words where nothing has reached the scheduler: to say it again can then submit nothing twice.
UNREACHED = "Unable to contact slurm controller"


class SubmissionError(RuntimeError):
    """The scheduler did not take a job; the text has its words."""


def submitit_parameters(parameters: Mapping[str, Any], settings: ExecutorSettings, array_size: int) -> dict[str, Any]:
    """Return what submitit's AutoExecutor is told, for the kind of cluster that is set."""
    if settings.cluster != "slurm":
        keys = ("name", "timeout_min", "stderr_to_stdout")
        return {key: parameters[key] for key in keys if key in parameters}
    return dict(parameters) | {
        "slurm_signal_delay_s": settings.signal_delay,
        "slurm_array_parallelism": array_size,
        # Since 22.05 a job step does not take this over from its job.
        "slurm_srun_args": ["--cpus-per-task", str(parameters["cpus_per_task"])],
    }


def submit(
    commands: Sequence[JobCommand],
    folder: Path,
    parameters: Mapping[str, Any],
    settings: ExecutorSettings,
    patience: float,
    submitted: Callable[[list[Any]], None],
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

    Raises:
        SubmissionError: the jobs were not accepted.
    """
    told = submitit_parameters(parameters, settings, len(commands))
    deadline = time.monotonic() + patience
    while True:
        executor = submitit.AutoExecutor(
            folder=folder, cluster=settings.cluster, slurm_max_num_timeout=settings.requeues
        )
        executor.update_parameters(**told)
        try:
            with _signals_put_off():
                with executor.batch():
                    jobs = [executor.submit(command) for command in commands]
                submitted(jobs)
            return
        except (FailedJobError, FailedSubmissionError) as error:
            if UNREACHED not in str(error) or time.monotonic() > deadline:
                raise SubmissionError(str(error)) from None
        time.sleep(PAUSE_SECONDS)


@contextlib.contextmanager
def _signals_put_off() -> Iterator[None]:
    """Handle INT and TERM at the end."""
    heard: list[int] = []
    handlers: dict[int, Any] = {
        number: signal.signal(number, lambda number, frame: heard.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in heard:
            if callable(handlers[number]):
                handlers[number](number, None)
