"""SPICE: ωB97M-D3(BJ)/def2-TZVPPD of drug-like molecules, HDF5 in atomic units.

Eastman et al. 2023, doi:10.1038/s41597-022-01882-6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from ase.units import Bohr
from numpy.typing import NDArray

from piwsl.readers import LabelNames, Reader
from piwsl.readers._frame import frame_of
from piwsl.readers._hdf5 import blocks, checked_rows, molecules, named

NUMBERS, POSITIONS, SMILES, SUBSET = "atomic_numbers", "conformations", "smiles", "subset"
ENERGY, GRADIENT, FORMATION = "dft_total_energy", "dft_total_gradient", "formation_energy"
FORCES = "dft_total_forces"
# Of an atom in brackets, the charge, before its number in the map: [N+:3], [Ca+2:1], [O--].
CHARGE = re.compile(r"\[[^\]]*?(\++|-+)(\d*)(?::\d+)?\]")


class SPICE(Reader):
    """A group a molecule, with `conformations` in Bohr, energies in Hartree, gradients in Hartree/Bohr."""

    suffixes = (".h5", ".hdf5")
    labels = LabelNames(energy_key=ENERGY, forces_key=FORCES, energy_unit="Hartree", forces_unit="Hartree/Bohr")

    def count(self, path: Path) -> int:
        """Count the conformations without reading them."""
        with molecules(path, (NUMBERS, POSITIONS)) as groups:
            return sum(checked_rows(path, group, POSITIONS, _known(group)) for group in groups)

    def frames(self, path: Path, every: int = 1) -> Iterator[Atoms]:
        """Read frames one by one.

        Yields:
            Frames with `dft_total_energy`, `formation_energy`, `dft_total_forces`, which are minus the gradient, the
            total charge, which the SMILES says, `molecule`, the name of their group, and `subset`.
        """
        passed = 0
        with molecules(path, (NUMBERS, POSITIONS)) as groups:
            for group in groups:
                count = checked_rows(path, group, POSITIONS, _known(group))
                yield from _frames(group, np.arange(count)[-passed % every :: every])
                passed += count


def _known(group: h5py.Group) -> list[str]:
    return [name for name in (ENERGY, FORMATION, GRADIENT) if name in group]


def _frames(group: h5py.Group, indices: NDArray[np.int64]) -> Iterator[Atoms]:
    numbers, names, said = group[NUMBERS][()], _known(group), _said(group)
    for block in blocks(group, [POSITIONS, *names], indices):
        for row, positions in enumerate(block[POSITIONS]):
            info: dict[str, Any] = {name: block[name][row] for name in names if name != GRADIENT}
            arrays = {FORCES: -block[GRADIENT][row]} if GRADIENT in names else {}
            yield frame_of(numbers, Bohr * positions, said | info, arrays)


def _said(group: h5py.Group) -> dict[str, Any]:
    """Return what is said of a molecule, of all its conformations."""
    said: dict[str, Any] = dict(named(group))
    if SMILES in group:
        said["charge"] = _charge(_text(group[SMILES]))
    subset = group.get(SUBSET)
    if isinstance(subset, h5py.Dataset) and h5py.check_string_dtype(subset.dtype) and subset.size:
        said[SUBSET] = _text(subset)
    return said


def _text(dataset: h5py.Dataset) -> str:
    """Return what an array of one text says."""
    return str(np.asarray(dataset.asstr()[()]).ravel()[0])


def _charge(smiles: str) -> int:
    """Return the sum of the formal charges of a SMILES, e."""
    found = CHARGE.findall(smiles)
    return sum((1 if signs[0] == "+" else -1) * int(number or len(signs)) for signs, number in found)
