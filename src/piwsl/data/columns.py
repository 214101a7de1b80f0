"""Columns of a dataset file: flat arrays in HDF5, written by appending and read in parts, neither held in memory.

A column lies in the file in one piece, so its rows are bytes at a known place, which any number of processes read at
once without HDF5. How long it will be is not known while it grows: until then it is a file of its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

# Of a column that is moved to its place, and of a row that many frames share.
ROWS_AT_ONCE = 100_000


@dataclass(frozen=True)
class Kind:
    """What the rows of a column are."""

    dtype: str
    """As NumPy calls it."""
    shape: tuple[int, ...] = ()
    """Of a row."""
    fill: float = np.nan
    """Where nothing is said."""


class GrowingColumn:
    """A column that is appended to."""

    def __init__(self, folder: Path, name: str, kind: Kind) -> None:
        """Begin an empty one.

        Args:
            folder: where it grows; removed by its owner.
            name: of the column, with slashes.
            kind: of its rows.
        """
        self.path = folder / name.replace("/", "%")
        self.kind, self.rows = kind, 0
        self._file: IO[bytes] = self.path.open("wb", buffering=1 << 16)

    def append(self, rows: ArrayLike) -> None:
        """Append rows, (R, ...)."""
        values = np.ascontiguousarray(rows, dtype=self.kind.dtype).reshape(-1, *self.kind.shape)
        self._file.write(values.tobytes())
        self.rows += len(values)

    def fill_to(self, rows: int) -> None:
        """Append what stands for nothing until there are so many rows."""
        while self.rows < rows:
            self.append(np.full((min(rows - self.rows, ROWS_AT_ONCE), *self.kind.shape), self.kind.fill))

    def move_to(self, file: h5py.File, name: str) -> None:
        """Make it a column of a file, and remove it here."""
        self._file.close()
        column = file.create_dataset(name, (self.rows, *self.kind.shape), self.kind.dtype)
        with self.path.open("rb") as grown:
            for start in range(0, self.rows, ROWS_AT_ONCE):
                stop = min(start + ROWS_AT_ONCE, self.rows)
                values = np.fromfile(grown, self.kind.dtype, (stop - start) * math.prod(self.kind.shape))
                column[start:stop] = values.reshape(-1, *self.kind.shape)
        self.path.unlink()

    def close(self) -> None:
        """Write no more."""
        self._file.close()


class GrowingColumns:
    """Columns by name, begun when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        """Begin with none, in a folder."""
        self._folder = folder
        self.columns: dict[str, GrowingColumn] = {}

    def column(self, name: str, kind: Kind, rows: int = 0) -> GrowingColumn:
        """Return a column of a kind, with `rows` rows at least: those before it was first spoken of."""
        if name not in self.columns:
            self.columns[name] = GrowingColumn(self._folder, name, kind)
        self.columns[name].fill_to(rows)
        return self.columns[name]

    def move_to(self, file: h5py.File) -> None:
        """Make them columns of a file."""
        for name, column in self.columns.items():
            column.move_to(file, name)


@contextmanager
def growing_columns(beside: Path) -> Iterator[GrowingColumns]:
    """Let columns grow in a folder beside a file, and remove it in the end."""
    with TemporaryDirectory(prefix=f".{beside.stem}-", dir=beside.parent) as folder:
        columns = GrowingColumns(Path(folder))
        try:
            yield columns
        finally:
            for column in columns.columns.values():
                column.close()


@dataclass(frozen=True)
class Column:
    """Where a column lies in a file, of which rows are read without the others."""

    offset: int
    """Of its first byte in the file."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> Column:
        """Return where a column of HDF5 lies.

        Raises:
            ValueError: it does not lie in one piece.
        """
        offset = dataset.id.get_offset()
        if offset is None and dataset.size:
            raise ValueError(f"column {dataset.name} does not lie in one piece")
        return cls(offset or 0, dataset.dtype, dataset.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, descriptor: int, first: int, last: int) -> NDArray[Any]:
        """Read rows from `first` to before `last`.

        Args:
            descriptor: of the file, open for reading; other threads and processes may read by it at once.
            first: row.
            last: row.

        Raises:
            ValueError: the file ends before them.
            OSError: the disk does not answer.
        """
        values = np.empty((last - first, *self.shape[1:]), self.dtype)
        place = self.offset + first * self.dtype.itemsize * math.prod(self.shape[1:])
        left = memoryview(values.reshape(-1).view(np.uint8).data)
        while left:
            read = os.preadv(descriptor, [left], place)
            if not read:
                raise ValueError("the file ends before its content")
            left, place = left[read:], place + read
        return values

    def all(self, descriptor: int) -> NDArray[Any]:
        """Read the whole column."""
        return self.rows(descriptor, 0, len(self))
