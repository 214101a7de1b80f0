"""The training objective: label errors and weak residuals from as few passes of the model as they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from piwsl.config import Loss
from piwsl.data.batch import Batch, collate, sum_per_structure
from piwsl.losses.displacements import draw_displacements, normalised
from piwsl.losses.measure import Measure, Measured
from piwsl.losses.terms import Portion, StepPlaces, label_mask, portions
from piwsl.models.potential import Potential
from piwsl.models.terms import Property
from piwsl.residuals import A, Difference, ForceError, Point, StressError

Evaluation = tuple[Tensor, dict[str, Tensor]]


def training_loss(
    potential: Potential,
    batch: Batch,
    loss: Loss,
    displacements: list[Tensor],
    factors: Mapping[str, float | Tensor],
    places: StepPlaces | None = None,
) -> Evaluation:
    """Evaluate a training loss.

    With l the square, absolute value or Huber function, energy: mean over structures of l[(E - E_ref) / N]; forces,
    weak_forces, stress: mean over labelled components of l[F - F_ref], l[σ - σ_ref]; pitc, pisc: mean over structures
    of l[residual / N];
    augmentation_energy, augmentation_forces: as energy and forces, at r + δ. Where labels have weights, l of a residual
    that such a label is in is multiplied by them.

    Args:
        potential: the model.
        batch: structures with labels; its neighbour list must reach 2 max|δ| beyond the cutoff.
        loss: weights and kinds.
        displacements: δ and δ' of the first structures, each (N, 3) in Å, of as many structures as any term displaces.
        factors: by name of the term, of its weight; terms that are not there are not evaluated.
        places: of the batch's structures in the whole batch of a step; shares count in that.
            Default: the batch is the whole.

    Returns:
        The weighted sum, and the unweighted terms by name (powers of eV and eV/Å); 0 where a term has no residual.
    """
    places = StepPlaces.alone(batch.structures) if places is None else places
    return loss_of_portions(potential, loss, portions(batch, loss, displacements, factors, places), factors)


def loss_of_portions(
    potential: Potential, loss: Loss, portions: Mapping[str, Portion], factors: Mapping[str, float | Tensor]
) -> Evaluation:
    """Evaluate a training loss of which each term has its portion of the batch; shapes depend on no label.

    Args:
        potential: the model.
        loss: weights and kinds.
        portions: by name of the term; each the beginning of the longer ones, padding aside.
        factors: as of `training_loss`.

    Returns:
        As `training_loss`.
    """
    means = {name: mean for name, mean in loss.means().items() if name in factors}
    points = _DisplacedEvaluations(potential, [(mean.of, portions[name]) for name, mean in means.items()])
    found = {name: points.measured(mean.of, portions[name], loss).mean for name, mean in means.items()}
    total = torch.stack([means[name].weight * factors[name] * mean for name, mean in found.items()]).sum()
    return total, {name: mean.detach() for name, mean in found.items()}


class _DisplacedEvaluations:
    """Energies and forces at all points that some terms need, each evaluated once, for the largest of their portions.

    Points whose force is needed go through the model as one fused batch, the others as a second one that stops at
    the energy.
    """

    def __init__(self, potential: Potential, differences: list[tuple[Difference, Portion]]) -> None:
        self._portions: dict[Point, Portion] = {}
        self._energies: dict[Point, Tensor] = {}
        self._forces: dict[Point, Tensor] = {}
        self._stress: dict[Point, Tensor] = {}
        needs: dict[Point, set[Property]] = {}
        for difference, portion in differences:
            for point, properties in _needs_of(difference).items():
                needs.setdefault(point, set()).update(properties)
                others = self._portions.get(point, portion)
                self._portions[point] = max(others, portion, key=lambda each: each.batch.structures)
        for only_energy in (False, True):
            points = [point for point, properties in needs.items() if (properties == {"energy"}) == only_energy]
            if points:
                self._evaluate(potential, points, set().union(*(needs[point] for point in points)))

    def _evaluate(self, potential: Potential, points: list[Point], properties: set[Property]) -> None:
        """Keep what the model says at points, which go through it together."""
        prediction = potential.predict(self._fused(points), properties, create_graph=torch.is_grad_enabled())
        structures = [self._portions[point].batch.structures for point in points]
        atoms = [len(self._portions[point].batch.positions) for point in points]
        self._energies |= dict(zip(points, prediction.energy.split(structures), strict=True))
        if prediction.forces is not None:
            self._forces |= dict(zip(points, prediction.forces.split(atoms), strict=True))
        if prediction.stress is not None:
            self._stress |= dict(zip(points, prediction.stress.split(structures), strict=True))

    def measured(self, difference: Difference, portion: Portion, loss: Loss) -> Measured:
        """Return the measure of a difference, summed over its portion."""
        measure = Measure(portion.batch, loss)
        if isinstance(difference, ForceError):
            forces = self._forces[difference.point][: len(portion.batch.positions)]
            return measure.forces(forces, difference.level)
        if isinstance(difference, StressError):
            stress = self._stress[A][: portion.batch.structures]
            return measure.stress(stress, difference.level)
        parts = [
            factor * self._energies[point][: portion.batch.structures] for point, factor in difference.energies.items()
        ]
        for work, factor in difference.works.items():
            forces = self._forces[work.point][: len(portion.batch.positions)]
            parts.append(factor * _work(work.direction, forces, portion))
        parts += [
            factor * _work(path, portion.batch.forces, portion) for path, factor in difference.label_works.items()
        ]
        if difference.label_energy:
            parts.append(difference.label_energy * portion.batch.energy)
        known = label_mask(difference, portion.batch)
        return measure.energies(torch.stack(parts).sum(dim=0), known, difference.level)

    def _fused(self, points: list[Point]) -> Batch:
        parts = []
        for point in points:
            portion = self._portions[point]
            parts.append(portion.batch.at(portion.batch.positions + _shift(point, portion)))
        return collate(parts)


def _needs_of(difference: Difference) -> dict[Point, set[Property]]:
    """Return what a difference asks of the model, by point."""
    if isinstance(difference, ForceError):
        return {difference.point: {"energy", "forces"}}
    if isinstance(difference, StressError):
        return {A: {"energy", "stress"}}
    needs: dict[Point, set[Property]] = {point: {"energy"} for point in difference.energies}
    for work in difference.works:
        needs[work.point] = {"energy", "forces"}
    return needs


def _shift(point: Point, portion: Portion) -> Tensor:
    shift = torch.zeros_like(portion.batch.positions)
    for factor, displacement in zip(point, portion.displacements, strict=False):
        if factor:
            shift = shift + factor * displacement
    return shift


def _work(direction: Point, forces: Tensor, portion: Portion) -> Tensor:
    return sum_per_structure((_shift(direction, portion) * forces).sum(dim=1).double(), portion.batch)


def displacements_of_step(
    potential: Potential, batch: Batch, loss: Loss, seed: int, step: int, places: Sequence[int] | None = None
) -> list[Tensor]:
    """Return δ and δ' of an optimiser step; they depend on the arguments alone, and carry no gradient.

    Args:
        potential: the model; only adversarial directions ask it.
        batch: N atoms of M structures.
        loss: length and kind of the directions.
        seed: of the run.
        step: optimiser step.
        places: of the structures in the whole batch of the step, as many or more. Default: from the first on.
    """
    kind = "gaussian" if loss.direction == "adversarial" else loss.direction
    draws = draw_displacements(batch, loss.displacement, seed, step, count=2, kind=kind, places=places)
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
    energy, forces = (value.detach() for value in potential.energy_and_forces(batch))
    direction = forces - batch.forces
    unlabelled = batch.forces.isnan()
    if unlabelled.any():
        with torch.enable_grad():
            trial = start.detach().clone().requires_grad_()
            # The force at r does not depend on δ: only the energy at r + δ is differentiated again.
            ahead = potential.energy(batch.at(batch.positions + trial))
            residual = ahead - energy + sum_per_structure((trial * forces).sum(dim=1).double(), batch)
            (gradient,) = torch.autograd.grad((residual * residual).sum(), trial)
        direction = torch.where(unlabelled, gradient, direction)
    return normalised(direction.detach().to(batch.positions.dtype), batch, length)
