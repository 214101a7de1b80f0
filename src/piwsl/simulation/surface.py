"""Energies and forces of many replicas in one batch, with a neighbour list that is kept while nobody moves far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from piwsl.data.batch import Batch, ImpossibleGeometry, collate, graph
from piwsl.models import BaselineFailure, Predictor
from piwsl.structures.structure import Structure

# Å, beyond the cutoff: the list holds until an atom has moved half of it.
SKIN = 0.5


class ReplicaSurface:
    """The potential energy surface of replicas, which need not be of one molecule.

    A geometry that has no neighbour list, or that a baseline gives up on, has an energy and forces of NaN, and the
    reason stands in `problems`; the other replicas do not feel it.
    """

    def __init__(self, potential: Predictor, structures: Sequence[Structure]) -> None:
        """Keep the potential and what the replicas are made of."""
        self.problems: dict[int, str] = {}
        """By position of the replica."""
        self._potential = potential
        self._structures = list(structures)
        self._sizes = [len(structure.numbers) for structure in structures]
        ends = [sum(self._sizes[: number + 1]) for number in range(len(self._sizes))]
        self._atoms = [slice(end - size, end) for end, size in zip(ends, self._sizes, strict=True)]
        self._graphs: list[Batch | None] = [None] * len(self._sizes)
        self._batch: Batch | None = None
        self._searched_at = torch.full((sum(self._sizes), 3), torch.nan, dtype=torch.float64)

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (M,), eV, and forces (N, 3), eV/Å, float64, at positions (N, 3), Å, float64."""
        self.problems = {}
        batch = self._within_cutoff(self._placed(self._listed(positions), positions))
        prediction = self._potential.predict(batch, {"energy", "forces"})
        assert prediction.forces is not None
        energies, forces = prediction.energy.detach(), prediction.forces.detach().to(torch.float64)
        if self._potential.baseline is not None:
            own_energies, own_forces = self._baseline(positions)
            energies, forces = energies + own_energies, forces + own_forces
        for position in self.problems:
            energies[position] = torch.nan
            forces[batch.structure_index == position] = torch.nan
        return energies, forces

    def _listed(self, positions: Tensor) -> Batch:
        """Return the batch of the last searches; anew for replicas of which an atom has moved too far since."""
        here = positions.cpu()
        near = (here - self._searched_at).norm(dim=1) <= 0.5 * SKIN  # false for NaN, too
        if self._batch is not None and bool(near.all()):
            return self._batch
        for number, atoms in enumerate(self._atoms):
            if not near[atoms].all():
                self._graphs[number] = self._searched(number, here[atoms])
                self._searched_at[atoms] = here[atoms]
        self._batch = collate([found for found in self._graphs if found is not None]).to(self._potential.device)
        return self._batch

    def _searched(self, number: int, positions: Tensor) -> Batch:
        """Return the graph of a replica; where it can have none, the one before, and its problem is noted."""
        structure = replace(self._structures[number], labels={})
        reach = self._potential.cutoff + SKIN
        try:
            return graph(replace(structure, positions=positions.numpy()), reach, self._potential.dtype)
        except ImpossibleGeometry as error:
            self.problems[number] = f"the atoms flew apart: {error}"
            return self._graphs[number] or graph(structure, reach, self._potential.dtype)

    @staticmethod
    def _placed(batch: Batch, positions: Tensor) -> Batch:
        """Return the batch at positions, each replica about its mean: far away float32 has no digits for bonds."""
        mean = positions.new_zeros(batch.structures, 3).index_add_(0, batch.structure_index, positions)
        mean = mean / batch.n_atoms[:, None]
        return batch.at((positions - mean[batch.structure_index]).to(batch.positions.dtype))

    def _within_cutoff(self, batch: Batch) -> Batch:
        """Leave out pairs of the skin: what is summed does not depend on when the list was made."""
        receivers, senders = batch.edge_index
        vectors = batch.positions[senders] + batch.edge_shift - batch.positions[receivers]
        near = (vectors**2).sum(1) < self._potential.cutoff**2
        return replace(batch, edge_index=batch.edge_index[:, near], edge_shift=batch.edge_shift[near])

    def _baseline(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies and forces of the level that the potential corrects, one replica after the other."""
        assert self._potential.baseline is not None
        energies = positions.new_zeros(len(self._sizes))
        forces = torch.zeros_like(positions)
        for number, (here, of_replica) in enumerate(
            zip(positions.cpu().split(self._sizes), forces.split(self._sizes), strict=True)
        ):
            if number in self.problems:
                continue
            try:
                # Of another geometry: what the start is known to have is not its own.
                moved = replace(self._structures[number], positions=here.numpy(), labels={})
                labels = self._potential.baseline.part(moved)
            except BaselineFailure as failure:
                self.problems[number] = str(failure)
                continue
            energies[number] = float(labels.energy)  # type: ignore[arg-type]  # of labels computed here it is there
            of_replica.copy_(torch.as_tensor(labels.forces))
        return energies, forces
