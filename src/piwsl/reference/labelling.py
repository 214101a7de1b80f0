"""Labelling frames with a level of theory: a frame fails alone, a finished energy is never computed again."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii

from piwsl.config import Level
from piwsl.reference.calculations import FrameFailure, composite_energy, required_components, run_components
from piwsl.reference.differences import central_difference_forces
from piwsl.reference.frames import charge_of, electron_problem, label, multiplicity_of
from piwsl.reference.store import LabelStore, geometry_hash, rounded

# Bonds shorter than this share of the sum of covalent radii are no chemistry: SCF converges there, to nonsense.
SHORTEST_BOND = 0.5


def too_close(atoms: Atoms) -> str | None:
    """Say which two atoms are closer than half the sum of their covalent radii, or None."""
    distances = atoms.get_all_distances()
    radii = covalent_radii[atoms.numbers]
    limits = SHORTEST_BOND * (radii[:, None] + radii[None, :])
    np.fill_diagonal(limits, 0.0)
    close = np.argwhere(distances < limits)
    if len(close) == 0:
        return None
    first, second = close[0]
    symbols = atoms.get_chemical_symbols()
    return (
        f"atoms {first} ({symbols[first]}) and {second} ({symbols[second]}) are {distances[first, second]:.3f} Å apart"
    )


class Labeller:
    """Labels frames one by one at a level, through the store."""

    def __init__(self, level: Level, store: LabelStore, memory_mb: int) -> None:
        """Keep the level, its store and the memory of the job (MB)."""
        self.level = level
        self.store = store
        self.memory_mb = memory_mb

    def label(self, atoms: Atoms, forces: bool) -> tuple[Atoms | None, dict[str, Any]]:
        """Label one frame.

        Args:
            atoms: the frame, Å; info may carry `charge` and `multiplicity`.
            forces: also differentiate the energy.

        Returns:
            The labelled frame, or None where it failed; and its record: status, the step and reason of a failure,
            Hartree energies of all parts, convergence, versions, times, geometry hash.
        """
        frame = rounded(atoms)
        started_wall, started_cpu = time.perf_counter(), time.process_time()
        record: dict[str, Any] = {
            "frame": frame.info.get("frame"),
            "geometry": geometry_hash(frame, charge_of(frame), multiplicity_of(frame)),
        }
        try:
            result = self._energy(frame)
            gradient = (
                central_difference_forces(frame, lambda moved: self._energy(moved)["energy_eV"]) if forces else None
            )
        except FrameFailure as failure:
            return None, record | {"status": "failed", "step": failure.step, "reason": failure.reason}
        record |= result | {"status": "ok", "forces": "central differences" if forces else None}
        record["elapsed_wall_s"] = round(time.perf_counter() - started_wall, 3)
        record["elapsed_cpu_s"] = round(time.process_time() - started_cpu, 3)
        return label(frame, result["energy_eV"], gradient), record

    def _energy(self, atoms: Atoms) -> dict[str, Any]:
        """Return the stored record of a geometry, computing it first where there is none."""
        frame = rounded(atoms)
        charge, multiplicity = charge_of(frame), multiplicity_of(frame)
        key = geometry_hash(frame, charge, multiplicity)
        found = self.store.find(key)
        if found is not None:
            return found | {"stored": True}
        record = self._compute(frame, charge, multiplicity)
        self.store.add(key, record)
        return record | {"stored": False}

    def _compute(self, frame: Atoms, charge: int, multiplicity: int) -> dict[str, Any]:
        problems = {
            "charge and multiplicity": electron_problem(frame.numbers.tolist(), charge, multiplicity),
            "geometry": too_close(frame),
        }
        for step, problem in problems.items():
            if problem is not None:
                raise FrameFailure(step, problem)
        started_wall, started_cpu = time.perf_counter(), time.process_time()
        parts = required_components(self.level)
        outcome = run_components(frame, parts, self.level.frozen_core, charge, multiplicity, self.memory_mb)
        return {
            "energy_eV": composite_energy(self.level, outcome.energies) * units.Hartree,
            "components_Eh": {str(part): energy for part, energy in outcome.energies.items()},
            **outcome.notes,
            "charge": charge,
            "multiplicity": multiplicity,
            "versions": {
                "pyscf": version("pyscf"),
                "piwsl": version("piwsl"),
                "python": platform.python_version(),
            },
            "wall_s": round(time.perf_counter() - started_wall, 3),
            "cpu_s": round(time.process_time() - started_cpu, 3),
        }


def label_frames(
    frames: list[Atoms],
    level: Level,
    store_folder: Path,
    forces: bool,
    memory_mb: int,
    progress: Callable[[str], object] = print,
) -> tuple[list[Atoms], list[dict[str, Any]]]:
    """Label frames at a level, in order, and go on past those that fail.

    Args:
        frames: geometries, Å.
        level: the level of theory.
        store_folder: where finished energies are kept and looked up.
        forces: also differentiate the energy of every frame.
        memory_mb: memory of the job, MB.
        progress: told one line a frame.

    Returns:
        The labelled frames (`REF_energy` eV, `REF_forces` eV/Å where wanted) and one record for every frame given.
    """
    labeller = Labeller(level, LabelStore(store_folder, level), memory_mb)
    labelled, records = [], []
    for position, atoms in enumerate(frames):
        frame, record = labeller.label(atoms, forces)
        records.append(record)
        if frame is None:
            outcome = f"failed at {record['step']}: {record['reason']}"
        else:
            labelled.append(frame)
            outcome = f"{record['energy_eV']:.6f} eV in {record['elapsed_wall_s']:.1f} s"
        progress(f"frame {position + 1} of {len(frames)}: {outcome}")
    return labelled, records
