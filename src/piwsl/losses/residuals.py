"""The weak residuals as data: which energies and which works of the force they add up. Nothing is evaluated here.

Takamoto, Zaverkin, Niepert, "Physics-Informed Weakly Supervised Learning for Interatomic Potentials", ICML 2025 (arXiv
2408.05215). Points: A = r, B = r + δ', C = r + δ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from piwsl.config import PISC, PITC, Quadrature


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


# Nodes and weights on [0, 1]. The residual falls as |δ| to the power of 2, 3, 5 and 7.
_ROOT = math.sqrt(15.0) / 10.0
NODES: dict[Quadrature, list[tuple[float, float]]] = {
    1: [(0.0, 1.0)],
    2: [(0.0, 0.5), (1.0, 0.5)],
    "simpson": [(0.0, 1 / 6), (0.5, 4 / 6), (1.0, 1 / 6)],
    "gauss-legendre": [(0.5 - _ROOT, 5 / 18), (0.5, 8 / 18), (0.5 + _ROOT, 5 / 18)],
}


# Weights of the polynomial through points around A, taken at A; its error falls as |δ| to the power of 2, 3 and 4.
INTERPOLATIONS: dict[Literal["central", "quadratic", "central-4"], dict[Point, float]] = {
    "central": {Point(-1.0, 0.0): 1 / 2, C: 1 / 2},
    "quadratic": {Point(-1.0, 0.0): 1 / 6, Point(0.5, 0.0): 8 / 6, C: -3 / 6},
    "central-4": {Point(-1.0, 0.0): -1 / 6, Point(-0.5, 0.0): 4 / 6, Point(0.5, 0.0): 4 / 6, C: -1 / 6},
}


def works(start: Point, end: Point, order: Quadrature) -> dict[Work, float]:
    """Return the quadrature of ∫ <dl, F> along a straight line."""
    return {Work(start.towards(end, share), start.to(end)): weight for share, weight in NODES[order]}


def step_residual(start: Point, end: Point, order: Quadrature) -> Residual:
    """Return E(end) - [E(start) - ∫ <dl, F>]."""
    return Residual({end: 1.0, start: -1.0}, works(start, end, order))


def pitc_residual(term: PITC) -> Residual:
    """Return the residual of Taylor-expansion consistency.

    model: E(C) - [E(A) - <δ, F(A)>] (the paper); label: with E_ref for E(A); pseudo-label: with E_ref and F_ref
    (Cooper, Kästner, Urban, Artrith, npj Comput. Mater. 6, 54 (2020)). Orders without force: `interpolation_residual`.
    """
    if term.order == "central" or term.order == "quadratic" or term.order == "central-4":
        return interpolation_residual(INTERPOLATIONS[term.order], labelled=term.anchor == "label")
    model = step_residual(A, C, term.order)
    if term.anchor == "model":
        return model
    if term.anchor == "label":
        return Residual({C: 1.0}, model.works, label_energy=-1.0)
    return Residual({C: 1.0}, label_energy=-1.0, label_works={A.to(C): 1.0})


def interpolation_residual(weights: dict[Point, float], labelled: bool) -> Residual:
    """Return E(A) less the interpolation of energies around A, in which no force stands.

    central: E(A) - [E(r+δ) + E(r-δ)]/2 = -½ δᵀHδ + O(|δ|⁴), with H the Hessian; the residual of order 1, averaged over
    δ and -δ, is its negative, for the works cancel. quadratic: E(A) - [E(r-δ) + 8 E(r+δ/2) - 3 E(r+δ)]/6, a twelfth of
    the third derivative along δ + O(|δ|⁴), free of the curvature: to that power the negative of the trapezoid's error,
    which is order 2's. central-4: E(A) - {4 [E(r+δ/2) + E(r-δ/2)] - [E(r+δ) + E(r-δ)]}/6, a sixth of the fourth
    central difference with step δ/2, and 0 on cubic surfaces. No point is further from A than δ.

    Args:
        weights: of the points around A; their sum is 1.
        labelled: whether E_ref takes the place of E(A).
    """
    around = {point: -weight for point, weight in weights.items()}
    return Residual(around, label_energy=1.0) if labelled else Residual({A: 1.0} | around)


def pisc_residual(term: PISC) -> Residual:
    """Return the residual of path-independence consistency.

    B to C: E(C) - [E(B) - <δ - δ', F(B)>] (the paper); the others close the triangle elsewhere.
    """
    order = term.order
    match term.closing:
        case "B to C":
            return step_residual(B, C, order)
        case "C to B":
            return step_residual(C, B, order)
        case "C to A":
            return step_residual(C, A, order)
        case "two routes":
            from_b = {work: -weight for work, weight in works(B, C, order).items()}
            from_a = works(A, C, order)
            return Residual({A: -1.0, B: 1.0}, _sum(from_a, from_b))
        case "loop":
            return Residual({}, _sum(works(A, B, order), works(B, C, order), works(C, A, order)))


def _sum(*parts: dict[Work, float]) -> dict[Work, float]:
    total: dict[Work, float] = {}
    for part in parts:
        for work, weight in part.items():
            total[work] = total.get(work, 0.0) + weight
    return total
