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
from piwsl.workflow.graph import every_job
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.snakemake_notes import FOLDER

# Of the executor, below Snakemake's own folder.
EXECUTOR = "submitit"
# As `files.write_atomically` names what it has not finished.
HALF_WRITTEN = re.compile(r"\..+-[0-9a-f]{16}(\.[^.]+)?")
# Nobody holds a lock on those. What a process still writes to has changed since, s.
IDLE_SECONDS = 3600.0
PARTIAL_DOWNLOAD = re.compile(r"\..+\.part(\.json)?")
SEED = "*/*/*/n*/seed*"
# Paths of a kind.
MOST_NAMED = 10


class Kind(StrEnum):
    """What is left."""

    EXECUTOR = "files of the executor: jobs, notes and logs"
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


def find(jobs: Jobs, folder: Path = FOLDER) -> Found:
    """Look for what is left in a working directory.

    Args:
        jobs: of the experiment whose results are looked at.
        folder: Snakemake's own.

    Raises:
        PiwslError: a Snakemake runs here, or nobody knows whether jobs do.
    """
    _check_unlocked(folder)
    of_executor, alive = _of_executor(folder / EXECUTOR)
    found = [(Kind.EXECUTOR, path) for path in of_executor]
    if not alive:
        found += _of_experiment(jobs)
    found += [(Kind.DOWNLOAD, path) for path in _files(DOWNLOADS, PARTIAL_DOWNLOAD) if _is_free(path.parent)]
    return Found([Leftover(kind, path, _size(path)) for kind, path in found], alive)


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
            yield from (f"  {each.path}" for each in own[:MOST_NAMED])
            if len(own) > MOST_NAMED:
                yield f"  and {len(own) - MOST_NAMED} more"
    if found.jobs:
        yield f"{len(found.jobs)} jobs wait or run ({', '.join(found.jobs[:MOST_NAMED])}): results were not looked at"


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
        _check_unlocked(folder)
        if each.path.is_dir() and not each.path.is_symlink():
            shutil.rmtree(each.path)
        else:
            each.path.unlink(missing_ok=True)


def _check_unlocked(folder: Path) -> None:
    if any((folder / "locks").glob("*.lock")):
        raise PiwslError(
            f"{folder / 'locks'}: a Snakemake runs here, or was killed; wait for its end, or, when it is over, say "
            "snakemake --unlock"
        )


def _of_executor(folder: Path) -> tuple[list[Path], list[str]]:
    """Return what the executor has left, and its jobs that wait or run."""
    if not folder.is_dir():
        return [], []
    from snakemake_executor_plugin_submitit.leftovers import leftovers
    from snakemake_executor_plugin_submitit.scheduler import SchedulerError

    try:
        found = leftovers(folder)
    except SchedulerError as error:
        raise PiwslError(f"{folder}: {error}") from None
    return [Path(os.path.relpath(path)) for path in found.files], found.jobs


def _of_experiment(jobs: Jobs) -> Iterator[tuple[Kind, Path]]:
    """Yield what is left in the results of an experiment, no job of which waits or runs on a cluster."""
    results = Path(jobs.layout.folder)
    named = {Path(result).parent for job in every_job(jobs) if job.rule == "train" for result in job.results}
    runs = {path for path in results.glob(SEED) if path not in named and _is_free(path)}
    yield from ((Kind.RUN, path) for path in sorted(runs))
    inside = [(Kind.CHECKPOINTS, path) for path in sorted(results.glob(f"{SEED}/checkpoints-superseded-*"))]
    inside += [(Kind.HALF_WRITTEN, path) for path in _files(results, HALF_WRITTEN) if _is_idle(path)]
    yield from ((kind, path) for kind, path in inside if runs.isdisjoint(path.parents))


def _is_idle(path: Path) -> bool:
    return path.lstat().st_mtime < time.time() - IDLE_SECONDS


def _is_free(folder: Path) -> bool:
    """Whether no process holds what keeps others from a folder: the lock of a training, or of downloads."""
    lock = folder / ".lock"
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
