"""Named test sets: geometries of a file taken whole, and a set without what a model learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ase import Atoms
from ase.data import chemical_symbols

from piwsl.config import Geometries
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_structures
from piwsl.data.plausibility import copies_of, warnings_of_test
from piwsl.errors import PiwslError
from piwsl.structures.coordinates import Coordinate, values_in_order
from piwsl.structures.frames import label, write_frames
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
    from piwsl.reference.geometries import read_geometries
    from piwsl.reference.store import rounded

    write_frames(path, [rounded(atoms) for atoms in read_geometries(geometries)])


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
        frames, odd = file.structures(file.indices(TEST)), file.warnings()
        learned = learned_file.structures(learned_file.indices(TRAINING))
    _check_elements(frames, learned, labelled)
    frames = frames if along is None else _with_coordinate(frames, along, labelled)
    tested, known = ([_labelled(structure, n) for n, structure in enumerate(part)] for part in (frames, learned))
    odd += warnings_of_test(tested, known, **units) if units else []
    copies = copies_of(known, tested)
    if len(copies) == len(frames):
        raise PiwslError(f"{labelled}: each frame has the geometry of a training frame; test on others")
    if copies:
        names = ", ".join(map(str, copies[:NAMES_SHOWN])) + ", ..." * (len(copies) > NAMES_SHOWN)
        odd.append(
            f"copies: {len(copies)} of {len(frames)} frames (frame {names}) have the geometry of a training frame, and "
            "are left out"
        )
    for line in odd:
        print(f"warning: {line}")
    kept = [structure for position, structure in enumerate(frames) if position not in copies]
    write_structures(path, {TEST: kept}, warnings=odd)


def _check_elements(frames: Sequence[Structure], learned: Sequence[Structure], source: Path) -> None:
    known = {int(number) for structure in learned for number in structure.numbers}
    found = {int(number) for structure in frames for number in structure.numbers}
    if unknown := sorted(found - known):
        symbols = ", ".join(chemical_symbols[number] for number in unknown)
        raise PiwslError(f"{source}: test frames hold {symbols}, which no training frame does; take those frames out")


def _with_coordinate(frames: Sequence[Structure], along: Sequence[int], source: Path) -> list[Structure]:
    try:
        values = values_in_order(Coordinate(tuple(along)), [structure.atoms() for structure in frames])
    except PiwslError as error:
        raise PiwslError(f"{source}: {error}") from None
    return [replace(frame, coordinate=float(value)) for frame, value in zip(frames, values, strict=True)]


def _labelled(structure: Structure, position: int) -> Atoms:
    atoms = label(structure.atoms(), structure.energy, structure.forces, structure.stress)
    atoms.info["frame"] = position
    return atoms
