"""Errors of what needs no training, a constant or a cheap level: what a trained potential has to be better than.

Frames are read some at a time, and none is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from piwsl.data.dataset import FRAMES_AT_ONCE, TEST, TRAINING, Dataset
from piwsl.evaluation.metrics import ErrorSummary
from piwsl.evaluation.predictions import Predictions
from piwsl.structures.compositions import fit_atomic_energies
from piwsl.structures.labels import REFERENCE
from piwsl.structures.structure import Structure

# Atoms of an element in a structure that no combination of others has; what is there by rounding is far smaller.
OPEN = 1e-6
Composition = tuple[int, ...]
"""Atomic numbers, ascending."""


def errors_of_constant(dataset: Dataset, tested: Dataset | None = None) -> dict[str, float | int | None]:
    """Test the best that can be said without looking at positions: a constant a composition, and no forces.

    The energy of a test frame is the mean of the training frames of its composition; where there are none, the sum of
    constants of the elements that fit all training frames best (least squares).

    Args:
        dataset: with energies of some training frames.
        tested: a dataset whose test frames take the place of its own.

    Returns:
        As of `piwsl.evaluation.metrics.error_summary`; nothing of the stress.
    """
    learned = _Energies()
    for structures in _parts(dataset, TRAINING):
        for structure in structures:
            if np.isfinite(structure.energy):
                learned.add(structure, structure.energy)
    constants, found = learned.constants(), ErrorSummary()
    for test in _parts(dataset if tested is None else tested, TEST):
        energies = [learned.mean(structure, constants) for structure in test]
        _add(found, test, energies, [np.zeros((len(structure.numbers), 3)) for structure in test])
    return found.values()


def errors_of_level(dataset: Dataset, level: str, tested: Dataset | None = None) -> dict[str, float | int | None]:
    """Compare another level with the reference on the test frames that have an energy of both.

    Energies of two levels differ by constants of the elements, which mean nothing: those that fit the training frames
    best (least squares) are added to the other level's. Its forces are compared as they are, where there are any. Test
    frames of compositions that these training frames leave open are passed over: of a composition that is no linear
    combination of theirs, no sum of constants is known.

    Args:
        dataset: some of whose training frames have energies of the level.
        level: its name there.
        tested: a dataset whose test frames take the place of its own.

    Returns:
        As of `piwsl.evaluation.metrics.error_summary`; nothing of the stress. {} where no training frame or no test
        frame that can be compared has an energy of the level.
    """
    learned = _Energies()
    for structures in _parts(dataset, TRAINING):
        for structure in structures:
            if _is_known(structure, level):
                learned.add(structure, structure.energy - _energy(structure, level))
    constants, settled, found, compared = learned.constants(), learned.settled(), ErrorSummary(), 0
    for structures in _parts(dataset if tested is None else tested, TEST):
        known = [each for each in structures if _is_known(each, level) and settled.knows(_composition(each))]
        test = [_as_far_as_known(structure, level) for structure in known]
        energies = [_energy(structure, level) + _sum(structure, constants) for structure in test]
        _add(found, test, energies, [_forces(structure, level) for structure in test])
        compared += len(test)
    return found.values() if compared else {}


def _parts(dataset: Dataset, part: str) -> Iterator[list[Structure]]:
    """Read the frames of a part, some at a time."""
    indices = dataset.indices(part)
    for start in range(0, len(indices), FRAMES_AT_ONCE):
        yield dataset.structures(indices[start : start + FRAMES_AT_ONCE])


def _add(found: ErrorSummary, test: list[Structure], energies: list[float], forces: list[NDArray[np.float64]]) -> None:
    """Compare energies (eV) and forces (eV/Å) of test frames with their labels."""
    found.add(test, Predictions(np.array(energies, dtype=float), forces, np.full((len(test), 3, 3), np.nan)))


class _Energies:
    """Energies of frames, summed up by composition."""

    def __init__(self) -> None:
        self._sums: dict[Composition, tuple[int, float]] = {}

    def add(self, structure: Structure, energy: float) -> None:
        """Take an energy, eV."""
        count, total = self._sums.get(composition := _composition(structure), (0, 0.0))
        self._sums[composition] = count + 1, total + energy

    def mean(self, structure: Structure, constants: dict[int, float]) -> float:
        """Return the mean energy of the composition of a structure; without any, the sum of constants of elements."""
        count, total = self._sums.get(_composition(structure), (0, 0.0))
        return total / count if count else _sum(structure, constants)

    def constants(self) -> dict[int, float]:
        """Return those of the elements that fit all energies best, eV by atomic number."""
        if not self._sums:
            return {}
        counts, totals = (np.array(each) for each in zip(*self._sums.values(), strict=True))
        # Squares of the distances from a mean are the same whatever is fitted: a mean stands for all of them.
        weights = np.sqrt(counts)
        fitted = fit_atomic_energies(self._atoms() * weights[:, None], totals / weights)
        return dict(zip(self._elements(), fitted.tolist(), strict=True))

    def settled(self) -> _Settled:
        """Return of which compositions these settle the sum of constants."""
        return _Settled(self._elements(), np.unique(self._atoms(), axis=0)) if self._sums else _Settled([], None)

    def _elements(self) -> list[int]:
        return sorted({number for composition in self._sums for number in composition})

    def _atoms(self) -> NDArray[np.float64]:
        """Return how many atoms of each element the compositions have, (C, K)."""
        return _atoms([*self._sums], self._elements())


class _Settled:
    """The compositions that are linear combinations of some others."""

    def __init__(self, elements: list[int], atoms: NDArray[np.float64] | None) -> None:
        """Keep the others, (C, K) atoms of K elements; None where there are none."""
        self._elements = elements
        self._projector = None if atoms is None else np.linalg.pinv(atoms) @ atoms
        self._known: dict[Composition, bool] = {}

    def knows(self, composition: Composition) -> bool:
        """Whether a composition is one of them."""
        if composition not in self._known:
            self._known[composition] = self._is_settled(composition)
        return self._known[composition]

    def _is_settled(self, composition: Composition) -> bool:
        if self._projector is None or not {*composition} <= {*self._elements}:
            return False
        atoms = _atoms([composition], self._elements)
        return bool(np.abs(atoms - atoms @ self._projector).max() < OPEN)


def _atoms(compositions: list[Composition], elements: list[int]) -> NDArray[np.float64]:
    """Return how many atoms of each element compositions have, (C, K)."""
    return np.array([[float(each.count(element)) for element in elements] for each in compositions])


def _composition(structure: Structure) -> Composition:
    return tuple(sorted(structure.numbers.tolist()))


def _sum(structure: Structure, constants: dict[int, float]) -> float:
    """Return the sum of the constants of the elements of a structure; those that are not known are 0."""
    return sum(constants.get(number, 0.0) for number in structure.numbers.tolist())


def _is_known(structure: Structure, level: str) -> bool:
    """Whether a frame has an energy of the reference and of a level."""
    return bool(np.isfinite(structure.energy)) and structure.at_level(level).energy is not None


def _as_far_as_known(structure: Structure, level: str) -> Structure:
    """Return a frame without what the reference says of forces where a level says nothing."""
    if structure.at_level(level).forces is not None:
        return structure
    return structure.labelled(REFERENCE, replace(structure.at_level(REFERENCE), forces=None, slope=None))


def _forces(structure: Structure, level: str) -> NDArray[np.float64]:
    """Return the forces of a level, (N, 3), eV/Å; NaN where it has none."""
    forces = structure.at_level(level).forces
    return np.full((len(structure.numbers), 3), np.nan) if forces is None else forces


def _energy(structure: Structure, level: str) -> float:
    energy = structure.at_level(level).energy
    assert energy is not None
    return energy
