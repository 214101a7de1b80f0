"""Choosing frames among candidates: in turn from several series, or those least like the ones chosen before."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import TypeVar

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.config.datasets import ROUND

Item = TypeVar("Item")


def in_turn(series: list[list[Item]]) -> list[Item]:
    """Join series: the first item of each, then the second of each, until all are used up.

    With the same series, more items begin with the fewer.
    """
    length = max((len(items) for items in series), default=0)
    return [items[position] for position in range(length) for items in series if position < len(items)]


def candidates_needed(frames: int, candidates: int) -> int:
    """Return how many candidates farthest-point selection of `frames` looks at, `candidates` for each.

    Whole rounds are looked at: a candidate's fate does not depend on how many frames are wanted.
    """
    return -(-frames // ROUND) * ROUND * candidates


def farthest_points(frames: list[Atoms], wanted: int, candidates: int) -> list[int]:
    """Choose frames one by one, each the one farthest from all that were chosen before.

    Gonzalez, Theor. Comput. Sci. 38, 293 (1985), in rounds of fresh candidates; the distance is Euclidean between
    the vectors of `descriptors`.

    Args:
        frames: candidates, in a fixed order.
        wanted: how many to choose.
        candidates: how many to look at for each.

    Returns:
        Indices in the order of the choice; the first is the first candidate.
    """
    vectors = descriptors(frames)
    nearest = np.full(len(frames), np.inf)
    chosen: list[int] = []
    window = 0
    while len(chosen) < min(wanted, len(frames)):
        window = min(window + ROUND * candidates, len(frames))
        for _ in range(ROUND if window < len(frames) else len(frames)):
            if len(chosen) == min(wanted, len(frames)):
                break
            pick = int(np.argmax(nearest[:window]))
            chosen.append(pick)
            nearest = np.minimum(nearest, np.linalg.norm(vectors - vectors[pick], axis=1))
            nearest[pick] = -1.0
    return chosen


def descriptors(frames: list[Atoms]) -> NDArray[np.float64]:
    """Describe frames by their inverse distances (1/Å), sorted for each pair of elements.

    The same for a structure that is translated, rotated, or has its like atoms exchanged. Frames of different
    composition are filled up with zeros, as if the missing atoms were infinitely far away.

    Args:
        frames: isolated structures.

    Returns:
        (frames, D).
    """
    tables = [_inverse_distances(atoms) for atoms in frames]
    lengths: dict[tuple[int, int], int] = defaultdict(int)
    for table in tables:
        for pair, values in table.items():
            lengths[pair] = max(lengths[pair], len(values))
    return np.array([_filled_up(table, lengths) for table in tables])


def _filled_up(
    table: dict[tuple[int, int], NDArray[np.float64]], lengths: dict[tuple[int, int], int]
) -> NDArray[np.float64]:
    row = [table.get(pair, np.empty(0)) for pair in lengths]
    return np.concatenate(
        [np.pad(values, (0, length - len(values))) for values, length in zip(row, lengths.values(), strict=True)]
    )


def _inverse_distances(atoms: Atoms) -> dict[tuple[int, int], NDArray[np.float64]]:
    distances = atoms.get_all_distances()
    found: dict[tuple[int, int], list[float]] = defaultdict(list)
    numbers = atoms.numbers.tolist()
    for i, j in combinations(range(len(atoms)), 2):
        found[min(numbers[i], numbers[j]), max(numbers[i], numbers[j])].append(1.0 / distances[i, j])
    return {pair: np.sort(values)[::-1] for pair, values in found.items()}
