"""Length, amplitude and noise by the largest marginal likelihood, and what a process with these says of labels.

Rasmussen, Williams, "Gaussian processes for machine learning", MIT Press 2006: sections 5.4.1 (likelihood), 2.7 (a
constant of which nothing is known before), 5.4.2 (leave one out). The amplitude that is likeliest for the other
parameters is known in closed form; the search goes over logarithms of the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from piwsl.architectures.gaussian_process.kernel import Molecules
from piwsl.errors import PiwslError

# Lengths over the typical distance of a geometry to its nearest neighbour: bounds, and where searches start.
LENGTHS = (0.3, 300.0)
STARTS = (2.0, 5.0, 20.0)
# Noise over the amplitude: of energies, and of forces in 1/Å. Below, nothing is gained, and rounding is felt.
NOISES = (1e-5, 1.0)
FIRST_NOISE = 1e-3
MOST_ITERATIONS = 40
MOST_LATER_ITERATIONS = 10
# Of logarithms of lengths of finer kinds about that of the coarser.
SPREAD_OF_LENGTHS = 1.0
# The likelihood is looked at for so many labels, of the first structures, then from there for so many; all are fitted.
MOST_IN_SEARCH = 800
MOST_LATER = 1600
# 1/Å; of frames that are alike.
SHORTEST = 1e-4
# (eV)²; what is left of amplitude where all energies are the same.
LEAST_VARIANCE = 1e-20
# Of rounding, by which a covariance may miss being one: the largest is a millionth of a variance.
MOST_POWERS = 10
# Instead of a cost, where rounding leaves none.
NO_COVARIANCE = 1e10
SINGULAR = "the covariance of the training frames has no inverse; are there frames twice?"


class Parameters(NamedTuple):
    """What a process is made of."""

    lengths: Tensor
    """(D,), 1/Å, of pairs of atoms."""
    amplitude: float
    """eV."""
    energy_noise: float
    """eV, standard deviation."""
    force_noise: float
    """eV/Å."""


@dataclass(frozen=True)
class Problem:
    """Labels of geometries."""

    molecules: Molecules
    targets: Tensor
    """(M, rows), eV and eV/Å; NaN where there is no label."""

    @property
    def labelled(self) -> Tensor:
        """Which labels are there, (M rows,)."""
        return ~self.targets.flatten().isnan()

    @property
    def of_energies(self) -> Tensor:
        """(L,), 1 for labels that are energies, 0 for forces."""
        marked = torch.zeros_like(self.targets)
        marked[:, 0] = 1.0
        return marked.flatten()[self.labelled]

    @property
    def known(self) -> Tensor:
        """(L,), the labels that are there."""
        return self.targets.flatten()[self.labelled]

    def covariance(self, parameters: Parameters) -> Tensor:
        """Return the covariance of the labels, of unit amplitude, with that of noise, (L, L)."""
        lengths, amplitude, energy_noise, force_noise = parameters
        size, labelled = self.targets.numel(), self.labelled
        whole = self.molecules.covariance(self.molecules, lengths).reshape(size, size)
        return whole[labelled][:, labelled] + torch.diag(self.noise(energy_noise / amplitude, force_noise / amplitude))

    def noise(self, of_energies: float, of_forces: float) -> Tensor:
        """Return the variances of noise of such standard deviations, (L,)."""
        return (of_energies * self.of_energies + of_forces * (1.0 - self.of_energies)) ** 2

    def spread(self, weights: Tensor) -> Tensor:
        """Return weights of pairs of labels (L, L) where those labels are among all, (M, rows, M, rows)."""
        size, labelled = self.targets.numel(), self.labelled
        whole = weights.new_zeros(size, size)
        whole[labelled.nonzero(), labelled.nonzero()[:, 0]] = weights
        return whole.reshape(*self.targets.shape, *self.targets.shape)


class Solution(NamedTuple):
    """What follows from a covariance C of unit amplitude, noise included."""

    weights: Tensor
    """C⁻¹ (y - c h), (L,)."""
    precision: Tensor
    """C⁻¹ - C⁻¹ h hᵀ C⁻¹ / hᵀ C⁻¹ h, (L, L): the inverse where the constant c is not known."""
    variance: float
    """The likeliest squared amplitude, eV²."""
    cost: float
    """Minus the logarithm of the likelihood, but for a constant."""


def factorised(covariance: Tensor) -> Tensor:
    """Return the Cholesky factor of a covariance that was solved for once, (L, L).

    Where rounding, which is not the same on all processors, has made of it none, as little noise is added as it takes.

    Raises:
        PiwslError: it is far from a covariance.
    """
    least = torch.finfo(covariance.dtype).eps * covariance.diagonal().max()
    for noise in (0.0, *(10.0**power for power in range(MOST_POWERS))):
        factor, failed = torch.linalg.cholesky_ex(covariance + torch.diag(noise * least.expand(len(covariance))))
        if not failed:
            return factor
    raise PiwslError("the covariance of the labels of a Gaussian process is none; its model file is damaged")


def solve(covariance: Tensor, targets: Tensor, of_energies: Tensor) -> Solution | None:
    """Solve for labels; None where rounding has made of the covariance (L, L) none.

    Equations 2.42 and 2.45: of the constant c, which energies have and forces have not, nothing is known before.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed:
        return None
    precision = torch.cholesky_inverse(factor)
    cost = 2.0 * float(factor.diagonal().log().sum())
    known = len(targets)
    if of_energies.any():
        column = precision @ of_energies
        certainty = float(of_energies @ column)
        precision = precision - torch.outer(column, column) / certainty
        cost += math.log(certainty)
        known -= 1
    weights = precision @ targets
    variance = max(float(targets @ weights) / max(known, 1), LEAST_VARIANCE)
    return Solution(weights, precision, variance, 0.5 * (cost + known * math.log(variance)))


def likeliest(problem: Problem, kinds: Tensor, finer: Tensor | None = None) -> Parameters:
    """Return the parameters of the largest marginal likelihood, of some searches.

    There is often more than one maximum, and the highest is not always the best: of those that searches find, that is
    taken whose errors for structures left out are smallest. From there the lengths of finer kinds part as far as the
    labels say so more than a normal distribution about where they were, of logarithms, gainsays.

    Args:
        problem: the labels.
        kinds: (D,), from 0: pairs of one kind have one length.
        finer: (D,), from 0, each a part of one of the kinds; None to leave lengths as they are.

    Raises:
        PiwslError: none succeeded.
    """
    step = max(problem.molecules.typical_distance(), SHORTEST)
    starts = [[math.log(start * step)] * (int(kinds.max()) + 1) + [math.log(FIRST_NOISE)] * 2 for start in STARTS]
    found = [_searched(problem, kinds, np.array(start), MOST_ITERATIONS) for start in starts]
    possible = [each for each in found if each is not None]
    if not possible:
        raise PiwslError(SINGULAR)
    best = min(possible, key=lambda each: each.left)
    if finer is not None:
        start = _logarithms(best.parameters, finer)
        other = _searched(problem, finer, start, MOST_ITERATIONS, start[:-2])
        if other is not None and other.left < best.left:
            best = other
    return best.parameters


def likelier(problem: Problem, kinds: Tensor, start: Parameters) -> Parameters:
    """Return parameters of more likelihood than those of a start that is near: those of fewer labels, say.

    Args:
        problem: the labels.
        kinds: (D,), from 0: pairs of one kind have one length.
        start: where the search begins.
    """
    found = _searched(problem, kinds, _logarithms(start, kinds), MOST_LATER_ITERATIONS)
    return start if found is None else found.parameters


class _Found(NamedTuple):
    """Where a search has ended."""

    parameters: Parameters
    left: float
    """Of errors for structures left out, a measure."""


def _searched(
    problem: Problem,
    kinds: Tensor,
    start: NDArray[np.float64],
    iterations: int,
    centre: NDArray[np.float64] | None = None,
) -> _Found | None:
    """Search from somewhere, and return where it has ended; None where rounding has made of the covariance none.

    Args:
        problem: the labels.
        kinds: (D,), of pairs.
        start: logarithms of lengths by kind, of noise of energies and of forces.
        iterations: at most.
        centre: what logarithms of lengths are distributed about; None where all are alike.
    """
    step = max(problem.molecules.typical_distance(), SHORTEST)
    bounds = [tuple(math.log(each * step) for each in LENGTHS)] * (len(start) - 2) + [tuple(map(math.log, NOISES))] * 2

    def cost(logarithms: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slopes = _cost(logarithms, problem, kinds)
        if centre is None:
            return value, slopes
        away = (logarithms[:-2] - centre) / SPREAD_OF_LENGTHS
        slopes[:-2] += away / SPREAD_OF_LENGTHS
        return value + 0.5 * float(away @ away), slopes

    ended = minimize(
        cost,
        np.clip(start, *np.transpose(bounds)),
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"maxiter": iterations, "ftol": 1e-6},
    )
    parameters = _parameters(ended.x, kinds)
    solution = solve_for(problem, parameters)
    if solution is None:
        return None
    amplitude = math.sqrt(solution.variance)
    scaled = Parameters(
        parameters.lengths, amplitude, amplitude * parameters.energy_noise, amplitude * parameters.force_noise
    )
    return _Found(scaled, _left_out_error(problem, solution))


def solve_for(problem: Problem, parameters: Parameters) -> Solution | None:
    """Return what follows from parameters; None where rounding has made of the covariance none."""
    return solve(problem.covariance(parameters), problem.known, problem.of_energies)


def _left_out_error(problem: Problem, solution: Solution) -> float:
    """Return the mean logarithm of the mean squares that are left of energies and of forces of structures left out."""
    squares, energies = left_out(problem, solution).square(), problem.of_energies > 0
    means = [float(squares[each].mean()) for each in (energies, ~energies) if each.any()]
    return sum(math.log(max(mean, LEAST_VARIANCE)) for mean in means) / len(means)


def _parameters(logarithms: NDArray[np.float64], kinds: Tensor) -> Parameters:
    """Return parameters of unit amplitude of the logarithms of lengths by kind, of noise of energies and of forces."""
    *lengths, energy_noise, force_noise = np.exp(logarithms).tolist()
    return Parameters(torch.tensor(lengths, dtype=torch.float64)[kinds], 1.0, energy_noise, force_noise)


def _logarithms(parameters: Parameters, kinds: Tensor) -> NDArray[np.float64]:
    """Return the logarithms of lengths by kind, and of noise over the amplitude."""
    lengths = torch.ones(int(kinds.max()) + 1, dtype=torch.float64)
    lengths[kinds] = parameters.lengths
    noises = (parameters.energy_noise / parameters.amplitude, parameters.force_noise / parameters.amplitude)
    return np.log([*lengths.tolist(), *noises])


def _cost(logarithms: NDArray[np.float64], problem: Problem, kinds: Tensor) -> tuple[float, NDArray[np.float64]]:
    """Return minus the logarithm of the likelihood, and its derivatives: equation 5.9."""
    parameters = _parameters(logarithms, kinds)
    solution = solve_for(problem, parameters)
    if solution is None:
        return NO_COVARIANCE, np.zeros(len(logarithms))
    weights = 0.5 * (solution.precision - torch.outer(solution.weights, solution.weights) / solution.variance)
    lengths = torch.tensor(logarithms[:-2])
    by_length = problem.molecules.slopes(problem.spread(weights), lambda each: each.exp()[kinds], lengths)
    noises = (
        problem.noise(parameters.energy_noise, 0.0),
        problem.noise(0.0, parameters.force_noise),
    )
    by_noise = [2.0 * float(weights.diagonal() @ noise) for noise in noises]
    return solution.cost, np.array([*by_length.tolist(), *by_noise])


def left_out(problem: Problem, solution: Solution) -> Tensor:
    """Return of each label (L,) what a process without its structure leaves of it: equation 5.12, by blocks."""
    frames = torch.arange(len(problem.targets))[:, None].expand_as(problem.targets).flatten()[problem.labelled]
    rest = torch.empty_like(solution.weights)
    for frame in frames.unique():
        own = frames == frame
        block = solution.precision[own][:, own]
        rest[own] = torch.linalg.lstsq(block, solution.weights[own, None], driver="gelsd").solution[:, 0]
    return rest
