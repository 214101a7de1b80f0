"""Streams of random numbers have nothing in common but what they are meant to have."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import numpy as np

from piwsl.structures.seeds import Stream, generator, seed_of

SEEDS = {"frames of a run": 5525830628863160878, "displacements": 2819381641463712173}


def test_a_stream_is_told_apart_by_its_name_and_every_argument():
    arguments = [
        (stream, seed, *of) for stream in get_args(Stream) for seed in (0, 1, 2**64) for of in ((), (0,), (0, 0))
    ]
    assert len({seed_of(*given) for given in arguments}) == len(arguments)


def test_a_trailing_zero_is_another_stream_unlike_numpys_own():
    assert np.random.default_rng([7, 3]).integers(2**62) == np.random.default_rng([7, 3, 0]).integers(2**62)
    drawn = [generator("batches", 7, *of).permutation(50).tolist() for of in ((), (0,), (1,))]
    assert all(one != other for one, other in combinations(drawn, 2))


def test_a_stream_is_the_same_in_every_process_and_version():
    # Splits and trajectories that were published rest on these numbers.
    assert seed_of("frames of a run", 0) == SEEDS["frames of a run"]
    assert seed_of("displacements", 3, 0, 17) == SEEDS["displacements"]


def test_seeds_are_what_numpy_and_torch_take():
    assert all(0 <= seed_of(stream, seed) < 2**63 for stream in get_args(Stream) for seed in range(50))
