"""How well a model knows how uncertain it is: errors on test frames against the spread that it predicted for them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from piwsl.evaluation.sums import Sums

# Of errors over spreads; each takes a few bytes.
BINS = 1 << 18


class Spreads:
    """Errors of one kind beside what a model said of them, which come part by part: sums and a histogram are held."""

    def __init__(self) -> None:
        """Begin with no error."""
        self._errors, self._spread = Sums(), Sums()
        # Of e/(e + s), with e the size of an error and s its spread: from 0 to 1, whatever the scale of s.
        self._counts, self._shares = np.zeros(BINS, dtype=np.int64), np.zeros(BINS)

    @classmethod
    def of(cls, errors: NDArray[np.float64], spread: NDArray[np.float64]) -> Spreads:
        """Return those of errors that are all there are."""
        found = cls()
        found.add(errors, spread)
        return found

    def __len__(self) -> int:
        return self._errors.count

    def add(self, errors: NDArray[np.float64], spread: NDArray[np.float64]) -> None:
        """Compare more errors, (M,), with their spreads, (M,), not negative, in the same unit."""
        self._errors.add(errors)
        self._spread.add(spread)
        sizes = np.abs(errors)
        share = np.divide(sizes, sizes + spread, out=np.zeros_like(sizes), where=sizes != 0.0)
        bins = np.minimum(np.nan_to_num(share) * BINS, BINS - 1).astype(np.int64)
        self._counts += np.bincount(bins, minlength=BINS)
        self._shares += np.bincount(bins, weights=share, minlength=BINS)

    def miscalibration_area(self, scale: float = 1.0) -> float:
        """Return the area between the share of errors that is expected within intervals and the share found there.

        Intervals of all confidences p from 0 to 1, symmetric about the prediction, of a normal distribution whose
        standard deviation is the spread times the scale: 0 where these are right, 1/2 where all errors are many times
        the spread, or none of it. Tran, Neiswanger, Yoon, Zhang, Xing, Ulissi, "Methods for comparing uncertainty
        quantifications for material property predictions", Mach. Learn.: Sci. Technol. 1, 025006 (2020).

        Errors in one bin count as so many of their mean e/(e + s), which moves none of them by more than 1/BINS.
        """
        filled = self._counts > 0
        counts, shares = self._counts[filled], self._shares[filled] / self._counts[filled]
        ratios = np.divide(shares, 1.0 - shares, out=np.full_like(shares, np.inf), where=shares != 1.0)
        # Each error is within the intervals from this confidence on.
        confidences = erf(ratios / (scale * math.sqrt(2.0)))
        edges = np.concatenate([[0.0], confidences, [1.0]])
        found = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])  # between one edge and the next

        def integral(p: NDArray[np.float64]) -> NDArray[np.float64]:
            return 0.5 * (p - found) * np.abs(p - found)

        return float((integral(edges[1:]) - integral(edges[:-1])).sum())

    def values(self, scale: float | None = None) -> dict[str, float | None]:
        """Return how errors compare with what a model said of them, where there are any.

        Returns:
            spread, its root mean square; error_over_spread, of root mean squares; miscalibration_area; spread_scale,
            and scaled_miscalibration_area, that of the spread times the scale, where there is one.
        """
        error, whole = self._errors.rmse, self._spread.rmse
        return {
            "spread": whole,
            "error_over_spread": error / whole if error is not None and whole else None,
            "miscalibration_area": self.miscalibration_area(),
            "spread_scale": scale,
            "scaled_miscalibration_area": None if scale is None else self.miscalibration_area(scale),
        }


def scale_of_spread(held_out_rmse: float, spread: float, members: int) -> float | None:
    """Return what the spread of a committee is to be multiplied by to be its error, by no label of a test frame.

    The squared error of a mean is the mean squared error of its members less their ambiguity, the mean square of their
    deviations from it: Krogh, Vedelsby, "Neural network ensembles, cross validation, and active learning", NIPS 1995.
    The former is known of frames that members did not learn from, the latter wherever there is a geometry.

    Args:
        held_out_rmse: root mean square error of members on frames that each of them did not learn from.
        spread: root mean square of the sample standard deviations of the members, at least one of them not 0, on frames
            of the same kind.
        members: K.

    Returns:
        √[(MSE - A)/spread²] with A = spread² (K - 1)/K; None where members err less than they differ.
    """
    square = (held_out_rmse / spread) ** 2 - (members - 1) / members
    return math.sqrt(square) if square > 0.0 else None
