"""A committee: potentials that differ in what chance decided; their mean predicts, their spread says how surely."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from piwsl.data.batch import Batch
from piwsl.models.potential import Potential
from piwsl.models.predictor import Predictor
from piwsl.models.terms import Prediction, Property


class Committee(Predictor):
    """Means of what K potentials say, and the sample standard deviation of it.

    Lakshminarayanan, Pritzel, Blundell, "Simple and scalable predictive uncertainty estimation using deep ensembles",
    NeurIPS 2017. Forces are as conservative as those of the members: a mean of gradients is the gradient of the mean.
    """

    def __init__(self, members: Sequence[Potential]) -> None:
        """Take two potentials or more, of one architecture, elements and number of neighbours."""
        super().__init__()
        first = members[0]
        self.config = first.config.model_copy(update={"members": len(members)})
        self.dtype = first.dtype
        self.neighbours = first.neighbours
        self.conservative = first.conservative
        self.members = nn.ModuleList(members)

    @property
    def potentials(self) -> list[Potential]:
        """Its members."""
        return [member for member in self.members if isinstance(member, Potential)]

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.potentials[0].device

    @property
    def has_pair_potential(self) -> bool:
        """Whether every member has a pair potential; otherwise none has."""
        return self.potentials[0].has_pair_potential

    def in_dtype(self, dtype: torch.dtype) -> Self:
        """Convert the networks to another precision, in place."""
        self.dtype = dtype
        for member in self.potentials:
            member.in_dtype(dtype)
        return self

    def elements(self) -> list[str]:
        """Return the chemical symbols that it knows, by atomic number."""
        return self.potentials[0].elements()

    def predict(
        self, batch: Batch, properties: Collection[Property] = ("energy", "forces"), create_graph: bool = False
    ) -> Prediction:
        """Predict what is asked for, and always the spread; arguments as of `Predictor`."""
        return combined([member.predict(batch, properties, create_graph) for member in self.potentials])


def combined(found: Sequence[Prediction]) -> Prediction:
    """Return the mean of what members predict, and its spread."""
    energy, energy_std = _mean_and_std([each.energy for each in found])
    energies, _ = _mean_and_std([each.energies for each in found])
    forces = [each.forces for each in found if each.forces is not None]
    stress = [each.stress for each in found if each.stress is not None]
    mean_forces, forces_std = _mean_and_std(forces) if forces else (None, None)
    mean_stress = _mean_and_std(stress)[0] if stress else None
    return Prediction(energy, energies, mean_forces, mean_stress, energy_std, forces_std)


def _mean_and_std(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and sample standard deviation; of differences to the first, for totals are large."""
    differences = torch.stack([value - values[0] for value in values])
    return values[0] + differences.mean(dim=0), differences.detach().std(dim=0)
