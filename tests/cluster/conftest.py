"""One cluster for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_node import OneNode, install
from workflows import Workflow, queue, until


def pytest_sessionstart(session: pytest.Session) -> None:
    """On a machine that must have a cluster, one that cannot be had is a failure."""
    reason = install()
    if reason is not None and os.environ.get("CI") == "true":
        pytest.exit(f"no SLURM: {reason}", returncode=1)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[OneNode]:
    reason = install()
    if reason is not None:
        pytest.skip(reason)  # no root, or no packages; with CI=true the session has failed before
    # Daemons of other users read here, which the folders of pytest do not allow.
    folder = Path("/var/tmp") / f"piwsl-onenode-{os.getpid()}"
    node = OneNode(folder)
    try:
        node.start()
        yield node
    finally:
        try:
            node.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def workflow(cluster, tmp_path) -> Iterator[Workflow]:
    """A folder with a Snakefile; what it submitted is gone afterwards.

    What SLURM says of its node and jobs at the end is printed, which pytest shows beside a failure.
    """
    cluster.take_back()  # whatever the test before has left
    running = Workflow(tmp_path)
    yield running
    running.kill()
    print(cluster.state())
    until(_none_is_left, "empty queue")


def _none_is_left() -> bool:
    """Cancel all jobs, also those that a killed Snakemake's sbatch has submitted meanwhile; whether all have ended.

    Steps that ended while the controller was away say so a minute later.
    """
    subprocess.run(["scancel", "--user", "root"], check=False)
    return not queue()
