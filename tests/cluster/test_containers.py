"""Rules in containers on a real SLURM; Apptainer itself is played by a program that binds for real."""

from __future__ import annotations

import subprocess

import containers
import pytest
from test_executor_on_slurm import COUNTER, starts
from test_pipeline import check_out, run_profile, uncommented
from workflows import let_go, preempt, until

BOUND = """
container: "docker://example/image"
rule all:
    input: "shell.txt", "script.txt"
rule by_shell:
    output: "shell.txt"
    resources: tmpdir="{scratch}"
    shell: "cat $TMPDIR/word > {{output}}; echo $APPTAINER_CONTAINER >> {{output}}"
rule by_script:
    output: "script.txt"
    script: "inside.py"
"""
INSIDE = """
import os
with open(snakemake.output[0], "w") as file:
    print(snakemake.rule, os.environ["APPTAINER_CONTAINER"], file=file)
"""
# As Snakemake runs scripts: by a shell, which is told of no signal.
COUNTING = """
container: "docker://example/image"
rule all:
    input: "out.txt"
rule count:
    output: "out.txt"
    resources: mem_mb=300, runtime=5, slurm_partition="gpulow", gpu=2
    shell: "python3 counter.py state trace {output}"
"""
IN_CONTAINERS = ("--sdm", "apptainer", "--apptainer-prefix", "images")


@pytest.fixture
def apptainer(tmp_path_factory) -> containers.Apptainer:
    if reason := containers.install():
        pytest.skip(reason)
    return containers.Apptainer(tmp_path_factory.mktemp("apptainer") / "programs")


def test_jobs_are_told_of_containers_images_and_binds(workflow, apptainer, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("scratch")
    (scratch / "word").write_text("bound\n")
    (workflow.folder / "inside.py").write_text(INSIDE)
    workflow.write(BOUND.format(scratch=scratch))
    # As it stands: the job's shell, and no other, says what it means.
    bind = ("--apptainer-args", "--nv --bind ${SLURM_TMPDIR:-$TMPDIR}")
    code, output = workflow.run(*IN_CONTAINERS, "shell.txt", path=apptainer.path)
    assert code == 1
    code, output = workflow.run(*IN_CONTAINERS, *bind, path=apptainer.path)
    assert code == 0, output
    assert len(apptainer.calls("pull")) == 1
    (image,) = (workflow.folder / "images").iterdir()
    assert workflow.lines("shell.txt") == ["bound", str(image)]
    assert workflow.lines("script.txt") == ["by_script", str(image)]
    unbound, *calls = apptainer.calls("exec")
    assert "--nv" not in unbound
    assert len(calls) == 2
    assert all("--nv" in call and str(image) in call for call in calls)


def test_a_preempted_job_in_a_container_saves_and_goes_on(workflow, apptainer):
    (workflow.folder / "counter.py").write_text(COUNTER)
    workflow.write(COUNTING)
    workflow.start(*IN_CONTAINERS, path=apptainer.path)
    preempt(workflow)
    until(lambda: len(starts(workflow)) == 2, "second start of the job")
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    assert len(starts(workflow)) == 2
    assert starts(workflow)[-1] > 0


def test_the_pipeline_runs_in_containers_by_two_lines_of_the_profile(workflow, apptainer, monkeypatch):
    monkeypatch.setenv("PATH", apptainer.path, prepend=":")
    check_out(workflow)
    profile = workflow.folder / "slurm" / "config.yaml"
    lines = """# software-deployment-method: apptainer
# apptainer-args: "--nv --bind ${SLURM_TMPDIR:-$TMPDIR}"
"""
    profile.write_text(uncommented(profile.read_text(), lines))
    subprocess.run(["apptainer", "build", "envs/piwsl.sif", "envs/piwsl.def"], cwd=workflow.folder, check=True)
    tested = "results/short/water/painn/supervised/n8/seed0/errors.json"
    done = run_profile(workflow, tested)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (workflow.folder / tested).exists()
    calls = apptainer.calls("exec")
    # What is run last: bash -c "set -euo pipefail; python .snakemake/scripts/tmp12345678.train.py"
    scripts = {call[-1].split(".")[-2] for call in calls}
    assert {"sample", "select", "label", "train", "evaluate"} <= scripts
    assert all(call[call.index("--nv") + 1 :][:2] == ["--bind", "/tmp"] for call in calls)
