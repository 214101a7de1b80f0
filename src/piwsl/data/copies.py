"""Frames of one geometry, turned, shifted or renumbered: found by fingerprints, and compared atom by atom.

Periodic frames are of one geometry where they are so as they stand, in the same cell, shifted as a whole or renumbered:
what is turned in its cell is another structure.

Fingerprints are sums over radii and distances, or coordinates and cell, none of which such a change touches: of two
frames that agree in all of these to `SAME_GEOMETRY`, they agree to a tolerance that is known. Frames beside one another
in order of fingerprints that do are few, and are compared in full.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from piwsl.data.survey import Survey

# Å: frames that agree so far in all distances are one; dimers with independent bond lengths come nearer than 1e-3.
SAME_GEOMETRY = 1e-5
FINGERPRINT = 3
# Of larger frames all distances would take longer than reading them.
MOST_ATOMS = 300
# Pairs that are compared in full; a file with more is full of copies, and fingerprints of the others are believed.
MOST_COMPARED = 10_000
# Of what a periodic frame is projected on; no lattice has it as an axis.
DIRECTION = np.sqrt([0.2, 0.3, 0.5])
# eV an atom: energies of one geometry and level that differ by more are not all right.
SAME_ENERGY_AN_ATOM = 1e-3


def fingerprint(atoms: Atoms) -> NDArray[np.float64]:
    """Return (3,) numbers, Å, that frames of one geometry have in common."""
    if atoms.pbc.any():
        box = np.concatenate([atoms.cell.array @ DIRECTION, atoms.pbc])
        return np.asarray(_weights(len(atoms)) @ np.concatenate([_in_order(_centred(atoms) @ DIRECTION, atoms), box]))
    found = np.asarray(_weights(len(atoms))[:, : len(atoms)] @ _radii(atoms))
    if 1 < len(atoms) <= MOST_ATOMS:  # radii know nothing of a turn about an axis through the centre
        found[0] += _mean_distance(atoms)
    return found


def tolerance(atoms: int) -> NDArray[np.float64]:
    """Return how far fingerprints of one geometry of so many atoms may differ, (3,), Å."""
    return SAME_GEOMETRY * (np.abs(_weights(atoms)).sum(axis=1) + (1.0, 0.0, 0.0))


@lru_cache(maxsize=64)
def _weights(atoms: int) -> NDArray[np.float64]:
    """Return (3, N + 6) weights of atoms and cell, which have no pattern that a geometry could have."""
    return np.cos(np.outer(np.arange(1, FINGERPRINT + 1), np.arange(1, atoms + 7)))


@lru_cache(maxsize=8)
def _pairs(atoms: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(atoms, 1)


def _mean_distance(atoms: Atoms) -> float:
    """Return the mean of the distances, Å, each with the product of the two atomic numbers as its weight."""
    first, second = _pairs(len(atoms))
    weights = atoms.numbers[first] * atoms.numbers[second]
    distances = np.sqrt(np.square(atoms.positions[first] - atoms.positions[second]).sum(axis=1))
    return float(weights @ distances / weights.sum())


def compared(survey: Survey) -> NDArray[np.int64]:
    """Return the rows of a survey whose frames `sets_of` asks for."""
    order, near = _neighbours(survey)
    places = np.flatnonzero(near)[:MOST_COMPARED]
    return np.union1d(order[places], order[places + 1])


def sets_of(survey: Survey, frame_of: Callable[[int], Atoms]) -> NDArray[np.int64]:
    """Return the number of the set that each frame is of, (M,): copies are of one, what has none is of its own.

    Args:
        survey: of the frames.
        frame_of: returns the frame of a row; asked for those of `compared` alone.
    """
    order, near = _neighbours(survey)
    for place in np.flatnonzero(near)[:MOST_COMPARED].tolist():
        near[place] = _are_same(frame_of(int(order[place])), frame_of(int(order[place + 1])))
    sets = np.zeros(len(survey), dtype=np.int64)
    sets[order[1:]] = np.cumsum(~near)
    return sets


def _neighbours(survey: Survey) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return rows, by formula and in order of fingerprints, and which (M - 1,) may have the geometry of the next."""
    order = np.lexsort((survey.fingerprints[:, 0], survey.formula))
    formula = survey.formula[order]
    near = formula[1:] == formula[:-1]
    allowed = np.array([tolerance(len(each.numbers)) for each in survey.formulas]).reshape(-1, FINGERPRINT)
    for column in range(FINGERPRINT):  # one after the other, for they may be of millions
        differences = np.abs(np.diff(survey.fingerprints[order, column]))
        near &= differences <= allowed[formula[1:], column]
    return order, near


def copied(sets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows that have copies, of sets as of `sets_of`."""
    return np.flatnonzero((np.bincount(sets) > 1)[sets])


def energy_ranges(survey: Survey, sets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far the energies of the copies of each frame are apart, (M,), eV; 0 where that is noise.

    Args:
        survey: of the frames.
        sets: of `sets_of`, of each frame.
    """
    order = np.argsort(sets, kind="stable")
    first = np.flatnonzero(np.diff(sets[order], prepend=-1))
    energies = survey.energies[order]
    apart = np.zeros(len(sets))
    apart[order] = np.repeat(
        np.nan_to_num(np.fmax.reduceat(energies, first) - np.fmin.reduceat(energies, first)),
        np.diff(first, append=len(sets)),
    )
    return np.where(apart > SAME_ENERGY_AN_ATOM * survey.sizes, apart, 0.0)


def _are_same(first: Atoms, second: Atoms) -> bool:
    if first.pbc.any() or second.pbc.any():
        return _are_same_crystal(first, second)
    return _close(_radii(first), _radii(second)) and _close(_distances(first), _distances(second))


def _are_same_crystal(first: Atoms, second: Atoms) -> bool:
    """Whether frames in one cell, shifted onto each other, have atoms of the same elements at the same places."""
    if not (np.array_equal(first.pbc, second.pbc) and _close(first.cell.array, second.cell.array)):
        return False
    # Elements are 1 Å apart, as a fourth coordinate.
    places, others = (np.column_stack([_centred(atoms), atoms.numbers]) for atoms in (first, second))
    distances, nearest = cKDTree(places).query(others)
    return bool(distances.max() < SAME_GEOMETRY) and len(np.unique(nearest)) == len(first)


def _close(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    return bool(np.abs(first - second).max(initial=0.0) < SAME_GEOMETRY)


def _centred(atoms: Atoms) -> NDArray[np.float64]:
    return np.asarray(atoms.positions - atoms.positions.mean(axis=0))


def _in_order(values: NDArray[np.float64], atoms: Atoms) -> NDArray[np.float64]:
    """Return values of atoms in order within each element, which no renumbering changes."""
    return values[np.lexsort((values, atoms.numbers))]


def _radii(atoms: Atoms) -> NDArray[np.float64]:
    """Return distances to the centre, Å, in order within each element; no turn, shift or renumbering changes them."""
    return _in_order(np.linalg.norm(_centred(atoms), axis=1), atoms)


def _distances(atoms: Atoms) -> NDArray[np.float64]:
    """Return all distances, Å, in order within each pair of elements."""
    order = np.argsort(atoms.numbers, kind="stable")
    numbers, positions = atoms.numbers[order], atoms.positions[order]
    first, second = _pairs(len(atoms))
    distances = np.linalg.norm(positions[first] - positions[second], axis=1)
    kinds = numbers[first] * len(chemical_symbols) + numbers[second]
    return distances[np.lexsort((distances, kinds))]
