"""Random displacements of structures, bounded so that one neighbour list serves all copies."""

from __future__ import annotations

import torch
from torch import Tensor

from piwsl.data.batch import Batch

# No atom moves further than this many standard deviations.
LARGEST_IN_STANDARD_DEVIATIONS = 4.0


def largest_displacement(standard_deviation: float) -> float:
    """Return the bound on how far one atom is displaced, Å, for a standard deviation of a component, Å."""
    return LARGEST_IN_STANDARD_DEVIATIONS * standard_deviation


def draw_displacements(batch: Batch, standard_deviation: float, seed: int, step: int, count: int) -> list[Tensor]:
    """Draw Gaussian displacements that do not translate the structures.

    Each structure's mean displacement is subtracted; a structure with an atom beyond the bound is scaled back as a
    whole. The result depends on the arguments alone, so a resumed training draws what an uninterrupted one would.

    Args:
        batch: N atoms of M structures.
        standard_deviation: of a component, Å.
        seed: of the run.
        step: optimiser step.
        count: how many sets to draw.

    Returns:
        `count` tensors (N, 3), Å, without gradient.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    shape = (count, *batch.positions.shape)
    draws = torch.randn(shape, generator=generator, dtype=batch.positions.dtype).to(batch.positions.device)
    return [_bounded(_centred(draw * standard_deviation, batch), batch, standard_deviation) for draw in draws]


def _centred(displacement: Tensor, batch: Batch) -> Tensor:
    sums = displacement.new_zeros(batch.structures, 3).index_add(0, batch.structure, displacement)
    return displacement - (sums / batch.atoms[:, None])[batch.structure]


def _bounded(displacement: Tensor, batch: Batch, standard_deviation: float) -> Tensor:
    lengths = torch.linalg.vector_norm(displacement, dim=1)  # (N,)
    longest = lengths.new_zeros(batch.structures).scatter_reduce(0, batch.structure, lengths, "amax")  # (M,)
    factor = (largest_displacement(standard_deviation) / longest.clamp_min(1e-12)).clamp_max(1.0)
    return displacement * factor[batch.structure][:, None]
