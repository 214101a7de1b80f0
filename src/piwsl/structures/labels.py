"""Labels as numbers: what a frame holds under a name becomes an energy or forces, or is refused."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.errors import PiwslError

# Beyond any energy or force, in any unit that is in use; its square is still a number.
LARGEST_LABEL = 1e12


def energy_label(atoms: Atoms, key: str) -> float | None:
    """Return the energy that a frame's info holds under a name, or None where it holds nothing there.

    Raises:
        PiwslError: what it holds is not one finite number; True, text and complex numbers are none.
    """
    if key not in atoms.info:
        return None
    value = np.asarray(atoms.info[key]) if not isinstance(atoms.info[key], dict) else np.asarray("")
    if value.size != 1 or value.dtype.kind not in "iuf" or not _in_range(value):
        shown = repr(atoms.info[key] if value.size != 1 else value.item())
        raise PiwslError(f"{key} is {shown[:60]}, not a finite number")
    return float(value.item())


def forces_label(atoms: Atoms, key: str) -> NDArray[np.float64] | None:
    """Return the (N, 3) forces of a frame's column of a name, or None where it has no such column.

    Raises:
        PiwslError: the column is not of N x 3 finite numbers.
    """
    values = atoms.arrays.get(key)
    if values is None:
        return None
    if values.shape != (len(atoms), 3) or values.dtype.kind not in "iuf" or not _in_range(values):
        raise PiwslError(f"{key} must be {len(atoms)} x 3 finite numbers")
    return values.astype(np.float64)


def _in_range(values: NDArray[np.generic]) -> bool:
    return bool((np.abs(values.astype(np.float64)) <= LARGEST_LABEL).all())  # false for NaN, too
