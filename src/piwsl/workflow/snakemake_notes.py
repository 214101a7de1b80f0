"""What Snakemake leaves in its folder about jobs that it started, read without it and without its lock.

It notes each result that a job began to make (`.snakemake/incomplete`), takes the note away when the job ends well or
not, and lists all results of a run in `.snakemake/locks` until it ends. A Snakemake that was killed leaves both.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from binascii import Error
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from piwsl.files import read_json

FOLDER = Path(".snakemake")


@dataclass(frozen=True)
class Mark:
    """That a job began to make a result, and Snakemake has not seen it end."""

    since: float
    """When it was started, or handed to a scheduler; s since 1970."""
    scheduler_id: str | None = None
    """What a cluster's scheduler calls the job."""


def marks(folder: Path = FOLDER) -> dict[str, Mark]:
    """Return by result what jobs began to make, and have not ended to."""
    found = {}
    for path in (folder / "incomplete").rglob("*"):
        # It may end, and the note vanish, while we look.
        with suppress(OSError, ValueError, Error):
            if path.is_file() and not (said := _said(path)).get("made"):  # by a job that no Snakemake has seen end
                result = _result(path.relative_to(folder / "incomplete"))
                found[result] = Mark(path.stat().st_mtime, said.get("external_jobid"))
    return found


def _result(noted: Path) -> str:
    """Return the result that a note is of: its path in base64, cut where it is longer than names of files may be."""
    return urlsafe_b64decode("".join(part.removeprefix("@") for part in noted.parts)).decode()


def _said(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except ValueError:  # just being written
        return {}


def locked_since(results: str, folder: Path = FOLDER) -> float | None:
    """Return when a Snakemake began that makes something below a folder of results, s since 1970; None where none did.

    Args:
        results: the folder, as Snakemake names it.
        folder: Snakemake's own.
    """
    found = []
    for path in (folder / "locks").glob("*.output.lock"):
        with suppress(OSError):
            if f"\n{results}/" in f"\n{path.read_text(encoding='utf-8')}":
                found.append(path.stat().st_mtime)
    return max(found, default=None)
