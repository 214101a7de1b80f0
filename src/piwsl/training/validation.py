"""What validation finds: the label terms of the loss, and the one number that weights are chosen by."""

from __future__ import annotations

import math

from torch import Tensor

from piwsl.config import Loss
from piwsl.data.batch import Batch
from piwsl.losses import Measure, Measured

# Below any error of floating-point energies and forces; keeps the logarithm finite.
SMALLEST_ERROR = 1e-30


class ValidationErrors:
    """Errors of predictions against labels, summed over the validation batches."""

    def __init__(self, loss: Loss) -> None:
        """Begin with no batch; the loss says by which function residuals are measured, and with which weights."""
        self._loss = loss
        self._weights = {"energy": loss.energy, "forces": loss.forces}
        self._squares = loss.model_copy(update={"function": "mse", "per": "atom"})
        self._measured: dict[str, tuple[float, float, int]] = {}

    def add(self, batch: Batch, energy: Tensor, forces: Tensor | None) -> None:
        """Count a batch.

        Args:
            batch: M structures with labels.
            energy: (M,), eV.
            forces: (N, 3), eV/Å; None where no structure has labels of them.
        """
        ours, squares = Measure(batch, self._loss), Measure(batch, self._squares)
        self._add("energy", ours.energy_labels(energy), squares.energy_labels(energy))
        if forces is not None:
            self._add("forces", ours.forces(forces, batch.forces), squares.forces(forces, batch.forces))

    def _add(self, name: str, measured: Measured, squared: Measured) -> None:
        total, square, count = self._measured.get(name, (0.0, 0.0, 0))
        self._measured[name] = (
            total + float(measured.total),
            square + float(squared.total),
            count + int(measured.residuals),
        )

    def _means(self) -> dict[str, float]:
        return {name: total / count for name, (total, _, count) in self._measured.items() if count}

    def rmse(self) -> dict[str, float]:
        """Return root mean squares by label: energy in eV an atom, forces in eV/Å, whatever the loss measures."""
        return {name: math.sqrt(square / count) for name, (_, square, count) in self._measured.items() if count}

    def loss(self) -> float:
        """Return the label terms of the loss: weights, function and `per` as they are in training."""
        return sum(self._weights[name] * mean for name, mean in self._means().items())

    def criterion(self) -> float:
        """Return what weights are chosen by: the geometric mean of the energy and the force error, of those that the
        loss has a weight for, or where it has none for either, of both; or the only one.

        A percent of one error counts as a percent of the other, whatever the units, their weights in the loss and the
        spread of the labels. In a weighted sum the larger term decides alone: a force error 1.5 % lower then outweighs
        energies that are four times worse.
        """
        found = self._means()
        weighted = [mean for name, mean in found.items() if self._weights[name]]
        means = [max(mean, SMALLEST_ERROR) for mean in weighted or found.values()]
        return math.exp(sum(map(math.log, means)) / len(means))
