"""Which of given frames are left out, and why: those that `datasets.<name>.drop` names, by the measures of the checks.

What is found of a frame by itself or among the others is found of the survey; only frames that may have one geometry
are read once more, to be compared.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.config import Fault, GivenDataset
from piwsl.data import given
from piwsl.data.copies import compared, copied, energy_ranges, sets_of
from piwsl.data.dataset import POOL, TEST, TRAINING
from piwsl.data.given import (
    FAULTS,
    File,
    GivenFile,
    GivenFrames,
    Part,
    check_energies,
    divide,
    frames_again,
    frames_in_part,
    frames_taken,
    problem_of,
    survey_files,
)
from piwsl.data.plausibility import NAMES_SHOWN, Parts, close_atoms, energy_outliers, force_outliers, net_forces
from piwsl.data.reading import Stamp, stamp_of
from piwsl.errors import PiwslError
from piwsl.files import write_atomically
from piwsl.records import Finding
from piwsl.structures.frames import SHORTEST_BOND
from piwsl.structures.geometry import SHORTEST_DISTANCE

COLUMNS = ("file", "frame", "part", "fault", "why")
# Of copies one is kept of the first of these parts that has any.
PRECEDENCE = (TEST, TRAINING, POOL)
WORDS: Mapping[Fault, str] = {
    "unlabelled": "have neither energy nor forces, or a label that is not finite",
    "overlaps": "have atoms on one another",
    "close_atoms": f"have atoms nearer than {SHORTEST_BOND:g} times the sum of their covalent radii",
    "energy_outliers": "have energies far from what fits the others",
    "force_outliers": "have a force far beyond the others",
    "net_forces": "have forces that do not add up to zero",
    "duplicates": "have the geometry of another, which is kept",
}


@dataclass(frozen=True)
class Dropped:
    """Frames of one part that are left out for one fault."""

    fault: Fault
    part: str
    file: GivenFile
    rows: NDArray[np.int64]
    """Of the file, in order."""
    why: Callable[[int], str]
    """Says of the n-th of them why, from 0."""

    @property
    def positions(self) -> NDArray[np.int64]:
        """Where in the file the frames stand."""
        return np.asarray(self.file.survey.names[self.rows])


@dataclass(frozen=True)
class Kept(Generic[File]):
    """What is left of the parts, and what is not."""

    divided: dict[str, Part[File]]
    """Whole parts."""
    parts: dict[str, Part[File]]
    dropped: list[Dropped]

    @property
    def survey(self) -> Parts:
        """The survey of what is left."""
        return survey_of_parts(self.parts)

    def findings(self) -> list[Finding]:
        """Return what was dropped, for the report: a finding a fault."""
        frames = sum(len(part.indices) for part in self.divided.values())
        return [
            _finding(fault, found, frames)
            for fault in FAULTS
            if (found := [dropped for dropped in self.dropped if dropped.fault == fault])
        ]


Rows = tuple[NDArray[np.int64], Callable[[int], str]]
"""Rows of a survey of all parts, and why the n-th of them is dropped."""


def kept_of(dataset: GivenDataset, files: Sequence[File], written: Collection[str] = (TRAINING, TEST)) -> Kept[File]:
    """Divide the frames of files, and drop of each part what the dataset says.

    Faults are looked for one after the other, in the order of `FAULTS`, each among what those before have left.

    Args:
        dataset: the section that names the files.
        files: of `read_files` or `survey_files`.
        written: the parts whose frames are looked at: a named test set has no training frames, though its file is
            both.

    Raises:
        PiwslError: as of `divide`, of a part whose file was read whole nothing is left or, of one that is written, no
            frame has an energy, or a file is not what it was.
    """
    divided = divide(dataset, files)
    kept = Kept(divided, divided, [])
    for fault in FAULTS:
        if fault in dataset.drop:
            kept = _without(kept, _found(dataset, kept, fault))
    for part in (TRAINING, TEST):
        file = kept.parts[part].file
        if dataset.drop and not len(kept.parts[part].indices) and file.every == dataset.stride_of(file.path):
            raise PiwslError(_nothing_left(dataset, kept, part))
        if part in written:
            check_energies(dataset, file, kept.parts[part].indices, part)
    return kept


def _nothing_left(dataset: GivenDataset, kept: Kept[File], part: str) -> str:
    file, dropped = kept.parts[part].file, [each for each in kept.dropped if each.part == part]
    most = max(dropped, key=lambda each: len(each.rows))
    counts = ", ".join(f"{len(each.rows)} {each.fault}" for each in dropped)
    unread = most.fault in ("unlabelled", "overlaps")
    why = problem_of(dataset, file, int(most.rows[0])) if unread else f"there are {counts}; drop less"
    return f"{file.path}: drop leaves no {part} frame; {why}"


def survey_of_parts(parts: Mapping[str, Part[File]]) -> Parts:
    """Return the survey of the frames of parts."""
    return Parts.of(
        {name: (part.file.survey, part.indices) for name, part in parts.items()},
        {name: str(part.file.path) for name, part in parts.items()},
    )


def _without(kept: Kept[File], found: list[Dropped]) -> Kept[File]:
    parts = dict(kept.parts)
    for dropped in found:
        part = parts[dropped.part]
        parts[dropped.part] = Part(part.file, np.setdiff1d(part.indices, dropped.rows, assume_unique=True))
    return Kept(kept.divided, parts, [*kept.dropped, *found])


def _found(dataset: GivenDataset, kept: Kept[File], fault: Fault) -> list[Dropped]:
    """Return the frames of the parts that have a fault."""
    if fault in ("unlabelled", "overlaps"):
        return _not_taken(kept, fault)
    surveyed = kept.survey
    if fault == "duplicates":
        rows, why = _duplicates(dataset, kept, surveyed)
    else:
        rows, why = _far(dataset, surveyed, fault)
    found = []
    for name, part in kept.parts.items():
        own = surveyed.rows(name)
        first, last = np.searchsorted(rows, [own.start, own.stop]).tolist()
        if first < last:
            of_file = part.indices[rows[first:last] - own.start]
            found.append(Dropped(fault, name, part.file, of_file, _counted_from(first, why)))
    return found


def _counted_from(first: int, why: Callable[[int], str]) -> Callable[[int], str]:
    return lambda number: why(first + number)


def _not_taken(kept: Kept[File], fault: Fault) -> list[Dropped]:
    """Return the frames that could not be taken when they were read."""
    why = f"atoms are nearer than {SHORTEST_DISTANCE:g} Å" if fault == "overlaps" else WORDS[fault].replace("have ", "")
    found = []
    for name, part in kept.parts.items():
        rows = part.indices[part.file.faults[part.indices] == 1 + FAULTS.index(fault)]
        found += [Dropped(fault, name, part.file, rows, lambda _: why)] if len(rows) else []
    return found


def _far(dataset: GivenDataset, surveyed: Parts, fault: Fault) -> Rows:
    """Return frames with labels, or distances of atoms, that are far from what is usual."""
    if fault == "close_atoms":
        rows, by = close_atoms(surveyed.survey)
        bond = f"{SHORTEST_BOND:g} times the sum of their covalent radii"
        return rows, lambda number: f"atoms are {by[number]:.3g} Å apart, nearer than {bond}"
    if fault == "energy_outliers":
        rows, by = energy_outliers(surveyed.labelled, dataset.labels_of(dataset.file).energy_unit)
        return rows, lambda number: f"{by[number]:.3g} eV an atom away from what fits the others"
    if fault == "force_outliers":
        rows, by = force_outliers(surveyed.labelled)
        return rows, lambda number: f"a force of {by[number]:.3g} eV/Å"
    rows, by = net_forces(surveyed.labelled)
    return rows, lambda number: f"forces add up to {by[number]:.3g} eV/Å"


def _duplicates(dataset: GivenDataset, kept: Kept[File], surveyed: Parts) -> Rows:
    """Return all frames of each geometry but one: a test frame where there is one, the first with the most labels.

    Where energies contradict each other, nobody knows which frame to keep, and all are.
    """
    sets = sets_of(surveyed.survey, _compared_frames(dataset, kept, surveyed).__getitem__)
    rows = copied(sets)
    survey, sets, precedence = surveyed.survey.rows(rows), sets[rows], _precedence(surveyed, rows)
    order = np.lexsort((-survey.labels, precedence))
    _, first, of = np.unique(sets[order], return_index=True, return_inverse=True)
    original = np.empty_like(rows)
    original[order] = rows[order[first[of]]]
    others = (original != rows) & (energy_ranges(survey, sets) == 0)
    rows, original = rows[others], original[others]

    def why(number: int) -> str:
        row = int(original[number])
        part = next(name for name in surveyed.counts if row < surveyed.rows(name).stop)
        return f"the geometry of frame {surveyed.survey.names[row]} of {surveyed.files[part]} ({part})"

    return rows, why


def _precedence(surveyed: Parts, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at which place of `PRECEDENCE` the parts of rows stand."""
    places = np.empty_like(rows)
    for place, part in enumerate(PRECEDENCE):
        own = surveyed.rows(part)
        places[(rows >= own.start) & (rows < own.stop)] = place
    return places


def _compared_frames(dataset: GivenDataset, kept: Kept[File], surveyed: Parts) -> dict[int, Atoms]:
    """Return the frames that are compared in full, by their rows; each file is read once more where it has some."""
    wanted = compared(surveyed.survey)
    of_file: dict[Path, dict[int, list[int]]] = {}
    files: dict[Path, GivenFile] = {}
    for name, part in kept.parts.items():
        own = surveyed.rows(name)
        files[part.file.path] = part.file
        for row in wanted[(wanted >= own.start) & (wanted < own.stop)].tolist():
            of_file.setdefault(part.file.path, {}).setdefault(int(part.indices[row - own.start]), []).append(row)
    found = {}
    for path, places in of_file.items():
        for row, atoms in _passing(dataset, files[path]):
            found.update(dict.fromkeys(places.get(row, ()), atoms))
    return found


def _passing(dataset: GivenDataset, file: GivenFile) -> Iterator[tuple[int, Atoms]]:
    if isinstance(file, GivenFrames):
        return zip(file.taken.tolist(), file.frames, strict=True)
    return frames_again(dataset, file)


def _finding(fault: Fault, dropped: Sequence[Dropped], frames: int) -> Finding:
    count = sum(len(each.rows) for each in dropped)
    which = "; ".join(
        f"{each.file.path}: {', '.join(map(str, each.positions[:NAMES_SHOWN]))}"
        f"{', ...' if len(each.rows) > NAMES_SHOWN else ''}"
        for each in dropped
    )
    said = f"{fault}: {count} of {frames} frames ({which}) {WORDS[fault]}, and are dropped"
    return Finding(kind=fault, said=said, frames=count, which=which, done="dropped")


def frames_of(kept: Kept[GivenFrames]) -> dict[str, list[Atoms]]:
    """Return the frames of "training", "test" and "pool" that are left."""
    return {POOL: []} | {name: part.file.of_rows(part.indices) for name, part in kept.parts.items()}


def write_dropped(path: Path, dropped: Sequence[Dropped]) -> None:
    """Write which frames were left out and why, atomically.

    Args:
        path: CSV to write, a row a frame, by files and in their order; of none the heading alone.
        dropped: the frames.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for source in dict.fromkeys(each.file.path for each in dropped):
                table.writerows(_rows([each for each in dropped if each.file.path == source]))

    write_atomically(path, write)


def _rows(dropped: Sequence[Dropped]) -> Iterator[tuple[str, int, str, str, str]]:
    """Yield rows of the table, of frames of one file in its order."""
    positions = np.concatenate([each.positions for each in dropped])
    of = np.repeat(np.arange(len(dropped)), [len(each.rows) for each in dropped])
    number = np.concatenate([np.arange(len(each.rows)) for each in dropped])
    for place in np.argsort(positions, kind="stable").tolist():
        each = dropped[of[place]]
        yield str(each.file.path), int(positions[place]), each.part, each.fault, each.why(int(number[place]))


class Left(NamedTuple):
    """What the import will leave of the parts of a dataset."""

    counts: Mapping[str, int]
    findings: Sequence[Finding]
    """Of what is dropped."""
    groups: Sequence[str | int | None] | None
    """What each training frame belongs to, in their order; None where nothing says it."""


def frames_left(dataset: GivenDataset, part: str) -> int:
    """Return how many frames the import finds for "training", "test" or "pool", or how many it finds at most.

    Frames are read where they are dropped or held out in groups, unless there are too many.

    Raises:
        PiwslError: a file cannot be read, or cannot be divided so, or nothing is left of a part.
    """
    if not dataset.drop or not is_counted(dataset):
        return frames_in_part(dataset, part)
    return left_of(dataset).counts.get(part, 0)


def left_of(dataset: GivenDataset) -> Left:
    """Return what the import will leave of a dataset, all of whose frames are read.

    Raises:
        PiwslError: as of `frames_left`.
    """
    said = json.dumps(dataset.beyond_defaults(), sort_keys=True)
    positions = [] if dataset.split is None else dataset.split.files
    return _left(said, tuple(stamp_of(path) for path in [*_files(dataset), *positions]))


def is_counted(dataset: GivenDataset) -> bool:
    """Whether files have so few frames that these are read to know, before the import, how many are left."""
    return sum(frames_taken(dataset, path) for path in _files(dataset)) <= given.MOST_GROUPED


def _files(dataset: GivenDataset) -> list[Path]:
    return [path for path in (dataset.file, dataset.test_file, dataset.pool_file) if path is not None]


@lru_cache(maxsize=8)
def _left(said: str, _stamps: tuple[Stamp, ...]) -> Left:
    """Return what is left of a dataset, whose files are as they were then."""
    dataset = GivenDataset.model_validate_json(said)
    kept = kept_of(dataset, survey_files(dataset, checked=False))
    training = kept.parts[TRAINING]
    belonging = training.file.belonging
    groups = None if belonging is None else [belonging[row] for row in training.indices.tolist()]
    counts = {part: len(found.indices) for part, found in kept.parts.items()}
    return Left(counts, kept.findings(), groups)
