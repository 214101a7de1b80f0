"""What validation finds: the label terms of the loss, and the one number that weights are chosen by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from piwsl.config import Loss
from piwsl.data.batch import Batch
from piwsl.losses import Measure, Measured
from piwsl.models import Potential
from piwsl.models.terms import Prediction, Property
from piwsl.records import HeldOutErrors

# Below any error of floating-point energies and forces; keeps the logarithm finite.
SMALLEST_ERROR = 1e-30


class ValidationErrors:
    """Errors of predictions against labels, summed over the validation batches."""

    def __init__(self, loss: Loss) -> None:
        """Begin with no batch; the loss says by which function residuals are measured, and with which weights."""
        self._loss = loss
        self._weights = {"energy": loss.energy, "forces": loss.forces, "stress": loss.stress}
        self._squares = loss.model_copy(update={"function": "mse", "per": "atom"})
        self._measured: dict[str, tuple[float, float, int]] = {}

    def properties_of(self, batch: Batch) -> set[Property]:
        """Return what of a batch is compared with labels: stress where the loss looks at it."""
        found: set[Property] = {"energy"}
        if not batch.forces.isnan().all():
            found.add("forces")
        if self._weights["stress"] and not batch.stress.isnan().all():
            found.add("stress")
        return found

    def add(self, batch: Batch, prediction: Prediction) -> None:
        """Count a batch of M structures with labels, of which `properties_of` was predicted."""
        ours, squares = Measure(batch, self._loss), Measure(batch, self._squares)
        energy, forces, stress = prediction.energy, prediction.forces, prediction.stress
        self._add("energy", ours.energy_labels(energy), squares.energy_labels(energy))
        if forces is not None:
            self._add("forces", ours.forces(forces), squares.forces(forces))
        if stress is not None:
            self._add("stress", ours.stress(stress), squares.stress(stress))

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
        """Return root mean squares by label, whatever the loss measures: eV an atom, eV/Å, eV/Å³."""
        return {name: math.sqrt(square / count) for name, (_, square, count) in self._measured.items() if count}

    def loss(self) -> float:
        """Return the label terms of the loss: weights, function and `per` as they are in training."""
        return sum(self._weights[name] * mean for name, mean in self._means().items())

    def criterion(self) -> float:
        """Return what weights are chosen by: the geometric mean of the errors of energy, forces and stress, of those
        that the loss has a weight for, or where it has none for any, of all; or the only one.

        A percent of one error counts as a percent of the other, whatever the units, their weights in the loss and the
        spread of the labels. In a weighted sum the larger term decides alone: a force error 1.5 % lower then outweighs
        energies that are four times worse.
        """
        found = self._means()
        weighted = [mean for name, mean in found.items() if self._weights[name]]
        means = [max(mean, SMALLEST_ERROR) for mean in weighted or found.values()]
        return math.exp(sum(map(math.log, means)) / len(means))


@dataclass(frozen=True)
class HeldOut:
    """Sums of squared errors of frames that were not learned from, and how many energies and components they are of."""

    frames: int = 0
    energy: float = 0.0
    """eV², of structures."""
    components: int = 0
    forces: float = 0.0
    """(eV/Å)²."""
    energies: int = 0
    """Structures whose energy is labelled."""

    @classmethod
    def of(cls, potential: Potential, batches: Iterable[Batch]) -> HeldOut:
        """Compare a potential with labels."""
        found = cls()
        for batch in (batch.to(potential.device) for batch in batches):
            predicted = potential.predict(batch)
            assert predicted.forces is not None
            energy = predicted.energy.detach() - batch.energy
            forces = (predicted.forces.detach() - batch.forces).double()
            known = ~batch.energy.isnan()
            found += cls(
                len(energy),
                float(energy[known].square().sum()),
                int(forces.isfinite().sum()),
                float(forces.square().nansum()),
                int(known.sum()),
            )
        return found

    def __add__(self, other: HeldOut) -> HeldOut:
        """Return the sums over the frames of both."""
        return HeldOut(
            self.frames + other.frames,
            self.energy + other.energy,
            self.components + other.components,
            self.forces + other.forces,
            self.energies + other.energies,
        )

    def errors(self) -> HeldOutErrors:
        """Return root mean squares."""
        return HeldOutErrors(
            frames=self.frames,
            energy_rmse=math.sqrt(self.energy / self.energies) if self.energies else None,
            forces_rmse=math.sqrt(self.forces / self.components) if self.components else None,
        )
