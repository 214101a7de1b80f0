"""A pair potential fitted in closed form: the baseline that a network corrects.

Two-body terms first, many-body terms for what they leave, as in Bartók, Csányi, "Gaussian approximation potentials: a
brief tutorial introduction", Int. J. Quantum Chem. 115, 1051 (2015), section 4. A network without a baseline believes
that the energy is flat where it has not seen it; real surfaces curve upwards there, most of all along bonds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

import torch
from ase import Atoms, units
from ase.data import covalent_radii
from torch import Tensor, nn
from torch.func import jvp

from piwsl.data.batch import Batch, graph, stress_of, sum_per_structure
from piwsl.models.geometry import MAX_ATOMIC_NUMBER, cosine_cutoff, edge_vectors
from piwsl.models.terms import Contribution, Prediction
from piwsl.structures.frames import label
from piwsl.structures.labels import Labels
from piwsl.structures.structure import Structure, from_atoms

SINES = 12
FUNCTIONS = SINES + 1
# Of a bond: 1/Å, and its weight over that of the sines.
STEEPNESS, BOND_WEIGHT = 2.0, 5.0
# Atoms nearer than this multiple of the sum of their covalent radii are bonded.
BONDED = 1.3
# The prior of a coefficient falls with the frequency of its function: at the fourth it has fallen to a fifth.
SPECTRUM = 2.0
# Ridge over the mean square of a column of the design. A larger one leaves more to the network, and the potential
# smooth where no frame was.
RIDGES = tuple(10.0**-exponent for exponent in range(-2, 10))
FOLDS = 5
# Å: so far below the shortest distance in frames the fitted functions are believed.
MARGIN = 0.05
# Shares, and decay rates, of the universal screening function of Ziegler, Biersack and Littmark.
SCREENING = ((0.1818, 0.5099, 0.2802, 0.02817), (3.2, 0.9423, 0.4029, 0.2016))
# So many frames know some hundred coefficients; more would only take time.
MOST_FRAMES = 1000


class PairPotential(nn.Module):
    """E = 1/2 Σ_{i≠j} V(Z_i, Z_j, r_ij), eV, over neighbours within the cutoff.

    V = Σ_k c_k(Z_i, Z_j) φ_k(r) down to a distance s a little shorter than any of two such atoms in the training
    frames. Below it the functions know nothing, and atoms that fall into each other end a simulation: there V goes on
    as V(s) + V'(s) (r - s) + k (r - s)² / 2 and, beyond second order, as the screened repulsion Z of nuclei does. The
    curvature k is that of V at s, or the average in the training frames where that is more, and not negative.
    """

    places: Tensor
    coefficients: Tensor
    lengths: Tensor
    core: Tensor

    def __init__(self, cutoff: float, elements: Sequence[int]) -> None:
        """Build the potential that is zero everywhere.

        Args:
            cutoff: Å.
            elements: atomic numbers, ascending.
        """
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("places", places_of(elements))
        shape = (len(elements), len(elements))
        self.register_buffer("coefficients", torch.zeros(*shape, FUNCTIONS, dtype=torch.float64))
        # Å; of bonds, 0 where no two such atoms are bonded.
        self.register_buffer("lengths", torch.zeros(*shape, dtype=torch.float64))
        # s, Å; V'(s) - Z'(s), eV/Å; k - Z''(s), eV/Å².
        self.register_buffer("core", torch.zeros(*shape, 3, dtype=torch.float64))

    def contribution(self, batch: Batch) -> Contribution:
        """Return energies of atoms: half of each of their pairs'."""
        receiver, _ = batch.edge_index
        _, distance = edge_vectors(batch)
        each = 0.5 * self._of_pairs(batch)(distance.double())  # (E,)
        return Contribution(torch.zeros_like(batch.atomic_numbers, dtype=torch.float64).index_add(0, receiver, each))

    def predict(self, batch: Batch) -> Prediction:
        """Predict energy, forces and stress, without a graph of derivatives.

        By forward differentiation: processes that share the devices of a training are forked after it has been fitted,
        and torch's backward pass does not outlive a fork.
        """
        receiver, _ = batch.edge_index
        vectors, distance = edge_vectors(batch)
        values, slopes = _with_derivative(self._of_pairs(batch), distance.double())
        # F_i = Σ_j V'(r_ij) u_ij with u_ij from i to j: each pair stands there as two edges, each with half its energy.
        along = (slopes / distance)[:, None] * vectors  # (E, 3)
        forces = torch.zeros_like(batch.positions).index_add(0, receiver, along.to(batch.positions))
        virials = 0.5 * along[:, :, None] * vectors[:, None, :]  # (E, 3, 3)
        strain = virials.new_zeros(batch.structures, 3, 3).index_add(0, batch.structure_index[receiver], virials)
        energies = torch.zeros_like(batch.atomic_numbers, dtype=torch.float64).index_add(0, receiver, 0.5 * values)
        stress = stress_of(strain.to(batch.positions), batch)
        return Prediction(sum_per_structure(energies, batch), energies, forces, stress)

    def _labels(self, structure: Structure) -> Labels:
        found = self.predict(graph(structure, self.cutoff, torch.float64))
        assert found.forces is not None
        assert found.stress is not None
        return Labels(float(found.energy), found.forces.numpy(), found.stress[0].numpy())

    def _of_pairs(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """Return V, eV, as a function of the distances (E,), Å, of a batch's edges."""
        receiver, sender = batch.edge_index
        places = self.places[batch.atomic_numbers]
        coefficients = self.coefficients[places[receiver], places[sender]]  # (E, K)
        length = self.lengths[places[receiver], places[sender]]
        shortest, slope, stiffness = self.core[places[receiver], places[sender]].unbind(dim=1)
        numbers = batch.atomic_numbers[batch.edge_index]  # (2, E)

        def energies(distance: Tensor) -> Tensor:
            outside = torch.maximum(distance, shortest)
            inside = distance - outside  # zero, or how much nearer than s, as a negative number
            fitted = (coefficients * radial_functions(outside, length, self.cutoff)).sum(dim=1)
            nuclei = nuclear_repulsion(distance, numbers) - nuclear_repulsion(outside, numbers)
            return fitted + nuclei + inside * (slope + 0.5 * stiffness * inside)

        return energies

    def subtracted_from(self, structure: Structure) -> Structure:
        """Return a structure with what this potential leaves of its labels, of all levels."""
        own = self._labels(structure)
        labels = {level: labels.less(own) for level, labels in structure.labels.items()}
        return replace(structure, labels=labels)


def places_of(elements: Sequence[int]) -> Tensor:
    """Return the row of each atomic number in tables of these elements, (119,); 0 for others, which nobody asks for."""
    places = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.int64)
    for place, number in enumerate(elements):
        places[number] = place
    return places


def radial_functions(distance: Tensor, length: Tensor, cutoff: float) -> Tensor:
    """Return the functions that V is a sum of, (E, K).

    First sines, w_k sin(k π r / r_c) / r times the envelope with w_k = 1 / [1 + (k / 2)²]: those of PaiNN (section 3.2)
    and DimeNet (Gasteiger et al., ICLR 2020, equation 7); with equal penalties on the coefficients the weights make
    smooth functions the likely ones. Then, of bonded elements, a bond: 5 {[1 - exp(-a (r - r_e))]² - 1} of Morse (Phys.
    Rev. 34, 57 (1929), equation 4), faded out between r_e and 2 r_e. Its weight makes it the likeliest function: frames
    near equilibrium tell its curvature, and its shape then tells how far up it is to where the bond is broken.

    Args:
        distance: (E,), Å.
        length: (E,), r_e of the elements, Å; 0 where they are not bonded.
        cutoff: r_c, Å.
    """
    order = torch.arange(1, SINES + 1, dtype=distance.dtype, device=distance.device)
    weight = 1.0 / (1.0 + (order / SPECTRUM) ** 2)
    envelope = cosine_cutoff(distance, cutoff)
    sines = torch.sin(distance[:, None] * (order * (math.pi / cutoff))) * weight * (envelope / distance)[:, None]
    morse = (1.0 - torch.exp(-STEEPNESS * (distance - length))) ** 2 - 1.0
    faded = (distance / length.clamp_min(1e-6) - 1.0).clamp(0.0, 1.0)
    bond = BOND_WEIGHT * morse * 0.5 * (1.0 + torch.cos(math.pi * faded)) * envelope
    return torch.cat([sines, torch.where(length > 0.0, bond, torch.zeros_like(bond))[:, None]], dim=1)


def nuclear_repulsion(distance: Tensor, numbers: Tensor) -> Tensor:
    """Return the screened repulsion of nuclei, (E,), eV, at distances (E,), Å, of atomic numbers (2, E).

    Ziegler, Biersack, Littmark, "The stopping and range of ions in solids", Pergamon 1985, the universal potential.
    """
    charges = numbers.to(distance.dtype)
    length = 0.8854 * units.Bohr / charges.pow(0.23).sum(dim=0)
    reduced = (distance / length)[:, None]
    shares, rates = torch.tensor(SCREENING, dtype=distance.dtype, device=distance.device)
    screening = (shares * torch.exp(-rates * reduced)).sum(dim=1)
    return units.Hartree * units.Bohr * charges.prod(dim=0) / distance * screening


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


class PairFit(NamedTuple):
    """A pair potential, and how well it knows what it was not fitted to."""

    potential: PairPotential
    error: float
    """Root mean square of what it leaves, in cross-validation, of an energy per square root of its atoms, eV."""


def fit_pair_potential(
    structures: Sequence[Structure], cutoff: float, free_atoms: Mapping[int, float] | None = None
) -> PairFit:
    """Fit a pair potential to labelled energies and forces: ridge regression, the ridge by five-fold cross-validation.

    Free atoms are structures without neighbours: with their energies the potential knows how much a molecule is bound
    by, and how far up it is to where a bond is broken, which geometries near equilibrium do not tell.

    An energy counts per square root of its atoms, as much as a component of a force does. What a fit of atomic energies
    can say of them is projected out of design and target before: a composition that stands in one frame alone says
    nothing then, where its atomic energy would be unknown to the folds without it.

    Args:
        structures: of them the first thousand are used; what is not labelled is passed over.
        cutoff: Å.
        free_atoms: energies of free atoms at the level of the labels, atomic number to eV.

    Returns:
        The potential with its error; zero everywhere where there are fewer than two frames, no neighbours, or nothing
        is left to fit.
    """
    elements = sorted({int(number) for structure in structures for number in structure.numbers})
    potential = PairPotential(cutoff, elements)
    pairs = list(itertools.combinations_with_replacement(range(len(elements)), 2))
    kinds = torch.zeros(len(elements), len(elements), dtype=torch.int64)
    for kind, (first, second) in enumerate(pairs):
        kinds[first, second] = kinds[second, first] = kind
    used = structures[:MOST_FRAMES]
    atoms = [
        from_atoms(label(Atoms([number], positions=[[0.0, 0.0, 0.0]]), energy, None))
        for number, energy in (free_atoms or {}).items()
        if number in elements
    ]
    batches = [graph(structure, cutoff, torch.float64) for structure in [*used, *atoms]]
    _set_lengths(potential, elements, batches)
    rows = [_rows(batch, potential, kinds) for batch in batches]
    energies, target = _without_atomic_energies(rows)
    count = min(FOLDS, len(used))

    def sums(frame: int) -> Normal:
        one = slice(frame, frame + 1)
        return Normal.of(torch.cat([energies[one], rows[frame].forces]), torch.cat([target[one], rows[frame].force]))

    folds = [reduce(Normal.plus, map(sums, range(fold, len(used), count))) for fold in range(count)]
    total = reduce(Normal.plus, map(sums, range(len(rows))))
    if count < 2 or not total.matrix.any() or not total.vector.any():
        return PairFit(potential, 0.0)
    ridge = _chosen_ridge(folds, total)
    solution = total.solution(ridge)
    potential.coefficients.copy_(solution.reshape(len(pairs), FUNCTIONS)[kinds])
    _set_cores(potential, pairs, elements, rows)
    rest = [
        target[fold : len(used) : count]
        - energies[fold : len(used) : count] @ total.plus(sums_of_fold, -1.0).solution(ridge)
        for fold, sums_of_fold in enumerate(folds)
    ]
    known = sum(not math.isnan(row.target) for row in rows[: len(used)])
    return PairFit(potential, math.sqrt(float(torch.cat(rest).square().sum()) / known) if known else 0.0)


def _chosen_ridge(folds: Sequence[Normal], total: Normal) -> float:
    """Return the largest ridge that does as well in cross-validation as the best, to one standard error of that.

    Breiman, Friedman, Olshen, Stone, "Classification and regression trees", Wadsworth 1984, section 3.4.3.
    """
    errors = {
        ridge: torch.tensor([fold.squared_error(total.plus(fold, -1.0).solution(ridge)) for fold in folds])
        for ridge in RIDGES
    }
    best = min(errors.values(), key=lambda each: float(each.sum()))
    allowed = float(best.sum() + math.sqrt(len(folds)) * best.std())
    return max(ridge for ridge, each in errors.items() if float(each.sum()) <= allowed)


def _set_lengths(potential: PairPotential, elements: Sequence[int], batches: Sequence[Batch]) -> None:
    """Take the lengths of bonds from structures: the mean of what is no longer than a bond by covalent radii."""
    ends = torch.cat([potential.places[batch.atomic_numbers[batch.edge_index]] for batch in batches], dim=1)  # (2, E)
    distances = torch.cat([edge_vectors(batch)[1] for batch in batches])
    for first, second in itertools.product(range(len(elements)), repeat=2):
        own = distances[(ends[0] == first) & (ends[1] == second)]
        bonds = own[own < BONDED * float(covalent_radii[elements[first]] + covalent_radii[elements[second]])]
        if len(bonds):
            potential.lengths[first, second] = bonds.mean()


def _set_cores(
    potential: PairPotential, pairs: Sequence[tuple[int, int]], elements: Sequence[int], rows: Sequence[Rows]
) -> None:
    """Let the potential of each pair of elements that the rows have go on below its distances there."""
    distances = torch.cat([row.distances for row in rows])
    kinds = torch.cat([row.kinds for row in rows])
    for number, (first, second) in enumerate(pairs):
        own = distances[kinds == number]
        if len(own):
            core = _core(potential, first, second, elements, own)
            potential.core[first, second] = potential.core[second, first] = core


def _core(potential: PairPotential, first: int, second: int, elements: Sequence[int], distances: Tensor) -> Tensor:
    """Return where V ends, and how it goes on there, (3,), of two elements with such distances (E,), Å, in frames."""
    numbers = torch.tensor([[elements[first]], [elements[second]]])

    def fitted(r: Tensor) -> Tensor:
        length = potential.lengths[first, second].expand(len(r))
        return radial_functions(r, length, potential.cutoff) @ potential.coefficients[first, second]

    def repulsion(r: Tensor) -> Tensor:
        return nuclear_repulsion(r, numbers)

    shortest = distances.min()[None] - MARGIN
    slope, steepness = (_with_derivative(function, shortest)[1] for function in (fitted, repulsion))
    own, of_nuclei = (_second_derivative(function, shortest) for function in (fitted, repulsion))
    average = _second_derivative(fitted, distances).mean()[None]
    curvature = torch.cat([own, average]).max().clamp(min=0.0)[None]
    return torch.cat([shortest, slope - steepness, curvature - of_nuclei])


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
    distances: Tensor
    """(E,), Å."""
    kinds: Tensor
    """(E,): which pair the elements of each are."""


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
    places = potential.places[single.atomic_numbers]
    kind = kinds[places[receiver], places[sender]]
    length = potential.lengths[places[receiver], places[sender]]
    values, slopes = _with_derivative(lambda r: radial_functions(r, length, potential.cutoff), distance)
    atoms, pairs = len(single.atomic_numbers), int(kinds.max()) + 1
    energy = values.new_zeros(pairs, FUNCTIONS).index_add(0, kind, 0.5 * values).flatten()
    counts = torch.bincount(places, minlength=len(kinds)).to(energy)
    along = (vectors / distance[:, None])[:, :, None] * slopes[:, None, :]  # (E, 3, K)
    forces = along.new_zeros(atoms, pairs, 3, FUNCTIONS).index_put((receiver, kind), along, accumulate=True)
    forces = forces.transpose(1, 2).reshape(3 * atoms, -1)
    labelled = ~single.forces.flatten().isnan()
    root = math.sqrt(atoms)
    return Rows(
        energy / root,
        counts / root,
        float(single.energy) / root,
        forces[labelled],
        single.forces.flatten()[labelled],
        distance,
        kind,
    )


def _with_derivative(function: Callable[[Tensor], Tensor], values: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function of each value (E,), of any shape (E, ...), and its derivative by that value."""
    image, slope = jvp(function, (values,), (torch.ones_like(values),))  # type: ignore[misc]  # three with has_aux
    return image, slope


def _second_derivative(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Return the second derivative of a function of each value, (E,)."""
    return _with_derivative(lambda r: _with_derivative(function, r)[1], values)[1]
