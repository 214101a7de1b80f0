"""A finished experiment, run once for all tests that start from one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from experiment import prepare
from helpers import snakemake


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder in which the experiment was run to its end."""
    folder = tmp_path_factory.mktemp("finished")
    prepare(folder)
    result = snakemake(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "The report is at" in result.stderr
    return folder


@pytest.fixture
def rerun(finished, tmp_path) -> Path:
    """A copy of the finished folder, times of files included."""
    shutil.copytree(finished, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"
