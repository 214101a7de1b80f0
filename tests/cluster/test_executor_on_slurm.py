"""The executor on a real SLURM: what ends well, what does not, and what is interrupted."""

from __future__ import annotations

import re
import signal
import subprocess
import time

import pytest
from workflows import (
    Workflow,
    let_go,
    near_its_limit,
    preempt,
    put_back_at_its_limit,
    queue,
    running,
    said_to_be_made,
    until,
    until_said,
    waiting,
    was_put_back,
    wrapper,
)

from snakemake_executor_plugin_submitit.waiting import Queued, in_queue

# A job that counts its steps, so many or until a file says that it may end, saves at USR2 and TERM, and goes on from
# there: as training does. It says that it begins once it listens.
COUNTER = """
import signal, sys, time
from pathlib import Path
state, trace, output = map(Path, sys.argv[1:4])
steps = int(sys.argv[4]) if sys.argv[4:] else sys.maxsize
stopped = []
for number in (signal.SIGUSR2, signal.SIGTERM):
    signal.signal(number, lambda number, frame: stopped.append(number))
done = int(state.read_text()) if state.exists() else 0
with trace.open("a") as file:
    file.write(f"start:{done}\\n")
print(f"from {done}", flush=True)
while done < steps and not Path("go").exists():
    time.sleep(0.5)
    done += 1
    if stopped:
        state.write_text(str(done))
        sys.exit(1)
output.write_text("done")
"""
COUNTING = """
rule all:
    input: "out.txt"
rule count:
    output: "out.txt"
    log: "counter.log"
    resources: mem_mb=300, runtime=5, slurm_partition="{partition}", gpu={gpu}, tasks={tasks}
    shell: "exec python3 counter.py state trace {{output}} > {{log}}"
"""
SLEEPING = """
rule all:
    input: expand("{{n}}.txt", n=range({count}))
rule sleeping:
    output: "{{n}}.txt"
    shell: "echo {{wildcards.n}} >> trace; sleep {seconds}; echo x > {{output}}"
"""
WAITING = SLEEPING.replace("sleep {seconds}", "while [ ! -e go ]; do sleep 0.2; done")


def counting(workflow: Workflow, partition: str = "cpu", gpu: int = 0, tasks: int = 1) -> None:
    (workflow.folder / "counter.py").write_text(COUNTER)
    workflow.write(COUNTING.format(partition=partition, gpu=gpu, tasks=tasks))


def starts(workflow: Workflow) -> list[int]:
    """Return from which step the counting job set out, each time."""
    return [int(line.split(":")[1]) for line in workflow.lines("trace")]


def sacct(*fields: str) -> list[list[str]]:
    answer = subprocess.run(
        ["sacct", "-X", "-n", "-P", "-S", "now-1hours", "-o", ",".join(fields)], capture_output=True, text=True
    ).stdout
    return [line.split("|") for line in answer.splitlines()]


def test_jobs_that_ask_for_the_same_are_one_array_and_one_sacct_call_asks_for_all(workflow):
    workflow.write(SLEEPING.format(count=12, seconds=6))
    counted = wrapper(workflow.folder / "bin", "sacct", f'echo x >> {workflow.folder}/calls; exec /usr/bin/sacct "$@"')
    submitted = wrapper(
        workflow.folder / "bin", "sbatch", f'echo x >> {workflow.folder}/sbatch; exec /usr/bin/sbatch "$@"'
    )
    assert counted == submitted
    started = time.monotonic()
    code, output = workflow.run(path=counted)
    assert code == 0, output
    assert len(workflow.lines("sbatch")) == 1
    # One at the start, then after 1, 3, 7, 13, 19, 25, ... s; sooner where a job has ended and its result is late.
    assert len(workflow.lines("calls")) <= 4 + (time.monotonic() - started) / 2
    until(
        lambda: "sleeping" in {name for job, name in sacct("JobID", "JobName") if "_" in job}, "array in the accounts"
    )
    assert len(re.findall(r"Submitted sleeping/n=\d+-\w+ as job \d+_\d+\.", output)) == 12
    # What ended well leaves its log and nothing else.
    assert not list((workflow.folder / ".snakemake" / "submitit" / "jobs").iterdir())
    assert not list((workflow.folder / ".snakemake" / "submitit" / "notes").iterdir())


def test_resources_reach_slurm(workflow, cluster):
    extra = f"--comment=hello --nice 5 -sw {cluster.node} -b now"
    workflow.write(
        f"""
rule all:
    input: "out.txt"
rule asking:
    output: "out.txt"
    threads: 3
    resources: mem_mb=700, runtime=7, gpu=1, slurm_partition="gpu", slurm_extra="{extra}"
    shell: "scontrol show job $SLURM_JOB_ID > {{output}}"
"""
    )
    code, output = workflow.run()
    assert code == 0, output
    told = (workflow.folder / "out.txt").read_text()
    for piece in ("JobName=asking", "Partition=gpu", "TimeLimit=00:07:00", "MinMemoryNode=700M", "NumCPUs=3",
                  "gres:gpu:1", "Comment=hello", "Nice=5", f"ReqNodeList={cluster.node}",
                  "OverSubscribe=YES"):  # fmt: skip
        assert piece in told, told


def test_a_failed_job_shows_the_end_of_its_log_and_where_the_rest_is(workflow):
    workflow.write(
        """
rule all:
    input: "a.txt"
rule failing:
    output: "{n}.txt"
    shell: "echo the reason is this; exit 3"
"""
    )
    code, output = workflow.run()
    assert code == 1
    assert "the reason is this" in output
    assert f"{workflow.folder}/.snakemake/submitit/logs/failing/n=a-" in output
    # SLURM's accounts say so, too, and with them its mails and what depends on the job.
    until(lambda: sacct("State", "ExitCode")[-1:] == [["FAILED", "1:0"]], "end of the job in the accounts")


def test_a_retry_asks_for_no_more_than_its_partition_or_the_default_one_has(workflow):
    workflow.write(
        """
rule all:
    input: "hidden.txt", "none.txt"
rule growing:
    output: "{partition}.txt"
    resources:
        slurm_partition=lambda wildcards: wildcards.partition.removesuffix("none"),
        runtime=lambda wildcards, attempt: 1000 * attempt,
    shell: "[ {resources.runtime} -gt 1000 ] && scontrol show job $SLURM_JOB_ID > {output}"
"""
    )
    code, output = workflow.run("--retries", "1")
    assert code == 0, output
    for named, partition in (("hidden", "hidden"), ("none", "cpu")):
        told = (workflow.folder / f"{named}.txt").read_text()
        assert "TimeLimit=1-00:00:00" in told
        assert f"Partition={partition}" in told


def test_a_limit_on_jobs_in_the_queue_is_waited_for(workflow, cluster):
    workflow.write(SLEEPING.format(count=5, seconds=1))
    cluster.limit_jobs_in_the_queue(3)
    try:
        code, output = workflow.run()
    finally:
        cluster.limit_jobs_in_the_queue(-1)
    assert code == 0, output
    assert output.count("QOSMaxSubmitJobPerUserLimit: ") == 1
    assert sorted(workflow.lines("trace")) == [str(number) for number in range(5)]


def test_a_job_of_several_tasks_runs_its_command_once(workflow):
    workflow.write(
        """
rule all:
    input: "out.txt"
rule several:
    output: "out.txt"
    threads: 2
    resources: tasks=2
    shell: "echo once > {output}; srun bash -c 'echo task-$SLURM_PROCID-$SLURM_CPUS_PER_TASK' >> {output}"
"""
    )
    code, output = workflow.run()
    assert code == 0, output
    once, *tasks = workflow.lines("out.txt")
    assert once == "once"
    assert sorted(tasks) == ["task-0-2", "task-1-2"]


# A result that is compared with no number.
STRANGE = """
import decimal, os, pickle, sys, time
with open("strange.new", "wb") as file:
    file.write(pickle.dumps(("success", decimal.Decimal("sNaN"))))
os.rename("strange.new", f"{sys.argv[1]}/{os.environ['SLURM_JOB_ID']}_0_result.pkl")
time.sleep(600)
"""


def test_a_job_that_cannot_be_looked_after_fails_alone(workflow):
    (workflow.folder / "strange.py").write_text(STRANGE)
    workflow.write(
        """
rule all:
    input: expand("{n}.txt", n=["bad", "strange", "good"])
rule one:
    output: "{n}.txt"
    resources: mem_mb=lambda wildcards: 200 + len(wildcards.n)
    shell:
        "found=$(echo .snakemake/submitit/jobs/*/);"
        "[ {wildcards.n} != bad ] || {{ echo damaged > new; mv new $found/${{SLURM_JOB_ID}}_0_result.pkl; sleep 30; }};"
        "[ {wildcards.n} != strange ] || python3 strange.py $found;"
        "sleep 6; touch {output}"
"""
    )
    code, output = workflow.run("--keep-going")
    assert code == 1
    assert "its result cannot be read: UnpicklingError" in output
    strange = re.search(r"Job (\d+): it cannot be looked after and is cancelled: InvalidOperation", output)
    assert strange, output
    until(lambda: [strange[1], "CANCELLED by 0"] in sacct("JobID", "State"), "end of the strange one")
    assert (workflow.folder / "good.txt").exists()


def test_what_slurm_refuses_or_would_never_start_is_said(workflow):
    workflow.write(SLEEPING.format(count=1, seconds=1))
    code, output = workflow.run("--set-resources", "sleeping:slurm_partition=nowhere")
    assert code == 1
    assert "slurm_partition: there is no 'nowhere'; sinfo lists cpu, gpu, gpulow" in output
    code, output = workflow.run("--set-resources", "sleeping:runtime=1500")
    assert code == 1
    assert "runtime is 1500, but partition cpu has 1440 minutes; ask for less, or for another slurm_partition" in output
    code, output = workflow.run("--set-resources", "sleeping:slurm_extra='--nodelist=nowhere'")
    assert code == 1
    assert "it was not accepted: sbatch: error: " in output
    code, output = workflow.run("--set-resources", "sleeping:slurm_extra='--outpu=x'")
    assert code == 1
    assert "slurm_extra: --output is set by the executor; take it out" in output
    # One job's, not the whole run's.
    extra = '    resources: slurm_extra=lambda wildcards: "--comment=\'a" if wildcards.n == "0" else ""\n'
    workflow.write(SLEEPING.format(count=2, seconds=1).replace("    shell", f"{extra}    shell"))
    code, output = workflow.run("--keep-going")
    assert code == 1
    assert "No closing quotation" in output
    assert "Traceback" not in output
    assert workflow.lines("trace") == ["1"]


def test_a_job_that_nears_its_time_limit_saves_and_goes_on(workflow):
    counting(workflow)
    workflow.start("--submitit-signal-delay", "60")
    until(lambda: workflow.lines("trace"), "start of the job")
    put_back_at_its_limit(running()[0], minutes=5)
    until(lambda: len(starts(workflow)) == 2, "second start of the job")
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    assert len(starts(workflow)) == 2
    assert starts(workflow)[-1] > 0


def test_a_job_that_reaches_its_time_limit_too_often_is_given_up(workflow):
    counting(workflow)
    workflow.start("--submitit-signal-delay", "60", "--submitit-requeues", "1")
    until(lambda: workflow.lines("trace"), "start of the job")
    job_id = running()[0]
    put_back_at_its_limit(job_id, minutes=5)
    until(lambda: len(starts(workflow)) == 2, "second start of the job")
    near_its_limit(job_id)
    code, output = workflow.wait()
    assert code == 1
    assert "it reached its time limit (runtime) more often than --submitit-requeues allows" in output
    assert len(starts(workflow)) == 2
    assert starts(workflow)[-1] > 0


def test_a_job_whose_command_cannot_be_run_says_why(workflow):
    workflow.write(SLEEPING.format(count=1, seconds=1))
    logs = workflow.folder / ".snakemake" / "submitit" / "logs"
    in_the_way = f"mkdir -p {logs}; touch {logs}/sleeping"
    path = wrapper(workflow.folder / "bin", "sbatch", f'{in_the_way}; exec /usr/bin/sbatch "$@"')
    code, output = workflow.run(path=path)
    assert code == 1
    assert "it could not run its command: FileExistsError: [Errno 17] File exists: " in output


def test_an_inner_snakemake_is_given_the_cpus_of_its_job(workflow):
    workflow.write(
        """
rule all:
    input: "both.txt"
rule one:
    output: "{n}.txt"
    group: "pair"
    threads: 2
    shell: "date +%s%N > {output}; echo {threads} >> {output}; sleep 4; date +%s%N >> {output}"
rule both:
    input: "1.txt", "2.txt"
    output: "both.txt"
    shell: "touch {output}"
"""
    )
    code, output = workflow.run("--groups", "one=pair", "--group-components", "pair=2", "--cores", "2")
    assert code == 0, output
    (_, two, end), (second, _, _) = sorted((workflow.lines("1.txt"), workflow.lines("2.txt")))
    assert two == "2"
    # Two members of two CPUs each in a job of two: one after the other.
    assert int(second) >= int(end)
    until(lambda: ["pair_one", "2"] in sacct("JobName", "ReqCPUS"), "two CPUs in the accounts")


TESTING = """
rule all:
    input: expand("{{n}}.txt", n=range(4))
rule fit:
    output: "{{n}}.model"
    shell: "echo x >> trained; touch {{output}}"
rule test:
    input: "{{n}}.model"
    output: "{{n}}.txt"
    threads: {threads}
    resources: runtime={runtime}, mem_mb=lambda wildcards, attempt: 300 * attempt
    shell: "date +%s%N > {{output}}; sleep 3; date +%s%N >> {{output}}"
"""
FOUR_IN_ONE = ("--groups", "test=testing", "--group-components", "testing=4")


def at_work_at_once(workflow: Workflow) -> int:
    """Return how many tests were at work at one time, at most."""
    spans = [[int(time) for time in workflow.lines(f"{number}.txt")] for number in range(4)]
    return max(sum(start <= when < end for start, end in spans) for when, _ in spans)


@pytest.mark.parametrize(
    ("threads", "cpus", "at_once", "asked"),
    [
        (1, 2, 2, ["testing_test", "2", "600M", "00:06:00"]),
        (1, 1, 1, ["testing_test", "1", "300M", "00:12:00"]),
        # Of what fits the node; all four would need 24 CPUs.
        (6, 100, 2, ["testing_test", "12", "600M", "00:06:00"]),
    ],
)
def test_a_group_asks_for_what_its_members_need_at_a_time(workflow, threads, cpus, at_once, asked):
    workflow.write(TESTING.format(threads=threads, runtime=3))
    code, output = workflow.run(*FOUR_IN_ONE, "--submitit-group-cpus", str(cpus))
    assert code == 0, output
    until(lambda: asked in sacct("JobName", "ReqCPUS", "ReqMem", "Timelimit"), "what was asked for in the accounts")
    assert at_work_at_once(workflow) == at_once


def test_members_of_a_group_with_a_gpu_each_run_one_after_another(workflow):
    workflow.write(
        TESTING.format(threads=1, runtime=3).replace("resources: ", "resources: gpu=1, slurm_partition='gpu', ")
    )
    code, output = workflow.run(*FOUR_IN_ONE, "--submitit-group-cpus", "4")
    assert code == 0, output
    assert at_work_at_once(workflow) == 1

    def asked() -> list[str]:
        rows = sacct("JobName", "Partition", "ReqTRES")
        return [tres for name, partition, tres in rows if (name, partition) == ("testing_test", "gpu")]

    until(asked, "group in the accounts")
    (tres,) = asked()
    assert "gres/gpu=1" in tres


# One of four fails, once.
PACKED = """
rule all:
    input: expand("{n}.txt", n=range(4))
rule train:
    output: "{n}.txt"
    log: "{n}.log"
    resources: gpu=1, gpu_mem_mb=10000, slurm_partition="gpu", runtime=5
    shell:
        "exec > {log}; echo $SLURM_JOB_ID $CUDA_VISIBLE_DEVICES >> devices; echo {wildcards.n} >> trace; "
        "date +%s%N > times.{wildcards.n}; sleep $((4 + {wildcards.n})); "
        "[ {wildcards.n} != 0 -o -e failed ] || {{ touch failed; exit 1; }}; "
        "date +%s%N >> times.{wildcards.n}; cp times.{wildcards.n} {output}"
"""
PACKED_OPTIONS = ("--groups", "train=training", "--group-components", "training=4")


@pytest.mark.parametrize(("memory", "at_once"), [(40_000, 4), (29_999, 2), (0, 1)])
def test_members_of_a_group_share_a_gpu_as_its_memory_allows(workflow, memory, at_once):
    workflow.write(PACKED)
    (workflow.folder / "failed").touch()
    code, output = workflow.run(*PACKED_OPTIONS, "--submitit-group-gpu-mem-mb", str(memory))
    assert code == 0, output
    assert at_work_at_once(workflow) == at_once
    # All of them see the one GPU of their one job.
    ((job, gpu),) = {tuple(line.split()) for line in (workflow.folder / "devices").read_text().splitlines()}
    assert gpu in ("0", "1")
    until(lambda: job in {number for (number,) in sacct("JobIDRaw")}, "job in the accounts")
    name, tres = next(row[1:] for row in sacct("JobIDRaw", "JobName", "ReqTRES") if row[0] == job)
    assert name == "training_train"
    members = [f"train/n={number}" for number in range(4)]
    told = rf"Submitted training_train/\w{{8}} \({members[0]} and 3 more\) as job {job}: {', '.join(members)}\."
    assert re.search(told, output), output
    for asked in ("gres/gpu=1", f"cpu={at_once}", f"mem={300 * at_once}M"):
        assert asked in tres.split(","), tres


def test_a_member_that_fails_takes_no_other_of_its_group_along(workflow):
    workflow.write(PACKED)
    options = (*PACKED_OPTIONS, "--submitit-group-gpu-mem-mb", "20000", "--keep-going", "--retries", "1")
    code, output = workflow.run(*options)
    assert code == 0, output
    assert "3 of its 4 members are made, and stay." in output
    # The one that has failed alone is run again.
    assert sorted(workflow.lines("trace")) == ["0", "0", "1", "2", "3"]
    code, output = workflow.run(*PACKED_OPTIONS)
    assert "Nothing to be done" in output


def test_what_a_failed_group_has_made_is_there_for_the_next_run(workflow):
    workflow.write(PACKED)
    options = (*PACKED_OPTIONS, "--submitit-group-gpu-mem-mb", "20000", "--keep-going")
    code, output = workflow.run(*options)
    assert code == 1
    assert sorted(path.name for path in workflow.folder.glob("*.txt")) == ["1.txt", "2.txt", "3.txt"]
    assert not list(workflow.folder.glob(".*.made"))
    code, output = workflow.run(*options)
    assert code == 0, output
    assert sorted(workflow.lines("trace")) == ["0", "0", "1", "2", "3"]


def test_a_group_whose_member_needs_more_than_a_gpu_has_is_refused(workflow):
    workflow.write(PACKED)
    code, output = workflow.run(*PACKED_OPTIONS, "--submitit-group-gpu-mem-mb", "9000")
    assert code == 1
    assert (
        "1 group(s) would never start: training_train: gpu_mem_mb is 10000, but submitit-group-gpu-mem-mb is" in output
    )
    code, output = workflow.run(*PACKED_OPTIONS, "--submitit-group-gpu-mem-mb", "-1")
    assert code == 1
    assert "submitit-group-gpu-mem-mb: found -1; expected MB, or 0" in output
    assert not workflow.lines("trace")


# Members that count, save and go on; the one that begins first is soon done, and the others go on for minutes unless
# they are let go.
COUNTING_TOGETHER = """
rule all:
    input: expand("{n}.txt", n=range(4))
rule count:
    output: "{n}.txt"
    log: "{n}.log"
    resources: gpu=1, gpu_mem_mb=1, slurm_partition="gpu", runtime=5
    shell:
        "steps=$(mkdir first 2> /dev/null && echo 8 || echo 1000); "
        "exec python3 counter.py {wildcards.n}.state {wildcards.n}.trace {output} $steps > {log}"
"""


@pytest.mark.parametrize("requeued", [False, True])
def test_members_of_a_group_that_is_put_back_save_and_go_on_and_those_that_are_made_stay(workflow, requeued):
    (workflow.folder / "counter.py").write_text(COUNTER)
    workflow.write(COUNTING_TOGETHER)

    def starts_of() -> list[list[int]]:
        return [[int(line.split(":")[1]) for line in workflow.lines(f"{number}.trace")] for number in range(4)]

    # By hand, once a third has followed the first of two at a time, and the last waits; or at the limit of all at once.
    at_once, begun = (2, 3) if requeued else (4, 4)
    options = ("--groups", "count=counting", "--group-components", "counting=4", "--submitit-signal-delay", "60")
    keep_going = ("--keep-going",) if requeued else ()
    workflow.start(*options, "--submitit-group-gpu-mem-mb", str(at_once), *keep_going)
    until(lambda: sum(map(bool, starts_of())) >= begun, "members at work")
    (job_id,) = running()
    if requeued:
        subprocess.run(["scontrol", "requeue", job_id], check=True)
    else:
        until(lambda: said_to_be_made(workflow) == 1, "a member that is made")
        put_back_at_its_limit(job_id, minutes=5)
    until(lambda: max(map(len, starts_of())) >= 2, "second start of a member")
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    # One that is made would start where it did before.
    assert all(starts == sorted(set(starts)) for starts in starts_of()), starts_of()
    assert max(map(len, starts_of())) >= 2


def test_a_group_that_no_smaller_one_would_mend_is_refused_without_the_hint(workflow):
    workflow.write(TESTING.format(threads=1, runtime=1500))
    code, output = workflow.run(*FOUR_IN_ONE)
    assert code == 1
    assert "1 group(s) would never start: testing_test: runtime is" in output
    assert "(--group-components" not in output


def test_a_group_that_would_never_start_is_refused_before_anything_runs(workflow):
    workflow.write(TESTING.format(threads=1, runtime=400))
    code, output = workflow.run(*FOUR_IN_ONE, "--submitit-group-cpus", "1")
    assert code == 1
    assert "1 group(s) would never start: testing_test: runtime is 1600, but partition cpu has 1440 minutes" in output
    assert "Traceback" not in output
    assert "(--group-components, --submitit-group-cpus)" in output
    assert not workflow.lines("trained")
    code, output = workflow.run(*FOUR_IN_ONE, "--submitit-group-cpus", "2")
    assert code == 0, output


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_preempted_job_saves_and_goes_on(workflow, tasks):
    counting(workflow, partition="gpulow", gpu=2, tasks=tasks)
    workflow.start()
    preempt(workflow)
    until(lambda: len(starts(workflow)) >= 2, "second start of the job")
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    assert starts(workflow)[-1] > 0
    # One that is taken away before it counts is no start that is known here.
    restarts = re.findall(r"was put back in the queue \(restart (\d+)\)", output)
    assert restarts
    assert int(restarts[-1]) >= len(starts(workflow)) - 1


def test_a_bare_requeue_saves_and_goes_on(workflow):
    counting(workflow)
    workflow.start()
    until(lambda: workflow.lines("trace"), "start of the job")
    job_id = running()[0]
    subprocess.run(["scontrol", "requeue", job_id], check=True)
    until(lambda: was_put_back(job_id, 1), "restart that is counted")
    until(lambda: len(starts(workflow)) == 2, "second start of the job")
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output
    assert len(starts(workflow)) == 2
    assert starts(workflow)[-1] > 0
    # The job says so at its end: nobody has looked into the queue meanwhile.
    assert output.count(f"Job {job_id} (count/") == output.count("was put back in the queue (restart 1).") == 1
    # The log is written anew, and what stood there is kept.
    assert (workflow.folder / "counter.log.1").read_text() == "from 0\n"
    assert (workflow.folder / "counter.log").read_text() == f"from {starts(workflow)[-1]}\n"


def test_why_jobs_wait_is_read_from_the_queue(workflow):
    held = ["sbatch", "--parsable", "--hold", "-p", "cpu", "--mem=100", "-o", "/dev/null", "--wrap", "true"]
    alone, array = (
        subprocess.run([*held, *more], check=True, capture_output=True, text=True).stdout.strip()
        for more in ((), ("--array", "0-1"))
    )
    waits = Queued("PENDING", "JobHeldUser", 0)
    until(lambda: in_queue() == {alone: waits, f"{array}_0": waits, f"{array}_1": waits}, "three that wait")


def test_each_task_of_an_array_has_a_comment_of_its_own_once_it_lasts(workflow):
    workflow.write(WAITING.format(count=3))
    workflow.start()
    own = {f"sleeping/n={number}" for number in range(3)}

    def comments() -> set[str]:
        """Return those of the queue, without what tells rules of one name apart."""
        answer = subprocess.run(["squeue", "-h", "-r", "-o", "%k"], capture_output=True, text=True).stdout
        return {re.sub(r"-\w{8}$", "", comment) for comment in answer.splitlines()}

    until(lambda: comments() == own, "comments of all")
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 0, output


def test_what_a_job_waits_for_is_said_once_it_lasts(workflow):
    held = '    resources: slurm_extra="--hold"\n    shell:'
    workflow.write(SLEEPING.format(count=1, seconds=0).replace("    shell:", held))
    workflow.start()
    until_said(workflow, "Jobs that wait: 1 held by you (scontrol release) (JobHeldUser).")
    (job,) = waiting()
    subprocess.run(["scontrol", "release", job], check=True)
    code, output = workflow.wait()
    assert code == 0, output


def test_a_job_that_was_cancelled_by_hand_is_said_to_be_and_is_submitted_again_while_it_has_retries(workflow):
    workflow.write(SLEEPING.format(count=1, seconds=60))
    workflow.start("--retries", "1")
    for times in (1, 2):
        until(lambda times=times: workflow.lines("trace") == ["0"] * times, "start of the job")
        subprocess.run(["scancel", running()[0]], check=True)
    code, output = workflow.wait()
    assert code == 1
    assert output.count("it was cancelled (scancel); if its rule has retries left, it is submitted again") == 2
    until(lambda: not queue(), "empty queue")


def test_a_job_without_memory_is_said_to_need_more(workflow):
    workflow.write(
        """
rule all:
    input: "out.txt"
rule hungry:
    output: "out.txt"
    resources: mem_mb=300
    shell: "python3 -c 'import time; x = bytearray(600 * 2**20); time.sleep(300)'; echo x > {output}"
"""
    )
    code, output = workflow.run()
    assert code == 1
    assert "it needed more memory than it asked for (mem_mb)" in output


def test_a_job_of_a_node_that_fails_runs_again(workflow, cluster):
    workflow.write(SLEEPING.format(count=1, seconds=10))
    workflow.start()
    until(lambda: workflow.lines("trace"), "start of the job")
    subprocess.run(["scontrol", "update", f"nodename={cluster.node}", "state=down", "reason=test"], check=True)

    def started_again() -> bool:
        cluster.take_back()
        return len(workflow.lines("trace")) == 2

    until(started_again, "second start of the job")
    code, output = workflow.wait()
    assert code == 0, output
    assert workflow.lines("trace") == ["0", "0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stopping_snakemake_cancels_what_it_submitted(workflow, number):
    workflow.write(SLEEPING.format(count=3, seconds=600))
    workflow.start()
    until(lambda: len(workflow.lines("trace")) == 3, "start of the jobs")
    workflow.process.send_signal(number)
    code, _ = workflow.wait()
    assert code != 0
    until(lambda: not queue(), "empty queue")
    time.sleep(5)
    assert not queue()
    assert len(workflow.lines("trace")) == 3
    assert not list(workflow.folder.glob("*.txt"))  # none has ended by itself


def test_stopping_snakemake_while_it_waits_for_sacct_cancels_too(workflow):
    workflow.write(SLEEPING.format(count=2, seconds=600))
    calls = workflow.folder / "calls"
    path = wrapper(workflow.folder / "bin", "sacct", f'echo x >> {calls}; sleep 6; exec /usr/bin/sacct "$@"')
    workflow.start(path=path)
    until(lambda: len(workflow.lines("trace")) == 2, "start of the jobs")
    before = len(workflow.lines("calls"))
    until(lambda: len(workflow.lines("calls")) > before, "next question")
    workflow.process.send_signal(signal.SIGINT)
    code, _ = workflow.wait()
    assert code != 0
    until(lambda: not queue(), "empty queue")
    assert not list(workflow.folder.glob("*.txt"))  # none has ended by itself


def test_a_killed_snakemake_finds_its_jobs_again(workflow):
    workflow.write(WAITING.format(count=4).replace("-e go", "-e go{wildcards.n}"))
    workflow.start()
    until(lambda: len(workflow.lines("trace")) == 4, "start of the jobs")
    (workflow.folder / "go0").touch()
    until(lambda: (workflow.folder / "0.txt").exists(), "end of the first")
    workflow.kill()
    (workflow.folder / "go1").touch()
    until(lambda: len(queue()) == 2, "end of the second")
    workflow.run("--unlock")
    workflow.start("--rerun-incomplete")
    for _ in range(2):
        until_said(workflow, "Going on with job")
    for number in (2, 3):
        (workflow.folder / f"go{number}").touch()
    code, output = workflow.wait()
    assert code == 0, output
    assert sorted(workflow.lines("trace")) == ["0", "1", "2", "3"]  # none of them twice


def test_a_config_edited_while_jobs_wait_changes_none_of_them(workflow):
    workflow.write(
        """
configfile: "config.yaml"
rule all:
    input: expand("{n}.txt", n=range(4))
rule first:
    output: touch("first")
    shell: "sed -i s/400/37/ config.yaml"
rule waiting:
    input: "first"
    output: "{n}.txt"
    params: steps=config["steps"]
    shell: "echo {params.steps} > {output}"
"""
    )
    config = workflow.folder / "config.yaml"
    config.write_text("steps: 400\n")
    code, output = workflow.run("--groups", "waiting=pair", "--group-components", "pair=2")
    assert code == 0, output
    assert config.read_text() == "steps: 37\n"
    assert [workflow.lines(f"{number}.txt") for number in range(4)] == [["400"]] * 4
    config.write_text("steps: 400\n")
    code, output = workflow.run()
    assert "Nothing to be done" in output
    assert not list((workflow.folder / ".snakemake" / "submitit" / "jobs").iterdir())


def test_a_job_that_waits_while_its_snakemake_is_killed_keeps_its_config(workflow):
    workflow.write(
        """
configfile: "config.yaml"
rule all:
    input: expand("{n}.txt", n=range(2))
rule whole_node:
    output: "{n}.txt"
    threads: 16
    params: steps=config["steps"]
    shell: "while [ ! -e go ]; do sleep 0.2; done; echo {params.steps} > {output}"
"""
    )
    config = workflow.folder / "config.yaml"
    config.write_text("steps: 400\n")
    workflow.start()
    until(lambda: sorted(state for _, state in queue()) == ["PENDING", "RUNNING"], "one that runs and one that waits")
    workflow.kill()
    config.write_text("steps: 37\n")
    (workflow.folder / "go").touch()
    until(lambda: not queue(), "end of both")
    config.write_text("steps: 400\n")
    workflow.run("--unlock")
    code, output = workflow.run("--rerun-incomplete")
    assert code == 0, output
    assert output.count("submitted by an earlier run, has made whole_node/n=") == 2
    assert [workflow.lines(f"{number}.txt") for number in range(2)] == [["400"]] * 2


def test_a_controller_that_restarts_disturbs_nobody(workflow, cluster):
    last = 'rule last:\n    input: "0.txt", "1.txt"\n    output: "last.txt"\n    shell: "touch {output}"\n'
    workflow.write(WAITING.format(count=2).replace("rule all:", "rule all:\n    input: 'last.txt'\nrule none:") + last)
    refused = workflow.folder / "refused"
    path = wrapper(workflow.folder / "bin", "sbatch", f'/usr/bin/sbatch "$@" || {{ touch {refused}; exit 1; }}')
    workflow.start(path=path)
    until(lambda: len(workflow.lines("trace")) == 2, "start of the jobs")
    cluster.stop_controller()
    try:
        # Jobs end, and the next is ready, while nobody takes it.
        let_go(workflow)
        until(refused.exists, "submission in vain")
    finally:
        cluster.start_controller()
    code, output = workflow.wait()
    assert code == 0, output
    assert len(workflow.lines("trace")) == 2


def test_sacct_may_fail_for_a_while(workflow):
    workflow.write(WAITING.format(count=2))
    broken, calls = workflow.folder / "broken", workflow.folder / "calls"
    fails = f"[ -e {broken} ] && echo x >> {calls} && echo no database >&2 && exit 1"
    path = wrapper(workflow.folder / "bin", "sacct", f'{fails}; exec /usr/bin/sacct "$@"')
    workflow.start(path=path)
    until(lambda: len(workflow.lines("trace")) == 2, "start of the jobs")
    broken.touch()
    subprocess.run(["scancel", running()[-1]], check=True)
    until(lambda: len(workflow.lines("calls")) >= 2, "second question")
    until(lambda: len(queue()) == 1, "end of the one that was cancelled")
    let_go(workflow)
    broken.unlink()
    code, output = workflow.wait()
    assert code == 1
    assert output.count("sacct failed: no database; jobs go on, and are asked for again.") == 1
    assert output.count("it was cancelled (scancel)") == 1
    assert len(list(workflow.folder.glob("[01].txt"))) == 1


def test_a_slow_scheduler_is_waited_for(workflow):
    workflow.write(SLEEPING.format(count=1, seconds=1))
    # Longer than until the first look at jobs.
    code, output = workflow.run(path=wrapper(workflow.folder / "bin", "sinfo", 'sleep 5; exec /usr/bin/sinfo "$@"'))
    assert code == 0, output


def test_without_accounting_the_queue_is_asked(workflow):
    workflow.write(WAITING.format(count=2))
    workflow.start(
        "--keep-going",
        path=wrapper(workflow.folder / "bin", "sacct", "echo Slurm accounting storage is disabled >&2; exit 1"),
    )
    until(lambda: len(workflow.lines("trace")) == 2, "start of both jobs")
    subprocess.run(["scancel", running()[0]], check=True)
    until(lambda: len(queue()) == 1, "end of the one that was cancelled")
    let_go(workflow)
    code, output = workflow.wait()
    assert code == 1
    assert "accounting storage is disabled. While accounting (slurmdbd) does not answer the queue is asked" in output
    assert output.count("it left the queue without a result") == 1
    assert len(list(workflow.folder.glob("[01].txt"))) == 1
