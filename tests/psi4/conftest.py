"""psi4 itself for all tests of this folder: found or installed."""

from __future__ import annotations

import os
import shutil

import pytest
from debian_packages import install


def pytest_sessionstart(session: pytest.Session) -> None:
    """On a machine that must have psi4, its lack is a failure."""
    problem = install(["psi4"], "psi4")
    if problem is not None and os.environ.get("CI") == "true":
        pytest.exit(f"psi4: {problem}", returncode=1)


@pytest.fixture
def psi4() -> None:
    if shutil.which("psi4") is None:
        pytest.skip("psi4 is not installed (Debian: package psi4); nothing was compared with it")
