"""Snakemake's marks of incomplete outputs: a job that ends while nobody looks leaves them as they were.

The Snakemake inside a job takes the marks away, yet records nothing of how the outputs were made: that is for the one
that submitted it. Where that one has been killed, outputs of whatever content would pass as made by the one of now.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

UNKNOWN_JOB = '{"external_jobid": null}'
# Of outputs that are as their job was to make them, though no Snakemake has recorded it.
MADE = '{"external_jobid": null, "made": true}'


def in_files(persistence: Any) -> bool:
    """Whether Snakemake keeps its marks in files, as the Snakemake in a job does in any case, or in a database."""
    return hasattr(persistence, "_incomplete_path")


def marks_of(persistence: Any, outputs: Iterable[Any]) -> list[Path]:
    """Return the files by which Snakemake marks outputs as incomplete; none where it keeps marks in a database.

    Args:
        persistence: Snakemake's.
        outputs: Snakemake's, of a job or of all members of a group.
    """
    if not in_files(persistence):
        return []
    return [
        Path(persistence._record_path(persistence._incomplete_path, persistence._get_key(output))) for output in outputs
    ]


def put_back(marks: Iterable[Path], began: float, made: bool) -> None:
    """Mark outputs as incomplete again.

    Args:
        marks: of the outputs of a member; one that is there stays as it is.
        began: when its job began (s); Snakemake reports it as its start.
        made: whether the outputs are what the member was to make.
    """
    for mark in marks:
        with contextlib.suppress(OSError):
            if not mark.exists():
                mark.parent.mkdir(parents=True, exist_ok=True)
                _write(mark, MADE if made else UNKNOWN_JOB, began)


def say_made(marks: Iterable[Path]) -> bool:
    """Whether all marks were put back on outputs that were made."""
    try:
        return all(mark.read_text() == MADE for mark in marks)
    except OSError:
        return False


def made_until(marks: Sequence[Path]) -> float | None:
    """Return when it was said that outputs are made (s); None where it was not."""
    try:
        return max(mark.stat().st_ctime for mark in marks) if marks and say_made(marks) else None
    except OSError:
        return None


@contextlib.contextmanager
def still_made(marks: Iterable[Path]) -> Iterator[None]:
    """Mark outputs as made again, once Snakemake has marked those of all members of a group as begun."""
    began = {mark: mark.stat().st_mtime if mark.exists() else None for mark in marks}
    yield
    for mark, time in began.items():
        with contextlib.suppress(OSError):
            _write(mark, MADE, time)


def _write(mark: Path, text: str, time: float | None) -> None:
    """Write a mark as of a time (s), or of now: whoever looks finds the whole of it, or what was there before."""
    beside = mark.with_name(f".{uuid.uuid4().hex}")  # no name of Snakemake's has a dot
    with contextlib.suppress(OSError):  # the disk is full: one that says nothing still marks what is incomplete
        beside.write_text(text)
    os.utime(beside, None if time is None else (time, time))
    beside.replace(mark)
