"""Errors of what needs no training, a constant or a cheap level: what a trained potential has to be better than."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from piwsl.data.dataset import TEST, TRAINING, Dataset
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import Predictions
from piwsl.models.statistics import fit_atomic_energies
from piwsl.structures.structure import Structure


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
    """Compare a cheap level with the reference on the test frames.

    Energies of two levels differ by constants of the elements, which mean nothing: those that fit the training frames
    best (least squares) are added to the cheap level's. Its forces are compared as they are.

    Args:
        dataset: all of whose training and test frames have energies and forces of the level.
        level: its name there.
        tested: a dataset, likewise, whose test frames take the place of its own.

    Returns:
        As of `piwsl.evaluation.metrics.error_summary`; nothing of the stress.
    """
    training, test = _structures(dataset, tested)
    elements = sorted({int(number) for structure in training + test for number in structure.numbers})
    left = np.array([structure.energy for structure in training]) - _energies(training, level)
    constants = fit_atomic_energies(_counts(training, elements), left)
    energies = _energies(test, level) + _counts(test, elements) @ constants
    forces = [np.asarray(structure.at_level(level).forces) for structure in test]
    return error_summary(test, Predictions(energies, forces, np.full((len(test), 3, 3), np.nan)))


def _energies(structures: list[Structure], level: str) -> NDArray[np.float64]:
    return np.array([structure.at_level(level).energy for structure in structures])


def _counts(structures: list[Structure], elements: list[int]) -> NDArray[np.float64]:
    """Return how many atoms of each element structures have, (M, K)."""
    return np.array([[float((structure.numbers == element).sum()) for element in elements] for structure in structures])
