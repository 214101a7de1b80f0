"""All streams of random numbers, by name: no two of them share a number, whatever seeds and steps they are given."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import numpy as np

Stream = Literal[
    "frames of a run",
    "held-out frames",
    "held-out groups",
    "blocks of geometries",
    "trajectory",
    "normal modes",
    "molecules of a complex",
    "members",
    "initial weights",
    "batches",
    "pool",
    "displacements",
    "simulation",
    "consistency",
    "acquisition",
    "slopes",
    "validation groups",
]


def seed_of(stream: Stream, seed: int, *of: int | float | str) -> int:
    """Return the seed of a stream, below 2^63, as NumPy and torch take it.

    A hash of all that is given: streams that differ in one argument, or in the number of them, have nothing in common.
    (NumPy's own `[3]` and `[3, 0]` are one stream.)

    Args:
        stream: what the numbers are for.
        seed: of the config.
        of: what else tells the stream apart, such as a part, an epoch, a step.
    """
    text = json.dumps([stream, int(seed), *of])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(stream: Stream, seed: int, *of: int | float | str) -> np.random.Generator:
    """Return NumPy's generator of a stream; arguments as of `seed_of`."""
    return np.random.default_rng(seed_of(stream, seed, *of))
