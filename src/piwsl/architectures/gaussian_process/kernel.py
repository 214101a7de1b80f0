"""Covariances of energies and forces of one molecule at two geometries.

The kernel is Matérn's of smoothness 5/2 (Rasmussen, Williams, "Gaussian processes for machine learning", MIT Press
2006, equation 4.17), on the inverse distances x of all pairs of atoms, averaged over permutations of equal atoms:
Chmiela, Sauceda, Müller, Tkatchenko, Nat. Commun. 9, 3887 (2018), equations 5 to 10. Each pair has a length l; with
y = x/l and u = √5 |y - y'|:

    k = (1 + u + u²/3) exp(-u)
    ∂k/∂y' = a (y - y'),  ∂²k/∂y∂y' = a 1 - b (y - y')(y - y')ᵀ
    a = 5/3 (1 + u) exp(-u),  b = 25/3 exp(-u)
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


def internal_directions(jacobians: Tensor) -> Tensor:
    """Return orthonormal directions in which shapes change, (M, 3n, C), of `jacobian` (M, D, 3n): C is 3n - 6, or 1.

    In the others a molecule moves or turns as a whole. Forces there are zero, and of any size of noise the smallest
    would be the likeliest for them.
    """
    _, _, directions = torch.linalg.svd(jacobians, full_matrices=False)
    return directions[:, : max(jacobians.shape[2] - 6, 1)].transpose(1, 2)


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


def squared_distances(y: Tensor, other: Tensor) -> Tensor:
    """Return |y_a - y'_b|², (A, B), of (A, D) and (B, D); of small vectors, or rounding will be felt."""
    squares = (y * y).sum(dim=1)[:, None] + (other * other).sum(dim=1) - 2.0 * y @ other.T
    return squares.clamp_min(SMALLEST_SQUARE)


def radial(squares: Tensor) -> Radial:
    """Return k, a and b of |y - y'|²."""
    u = torch.sqrt(5.0 * squares)
    decay = torch.exp(-u)
    return Radial((1.0 + u + u * u / 3.0) * decay, 5.0 / 3.0 * (1.0 + u) * decay, 25.0 / 3.0 * decay)


class Molecules:
    """Geometries of one molecule, ready to have their covariances with others computed."""

    def __init__(self, positions: Tensor, permutations: Tensor, centre: Tensor, forces: bool) -> None:
        """Keep what all lengths have in common.

        Args:
            positions: (M, n, 3), Å, float64.
            permutations: (G, n), a group.
            centre: (D,), 1/Å, that the group leaves as it is: x is taken from there.
            forces: whether forces, along directions in which the shape changes, are looked at beside energies.
        """
        self.x = inverse_distances(positions) - centre
        self.orders = pair_permutations(permutations)
        self.permuted = self.x[:, self.orders]  # (M, G, D)
        self.forces = forces
        if forces:
            slopes = jacobian(positions)
            self.directions = internal_directions(slopes)  # (M, 3n, C)
            self.jacobian = slopes @ self.directions  # (M, D, C)
            self.permuted_jacobian = self.jacobian[:, self.orders]  # (M, G, D, C)

    @property
    def rows(self) -> int:
        """1 + C: the energy, and the components of the forces."""
        return 1 + (self.jacobian.shape[2] if self.forces else 0)

    def internal(self, rows: Tensor) -> Tensor:
        """Return rows of energies and forces on atoms (M, 1 + 3n) with the forces along `directions`, (M, rows)."""
        if not self.forces:
            return rows
        return torch.cat([rows[:, :1], (rows[:, None, 1:] @ self.directions)[:, 0]], dim=1)

    def of_atoms(self, rows: Tensor) -> Tensor:
        """Return rows of energies and forces along `directions` (M, rows) with forces on atoms, (M, 1 + 3n)."""
        if not self.forces:
            return rows
        return torch.cat([rows[:, :1], (self.directions @ rows[:, 1:, None])[:, :, 0]], dim=1)

    def covariance(self, other: Molecules, lengths: Tensor) -> Tensor:
        """Return covariances of unit amplitude, (A, rows, B, rows of the other): energies first, then forces.

        Args:
            other: the second geometries.
            lengths: (D,), 1/Å, that the group leaves as they are.
        """
        return torch.stack([self.row(index, other, lengths) for index in range(len(self.x))])

    def row(self, index: int, other: Molecules, lengths: Tensor) -> Tensor:
        """Return the covariances of one geometry, (rows, B, rows of the other), differentiable in the lengths."""
        group = self.permuted.shape[1]
        x, scaled = self.x[index], (other.permuted / lengths).flatten(0, 1)
        squares = squared_distances((x / lengths)[None], scaled).reshape(-1, group)  # (B, G)
        value, slopes, bends = (each / group for each in radial(squares))
        energies = [value.sum(dim=1)[:, None]]
        apart = (x - other.permuted) / lengths**2  # (B, G, D)
        if other.forces:  # (y - P y')ᵀ P J' / l, (B, G, C)
            theirs = (apart[:, :, None] @ other.permuted_jacobian)[:, :, 0]
            energies.append(-(slopes[:, None] @ theirs)[:, 0])
        found = [torch.cat(energies, dim=1)[None]]
        if self.forces:  # Jᵀ (y - P y') / l, (B, G, C)
            own = self.jacobian[index]
            ours = apart @ own
            forces = [(slopes[:, None] @ ours).transpose(0, 2).reshape(own.shape[1], -1, 1)]
            if other.forces:
                turned = (slopes[:, None] @ other.permuted_jacobian.flatten(2)).reshape(-1, *own.shape)  # (B, D, C)
                straight = (own / lengths[:, None] ** 2).T @ turned
                forces.append((straight - (bends[:, :, None] * ours).transpose(1, 2) @ theirs).transpose(0, 1))
            found.append(torch.cat(forces, dim=2))
        return torch.cat(found)

    def slopes(self, weights: Tensor, lengths: Callable[[Tensor], Tensor], logarithms: Tensor) -> Tensor:
        """Return the derivatives of Σ W K, K the covariances with themselves, by logarithms of lengths (K,).

        Args:
            weights: W, (M, rows, M, rows).
            lengths: from logarithms to those of pairs, (D,).
            logarithms: (K,).
        """
        total = torch.zeros_like(logarithms)
        for index in range(len(self.x)):  # what all rows together need for it does not fit in memory
            variable = logarithms.clone().requires_grad_()
            value = (weights[index] * self.row(index, self, lengths(variable))).sum()
            total += torch.autograd.grad(value, variable)[0]
        return total

    def own_covariance(self, lengths: Tensor) -> Tensor:
        """Return the variances of energies, of unit amplitude, (M,)."""
        squares = ((self.x[:, None] - self.permuted) / lengths).square().sum(dim=2)
        return radial(squares.clamp_min(SMALLEST_SQUARE)).value.mean(dim=1)

    def typical_distance(self) -> float:
        """Return the median distance, 1/Å, of geometries to the nearest permutation of the nearest other; M above 1."""
        squares = [squared_distances(x[None], self.permuted.flatten(0, 1)).reshape(len(self.x), -1) for x in self.x]
        nearest = torch.stack([each.min(dim=1).values for each in squares])
        nearest.fill_diagonal_(math.inf)
        return math.sqrt(float(nearest.min(dim=1).values.median()))


def centre_of(positions: Tensor, permutations: Tensor) -> Tensor:
    """Return the mean x of geometries and their permutations, (D,), 1/Å."""
    return inverse_distances(positions)[:, pair_permutations(permutations)].mean(dim=(0, 1))
