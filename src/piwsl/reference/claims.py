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
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BEAT_S = 30.0
# Ten beats: of a job that was killed nobody waits longer.
SILENT_S = 300.0
POLL_S = 5.0

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Holder:
    """Who holds a claim, as its file says."""

    host: str
    pid: int

    @property
    def is_gone(self) -> bool:
        """Whether it is a process of this machine that is no more."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # another user's
            return False
        return False

    def __str__(self) -> str:
        """Return it as the log has it."""
        return f"process {self.pid} on {self.host}"


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
        self._seen: dict[str, tuple[int, float]] = {}
        """When each claim of another was last touched, by its file, and since when we know."""

    def take(self, name: str) -> Claim | None:
        """Claim something; None where another holds it.

        Where claims cannot be written there are none: who can compute nothing there learns that when it stores.
        """
        claim = Claim(self._folder / name, self._beat_s)
        for _ in range(2):
            try:
                if claim.write():
                    return claim
            except OSError:
                return claim
            if self._counts(name):
                return None
            with suppress(OSError):
                claim.path.unlink()
        return None

    def holder(self, name: str) -> Holder | None:
        """Return who holds a claim, None where nobody does or its file does not say it."""
        try:
            said = json.loads((self._folder / name).read_text(encoding="utf-8"))
            return Holder(str(said["host"]), int(said["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _counts(self, name: str) -> bool:
        """Whether a claim that is there is alive: its process, if it is of this machine, and touched not long ago."""
        holder = self.holder(name)
        if holder is not None and holder.is_gone:
            return False
        try:
            touched = (self._folder / name).stat().st_mtime_ns
        except OSError:
            return False
        now = time.monotonic()  # clocks of machines differ: how long it is silent is measured by ours
        before, since = self._seen.setdefault(name, (touched, now))
        if touched != before:
            self._seen[name] = (touched, now)
            return True
        return now - since < self._silent_s


class Claim:
    """One claim of ours."""

    def __init__(self, path: Path, beat_s: float) -> None:
        """Keep file and seconds between touches."""
        self.path = path
        self._beat_s = beat_s
        self._ended = threading.Event()

    def write(self) -> bool:
        """Write the file, unless one is there, and touch it from now on; return whether it was written.

        Raises:
            OSError: it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("x", encoding="utf-8") as file:
                json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        except FileExistsError:
            return False
        threading.Thread(target=self._beat, daemon=True).start()
        return True

    def release(self) -> None:
        """Take the claim back; without a file nothing happens."""
        self._ended.set()
        with suppress(OSError):
            self.path.unlink()

    def _beat(self) -> None:
        while not self._ended.wait(self._beat_s):
            with suppress(OSError):
                os.utime(self.path)


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
