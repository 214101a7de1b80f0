"""A copy of a file on a disk of this machine, for those who read it at random: a shared one answers slowly."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

# What is left to others on the disk, bytes.
SPARE = 2**30
IN_MEMORY = ("tmpfs", "ramfs")


def local_folder() -> Path:
    """Return the folder for temporary files of the job that this process is of, or of this machine."""
    return Path(os.environ.get("SLURM_TMPDIR") or tempfile.gettempdir())


def local_copy(path: Path, folder: Path) -> int | None:
    """Copy a file, and say where to.

    The copy has no name: it ends with the processes that have it open, however they end.

    Args:
        path: of the file; who reads the copy compares it with the hashes that it holds.
        folder: on a disk of this machine.

    Returns:
        A descriptor, open for reading; None, with a line that says why, where there is no room on a disk of its own.
    """
    try:
        if problem := _problem(path, folder):
            print(f"{path} is read where it lies: {problem}", flush=True)
            return None
        with path.open("rb") as source, tempfile.TemporaryFile(dir=folder) as copy:
            shutil.copyfileobj(source, copy, 2**24)
            copy.flush()
            print(f"{path} is read from a copy in {folder}", flush=True)
            return os.dup(copy.fileno())
    except OSError as error:
        print(f"{path} is read where it lies: copying it to {folder} failed: {error}", flush=True)
        return None


def _problem(path: Path, folder: Path) -> str:
    """Return why a file is not to be copied to a folder, or ""."""
    size, free, here = path.stat().st_size, shutil.disk_usage(folder).free, os.stat(folder).st_dev
    if here == path.stat().st_dev:
        return f"{folder} is on the same disk"
    if _kind_of_disk(here) in IN_MEMORY:
        return f"{folder} is no disk, but takes memory of the job; let TMPDIR name a disk of the node"
    if free < size + SPARE:
        return f"{folder} has {free / 1e9:.1f} GB, and it would take {(size + SPARE) / 1e9:.1f}"
    return ""


def _kind_of_disk(device: int) -> str:
    """Return the type of a mounted file system; "" where it is not known."""
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return next((line[line.index("-") + 1] for line in lines if line[2] == number), "")
