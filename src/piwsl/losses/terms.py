"""What the means of a loss are taken over: which structures, and which of their labels. Nothing is evaluated."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from piwsl.config import Loss
from piwsl.config.losses import DisplacedTerm
from piwsl.data.batch import Batch, sum_per_structure
from piwsl.residuals import Difference, ForceError, StressError


def label_mask(difference: Difference, batch: Batch) -> Tensor:
    """Return where a difference has its labels: of structures, (M,), of forces, (N, 3), or of stress, (M, 3, 3)."""
    if isinstance(difference, ForceError):
        return ~batch.at_level(difference.level).forces.isnan()
    if isinstance(difference, StressError):
        return ~batch.at_level(difference.level).stress.isnan()
    there = torch.ones_like(batch.energy, dtype=torch.bool)
    if difference.label_energy:
        there = there & ~batch.energy.isnan()
    if difference.label_works:
        missing = batch.forces.isnan().any(dim=1).double()
        there = there & (sum_per_structure(missing, batch) == 0)
    return there


@dataclass(frozen=True)
class StepPlaces:
    """Which of the structures of a step a process has, by their places in it."""

    own: list[int]
    """Ascending, from 0."""
    whole: int
    """How many structures the step has, on all devices together."""

    @classmethod
    def alone(cls, structures: int) -> Self:
        """Return the places of one process that has all structures."""
        return cls.in_turn(structures, 0, 1)

    @classmethod
    def in_turn(cls, structures: int, rank: int, ranks: int) -> Self:
        """Return the places of one of several processes among which structures are dealt in turn."""
        return cls([*range(rank, structures, ranks)], structures)

    def among_first(self, count: int) -> int:
        """Return how many of them are among the first places of the step."""
        return bisect_left(self.own, count)


@dataclass(frozen=True)
class Portion:
    """The first structures of a batch, which some of the terms look at."""

    batch: Batch
    displacements: list[Tensor]
    """δ and δ', each (N, 3) in Å; none where all terms are of undisplaced structures."""


def structures_of(name: str, loss: Loss, places: StepPlaces) -> int:
    """Return how many structures of a batch a term looks at, the first ones.

    Args:
        name: of the term.
        loss: has the shares of the terms.
        places: of the batch's structures in the whole batch of a step.
    """
    if name not in (terms := loss.means_of_terms()):
        return len(places.own)
    return places.among_first(terms[name][0].structures(places.whole))


def displaced_structures(names: Iterable[str], loss: Loss, places: StepPlaces) -> int:
    """Return how many structures of a batch any of these terms looks at displaced; arguments as of `structures_of`."""
    return max((structures_of(name, loss, places) for name in names if _is_displaced(name, loss)), default=0)


def _is_displaced(name: str, loss: Loss) -> bool:
    terms = loss.means_of_terms()
    return name in terms and isinstance(terms[name][0], DisplacedTerm)


def portions(
    batch: Batch, loss: Loss, displacements: list[Tensor], names: Iterable[str], places: StepPlaces
) -> dict[str, Portion]:
    """Return what each term looks at; terms that look at the same have the same object.

    Args:
        batch: structures with labels.
        loss: has the shares of the terms.
        displacements: δ and δ' of the first structures, of as many as any term displaces.
        names: of the terms.
        places: as of `structures_of`.
    """
    counts = {name: structures_of(name, loss, places) for name in names}
    displaced = {count for name, count in counts.items() if _is_displaced(name, loss)}
    made = {}
    for count in set(counts.values()):
        part = batch.first(count)
        draws = [draw[: len(part.positions)] for draw in displacements] if count in displaced else []
        made[count] = Portion(part, draws)
    return {name: made[count] for name, count in counts.items()}


def residual_counts(batch: Batch, loss: Loss, names: Iterable[str], places: StepPlaces) -> Tensor:
    """Return how many residuals each term is the mean of, (terms,), float64; they are known before any model is asked.

    Args:
        batch: structures with labels.
        loss: has the shares of the terms.
        names: of the terms, in the order of the result.
        places: as of `structures_of`.
    """
    means, looked_at = loss.means(), portions(batch, loss, [], names, places)
    counts = [label_mask(means[name].of, portion.batch).sum() for name, portion in looked_at.items()]
    return torch.stack(counts).double()


def factors_of_rank(factors: Mapping[str, float], own: Tensor, together: Tensor, ranks: int) -> dict[str, float]:
    """Return the factors with which the mean of the losses of several processes is the loss of the whole batch.

    A process takes means over its own residuals: each counts by how many they are. What it has no residual of is not
    evaluated; where nothing is left, an energy is, with factor 0, for all processes must have a gradient.

    Args:
        factors: of the weights at this step, by name.
        own: (terms,) residuals of this process, in the order of the factors.
        together: (terms,) residuals of all processes.
        ranks: how many processes there are.
    """
    shares = (ranks * own / together.clamp_min(1.0)).tolist()
    found = {name: factor * share for (name, factor), share in zip(factors.items(), shares, strict=True) if share}
    return found or {"energy": 0.0}
