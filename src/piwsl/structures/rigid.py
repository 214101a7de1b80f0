"""Translations and rotations of a structure: displacements that no energy notices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A rotation that moves the atoms by less than this share of the largest is none: the structure is linear.
LINEAR = 1e-6


def rigid_motions(positions: NDArray[np.float64], masses: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return orthonormal displacements that span the translations and rotations of an isolated structure.

    Args:
        positions: (N, 3), Å.
        masses: (N,); with them the displacements are mass-weighted.

    Returns:
        (R, 3N): R is 6, of linear structures 5, of a single atom 3.
    """
    atoms = len(positions)
    centred = positions - np.average(positions, axis=0, weights=masses)
    axes = np.eye(3)
    translations = np.stack([np.tile(axis, (atoms, 1)) for axis in axes])
    rotations = np.stack([np.cross(axis, centred) for axis in axes])
    roots = np.ones(atoms) if masses is None else np.sqrt(masses)
    rigid = (np.concatenate([translations, rotations]) * roots[None, :, None]).reshape(6, 3 * atoms)
    _, singular, vectors = np.linalg.svd(rigid, full_matrices=False)
    found: NDArray[np.float64] = vectors[singular > LINEAR * singular.max()]
    return found


def internal_degrees(positions: NDArray[np.float64]) -> int:
    """Return how many directions are left beside `rigid_motions`: 3N - 6, of linear structures 3N - 5, of an atom 0.

    Args:
        positions: (N, 3), Å.
    """
    return positions.size - len(rigid_motions(positions))
