"""Errors of a cheap level as it is: what costs nothing, and what a potential that is trained has to be better than."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from piwsl.data.dataset import TEST, TRAINING, Dataset
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import Predictions
from piwsl.models.statistics import fit_atomic_energies
from piwsl.structures.structure import Structure


def errors_of_level(dataset: Dataset, level: str) -> dict[str, float | int | None]:
    """Compare a cheap level with the reference on the test frames.

    Energies of two levels differ by constants of the elements, which mean nothing: those that fit the training frames
    best (least squares) are added to the cheap level's. Its forces are compared as they are.

    Args:
        dataset: all of whose training and test frames have energies and forces of the level.
        level: its name there.

    Returns:
        As of `piwsl.evaluation.metrics.error_summary`; nothing of the stress.
    """
    training, test = (dataset.structures(dataset.indices(part)) for part in (TRAINING, TEST))
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
