"""Scans: the energy along a distance, an angle or a dihedral."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from piwsl.data.batch import ImpossibleGeometry
from piwsl.models import BaselineFailure
from piwsl.structures.coordinates import Coordinate
from piwsl.surface.relaxation import relax

# Where ASE's constraint of an internal coordinate has no derivative, or does not converge.
UNCONSTRAINED = (ValueError, ZeroDivisionError, ArithmeticError, np.linalg.LinAlgError)


@dataclass(frozen=True)
class Point:
    """A geometry of a scan."""

    value: float
    """Å or °."""
    atoms: Atoms
    energy: float
    """eV; NaN where it could not be computed."""
    problem: str | None = None
    """Why not, or why it is not the lowest."""


def scan(
    start: Atoms,
    coordinate: Coordinate,
    values: Sequence[float],
    relaxed: bool = False,
    fmax: float = 0.01,
    most_steps: int = 500,
) -> list[Point]:
    """Compute energies along an internal coordinate, each geometry made of the one before.

    Args:
        start: geometry with a calculator; it is not changed.
        coordinate: what is scanned.
        values: Å or °.
        relaxed: relax all else at each value; without, and of two atoms, parts of the molecule move as they are.
        fmax: eV/Å, where it is relaxed.
        most_steps: of a relaxation.

    Raises:
        PiwslError: an atom that is not there.
    """
    coordinate.check(start)
    relaxed = relaxed and len(start) > 2  # ASE's constraint expects that something is left to relax
    moving = coordinate.moving(start)
    points, geometry = [], coordinate.whole(start)
    geometry.set_constraint()
    for value in values:
        coordinate.set(geometry, value, moving)
        point = _point(geometry, start, coordinate, value, relaxed, fmax, most_steps)
        points.append(point)
        if relaxed and point.problem is None:
            geometry = point.atoms.copy()
            geometry.set_constraint()
    return points


def _point(
    geometry: Atoms, start: Atoms, coordinate: Coordinate, value: float, relaxed: bool, fmax: float, most_steps: int
) -> Point:
    atoms = geometry.copy()
    atoms.calc = start.calc
    try:
        if not relaxed:
            return Point(value, atoms, float(atoms.get_potential_energy()))
        atoms.set_constraint(coordinate.held(value))
        found = relax(atoms, fmax, most_steps)
    except (ImpossibleGeometry, BaselineFailure) as error:
        return Point(value, geometry.copy(), float("nan"), str(error))
    except UNCONSTRAINED as error:
        return Point(value, geometry.copy(), float("nan"), f"it cannot be held there ({type(error).__name__}: {error})")
    found.atoms.set_constraint()
    late = f"forces of {found.largest_force:.2g} eV/Å are left after {found.steps} steps"
    return Point(value, found.atoms, found.energy, None if found.converged else late)
