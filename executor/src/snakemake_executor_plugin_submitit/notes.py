"""What is remembered of submitted jobs on disk, so that a Snakemake that was killed finds them again."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from snakemake_executor_plugin_submitit.private import is_own_file, is_own_folder

JOB_ID = re.compile(r"[0-9]+(_[0-9]+)?")


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
    """A file a job, in `notes`, about jobs whose files lie in `jobs` and `logs` beside it."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder of the executor; that of the notes is made when something is written."""
        self._folder = folder

    def write(self, note: Note) -> None:
        """Remember a job, atomically."""
        path = self._path(note.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(asdict(note)))
        temporary.replace(path)

    def read(self, key: str) -> Note | None:
        """Return what is remembered, or None; a note that someone else wrote, or that points elsewhere, is none."""
        path = self._path(key)
        try:
            note = Note(**json.loads(path.read_text())) if is_own_file(path) else None
        except (OSError, ValueError, TypeError):
            return None
        return note if note is not None and self._trusted(note) else None

    def forget(self, key: str) -> None:
        """Forget a job that is over."""
        self._path(key).unlink(missing_ok=True)

    def _trusted(self, note: Note) -> bool:
        """Whether its job's files lie where this executor puts them: the result is unpickled."""
        if not all(isinstance(value, str) for value in asdict(note).values()) or not JOB_ID.fullmatch(note.job_id):
            return False
        jobs, logs = self._folder / "jobs", (self._folder / "logs").resolve()
        in_place = Path(note.folder).parent == jobs and is_own_folder(jobs) and is_own_folder(Path(note.folder))
        return in_place and Path(note.log).resolve().is_relative_to(logs)

    def _path(self, key: str) -> Path:
        return self._folder / "notes" / f"{key}.json"
