"""What a Snakemake that was killed, or could not cancel its jobs, leaves to the next one, on a real SLURM."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from workflows import (
    OPTIONS,
    PATIENCE_SECONDS,
    Workflow,
    let_go,
    queue,
    running,
    said_to_be_made,
    states,
    until,
    until_said,
    waiting,
    wrapper,
)

from snakemake_executor_plugin_submitit.leftovers import leftovers
from snakemake_executor_plugin_submitit.notes import key_of
from snakemake_executor_plugin_submitit.scheduler import condensed

ROOT = Path(__file__).parents[2]
# A job that says every 0.1 s that it is at work, until a file says that it may end; for a while after TERM, too: as one
# that saves its state.
BEATING = """
import os, signal, sys, time
from pathlib import Path
trace, output = Path(sys.argv[1]), Path(sys.argv[2])
told = []
signal.signal(signal.SIGTERM, lambda number, frame: told.append(time.monotonic()))
with trace.open("a", buffering=1) as file:
    while not (Path("go").exists() or (told and time.monotonic() > told[0] + 3.0)):
        file.write(f"{os.getpid()}\\n")
        time.sleep(0.1)
if told:
    sys.exit(1)
output.write_text("done")
"""
BEATING_RULES = """
rule all:
    input: expand("{{n}}.txt", n=range({count}))
rule beating:
    output: "{{n}}.txt"
    params: word="{word}"
    shell: "exec python3 beating.py {{wildcards.n}}.trace {{output}}"
"""
WORDS = """
configfile: "config.yaml"
rule all:
    input: expand("{n}.txt", n=["kept", "edited", "failed", "deleted"])
rule word:
    output: "{n}.txt"
    params: word=lambda wildcards: config[wildcards.n]
    shell:
        "echo {wildcards.n}-{params.word} >> trace; while [ ! -e go ]; do sleep 0.2; done;"
        "[ {params.word} != fails -o -e well ];"
        "echo {params.word} > {output}"
"""
WHOLE_NODE = """
configfile: "config.yaml"
rule all:
    input: expand("{n}.txt", n=range(2))
rule whole_node:
    output: "{n}.txt"
    threads: 16
    params: word=config["word"]
    shell: "while [ ! -e go ]; do sleep 0.2; done; echo {params.word} > {output}"
"""


def beating(workflow: Workflow, count: int, word: str = "") -> None:
    (workflow.folder / "beating.py").write_text(BEATING)
    workflow.write(BEATING_RULES.format(count=count, word=word))


def times_at_work(workflow: Workflow, count: int) -> list[int]:
    """Return how often each job was at work; twice at once is an error."""
    times = []
    for number in range(count):
        processes = [process for process, _ in itertools.groupby(workflow.lines(f"{number}.trace"))]
        assert len(processes) == len(set(processes)), f"two at once wrote {number}.trace"
        times.append(len(processes))
    return times


def until_at_work(workflow: Workflow, times: list[int]) -> None:
    until(lambda: times_at_work(workflow, len(times)) == times, f"jobs at work for {times} times")


def kill(workflow: Workflow, *options: str) -> None:
    workflow.kill()
    workflow.run("--unlock", *options)


def is_cancelling() -> bool:
    return subprocess.run(["pgrep", "-x", "scancel"], capture_output=True).returncode == 0


@pytest.mark.parametrize("options", [(), ("--persistence-backend", "db")], ids=["files", "database"])
def test_what_ended_alone_is_taken_over_where_it_is_what_would_be_made_now(workflow, options):
    workflow.write(WORDS)
    config = workflow.folder / "config.yaml"
    config.write_text("kept: old\nedited: old\nfailed: fails\ndeleted: old\n")
    workflow.start(*options)
    until(lambda: len(workflow.lines("trace")) == 4, "start of the jobs")
    kill(workflow, *options)
    let_go(workflow)
    until(lambda: not queue(), "end of the jobs")
    config.write_text("kept: old\nedited: new\nfailed: fails\ndeleted: old\n")
    (workflow.folder / "deleted.txt").unlink()
    (workflow.folder / "well").touch()
    code, output = workflow.run("--rerun-incomplete", *options)
    assert code == 0, output
    assert sorted(workflow.lines("trace")) == [
        "deleted-old", "deleted-old", "edited-new", "edited-old", "failed-fails", "failed-fails", "kept-old"
    ]  # fmt: skip
    assert workflow.lines("edited.txt") == ["new"]
    assert output.count("submitted by an earlier run, has made word/n=kept") == 1
    code, output = workflow.run(*options)
    assert "Nothing to be done" in output
    assert not list((workflow.folder / ".snakemake" / "submitit" / "notes").iterdir())
    # What was taken over once counts no more.
    code, output = workflow.run("--forcerun", "word", *options)
    assert code == 0, output
    assert len(workflow.lines("trace")) == 11


def test_what_ended_alone_is_run_again_where_the_user_or_the_code_says_so(workflow):
    snakefile = 'rule all:\n    input: "out.txt"\nrule one:\n    output: "out.txt"\n'
    snakefile += '    shell: "{}echo x >> trace; while [ ! -e go ]; do sleep 0.2; done; touch {{output}}"\n'
    workflow.write(snakefile.format(""))
    for times, forced in enumerate(((), ("--forcerun", "one"), ("--force", "out.txt"), ("--forceall",)), start=1):
        (workflow.folder / "go").unlink(missing_ok=True)
        workflow.start("--rerun-incomplete", *forced)
        until(lambda times=times: len(workflow.lines("trace")) == times, "start of the job")
        kill(workflow)
        let_go(workflow)
        until(lambda: not queue(), "end of the job")
    workflow.write(snakefile.format("true; "))
    code, output = workflow.run("--rerun-incomplete")
    assert code == 0, output
    assert len(workflow.lines("trace")) == 5
    code, output = workflow.run()
    assert "Nothing to be done" in output


def cleaned(workflow: Workflow) -> str:
    """Take away what a killed Snakemake has left, and return what is said of it."""
    shutil.copy(ROOT / "config.yaml", workflow.folder)
    command = [sys.executable, "-m", "piwsl", "clean", "config.yaml", "--yes"]
    return subprocess.run(command, cwd=workflow.folder, capture_output=True, text=True, check=True).stdout


def test_what_a_killed_snakemake_leaves_is_taken_away_once_its_jobs_have_ended(workflow):
    beating(workflow, 2)
    workflow.start()
    until_at_work(workflow, [1, 1])
    kill(workflow)
    folder = workflow.folder / ".snakemake" / "submitit"
    found = leftovers(folder)
    (job,) = {job.split("_")[0] for job in running()}
    assert (found.files, found.jobs) == ([], [job])
    assert f"1 jobs wait or run ({job}): results were not looked at\nremoved: 0.0 MB" in cleaned(workflow)
    assert all(any((folder / name).iterdir()) for name in ("jobs", "notes", "logs"))
    subprocess.run(["scancel", "--user", "root"], check=True)
    until(lambda: not leftovers(folder).jobs, "end of the jobs")
    assert {path.relative_to(folder).parts[0] for path in leftovers(folder).files} == {"jobs", "notes", "logs"}
    assert len(leftovers(folder).files) == 5
    assert "removed: " in cleaned(workflow)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    # The next one begins at the beginning.
    let_go(workflow)
    code, output = workflow.run("--rerun-incomplete")
    assert code == 0, output


def test_a_group_whose_members_are_dealt_out_anew_runs_nothing_twice_at_once(workflow):
    beating(workflow, 3)
    groups = ("--groups", "beating=some", "--cores", "4", "--rerun-incomplete", "--group-components")
    workflow.start(*groups, "some=2")
    until_at_work(workflow, [1, 1, 1])
    kill(workflow)
    workflow.start(*groups, "some=3")
    until_said(workflow, "Cancelling what an earlier run has submitted otherwise")
    until_at_work(workflow, [2, 2, 2])
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    assert times_at_work(workflow, 3) == [2, 2, 2]


def test_a_group_that_is_dealt_out_as_before_is_gone_on_with_or_taken_over(workflow):
    beating(workflow, 2)
    groups = ("--groups", "beating=both", "--group-components", "both=2", "--cores", "2", "--rerun-incomplete")
    workflow.start(*groups)
    until_at_work(workflow, [1, 1])
    kill(workflow)
    workflow.start(*groups)
    until_said(workflow, "Going on with job")
    kill(workflow)
    let_go(workflow)
    until(lambda: not queue(), "end of the group")
    # Its members are told apart again: each is taken over alone.
    code, output = workflow.run("--rerun-incomplete")
    assert code == 0, output
    assert times_at_work(workflow, 2) == [1, 1]
    assert output.count("submitted by an earlier run, has made beating/") == 2


# Four in a job, one of which fails at first; the last is at work until a file says that it may end.
ONE_FAILS = """
rule all:
    input: expand("{n}.txt", n=range(4))
rule train:
    output: "{n}.txt"
    shell:
        "echo {wildcards.n} >> trace; sleep 2;"
        "[ {wildcards.n} != 0 -o -e well ];"
        "while [ {wildcards.n} = 3 -a ! -e go ]; do sleep 0.2; done; echo x > {output}"
"""
FOUR_AT_ONCE = (
    "--groups", "train=four", "--group-components", "four=4", "--submitit-group-cpus", "4", "--cores", "4",
    "--keep-going", "--rerun-incomplete",
)  # fmt: skip


def begun(workflow: Workflow) -> None:
    """Start the group, and kill Snakemake once one member has failed, two are made and one is at work."""
    workflow.write(ONE_FAILS)
    workflow.start(*FOUR_AT_ONCE)
    until(lambda: said_to_be_made(workflow) == 2, "two members that are made")
    kill(workflow)
    (workflow.folder / "well").touch()


def test_what_a_group_has_made_that_failed_alone_stays(workflow):
    begun(workflow)
    let_go(workflow)
    until(lambda: not queue(), "end of the group")
    code, output = workflow.run(*FOUR_AT_ONCE)
    assert code == 0, output
    assert "3 of its 4 members are made, and stay" in output
    assert sorted(workflow.lines("trace")) == ["0", "0", "1", "2", "3"]
    code, output = workflow.run(*FOUR_AT_ONCE)
    assert "Nothing to be done" in output
    assert not list((workflow.folder / ".snakemake" / "submitit" / "notes").iterdir())


def test_what_a_group_has_made_stays_where_snakemake_went_on_with_it(workflow):
    begun(workflow)
    workflow.start(*FOUR_AT_ONCE, "--retries", "1")
    until_said(workflow, "Going on with job")
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    assert sorted(workflow.lines("trace")) == ["0", "0", "1", "2", "3"]


def test_what_a_group_has_made_stays_while_it_is_tried_again(workflow):
    begun(workflow)
    let_go(workflow)
    until(lambda: not queue(), "end of the group")
    (workflow.folder / "well").unlink()
    # It is tried again, for the one that fails; and Snakemake is killed meanwhile.
    workflow.start(*FOUR_AT_ONCE)
    until(lambda: len(workflow.lines("trace")) == 5, "the second try")
    kill(workflow)
    (workflow.folder / "well").touch()
    until(lambda: not queue(), "end of the second try")
    code, output = workflow.run(*FOUR_AT_ONCE)
    assert code == 0, output
    assert sorted(set(workflow.lines("trace"))) == ["0", "1", "2", "3"]
    assert [workflow.lines("trace").count(name) for name in "123"] == [1, 1, 1]


def test_of_a_group_whose_marks_are_in_a_database_all_is_made_again_and_that_is_said(workflow):
    workflow.write(ONE_FAILS)
    let_go(workflow)
    options = (*FOUR_AT_ONCE, "--persistence-backend", "db")
    workflow.start(*options)
    until_said(workflow, "--persistence-backend db: which members of a group are made is not known")
    until(lambda: len(workflow.lines("trace")) == 4, "start of all members")
    kill(workflow, *options)
    until(lambda: not queue(), "end of the group")
    (workflow.folder / "well").touch()
    code, output = workflow.run(*options)
    assert code == 0, output
    assert sorted(workflow.lines("trace")) == sorted("00112233")
    code, output = workflow.run(*options)
    assert "Nothing to be done" in output


def test_tasks_of_an_array_that_run_or_wait_are_gone_on_with_or_replaced(workflow):
    workflow.write(WHOLE_NODE)
    config = workflow.folder / "config.yaml"
    config.write_text("word: old\n")
    workflow.start()
    until(lambda: sorted(state for _, state in queue()) == ["PENDING", "RUNNING"], "one that runs and one that waits")
    kill(workflow)
    before = queue()
    assert all("_" in job for job, _ in before)
    workflow.start("--rerun-incomplete")
    for _ in before:
        until_said(workflow, "Going on with job")
    kill(workflow)
    assert queue() == before
    config.write_text("word: new\n")
    workflow.start("--rerun-incomplete")
    until(lambda: queue() and not dict(queue()).keys() & dict(before).keys(), "replacement of both")
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    assert [workflow.lines(f"{number}.txt") for number in range(2)] == [["new"]] * 2


def test_a_job_that_waits_is_replaced_where_it_would_now_ask_for_something_else(workflow):
    workflow.write(WHOLE_NODE)
    (workflow.folder / "config.yaml").write_text("word: same\n")
    workflow.start()
    until(lambda: sorted(state for _, state in queue()) == ["PENDING", "RUNNING"], "one that runs and one that waits")
    kill(workflow)
    (before,) = waiting()
    (at_work,) = running()
    workflow.start("--rerun-incomplete", "--set-resources", "whole_node:runtime=7")
    until_said(workflow, f"Cancelling what an earlier run has submitted otherwise: {condensed([before])[0]}")
    until(lambda: waiting() - {before}, "another that waits")
    (after,) = waiting()
    assert running() == [at_work]
    limit = subprocess.run(["squeue", "-h", "-j", after, "-o", "%l"], capture_output=True, text=True).stdout
    assert limit.strip() == "7:00"
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output


def test_a_job_that_is_replaced_has_ended_before_its_successor_starts(workflow):
    beating(workflow, 1)
    workflow.start()
    until_at_work(workflow, [1])
    kill(workflow)
    beating(workflow, 1, word="new")
    workflow.start("--rerun-incomplete")
    until_at_work(workflow, [2])
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    assert times_at_work(workflow, 1) == [2]


# At its first call sbatch kills Snakemake: as soon as the jobs are accepted, or when Snakemake has come to the note of
# the last one, whose way to the disk is blocked.
KILLING_AT_ONCE = """
[ -e killed ] && exec /usr/bin/sbatch "$@"
touch killed; /usr/bin/sbatch "$@" > accepted; kill -9 $PPID
"""
KILLING_AT_THE_LAST_NOTE = """
[ -e killed ] && exec /usr/bin/sbatch "$@"
touch killed; mkfifo .snakemake/submitit/notes/{key}.$PPID
( while [ $(ls .snakemake/submitit/jobs/*/*_submitted.pkl | wc -l) -lt {jobs} ]; do sleep 0.1; done
  kill -9 $PPID ) > /dev/null 2>&1 &
exec /usr/bin/sbatch "$@"
"""
IN_A_GROUP = ("--groups", "beating=both", "--group-components", "both=2", "--cores", "2")


def killed_by_sbatch(workflow: Workflow, text: str, *options: str) -> str:
    """Let sbatch kill a Snakemake that submits two jobs, and return PATH's folder with what does so once."""
    beating(workflow, 2)
    path = wrapper(workflow.folder / "bin", "sbatch", text)
    workflow.start(*options, path=path)
    code, _ = workflow.wait()
    assert code == -signal.SIGKILL
    return path


@pytest.mark.parametrize("options", [(), IN_A_GROUP])
def test_jobs_of_a_snakemake_that_was_killed_before_it_could_say_what_they_run_are_replaced(workflow, options):
    path = killed_by_sbatch(workflow, KILLING_AT_ONCE, *options)
    accepted = workflow.lines("accepted")[-1]
    assert {job.split("_")[0] for job, _ in queue()} == {accepted}  # for a minute
    workflow.run("--unlock")
    workflow.start("--rerun-incomplete", *options, path=path)
    until_at_work(workflow, [1, 1])
    assert accepted not in {job.split("_")[0] for job, _ in queue()}
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    assert times_at_work(workflow, 2) == [1, 1]


@pytest.mark.parametrize(("options", "jobs"), [((), 2), (IN_A_GROUP, 1)])
def test_jobs_of_a_snakemake_that_was_killed_before_it_noted_them_are_gone_on_with(workflow, options, jobs):
    key = key_of("beating", ["1.txt"])
    path = killed_by_sbatch(workflow, KILLING_AT_THE_LAST_NOTE.format(key=key, jobs=jobs), *options)
    workflow.run("--unlock")
    notes = workflow.folder / ".snakemake" / "submitit" / "notes"
    assert not (notes / f"{key}.json").exists()
    until_at_work(workflow, [1, 1])
    workflow.start("--rerun-incomplete", *options, path=path)
    for _ in range(jobs):
        until_said(workflow, "Going on with job")
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    assert times_at_work(workflow, 2) == [1, 1]
    assert all(note.is_fifo() for note in notes.iterdir())


def test_what_a_job_made_that_was_never_noted_is_taken_over(workflow):
    key = key_of("beating", ["1.txt"])
    path = killed_by_sbatch(workflow, KILLING_AT_THE_LAST_NOTE.format(key=key, jobs=2))
    workflow.run("--unlock")
    until_at_work(workflow, [1, 1])
    let_go(workflow)
    until(lambda: not queue(), "end of the jobs")
    code, output = workflow.run("--rerun-incomplete", path=path)
    assert code == 0, output
    assert output.count("submitted by an earlier run, has made beating/") == 2
    assert times_at_work(workflow, 2) == [1, 1]


@contextmanager
def stopping_without_a_controller(workflow, cluster):
    """Two jobs at work, whose Snakemake cancels them in vain until the end; gives the id of their array."""
    beating(workflow, 2)
    workflow.start()
    until_at_work(workflow, [1, 1])
    array = running()[0].split("_")[0]
    cluster.stop_controller()
    try:
        workflow.process.send_signal(signal.SIGINT)
        until(is_cancelling, "scancel")
        yield array
    finally:
        cluster.start_controller()


def test_jobs_that_could_not_be_cancelled_are_named_and_never_run_twice_at_once(workflow, cluster):
    with stopping_without_a_controller(workflow, cluster) as array:
        workflow.process.send_signal(signal.SIGINT)
        code, output = workflow.wait()
    assert code != 0
    assert f"Not cancelled: {array}_[0-1]. Say scancel {array}_[0-1]; the next run does before it submits." in output
    assert len(running()) == 2
    workflow.start("--rerun-incomplete")
    until_at_work(workflow, [2, 2])
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    assert times_at_work(workflow, 2) == [2, 2]


def test_jobs_are_cancelled_once_the_controller_is_back(workflow, cluster):
    with stopping_without_a_controller(workflow, cluster) as array:
        pass
    code, output = workflow.wait()
    assert code != 0
    assert f"Cancelling {array}_[0-1]; Ctrl-C again leaves them." in output
    assert "Not cancelled" not in output
    until(lambda: not queue(), "empty queue")
    until(lambda: states([array]) == {"CANCELLED by 0"}, "cancellation in the accounts")


def test_snakemake_may_run_in_a_job_itself(workflow):
    workflow.write(
        'rule all:\n    input: "0.txt", "1.txt"\nrule inner:\n    output: "{n}.txt"\n'
        '    shell: "echo $SLURM_MEM_PER_NODE ${{SLURM_GPUS:-none}} > {output}"\n'
    )
    command = [
        "sbatch", "--wait", "--partition=gpu", "--array=3", "--mem-per-cpu=600", "--gpus=1", "--output=outer.log",
        "--wrap", " ".join([sys.executable, "-m", "snakemake", *OPTIONS]),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=workflow.folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, (workflow.folder / "outer.log").read_text()
    assert [workflow.lines(f"{number}.txt") for number in range(2)] == [["300", "none"]] * 2
