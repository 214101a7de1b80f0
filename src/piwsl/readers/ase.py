"""What else ASE reads: its trajectories and databases, outputs of programs. Labels are the results of calculations.

Nothing is unpickled: ASE's trajectories (ULM) and databases (SQLite, JSON) hold JSON and plain arrays of numbers, its
other readers parse text. Formats that are no file, or whose readers unpickle, are refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from ase import Atoms
from ase.db.jsondb import JSONDatabase
from ase.db.row import AtomsRow
from ase.db.sqlite import SQLite3Database
from ase.io import iread
from ase.io.formats import UnknownFileTypeError, filetype, ioformats
from ase.io.trajectory import TrajectoryReader

from piwsl.errors import PiwslError
from piwsl.readers import LabelNames, Reader

# A folder that may hold pickles; servers; pictures.
REFUSED = {"bundletrajectory", "mysql", "postgresql"}
PICKLES = (".pckl", ".pkl", ".pickle", ".npy", ".npz")
# How pickles begin, by protocol, and NumPy's arrays, which may hold such.
PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x93NUMPY")
RESULTS = ("energy", "stress")


class ASE(Reader):
    """Any file that ASE reads; of a database also what stands beside the results."""

    suffixes = (".traj", ".db", ".json", "outcar", "vasprun.xml")
    labels = LabelNames(energy_key="energy", forces_key="forces", stress_key="stress")

    def count(self, path: Path) -> int:
        """Count the frames; of trajectories and databases without reading them."""
        match _kind(path):
            case "traj":
                with TrajectoryReader(path) as trajectory:
                    return len(trajectory)
            case "db":
                with _ReadOnly(path) as database:
                    return len(database.numbers())
            case kind:
                return sum(1 for _ in _read(path, kind, 1))

    def frames(self, path: Path, every: int = 1) -> Iterator[Atoms]:
        """Read frames one by one, of JSON databases all at once.

        Yields:
            Frames with the results `energy` (eV) and `stress` (eV/Å³) in `info` and `forces` (eV/Å) among `arrays`; of
            databases also the values by key in `info`, and what is in `data` as `data.name`, columns of N rows of three
            among `arrays`, too. Free energies are not taken.
        """
        return _read(path, _kind(path), every)


def _kind(path: Path) -> str:
    """Return ASE's name of a file's format.

    Raises:
        PiwslError: ASE does not read it, or what reads it might run what the file says.
    """
    with path.open("rb") as file:
        beginning = file.read(16)
    if path.name.lower().endswith(PICKLES) or beginning.startswith(PICKLED):
        raise PiwslError(f"{path}: pickles and NumPy's files may run code when read; write extended XYZ of it")
    try:
        kind = filetype(str(path.absolute()))  # what begins with mysql is a server to ASE
    except UnknownFileTypeError:
        kind = ""
    if kind not in ioformats or not ioformats[kind].can_read or kind in REFUSED:
        raise PiwslError(f"{path}: ASE does not know what this is; write extended XYZ of it")
    return str(kind)


def _read(path: Path, kind: str, every: int) -> Iterator[Atoms]:
    if kind == "db":
        with _ReadOnly(path) as database:
            # One by one: ASE's own way to go through rows reads all at once.
            yield from (_of_row(database.get(id=number)) for number in database.numbers()[::every])
    elif kind == "json":
        yield from map(_of_row, islice(JSONDatabase(str(path), use_lock_file=False).select(), 0, None, every))
    else:
        chosen = slice(None, None, every)
        frames = iread(str(path), chosen, kind, parallel=False, do_not_split_by_at_sign=True)
        yield from map(_with_results, frames)


class _ReadOnly(SQLite3Database):
    """A database that is opened for reading alone: ASE would put its tables into an empty file."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path.absolute()), create_indices=False, use_lock_file=False)
        self._path = path

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(self._path.absolute()))}?mode=ro", uri=True)

    def numbers(self) -> list[int]:
        """Return those of the rows, in their order.

        Raises:
            PiwslError: the file ends within a page, the rest of which SQLite would take for zeros.
        """
        with self.managed_connection() as connection:
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            if self._path.stat().st_size % page:
                raise PiwslError(f"{self._path}: ends within a page of the database; is it whole?")
            return [number for (number,) in connection.execute("SELECT id FROM systems ORDER BY id")]


def _of_row(row: AtomsRow) -> Atoms:
    atoms = _with_results(row.toatoms())
    # Read by ASE itself, a key `charge` would be the sum of initial charges.
    beside: dict[str, Any] = {key: vars(row)[key] for key in row.key_value_pairs}
    beside |= {f"data.{key}": value for key, value in row.data.items()}
    for key, value in beside.items():
        atoms.info[key] = value
        if np.shape(value) == (len(atoms), 3):
            atoms.set_array(key, np.asarray(value))
    return atoms


def _with_results(atoms: Atoms) -> Atoms:
    """Put what a calculation gave under the names of ASE's; a constraint does not change the forces."""
    results = getattr(atoms.calc, "results", {})
    atoms.calc = None
    for name in RESULTS:
        if results.get(name) is not None:
            atoms.info[name] = results[name]
    if results.get("forces") is not None:
        atoms.set_array("forces", np.asarray(results["forces"]))
    return atoms
