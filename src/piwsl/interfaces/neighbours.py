"""A neighbour list that outlives the geometry it was made of: dynamics and relaxations move atoms by little.

With a skin around the cutoff, a list holds all pairs until two atoms may have approached each other by that skin:
Verlet, Phys. Rev. 159, 98 (1967).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from piwsl.data.batch import NEAREST, neighbour_list
from piwsl.structures.structure import Structure

# Å: of hot molecules, some twenty steps; of dense matter, a third more pairs to look at.
SKIN = 0.5


class KeptNeighbours:
    """Neighbour lists of geometries that come one after the other; each is what `neighbour_list` finds, to the pair."""

    def __init__(self, skin: float = SKIN) -> None:
        """Keep the skin, Å."""
        self.skin = skin
        self._made_of: Structure | None = None
        self._edges: NDArray[np.int64] = np.empty((2, 0), dtype=np.int64)
        self._shifts: NDArray[np.float64] = np.empty((0, 3))

    def __call__(self, structure: Structure, cutoff: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the pairs within a cutoff; arguments, results and errors of `neighbour_list`.

        The cutoff is the same in all calls.
        """
        if not self._reaches(structure):
            self._edges, self._shifts = neighbour_list(structure, cutoff + self.skin)
            self._made_of = structure
        receivers, senders = self._edges
        vectors = structure.positions[senders] + self._shifts - structure.positions[receivers]
        squares = np.einsum("ij,ij->i", vectors, vectors)
        if squares.min(initial=np.inf) < NEAREST**2:
            return neighbour_list(structure, cutoff)  # which says what is wrong
        within = squares < cutoff**2
        return self._edges[:, within], self._shifts[within]

    def _reaches(self, structure: Structure) -> bool:
        """Whether the list that is there has all pairs: no atom moved by more than half the skin, in the same cell."""
        before = self._made_of
        if before is None or len(before.numbers) != len(structure.numbers):
            return False
        if not (np.array_equal(before.cell, structure.cell) and np.array_equal(before.pbc, structure.pbc)):
            return False
        moved = np.square(structure.positions - before.positions).sum(axis=1)
        return bool((moved < (self.skin / 2) ** 2).all())  # false for NaN, too
