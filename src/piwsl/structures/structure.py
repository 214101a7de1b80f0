"""One structure with its labels, as datasets keep it and potentials see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, WEAK_FORCES_KEY
from piwsl.structures.labels import energy_label, forces_label


@dataclass(frozen=True)
class Structure:
    """One frame of a dataset."""

    numbers: NDArray[np.int64]
    """(N,) atomic numbers."""
    positions: NDArray[np.float64]
    """(N, 3), Å."""
    cell: NDArray[np.float64]
    """(3, 3), Å; rows are lattice vectors."""
    pbc: NDArray[np.bool_]
    """(3,)."""
    energy: float
    """eV; NaN where there is none."""
    forces: NDArray[np.float64] | None
    """(N, 3), eV/Å; None where there are none."""
    weak_forces: NDArray[np.float64] | None = None
    """(N, 3), eV/Å, of a cheaper level; None where there are none."""

    def atoms(self) -> Atoms:
        """Return the geometry as ASE's Atoms, without labels."""
        return Atoms(self.numbers, self.positions, cell=self.cell, pbc=self.pbc)


def from_atoms(atoms: Atoms) -> Structure:
    """Make a structure of a frame; labels are taken from `REF_energy`, `REF_forces`, `WEAK_forces` where they are.

    Raises:
        PiwslError: a label is there but is no number.
    """
    energy = energy_label(atoms, ENERGY_KEY)
    return Structure(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        cell=np.asarray(atoms.cell, dtype=np.float64),
        pbc=np.asarray(atoms.pbc, dtype=bool),
        energy=np.nan if energy is None else energy,
        forces=forces_label(atoms, FORCES_KEY),
        weak_forces=forces_label(atoms, WEAK_FORCES_KEY),
    )
