"""Geometries along a coordinate of a molecule, from its minimum on a cheap surface, for others to be tested on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed

from piwsl.config import Scan
from piwsl.errors import PiwslError
from piwsl.structures.coordinates import Coordinate
from piwsl.structures.frames import write_frames
from piwsl.structures.structure import COORDINATE_KEY
from piwsl.surface.relaxation import relax
from piwsl.surface.scan import scan
from piwsl.surface.vibrations import QUANTUM, vibrations

# eV/Å.
FMAX = 1e-3
MOST_STEPS = 1000
# How far from its value a coordinate may be.
TOLERANCES = {"Å": 1e-3, "°": 0.1}


def write_scan(start: Atoms, section: Scan, name: str, path: Path) -> None:
    """Write the geometries of a scan, as many as it has points.

    Args:
        start: molecule with the calculator on whose surface it is relaxed; charge and multiplicity stand in its info.
        section: which coordinate, from where to where.
        name: of the scan; frames are called by it.
        path: extended XYZ to write; the value of the coordinate stands in the info of each frame.

    Raises:
        PiwslError: there is no minimum, no such atom or vibration, or a point cannot be relaxed.
    """
    try:
        minimum = relax(start, FMAX, MOST_STEPS)
        if not minimum.converged:
            raise PiwslError(f"no minimum in {MOST_STEPS} steps; start from a better geometry")
        values = np.linspace(section.start, section.stop, section.points).tolist()
        if section.mode is None:
            assert section.along is not None
            frames = _along(minimum.atoms, Coordinate(tuple(section.along)), values, section.relaxed)
        else:
            frames = _along_mode(minimum.atoms, section.mode, values)
        geometries = list(frames)
    except CalculationFailed as error:
        reason = str(error).strip().splitlines()[0]
        raise PiwslError(f"scan '{name}': GFN2-xTB gave up: {reason}; check the geometry") from None
    except PiwslError as error:
        raise PiwslError(f"scan '{name}': {error}") from None
    for position, (atoms, value) in enumerate(zip(geometries, values, strict=True)):
        atoms.info = dict(start.info) | {"frame": f"{name}-{position}", COORDINATE_KEY: value}
    write_frames(path, geometries)


def _along(minimum: Atoms, coordinate: Coordinate, values: list[float], relaxed: bool) -> Iterator[Atoms]:
    coordinate.check(minimum)
    frames = _relaxed(minimum, coordinate, values) if relaxed else _rigid(minimum, coordinate, values)
    for value, atoms in zip(values, frames, strict=True):
        off = coordinate.of(atoms) - value
        off = (off + 180.0) % 360.0 - 180.0 if coordinate.kind == "dihedral" else off
        if abs(off) > TOLERANCES[coordinate.unit]:
            said = f"{coordinate.kind} {value:g} {coordinate.unit}"
            raise PiwslError(f"{said}: the molecule cannot have it; scan elsewhere")
        yield atoms


def _rigid(minimum: Atoms, coordinate: Coordinate, values: list[float]) -> Iterator[Atoms]:
    moving, geometry = coordinate.moving(minimum), minimum.copy()
    for value in values:
        coordinate.set(geometry, value, moving)
        yield geometry.copy()


def _relaxed(minimum: Atoms, coordinate: Coordinate, values: list[float]) -> Iterator[Atoms]:
    for point in scan(minimum, coordinate, values, relaxed=True):
        said = f"{coordinate.kind} {point.value:g} {coordinate.unit}: {point.problem}"
        if np.isnan(point.energy):
            raise PiwslError(f"{said}; scan without 'relaxed', or elsewhere")
        if point.problem is not None:
            print(said)
        yield point.atoms.copy()


def _along_mode(minimum: Atoms, number: int, values: list[float]) -> Iterator[Atoms]:
    """Yield displacements by q √(ħ/ω) along a mass-weighted normal coordinate, with ω of that mode.

    On a harmonic surface the energy rises by ħω q²/2. The largest displacement of an atom is to the positive side.
    """
    found = vibrations(minimum)
    real = np.flatnonzero(found.frequencies > 0)
    if number > len(real):
        raise PiwslError(f"mode {number}: the minimum has {len(real)} vibrations")
    mode = found.modes[real[number - 1]]
    mode = mode * np.sign(mode.flat[np.abs(mode).argmax()])
    width = QUANTUM / np.sqrt(found.frequencies[real[number - 1]] * units.invcm)
    for value in values:
        atoms = minimum.copy()
        atoms.positions += value * width * mode
        yield atoms
