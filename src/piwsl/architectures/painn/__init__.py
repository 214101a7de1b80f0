"""PaiNN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from piwsl.config.models import MessagePassing

if TYPE_CHECKING:
    from torch import nn


class PaiNN(MessagePassing):
    """PaiNN (Schütt, Unke, Gastegger, ICML 2021)."""

    architecture: Literal["painn"] = Field(description="Which network; the keys beside it are its own.")
    layers: int = Field(2, ge=1, le=16, description="Interaction blocks.")
    forces: Literal["conservative", "direct"] = Field(
        "conservative", description="The gradient of the energy, or a head of their own."
    )

    @property
    def conservative(self) -> bool:
        """Whether forces are the gradient of the energy."""
        return self.forces == "conservative"

    def network(self, elements: list[int], neighbours: float) -> nn.Module:
        """Build the untrained network."""
        from piwsl.architectures.painn.network import Network

        return Network(self, neighbours)
