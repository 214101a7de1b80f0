"""A loss term: the curvature of the energy along a random direction."""

from piwsl.config import DisplacedTerm, Loss
from piwsl.residuals import A, C, Mean, Point, Residual


class Curvature(DisplacedTerm):
    """E(r+δ) + E(r-δ) - 2 E(r), which a smooth surface has small."""

    def means(self, loss: Loss) -> dict[str, Mean]:
        """Return the second difference."""
        return {"": Mean(Residual({C: 1.0, Point(-1.0, 0.0): 1.0, A: -2.0}), self.weight)}
