"""The executor without a cluster: what is asked for, what states mean, what is remembered, how a job ends."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import datetime
import itertools
import json
import logging
import os
import pickle
import pty
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from snakemake.common.tbdstring import TBDString
from snakemake.io import IOFile
from snakemake.persistence.file import FilePersistence
from snakemake.resources import Resources
from snakemake.settings.types import ConfigSettings
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.utils import TargetSpec
from submitit import AutoExecutor, Job, SlurmJob
from submitit.core.utils import DelayedSubmission

from snakemake_executor_plugin_submitit import frozen, payload, results, scheduler, states, submission
from snakemake_executor_plugin_submitit.attach import Decision, Earlier, decide
from snakemake_executor_plugin_submitit.content import content_of
from snakemake_executor_plugin_submitit.earlier import EarlierJobs
from snakemake_executor_plugin_submitit.executor import Executor
from snakemake_executor_plugin_submitit.groups import bounded_resources, shared_resources
from snakemake_executor_plugin_submitit.leftovers import leftovers
from snakemake_executor_plugin_submitit.logs import last_lines, log_path
from snakemake_executor_plugin_submitit.marks import marks_of, put_back, still_made
from snakemake_executor_plugin_submitit.notes import Note, Notebook, key_of, whole_of
from snakemake_executor_plugin_submitit.parameters import ResourceError, submission_parameters
from snakemake_executor_plugin_submitit.partitions import Partition, check_fits, grown_to_fit, minutes_of, partitions
from snakemake_executor_plugin_submitit.parts import DONE, Part, without
from snakemake_executor_plugin_submitit.payload import JobCommand
from snakemake_executor_plugin_submitit.private import NotOurs, make_folders
from snakemake_executor_plugin_submitit.ready import Member, Ready
from snakemake_executor_plugin_submitit.scheduler import Limits, SchedulerError, cancel, condensed, limits, queue
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.submission import NoRoomError, SubmissionError, submit
from snakemake_executor_plugin_submitit.unnoted import note_unnoted, submitting
from snakemake_executor_plugin_submitit.waiting import PAUSE_SECONDS, REPEAT_SECONDS, Waiting

# Ends what would not end.
PATIENCE_SECONDS = 600.0
SNAKEFILE = """
rule all:
    input: "a.txt", "b.txt"
rule good:
    output: "a.txt"
    shell: "echo good > {output}"
rule other:
    output: "b.txt"
    shell: "{command}"
"""


@pytest.fixture(autouse=True)
def own_exit_code():
    """A command that fails decides on the exit code of its process, which is here that of all tests."""
    yield
    atexit.unregister(payload._fail)


def hear_ctrl_c() -> None:
    """Let a child process hear SIGINT (`preexec_fn`): what a shell starts in the background does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that will be."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_resources_have_the_names_of_the_official_executor():
    resources = {
        "runtime": 90, "mem_mb": 4001, "gpu": 2, "slurm_partition": "long", "slurm_account": "me", "qos": "high",
        "constraint": "a100", "slurm_extra": "--exclusive --mail-type=END --nice 5", "tmpdir": "/tmp", "unknown": 3,
    }  # fmt: skip
    parameters = submission_parameters("train", resources, threads=4)
    assert parameters == {
        "name": "train", "cpus_per_task": 4, "nodes": 1, "tasks_per_node": 1, "stderr_to_stdout": True,
        "timeout_min": 90, "mem_gb": pytest.approx(4001.5 / 1024), "gpus_per_node": 2, "slurm_partition": "long",
        "slurm_account": "me", "slurm_qos": "high", "slurm_constraint": "a100",
        "slurm_additional_parameters": {"requeue": True, "exclusive": True, "mail_type": "END", "nice": "5"},
    }  # fmt: skip


@pytest.mark.parametrize("megabytes", [1, 300, 1023, 1024, 1025, 4001, 191_999])
def test_memory_arrives_to_the_megabyte(megabytes, tmp_path, monkeypatch):
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    executor = AutoExecutor(folder=tmp_path, cluster="slurm")
    executor.update_parameters(**submission_parameters("x", {"mem_mb": megabytes}, 1))
    assert f"#SBATCH --mem={megabytes}MB" in executor._executor._make_submission_file_text("command", "id")


@pytest.mark.parametrize(
    ("resources", "complaint"),
    [
        ({"runtime": "soon"}, "x: runtime is 'soon'; expected a whole number"),
        ({"runtime": 0}, "x: runtime is 0; expected at least 1"),
        ({"mem_mb": -5}, "x: mem_mb is -5; expected at least 1"),
        ({"mem_mb": 5, "mem_mb_per_cpu": 5}, "say one"),
        ({"gpu": -1}, "x: gpu is -1; expected at least 0"),
        ({"slurm_extra": "--job-name=y"}, "--job-name is set by the executor; take it out"),
        ({"slurm_extra": "-o log"}, "--output is set by the executor"),
        ({"slurm_extra": "--job_name=y"}, "--job-name is set by the executor"),
        ({"slurm_extra": "--outpu x"}, "--output is set by the executor"),
        ({"slurm_extra": "--err=x"}, "--error is set by the executor"),
        ({"slurm_extra": "-oout"}, "--output is set by the executor"),
        ({"slurm_extra": "-HJname"}, "--job-name is set by the executor"),
        ({"slurm_extra": "'--nice --output=x'"}, "found '--nice --output=x'; expected an option of sbatch"),
        ({"slurm_extra": "--parsable"}, "--parsable is set by the executor"),
        ({"slurm_extra": "--ti=5"}, "--time is set by the resource runtime; say it there"),
        ({"slurm_extra": "-pgpu"}, "--partition is set by the resource slurm_partition; say it there"),
        ({"slurm_extra": "--comment='never closed"}, "x: slurm_extra is .*: No closing quotation"),
        ({"slurm_extra": "exclusive"}, "found 'exclusive'; expected an option of sbatch"),
        ({"slurm_extra": "--"}, "found '--'; expected an option of sbatch"),
        ({"slurm_extra": "-?"}, "found '-\\?'; expected an option of sbatch"),
        ({"slurm_extra": "--comment=a\0b"}, "expected one line without control characters"),
        ({"slurm_extra": "--comment='a\nrm -rf b'"}, "x: slurm_extra is .*; expected one line"),
        ({"qos": "a\nrm -rf b"}, "x: qos is .*; expected one line"),
    ],
)
def test_what_slurm_would_refuse_is_refused_before(resources, complaint):
    with pytest.raises(ResourceError, match=complaint):
        submission_parameters("x", resources, 1)


def test_options_of_sbatch_are_read_as_sbatch_reads_them():
    text = "--mail-type=END --nice 5 -x node1,node2 -Hwnode3 --gpus=2 --comment='two words' --exclusive\n"
    parameters = submission_parameters("x", {"slurm_extra": text}, 1)
    assert parameters["slurm_additional_parameters"] == {
        "requeue": True, "mail_type": "END", "nice": "5", "exclude": "node1,node2", "hold": True, "nodelist": "node3",
        "gpus": "2", "comment": "two words", "exclusive": True,
    }  # fmt: skip


def test_a_job_of_several_tasks_runs_its_command_once_and_outside_of_them(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, srun="true", sbatch=f"cp $1 {tmp_path}/script; echo Submitted batch job 7")
    command = JobCommand(["true"], tmp_path, tmp_path / "log", tmp_path / "cancelled", {}, patience=0.1)
    for resources in ({"tasks": 2}, {"nodes": 2}):
        jobs: list[Job] = []
        parameters = submission_parameters("x", resources, 3)
        submit([command], tmp_path / "jobs", parameters, SETTINGS, 0.0, jobs.extend)
        script = (tmp_path / "script").read_text()
        nodes, tasks = resources.get("nodes", 1), resources.get("tasks", 1)
        for line in (f"--nodes={nodes}", f"--ntasks-per-node={tasks}", "--cpus-per-task=3", "--signal=B:USR2@90"):
            assert f"#SBATCH {line}\n" in script
        assert f"\nexec {sys.executable} -u -m submitit" in script
        assert jobs[0].num_tasks == 1
    submit([command], tmp_path / "jobs", submission_parameters("x", {}, 3), SETTINGS, 0.0, jobs.extend)
    script = (tmp_path / "script").read_text()
    assert "\nsrun " in script
    assert "#SBATCH --signal=USR2@90\n" in script


def test_a_job_that_snakemake_runs_in_says_nothing_of_what_is_submitted(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, srun="true", sbatch=f"env > {tmp_path}/env; echo Submitted batch job 7")
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_MEM_PER_CPU", "SLURM_CONF", "SBATCH_ACCOUNT"):
        monkeypatch.setenv(name, "5")
    command = JobCommand(["true"], tmp_path, tmp_path / "log", tmp_path / "cancelled", {}, patience=0.1)
    submit([command], tmp_path / "jobs", submission_parameters("x", {}, 1), SETTINGS, 0.0, [].extend)
    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    assert {name for name in told if "SLURM_" in name or "SBATCH_" in name} == {"SLURM_CONF", "SBATCH_ACCOUNT"}
    assert os.environ["SLURM_JOB_ID"] == "5"


@pytest.mark.parametrize("limit", ["QOSMaxSubmitJobPerUserLimit", "AssocGrpSubmitJobsLimit"])
def test_a_limit_on_jobs_in_the_queue_is_told_from_a_refusal(tmp_path, monkeypatch, limit):
    command = JobCommand(["true"], tmp_path, tmp_path / "log", tmp_path / "cancelled", {}, patience=0.1)
    for words, error in ((limit, NoRoomError), ("AssocMaxWallDurationPerJobLimit", SubmissionError)):
        programs(tmp_path, monkeypatch, srun="true", sbatch=f"echo 'sbatch: error: {words}' >&2; exit 1")
        with pytest.raises(error, match=words):
            submit([command], tmp_path / "jobs", submission_parameters("x", {}, 1), SETTINGS, 60.0, [].extend)


def answering(folder: Path, text: str, monkeypatch) -> None:
    """Put a sacct on PATH that gives this answer, and counts."""
    program = folder / "sacct"
    program.write_text(f'#!/bin/bash\necho "$@" >> {folder}/calls\n{text}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_job_that_would_wait_for_ever_is_refused(tmp_path, monkeypatch):
    # A hidden partition is shown to those who ask for all, and the default one has a sign where its name is %P.
    programs(
        tmp_path, monkeypatch, sinfo='case "$*" in *%P*) star="*";; esac; '
        "printf \"cpu$star|1:00:00|8|16000\\ncpu$star|1:00:00|32|64000\\n\"; "
        "[[ \" $* \" = *' --all '* ]] && echo 'long|7-00:00:00|8|16000'",
    )  # fmt: skip
    known = partitions()
    assert known == {
        "cpu": Partition(60.0, 32, 64000, is_default=True),
        "long": Partition(7 * 1440.0, 8, 16000, is_default=False),
    }
    assert minutes_of("infinite") == float("inf")
    assert minutes_of("30:00") == 30.0

    def check(**resources) -> None:
        check_fits(submission_parameters("x", resources, resources.pop("threads", 1)), known)

    check(slurm_partition="cpu", runtime=60, mem_mb=64000, threads=32)
    check(slurm_partition="cpu,long", runtime=61)
    check(runtime=10**6)
    for resources, complaint in (
        ({"slurm_partition": "gpu"}, "there is no 'gpu'; sinfo lists cpu, long"),
        ({"slurm_partition": "cpu", "runtime": 61}, "runtime is 61, but partition cpu has 60 minutes"),
        ({"slurm_partition": "long", "threads": 9}, "threads is 9, but partition long has 8 CPUs a node"),
        ({"slurm_partition": "long", "threads": 3, "tasks": 3}, "threads is 9, but partition long has 8 CPUs a node"),
        ({"slurm_partition": "long", "mem_mb": 16001}, "mem_mb is 16001, but partition long has 16000 MB a node"),
    ):
        with pytest.raises(ResourceError, match=complaint):
            check(**resources)


def test_a_retry_asks_for_no_more_than_there_is(monkeypatch):
    monkeypatch.delenv("SBATCH_PARTITION", raising=False)
    known = {
        "cpu": Partition(60.0, 8, 16000),
        "long": Partition(1440.0, 8, 16000),
        "open": Partition(float("inf"), 8, 9),
    }

    def asked(**resources) -> tuple[int, float]:
        fitting = grown_to_fit(submission_parameters("x", resources, 1), known)
        check_fits(fitting, known)
        return fitting["timeout_min"], int(1024 * fitting["mem_gb"])

    assert asked(slurm_partition="cpu", runtime=61, mem_mb=16001) == (60, 16000)
    assert asked(slurm_partition="cpu,long", runtime=61, mem_mb=100) == (61, 100)
    assert asked(slurm_partition="open", runtime=10**6, mem_mb=5) == (10**6, 5)
    # Where none is named, than the default one has, if there is one and it is that of the cluster.
    assert asked(runtime=10**6, mem_mb=10**6) == (10**6, 10**6)
    known["cpu"] = replace(known["cpu"], is_default=True)
    assert asked(runtime=61, mem_mb=16001) == (60, 16000)
    assert asked(slurm_partition="long", runtime=61, mem_mb=100) == (61, 100)
    monkeypatch.setenv("SBATCH_PARTITION", "long")
    assert asked(runtime=61, mem_mb=16001) == (61, 16001)
    assert "timeout_min" not in grown_to_fit(submission_parameters("x", {"slurm_partition": "cpu"}, 1), known)


@dataclass(frozen=True, eq=False)
class OneOfGroup:
    """What a group sees of its member."""

    resources: dict[str, object]
    pipe_group: str | None


def group(*layers: list[dict[str, object]], cores: int | None = None) -> SimpleNamespace:
    """Return a group of jobs by their resources, each layer after those before; of one pipe where these name one."""
    usual = {"runtime": 60, "mem_mb": 300}
    jobs = [[OneOfGroup(usual | one, one.get("pipe")) for one in layer] for layer in layers]
    bounds = Resources()
    bounds["_cores"] = cores
    return SimpleNamespace(
        name="some", jobs=[one for layer in jobs for one in layer], toposorted=jobs, global_resources=bounds
    )


NODES = {"small": Partition(1440.0, 2, 1000), "large": Partition(1440.0, 64, 64000)}


@pytest.mark.parametrize(
    ("members", "cpus", "asked"),
    [
        # As many at a time as the setting allows, for as long as all of them take.
        (group([{"_cores": 1}] * 8), 1, (1, 300, 480)),
        (group([{"_cores": 1}] * 8), 4, (4, 1200, 120)),
        (group([{"_cores": 1}] * 8), 5, (5, 1500, 120)),
        (group([{"_cores": 1}] * 8), 16, (8, 2400, 60)),
        (group([{"_cores": 1}] * 2, [{"_cores": 1}]), 4, (2, 600, 120)),
        # One that needs more has it; so do those that a pipe joins, which run at the same time.
        (group([{"_cores": 6}, {"_cores": 1}, {"_cores": 1}]), 4, (6, 600, 120)),
        (group([{"_cores": 3, "pipe": "a"}, {"_cores": 3, "pipe": "a"}]), 4, (6, 600, 60)),
        # No more than Snakemake was told.
        (group([{"_cores": 1}] * 4, cores=2), 4, (2, 600, 120)),
        # No more than the largest node of its partition has, of CPUs and of memory.
        (group([{"_cores": 1, "slurm_partition": "small"}] * 4), 4, (2, 600, 120)),
        (group([{"_cores": 1, "slurm_partition": "small,large"}] * 4), 4, (4, 1200, 60)),
        (group([{"_cores": 1, "slurm_partition": "small", "mem_mb": 600}] * 4), 4, (1, 600, 240)),
    ],
)
def test_members_of_a_group_run_as_many_at_a_time_as_fit_its_job(members, cpus, asked):
    resources = bounded_resources(members, cpus, NODES)
    assert (resources["_cores"], resources["mem_mb"], resources["runtime"]) == asked


def test_what_a_group_says_once_is_not_added_up():
    said = {"mem_mb_per_cpu": 500, "nodes": 1, "tasks": 1}
    members = group([{"_cores": 1, "gpu": 1} | said, {"_cores": 1} | said])
    resources = bounded_resources(members, 2, {})
    assert {name: resources[name] for name in said} == said
    assert resources["gpu"] == 1


def test_members_with_a_gpu_run_one_after_another_and_those_without_beside():
    members = group([{"_cores": 1, "gpu": 1}] * 4 + [{"_cores": 1}] * 4)
    resources = bounded_resources(members, 4, NODES)
    assert (resources["gpu"], resources["_cores"], resources["runtime"]) == (1, 4, 240)
    assert shared_resources(members, resources) == {"mem_mb": 1200, "gpu": 1}
    assert bounded_resources(group([{"_cores": 1, "gpu": 2}, {"_cores": 1, "gpu": 1}]), 4, NODES)["gpu"] == 2


SHARING = {"_cores": 1, "gpu": 1, "gpu_mem_mb": 10_000}


@pytest.mark.parametrize(
    ("members", "gpu_memory", "asked", "bounds"),
    [
        ([SHARING] * 4, 40_000, (1, 4, 1200, 60), {"mem_mb": 1200, "gpu_mem_mb": 40_000}),
        ([SHARING] * 4, 20_000, (1, 2, 600, 120), {"mem_mb": 600, "gpu_mem_mb": 20_000}),
        ([SHARING] * 2 + [SHARING | {"gpu_mem_mb": 15_000}], 20_000, (1, 2, 600, 120), None),
        # Those without a GPU go beside.
        ([SHARING] * 2 + [{"_cores": 1}] * 2, 10_000, (1, 3, 900, 120), None),
        # No more at a time than CPUs allow.
        ([SHARING | {"_cores": 2}] * 4, 40_000, (1, 4, 600, 120), None),
        # One after another, where it is not known what fits: of the GPU, of one member; or one takes several.
        ([SHARING] * 4, 0, (1, 1, 300, 240), {"mem_mb": 300, "gpu": 1}),
        ([SHARING] * 3 + [{"_cores": 1, "gpu": 1}], 40_000, (1, 1, 300, 240), {"mem_mb": 300, "gpu": 1}),
        ([SHARING, SHARING | {"gpu": 2}], 40_000, (2, 1, 300, 120), {"mem_mb": 300, "gpu": 2}),
    ],
)
def test_members_that_say_what_they_need_of_a_gpu_share_it(members, gpu_memory, asked, bounds):
    some = group(members)
    resources = bounded_resources(some, 4, NODES, gpu_memory)
    assert tuple(resources[name] for name in ("gpu", "_cores", "mem_mb", "runtime")) == asked
    if bounds is not None:
        assert shared_resources(some, resources, gpu_memory) == bounds


@pytest.mark.parametrize(
    ("needed", "complaint"),
    [
        (10_001, "some: gpu_mem_mb is 10001, but submitit-group-gpu-mem-mb is 10000"),
        ("8 GB", "some: gpu_mem_mb is '8 GB'; expected a whole number of MB"),
        (-1, "some: gpu_mem_mb is -1; expected a whole number of MB"),
    ],
)
def test_what_no_gpu_has_is_refused(needed, complaint):
    with pytest.raises(ResourceError, match=complaint):
        bounded_resources(group([SHARING, SHARING | {"gpu_mem_mb": needed}]), 4, NODES, 10_000)


def test_cpus_per_task_are_cpus_of_a_group():
    members = group([{"_cores": 1, "cpus_per_task": 3, "slurm_partition": "large"}] * 4)
    resources = bounded_resources(members, 6, NODES)
    assert (resources["_cores"], resources["runtime"]) == (6, 120)
    assert submission_parameters("x", resources, resources["_cores"])["cpus_per_task"] == 6
    assert shared_resources(members, resources) == {"mem_mb": 600, "cpus_per_task": 6}


def test_a_member_whose_inputs_are_to_be_made_yet_says_nothing():
    unknown = {"mem_mb": TBDString(), "mem_mb_per_cpu": TBDString()}
    members = group([{"_cores": 1, "slurm_partition": "small"} | unknown, {"_cores": 1, "slurm_partition": "small"}])
    assert bounded_resources(members, 2, NODES)["mem_mb"] == 300


def test_a_group_of_two_partitions_is_refused():
    members = group([{"_cores": 1, "slurm_partition": name} for name in NODES])
    with pytest.raises(ResourceError, match="some: "):
        bounded_resources(members, 4, NODES)


def test_one_call_asks_for_all_jobs_and_understands_arrays(tmp_path, monkeypatch):
    table = "JobID|State\n7_0|COMPLETED\n7_[1-3%5]|PENDING\n8|CANCELLED by 0\n9_4|OUT_OF_MEMORY\n"
    answering(tmp_path, f"cat <<'EOF'\n{table}EOF", monkeypatch)
    found = states.query(["7_0", "7_1", "7_3", "8", "9_4", "10"])
    assert {job: found.get(job) for job in ("7_0", "7_1", "7_3", "8", "9_4", "10")} == {
        "7_0": "COMPLETED", "7_1": "PENDING", "7_3": "PENDING", "8": "CANCELLED", "9_4": "OUT_OF_MEMORY", "10": None,
    }  # fmt: skip
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.endswith("-j 10,7,8,9")


def test_an_accounting_that_fails_is_told_from_jobs_that_fail(tmp_path, monkeypatch):
    answering(tmp_path, "echo the database is away >&2; exit 1", monkeypatch)
    with pytest.raises(states.AccountingError, match="sacct failed: the database is away"):
        states.query(["1"])


BANNER = "All nodes are down for maintenance on Monday\n"


@pytest.mark.parametrize(
    "answer",
    ["JobID|State\n7|\n8|RUNNING\n", f"{BANNER}JobID|State\n7|RUNNING\n", f"JobID|State\n7|RUNNING\n{BANNER}"],
    ids=["no state", "banner before", "banner after"],
)
def test_an_answer_of_sacct_that_cannot_be_read_is_none(tmp_path, monkeypatch, answer):
    (tmp_path / "answer").write_text(answer)
    answering(tmp_path, f"cat {tmp_path}/answer", monkeypatch)
    with pytest.raises(states.AccountingError, match=r"sacct's answer cannot be read: '\w+"):
        states.query(["7", "8"])


def not_to_be_started(folder: Path, name: str, monkeypatch) -> None:
    """Put a program on PATH that the system refuses to start, as where a process more cannot be had."""
    (folder / name).write_text("neither a script nor a program")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_sacct_or_squeue_that_cannot_be_started_gives_no_answer(tmp_path, monkeypatch):
    not_to_be_started(tmp_path, "sacct", monkeypatch)
    with pytest.raises(states.AccountingError, match="sacct cannot be started: "):
        states.query(["7"])
    for start in (lambda: not_to_be_started(tmp_path, "squeue", monkeypatch), (tmp_path / "squeue").unlink):
        start()
        with pytest.raises(SchedulerError, match="SLURM does not answer"):
            queue(0.0)


def test_accounting_is_asked_less_often_while_nothing_ends(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(states.time, "monotonic", lambda: now[0])
    answering(tmp_path, f"echo 'JobID|State'; cat {tmp_path}/table", monkeypatch)
    table, calls = tmp_path / "table", tmp_path / "calls"
    complaints: list[str] = []
    accounting = states.Accounting(10.0, complaints.append)

    def asked(seconds: int) -> list[float]:
        """Return when sacct is called in the next rounds, one a second."""
        times = []
        for _ in range(seconds):
            before = len(calls.read_text().splitlines()) if calls.exists() else 0
            accounting.ask(["7_0", "7_1"])
            times += [now[0]] if calls.exists() and len(calls.read_text().splitlines()) > before else []
            now[0] += 1.0
        return times

    table.write_text("7_0|RUNNING\n7_1|RUNNING\n")
    assert asked(240) == [10.0, 30.0, 70.0, 130.0, 190.0]
    assert accounting.state("7_1") == "RUNNING"
    # What is over without a result is looked at again soon: its node may have failed and given it back.
    table.write_text("7_0|NODE_FAIL\n7_1|RUNNING\n")
    assert asked(35) == [250.0, 260.0, 270.0]
    assert accounting.state("7_0") == "NODE_FAIL"
    (tmp_path / "sacct").write_text(f"#!/bin/bash\necho x >> {calls}; exit 1\n")
    assert asked(25)
    assert len(complaints) == 1
    assert accounting.state("7_0") == "NODE_FAIL"


def test_tasks_of_an_array_are_cancelled_as_one(tmp_path, monkeypatch):
    assert condensed(["7_1", "8", "7_4", "7_2", "9_0"]) == ["7_[1-2,4]", "8", "9_[0]"]
    program = tmp_path / "scancel"
    program.write_text(f'#!/bin/bash\necho "$@" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said: list[str] = []
    assert cancel([], 0.0, said.append) == []
    assert not (tmp_path / "calls").exists()
    assert cancel((f"5_{number}" for number in range(10_000)), 0.0, said.append) == []
    assert (tmp_path / "calls").read_text() == "5_[0-9999]\n"
    assert not said


def test_a_scheduler_that_is_away_is_told_again_to_cancel(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.01)
    away = "echo 'scancel: error: Kill job error on job id 7: Unable to contact slurm controller' >&2; exit 1"
    calls = tmp_path / "calls"
    programs(tmp_path, monkeypatch, scancel=f"echo x >> {calls}; [ $(wc -l < {calls}) -gt 2 ] && exit; {away}")
    said: list[str] = []
    assert cancel(["7"], 60.0, said.append) == []
    assert len(calls.read_text().split()) == 3
    assert len(said) == 1
    programs(tmp_path, monkeypatch, scancel=away)
    assert cancel(["7_0", "7_1", "8"], 0.0, said.append) == ["7_[0-1]", "8"]


KILL_ERROR = "scancel: error: Kill job error on job id 7: "
INVALID, OVER = KILL_ERROR + "Invalid job id specified", KILL_ERROR + "Job/step already completing or completed"


@pytest.mark.parametrize(
    ("words", "code", "cancelled"),
    [
        # They are over already: that is what was wanted.
        (["scancel: error: Invalid job id 7"], 1, True),
        ([INVALID, OVER], 1, True),
        (["scancel: Terminating job 7", OVER], 1, True),
        # What it says of other things does not matter where it was done.
        (["scancel: error: Ignoring obsolete option of slurm.conf"], 0, True),
        # One of several is not.
        ([INVALID, KILL_ERROR + "Unable to contact slurm controller (connect failure)"], 1, False),
        ([KILL_ERROR + "Unable to contact slurm controller (connect failure)"], 0, False),
        ([KILL_ERROR + "Slurm backup controller in standby mode"], 1, False),
        ([KILL_ERROR + "Zero Bytes were transmitted or received"], 60, False),
        ([KILL_ERROR + "Protocol authentication error"], 1, False),
        ([KILL_ERROR + "Access/permission denied"], 1, False),
        ([], 137, False),
    ],
)
def test_what_scancel_does_not_say_is_over_is_not_taken_for_cancelled(tmp_path, monkeypatch, words, code, cancelled):
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.01)
    (tmp_path / "words").write_text("".join(f"{line}\n" for line in words))
    programs(tmp_path, monkeypatch, scancel=f"cat {tmp_path}/words >&2; exit {code}")
    said: list[str] = []
    assert cancel(["7"], 0.0, said.append) == ([] if cancelled else ["7"])
    assert said == ([] if cancelled else ["\n".join(words) or f"scancel ended with exit code {code}"])


def test_a_scancel_that_cannot_be_started_has_cancelled_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.01)
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    assert cancel(["7"], 0.0, said.append) == ["7"]
    assert "scancel cannot be started: " in said[0]


def test_jobs_in_the_queue_are_asked_for_until_slurm_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.01)
    answer = "printf '7_0 RUNNING\\n7_1 PENDING\\n8 COMPLETING\\n'"
    programs(
        tmp_path, monkeypatch, squeue=f"echo x >> {tmp_path}/calls; [ $(wc -l < {tmp_path}/calls) -gt 2 ] && {answer}"
    )
    assert queue(60.0) == {"7_0": "RUNNING", "7_1": "PENDING", "8": "COMPLETING"}
    programs(tmp_path, monkeypatch, squeue="exit 1")
    with pytest.raises(SchedulerError, match="SLURM does not answer"):
        queue(0.0)


QUEUE = """
[ "${{@: -1}}" = "JobArrayID:64|,State:64|,Reason:64|,RestartCnt:64|" ] || exit 1
cat {folder}/queue
"""


def test_jobs_that_wait_say_why_and_those_put_back_that_they_were(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, squeue=QUEUE.format(folder=tmp_path))
    now, said = [0.0], []
    waiting = Waiting(said.append, lambda: now[0])
    labels = {"7_0": "train/seed=0", "7_1": "train/seed=1", "8": "label/x", "9": "label/y"}

    def look(text: str, seconds: float = PAUSE_SECONDS) -> list[str]:
        (tmp_path / "queue").write_text(text)
        now[0] += seconds
        said.clear()
        waiting.look(labels)
        return [*said]

    waits = "7_0   |PENDING|Priority|0|\n7_1|PENDING|Priority |0|\n8|PENDING|Resources|0|\n9|RUNNING|None|0|\n"
    assert look(waits, 1.0) == []  # not yet: most jobs begin soon
    why = "Jobs that wait: 2 behind jobs of a higher priority (Priority), 1 until nodes are free (Resources)."
    assert look(waits) == [why]
    assert look(waits) == []
    assert look(waits + "55|PENDING|Licenses|0|\n") == []  # of another run
    back = "Job 9 (label/y) was put back in the queue (restart 1)."
    assert look("8|PENDING|QOSMaxJobsPerUserLimit|0|\n9|RUNNING|None|1|\n") == [
        back,
        "Jobs that wait: 1 (QOSMaxJobsPerUserLimit).",
    ]
    assert look("9|RUNNING|None|1|\n") == []
    assert look(waits) == [why]
    assert look(waits, REPEAT_SECONDS) == [why]
    assert look("nonsense\n|||\n") == []
    assert look("8|PENDING|ReqNodeNotAvail, UnavailableNodes:n1|0|\n") == [
        "Jobs that wait: 1 for nodes that are reserved or down (ReqNodeNotAvail)."
    ]
    assert look("8|PENDING|ReqNodeNotAvail, UnavailableNodes:n[1-2]|0|\n") == []
    waiting.take_over("8", 2)
    assert look("8|RUNNING|None|3|\n") == []  # before this run
    assert look("8|RUNNING|None|4|\n") == ["Job 8 (label/x) was put back in the queue (restart 4)."]
    # What the job says itself at its end is said if no look has seen it.
    for restarts, told in ((4, []), (5, ["Job 8 (label/x) was put back in the queue (restart 5)."])):
        said.clear()
        waiting.hear("8", "label/x", restarts)
        assert said == told
    programs(tmp_path, monkeypatch, squeue="exit 1")
    assert look(waits) == []


def programs(folder: Path, monkeypatch, **texts: str) -> None:
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(("told", "size"), [("1001", 1001), ("0", 1)])
def test_the_cluster_is_asked_what_it_allows(tmp_path, monkeypatch, told, size):
    programs(
        tmp_path, monkeypatch, sinfo="echo 'cpu|1:00:00|8|16000'", sacct="echo 'JobID|State'",
        scontrol=f"echo $@ >> {tmp_path}/calls; echo 'ClusterName = one'; echo 'MaxArraySize            = {told}'",
    )  # fmt: skip
    assert limits() == Limits({"cpu": Partition(60.0, 8, 16000)}, size, cluster="one")
    assert (tmp_path / "calls").read_text() == "show config\n"


def test_a_cluster_without_accounts_is_asked_by_its_queue(tmp_path, monkeypatch):
    programs(
        tmp_path, monkeypatch, sinfo="echo 'cpu|1:00:00|8|16000'", sacct="echo accounting is disabled >&2; exit 1",
        scontrol="true", squeue="echo 7 RUNNING",
    )  # fmt: skip
    assert limits().no_accounts == "sacct failed: accounting is disabled"
    now = [0.0]
    monkeypatch.setattr(states.time, "monotonic", lambda: now[0])
    complaints: list[str] = []
    accounting = states.Accounting(10.0, complaints.append, scheduler.states_with_or_without_accounts)
    now[0] = 10.0
    accounting.ask(["7", "8"])
    assert [states.is_over(accounting.state(job_id)) for job_id in ("7", "8")] == [False, True]
    assert "left the queue without a result" in states.reason(accounting.state("8"), "")
    # A controller that is away has lost nothing.
    programs(tmp_path, monkeypatch, squeue="echo Unable to contact slurm controller >&2; exit 1")
    now[0] = 30.0
    accounting.ask(["7", "8"])
    assert not states.is_over(accounting.state("7"))
    assert len(complaints) == 1
    # A state that we do not know, of a job that is there; and the accounts again, once they answer.
    programs(tmp_path, monkeypatch, squeue="echo 7 RESV_DEL_HOLD")
    now[0] = 60.0
    accounting.ask(["7"])
    assert not states.is_over(accounting.state("7"))
    programs(tmp_path, monkeypatch, sacct="printf 'JobID|State\\n7|OUT_OF_MEMORY\\n'")
    now[0] = 200.0
    accounting.ask(["7"])
    assert accounting.state("7") == "OUT_OF_MEMORY"


def test_a_cluster_that_is_away_is_told_from_none(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, sinfo="echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(SchedulerError, match="sinfo: Unable to contact slurm controller"):
        limits()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(SchedulerError, match="no sinfo on PATH"):
        limits()


SETTINGS = ExecutorSettings()


def test_a_scheduler_that_cannot_be_reached_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "PAUSE_SECONDS", 0.01)
    away = f"[ $(wc -l < {tmp_path}/calls) -lt 3 ] && echo 'Unable to contact slurm controller (connect failure)' >&2"
    programs(
        tmp_path, monkeypatch, srun="true",
        sbatch=f"echo x >> {tmp_path}/calls\n{away} && exit 1\necho Submitted batch job 7",
    )  # fmt: skip
    command = JobCommand(["true"], tmp_path, tmp_path / "log", tmp_path / "cancelled", {}, patience=0.1)
    parameters = submission_parameters("x", {}, 1)
    jobs: list[Job] = []
    submit([command, command], tmp_path / "jobs", parameters, SETTINGS, 60.0, jobs.extend)
    assert [job.job_id for job in jobs] == ["7_0", "7_1"]
    assert len((tmp_path / "calls").read_text().split()) == 3
    (tmp_path / "calls").unlink()
    with pytest.raises(SubmissionError, match="Unable to contact"):
        submit([command], tmp_path / "jobs", parameters, SETTINGS, 0.0, jobs.extend)
    # What was refused, or may have been taken, is not said twice.
    programs(tmp_path, monkeypatch, sbatch=f"echo x >> {tmp_path}/refused; echo 'Socket timed out' >&2; exit 1")
    with pytest.raises(SubmissionError, match="Socket timed out"):
        submit([command], tmp_path / "jobs", parameters, SETTINGS, 60.0, jobs.extend)
    assert len(jobs) == 2
    assert (tmp_path / "refused").read_text() == "x\n"


SUBMITTING = """
import signal, sys
from pathlib import Path
from snakemake_executor_plugin_submitit.parameters import submission_parameters
from snakemake_executor_plugin_submitit.payload import JobCommand
from snakemake_executor_plugin_submitit.ready import Member, Ready
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.submission import submit
here = Path(sys.argv[1])
command = JobCommand(["true"], here, here / "log", here / "cancelled", {}, patience=0.1)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler)
listed = []
try:
    submit([command], here / "jobs", submission_parameters("x", {}, 1), ExecutorSettings(), 0.0, listed.extend)
except KeyboardInterrupt:
    print("interrupted after", [job.job_id for job in listed])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_a_submission_waits_until_the_job_is_listed(tmp_path, monkeypatch, number):
    programs(
        tmp_path, monkeypatch, srun="true", sbatch=f"kill -{number.value} $PPID; sleep 0.5; echo Submitted batch job 7"
    )
    done = subprocess.run(
        [sys.executable, "-c", SUBMITTING, str(tmp_path)],
        capture_output=True, text=True, timeout=PATIENCE_SECONDS, preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    assert done.stdout.strip() == "interrupted after ['7']", done.stderr


def ended(folder: Path, outcome: tuple[str, object]) -> Job:
    """Return a job that has left this result."""
    folder.mkdir(exist_ok=True)
    job: Job = SlurmJob(folder=folder, job_id="7_3")
    for path in (job.paths.submitted_pickle, job.paths.stdout):
        path.write_text("")
    job.paths.result_pickle.write_bytes(pickle.dumps(outcome))
    return job


def test_a_result_says_what_went_wrong(tmp_path):
    assert results.problem(ended(tmp_path, ("success", 0))) == ""
    assert results.problem(ended(tmp_path, ("success", 3))) == "its command ended with exit code 3"
    trace = 'Traceback (most recent call last):\n  File "x"\nNotADirectoryError: [Errno 20] Not a directory: log\n'
    problem = results.problem(ended(tmp_path, ("error", trace)))
    assert problem == "it could not run its command: NotADirectoryError: [Errno 20] Not a directory: log"
    ended(tmp_path, ("success", 0)).paths.result_pickle.write_bytes(b"cut off")
    job = SlurmJob(folder=tmp_path, job_id="7_3")
    assert results.problem(job).startswith("its result cannot be read: UnpicklingError")
    trace = "submitit.core.utils.UncompletedJobError: Job not requeued because: timed-out too many times.\n"
    assert "more often than --submitit-requeues allows" in results.problem(ended(tmp_path, ("error", trace)))


def test_results_are_found_by_folder_and_taken_away(tmp_path):
    folder = tmp_path / "jobs"
    job = ended(folder, ("success", 0))
    (folder / ".submission_file_1.sh").touch()
    (folder / "7_submission.sh").touch()
    (folder / f"{frozen.PREFIX}0.yaml").touch()
    assert results.results([folder, folder, tmp_path / "missing"]) == {job.paths.result_pickle}
    results.tidy(folder)
    assert job.paths.result_pickle.exists()
    results.discard(job)
    results.discard(job)
    results.tidy(folder)
    assert not folder.exists()
    results.tidy(folder)


def test_states_are_over_or_not_and_have_reasons():
    assert not any(map(states.is_over, ("PENDING", "RUNNING", "REQUEUED", "PREEMPTED", "SUSPENDED", "UNKNOWN")))
    assert all(map(states.is_over, ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")))
    assert "more memory" in states.reason(
        "FAILED", "slurmstepd: error: StepId=20.0 exceeded memory limit, being killed"
    )
    assert "node failed" in states.reason("NODE_FAIL", "")
    assert states.reason("STRANGE", "") == "it ended in state STRANGE"


def test_notes_are_found_again(tmp_path):
    notebook = Notebook(tmp_path)
    key = key_of("rule", ["b", "a"])
    assert key == key_of("rule", ["a", "b"]) != key_of("rule", ["a"])
    assert whole_of([key]) == key
    assert whole_of([key, "other"]) == whole_of(["other", key]) != key
    assert notebook.read(key) is None
    (tmp_path / "jobs" / "run").mkdir(parents=True)
    log = str(tmp_path / "logs" / "rule" / "log")
    note = Note(key, "content", key, "1_2", str(tmp_path / "jobs" / "run"), log)
    notebook.write(note)
    assert Notebook(tmp_path).read(key) == note
    # One of before notes said what was asked for.
    (tmp_path / "notes" / f"{key}.json").write_text(json.dumps({k: v for k, v in asdict(note).items() if k != "asked"}))
    assert notebook.read(key) == note
    (tmp_path / "notes" / f"{key}.json").write_text("{")
    assert notebook.read(key) is None
    notebook.forget(key)
    notebook.forget(key)


def test_outputs_are_those_of_a_noted_job_or_of_another(tmp_path):
    notebook, output = Notebook(tmp_path), tmp_path / "out"
    output.touch()
    assert not notebook.precedes("key", [str(output)], time.time() + 60.0)
    notebook.write(Note("key", "content", "key", "1", str(tmp_path), str(tmp_path)))
    now = (tmp_path / "notes" / "key.json").stat().st_mtime
    for age, its_own in ((-5.0, False), (5.0, True), (65.0, False)):
        os.utime(output, (now + age, now + age))
        assert notebook.precedes("key", [str(output)], now + 60.0) is its_own
    os.utime(output, (now, now))
    assert not notebook.precedes("key", [str(output), str(tmp_path / "missing")], now + 60.0)


def submitted_to(jobs: Path, array: str, when: float, told: int) -> None:
    """Leave what a submission at some time (s) leaves of an array, whose first tasks have been told what to run."""
    script = jobs / f"{array}_submission.sh"
    script.touch()
    os.utime(script, (when, when))
    for task in range(told):
        command = JobCommand(
            ["true"], jobs, jobs.parents[1] / "logs" / "log", Path("cancelled", f"whole{task}"), {}, 1.0,
            [Part(f"{array}-{task}", "content", "one:", (), ())],
        )  # fmt: skip
        DelayedSubmission(command).dump(SlurmJob(folder=jobs, job_id=f"{array}_{task}").paths.submitted_pickle)


def test_jobs_of_a_submission_that_was_cut_off_are_noted_or_cancelled_and_no_others(tmp_path, monkeypatch):
    jobs = tmp_path / "jobs" / "run"
    script = jobs / ".submission_file_2.sh"
    queued = {"7_0": jobs / ".submission_file_1.sh", "8_0": script, "8_1": script, "9": "/elsewhere/script"}
    answer = "\n".join(f"echo '{job_id} {path}'" for job_id, path in queued.items())
    programs(tmp_path, monkeypatch, squeue=answer, scancel=f"echo $@ >> {tmp_path}/cancellations")
    notebook, now = Notebook(tmp_path), time.time()
    with submitting(jobs):
        os.utime(jobs / "submitting", (now, now))
        submitted_to(jobs, "7", when=now - 1.0, told=1)
        submitted_to(jobs, "8", when=now + 1.0, told=1)
        note_unnoted(tmp_path, notebook, 0.0, print)
    assert notebook.read("7-0") is None
    assert notebook.read("8-0") == Note("8-0", "content", "whole0", "8_0", str(jobs), str(tmp_path / "logs" / "log"))
    assert (tmp_path / "notes" / "8-0.json").stat().st_mtime == pytest.approx(now + 1.0)
    assert (tmp_path / "cancellations").read_text() == "8_[1]\n"
    # Where no submission was cut off, SLURM is not asked.
    programs(tmp_path, monkeypatch, squeue="exit 1")
    note_unnoted(tmp_path, notebook, 0.0, print)


FAILED = "sbatch: error: Batch job submission failed: "


def submit_two(folder: Path) -> None:
    """Submit an array as the executor does."""
    command = JobCommand(["true"], folder, folder / "log", folder / "cancelled", {}, patience=0.1)
    jobs = folder / "jobs" / "run"
    with submitting(jobs):
        submit([command, command], jobs, submission_parameters("x", {}, 1), SETTINGS, 0.0, [].extend)


@pytest.mark.parametrize(
    ("sbatch", "may_be_queued"),
    [
        ("echo Submitted batch job 7", False),
        (f"echo '{FAILED}Invalid partition name specified' >&2; exit 1", False),
        (f"echo '{FAILED}Unable to contact slurm controller (connect failure)' >&2; exit 1", False),
        (f"echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit\n{FAILED}Job violates policy' >&2; exit 1", False),
        (f"echo '{FAILED}Socket timed out on send/recv operation' >&2; exit 1", True),
        (f"echo '{FAILED}Zero Bytes were transmitted or received' >&2; exit 1", True),
        (f"echo '{FAILED}Unable to contact slurm controller (receive failure)' >&2; exit 1", True),
        ("kill -9 $$", True),
        ("echo Welcome", True),
    ],
)
def test_jobs_that_may_have_been_taken_though_sbatch_failed_are_cancelled_by_the_next_start(
    tmp_path, monkeypatch, sbatch, may_be_queued
):
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.01)
    mark = tmp_path / "jobs" / "run" / "submitting"
    programs(tmp_path, monkeypatch, srun="true", sbatch=sbatch)
    with contextlib.suppress(SubmissionError, NoRoomError):
        submit_two(tmp_path)
    assert mark.exists() is may_be_queued
    # What is submitted later does not tell what became of them.
    programs(tmp_path, monkeypatch, sbatch="echo Submitted batch job 9")
    submit_two(tmp_path)
    assert mark.exists() is may_be_queued
    queued = "\n".join(
        f"echo '{job_id} {mark.parent}/.submission_file_1.sh'" for job_id in ("8_0", "8_1", "9_0", "9_1")
    )
    programs(tmp_path, monkeypatch, squeue=queued, scancel=f"echo $@ >> {tmp_path}/cancellations; exit 1")
    note_unnoted(tmp_path, Notebook(tmp_path), 0.0, print)
    # Not while they could not be cancelled.
    assert mark.exists() is may_be_queued
    programs(tmp_path, monkeypatch, scancel="exit 0")
    note_unnoted(tmp_path, Notebook(tmp_path), 0.0, print)
    assert not mark.exists()
    assert (tmp_path / "cancellations").exists() is may_be_queued
    if may_be_queued:
        assert (tmp_path / "cancellations").read_text() == "8_[0-1]\n"


def test_jobs_that_may_have_been_taken_before_ctrl_c_ended_sbatch_are_looked_for(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, srun="true", sbatch=f"kill -{signal.SIGINT.value} $PPID; kill -9 $$")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            submit_two(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "jobs" / "run" / "submitting").exists()


def member(template: str | None = None, source: str = "source", script: str | None = None, **job) -> SimpleNamespace:
    """Return what is looked at of a Snakemake job."""
    rule = SimpleNamespace(name="train", shellcmd=template, run_func_src=source, script=script, notebook=None)
    nothing = {"shellcmd": None, "container_img_url": None, "conda_env": None, "env_modules": None}
    return SimpleNamespace(rule=rule, **(nothing | {"params": [], "input": []} | job))


def test_the_content_of_a_job_is_all_that_snakemake_sees_of_how_it_is_made(tmp_path):
    source, other = tmp_path / "input", tmp_path / "other"
    source.write_text("1")
    other.write_text("1")
    modules = SimpleNamespace(hash="1")
    contents = [
        content_of(one)
        for one in (
            member(), member(source="edited"), member(params=[1]), member(params=["1"]), member(params=[{"a": 1}]),
            # The same text, filled from another config.
            member("run {config[rate]}", shellcmd="run 1"), member("run {config[rate]}", shellcmd="run 2"),
            member(container_img_url="x"), member(conda_env=SimpleNamespace(content=b"numpy")),
            member(env_modules=modules, params=[1]),
            member(input=[source]), member(input=[other]), member(input=[source, other]),
        )
    ]  # fmt: skip
    assert len(set(contents)) == len(contents)
    script = member(script="script.py", _path_to_source_file=lambda path: Source(tmp_path / path))
    before = content_of(script)
    (tmp_path / "script.py").write_text("edited")
    assert content_of(script) != before
    # What the group itself makes is there at the next start, and was not at the first.
    assert content_of(member(input=[source]), frozenset([str(source)])) == content_of(member())
    before = content_of(member(input=[source]))
    source.write_text("22")
    assert content_of(member(input=[source])) != before


class Source:
    """A script, as Snakemake names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get_path_or_uri(self, secret_free: bool) -> str:
        return str(self.path)


def test_parameters_are_written_the_same_by_two_runs_of_python():
    script = (
        "from types import SimpleNamespace as S\nfrom snakemake_executor_plugin_submitit.content import content_of\n"
        "rule = S(name='r', shellcmd=None, run_func_src='', script=None, notebook=None)\n"
        "params = [{'b', 'a', 'c'}, {'x': frozenset('abc')}, object(), (1, [2.0, None])]\n"
        "print(content_of(S(rule=rule, params=params, input=[], shellcmd=None, container_img_url=None, conda_env=None, "
        "env_modules=None)))"
    )
    written = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(written) == 1


def test_marks_that_a_command_takes_away_are_put_back(tmp_path):
    persistence = FilePersistence(path=tmp_path / ".snakemake")
    outputs = [IOFile("results/model"), IOFile("x" * 300)]
    keys = [str(output) for output in outputs]
    marks = marks_of(persistence, outputs)
    part = Part("key", "content", "one:", (), tuple(marks))
    for key in keys:
        persistence._mark_incomplete(key, "12")
    assert all(mark.exists() for mark in marks)
    command = ["rm", *map(str, marks)]
    began = time.time()
    assert JobCommand(command, tmp_path, tmp_path / "log", tmp_path / "cancelled", {}, 0.1, [part])() == 0
    persistence._clear_cache()
    assert persistence._filter_incomplete_keys(keys) == set(keys)
    assert began <= persistence._get_recorded_starttime(keys[0]) <= time.time()
    # Those that are there say more.
    persistence._mark_incomplete(keys[0], "12")
    JobCommand(["true"], tmp_path, tmp_path / "log", tmp_path / "cancelled", {}, 0.1, [part])()
    assert persistence._get_external_jobids(keys) == {"12"}
    assert marks_of(SimpleNamespace(), outputs) == []  # a database keeps them


def test_a_mark_that_is_put_back_has_its_text_and_its_time_from_the_first_moment_on(tmp_path, monkeypatch):
    mark, there, utime = tmp_path / "incomplete" / "mark", [], os.utime

    def look(path: Path, times: tuple[float, float]) -> None:
        there.append(mark.exists())
        utime(path, times)

    monkeypatch.setattr(os, "utime", look)
    put_back([mark], 5.0, made=True)
    assert there == [False]
    assert mark.stat().st_mtime == 5.0
    assert list(mark.parent.iterdir()) == [mark]


def test_folders_are_closed_to_others_and_those_of_others_refused(tmp_path, monkeypatch):
    wide = tmp_path / "wide"
    wide.mkdir()
    wide.chmod(0o775)
    make_folders(wide, wide / "notes")
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (wide, wide / "notes")] == [0o700, 0o700]
    (tmp_path / "link").symlink_to(wide)
    (tmp_path / "file").touch()
    for name, complaint in (("link", "a link; take it away"), ("file", "no folder; name another")):
        with pytest.raises(NotOurs, match=complaint):
            make_folders(tmp_path / name)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(NotOurs, match="belongs to user"):
        make_folders(wide)


def test_a_note_or_a_result_that_someone_else_may_have_made_is_not_used(tmp_path, monkeypatch):
    job = ended(tmp_path / "jobs", ("success", 0))
    folder, elsewhere = tmp_path / "jobs" / "run", tmp_path / "elsewhere"
    for path in (folder, elsewhere):
        path.mkdir()
    (tmp_path / "jobs" / "link").symlink_to(elsewhere)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "link").symlink_to(elsewhere)
    notebook, good = (
        Notebook(tmp_path),
        Note("key", "content", "key", "1_2", str(folder), str(tmp_path / "logs" / "log")),
    )
    for changes in (
        {"folder": str(elsewhere)},
        {"folder": str(tmp_path / "jobs" / "link")},
        {"folder": str(tmp_path / "jobs" / ".." / "jobs" / "missing")},
        {"log": str(elsewhere / "log")},
        {"log": str(tmp_path / "logs" / "link" / "log")},
        {"log": str(tmp_path / "logs" / ".." / "elsewhere")},
        {"job_id": "../../1"},
        {"job_id": "--help"},
        {"content": None},
    ):
        notebook.write(replace(good, **changes))
        assert notebook.read("key") is None, changes
    notebook.write(good)
    assert notebook.read("key") == good
    written = tmp_path / "notes" / "key.json"
    written.rename(elsewhere / "key.json")
    written.symlink_to(elsewhere / "key.json")
    assert notebook.read("key") is None
    written.unlink()
    notebook.write(good)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert notebook.read("key") is None
    assert results.problem(job) == f"its result was written by someone else: {job.paths.result_pickle}"


def earlier(kind: str, job_id: str = "1") -> Earlier:
    """Return what is known of a member: it waits or runs (alive), as it would now (fits), or is made."""
    note = Note("key", "content", "key", job_id, "folder", "log")
    return Earlier(note, alive=kind in ("alive", "fits"), fits=kind == "fits", made=kind == "made")


@pytest.mark.parametrize(
    ("members", "decision"),
    [
        ([None], Decision.SUBMIT),
        ([earlier("over")], Decision.SUBMIT),
        ([earlier("alive")], Decision.REPLACE),
        ([earlier("fits")], Decision.GO_ON),
        ([earlier("made")], Decision.TAKE_OVER),
        # A group.
        ([earlier("fits"), earlier("fits")], Decision.GO_ON),
        ([earlier("fits"), earlier("fits", "2")], Decision.REPLACE),
        ([earlier("fits"), None], Decision.REPLACE),
        ([earlier("fits"), earlier("made", "2")], Decision.GO_ON),
        ([earlier("fits"), earlier("fits", "2"), earlier("made", "3")], Decision.REPLACE),
        ([earlier("made"), earlier("made", "2")], Decision.TAKE_OVER),
        ([earlier("made"), None], Decision.SUBMIT),
        ([earlier("made"), earlier("over")], Decision.SUBMIT),
        ([earlier("over"), earlier("alive")], Decision.REPLACE),
    ],
)
def test_jobs_of_an_earlier_run_are_gone_on_with_replaced_or_taken_over(members, decision):
    assert decide(members) is decision


class Marks(FilePersistence):
    """Snakemake's, of files that belong to no rule."""

    async def incomplete(self, job) -> list[object]:
        return [path for path in job.output if os.path.exists(path) and marks_of(self, [path])[0].exists()]


class Rule(NamedTuple):
    """What is looked at of a rule of Snakemake."""

    name: str


class SimpleGroup:
    """A group of Snakemake."""

    attempt = 1

    def is_group(self) -> bool:
        return True


class Group:
    """Files that members of one job of SLURM make, named by letters: each from the one before; "x" from none."""

    def __init__(self, folder: Path, names: str) -> None:
        self.folder, self.forced = folder, set[Rule]()
        run = folder / "jobs" / "run"
        run.mkdir(parents=True)
        inputs = {after: [str(folder / before)] for before, after in itertools.pairwise(names) if after != "x"}
        jobs = [
            SimpleNamespace(
                rule=Rule(name), wildcards_dict={"n": "1"}, output=[IOFile(str(folder / name))],
                input=inputs.get(name, []), log=[],
                get_target_spec=lambda name=name: [TargetSpec(name, {})],
            )
            for name in names
        ]  # fmt: skip
        members = tuple(Member(job, name, "content") for job, name in zip(jobs, names, strict=True))
        asked = {"slurm_additional_parameters": {}}
        self.ready = Ready(SimpleGroup(), members, "whole", folder / "logs" / "group" / "whole.log", asked)
        self.notebook = Notebook(folder)
        for name in names:
            note = Note(name, "content", "whole", "7", str(run), str(self.ready.log))
            self.notebook.write(note, time.time_ns() - 10**10)

    def make(self, names: str) -> None:
        """Make some, and say so, as a job does."""
        for name in names:
            (self.folder / name).touch()
            marks = marks_of(Marks(path=self.folder / ".snakemake"), [IOFile(str(self.folder / name))])
            put_back(marks, time.time(), made=True)

    def earlier(self) -> list[Earlier]:
        """Return what the next Snakemake knows of its members."""
        workflow = SimpleNamespace(
            persistence=Marks(path=self.folder / ".snakemake"),
            dag=SimpleNamespace(forcerules=self.forced, targetfiles=[]),
            dag_settings=SimpleNamespace(forcerun=(), forcetargets=False),
            async_run=asyncio.run,
        )
        jobs = EarlierJobs(workflow, self.notebook, lambda _: self.folder / "cancelled", logging.getLogger(), 0.0)
        return [*jobs.of([self.ready]).values()]

    def made(self) -> str:
        return "".join(each.note.key for each in self.earlier() if each.made)


def test_what_was_made_from_a_member_that_is_made_again_is_made_again(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, squeue="exit 0")
    group = Group(tmp_path, "abcdx")
    group.make("abcx")
    assert group.made() == "abcx"
    group.forced = {Rule("a")}
    assert group.made() == "x"
    group.forced = {Rule("b")}
    assert group.made() == "ax"
    group.forced = set()
    (tmp_path / "a").write_text("edited")
    os.utime(tmp_path / "a", (time.time() + 1.0,) * 2)
    assert group.made() == "x"
    (tmp_path / "a").unlink()
    assert group.made() == "x"


def test_a_group_at_work_that_has_passed_what_is_to_be_made_again_is_not_gone_on_with(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, squeue="echo 7 RUNNING")
    group = Group(tmp_path, "abx")
    assert decide(group.earlier()) is Decision.GO_ON
    group.make("x")
    assert decide(group.earlier()) is Decision.GO_ON
    (tmp_path / "x").unlink()
    assert decide(group.earlier()) is Decision.REPLACE


def test_what_a_job_asks_for_is_the_same_whatever_snakemake_calls_it():
    asked = {
        attempt: [
            Ready(SimpleNamespace(attempt=attempt), (), "whole", Path("log"), {"name": name, "mem_gb": memory}).asked
            for name, memory in (("a-uuid", 1.0), ("another", 1.0), ("another", 2.0))
        ]
        for attempt in (1, 2)
    }
    assert asked[1][0] == asked[1][1] != asked[1][2]
    assert asked[2] == ["", "", ""]


def test_a_job_leaves_members_alone_that_an_earlier_one_has_made(tmp_path, monkeypatch):
    group, asked = Group(tmp_path / "files", "ab"), Asked()
    asked.persistence = Marks(path=tmp_path / ".snakemake")
    asked.execution_settings.keep_going = False
    executor = executor_of(tmp_path, asked)
    executor.jobs_folder, executor._config = tmp_path / "jobs", SimpleNamespace(arguments=lambda folder: [])
    monkeypatch.setattr(executor, "_share", lambda item: [])
    monkeypatch.setattr(executor, "envvars", dict)
    monkeypatch.setattr(executor, "format_job_exec", lambda job: "snakemake --target-jobs a: b:")
    executor._made[group.ready.job] = [executor._part(group.ready.members[0])]
    command = executor._command(group.ready)
    assert command.command == ["snakemake", "--target-jobs", "b:"]
    assert [part.key for part in command.parts] == ["b"]


class Growing:
    """A job whose time grows with the attempt."""

    name = "growing"

    def __init__(self, first: int, **resources: object) -> None:
        self.first, self.said, self.attempt = first, resources, 1

    def is_group(self) -> bool:
        return False

    @property
    def resources(self) -> dict[str, object]:
        return {"_cores": 1, "runtime": self.attempt * self.first} | self.said


@pytest.mark.parametrize(
    ("job", "minutes"),
    [
        (Growing(40), [40, 60]),
        (Growing(40, slurm_partition="long"), [40, 80]),
        # A cluster that sends a job elsewhere than to its default, by what it asks for.
        (Growing(61), [61, 122]),
        (Growing(40, gpu=1), [40, 80]),
        (Growing(40, _cores=9), [40, 80]),
    ],
)
def test_a_retry_that_names_no_partition_is_kept_to_the_default_unless_that_is_not_where_it_ran(
    tmp_path, monkeypatch, job, minutes
):
    monkeypatch.delenv("SBATCH_PARTITION", raising=False)
    executor = executor_of(tmp_path, Asked())
    known = {"cpu": Partition(60.0, 8, 16000, is_default=True), "long": Partition(1440.0, 8, 16000)}
    executor._limits, executor._elsewhere = Limits(known, 1001), set()
    asked = []
    for job.attempt in (1, 2):
        asked.append(executor._parameters(job)["timeout_min"])
    assert asked == minutes


def test_a_group_is_named_by_its_members(tmp_path):
    assert Group(tmp_path / "several", "cab").ready.label == "group/whole (a/n=1 and 2 more)"
    assert Group(tmp_path / "several-again", "bac").ready.names == ["a/n=1", "b/n=1", "c/n=1"]
    assert Group(tmp_path / "one", "a").ready.label == "group/whole (a/n=1)"


@pytest.mark.parametrize(
    ("names", "given", "slurm", "own"),
    [("ab", {}, True, "group/whole (a/n=1 and 1 more)"), ("ab", {"comment": "mine"}, True, ""), ("ab", {}, False, "")],
)
def test_a_job_has_a_comment_of_its_own_unless_the_user_gives_one(tmp_path, names, given, slurm, own):
    executor = executor_of(tmp_path, Asked())
    executor.slurm = slurm
    group = Group(tmp_path / "files", names)
    assert executor._comment(replace(group.ready, parameters={"slurm_additional_parameters": given})) == own


def test_a_task_of_an_array_says_its_own_comment_and_does_not_care_whether_slurm_takes_it(tmp_path, monkeypatch):
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)

    programs(
        tmp_path, monkeypatch, scontrol=f'printf "%s|" "$@" > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/said; exit 1'
    )

    def run(command: str) -> None:
        first = JobCommand(
            ["bash", "-c", command],
            tmp_path,
            tmp_path / "log",
            tmp_path / "no",
            {},
            0.1,
            comment="train/n=1 (of 'all')",
        )
        # Back from the queue it is the same.
        assert first.checkpoint().function() == 0

    monkeypatch.setattr(payload, "COMMENT_DELAY_SECONDS", 0.1)
    run("sleep 0.5")
    assert not (tmp_path / "said").exists()  # the only one of its submission has its comment from sbatch
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with monkeypatch.context() as late:
        late.setattr(payload, "COMMENT_DELAY_SECONDS", 1000.0)
        run("sleep 0.5")
    assert not (tmp_path / "said").exists()  # a short one bothers nobody
    run(f"for _ in {{1..2400}}; do [ -e {tmp_path}/said ] && exit; sleep 0.05; done; exit 1")
    assert (tmp_path / "said").read_text() == "update|JobId=7_3|Comment=train/n=1 (of 'all')|"
    (tmp_path / "scontrol").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    payload._say("there is no scontrol")


class FailingJob:
    """A job of Snakemake that keeps what it is told when it fails."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def is_group(self) -> bool:
        return False

    def log_error(self, text: str, **_: object) -> None:
        self.told.append(text)


class Asked:
    """What an executor without a workflow tells Snakemake."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.succeeded: list[object] = []
        self.scheduler = SimpleNamespace(error_callback=lambda job: None, finish_callback=self.succeeded.append)
        self.execution_settings = SimpleNamespace(latency_wait=0)

    def job(self) -> FailingJob:
        return FailingJob(self.failed)


def executor_of(folder: Path, asked: Asked) -> Executor:
    """Return an executor that has submitted nothing yet."""
    made: Executor = Executor.__new__(Executor)
    made.workflow, made.folder, made.notebook, made.slurm = asked, folder, Notebook(folder), True
    made.logger, made.settings = logging.getLogger("executor"), SETTINGS
    made._active, made._over, made._over_since, made._made, made._aside = {}, {}, {}, {}, {}
    made._earlier = EarlierJobs(asked, made.notebook, made._cancelled, made.logger, 0.0)
    for name in ("jobs", "cancelled"):
        (folder / name).mkdir()
    return made


def submitted(executor: Executor, job: FailingJob, job_id: str) -> SubmittedJobInfo:
    """Return what the executor keeps of a job that it has submitted, and note it."""
    folder = executor.folder / "jobs" / "run"
    folder.mkdir(exist_ok=True)
    log = executor.folder / "logs" / "rule" / f"{job_id}.log"
    item = Ready(job, (Member(job, f"key{job_id}", "content"),), f"key{job_id}", log, {})
    executor.notebook.write(Note(f"key{job_id}", "content", f"key{job_id}", job_id, str(folder), str(log)))
    aux = {"item": item, "log": log, "job": SlurmJob(folder=folder, job_id=job_id)}
    return SubmittedJobInfo(job, external_jobid=job_id, aux=aux)


def looked_after(executor: Executor, infos: list[SubmittedJobInfo]) -> list[SubmittedJobInfo]:
    """Return which jobs are not over in the next round."""

    async def round_of_looks() -> list[SubmittedJobInfo]:
        return [info async for info in executor.check_active_jobs(infos)]

    return asyncio.run(round_of_looks())


def test_a_job_that_cannot_be_looked_after_is_cancelled_and_the_others_are_looked_after(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, scancel=f"echo $@ >> {tmp_path}/cancellations")
    asked = Asked()
    executor = executor_of(tmp_path, asked)
    infos = [submitted(executor, asked.job(), job_id) for job_id in ("7", "8")]

    def problem(info: SubmittedJobInfo, ended: object) -> str:
        if info is infos[0]:
            raise AssertionError("You should use results()")
        return ""

    executor._problem = problem
    executor._accounting = SimpleNamespace(ask=lambda job_ids: list(job_ids))
    executor._waiting = Waiting(lambda line: None)

    assert looked_after(executor, infos) == []
    (failed,) = asked.failed
    assert "Job 7: it cannot be looked after and is cancelled: AssertionError: You should use results()." in failed
    assert asked.succeeded == [infos[1].job]
    assert (tmp_path / "cancellations").read_text() == "7\n"
    assert (tmp_path / "cancelled" / "key7").exists()
    # Snakemake records what it was told. Only then is a note taken away; one of a job that may still run stays.
    assert executor.notebook.read("key8") is not None
    executor.handle_job_error(infos[0].job)
    executor.handle_job_success(infos[1].job)
    assert executor.notebook.read("key7") is not None
    assert executor.notebook.read("key8") is None


def test_jobs_are_cancelled_though_the_disk_is_full(tmp_path, monkeypatch, caplog):
    programs(tmp_path, monkeypatch, scancel=f"echo $@ >> {tmp_path}/cancellations")
    asked = Asked()
    executor = executor_of(tmp_path, asked)
    infos = [submitted(executor, asked.job(), job_id) for job_id in ("7_0", "7_1", "8")]
    executor._active = {info.external_jobid: info for info in infos}
    # As what cannot be written: the folder of the marks is not there.
    (tmp_path / "cancelled").rmdir()
    executor.cancel_jobs(infos)
    assert (tmp_path / "cancellations").read_text() == "7_[0-1] 8\n"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("3 jobs may come back from the queue once they are cancelled: [Errno 2]")


@pytest.mark.parametrize("answer", ["JobID|State\n7|\n", f"{BANNER}JobID|State\n7|RUNNING\n"])
def test_no_job_is_the_worse_for_an_answer_of_sacct_that_cannot_be_read(tmp_path, monkeypatch, answer):
    (tmp_path / "answer").write_text(answer)
    programs(tmp_path, monkeypatch, sacct=f"cat {tmp_path}/answer")
    asked, said = Asked(), []
    executor = executor_of(tmp_path, asked)
    executor._accounting, executor._waiting = states.Accounting(0.0, said.append), Waiting(said.append)
    infos = [submitted(executor, asked.job(), job_id) for job_id in ("7", "8")]
    assert looked_after(executor, looked_after(executor, infos)) == infos
    (complaint,) = said
    assert complaint.startswith("sacct's answer cannot be read: ")
    # Once it can be, what it says counts.
    (tmp_path / "answer").write_text("JobID|State\n7|FAILED\n8|RUNNING\n")
    assert looked_after(executor, infos) == infos[1:]
    assert "Job 7: it ended without a result." in asked.failed[0]


def test_whatever_goes_wrong_with_a_question_no_job_is_the_worse_for_it(tmp_path, monkeypatch, caplog):
    asked = Asked()
    executor = executor_of(tmp_path, asked)
    infos = [submitted(executor, asked.job(), "7")]
    executor._accounting = SimpleNamespace(state=lambda job_id: "RUNNING")
    assert looked_after(executor, infos) == infos
    assert "SLURM was not asked: AttributeError" in caplog.text


def test_a_job_whose_end_cannot_be_reported_fails_and_the_others_are_looked_after(tmp_path, monkeypatch, caplog):
    programs(tmp_path, monkeypatch, scancel="exit 0")
    asked, failed = Asked(), []
    asked.scheduler.error_callback = failed.append
    executor = executor_of(tmp_path, asked)
    # As a disk that is full: no mark that it is cancelled, either.
    (tmp_path / "cancelled").rmdir()

    def hear(job_id: str, label: str, restarts: int) -> None:
        if job_id == "7":
            raise ValueError("strange")

    executor._accounting = SimpleNamespace(ask=list)
    executor._waiting = SimpleNamespace(look=dict, hear=hear)
    executor._problem = lambda info, ended: "" if info.external_jobid in ("7", "9") else "it ended"
    infos = [submitted(executor, asked.job(), job_id) for job_id in ("7", "8", "9")]

    def cannot_be_said(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    infos[1].job.log_error = cannot_be_said
    assert looked_after(executor, infos) == []
    assert failed == [infos[0].job, infos[1].job]
    assert asked.succeeded == [infos[2].job]
    assert "Job 7: it cannot be looked after and is cancelled: ValueError: strange." in asked.failed[0]
    assert "Job 8: it ended." in caplog.text
    assert "OSError: the disk is full" in caplog.text


class FailingGroup(SimpleGroup):
    """A group of Snakemake that fails."""

    name = "some"

    def log_error(self, text: str, **_: object) -> None:
        """Snakemake says nothing of groups."""


def executor_of_a_group(folder: Path) -> tuple[Executor, Group, FailingGroup]:
    """Return a group that has made two members, whose outputs are there, and its executor."""
    group, asked, job = Group(folder / "files", "ab"), Asked(), FailingGroup()
    asked.persistence = Marks(path=folder / ".snakemake")
    executor = executor_of(folder, asked)
    executor._made[job] = [executor._part(member) for member in group.ready.members]
    for name in "ab":
        (group.folder / name).touch()
    return executor, group, job


def outputs_in(group: Group) -> list[str]:
    return sorted(path.name for path in group.folder.iterdir() if path.is_file())


def test_what_members_have_made_has_another_name_while_snakemake_removes_it(tmp_path):
    executor, group, job = executor_of_a_group(tmp_path)
    executor._report_error(SubmittedJobInfo(job), "it failed")
    assert outputs_in(group) == [".a.made", ".b.made"]
    executor.handle_job_error(job)
    assert outputs_in(group) == ["a", "b"]
    assert [part.key for part in executor._made[job]] == ["a", "b"]


def test_what_members_have_made_and_cannot_be_kept_is_made_again(tmp_path, caplog):
    executor, group, job = executor_of_a_group(tmp_path)
    (group.folder / ".b.made").mkdir()  # in the way of the other name
    executor._report_error(SubmittedJobInfo(job), "it failed")
    assert outputs_in(group) == ["a", "b"]
    executor.handle_job_error(job)
    assert job not in executor._made
    assert "some: what its members have made may be lost, and is made again: " in caplog.text


def test_what_members_have_made_and_is_lost_is_made_again(tmp_path, caplog):
    executor, group, job = executor_of_a_group(tmp_path)
    executor._report_error(SubmittedJobInfo(job), "it failed")
    (group.folder / ".a.made").unlink()
    executor.handle_job_error(job)
    assert outputs_in(group) == ["b"]
    assert job not in executor._made
    assert "some: what its members have made may be lost, and is made again: " in caplog.text


def test_what_cannot_be_taken_away_ends_no_run(tmp_path, monkeypatch, caplog):
    executor, group, job = executor_of_a_group(tmp_path)
    note, folder = group.folder / "notes" / "a.json", tmp_path / "jobs" / "run"
    executor.notebook, executor._folders = group.notebook, {folder}
    note.unlink()
    for path in (note, folder / "unremovable.sh"):
        path.mkdir(parents=True)

    def no_temporary_folder(executor: Executor) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(RemoteExecutor, "shutdown", no_temporary_folder)
    executor._over[job] = (["a"], [])
    executor.handle_job_success(job)
    executor.shutdown()
    warnings = [record.getMessage().partition(": ")[0] for record in caplog.records]
    assert warnings == [
        "Notes or files of a job that is over stay",
        "A temporary folder stays",
        "Notes of jobs that are over stay",
        f"{folder} stays",
    ]


def test_the_user_hears_of_jobs_that_wait_and_of_those_that_were_put_back(tmp_path, monkeypatch, caplog):
    programs(tmp_path, monkeypatch, squeue=f"cat {tmp_path}/queue")
    asked = Asked()
    executor = executor_of(tmp_path, asked)
    infos = [submitted(executor, asked.job(), job_id) for job_id in ("7", "8", "9")]
    now = [0.0]
    executor._accounting = SimpleNamespace(ask=list, state=lambda job_id: "RUNNING")
    executor._waiting = Waiting(executor.logger.info, lambda: now[0])
    caplog.set_level(logging.INFO)

    def told_after(seconds: float) -> list[str]:
        """Return what is said in the next round."""
        now[0] += seconds
        caplog.clear()
        infos[:] = looked_after(executor, infos)
        # Not what submitit says where it asks a sacct of this machine.
        return [record.getMessage() for record in caplog.records if record.name == "executor"]

    (tmp_path / "queue").write_text("7|PENDING|Priority|0|\n8|RUNNING|None|1|\n9|RUNNING|None|0|\n")
    assert told_after(1.0) == []
    assert told_after(PAUSE_SECONDS) == [
        "Job 8 (rule/8) was put back in the queue (restart 1).",
        "Jobs that wait: 1 behind jobs of a higher priority (Priority).",
    ]
    # One is put back and ends before the next look.
    job = infos[2].aux["job"]
    (job.paths.folder / "9_restarts").write_text("1")
    job.paths.result_pickle.write_bytes(pickle.dumps(("success", 0)))
    assert told_after(1.0) == ["Job 9 (rule/9) was put back in the queue (restart 1)."]
    assert [info.external_jobid for info in infos] == ["7", "8"]


def test_a_job_that_does_not_end_lets_no_other_write_to_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr("snakemake_executor_plugin_submitit.earlier.CANCELLATION_SECONDS", 0.0)
    programs(tmp_path, monkeypatch, scancel="true", squeue="echo 7 COMPLETING")
    asked = Asked()
    executor = executor_of(tmp_path, asked)
    infos = [submitted(executor, asked.job(), job_id) for job_id in ("7", "8")]
    items = [info.aux["item"] for info in infos]
    left = executor._earlier.end([executor.notebook.read(item.whole) for item in items])
    assert left == {"7"}
    assert all((tmp_path / "cancelled" / item.whole).exists() for item in items)
    assert [executor._is_blocked(item, left) for item in items] == [True, False]
    (failed,) = asked.failed
    assert "job 7 of an earlier run writes to the same files, was cancelled, and does not end" in failed


def test_logs_are_named_by_rule_and_wildcards(tmp_path):
    path = log_path(tmp_path, "train", {"model": "a/b c", "seed": "3"}, "0123456789abcdef")
    assert path == tmp_path / "train" / "model=a-b-c,seed=3-01234567.log"
    assert last_lines(path, 3) == "it wrote no log"
    path.parent.mkdir()
    path.write_text("1\n2\n3\n4\n")
    assert last_lines(path, 2) == "3\n4"


JOB = """
import sys
from pathlib import Path
from snakemake_executor_plugin_submitit.partitions import Partition, check_fits, grown_to_fit, minutes_of, partitions
from snakemake_executor_plugin_submitit.payload import JobCommand
here = Path(sys.argv[1])
command = [sys.executable, "-c", sys.argv[2]]
print(JobCommand(command, here, here / "log", here / "cancelled", {{"WORD": "hello"}}, patience={patience})())
"""


def start(folder: Path, child: str, patience: float = 10.0) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", JOB.format(patience=patience), str(folder), child]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_a_job_runs_its_command_without_a_shell_and_returns_its_exit_code(tmp_path, monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "slurm")
    job = start(tmp_path, "import os; print(os.environ['WORD'], 'SNAKEMAKE_PROFILE' in os.environ, '$HOME'); exit(7)")
    assert job.communicate(timeout=PATIENCE_SECONDS)[0].strip() == "7"
    assert job.returncode == 7  # after its result, for SLURM's accounts
    assert (tmp_path / "log").read_text() == "hello False $HOME\n"


def restarted(monkeypatch, jobs: Path, restarts: str | None) -> None:
    """Let what follows be a task of an array that SLURM has put back in the queue so many times; None: never."""
    jobs.mkdir(exist_ok=True)
    own = {"SUBMITIT_EXECUTOR": "slurm", "SUBMITIT_FOLDER": str(jobs), "SLURM_ARRAY_JOB_ID": "7"}
    for name, value in (own | {"SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": restarts}).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


def test_what_a_command_logged_before_a_restart_is_kept(tmp_path, monkeypatch):
    log = tmp_path / "train.log"
    restarted(monkeypatch, tmp_path / "jobs", None)
    again, part = ["bash", "-c", f"echo again > {log}"], Part("key", "", "one:", (), (), (log, tmp_path / "never.log"))
    for restarts, kept in ((None, []), ("1", ["train.log.1"]), ("2", ["train.log.1", "train.log.2"])):
        log.write_text(f"before {restarts}")
        restarted(monkeypatch, tmp_path / "jobs", restarts)
        command = JobCommand(again, tmp_path, tmp_path / "log", tmp_path / "no", {}, 1.0, [part])
        assert command() == 0
        assert log.read_text() == "again\n"
        assert sorted(path.name for path in tmp_path.glob("train.log.*")) == kept
    assert (tmp_path / "train.log.2").read_text() == "before 2"
    # One that has ended well in its last moments writes no other.
    restarted(monkeypatch, tmp_path / "jobs", "3")
    assert JobCommand(DONE, tmp_path, tmp_path / "log", tmp_path / "no", {}, 1.0, [part])() == 0
    assert log.exists()


def test_a_job_says_how_often_it_was_put_back_in_the_queue(tmp_path, monkeypatch):
    jobs = tmp_path / "jobs"
    job = SlurmJob(folder=jobs, job_id="7_3")
    for restarts, command in ((None, ["true"]), ("1", ["false"]), ("2", ["true"]), ("3", DONE)):
        restarted(monkeypatch, jobs, restarts)
        JobCommand(command, tmp_path, tmp_path / "log", tmp_path / "no", {}, 1.0)()
        assert results.restarts(job) == int(restarts or 0)
    results.discard(job)
    assert results.restarts(job) == 0
    # A disk that is full keeps no job from its work.
    jobs.chmod(0o700)
    jobs.rmdir()
    assert JobCommand(["true"], tmp_path, tmp_path / "log", tmp_path / "no", {}, 1.0)() == 0


MAKING = """
import os, signal, sys, time
from pathlib import Path
made, mark = map(Path, sys.argv[1:3])
made.touch()
mark.unlink()  # as Snakemake does when a member has ended
{then}
"""


def made_and_left(folder: Path) -> tuple[list[Part], JobCommand]:
    """Return a job of two members, of which its command makes one before it fails."""
    parts = [
        Part(
            name, "", f"one:n={name}", (folder / f"{name}.txt",), (folder / f"{name}.mark",), (folder / f"{name}.log",)
        )
        for name in ("made", "left")
    ]
    for part in parts:
        part.marks[0].touch()
        part.logs[0].touch()
    return parts, JobCommand([], folder, folder / "log", folder / "cancelled", {}, 20.0, parts)


@pytest.mark.parametrize("ending", ["sys.exit(1)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_members_that_were_made_before_a_restart_are_not_made_again(tmp_path, monkeypatch, ending):
    parts, command = made_and_left(tmp_path)
    script = MAKING.format(then=ending)
    command.command = [sys.executable, "-c", script, str(parts[0].outputs[0]), str(parts[0].marks[0]), "one:n=made"]
    assert command() != 0
    # Who was killed may have been about to remove what a failed member left.
    assert [part.was_made() for part in parts] == [ending == "sys.exit(1)", False]
    assert all(mark.exists() for part in parts for mark in part.marks)
    restarted(monkeypatch, tmp_path / "jobs", "1")
    again = ["bash", "-c", 'echo "$@" > again', "bash", "one:n=made", "one:n=left"]
    assert JobCommand(again, tmp_path, tmp_path / "log", tmp_path / "cancelled", {}, 20.0, parts)() == 0
    left = ["one:n=left"] if ending == "sys.exit(1)" else ["one:n=made", "one:n=left"]
    assert (tmp_path / "again").read_text().split() == left
    assert sorted(path.name for path in tmp_path.glob("*.log.1")) == sorted(
        f"{target.partition('=')[2]}.log.1" for target in left
    )


UNTIL_MARKED = """
deadline = time.monotonic() + 60
while not mark.exists() and time.monotonic() < deadline:
    time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("pause", "then", "made"),
    # What a failed member leaves is removed after its mark, and before a second look.
    [(0.2, UNTIL_MARKED, True), (1.0, "made.unlink(); time.sleep(3.5)", False)],
    ids=["ends well", "fails"],
)
def test_a_member_is_said_to_be_made_while_others_are_at_work(tmp_path, monkeypatch, pause, then, made):
    monkeypatch.setattr(payload, "LOOK_SECONDS", pause)
    parts, command = made_and_left(tmp_path)
    script = MAKING.format(then=f"{then}\nPath(sys.argv[3]).write_text(mark.read_text())")
    seen = tmp_path / "seen"
    command.command = [sys.executable, "-c", script, *map(str, (parts[0].outputs[0], parts[0].marks[0], seen))]
    assert command() == (0 if made else 1)
    assert seen.exists() is made
    assert parts[0].was_made() is made
    assert not parts[1].was_made()
    # A Snakemake that goes on with the job marks all its members as begun.
    with still_made(parts[0].marks):
        parts[0].marks[0].write_text("{}")
    assert parts[0].was_made() is made


def test_a_member_that_is_made_is_said_to_be_while_a_command_that_was_told_to_end_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(payload, "LOOK_SECONDS", 1.0)
    parts, command = made_and_left(tmp_path)
    hanging = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(3000)"
    command.command = [
        sys.executable, "-c", MAKING.format(then=hanging), *map(str, (parts[0].outputs[0], parts[0].marks[0])),
    ]  # fmt: skip
    command.patience = 600.0
    job = threading.Thread(target=command)
    job.start()
    until(lambda: not parts[0].marks[0].exists(), "a member that is made")
    command.cancelled.touch()
    until(parts[0].was_made, "the word that it is")
    assert job.is_alive()
    assert command._child is not None
    command._child.kill()
    job.join()
    assert [part.was_made() for part in parts] == [True, False]


def test_a_member_that_a_snakemake_has_recorded_meanwhile_is_not_marked_again(tmp_path, monkeypatch):
    monkeypatch.setattr(payload, "LOOK_SECONDS", 0.2)
    parts, command = made_and_left(tmp_path)
    recorded = 'while not mark.exists(): time.sleep(0.05)\nwhile "made" not in mark.read_text(): time.sleep(0.05)\n'
    script = MAKING.format(then=f"{recorded}time.sleep(3.0); mark.unlink(); time.sleep(1.0); sys.exit(1)")
    command.command = [sys.executable, "-c", script, *map(str, (parts[0].outputs[0], parts[0].marks[0]))]
    assert command() == 1
    assert not parts[0].marks[0].exists()
    assert parts[1].marks[0].exists()


def test_what_a_failed_member_leaves_is_not_made(tmp_path):
    parts, command = made_and_left(tmp_path)
    script = MAKING.format(then="made.unlink(); sys.exit(1)")
    arguments = [sys.executable, "-c", script, str(parts[0].outputs[0]), str(parts[0].marks[0])]
    command.command = arguments
    command()
    assert not parts[0].was_made()
    # Where Snakemake leaves it there, nobody can tell.
    parts[0].marks[0].touch()
    command = JobCommand([], tmp_path, tmp_path / "log", tmp_path / "cancelled", {}, 20.0, parts)
    command.command = [sys.executable, "-c", MAKING.format(then="sys.exit(1)"), *arguments[3:], "--keep-incomplete"]
    command()
    assert parts[0].outputs[0].exists()
    assert not parts[0].was_made()


def test_a_job_whose_members_are_all_made_has_nothing_to_do(tmp_path):
    parts, _ = made_and_left(tmp_path)
    command = ["snakemake", "--target-jobs", "one:n=made", "one:n=left", "--cores", "1"]
    assert without(command, parts, parts[:1]) == ["snakemake", "--target-jobs", "one:n=left", "--cores", "1"]
    assert without(command, parts, []) == command
    assert without(command, parts, parts) == list(DONE)


def test_a_terminated_job_lets_its_command_save_and_leaves_no_result(tmp_path):
    saving = (
        "import signal, sys, time\nfrom pathlib import Path\n"
        "signal.signal(signal.SIGTERM, lambda *a: (time.sleep(3), Path('saved').touch(), sys.exit(1)))\n"
        "Path('up').touch()\ntime.sleep(3000)"
    )
    job = start(tmp_path, saving)
    until((tmp_path / "up").exists, "start of the command")
    (child,) = map(int, subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True).stdout.split())
    os.kill(child, signal.SIGTERM)  # SLURM sends it to every process of a job
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=PATIENCE_SECONDS)
    assert job.returncode == 143
    assert (tmp_path / "saved").exists()
    assert "saved" not in output


# A signal comes as soon as the command listens, before whoever starts it knows of it; as of submitit, USR2 puts the job
# back in the queue.
STRUCK = """
import os, signal, subprocess, sys, time
from pathlib import Path
from snakemake_executor_plugin_submitit.payload import JobCommand
here, number = Path(sys.argv[1]), int(sys.argv[2])
class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        while not (here / "up").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)
subprocess.Popen = Popen
command = JobCommand([sys.executable, "-c", sys.argv[3]], here, here / "log", here / "cancelled", {}, patience=600.0)
signal.signal(signal.SIGUSR2, lambda *_: (command.checkpoint(), os._exit(143)))
command()
"""
SAVING_AT_ANY = """
import signal, sys, time
from pathlib import Path
for number in (signal.SIGTERM, signal.SIGUSR2):
    signal.signal(number, lambda *_: (Path("saved").touch(), sys.exit(1)))
Path("up").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_while_the_command_starts_leaves_it_not_behind(tmp_path, number):
    arguments = [sys.executable, "-c", STRUCK, str(tmp_path), str(number.value), SAVING_AT_ANY]
    assert subprocess.run(arguments, timeout=PATIENCE_SECONDS).returncode == 143
    assert (tmp_path / "saved").exists()


def test_a_job_that_was_cancelled_before_it_listened_does_not_begin(tmp_path):
    # As of submitit: TERM alone ends no job.
    script = (
        "import os, pathlib, signal, sys\n"
        "from snakemake_executor_plugin_submitit.payload import JobCommand\n"
        "class Cancelled(type(pathlib.Path())):\n"
        "    def exists(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        return False\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "here = pathlib.Path(sys.argv[1])\n"
        "JobCommand(['touch', 'begun'], here, here / 'log', Cancelled(here / 'cancelled'), {}, 600.0)()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=PATIENCE_SECONDS)
    assert done.returncode == 143
    assert not (tmp_path / "begun").exists()


def test_a_command_ignores_usr2_unless_it_listens(tmp_path):
    job = start(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print('alive')")
    assert job.communicate(timeout=PATIENCE_SECONDS)[0].strip() == "0"
    assert (tmp_path / "log").read_text() == "alive\n"


def test_a_cancelled_job_does_not_come_back(tmp_path):
    command = JobCommand(["true"], tmp_path, tmp_path / "log", tmp_path / "cancelled", {}, patience=0.1)
    again = command.checkpoint()
    assert again is not None
    assert again.function.command == ["true"]
    (tmp_path / "cancelled").touch()
    assert command.checkpoint() is None
    with pytest.raises(SystemExit):
        command()


@pytest.mark.parametrize("cluster", ["local", "debug"])
def test_the_same_goes_without_a_cluster(tmp_path, cluster):
    def run(command: str) -> subprocess.CompletedProcess[str]:
        # An environment that is not used, for nobody says --sdm conda, needs no conda.
        (tmp_path / "environment.yaml").write_text("dependencies: [numpy]\n")
        named = SNAKEFILE.replace("rule good:", 'rule good:\n    conda: "environment.yaml"')
        (tmp_path / "Snakefile").write_text(named.replace("{command}", command))
        arguments = ["--executor", "submitit", "--submitit-cluster", cluster, "--jobs", "2", "--latency-wait", "2"]
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments, "--seconds-between-status-checks", "1", "--keep-going"],
            cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS,
        )  # fmt: skip

    failed = run("echo this is the reason; exit 4")
    assert failed.returncode == 1
    assert "this is the reason" in failed.stderr + failed.stdout
    assert (tmp_path / "a.txt").read_text() == "good\n"
    assert stat.S_IMODE((tmp_path / ".snakemake" / "submitit").stat().st_mode) == 0o700
    assert run("touch {output}").returncode == 0


def test_the_config_of_a_plan_is_that_of_all_its_files(tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_text("a: {b: 1, c: 2}\n")
    given = tmp_path / "given.yaml"
    given.write_text("a: {b: 5}\nrate: 1e-3  # a number to some readers\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # as `workdir:` does
    settings = ConfigSettings(configfiles=[given], config={"seed": 7})
    workflow = SimpleNamespace(
        config_settings=settings, configfiles=[given, "own.yaml", "gone.yaml"], workdir_init=str(tmp_path)
    )
    jobs = tmp_path / "jobs"
    flag, *copies, replace_own = frozen.frozen_config(workflow).arguments(jobs)
    assert (flag, replace_own) == ("--configfiles", "--replace-workflow-config")
    assert [Path(copy).read_bytes() for copy in copies] == [
        (tmp_path / "own.yaml").read_bytes(), given.read_bytes()
    ]  # fmt: skip
    assert {Path(copy) for copy in copies} == set(jobs.iterdir())
    settings.replace_workflow_config = True
    assert [content for _, content in frozen.frozen_config(workflow).files] == [given.read_bytes()]
    given.write_text("a: {b: 6}\n")
    with pytest.raises(WorkflowError, match=r"given\.yaml: edited while Snakemake planned with it"):
        frozen.frozen_config(workflow)
    none = SimpleNamespace(config_settings=ConfigSettings(), configfiles=[], workdir_init=str(tmp_path))
    assert frozen.frozen_config(none).arguments(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


# The first job edits the config that the second, which waits for it, was planned with.
EDITING = """
if not workflow.configfiles:
    configfile: "config.yaml"
rule all:
    input: "second.txt"
rule first:
    output: "first.txt"
    shell: "sed -i s/400/37/ *.yaml; echo '  new: 1' >> config.yaml; touch {output}"
rule second:
    input: "first.txt"
    output: "second.txt"
    params: read=repr([config["seed"], dict(config["training"])])
    shell: "echo {params.read:q} > {output}"
"""
CONFIG = "seed: 1\ntraining:\n  steps: 400\n  rate: 1e-3\n  when: 2020-01-01\n"
INLINE = ("--executor", "submitit", "--submitit-cluster", "debug", "--jobs", "1")


@pytest.mark.parametrize(
    ("arguments", "seed"),
    [(INLINE, 1), ((*INLINE, "--configfile", "given.yaml", "--config", "seed=007"), 7), (("--cores", "1"), 1)],
)
def test_a_config_edited_while_jobs_wait_changes_none_of_them(tmp_path, arguments, seed):
    def run() -> str:
        command = [sys.executable, "-m", "snakemake", *arguments]
        done = subprocess.run(
            [*command, "--seconds-between-status-checks", "1", "--latency-wait", "2"],
            cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    (tmp_path / "Snakefile").write_text(EDITING)
    for name in ("config.yaml", "given.yaml"):
        (tmp_path / name).write_text(CONFIG)
    run()
    assert "steps: 37" in (tmp_path / "config.yaml").read_text()
    planned = {"steps": 400, "rate": "1e-3", "when": datetime.date(2020, 1, 1)}
    assert (tmp_path / "second.txt").read_text().strip() == repr([seed, planned])
    # What was recorded is what ran.
    for name in ("config.yaml", "given.yaml"):
        (tmp_path / name).write_text(CONFIG)
    assert "Nothing to be done" in run()


def of_this_folder(folder: Path) -> list[str]:
    """Return the processes that work in a folder or below."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").resolve().is_relative_to(folder):
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.mark.parametrize(
    ("cluster", "number"), [("local", signal.SIGINT), ("local", signal.SIGTERM), ("debug", signal.SIGTERM)]
)
def test_stopping_snakemake_leaves_no_process_without_a_cluster(tmp_path, cluster, number):
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("{command}", "touch started; sleep 3000; touch {output}"))
    arguments = ["--executor", "submitit", "--submitit-cluster", cluster, "--jobs", "2", "b.txt"]
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *arguments, "--seconds-between-status-checks", "1"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    until((tmp_path / "started").exists, "start of the job")
    process.send_signal(number)
    assert process.wait(timeout=PATIENCE_SECONDS) != 0
    until(lambda: not of_this_folder(tmp_path), "end of all processes")
    assert not (tmp_path / "b.txt").exists()


def test_closing_the_terminal_leaves_no_process(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("{command}", "touch started; sleep 3000; touch {output}"))
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that run under nohup ignore it, and so would Snakemake
        options = ["--executor", "submitit", "--submitit-cluster", "local", "--jobs", "2", "b.txt"]
        os.execv(sys.executable, [sys.executable, "-m", "snakemake", *options, "--seconds-between-status-checks", "1"])
    until((tmp_path / "started").exists, "start of the job")
    os.close(terminal)
    os.waitpid(child, 0)
    until(lambda: not of_this_folder(tmp_path), "end of all processes")


def test_a_command_that_ended_well_in_its_last_moments_is_not_run_again(tmp_path):
    command = JobCommand(["sleep", "0.5"], tmp_path, tmp_path / "log", tmp_path / "cancelled", {}, patience=20.0)
    running = threading.Thread(target=command)
    running.start()
    while command._child is None:
        time.sleep(0.01)
    again = command.checkpoint()
    running.join()
    assert again is not None
    assert again.function.command == ["true"]


def test_what_does_not_end_by_itself_is_killed_before_it_is_put_back(tmp_path):
    script = f"trap '' TERM; sleep 3000 & sleep 3000; touch {tmp_path}/late"
    command = JobCommand(["bash", "-c", script], tmp_path, tmp_path / "log", tmp_path / "cancelled", {}, patience=0.5)
    running = threading.Thread(target=command)
    running.start()
    while command._child is None:
        time.sleep(0.01)
    again = command.checkpoint()
    running.join(timeout=PATIENCE_SECONDS)
    assert not running.is_alive()
    assert again is not None
    assert again.function.command == ["bash", "-c", script]
    # Those of its children are nobody's to wait for.
    until(lambda: not of_this_folder(tmp_path), "end of all processes")
    assert not (tmp_path / "late").exists()


def test_an_unknown_cluster_is_named(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("{command}", "touch {output}"))
    command = [sys.executable, "-m", "snakemake", "--executor", "submitit", "--submitit-cluster", "lsf", "--jobs", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 1
    assert "submitit-cluster: found 'lsf'; known are slurm, local, debug" in done.stderr + done.stdout


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in leftovers(folder).files)


def noted(folder: Path, key: str, job_id: str, outcome: tuple[str, object] | None) -> None:
    """Note a job in a folder of its own; one that has ended has left its result."""
    jobs = folder / "jobs" / f"run-{key}"
    jobs.mkdir(parents=True)
    job = SlurmJob(folder=jobs, job_id=job_id)
    (jobs / f"{job_id}_submission.sh").write_text("")
    job.paths.submitted_pickle.write_text("")
    if outcome is not None:
        job.paths.result_pickle.write_bytes(pickle.dumps(outcome))
    log = folder / "logs" / "rule" / f"{key}.log"
    for path in (log, folder / "cancelled" / key):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    Notebook(folder).write(Note(key, "content", key, job_id, str(jobs), str(log)))


def test_what_no_job_and_no_snakemake_needs_is_left_over(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, squeue="exit 0")
    folder = tmp_path / "submitit"
    noted(folder, "made", "7_0", ("success", 0))
    noted(folder, "failed", "8_0", ("success", 1))
    noted(folder, "lost", "9_0", None)
    # Of one that Snakemake has recorded nothing but its log is there.
    (folder / "logs" / "rule" / "recorded.log").write_text("")
    assert left_in(folder) == [
        "cancelled/failed", "cancelled/lost", "cancelled/made", "jobs/run-failed", "jobs/run-lost",
        "logs/rule/failed.log", "logs/rule/lost.log", "logs/rule/recorded.log", "notes/failed.json", "notes/lost.json",
    ]  # fmt: skip


def test_while_a_job_waits_or_runs_its_files_stay_and_all_logs(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, squeue="echo 9_0 RUNNING; echo 12345 RUNNING")
    folder = tmp_path / "submitit"
    noted(folder, "lost", "8_0", None)
    noted(folder, "alive", "9_0", None)
    # One that could not be noted, on a disk that was full.
    (folder / "notes" / "alive.json").unlink()
    assert left_in(folder) == ["jobs/run-lost", "notes/lost.json"]
    assert leftovers(folder).jobs == ["9"]


def test_without_an_answer_of_slurm_nothing_is_left_over(tmp_path, monkeypatch):
    folder = tmp_path / "submitit"
    noted(folder, "lost", "8_0", None)
    programs(tmp_path, monkeypatch, squeue="echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(SchedulerError, match="SLURM does not answer"):
        leftovers(folder)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(SchedulerError, match="no squeue here"):
        leftovers(folder)


def test_jobs_of_this_machine_are_over_when_their_process_is(tmp_path):
    jobs = tmp_path / "submitit" / "jobs"
    for name, number in (("run-alive", os.getpid()), ("run-over", 2**22 + 1)):
        (jobs / name).mkdir(parents=True)
        (jobs / name / f"{number}_submitted.pkl").write_text("")
    assert left_in(tmp_path / "submitit") == ["jobs/run-over"]


def of_machine(jobs: Path, name: str, number: int) -> None:
    (jobs / name).mkdir(parents=True)
    (jobs / name / f"{number}_submitted.pkl").write_text("")


def test_of_a_folder_that_slurm_and_this_machine_have_used_each_run_is_asked_for_where_it_is(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, squeue="exit 0", scontrol="exit 1")
    folder = tmp_path / "submitit"
    noted(folder, "lost", "8_0", None)
    of_machine(folder / "jobs", "run-alive", os.getpid())
    found = leftovers(folder)
    assert found.jobs == [str(os.getpid())]
    assert found.known == {str(os.getpid()), "8"}
    assert left_in(folder) == ["jobs/run-lost", "notes/lost.json"]


@pytest.mark.parametrize("script", [True, False])
def test_jobs_of_another_cluster_or_machine_are_looked_for_there(tmp_path, monkeypatch, script):
    programs(tmp_path, monkeypatch, squeue="exit 0", scontrol="echo 'ClusterName = one'")
    here = "one" if script else socket.gethostname()
    for place in (here, "elsewhere"):
        of_machine(tmp_path / "submitit" / "jobs", f"run@{place}", 2**22 + 1)
        if script:
            (tmp_path / "submitit" / "jobs" / f"run@{place}" / "7_submission.sh").write_text("")
        if place == here:
            assert left_in(tmp_path / "submitit") == [f"jobs/run@{here}"]
    with pytest.raises(SchedulerError, match=f"run@elsewhere: its jobs are of elsewhere, and this is {here}; go there"):
        leftovers(tmp_path / "submitit")
