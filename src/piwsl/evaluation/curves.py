"""Energies along a scan: how a curve of a model compares with that of the reference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MILLI = 1000.0
Array = NDArray[np.float64]


class Ends(NamedTuple):
    """Between which two points of a scan a height is taken, by the reference."""

    low: int
    """Where the reference is lowest."""
    high: int
    """Where it has its barrier, as `ends_of` says."""


def ends_of(reference: Array, periodic: bool) -> Ends:
    """Say where a reference curve is lowest, and where its barrier is.

    The barrier is the highest point between others that are not higher; of a curve without such a point, as of a
    dissociation, the last one. Of a dihedral, whose first and last point may be barriers, it is the highest of all.

    Args:
        reference: (M,) energies in the order of the scan.
        periodic: whether the coordinate is a dihedral.
    """
    low = int(reference.argmin())
    if periodic or len(reference) < 3:
        return Ends(low, int(reference.argmax()))
    inner = reference[1:-1]
    tops = 1 + np.flatnonzero((inner >= reference[:-2]) & (inner > reference[2:]))
    return Ends(low, int(tops[reference[tops].argmax()]) if len(tops) else len(reference) - 1)


def curve_errors(reference: Array, energies: Array, ends: Ends) -> dict[str, float]:
    """Compare a curve with the reference; a constant between the two means nothing.

    Args:
        reference: (M,), eV.
        energies: (M,), eV, of the same geometries.
        ends: of the reference.

    Returns:
        height_meV, the energy at `ends.high` above that at `ends.low`; height_error_meV, that less the reference's;
        rmse_meV and largest_meV, of the differences less their mean.
    """
    height = MILLI * float(energies[ends.high] - energies[ends.low])
    errors = MILLI * (energies - reference)
    errors = errors - errors.mean()
    return {
        "height_meV": height,
        "height_error_meV": height - MILLI * float(reference[ends.high] - reference[ends.low]),
        "rmse_meV": float(np.sqrt(np.square(errors).mean())),
        "largest_meV": float(np.abs(errors).max()),
    }
