"""Which frames a run learns from. Sizes of one seed nest: the frames of a smaller are among those of a larger."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from piwsl.errors import PiwslError
from piwsl.structures.seeds import generator


@dataclass(frozen=True)
class Split:
    """Indices into a dataset file."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def split_frames(available: NDArray[np.int64], size: int, seed: int, validation_fraction: float) -> Split:
    """Choose `size` of the labelled training frames and set a share of them apart for validation.

    Args:
        available: (P,) indices to choose from.
        size: labelled frames of the run, those for validation included.
        seed: of the run; it alone orders them.
        validation_fraction: share of `size` that is not learned from: at least one frame, or none where it is 0.

    Returns:
        Disjoint indices.

    Raises:
        PiwslError: there are fewer than the size.
    """
    if size > len(available):
        raise PiwslError(
            f"size {size} is more than the {len(available)} labelled training frames that there are; "
            "raise training_frames, give more frames, or leave the size out"
        )
    chosen = generator("frames of a run", seed).permutation(available)[:size]
    validation = min(size - 1, max(1, round(validation_fraction * size))) if validation_fraction else 0
    return Split(training=chosen[validation:], validation=chosen[:validation])


def hold_out(frames: int, test_frames: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Set frames of a file apart for testing.

    Args:
        frames: how many there are.
        test_frames: how many to hold out.
        seed: chooses them.

    Returns:
        Indices for training and for test, each in the order of the file.

    Raises:
        PiwslError: nothing would be left to train on.
    """
    if test_frames >= frames:
        raise PiwslError(f"test_frames {test_frames} leaves none of the {frames} frames to train on")
    order = generator("held-out frames", seed).permutation(frames)
    return np.sort(order[test_frames:]), np.sort(order[:test_frames])
