"""An architecture of one layer: a Gaussian basis of distances, summed over neighbours, and a linear readout."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from piwsl.config import Architecture
from piwsl.data.batch import Batch
from piwsl.models.geometry import cosine_cutoff, edge_vectors


class Toy(Architecture):
    """Pairs of elements, each with a curve of its own."""

    architecture: Literal["toy"] = Field(description="Which network; the keys beside it are its own.")
    gaussians: int = Field(8, ge=2, le=100, description="Of each curve.")

    def network(self, elements: list[int], neighbours: float) -> nn.Module:
        """Build the network."""
        return Network(self, elements)


class Network(nn.Module):
    """Curves of distance."""

    def __init__(self, config: Toy, elements: list[int]) -> None:
        super().__init__()
        self.cutoff = config.cutoff
        self.register_buffer("elements", torch.tensor(elements))
        self.register_buffer("centres", torch.linspace(0.5, config.cutoff, config.gaussians))
        self.weights = nn.Parameter(torch.randn(len(elements), len(elements), config.gaussians))

    def forward(self, batch: Batch) -> tuple[Tensor, None]:
        """Return one output an atom, (N,)."""
        receiver, sender = batch.edge_index
        _, distance = edge_vectors(batch)
        kind = torch.searchsorted(self.elements, batch.atomic_numbers)
        basis = torch.exp(-4.0 * (distance[:, None] - self.centres) ** 2)
        curves = (self.weights[kind[receiver], kind[sender]] * basis).sum(dim=1) * cosine_cutoff(distance, self.cutoff)
        return curves.new_zeros(len(batch.atomic_numbers)).index_add(0, receiver, curves), None
