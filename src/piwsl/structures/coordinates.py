"""Internal coordinates of molecules: distances, angles and dihedrals, which scans go along.

In a periodic frame they are of nearest images, wherever in the cell a program has put each atom.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ase import Atoms
from ase.constraints import FixInternals
from ase.neighborlist import build_neighbor_list, natural_cutoffs, neighbor_list
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from piwsl.errors import PiwslError

# Times the sum of covalent radii.
BONDED = 1.15
KINDS = {2: ("distance", "Å"), 3: ("angle", "°"), 4: ("dihedral", "°")}
# An angle within a degree of 0 or 180°: HNCO, whose N=C=O bends by 8°, has a dihedral.
IN_LINE = np.sin(np.radians(1.0))


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

        A dihedral whose first or last three atoms lie in line is refused, too: a turn about that line moves nothing.

        Raises:
            PiwslError: says which.
        """
        if len(self.indices) not in KINDS or len(set(self.indices)) < len(self.indices):
            raise PiwslError(f"a scan is of two, three or four different atoms, found {list(self.indices)}")
        if beyond := [index for index in self.indices if not 0 <= index < len(atoms)]:
            raise PiwslError(f"there is no atom {beyond[0]}; atoms are counted from 0 to {len(atoms) - 1}")
        for straight in (self.indices[:3], self.indices[1:]) if self.kind == "dihedral" else ():
            if _in_line(*atoms.positions[list(straight)]):
                first, second, third = straight
                raise PiwslError(f"atoms {first}, {second} and {third} lie in line and have no dihedral; name others")

    def of(self, atoms: Atoms) -> float:
        """Return its value in a geometry, Å or ° (dihedrals from 0 to 360)."""
        return float(getattr(atoms, f"get_{self.kind}")(*self.indices, mic=bool(atoms.pbc.any())))

    def whole(self, atoms: Atoms) -> Atoms:
        """Return a copy in which its atoms, and all that are bonded to them, are not a period apart.

        What `set` moves would otherwise turn about an axis that the other parts of it do not have.
        """
        found = atoms.copy()
        if not atoms.pbc.any():
            return found
        here = {self.indices[0]: atoms.positions[self.indices[0]]}
        for before, index in pairwise(self.indices):
            here[index] = here[before] + atoms.get_distance(before, index, mic=True, vector=True)
        firsts, seconds, vectors = neighbor_list("ijD", atoms, natural_cutoffs(atoms, mult=BONDED))
        waiting = [*self.indices]
        while waiting:
            index = waiting.pop()
            for bond in np.flatnonzero(firsts == index):
                if (other := int(seconds[bond])) not in here:
                    here[other] = here[index] + vectors[bond]
                    waiting.append(other)
        found.positions[[*here]] = [*here.values()]
        return found

    def set(self, atoms: Atoms, value: float, moving: NDArray[np.bool_]) -> None:
        """Give it a value, in place.

        Args:
            atoms: the geometry, `whole`.
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
        bonds = build_neighbor_list(atoms, natural_cutoffs(atoms, mult=BONDED), self_interaction=False)
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


def _in_line(first: NDArray[np.float64], middle: NDArray[np.float64], last: NDArray[np.float64]) -> bool:
    """Whether three positions (3,) lie on one line."""
    arms = first - middle, last - middle
    return bool(np.linalg.norm(np.cross(*arms)) <= IN_LINE * np.linalg.norm(arms[0]) * np.linalg.norm(arms[1]))


def values_in_order(coordinate: Coordinate, frames: Iterable[Atoms]) -> NDArray[np.float64]:
    """Return the values of a coordinate in frames that go along it, (M,), Å or °.

    A dihedral starts between -180 and 180°, and goes on beyond where the next frame is nearer so.

    Raises:
        PiwslError: a frame lacks an atom, or has no such dihedral.
    """
    values = []
    for position, atoms in enumerate(frames):
        try:
            coordinate.check(atoms)
        except PiwslError as error:
            raise PiwslError(f"frame {position}: {error}") from None
        values.append(coordinate.of(atoms))
    found = np.array(values)
    if coordinate.kind != "dihedral" or not len(found):
        return found
    unwrapped = np.unwrap(found, period=360.0)
    return np.asarray(unwrapped - (360.0 if unwrapped[0] > 180.0 else 0.0))
