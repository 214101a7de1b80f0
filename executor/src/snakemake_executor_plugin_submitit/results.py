"""What jobs leave behind: which have a result, what it says, and taking away what nobody needs any more."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from submitit.core.utils import UncompletedJobError

from snakemake_executor_plugin_submitit import frozen
from snakemake_executor_plugin_submitit.payload import RESTARTS_ENDING
from snakemake_executor_plugin_submitit.private import is_own_file

RESULT_ENDING = "_result.pkl"
SCRIPT_ENDING = ".sh"
TOO_OFTEN = "timed-out too many times"


def results(folders: Iterable[Path]) -> set[Path]:
    """Return the results that lie in folders: one listing a folder, however many jobs it is of."""
    found: set[Path] = set()
    for folder in set(folders):
        try:
            # An NFS client looks at a folder anew after it has changed something of it.
            folder.chmod(folder.stat().st_mode)
            with os.scandir(folder) as entries:
                found.update(folder / entry.name for entry in entries if entry.name.endswith(RESULT_ENDING))
        except OSError:  # not there yet, or its server is away: the next round looks again
            continue
    return found


def problem(job: Any) -> str:
    """Return what went wrong with a job that has a result, or "" where nothing did."""
    path = job.paths.result_pickle
    if os.path.lexists(path) and not is_own_file(path):
        return f"its result was written by someone else: {path}"
    try:
        code = job.result()
    except UncompletedJobError as error:
        return _reason(str(error))
    except Exception as error:  # a disk that was full has cut it off, or the job ran with another Python
        return f"its result cannot be read: {type(error).__name__}: {error}"
    return "" if code == 0 else f"its command ended with exit code {code}"


def _reason(text: str) -> str:
    if TOO_OFTEN in text:
        return (
            "it reached its time limit (runtime) more often than --submitit-requeues allows; give it a longer runtime"
        )
    # submitit frames the traceback with two rules of dashes.
    framed = text.split("\n-----", 2)[1] if text.count("\n-----") >= 2 else text
    lines = [line for line in framed.splitlines() if line.strip(" -")]
    return f"it could not run its command: {lines[-1].strip()}" if lines else "it failed without a word"


def restarts(job: Any) -> int:
    """Return how often a job was put back in the queue, as far as it has said so itself."""
    try:
        return int(_restarts_file(job).read_text())
    except (OSError, ValueError):
        return 0


def discard(job: Any) -> None:
    """Take away the files of a job that ended well; its log stays."""
    for path in (job.paths.submitted_pickle, job.paths.result_pickle, job.paths.stdout, _restarts_file(job)):
        path.unlink(missing_ok=True)


def _restarts_file(job: Any) -> Path:
    return Path(job.paths.folder) / f"{job.job_id}{RESTARTS_ENDING}"


def tidy(folder: Path) -> None:
    """Take a folder of jobs away if none of its jobs left anything."""
    if not folder.is_dir():
        return
    left = list(folder.iterdir())
    if all(path.name.endswith(SCRIPT_ENDING) or path.name.startswith(frozen.PREFIX) for path in left):
        for path in left:
            path.unlink(missing_ok=True)
        folder.rmdir()
