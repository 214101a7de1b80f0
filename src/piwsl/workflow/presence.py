"""Which Snakemakes run in a folder, by a lock of ours: Snakemake's own goes with the first of several that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from piwsl.errors import PiwslError
from piwsl.workflow.snakemake_notes import FOLDER

LOCK = "piwsl.lock"


class NoLocks(PiwslError):
    """A disk that knows no locks: who runs in its folders is not known."""


def join(folder: Path = FOLDER) -> None:
    """Let others know, until this process ends, that a Snakemake runs here; wait while `piwsl clean` is at work.

    Args:
        folder: Snakemake's own.
    """
    handle = _opened(folder)
    with suppress(OSError):  # some shared disks know no locks
        fcntl.flock(handle, fcntl.LOCK_SH)


@contextmanager
def alone(folder: Path = FOLDER) -> Iterator[None]:
    """Keep Snakemakes from starting here.

    Args:
        folder: Snakemake's own.

    Raises:
        NoLocks: whether one runs is not known.
        PiwslError: one runs, or was killed.
    """
    check_unlocked(folder)
    handle = _opened(folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PiwslError(f"{folder}: a Snakemake, or piwsl clean, is at work here; wait for its end") from None
    except OSError:
        raise NoLocks(f"{folder}: this disk knows no locks, so whether a Snakemake runs here is not known") from None
    else:
        yield
    finally:
        os.close(handle)


def check_unlocked(folder: Path) -> None:
    """Look at Snakemake's own lock.

    Raises:
        PiwslError: it is there.
    """
    if any((folder / "locks").glob("*.lock")):
        raise PiwslError(
            f"{folder / 'locks'}: a Snakemake runs here, or was killed; wait for its end, or, when it is over, say "
            "snakemake --unlock"
        )


def _opened(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
