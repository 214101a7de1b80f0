"""The store of parts: energies that levels combine, each kept as soon as it is computed, for all levels that share it.

A frame that is stopped goes on with what it had, and another level computes only what no level has computed before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.config import KeptParts, Level, Part, level_checks
from piwsl.config.levels import DEFAULT_ENGINE
from piwsl.files import read_json
from piwsl.reference.components import parts_of
from piwsl.reference.failures import storing
from piwsl.reference.recipe import level_key
from piwsl.reference.store import (
    SCHEME_VERSION,
    STORED_FORCES,
    RecordFolder,
    Tell,
    are_vectors,
    hash_of,
    is_finite,
    label_problem,
    note_problem,
)

GRADIENT = "gradient_Eh_per_bohr"
PART_PREFIX = f"v{SCHEME_VERSION}-part-"
ENERGY, STATE = "energy_Eh", "state_Eh"
# SCFs converge to a hundredth of it; two states of one geometry lie further apart, unless symmetry makes them one.
SAME_SCF_HARTREE = 1e-7


def part_key(recipe: Mapping[str, Any]) -> str:
    """Return a short hash of what the energy of a part depends on."""
    text = json.dumps(recipe, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def folder_of_part(root: Path, name: str, recipe: Mapping[str, Any], tell: Tell | None = None) -> PartFolder:
    """Open the records of a part below the root of a store.

    Args:
        root: of the store.
        name: of the part.
        recipe: what its energy depends on.
        tell: as of `RecordFolder`.
    """
    return PartFolder(root / f"{PART_PREFIX}{part_key(recipe)}", {PartFolder.kind: name, **recipe}, tell)


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

    def __init__(self, folder: Path, about: Mapping[str, Any], tell: Tell | None = None) -> None:
        """Open the folder of a part.

        Args:
            folder: of its records, as of `folder_of_part`.
            about: its name, and what its energy depends on.
            tell: as of `RecordFolder`.
        """
        super().__init__(folder, folder.name.removeprefix(PART_PREFIX), tell)
        self._about = dict(about)

    def about(self) -> dict[str, Any]:
        """Return the name of the part, and what its energy depends on."""
        return self._about

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
            name: folder_of_part(self._root, name, engine | recipe, self._tell)
            for name, recipe in level_checks.part_recipes(self._level).items()
        }

    @cached_property
    def whole(self) -> dict[str, list[WholeRecords]]:
        """Other levels that combine a part, by the part's name."""
        # What is found wrong with the level's own records is not taken in parts.
        own = level_key(self._level)
        every = [records for records in whole_records(self._root) if records.key != own] if self.folders else []
        return {
            name: [records for records in every if records.parts.get(name) == folder.key]
            for name, folder in self.folders.items()
        }

    def of(self, geometry: Mapping[str, Any], versions: Callable[[], Mapping[str, str]]) -> KeptParts:
        """Return what is kept of a geometry.

        Args:
            geometry: as a record keeps it.
            versions: gives those of programs, for records of parts that are computed now.
        """
        return StoredParts(self, geometry, versions)


class StoredParts(KeptParts):
    """The parts of one geometry, in files."""

    def __init__(
        self, store: PartStore, geometry: Mapping[str, Any], versions: Callable[[], Mapping[str, str]]
    ) -> None:
        """Keep where parts lie, of which geometry they are, and what they are computed with."""
        self._store, self._geometry, self._versions = store, geometry, versions
        self._hash = hash_of(geometry)

    def find(self, name: str) -> Part | None:
        """Return a part, or None where there is none that can be read and believed."""
        record = self._store.folders[name].find(self._hash)
        if record is not None:
            gradient = np.array(record[GRADIENT], dtype=float) if GRADIENT in record else None
            return Part(record[ENERGY], gradient, record["notes"], record[STATE], record["cpu_s"])
        found = (records.part(name, self._hash) for records in self._store.whole[name])
        return next((part for part in found if part is not None), None)

    def keep(self, name: str, part: Part) -> None:
        """Write a part.

        Raises:
            JobFailure: it cannot be written.
        """
        folder = self._store.folders[name]
        gradient = {} if part.gradient is None else {GRADIENT: part.gradient.tolist()}
        record = {
            **self._geometry,
            "name": name,
            ENERGY: part.energy,
            **gradient,
            STATE: dict(part.state),
            "notes": dict(part.notes),
            "cpu_s": part.cpu_s,
            "versions": dict(self._versions()),
        }
        with storing(folder.folder):
            folder.add(self._hash, record)


class LevelFolder(RecordFolder):
    """Records of a level of which nothing is known but what the store says."""

    kind = "level"
    derivative = STORED_FORCES

    def __init__(self, folder: Path, recipe: Mapping[str, Any], tell: Tell | None = None) -> None:
        """Open a folder of the store, of which `recipe` is what stands beside the records; `tell` as elsewhere."""
        super().__init__(folder, folder.name.removeprefix(f"v{SCHEME_VERSION}-"), tell)
        self._recipe = dict(recipe)

    def about(self) -> dict[str, Any]:
        """Return what stands beside the records."""
        return self._recipe

    def problem(self, record: dict[str, Any]) -> str | None:
        """Say why energy, forces or notes are not to be believed."""
        return label_problem(record) or note_problem(record)


def level_folders(root: Path, tell: Tell | None = None) -> list[LevelFolder]:
    """Return the levels of a store, in the order of their names; one that does not say what it is, is left out."""
    return [LevelFolder(folder, about, tell) for folder, about in _described(root, LevelFolder.kind)]


def part_folders(root: Path, tell: Tell | None = None) -> list[PartFolder]:
    """Return the parts of a store, as `level_folders` does its levels."""
    return [PartFolder(folder, about, tell) for folder, about in _described(root, PartFolder.kind)]


def _described(root: Path, kind: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield folders of records of a kind, and what they say that they are."""
    for path in sorted(root.glob(f"v{SCHEME_VERSION}-*/{kind}.json")):
        about = None
        with suppress(OSError, ValueError):
            about = read_json(path)
        if isinstance(about, dict):
            yield path.parent, about


class WholeRecords(LevelFolder):
    """Records of a level that combines parts: all that stores have from before parts were kept by themselves."""

    def __init__(self, folder: LevelFolder) -> None:
        """Look at the records of a level as records of its parts.

        Raises:
            KeyError, TypeError, IndexError: its recipe is no sum of stages.
        """
        super().__init__(folder.folder, folder.about(), folder.tell)
        recipe = {key: value for key, value in folder.about().items() if key != self.kind}
        self.parts = {name: part_key(of_part) for name, of_part in parts_of(recipe).items()}

    def part(self, name: str, geometry: str) -> Part | None:
        """Return a part of a closed shell out of its whole record, None where there is none.

        Of open shells such a record does not say that all of its SCFs are of one state.
        """
        record, _ = self._read(geometry)
        if record is None or record["multiplicity"] != 1 or self.about().get("unrestricted"):
            return None
        energies = record.get("components_Eh")
        if not isinstance(energies, dict) or not is_finite(energies.get(name)):
            return None
        return Part(energies[name], None, _notes_of(name, record))


def _notes_of(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a whole record says of one of its parts."""
    if (how := record.get("scf", {}).get(name)) is not None:
        return {"scf": {name: how}}
    # The T1 diagnostic is of coupled cluster.
    of_correlation = ("frozen_orbitals", "frozen_orbitals_of", *(["t1_diagnostic"] if "ccsd" in name else []))
    return {key: record[key] for key in of_correlation if key in record}


def whole_records(root: Path) -> list[WholeRecords]:
    """Return the levels of a store that are sums of stages."""
    found = []
    for folder in level_folders(root):
        with suppress(KeyError, TypeError, IndexError):
            found.append(WholeRecords(folder))
    return found
