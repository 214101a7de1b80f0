"""The dataset file: flat arrays with offsets in HDF5, opened without reading it.

Layout: numbers and positions are (sum of N, ...), cut by `offsets` (M + 1,); cell, pbc, charge (e), multiplicity and
part are per frame. The group `labels` has one group a level ("reference", "weak", names of cheap levels), with energy
(M,), forces (sum of N, 3) and stress (M, 3, 3), each only where any frame has it, and `has_energy`, ... (M,) beside it:
which frames do; of the others there is NaN; likewise slope (M,), of the energy along direction (sum of N, 3), a unit
vector, with `has_slope`; and `weight` (M,) where labels of some frames count for less.
atomic_numbers and atomic_energies (may be empty) are of free atoms at the reference level; elements are the atomic
numbers that occur in labelled frames; `temperature` (M,), K, is that of sampling, and `coordinate` (M,) where on a scan
a frame is, NaN where nobody said, and left out where nobody said it of any. Frames of the pool, the third part, have no
labels of that level but those that a teacher gave them. `digests` (M, 32) are the SHA-256 of each frame, compared when
it is read; the attribute `digest` is that of all that is not a frame's own, `digests` included, compared when the file
is opened. The attribute `warnings` is a list of what looks odd about the data, as JSON. Units: eV, Å, eV/Å, eV/Å³.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.errors import PiwslError
from piwsl.files import REFUSALS, write_atomically
from piwsl.structures.frames import ENERGY_KEY
from piwsl.structures.labels import QUANTITIES, REFERENCE, WEAK, Labels, Quantity, Slope, labels_of
from piwsl.structures.structure import Structure, from_atoms

TRAINING, TEST, POOL = "training", "test", "pool"
PARTS = (TRAINING, TEST, POOL)
# Raised where a reader of the last version would misread the file.
FORMAT = 4
# What tells about all frames: read at once, and hashed together.
COMMON = ("offsets", "part", "elements", "atomic_numbers", "atomic_energies", "digests")
BY_ATOM = ("numbers", "positions")
BY_FRAME = ("cell", "pbc", "charge", "multiplicity")
LABELS_BY_ATOM = ("forces", "direction")
# Of a frame, where anybody said them.
NUMBERS = ("temperature", "coordinate")
FRAMES_AT_ONCE = 1000


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
            if labels_of(atoms, REFERENCE).energy is None:
                raise PiwslError(f"has no {ENERGY_KEY}")
            labels_of(atoms, WEAK)
        except PiwslError as error:
            raise PiwslError(f"{source}: frame {position}: {error}") from None


def write_dataset(
    path: Path,
    frames: dict[str, list[Atoms]],
    atomic_energies: dict[int, float] | None = None,
    warnings: Sequence[str] = (),
    cheap_levels: Sequence[str] = (),
) -> None:
    """Write labelled frames, and those of the pool, as one dataset file, atomically.

    Args:
        path: the file to write.
        frames: for "training", "test" and, where there is one, "pool", the frames; labels in `REF_energy` (eV),
            `REF_forces` and `WEAK_forces` (eV/Å), `REF_stress` (eV/Å³), `REF_slope` (eV/Å) along `REF_direction`,
            in the pool `WEAK_forces` alone.
        atomic_energies: of free atoms at the level of the labels, eV by atomic number, where they are known.
        warnings: what looks odd about the data, for the report.
        cheap_levels: names of further levels, whose labels stand in the frames as `NAME_energy`, `NAME_forces`.
    """
    levels = (REFERENCE, WEAK, *cheap_levels)
    structures = {part: [from_atoms(atoms, levels) for atoms in found] for part, found in frames.items()}
    write_structures(path, structures, atomic_energies, warnings)


def write_structures(
    path: Path,
    parts: Mapping[str, Sequence[Structure]],
    atomic_energies: Mapping[int, float] | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Write structures with their labels as one dataset file, atomically; other arguments as of `write_dataset`.

    Args:
        path: the file to write.
        parts: for "training", "test" and "pool", those that there are.
        atomic_energies: of free atoms.
        warnings: what looks odd.
    """
    free_atoms = atomic_energies or {}
    structures = [(part, structure) for part in PARTS for structure in parts.get(part, [])]
    sizes = [len(structure.numbers) for _, structure in structures]

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            file.attrs["format"] = FORMAT
            file.attrs["units"] = "eV, Å, eV/Å"
            file.attrs["warnings"] = json.dumps([*warnings], ensure_ascii=False)
            file["offsets"] = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            file["numbers"] = np.concatenate([s.numbers for _, s in structures])
            file["positions"] = np.concatenate([s.positions for _, s in structures])
            file["cell"] = np.stack([s.cell for _, s in structures])
            file["pbc"] = np.stack([s.pbc for _, s in structures])
            file["charge"] = np.array([s.charge for _, s in structures], dtype=np.int64)
            file["multiplicity"] = np.array([s.multiplicity for _, s in structures], dtype=np.int64)
            for name in NUMBERS:
                numbers = np.array([getattr(s, name) for _, s in structures])
                if not np.isnan(numbers).all():
                    file[name] = numbers
            for level in sorted({level for _, s in structures for level in s.labels}):
                _write_labels(file.create_group(f"labels/{level}"), level, [s for _, s in structures])
            file["atomic_numbers"] = np.array(list(free_atoms), dtype=np.int64)
            file["atomic_energies"] = np.array(list(free_atoms.values()), dtype=np.float64)
            file["part"] = np.array([PARTS.index(part) for part, _ in structures], dtype=np.int8)
            labelled = [s.numbers for part, s in structures if part != POOL]
            file["elements"] = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *labelled]))
            file["digests"] = np.stack([np.frombuffer(_digest([s]).digest(), np.uint8) for _, s in structures])
            file.attrs["digest"] = _common_digest(file)

    write_atomically(path, write)


def _write_labels(group: h5py.Group, level: str, structures: list[Structure]) -> None:
    """Write what a level says of structures; quantities of which it says nothing are left out."""
    sizes: dict[str, Callable[[Structure], tuple[int, ...]]] = {
        "energy": lambda s: (1,),
        "forces": lambda s: (len(s.numbers), 3),
        "stress": lambda s: (1, 3, 3),
    }
    for quantity in QUANTITIES:
        values = [getattr(structure.at_level(level), quantity) for structure in structures]
        known = np.array([value is not None for value in values])
        if known.any():
            shapes = [sizes[quantity](structure) for structure in structures]
            rows = [
                np.full(shape, np.nan) if value is None else np.reshape(value, shape)
                for value, shape in zip(values, shapes, strict=True)
            ]
            group[quantity] = np.concatenate(rows)
            group[f"has_{quantity}"] = known
    _write_slopes(group, level, structures)
    weights = np.array([structure.at_level(level).weight for structure in structures])
    if (weights != 1.0).any():
        group["weight"] = weights


def _write_slopes(group: h5py.Group, level: str, structures: list[Structure]) -> None:
    """Write the slopes that a level has of structures, and their directions, if it has any."""
    found = [structure.at_level(level).slope for structure in structures]
    if all(slope is None for slope in found):
        return
    rows = [
        slope or Slope(np.nan, np.full((len(structure.numbers), 3), np.nan))
        for slope, structure in zip(found, structures, strict=True)
    ]
    group["slope"] = np.array([slope.value for slope in rows])
    group["direction"] = np.concatenate([slope.direction for slope in rows])
    group["has_slope"] = np.array([slope is not None for slope in found])


def _digest(structures: list[Structure]) -> Any:
    """Return the SHA-256 of geometries and labels, in order."""
    digest = hashlib.sha256()
    for structure in structures:
        digest.update(_bytes(structure.numbers, structure.positions, structure.cell, structure.pbc))
        digest.update(f"{structure.charge} {structure.multiplicity}".encode())
        for name in NUMBERS:
            if not math.isnan(number := getattr(structure, name)):
                digest.update(f"{name} {number!r}".encode())
        for level, labels in sorted(structure.labels.items()):
            digest.update(level.encode())
            digest.update(_bytes(labels.energy, labels.forces, labels.stress))
            if labels.slope is not None:
                digest.update(b"slope" + _bytes(labels.slope.value, labels.slope.direction))
            if labels.weight != 1.0:
                digest.update(f"weight {labels.weight!r}".encode())
    return digest


def _bytes(*values: NDArray[Any] | float | None) -> bytes:
    return b"".join(b"none" if value is None else np.ascontiguousarray(value).tobytes() for value in values)


def _common_digest(file: h5py.File) -> str:
    digest = hashlib.sha256()
    for name in ("format", "units", "warnings"):
        digest.update(str(file.attrs[name]).encode())
    for name in COMMON:
        digest.update(file[name][:].tobytes())
    for level, group in sorted(file["labels"].items()):
        digest.update(f"{level}: {sorted(group)}".encode())
    return digest.hexdigest()


def _number_of(error: Exception) -> int | None:
    """Return the number that the machine gave an error; HDF5 says it in its text alone where reading failed."""
    if not isinstance(error, OSError):
        return None
    said = re.search(r"errno = (\d+)", str(error))
    return error.errno or (int(said.group(1)) if said else None)


@contextmanager
def _damage_in_one_line(path: Path) -> Iterator[None]:
    """Turn what HDF5 raises for a file that is damaged, none of ours or refused into what to do about it."""
    try:
        yield
    except FileNotFoundError:
        raise PiwslError(f"{path}: no such file") from None
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        number = _number_of(error)
        if number in (errno.EAGAIN, errno.EWOULDBLOCK):
            raise PiwslError(f"{path}: is locked by another process; start again when it is done") from None
        if number in REFUSALS:
            raise PiwslError(f"{path}: {REFUSALS[number]}") from None
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise PiwslError(
            f"{path}: is damaged or no dataset file ({reason}); delete it, and it is made again from its frames"
        ) from None


class Dataset:
    """A dataset file, open for reading frame by frame. What is read is compared with the hashes of what was written."""

    def __init__(self, path: Path) -> None:
        """Open the file; frames are read when asked for.

        Raises:
            PiwslError: the file is missing, damaged, or of another version.
        """
        self._path = path
        with _damage_in_one_line(path):
            self._file = h5py.File(path, "r")
            found = int(self._file.attrs["format"])
        if found != FORMAT:
            raise PiwslError(
                f"{path}: is of format {found}, and this version reads {FORMAT}; delete it, and it is made again from "
                "its frames"
            )
        with _damage_in_one_line(path):
            if _common_digest(self._file) != self._file.attrs["digest"]:
                raise ValueError("its content is not what was written")
            self._offsets = self._file["offsets"][:]
            self._part = self._file["part"][:]
            self._digests = self._file["digests"][:]
            self._columns = {name: self._file[name] for name in (*BY_ATOM, *BY_FRAME)}
            self._numbers = {name: self._file[name][:] for name in NUMBERS if name in self._file}
            self._labels = {level: dict(group) for level, group in self._file["labels"].items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._part)

    def indices(self, part: str) -> NDArray[np.int64]:
        """Return the indices of the frames of "training", "test" or "pool"."""
        return np.flatnonzero(self._part == PARTS.index(part))

    def labelled(self, level: str, quantity: Quantity | Literal["slope"]) -> NDArray[np.bool_]:
        """Return which frames have a label, (M,), without reading it.

        Args:
            level: its name; of one that is not in the file no frame has any.
            quantity: energy, forces, stress or slope.
        """
        with _damage_in_one_line(self._path):
            known = self._labels.get(level, {}).get(f"has_{quantity}")
            return np.zeros(len(self), dtype=np.bool_) if known is None else known[:]

    def elements(self) -> list[int]:
        """Return the atomic numbers that occur in any labelled frame."""
        return self._file["elements"][:].tolist()

    def warnings(self) -> list[str]:
        """Return what looked odd about the data when the file was made."""
        return json.loads(self._file.attrs["warnings"])

    def verify(self, most: int | None = None) -> None:
        """Compare frames with their hashes, as reading each does.

        Args:
            most: about so many, a few neighbours here and there in the whole file; by default all.

        Raises:
            PiwslError: a frame is not what was written.
        """
        share = min(1.0, (most or len(self)) / max(len(self), 1))
        neighbours = max(1, int(FRAMES_AT_ONCE * share))
        for start in range(0, len(self), FRAMES_AT_ONCE):
            self._read(start, min(start + neighbours, len(self)))

    def atomic_energies(self) -> dict[int, float]:
        """Return the energies of free atoms at the level of the labels, eV by atomic number, where they are known."""
        numbers, energies = self._file["atomic_numbers"][:], self._file["atomic_energies"][:]
        return dict(zip(numbers.tolist(), energies.tolist(), strict=True))

    def structure(self, index: int) -> Structure:
        """Read one frame.

        Raises:
            PiwslError: it is not what was written.
        """
        (structure,) = self._read(index, index + 1)
        return structure

    def _read(self, first: int, last: int) -> list[Structure]:
        """Read neighbouring frames and compare each with its hash."""
        with _damage_in_one_line(self._path):
            bounds = self._offsets[first : last + 1] - self._offsets[first]
            atoms = slice(self._offsets[first], self._offsets[last])
            by_atom = {name: self._columns[name][atoms] for name in BY_ATOM}
            by_frame = {name: self._columns[name][first:last] for name in BY_FRAME}
            labels = {
                level: {
                    name: column[atoms if name in LABELS_BY_ATOM else slice(first, last)]
                    for name, column in own.items()
                }
                for level, own in self._labels.items()
            }
            structures = []
            for index, (start, stop) in enumerate(pairwise(bounds)):
                structure = Structure(
                    **{name: values[start:stop] for name, values in by_atom.items()},
                    cell=by_frame["cell"][index],
                    pbc=by_frame["pbc"][index],
                    charge=int(by_frame["charge"][index]),
                    multiplicity=int(by_frame["multiplicity"][index]),
                    labels={level: _labels_of_frame(own, index, start, stop) for level, own in labels.items()},
                    temperature=self._number("temperature", first + index),
                    coordinate=self._number("coordinate", first + index),
                )
                if _digest([structure]).digest() != self._digests[first + index].tobytes():
                    raise ValueError(f"frame {first + index} is not what was written")
                structures.append(structure)
        return structures

    def _number(self, name: str, index: int) -> float:
        return float(self._numbers[name][index]) if name in self._numbers else math.nan

    def structures(self, indices: NDArray[np.int64]) -> list[Structure]:
        """Read several frames, in the order of the indices."""
        return [self.structure(int(index)) for index in indices]


def _labels_of_frame(columns: dict[str, NDArray[Any]], index: int, start: int, stop: int) -> Labels:
    """Return the labels of one frame; its atoms stand from start to stop in columns by atom."""

    def found(quantity: Quantity | Literal["slope"], place: int | slice) -> Any:
        there = quantity in columns and columns[f"has_{quantity}"][index]
        return columns[quantity][place] if there else None

    energy, slope = found("energy", index), found("slope", index)
    return Labels(
        energy=None if energy is None else float(energy),
        forces=found("forces", slice(start, stop)),
        stress=found("stress", index),
        slope=None if slope is None else Slope(float(slope), columns["direction"][start:stop]),
        weight=float(columns["weight"][index]) if "weight" in columns else 1.0,
    )


def content_hash(structures: list[Structure]) -> str:
    """Return a hash of geometries and labels, in order."""
    return _digest(structures).hexdigest()[:16]
