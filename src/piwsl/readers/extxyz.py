"""Extended XYZ in eV and Å, with `REF_energy`, `REF_forces`, `REF_stress`, `WEAK_forces`: the pipeline's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms

from piwsl.readers import Reader
from piwsl.structures.extxyz import count_frames, iterate_frames


class ExtendedXYZ(Reader):
    """Text, with a line of keys and values before the atoms of each frame."""

    suffixes = (".xyz", ".extxyz")

    def count(self, path: Path) -> int:
        """Count the frames without parsing their content."""
        return count_frames(path)

    def frames(self, path: Path, every: int = 1) -> Iterator[Atoms]:
        """Read frames one by one; what stands on the comment line is in `info`, each column in `arrays`."""
        return map(_with_their_directions, iterate_frames(path, every))


def _with_their_directions(atoms: Atoms) -> Atoms:
    """Return a frame that is periodic as its `PBC` says, as KLIFF and others write what is `pbc` in extended XYZ.

    Raises:
        ValueError: it does not say yes or no of each direction.
    """
    for key in [key for key in atoms.info if key.lower() == "pbc"]:
        directions = np.asarray(atoms.info.pop(key))
        if directions.shape not in ((), (3,)) or directions.dtype.kind not in "bi":
            raise ValueError(f"{key} is not three of T and F")
        atoms.pbc = directions.astype(bool)
    return atoms
