"""Frames that a user labelled elsewhere, made ours: names, units, geometry, and what was taken from them.

A file of millions of frames is surveyed, not held: they pass one by one, and what is kept of each is a few numbers.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from piwsl.config import Fault, GivenDataset, Groups, Split
from piwsl.data.dataset import POOL, TEST, TRAINING
from piwsl.data.reading import (
    Stamp,
    check_unchanged,
    count_of,
    frames_of,
    labels_of_level,
    our_labels,
    stamp_of,
    unchanged_frames_of,
)
from piwsl.data.splits import Source, blocks_of, hold_out, hold_out_groups, read_positions, read_split
from piwsl.data.survey import Formulas, Survey, Surveyor
from piwsl.errors import PiwslError
from piwsl.files import file_hash
from piwsl.readers import LabelNames
from piwsl.records import Finding
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
from piwsl.structures.geometry import geometry_problem, lies_on_itself
from piwsl.structures.labels import REFERENCE, NoLabel, Quantity, label_key
from piwsl.structures.structure import group_name

NAMES_SHOWN = 12
FRAMES_SHOWN = 5
ENERGY_AND_FORCES: tuple[Quantity, ...] = ("energy", "forces")
WORDS: Mapping[Quantity, str] = {"energy": "energies", "forces": "forces"}
# Of a file.
EXAMPLES = 50
# Of more frames, which may take minutes to read, groups are not known before the import, nor what is left out.
MOST_GROUPED = 100_000
# As numbers of a column, from 1.
FAULTS: tuple[Fault, ...] = get_args(Fault)


GroupOfEach = Sequence[str | int | None]
"""What frames belong to; None of one that does not say it and is dropped."""


@dataclass(frozen=True, kw_only=True)
class GivenFile:
    """What was seen of a file while its frames passed."""

    path: Path
    stamp: Stamp
    """Of the file when it was read."""
    labelled: bool
    """Whether labels of the reference level were looked at."""
    survey: Survey
    """Of the frames in our units, whose names are their positions in the file."""
    keys: Mapping[str, int]
    """How many frames have a value or column, by our names for labels."""
    infos: set[str]
    """Names that the info of any frame has."""
    columns: set[str]
    """Columns of three numbers that any frame has and that may be forces."""
    free_atoms: Mapping[int, float]
    """As of `free_atoms`."""
    not_finite: Mapping[str, NDArray[np.int64]]
    """Positions of the frames that have NaN or infinity for a label of a given level, by our name for it."""
    every: int = 1
    """Only each so many-th frame of the file was read, the stride of the dataset included."""
    ignored: int | None = None
    """Of a pool, how many frames have labels that are not looked at; None of labelled frames."""
    groups: GroupOfEach | None = None
    """What each frame is held out with; None where frames are held out one by one."""
    belonging: GroupOfEach | None = None
    """What each frame belongs to where it is trained on; None where nothing says it."""
    faults: NDArray[np.int8]
    """(M,) of frames that cannot be taken, and need not be, which of `FAULTS`, from 1; 0 of all others."""

    def __len__(self) -> int:
        return len(self.survey)

    def with_label(self, key: str) -> int:
        """Return how many frames have labels under a name."""
        return self.keys.get(key, 0)

    @property
    def taken(self) -> NDArray[np.int64]:
        """Rows of the frames that can be taken."""
        return np.flatnonzero(self.faults == 0)


@dataclass(frozen=True, kw_only=True)
class GivenFrames(GivenFile):
    """The same of a file whose frames are few enough to be held."""

    frames: list[Atoms]
    """Those that can be taken, with `REF_energy` (eV), `REF_forces` and `WEAK_forces` (eV/Å), `REF_stress` (eV/Å³)
    where there are any, charge, multiplicity, and `frame`, the position in the file."""

    def of_rows(self, rows: NDArray[np.int64]) -> list[Atoms]:
        """Return the frames of some rows, which can be taken."""
        return [self.frames[place] for place in np.searchsorted(self.taken, rows).tolist()]


File = TypeVar("File", bound=GivenFile)


@dataclass(frozen=True)
class Part(Generic[File]):
    """The frames of a file that are for training, for the test, or the pool."""

    file: File
    indices: NDArray[np.int64]
    """Among those that were read, in their order."""


@dataclass(frozen=True)
class Further:
    """Where a file has labels of given levels, and which of these says the weak forces."""

    names: Mapping[str, LabelNames]
    """By level."""
    weak: str | None
    """The level, where it is one of those."""

    @classmethod
    def of(cls, dataset: GivenDataset, path: Path) -> Further:
        """Return what a dataset says of one of its files."""
        return cls(dataset.given_labels_of(path), None if dataset.computes_weak_forces else dataset.weak_forces)

    def add_to(self, atoms: Atoms, info: dict[str, Any], arrays: dict[str, NDArray[np.float64]]) -> None:
        """Add the labels that a frame has of these levels to what is kept of it.

        Raises:
            PiwslError: a label is there but is no number.
        """
        for level, names in self.names.items():
            of_frame, of_atoms = labels_of_level(atoms, level, names)
            info |= of_frame
            arrays |= of_atoms
        if self.weak is not None:
            forces = arrays.get(label_key(self.weak, "forces"))
            arrays.pop(WEAK_FORCES_KEY, None)
            arrays |= {} if forces is None else {WEAK_FORCES_KEY: forces}

    def not_finite(self, atoms: Atoms, ours: Atoms) -> Iterator[str]:
        """Yield our names for the labels that a frame has, and that are absent in what was made of it: no numbers."""
        for level, names in self.names.items():
            if names.energy_key in atoms.info and (key := label_key(level, "energy")) not in ours.info:
                yield key
            if names.forces_key in atoms.arrays and (key := label_key(level, "forces")) not in ours.arrays:
                yield key


class _Passing:
    """Frames of a file, made ours one by one; keeps what is told of the file behind them."""

    def __init__(self, dataset: GivenDataset, path: Path, every: int, labelled: bool, formulas: Formulas) -> None:
        self._dataset, self._path, self._every, self._labelled = dataset, path, every, labelled
        self._labels, self._stamp = dataset.labels_of(path), stamp_of(path)
        self._further = Further.of(dataset, path)
        self._surveyor, self._keys = Surveyor(formulas, self._further.names), Counter[str]()
        self._infos, self._columns = set[str](), set[str]()
        self._free_atoms: dict[int, float] = {}
        by = (None if dataset.split is None else dataset.split.groups, dataset.grouped_by)
        by_frame = (each for each in by if each is not None and each.blocks is None and self._is_trained_on)
        self._groups = {each: list[str | int | None]() for each in by_frame}
        self._not_finite: dict[str, array[int]] = defaultdict(lambda: array("q"))
        self._known_groups: dict[str | int | None, str | int | None] = {}
        self._ignored = 0
        self._listed = _listed(dataset) if labelled and path == dataset.file else None
        self._faults = array("b")

    def __iter__(self) -> Iterator[Atoms]:
        form = self._dataset.format_of(self._path)
        for count, atoms in enumerate(unchanged_frames_of(self._path, form, self._stamp, self._every)):
            position = count * self._every
            with _naming(self._path, position):
                frame = self._ours(atoms, position)
                for by, groups in self._groups.items():
                    group = _group_if_stated(by, atoms, needed=frame is not None and self._is_listed(position))
                    groups.append(self._known_groups.setdefault(group, group))  # one text for all of a group
            if frame is not None:
                yield frame
        if not len(self._surveyor):
            raise PiwslError(f"{self._path}: holds no frame")

    def _ours(self, atoms: Atoms, position: int) -> Atoms | None:
        """Return a frame with our labels, and note what is told of it; None of one that is dropped."""
        problem = geometry_problem(atoms)
        if problem is not None:
            self._drop("overlaps" if lies_on_itself(atoms) else None, position, PiwslError(problem))
            return None
        try:
            frame = _with_our_labels(atoms, self._labels, self._further, position, self._labelled)
        except NoLabel as error:
            self._drop("unlabelled", position, error)
            return None
        self._faults.append(0)
        self._note(atoms, frame)
        return frame

    def _drop(self, fault: Fault | None, position: int, problem: PiwslError) -> None:
        """Pass over a frame that cannot be taken, where that is dropped or no list names it; or refuse it."""
        if fault is None or (self._is_listed(position) and fault not in self._dataset.drop):
            raise problem
        self._faults.append(1 + FAULTS.index(fault))
        self._surveyor.pass_over()

    @property
    def _is_trained_on(self) -> bool:
        """Whether frames of the file are for training."""
        return self._labelled and self._path == self._dataset.file

    def _is_listed(self, position: int) -> bool:
        """Whether a frame is for training or test."""
        return self._listed is None or (position < len(self._listed) and bool(self._listed[position]))

    def _note(self, atoms: Atoms, frame: Atoms) -> None:
        """Note what is told of a frame as it was read and as ours."""
        self._surveyor.add(frame)
        self._keys.update([*frame.info, *frame.arrays])
        for key in self._further.not_finite(atoms, frame):
            self._not_finite[key].append(frame.info["frame"])
        self._ignored += self._labels.energy_key in atoms.info or self._labels.forces_key in atoms.arrays
        self._infos |= atoms.info.keys()
        self._columns |= {
            name
            for name, values in atoms.arrays.items()
            if values.shape[1:] == (3,) and name not in ("positions", DIRECTION_KEY)
        }
        _note_free_atom(self._free_atoms, frame)

    def _grouped(self, by: Groups | None) -> GroupOfEach | None:
        """Return what each frame belongs to; None where nothing says it, or no frame is for training."""
        if by is None or not self._is_trained_on:
            return None
        return self._groups[by] if by.blocks is None else blocks_of(len(self._surveyor), by.blocks)

    def seen(self) -> dict[str, Any]:
        """Return what was seen, as attributes of `GivenFile`."""
        return {
            "path": self._path,
            "stamp": self._stamp,
            "labelled": self._labelled,
            "survey": self._surveyor.survey(self._every * np.arange(len(self._surveyor))),
            "keys": self._keys,
            "infos": self._infos,
            "columns": self._columns,
            "free_atoms": self._free_atoms,
            "not_finite": {key: np.asarray(positions) for key, positions in self._not_finite.items()},
            "every": self._every,
            "ignored": None if self._labelled else self._ignored,
            "groups": self._grouped(None if self._dataset.split is None else self._dataset.split.groups),
            "belonging": self._grouped(self._dataset.grouped_by),
            "faults": np.asarray(self._faults),
        }


@contextmanager
def _naming(path: Path, position: int) -> Iterator[None]:
    """Say of which frame an error is."""
    try:
        yield
    except PiwslError as error:
        raise PiwslError(f"{path}: frame {position}: {error}") from None


def read_given(
    dataset: GivenDataset, path: Path, every: int = 1, labelled: bool = True, formulas: Formulas | None = None
) -> GivenFrames:
    """Read frames of a user's file.

    Args:
        dataset: says under which names the labels are, and in which units. Labels of other names are left behind.
        path: one of its files.
        every: read only each so many-th frame.
        labelled: whether the labels are looked at; of a pool, those of the cheaper level alone.
        formulas: those of other files that were read.

    Raises:
        PiwslError: the file cannot be read, or a frame is no geometry or has neither energy nor forces; names the
            frame.
    """
    passing = _Passing(dataset, path, every, labelled, formulas or Formulas())
    frames = [*passing]
    return GivenFrames(frames=frames, **passing.seen())


def survey_given(dataset: GivenDataset, path: Path, labelled: bool, formulas: Formulas) -> GivenFile:
    """Survey the frames of a user's file, of which none is kept.

    Args:
        dataset: as of `read_given`.
        path: likewise.
        labelled: likewise.
        formulas: likewise.

    Raises:
        PiwslError: as of `read_given`.
    """
    passing = _Passing(dataset, path, dataset.stride_of(path), labelled, formulas)
    for _ in passing:
        pass
    return GivenFile(**passing.seen())


def frames_again(dataset: GivenDataset, file: GivenFile) -> Iterator[tuple[int, Atoms]]:
    """Read the frames of a file that was surveyed once more, one by one: those that can be taken, with their rows.

    Args:
        dataset: as of `read_given`.
        file: of which every frame was seen that the dataset takes.

    Raises:
        PiwslError: it is not the file that it was, or its reader gives more frames or fewer.
    """
    labels, further = dataset.labels_of(file.path), Further.of(dataset, file.path)
    form, count = dataset.format_of(file.path), 0
    for atoms in unchanged_frames_of(file.path, form, file.stamp, file.every):
        row, position = count, count * file.every
        count += 1
        if count > len(file):
            break
        if file.faults[row]:
            continue
        with _naming(file.path, position):
            frame = _with_our_labels(atoms, labels, further, position, file.labelled)
        yield row, frame
    if count != len(file):
        often = "more" if count > len(file) else str(count)
        raise PiwslError(f"{file.path}: the reader '{form}' gave {len(file)} frames, and then {often}; mend it")


def problem_of(dataset: GivenDataset, file: GivenFile, row: int) -> str:
    """Read a frame of a file that was surveyed once more, and say why it cannot be taken.

    Args:
        dataset: as of `read_given`.
        file: likewise of `frames_again`.
        row: of the frame.

    Raises:
        PiwslError: it is not the file that it was.
    """
    frames = unchanged_frames_of(file.path, dataset.format_of(file.path), file.stamp, file.every)
    atoms, position = next(islice(frames, row, None)), row * file.every
    problem = geometry_problem(atoms)
    if problem is None:
        try:
            labels, further = dataset.labels_of(file.path), Further.of(dataset, file.path)
            _with_our_labels(atoms, labels, further, position, file.labelled)
        except NoLabel as error:
            problem = str(error)
    return f"frame {position}: {problem}"


def _with_our_labels(atoms: Atoms, labels: LabelNames, further: Further, position: int, labelled: bool) -> Atoms:
    """Return the bare geometry with the labels that are named, in eV, eV/Å, eV/Å³; absent ones stay absent."""
    info, arrays = our_labels(atoms, labels, reference=labelled)
    further.add_to(atoms, info, arrays)
    if labelled and ENERGY_KEY not in info and FORCES_KEY not in arrays:
        raise NoLabel(
            f"has no {labels.energy_key} and no {labels.forces_key}; its info holds {_names(set(atoms.info))}. "
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


def _group_if_stated(by: Groups, atoms: Atoms, needed: bool) -> str | int | None:
    """Return what a frame belongs to; None where it does not say it, and need not.

    Raises:
        PiwslError: as of `_group_of`, where it is needed.
    """
    try:
        return _group_of(by, atoms)
    except PiwslError:
        if needed:
            raise
        return None


def _group_of(by: Groups, atoms: Atoms) -> str | int:
    """Return what a frame belongs to.

    Raises:
        PiwslError: it does not say its group, or says what is neither text nor a number.
    """
    if by.by == "size":
        return len(atoms)
    if by.by == "composition":
        return str(atoms.get_chemical_formula())
    if by.key not in atoms.info:
        raise PiwslError(f"has no {by.key}, by which frames are grouped; its info holds {_names(set(atoms.info))}")
    value = atoms.info[by.key]
    if (name := group_name(value)) is not None:
        return name
    raise PiwslError(f"{by.key} is {str(value)[:40]!r}; a group is text or a number")


def _names(names: set[str]) -> str:
    shown = sorted(names)[:NAMES_SHOWN]
    return f"{shown}{' and more' if len(names) > len(shown) else ''}" if names else "nothing"


def check_keys(dataset: GivenDataset, files: Sequence[GivenFile]) -> None:
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
    if dataset.catalogue is None:  # what a published set brings may lie in frames that were not looked at
        _check_levels(dataset, files)


def check_energies(dataset: GivenDataset, file: GivenFile, rows: NDArray[np.int64], part: str) -> None:
    """Refuse frames of which none, or none with an element, has an energy: forces do not tell where energies begin.

    Of a file that was not read whole nothing is refused: the others may have some.

    Args:
        dataset: says what energies are called.
        file: one of its files.
        rows: of the frames.
        part: what messages call them.

    Raises:
        PiwslError: names what their info holds.
    """
    if file.every != dataset.stride_of(file.path):
        return
    survey = file.survey.rows(rows)
    known, key = survey.rows(np.flatnonzero(survey.with_energy)), dataset.labels_of(file.path).energy_key
    if len(survey) and not len(known):
        raise PiwslError(
            f"{file.path}: no {part} frame has {key}, and forces do not tell where energies begin; write the total "
            f"energies of some there, or say energy_key and energy_unit (their info holds {_names(file.infos)})"
        )
    if part == TRAINING and (missing := sorted({*survey.elements()} - {*known.elements()})):
        raise PiwslError(
            f"{file.path}: no {part} frame with {', '.join(chemical_symbols[number] for number in missing)} has "
            f"{key}, and forces do not tell where energies of an element begin; write those of some, or leave these "
            "frames out"
        )


def _check_levels(dataset: GivenDataset, files: Sequence[GivenFile]) -> None:
    """Refuse a level that the files say nothing of, or not under a name that is written out."""
    shown = " or ".join(str(file.path) for file in files)
    for level, said in dataset.given_levels.items():
        names, own = dataset.given_labels_of(files[0].path)[level], dataset.labels_of(files[0].path)
        if names.energy_key == own.energy_key:
            raise PiwslError(
                f"given_levels.{level}.energy_key: '{own.energy_key}' holds the labels themselves; leave the level "
                "out, or say which energy_key they have"
            )
        there = [q for q in ENERGY_AND_FORCES if any(file.with_label(label_key(level, q)) for file in files)]
        missing = [q for q in ENERGY_AND_FORCES if getattr(said, f"{q}_key") is not None and q not in there]
        if missing or not there:
            quantity = missing[0] if missing else "energy"
            key = getattr(names, f"{quantity}_key")
            if any(label_key(level, quantity) in file.not_finite for file in files):
                raise PiwslError(
                    f"given_levels.{level}.{quantity}_key: '{key}' is NaN or infinite wherever a frame of {shown} has "
                    "it; leave the level out, or say another key"
                )
            held = set().union(*((file.infos if quantity == "energy" else file.columns) for file in files))
            raise PiwslError(
                f"given_levels.{level}.{quantity}_key: no frame of {shown} has '{key}'; "
                f"{'their info holds' if quantity == 'energy' else 'columns of three numbers are'} {_names(held)}"
            )
    if (weak := dataset.weak_forces) in dataset.given_levels and not any(
        file.with_label(WEAK_FORCES_KEY) for file in files
    ):
        raise PiwslError(
            f"weak_forces: no frame of {shown} has forces of '{weak}'; say given_levels.{weak}.forces_key, or leave "
            "weak_forces out"
        )


def names_of_files(dataset: GivenDataset) -> dict[str, dict[str, LabelNames]]:
    """Return where the files of a dataset have their labels, those that are learned first, then of each given level.

    Of a dataset without such levels nothing.
    """
    paths = [path for path in (dataset.file, dataset.test_file, dataset.pool_file) if path is not None]
    return {
        str(path): {REFERENCE: dataset.labels_of(path), **dataset.given_labels_of(path)}
        for path in paths
        if dataset.given_levels
    }


def findings_of_levels(dataset: GivenDataset, files: Sequence[GivenFile]) -> list[Finding]:
    """Return which given levels have no energies to fit to, and of each file once which labels of them are absent."""
    found = [
        Finding(
            kind="given_levels",
            level=level,
            said=f"given_levels.{level}: no frame of {files[0].path} has its energy; the report has no errors of it, "
            "for constants of the elements are fitted there",
        )
        for level in dataset.given_levels
        if not files[0].with_label(label_key(level, "energy"))
        and any(file.with_label(label_key(level, "energy")) for file in files)
    ]
    for file in {file.path: file for file in files}.values():
        for level, names in dataset.given_labels_of(file.path).items():
            found += _absent(level, file, names)
    return found


def _absent(level: str, file: GivenFile, names: LabelNames) -> Iterator[Finding]:
    """Yield which labels of a level are absent, for they are no numbers."""
    keys: dict[Quantity, str] = {"energy": names.energy_key, "forces": names.forces_key}
    for quantity, key in keys.items():
        positions = file.not_finite.get(label_key(level, quantity))
        if positions is None:
            continue
        first = f"{', '.join(map(str, positions[:FRAMES_SHOWN]))}{', ...' if len(positions) > FRAMES_SHOWN else ''}"
        said = (
            f"given_levels.{level}: {WORDS[quantity]} ({key}) of {len(positions)} of {len(file)} frames of {file.path} "
            f"(frame {first}) are NaN or infinite, and are left out; the frames are not"
        )
        which = f"{file.path}: {first}"
        yield Finding(
            kind="not_finite", level=level, said=said, frames=len(positions), which=which, done="label left out"
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
    formulas = Formulas()

    def read(path: Path, labelled: bool) -> GivenFrames:
        return read_given(dataset, path, every_of(dataset, path, most), labelled, formulas)

    return _each_file(dataset, read, checked)


def survey_files(dataset: GivenDataset, checked: bool = True) -> list[GivenFile]:
    """Survey the same files, however many frames they have.

    Args:
        dataset: names the files.
        checked: as of `read_files`.

    Raises:
        PiwslError: as of `read_files`.
    """
    formulas = Formulas()
    return _each_file(dataset, lambda path, labelled: survey_given(dataset, path, labelled, formulas), checked)


def _each_file(dataset: GivenDataset, read: Callable[[Path, bool], File], checked: bool) -> list[File]:
    paths = [dataset.file] + ([] if dataset.test_file is None else [dataset.test_file])
    found = {path: read(path, True) for path in dict.fromkeys(paths)}
    files = [found[path] for path in paths]
    if dataset.pool_file is not None:
        files.append(read(dataset.pool_file, False))
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


def divide(dataset: GivenDataset, files: Sequence[File]) -> dict[str, Part[File]]:
    """Return which frames are for "training", for "test" and, where there is a file of such, the "pool".

    All that were read are divided, those included that are dropped afterwards: of a part, others stay what they are.

    Args:
        dataset: says which.
        files: of `read_files` or `survey_files`; of `read_files` that read fewer frames, fewer are held out.

    Raises:
        PiwslError: holding out leaves nothing to train on, or a file of positions names no frames of the file.
    """
    if dataset.test_file is not None:
        found = {TRAINING: _whole(files[0]), TEST: _whole(files[1])}
    else:
        training, test = _divided(dataset, files[0])
        found = {TRAINING: Part(files[0], training), TEST: Part(files[0], test)}
    return found | ({} if dataset.pool_file is None else {POOL: _whole(files[-1])})


def _whole(file: File) -> Part[File]:
    return Part(file, np.arange(len(file)))


def _divided(dataset: GivenDataset, file: GivenFile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices of the frames for training, and of those for the test."""
    if (every := file.every // dataset.stride) == 1:
        return _split(dataset, len(file), file.groups)
    if dataset.split is not None and (found := _division(dataset)) is not None:
        taken = file.survey.names // dataset.stride
        training, test = (np.flatnonzero(np.isin(taken, part)) for part in found)
        if len(training) and len(test):
            return training, test
    return hold_out(len(file), max(1, (dataset.test_frames or 1) // every), dataset.seed)


def _division(dataset: GivenDataset) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return which of the frames that are taken are for training and test; None of too many to know their groups yet.

    Raises:
        PiwslError: the file cannot be read, or cannot be divided so.
    """
    frames, split = frames_taken(dataset, dataset.file), dataset.split
    if split is None or split.groups is None:
        return _split(dataset, frames, None)
    if split.groups.blocks is not None:
        return _split(dataset, frames, blocks_of(frames, split.groups.blocks))
    if frames > MOST_GROUPED:
        return None
    form, stamp = dataset.format_of(dataset.file), stamp_of(dataset.file)
    needed = not {"unlabelled", "overlaps"} & {*dataset.drop}  # else the import will tell of a frame that stays
    return _split(dataset, frames, _groups_in(dataset.file, stamp, form, dataset.stride, split.groups, needed))


@lru_cache(maxsize=8)
def _groups_in(path: Path, _stamp: Stamp, form: str, stride: int, by: Groups, needed: bool) -> GroupOfEach:
    """Return the groups of each so many-th frame of a file that is as it was then."""
    found = []
    for count, atoms in enumerate(frames_of(path, form, stride)):
        with _naming(path, count * stride):
            found.append(_group_if_stated(by, atoms, needed))
    return found


def _split(
    dataset: GivenDataset, frames: int, groups: GroupOfEach | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide as many frames, of these groups."""
    split = dataset.split
    if split is not None and split.stored is not None:
        return read_split(split.stored, source_of(dataset, dataset.file, stamp_of(dataset.file)), frames)
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
    return _held_out(groups, split, dataset.test_frames, dataset.seed)


def _held_out(
    groups: GroupOfEach, split: Split, test_frames: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold whole groups out; frames without one are dropped, and until then among those for training."""
    stated = np.fromiter((group is not None for group in groups), bool, len(groups))
    rows, known = np.flatnonzero(stated), [group for group in groups if group is not None]
    training, test = hold_out_groups(known, test_frames, seed, split.by == "size")
    return np.union1d(rows[training], np.flatnonzero(~stated)), rows[test]


def _listed(dataset: GivenDataset) -> NDArray[np.bool_] | None:
    """Return which frames the lists of a split name, (M,); None where each is for training or test.

    Raises:
        PiwslError: as of `divide`.
    """
    split = dataset.split
    if split is None or (split.stored is None and split.training is None):
        return None
    listed = np.zeros(frames_taken(dataset, dataset.file), dtype=bool)
    for part in _split(dataset, len(listed), None):
        listed[part] = True
    return listed


def source_of(dataset: GivenDataset, path: Path, stamp: Stamp) -> Source:
    """Return a file of a dataset with its hash.

    Raises:
        PiwslError: it cannot be read, or is not what it was.
    """
    sha256 = _hash_of(path, stamp)
    check_unchanged(path, stamp)
    return Source(path, dataset.format_of(path), sha256)


@lru_cache(maxsize=8)
def _hash_of(path: Path, _stamp: Stamp) -> str:
    """Return the SHA-256 of a file that is as it was then."""
    return file_hash(path)


def held_out_groups(divided: Mapping[str, Part[GivenFile]]) -> list[str | int]:
    """Return the groups that frames are tested of, in order; none where frames are held out one by one."""
    part = divided[TEST]
    groups = {} if part.file.groups is None else {part.file.groups[row] for row in part.indices.tolist()}
    return sorted(group for group in groups if group is not None)


def frames_in_part(dataset: GivenDataset, part: str) -> int:
    """Return how many frames `divide` finds for "training", "test" or "pool", or how many it finds at most.

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


def left_out(dataset: GivenDataset, divided: Mapping[str, Part[GivenFile]]) -> str | None:
    """Say which frames of a file are in neither part, where that is so.

    Args:
        dataset: the section.
        divided: of `divide`.
    """
    if dataset.test_file is not None:
        return None
    file = divided[TRAINING].file
    count = len(file) - len(divided[TRAINING].indices) - len(divided[TEST].indices)
    why = "of the groups of test frames" if dataset.split is None or not dataset.split.is_listed else "in no list"
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
        _note_free_atom(found, atoms)
    return found


def _note_free_atom(found: dict[int, float], atoms: Atoms) -> None:
    if len(atoms) == 1 and not atoms.pbc.any() and ENERGY_KEY in atoms.info and _is_neutral(atoms):
        number = int(atoms.numbers[0])
        found[number] = min(atoms.info[ENERGY_KEY], found.get(number, np.inf))


def _is_neutral(atoms: Atoms) -> bool:
    try:
        return charge_of(atoms) == 0
    except PiwslError:
        return False


def summary(dataset: GivenDataset, file: GivenFile) -> str:
    """Say in one line what was taken from a file: frames, forces, stress, the range of energies, names and units."""
    weak, labels = file.with_label(WEAK_FORCES_KEY), dataset.labels_of(file.path)
    survey = file.survey.rows(file.taken)
    if not len(survey):
        return f"{file.path}: {len(file)} frames, none of which can be taken"
    name = f"those of {dataset.weak_forces}" if dataset.weak_forces in dataset.given_levels else labels.weak_forces_key
    cheaper = f", {weak} with forces of a cheaper level ({name})" if weak else ""
    if file.ignored is not None:
        unseen = f"; {file.ignored} have labels, which are not looked at" if file.ignored else ""
        return f"{file.path}: {len(file)} frames of the pool{cheaper}{unseen}{_further_summary(dataset, file)}"
    energies = (survey.energies / survey.sizes)[np.isfinite(survey.energies)]
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
    named = f"{labels.energy_key} in {labels.energy_unit}"
    with_energy = named if len(energies) == len(survey) else f"{len(energies)} with energies ({named})"
    between = f", {np.min(energies):.4f} to {np.max(energies):.4f} eV an atom" if len(energies) else ""
    return (
        f"{file.path}: {len(file)} frames, {forces}{stress}{slope}{cheaper}; {with_energy}{between}"
        f"{_further_summary(dataset, file)}"
    )


def _further_summary(dataset: GivenDataset, file: GivenFile) -> str:
    """Say how many frames have labels of each given level, under which names and in which units."""
    said = ""
    for level, names in dataset.given_labels_of(file.path).items():
        energies, forces = (file.with_label(label_key(level, quantity)) for quantity in ENERGY_AND_FORCES)
        said += f"; {level}: {energies} with energies ({names.energy_key} in {names.energy_unit})"
        said += f", {forces} with forces ({names.forces_key} in {names.forces_unit})" if forces else ""
    return said
