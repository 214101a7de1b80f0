"""Molecules of an HDF5 file, each a group of arrays whose rows are conformations; read in blocks, never as a whole."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from piwsl.errors import PiwslError

BLOCK_FRAMES = 256
# Rows that lie further apart on average are read one by one.
SPARSE = 8


@contextmanager
def molecules(path: Path, needed: Collection[str]) -> Iterator[Iterator[h5py.Group]]:
    """Open a file for its groups that have certain arrays, at any depth: names with a slash are groups in groups.

    Raises:
        PiwslError: it is no HDF5 file, or is cut short.
    """
    path.stat()  # says more of a file that is not there
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise PiwslError(f"{path}: is no HDF5 file, or not whole ({' '.join(str(error).split())[:80]})") from None
    with file:
        yield _with_arrays(file, needed, set())


def _with_arrays(group: h5py.Group, needed: Collection[str], seen: set[tuple[int, int]]) -> Iterator[h5py.Group]:
    about = h5py.h5o.get_info(group.id)
    if (about.fileno, about.addr) in seen:  # a link back to where it is from
        return
    seen.add((about.fileno, about.addr))
    if all(isinstance(_own(group, name), h5py.Dataset) for name in needed):
        yield group
        return
    for name in group:
        if isinstance(inner := _own(group, name), h5py.Group):
            yield from _with_arrays(inner, needed, seen)


def _own(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return what a group holds itself under a name; what it links to elsewhere, in other files, is not followed."""
    return group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None


def named(group: h5py.Group) -> dict[str, str]:
    """Return what frames of a molecule say of which it is: the name of its group."""
    return {"molecule": group.name.strip("/")}


def blocks(group: h5py.Group, names: Collection[str], indices: NDArray[np.int64]) -> Iterator[dict[str, NDArray[Any]]]:
    """Read rows of arrays of a group, some at a time.

    Args:
        group: the molecule.
        names: of its arrays.
        indices: which rows, ascending.
    """
    for start in range(0, len(indices), BLOCK_FRAMES):
        wanted = indices[start : start + BLOCK_FRAMES]
        yield {name: _rows(group[name], wanted) for name in names}


def _rows(dataset: h5py.Dataset, wanted: NDArray[np.int64]) -> NDArray[Any]:
    first, stop = wanted[0], wanted[-1] + 1
    if stop - first > SPARSE * len(wanted):
        return np.stack([dataset[index] for index in wanted])
    return dataset[first:stop][wanted - first]


def checked_rows(path: Path, group: h5py.Group, positions: str, names: Collection[str]) -> int:
    """Return how many conformations a group has.

    Raises:
        PiwslError: positions are no (M, N, 3), or another array has no row a conformation.
    """
    shape = group[positions].shape
    if len(shape) != 3 or shape[2] != 3:
        raise PiwslError(f"{path}: {group.name}: {positions} is of shape {shape}, expected (frames, atoms, 3)")
    for name in names:
        if group[name].shape[:1] != shape[:1] or group[name].dtype.kind not in "iuf":
            raise PiwslError(
                f"{path}: {group.name}: {name} is {group[name].dtype} {group[name].shape}, not a row a frame"
            )
    return int(shape[0])
