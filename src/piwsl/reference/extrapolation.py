"""Basis-set extrapolation: the formulas alone. All are linear in the energies, so any energy unit will do."""

from __future__ import annotations

import math

HALKIER_ALPHA = 1.63


def hartree_fock_limit(small: float, large: float) -> float:
    """Extrapolate the HF energy by an exponential through two points.

    E(X) = E_cbs + A exp(-α X) with α = 1.63: Halkier, Helgaker, Jørgensen, Klopper, Olsen,
    Chem. Phys. Lett. 302, 437 (1999), eq. 3 with the exponent recommended there.

    Args:
        small: energy in the basis of cardinal number X.
        large: energy in the basis of cardinal number X + 1.

    Returns:
        The energy at the basis-set limit, in the unit of the input.
    """
    # E_large - E_cbs = (E_small - E_cbs) exp(-α) for successive X, whatever X is.
    decay = math.exp(-HALKIER_ALPHA)
    return (large - decay * small) / (1.0 - decay)


def correlation_limit(small: float, large: float, cardinal: int) -> float:
    """Extrapolate a correlation energy by the inverse cube of the cardinal number.

    E(X) = E_cbs + A X⁻³: Helgaker, Klopper, Koch, Noga, J. Chem. Phys. 106, 9639 (1997), eq. 7.

    Args:
        small: correlation energy in the basis of cardinal number `cardinal` - 1.
        large: correlation energy in the basis of cardinal number `cardinal`.
        cardinal: the larger cardinal number.

    Returns:
        The correlation energy at the basis-set limit, in the unit of the input.
    """
    y, x = cardinal**3, (cardinal - 1) ** 3
    return (y * large - x * small) / (y - x)
