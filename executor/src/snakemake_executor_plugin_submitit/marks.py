"""Snakemake's marks of incomplete outputs: a job that ends while nobody looks leaves them as they were.

The Snakemake inside a job takes the marks away, yet records nothing of how the outputs were made: that is for the one
that submitted it. Where that one has been killed, outputs of whatever content would pass as made by the one of now.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

UNKNOWN_JOB = '{"external_jobid": null}'


def marks_of(persistence: Any, outputs: Iterable[Any]) -> list[Path]:
    """Return the files by which Snakemake marks outputs as incomplete; none where it keeps marks in a database.

    Args:
        persistence: Snakemake's.
        outputs: Snakemake's, of a job or of all members of a group.
    """
    if not hasattr(persistence, "_incomplete_path"):
        return []
    return [
        Path(persistence._record_path(persistence._incomplete_path, persistence._get_key(output))) for output in outputs
    ]


def put_back(marks: Iterable[Path], began: float) -> None:
    """Mark outputs as incomplete again, since the time (s) when their job began: Snakemake reports it as its start."""
    for mark in marks:
        with contextlib.suppress(OSError):
            if not mark.exists():
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.write_text(UNKNOWN_JOB)
                os.utime(mark, (began, began))
