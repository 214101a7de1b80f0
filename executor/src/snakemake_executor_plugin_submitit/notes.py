"""What is remembered of submitted jobs on disk, so that a Snakemake that was killed finds them again.

A note is written when a job is submitted, one for each member of a group, and taken away when Snakemake has recorded
what became of the job. One that is found tells of a job that no Snakemake has taken over yet. It holds

- which member it is: its rule and outputs (`key`),
- how its outputs are made: code, command, parameters, software, inputs (`content`),
- where it runs: the job's id, its files, its log, which members are in it (`whole`), what it asked for (`asked`).
"""

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
    """A member of a submitted job."""

    key: str
    """Which job of the workflow it is: a hash of what it makes."""
    content: str
    """A hash of how it makes it."""
    whole: str
    """Which members run in the same submitted job."""
    job_id: str
    folder: str
    """Of submitit's files."""
    log: str
    asked: str = ""
    """A hash of the resources that it asked for; "" where they are not compared."""


def key_of(rule: str, outputs: Iterable[str]) -> str:
    """Return the name of a job of the workflow: the same in every run of Snakemake."""
    return digest([rule, sorted(outputs)])


def whole_of(keys: Iterable[str]) -> str:
    """Return the name of a submitted job: of its members, whatever their order."""
    members = sorted(keys)
    return members[0] if len(members) == 1 else digest(members)


def digest(content: object) -> str:
    """Return a hash of what can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


class Notebook:
    """A file a member, in `notes`, about jobs whose files lie in `jobs` and `logs` beside it."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder of the executor; that of the notes is made when something is written."""
        self._folder = folder

    def write(self, note: Note, submitted_ns: int | None = None) -> None:
        """Remember a member, atomically.

        Args:
            note: of it.
            submitted_ns: when its job was submitted, if that is not now: what a job makes is younger than its note.
        """
        path = self._path(note.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(asdict(note)))
        if submitted_ns is not None:
            os.utime(temporary, ns=(submitted_ns, submitted_ns))
        temporary.replace(path)

    def read(self, key: str) -> Note | None:
        """Return what is remembered, or None; a note that someone else wrote, or that points elsewhere, is none."""
        path = self._path(key)
        try:
            note = Note(**json.loads(path.read_text())) if is_own_file(path) else None
        except (OSError, ValueError, TypeError):
            return None
        return note if note is not None and self._trusted(note) else None

    def precedes(self, key: str, outputs: Iterable[str], last: float) -> bool:
        """Whether all outputs are those of the noted job: written after the note, and before the job said so (s)."""
        try:
            first = self._path(key).stat().st_mtime
            return all(first <= os.lstat(path).st_mtime <= last for path in outputs)
        except OSError:
            return False

    def forget(self, key: str) -> None:
        """Forget a member."""
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
