"""Which atoms of a molecule may stand for one another: permutations that its bond graph allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from piwsl.errors import PiwslError
from piwsl.models.pair import BONDED

# Of more (ethane has 72), those that leave the first atoms in place: a group, too, and the kernel a kernel.
MOST_PERMUTATIONS = 48


@dataclass(frozen=True)
class BondGraph:
    """Atoms and which of them are bonded."""

    numbers: NDArray[np.int64]
    """(n,) atomic numbers."""
    bonds: NDArray[np.bool_]
    """(n, n), symmetric."""

    @classmethod
    def of(cls, numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> BondGraph:
        """Return the graph of positions (n, 3), Å: bonds no longer than 1.3 times the sum of covalent radii."""
        return cls.mean(numbers, positions[None])

    @classmethod
    def mean(cls, numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> BondGraph:
        """Return the graph of the mean distances at positions (M, n, 3), Å."""
        distances = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=3).mean(axis=0)
        radii = covalent_radii[numbers]
        bonds = distances < BONDED * (radii[:, None] + radii[None])
        np.fill_diagonal(bonds, False)
        return cls(numbers, bonds)

    def colours(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return of each atom its element and those that it is bonded to: what a permutation must keep."""
        return [
            (int(number), tuple(sorted(self.numbers[row].tolist())))
            for number, row in zip(self.numbers, self.bonds, strict=True)
        ]


def kinds_of_pairs(graph: BondGraph) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return numbers of pairs of atoms, (n, n) each, that are equal for pairs of one kind.

    First, whether they are bonded (0), have one atom between (1), or are farther (2); then this and their elements.
    """
    between = (graph.bonds.astype(np.int64) @ graph.bonds) > 0
    apart = np.where(graph.bonds, 0, np.where(between, 1, 2))
    numbers = graph.numbers.astype(np.int64)
    low, high = (function(numbers[:, None], numbers) for function in (np.minimum, np.maximum))
    return apart, (3 * low + apart) * (numbers.max() + 1) + high


def matches(first: BondGraph, second: BondGraph, fixed: int = 0) -> Iterator[list[int]]:
    """Go through all ways to lay one graph over another: atom i of the first is atom match[i] of the second.

    Depth first, atom by atom, so that the first match comes soon where the atoms have surroundings of their own.

    Args:
        first: a molecule of n atoms.
        second: another.
        fixed: so many of the first atoms are laid over those of the same place.
    """
    ours, theirs = first.colours(), second.colours()
    if sorted(ours) != sorted(theirs):
        return

    def extended(match: list[int]) -> Iterator[list[int]]:
        atom = len(match)
        if atom == len(ours):
            yield match
            return
        for other in [atom] if atom < fixed else range(len(theirs)):
            fits = other not in match and ours[atom] == theirs[other]
            if fits and np.array_equal(first.bonds[atom, :atom], second.bonds[other, match]):
                yield from extended([*match, other])

    yield from extended([])


def symmetries(graph: BondGraph) -> NDArray[np.int64]:
    """Return a group of permutations that leave a graph as it is, (G, n), the identity among them.

    All of them, or where there are more than `MOST_PERMUTATIONS`, those that leave the first atoms where they are, as
    many atoms as it takes.
    """
    for fixed in range(len(graph.numbers) + 1):
        found = []
        for match in matches(graph, graph, fixed):
            found.append(match)
            if len(found) > MOST_PERMUTATIONS:
                break
        else:
            break
    return np.array(found, dtype=np.int64)


def order_of(known: BondGraph, graph: BondGraph) -> list[int]:
    """Return which atom of a graph stands for each of a known one.

    Raises:
        PiwslError: none can.
    """
    match = next(matches(known, graph), None)
    if match is None:
        symbols = "".join(chemical_symbols[number] for number in known.numbers)
        raise PiwslError(
            f"the atoms are in another order than those of the training ({symbols}), and bonds do not tell which is "
            "which; sort them"
        )
    return match
