"""Other programs: found, started without a shell in a folder of their own, and ended with all that they started."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from piwsl.files import is_no_room
from piwsl.reference.failures import JobFailure, ProgramOutOfMemory

# Of the memory of the job: programs keep to what they are told less than they say.
MEMORY_SHARE = 0.7
# Between asking a program to end and ending it.
GRACE_SECONDS = 5
LONGEST_LINE = 200
# What programs say that are given less memory than they need.
NO_MEMORY = re.compile(
    r"not enough memory|insufficient memory|out of memory|cannot allocate memory|please increase maxcore|bad_alloc",
    re.IGNORECASE,
)


class Program(NamedTuple):
    """A program of others."""

    name: str
    """As people write it."""
    command: str
    """On PATH."""
    variable: str
    """Of the environment, that names its path in place of PATH."""
    source: str
    """Where it is had."""

    def path(self) -> Path | None:
        """Return its file, links followed; None where there is none that can be started."""
        found = shutil.which(os.environ.get(self.variable) or self.command)
        return None if found is None else Path(found).resolve()

    def missing(self) -> str:
        """Say in one line that there is none."""
        named = os.environ.get(self.variable)
        where = f"{self.variable}={named} names no program" if named else f"no program '{self.command}' on PATH"
        return f"{self.name} is missing: {where}; {self.source}, or say where it is with {self.variable}"


class Finished(NamedTuple):
    """A program that ended."""

    status: int
    """Exit status; negative where a signal ended it."""
    text: str
    """All that it wrote to its output."""

    def last_line(self) -> str:
        """Return the last line with something on it, for a reason."""
        lines = [" ".join(line.split()) for line in self.text.splitlines() if line.strip(" *-=\t")]
        return lines[-1][:LONGEST_LINE] if lines else "it wrote nothing"


@contextmanager
def scratch_folder(program: Program) -> Iterator[Path]:
    """Make an empty folder among the temporary files, and remove it with all that is in it."""
    with tempfile.TemporaryDirectory(prefix=f"piwsl-{program.command}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def run(command: list[str], folder: Path, output: Path, environment: Mapping[str, str]) -> Finished:
    """Run a program to its end. Nothing that it started outlives it, nor an interruption of this process.

    Args:
        command: the program's path and its arguments.
        folder: to run in.
        output: file for all that it writes to its standard output and error.
        environment: beside that of this process; an empty value takes a variable away.

    Raises:
        OSError: it cannot be started.
        ProgramOutOfMemory: it says that memory gave out, or the machine killed it.
        JobFailure: another signal ended it.
    """
    inherited = {name: value for name, value in os.environ.items() if environment.get(name) != ""}
    with output.open("wb") as file, _interruptions() as interruptions:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, **{name: value for name, value in environment.items() if value}},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with interruptions.let():
                status = process.wait()
        finally:
            _end(process)
    finished = Finished(status, output.read_text(encoding="utf-8", errors="replace"))
    _check_machine(Path(command[0]).name, finished)
    return finished


class _Interruptions:
    """Signals that interrupt this process, but not while a program starts or is ended: they wait until then."""

    def __init__(self) -> None:
        self._held = True
        self._came: signal.Signals | None = None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Interrupt now, or as soon as may be."""
        self._came = signal.Signals(number)
        if not self._held:
            self.interrupt()

    def interrupt(self) -> None:
        """Interrupt, where a signal has come that did not do so yet."""
        came, self._came = self._came, None
        if came is not None:
            raise KeyboardInterrupt(came.name)

    @contextmanager
    def let(self) -> Iterator[None]:
        """Let them interrupt."""
        try:
            self._held = False
            self.interrupt()
            yield
        finally:
            self._held = True


@contextmanager
def _interruptions() -> Iterator[_Interruptions]:
    """Let SIGTERM interrupt as Ctrl-C does: its default would leave the program behind."""
    interruptions = _Interruptions()
    if threading.current_thread() is not threading.main_thread():
        yield interruptions
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background ignores it
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, interruptions.receive) for number in numbers}
    try:
        yield interruptions
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        interruptions.interrupt()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that is left of what it started."""
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _check_machine(name: str, finished: Finished) -> None:
    """Raise where the machine gave out: such a frame is tried again."""
    if finished.status == 0:
        return
    if found := NO_MEMORY.search(finished.text):
        raise ProgramOutOfMemory(f"{name} says '{found[0]}'")
    if finished.status == -signal.SIGKILL:
        raise ProgramOutOfMemory(f"{name} was killed, as where memory gives out")
    if is_no_room(OSError(finished.text)):
        raise OSError(errno.ENOSPC, f"{name}: {os.strerror(errno.ENOSPC)}")
    if finished.status < 0 and -finished.status in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        raise JobFailure(f"{name} was stopped ({signal.Signals(-finished.status).name}); finished frames are kept")
