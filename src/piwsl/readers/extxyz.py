"""Extended XYZ in eV and Å, with `REF_energy`, `REF_forces`, `REF_stress`, `WEAK_forces`: the pipeline's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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
        return iterate_frames(path, every)
