"""Datasets of sGDML: MD17 with its CCSD and CCSD(T) sets, MD22 (docs.sgdml.org, "Dataset file format").

Most state no unit, which is kcal/mol and Å then; one that a file states is taken at its word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.units import Bohr
from numpy.typing import NDArray

from piwsl.errors import PiwslError
from piwsl.readers import LabelNames, Reader
from piwsl.readers._frame import frame_of
from piwsl.readers._npz import Arrays
from piwsl.structures.units import ANGSTROMS, BOHRS, ENERGY_SPELLINGS, ENERGY_UNITS, canonical_unit

NUMBERS, POSITIONS, ENERGIES, FORCES, LATTICE = "z", "R", "E", "F", "lattice"
UNIT = "kcal/mol"
LENGTHS = dict.fromkeys(ANGSTROMS, 1.0) | dict.fromkeys(BOHRS, Bohr)
DATASET = "d"


class SGDML(Reader):
    """NPZ of `z`, `R` and, as far as there are any, `E`, `F` and a `lattice`."""

    suffixes = (".npz",)
    labels = LabelNames(energy_key=ENERGIES, forces_key=FORCES, energy_unit=UNIT, forces_unit=f"{UNIT}/Å")

    def count(self, path: Path) -> int:
        """Count the frames without reading them."""
        with Arrays(path) as arrays:
            return arrays.frames(arrays.first([POSITIONS], "positions"))

    def frames(self, path: Path, every: int = 1) -> Iterator[Atoms]:
        """Read frames one by one, in kcal/mol and Å.

        Raises:
            PiwslError: the file is a model or a task of sGDML's, states a unit that is not known, or is damaged.
        """
        with Arrays(path) as arrays:
            if (kind := arrays.text("type")) not in (None, DATASET):
                raise PiwslError(f"{path}: is of type '{kind}' to sGDML, no dataset ('{DATASET}')")
            energy_scale, length = _units(path, arrays)
            arrays.first([NUMBERS], "atomic numbers")
            numbers, cell = arrays.whole(NUMBERS), _cell(arrays, length)
            known = [name for name in (ENERGIES, FORCES) if name in arrays.headers]
            scales = {ENERGIES: energy_scale, FORCES: energy_scale / length}
            rows = [arrays.rows(name, every) for name in (arrays.first([POSITIONS], "positions"), *known)]
            for positions, *labels in zip(*rows, strict=True):
                found = {name: scales[name] * values for name, values in zip(known, labels, strict=True)}
                forces = {FORCES: found.pop(FORCES)} if FORCES in found else {}
                yield frame_of(numbers, length * positions, found, forces, cell)


def _units(path: Path, arrays: Arrays) -> tuple[float, float]:
    """Return what the unit of energy is in kcal/mol, and that of length in Å.

    Raises:
        PiwslError: one is stated and not known.
    """
    energy, length = arrays.text("e_unit") or UNIT, arrays.text("r_unit") or ANGSTROMS[0]
    name = canonical_unit(energy, ENERGY_SPELLINGS)
    if name not in ENERGY_UNITS or length.lower() not in LENGTHS:
        unknown = energy if name not in ENERGY_UNITS else length
        raise PiwslError(
            f"{path}: states the unit '{unknown[:40]}', which is not known; read it as format: npz, and say "
            "energy_key: E, energy_unit and forces_unit"
        )
    return ENERGY_UNITS[name] / ENERGY_UNITS[UNIT], LENGTHS[length.lower()]


def _cell(arrays: Arrays, length: float) -> NDArray[Any] | None:
    """Return the cell, which sGDML has with a vector a column, in Å."""
    return length * arrays.whole(LATTICE).T if LATTICE in arrays.headers else None
