"""What is remembered of submitted jobs on disk, so that a Snakemake that was killed finds them again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Note:
    """A submitted job."""

    key: str
    """Which job of the workflow it is: a hash of what it makes."""
    content: str
    """A hash of how it makes it: command, parameters, inputs."""
    job_id: str
    folder: str
    """Of submitit's files."""
    log: str


def key_of(rules: Iterable[str], outputs: Iterable[str]) -> str:
    """Return the name of a job of the workflow: the same in every run of Snakemake."""
    return _digest([sorted(rules), sorted(outputs)])


def content_of(parameters: str, inputs: Iterable[str]) -> str:
    """Return a hash of what a job's result depends on: its parameters, and its inputs as they are on disk."""
    stamps = []
    for path in sorted(inputs):
        try:
            status = os.stat(path)
            stamps.append([path, status.st_mtime_ns, status.st_size])
        except OSError:
            stamps.append([path])
    return _digest([parameters, stamps])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


class Notebook:
    """A file a job, in one folder."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder; it is made when something is written."""
        self._folder = folder

    def write(self, note: Note) -> None:
        """Remember a job, atomically."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._path(note.key).with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(asdict(note)))
        temporary.replace(self._path(note.key))

    def read(self, key: str) -> Note | None:
        """Return what is remembered, or None."""
        try:
            return Note(**json.loads(self._path(key).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def forget(self, key: str) -> None:
        """Forget a job that is over."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
