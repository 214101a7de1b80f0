"""The arrays of an NPZ file, row by row: a file may be larger than memory. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from piwsl.errors import PiwslError

SUFFIX = ".npy"
BLOCK_BYTES = 2**20
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
NAMES_SHOWN = 12


@dataclass(frozen=True)
class Header:
    """What an array is, before it is read."""

    shape: tuple[int, ...]
    by_columns: bool
    """Whether it is stored in Fortran's order, where no row is in one piece."""
    dtype: np.dtype[Any]

    @property
    def numeric(self) -> bool:
        """Whether it holds real numbers."""
        return self.dtype.kind in "iuf"

    @property
    def textual(self) -> bool:
        """Whether it holds texts."""
        return self.dtype.kind in "SU" and self.dtype.itemsize > 0


class Arrays:
    """An open NPZ file."""

    def __init__(self, path: Path) -> None:
        """Open a file, and read what its arrays are."""
        self._path = path
        self._file = zipfile.ZipFile(path)
        self.headers = {
            name.removesuffix(SUFFIX): self._header(name) for name in self._file.namelist() if name.endswith(SUFFIX)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def first(self, names: Sequence[str], what: str) -> str:
        """Return the first of several names that an array has.

        Raises:
            PiwslError: none has; says what is looked for, and what there is.
        """
        for name in names:
            if name in self.headers:
                return name
        found = sorted(self.headers)
        shown = ", ".join(found[:NAMES_SHOWN]) + (", ..." if len(found) > NAMES_SHOWN else "")
        raise PiwslError(f"{self._path}: has no {what} ({' or '.join(names)}); it holds {shown or 'nothing'}")

    def frames(self, name: str) -> int:
        """Return how many rows of (N, 3) the array of positions has.

        Raises:
            PiwslError: it is not (M, N, 3) numbers.
        """
        header = self.headers[name]
        self._refuse_objects(name)
        if len(header.shape) != 3 or header.shape[2] != 3 or not header.numeric:
            raise PiwslError(f"{self._path}: {name} is {header.dtype} {header.shape}, expected (frames, atoms, 3)")
        return header.shape[0]

    def whole(self, name: str) -> NDArray[Any]:
        """Return an array, in the byte order of this machine.

        Raises:
            PiwslError: it holds Python objects.
        """
        self._refuse_objects(name)
        with self._file.open(name + SUFFIX) as stream:
            array = npy.read_array(stream, allow_pickle=False)
        return _native(array)

    def text(self, name: str) -> str | None:
        """Return what an array of one text says, None where there is none or it says nothing."""
        if name not in self.headers or self.headers[name].dtype.kind not in "SU" or prod(self.headers[name].shape) != 1:
            return None
        return _text(self.whole(name)).strip() or None

    def texts(self, name: str, every: int = 1) -> Iterator[str]:
        """Read each so many-th text of an array of one a row, from the first; as of `rows`."""
        return map(_text, self.rows(name, every))

    def rows(self, name: str, every: int = 1) -> Iterator[NDArray[Any]]:
        """Read each so many-th row of an array one by one, from the first.

        Raises:
            PiwslError: it holds Python objects, or ends before its last row.
        """
        self._refuse_objects(name)
        header = self.headers[name]
        if header.by_columns:
            yield from self.whole(name)[::every]
            return
        size = header.dtype.itemsize * prod(header.shape[1:])
        at_once = max(1, BLOCK_BYTES // max(size, 1))
        with self._file.open(name + SUFFIX) as stream:
            _read_header(stream)
            for start in range(0, header.shape[0], at_once):
                count = min(at_once, header.shape[0] - start)
                content = stream.read(count * size)
                if len(content) < count * size:
                    raise PiwslError(f"{self._path}: {name} ends before its {header.shape[0]} frames; is it whole?")
                block = np.frombuffer(content, header.dtype).reshape(count, *header.shape[1:])
                yield from _native(block[-start % every :: every])

    def _header(self, name: str) -> Header:
        with self._file.open(name) as stream:
            return _read_header(stream)

    def _refuse_objects(self, name: str) -> None:
        if self.headers[name].dtype.hasobject:
            raise PiwslError(f"{self._path}: {name} holds pickles, which may run code when read; write plain numbers")


def _read_header(stream: IO[bytes]) -> Header:
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"an array of NPY version {version[0]}.{version[1]}; write plain numbers")
    return Header(*HEADERS[version](stream))


def _text(value: NDArray[Any]) -> str:
    """Return what an array of one text says."""
    found = value.item()
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)


def _native(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("="), copy=False)
