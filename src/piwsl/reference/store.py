"""The store of finished energies: one small file a geometry and level, shared by all experiments.

A name is the hash of all that the energy depends on, so a file may gain forces but never changes its energy; plain
files and atomic moves are all that a shared disk need offer. A record says what it is of, and is believed only where
that is right, and the level has nothing to say against it.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

import numpy as np
from ase import Atoms
from pydantic import ValidationError

from piwsl.config import Level, level_checks
from piwsl.files import probe, read_json, write_json, write_new_json
from piwsl.records import Labelling
from piwsl.reference.recipe import level_key, recipe

# Raise this when the same recipe would give another energy than before (other thresholds, another program), or when
# records change. What a level comes to is in its key.
SCHEME_VERSION = 3
COORDINATE_DECIMALS = 8
STORED_FORCES = "forces_eV_per_A"
# The hash of the geometry for whose forces by differences an energy was computed.
DISPLACED_FROM = "displaced_from"
GEOMETRY = ("numbers", "positions_A", "charge", "multiplicity")
Tell = Callable[[str], object]


def rounded(atoms: Atoms) -> Atoms:
    """Return the frame with coordinates rounded to 1e-8 Å, which extended XYZ carries without loss."""
    frame = atoms.copy()
    frame.positions = np.round(frame.positions, COORDINATE_DECIMALS) + 0.0
    return frame


def geometry_hash(atoms: Atoms, charge: int, multiplicity: int) -> str:
    """Return the hash of elements, rounded coordinates (Å), charge and multiplicity."""
    return hash_of(geometry(atoms, charge, multiplicity))


def geometry(atoms: Atoms, charge: int, multiplicity: int) -> dict[str, Any]:
    """Return elements, rounded coordinates (Å), charge and multiplicity as a record keeps them."""
    coordinates = [[f"{x:.{COORDINATE_DECIMALS}f}" for x in row] for row in rounded(atoms).positions.tolist()]
    return {
        "numbers": atoms.numbers.tolist(),
        "positions_A": coordinates,
        "charge": charge,
        "multiplicity": multiplicity,
    }


def hash_of(kept: Mapping[str, Any]) -> str:
    """Return the hash of what a record keeps of its geometry."""
    text = json.dumps([kept.get(name) for name in GEOMETRY])
    return hashlib.sha256(text.encode()).hexdigest()


class RecordFolder(ABC):
    """Records of geometries in a folder, a file each: of one level, or of one part of levels."""

    kind: ClassVar[str]
    """Of what: the key of a record that says whose it is."""
    derivative: ClassVar[str]
    """The key of forces or of a gradient: a record that has it is richer."""

    def __init__(self, folder: Path, key: str, tell: Tell | None = None) -> None:
        """Open a folder; nothing is written until the first energy.

        Args:
            folder: of the records.
            key: hash of all that the energies depend on.
            tell: takes a line for each record that is not believed; by default it is said on standard error.
        """
        self.folder = folder
        self.key = key
        self.tell = tell or _computed_again

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """Return for people what the records are of."""

    @abstractmethod
    def problem(self, record: dict[str, Any]) -> str | None:
        """Say why a record of the right geometry is not to be believed, or None where it is."""

    def stays(self, found: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Whether a record that was found says all that a new one says."""
        return self.derivative in found or self.derivative not in record

    def path(self, geometry: str) -> Path:
        """Return where the record of a geometry hash lies."""
        return self.folder / geometry[:2] / f"{geometry}.json"

    def find(self, geometry: str) -> dict[str, Any] | None:
        """Return the record of a geometry hash, or None where there is none that can be read and believed."""
        record, problem = self._read(geometry)
        if problem is not None:
            self.tell(f"{self.path(geometry)}: {problem}")
        return record

    def has(self, geometry: str, with_derivative: bool = False) -> bool:
        """Whether there is a record of a geometry hash that is to be believed; nothing is said of one that is not."""
        record, _ = self._read(geometry)
        return record is not None and (self.derivative in record or not with_derivative)

    def look_anew(self, geometry: str) -> None:
        """Let an NFS client forget that there was no record: it looks at a folder anew after it has changed it."""
        folder = self.path(geometry).parent
        with suppress(OSError):
            folder.chmod(folder.stat().st_mode)

    def geometries(self) -> set[str]:
        """Return the geometry hashes of which there are records, to be believed or not."""
        return {path.stem for path in self.folder.glob("??/*.json") if not path.name.startswith(".")}

    def check(self) -> None:
        """Try whether records can be written.

        Raises:
            OSError: the disk is full or refuses.
        """
        probe(self.folder)

    def add(self, geometry: str, record: dict[str, Any]) -> dict[str, Any]:
        """Store the record of a geometry hash, unless one that says as much is there; return the one that stays.

        Of jobs that store one geometry at once, none takes the place of a richer one. Beside the records lies, once,
        what they are of.
        """
        self._say_what_it_is()
        path, record = self.path(geometry), record | {self.kind: self.key}
        if self.derivative not in record and write_new_json(path, record):
            return record
        found, _ = self._read(geometry)
        if found is not None and self.stays(found, record):
            return found
        _set_folder_aside(path)
        write_json(path, record)
        return record

    def _say_what_it_is(self) -> None:
        about = self.folder / f"{self.kind}.json"
        if not about.is_file():
            _set_folder_aside(about)
            write_json(about, self.about())

    def _read(self, geometry: str) -> tuple[dict[str, Any] | None, str | None]:
        """Return the record of a geometry hash, or why there is none that can be believed."""
        try:
            record = read_json(self.path(geometry))
        except FileNotFoundError:
            return None, None
        except (OSError, ValueError, RecursionError) as error:
            return None, f"cannot be read ({error})"
        problem = self._problem(geometry, record)
        return (record, None) if problem is None else (None, problem)

    def _problem(self, geometry: str, record: Any) -> str | None:
        if not isinstance(record, dict):
            return "holds no record"
        if record.get(self.kind) != self.key:
            return f"is of another {self.kind}"
        if hash_of(record) != geometry:
            return "is of another geometry, charge or multiplicity"
        return self.problem(record)


class LabelStore(RecordFolder):
    """Finished energies of one level in a folder."""

    kind = "level"
    derivative = STORED_FORCES

    def __init__(self, root: Path, level: Level, tell: Tell | None = None) -> None:
        """Open the store of `level` below `root`; arguments as of `RecordFolder`.

        Args:
            root: of all levels.
            level: the level of theory.
            tell: as of `RecordFolder`.
        """
        key = level_key(level)
        super().__init__(root / f"v{SCHEME_VERSION}-{key}", key, tell)
        self.root = root
        self.level = level

    def about(self) -> dict[str, Any]:
        """Return the level in words, and its recipe."""
        return {"level": level_checks.in_words(self.level)} | recipe(self.level)

    def problem(self, record: dict[str, Any]) -> str | None:
        """Say why energy, forces or notes are not to be believed."""
        if (problem := level_checks.problem_said(self.level, "record_problem", record)) is not None:
            return problem
        return label_problem(record) or note_problem(record)


def label_problem(record: Mapping[str, Any]) -> str | None:
    """Say why energy or forces of a record of a level are no numbers, or None where they are."""
    if not is_finite(record.get("energy_eV")):
        return f"energy_eV is {record.get('energy_eV')}, no finite number"
    if STORED_FORCES in record and not are_vectors(record[STORED_FORCES], len(record["numbers"])):
        return "its forces are not three finite numbers an atom"
    return None


def note_problem(notes: Mapping[str, Any]) -> str | None:
    """Say which of the notes that the report knows is of another type, or None where all are right."""
    try:
        Labelling.model_validate_json(json.dumps({**notes, "status": "ok", "frame": None, "forces": None}), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"its note {'.'.join(map(str, first['loc']))} is not right: {first['msg'].lower()}"
    return None


def _computed_again(problem: str) -> None:
    print(f"{problem}; this energy is computed again", file=sys.stderr)


def is_finite(value: Any) -> TypeGuard[int | float]:
    """Whether what JSON gave is a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no floating-point number is
        return False


def are_vectors(rows: Any, atoms: int) -> bool:
    """Whether what JSON gave is three finite numbers an atom."""
    return (
        isinstance(rows, list)
        and len(rows) == atoms
        and all(isinstance(row, list) and len(row) == 3 and all(map(is_finite, row)) for row in rows)
    )


def _set_folder_aside(path: Path) -> None:
    """Make room for a file where somebody made a folder of its name."""
    if path.is_dir():
        with suppress(FileNotFoundError):  # another job was first
            path.rename(path.with_name(f".{path.stem}-folder-{secrets.token_hex(4)}"))
