"""What is in the files of the user's that jobs read: as it was when a job was planned, and whether it still is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from piwsl import catalogue
from piwsl.errors import PiwslError
from piwsl.files import file_hash

# Of the environment, by which jobs on other machines are told the hashes that they were planned with.
PLANNED = "PIWSL_CONTENTS"


class Contents:
    """Hashes of files of the user's, each computed once: a copy may keep the time of what it copies."""

    def __init__(self, planned: Mapping[str, str]) -> None:
        """Begin with hashes that are known, by path."""
        self._hashes = dict(planned)

    def __call__(self, *paths: Path | None) -> list[str]:
        """Return the hashes of files.

        Of what is downloaded it says from where: that is known before it is there.
        """
        found: list[str] = []
        for path in filter(None, paths):
            if (source := catalogue.source_of(path)) is not None:
                found += source.identity
            elif str(path) in self._hashes or path.exists():
                found.append(self._hash(path))
        return found

    def _hash(self, path: Path) -> str:
        if str(path) not in self._hashes:
            self._hashes[str(path)] = file_hash(path)
        return self._hashes[str(path)]

    def tell(self) -> None:
        """Let jobs on other machines know what has been looked at up to now."""
        os.environ[PLANNED] = json.dumps(self._hashes)


def told() -> dict[str, str]:
    """Return the hashes that this job was planned with, by path; none where it plans itself."""
    return {str(path): str(known) for path, known in json.loads(os.environ.get(PLANNED, "{}")).items()}


@contextmanager
def as_planned(paths: str | Iterable[str], planned: Iterable[str]) -> Iterator[None]:
    """Refuse files of the user's that were edited after a job was planned.

    Snakemake records what was in them then, and would not make anew what was made of something else.

    Args:
        paths: the files that a job reads.
        planned: what `Contents` said of them, in the same order.

    Raises:
        PiwslError: one is another.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str) else paths)]
    now, then = [Contents({})(path) for path in files], iter(planned)
    for path, found in zip(files, now, strict=True):
        if found != [next(then, None) for _ in found]:
            raise PiwslError(f"{path}: edited after this job was planned; start snakemake again, which plans anew")
    yield
