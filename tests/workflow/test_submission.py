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
from experiment import configure
from helpers import morse_frames
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.errors import PiwslError
from piwsl.structures.frames import write_frames
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


def submit(folder: Path, *arguments: str, code: int = 0) -> str:
    """Say it of an experiment of given frames."""
    write_frames(folder / "mine.xyz", morse_frames("H2O", 10, forces=True))
    configure(folder, datasets={"mine": {"file": "mine.xyz", "test_frames": 4}}, losses={"supervised": {}}, exclude=[])
    result = CliRunner().invoke(app, ["submit", "config.yaml", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_where_sbatch_is_it_goes_into_a_job_with_the_partition_of_the_profile(folder, monkeypatch):
    Path("sbatch").write_text('#!/bin/bash\necho "$@" > said\ncat > script\necho "7;cluster"\n')
    Path("sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    Path("slurm").mkdir()
    Path("slurm/config.yaml").write_text("default-resources: {slurm_partition: short, slurm_account: chemists}\n")
    said = submit(folder, "--sbatch", "--qos='a b'", "--", "--keep-going")
    assert "Snakemake runs as job 7 of SLURM\n" in said
    assert "stop it, and its jobs: scancel 7\n" in said
    assert "--qos=a b" in Path("said").read_text()
    script = Path("script").read_text()
    assert "#SBATCH --partition=short\n#SBATCH --account=chemists\n" in script
    assert "-m snakemake --profile slurm --configfile config.yaml --keep-going)" in script


def test_a_number_of_cores_is_of_this_machine(folder):
    Path("go").touch()
    assert "Snakemake runs as process" in submit(folder, "--cores", "1")
    until(Path("out.txt").exists, "result")


def test_where_it_would_not_work_it_is_refused_at_once(folder):
    Path("Snakefile").unlink()
    assert "no Snakefile is here; go to the folder" in submit(folder, "--cores", "1", code=1)
    assert "did you mean 'datasets'?" in broken(folder)
    assert not Path(".snakemake").exists()


def broken(folder: Path) -> str:
    (folder / "config.yaml").write_text("dataset: {}\n")
    return CliRunner().invoke(app, ["submit", "config.yaml", "--cores", "1"]).output
