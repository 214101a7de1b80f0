"""A finished experiment, run once for all tests that start from one."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest
from experiment import prepare
from helpers import snakemake


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder in which the experiment was run to its end: once, for all processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    original = shared / "finished-by-one"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not original.exists():
            _run(folder := base / "finishing")
            folder.rename(original)
    shutil.copytree(original, base / "finished", symlinks=True)
    return base / "finished"


def _run(folder: Path) -> None:
    folder.mkdir()
    prepare(folder)
    result = snakemake(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "The report is at" in result.stderr


@pytest.fixture
def rerun(finished, tmp_path) -> Path:
    """A copy of the finished folder, times of files included."""
    shutil.copytree(finished, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"
