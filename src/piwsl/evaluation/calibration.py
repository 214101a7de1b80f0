"""How well a model knows how uncertain it is: errors on test frames against the spread that it predicted for them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf


def miscalibration_area(errors: NDArray[np.float64], spread: NDArray[np.float64]) -> float:
    """Return the area between the share of errors that is expected within intervals and the share that is found there.

    Intervals of all confidences p from 0 to 1, symmetric about the prediction, of a normal distribution whose standard
    deviation is the spread: 0 where these are right, 1/2 where all errors are many times the spread, or none of it.
    Tran, Neiswanger, Yoon, Zhang, Xing, Ulissi, "Methods for comparing uncertainty quantifications for material
    property predictions", Mach. Learn.: Sci. Technol. 1, 025006 (2020).

    Args:
        errors: (M,).
        spread: (M,), not negative, in the same unit.
    """
    sizes = np.abs(errors)
    ratios = np.divide(sizes, spread, out=np.where(sizes > 0.0, np.inf, 0.0), where=spread > 0.0)
    # Each error is within the intervals from this confidence on.
    confidences = np.sort(erf(ratios / math.sqrt(2.0)))
    edges = np.concatenate([[0.0], confidences, [1.0]])
    found = np.arange(len(errors) + 1) / len(errors)  # between one edge and the next

    def integral(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return 0.5 * (p - found) * np.abs(p - found)

    return float((integral(edges[1:]) - integral(edges[:-1])).sum())


def scale_of_spread(held_out_rmse: float, spread: float, members: int) -> float | None:
    """Return what the spread of a committee is to be multiplied by to be its error, by no label of a test frame.

    The squared error of a mean is the mean squared error of its members less their ambiguity, the mean square of their
    deviations from it: Krogh, Vedelsby, "Neural network ensembles, cross validation, and active learning", NIPS 1995.
    The former is known of frames that members did not learn from, the latter wherever there is a geometry.

    Args:
        held_out_rmse: root mean square error of members on frames that each of them did not learn from.
        spread: root mean square of the sample standard deviations of the members, at least one of them not 0.
        members: K.

    Returns:
        √[(MSE - A)/spread²] with A = spread² (K - 1)/K; None where members err less than they differ.
    """
    square = (held_out_rmse / spread) ** 2 - (members - 1) / members
    return math.sqrt(square) if square > 0.0 else None


def calibration(
    errors: NDArray[np.float64], spread: NDArray[np.float64], scale: float | None = None
) -> dict[str, float | None]:
    """Return how errors compare with what a model said of them, (M,) each, in one unit.

    Returns:
        spread, its root mean square; error_over_spread, of root mean squares; miscalibration_area; spread_scale, and
        scaled_miscalibration_area, that of the spread times the scale, where there is one.
    """
    whole = math.sqrt(float(np.square(spread).mean()))
    error = math.sqrt(float(np.square(errors).mean()))
    return {
        "spread": whole,
        "error_over_spread": error / whole if whole else None,
        "miscalibration_area": miscalibration_area(errors, spread),
        "spread_scale": scale,
        "scaled_miscalibration_area": None if scale is None else miscalibration_area(errors, scale * spread),
    }
