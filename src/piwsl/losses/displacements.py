"""Random displacements of structures, bounded so that one neighbour list serves all copies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.structures.seeds import seed_of

# No atom moves further than this many lengths (standard deviations of a component, for Gaussian displacements).
LARGEST_IN_LENGTHS = 4.0


def largest_displacement(length: float) -> float:
    """Return the bound on how far one atom is displaced, Å, for a length of displacements, Å."""
    return LARGEST_IN_LENGTHS * length


def draw_displacements(
    batch: Batch,
    length: float,
    seed: int,
    step: int,
    count: int,
    kind: str = "gaussian",
    places: Sequence[int] | None = None,
) -> list[Tensor]:
    """Draw random displacements that do not translate the structures.

    Each structure's mean displacement is subtracted; a structure with an atom beyond the bound is scaled back as a
    whole. The result depends on the arguments alone, so a resumed training draws what an uninterrupted one would; that
    of a structure on its place alone, so several processes draw what one would.

    Args:
        batch: N atoms of M structures.
        length: Å; gaussian: standard deviation of a component; uniform: half-width of the box; sphere: how far each
            atom moves, before the mean is subtracted.
        seed: of the run.
        step: optimiser step.
        count: how many sets to draw.
        kind: gaussian, uniform or sphere.
        places: of the structures in the whole batch of the step, as many or more. Default: from the first on.

    Returns:
        `count` tensors (N, 3), Å, without gradient.
    """
    places = range(batch.structures) if places is None else places
    generator, drawn = torch.Generator(), []
    for place, atoms in zip(places, batch.n_atoms.tolist(), strict=False):
        generator.manual_seed(seed_of("displacements", seed, step, place))
        shape = (count, int(atoms), 3)
        if kind == "uniform":
            drawn.append(2.0 * torch.rand(shape, generator=generator, dtype=batch.positions.dtype) - 1.0)
        else:
            drawn.append(torch.randn(shape, generator=generator, dtype=batch.positions.dtype))
    draws = torch.cat(drawn, dim=1)
    if kind == "sphere":
        draws = draws / torch.linalg.vector_norm(draws, dim=2, keepdim=True)
    draws = draws.to(batch.positions.device)
    return [_bounded(_centred(draw * length, batch), batch, length) for draw in draws]


def normalised(direction: Tensor, batch: Batch, length: float) -> Tensor:
    """Scale the directions of structures to a length, without translation.

    Args:
        direction: (N, 3), of any unit.
        batch: N atoms of M structures.
        length: root mean square of a component, Å. No atom moves further than the bound.
    """
    centred = _centred(direction, batch)
    squares = centred.new_zeros(batch.structures).index_add(0, batch.structure_index, (centred * centred).sum(dim=1))
    scale = length / (squares / (3 * batch.n_atoms)).sqrt().clamp_min(1e-12)
    return _bounded(centred * scale[batch.structure_index][:, None], batch, length)


def _centred(displacement: Tensor, batch: Batch) -> Tensor:
    sums = displacement.new_zeros(batch.structures, 3).index_add(0, batch.structure_index, displacement)
    return displacement - (sums / batch.n_atoms[:, None])[batch.structure_index]


def _bounded(displacement: Tensor, batch: Batch, length: float) -> Tensor:
    lengths = torch.linalg.vector_norm(displacement, dim=1)  # (N,)
    longest = lengths.new_zeros(batch.structures).scatter_reduce(0, batch.structure_index, lengths, "amax")  # (M,)
    factor = (largest_displacement(length) / longest.clamp_min(1e-12)).clamp_max(1.0)
    return displacement * factor[batch.structure_index][:, None]
