"""psi4 itself for all tests of this folder: found or installed."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    """On a machine that must have psi4, its lack is a failure."""
    if install() is None and os.environ.get("CI") == "true":
        pytest.exit("psi4 is not installed, and cannot be", returncode=1)


def install() -> str | None:
    """Return psi4's path; install it where we may."""
    if shutil.which("psi4") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "psi4"]):
            subprocess.run(["apt-get", "-qq", *command], env=environment, check=False, capture_output=True)
    return shutil.which("psi4")


@pytest.fixture
def psi4() -> None:
    if shutil.which("psi4") is None:
        pytest.skip("psi4 is not installed (Debian: package psi4); nothing was compared with it")
