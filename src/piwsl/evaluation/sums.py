"""Errors summed up part by part, so that however many there are, a few numbers are held."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class Sums:
    """Of errors of one kind: how many there are, and the sums of their sizes and of their squares."""

    count: int = 0
    sizes: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, errors: NDArray[np.float64]) -> Sums:
        """Return those of errors that are all there are."""
        found = cls()
        found.add(errors)
        return found

    def add(self, errors: NDArray[np.float64]) -> None:
        """Count more of them, of any shape."""
        self.count += errors.size
        self.sizes += float(np.abs(errors).sum())
        self.squares += float(np.square(errors).sum())

    @property
    def mae(self) -> float | None:
        """Mean size; None of no error."""
        return self.sizes / self.count if self.count else None

    @property
    def rmse(self) -> float | None:
        """Root mean square; None of no error."""
        return math.sqrt(self.squares / self.count) if self.count else None
