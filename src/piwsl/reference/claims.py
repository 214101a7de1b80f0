"""Claims on geometries that are being computed, so that jobs which need the same energies share the work.

Datasets, experiments and users that meet in one store often need the same frames at the same time. What is finished
they find. What another job is computing they leave to it, compute others meanwhile, and find it when it is done. A
claim is a hint, no lock: where two jobs have one, since the first was taken for dead and was not, an energy is computed
twice, and nothing is wrong.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

BEAT_S = 30.0
# Ten beats: of a job that was killed nobody waits longer.
SILENT_S = 300.0
POLL_S = 5.0

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Holder:
    """Who holds a claim, as its file says."""

    token: str
    """Of this claim alone."""
    host: str
    world: str
    """Since when the machine runs, and which processes its numbers are of: those of a container are others."""
    pid: int
    job: str
    """Of SLURM; "" elsewhere."""

    @classmethod
    def here(cls) -> Holder:
        """Return a claim of this process."""
        return cls(uuid.uuid4().hex, socket.gethostname(), _world(), os.getpid(), _job())

    @property
    def is_gone(self) -> bool:
        """Whether it is of our own job before that was put back in the queue, or a process of this machine no more."""
        if (self.host, self.world) != (socket.gethostname(), _world()):
            return bool(self.job) and self.job == _job()
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:  # another user's
            return False
        return False

    def __str__(self) -> str:
        """Return it as the log has it."""
        return f"process {self.pid} on {self.host}"


def _world() -> str:
    """Return what tells apart machines of one name, and containers on one machine."""
    found = []
    with suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        found.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(found)


def _job() -> str:
    """Return SLURM's number of the job that this process runs in, or ""; of tasks of an array each has its own."""
    return os.environ.get("SLURM_JOB_ID", "")


class Claims:
    """The claims of a folder of records, a file each, which its holder touches as long as it computes."""

    def __init__(self, folder: Path, beat_s: float = BEAT_S, silent_s: float = SILENT_S) -> None:
        """Keep the folder; it is made with the first claim.

        Args:
            folder: of the claims.
            beat_s: seconds between two touches.
            silent_s: seconds after which a claim that nobody touches counts no more.
        """
        self._folder, self._beat_s, self._silent_s = folder, beat_s, silent_s
        self._seen: dict[str, tuple[Holder | None, int, float]] = {}
        """Whose claim it was, when it was last touched, by its file, and since when we know that."""

    def take(self, name: str) -> Claim | None:
        """Claim something; None where another holds it.

        Where claims cannot be written, or one that counts no more cannot be taken away, the claim is one without a
        file: who can compute nothing there learns that when it stores.
        """
        claim = Claim(self._folder / name, self._beat_s)
        for _ in range(2):
            try:
                if claim.write():
                    return claim
                if self._counts(name):
                    return None
                claim.path.unlink(missing_ok=True)
            except OSError:
                return claim
        return None

    def holder(self, name: str) -> Holder | None:
        """Return who holds a claim, None where nobody does or its file does not say it."""
        return _holder(self._folder / name)

    def _counts(self, name: str) -> bool:
        """Whether a claim that is there is alive: its process, if it is of this machine, and touched not long ago."""
        holder = self.holder(name)
        if holder is not None and holder.is_gone:
            return False
        try:
            touched = (self._folder / name).stat().st_mtime_ns
        except FileNotFoundError:
            return False
        now = time.monotonic()  # clocks of machines differ: how long it is silent is measured by ours
        before = self._seen.get(name)
        if before is None or before[:2] != (holder, touched):
            self._seen[name] = (holder, touched, now)
            return True
        return now - before[2] < self._silent_s


class Claim:
    """One claim of ours."""

    def __init__(self, path: Path, beat_s: float) -> None:
        """Keep file and seconds between touches."""
        self.path = path
        self._beat_s = beat_s
        self._holder = Holder.here()
        self._ended = threading.Event()

    def write(self) -> bool:
        """Write the file, unless one is there, and touch it from now on; return whether it was written.

        Raises:
            OSError: it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = self.path.open("x", encoding="utf-8")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(json.dumps(asdict(self._holder)))
        except OSError:  # others would wait for a claim of nobody
            self.path.unlink(missing_ok=True)
            raise
        threading.Thread(target=self._beat, daemon=True).start()
        return True

    def release(self) -> None:
        """Take the claim back; nothing happens without a file, or where another has taken it over."""
        self._ended.set()
        if _holder(self.path) == self._holder:
            with suppress(OSError):
                self.path.unlink()

    def _beat(self) -> None:
        while not self._ended.wait(self._beat_s) and _holder(self.path) == self._holder:
            with suppress(OSError):
                os.utime(self.path)


def _holder(path: Path) -> Holder | None:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        texts = {key: str(said[key]) for key in ("token", "host", "world", "job")}
        return Holder(**texts, pid=int(said["pid"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def unclaimed_first(
    names: Sequence[str | None],
    claims: Claims,
    tell: Tell,
    is_worth_it: Callable[[], bool] = lambda: True,
    poll_s: float = POLL_S,
) -> Generator[int]:
    """Yield what is to be computed, each once: first what nobody computes, in order, then what others did meanwhile.

    While one is looked at it is claimed.

    Args:
        names: of their claims; None of what needs none.
        claims: where others say what they compute.
        tell: takes a line where there is nothing to do but wait.
        is_worth_it: whether the next one takes long enough to be claimed.
        poll_s: seconds between two looks, while there is nothing else to do.

    Yields:
        Their positions.
    """
    left, told = list(range(len(names))), False
    while left:
        skipped = []
        for position in left:
            name = names[position]
            if name is None or not is_worth_it():
                yield position
                continue
            claim = claims.take(name)
            if claim is None:
                skipped.append(position)
                continue
            try:
                yield position
            finally:
                claim.release()
        if len(skipped) == len(left):
            if not told:
                others = {str(found) for position in left if (found := claims.holder(names[position] or ""))}
                tell(f"{len(left)} frames are being computed by {', '.join(sorted(others)) or 'others'}; waiting")
                told = True
            time.sleep(poll_s)
        left = skipped
