"""Energies of compositions: what the elements of structures say of their energy, wherever the atoms are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fit_atomic_energies(counts: NDArray[np.float64], energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit one energy an element to total energies: least squares, of smallest norm where compositions leave it open.

    Args:
        counts: (M, K) atoms of each element.
        energies: (M,), eV.

    Returns:
        (K,), eV.
    """
    solution, *_ = np.linalg.lstsq(counts, energies, rcond=None)
    return np.asarray(solution, dtype=np.float64)
