"""A survey of frames: some seventy bytes of each, in columns. What is asked of millions of frames is asked of these."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.data.copies import FINGERPRINT, fingerprint
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, STRESS_KEY

Rows = NDArray[np.int64] | slice
EVERY_ROW = slice(None)


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

    def __len__(self) -> int:
        return len(self.formula)

    def rows(self, rows: Rows) -> Survey:
        """Return the survey of some of the frames."""
        return Survey(self.formulas, *(getattr(self, name)[rows] for name in COLUMNS))

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
        columns = (~np.isnan(self.energies), self.with_forces, self.with_stress)
        return np.sum(columns, axis=0, dtype=np.int8)

    def elements(self) -> list[int]:
        """Return the atomic numbers that occur."""
        there, formulas = np.unique(self.formula), [*self.formulas]
        return sorted({int(number) for index in there for number in formulas[index].elements})


COLUMNS = (
    *("names", "formula", "energies", "net_forces", "sums_of_forces", "largest_forces", "with_stress", "fingerprints"),
)


class Surveyor:
    """Notes the numbers of frames that pass by."""

    def __init__(self, formulas: Formulas) -> None:
        """Begin with no frame."""
        self._formulas, self._formula = formulas, array("i")
        self._energies, self._net, self._sums, self._largest, self._fingerprints = (array("d") for _ in range(5))
        self._with_stress = array("b")

    def __len__(self) -> int:
        return len(self._formula)

    def add(self, atoms: Atoms) -> None:
        """Note those of a frame, with labels in `REF_energy` (eV) and `REF_forces` (eV/Å) where it has any."""
        forces = atoms.arrays.get(FORCES_KEY)
        self._formula.append(self._formulas.number_of(atoms))
        self._energies.append(atoms.info.get(ENERGY_KEY, np.nan))
        norms = None if forces is None else np.linalg.norm(forces, axis=1)
        self._net.append(np.nan if forces is None else float(np.linalg.norm(forces.sum(axis=0))))
        self._sums.append(np.nan if norms is None else float(norms.sum()))
        self._largest.append(np.nan if norms is None else float(norms.max()))
        self._with_stress.append(STRESS_KEY in atoms.info)
        self._fingerprints.extend(fingerprint(atoms).tolist())

    def pass_over(self) -> None:
        """Keep the place of a frame of which nothing is known, and which nobody asks for."""
        self._formula.append(self._formulas.number_of(Atoms()))
        for column in (self._energies, self._net, self._sums, self._largest):
            column.append(np.nan)
        self._with_stress.append(False)
        self._fingerprints.extend([np.nan] * FINGERPRINT)

    def survey(self, names: NDArray[Any]) -> Survey:
        """Return the survey of the frames, which messages call by these names."""
        return Survey(
            self._formulas,
            names,
            np.asarray(self._formula),
            np.asarray(self._energies),
            np.asarray(self._net),
            np.asarray(self._sums),
            np.asarray(self._largest),
            np.asarray(self._with_stress).astype(bool),
            np.asarray(self._fingerprints).reshape(-1, FINGERPRINT),
        )


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
    """Return the survey of some of the frames of several, one behind the other; their formulas are the same."""
    columns = (np.concatenate([getattr(survey, name)[rows] for survey, rows in surveys]) for name in COLUMNS)
    return Survey(surveys[0][0].formulas, *columns)


def _column(values: list[Any]) -> NDArray[Any]:
    """Return values as they are: numbers in little room, anything else as objects."""
    if all(type(value) is int for value in values):
        return np.array(values, dtype=np.int64)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
