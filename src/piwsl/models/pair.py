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
from typing import NamedTuple

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
RIDGES = tuple(10.0**-exponent for exponent in range(-2, 10))
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
        """Return energies (M,), eV, float64, and forces (N, 3), eV/Å, in the precision of the positions.

        Forces are in closed form: processes that share the devices of a training are forked after it has been fitted,
        and torch's backward pass does not outlive a fork.
        """
        receiver, sender = batch.edge_index
        vectors, distance = edge_vectors(batch)
        places = self.places[batch.numbers]
        coefficients = self.coefficients[places[receiver], places[sender]]  # (E, K)
        _, slopes = _with_derivative(lambda r: radial_functions(r, self.cutoff), distance.double())
        # F_i = Σ_j φ'(r_ij) u_ij with u_ij from i to j: each pair stands there as two edges, each with half its energy.
        along = (coefficients * slopes).sum(dim=1, keepdim=True) * vectors / distance[:, None]
        forces = torch.zeros_like(batch.positions).index_add(0, receiver, along.to(batch.positions))
        return self.energy(batch).detach(), forces.detach()

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

    def solution(self, ridge: float) -> Tensor:
        """Return the minimiser (C,) with a penalty of `ridge` over the mean square of a column."""
        scale = self.matrix.diagonal()
        penalty = torch.full_like(scale, ridge * float(scale.mean()) + 1e-300)
        return torch.linalg.solve(self.matrix + torch.diag(penalty), self.vector)

    def squared_error(self, solution: Tensor) -> float:
        """Return the sum of squared residuals that coefficients leave."""
        error = float(solution @ self.matrix @ solution - 2.0 * solution @ self.vector) + self.square
        return max(error, 0.0)  # a difference of sums, of which rounding may leave less than nothing


def fit_pair_potential(structures: Sequence[Structure], cutoff: float) -> PairPotential:
    """Fit a pair potential to labelled energies and forces: ridge regression, the ridge by five-fold cross-validation.

    An energy counts per square root of its atoms, as much as a component of a force does. What a fit of atomic energies
    can say of them is projected out of design and target before: a composition that stands in one frame alone says
    nothing then, where its atomic energy would be unknown to the folds without it.

    Args:
        structures: of them the first thousand are used; what is not labelled is passed over.
        cutoff: Å.

    Returns:
        The potential; zero everywhere where there are fewer than two frames, no neighbours, or nothing is left to fit.
    """
    elements = sorted({int(number) for structure in structures for number in structure.numbers})
    potential = PairPotential(cutoff, elements)
    pairs = list(itertools.combinations_with_replacement(range(len(elements)), 2))
    kinds = torch.zeros(len(elements), len(elements), dtype=torch.int64)
    for kind, (first, second) in enumerate(pairs):
        kinds[first, second] = kinds[second, first] = kind
    used = structures[:MOST_FRAMES]
    rows = [_rows(graph(structure, cutoff, torch.float64), potential, kinds) for structure in used]
    energies, target = _without_atomic_energies(rows)
    count = min(FOLDS, len(used))

    def sums(frame: int) -> Normal:
        one = slice(frame, frame + 1)
        return Normal.of(torch.cat([energies[one], rows[frame].forces]), torch.cat([target[one], rows[frame].force]))

    folds = [reduce(Normal.plus, map(sums, range(fold, len(rows), count))) for fold in range(count)]
    total = reduce(Normal.plus, folds)
    if count < 2 or not total.matrix.any() or not total.vector.any():
        return potential
    errors = {
        ridge: sum(fold.squared_error(total.plus(fold, -1.0).solution(ridge)) for fold in folds) for ridge in RIDGES
    }
    ridge = max(ridge for ridge, error in errors.items() if error <= NEAR * min(errors.values()))
    solution = total.solution(ridge)
    potential.coefficients.copy_(solution.reshape(len(pairs), FUNCTIONS)[kinds])
    return potential


class Rows(NamedTuple):
    """What one structure says of the coefficients."""

    energy: Tensor
    """(P K,): sums of the radial functions over √N."""
    counts: Tensor
    """(elements,): atoms over √N."""
    target: float
    """Energy over √N, eV; NaN where there is no label."""
    forces: Tensor
    """(R, P K), of the labelled components."""
    force: Tensor
    """(R,), eV/Å."""


def _without_atomic_energies(rows: list[Rows]) -> tuple[Tensor, Tensor]:
    """Return design (M, P K) and target (M,) of the energies, both without their projection on the counts of atoms.

    Rows without a label are zero. Frisch, Waugh, "Partial time regressions as compared with individual trends",
    Econometrica 1, 387 (1933): the coefficients are those of a fit of both together.
    """
    target = torch.tensor([row.target for row in rows], dtype=torch.float64)
    known = ~target.isnan()
    both = torch.cat([torch.stack([row.energy for row in rows]), target[:, None]], dim=1)
    both[~known] = 0.0
    counts = torch.stack([row.counts for row in rows]) * known[:, None]
    # A singular value decomposition: compositions may be collinear. Twice, for of large totals rounding leaves some.
    basis, size, _ = torch.linalg.svd(counts, full_matrices=False)
    basis = basis[:, size > 1e-10 * size.max()] if len(size) else basis
    for _ in range(2):
        both = both - basis @ (basis.T @ both)
    negligible = 1e-12 * target[known].abs().max() if known.any() else 0.0
    both[:, -1] = torch.where(both[:, -1].abs() > negligible, both[:, -1], 0.0)
    return both[:, :-1], both[:, -1]


def _rows(single: Batch, potential: PairPotential, kinds: Tensor) -> Rows:
    """Return what a structure says; kinds (elements, elements): which pair two elements are."""
    receiver, sender = single.edge_index
    vectors, distance = edge_vectors(single)
    places = potential.places[single.numbers]
    kind = kinds[places[receiver], places[sender]]
    values, slopes = _with_derivative(lambda r: radial_functions(r, potential.cutoff), distance)
    atoms, pairs = len(single.numbers), int(kinds.max()) + 1
    energy = values.new_zeros(pairs, FUNCTIONS).index_add(0, kind, 0.5 * values).flatten()
    counts = torch.bincount(places, minlength=len(kinds)).to(energy)
    along = (vectors / distance[:, None])[:, :, None] * slopes[:, None, :]  # (E, 3, K)
    forces = along.new_zeros(atoms, pairs, 3, FUNCTIONS).index_put((receiver, kind), along, accumulate=True)
    forces = forces.transpose(1, 2).reshape(3 * atoms, -1)
    labelled = ~single.forces.flatten().isnan()
    root = math.sqrt(atoms)
    return Rows(
        energy / root, counts / root, float(single.energy) / root, forces[labelled], single.forces.flatten()[labelled]
    )


def _with_derivative(function: Callable[[Tensor], Tensor], values: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function of each value (E,), of any shape (E, ...), and its derivative by that value."""
    image, slope = jvp(function, (values,), (torch.ones_like(values),))  # type: ignore[misc]  # three with has_aux
    return image, slope
