"""The store of finished energies: one small file a geometry and level, shared by all experiments.

A name is the hash of all that the energy depends on, so a file may gain forces but never changes its energy; plain
files and atomic moves are all that a shared disk need offer.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from piwsl.config import Level
from piwsl.files import read_json, write_json

# Raise this when the same level would give another energy than before, by a changed default too, or other records.
SCHEME_VERSION = 2
COORDINATE_DECIMALS = 8


def rounded(atoms: Atoms) -> Atoms:
    """Return the frame with coordinates rounded to 1e-8 Å, which extended XYZ carries without loss."""
    frame = atoms.copy()
    frame.positions = np.round(frame.positions, COORDINATE_DECIMALS) + 0.0
    return frame


def geometry_hash(atoms: Atoms, charge: int, multiplicity: int) -> str:
    """Return the hash of elements, rounded coordinates (Å), charge and multiplicity."""
    coordinates = [[f"{x:.{COORDINATE_DECIMALS}f}" for x in row] for row in rounded(atoms).positions.tolist()]
    text = json.dumps([atoms.numbers.tolist(), coordinates, charge, multiplicity])
    return hashlib.sha256(text.encode()).hexdigest()


class LabelStore:
    """Finished energies of one level in a folder."""

    def __init__(self, root: Path, level: Level) -> None:
        """Open the store of `level` below `root`; nothing is written until the first energy."""
        self.folder = root / f"v{SCHEME_VERSION}-{level.digest()}"
        self.level = level

    def path(self, key: str) -> Path:
        """Return where the record of a geometry hash lies."""
        return self.folder / key[:2] / f"{key}.json"

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the record of a geometry hash, or None where there is none that can be read."""
        try:
            return read_json(self.path(key))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Store the record of a geometry hash, and beside it once, for people, what the level is."""
        level_file = self.folder / "level.json"
        if not level_file.exists():
            write_json(level_file, self.level.plain())
        write_json(self.path(key), record)
