"""Noisy augmentation: the labels of a geometry as labels of displaced ones."""

from __future__ import annotations

from pydantic import Field

from piwsl.config.losses import DisplacedTerm, Loss
from piwsl.config.section import Weight
from piwsl.residuals import C, ForceError, Mean, Residual
from piwsl.structures.labels import REFERENCE


class Augmentation(DisplacedTerm):
    """Noisy augmentation, a baseline: the labels of r as labels at r+δ."""

    weight: Weight = Field(1.0, description="Factor of the energy and force losses at r+δ.")

    def check(self, loss: Loss) -> None:
        """Refuse a loss without labels."""
        if not (loss.energy or loss.forces):
            raise ValueError("augmentation: is of energy and forces, which are both 0; give one of them a weight")

    def means(self, loss: Loss) -> dict[str, Mean]:
        """Return the errors of energy and forces at r + δ."""
        return {
            "energy": Mean(Residual({C: 1.0}, label_energy=-1.0), self.weight * loss.energy),
            "forces": Mean(ForceError(C, REFERENCE), self.weight * loss.forces),
        }
