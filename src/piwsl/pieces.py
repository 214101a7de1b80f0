"""What the pieces of a job take that is stopped and goes on: Snakemake measures each anew, and keeps the last alone."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import psutil

from piwsl.files import read_json, write_json
from piwsl.records import Benchmark


class Pieces:
    """The pieces of a job so far, this process with its children being the newest one.

    They are noted whenever the job saves what it goes on from: what a killed piece did after that is done again, and
    is not counted.
    """

    def __init__(self, note: Path, job: str) -> None:
        """Read what earlier pieces have taken.

        Args:
            note: JSON file, beside what the job saves; it ends with that.
            job: tells what is computed apart from what else may have been noted there.
        """
        self._note, self._job = note, job
        # Kept by number, for processes forked from this one ask, too.
        self._process = psutil.Process(os.getpid())
        self._before = _noted(note, job)

    def saved(self) -> None:
        """Note what all pieces have taken up to now."""
        whole = self._before + taken_by(self._process)
        write_json(self._note, {"job": self._job, **whole.model_dump()})

    def leave(self, path: Path) -> None:
        """Write what the pieces before this one have taken, once the job is done; where there were none, no file stays.

        Args:
            path: JSON file, as of `piwsl.records.earlier_pieces`.
        """
        if self._before.wall_s:
            write_json(path, self._before.model_dump())
        else:
            path.unlink(missing_ok=True)


def taken_by(process: psutil.Process) -> Benchmark:
    """Return what a process has taken since it began, with all its children: those that ended and those at work."""
    cpu_s = 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            cpu_s += sum(each.cpu_times()[:4])  # user and system, its own and those of children that ended
    return Benchmark(wall_s=time.time() - process.create_time(), cpu_s=cpu_s)


def _noted(note: Path, job: str) -> Benchmark:
    """Return what a note says of a job; nothing where there is none of it."""
    try:
        found = read_json(note)
        return Benchmark.model_validate(found) if found["job"] == job else Benchmark()
    except (OSError, ValueError, LookupError, TypeError):
        return Benchmark()
