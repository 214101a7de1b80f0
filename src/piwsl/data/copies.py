"""Frames of one geometry, turned, shifted or renumbered: found by fingerprints, and compared atom by atom.

Fingerprints are sums over radii, distances and cell, none of which such a change touches: of two frames that agree in
all of these to `SAME_GEOMETRY`, they agree to a tolerance that is known. Frames beside one another in order of
fingerprints that do are few, and are compared in full.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

if TYPE_CHECKING:
    from piwsl.data.survey import Survey

# Å: frames that agree so far in all distances are one; dimers with independent bond lengths come nearer than 1e-3.
SAME_GEOMETRY = 1e-5
FINGERPRINT = 3
# Of larger frames all distances would take longer than reading them.
MOST_ATOMS = 300
# Pairs that are compared in full; a file with more is full of copies, and fingerprints of the others are believed.
MOST_COMPARED = 10_000


def fingerprint(atoms: Atoms) -> NDArray[np.float64]:
    """Return (3,) numbers, Å, that frames of one geometry have in common."""
    found = np.asarray(_weights(len(atoms)) @ np.concatenate([_radii(atoms), _cell(atoms)]))
    if 1 < len(atoms) <= MOST_ATOMS:  # radii know nothing of a turn about an axis through the centre
        found[0] += _mean_distance(atoms)
    return found


def tolerance(atoms: int) -> NDArray[np.float64]:
    """Return how far fingerprints of one geometry of so many atoms may differ, (3,), Å."""
    return SAME_GEOMETRY * (np.abs(_weights(atoms)).sum(axis=1) + (1.0, 0.0, 0.0))


@lru_cache(maxsize=64)
def _weights(atoms: int) -> NDArray[np.float64]:
    """Return (3, N + 6) weights of radii and cell, which have no pattern that a geometry could have."""
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


def _are_same(first: Atoms, second: Atoms) -> bool:
    return _close(_radii(first), _radii(second)) and _close(_distances(first), _distances(second))


def _close(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    return bool(np.abs(first - second).max(initial=0.0) < SAME_GEOMETRY)


def _radii(atoms: Atoms) -> NDArray[np.float64]:
    """Return distances to the centre, Å, in order within each element; no turn, shift or renumbering changes them."""
    radii = np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0), axis=1)
    return radii[np.lexsort((radii, atoms.numbers))]


def _cell(atoms: Atoms) -> NDArray[np.float64]:
    """Return lengths and angles of the cell, (6,), Å and °; zeros where nothing is periodic."""
    return np.asarray(atoms.cell.cellpar()) if atoms.pbc.any() else np.zeros(6)


def _distances(atoms: Atoms) -> NDArray[np.float64]:
    """Return all distances, Å, in order within each pair of elements; of periodic frames the cell's Å and °, too."""
    order = np.argsort(atoms.numbers, kind="stable")
    numbers, positions = atoms.numbers[order], atoms.positions[order]
    first, second = _pairs(len(atoms))
    distances = np.linalg.norm(positions[first] - positions[second], axis=1)
    kinds = numbers[first] * len(chemical_symbols) + numbers[second]
    return np.concatenate([distances[np.lexsort((distances, kinds))], _cell(atoms)])
