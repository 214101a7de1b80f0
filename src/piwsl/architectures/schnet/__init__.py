"""SchNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from piwsl.config.models import MessagePassing
from piwsl.config.training import Training

if TYPE_CHECKING:
    from torch import nn


class SchNetTraining(Training):
    """How a SchNet is fitted."""

    learning_rate: float = Field(5e-3, ge=1e-30, le=0.05, description="Peak rate of AdamW.")


class SchNet(MessagePassing):
    """SchNet (Schütt et al., J. Chem. Phys. 148, 241722, 2018); forces are the gradient."""

    architecture: Literal["schnet"] = Field(description="Which network; the keys beside it are its own.")
    training: SchNetTraining = SchNetTraining()

    def network(self, elements: list[int], neighbours: float) -> nn.Module:
        """Build the untrained network."""
        from piwsl.architectures.schnet.network import Network

        return Network(self)
