"""How many times a baseline is taken before the difference to it is learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from piwsl.models.statistics import compositions
from piwsl.structures.structure import Structure

# Of a baseline's factor about 1: Hartree-Fock is stiffer than what electrons do by an eighth.
SPREAD_OF_SCALE = 0.3
# Energies, of which each costs the cube of their number.
MOST_ENERGIES = 500
# Squared lengths of the kernel over the median squared distance, and noise over its variance, that are tried.
LENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
NOISES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Beside the first, nothing is known of a geometry.
ALONE = 1e9
# eV, or eV/Å, of what a fit leaves: rounding.
LEAST_REST = 1e-6
# Of a column beside the others: what is less is said by those.
LEAST_OWN = 1e-6


@dataclass(frozen=True)
class Estimate:
    """Of the factor."""

    value: float
    variance: float


def fit_scale(structures: Sequence[Structure], level: str) -> float:
    """Fit the factor ρ of a level, beneath a difference that is a smooth function of the geometry.

    The labels are ρ times those of the level and a rest that is learned: Kennedy, O'Hagan, "Predicting the output from
    a complex computer code when fast approximations are available", Biometrika 87, 1 (2000), equation 1. ρ of energies
    is that of generalised least squares, beside atomic energies, with the rest a Gaussian process; what is smooth is
    left to this. Forces count as if what is left of each were noise. The two, and a normal prior about 1, the plain
    difference, weigh as the inverse of their variances.

    Args:
        structures: with labels of both; what either lacks is passed over, and of energies the first are taken.
        level: its name.
    """
    found = [Estimate(1.0, SPREAD_OF_SCALE**2), *_of_energies(structures, level), *_of_forces(structures, level)]
    precision = sum(1 / each.variance for each in found)
    return sum(each.value / each.variance for each in found) / precision


def _of_energies(structures: Sequence[Structure], level: str) -> Iterator[Estimate]:
    known = [
        structure
        for structure in structures
        if not np.isnan(structure.energy) and structure.at_level(level).energy is not None
    ][:MOST_ENERGIES]
    if not known:
        return
    _, counts = compositions(known)
    roots = np.sqrt(counts.sum(axis=1))
    energies = np.array([[structure.energy, structure.at_level(level).energy] for structure in known], float)
    labels, theirs = (energies / roots[:, None]).T
    atomic = _basis(counts / roots[:, None])
    own = theirs - atomic @ (atomic.T @ theirs)
    if len(known) > atomic.shape[1] + 1 and np.linalg.norm(own) > LEAST_OWN * np.sqrt(len(known)):
        # Totals are thousands of eV, of which atomic energies are all but some.
        rest = labels - atomic @ (atomic.T @ labels)
        yield _generalised(np.column_stack([own, atomic]), rest, _squared_distances(known))


def _basis(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis of what columns span."""
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, singular > LEAST_OWN * singular[0]]


def _generalised(columns: NDArray[np.float64], labels: NDArray[np.float64], squared: NDArray[np.float64]) -> Estimate:
    """Return the coefficient of the first column, with the kernel of the largest restricted likelihood.

    Rasmussen, Williams, *Gaussian Processes for Machine Learning* (2006), section 2.7, equations 2.42 and 2.45; the
    kernel's amplitude is eliminated.

    Args:
        columns: (M, P) what labels are a combination of, beside a process.
        labels: (M,).
        squared: (M, M) distances between geometries; infinite where they have nothing in common.
    """
    found = [_with_kernel(columns, labels, kernel) for kernel in _kernels(squared)]
    return max(found, key=lambda pair: pair[0])[1]


def _kernels(squared: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Return Matérn kernels (5/2) with noise; noise alone where no two geometries have anything in common."""
    others = squared[np.isfinite(squared) & (squared > 0)]
    median = float(np.median(others)) if len(others) else 1.0
    for length in LENGTHS:
        distance = np.sqrt(5 * np.minimum(squared / (length * median), ALONE))
        kernel = (1 + distance + distance**2 / 3) * np.exp(-distance)
        for noise in NOISES:
            yield kernel + noise * np.eye(len(kernel))


def _with_kernel(
    columns: NDArray[np.float64], labels: NDArray[np.float64], kernel: NDArray[np.float64]
) -> tuple[float, Estimate]:
    """Return the restricted log likelihood, but for a constant, and the coefficient of the first column."""
    factor = cho_factor(kernel, lower=True)
    normal = columns.T @ cho_solve(factor, columns)
    inverse = np.linalg.inv(normal)
    coefficients = inverse @ (columns.T @ cho_solve(factor, labels))
    rest, free = labels - columns @ coefficients, len(labels) - columns.shape[1]
    amplitude = max(float(rest @ cho_solve(factor, rest)) / free, LEAST_REST**2)
    likelihood = -0.5 * (free * np.log(amplitude) + np.linalg.slogdet(normal)[1]) - np.log(np.diag(factor[0])).sum()
    return float(likelihood), Estimate(float(coefficients[0]), float(amplitude * inverse[0, 0]))


def _squared_distances(structures: Sequence[Structure]) -> NDArray[np.float64]:
    """Return (M, M) squared distances of inverse distances, sorted by pairs of elements, 1/Å²; of one composition."""
    alike: dict[bytes, list[int]] = {}
    for place, structure in enumerate(structures):
        alike.setdefault(np.sort(structure.numbers).tobytes(), []).append(place)
    squared = np.full((len(structures), len(structures)), np.inf)
    np.fill_diagonal(squared, 0.0)
    for places in alike.values():
        found = np.array([_inverse_distances(structures[place]) for place in places])
        norms = (found**2).sum(axis=1)
        between = norms[:, None] + norms[None] - 2 * found @ found.T
        squared[np.ix_(places, places)] = np.maximum(between, 0.0)
    return squared


def _inverse_distances(structure: Structure) -> NDArray[np.float64]:
    first, second = np.triu_indices(len(structure.numbers), 1)
    inverse = 1 / np.linalg.norm(structure.positions[first] - structure.positions[second], axis=1)
    pair = np.sort(np.stack([structure.numbers[first], structure.numbers[second]]), axis=0)
    return np.asarray(inverse[np.lexsort((inverse, pair[1], pair[0]))])


def _of_forces(structures: Sequence[Structure], level: str) -> Iterator[Estimate]:
    pairs = [(structure.forces, structure.at_level(level).forces) for structure in structures]
    known = [(own.ravel(), theirs.ravel()) for own, theirs in pairs if own is not None and theirs is not None]
    if not known:
        return
    labels, theirs = (np.concatenate(column) for column in zip(*known, strict=True))
    square = float(theirs @ theirs)
    if square > LEAST_REST**2 * len(theirs):
        value = float(theirs @ labels) / square
        rest = labels - value * theirs
        yield Estimate(value, max(float(rest @ rest) / (len(rest) - 1), LEAST_REST**2) / square)
