"""Snakemake looks for jobs to start when something has changed, however many have ended."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import ROOT
from snakemake.scheduling.job_scheduler import JobRateLimiter
from snakemake.settings.types import MaxJobsPerTimespan

from piwsl.workflow.scheduling import look_once_a_change

JOBS = 12
# As ours begins: jobs wait for the only core, half a second each.
SNAKEFILE = f"""
from piwsl.workflow.scheduling import look_once_a_change

rule all:
    input: expand("{{n}}.made", n=range({JOBS}))

rule one:
    output: "{{n}}.made"
    shell: "sleep 0.5; touch {{output}}"

onstart:
    look_once_a_change(workflow)
"""


def looks(folder: Path) -> int:
    """Run all jobs; return how many times Snakemake looked for one to start while some waited."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--verbose"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=600)
    assert len(list(folder.glob("*.made"))) == JOBS
    return done.stderr.count("Ready jobs: ")


def test_snakemake_looks_once_or_twice_a_job(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    assert looks(tmp_path) <= 2 * JOBS + 2  # when it has started, and when it has ended


def test_without_it_looks_add_up(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE.partition("onstart:")[0])
    assert looks(tmp_path) > 2 * JOBS + 2  # or nothing of ours is needed any more


def test_the_workflow_starts_so():
    at_start = re.search(r"^onstart:\n((?: +.*\n)+)", (ROOT / "Snakefile").read_text(), re.MULTILINE)
    assert "    look_once_a_change(workflow)" in at_start[1].splitlines()


@pytest.mark.parametrize(
    ("limit", "stays"), [("100/1s", False), ("5000/1s", False), ("60/1m", True), ("99/1s", True), (None, False)]
)
def test_a_limit_that_somebody_wants_stays(limit, stays):
    found = None if limit is None else JobRateLimiter(MaxJobsPerTimespan.parse_choice(limit))
    workflow = SimpleNamespace(scheduler=SimpleNamespace(job_rate_limiter=found))
    look_once_a_change(workflow)
    assert (workflow.scheduler.job_rate_limiter is not None) == stays
