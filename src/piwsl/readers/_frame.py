"""A frame of arrays: what several readers make of numbers. Absence becomes explicit here: no label is NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray


def frame_of(
    numbers: NDArray[Any],
    positions: NDArray[Any],
    info: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    cell: NDArray[Any] | None = None,
) -> Atoms:
    """Return a frame without what is not there: published files fill it with NaN.

    Args:
        numbers: (N,) atomic numbers.
        positions: (N, 3), Å.
        info: values of the frame by name.
        arrays: (N, 3) values of the atoms by name.
        cell: (3, 3) vectors in rows, Å, of a frame that is periodic in three directions.

    Raises:
        ValueError: numbers and positions are of different atoms.
    """
    if numbers.dtype.kind not in "iu" or positions.shape != (len(numbers), 3):
        raise ValueError(f"atomic numbers {numbers.dtype} {numbers.shape} do not fit positions {positions.shape}")
    atoms = Atoms(numbers.astype(np.int64), positions.astype(np.float64), cell=cell, pbc=cell is not None)
    atoms.info |= {name: value for name, value in info.items() if not _absent(value)}
    for name, values in arrays.items():
        if not _absent(values):
            atoms.set_array(name, values)
    return atoms


def _absent(value: Any) -> bool:
    """Whether nothing of a value is a number; one that is NaN in part is damaged, and is not left out."""
    found = np.asarray(value)
    return found.dtype.kind == "f" and bool(np.isnan(found).all())
