"""What earlier runs have left in the executor's folder that no job and no Snakemake will look at any more."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_plugin_submitit import results, scheduler
from snakemake_executor_plugin_submitit.earlier import submitted_job
from snakemake_executor_plugin_submitit.notes import Note, Notebook

# Of a job's files: those of a task of an array begin with that of the array.
JOB_NUMBER = re.compile(r"(\d+)_")
# Of what the folder of a run holds, only jobs of SLURM have one.
SCRIPT = "*.sh"


@dataclass(frozen=True)
class Leftovers:
    """What lies in the executor's folder and why it does."""

    files: list[Path] = field(default_factory=list)
    """Files and folders that may go."""
    jobs: list[str] = field(default_factory=list)
    """Jobs that wait or run, whose files stay."""
    known: set[str] = field(default_factory=set)
    """All jobs with files here, whether they are over or not."""


def leftovers(folder: Path) -> Leftovers:
    """Look for them; the caller knows that no Snakemake runs here.

    What a job that waits or runs needs stays, and the result of one that ended well with the note of it: the next
    Snakemake takes it over.

    Args:
        folder: of the executor.

    Raises:
        SchedulerError: SLURM has had jobs of this folder, and cannot be asked; or another cluster or machine has.
    """
    folder = folder.absolute()
    runs = _entries(folder / "jobs")
    numbers = {run: {found[1] for path in _entries(run) if (found := JOB_NUMBER.match(path.name))} for run in runs}
    alive = _alive(numbers, any(_entries(folder / "notes")))
    at_all = set().union(*alive.values())
    book = Notebook(folder)
    noted = {path: book.read(path.stem) for path in _entries(folder / "notes")}
    kept = [note for note in noted.values() if note is not None and _matters(note, at_all)]
    needed = {note.folder for note in kept}
    files = [run for run in runs if not alive[run] and str(run) not in needed]
    files += [path for path, note in noted.items() if note not in kept]
    # Not each job has a note by which its log and its mark would be known.
    if not at_all:
        logs = {Path(note.log) for note in kept}
        files += [path for path in _files(folder / "logs") if path not in logs]
        files += _entries(folder / "cancelled")
    return Leftovers(files, sorted(at_all), set().union(*numbers.values()))


def _alive(numbers: Mapping[Path, set[str]], noted: bool) -> dict[Path, set[str]]:
    """Return by folder of a run those of its jobs that wait or run: of SLURM, or processes of this machine.

    Args:
        numbers: of all of them.
        noted: whether there are notes, which are of jobs of SLURM alone.
    """
    of_slurm = {run for run in numbers if next(run.glob(SCRIPT), None)}
    here, queued = socket.gethostname(), set()
    if of_slurm or noted:
        if shutil.which("squeue") is None:
            raise scheduler.SchedulerError(
                "there is no squeue here to ask whether jobs still run; go to where there is"
            )
        queued = {job_id.split("_")[0] for job_id in scheduler.queue(0.0)}
    cluster = scheduler.cluster_name() if of_slurm else ""
    for run in numbers:
        place, found = run.name.partition("@")[2], cluster if run in of_slurm else here
        if place and found and place != found:
            raise scheduler.SchedulerError(f"{run.name}: its jobs are of {place}, and this is {found}; go there")
    return {
        run: own & queued if run in of_slurm else {job for job in own if Path("/proc", job).exists()}
        for run, own in numbers.items()
    }


def _matters(note: Note, alive: set[str]) -> bool:
    """Whether the next Snakemake goes on with a job, or takes over what it made."""
    job = submitted_job(note)
    made = job.paths.result_pickle.exists() and results.problem(job) == ""
    return made or note.job_id.split("_")[0] in alive


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder; links are not followed."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in sorted(names))
