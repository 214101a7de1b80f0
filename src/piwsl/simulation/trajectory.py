"""A trajectory on disk that grows by whole frames: it can be read at any time, and what was computed stays."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path

import ase.io
from ase import Atoms


class Trajectory:
    """Extended XYZ that frames are added to; an older file of that name goes with the first, if it is not continued."""

    def __init__(self, path: Path, continued: bool = False) -> None:
        """Keep the path, and whether frames are added to those that are there; nothing is written yet."""
        self._path = path
        self._begun = continued

    def add(self, frame: Atoms) -> None:
        """Write a frame.

        Raises:
            OSError: the disk is full or refuses; the frames before are whole.
        """
        text = StringIO()
        ase.io.write(text, frame, format="extxyz")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab" if self._begun else "wb", buffering=0) as file:
            end = file.tell()
            try:
                _write_all(file.fileno(), text.getvalue().encode())
            except OSError as error:
                file.truncate(end)
                error.filename = str(self._path)
                raise
        self._begun = True


def _write_all(handle: int, content: bytes) -> None:
    """Write all bytes; the system takes less than asked for where a disk ends in between."""
    while content:
        content = content[os.write(handle, content) :]
