"""Basis-set extrapolation: the formulas and their slopes. Energies of one unit in, the limit in that unit out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from piwsl.config import Extrapolation


class ExtrapolationError(Exception):
    """Energies that do not fall the way the formula supposes."""


class Limit(NamedTuple):
    """An extrapolated energy, and how it depends on the energies it is made of."""

    energy: float
    slopes: tuple[float, ...]
    """∂energy/∂E_X for every basis, smaller first. By the chain rule the force at the limit is Σ_X slope_X F_X."""


def basis_set_limit(extrapolation: Extrapolation, energies: Sequence[float]) -> Limit:
    """Take the energies in successive bases to the limit.

    Args:
        extrapolation: formula, exponent, smallest cardinal number.
        energies: in bases of successive cardinal numbers, smaller first.

    Raises:
        ExtrapolationError: three points do not converge geometrically.
    """
    if extrapolation.formula == "three-point":
        return three_points(*energies)
    assert extrapolation.exponent is not None
    decay = {"exponential": exponential_decay, "exponential-sqrt": square_root_decay, "power": power_decay}
    small, large = energies
    return two_points(small, large, decay[extrapolation.formula](extrapolation.exponent, extrapolation.smallest))


def two_points(small: float, large: float, decay: float) -> Limit:
    """Extrapolate through two points, E_Y - E_cbs = decay (E_X - E_cbs).

    Args:
        small: energy in the basis of cardinal number X.
        large: energy in the basis of cardinal number Y = X + 1.
        decay: what is left at Y of the error at X, by one of the laws below.
    """
    slopes = (-decay / (1.0 - decay), 1.0 / (1.0 - decay))
    return Limit(slopes[0] * small + slopes[1] * large, slopes)


def exponential_decay(exponent: float, cardinal: int) -> float:
    """E(X) = E_cbs + A exp(-α X): Halkier et al., Chem. Phys. Lett. 302, 437 (1999), eq. 3; whatever X is."""
    return math.exp(-exponent)


def square_root_decay(exponent: float, cardinal: int) -> float:
    """E(X) = E_cbs + A exp(-α √X): Neese, Valeev, J. Chem. Theory Comput. 7, 33 (2011)."""
    return math.exp(-exponent * (math.sqrt(cardinal + 1) - math.sqrt(cardinal)))


def power_decay(exponent: float, cardinal: int) -> float:
    """E(X) = E_cbs + A X^-β: Helgaker, Klopper, Koch, Noga, J. Chem. Phys. 106, 9639 (1997), eq. 7 (β = 3)."""
    return (cardinal / (cardinal + 1)) ** exponent


def three_points(small: float, middle: float, large: float) -> Limit:
    """Extrapolate through three points, E(X) = E_cbs + A exp(-B X) with B from the energies themselves.

    E_cbs = E_3 - (E_3 - E_2) r / (r - 1) with r = (E_3 - E_2) / (E_2 - E_1): Feller, J. Chem. Phys. 96, 6104 (1992),
    solved for E_cbs. It is not linear in the energies.

    Args:
        small: energy in the smallest of three bases of successive cardinal numbers.
        middle: energy in the next.
        large: energy in the largest.

    Raises:
        ExtrapolationError: r is not between 0 and 1: the energies do not converge.
    """
    first, second = middle - small, large - middle
    if first == 0.0 or not 0.0 < second / first < 1.0:
        raise ExtrapolationError(
            f"the energies {small:.6f}, {middle:.6f}, {large:.6f} Eh do not converge exponentially; "
            "extrapolate from two"
        )
    bend = second - first
    to_first, to_second = (second / bend) ** 2, (second * second - 2.0 * first * second) / bend**2
    # E_cbs = E_3 - second²/bend; to_... are the slopes of second²/bend with respect to first and second.
    slopes = (to_first, to_second - to_first, 1.0 - to_second)
    return Limit(large - second * second / bend, slopes)
