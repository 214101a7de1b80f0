"""Revised MD17: one molecule a file, PBE/def2-SVP, kcal/mol (Christensen and von Lilienfeld 2020, arXiv:2007.09593).

Energies and forces of the original MD17, which stand beside (`old_energies`, `old_forces`), are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ase import Atoms

from piwsl.readers import LabelNames, Reader
from piwsl.readers._frame import frame_of
from piwsl.readers._npz import Arrays

NUMBERS, POSITIONS, ENERGIES, FORCES = "nuclear_charges", "coords", "energies", "forces"


class RevisedMD17(Reader):
    """NPZ of `nuclear_charges`, `coords` in Å, `energies`, `forces`."""

    suffixes = (".npz",)
    labels = LabelNames(energy_key=ENERGIES, forces_key=FORCES, energy_unit="kcal/mol", forces_unit="kcal/mol/Å")

    def count(self, path: Path) -> int:
        """Count the frames without reading them."""
        with Arrays(path) as arrays:
            return arrays.frames(arrays.first([POSITIONS], "positions"))

    def frames(self, path: Path, every: int = 1) -> Iterator[Atoms]:
        """Read frames one by one."""
        with Arrays(path) as arrays:
            for name in (NUMBERS, POSITIONS, ENERGIES, FORCES):
                arrays.first([name], name)
            numbers = arrays.whole(NUMBERS)
            columns = (arrays.rows(name, every) for name in (POSITIONS, ENERGIES, FORCES))
            for positions, energy, forces in zip(*columns, strict=True):
                yield frame_of(numbers, positions, {ENERGIES: energy}, {FORCES: forces})
