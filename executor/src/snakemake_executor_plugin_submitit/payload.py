"""What runs on the node: Snakemake's own command for a job, as a child that outlives no signal unheard.

Signals: USR2 (time is nearly up, or preemption) goes to submitit, which asks `checkpoint` and puts the job back in the
queue; the child's scripts that want to save get it too, all other processes ignore it. TERM (scancel,
`scontrol requeue`, a partition that preempts) ends the child and leaves no result: SLURM's state says what it was.
SLURM gives signals to every process of a job; elsewhere it is done here, to the child's process group.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission

from snakemake_executor_plugin_submitit.marks import put_back
from snakemake_executor_plugin_submitit.parts import DONE, KEEP_INCOMPLETE, Part, without
from snakemake_executor_plugin_submitit.signals import put_off

POLL_SECONDS = 0.1
# Between two looks at which members are made: one that both have seen has not failed.
LOOK_SECONDS = 5.0
TERMINATED = 128 + signal.SIGTERM
EXECUTOR = "SUBMITIT_EXECUTOR"
# How often SLURM has put the job back in the queue; unset at first.
RESTARTS = "SLURM_RESTART_COUNT"
# Of the file, beside the result, by which a job tells Snakemake.
RESTARTS_ENDING = "_restarts"
# Of a task of an array alone.
ARRAY, TASK = "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"
# Of a job's time, before it says its comment: whoever looks into the queue does not see shorter ones, and hundreds of
# these would ask the controller for it at once, s.
COMMENT_DELAY_SECONDS = 30.0
# How long SLURM may take for a comment, s.
COMMENT_SECONDS = 60


class JobCommand:
    """A command to run on a node, restartable: what it saves, it finds again."""

    # Of a job that waits since before an update, by a version that knew none.
    comment = ""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        log: Path,
        cancelled: Path,
        environment: Mapping[str, str],
        patience: float,
        parts: Sequence[Part] = (),
        comment: str = "",
    ) -> None:
        """Keep what to run.

        Args:
            command: program and arguments; no shell is involved.
            folder: working directory.
            log: file that output is appended to.
            cancelled: a file whose existence says that the job must not come back.
            environment: variables on top of the job's own.
            patience: seconds that the command has to save its state after a signal.
            parts: what it makes. Marks, which the command takes away, are put back. Logs are written anew at a restart;
                what stood there before is kept beside them.
            comment: by which a user tells it from the other tasks of its array; sbatch can give them but one for all.
        """
        self.command, self.folder, self.log = list(command), folder, log
        self.cancelled, self.environment, self.patience = cancelled, dict(environment), patience
        self.parts, self.comment = list(parts), comment
        self._made_before_the_end: set[Part] | None = None
        self._began = 0.0
        self._seen_made: set[Part] = set()
        self._said_made: set[Part] = set()
        self._next_look = 0.0
        self._child: subprocess.Popen[bytes] | None = None
        self._exit_code: int | None = None

    def __call__(self) -> int:
        """Run the command and return its exit code."""
        inline = threading.current_thread() is not threading.main_thread()
        if not inline:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._terminate)
        # Not before: a signal that submitit has passed over comes after this file.
        if self.cancelled.exists():
            raise SystemExit(TERMINATED)
        command = self._command_of_this_piece()
        # A handler that did not know the child would leave it behind, at work beside its successor.
        with contextlib.nullcontext() if inline else put_off(signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            self._start(command)
        if self.comment and ARRAY in os.environ:
            said = threading.Timer(COMMENT_DELAY_SECONDS, _say, [self.comment])
            said.daemon = True
            said.start()
        while self._exit_code is None:
            time.sleep(POLL_SECONDS)
            if len(self.parts) > 1:
                self._look()
            if inline and self.cancelled.exists():  # no signal comes here
                self._end(signal.SIGTERM)
        if self._exit_code and not inline:
            atexit.register(_fail, self._exit_code)
        return self._exit_code

    def checkpoint(self) -> DelayedSubmission | None:
        """Return what shall run when the job is back in the queue, or None if it was cancelled.

        The same again; where the command ended well in its last moments, nothing that takes time.
        """
        self._end(signal.SIGUSR2)
        if self.cancelled.exists():
            return None
        command = DONE if self._exit_code == 0 else self.command
        return DelayedSubmission(
            JobCommand(
                command,
                self.folder,
                self.log,
                self.cancelled,
                self.environment,
                self.patience,
                self.parts,
                self.comment,
            )
        )

    def _command_of_this_piece(self) -> list[str]:
        """Return the command without members that were made before a restart, and keep the logs of the others."""
        restarts = os.environ.get(RESTARTS, "0") if os.environ.get(EXECUTOR) == "slurm" else "0"
        if restarts == "0":
            return self.command
        _leave(restarts)
        if tuple(self.command) == DONE:
            return self.command
        made = {part for part in self.parts if part.was_made()}
        self._said_made = made
        _keep([log for part in self.parts if part not in made for log in part.logs], restarts)
        return without(self.command, self.parts, made)

    def _start(self, command: Sequence[str]) -> None:
        """Start the child and what waits for it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,
                # USR2 comes to every process of a job; who has no use for it would die of it.
                preexec_fn=_ignore_usr2,
            )
        # Waited for in a thread: a handler, which runs in this one, can then still ask whether the child has ended.
        self._began = time.time()
        threading.Thread(target=self._wait, args=(self._child,), daemon=True).start()

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
        return own | self.environment

    def _wait(self, child: subprocess.Popen[bytes]) -> None:
        exit_code = child.wait()
        made = self._made()
        if exit_code < 0:
            # It was killed: a member that failed then may have lost its mark and not yet its outputs.
            made &= self._made_before_the_end or set()
        for part in self.parts:
            # A mark that says so and is gone was taken away by a Snakemake that has recorded the member.
            if part not in self._said_made:
                put_back(part.marks, self._began, part in made)
        self._exit_code = exit_code

    def _look(self) -> None:
        """Say of members that are made that they are while others are at work: a Snakemake may start meanwhile.

        Once the command has been told to end, of those that were made before.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        made = self._made() if self._made_before_the_end is None else self._made() & self._made_before_the_end
        new = (made & self._seen_made) - self._said_made
        for part in new:
            put_back(part.marks, self._began, made=True)
        self._seen_made = made
        self._said_made |= {part for part in new if part.was_made()}

    def _made(self) -> set[Part]:
        if KEEP_INCOMPLETE in self.command:
            return set()
        return {part for part in self.parts if part.is_made() or part.was_made()}

    def _end(self, number: signal.Signals) -> None:
        """Tell the child and its children, let them save what they want to, and end what is left."""
        self._made_before_the_end = self._made()
        if len(self.parts) > 1 and self._child is not None and self._exit_code is None:
            # The Snakemake in the job begins with no other member.
            self._child.terminate()
        self._send(number)
        deadline = time.monotonic() + self.patience
        while self._child is not None and self._exit_code is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            if len(self.parts) > 1:  # a Snakemake that hangs is killed, and with it, by SLURM, this process
                self._look()
        if self._exit_code is None:
            self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._child is not None and self._exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        print("terminated: the command has a moment to save its state", flush=True)
        self._end(signal.SIGTERM)
        # No result is written: whether this was a cancellation or a requeue is SLURM's to say.
        sys.stdout.flush()
        os._exit(TERMINATED)


def _say(comment: str) -> None:
    """Let squeue show a comment of this task alone; SLURM may refuse, or be away: it is good to have, and no more."""
    update = ["scontrol", "update", f"JobId={os.environ[ARRAY]}_{os.environ[TASK]}", f"Comment={comment}"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(update, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMENT_SECONDS)


def _leave(restarts: str) -> None:
    """Write how often the job was put back in the queue, where its result will lie."""
    here = JobEnvironment()
    with contextlib.suppress(OSError):  # the disk is full: that is no reason not to go on
        (here.paths.folder / f"{here.job_id}{RESTARTS_ENDING}").write_text(restarts)


def _keep(logs: Sequence[Path], restarts: str) -> None:
    """Give logs of the piece before a restart a name of their own: `train.log.1` before the first."""
    for log in logs:
        with contextlib.suppress(OSError):  # none was written, or the disk is full: that is no reason not to go on
            log.replace(log.with_name(f"{log.name}.{restarts}"))


def _fail(exit_code: int) -> None:
    """End the process as the command has ended, once its result is written: SLURM then calls the job failed, too."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code if 0 < exit_code < 256 else 1)


def _ignore_usr2() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
