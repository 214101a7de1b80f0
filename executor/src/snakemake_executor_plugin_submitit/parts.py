"""Members of a job on its node: which are made already, so that a restart or a retry does not make them again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_plugin_submitit.marks import say_made

DONE = ("true",)
ASIDE = ".{name}.made"
# With it, what a member leaves that fails cannot be told from what one makes.
KEEP_INCOMPLETE = "--keep-incomplete"


@dataclass(frozen=True)
class Part:
    """A member of a job; a job without members in a group is its only one."""

    key: str
    """As its note has it."""
    content: str
    """As its note has it."""
    target: str
    """How the command names it."""
    outputs: tuple[Path, ...]
    marks: tuple[Path, ...]
    """That the outputs are incomplete; the Snakemake in the job takes them away when the member has ended."""
    logs: tuple[Path, ...] = ()

    def is_made(self) -> bool:
        """Whether the Snakemake in the job has found all outputs, which it removes where a member has failed."""
        return bool(self.marks) and not any(mark.exists() for mark in self.marks) and self._is_there()

    def was_made(self) -> bool:
        """Whether it was made in a piece of the job that has ended, as `marks.put_back` has written."""
        return bool(self.marks) and say_made(self.marks) and self._is_there()

    def _is_there(self) -> bool:
        return all(os.path.lexists(path) for path in self.outputs)


def without(command: Sequence[str], parts: Collection[Part], made: Iterable[Part]) -> list[str]:
    """Return a command for those members that are not made; where all are, one that does nothing."""
    targets = {part.target for part in made}
    left = [word for word in command if word not in targets]
    return left if not targets or any(part.target in left for part in parts) else list(DONE)


def set_aside(parts: Iterable[Part]) -> None:
    """Give outputs another name: Snakemake removes those of all members of a group that has failed.

    Raises:
        OSError: one cannot be given it; then none has.
    """
    moved = []
    try:
        for path in _outputs(parts):
            path.replace(_aside(path))
            moved.append(path)
    except OSError:
        for path in moved:
            with contextlib.suppress(OSError):
                _aside(path).replace(path)
        raise


def bring_back(parts: Iterable[Part]) -> None:
    """Give outputs their name again.

    Raises:
        OSError: of the first that cannot be given it; the others are.
    """
    errors = []
    for path in _outputs(parts):
        try:
            _aside(path).replace(path)
        except OSError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _outputs(parts: Iterable[Part]) -> Iterator[Path]:
    return (path for part in parts for path in part.outputs)


def _aside(path: Path) -> Path:
    return path.with_name(ASIDE.format(name=path.name))
