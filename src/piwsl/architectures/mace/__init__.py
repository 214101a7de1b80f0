"""MACE, by mace-torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from piwsl.config.models import MessagePassing
from piwsl.config.section import Steps
from piwsl.config.training import Training

if TYPE_CHECKING:
    from torch import nn


class MACETraining(Training):
    """How a MACE is fitted."""

    steps: Steps = Field(2000, description="Optimiser steps.")
    learning_rate: float = Field(1e-2, ge=1e-30, le=0.05, description="Peak rate of AdamW.")


class MACE(MessagePassing):
    """MACE (Batatia et al., NeurIPS 2022), by mace-torch; forces are the gradient."""

    architecture: Literal["mace"] = Field(description="Which network; the keys beside it are its own.")
    features: int = Field(32, ge=2, le=2048, description="Channels.")
    layers: int = Field(2, ge=1, le=16, description="Interaction blocks.")
    radial: int = Field(8, ge=2, le=1024, description="Radial basis functions.")
    # mace-torch brings the coefficients of these products, and makes them in seconds.
    max_ell: int = Field(3, ge=1, le=3, description="Largest degree of the spherical harmonics of bonds.")
    max_L: int = Field(1, ge=0, le=3, description="Largest degree of the features.")
    correlation: int = Field(3, ge=1, le=3, description="Neighbours in a product; the body order is one more.")
    training: MACETraining = MACETraining()

    def network(self, elements: list[int], neighbours: float) -> nn.Module:
        """Build the untrained network."""
        from piwsl.architectures.mace.network import Network

        return Network(self, elements, neighbours)

    def too_large_for(self, tensors: int, numbers: int) -> str | None:
        """Return the key that asks for more than a file holds; arguments as of `Architecture`.

        There are (max_ell + 1) ** (2 correlation) coefficients or more of products of spherical harmonics.
        """
        if key := super().too_large_for(tensors, numbers):
            return key
        # By logarithms, for the power itself may be endless.
        if self.correlation > math.log(max(numbers, 1)) / (2 * math.log(self.max_ell + 1)):
            return "correlation"
        return "max_L" if self.max_L + 1 > tensors else None
