"""Models that are fitted in closed form: no steps, no checkpoints, one row of history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from piwsl.config import Architecture, Loss
from piwsl.config.models import Fitted
from piwsl.data.batch import Batch, collate
from piwsl.models import Potential
from piwsl.models.probe import check_locality, check_network
from piwsl.models.statistics import batches_of, initial_references, mean_neighbours, refit_references
from piwsl.models.terms import Prediction
from piwsl.structures.labels import REFERENCE
from piwsl.structures.structure import Structure
from piwsl.training.frames import TrainingFrames
from piwsl.training.validation import ValidationErrors


def closed_form(
    model: Architecture, loss: Loss, frames: TrainingFrames, graphs: Sequence[Batch]
) -> tuple[Potential, list[dict[str, float]]] | None:
    """Fit a potential, and return it with its history; None where the model is trained by steps.

    Args:
        model: the architecture.
        loss: says which labels are looked at.
        frames: what it learns from, without what a pair potential says.
        graphs: of the training frames, one batch of one structure each.

    Raises:
        PiwslError: the frames cannot be fitted, or the network does not give what it must.
    """
    if not model.in_closed_form:
        return None
    references = initial_references(model, frames.training.with_energy(), frames.free_atoms)
    fitted = model.fitted([_without(references, structure) for structure in frames.training], loss)
    if fitted is None:
        return None
    potential = Potential(model, 1.0, references, mean_neighbours(frames.training, model.cutoff), fitted.network)
    check_network(model, fitted.network, potential.dtype, frames.training[:2])
    check_locality(model, fitted.network, potential.dtype, sorted(references))
    refit_references(potential, batches_of(graphs))
    row = {"step": 0} | {
        f"training_{name}_rmse": rmse for name, rmse in _training_errors(potential, loss, graphs).items()
    }
    errors = _left_out_errors(fitted, loss, graphs)
    row |= {f"validation_{name}_rmse": rmse for name, rmse in errors.rmse().items()}
    row |= {"validation_loss": errors.loss(), "validation_criterion": errors.criterion()}
    print("fitted in closed form: " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
    return potential, [row]


def _without(references: dict[int, float], structure: Structure) -> Structure:
    labels = structure.at_level(REFERENCE)
    if labels.energy is None:
        return structure
    rest = labels.energy - sum(references[int(number)] for number in structure.numbers)
    return structure.labelled(REFERENCE, replace(labels, energy=rest))


def _training_errors(potential: Potential, loss: Loss, graphs: Sequence[Batch]) -> dict[str, float]:
    errors = ValidationErrors(loss)
    with torch.no_grad():
        for batch in batches_of(graphs):
            errors.add(batch, potential.predict(batch, errors.properties_of(batch)))
    return errors.rmse()


def _left_out_errors(fitted: Fitted, loss: Loss, graphs: Sequence[Batch]) -> ValidationErrors:
    """Return the errors of each structure's labels by what is fitted without it."""
    batch = collate(list(graphs))
    left = torch.tensor(fitted.left_energies)
    batch = batch.labelled(energy=torch.where(left.isnan(), left, batch.energy))
    forces = None if fitted.left_forces is None else batch.forces - torch.tensor(np.concatenate(fitted.left_forces))
    errors = ValidationErrors(loss)
    errors.add(batch, Prediction(batch.energy - left, torch.zeros_like(batch.positions[:, 0]), forces, None))
    return errors
