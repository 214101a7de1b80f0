"""Whether a frame is a geometry at all: elements, coordinates, cells, atoms on one another. No chemistry here."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray
from scipy.spatial import cKDTree

# Coordinates and lattice vectors beyond this many Å are typing errors.
FARTHEST = 1e4
# Å: atoms nearer than this lie on one another. Dimers on the repulsive wall are farther apart.
SHORTEST_DISTANCE = 0.1
# Å: no crystal repeats after less.
SHORTEST_PERIOD = 0.5
# Volume of a cell over that of a box of the same lengths, below which it is flat.
FLATTEST_CELL = 1e-4


def geometry_problem(atoms: Atoms) -> str | None:
    """Say why a frame cannot be computed with, or None where it can.

    Slabs and wires with empty directions, single atoms, left-handed lattice vectors, unwrapped coordinates, and
    molecules in boxes or torn apart are all in order.

    Args:
        atoms: the frame; positions and cell in Å.
    """
    return _place_problem(atoms) or overlap_problem(atoms)


def _place_problem(atoms: Atoms) -> str | None:
    if len(atoms) == 0:
        return "it has no atoms"
    return atom_problem(atoms) or _cell_problem(atoms)


def lies_on_itself(atoms: Atoms) -> bool:
    """Whether atoms on one another are all that a frame cannot be computed with for."""
    return _place_problem(atoms) is None and overlap_problem(atoms) is not None


def atom_problem(atoms: Atoms) -> str | None:
    """Say which atom is of no element or at no place, or None where all are: how they lie is not looked at.

    Args:
        atoms: the frame; positions in Å.
    """
    return _element_problem(atoms) or _position_problem(atoms)


def symbols_of(frames: list[Atoms]) -> set[str]:
    """Return the chemical symbols that occur in frames; an atomic number of no element has none."""
    numbers = {int(number) for atoms in frames for number in atoms.numbers}
    return {chemical_symbols[number] for number in numbers if 1 <= number < len(chemical_symbols)}


def _named(atoms: Atoms, index: int) -> str:
    return f"atom {index} ({chemical_symbols[atoms.numbers[index]]})"


def _element_problem(atoms: Atoms) -> str | None:
    known = (atoms.numbers >= 1) & (atoms.numbers < len(chemical_symbols))
    if known.all():
        return None
    first = int(np.argmin(known))
    return f"atom {first} has atomic number {atoms.numbers[first]}, which is no element"


def _position_problem(atoms: Atoms) -> str | None:
    with np.errstate(invalid="ignore"):
        near = (np.abs(atoms.positions) <= FARTHEST).all(axis=1)
    if near.all():
        return None
    first = int(np.argmin(near))
    where = ", ".join(f"{coordinate:g}" for coordinate in atoms.positions[first])
    finite = bool(np.isfinite(atoms.positions[first]).all())
    why = f"farther than {FARTHEST:g} Å from the origin" if finite else "which is no place"
    return f"{_named(atoms, first)} is at ({where}) Å, {why}"


def _cell_problem(atoms: Atoms) -> str | None:
    cell, pbc = np.asarray(atoms.cell), np.asarray(atoms.pbc)
    if not (np.abs(cell) <= FARTHEST).all():  # false for NaN, too
        return f"its cell holds {cell[~(np.abs(cell) <= FARTHEST)][0]:g} Å"
    lengths = np.linalg.norm(cell, axis=1)
    for axis in np.flatnonzero(pbc):
        if lengths[axis] == 0:
            return f"it is periodic along {'abc'[axis]}, but its cell has no such vector; say pbc or Lattice"
    # An open direction may do without a vector; one that is given must span space with the others.
    used = cell[pbc | (lengths > 0)] if pbc.any() else cell[:0]
    if len(used) > 1 and flatness(used) < FLATTEST_CELL:
        return f"the vectors of its cell lie in one {'line' if len(used) == 2 else 'plane'}"
    if pbc.any() and (period := np.linalg.norm(_lattice(atoms), axis=1).min()) < SHORTEST_PERIOD:
        return f"its cell repeats after {period:.3g} Å, nearer than any crystal; are its vectors in Å?"
    return None


def flatness(vectors: NDArray[np.float64]) -> float:
    """Return the volume that (D, 3) vectors span over the product of their lengths: 1 for a box, 0 without length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return volume(vectors / lengths) if lengths.all() else 0.0


def volume(vectors: NDArray[np.float64]) -> float:
    """Return the length, area or volume that (D, 3) vectors span."""
    return float(np.sqrt(max(np.linalg.det(vectors @ vectors.T), 0.0)))


def _heights(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far apart the planes (lines, points) of a lattice are, along each of its (D, 3) vectors; Å."""
    return 1.0 / np.linalg.norm(np.linalg.pinv(vectors), axis=0)


def _lattice(atoms: Atoms) -> NDArray[np.float64]:
    """Return (D, 3) vectors of the periodic directions, Å; reduced where they are so skewed that periods hide."""
    vectors = np.asarray(atoms.cell)[atoms.pbc]
    if len(vectors) == 0 or _heights(vectors).min() >= SHORTEST_PERIOD:
        return vectors
    full = np.zeros((3, 3))
    full[: len(vectors)] = vectors
    reduced, _ = minkowski_reduce(full, pbc=np.arange(3) < len(vectors))
    return np.asarray(reduced)[: len(vectors)]


def overlap_problem(atoms: Atoms) -> str | None:
    """Say which two atoms lie on one another, images of them included, or None where none do; places are in order."""
    pairs, distances = near_pairs(atoms, SHORTEST_DISTANCE)
    if len(pairs) == 0:
        return None
    nearest = int(np.argmin(distances))
    first, second = sorted(pairs[nearest].tolist())
    return f"{_named(atoms, first)} and {_named(atoms, second)} are {distances[nearest]:.3f} Å apart"


def near_pairs(atoms: Atoms, reach: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the atoms that are near each other or an image of each other; some pairs may be there more than once.

    Args:
        atoms: the frame; places are in order.
        reach: how near, Å.

    Returns:
        (P, 2) indices, an atom beside its own image twice the same, and (P,) distances, Å.
    """
    points, origins = _with_images(atoms, reach)
    pairs = cKDTree(points).query_pairs(reach, output_type="ndarray")
    return origins[pairs], np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)


def _with_images(atoms: Atoms, reach: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the atoms, wrapped, and images as far as `reach` above the cell, with the atom that each belongs to."""
    points, origins = atoms.positions, np.arange(len(atoms))
    vectors = _lattice(atoms)
    if len(vectors) == 0:
        return points, origins
    inverse = np.linalg.pinv(vectors)
    points = points - np.floor(points @ inverse) @ vectors
    for axis, margin in enumerate(reach / _heights(vectors)):
        along = (points @ inverse)[:, axis]
        images = [(period, along + period < 1 + margin) for period in range(1, 1 + int(np.ceil(margin)))]
        points = np.concatenate([points, *(points[near] + period * vectors[axis] for period, near in images)])
        origins = np.concatenate([origins, *(origins[near] for _, near in images)])
    return points, origins
