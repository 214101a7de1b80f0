"""What a loss takes means of, as data: energies at points, works of the force, labels. Nothing is evaluated here.

Takamoto, Zaverkin, Niepert, "Physics-Informed Weakly Supervised Learning for Interatomic Potentials", ICML 2025 (arXiv
2408.05215). Points: A = r, B = r + δ', C = r + δ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, NamedTuple

from piwsl.structures.labels import PREFIXES, REFERENCE

Quadrature = Literal[1, 2, "simpson", "gauss-legendre"]


class Point(NamedTuple):
    """r + along δ + across δ'; a difference of two points is a direction."""

    along: float
    across: float

    def towards(self, other: Point, share: float) -> Point:
        """Return the point at a share of the way to another."""
        return Point(
            self.along + share * (other.along - self.along), self.across + share * (other.across - self.across)
        )

    def to(self, other: Point) -> Point:
        """Return the direction to another point."""
        return Point(other.along - self.along, other.across - self.across)


A, B, C = Point(0.0, 0.0), Point(0.0, 1.0), Point(1.0, 0.0)


class Work(NamedTuple):
    """A product <d, F> that a residual needs."""

    point: Point
    """Where F is taken."""
    direction: Point
    """d."""


@dataclass(frozen=True)
class Residual:
    """Σ c E(point) + Σ c <d, F(point)> + c E_ref + Σ c <d, F_ref>."""

    energies: dict[Point, float] = field(default_factory=dict)
    works: dict[Work, float] = field(default_factory=dict)
    label_energy: float = 0.0
    label_works: dict[Point, float] = field(default_factory=dict)

    @property
    def level(self) -> str | None:
        """Whose labels it has; None where the model is compared with itself alone."""
        return REFERENCE if self.label_energy or self.label_works else None


@dataclass(frozen=True)
class ForceError:
    """F(point) - F_ref, component by component."""

    point: Point
    """Where F is taken."""
    level: str
    """Of which level F_ref is."""


@dataclass(frozen=True)
class StressError:
    """σ(A) - σ_ref, component by component."""

    level: str
    """Of which level σ_ref is."""


Difference = Residual | ForceError | StressError


class Mean(NamedTuple):
    """A part of a loss: the mean of one kind of residual over some structures, times a weight."""

    of: Difference
    weight: float


# Nodes and weights on [0, 1]. The residual falls as |δ| to the power of 2, 3, 5 and 7.
_ROOT = math.sqrt(15.0) / 10.0
NODES: dict[Quadrature, list[tuple[float, float]]] = {
    1: [(0.0, 1.0)],
    2: [(0.0, 0.5), (1.0, 0.5)],
    "simpson": [(0.0, 1 / 6), (0.5, 4 / 6), (1.0, 1 / 6)],
    "gauss-legendre": [(0.5 - _ROOT, 5 / 18), (0.5, 8 / 18), (0.5 + _ROOT, 5 / 18)],
}


def works(start: Point, end: Point, order: Quadrature) -> dict[Work, float]:
    """Return the quadrature of ∫ <dl, F> along a straight line."""
    return {Work(start.towards(end, share), start.to(end)): weight for share, weight in NODES[order]}


def step_residual(start: Point, end: Point, order: Quadrature) -> Residual:
    """Return E(end) - [E(start) - ∫ <dl, F>]."""
    return Residual({end: 1.0, start: -1.0}, works(start, end, order))


def sum_of_works(*parts: dict[Work, float]) -> dict[Work, float]:
    """Add quadratures up."""
    total: dict[Work, float] = {}
    for part in parts:
        for work, weight in part.items():
            total[work] = total.get(work, 0.0) + weight
    return total


def is_factor(value: object) -> bool:
    """Whether a mean may be multiplied with a value: a finite number, not negative."""
    return _is_number(value) and value >= 0  # type: ignore[operator]  # a number


def mean_problem(mean: Any) -> str | None:
    """Say why what a term calls a mean cannot be evaluated; None where it can.

    Energies and forces are taken at points with |along| + |across| <= 1: neighbour lists reach no further.
    """
    if not isinstance(mean, Mean):
        return f"is {type(mean).__name__}, no Mean"
    if not is_factor(mean.weight):
        return f"has the weight {mean.weight!r}, no number from 0 on"
    if not isinstance(mean.of, Difference):
        return f"is of {type(mean.of).__name__}; take Residual, ForceError or StressError"
    if mean.of.level not in (None, *PREFIXES):
        return f"is of level {mean.of.level!r}; known are {', '.join(PREFIXES)}"
    if isinstance(mean.of, Residual):
        return _residual_problem(mean.of)
    return _point_problem([mean.of.point]) if isinstance(mean.of, ForceError) else None


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _residual_problem(residual: Residual) -> str | None:
    sums = (residual.energies, residual.works, residual.label_works)
    if not all(isinstance(part, dict) for part in sums) or not all(isinstance(work, Work) for work in residual.works):
        return "has energies, works or label_works that are no dict of Point, Work and Point"
    if not (residual.energies or residual.works):
        return "asks nothing of the model; give energies or works"
    if not all(map(_is_number, [residual.label_energy, *(factor for part in sums for factor in part.values())])):
        return "has a factor that is no finite number"
    directions = [*residual.label_works, *(work.direction for work in residual.works)]
    if any(_no_point(direction) for direction in directions):
        return "has a work along what is no Point of two numbers"
    return _point_problem([*residual.energies, *(work.point for work in residual.works)])


def _no_point(point: Any) -> bool:
    return not (isinstance(point, Point) and all(map(_is_number, point)))


def _point_problem(points: list[Any]) -> str | None:
    for point in points:
        if _no_point(point):
            return f"is at {point!r}, which is no Point of two numbers"
        if abs(point.along) + abs(point.across) > 1 + 1e-9:
            return f"is at {tuple(point)}, beyond neighbour lists; take |along| + |across| <= 1"
    return None
