"""A thousand configs with something changed: each is in order and can begin, or is refused in one line; none hangs.

`make fuzz` tries more of them, trains with those that are accepted, and asks Snakemake whether it agrees.
"""

from __future__ import annotations

import itertools
from collections import Counter

from fuzz.configs import configs
from fuzz.trials import FAULTS, fuzz

SEED, COUNT = 11, 1000


def test_a_thousand_configs_are_refused_in_one_line_or_can_begin(tmp_path):
    outcomes = [found for _, found in fuzz(tmp_path, SEED, COUNT)]
    counts = Counter(found.kind for found in outcomes)
    assert not [found for found in outcomes if found.kind in FAULTS]
    assert counts["accepted"] > COUNT / 10, counts
    assert counts["refused"] > COUNT / 2, counts


def test_a_seed_makes_the_same_configs_and_a_longer_series_begins_with_a_shorter():
    assert list(configs(3, 5)) == list(itertools.islice(configs(3, 20), 5))
    assert list(configs(4, 5)) != list(configs(3, 5))
