"""Errors of what needs no training, a constant or a cheap level: what a trained potential has to be better than."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from piwsl.data.dataset import TEST, TRAINING, Dataset
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import Predictions
from piwsl.models.statistics import fit_atomic_energies
from piwsl.structures.labels import REFERENCE
from piwsl.structures.structure import Structure

# Atoms of an element in a structure that no combination of others has; what is there by rounding is far smaller.
OPEN = 1e-6


def errors_of_constant(dataset: Dataset, tested: Dataset | None = None) -> dict[str, float | int | None]:
    """Test the best that can be said without looking at positions: a constant a composition, and no forces.

    The energy of a test frame is the mean of the training frames of its composition; where there are none, the sum of
    constants of the elements that fit all training frames best (least squares).

    Args:
        dataset: with energies of all test frames and of some training frames.
        tested: a dataset whose test frames take the place of its own.

    Returns:
        As of `piwsl.evaluation.metrics.error_summary`; nothing of the stress.
    """
    training, test = _structures(dataset, tested)
    training = [structure for structure in training if np.isfinite(structure.energy)]
    elements = sorted({int(number) for structure in training + test for number in structure.numbers})
    learned = np.array([structure.energy for structure in training])
    constants = fit_atomic_energies(_counts(training, elements), learned)
    alike = defaultdict(list)
    for structure, energy in zip(training, learned, strict=True):
        alike[_composition(structure)].append(energy)
    fitted = _counts(test, elements) @ constants
    energies = [np.mean(alike.get(_composition(structure), [fit])) for structure, fit in zip(test, fitted, strict=True)]
    forces = [np.zeros((len(structure.numbers), 3)) for structure in test]
    return error_summary(test, Predictions(np.array(energies), forces, np.full((len(test), 3, 3), np.nan)))


def _structures(dataset: Dataset, tested: Dataset | None) -> tuple[list[Structure], list[Structure]]:
    """Return the training frames of a dataset, and its test frames or those of another."""
    of_test = dataset if tested is None else tested
    return dataset.structures(dataset.indices(TRAINING)), of_test.structures(of_test.indices(TEST))


def _composition(structure: Structure) -> tuple[int, ...]:
    return tuple(sorted(int(number) for number in structure.numbers))


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
    training, test = ([each for each in part if _is_known(each, level)] for part in _structures(dataset, tested))
    test = [_as_far_as_known(structure, level) for structure in _settled(training, test)]
    if not test:
        return {}
    elements = sorted({int(number) for structure in training + test for number in structure.numbers})
    left = np.array([structure.energy for structure in training]) - _energies(training, level)
    constants = fit_atomic_energies(_counts(training, elements), left)
    energies = _energies(test, level) + _counts(test, elements) @ constants
    forces = [_forces(structure, level) for structure in test]
    return error_summary(test, Predictions(energies, forces, np.full((len(test), 3, 3), np.nan)))


def _settled(training: list[Structure], test: list[Structure]) -> list[Structure]:
    """Return the test frames for whose compositions training frames settle the sum of constants of the elements."""
    if not training or not test:
        return []
    elements = sorted({int(number) for structure in training + test for number in structure.numbers})
    learned, counts = np.unique(_counts(training, elements), axis=0), _counts(test, elements)
    rest = counts - counts @ np.linalg.pinv(learned) @ learned
    return [structure for structure, left in zip(test, rest, strict=True) if np.abs(left).max() < OPEN]


def _is_known(structure: Structure, level: str) -> bool:
    """Whether a frame has an energy of the reference and of a level."""
    return np.isfinite(structure.energy) and structure.at_level(level).energy is not None


def _as_far_as_known(structure: Structure, level: str) -> Structure:
    """Return a frame without what the reference says of forces where a level says nothing."""
    if structure.at_level(level).forces is not None:
        return structure
    return structure.labelled(REFERENCE, replace(structure.at_level(REFERENCE), forces=None, slope=None))


def _forces(structure: Structure, level: str) -> NDArray[np.float64]:
    """Return the forces of a level, (N, 3), eV/Å; NaN where it has none."""
    forces = structure.at_level(level).forces
    return np.full((len(structure.numbers), 3), np.nan) if forces is None else forces


def _energies(structures: list[Structure], level: str) -> NDArray[np.float64]:
    return np.array([structure.at_level(level).energy for structure in structures])


def _counts(structures: list[Structure], elements: list[int]) -> NDArray[np.float64]:
    """Return how many atoms of each element structures have, (M, K)."""
    return np.array([[float((structure.numbers == element).sum()) for element in elements] for structure in structures])
