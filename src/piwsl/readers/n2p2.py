"""Training data of n2p2 and RuNNer, `input.data`: text in atomic units, a block a structure between `begin` and `end`.

The format is that of n2p2's documentation, "Configuration file format". n2p2 itself minds no units; those of RuNNer,
whose files these are, are Bohr and Hartree. Lengths are read so; energies and forces may be said to be in others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.units import Bohr

from piwsl.errors import PiwslError
from piwsl.readers import LabelNames, Reader
from piwsl.readers._frame import frame_of

BEGIN, END = "begin", "end"
ENERGY, FORCES, CHARGE = "energy", "forces", "charge"
VECTORS = "lattice"


class N2P2(Reader):
    """Blocks of `atom` lines, with `lattice`, `energy` and `charge` of the structure where they are said."""

    suffixes = ("input.data",)
    labels = LabelNames(energy_key=ENERGY, forces_key=FORCES, energy_unit="Hartree", forces_unit="Hartree/Bohr")

    def count(self, path: Path) -> int:
        """Count the structures without parsing them."""
        return sum(1 for _ in _blocks(path))

    def frames(self, path: Path, every: int = 1) -> Iterator[Atoms]:
        """Read structures one by one.

        Yields:
            Frames with `energy`, the total `charge`, and `forces`; charges of atoms are left behind. Periodic are
            those with a lattice.
        """
        for line, rows in islice(_blocks(path), 0, None, every):
            try:
                yield _frame(rows)
            except (ValueError, KeyError, IndexError) as error:
                raise PiwslError(
                    f"{path}: the structure that begins on line {line} is damaged ({type(error).__name__}: {error})"
                ) from error


def _blocks(path: Path) -> Iterator[tuple[int, list[list[str]]]]:
    """Go through the structures of a file: number of the first line, and the words of those within.

    Raises:
        PiwslError: a line is of no structure, or a structure does not end.
    """
    rows: list[list[str]] | None = None
    first = 0
    with path.open(encoding="utf-8") as file:
        for number, words in enumerate(map(str.split, file), 1):
            match words:
                case []:
                    continue
                case ["begin"] if rows is None:
                    first, rows = number, []
                case ["end"] if rows is not None:
                    yield first, rows
                    rows = None
                case _ if rows is not None and words != [BEGIN]:
                    rows.append(words)
                case _:
                    raise PiwslError(
                        f"{path}: line {number}: a structure stands between '{BEGIN}' and '{END}', found "
                        f"'{' '.join(words)[:40]}'"
                    )
    if rows is not None:
        raise PiwslError(f"{path}: the structure that begins on line {first} has no '{END}'; is the file whole?")


def _frame(rows: list[list[str]]) -> Atoms:
    atoms = [words for words in rows if words[0] == "atom"]
    if not atoms:
        raise ValueError("it has no atom")
    numbers = np.array([atomic_numbers[words[4]] for words in atoms])
    positions = Bohr * np.array([words[1:4] for words in atoms], dtype=np.float64)
    arrays = {}
    if all(len(words) >= 10 for words in atoms):
        arrays[FORCES] = np.array([words[7:10] for words in atoms], dtype=np.float64)
    info = {words[0]: float(words[1]) for words in rows if words[0] in (ENERGY, CHARGE)}
    vectors = [words[1:4] for words in rows if words[0] == VECTORS]
    if len(vectors) not in (0, 3):
        raise ValueError(f"it has {len(vectors)} lattice vectors")
    cell = Bohr * np.array(vectors, dtype=np.float64) if vectors else None
    return frame_of(numbers, positions, info, arrays, cell)
