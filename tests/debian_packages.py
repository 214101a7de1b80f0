"""Debian packages that tests need, installed where root may: one installation at a time, since apt refuses a second."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path


def install(programs: Iterable[str], *packages: str) -> str | None:
    """Install packages unless their programs are all there; return why they are not, or None.

    Args:
        programs: that the packages bring.
        packages: of Debian.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{', '.join(missing)} not installed (Debian: {' '.join(packages)})"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with (Path(tempfile.gettempdir()) / "piwsl-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # An index that cannot be reached may not be the one that is needed.
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", "-qq", *command], env=environment, capture_output=True, text=True)
    return f"apt-get install failed: {done.stderr.strip()[-300:]}" if done.returncode else None
