"""Frames of files that were surveyed, read a second time, part by part: one reading of a file serves its parts."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.config import GivenDataset
from piwsl.data.dataset import TEST, TRAINING
from piwsl.data.given import GivenFile, Part, frames_again


@contextmanager
def parts_again(
    dataset: GivenDataset, parts: Mapping[str, Part[GivenFile]], folder: Path
) -> Iterator[dict[str, Iterator[Atoms]]]:
    """Give the frames of parts, each in the order of its file; parts are gone through in their order, and once.

    Args:
        dataset: the section that names the files.
        parts: of `divide`, those that are wanted.
        folder: where test frames lie until the training frames are through, where both are of one file; made.

    Raises:
        PiwslError: a file is not what it was when it was surveyed.
    """
    with ExitStack() as stack:
        frames = {name: _of_part(dataset, part) for name, part in parts.items()}
        if TRAINING in parts and TEST in parts and parts[TRAINING].file is parts[TEST].file:
            folder.mkdir(parents=True, exist_ok=True)
            aside = stack.enter_context(TemporaryFile(dir=folder))  # without a name: nobody else writes there
            frames[TRAINING] = _putting_aside(dataset, parts[TRAINING], parts[TEST], aside)
            frames[TEST] = _from_aside(aside)
        yield frames


def _of_part(dataset: GivenDataset, part: Part[GivenFile]) -> Iterator[Atoms]:
    taken = _among(part)
    return (atoms for row, atoms in frames_again(dataset, part.file) if taken[row])


def _among(part: Part[GivenFile]) -> NDArray[np.bool_]:
    """Return which frames of a file are of a part."""
    taken = np.zeros(len(part.file), dtype=bool)
    taken[part.indices] = True
    return taken


def _putting_aside(
    dataset: GivenDataset, part: Part[GivenFile], other: Part[GivenFile], aside: IO[bytes]
) -> Iterator[Atoms]:
    """Yield the frames of one part, and write those of the other to a file."""
    taken, later = _among(part), _among(other)
    for row, atoms in frames_again(dataset, part.file):
        if later[row]:
            pickle.dump(atoms, aside, pickle.HIGHEST_PROTOCOL)
        if taken[row]:
            yield atoms


def _from_aside(aside: IO[bytes]) -> Iterator[Atoms]:
    aside.seek(0)
    while True:
        try:
            yield pickle.load(aside)
        except EOFError:
            return
