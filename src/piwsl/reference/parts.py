"""The store of parts: energies that levels combine, each kept as soon as it is computed, for all levels that share it.

A frame that is stopped goes on with what it had, and another level computes only what no level has computed before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.config import Level, Part, Parts, level_checks
from piwsl.config.levels import DEFAULT_ENGINE
from piwsl.reference.failures import storing
from piwsl.reference.store import SCHEME_VERSION, RecordFolder, Tell, are_vectors, hash_of, is_finite, note_problem

GRADIENT = "gradient_Eh_per_bohr"
ENERGY, STATE = "energy_Eh", "state_Eh"
# SCFs converge to a hundredth of it; two states of one geometry lie further apart, unless symmetry makes them one.
SAME_SCF_HARTREE = 1e-7


def is_same_state(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    """Whether the SCFs that two parts both know of have the same energies: solutions of one state have.

    Args:
        first: Hartree, by name, as of `Part.state`.
        second: the same of the other part.
    """
    return all(abs(energy - second[name]) < SAME_SCF_HARTREE for name, energy in first.items() if name in second)


class PartFolder(RecordFolder):
    """Records of one part of levels."""

    kind = "part"
    derivative = GRADIENT

    def __init__(self, root: Path, name: str, recipe: Mapping[str, Any], tell: Tell | None = None) -> None:
        """Open the folder of a part below `root`.

        Args:
            root: of the store.
            name: of the part.
            recipe: what its energy depends on.
            tell: as of `RecordFolder`.
        """
        text = json.dumps(recipe, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        super().__init__(root / f"v{SCHEME_VERSION}-part-{key}", key, tell)
        self.name = name
        self._recipe = recipe

    def about(self) -> dict[str, Any]:
        """Return the name of the part, and what its energy depends on."""
        return {"part": self.name, **self._recipe}

    def problem(self, record: dict[str, Any]) -> str | None:
        """Say why energy, gradient or notes are not to be believed."""
        if not is_finite(record.get(ENERGY)):
            return f"{ENERGY} is {record.get(ENERGY)}, no finite number"
        if GRADIENT in record and not are_vectors(record[GRADIENT], len(record["numbers"])):
            return "its gradient is not three finite numbers an atom"
        state, notes, cpu_s = record.get(STATE), record.get("notes"), record.get("cpu_s")
        if not isinstance(state, dict) or not all(map(is_finite, state.values())):
            return f"{STATE} is not finite numbers by names"
        if not isinstance(notes, dict) or not (cpu_s is None or is_finite(cpu_s)):
            return "lacks notes, or cpu_s is no number"
        return note_problem(notes)

    def stays(self, found: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Whether a part that was found has a gradient, and a new one of the same state has none."""
        return GRADIENT in found and GRADIENT not in record and is_same_state(found[STATE], record[STATE])


class PartStore:
    """The parts of a level's energies."""

    def __init__(self, root: Path, level: Level, tell: Tell | None = None) -> None:
        """Open the parts of `level` below `root`; arguments as of `RecordFolder`."""
        self._root, self._level, self._tell = root, level, tell

    @cached_property
    def folders(self) -> dict[str, PartFolder]:
        """Where the parts lie, by name; none where the level's engine keeps no parts."""
        # As in the recipe of the level: energies of PySCF were kept before there were other engines.
        engine = {} if self._level.engine == DEFAULT_ENGINE else {"engine": self._level.engine}
        return {
            name: PartFolder(self._root, name, engine | recipe, self._tell)
            for name, recipe in level_checks.parts(self._level).items()
        }

    def of(self, geometry: Mapping[str, Any], versions: Mapping[str, str]) -> Parts:
        """Return what is kept of a geometry.

        Args:
            geometry: as a record keeps it.
            versions: of programs, for records of parts that are computed now.
        """
        return StoredParts(self.folders, geometry, versions)


class StoredParts(Parts):
    """The parts of one geometry, in files."""

    def __init__(
        self, folders: Mapping[str, PartFolder], geometry: Mapping[str, Any], versions: Mapping[str, str]
    ) -> None:
        """Keep where parts lie, of which geometry they are, and what they are computed with."""
        self._folders, self._geometry, self._versions = folders, geometry, versions
        self._hash = hash_of(geometry)

    def find(self, name: str) -> Part | None:
        """Return a part, or None where there is none that can be read and believed."""
        record = self._folders[name].find(self._hash)
        if record is None:
            return None
        gradient = np.array(record[GRADIENT], dtype=float) if GRADIENT in record else None
        return Part(record[ENERGY], gradient, record["notes"], record[STATE], record["cpu_s"])

    def keep(self, name: str, part: Part) -> None:
        """Write a part.

        Raises:
            JobFailure: it cannot be written.
        """
        folder = self._folders[name]
        gradient = {} if part.gradient is None else {GRADIENT: part.gradient.tolist()}
        record = {
            **self._geometry,
            "name": name,
            ENERGY: part.energy,
            **gradient,
            STATE: dict(part.state),
            "notes": dict(part.notes),
            "cpu_s": part.cpu_s,
            "versions": dict(self._versions),
        }
        with storing(folder.folder):
            folder.add(self._hash, record)
