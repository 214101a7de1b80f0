"""How many edges frames have; those of a dataset file are counted once, and kept beside it.

`NAME.edges-CUTOFF.npz` has `counts` (M,), the neighbours within the cutoff summed over the atoms of each frame, -1 of
those that nobody asked about; and `of`, the SHA-256 of the frames and the cutoff, without which it counts for nothing.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from piwsl.data.batch import ImpossibleGeometry, count_neighbours
from piwsl.data.dataset import Dataset
from piwsl.errors import PiwslError
from piwsl.files import refusal, write_atomically

if TYPE_CHECKING:
    from piwsl.data.views import StoredView, View

COUNTED_AT_ONCE = 5000
# What is counted so far is kept after so many.
KEPT_AFTER = 200_000
UNKNOWN = -1


def count_edges(frames: View, cutoff: float) -> NDArray[np.int64]:
    """Return how many edges each frame has, (M,).

    Args:
        frames: to count.
        cutoff: Å.

    Raises:
        ImpossibleGeometry: names the frame.
    """
    return np.array([*_counts(frames, cutoff)], dtype=np.int64)


def _counts(frames: View, cutoff: float) -> Iterator[int]:
    for frame, structure in zip(frames.indices.tolist(), frames, strict=True):
        try:
            yield count_neighbours(structure, cutoff)
        except ImpossibleGeometry as error:
            raise ImpossibleGeometry(f"frame {frame}: {error}") from None


def edges_of_stored(frames: StoredView, cutoff: float, processes: int = 1) -> NDArray[np.int64]:
    """Return how many edges each frame of a dataset file has, (M,); those that are known are not read.

    Args:
        frames: to count; what is done to them before they are learned from changes no edge, and is left out.
        cutoff: Å.
        processes: that count at once; more than one are forked, which a process must not be that has computed with
            several threads.

    Raises:
        ImpossibleGeometry: names the frame.
    """
    kept = KeptCounts(frames.dataset, cutoff)
    unknown = kept.unknown(frames.places)
    if len(unknown):
        print(f"counting the neighbours of {len(unknown)} frames within {cutoff:g} Å, once", flush=True)
        in_order = frames.as_read().taken(unknown[np.argsort(frames.places[unknown])])
        for start in range(0, len(in_order), KEPT_AFTER):
            part = in_order[start : start + KEPT_AFTER]
            kept.add(part.places, _shared(part, cutoff, processes))
    return kept.counts[frames.places]


class KeptCounts:
    """Numbers of edges of the frames of a dataset file, kept beside it.

    Of several processes that add to them at once, some may lose what they added, which is counted again when it is
    asked for.
    """

    def __init__(self, dataset: Dataset, cutoff: float) -> None:
        """Read what is known.

        Args:
            dataset: whose frames are counted.
            cutoff: Å.
        """
        self._path = dataset.path.with_name(f"{dataset.path.stem}.edges-{cutoff:.6g}.npz")
        digest = hashlib.sha256(f"{cutoff!r}".encode())
        for digests in dataset.digests_of(np.arange(len(dataset))):
            digest.update(digests.tobytes())
        self._of = np.frombuffer(digest.digest(), dtype=np.uint8)
        self.counts = np.full(len(dataset), UNKNOWN, dtype=np.int64)
        """(M,) by place in the file."""
        self._take_what_is_kept()
        self._keeping = True

    def unknown(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of some frames are not counted yet, from 0."""
        return np.flatnonzero(self.counts[places] == UNKNOWN)

    def add(self, places: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Add the numbers of some frames, here and, where the disk allows it, to what is kept."""
        self.counts[places] = counts
        if not self._keeping:
            return
        self._take_what_is_kept()
        try:
            write_atomically(self._path, lambda path: np.savez(path, counts=self.counts, of=self._of))
        except OSError as error:
            print(f"{refusal(error) or error}; numbers of neighbours are not kept", flush=True)
            self._keeping = False

    def _take_what_is_kept(self) -> None:
        """Take what was counted by others."""
        try:
            with np.load(self._path) as kept:
                of, counts = kept["of"], kept["counts"]
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
            return  # nothing is there, or it is damaged
        if np.array_equal(of, self._of) and counts.shape == self.counts.shape:
            self.counts = np.where(self.counts == UNKNOWN, counts, self.counts)


def _shared(frames: StoredView, cutoff: float, processes: int) -> NDArray[np.int64]:
    """Count edges of frames by several processes."""
    blocks = _Blocks(frames, cutoff)
    shared = processes > 1 and len(blocks) > 1
    loader = DataLoader[Counted](
        blocks,  # type: ignore[arg-type]  # it is a sequence
        batch_size=None,
        num_workers=min(processes, len(blocks)) if shared else 0,
        collate_fn=_as_it_is,  # type: ignore[arg-type]  # what it gives is a block already
        multiprocessing_context="fork" if shared else None,
    )
    return np.concatenate([_counts_of(block) for block in loader])


Counted = NDArray[np.int64] | PiwslError
"""Numbers of edges, or why they could not be found."""


class _Blocks:
    """Numbers of edges of frames, some at a time, for another process, which has an error arrive as it is."""

    def __init__(self, frames: StoredView, cutoff: float) -> None:
        self._frames, self._cutoff = frames, cutoff

    def __len__(self) -> int:
        return -(-len(self._frames) // COUNTED_AT_ONCE)

    def __getitem__(self, block: int) -> Counted:
        start = block * COUNTED_AT_ONCE
        try:
            return count_edges(self._frames[start : start + COUNTED_AT_ONCE], self._cutoff)
        except PiwslError as error:
            return error


def _counts_of(counted: Counted) -> NDArray[np.int64]:
    if isinstance(counted, PiwslError):
        raise counted
    return counted


def _as_it_is(counted: Counted) -> Counted:
    return counted
