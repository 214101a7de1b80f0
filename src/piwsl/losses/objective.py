"""The training objective: label errors and weak residuals from as few passes of the model as they need."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from piwsl.config import Loss
from piwsl.data.batch import Batch, collate, sum_per_structure
from piwsl.losses.displacements import draw_displacements, normalised
from piwsl.losses.measure import Measure
from piwsl.losses.residuals import A, C, Point, Residual, pisc_residual, pitc_residual
from piwsl.models.potential import Potential


class Shares(NamedTuple):
    """Factors of the weights of terms that come and go during a training."""

    displaced: float | Tensor = 1.0
    """Of the terms at displaced geometries."""
    weak_forces: float | Tensor = 1.0
    """Of the forces of a cheaper level."""


FULL = Shares()


def training_loss(
    potential: Potential, batch: Batch, loss: Loss, displacements: list[Tensor], shares: Shares = FULL
) -> tuple[Tensor, dict[str, Tensor]]:
    """Evaluate a training loss.

    With l the square, absolute value or Huber function, energy: mean over structures of l[(E - E_ref) / N]; forces,
    weak_forces: mean over labelled components of l[F - F_ref]; pitc, pisc: mean over structures of l[residual / N];
    augmentation: energy and forces at r + δ.

    Args:
        potential: the model.
        batch: structures with labels; its neighbour list must reach 2 max|δ| beyond the cutoff.
        loss: weights and kinds.
        displacements: δ and δ', each (N, 3) in Å; none leave the weak terms out.
        shares: factors of weights at this step.

    Returns:
        The weighted sum, and the unweighted terms by name (powers of eV and eV/Å).
    """
    residuals = weak_residuals(loss) if displacements else {}
    augmentation = loss.augmentation if displacements else None
    weak_forces = loss.weak_forces if batch.has_weak_forces else None
    points = _Points(
        potential,
        batch,
        list(residuals.values()),
        displacements,
        labelled=batch.has_forces or weak_forces is not None,
        augmented=augmentation is not None,
    )
    measure = Measure(batch, loss)
    terms = {"energy": measure.energy_labels(points.energy[A]).mean}
    weights: dict[str, float | Tensor] = {"energy": loss.energy, "forces": loss.forces}
    if batch.has_forces:
        terms["forces"] = measure.forces(points.forces[A], batch.forces).mean
    if weak_forces is not None:
        terms["weak_forces"] = measure.forces(points.forces[A], batch.weak_forces).mean
        weights["weak_forces"] = shares.weak_forces * weak_forces.weight
    for name, residual in residuals.items():
        terms[name] = measure.energies(points.value(residual), points.known(residual)).mean
    for name, term in (("pitc", loss.pitc), ("pisc", loss.pisc)):
        if term is not None:
            weights[name] = shares.displaced * term.weight
    if augmentation is not None:
        terms["augmentation"] = loss.energy * measure.energy_labels(points.energy[C]).mean
        if batch.has_forces:
            forces = measure.forces(points.forces[C], batch.forces).mean
            terms["augmentation"] = terms["augmentation"] + loss.forces * forces
        weights["augmentation"] = shares.displaced * augmentation.weight
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}


def weak_residuals(loss: Loss) -> dict[str, Residual]:
    """Return the weak residuals of a loss by name."""
    found = {}
    if loss.pitc is not None:
        found["pitc"] = pitc_residual(loss.pitc)
    if loss.pisc is not None:
        found["pisc"] = pisc_residual(loss.pisc)
    return found


class _Points:
    """Energies and works of the force at all points that some residuals need, each evaluated once.

    Points whose force is needed go through the model as one fused batch, the others as a second one that stops at
    the energy.
    """

    def __init__(
        self,
        potential: Potential,
        batch: Batch,
        residuals: list[Residual],
        displacements: list[Tensor],
        labelled: bool,
        augmented: bool,
    ) -> None:
        self._batch, self._displacements = batch, displacements
        self.energy: dict[Point, Tensor] = {}
        self.forces: dict[Point, Tensor] = {}
        works = [work for residual in residuals for work in residual.works]
        compared = [A] * labelled + [C] * (augmented and batch.has_forces)
        needed = list(dict.fromkeys([*compared, *(work.point for work in works)]))
        energies = [A, *([C] if augmented else []), *(point for residual in residuals for point in residual.energies)]
        only_energy = [point for point in dict.fromkeys(energies) if point not in needed]
        if needed:
            fused = self._fused(needed)
            found, forces = potential.energy_and_forces(fused, create_graph=torch.is_grad_enabled())
            self._keep(needed, found)
            self.forces = dict(zip(needed, forces.chunk(len(needed)), strict=True))
        if only_energy:
            self._keep(only_energy, potential.energy(self._fused(only_energy)))

    def value(self, residual: Residual) -> Tensor:
        """Return a residual of every structure, (M,) eV."""
        parts = [factor * self.energy[point] for point, factor in residual.energies.items()]
        parts += [
            factor * self._work(work.direction, self.forces[work.point]) for work, factor in residual.works.items()
        ]
        parts += [factor * self._work(path, self._batch.forces) for path, factor in residual.label_works.items()]
        if residual.label_energy:
            parts.append(residual.label_energy * self._batch.energy)
        return torch.stack(parts).sum(dim=0)

    def known(self, residual: Residual) -> Tensor:
        """Return which structures have the labels that a residual needs, (M,)."""
        known = torch.ones_like(self._batch.energy, dtype=torch.bool)
        if residual.label_energy:
            known = known & ~self._batch.energy.isnan()
        if residual.label_works:
            missing = self._batch.forces.isnan().any(dim=1).double()
            known = known & (sum_per_structure(missing, self._batch) == 0)
        return known

    def _work(self, direction: Point, forces: Tensor) -> Tensor:
        return sum_per_structure((self._shift(direction) * forces).sum(dim=1).double(), self._batch)

    def _shift(self, point: Point) -> Tensor:
        shift = torch.zeros_like(self._batch.positions)
        for factor, displacement in zip(point, self._displacements, strict=False):
            if factor:
                shift = shift + factor * displacement
        return shift

    def _fused(self, points: list[Point]) -> Batch:
        return collate([self._batch.at(self._batch.positions + self._shift(point)) for point in points])

    def _keep(self, points: list[Point], energies: Tensor) -> None:
        self.energy |= dict(zip(points, energies.chunk(len(points)), strict=True))


def displacements_of_step(
    potential: Potential, batch: Batch, loss: Loss, seed: int, step: int, rank: int = 0
) -> list[Tensor]:
    """Return δ and δ' of an optimiser step; they depend on the arguments alone, and carry no gradient.

    Args:
        potential: the model; only adversarial directions ask it.
        batch: N atoms of M structures.
        loss: length and kind of the directions.
        seed: of the run.
        step: optimiser step.
        rank: of the process among those that share the frames of the step.
    """
    kind = "gaussian" if loss.direction == "adversarial" else loss.direction
    draws = draw_displacements(batch, loss.displacement, seed, step, count=2, kind=kind, rank=rank)
    if loss.direction == "adversarial":
        draws[0] = adversarial_displacement(potential, batch, loss.displacement, draws[0])
    return draws


def adversarial_displacement(potential: Potential, batch: Batch, length: float, start: Tensor) -> Tensor:
    """Return displacements along which the model is most wrong, to first order.

    Where forces are labelled, along F - F_ref, the direction in which the energy error grows fastest; elsewhere along
    the gradient of the squared PITC residual of order 1 with respect to δ, at a random δ.

    Args:
        potential: the model.
        batch: N atoms of M structures.
        length: root mean square of a component, Å.
        start: (N, 3) the random δ.

    Returns:
        (N, 3), Å, without gradient.
    """
    with torch.enable_grad():
        trial = start.detach().clone().requires_grad_()
        # The force at r does not depend on δ: only the energy at r + δ is differentiated again.
        energy, forces = potential.energy_and_forces(batch)
        ahead = potential.energy(batch.at(batch.positions + trial))
        work = sum_per_structure((trial * forces.detach()).sum(dim=1).double(), batch)
        residual = ahead - energy.detach() + work
        (gradient,) = torch.autograd.grad((residual * residual).sum(), trial)
    direction = torch.where(batch.forces.isnan(), gradient, forces.detach() - batch.forces)
    return normalised(direction.detach().to(batch.positions.dtype), batch, length)
