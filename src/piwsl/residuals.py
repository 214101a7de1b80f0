"""What a loss takes means of, as data: energies at points, works of the force, labels. Nothing is evaluated here.

Takamoto, Zaverkin, Niepert, "Physics-Informed Weakly Supervised Learning for Interatomic Potentials", ICML 2025 (arXiv
2408.05215). Points: A = r, B = r + δ', C = r + δ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from piwsl.structures.labels import REFERENCE

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
