"""What can go wrong with a frame, and what can go wrong with the job that computes it."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from piwsl.errors import PiwslError

PERIODIC = "periodic; reference energies are of molecules"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ROOM_TEXTS = ("errno 28", "errno = 28", "no space left", "disk quota", "file too large", "cannot write data")


class FrameFailure(Exception):
    """A frame that cannot be labelled: the step at which it failed and why."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason


class JobFailure(PiwslError):
    """The machine gave out, not the frame: nothing is recorded of the frame, and another attempt may succeed."""


@contextmanager
def failing_at(step: str, disk: Path | None = None) -> Iterator[None]:
    """Turn whatever goes wrong within into a failure of the frame at a step, or of the job.

    Args:
        step: names the calculation.
        disk: a folder on the disk that is written to; by default that of temporary files.

    Raises:
        JobFailure: no memory or no room on the disk.
        FrameFailure: anything else.
    """
    try:
        yield
    except (FrameFailure, JobFailure):
        raise
    except MemoryError as error:
        raise JobFailure(
            f"{step}: out of memory ({str(error).strip() or 'allocation failed'}); "
            "raise labelling.mem_mb (or --mem-mb), finished frames are kept"
        ) from error
    except Exception as error:  # PySCF raises many kinds; the frame's record says which
        if is_no_room(error):
            raise JobFailure(
                f"{step}: no room left on the disk of {disk or tempfile.gettempdir()}; free some, "
                f"or {'write' if disk else 'point TMPDIR'} elsewhere; finished frames are kept"
            ) from error
        raise FrameFailure(step, f"{type(error).__name__}: {_line(error)}") from error


def is_no_room(error: BaseException | None) -> bool:
    """Whether an exception, or one that it comes from, says that a disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return True
        if any(text in str(error).lower() for text in NO_ROOM_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
