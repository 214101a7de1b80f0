"""Covariances of energies and forces of one molecule at two geometries.

The kernel is Matérn's of smoothness 5/2 (Rasmussen, Williams, "Gaussian processes for machine learning", MIT Press
2006, equation 4.17), on the inverse distances of all pairs of atoms, averaged over permutations of equal atoms:
Chmiela, Sauceda, Müller, Tkatchenko, Nat. Commun. 9, 3887 (2018), equations 5 to 10. With u = √5 |x - x'| / l:

    k = (1 + u + u²/3) exp(-u)
    ∂k/∂x' = a (x - x'),  ∂²k/∂x∂x' = a 1 - b (x - x')(x - x')ᵀ
    a = 5/(3l²) (1 + u) exp(-u),  b = 25/(3l⁴) exp(-u)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Of |x - x'|², 1/Å²: keeps the square root differentiable where geometries are alike.
SMALLEST_SQUARE = 1e-30


def pairs_of(atoms: int, device: torch.device | None = None) -> Tensor:
    """Return the pairs of so many atoms, (2, D), each once."""
    return torch.triu_indices(atoms, atoms, 1, device=device)


def pair_permutations(permutations: Tensor) -> Tensor:
    """Return where permutations of atoms (G, n) take the pairs of `pairs_of`, (G, D)."""
    atoms = permutations.shape[1]
    first, second = pairs_of(atoms, permutations.device)
    places = permutations.new_zeros(atoms, atoms)
    places[first, second] = places[second, first] = torch.arange(len(first), device=permutations.device)
    return places[permutations[:, first], permutations[:, second]]


def inverse_distances(positions: Tensor) -> Tensor:
    """Return x, (M, D), 1/Å, of positions (M, n, 3), Å."""
    first, second = pairs_of(positions.shape[1], positions.device)
    return 1.0 / (positions[:, first] - positions[:, second]).norm(dim=2)


def jacobian(positions: Tensor) -> Tensor:
    """Return ∂x/∂r, (M, D, 3n), 1/Å², at positions (M, n, 3), Å."""
    structures, atoms, _ = positions.shape
    first, second = pairs_of(atoms, positions.device)
    vectors = positions[:, first] - positions[:, second]
    slopes = -vectors / vectors.norm(dim=2, keepdim=True) ** 3
    pairs = torch.arange(len(first), device=positions.device)
    found = positions.new_zeros(structures, len(first), atoms, 3)
    found[:, pairs, first] = slopes
    found[:, pairs, second] = -slopes
    return found.flatten(2)


def along(positions: Tensor, directions: Tensor) -> Tensor:
    """Return ∂x/∂r · d, (M, D), at positions (M, n, 3), of directions d of the same shape."""
    first, second = pairs_of(positions.shape[1], positions.device)
    vectors = positions[:, first] - positions[:, second]
    moved = directions[:, first] - directions[:, second]
    return -(vectors * moved).sum(dim=2) / vectors.norm(dim=2) ** 3


class Radial(NamedTuple):
    """k, a and b of distances."""

    value: Tensor
    slope: Tensor
    bend: Tensor


def squared_distances(x: Tensor, other: Tensor) -> Tensor:
    """Return |x_a - x'_b|², (A, B), of (A, D) and (B, D); of small vectors, or rounding will be felt."""
    squares = (x * x).sum(dim=1)[:, None] + (other * other).sum(dim=1) - 2.0 * x @ other.T
    return squares.clamp_min(SMALLEST_SQUARE)


def radial(squares: Tensor, length: float) -> Radial:
    """Return k, a and b of |x - x'|² for a length l, 1/Å."""
    u = torch.sqrt(5.0 * squares) / length
    decay = torch.exp(-u)
    scale = 5.0 / (3.0 * length**2)
    return Radial((1.0 + u + u * u / 3.0) * decay, scale * (1.0 + u) * decay, scale * 5.0 / length**2 * decay)


def radial_by_length(squares: Tensor, length: float) -> Radial:
    """Return the derivatives of `radial` by the logarithm of the length."""
    u = torch.sqrt(5.0 * squares) / length
    decay = torch.exp(-u)
    scale = 5.0 / (3.0 * length**2)
    return Radial(
        u * u * (1.0 + u) * decay / 3.0,
        scale * (u * u - 2.0 * (1.0 + u)) * decay,
        scale * 5.0 / length**2 * (u - 4.0) * decay,
    )


class Molecules:
    """Geometries of one molecule, ready to have their covariances with others computed."""

    def __init__(self, positions: Tensor, permutations: Tensor, centre: Tensor, forces: bool) -> None:
        """Keep what all lengths have in common.

        Args:
            positions: (M, n, 3), Å, float64.
            permutations: (G, n), a group.
            centre: (D,), 1/Å, that the group leaves as it is: x is taken from there.
            forces: whether forces are looked at beside energies.
        """
        self.x = inverse_distances(positions) - centre
        self.orders = pair_permutations(permutations)
        self.permuted = self.x[:, self.orders]  # (M, G, D)
        self.forces = forces
        if forces:
            self.jacobian = jacobian(positions)  # (M, D, C)
            self.permuted_jacobian = self.jacobian[:, self.orders]  # (M, G, D, C)
            self.own = torch.einsum("mgd,mgdc->mgc", self.permuted, self.permuted_jacobian)

    @property
    def rows(self) -> int:
        """1 + C: the energy, and the components of the forces."""
        return 1 + (self.jacobian.shape[2] if self.forces else 0)

    def covariance(self, other: Molecules, function: Callable[[Tensor], Radial]) -> Tensor:
        """Return covariances of unit amplitude, (A, rows, B, rows of the other): energies first, then forces.

        Args:
            other: the second geometries.
            function: k, a and b of squared distances, or derivatives of them.
        """
        group = self.permuted.shape[1]
        found = self.x.new_empty(len(self.x), self.rows, len(other.x), other.rows)
        for index, x in enumerate(self.x):  # all at once would be too large for memory
            squares = squared_distances(x[None], other.permuted.flatten(0, 1)).reshape(-1, group)  # (B, G)
            value, slopes, bends = (each / group for each in function(squares))
            found[index, 0, :, 0] = value.sum(dim=1)
            if other.forces:  # (x - P x')ᵀ P J', (B, G, C)
                theirs = torch.einsum("d,bgdc->bgc", x, other.permuted_jacobian) - other.own
                found[index, 0, :, 1:] = -torch.einsum("bg,bgc->bc", slopes, theirs)
            if self.forces:  # Jᵀ (x - P x'), (B, G, C)
                ours = (x - other.permuted) @ self.jacobian[index]
                found[index, 1:, :, 0] = torch.einsum("bg,bgc->cb", slopes, ours)
            if self.forces and other.forces:
                turned = torch.einsum("bg,bgdc->bdc", slopes, other.permuted_jacobian)
                both = torch.einsum("dc,bde->bce", self.jacobian[index], turned)
                both = both - (bends[:, :, None] * ours).transpose(1, 2) @ theirs
                found[index, 1:, :, 1:] = both.transpose(0, 1)
        return found

    def own_covariance(self, length: float) -> Tensor:
        """Return the variances of energies, of unit amplitude, (M,)."""
        squares = (self.x[:, None] - self.permuted).square().sum(dim=2)
        return radial(squares.clamp_min(SMALLEST_SQUARE), length).value.mean(dim=1)

    def typical_distance(self) -> float:
        """Return the median distance, 1/Å, of geometries to the nearest permutation of the nearest other; M above 1."""
        squares = [squared_distances(x[None], self.permuted.flatten(0, 1)).reshape(len(self.x), -1) for x in self.x]
        nearest = torch.stack([each.min(dim=1).values for each in squares])
        nearest.fill_diagonal_(math.inf)
        return math.sqrt(float(nearest.min(dim=1).values.median()))


def centre_of(positions: Tensor, permutations: Tensor) -> Tensor:
    """Return the mean x of geometries and their permutations, (D,), 1/Å."""
    return inverse_distances(positions)[:, pair_permutations(permutations)].mean(dim=(0, 1))
