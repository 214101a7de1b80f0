"""A survey of frames: some seventy bytes of each, in columns. What is asked of millions of frames is asked of these.

Of each further level they have labels of, some eight bytes more, or thirty where these are forces, too.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.data.copies import FINGERPRINT, fingerprint
from piwsl.structures.frames import STRESS_KEY, crowding
from piwsl.structures.labels import REFERENCE, label_key

Rows = NDArray[np.int64] | NDArray[np.bool_] | slice
EVERY_ROW = slice(None)
# Numbers noted of the forces on a frame.
OF_FORCES = 3


class Formula(NamedTuple):
    """Elements, charge and multiplicity, by which frames are told apart."""

    numbers: bytes
    """Atomic numbers in order, a byte each."""
    charge: str
    multiplicity: str

    @classmethod
    def of(cls, atoms: Atoms) -> Formula:
        """Return that of a frame."""
        numbers = np.sort(atoms.numbers).astype(np.uint8).tobytes()
        return cls(numbers, str(atoms.info.get("charge", 0)), str(atoms.info.get("multiplicity", 1)))

    @property
    def elements(self) -> NDArray[np.uint8]:
        """(N,) atomic numbers in order."""
        return np.frombuffer(self.numbers, np.uint8)


class Formulas:
    """The formulas that occur, each under a number; surveys that are joined have them in common."""

    def __init__(self) -> None:
        """Begin with none."""
        self._numbers: dict[Formula, int] = {}

    def number_of(self, atoms: Atoms) -> int:
        """Return the number of a frame's formula."""
        return self._numbers.setdefault(Formula.of(atoms), len(self._numbers))

    def __iter__(self) -> Iterator[Formula]:
        return iter(self._numbers)


class LabelColumns(NamedTuple):
    """What frames have of one level, (M,) each, as the attributes of `Survey`."""

    energies: NDArray[np.float64]
    net_forces: NDArray[np.float64]
    sums_of_forces: NDArray[np.float64]
    largest_forces: NDArray[np.float64]

    def rows(self, rows: Rows) -> LabelColumns:
        """Return those of some of the frames."""
        return LabelColumns(*(column[rows] for column in self))


@dataclass(frozen=True)
class Survey:
    """Of each frame a few numbers, (M,)."""

    formulas: Formulas
    names: NDArray[Any]
    """What messages call the frames."""
    formula: NDArray[np.int32]
    """Number of the formula."""
    energies: NDArray[np.float64]
    """eV; NaN where there is none."""
    net_forces: NDArray[np.float64]
    """Norm of the sum of the forces, eV/Å; NaN where there are none."""
    sums_of_forces: NDArray[np.float64]
    """Sum of the norms of the forces, eV/Å, likewise."""
    largest_forces: NDArray[np.float64]
    """Largest norm of the force on an atom, eV/Å, likewise."""
    with_stress: NDArray[np.bool_]
    """Which frames have a stress."""
    fingerprints: NDArray[np.float64]
    """(M, 3), of the geometry."""
    crowding: NDArray[np.float32]
    """Distance of atoms that are nearer than any bond, Å; NaN where none are."""
    levels: Mapping[str, LabelColumns] = field(default_factory=dict)
    """By the names of further levels; all else here is of the level that is learned."""

    def __len__(self) -> int:
        return len(self.formula)

    def rows(self, rows: Rows) -> Survey:
        """Return the survey of some of the frames."""
        levels = {level: columns.rows(rows) for level, columns in self.levels.items()}
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return Survey(self.formulas, **columns, levels=levels)

    def of_level(self, level: str) -> Survey:
        """Return the same frames with energies and forces of one level alone, in place of those that are learned."""
        return replace(self, **({} if level == REFERENCE else self.levels[level]._asdict()), levels={})

    @property
    def with_energy(self) -> NDArray[np.bool_]:
        """Which frames have an energy."""
        return ~np.isnan(self.energies)

    @property
    def with_forces(self) -> NDArray[np.bool_]:
        """Which frames have forces."""
        return ~np.isnan(self.net_forces)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Numbers of atoms."""
        return np.array([len(each.numbers) for each in self.formulas], dtype=np.int64)[self.formula]

    @property
    def labels(self) -> NDArray[np.int8]:
        """How many labels frames have: energy, forces, stress."""
        columns = (self.with_energy, self.with_forces, self.with_stress)
        return np.sum(columns, axis=0, dtype=np.int8)

    def holding(self, elements: Collection[int]) -> NDArray[np.bool_]:
        """Return which frames hold any of some atomic numbers."""
        return np.array([not {*elements}.isdisjoint(each.numbers) for each in self.formulas], dtype=bool)[self.formula]

    def elements(self) -> list[int]:
        """Return the atomic numbers that occur."""
        there, formulas = np.unique(self.formula), [*self.formulas]
        return sorted({int(number) for index in there for number in formulas[index].elements})


COLUMNS = (
    *("names", "formula", "energies", "net_forces", "sums_of_forces", "largest_forces", "with_stress", "fingerprints"),
    "crowding",
)


class Surveyor:
    """Notes the numbers of frames that pass by."""

    def __init__(self, formulas: Formulas, levels: Iterable[str] = ()) -> None:
        """Begin with no frame, and note labels of further levels, too."""
        self._formulas, self._formula = formulas, array("i")
        self._labels = {level: _LabelNotes(level) for level in (REFERENCE, *levels)}
        self._fingerprints, self._with_stress, self._crowding = array("d"), array("b"), array("f")

    def __len__(self) -> int:
        return len(self._formula)

    def add(self, atoms: Atoms) -> None:
        """Note those of a frame, with labels in `REF_energy` (eV) and `REF_forces` (eV/Å) where it has any.

        Those of a further level are in `LEVEL_energy`, `LEVEL_forces`.
        """
        self._formula.append(self._formulas.number_of(atoms))
        for notes in self._labels.values():
            notes.add(atoms)
        self._with_stress.append(STRESS_KEY in atoms.info)
        self._fingerprints.extend(fingerprint(atoms).tolist())
        self._crowding.append(crowding(atoms))

    def pass_over(self) -> None:
        """Keep the place of a frame of which nothing is known, and which nobody asks for."""
        self._formula.append(self._formulas.number_of(Atoms()))
        for notes in self._labels.values():
            notes.add(Atoms())
        self._with_stress.append(False)
        self._fingerprints.extend([np.nan] * FINGERPRINT)
        self._crowding.append(np.nan)

    def survey(self, names: NDArray[Any]) -> Survey:
        """Return the survey of the frames, which messages call by these names."""
        levels = {level: notes.columns() for level, notes in self._labels.items()}
        return Survey(
            self._formulas,
            names,
            np.asarray(self._formula),
            *levels.pop(REFERENCE),
            np.asarray(self._with_stress).astype(bool),
            np.asarray(self._fingerprints).reshape(-1, FINGERPRINT),
            np.asarray(self._crowding),
            levels,
        )


class _LabelNotes:
    """What is noted of the labels of one level; of forces nothing before the first frame that has any."""

    def __init__(self, level: str) -> None:
        self._energy_key, self._forces_key = label_key(level, "energy"), label_key(level, "forces")
        self._energies, self._forces = array("d"), array("d")

    def add(self, atoms: Atoms) -> None:
        """Note those of a frame."""
        forces = atoms.arrays.get(self._forces_key)
        if forces is not None:
            self._pass_over_forces(len(self._energies) - len(self._forces) // OF_FORCES)
            norms = np.linalg.norm(forces, axis=1)
            self._forces.extend([float(np.linalg.norm(forces.sum(axis=0))), float(norms.sum()), float(norms.max())])
        elif self._forces:
            self._pass_over_forces(1)
        self._energies.append(atoms.info.get(self._energy_key, np.nan))

    def _pass_over_forces(self, frames: int) -> None:
        self._forces.extend(array("d", [np.nan]) * (OF_FORCES * frames))

    def columns(self) -> LabelColumns:
        """Return them."""
        energies = np.asarray(self._energies)
        forces = np.asarray(self._forces).reshape(-1, OF_FORCES) if self._forces else np.full((1, OF_FORCES), np.nan)
        return LabelColumns(energies, *np.broadcast_to(forces, (len(energies), OF_FORCES)).T)


def survey_of(frames: Iterable[Atoms], formulas: Formulas) -> Survey:
    """Survey frames, which messages call what their info has as `frame`.

    Args:
        frames: gone through once.
        formulas: those of the surveys that this one is joined with.
    """
    surveyor, names = Surveyor(formulas), []
    for atoms in frames:
        surveyor.add(atoms)
        names.append(atoms.info.get("frame", "?"))
    return surveyor.survey(_column(names))


def joined(*surveys: tuple[Survey, Rows]) -> Survey:
    """Return the survey of some of the frames of several, one behind the other; formulas and levels are the same."""
    columns = {name: np.concatenate([getattr(survey, name)[rows] for survey, rows in surveys]) for name in COLUMNS}
    levels = {
        level: LabelColumns(
            *map(np.concatenate, zip(*(s.levels[level].rows(rows) for s, rows in surveys), strict=True))
        )
        for level in surveys[0][0].levels
    }
    return Survey(surveys[0][0].formulas, **columns, levels=levels)


def _column(values: list[Any]) -> NDArray[Any]:
    """Return values as they are: numbers in little room, anything else as objects."""
    if all(type(value) is int for value in values):
        return np.array(values, dtype=np.int64)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
