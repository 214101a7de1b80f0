"""Forces of a cheaper level as labels."""

from __future__ import annotations

from pydantic import Field

from piwsl.config.losses import Loss, LossTerm
from piwsl.config.section import Steps, Weight
from piwsl.residuals import A, ForceError, Mean
from piwsl.structures.labels import WEAK


class WeakForces(LossTerm):
    """Error against forces of a cheaper level, where frames have them (WEAK_forces)."""

    weight: Weight = Field(description="Factor of their mean squared error.")
    until: Steps | None = Field(
        None, description="Step at which their weight has fallen, linearly, to 0. Default: it does not fall."
    )

    def means(self, loss: Loss) -> dict[str, Mean]:
        """Return the error of forces of the cheaper level."""
        return {"": Mean(ForceError(A, WEAK), self.weight)}

    def factor(self, step: int, loss: Loss) -> float:
        """Return the factor of the weight at an optimiser step, from 0."""
        return 1.0 if self.until is None else max(0.0, 1.0 - step / self.until)

    @property
    def teaches_forces(self) -> bool:
        """Whether the weight does not fall."""
        return self.until is None
