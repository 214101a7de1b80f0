"""Labelling frames with a level of theory: a frame fails alone, a finished energy is never computed again."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import ValidationError

from piwsl.config import KeptParts, Level, SinglePoint, level_checks
from piwsl.config.levels import ENGINES
from piwsl.errors import PiwslError
from piwsl.logs import duration
from piwsl.records import Labelling
from piwsl.reference.claims import Claims, unclaimed_first
from piwsl.reference.differences import central_difference_forces, central_difference_slope, displaced_geometries
from piwsl.reference.failures import PERIODIC, FrameFailure, failing_at, storing
from piwsl.reference.forces import BY_DIFFERENCES, ForceMethod
from piwsl.reference.parts import PartStore
from piwsl.reference.store import DISPLACED_FROM, STORED_FORCES, LabelStore, geometry, geometry_hash, rounded
from piwsl.structures.frames import (
    charge_of,
    electron_problem,
    free_atom_problem,
    label,
    multiplicity_of,
    too_close,
)
from piwsl.structures.geometry import geometry_problem
from piwsl.structures.labels import Labels

RESULT = re.compile("energy|energies|force|stress|virial|dipole", re.IGNORECASE)
# Seconds of a frame. A claim takes some milliseconds on the file system of a cluster.
CLAIMED_FROM_S = 0.5
# What a stored record has beyond that of a labelled frame, which has the geometry itself.
ONLY_STORED = ("numbers", "positions_A", STORED_FORCES, DISPLACED_FROM)


def versions(level: Level) -> dict[str, str]:
    """Return what an energy was computed with, for its record."""
    origin = ENGINES.origin(level.engine)
    engine = {} if origin is None else {level.engine: origin}
    return {**engine, "piwsl": version("piwsl"), "python": platform.python_version(), **level_checks.versions(level)}


def without_others_labels(atoms: Atoms) -> Atoms:
    """Return a frame's geometry, and of what else its file says only what is no result of a calculation.

    Columns of atoms are all left out (forces, charges, velocities), calculators, too, and in its info whatever is
    named after an energy, forces and their like: what another program gave must not stand beside our energy.
    """
    info = {key: value for key, value in atoms.info.items() if not RESULT.search(key)}
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info)


@dataclass(frozen=True)
class Near:
    """A geometry, near which others are computed for differences of the energy."""

    geometry: str
    """Its hash."""
    computed: Callable[[], Callable[[Atoms, KeptParts], SinglePoint]]
    """Gives what computes them."""


class Labeller:
    """Labels frames one by one at a level, through the store."""

    def __init__(self, level: Level, store: LabelStore, memory_mb: int) -> None:
        """Keep the level, its store and the memory of the job (MB)."""
        self.level = level
        self.store = store
        self.memory_mb = memory_mb
        self.claims = Claims(store.folder / "claims")
        self._parts = PartStore(store.root, level)
        self._can_store = False

    @cached_property
    def _versions(self) -> dict[str, str]:
        return versions(self.level)

    def label(self, atoms: Atoms, forces: ForceMethod | None) -> tuple[Atoms | None, dict[str, Any]]:
        """Label one frame.

        Args:
            atoms: the frame, Å; info may carry `charge` and `multiplicity`.
            forces: how to compute forces, too, or the slope along one direction; None for the energy alone.

        Returns:
            The labelled frame, or None where it failed; and its record: status, the step and reason of a failure,
            Hartree energies of all parts, convergence, versions, times, geometry hash.

        Raises:
            JobFailure: the machine gave out; the frame is neither labelled nor failed.
        """
        frame = rounded(without_others_labels(atoms))
        started_wall, started_cpu = time.perf_counter(), _cpu_seconds()
        record: dict[str, Any] = {
            "frame": str(frame.info["frame"]) if "frame" in frame.info else None,
            "geometry": None,
        }
        try:
            charge, multiplicity = _checked(frame)
            record["geometry"] = geometry_hash(frame, charge, multiplicity)
            result = self._single_point(frame, analytic=forces == "analytic")
            record["doubt"] = self._doubt(result)
            labels, displaced = self._labels(frame, result, forces)
        except FrameFailure as failure:
            return None, record | {"status": "failed", "step": failure.step, "reason": failure.reason}
        kept = {key: value for key, value in result.items() if key not in (*record, *ONLY_STORED)}
        alone = labels.forces is None and labels.slope is None  # of an atom there is no direction either
        record |= kept | {"status": "ok", "forces": None if alone else forces}
        record["elapsed_wall_s"] = round(time.perf_counter() - started_wall, 3)
        record["elapsed_cpu_s"] = round(_cpu_seconds() - started_cpu, 3)
        stored = [found["cpu_s"] for found in (result, *displaced) if found["stored"]]
        record["stored_cpu_s"] = round(sum(stored), 3)
        return label(frame, result["energy_eV"], labels.forces, slope=labels.slope), record

    def claim_name(self, atoms: Atoms, forces: ForceMethod | None) -> str | None:
        """Return what a frame is claimed by while it is computed; None where it is known already, or is no molecule."""
        frame = rounded(without_others_labels(atoms))
        try:
            key = geometry_hash(frame, *_checked(frame))
        except FrameFailure:
            return None
        if forces not in BY_DIFFERENCES and self.store.has(key, forces == "analytic"):
            return None
        return f"{key}-{forces or 'energy'}"

    def label_displaced(
        self, atoms: Atoms, forces: ForceMethod, share: slice, tell: Callable[[str], object] = print
    ) -> Iterator[dict[str, Any]]:
        """Compute a share of the energies that differences of a frame take, into the store.

        Args:
            atoms: the frame, as of `label`.
            forces: of which differences.
            share: which of its displaced geometries.
            tell: takes a line where other jobs are waited for.

        Yields:
            One record each, as of `label`; the first that fails is the last, for the frame fails with it.

        Raises:
            JobFailure: the machine gave out.
        """
        frame = rounded(without_others_labels(atoms))
        record: dict[str, Any] = {"frame": f"{frame.info.get('frame')}, displaced", "geometry": None}
        try:
            charge, multiplicity = _checked(frame)
            near = self._near(frame, charge, multiplicity)
            displaced = displaced_geometries(frame, forces)[share]
            names = [self.claim_name(moved, None) for moved in displaced]
            with closing(unclaimed_first(names, self.claims, tell)) as positions:
                for position in positions:
                    moved = displaced[position]
                    found = self._single_point(moved, False, near)
                    kept = {key: found[key] for key in ("energy_eV", "stored", "cpu_s")}
                    yield record | kept | {"geometry": geometry_hash(moved, charge, multiplicity), "status": "ok"}
        except FrameFailure as failure:
            yield record | {"status": "failed", "step": failure.step, "reason": failure.reason}

    def _near(self, frame: Atoms, charge: int, multiplicity: int) -> Near:
        """Return what computes geometries near a frame, made once and only where one is not in the store."""
        computed = cache(lambda: self.level.displaced_of_parts(frame.copy(), charge, multiplicity, self.memory_mb))
        return Near(geometry_hash(frame, charge, multiplicity), computed)

    def _doubt(self, result: dict[str, Any]) -> str | None:
        """Say why an energy may mean little; where the level refuses such a frame, that is its failure."""
        doubt = level_checks.problem_said(self.level, "doubt", result)
        if doubt is not None and self.level.fails_doubtful:
            raise FrameFailure("diagnostics", doubt)
        return doubt

    def _labels(
        self, frame: Atoms, result: dict[str, Any], forces: ForceMethod | None
    ) -> tuple[Labels, list[dict[str, Any]]]:
        """Return what is wanted of a frame beside its energy, and the records of displaced energies."""
        if forces not in BY_DIFFERENCES:
            return Labels(forces=np.array(result[STORED_FORCES]) if forces == "analytic" else None), []
        near = self._near(frame, charge_of(frame), multiplicity_of(frame))
        records: list[dict[str, Any]] = []

        def energy(moved: Atoms) -> float:
            record = self._single_point(moved, False, near)
            if record["positions_A"] != result["positions_A"]:  # the frame itself is asked for, too
                records.append(record)
            return float(record["energy_eV"])

        if forces == "slope":
            return Labels(slope=central_difference_slope(frame, energy)), records
        return Labels(forces=central_difference_forces(frame, energy)), records

    def _single_point(self, atoms: Atoms, analytic: bool, near: Near | None = None) -> dict[str, Any]:
        """Return the stored record of a geometry, computing it first where there is none, or none with forces.

        Args:
            atoms: the geometry, Å.
            analytic: with analytic forces.
            near: the geometry that this one differs a little from, for whose forces it is computed.
        """
        frame = rounded(atoms)
        charge, multiplicity = charge_of(frame), multiplicity_of(frame)
        key = geometry_hash(frame, charge, multiplicity)
        if not self.store.has(key, analytic):
            self.store.look_anew(key)
        found = self.store.find(key)
        if found is not None and (STORED_FORCES in found or not analytic):
            return found | {"stored": True}
        self._check_store()
        record = self._compute(frame, charge, multiplicity, analytic, near)
        with storing(self.store.folder):
            kept = self.store.add(key, record)
        return kept | {"stored": False}

    def _check_store(self) -> None:
        """Compute nothing that cannot be kept; a store that has all may be read-only."""
        if self._can_store:
            return
        for folder in (self.store, *self._parts.folders.values()):
            with storing(folder.folder):
                folder.check()
        self._can_store = True

    def _compute(
        self, frame: Atoms, charge: int, multiplicity: int, analytic: bool, near: Near | None
    ) -> dict[str, Any]:
        problems = {
            "geometry": geometry_problem(frame) or too_close(frame),
            "charge and multiplicity": electron_problem(frame.numbers.tolist(), charge, multiplicity),
            "forces": level_checks.problem_said(self.level, "analytic_problem", multiplicity) if analytic else None,
        }
        for step, problem in problems.items():
            if problem is not None:
                raise FrameFailure(step, problem)
        started_wall, started_cpu = time.perf_counter(), _cpu_seconds()
        of_geometry = geometry(frame, charge, multiplicity) | ({DISPLACED_FROM: near.geometry} if near else {})
        parts = self._parts.of(of_geometry, lambda: self._versions)
        with failing_at(self.level.engine):
            found = (
                near.computed()(frame.copy(), parts)
                if near
                else self.level.single_point_of_parts(
                    frame.copy(), charge, multiplicity, self.memory_mb, analytic, parts
                )
            )
            labels = labels_of(found, len(frame), analytic)
            notes = notes_of(found, labels)
        return {
            **notes,
            **labels,
            **of_geometry,
            "versions": self._versions,
            "wall_s": round(time.perf_counter() - started_wall, 3),
            "cpu_s": round(_cpu_seconds() - started_cpu, 3),
        }


def _cpu_seconds() -> float:
    """Return CPU seconds of this process and of the programs that it ran."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def labels_of(found: SinglePoint, atoms: int, analytic: bool) -> dict[str, Any]:
    """Return energy and forces of an engine as a record keeps them.

    Raises:
        ValueError: they are no finite numbers in double precision, or not as many as the atoms have.
    """
    if not isinstance(found, SinglePoint):
        raise ValueError(f"gave {type(found).__name__}, no SinglePoint")
    if (kind := np.asarray(found.energy).dtype) == np.float32:
        raise ValueError(f"gave the energy in {kind}, of which differences are noise; give float64")
    energy = float(found.energy)
    if not math.isfinite(energy):
        raise ValueError(f"gave the energy {energy}")
    if not analytic:
        return {"energy_eV": energy}
    forces = np.array(np.nan if found.forces is None else found.forces, dtype=float)
    if forces.shape != (atoms, 3) or not np.isfinite(forces).all():
        raise ValueError(f"gave forces that are not three finite numbers for each of {atoms} atoms")
    return {"energy_eV": energy, STORED_FORCES: forces.tolist()}


def notes_of(found: SinglePoint, labels: dict[str, Any]) -> dict[str, Any]:
    """Return the notes of an engine as a record keeps them.

    Raises:
        ValueError: they are no plain values by text, or what the report knows is of another type.
    """
    notes = {**found.notes}
    if not all(isinstance(key, str) for key in notes):
        raise ValueError("gave notes whose keys are no text")
    try:
        json.dumps(notes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"gave notes that are no plain values ({error})") from None
    try:
        Labelling.model_validate({**notes, **labels, "status": "ok", "frame": None, "forces": None, "cpu_s": None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"gave the note {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None
    return notes


def _checked(frame: Atoms) -> tuple[int, int]:
    """Return charge and multiplicity of a frame.

    Raises:
        FrameFailure: they are no whole numbers, the frame is no molecule, or a free atom does not say its multiplicity.
    """
    if frame.pbc.any():
        raise FrameFailure("geometry", PERIODIC)
    try:
        problem = free_atom_problem(frame)
        charge, multiplicity = charge_of(frame), multiplicity_of(frame)
    except PiwslError as error:
        problem = str(error)
    if problem is not None:
        raise FrameFailure("charge and multiplicity", problem)
    return charge, multiplicity


class Progress:
    """Tells, a line a frame, how far a batch is: done, failed, seconds a frame, time left."""

    def __init__(self, frames: int, tell: Callable[[str], object]) -> None:
        """Start the clock for a number of frames; `tell` takes the lines."""
        self._frames, self._tell = frames, tell
        self._done = self._failed = self._computed = 0
        self._started, self._seconds = time.perf_counter(), 0.0

    def are_slow(self) -> bool:
        """Whether a frame takes longer than to look whether another job computes it; so does the first."""
        return not self._computed or self._seconds >= CLAIMED_FROM_S * self._computed

    def frame(self, record: dict[str, Any]) -> None:
        """Count a frame and say how it went."""
        elapsed = time.perf_counter() - self._started - self._seconds
        self._seconds += elapsed
        failed = record["status"] == "failed"
        self._done += not failed
        self._failed += failed
        # Frames out of the store take no time and say nothing of those that are left. Of some it has the energy alone.
        self._computed += not record.get("stored", False) or elapsed > CLAIMED_FROM_S
        outcome = (
            f"failed at {record['step']}: {record['reason']}"
            if failed
            else f"{record['energy_eV']:.6f} eV{' from the store' if record['stored'] else f' in {elapsed:.1f} s'}"
        )
        number = self._done + self._failed
        each = self._seconds / max(self._computed, 1)
        left = (self._frames - number) * each
        self._tell(
            f"frame {number} of {self._frames}: {outcome}; {self._done} done, {self._failed} failed, "
            f"{each:.1f} s a frame, {duration(left)} left"
        )


def label_frames(
    frames: list[Atoms],
    level: Level,
    store_folder: Path,
    forces: ForceMethod | None,
    memory_mb: int,
    progress: Callable[[str], object] = print,
) -> tuple[list[Atoms], list[dict[str, Any]]]:
    """Label frames at a level, and go on past those that fail; those that another job is computing come last.

    Args:
        frames: geometries, Å.
        level: the level of theory.
        store_folder: where finished energies are kept and looked up.
        forces: how to compute the forces of every frame, too, or its slope; None for energies alone.
        memory_mb: memory of the job, MB.
        progress: told one line a frame.

    Returns:
        The labelled frames (`REF_energy` eV, where wanted `REF_forces` eV/Å, or `REF_slope` eV/Å with
        `REF_direction`) and one record for every frame given.

    Raises:
        PiwslError: the store cannot be written; nothing is computed.
        JobFailure: memory or disk gave out. Finished frames are in the store.
    """
    labeller = Labeller(level, LabelStore(store_folder, level), memory_mb)
    found: dict[int, tuple[Atoms | None, dict[str, Any]]] = {}
    lines = Progress(len(frames), progress)
    names = [labeller.claim_name(atoms, forces) for atoms in frames]
    with closing(unclaimed_first(names, labeller.claims, progress, lines.are_slow)) as positions:
        for position in positions:
            found[position] = labeller.label(frames[position], forces)
            lines.frame(found[position][1])
    in_order = [found[position] for position in range(len(frames))]
    return [frame for frame, _ in in_order if frame is not None], [record for _, record in in_order]
