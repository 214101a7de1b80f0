"""Forces of levels without analytic gradients: central differences of the energy along internal directions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

# Truncation error is step²/6 times the third derivative: 3e-4 eV/Å for C=O stretching, 3e-5 eV/Å for ammonia; a
# shorter step gains nothing against the convergence of the coupled-cluster amplitudes.
STEP_ANGSTROM = 0.001


def internal_directions(
    positions: NDArray[np.float64], masses: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return orthonormal displacements that neither translate nor rotate the structure.

    An energy that is invariant under translation and rotation has no slope along those, so its gradient lies
    in the space of the others: 3N - 6 of them (3N - 5 for a linear structure) instead of 3N.

    Args:
        positions: (N, 3), Å.
        masses: (N,); with them the directions are those of mass-weighted displacements.

    Returns:
        (K, N, 3), each of unit norm.
    """
    atoms = len(positions)
    centred = positions - np.average(positions, axis=0, weights=masses)
    axes = np.eye(3)
    translations = np.stack([np.tile(axis, (atoms, 1)) for axis in axes])
    rotations = np.stack([np.cross(axis, centred) for axis in axes])
    roots = np.ones(atoms) if masses is None else np.sqrt(masses)
    rigid = (np.concatenate([translations, rotations]) * roots[None, :, None]).reshape(6, 3 * atoms)
    _, singular, vectors = np.linalg.svd(rigid, full_matrices=True)
    rank = int((singular > 1e-6 * singular.max()).sum())
    return vectors[rank:].reshape(-1, atoms, 3)


def central_difference_forces(
    atoms: Atoms, energy: Callable[[Atoms], float], step: float = STEP_ANGSTROM
) -> NDArray[np.float64]:
    """Differentiate an isolated structure's energy numerically.

    F = -Σ_k u_k [E(r + h u_k) - E(r - h u_k)] / (2 h) over the internal directions u_k; the error is O(h²).

    Args:
        atoms: the structure, Å.
        energy: gives eV; must be invariant under translation and rotation.
        step: h, Å.

    Returns:
        (N, 3), eV/Å.
    """
    forces = np.zeros_like(atoms.positions)
    for direction in internal_directions(atoms.positions):
        ahead, behind = atoms.copy(), atoms.copy()
        ahead.positions += step * direction
        behind.positions -= step * direction
        forces -= direction * (energy(ahead) - energy(behind)) / (2 * step)
    return forces
