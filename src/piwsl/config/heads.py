"""Whether forces from a head of their own are learned from anything.

Apart from the sections that it is about: what refuses a config changes no result of one that is taken.
"""

from __future__ import annotations

from piwsl.config.losses import Loss
from piwsl.config.models import Architecture
from piwsl.residuals import Residual, StressError
from piwsl.structures.labels import REFERENCE


def head_problem(model: Architecture, loss: Loss, labelled: bool) -> str | None:
    """Say why forces that are no gradient would stay what first weights say; None where they are learned.

    Args:
        model: whose forces are meant.
        loss: that it is trained with.
        labelled: whether frames that are learned from have forces of the reference level.
    """
    if model.conservative or _ties_forces(loss) or (labelled and loss.forces):
        return None
    why = "no frame has forces" if loss.forces else "the loss has forces: 0"
    return f"nothing trains its head for forces ({why}); say forces: conservative, add pitc of order 1 or 2"


def _ties_forces(loss: Loss) -> bool:
    """Whether a term compares forces with energies of the model, or with those of a cheaper level."""
    return any(
        bool(mean.of.works) if isinstance(mean.of, Residual) else mean.of.level != REFERENCE
        for _, mean in loss.means_of_terms().values()
        if not isinstance(mean.of, StressError)
    )
