"""A pair potential fitted in closed form: the baseline that a network corrects.

Two-body terms first, many-body terms for what they leave, as in Bartók, Csányi, "Gaussian approximation potentials: a
brief tutorial introduction", Int. J. Quantum Chem. 115, 1051 (2015), section 4. A network without a baseline believes
that the energy is flat where it has not seen it; real surfaces curve upwards there, most of all along bonds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor, nn
from torch.func import jvp

from piwsl.data.batch import Batch, graph, sum_per_structure
from piwsl.models.geometry import MAX_ATOMIC_NUMBER, cosine_cutoff, edge_vectors
from piwsl.structures.structure import Structure

FUNCTIONS = 12
# The prior of a coefficient falls with the frequency of its function: at the fourth it has fallen to a fifth.
SPECTRUM = 2.0
# Ridge over the mean square of a column of the design. The largest is taken whose squared error in cross-validation is
# near the smallest: what is less sure is left to the network, and the potential is smooth where no frame was.
RIDGES = tuple(10.0**-exponent for exponent in range(1, 10))
NEAR = 1.03
FOLDS = 5
# So many frames know some hundred coefficients; more would only take time.
MOST_FRAMES = 1000


class PairPotential(nn.Module):
    """E = 1/2 Σ_{i≠j} Σ_k c_k(Z_i, Z_j) φ_k(r_ij), eV, over neighbours within the cutoff."""

    places: Tensor
    coefficients: Tensor

    def __init__(self, cutoff: float, elements: Sequence[int]) -> None:
        """Build the potential that is zero everywhere.

        Args:
            cutoff: Å.
            elements: atomic numbers, ascending.
        """
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("places", places_of(elements))
        self.register_buffer("coefficients", torch.zeros(len(elements), len(elements), FUNCTIONS, dtype=torch.float64))

    def energy(self, batch: Batch) -> Tensor:
        """Return energies (M,), eV, float64; differentiable in the positions."""
        receiver, sender = batch.edge_index
        _, distance = edge_vectors(batch)
        places = self.places[batch.numbers]
        coefficients = self.coefficients[places[receiver], places[sender]]  # (E, K)
        each = 0.5 * (coefficients * radial_functions(distance.double(), self.cutoff)).sum(dim=1)  # (E,)
        atoms = torch.zeros_like(batch.numbers, dtype=torch.float64).index_add(0, receiver, each)
        return sum_per_structure(atoms, batch)

    def energy_and_forces(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return energies (M,), eV, and forces (N, 3), eV/Å, in the precision of the positions; without a graph."""
        with torch.enable_grad():
            positions = batch.positions.detach().requires_grad_()
            energy = self.energy(batch.at(positions))
            (gradient,) = torch.autograd.grad(energy.sum(), positions, materialize_grads=True)
        return energy.detach(), -gradient

    def subtracted_from(self, structures: Sequence[Structure]) -> list[Structure]:
        """Return structures with what this potential leaves of their labels: energy, forces, weak forces."""
        rest = []
        for structure in structures:
            energy, forces = self.energy_and_forces(graph(structure, self.cutoff, torch.float64))
            force = forces.numpy()
            rest.append(
                replace(
                    structure,
                    energy=structure.energy - float(energy),
                    forces=None if structure.forces is None else structure.forces - force,
                    weak_forces=None if structure.weak_forces is None else structure.weak_forces - force,
                )
            )
        return rest


def places_of(elements: Sequence[int]) -> Tensor:
    """Return the row of each atomic number in tables of these elements, (119,); 0 for others, which nobody asks for."""
    places = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.int64)
    for place, number in enumerate(elements):
        places[number] = place
    return places


def radial_functions(distance: Tensor, cutoff: float) -> Tensor:
    """Return φ_k(r) = w_k sin(k π r / r_c) / r times the envelope, (E, K); w_k = 1 / [1 + (k / 2)²].

    The sines of PaiNN (section 3.2) and DimeNet (Gasteiger et al., ICLR 2020, equation 7); with equal penalties on the
    coefficients the weights make smooth functions the likely ones.
    """
    order = torch.arange(1, FUNCTIONS + 1, dtype=distance.dtype, device=distance.device)
    weight = 1.0 / (1.0 + (order / SPECTRUM) ** 2)
    envelope = cosine_cutoff(distance, cutoff)
    return torch.sin(distance[:, None] * (order * (math.pi / cutoff))) * weight * (envelope / distance)[:, None]


@dataclass
class Normal:
    """A linear least-squares problem as sums over its rows: AᵀA (C, C), Aᵀy (C,) and yᵀy."""

    matrix: Tensor
    vector: Tensor
    square: float

    @classmethod
    def of(cls, design: Tensor, target: Tensor) -> Normal:
        """Return the sums over rows: design (R, C), target (R,)."""
        return cls(design.T @ design, design.T @ target, float(target @ target))

    def plus(self, other: Normal, sign: float = 1.0) -> Normal:
        """Return the sums with other rows, or with -1 without them."""
        return Normal(
            self.matrix + sign * other.matrix, self.vector + sign * other.vector, self.square + sign * other.square
        )

    def solution(self, ridge: float, free: int) -> Tensor:
        """Return the minimiser (C,) with a penalty on all coefficients, next to none on the last `free` ones."""
        scale = self.matrix.diagonal()
        penalty = torch.full_like(scale, ridge * float(scale[:-free].mean()))
        penalty[-free:] = 1e-12 * float(scale[-free:].mean()) + 1e-300
        return torch.linalg.solve(self.matrix + torch.diag(penalty), self.vector)

    def squared_error(self, solution: Tensor) -> float:
        """Return the sum of squared residuals that coefficients leave."""
        return float(solution @ self.matrix @ solution - 2.0 * solution @ self.vector) + self.square


def fit_pair_potential(structures: Sequence[Structure], cutoff: float) -> PairPotential:
    """Fit a pair potential to labelled energies and forces: ridge regression, the ridge by five-fold cross-validation.

    An energy counts per square root of its atoms, as much as a component of a force does; atomic energies are fitted
    beside, without a penalty, and are not kept.

    Args:
        structures: of them the first thousand are used; what is not labelled is passed over.
        cutoff: Å.

    Returns:
        The potential; zero everywhere where there are fewer than two frames or no neighbours.
    """
    elements = sorted({int(number) for structure in structures for number in structure.numbers})
    potential = PairPotential(cutoff, elements)
    pairs = list(itertools.combinations_with_replacement(range(len(elements)), 2))
    kinds = torch.zeros(len(elements), len(elements), dtype=torch.int64)
    for kind, (first, second) in enumerate(pairs):
        kinds[first, second] = kinds[second, first] = kind
    used = structures[:MOST_FRAMES]
    rows = [_rows(graph(structure, cutoff, torch.float64), potential, kinds) for structure in used]
    count = min(FOLDS, len(used))
    if count < 2 or not any(design[:, : -len(elements)].any() for design, _ in rows):
        return potential
    folds = [Normal.of(*map(torch.cat, zip(*rows[fold::count], strict=True))) for fold in range(count)]
    total = reduce(Normal.plus, folds)
    errors = {
        ridge: sum(fold.squared_error(total.plus(fold, -1.0).solution(ridge, len(elements))) for fold in folds)
        for ridge in RIDGES
    }
    ridge = max(ridge for ridge, error in errors.items() if error <= NEAR * min(errors.values()))
    solution = total.solution(ridge, len(elements))[: -len(elements)]
    potential.coefficients.copy_(solution.reshape(len(pairs), FUNCTIONS)[kinds])
    return potential


def _rows(single: Batch, potential: PairPotential, kinds: Tensor) -> tuple[Tensor, Tensor]:
    """Return design (R, P K + elements) and target (R,): the labelled energy over √N, then the labelled forces."""
    receiver, sender = single.edge_index
    vectors, distance = edge_vectors(single)
    places = potential.places[single.numbers]
    kind = kinds[places[receiver], places[sender]]
    values, slopes = _with_derivative(lambda r: radial_functions(r, potential.cutoff), distance)
    atoms, pairs = len(single.numbers), int(kinds.max()) + 1
    energy = values.new_zeros(pairs, FUNCTIONS).index_add(0, kind, 0.5 * values).flatten()
    counts = torch.bincount(places, minlength=len(kinds)).to(energy)
    # F_i = Σ_j φ'(r_ij) u_ij with u_ij from i to j: each pair stands there as two edges, each with half of its energy.
    along = (vectors / distance[:, None])[:, :, None] * slopes[:, None, :]  # (E, 3, K)
    forces = along.new_zeros(atoms, pairs, 3, FUNCTIONS).index_put((receiver, kind), along, accumulate=True)
    forces = forces.transpose(1, 2).reshape(3 * atoms, -1)
    labelled = ~single.forces.flatten().isnan()
    design = torch.cat([energy, counts])[None] / math.sqrt(atoms)
    target = single.energy / math.sqrt(atoms)
    known = ~target.isnan()
    forces = torch.cat([forces, forces.new_zeros(len(forces), len(counts))], dim=1)
    return torch.cat([design[known], forces[labelled]]), torch.cat([target[known], single.forces.flatten()[labelled]])


def _with_derivative(function: Callable[[Tensor], Tensor], values: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function of each value (E,), of any shape (E, ...), and its derivative by that value."""
    image, slope = jvp(function, (values,), (torch.ones_like(values),))  # type: ignore[misc]  # three with has_aux
    return image, slope
