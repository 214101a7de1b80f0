"""NumPy's NPZ with an array a quantity, as many sets are published: one molecule, or many padded with zeros.

Positions and atomic numbers are found by their usual names; labels are named by `energy_key` and `forces_key`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase import Atoms
from numpy.typing import NDArray

from piwsl.errors import PiwslError
from piwsl.readers import LabelNames, Reader
from piwsl.readers._frame import frame_of
from piwsl.readers._npz import Arrays

POSITIONS = ("R", "coords", "coordinates", "positions", "pos")
# `charges` are those of the nuclei in QM9 as NPZ.
NUMBERS = ("Z", "z", "nuclear_charges", "atomic_numbers", "numbers", "charges")
CELL = "cell"
# The total charge to PhysNet, whose names these are (Unke and Meuwly 2019, doi:10.1021/acs.jctc.9b00181).
CHARGE, CHARGE_OF_PHYSNET = "charge", "Q"


class NPZ(Reader):
    """NPZ of positions (M, N, 3) in Å, atomic numbers (N,) or (M, N), and whatever there is a frame or an atom."""

    suffixes = (".npz",)
    labels = LabelNames(energy_key="E", forces_key="F", stress_key="stress")

    def count(self, path: Path) -> int:
        """Count the frames without reading them."""
        with Arrays(path) as arrays:
            return arrays.frames(arrays.first(POSITIONS, "positions"))

    def frames(self, path: Path, every: int = 1) -> Iterator[Atoms]:
        """Read frames one by one.

        Yields:
            Frames with each array of a value, a text or a 3 x 3 matrix a frame in `info`, of three values an atom among
            `arrays`. Atoms of number 0 are padding. With a `cell` (vectors in rows, Å) frames are periodic.
        """
        with Arrays(path) as arrays:
            positions, numbers = arrays.first(POSITIONS, "positions"), arrays.first(NUMBERS, "atomic numbers")
            fixed = _of_all_frames(path, arrays, positions, numbers)
            rows = {name: arrays.rows(name, every) for name in _of_each_frame(arrays, positions) if name not in fixed}
            texts = {name: arrays.texts(name, every) for name in _texts_of_each_frame(arrays, positions)}
            for found in zip(*rows.values(), *texts.values(), strict=True):
                values = dict(zip([*rows, *texts], found, strict=True))
                said = {name: values.pop(name) for name in texts}
                yield _frame(fixed | values, said, positions, numbers)


def _of_all_frames(path: Path, arrays: Arrays, positions: str, numbers: str) -> dict[str, NDArray[Any]]:
    """Return atomic numbers and cell, as far as they are those of all frames.

    Raises:
        PiwslError: the atomic numbers do not fit the positions.
    """
    shape, found = arrays.headers[positions].shape, arrays.headers[numbers].shape
    arrays.frames(positions)
    if found not in (shape[1:2], shape[:2]):
        raise PiwslError(f"{path}: {numbers} is of shape {found}, which does not fit {positions}, {shape}")
    dimensions = {numbers: 1, CELL: 2}
    return {
        name: arrays.whole(name)
        for name, count in dimensions.items()
        if name in arrays.headers and len(arrays.headers[name].shape) == count
    }


def _of_each_frame(arrays: Arrays, positions: str) -> list[str]:
    """Return the names of the arrays that hold numbers, a matrix or columns a frame; the positions first."""
    shape = arrays.headers[positions].shape
    kept = {(shape[0], *rest) for rest in ((), (1,), (6,), (3, 3), shape[1:2], shape[1:])}
    found = [name for name, header in arrays.headers.items() if header.numeric and header.shape in kept]
    return list(dict.fromkeys([positions, *found]))


def _texts_of_each_frame(arrays: Arrays, positions: str) -> list[str]:
    """Return the names of the arrays that hold a text a frame, such as what it belongs to."""
    frames = arrays.headers[positions].shape[0]
    return [name for name, each in arrays.headers.items() if each.textual and each.shape in ((frames,), (frames, 1))]


def _frame(found: dict[str, NDArray[Any]], said: dict[str, str], positions: str, numbers: str) -> Atoms:
    padded, cell, shape = found.pop(numbers), found.pop(CELL, None), found[positions].shape
    atoms = padded > 0
    arrays = {name: values[atoms] for name, values in found.items() if values.shape == shape}
    # Of three atoms a column is as large as a matrix is: what it is meant as, its key says.
    info = {name: values for name, values in found.items() if values.shape in ((), (1,), (6,), (3, 3))}
    info.pop(positions, None)
    if CHARGE_OF_PHYSNET in info and CHARGE not in info:
        info[CHARGE] = info[CHARGE_OF_PHYSNET].item()
    return frame_of(padded[atoms], arrays.pop(positions), said | info, arrays, cell)
