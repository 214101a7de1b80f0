"""Frames that a user labelled elsewhere, made ours: names, units, geometry, and what was taken from them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.config import GivenDataset, Split
from piwsl.data.dataset import POOL, TEST, TRAINING
from piwsl.data.reading import count_of, frames_of, our_labels
from piwsl.data.splits import hold_out, hold_out_groups, read_positions
from piwsl.errors import PiwslError
from piwsl.readers import LabelNames
from piwsl.structures.frames import (
    DIRECTION_KEY,
    ENERGY_KEY,
    FORCES_KEY,
    SLOPE_KEY,
    STRESS_KEY,
    WEAK_FORCES_KEY,
    charge_of,
    multiplicity_of,
    states_charge,
    states_multiplicity,
)
from piwsl.structures.geometry import geometry_problem

NAMES_SHOWN = 12
# Of a file.
EXAMPLES = 50
# Of more frames, which may take minutes to read, groups are not known before the import.
MOST_GROUPED = 100_000


@dataclass(frozen=True)
class GivenFrames:
    """The frames of a file in our names and units, and the names that they had."""

    path: Path
    frames: list[Atoms]
    """With `REF_energy` (eV), `REF_forces` and `WEAK_forces` (eV/Å), `REF_stress` (eV/Å³) where there are any, charge,
    multiplicity, and `frame`, the position in the file."""
    columns: set[str]
    """Columns of three numbers that any frame has and that may be forces."""
    every: int = 1
    """Only each so many-th frame of the file was read, the stride of the dataset included."""
    ignored: int | None = None
    """Of a pool, how many frames have labels that are not looked at; None of labelled frames."""
    groups: list[str | int] | None = None
    """What each frame is held out with; None where frames are held out one by one."""

    def with_label(self, key: str) -> int:
        """Return how many frames have labels under a name."""
        return sum(key in atoms.arrays or key in atoms.info for atoms in self.frames)


def read_given(dataset: GivenDataset, path: Path, every: int = 1, labelled: bool = True) -> GivenFrames:
    """Read frames of a user's file.

    Args:
        dataset: says under which names the labels are, and in which units. Labels of other names are left behind.
        path: one of its files.
        every: read only each so many-th frame.
        labelled: whether the labels are looked at; of a pool, those of the cheaper level alone.

    Raises:
        PiwslError: the file cannot be read, or a frame is no geometry or lacks its energy; names the frame.
    """
    frames, columns, ignored = [], set(), 0
    groups: list[str | int] | None = [] if labelled and _is_grouped(dataset) else None
    labels = dataset.labels_of(path)
    for count, atoms in enumerate(frames_of(path, dataset.format_of(path), every)):
        position = count * every
        problem = geometry_problem(atoms)
        if problem is not None:
            raise PiwslError(f"{path}: frame {position}: {problem}")
        try:
            frames.append(_with_our_labels(atoms, labels, position, labelled))
            if groups is not None and dataset.split is not None:
                groups.append(_group_of(dataset.split, atoms))
        except PiwslError as error:
            raise PiwslError(f"{path}: frame {position}: {error}") from None
        ignored += labels.energy_key in atoms.info or labels.forces_key in atoms.arrays
        columns |= {
            name
            for name, values in atoms.arrays.items()
            if values.shape[1:] == (3,) and name not in ("positions", DIRECTION_KEY)
        }
    if not frames:
        raise PiwslError(f"{path}: holds no frame")
    return GivenFrames(path, frames, columns, every, None if labelled else ignored, groups)


def _with_our_labels(atoms: Atoms, labels: LabelNames, position: int, labelled: bool) -> Atoms:
    """Return the bare geometry with the labels that are named, in eV, eV/Å, eV/Å³; absent ones stay absent."""
    info, arrays = our_labels(atoms, labels, reference=labelled)
    if labelled and ENERGY_KEY not in info:
        raise PiwslError(
            f"has no {labels.energy_key}; its info holds {_names(set(atoms.info))}. "
            "Write the total energy there, or say energy_key and energy_unit"
        )
    stated = {"charge": charge_of(atoms)} if states_charge(atoms) else {}
    if states_multiplicity(atoms):
        stated["multiplicity"] = multiplicity_of(atoms)
    info = {**stated, "frame": position, **info}
    if "temperature" in atoms.info:
        info["temperature"] = atoms.info["temperature"]
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info)
    for name, values in arrays.items():
        frame.set_array(name, values)
    return frame


def _is_grouped(dataset: GivenDataset) -> bool:
    return dataset.split is not None and dataset.split.by != "frame"


def _group_of(split: Split, atoms: Atoms) -> str | int:
    """Return what a frame is held out with.

    Raises:
        PiwslError: it does not say its group, or says what is neither text nor a number.
    """
    if split.by == "size":
        return len(atoms)
    if split.by == "composition":
        return str(atoms.get_chemical_formula())
    if split.key not in atoms.info:
        raise PiwslError(f"has no {split.key}, which split.key is; its info holds {_names(set(atoms.info))}")
    value = atoms.info[split.key]
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    # 300 and 300.0 are one group.
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real) and np.isfinite(number := float(value)):
        return str(int(number)) if number.is_integer() else repr(number)
    raise PiwslError(f"{split.key} is {str(value)[:40]!r}; a group is text or a number")


def _names(names: set[str]) -> str:
    shown = sorted(names)[:NAMES_SHOWN]
    return f"{shown}{' and more' if len(names) > len(shown) else ''}" if names else "nothing"


def check_keys(dataset: GivenDataset, files: list[GivenFrames]) -> None:
    """Check that forces and stress whose names are written out in the config are there.

    Args:
        dataset: says which names were written out.
        files: all files of the dataset.

    Raises:
        PiwslError: no frame has the column; names the columns that there are. Or one column would be the forces of
            two levels.
    """
    for file in files:
        if (names := dataset.labels_of(file.path)).weak_forces_key == names.forces_key:
            raise PiwslError(
                f"weak_forces_key: column '{names.forces_key}' of {file.path} is forces_key, too; forces of a cheaper "
                "level stand in a column of their own"
            )
    for field, ours in (("forces_key", FORCES_KEY), ("weak_forces_key", WEAK_FORCES_KEY)):
        if getattr(dataset, field) is not None and not any(file.with_label(ours) for file in files):
            columns = set().union(*(file.columns for file in files))
            raise PiwslError(
                f"{field}: no frame of {' or '.join(str(file.path) for file in files)} has a column "
                f"'{getattr(dataset, field)}'; columns of three numbers are {_names(columns)}"
            )
    if dataset.stress_key is not None and not any(file.with_label(STRESS_KEY) for file in files):
        raise PiwslError(
            f"stress_key: no frame of {' or '.join(str(file.path) for file in files)} that is periodic in three "
            f"directions has '{dataset.stress_key}' in its info"
        )


def read_files(dataset: GivenDataset, most: int | None = None, checked: bool = True) -> list[GivenFrames]:
    """Read `file`, and `test_file` and `pool_file` where there are such, in this order.

    Args:
        dataset: names the files.
        most: of a file with more frames, read each so many-th, so that there are no more than these.
        checked: whether names of labels that the dataset says must occur; of a named test set some may not.

    Raises:
        PiwslError: as of `read_given` and `check_keys`.
    """
    paths = [dataset.file] + ([] if dataset.test_file is None else [dataset.test_file])
    read = {path: read_given(dataset, path, every_of(dataset, path, most)) for path in dict.fromkeys(paths)}
    files = [read[path] for path in paths]
    if dataset.pool_file is not None:
        files.append(read_given(dataset, dataset.pool_file, every_of(dataset, dataset.pool_file, most), labelled=False))
    if checked:
        check_keys(dataset, files)
    return files


def every_of(dataset: GivenDataset, path: Path, most: int | None) -> int:
    """Return of how many frames of a file one is read: the dataset's stride, and no more of those than `most`.

    Raises:
        PiwslError: the file cannot be read.
    """
    stride = dataset.stride_of(path)
    return stride if most is None else stride * (-(-frames_taken(dataset, path) // most) or 1)


def frames_taken(dataset: GivenDataset, path: Path) -> int:
    """Return how many frames of a file the dataset takes.

    Raises:
        PiwslError: the file cannot be read.
    """
    return -(-count_of(path, dataset.format_of(path)) // dataset.stride_of(path))


def parts(dataset: GivenDataset, files: list[GivenFrames]) -> dict[str, list[Atoms]]:
    """Return the frames for "training", "test" and "pool"; for test of a file of their own, or held out of one.

    Args:
        dataset: says which.
        files: of `read_files`; where it read fewer frames, fewer are held out.

    Raises:
        PiwslError: holding out leaves nothing to train on, or a file of positions names no frames of the file.
    """
    frames = files[0].frames
    pool = [] if dataset.pool_file is None else files[-1].frames
    if dataset.test_file is not None:
        return {TRAINING: frames, TEST: files[1].frames, POOL: pool}
    training, test = _divided(dataset, files[0])
    return {TRAINING: [frames[i] for i in training], TEST: [frames[i] for i in test], POOL: pool}


def _divided(dataset: GivenDataset, file: GivenFrames) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices of the frames for training, and of those for the test."""
    if (every := file.every // dataset.stride) == 1:
        return _split(dataset, len(file.frames), file.groups)
    if dataset.split is not None and (found := _division(dataset)) is not None:
        taken = np.array([atoms.info["frame"] for atoms in file.frames]) // dataset.stride
        training, test = (np.flatnonzero(np.isin(taken, part)) for part in found)
        if len(training) and len(test):
            return training, test
    return hold_out(len(file.frames), max(1, (dataset.test_frames or 1) // every), dataset.seed)


def _division(dataset: GivenDataset) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return which of the frames that are taken are for training and test; None of too many to know their groups yet.

    Raises:
        PiwslError: the file cannot be read, or cannot be divided so.
    """
    frames, split = frames_taken(dataset, dataset.file), dataset.split
    if split is None or not _is_grouped(dataset):
        return _split(dataset, frames, None)
    if frames > MOST_GROUPED:
        return None
    about = dataset.file.stat()
    stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
    form = dataset.format_of(dataset.file)
    return _split(dataset, frames, _groups_in(dataset.file, stamp, form, dataset.stride, split))


@lru_cache(maxsize=8)
def _groups_in(path: Path, _stamp: tuple[int, int, int], form: str, stride: int, split: Split) -> list[str | int]:
    """Return the groups of each so many-th frame of a file that is as it was then."""
    found = []
    for count, atoms in enumerate(frames_of(path, form, stride)):
        try:
            found.append(_group_of(split, atoms))
        except PiwslError as error:
            raise PiwslError(f"{path}: frame {count * stride}: {error}") from None
    return found


def _split(
    dataset: GivenDataset, frames: int, groups: list[str | int] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide as many frames, of these groups."""
    split = dataset.split
    if split is not None and split.test is not None:
        test = read_positions(split.test, frames)
        rest = np.setdiff1d(np.arange(frames), test)
        training = rest if split.training is None else read_positions(split.training, frames)
        if len(both := np.intersect1d(training, test)):
            raise PiwslError(f"{split.training}: {both[0]} is a position of {split.test}, too; no frame is in both")
        if len(training) == 0:
            raise PiwslError(f"{split.test}: names all of the {frames} frames, and leaves none to train on")
        return training, test
    assert dataset.test_frames is not None
    if split is None or groups is None:
        return hold_out(frames, dataset.test_frames, dataset.seed)
    return hold_out_groups(groups, dataset.test_frames, dataset.seed, split.by == "size")


def frames_in_part(dataset: GivenDataset, part: str) -> int:
    """Return how many frames `parts` finds for "training", "test" or "pool", or how many it finds at most.

    Frames are read where they are held out in groups, unless there are too many.

    Raises:
        PiwslError: a file cannot be read, or cannot be divided so.
    """
    path = {TRAINING: dataset.file, TEST: dataset.test_file, POOL: dataset.pool_file}[part]
    if part == POOL or dataset.test_file is not None:
        return 0 if path is None else frames_taken(dataset, path)
    if (found := _division(dataset)) is not None:
        return len(found[part == TEST])
    wanted = dataset.test_frames or 0
    return wanted if part == TEST else frames_taken(dataset, dataset.file) - wanted


def left_out(dataset: GivenDataset, frames: dict[str, list[Atoms]], file: GivenFrames) -> str | None:
    """Say which frames of a file are in neither part, where that is so.

    Args:
        dataset: the section.
        frames: of `parts`.
        file: what they were taken from.
    """
    if dataset.test_file is not None:
        return None
    count = len(file.frames) - len(frames[TRAINING]) - len(frames[TEST])
    why = "of the groups of test frames" if dataset.split is None or dataset.split.test is None else "in no list"
    return f"{file.path}: {count} frames {why} are in neither part" if count else None


def examples(dataset: GivenDataset) -> list[Atoms]:
    """Return some frames of each file, from the first to the last: what they are like, of many too.

    Raises:
        PiwslError: a file cannot be read.
    """
    paths = dict.fromkeys(path for path in (dataset.file, dataset.test_file, dataset.pool_file) if path is not None)
    return [
        atoms for path in paths for atoms in frames_of(path, dataset.format_of(path), every_of(dataset, path, EXAMPLES))
    ]


def free_atoms(frames: Iterable[Atoms]) -> dict[int, float]:
    """Return the energies of free atoms that stand among labelled frames, eV by atomic number.

    A frame of one atom, neutral and not periodic, is one; of several of an element, in other spin states, the lowest.
    """
    found: dict[int, float] = {}
    for atoms in frames:
        if len(atoms) == 1 and not atoms.pbc.any() and ENERGY_KEY in atoms.info and _is_neutral(atoms):
            number = int(atoms.numbers[0])
            found[number] = min(atoms.info[ENERGY_KEY], found.get(number, np.inf))
    return found


def _is_neutral(atoms: Atoms) -> bool:
    try:
        return charge_of(atoms) == 0
    except PiwslError:
        return False


def summary(dataset: GivenDataset, file: GivenFrames) -> str:
    """Say in one line what was taken from a file: frames, forces, stress, the range of energies, names and units."""
    weak, labels = file.with_label(WEAK_FORCES_KEY), dataset.labels_of(file.path)
    cheaper = f", {weak} with forces of a cheaper level ({labels.weak_forces_key})" if weak else ""
    if file.ignored is not None:
        unseen = f"; {file.ignored} have labels, which are not looked at" if file.ignored else ""
        return f"{file.path}: {len(file.frames)} frames of the pool{cheaper}{unseen}"
    energies = [atoms.info[ENERGY_KEY] / len(atoms) for atoms in file.frames]
    with_forces = file.with_label(FORCES_KEY)
    forces = f"{with_forces} with forces ({labels.forces_key} in {labels.forces_unit})"
    if not with_forces:
        others = file.columns - {labels.weak_forces_key}
        forces = (
            f"none with forces{f' (is one of its columns {_names(others)} meant as forces_key?)' if others else ''}"
        )
    with_stress = file.with_label(STRESS_KEY)
    stress = f", {with_stress} with stress ({labels.stress_key} in {labels.stress_unit})" if with_stress else ""
    with_slope = file.with_label(SLOPE_KEY)
    slope = f", {with_slope} with the slope along a direction ({SLOPE_KEY} in eV/Å)" if with_slope else ""
    return (
        f"{file.path}: {len(file.frames)} frames, {forces}{stress}{slope}{cheaper}; "
        f"{labels.energy_key} in {labels.energy_unit}, {np.min(energies):.4f} to {np.max(energies):.4f} eV an atom"
    )
