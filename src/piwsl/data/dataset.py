"""The dataset file: flat arrays with offsets in HDF5, opened without reading it. Absent labels are NaN and flagged.

Layout: numbers, positions, forces, weak_forces are (sum of N, ...), cut by `offsets` (M + 1,); cell, pbc, energy,
has_forces, has_weak_forces and part are per frame; atomic_numbers and atomic_energies (may be empty) are of free atoms
at the level of the labels.
Units: eV, Å, eV/Å.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.errors import PiwslError
from piwsl.files import write_atomically
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, WEAK_FORCES_KEY
from piwsl.structures.labels import energy_label, forces_label
from piwsl.structures.structure import Structure, from_atoms

TRAINING, TEST = "training", "test"
PARTS = (TRAINING, TEST)


def check_labels(frames: list[Atoms], source: str) -> None:
    """Check that every frame has an energy and that all labels are finite.

    Args:
        frames: labelled frames.
        source: where they come from, for messages.

    Raises:
        PiwslError: names the frame and what is wrong with it.
    """
    for position, atoms in enumerate(frames):
        try:
            if energy_label(atoms, ENERGY_KEY) is None:
                raise PiwslError(f"has no {ENERGY_KEY}")
            for key in (FORCES_KEY, WEAK_FORCES_KEY):
                forces_label(atoms, key)
        except PiwslError as error:
            raise PiwslError(f"{source}: frame {position}: {error}") from None


def write_dataset(path: Path, frames: dict[str, list[Atoms]], atomic_energies: dict[int, float] | None = None) -> None:
    """Write labelled frames as one dataset file, atomically.

    Args:
        path: the file to write.
        frames: for "training" and "test", the frames; labels in `REF_energy` (eV), `REF_forces` and `WEAK_forces`
            (eV/Å).
        atomic_energies: of free atoms at the level of the labels, eV by atomic number, where they are known.
    """
    free_atoms = atomic_energies or {}
    structures = [(part, from_atoms(atoms)) for part in PARTS for atoms in frames[part]]
    sizes = [len(structure.numbers) for _, structure in structures]

    def forces_or_nan(forces: NDArray[np.float64] | None, structure: Structure) -> NDArray[np.float64]:
        return np.full_like(structure.positions, np.nan) if forces is None else forces

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            file.attrs["units"] = "eV, Å, eV/Å"
            file["offsets"] = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            file["numbers"] = np.concatenate([s.numbers for _, s in structures])
            file["positions"] = np.concatenate([s.positions for _, s in structures])
            file["forces"] = np.concatenate([forces_or_nan(s.forces, s) for _, s in structures])
            file["weak_forces"] = np.concatenate([forces_or_nan(s.weak_forces, s) for _, s in structures])
            file["cell"] = np.stack([s.cell for _, s in structures])
            file["pbc"] = np.stack([s.pbc for _, s in structures])
            file["energy"] = np.array([s.energy for _, s in structures])
            file["has_forces"] = np.array([s.forces is not None for _, s in structures])
            file["has_weak_forces"] = np.array([s.weak_forces is not None for _, s in structures])
            file["atomic_numbers"] = np.array(list(free_atoms), dtype=np.int64)
            file["atomic_energies"] = np.array(list(free_atoms.values()), dtype=np.float64)
            file["part"] = np.array([PARTS.index(part) for part, _ in structures], dtype=np.int8)

    write_atomically(path, write)


class Dataset:
    """A dataset file, open for reading frame by frame."""

    def __init__(self, path: Path) -> None:
        """Open the file; frames are read when asked for."""
        self._file = h5py.File(path, "r")
        self._offsets = self._file["offsets"][:]
        self._part = self._file["part"][:]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._part)

    def indices(self, part: str) -> NDArray[np.int64]:
        """Return the indices of the frames of "training" or "test"."""
        return np.flatnonzero(self._part == PARTS.index(part))

    def elements(self) -> list[int]:
        """Return the atomic numbers that occur in any frame."""
        return np.unique(self._file["numbers"][:]).tolist()

    def atomic_energies(self) -> dict[int, float]:
        """Return the energies of free atoms at the level of the labels, eV by atomic number, where they are known."""
        numbers, energies = self._file["atomic_numbers"][:], self._file["atomic_energies"][:]
        return dict(zip(numbers.tolist(), energies.tolist(), strict=True))

    def structure(self, index: int) -> Structure:
        """Read one frame."""
        start, stop = self._offsets[index], self._offsets[index + 1]
        return Structure(
            numbers=self._file["numbers"][start:stop],
            positions=self._file["positions"][start:stop],
            cell=self._file["cell"][index],
            pbc=self._file["pbc"][index],
            energy=float(self._file["energy"][index]),
            forces=self._file["forces"][start:stop] if self._file["has_forces"][index] else None,
            weak_forces=self._file["weak_forces"][start:stop] if self._file["has_weak_forces"][index] else None,
        )

    def structures(self, indices: NDArray[np.int64]) -> list[Structure]:
        """Read several frames, in the order of the indices."""
        return [self.structure(int(index)) for index in indices]


def content_hash(structures: list[Structure]) -> str:
    """Return a hash of geometries and labels, in order."""
    digest = hashlib.sha256()
    for structure in structures:
        for array in (
            structure.numbers,
            structure.positions,
            structure.cell,
            structure.pbc,
            structure.forces,
            structure.weak_forces,
        ):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        digest.update(np.float64(structure.energy).tobytes())
    return digest.hexdigest()[:16]
