"""Teaching: a trained potential labels geometries that nobody could afford to label, for a student to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from piwsl.data.dataset import POOL, Dataset, write_structures
from piwsl.evaluation.predict import predict
from piwsl.models import Predictor, load_model
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import Structure

# How far a student errs, over the root mean square of what its teacher is unsure by. At a fourth of it, students of a
# Gaussian process are worse by half where the pool is hottest: there are few frames there, and then hardly any weight.
STUDENT_OVER_SPREAD = 4.0


def taught(pool: list[Structure], teacher: Predictor) -> list[Structure]:
    """Return geometries with a teacher's energies and forces as their reference labels.

    Geometries that the teacher's baseline gives up on are left out, with a line each.

    Where the teacher knows how sure it is, labels weigh w = τ² / (τ² + σ²), as least squares has it where labels are
    noisy by σ and the student errs by τ beside that; τ² = 16 mean(σ²).

    Args:
        pool: geometries; labels of other levels stay.
        teacher: the model.

    Raises:
        PiwslError: an element that the teacher was not trained on.
    """
    if teacher.baseline is not None:
        pool = teacher.baseline.known_of(pool, "pool")
    predictions = predict(teacher, pool)
    weights = np.ones(len(pool)) if predictions.energy_std is None else _weights(predictions.energy_std)
    found = zip(pool, predictions.energy, predictions.forces, weights, strict=True)
    return [
        structure.labelled(REFERENCE, Labels(float(energy), forces, weight=float(weight)))
        for structure, energy, forces, weight in found
    ]


def _weights(spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much labels that are as unsure as `spread`, (M,) in eV, count."""
    tolerated = np.square(STUDENT_OVER_SPREAD) * np.mean(np.square(spread))
    return np.ones_like(spread) if tolerated == 0 else tolerated / (tolerated + np.square(spread))


def teach(model_path: Path, pool_path: Path, taught_path: Path) -> None:
    """Label the pool of a dataset with a trained model.

    Args:
        model_path: the teacher's model file.
        pool_path: dataset file of the pool.
        taught_path: dataset file to write.

    Raises:
        PiwslError: a file cannot be read, or an element is unknown to the teacher.
    """
    with Dataset(pool_path) as dataset:
        pool = dataset.structures(dataset.indices(POOL))
    found = taught(pool, load_model(model_path))
    write_structures(taught_path, {POOL: found})
    weights = np.array([structure.at_level(REFERENCE).weight for structure in found])
    print(f"{model_path} labelled {len(found)} frames of the pool; their weights have a mean of {weights.mean():.2f}")
