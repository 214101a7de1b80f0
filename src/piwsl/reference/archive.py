"""Finished energies of a store as one small file, to hand on: compressed JSON lines, from which a store is filled.

A line says what level follows, then each record of it has a line. Whose records they are follows from the level, as in
a store, and a record is taken only if it would be believed there.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from piwsl.config.section import one_line
from piwsl.errors import PiwslError
from piwsl.files import write_atomically
from piwsl.reference.parts import LevelFolder
from piwsl.reference.recipe import key_of
from piwsl.reference.store import COORDINATE_DECIMALS, SCHEME_VERSION, hash_of

FORMAT = "piwsl labels"
# A record of a hundred atoms with forces has 20 kB.
LONGEST_LINE = 10_000_000
ELEMENTS = len(chemical_symbols)
COORDINATE = re.compile(rf"-?\d+\.\d{{{COORDINATE_DECIMALS}}}")


@dataclass
class Unpacked:
    """What an archive held of a level."""

    level: str
    new: int = 0
    there: int = 0
    """That the store had already, with forces or without."""


def pack(folders: Sequence[LevelFolder], path: Path) -> int:
    """Write all that can be believed of some levels; not their parts, which records of a level stand for.

    Args:
        folders: of the levels.
        path: of the file, xz.

    Returns:
        How many records there are.
    """
    records = {folder: [*_records(folder)] for folder in folders}
    lines: list[dict[str, Any]] = [{FORMAT: SCHEME_VERSION}]
    for folder, of_level in records.items():
        lines += [{LevelFolder.kind: folder.about()}, *of_level]

    def write(temporary: Path) -> None:
        with lzma.open(temporary, "wt", encoding="utf-8", preset=9) as file:
            file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)

    write_atomically(path, write)
    return sum(map(len, records.values()))


def _records(folder: LevelFolder) -> Iterator[dict[str, Any]]:
    """Yield what is believed of a level, without the key of its folder, in the order of the geometries' hashes."""
    for geometry in sorted(folder.geometries()):
        record = folder.find(geometry)
        if record is not None:
            yield {key: value for key, value in record.items() if key != LevelFolder.kind}


def unpack(path: Path, root: Path) -> list[Unpacked]:
    """Put the energies of a file, or of several joined, into a store; what is there stays, unless it says less.

    Args:
        path: as `pack` wrote it.
        root: of the store.

    Raises:
        PiwslError: it is no such file, was damaged, is of another version, or cannot be read; or the store cannot be
            written. What precedes the damage is taken.
    """
    found: list[Unpacked] = []
    folder: LevelFolder | None = None
    number = 0
    for number, line in enumerate(_lines(path), start=1):
        if number == 1 or FORMAT in line:
            _check_version(path, line)
        elif isinstance(about := line.get(LevelFolder.kind), dict):
            folder = _folder(root, about)
            found.append(Unpacked(one_line(str(about.get(LevelFolder.kind)))))
        elif folder is None:
            raise PiwslError(f"{path}: line {number} is of no level; the file is damaged")
        else:
            with _said_in_a_line(folder.folder):
                _take(folder, line, found[-1], f"{path}: line {number}")
    if not number:
        raise PiwslError(f"{path}: is empty; name a file that `piwsl labels pack` wrote")
    return found


@contextmanager
def _said_in_a_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PiwslError(f"{error.filename or path}: {error.strerror}") from None


def _folder(root: Path, about: dict[str, Any]) -> LevelFolder:
    """Return where the records of a level belong, by what it says that it depends on."""
    recipe = {key: value for key, value in about.items() if key != LevelFolder.kind}
    return LevelFolder(root / f"v{SCHEME_VERSION}-{key_of(recipe)}", about)


def _take(folder: LevelFolder, record: dict[str, Any], count: Unpacked, where: str) -> None:
    own = record | {LevelFolder.kind: folder.key}
    if (problem := _geometry_problem(record) or folder.problem(own)) is not None:
        raise PiwslError(f"{where}: {problem}; the file is damaged")
    geometry = hash_of(own)
    before = folder.path(geometry).exists()
    folder.add(geometry, own)
    count.there += before
    count.new += not before


def _geometry_problem(record: dict[str, Any]) -> str | None:
    """Say why a record says no geometry as a store does, or None where it does."""
    numbers, rows = record.get("numbers"), record.get("positions_A")
    if not isinstance(numbers, list) or not all(type(number) is int and 0 < number < ELEMENTS for number in numbers):
        return "numbers are no atomic numbers"
    if not isinstance(rows, list) or len(rows) != len(numbers) or not all(map(_is_position, rows)):
        return "positions_A are not three coordinates an atom"
    if not all(type(record.get(name)) is int for name in ("charge", "multiplicity")):
        return "charge and multiplicity are no whole numbers"
    return None


def _is_position(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 3 and all(isinstance(x, str) and COORDINATE.fullmatch(x) for x in row)


def _check_version(path: Path, line: dict[str, Any]) -> None:
    if line.get(FORMAT) != SCHEME_VERSION:
        raise PiwslError(f"{path}: holds no labels of version {SCHEME_VERSION}, which `piwsl labels pack` writes")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file, each a mapping."""
    try:
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            while line := lines.readline(LONGEST_LINE):
                found = json.loads(line)
                if not isinstance(found, dict):
                    raise ValueError("a line is no mapping")
                yield found
    except OSError as error:
        raise PiwslError(f"{path}: {error.strerror}") from None
    except (lzma.LZMAError, EOFError, ValueError, RecursionError) as error:
        raise PiwslError(f"{path}: is no file of labels, or was damaged ({error})") from None
