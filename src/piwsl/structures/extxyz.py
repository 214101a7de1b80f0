"""Reading extended XYZ: what a file says under a name is found under that name. No knowledge of labels or units.

ASE's own reader moves `energy`, `forces` and their like into a calculator, stops at the first blank line, and knows no
line numbers; its parser of comment lines is used here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict
from numpy.typing import NDArray

from piwsl.errors import PiwslError

# A line that begins a frame is a number; the start of a binary file may be of any length.
LONGEST_COUNT = 100
PLAIN_COLUMNS = "species:S:1:pos:R:3"
# Names of ASE for those of a file, and the kind and width that they must have.
GEOMETRY_COLUMNS = {"species": "symbols", "Z": "numbers", "pos": "positions"}
GEOMETRY_KINDS = {
    "symbols": ("S", 1),
    "numbers": ("I", 1),
    "positions": ("R", 3),
    "masses": ("R", 1),
    "momenta": ("R", 3),
}
CONVERSIONS: dict[str, type] = {"R": np.float64, "I": np.int64, "S": np.str_}
# Of a comment line: what stands in quotes or brackets, and the names before an equals sign.
QUOTED = re.compile(r"""\"[^"]*"|'[^']*'|\{[^}]*\}|\[[^]]*\]""")
KEYS = re.compile(r"(?:^|\s)([^\s=]+)=")
BOOLEANS = {"T": True, "F": False, "True": True, "False": False}


@dataclass(frozen=True)
class _Lines:
    """The lines of one frame."""

    where: str
    """File and frame, for messages."""
    first: int
    """Number of its first line, from 1."""
    comment: str
    rows: list[str]

    def fail(self, problem: str, line: int = 1) -> NoReturn:
        """Say what is wrong with a line of the frame; 0 holds the count, 1 the comment, 2 the first atom."""
        raise PiwslError(f"{self.where}, line {self.first + line}: {problem}")


def iterate_frames(path: Path, every: int = 1) -> Iterator[Atoms]:
    """Read the frames of an extended XYZ file one by one.

    Blank lines between frames and at the end, Windows' line ends and a byte order mark are passed over.

    Args:
        path: the file.
        every: read only each so many-th frame, from the first.

    Yields:
        Frames without a calculator: what stands on the comment line is in `info`, each column in `arrays`, under the
        names of the file.

    Raises:
        PiwslError: one line with file, frame and line.
    """
    for lines in islice(_frame_lines(path), 0, None, every):
        yield _frame(lines)


def count_frames(path: Path) -> int:
    """Count the frames of an extended XYZ file without parsing their content.

    Raises:
        PiwslError: the file is missing or its lines do not add up to frames.
    """
    return sum(1 for _ in _frame_lines(path))


def _frame_lines(path: Path) -> Iterator[_Lines]:
    try:
        if path.exists() and not path.is_file():
            raise PiwslError(f"{path}: is no file; frames are read from extended XYZ")
        with path.open(encoding="utf-8-sig") as file:
            yield from _cut(path, file)
    except OSError as error:
        raise PiwslError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PiwslError(
            f"{path}: is no text in UTF-8; frames are read from extended XYZ, not compressed, not binary"
        ) from None


def _cut(path: Path, file: TextIO) -> Iterator[_Lines]:
    line, position = 0, 0
    while text := file.readline(LONGEST_COUNT):
        line += 1
        if not text.strip():
            continue
        where, count = f"{path}: frame {position}", text.strip()
        if not (count.isascii() and count.isdigit() and (text.endswith("\n") or len(text) < LONGEST_COUNT)):
            raise PiwslError(
                f"{where}, line {line}: a frame begins with its number of atoms, found {_shown(text)}; "
                "is this extended XYZ?"
            )
        atoms = int(count)
        comment = file.readline()
        rows = list(islice(file, min(atoms, 10**12)))
        if not comment or len(rows) < atoms:
            raise PiwslError(f"{where}, line {line}: ends before its {atoms} atoms, after {len(rows)}")
        yield _Lines(where, line, comment, rows)
        line, position = line + 1 + atoms, position + 1


def _shown(text: str) -> str:
    shown = repr(text.rstrip("\n"))
    return shown if len(shown) <= 32 else f"{shown[:28]}...'"


def _frame(lines: _Lines) -> Atoms:
    info = _info(lines)
    pbc = _periodicity(lines, info)
    cell = _lattice(lines, info.pop("Lattice", None))
    properties = info.pop("Properties", None)
    arrays = _columns(lines, None if properties is True else properties)
    mask = arrays.pop("move_mask", np.ones(0)).astype(bool)
    symbols, numbers = arrays.pop("symbols", None), arrays.pop("numbers", None)
    if symbols is not None:
        numbers = _numbers(lines, symbols)
    if numbers is None or "positions" not in arrays:
        lines.fail("Properties names no columns 'species' and 'pos'")
    atoms = Atoms(numbers, positions=arrays.pop("positions"), cell=cell, pbc=pbc, info=info)
    for name, values in arrays.items():
        atoms.set_array(name, values)
    if not mask.all():
        atoms.set_constraint(_constraints(mask))
    return atoms


def _info(lines: _Lines) -> dict[str, Any]:
    text = lines.comment.strip()
    try:
        info: dict[str, Any] = key_val_str_to_dict(text) if text else {}
    except (ValueError, IndexError, TypeError, RecursionError) as error:  # what ASE's parser runs into
        lines.fail(f"the comment line cannot be read: {error}")
    keys = KEYS.findall(QUOTED.sub("", text))
    if len(keys) > len(info) and (twice := [key for key in info if keys.count(key) > 1]):
        lines.fail(f"the comment line says {_shown(twice[0])} twice")
    for name in ("Lattice", "Properties"):
        for key in info:
            if key.lower() == name.lower() and key != name and info[key] is not True:
                lines.fail(f"'{key}' is written '{name}' in extended XYZ")
    return info


def _lattice(lines: _Lines, value: Any) -> NDArray[np.float64] | None:
    if value is None:
        return None
    vectors = np.asarray(value)
    if vectors.shape != (3, 3) or vectors.dtype.kind not in "if":
        lines.fail(f"Lattice is nine numbers, found {_shown(str(value))}")
    return vectors.T.astype(np.float64)  # ASE's parser gives the vectors as columns


def _numbers(lines: _Lines, symbols: NDArray[np.str_]) -> NDArray[np.int64]:
    found = [atomic_numbers.get(str(symbol).capitalize(), -1) for symbol in symbols]
    if -1 in found:
        position = found.index(-1)
        lines.fail(f"{_shown(str(symbols[position]))} is no element", 2 + position)
    return np.array(found, dtype=np.int64)


def _periodicity(lines: _Lines, info: dict[str, Any]) -> NDArray[np.bool_]:
    """Take what is said of periodic directions out of info; KLIFF and others write `PBC` what is `pbc`."""
    said = {key: info.pop(key) for key in [*info] if key.lower() == "pbc"} or {"pbc": "Lattice" in info}
    found = [(key, value, _directions(lines, key, value)) for key, value in said.items()]
    (first, value, directions), *others = found
    for key, other, also in others:
        if not np.array_equal(also, directions):
            problem = f"{first}={_written(value)} and {key}={_written(other)} contradict each other"
            lines.fail(f"{problem}; leave out the one that is wrong")
    return directions


def _directions(lines: _Lines, key: str, value: Any) -> NDArray[np.bool_]:
    directions = np.atleast_1d(np.asarray(value))
    if directions.dtype.kind not in "bi" or directions.shape not in ((1,), (3,)):
        lines.fail(f'{key} is three of T and F, such as {key}="T T F", found {_shown(str(value))}')
    return np.broadcast_to(directions.astype(bool), (3,))


def _written(value: Any) -> str:
    """Return periodic directions as they stand on a comment line."""
    said = np.atleast_1d(np.asarray(value))
    return f'"{" ".join("FT"[each] if said.dtype.kind == "b" else str(each) for each in said.tolist())}"'


def _columns(lines: _Lines, properties: Any) -> dict[str, NDArray[Any]]:
    """Read the columns of a frame by the names that Properties gives them; of plain XYZ, the first four alone."""
    fields = str(PLAIN_COLUMNS if properties is None else properties).split(":")
    names, kinds = fields[0::3], fields[1::3]
    if len(fields) % 3 or not all(width.isdigit() and 0 < int(width) < 10_000 for width in fields[2::3]):
        lines.fail(f"Properties is name:kind:columns and so on, found {_shown(str(properties))}")
    if unknown := set(kinds) - {"R", "I", "S", "L"}:
        lines.fail(f"Properties knows the kinds R, I, S, L, found {_shown(min(unknown))}")
    widths = [int(width) for width in fields[2::3]]
    names = [GEOMETRY_COLUMNS.get(name, name) for name in names]
    if len(set(names)) < len(names):
        lines.fail("Properties names a column twice")
    for name, kind, width in zip(names, kinds, widths, strict=True):
        wanted = GEOMETRY_KINDS.get(name, (kind, width))
        if (kind, width) != wanted:
            lines.fail(f"Properties: {name} are {wanted[0]}:{wanted[1]}, found {kind}:{width}")
    cells = _cells(lines, sum(widths), exactly=properties is not None)
    columns, start = {}, 0
    for name, kind, width in zip(names, kinds, widths, strict=True):
        part = cells[start : start + width]
        values = _converted(lines, name, kind, part if width > 1 else part[0])
        columns[name] = values.T if width > 1 else values
        start += width
    return columns


def _cells(lines: _Lines, width: int, exactly: bool) -> list[tuple[str, ...]]:
    """Return the text of the columns of a frame, and see to it that every line has so many."""
    rows = [row.split() for row in lines.rows]
    for position, row in enumerate(rows):
        if len(row) < width or (exactly and len(row) > width):
            lines.fail(
                f"expected {width} columns, found {len(row)} ({_shown(lines.rows[position])}); "
                "is the count of atoms right, and is there a comment line?",
                2 + position,
            )
    return list(zip(*(row[:width] for row in rows), strict=True)) if rows else [()] * width


def _converted(lines: _Lines, name: str, kind: str, cells: Any) -> NDArray[Any]:
    try:
        if kind == "L":
            return np.array(np.vectorize(BOOLEANS.__getitem__, otypes=[bool])(np.array(cells)))
        return np.array(cells, dtype=CONVERSIONS[kind])
    except (ValueError, KeyError, OverflowError):
        for position, row in enumerate(zip(*np.atleast_2d(np.array(cells)), strict=True)):
            for cell in row:
                try:
                    _ = BOOLEANS[str(cell)] if kind == "L" else CONVERSIONS[kind](cell)
                except (ValueError, KeyError, OverflowError):
                    lines.fail(
                        f"column '{name}' holds {_shown(str(cell))}, which is not of its kind {kind}", 2 + position
                    )
        raise


def _constraints(mask: NDArray[np.bool_]) -> Any:
    """Return ASE's constraints of a column or three that say whether atoms may move."""
    if mask.ndim == 1:
        return FixAtoms(mask=~mask)
    return [FixCartesian(index, mask=~free) for index, free in enumerate(mask)]
