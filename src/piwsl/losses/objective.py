"""The training objective: label errors and weak residuals from as few passes of the model as they need.

Weak terms: Takamoto, Zaverkin, Niepert, "Physics-Informed Weakly Supervised Learning for Interatomic Potentials",
ICML 2025 (arXiv 2408.05215). Notation: A = r, B = r + δ', C = r + δ.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from piwsl.config import Loss
from piwsl.data.batch import Batch, collate, sum_per_structure
from piwsl.models.potential import Potential


@dataclass(frozen=True)
class Work:
    """A product <d, F> that a residual needs."""

    point: str
    """Where F is taken: "A", "B" or "C"."""
    path: str
    """From where to where d leads: "AC" or "BC"."""


def training_loss(
    potential: Potential, batch: Batch, loss: Loss, displacements: list[Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Evaluate a training loss.

    energy: mean over structures of [(E - E_ref) / N]²; forces: mean over labelled components of (F - F_ref)²;
    pitc, pisc: mean over structures of [residual / N]².

    Args:
        potential: the model.
        batch: structures with labels; its neighbour list must reach 2 max|δ| beyond the cutoff.
        loss: weights and orders.
        displacements: δ and δ', each (N, 3) in Å; may be empty where the loss has no weak term.

    Returns:
        The weighted sum, and the unweighted terms by name (eV² per atom², eV²/Å²).
    """
    points = _Points(potential, batch, loss, displacements)
    terms = {"energy": _mean_square((points.energy["A"] - batch.energy) / batch.atoms)}
    if points.forces is not None:
        labelled = ~batch.forces.isnan()
        terms["forces"] = _mean_square(points.forces[labelled] - batch.forces[labelled])
    if loss.pitc is not None:
        terms["pitc"] = _mean_square(points.pitc_residual(loss.pitc.order) / batch.atoms)
    if loss.pisc is not None:
        terms["pisc"] = _mean_square(points.pisc_residual(loss.pisc.order) / batch.atoms)
    total = torch.stack([weight * terms[name] for name, weight in _weights(loss).items() if name in terms]).sum()
    return total, {name: term.detach() for name, term in terms.items()}


def _weights(loss: Loss) -> dict[str, float]:
    weights = {"energy": loss.energy, "forces": loss.forces}
    return weights | {
        name: term.weight for name, term in (("pitc", loss.pitc), ("pisc", loss.pisc)) if term is not None
    }


def _mean_square(values: Tensor) -> Tensor:
    return (values * values).mean()


class _Points:
    """Energies at A, B, C and the works of the force there, each evaluated once.

    Points whose force is needed go through the model as one fused batch, the others as a second one that stops at
    the energy.
    """

    def __init__(self, potential: Potential, batch: Batch, loss: Loss, displacements: list[Tensor]) -> None:
        self.batch = batch
        self.forces: Tensor | None = None
        self.energy: dict[str, Tensor] = {}
        self.work: dict[Work, Tensor] = {}
        zero = torch.zeros_like(batch.positions)
        self._shift = {"A": zero}
        if loss.pitc is not None or loss.pisc is not None:
            self._shift["C"] = displacements[0]
        if loss.pisc is not None:
            self._shift["B"] = displacements[1]
        works = _required_works(loss)
        needed = list(dict.fromkeys([work.point for work in works] + (["A"] if batch.has_forces else [])))
        only_energy = [point for point in self._shift if point not in needed]
        if needed:
            self._differentiate(potential, needed, works)
        if only_energy:
            self._keep_energies(only_energy, potential.energy(self._fused(only_energy)))

    def pitc_residual(self, order: int) -> Tensor:
        """E(C) - [E(A) - <δ, F>], (M,); F at A (order 1) or the mean of A and C (order 2, trapezoid)."""
        return self.energy["C"] - self.energy["A"] + self._mean_work("A", "AC", order)

    def pisc_residual(self, order: int) -> Tensor:
        """E(C) - [E(B) - <δ - δ', F>], (M,); F at B (order 1) or the mean of B and C (order 2)."""
        return self.energy["C"] - self.energy["B"] + self._mean_work("B", "BC", order)

    def _mean_work(self, start: str, path: str, order: int) -> Tensor:
        at_start = self.work[Work(start, path)]
        return at_start if order == 1 else 0.5 * (at_start + self.work[Work("C", path)])

    def _direction(self, path: str) -> Tensor:
        return self._shift[path[1]] - self._shift[path[0]]

    def _fused(self, points: list[str]) -> Batch:
        return collate([self.batch.at(self.batch.positions + self._shift[point]) for point in points])

    def _keep_energies(self, points: list[str], energies: Tensor) -> None:
        for point, energy in zip(points, energies.chunk(len(points)), strict=True):
            self.energy[point] = energy

    def _differentiate(self, potential: Potential, points: list[str], works: list[Work]) -> None:
        energies, forces = potential.energy_and_forces(self._fused(points), create_graph=torch.is_grad_enabled())
        self._keep_energies(points, energies)
        at = dict(zip(points, forces.chunk(len(points)), strict=True))
        if self.batch.has_forces:
            self.forces = at["A"]
        for work in works:
            product = (self._direction(work.path) * at[work.point]).sum(dim=1).double()
            self.work[work] = sum_per_structure(product, self.batch)


def _required_works(loss: Loss) -> list[Work]:
    works = []
    for term, start, path in ((loss.pitc, "A", "AC"), (loss.pisc, "B", "BC")):
        if term is not None:
            works.append(Work(start, path))
            if term.order == 2:
                works.append(Work("C", path))
    return works
