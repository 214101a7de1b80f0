"""A real SLURM of one node on loopback, started and stopped by the tests; root alone can.

munged, MariaDB, slurmdbd, slurmctld and slurmd run as plain processes in a folder of their own. The node says that it
has sixteen CPUs, 64 GB and two GPUs (device files of /dev/null); partition `gpu` preempts `gpulow` by requeue.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import debian_packages

PACKAGES = ("slurmctld", "slurmd", "slurmdbd", "slurm-client", "munge", "mariadb-server")
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "sacct", "munged", "mariadbd")
# Ports, /etc/slurm and munge's socket are one cluster's at a time.
LOCK = Path("/run/lock/piwsl-onenode")
CPUS, MEMORY_MB, GPUS = 16, 64_000, 2
# Ends what would not end.
PATIENCE_SECONDS = 300.0

SLURM_CONF = """
ClusterName=onenode
SlurmctldHost={node}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that was put back in the queue waits so long before it starts again: time for its first start to end.
AuthInfo=cred_expire=30
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldParameters=preempt_send_user_signal
SlurmctldPort=6817
SlurmdPort=6818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=6819
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=limits
AccountingStoreFlags=job_comment
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=bf_interval=2,batch_sched_delay=0,sched_interval=2,sched_min_interval=100000
SlurmdParameters=config_overrides
# A machine that is busy is no node that is down, no job that was lost, no program that does not answer.
SlurmdTimeout=120
BatchStartTimeout=120
MessageTimeout=20
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
MinJobAge=300
MaxArraySize=2001
MpiDefault=none
GresTypes=gpu
NodeName={node} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={node} Default=YES MaxTime=1-0 DefMemPerCPU=200 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=hidden Nodes={node} Hidden=YES MaxTime=1-0 DefMemPerCPU=200 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=gpu Nodes={node} MaxTime=1-0 DefMemPerCPU=200 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=gpulow Nodes={node} MaxTime=1-0 DefMemPerCPU=200 PriorityTier=1 PreemptMode=REQUEUE GraceTime=15 State=UP
"""
SLURMDBD_CONF = """
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=6819
SlurmUser=root
CommunicationParameters=NoInAddrAny
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=accounting
"""


class OneNode:
    """The cluster: start, stop, and parts of it that fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = socket.gethostname().split(".")[0]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = LOCK.open("w")

    def start(self) -> None:
        """Bring everything up, after another cluster of these tests that runs on this machine has been stopped."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder.mkdir(parents=True)
        for name in ("state", "spool", "database"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        values = {
            "folder": self.folder, "node": self.node, "cpus": CPUS, "memory": MEMORY_MB, "gpus": GPUS,
        }  # fmt: skip
        for number in range(GPUS):
            device = Path(f"/dev/onenode-gpu{number}")
            if not device.exists():
                os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        configuration = Path("/etc/slurm")
        configuration.mkdir(exist_ok=True)
        (configuration / "slurm.conf").write_text(SLURM_CONF.format(**values))
        (configuration / "gres.conf").write_text(f"Name=gpu File=/dev/onenode-gpu[0-{GPUS - 1}]\n")
        accounting = configuration / "slurmdbd.conf"
        accounting.touch(mode=0o600)
        accounting.chmod(0o600)
        accounting.write_text(SLURMDBD_CONF.format(**values))
        self._start_munge()
        self._start_database()
        self._run("slurmdbd", ["slurmdbd", "-D"])
        _wait_for("slurmdbd", lambda: _quiet("sacctmgr", "-n", "show", "cluster"))
        if "onenode" not in _output("sacctmgr", "-n", "show", "cluster", "format=cluster"):
            subprocess.run(["sacctmgr", "-i", "add", "cluster", "onenode"], check=True, capture_output=True)
        self.start_controller()
        self.start_node()

    def stop(self) -> None:
        """Stop all that was started, the last first; then another cluster may start."""
        for name in reversed(list(self._processes)):
            self._stop(name)
        # The daemon of a step that has just ended takes a moment.
        _wait_for("the end of all daemons", lambda: not _daemons())
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def start_controller(self) -> None:
        """Start slurmctld and wait until it answers."""
        self._run("slurmctld", ["slurmctld", "-D"])
        _wait_for("slurmctld", lambda: _quiet("scontrol", "ping"))

    def stop_controller(self) -> None:
        """Stop slurmctld; jobs go on."""
        self._stop("slurmctld")

    def start_node(self) -> None:
        """Start slurmd and wait until the node takes jobs."""
        self._run("slurmd", ["slurmd", "-D"])
        _wait_for("slurmd", lambda: any(word in _output("sinfo", "-h", "-o", "%T") for word in ("idle", "mixed")))

    def take_back(self) -> None:
        """Take the node into service again, and release what was held, where SLURM has given them up.

        A node that starts a job anew while it still ends the job's first start is drained ("Duplicate jobid"), and the
        job is held ("launch failed requeued held"): on a busy machine that follows a failure of the node.
        """
        if _output("sinfo", "-h", "-o", "%T").startswith(("down", "drain")):
            _quiet("scontrol", "update", f"nodename={self.node}", "state=resume")
        for line in _output("squeue", "-h", "-o", "%A %r").splitlines():
            job, reason = line.split(maxsplit=1)
            if reason == "launch failed requeued held":
                _quiet("scontrol", "release", job)

    def limit_jobs_in_the_queue(self, most: int) -> None:
        """Let a user have so many jobs that wait or run; -1: any number."""
        limit = f"MaxSubmitJobsPerUser={most}"
        subprocess.run(["sacctmgr", "-i", "modify", "qos", "normal", "set", limit], check=True, capture_output=True)

    def state(self) -> str:
        """Return what SLURM says of the node and of the jobs, and the end of the controller's log."""
        log = (self.folder / "slurmctld.log").read_text(errors="replace").splitlines()[-20:]
        return "\n".join([_output("sinfo", "-N", "-o", "%N %T %E"), _output("squeue", "-o", "%i %T %r"), *log])

    def running(self) -> list[str]:
        """Return the daemons that are up."""
        return [name for name, process in self._processes.items() if process.poll() is None]

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        socket_path = Path("/run/munge/munge.socket.2")
        socket_path.parent.mkdir(exist_ok=True)
        shutil.chown(socket_path.parent, "munge", "munge")
        folder = self.folder / "munge"
        folder.mkdir()
        for path in (folder, key):
            shutil.chown(path, "munge", "munge")
        key.chmod(0o400)
        options = [
            f"--key-file={key}", f"--socket={socket_path}", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed",
        ]  # fmt: skip
        switch = ["setpriv", "--reuid", "munge", "--regid", "munge", "--clear-groups"]
        self._run("munged", [*switch, "munged", "--foreground", "--force", *options])
        _wait_for("munged", lambda: _quiet("munge", "-n"))

    def _start_database(self) -> None:
        data, listening = self.folder / "database", Path("/run/mysqld/mysqld.sock")
        listening.parent.mkdir(exist_ok=True)
        for path in (data, listening.parent):
            shutil.chown(path, "mysql", "mysql")
        install = ["mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", "--skip-test-db"]
        subprocess.run(install, check=True, capture_output=True)
        self._run(
            "mariadbd",
            ["mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}", f"--socket={listening}",
             "--skip-networking", "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900",
             "--innodb-flush-log-at-trx-commit=0"],
        )  # fmt: skip
        client = ["mariadb", "-S", str(listening), "-e"]
        _wait_for("mariadbd", lambda: _quiet(*client, "select 1"))
        statements = (
            "create database if not exists accounting; "
            "create user if not exists slurm@localhost identified by 'slurm'; "
            "grant all on accounting.* to slurm@localhost"
        )
        subprocess.run([*client, statements], check=True, capture_output=True)

    def _run(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as output:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def _stop(self, name: str) -> None:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=120)  # slurmctld saves its state
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def install() -> str | None:
    """Install SLURM's packages where root may; return why there is none that can be started, or None."""
    problem = debian_packages.install(PROGRAMS, *PACKAGES)
    if problem is None and os.geteuid() != 0:
        return "SLURM's daemons can be started by root alone"
    return problem


def _quiet(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def _daemons() -> str:
    return _output("pgrep", "-fl", "slurmctld|slurmd|slurmdbd|slurmstepd|munged|mariadbd")


def _wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_SECONDS:g} s for {what}")
        time.sleep(0.2)
