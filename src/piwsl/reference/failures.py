"""What can go wrong with a frame, and what can go wrong with the job that computes it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from piwsl.errors import ANY_ERROR, PiwslError
from piwsl.files import is_no_room, refusal

PERIODIC = "periodic; reference energies are of molecules"


class FrameFailure(Exception):
    """A frame that cannot be labelled: the step at which it failed and why."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason


class JobFailure(PiwslError):
    """The machine gave out, not the frame: nothing is recorded of the frame, and another attempt may succeed."""


class ProgramOutOfMemory(MemoryError):
    """Memory gave out in a program of its own, where what this process holds plays no part."""


@contextmanager
def failing_at(step: str, disk: Path | None = None) -> Iterator[None]:
    """Turn whatever goes wrong within into a failure of the frame at a step, or of the job.

    Args:
        step: names the calculation.
        disk: a folder on the disk that is written to; by default that of temporary files.

    Raises:
        JobFailure: no memory, no room on the disk, or the disk refuses.
        FrameFailure: anything else.
    """
    held_before = _held()
    try:
        yield
    except (FrameFailure, JobFailure):
        raise
    except MemoryError as error:
        held = "" if isinstance(error, ProgramOutOfMemory) else held_before
        raise JobFailure(
            f"{step}: out of memory ({str(error).strip() or 'allocation failed'}){held}; "
            "raise labelling.mem_mb (or --mem-mb), finished frames are kept"
        ) from error
    except ANY_ERROR as error:  # PySCF raises many kinds; the frame's record says which
        if is_no_room(error):
            raise JobFailure(
                f"{step}: no room left on the disk of {disk or tempfile.gettempdir()}; free some, "
                f"or {'write' if disk else 'point TMPDIR'} elsewhere; finished frames are kept"
            ) from error
        if reason := _refusal(error, disk):
            raise JobFailure(f"{step}: {reason}; finished frames are kept") from error
        raise FrameFailure(step, f"{type(error).__name__}: {_line(error)}") from error


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Turn whatever goes wrong while energies are stored into a failure of the job: no frame is lost for it.

    Args:
        folder: of the store.

    Raises:
        JobFailure: anything went wrong.
    """
    try:
        with failing_at("storing the energy", disk=folder):
            yield
    except FrameFailure as failure:
        raise JobFailure(f"{failure} ({folder}); finished frames are kept") from failure


def _held() -> str:
    """Say what this process holds already, which a limit of memory counts; nothing where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return ""
    megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return f", {megabytes:,.0f} MB of it held by this process before (a new one holds less)"


def _refusal(error: BaseException, disk: Path | None) -> str | None:
    if not isinstance(error, OSError):
        return None
    if error.filename is None:  # HDF5 says the number of an error, and no path
        error.filename = str(disk or tempfile.gettempdir())
    return refusal(error)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
