"""A folder of results that one process at a time works in: a job that outlived its Snakemake may still write there."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from piwsl.errors import PiwslError

LOCK = ".lock"
# Longer than a simulation goes on before it looks whether it is wanted, or file servers keep locks of the dead, s.
PATIENCE_SECONDS = 100.0
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Hold:
    """A folder that this process holds."""

    folder: Path
    job: str
    """Tells what is computed there apart from what else may be."""

    def check(self) -> None:
        """Look whether the folder is still meant for this, as long as no other process has asked for something else.

        Raises:
            PiwslError: one has.
        """
        wanted = (self.folder / LOCK).read_text(encoding="utf-8")
        if wanted not in ("", self.job):  # empty while another process writes it
            raise PiwslError(f"{self.folder}: another process computes it with other settings; this one writes nothing")


@contextmanager
def alone_in(folder: Path, job: str = "") -> Iterator[Hold]:
    """Hold a folder; where another process does, wait a while for its end, and let it know what is wanted now.

    Disks without locks hold no folder; the process that came first still learns what is wanted.

    Args:
        folder: of results; it is made where there is none.
        job: tells what is computed apart from what else may be; those that come to the same name the same.

    Raises:
        PiwslError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a", encoding="utf-8") as lock:
        held = _take(lock)
        lock.truncate(0)
        lock.write(job)
        lock.flush()
        if not held:
            print(f"another process is at work in {folder}; waiting for its end", flush=True)
        until = time.monotonic() + PATIENCE_SECONDS
        while not held and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
            held = _take(lock)
        if not held:
            raise PiwslError(
                f"{folder}: another process is at work on this run; wait for its end, or stop it, then start again"
            )
        yield Hold(folder, job)


def _take(lock: TextIO) -> bool:
    """Return whether no other process holds a file, as far as can be known."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some shared disks know no locks
        return True
    return True
