"""What architectures share: the vectors along edges and the envelope that takes them to zero at the cutoff."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from piwsl.data.batch import Batch

MAX_ATOMIC_NUMBER = 118


def edge_vectors(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return vectors from receiver to sender (E, 3) and their lengths (E,), Å."""
    receiver, sender = batch.edge_index
    vectors = batch.positions.index_select(0, sender) + batch.edge_shift - batch.positions.index_select(0, receiver)
    return vectors, torch.linalg.vector_norm(vectors, dim=1)


def cosine_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    """Return 1/2 [cos(π d / r_c) + 1] within the cutoff and 0 beyond; distances (E,) and cutoff in Å."""
    envelope = 0.5 * (torch.cos(distance * (math.pi / cutoff)) + 1.0)
    return torch.where(distance < cutoff, envelope, torch.zeros_like(envelope))
