"""One structure with its labels, as datasets keep it and potentials see it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.structures.frames import charge_of, multiplicity_of
from piwsl.structures.labels import REFERENCE, WEAK, Labels, Slope, labels_of

NO_LABELS = Labels()
# In a frame's info: where on a scan it is.
COORDINATE_KEY = "scan_coordinate"
# Likewise: what it belongs to, such as a trajectory or a molecule.
GROUP_KEY = "group"


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
    labels: Mapping[str, Labels] = field(default_factory=dict)
    """By name of the level."""
    charge: int = 0
    """Total charge, e; only cheap levels ask for it."""
    multiplicity: int = 1
    """2S + 1."""
    temperature: float = math.nan
    """K, that it was sampled at; NaN where nobody said."""
    coordinate: float = math.nan
    """Where on a scan it is, in the unit of that; NaN of what is of none."""
    group: str | None = None
    """What it belongs to, such as a trajectory or a molecule; None where nobody said."""

    def at_level(self, level: str) -> Labels:
        """Return the labels of a level; of one that says nothing, none."""
        return self.labels.get(level, NO_LABELS)

    @property
    def energy(self) -> float:
        """Of the reference level, eV; NaN where there is none."""
        energy = self.at_level(REFERENCE).energy
        return math.nan if energy is None else energy

    @property
    def forces(self) -> NDArray[np.float64] | None:
        """Of the reference level, (N, 3), eV/Å."""
        return self.at_level(REFERENCE).forces

    @property
    def stress(self) -> NDArray[np.float64] | None:
        """Of the reference level, (3, 3), eV/Å³."""
        return self.at_level(REFERENCE).stress

    @property
    def slope(self) -> Slope | None:
        """Of the energy of the reference level along one direction."""
        return self.at_level(REFERENCE).slope

    def labelled(self, level: str, labels: Labels) -> Structure:
        """Return the structure with other labels of one level."""
        return replace(self, labels={**self.labels, level: labels})

    def is_like(self, other: Structure) -> bool:
        """Whether another structure has the same atoms in the same order, periodic directions and periods."""
        return (
            np.array_equal(self.numbers, other.numbers)
            and np.array_equal(self.pbc, other.pbc)
            and np.allclose(self.cell[self.pbc], other.cell[other.pbc])
        )

    def atoms(self) -> Atoms:
        """Return the geometry as ASE's Atoms, without labels; charge and multiplicity stand in its info."""
        info = {"charge": self.charge, "multiplicity": self.multiplicity}
        return Atoms(self.numbers, self.positions, cell=self.cell, pbc=self.pbc, info=info)

    def less(self, level: str, scale: float = 1.0) -> Structure:
        """Return the structure with what a level, times a scale, leaves of the labels of all others, its own apart."""
        theirs = self.at_level(level).times(scale)
        rest = {name: labels if name == level else labels.less(theirs) for name, labels in self.labels.items()}
        return replace(self, labels=rest)


def from_atoms(atoms: Atoms, levels: Sequence[str] = (REFERENCE, WEAK), electrons: bool = True) -> Structure:
    """Make a structure of a frame; labels are taken from `REF_energy`, `WEAK_forces` and their like where they are.

    Args:
        atoms: the frame.
        levels: whose labels are looked for; absent ones are noted as absent.
        electrons: whether charge and multiplicity are looked at; where no level is computed, nobody asks for them.

    Raises:
        PiwslError: a label is there but is no number, or charge or multiplicity is no whole number.
    """
    return Structure(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        cell=np.asarray(atoms.cell, dtype=np.float64),
        pbc=np.asarray(atoms.pbc, dtype=bool),
        labels={level: labels_of(atoms, level) for level in levels},
        charge=charge_of(atoms) if electrons else 0,
        multiplicity=multiplicity_of(atoms) if electrons else 1,
        temperature=_number(atoms.info.get("temperature")),
        coordinate=_number(atoms.info.get(COORDINATE_KEY)),
        group=group_name(atoms.info.get(GROUP_KEY)),
    )


def _number(said: object) -> float:
    """Return a number that a frame says, NaN where it says none."""
    return float(said) if isinstance(said, int | float | np.integer | np.floating) else math.nan


def group_name(said: object) -> str | None:
    """Return the name of a group as text, alike however it is written; None of what is neither text nor a number.

    300, 300.0 and "300" are one group, and so are texts that Unicode holds for the same.
    """
    if isinstance(said, str):
        return unicodedata.normalize("NFC", said)
    if isinstance(said, bool | np.bool_):
        return str(bool(said))
    if isinstance(said, Integral):
        return str(int(said))
    if isinstance(said, Real) and math.isfinite(number := float(said)):
        return str(int(number)) if number.is_integer() else repr(number)
    return None
