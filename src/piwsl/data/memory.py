"""How much memory a process may take: what its job was given, as far as the machine has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

# Where the system does not say: what jobs are given where nobody says more, bytes.
UNKNOWN = 4e9
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def memory_of_job(mem_mb: int | None) -> float:
    """Return how many bytes a process may take.

    Args:
        mem_mb: what its job was given, MB; None where nobody says, 0 where it has all of its node.

    Returns:
        The least of that, what limits its control group has, and what the machine has left.
    """
    known = [*_limits_of_groups(), *_left_on_machine()]
    if mem_mb:
        known.append(1e6 * mem_mb)
    return min(known, default=UNKNOWN)


def _left_on_machine() -> Iterator[float]:
    if found := re.search(r"^MemAvailable: *(\d+) kB", _text(PROC / "meminfo"), re.MULTILINE):
        yield 1024.0 * int(found.group(1))


def _limits_of_groups() -> Iterator[float]:
    """Yield the limits of the control groups of this process, of version 2 and 1, and of those that these are in."""
    for line in _text(PROC / "self/cgroup").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers in ("", "memory"):
            place = CGROUPS / controllers / name.removeprefix("/")
            file = "memory.limit_in_bytes" if controllers else "memory.max"
            for folder in (place, *place.parents):
                # Within a container the name may be that of another place, and the limit stands at the root.
                if folder.is_relative_to(CGROUPS / controllers) and (said := _text(folder / file).strip()).isdigit():
                    yield float(said)


def _text(path: Path) -> str:
    """Return what the system says in a file; nothing where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
