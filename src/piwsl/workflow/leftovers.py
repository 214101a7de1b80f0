"""What runs that were killed, and configs that were edited, have left on the disk; finding it, and taking it away.

Energies in the store are never among it, nor what a job needs that waits or runs.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from piwsl.catalogue import DOWNLOADS
from piwsl.errors import PiwslError
from piwsl.holding import LOCK
from piwsl.workflow.graph import every_job
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.layout import Layout
from piwsl.workflow.presence import check_unlocked
from piwsl.workflow.snakemake_notes import FOLDER, marks
from piwsl.workflow.submission import SUBMIT, check_over, queued

# As `files.write_atomically` names what it has not finished.
HALF_WRITTEN = re.compile(r"\..+-[0-9a-f]{16}(\.[^.]+)?")
# Nobody holds a lock on those. What a process still writes to has changed since, s.
IDLE_SECONDS = 3600.0
PARTIAL_DOWNLOAD = re.compile(r"\..+\.part(\.json)?")
HALF_UNPACKED = re.compile(rf"{HALF_WRITTEN.pattern}|\..+\.unpacked")
SIZE, SEED = re.compile(r"n[0-9]+"), re.compile(r"seed[0-9]+")
SET_ASIDE = re.compile(r"checkpoints-superseded-[0-9]+")
# Paths of a kind; of runs, which took long to make, all.
MOST_NAMED = 10


class Kind(StrEnum):
    """What is left."""

    EXECUTOR = "files of the executor: jobs, notes and logs"
    SUBMIT = "logs of piwsl submit"
    HALF_WRITTEN = "half-written files"
    DOWNLOAD = "partial downloads"
    CHECKPOINTS = "checkpoints of other configs or data, set aside"
    RUN = "runs that the config does not name"


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nobody needs."""

    kind: Kind
    path: Path
    size: int
    """Bytes, of all files in it."""


@dataclass(frozen=True)
class Found:
    """What is left, and which jobs keep the rest."""

    leftovers: list[Leftover]
    jobs: list[str]
    """Of SLURM or of this machine, that wait or run."""
    unknown: list[str]
    """That Snakemake has not seen end, and of which nothing can be learnt here."""


def find(jobs: Jobs, executor: Path, folder: Path = FOLDER) -> Found:
    """Look for what is left in a working directory, where `presence.alone` keeps Snakemakes from starting.

    Args:
        jobs: of the experiment whose results are looked at.
        executor: the folder of the executor.
        folder: Snakemake's own.

    Raises:
        PiwslError: a Snakemake that was submitted waits or runs here, or SLURM cannot be asked for jobs.
    """
    check_over(folder)
    of_executor, alive, known = _of_executor(executor)
    others, unknown = _other_jobs(known, folder)
    alive = sorted({*alive, *others})
    found = [(Kind.EXECUTOR, path) for path in of_executor]
    found += [(Kind.SUBMIT, path) for path in sorted((folder / SUBMIT).glob("*.log"))]
    if not alive and not unknown:
        found += _of_experiment(jobs)
    found += _of_downloads()
    return Found([Leftover(kind, path, _size(path)) for kind, path in found], alive, unknown)


def lines(found: Found, asked: Iterable[Leftover]) -> Iterator[str]:
    """Yield what is to be said: kind by kind how much it is, and where.

    Args:
        found: all of it.
        asked: what may be taken away; of the rest it is said that it stays.
    """
    removed = set(asked)
    for kind in Kind:
        if own := [each for each in found.leftovers if each.kind == kind]:
            stays = "" if own[0] in removed else "; they stay without --runs"
            yield f"{kind.value}: {len(own)}, {sum(each.size for each in own) / 1e6:.1f} MB{stays}"
            named = len(own) if kind == Kind.RUN else MOST_NAMED
            yield from (f"  {each.path}" for each in own[:named])
            if len(own) > named:
                yield f"  and {len(own) - named} more"
    if found.jobs:
        yield f"{len(found.jobs)} jobs wait or run ({', '.join(found.jobs[:MOST_NAMED])}): results were not looked at"
    elif found.unknown:
        yield (
            f"whether jobs still run ({', '.join(found.unknown[:MOST_NAMED])}) is not known here: results were not "
            "looked at; say it where squeue is, with the --submitit-folder of Snakemake, or start Snakemake again first"
        )


def remove(leftovers: Iterable[Leftover], folder: Path = FOLDER) -> None:
    """Take away what was found.

    Args:
        leftovers: as `find` gave them.
        folder: Snakemake's own.

    Raises:
        PiwslError: a Snakemake has begun here since.
        OSError: the disk refuses.
    """
    for each in leftovers:
        check_unlocked(folder)
        if each.path.is_dir() and not each.path.is_symlink():
            shutil.rmtree(each.path)
        else:
            each.path.unlink(missing_ok=True)


def _of_executor(folder: Path) -> tuple[list[Path], list[str], set[str]]:
    """Return what the executor has left, its jobs that wait or run, and the numbers of all whose files are here."""
    if not folder.is_dir():
        return [], [], set()
    from snakemake_executor_plugin_submitit.leftovers import leftovers
    from snakemake_executor_plugin_submitit.scheduler import SchedulerError

    try:
        found = leftovers(folder)
    except SchedulerError as error:
        raise PiwslError(f"{folder}: {error}") from None
    return [Path(os.path.relpath(path)) for path in found.files], found.jobs, found.known


def _other_jobs(known: set[str], folder: Path) -> tuple[set[str], list[str]]:
    """Return jobs of this folder that wait or run whoever submitted them, and those that nothing is known of.

    Args:
        known: jobs whose end the executor knows of.
        folder: Snakemake's own.
    """
    unseen = {mark.scheduler_id.split("_")[0] for mark in marks(folder).values() if mark.scheduler_id} - known
    if shutil.which("squeue") is None:
        return set(), sorted(unseen)
    queue = queued()
    here = {job for job, place in queue.items() if _is_here(place)}
    of_machine = {job for job in unseen if Path("/proc", job).exists()}
    return here | (unseen & queue.keys()) | of_machine, sorted(job for job in unseen if not job.isdigit())


def _is_here(place: str) -> bool:
    try:
        return Path(place).samefile(Path.cwd())
    except OSError:  # it is there no more
        return False


def _of_experiment(jobs: Jobs) -> Iterator[tuple[Kind, Path]]:
    """Yield what is left in the results of an experiment, no job of which waits or runs on a cluster."""
    results = Path(jobs.layout.folder)
    named = {Path(result).parent for job in every_job(jobs) if job.rule == "train" for result in job.results}
    runs = list(_trained(jobs.layout))
    left = {path for path in runs if path not in named and _is_left_alone(path)}
    yield from ((Kind.RUN, path) for path in runs if path in left)
    folders = [path for run in runs for path in sorted(run.iterdir()) if SET_ASIDE.fullmatch(path.name)]
    inside = [(Kind.CHECKPOINTS, path) for path in folders if path.is_dir() and not path.is_symlink()]
    inside += [(Kind.HALF_WRITTEN, path) for path in _files(results, HALF_WRITTEN) if _is_idle(path)]
    yield from ((kind, path) for kind, path in inside if left.isdisjoint(path.parents))


def _trained(layout: Layout) -> Iterator[Path]:
    """Yield the folders of runs that a job has trained, as its log says; copies of a user's have none."""
    results = Path(layout.folder)
    for path in sorted(results.glob("*/*/*/n*/seed*")):
        *names, size, seed = path.relative_to(results).parts
        in_place = SIZE.fullmatch(size) and SEED.fullmatch(seed) and path.is_dir()
        is_link = any(each.is_symlink() for each in (path, *path.parents[: len(names) + 1]))
        if in_place and not is_link and Path(layout.log(f"train/{'/'.join(names)}/{size}-{seed}")).exists():
            yield path


def _of_downloads() -> Iterator[tuple[Kind, Path]]:
    """Yield what broken downloads have left, and writing to files beside them."""
    yield from ((Kind.DOWNLOAD, path) for path in _files(DOWNLOADS, PARTIAL_DOWNLOAD) if _is_free(path.parent))
    yield from ((Kind.HALF_WRITTEN, path) for path in _files(DOWNLOADS, HALF_UNPACKED) if _is_idle(path))


def _is_idle(path: Path) -> bool:
    return path.lstat().st_mtime < time.time() - IDLE_SECONDS


def _is_left_alone(run: Path) -> bool:
    """Whether no process is at a run: its training, or one of its simulations."""
    return _is_free(run) and all(_is_free(lock.parent) for lock in run.rglob(LOCK))


def _is_free(folder: Path) -> bool:
    """Whether no process holds what keeps others from a folder: its lock, or of downloads its own."""
    lock = folder / LOCK
    handle = os.open(lock if lock.exists() else folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _files(folder: Path, name: re.Pattern[str]) -> Iterator[Path]:
    """Yield the files below a folder that have such a name; links are not followed."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, each) for each in sorted(names) if name.fullmatch(each))


def _size(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(Path(place, name).lstat().st_size for place, _, names in os.walk(path) for name in names)
