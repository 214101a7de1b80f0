"""SchNet: Schütt, Sauceda, Kindermans, Tkatchenko, Müller, "SchNet - a deep learning architecture for molecules and
materials", J. Chem. Phys. 148, 241722 (2018). Equations and figures below are of that paper.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from piwsl.architectures.schnet import SchNet
from piwsl.data.batch import Batch
from piwsl.models.geometry import MAX_ATOMIC_NUMBER, cosine_cutoff, edge_vectors
from piwsl.models.messages import weighted_sum


class ShiftedSoftplus(nn.Module):
    """ssp(x) = ln(0.5 eˣ + 0.5), section II.B."""

    def forward(self, values: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return softplus(values) - math.log(2.0)


class Network(nn.Module):
    """Scalar features (N, F) refined by continuous-filter convolutions; one number an atom in the end (figure 2)."""

    centres: Tensor

    def __init__(self, config: SchNet) -> None:
        """Build the network; weights from torch's current random state."""
        super().__init__()
        features = config.features
        self.cutoff = config.cutoff
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, features)
        self.register_buffer("centres", torch.linspace(0.0, config.cutoff, config.radial))
        self.width = config.cutoff / (config.radial - 1)
        self.interactions = nn.ModuleList([Interaction(features, config.radial) for _ in range(config.layers)])
        self.readout = nn.Sequential(nn.Linear(features, features // 2), ShiftedSoftplus(), nn.Linear(features // 2, 1))

    def forward(self, batch: Batch) -> tuple[Tensor, None]:
        """Return one output an atom, (N,), in units of the potential's scale; SchNet has no head for forces."""
        receiver, sender = batch.edge_index
        _, distance = edge_vectors(batch)
        # exp(-γ (d - μ_k)²), equation 5, with γ = 1 / (2 width²). Below exp(-60) nothing is added to any sum, but
        # arithmetic with the subnormal numbers that would follow is many times slower.
        exponent = -0.5 * ((distance[:, None] - self.centres) / self.width) ** 2
        radial = torch.exp(exponent.clamp_min(-60.0))  # (E, R)
        envelope = cosine_cutoff(distance, self.cutoff)[:, None]
        features = self.embedding(batch.atomic_numbers)  # (N, F)
        for interaction in self.interactions:
            features = features + interaction(features, radial, envelope, receiver, sender)
        return self.readout(features).squeeze(1), None


class Interaction(nn.Module):
    """Interaction block with its filter-generating network, figure 2 (middle and right).

    The filter network ends in a linear layer, as in the authors' code, where the figure has one more activation.
    """

    def __init__(self, features: int, radial: int) -> None:
        super().__init__()
        self.filter = nn.Sequential(nn.Linear(radial, features), ShiftedSoftplus(), nn.Linear(features, features))
        self.content = nn.Linear(features, features, bias=False)
        self.output = nn.Sequential(nn.Linear(features, features), ShiftedSoftplus(), nn.Linear(features, features))

    def forward(self, features: Tensor, radial: Tensor, envelope: Tensor, receiver: Tensor, sender: Tensor) -> Tensor:
        """Return what the neighbours add to the features, (N, F)."""
        weights = self.filter(radial) * envelope  # (E, F)
        content = self.content(features)[:, None, :]  # (N, 1, F)
        return self.output(weighted_sum(weights, content, sender, receiver).squeeze(1))  # equation 3
