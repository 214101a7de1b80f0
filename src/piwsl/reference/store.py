"""The store of finished energies: one small file a geometry and level, shared by all experiments.

A name is the hash of all that the energy depends on, so a file may gain forces but never changes its energy; plain
files and atomic moves are all that a shared disk need offer. A record says what it is of, and is believed only where
that is right, and the level has nothing to say against it.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from ase import Atoms

from piwsl.config import Level, level_checks
from piwsl.files import read_json, write_json
from piwsl.reference.recipe import level_key, recipe

# Raise this when the same recipe would give another energy than before (other thresholds, another program), or when
# records change. What a level comes to is in its key.
SCHEME_VERSION = 3
COORDINATE_DECIMALS = 8
STORED_FORCES = "forces_eV_per_A"


def rounded(atoms: Atoms) -> Atoms:
    """Return the frame with coordinates rounded to 1e-8 Å, which extended XYZ carries without loss."""
    frame = atoms.copy()
    frame.positions = np.round(frame.positions, COORDINATE_DECIMALS) + 0.0
    return frame


def geometry_hash(atoms: Atoms, charge: int, multiplicity: int) -> str:
    """Return the hash of elements, rounded coordinates (Å), charge and multiplicity."""
    return _hash_of(geometry(atoms, charge, multiplicity))


def geometry(atoms: Atoms, charge: int, multiplicity: int) -> dict[str, Any]:
    """Return elements, rounded coordinates (Å), charge and multiplicity as a record keeps them."""
    coordinates = [[f"{x:.{COORDINATE_DECIMALS}f}" for x in row] for row in rounded(atoms).positions.tolist()]
    return {
        "numbers": atoms.numbers.tolist(),
        "positions_A": coordinates,
        "charge": charge,
        "multiplicity": multiplicity,
    }


def _hash_of(kept: dict[str, Any]) -> str:
    text = json.dumps([kept.get(name) for name in ("numbers", "positions_A", "charge", "multiplicity")])
    return hashlib.sha256(text.encode()).hexdigest()


class LabelStore:
    """Finished energies of one level in a folder."""

    def __init__(self, root: Path, level: Level, tell: Callable[[str], object] | None = None) -> None:
        """Open the store of `level` below `root`; nothing is written until the first energy.

        Args:
            root: of all levels.
            level: the level of theory.
            tell: takes a line for each record that is not believed; by default to standard error.
        """
        self.key = level_key(level)
        self.folder = root / f"v{SCHEME_VERSION}-{self.key}"
        self.level = level
        self._tell = tell or _to_standard_error

    def path(self, key: str) -> Path:
        """Return where the record of a geometry hash lies."""
        return self.folder / key[:2] / f"{key}.json"

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the record of a geometry hash, or None where there is none that can be read and believed."""
        path = self.path(key)
        try:
            record = read_json(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            problem: str | None = f"cannot be read ({error})"
        else:
            problem = self._problem(key, record)
        if problem is None:
            return record
        self._tell(f"{path}: {problem}; this energy is computed again")
        return None

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Store the record of a geometry hash, and beside it once, for people, what the level is."""
        level_file = self.folder / "level.json"
        if not level_file.exists():
            write_json(level_file, {"level": level_checks.in_words(self.level)} | recipe(self.level))
        write_json(self.path(key), record | {"level": self.key})

    def _problem(self, key: str, record: Any) -> str | None:
        """Say why a record is not to be believed, or None where it is."""
        if not isinstance(record, dict):
            return "holds no record"
        if record.get("level") != self.key:
            return "is of another level"
        if _hash_of(record) != key:
            return "is of another geometry, charge or multiplicity"
        if (problem := level_checks.problem_said(self.level, "record_problem", record)) is not None:
            return problem
        if not is_finite(record.get("energy_eV")):
            return f"energy_eV is {record.get('energy_eV')}, no finite number"
        if STORED_FORCES in record and not _are_forces(record[STORED_FORCES], len(record["numbers"])):
            return "its forces are not three finite numbers an atom"
        return None


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr)


def is_finite(value: Any) -> TypeGuard[int | float]:
    """Whether what JSON gave is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_forces(rows: Any, atoms: int) -> bool:
    return (
        isinstance(rows, list)
        and len(rows) == atoms
        and all(isinstance(row, list) and len(row) == 3 and all(map(is_finite, row)) for row in rows)
    )
