"""How residuals are measured: the function of a loss, and what an energy residual is counted by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from piwsl.config import Loss
from piwsl.data.batch import Batch


class Measured(NamedTuple):
    """The loss function summed over residuals."""

    total: Tensor
    """(), a power of eV or eV/Å."""
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

    def energies(self, residuals: Tensor, known: Tensor) -> Measured:
        """Measure the structures whose residual (M,) is known, eV."""
        residuals = residuals / self._batch.n_atoms.clamp_min(1.0) if self._loss.per == "atom" else residuals
        return self._sum(residuals, known & (self._batch.n_atoms > 0))

    def energy_labels(self, energies: Tensor) -> Measured:
        """Measure the energies (M,), eV, of labelled structures."""
        return self.energies(energies - self._batch.energy, ~self._batch.energy.isnan())

    def components(self, predicted: Tensor, labels: Tensor) -> Measured:
        """Measure the labelled components of forces (N, 3), eV/Å, or of stress (M, 3, 3), eV/Å³."""
        return self._sum(predicted - labels, ~labels.isnan())

    def _sum(self, residuals: Tensor, known: Tensor) -> Measured:
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
        return Measured(losses.sum(), known.sum())
