"""Reading a store of finished energies by itself: what it holds, and its labels as frames, without any calculation.

A level need not have been computed: where all of its parts are kept, its energies are combined from those anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from piwsl.config import KeptParts, Level, level_checks
from piwsl.config.levels import LackingParts
from piwsl.errors import PiwslError
from piwsl.reference.differences import central_difference_forces, central_difference_slope
from piwsl.reference.failures import FrameFailure
from piwsl.reference.forces import ForceMethod
from piwsl.reference.labelling import labels_of, notes_of
from piwsl.reference.parts import LevelFolder, PartFolder, PartStore, level_folders, part_folders
from piwsl.reference.store import (
    DISPLACED_FROM,
    GEOMETRY,
    STORED_FORCES,
    LabelStore,
    RecordFolder,
    Tell,
    geometry_hash,
)
from piwsl.structures.frames import label
from piwsl.structures.labels import Labels

COMPONENTS = "components_Eh"
LACKING = "lacking"
Record = dict[str, Any]
OF_A_ROW = ("geometry", "formula", LACKING, "from", "energy_eV", "t1_diagnostic", "doubt")


@dataclass(frozen=True)
class Export:
    """The labels that a store has of a level."""

    frames: list[Atoms]
    """Labelled; info: charge, multiplicity, hash of the geometry, energies of the parts in Hartree."""
    rows: list[Record]
    """One for each geometry that the store has something of: where its labels are from, or which parts it lacks."""

    def lacking(self) -> Counter[str]:
        """Count the geometries that lack a part, by its name."""
        return Counter(name for row in self.rows for name in row.get(LACKING, []))


class Finished:
    """Finished energies of a level."""

    def __init__(self, records: RecordFolder) -> None:
        """Look at a folder of records."""
        self.records = records

    def geometries(self) -> set[str]:
        """Return the hashes of the geometries that there is something of."""
        return self.records.geometries()

    def find(self, geometry: str) -> Record | None:
        """Return a record with an energy, or with the names of parts that it lacks, None where there is nothing."""
        record = self.records.find(geometry)
        return None if record is None else record | {"from": "record"}


class FinishedOrCombined(Finished):
    """Energies of a level, finished or combined from kept parts."""

    def __init__(self, root: Path, level: Level, tell: Tell) -> None:
        """Open a level and its parts; arguments as of `export_level`."""
        super().__init__(LabelStore(root, level, tell))
        self._level = level
        self._parts = PartStore(root, level, tell)

    @cached_property
    def _folders(self) -> list[RecordFolder]:
        whole = {records.key: records for of_part in self._parts.whole.values() for records in of_part}
        return [*self._parts.folders.values(), *whole.values()]

    def geometries(self) -> set[str]:
        """Return the hashes of the geometries with an energy or a part."""
        return super().geometries().union(*(folder.geometries() for folder in self._folders))

    def find(self, geometry: str) -> Record | None:
        """Return a finished record, or what the parts combine to."""
        record = super().find(geometry) or self._of_parts(geometry)
        if record is None or LACKING in record:
            return record
        return record | {"doubt": level_checks.problem_said(self._level, "doubt", record)}

    def _of_parts(self, geometry: str) -> Record | None:
        found = next((record for folder in self._folders if (record := folder.find(geometry)) is not None), None)
        if found is None:
            return None
        of_geometry = {key: found[key] for key in (*GEOMETRY, DISPLACED_FROM) if key in found}
        try:
            record = _combined(self._level, of_geometry, self._parts.of(of_geometry, dict))
            # Parts of earlier versions may be what is computed otherwise now.
            problem = level_checks.problem_said(self._level, "record_problem", record)
            return (
                record if problem is None else of_geometry | {LACKING: [f"parts as they are computed now: {problem}"]}
            )
        except LackingParts as lacking:
            return of_geometry | {LACKING: list(lacking.names)}
        except FrameFailure as failure:  # energies that no formula extrapolates
            return of_geometry | {LACKING: [str(failure)]}


def _combined(level: Level, of_geometry: Record, parts: KeptParts) -> Record:
    """Return what parts combine to, with forces where all have gradients."""
    forces = True
    try:
        point = level.combined(of_geometry["multiplicity"], forces, parts)
    except LackingParts:
        forces = False
        point = level.combined(of_geometry["multiplicity"], forces, parts)
    labels = labels_of(point, len(of_geometry["numbers"]), forces)
    return {**notes_of(point, labels), **labels, **of_geometry, "from": "parts"}


def export_level(root: Path, level: Level, tell: Tell) -> Export:
    """Return the labels of a level: finished ones, and what kept parts combine to.

    Args:
        root: of the store.
        level: the level of theory.
        tell: takes a line for each record that is not believed.
    """
    return _export(FinishedOrCombined(root, level, tell))


def export_folder(folder: LevelFolder) -> Export:
    """Return the labels of a level of which nothing is known but what the store says."""
    return _export(Finished(folder))


def _export(source: Finished) -> Export:
    records = [
        record | {"geometry": geometry, "formula": _atoms(record).get_chemical_formula()}
        for geometry in source.geometries()
        if (record := source.find(geometry)) is not None and not _is_displaced(record)
    ]
    records.sort(key=lambda record: (len(record["numbers"]), record["formula"], record["geometry"]))
    frames: list[Atoms] = []
    rows: list[Record] = []
    for record in records:
        row = {name: record[name] for name in OF_A_ROW if name in record}
        if LACKING not in record:
            labels, row["forces"] = _derivative(source, record)
            frames.append(_frame(record, labels))
        rows.append(row)
    return Export(frames, rows)


def _is_displaced(record: Mapping[str, Any]) -> bool:
    """Whether an energy was computed for the forces of another geometry."""
    return DISPLACED_FROM in record or any("started_from" in how for how in record.get("scf", {}).values())


def _atoms(record: Mapping[str, Any]) -> Atoms:
    positions = np.array(record["positions_A"], dtype=float)
    info = {"charge": record["charge"], "multiplicity": record["multiplicity"]}
    return Atoms(record["numbers"], positions, info=info)


def _frame(record: Mapping[str, Any], labels: Labels) -> Atoms:
    frame = label(_atoms(record), record["energy_eV"], labels.forces, slope=labels.slope)
    frame.info["geometry"] = record["geometry"]
    if COMPONENTS in record:
        frame.info[COMPONENTS] = record[COMPONENTS]
    return frame


def _derivative(source: Finished, record: Mapping[str, Any]) -> tuple[Labels, ForceMethod | None]:
    """Return forces of a geometry from its record or from those of displaced ones, or the slope that these tell."""
    if STORED_FORCES in record:
        return Labels(forces=np.array(record[STORED_FORCES], dtype=float)), "analytic"
    if len(record["numbers"]) == 1:  # of which nobody computes differences
        return Labels(), None

    def energy(moved: Atoms) -> float:
        found = source.find(geometry_hash(moved, record["charge"], record["multiplicity"]))
        if found is None or LACKING in found:
            raise KeyError
        return float(found["energy_eV"])

    atoms = _atoms(record)
    with suppress(KeyError, FrameFailure):
        return Labels(forces=central_difference_forces(atoms, energy)), "differences"
    with suppress(KeyError, FrameFailure):
        return Labels(slope=central_difference_slope(atoms, energy)), "slope"
    return Labels(), None


@dataclass(frozen=True)
class Summary:
    """What a store has of a level or of a part."""

    name: str
    """The level in words, or the name of the part."""
    key: str
    records: int
    with_forces: int
    """Of the records, or with a gradient."""
    cpu_hours: float
    """That the records took."""


def summary(folder: LevelFolder | PartFolder) -> Summary:
    """Say what a folder of a store holds."""
    records = [record for geometry in folder.geometries() if (record := folder.find(geometry)) is not None]
    return Summary(
        name=str(folder.about().get(folder.kind)),
        key=folder.key,
        records=len(records),
        with_forces=sum(folder.derivative in record for record in records),
        cpu_hours=sum(record.get("cpu_s") or 0.0 for record in records) / 3600,
    )


def opened(root: Path, tell: Tell) -> tuple[list[LevelFolder], list[PartFolder]]:
    """Return the levels and the parts of a store.

    Args:
        root: of the store.
        tell: takes a line for each record that is not believed.

    Raises:
        PiwslError: there is no such folder, or nothing in it.
    """
    if not root.is_dir():
        raise PiwslError(f"{root}: no such folder; name a store of finished energies (--store)")
    levels, parts = level_folders(root, tell), part_folders(root, tell)
    if not levels and not parts:
        raise PiwslError(f"{root}: holds no finished energies; name a store of them (--store)")
    return levels, parts
