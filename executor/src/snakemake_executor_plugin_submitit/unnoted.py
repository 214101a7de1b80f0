"""Jobs that the scheduler took from a Snakemake that was killed before it had noted them: they are noted after all.

While a Snakemake submits, a mark lies in the folder of its jobs; it stays where sbatch was ended, or its answer lost.
One that is found there later tells that there may be such jobs. What a job is to run stands in a file that submitit
names after it once sbatch has said its id, so that

- jobs that have this file may run, and are noted from what it says,
- others look for it in vain, write nothing, and are cancelled.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import submitit

from snakemake_executor_plugin_submitit import scheduler
from snakemake_executor_plugin_submitit.notes import Note, Notebook
from snakemake_executor_plugin_submitit.private import is_own_file, is_own_folder
from snakemake_executor_plugin_submitit.submission import NoRoomError, RefusedError

MARK = "submitting"
SUBMITTED_ENDING = "_submitted.pkl"


@contextlib.contextmanager
def submitting(folder: Path) -> Iterator[None]:
    """Mark a folder of jobs until those that are submitted meanwhile are noted, or have certainly not been taken.

    Where neither is known the mark stays, whatever is submitted later.

    Raises:
        OSError: the disk is full, or the like.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    stays = mark.exists()
    mark.touch()
    try:
        yield
    except (NoRoomError, RefusedError):
        raise
    except BaseException:
        stays = True
        raise
    finally:
        if not stays:
            with contextlib.suppress(OSError):  # one that is left costs the next start a question
                mark.unlink(missing_ok=True)


def note_unnoted(folder: Path, notebook: Notebook, patience: float, complain: Callable[[str], None]) -> None:
    """Note jobs of submissions that were cut off, and cancel those that cannot run; SLURM is asked if there are marks.

    Args:
        folder: of the executor.
        notebook: where they are noted.
        patience: seconds that a scheduler that is away is waited for.
        complain: is told that it is away.

    Raises:
        SchedulerError: it was away all the time.
    """
    marks = [mark for mark in (folder / "jobs").glob(f"*/{MARK}") if is_own_folder(mark.parent)]
    scripts = scheduler.scripts(patience) if marks else {}
    for mark in marks:
        for job in _submitted_since(mark):
            _note(job, notebook)
        if scheduler.cancel(_without_a_command(mark.parent, scripts), patience, complain):
            mark.touch()  # for the next start, which then notes none of the others again
        else:
            mark.unlink()


def _submitted_since(mark: Path) -> Iterator[Any]:
    """Yield submitit's jobs that were submitted while a mark lay there, and have a command to run."""
    began = mark.stat().st_mtime_ns
    for path in mark.parent.glob(f"*{SUBMITTED_ENDING}"):
        job: Any = submitit.SlurmJob(folder=mark.parent, job_id=path.name.removesuffix(SUBMITTED_ENDING))
        # The script, which is written before sbatch takes it, is that of the array. Jobs of this machine have none.
        script = job.paths.submission_file
        if is_own_file(path) and script.exists() and script.stat().st_mtime_ns >= began:
            yield job


def _note(job: Any, notebook: Notebook) -> None:
    command = job.submission().function
    submitted_ns = job.paths.submission_file.stat().st_mtime_ns
    for part in command.parts:
        note = Note(part.key, part.content, command.cancelled.name, job.job_id, str(job.paths.folder), str(command.log))
        notebook.write(note, submitted_ns)


def _without_a_command(folder: Path, scripts: dict[str, str]) -> Iterable[str]:
    """Return jobs in the queue whose script is of a folder, and that were not told what to run."""
    return [
        job_id
        for job_id, script in scripts.items()
        if os.path.realpath(os.path.dirname(script)) == os.path.realpath(folder)
        and not (folder / f"{job_id}{SUBMITTED_ENDING}").exists()
    ]
