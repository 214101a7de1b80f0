"""Scans: the energy along a distance, an angle or a dihedral."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.constraints import FixInternals
from ase.neighborlist import build_neighbor_list, natural_cutoffs
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from piwsl.data.batch import ImpossibleGeometry
from piwsl.errors import PiwslError
from piwsl.models import BaselineFailure
from piwsl.surface.relaxation import relax

KINDS = {2: ("distance", "Å"), 3: ("angle", "°"), 4: ("dihedral", "°")}
# Where ASE's constraint of an internal coordinate has no derivative, or does not converge.
UNCONSTRAINED = (ValueError, ZeroDivisionError, ArithmeticError, np.linalg.LinAlgError)


@dataclass(frozen=True)
class Coordinate:
    """An internal coordinate of two, three or four atoms, by their indices."""

    indices: tuple[int, ...]

    @property
    def kind(self) -> str:
        """A distance, an angle or a dihedral."""
        return KINDS[len(self.indices)][0]

    @property
    def unit(self) -> str:
        """Å or °."""
        return KINDS[len(self.indices)][1]

    def check(self, atoms: Atoms) -> None:
        """Refuse indices that a geometry does not have, or that are not two, three or four different ones.

        Raises:
            PiwslError: says which.
        """
        if len(self.indices) not in KINDS or len(set(self.indices)) < len(self.indices):
            raise PiwslError(f"a scan is of two, three or four different atoms, found {list(self.indices)}")
        if beyond := [index for index in self.indices if not 0 <= index < len(atoms)]:
            raise PiwslError(f"there is no atom {beyond[0]}; atoms are counted from 0 to {len(atoms) - 1}")

    def of(self, atoms: Atoms) -> float:
        """Return its value in a geometry, Å or ° (dihedrals from 0 to 360)."""
        return float(getattr(atoms, f"get_{self.kind}")(*self.indices))

    def set(self, atoms: Atoms, value: float, moving: NDArray[np.bool_]) -> None:
        """Give it a value, in place.

        Args:
            atoms: the geometry.
            value: Å or °.
            moving: (N,) the atoms that move, of `moving`.
        """
        indices = np.flatnonzero(moving).tolist()
        if self.kind == "distance":
            anchor, last = self.indices
            atoms.set_distance(anchor, last, value, fix=0, indices=indices)
        else:
            getattr(atoms, f"set_{self.kind}")(*self.indices, value, indices=indices)

    def moving(self, atoms: Atoms) -> NDArray[np.bool_]:
        """Return which atoms (N,) move: what is bonded to the last one; about a dihedral, one whole side of its axis.

        Where a ring leads back to atoms that stay, the last atom alone.
        """
        *_, last = self.indices
        anchor, partner = self.indices[1:3] if self.kind == "dihedral" else self.indices[-2:]
        bonds = build_neighbor_list(atoms, natural_cutoffs(atoms, mult=1.15), self_interaction=False)
        bonded = bonds.get_connectivity_matrix(sparse=False).astype(bool)
        bonded |= bonded.T
        bonded[anchor, partner] = bonded[partner, anchor] = False
        _, part = connected_components(bonded, directed=False)
        moving = part == part[last]
        staying = self.indices[:2] if self.kind == "dihedral" else self.indices[:-1]
        if moving[list(staying)].any():
            moving = np.arange(len(atoms)) == last
        return np.asarray(moving)

    def held(self, value: float) -> FixInternals:
        """Return the constraint that keeps it at a value."""
        names = {"distance": "bonds", "angle": "angles_deg", "dihedral": "dihedrals_deg"}
        return FixInternals(**{names[self.kind]: [[value, list(self.indices)]]})


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
        relaxed: relax all else at each value; without, parts of the molecule move as they are.
        fmax: eV/Å, where it is relaxed.
        most_steps: of a relaxation.

    Raises:
        PiwslError: an atom that is not there.
    """
    coordinate.check(start)
    moving = coordinate.moving(start)
    points, geometry = [], start.copy()
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
