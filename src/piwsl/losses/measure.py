"""How residuals are measured: the function of a loss, what an energy residual is counted by, and weights of labels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from piwsl.config import Loss
from piwsl.data.batch import Batch
from piwsl.structures.labels import REFERENCE


class Measured(NamedTuple):
    """The loss function summed over residuals."""

    total: Tensor
    """(), a power of eV or eV/Å; each residual times the weight of its label."""
    residuals: Tensor
    """(), how many residuals are in the sum."""

    @property
    def mean(self) -> Tensor:
        """The mean; 0 where there is no residual."""
        return self.total / self.residuals.clamp_min(1)


class Measure:
    """The loss function of residuals of a batch; shapes depend on no label, so that it can be traced."""

    def __init__(self, batch: Batch, loss: Loss) -> None:
        """Keep the batch, whose numbers of atoms and labels count, and the loss: `function`, `huber`, `per`."""
        self._batch, self._loss = batch, loss

    def energies(self, residuals: Tensor, known: Tensor, level: str | None = None) -> Measured:
        """Measure the structures whose residual (M,) is known, eV; labels of a level that is in it have weights."""
        residuals = residuals / self._batch.n_atoms.clamp_min(1.0) if self._loss.per == "atom" else residuals
        weights = torch.ones_like(residuals) if level is None else self._batch.at_level(level).weight
        return self._sum(residuals, known & (self._batch.n_atoms > 0), weights)

    def energy_labels(self, energies: Tensor) -> Measured:
        """Measure the energies (M,), eV, of labelled structures."""
        return self.energies(energies - self._batch.energy, ~self._batch.energy.isnan(), REFERENCE)

    def forces(self, forces: Tensor, level: str = REFERENCE) -> Measured:
        """Measure the labelled components of forces (N, 3), eV/Å."""
        labels = self._batch.at_level(level)
        of_atoms = labels.weight[self._batch.structure_index][:, None]
        return self._sum(forces - labels.forces, ~labels.forces.isnan(), of_atoms)

    def stress(self, stress: Tensor, level: str = REFERENCE) -> Measured:
        """Measure the labelled components of stress (M, 3, 3), eV/Å³."""
        labels = self._batch.at_level(level)
        return self._sum(stress - labels.stress, ~labels.stress.isnan(), labels.weight[:, None, None])

    def _sum(self, residuals: Tensor, known: Tensor, weights: Tensor) -> Measured:
        residuals = torch.where(known, residuals, torch.zeros_like(residuals))
        match self._loss.function:
            case "mse":
                losses = residuals * residuals
            case "mae":
                losses = residuals.abs()
            case "huber":
                losses = functional.huber_loss(
                    residuals, torch.zeros_like(residuals), delta=self._loss.huber, reduction="none"
                )
        return Measured((weights.to(losses) * losses).sum(), known.sum())
