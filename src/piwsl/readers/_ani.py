"""ANI-1x and ANI-1ccx, which are one HDF5 file (Smith et al. 2020, doi:10.1038/s41597-020-0473-z, table 3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
from ase import Atoms
from ase.units import Hartree
from numpy.typing import NDArray

from piwsl.readers import Reader
from piwsl.readers._frame import frame_of
from piwsl.readers._hdf5 import blocks, checked_rows, molecules, named
from piwsl.structures.labels import label_key

NUMBERS, POSITIONS = "atomic_numbers", "coordinates"
# Levels that have total energies, and forces of some; parts of an energy (`mp2_dz.corr_energy`) are no labels.
ENERGIES = ("wb97x_dz", "wb97x_tz", "ccsd(t)_cbs", "hf_dz", "hf_tz", "hf_qz")
FORCES = ("wb97x_dz", "wb97x_tz")


class ANI(Reader):
    """Conformations with labels of several levels, each of which some lack: NaN in the file, absent in the frame.

    All are converted here, Hartree to eV and Hartree/Å to eV/Å, for frames hold labels of named levels in our units.
    """

    suffixes = (".h5", ".hdf5")
    needed: ClassVar[str]
    """Level without whose energy a conformation is passed over."""

    def count(self, path: Path) -> int:
        """Count the conformations that have an energy of the level that is needed."""
        with molecules(path, (NUMBERS, POSITIONS)) as groups:
            return sum(len(self._indices(path, group)) for group in groups)

    def frames(self, path: Path, every: int = 1) -> Iterator[Atoms]:
        """Read frames one by one.

        Yields:
            Frames with the labels of each level under its name: `wb97x_dz_energy`, `wb97x_dz_forces`, ..., and
            `molecule`, the name of their group.
        """
        passed = 0
        with molecules(path, (NUMBERS, POSITIONS)) as groups:
            for group in groups:
                indices = self._indices(path, group)
                yield from _frames(group, indices[-passed % every :: every])
                passed += len(indices)

    def _indices(self, path: Path, group: h5py.Group) -> NDArray[np.int64]:
        checked_rows(path, group, POSITIONS, [*_arrays(group)])
        energies = f"{self.needed}.energy"
        found = group[energies][()] if energies in group else np.full(len(group[POSITIONS]), np.nan)
        return np.flatnonzero(np.isfinite(found))


def _arrays(group: h5py.Group) -> dict[str, str]:
    """Return the names of the labels that a molecule has, by those of their arrays."""
    energies = {f"{level}.energy": label_key(level, "energy") for level in ENERGIES}
    forces = {f"{level}.forces": label_key(level, "forces") for level in FORCES}
    return {array: name for array, name in (energies | forces).items() if array in group}


def _frames(group: h5py.Group, indices: NDArray[np.int64]) -> Iterator[Atoms]:
    numbers, names, said = group[NUMBERS][()], _arrays(group), named(group)
    for block in blocks(group, [POSITIONS, *names], indices):
        positions = block.pop(POSITIONS)
        labels = {names[array]: Hartree * values.astype(np.float64) for array, values in block.items()}
        for row, each in enumerate(positions):
            found = {name: values[row] for name, values in labels.items()}
            arrays = {name: values for name, values in found.items() if values.ndim}
            info = {name: value for name, value in found.items() if name not in arrays}
            yield frame_of(numbers, each, said | info, arrays)
