"""`piwsl submit` starts a Snakemake that outlives its terminal, one at a time in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from piwsl.errors import PiwslError
from piwsl.workflow.submission import start

SNAKEFILE = """
rule all:
    output: "out.txt"
    shell: "touch begun; while [ ! -e go ]; do sleep 0.2; done; touch {output}"
"""
STARTING = (
    "from piwsl.workflow.submission import start; print(*start(['--cores', '1'], in_job=False).lines(), sep='\\n')"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Snakefile").write_text(SNAKEFILE)
    yield tmp_path
    Path("go").touch()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.2)


def is_over() -> bool:
    """Whether another may be started: as it is refused, Snakemake's own lock is looked at after ours."""
    try:
        start(["--version"], in_job=False)
    except PiwslError:
        return False
    return True


def test_it_goes_on_when_its_terminal_is_closed(folder):
    terminal = subprocess.Popen(
        [sys.executable, "-c", f"{STARTING}; import time; time.sleep(60)"], start_new_session=True
    )
    until(Path("begun").exists, "job")
    os.killpg(terminal.pid, signal.SIGHUP)
    terminal.wait()
    Path("go").touch()
    until(Path("out.txt").exists, "result")
    (log,) = Path(".snakemake/submit").glob("*.log")
    until(lambda: "1 of 1 steps (100%) done" in log.read_text(), "end of the log")


def test_a_second_one_is_refused_while_one_runs_and_says_how_to_stop_it(folder):
    started = start(["--cores", "1"], in_job=False)
    until(Path("begun").exists, "job")
    with pytest.raises(PiwslError, match=rf"already, as process \d+ of .*; stop it: {started.stop}"):
        start(["--cores", "1"], in_job=False)
    subprocess.run(started.stop, shell=True, check=True)
    until(is_over, "end")
    assert not Path("out.txt").exists()
    group = started.stop.split("-")[-1]
    until(lambda: not subprocess.run(["pgrep", "-g", group], capture_output=True).stdout, "end of its jobs")


def test_one_that_was_started_otherwise_is_not_disturbed(folder):
    Path(".snakemake/locks").mkdir(parents=True)
    Path(".snakemake/locks/0.output.lock").write_text("out.txt\n")
    with pytest.raises(PiwslError, match="a Snakemake runs here, or was killed"):
        start(["--cores", "1"], in_job=False)


def test_where_users_have_a_systemd_it_is_a_scope_of_its_own(folder, monkeypatch):
    Path("systemd-run").write_text('#!/bin/bash\necho "$@" >> said\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n')
    Path("systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    Path("go").touch()
    start(["--cores", "1"], in_job=False)
    until(Path("out.txt").exists, "result")
    assert f"--user --scope --quiet {sys.executable} -m snakemake --cores 1" in Path("said").read_text()
