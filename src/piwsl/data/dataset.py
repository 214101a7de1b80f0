"""The dataset file: flat arrays with offsets in HDF5, written one frame after another and opened without reading it.

Layout: numbers and positions are (sum of N, ...), cut by `offsets` (M + 1,); cell, pbc, charge (e), multiplicity and
part are per frame. The group `labels` has one group a level ("reference", "weak", names of cheap levels), with energy
(M,), forces (sum of N, 3) and stress (M, 3, 3), each only where any frame has it, and `has_energy`, ... (M,) beside it:
which frames do; of the others there is NaN; likewise slope (M,), of the energy along direction (sum of N, 3), a unit
vector, with `has_slope`; and `weight` (M,) where labels of some frames count for less.
atomic_numbers and atomic_energies (may be empty) are of free atoms at the reference level; elements are the atomic
numbers that occur in labelled frames; `temperature` (M,), K, is that of sampling, and `coordinate` (M,) where on a scan
a frame is, NaN where nobody said, and left out where nobody said it of any. What training frames belong to, such as a
trajectory, stands in `groups/names`, texts in UTF-8 behind the four bytes of their CRC-32, one after another, that of a
frame up to its `groups/ends` (M,); a frame of which nobody said it has no bytes there, and a file without such frames
no `groups`. Frames of the pool, the third part, have no labels of that level but those that a teacher gave them.
`digests` (M, 32) are the SHA-256 of each frame and its part, compared when it is read; the attribute `digest` is that
of all that is not a frame's own, and names and shapes of all columns, compared when the file is opened. The attributes
`warnings`, a list of what was found about the data (`piwsl.records.Finding`; a line each in older files), and `frames`,
their numbers by part, are JSON. So is `provenance`, where the frames come from (`piwsl.records.Provenance`; absent in
older files), which is in no hash: frames are what they are, whatever their file was called. Units: eV, Å, eV/Å, eV/Å³.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from zlib import crc32

import h5py
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from piwsl.data.columns import ROWS_AT_ONCE, Column, GrowingColumns, Kind, growing_columns
from piwsl.data.local_disk import local_copy, local_folder
from piwsl.errors import PiwslError
from piwsl.files import REFUSALS, write_atomically
from piwsl.records import Finding, Provenance
from piwsl.structures.frames import ENERGY_KEY
from piwsl.structures.labels import QUANTITIES, REFERENCE, WEAK, Labels, Quantity, Slope, labels_of
from piwsl.structures.structure import Structure, from_atoms

if TYPE_CHECKING:
    from hashlib import _Hash

TRAINING, TEST, POOL = "training", "test", "pool"
PARTS = (TRAINING, TEST, POOL)
# In files of their own they are learned from, and nothing else: labels of levels for the report are left out there.
WITHOUT_GIVEN_LEVELS = (TRAINING, POOL)
# Raised where a reader of the last version would misread the file.
FORMAT = 5
# What tells about all frames: read at once, and hashed together.
COMMON = ("elements", "atomic_numbers", "atomic_energies")
COMMON_ATTRIBUTES = ("format", "units", "warnings", "frames")
BY_ATOM = ("numbers", "positions")
BY_FRAME = ("cell", "pbc", "charge", "multiplicity")
KINDS = {
    "numbers": Kind("int64"),
    "positions": Kind("float64", (3,)),
    "cell": Kind("float64", (3, 3)),
    "pbc": Kind("bool", (3,)),
    "charge": Kind("int64"),
    "multiplicity": Kind("int64"),
    "part": Kind("int8"),
    "digests": Kind("uint8", (32,)),
}
OFFSETS = Kind("int64", fill=0)
LABELS_BY_ATOM = ("forces", "direction")
LABEL_KINDS = {
    "energy": Kind("float64"),
    "forces": Kind("float64", (3,)),
    "stress": Kind("float64", (3, 3)),
    "slope": Kind("float64"),
    "direction": Kind("float64", (3,)),
}
KNOWN, WEIGHT = Kind("bool", fill=0), Kind("float64", fill=1)
# Of a frame, where anybody said them.
NUMBERS = ("temperature", "coordinate")
NUMBER = Kind("float64")
# Of texts; and where those of frames end.
GROUP_NAMES, GROUP_ENDS = "groups/names", "groups/ends"
TEXT, ENDS = Kind("uint8"), Kind("int64", fill=0)
CHECKSUM_BYTES = 4
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
    findings: Sequence[Finding] = (),
    cheap_levels: Sequence[str] = (),
    provenance: Provenance | None = None,
) -> None:
    """Write labelled frames, and those of the pool, as one dataset file, atomically.

    Args:
        path: the file to write.
        frames: for "training", "test" and, where there is one, "pool", the frames; labels in `REF_energy` (eV),
            `REF_forces` and `WEAK_forces` (eV/Å), `REF_stress` (eV/Å³), `REF_slope` (eV/Å) along `REF_direction`,
            in the pool `WEAK_forces` alone.
        atomic_energies: of free atoms at the level of the labels, eV by atomic number, where they are known.
        findings: what was found about the data, for the report.
        cheap_levels: names of further levels, whose labels stand in the frames as `NAME_energy`, `NAME_forces`.
        provenance: where the frames come from, if that is known.
    """
    levels = (REFERENCE, WEAK, *cheap_levels)
    structures = {part: (from_atoms(atoms, levels) for atoms in found) for part, found in frames.items()}
    write_structures(path, structures, atomic_energies, findings, provenance)


def write_structures(
    path: Path,
    parts: Mapping[str, Iterable[Structure]],
    atomic_energies: Mapping[int, float] | None = None,
    findings: Iterable[Finding] = (),
    provenance: Provenance | None = None,
) -> None:
    """Write structures with their labels as one dataset file, atomically and one by one; none is held in memory.

    Args:
        path: the file to write.
        parts: for "training", "test" and "pool", those that there are; each is gone through once.
        atomic_energies: as of `write_dataset`.
        findings: likewise; gone through once, after the structures.
        provenance: likewise.
    """

    def write(temporary: Path) -> None:
        with growing_columns(temporary) as columns:
            counts = {part: _append(columns, part, parts.get(part, ())) for part in PARTS}
            with h5py.File(temporary, "w", locking=False) as file:  # nobody else knows its name
                _finish(file, columns, counts, atomic_energies or {}, findings)
                if provenance is not None:
                    file.attrs["provenance"] = provenance.model_dump_json(exclude_defaults=True)

    write_atomically(path, write)


def _append(columns: GrowingColumns, part: str, structures: Iterable[Structure]) -> int:
    """Append the structures of a part, and return how many there are."""
    count = 0
    for structure in structures:
        _append_frame(columns, part, structure)
        count += 1
    return count


def _append_frame(columns: GrowingColumns, part: str, structure: Structure) -> None:
    offsets = columns.column("offsets", OFFSETS, rows=1)
    numbers = columns.column("numbers", KINDS["numbers"])
    frames, atoms = offsets.rows - 1, numbers.rows
    said = {name: getattr(structure, name) for name in (*BY_ATOM, *BY_FRAME)}
    said |= {"part": PARTS.index(part), "digests": np.frombuffer(_digest_in(part, structure), np.uint8)}
    for name, kind in KINDS.items():
        columns.column(name, kind).append(said[name])
    offsets.append(numbers.rows)
    for name in NUMBERS:
        if not math.isnan(number := getattr(structure, name)):
            columns.column(name, NUMBER, frames).append(number)
    if structure.group is not None or GROUP_NAMES in columns.columns:
        _append_group(columns, structure.group, frames)
    for level, labels in structure.labels.items():
        if not labels.are_none:
            _append_labels(columns, f"labels/{level}", labels, frames, atoms)


def _append_group(columns: GrowingColumns, group: str | None, frames: int) -> None:
    """Append what the frame that comes after so many frames belongs to."""
    names = columns.column(GROUP_NAMES, TEXT)
    if group is not None:
        text = group.encode()
        names.append(np.frombuffer(crc32(text).to_bytes(CHECKSUM_BYTES) + text, np.uint8))
    columns.column(GROUP_ENDS, ENDS, frames).append(names.rows)


def _append_labels(columns: GrowingColumns, group: str, labels: Labels, frames: int, atoms: int) -> None:
    """Append what a level says of the frame that comes after so many frames and atoms."""
    said: dict[str, Any] = {quantity: getattr(labels, quantity) for quantity in QUANTITIES}
    if labels.slope is not None:
        said |= {"slope": labels.slope.value, "direction": labels.slope.direction}
    for name, value in said.items():
        if value is not None:
            before = atoms if name in LABELS_BY_ATOM else frames
            columns.column(f"{group}/{name}", LABEL_KINDS[name], before).append(value)
            if name != "direction":
                columns.column(f"{group}/has_{name}", KNOWN, frames).append(True)
    if labels.weight != 1.0:
        columns.column(f"{group}/weight", WEIGHT, frames).append(labels.weight)


def _finish(
    file: h5py.File,
    columns: GrowingColumns,
    counts: Mapping[str, int],
    free_atoms: Mapping[int, float],
    findings: Iterable[Finding],
) -> None:
    """Make columns and what tells about all frames a file."""
    for name, kind in KINDS.items():  # of no frame, too
        columns.column(name, kind)
    offsets, atoms = columns.column("offsets", OFFSETS, rows=1), columns.column("numbers", KINDS["numbers"]).rows
    for name, column in columns.columns.items():
        by_atom = name in BY_ATOM or name.rpartition("/")[2] in LABELS_BY_ATOM
        rows = offsets.rows if column is offsets else atoms if by_atom else offsets.rows - 1
        if name == GROUP_NAMES:
            continue
        column.fill_to(rows)
        if column.rows > rows:
            raise ValueError(f"{name} has {column.rows} rows where there are {rows}")
    columns.move_to(file)
    file.require_group("labels")
    file["elements"] = _elements(file, labelled=offsets.rows - 1 - counts[POOL])
    file["atomic_numbers"] = np.array(list(free_atoms), dtype=np.int64)
    file["atomic_energies"] = np.array(list(free_atoms.values()), dtype=np.float64)
    file.attrs["format"] = FORMAT
    file.attrs["units"] = "eV, Å, eV/Å"
    said = [found.model_dump(exclude_defaults=True) for found in findings]
    file.attrs["warnings"] = json.dumps(said, ensure_ascii=False)
    file.attrs["frames"] = json.dumps(dict(counts))
    file.attrs["digest"] = _common_digest(file)


def _elements(file: h5py.File, labelled: int) -> NDArray[np.int64]:
    """Return the atomic numbers that occur in the first so many frames, those with labels."""
    atoms, found = int(file["offsets"][labelled]), np.empty(0, dtype=np.int64)
    for start in range(0, atoms, ROWS_AT_ONCE):
        found = np.union1d(found, file["numbers"][start : min(start + ROWS_AT_ONCE, atoms)])
    return found.astype(np.int64)


def _digest_in(part: str, structure: Structure) -> bytes:
    """Return the SHA-256 of a structure in its part."""
    digest = hashlib.sha256()
    add_content(digest, [structure])
    digest.update(part.encode())
    return digest.digest()


def add_content(digest: _Hash, structures: Iterable[Structure]) -> None:
    """Add geometries and labels to a hash, in order."""
    for structure in structures:
        digest.update(_bytes(structure.numbers, structure.positions, structure.cell, structure.pbc))
        digest.update(f"{structure.charge} {structure.multiplicity}".encode())
        for name in NUMBERS:
            if not math.isnan(number := getattr(structure, name)):
                digest.update(f"{name} {number!r}".encode())
        for level, labels in sorted(structure.labels.items()):
            if labels.are_none:
                continue
            digest.update(level.encode())
            digest.update(_bytes(labels.energy, labels.forces, labels.stress))
            if labels.slope is not None:
                digest.update(b"slope" + _bytes(labels.slope.value, labels.slope.direction))
            if labels.weight != 1.0:
                digest.update(f"weight {labels.weight!r}".encode())


def _bytes(*values: NDArray[Any] | float | None) -> bytes:
    return b"".join(b"none" if value is None else np.ascontiguousarray(value).tobytes() for value in values)


def _common_digest(file: h5py.File) -> str:
    digest = hashlib.sha256()
    for name in COMMON_ATTRIBUTES:
        digest.update(str(file.attrs[name]).encode())
    for name in COMMON:
        digest.update(file[name][:].tobytes())

    def add(name: str, column: h5py.Group | h5py.Dataset) -> None:
        if isinstance(column, h5py.Dataset):
            digest.update(f"{name} {column.shape} {column.dtype}".encode())

    file.visititems(add)
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
        if number in REFUSALS:
            raise PiwslError(f"{path}: {REFUSALS[number]}") from None
        if "unable to lock file" in str(error):
            raise PiwslError(
                f"{path}: cannot be locked, as HDF5_USE_FILE_LOCKING in the environment demands; unset it: dataset "
                "files are never written to in place"
            ) from None
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise PiwslError(
            f"{path}: is damaged or no dataset file ({reason}); delete it, and it is made again from its frames"
        ) from None


def _opened(path: Path) -> h5py.File:
    """Open a file for reading, and without a lock: some disks have none, and files are never written to in place."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        return h5py.File(path, "r")  # this process has it open with one


class Dataset:
    """A dataset file, open for reading frames. What is read is compared with the hashes of what was written."""

    def __init__(self, path: Path) -> None:
        """Open the file; frames are read when asked for.

        Raises:
            PiwslError: the file is missing, damaged, or of another version.
        """
        self._path = path
        with _damage_in_one_line(path):
            file = _opened(path)
        with file:
            with _damage_in_one_line(path):
                found = int(file.attrs["format"])
            if found != FORMAT:
                raise PiwslError(
                    f"{path}: is of format {found}, and this version reads {FORMAT}; delete it, and it is made again "
                    "from its frames"
                )
            with _damage_in_one_line(path):
                if _common_digest(file) != file.attrs["digest"]:
                    raise ValueError("its content is not what was written")
                self._read_common(file)
                self._columns, self._labels = _columns_of(file)
                self._groups = {name: Column.of(column) for name, column in file.get("groups", {}).items()}
        self._read_by(os.open(path, os.O_RDONLY))

    def _read_by(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    def move_to_local_disk(self) -> None:
        """Read from a copy on a disk of this machine from now on, if there is room."""
        if (descriptor := local_copy(self._path, local_folder())) is not None:
            self._close()
            self._read_by(descriptor)

    def _read_common(self, file: h5py.File) -> None:
        self._counts: dict[str, int] = json.loads(file.attrs["frames"])
        said = json.loads(file.attrs["warnings"])
        self._findings = [Finding(said=each) if isinstance(each, str) else Finding(**each) for each in said]
        origin = file.attrs.get("provenance")
        self._provenance = None if origin is None else Provenance.model_validate_json(origin)
        self._elements: list[int] = file["elements"][:].tolist()
        free_atoms = file["atomic_numbers"][:].tolist(), file["atomic_energies"][:].tolist()
        self._atomic_energies: dict[int, float] = dict(zip(*free_atoms, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def __len__(self) -> int:
        return sum(self._counts.values())

    def indices(self, part: str) -> NDArray[np.int64]:
        """Return the indices of the frames of "training", "test" or "pool".

        Raises:
            PiwslError: they are not as many as were written.
        """
        with _damage_in_one_line(self._path):
            found = np.flatnonzero(self._columns["part"].all(self._descriptor) == PARTS.index(part))
            if len(found) != self._counts[part]:
                raise ValueError(f"{len(found)} frames of {self._counts[part]} are of the part {part}")
        return found

    def labelled(self, level: str, quantity: Quantity | Literal["slope"]) -> NDArray[np.bool_]:
        """Return which frames have a label, (M,), without reading it.

        Args:
            level: its name; of one that is not in the file no frame has any.
            quantity: energy, forces, stress or slope.
        """
        with _damage_in_one_line(self._path):
            known = self._labels.get(level, {}).get(f"has_{quantity}")
            return np.zeros(len(self), dtype=np.bool_) if known is None else known.all(self._descriptor)

    def sizes(self) -> NDArray[np.int64]:
        """Return how many atoms each frame has, (M,), without reading any."""
        with _damage_in_one_line(self._path):
            return np.diff(self._columns["offsets"].all(self._descriptor))

    def groups_of(self, indices: NDArray[np.int64]) -> list[str | None]:
        """Return what some frames belong to, in the order of the indices; None where nobody said."""
        found: list[str | None] = []
        known: dict[str | None, str | None] = {}  # one text for all of a group
        for first in range(0, len(self), ROWS_AT_ONCE):
            last = min(first + ROWS_AT_ONCE, len(self))
            with _damage_in_one_line(self._path):
                found += [known.setdefault(group, group) for group in self._groups_in(first, last)]
        return [found[index] for index in indices.tolist()]

    def _groups_in(self, first: int, last: int) -> list[str | None]:
        """Return what neighbouring frames belong to."""
        if not self._groups:
            return [None] * (last - first)
        before = [] if first else [0]
        edges = before + self._groups["ends"].rows(self._descriptor, max(first - 1, 0), last).tolist()
        names = self._groups["names"].rows(self._descriptor, edges[0], edges[-1]).tobytes()
        return [_group_of(names[start - edges[0] : end - edges[0]]) for start, end in pairwise(edges)]

    def elements(self) -> list[int]:
        """Return the atomic numbers that occur in any labelled frame."""
        return self._elements

    def elements_of(self, indices: NDArray[np.int64]) -> set[int]:
        """Return the atomic numbers that occur in some frames."""
        found: set[int] = set()
        for wanted, first, last in self._blocks(indices):
            with _damage_in_one_line(self._path):
                offsets = self._columns["offsets"].rows(self._descriptor, first, last + 1)
                numbers = self._columns["numbers"].rows(self._descriptor, int(offsets[0]), int(offsets[-1]))
            found.update(np.unique(numbers[np.repeat(wanted, np.diff(offsets))]).tolist())
        return found

    def electrons_of(self, indices: NDArray[np.int64]) -> set[tuple[int, int]]:
        """Return charge (e) and multiplicity (2S + 1) of some frames, each pair that occurs."""
        found: set[tuple[int, int]] = set()
        for wanted, first, last in self._blocks(indices):
            with _damage_in_one_line(self._path):
                pair = [self._columns[name].rows(self._descriptor, first, last) for name in ("charge", "multiplicity")]
            charges, multiplicities = np.unique(np.stack(pair)[:, wanted], axis=1).tolist()
            found.update(zip(charges, multiplicities, strict=True))
        return found

    def digests_of(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Return the SHA-256 of some frames, in the order of the file, (B, 32) at a time."""
        for wanted, first, last in self._blocks(indices):
            with _damage_in_one_line(self._path):
                yield self._columns["digests"].rows(self._descriptor, first, last)[wanted]

    def _blocks(self, indices: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.bool_], int, int]]:
        """Return which frames of a block are wanted, and from where to before where it goes; of all blocks."""
        wanted = np.zeros(len(self), dtype=np.bool_)
        wanted[indices] = True
        for first in range(0, len(self), ROWS_AT_ONCE):
            last = min(first + ROWS_AT_ONCE, len(self))
            yield wanted[first:last], first, last

    def findings(self) -> list[Finding]:
        """Return what was found about the data when the file was made."""
        return self._findings

    def provenance(self) -> Provenance | None:
        """Return where the frames come from; None of older files, and of frames that a teacher labelled."""
        return self._provenance

    def about(self) -> dict[str, Any]:
        """Return in plain values what the file holds: frames by part, elements, how many labels of which level."""
        quantities: tuple[Quantity | Literal["slope"], ...] = (*QUANTITIES, "slope")
        counts = {
            level: {each: int(self.labelled(level, each).sum()) for each in quantities if f"has_{each}" in columns}
            for level, columns in self._labels.items()
        }
        return {
            "frames": self._counts,
            "elements": [chemical_symbols[number] for number in self._elements],
            "labels": counts,
            "provenance": None if self._provenance is None else self._provenance.model_dump(exclude_defaults=True),
        }

    def atomic_energies(self) -> dict[int, float]:
        """Return the energies of free atoms at the level of the labels, eV by atomic number, where they are known."""
        return self._atomic_energies

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

    def structure(self, index: int) -> Structure:
        """Read one frame.

        Raises:
            PiwslError: it is not what was written.
        """
        (structure,) = self._read(index, index + 1)
        return structure

    def structures(self, indices: NDArray[np.int64]) -> list[Structure]:
        """Read several frames, in the order of the indices; neighbours at once."""
        ends = np.flatnonzero(np.diff(indices) != 1) + 1
        runs = (run for run in np.split(indices, ends) if len(run))
        return [structure for run in runs for structure in self._read(int(run[0]), int(run[-1]) + 1)]

    def each(self, indices: NDArray[np.int64]) -> Iterator[Structure]:
        """Read frames one by one, in the order of the indices; never many of them are held."""
        for start in range(0, len(indices), FRAMES_AT_ONCE):
            yield from self.structures(indices[start : start + FRAMES_AT_ONCE])

    def _read(self, first: int, last: int) -> list[Structure]:
        """Read neighbouring frames and compare each with its hash."""
        with _damage_in_one_line(self._path):
            offsets = self._columns["offsets"].rows(self._descriptor, first, last + 1)
            atoms = int(offsets[0]), int(offsets[-1])

            def rows(name: str, column: Column, by_atom: tuple[str, ...]) -> NDArray[Any]:
                return column.rows(self._descriptor, *(atoms if name in by_atom else (first, last)))

            own = {name: rows(name, column, BY_ATOM) for name, column in self._columns.items() if name != "offsets"}
            groups = self._groups_in(first, last)
            labels = {
                level: {name: rows(name, column, LABELS_BY_ATOM) for name, column in columns.items()}
                for level, columns in self._labels.items()
            }
            structures = []
            for index, (start, stop) in enumerate(pairwise((offsets - offsets[0]).tolist())):
                found = {level: _labels_of_frame(columns, index, start, stop) for level, columns in labels.items()}
                structure = _structure_of_frame(own, index, start, stop, found, groups[index])
                if _digest_in(PARTS[own["part"][index]], structure) != own["digests"][index].tobytes():
                    raise ValueError(f"frame {first + index} is not what was written")
                structures.append(structure)
        return structures


def _group_of(stored: bytes) -> str | None:
    """Return the group that stands for a frame in the file.

    Raises:
        ValueError: it is not what was written.
    """
    if not stored:
        return None
    checksum, text = stored[:CHECKSUM_BYTES], stored[CHECKSUM_BYTES:]
    if crc32(text).to_bytes(CHECKSUM_BYTES) != checksum:
        raise ValueError("the group of a frame is not what was written")
    return text.decode()


def _columns_of(file: h5py.File) -> tuple[dict[str, Column], dict[str, dict[str, Column]]]:
    """Return the columns of frames, and those of labels by level."""
    own = {name: column for name, column in file.items() if isinstance(column, h5py.Dataset) and name not in COMMON}
    labels = {
        level: {name: Column.of(column) for name, column in group.items()} for level, group in file["labels"].items()
    }
    return {name: Column.of(column) for name, column in own.items()}, labels


def _structure_of_frame(
    columns: Mapping[str, NDArray[Any]],
    index: int,
    start: int,
    stop: int,
    labels: Mapping[str, Labels],
    group: str | None,
) -> Structure:
    """Return one frame with its labels; its atoms stand from start to stop in columns by atom."""

    def number(name: str) -> float:
        return float(columns[name][index]) if name in columns else math.nan

    return Structure(
        numbers=columns["numbers"][start:stop],
        positions=columns["positions"][start:stop],
        cell=columns["cell"][index],
        pbc=columns["pbc"][index],
        labels=labels,
        charge=int(columns["charge"][index]),
        multiplicity=int(columns["multiplicity"][index]),
        temperature=number("temperature"),
        coordinate=number("coordinate"),
        group=group,
    )


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


def content_hash(structures: Iterable[Structure]) -> str:
    """Return a hash of geometries and labels, in order."""
    digest = hashlib.sha256()
    add_content(digest, structures)
    return digest.hexdigest()[:16]
