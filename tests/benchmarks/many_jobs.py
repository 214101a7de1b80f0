"""What the executor costs: short jobs beside the official SLURM executor, and a rehearsal of very many jobs.

`short` brings up the one-node SLURM of tests/cluster (as root) and runs the same short jobs through both executors in
turns; `rehearse` needs no cluster: sbatch, sacct and sinfo are small programs, and a thread plays the nodes.
"""

from __future__ import annotations

import argparse
import os
import pickle
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

SNAKEFILE = """
rule all:
    input: expand("out/{{n}}", n=range({count}))
rule one:
    output: "out/{{n}}"
    shell: "echo {{wildcards.n}} > {{output}}"
"""
COMMON = [
    "--jobs", "{jobs}", "--latency-wait", "10", "--seconds-between-status-checks", "5", "--scheduler", "greedy",
    "--max-jobs-per-timespan", "5000/1s",
    "--default-resources", "slurm_partition=cpu", "mem_mb=300", "runtime=5", "--quiet", "all",
]  # fmt: skip
COUNTED = ("sbatch", "sacct", "squeue", "scontrol", "sinfo", "scancel", "sacctmgr", "sstat")


def counting(folder: Path) -> Path:
    """Make programs that count their calls before the real ones run."""
    programs = folder / "bin"
    programs.mkdir()
    for name in COUNTED:
        real = f"/usr/bin/{name}"
        if Path(real).exists():
            (programs / name).write_text(f'#!/bin/bash\necho {name} >> {folder}/calls\nexec {real} "$@"\n')
            (programs / name).chmod(0o755)
    return programs


def run(folder: Path, executor: str, jobs: int, programs: Path, python: str = sys.executable) -> tuple[float, float]:
    """Run the workflow; return wall seconds and the peak memory of Snakemake, MB."""
    options = [option.format(jobs=jobs) for option in COMMON]
    command = [python, "-m", "snakemake", "--executor", executor, *options]
    # What else lies on Python's path would be executors, too.
    inherited = {name: value for name, value in os.environ.items() if python == sys.executable or name != "PYTHONPATH"}
    environment = inherited | {"PATH": f"{programs}:{os.environ['PATH']}"}
    started = time.perf_counter()
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{executor} failed:\n{(folder / 'output').read_text()[-3000:]}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def short(count: int, rounds: int, official: str) -> None:
    """Print seconds a job, memory and calls of both executors, each in an environment that has no other."""
    tests = Path(__file__).parent.parent
    sys.path[:0] = [str(tests / "cluster"), str(tests)]
    from one_node import OneNode, install

    if (reason := install()) is not None:
        raise SystemExit(f"error: {reason}")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        Path(place).chmod(0o755)  # daemons of other users read here
        cluster = OneNode(Path(place) / "onenode")
        try:
            cluster.start()
            seconds: dict[str, list[float]] = {"submitit": [], "slurm": []}
            for number in range(rounds):
                for executor in seconds:
                    folder = Path(place) / f"{executor}{number}"
                    folder.mkdir()
                    (folder / "Snakefile").write_text(SNAKEFILE.format(count=count))
                    python = sys.executable if executor == "submitit" else official
                    wall, memory = run(folder, executor, count, counting(folder), python)
                    seconds[executor].append(wall / count)
                    told = f"{wall / count:.3f} s a job, {memory:.0f} MB, calls: {_counted(folder)}"
                    print(f"{executor}: {told}", flush=True)
            ratio = statistics.median(seconds["slurm"]) / statistics.median(seconds["submitit"])
            print(f"slurm / submitit, time a job: {ratio:.2f}")
        finally:
            cluster.stop()


def _counted(folder: Path) -> str:
    """Say how often each program was called, and all of them together."""
    calls = Counter((folder / "calls").read_text().split())
    return f"{calls.total()}: " + ", ".join(f"{value} {name}" for name, value in sorted(calls.items()))


PLAYED = {
    "sbatch": """
exec 9> {folder}/lock; flock 9
number=$(( $(cat {folder}/number 2>/dev/null || echo 0) + 1 )); echo $number > {folder}/number
echo "Submitted batch job $number"
""",
    "sacct": 'echo "JobID|State"; cat {folder}/table 2>/dev/null; exit 0',
    # Id, state, reason, restarts: why jobs wait is looked for after two minutes.
    "squeue": "sed -n 's/|RUNNING/|RUNNING|None|0|/p' {folder}/table",
    "sinfo": "echo 'cpu|infinite|64|256000'",
    "scontrol": "echo 'MaxArraySize = 4001'",
    "scancel": "exit 0",
    "srun": "exit 0",
}


class Nodes(threading.Thread):
    """Plays the nodes: every submitted job makes its output and its result some seconds later."""

    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__(daemon=True)
        self._folder, self._seconds = folder, seconds
        self.submitted: list[float] = []

    def run(self) -> None:
        """Look for jobs, finish those whose time has come, and keep the table that sacct shows."""
        started: dict[Path, float] = {}
        over: set[Path] = set()
        while True:
            now = time.monotonic()
            for path in self._folder.glob(".snakemake/submitit/jobs/*/*_submitted.pkl"):
                if path not in started:
                    started[path] = now
                    self.submitted.append(now)
            for path, since in started.items():
                if path not in over and now - since > self._seconds:
                    self._finish(path)
                    over.add(path)
            table = "".join(
                f"{path.name.removesuffix('_submitted.pkl')}|{'COMPLETED' if path in over else 'RUNNING'}\n"
                for path in started
            )
            temporary = self._folder / "table.new"
            temporary.write_text(table)
            temporary.replace(self._folder / "table")
            time.sleep(0.2)

    def _finish(self, path: Path) -> None:
        # Our own file, which the executor has just written.
        command = pickle.loads(path.read_bytes()).function.command
        target = command[command.index("--target-jobs") + 1]
        (self._folder / "out" / target.split("n=")[1]).write_text("x")
        result = path.with_name(path.name.replace("_submitted.pkl", "_0_result.pkl"))
        temporary = result.with_suffix(".new")
        temporary.write_bytes(pickle.dumps(("success", 0)))
        temporary.replace(result)


def rehearse(count: int) -> None:
    """Print rate of submission, memory, and calls for very many jobs on a cluster that is played."""
    # The nodes go on to write.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        programs = folder / "bin"
        programs.mkdir()
        (folder / "out").mkdir()
        for name, text in PLAYED.items():
            played = text.format(folder=shlex.quote(place))
            (programs / name).write_text(f"#!/bin/bash\necho {name} >> {shlex.quote(place)}/calls\n{played}\n")
            (programs / name).chmod(0o755)
        (folder / "Snakefile").write_text(SNAKEFILE.format(count=count))
        nodes = Nodes(folder, seconds=10.0)
        nodes.start()
        wall, memory = run(folder, "submitit", count, programs)
        span = max(nodes.submitted) - min(nodes.submitted)
        print(
            f"{count} jobs: {wall:.0f} s in all, sent in {span:.0f} s ({count / max(span, 0.2):.0f} a second), "
            f"{memory:.0f} MB, calls: {_counted(folder)}"
        )


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["short", "rehearse"])
    parser.add_argument("--jobs", type=int, help="default: 200 short ones, 10,000 for the rehearsal")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--official",
        default=str(Path(".venv-others/bin/python").absolute()),
        help="a Python with the official executor",
    )
    arguments = parser.parse_args()
    # The daemons of the cluster are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if arguments.what == "short":
        short(arguments.jobs or 200, arguments.rounds, arguments.official)
    else:
        rehearse(arguments.jobs or 10_000)


if __name__ == "__main__":
    main()
