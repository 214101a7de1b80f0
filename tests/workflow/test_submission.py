"""`piwsl submit` starts a Snakemake that outlives its terminal, one at a time in a folder."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from experiment import configure
from helpers import morse_frames, until
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


def is_over() -> bool:
    """Whether another may be started: as it is refused, Snakemake's own lock is looked at after ours."""
    try:
        start(["--version"], in_job=False)
    except PiwslError:
        return False
    return True


def test_it_goes_on_when_its_terminal_is_closed(folder):
    terminal = subprocess.Popen(
        [sys.executable, "-c", f"{STARTING}; import time; time.sleep(600)"], start_new_session=True
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
    assert "-m snakemake --keep-going --configfile config.yaml --profile slurm)" in script


def programs(folder: Path, monkeypatch, **texts: str) -> None:
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


TAKES = 'echo "$@" > said; cat > script; echo 7'


def test_a_target_among_the_options_is_one(folder):
    Path("Snakefile").write_text(SNAKEFILE + 'rule other:\n    output: "other.txt"\n    shell: "touch {output}"\n')
    Path("go").touch()
    submit(folder, "--cores", "1", "--", "other")
    until(Path("other.txt").exists, "what was asked for")
    until(is_over, "end")
    assert not Path("out.txt").exists()


def test_so_it_is_with_a_profile(folder, monkeypatch):
    programs(folder, monkeypatch, sbatch=TAKES)
    Path("slurm").mkdir()
    Path("slurm/config.yaml").write_text("executor: local\ncores: 1\n")
    Path("Snakefile").write_text(SNAKEFILE + 'rule other:\n    output: "other.txt"\n    shell: "touch {output}"\n')
    submit(folder, "--", "other", "--dry-run")
    (line,) = (line for line in Path("script").read_text().splitlines() if line.startswith("snakemake=("))
    said = subprocess.run(
        shlex.split(line.removeprefix("snakemake=(").removesuffix(")")), capture_output=True, text=True
    )
    assert "rule other" in said.stdout + said.stderr
    assert "rule all" not in said.stdout + said.stderr


def test_profiles_are_found_where_snakemake_finds_them(folder, monkeypatch):
    programs(folder, monkeypatch, sbatch=TAKES, squeue="exit 0")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "settings"))
    place = folder / "settings" / "snakemake" / "mine"
    place.mkdir(parents=True)
    (place / "profile.yaml").write_text("default-resources:\n- slurm_partition=long\n")
    for profile in ("mine", str(place), str(place / "profile.yaml")):
        submit(folder, "--profile", profile)
        assert "#SBATCH --partition=long" in Path("script").read_text()
    Path("script").unlink()
    assert "there is no profile 'yours'" in submit(folder, "--profile", "yours", code=1)
    (place / "profile.yaml").write_text("- nothing\n")
    assert f"{place / 'profile.yaml'}: The config file doesn't" in submit(folder, "--profile", "mine", code=1)
    assert not Path("script").exists()


def test_without_slurm_it_is_said_what_to_say(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    assert "no SLURM here (no sbatch); say --cores N, or --here" in submit(folder, code=1)


def test_published_files_are_there_before_a_job_needs_them(folder, monkeypatch):
    programs(folder, monkeypatch, sbatch=TAKES)
    Path("slurm").mkdir()
    Path("slurm/config.yaml").write_text("executor: local\ncores: 1\n")
    configure(
        folder,
        datasets={"mine": {"catalogue": "rmd17/ethanol", "test_frames": 4}},
        losses={"supervised": {}},
        exclude=[],
    )
    result = CliRunner().invoke(app, ["submit", "config.yaml"])
    assert result.exit_code == 1
    assert "piwsl data download rmd17/ethanol first, or --here" in " ".join(result.output.split())
    assert not Path("script").exists()


def test_options_of_sbatch_that_cannot_be_read_are_said(folder, monkeypatch):
    programs(folder, monkeypatch, sbatch=TAKES)
    said = submit(folder, "--sbatch", '--comment="x', code=1)
    assert "No closing quotation" in said


def test_a_snakemake_beside_is_seen_without_its_lock(folder):
    lock = Path(".snakemake/piwsl.lock")
    lock.parent.mkdir()
    with lock.open("w") as running:
        fcntl.flock(running, fcntl.LOCK_SH)
        with pytest.raises(PiwslError, match="a Snakemake, or piwsl clean, is at work here; wait for its end"):
            start(["--cores", "1"], in_job=False)


def noted(**said: object) -> None:
    note = {"where": "process 5 of here", "log": "x.log", "stop": "kill -INT -5", **said}
    Path(".snakemake/submit").mkdir(parents=True, exist_ok=True)
    Path(".snakemake/submit/started.json").write_text(json.dumps(note))


def test_while_another_submits_no_earlier_process_is_said_to_be_stopped(folder):
    # Its number is that of another now.
    noted(host=socket.gethostname(), process=[os.getpid(), 1])
    with Path(".snakemake/submit/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PiwslError, match="another piwsl submit is at work") as refused:
            start(["--cores", "1"], in_job=False)
    assert "kill" not in str(refused.value)


def test_a_disk_without_locks_keeps_nobody_from_it_and_one_that_runs_is_seen(folder, monkeypatch):
    def without(handle: object, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", without)
    start(["--cores", "1"], in_job=False)
    until(Path("begun").exists, "job")
    with pytest.raises(PiwslError, match=r"already, as process \d+ of"):
        start(["--cores", "1"], in_job=False)
    Path("go").touch()
    until(Path("out.txt").exists, "result")
    until(is_over, "end")


def test_a_squeue_that_says_nothing_is_no_empty_queue(folder, monkeypatch):
    programs(folder, monkeypatch, squeue="exit 1", sbatch=TAKES)
    noted(job="7")
    with pytest.raises(PiwslError, match="squeue: exit code 1: whether jobs still run is not known"):
        start(["--cores", "1"], in_job=True)
    programs(folder, monkeypatch, squeue="echo 7 /elsewhere")
    with pytest.raises(PiwslError, match="already, as process 5"):
        start(["--cores", "1"], in_job=True)
    programs(folder, monkeypatch, squeue="echo 8 /elsewhere")
    assert start(["--cores", "1"], in_job=True).job == "7"


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
