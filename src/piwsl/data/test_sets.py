"""Named test sets: geometries of a file taken whole, and a set without what a model learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from piwsl.config import Geometries
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_structures
from piwsl.data.plausibility import copies_of, warnings_of_test
from piwsl.data.survey import Formulas, Survey, survey_of
from piwsl.errors import PiwslError
from piwsl.records import Finding
from piwsl.structures.coordinates import Coordinate, values_in_order
from piwsl.structures.frames import label, write_frames
from piwsl.structures.labels import REFERENCE
from piwsl.structures.structure import Structure

NAMES_SHOWN = 5


def take_whole_file(geometries: Geometries, path: Path) -> None:
    """Write all geometries of a file of the user's, in its order.

    Args:
        geometries: the section; its blocks are not looked at.
        path: extended XYZ to write.

    Raises:
        PiwslError: the file cannot be read, or a frame is periodic.
    """
    from piwsl.reference.geometries import whole_file

    write_frames(path, whole_file(geometries))


def write_test_set(
    labelled: Path, training: Path, path: Path, along: Sequence[int] | None, units: Mapping[str, str]
) -> None:
    """Write the dataset file of a named test set: labelled frames that no model of the dataset can have learned from.

    Frames with the geometry of a training frame are left out, with a line in the log and in the report.

    Args:
        labelled: dataset file of the frames.
        training: dataset file of the training frames of the dataset that is tested.
        path: dataset file to write.
        along: atoms whose distance, angle or dihedral the frames are in order of; None where they are of no file.
        units: of given labels, as arguments of `warnings_of_test`; {} of ours, which are not doubted.

    Raises:
        PiwslError: nothing is left, a frame lacks an atom of the coordinate, or holds an element that no training frame
            does.
    """
    with Dataset(labelled) as file, Dataset(training) as learned_file:
        tested, known = _Frames(file, TEST), _Frames(learned_file, TRAINING)
        formulas = Formulas()
        frames, learned = survey_of(tested, formulas), survey_of(known, formulas)
        _check_elements(frames, learned, labelled)
        coordinates = None if along is None else _coordinates(tested, along, labelled)
        odd = file.findings() + (warnings_of_test(frames, learned, tested.frame, **units) if units else [])
        copies = copies_of(
            learned, frames, lambda row: known.frame(row) if row < len(known) else tested.frame(row - len(known))
        )
        if len(copies) == len(frames):
            raise PiwslError(f"{labelled}: each frame has the geometry of a training frame; test on others")
        odd += _left_out(copies, len(frames))
        for found in odd:
            print(f"warning: {found.said}")
        kept = np.setdiff1d(np.arange(len(frames)), copies)
        write_structures(path, {TEST: tested.structures(kept, coordinates)}, findings=odd, provenance=file.provenance())


class _Frames:
    """The frames of a part of a dataset file, of which few are held at a time; messages call them by their numbers."""

    def __init__(self, file: Dataset, part: str) -> None:
        self._file, self._indices = file, file.indices(part)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Atoms]:
        return (_labelled(each, number) for number, each in enumerate(self._file.each(self._indices)))

    def frame(self, number: int) -> Atoms:
        """Return a frame with its labels."""
        return _labelled(self._file.structure(int(self._indices[number])), number)

    def structures(self, numbers: NDArray[np.int64], coordinates: NDArray[np.float64] | None) -> Iterator[Structure]:
        """Yield some of the frames, with where on a scan they are."""
        for number, structure in zip(numbers, self._file.each(self._indices[numbers]), strict=True):
            yield structure if coordinates is None else replace(structure, coordinate=float(coordinates[number]))


def _check_elements(frames: Survey, learned: Survey, source: Path) -> None:
    if unknown := sorted(set(frames.elements()) - set(learned.elements())):
        symbols = ", ".join(chemical_symbols[number] for number in unknown)
        raise PiwslError(f"{source}: test frames hold {symbols}, which no training frame does; take those frames out")


def _coordinates(frames: _Frames, along: Sequence[int], source: Path) -> NDArray[np.float64]:
    try:
        return values_in_order(Coordinate(tuple(along)), frames)
    except PiwslError as error:
        raise PiwslError(f"{source}: {error}") from None


def _left_out(copies: Sequence[int], frames: int) -> list[Finding]:
    if not copies:
        return []
    names = ", ".join(map(str, copies[:NAMES_SHOWN])) + ", ..." * (len(copies) > NAMES_SHOWN)
    said = (
        f"copies: {len(copies)} of {frames} frames (frame {names}) have the geometry of a training frame, and are left "
        "out"
    )
    return [Finding(kind="duplicates", said=said, frames=len(copies), which=names, done="left out")]


def _labelled(structure: Structure, position: int) -> Atoms:
    labels = structure.at_level(REFERENCE)
    atoms = label(structure.atoms(), labels.energy, labels.forces, labels.stress)
    atoms.info["frame"] = position
    return atoms
