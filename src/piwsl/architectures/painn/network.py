"""PaiNN: Schütt, Unke, Gastegger, "Equivariant message passing for the prediction of tensorial properties and
molecular spectra", ICML 2021 (arXiv 2102.03150). Equations and figures below are of that paper.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from piwsl.architectures.painn import PaiNN
from piwsl.data.batch import Batch
from piwsl.models.geometry import MAX_ATOMIC_NUMBER, cosine_cutoff, edge_vectors
from piwsl.models.messages import directed_sum, weighted_sum

# Sine at which the spectrum has fallen to a half.
DECAY = 4.0
# Standard deviation of a sum of untrained filters over that of the sum of radial functions.
FILTER_GAIN = 3.0
# With less, as in a diatomic molecule, larger filters would let features explode.
FEW_NEIGHBOURS = 3.0


class Network(nn.Module):
    """Scalar (N, F) and vector (N, 3, F) features, exchanged along edges; in the end one number an atom and, for direct
    forces, one vector.
    """

    frequencies: Tensor
    spectrum: Tensor

    def __init__(self, config: PaiNN, neighbours: float) -> None:
        """Build the network; weights from torch's current random state.

        Args:
            config: sizes.
            neighbours: average number within the cutoff, by which untrained messages keep their size.
        """
        super().__init__()
        features, layers = config.features, config.layers
        self.cutoff = config.cutoff
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, features)
        self.register_buffer("frequencies", math.pi / config.cutoff * torch.arange(1, config.radial + 1))
        self.register_buffer("spectrum", spectrum(config.radial))
        # The filters of all layers, as one layer; a message block takes its rows.
        self.filters = nn.Linear(config.radial, layers * 3 * features)
        self.messages = nn.ModuleList([Message(features) for _ in range(layers)])
        self.updates = nn.ModuleList([Update(features) for _ in range(layers)])
        self.readout = nn.Sequential(nn.Linear(features, features // 2), nn.SiLU(), nn.Linear(features // 2, 1))
        self.force_head = ForceHead(features) if config.forces == "direct" else None
        self._initialise(neighbours)

    @torch.no_grad()
    def _initialise(self, neighbours: float) -> None:
        """Give weights of which features keep about the size that they begin with.

        Weights have the variance 1 / inputs (LeCun et al., "Efficient BackProp", 1998, equation 16), biases are zero;
        filters share their variance among the neighbours whose messages are added up. torch's own weights are a third
        of that: features of similar geometries are then so alike that training from energies alone ends at the mean
        energy. Each of more than two layers adds less, in proportion, as sums of residuals want it (Zhang, Dauphin, Ma,
        "Fixup initialization", ICLR 2019).
        """
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.filters.weight.mul_(FILTER_GAIN * max(neighbours, FEW_NEIGHBOURS) ** -0.5)
        for block in (*self.messages, *self.updates):
            assert isinstance(block, Message | Update)
            block.output.weight.mul_(min(1.0, 2.0 / len(self.messages)))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return one output an atom, (N,), and direct forces (N, 3) or None, in units of the potential's scale."""
        edges, filters = self._edges(batch)
        scalars = self.embedding(batch.atomic_numbers)  # (N, F)
        vectors: Tensor | None = None  # zero until the first message
        last = len(self.messages) - 1
        for number, own in enumerate(filters):
            scalars, vectors = self.messages[number](scalars, vectors, own, edges)
            # Vectors after the last block are what forces are read from, and nothing else.
            scalars, vectors = self.updates[number](scalars, vectors, number < last or self.force_head is not None)
        forces = None if self.force_head is None else self.force_head(scalars, vectors)
        return self.readout(scalars).squeeze(1), forces

    def _edges(self, batch: Batch) -> tuple[Edges, tuple[Tensor, ...]]:
        """Return what all blocks see of the edges, and the filters of each, (3F, R + 1)."""
        receiver, sender = batch.edge_index
        bond, distance = edge_vectors(batch)  # (E, 3), (E,)
        inverse = 1.0 / distance[:, None]
        envelope = cosine_cutoff(distance, self.cutoff)[:, None]
        # sin(n π d / r_c) / d, section 3.2. Times the envelope here, and the envelope itself as the factor of the
        # bias, rather than times the filters: these are many more numbers.
        radial = torch.sin(distance[:, None] * self.frequencies) * (inverse * envelope)  # (E, R)
        basis = torch.cat([radial, envelope], dim=1)  # (E, R + 1)
        weights = torch.cat([self.filters.weight * self.spectrum, self.filters.bias[:, None]], dim=1)  # (L 3F, R + 1)
        return Edges(receiver, sender, bond * inverse, basis), weights.chunk(len(self.messages))


def spectrum(radial: int) -> Tensor:
    """Return the weights (R,) of the radial functions: 1 / [1 + (n / 4)²], scaled to a mean square of one.

    With the paper's equal weights the filters of an untrained network are noise down to half a period of the highest
    sine (0.25 Å for 20 of them within 5 Å), and training fits the forces of few frames with that noise. The filters can
    be the same with either weights; which ones are near the untrained network is what differs.
    """
    weights = 1.0 / (1.0 + (torch.arange(1, radial + 1) / DECAY) ** 2)
    return weights * weights.square().mean().rsqrt()


class Edges(NamedTuple):
    """What a message block sees of the edges."""

    receiver: Tensor
    """(E,) atoms."""
    sender: Tensor
    """(E,) atoms."""
    direction: Tensor
    """(E, 3) unit vectors from receiver to sender."""
    basis: Tensor
    """(E, R + 1) radial basis functions and a one for the bias, all times the envelope."""


class Message(nn.Module):
    """Message block, figure 2b and equations 7 and 8."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, features)
        self.output = nn.Linear(features, 3 * features)

    def forward(self, scalars: Tensor, vectors: Tensor | None, weights: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return scalars (N, F) and vectors (N, 3, F) after the exchange along edges; weights (3F, R + 1): filters."""
        receiver, sender = edges.receiver, edges.sender
        content = self.output(silu(self.hidden(scalars)))  # (N, 3F)
        to_scalar, along_bond, along_vector = content.chunk(3, dim=1)  # (N, F)
        scalar_filter, bond_filter, vector_filter = weights.chunk(3)  # (F, R + 1)
        flow = weighted_sum(linear(edges.basis, scalar_filter), to_scalar[:, None, :], sender, receiver)  # (N, 1, F)
        along = linear(edges.basis, bond_filter) * along_bond.index_select(0, sender)  # (E, F)
        turned = directed_sum(along, edges.direction, receiver, scalars.shape[0])  # (N, 3, F)
        if vectors is not None:
            carried = along_vector[:, None, :] * vectors
            turned = vectors + turned + weighted_sum(linear(edges.basis, vector_filter), carried, sender, receiver)
        return scalars + flow.squeeze(1), turned


class Update(nn.Module):
    """Update block, figure 2c and equations 9 and 10."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mix = nn.Linear(features, 2 * features, bias=False)
        self.hidden = nn.Linear(2 * features, features)
        self.output = nn.Linear(features, 3 * features)

    def forward(self, scalars: Tensor, vectors: Tensor, with_vectors: bool) -> tuple[Tensor, Tensor]:
        """Return scalars (N, F) and vectors (N, 3, F), these new or as they were, after mixing each atom's channels."""
        u, v = self.mix(vectors).chunk(2, dim=2)  # (N, 3, F)
        # The small number keeps the derivative of the norm finite where a vector vanishes by symmetry.
        norm = torch.sqrt((v * v).sum(dim=1) + 1e-8)  # (N, F)
        gates = self.output(silu(self.hidden(torch.cat([scalars, norm], dim=1))))
        scale_vectors, scale_product, shift = gates.chunk(3, dim=1)  # (N, F)
        scalars = scalars + scale_product * (u * v).sum(dim=1) + shift
        return scalars, vectors + scale_vectors[:, None, :] * u if with_vectors else vectors


class ForceHead(nn.Module):
    """Two gated equivariant blocks that end in one vector an atom, section 3.3 and figure 3."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = GatedBlock(features, features // 2)
        self.second = GatedBlock(features // 2, 1)

    def forward(self, scalars: Tensor, vectors: Tensor) -> Tensor:
        """Return (N, 3) from scalars (N, F) and vectors (N, 3, F)."""
        _, forces = self.second(*self.first(scalars, vectors))
        return forces.squeeze(2)


class GatedBlock(nn.Module):
    """Gated equivariant block, figure 3: vectors are mixed and scaled by what the scalars and their norms say."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.mix = nn.Linear(inputs, outputs + inputs, bias=False)
        self.gate = nn.Sequential(nn.Linear(2 * inputs, inputs), nn.SiLU(), nn.Linear(inputs, 2 * outputs))

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return scalars (N, O) and vectors (N, 3, O)."""
        mixed = self.mix(vectors)
        carried, measured = mixed[..., : self.outputs], mixed[..., self.outputs :]
        norm = torch.sqrt((measured * measured).sum(dim=1) + 1e-8)
        gates = self.gate(torch.cat([scalars, norm], dim=1))
        return silu(gates[:, : self.outputs]), gates[:, None, self.outputs :] * carried
