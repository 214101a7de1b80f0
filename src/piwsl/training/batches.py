"""The order in which frames are learned from: a function of seed and step, so that it survives interruptions."""

from __future__ import annotations

import heapq
import signal
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from piwsl.data.batch import Batch, collate
from piwsl.errors import PiwslError
from piwsl.losses import StepPlaces
from piwsl.structures.seeds import generator

# Batches that each loader has ready.
AHEAD = 4
# After a job has been told to end, and before it is ended: the step that is being made is done by then, and its
# checkpoint written. (Whose parent has gone ends within some seconds in any case.)
SECONDS_TO_A_CHECKPOINT = 80
# What schedulers and terminals send to all processes of a job.
SENT_TO_ALL = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)

Stream = Literal["batches", "pool"]
NO_FRAMES: NDArray[np.int64] = np.empty(0, dtype=np.int64)


def frames_of_step(frames: int, batch_size: int, seed: int, step: int, stream: Stream = "batches") -> NDArray[np.int64]:
    """Return which frames a step learns from: the stream of seeded permutations, cut into batches.

    Args:
        frames: how many there are.
        batch_size: frames a step; at most all of them.
        seed: of the run.
        step: optimiser step, from 0.
        stream: of labelled frames, or of those of the pool.
    """
    batch_size = min(batch_size, frames)
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, within = np.divmod(positions, frames)
    orders = {epoch: _order_of_epoch(frames, seed, epoch, stream) for epoch in set(epochs.tolist())}
    places = zip(epochs.tolist(), within.tolist(), strict=True)
    return np.array([orders[epoch][place] for epoch, place in places], dtype=np.int64)


@lru_cache(maxsize=4)  # of labelled frames and of the pool, an epoch that ends in a step and the one that begins
def _order_of_epoch(frames: int, seed: int, epoch: int, stream: Stream) -> NDArray[np.int64]:
    """Return the order in which an epoch goes through the frames: of millions it takes as long as a step."""
    order = generator(stream, seed, epoch).permutation(frames)
    order.setflags(write=False)
    return order


def sizes_of_step(labelled: int, pool: int, batch_size: int, share: float) -> tuple[int, int]:
    """Return how many labelled frames and how many of the pool a step learns from.

    Args:
        labelled: how many labelled training frames there are.
        pool: how many frames the pool has.
        batch_size: frames a step, two or more where there is a share.
        share: of the step's frames that are of the pool; where it is not 0, at least one is, and at least one is not.
    """
    unlabelled = min(max(1, round(share * batch_size)), batch_size - 1) if share else 0
    return min(batch_size - unlabelled, labelled), min(unlabelled, pool)


class AnyOrder(Protocol):
    """Which frames the steps of a run learn from, and at which places: labelled ones and, among them, the pool's.

    Frames of the pool are spread evenly, from the second place on: the first places of a step, which a term with a
    share looks at, hold both kinds in the proportion of the whole, two places at least one of each.
    """

    def frames(self, step: int) -> NDArray[np.int64]:
        """Return the frames of a step, from 0, by place; those of the pool are counted on from the labelled ones."""
        ...

    def places(self, step: int, rank: int, ranks: int) -> StepPlaces:
        """Return the places of a step that one of several processes has."""
        ...


def _places_of_pool(labelled: int, unlabelled: int) -> NDArray[np.bool_]:
    """Return which places of a step frames of the pool have, of all places."""
    others = np.arange(labelled + unlabelled)  # places after the first one, up to each place
    up_to = -(-others * unlabelled // max(1, others[-1]))  # rounded up
    return np.diff(up_to, prepend=0) > 0


@dataclass(frozen=True)
class Order:
    """An order in which steps have equally many structures (`AnyOrder`)."""

    labelled: int
    """How many labelled training frames there are."""
    batch_size: int
    seed: int
    pool: int = 0
    """How many frames the pool has."""
    share: float = 0.0
    """Of a step's frames, how much is taken from the pool."""

    @property
    def of_pool(self) -> NDArray[np.bool_]:
        """Which places of a step frames of the pool have, of all places."""
        return _places_of_pool(*sizes_of_step(self.labelled, self.pool, self.batch_size, self.share))

    def places(self, _step: int, rank: int, ranks: int) -> StepPlaces:
        """Return the places of a step that one of several processes has: about equally many, the same at all steps."""
        return StepPlaces.in_turn(len(self.of_pool), rank, ranks)

    def frames(self, step: int) -> NDArray[np.int64]:
        """Return the frames of a step, from 0, by place; those of the pool are counted on from the labelled ones."""
        of_pool = self.of_pool
        unlabelled = int(of_pool.sum())
        frames = np.empty(len(of_pool), dtype=np.int64)
        frames[~of_pool] = frames_of_step(self.labelled, len(of_pool) - unlabelled, self.seed, step)
        frames[of_pool] = self.labelled + frames_of_step(self.pool, unlabelled, self.seed, step, stream="pool")
        return frames


class Packing:
    """Frames by steps no larger than a limit: the seeded permutations of epochs, each cut into whole steps.

    An epoch takes as few steps as its order allows, and the fullest of them is as small as their number allows. Which
    frames a step has is a function of sizes, limit, seed and step; those of a late one are found by going once through
    the sizes of all epochs before.
    """

    def __init__(self, sizes: NDArray[np.int64], most: int, seed: int, stream: Stream = "batches") -> None:
        """Keep what decides.

        Args:
            sizes: (M,) numbers of atoms, or of edges, none above the limit.
            most: of a step at most.
            seed: of the run.
            stream: of labelled frames, or of those of the pool.
        """
        self._sizes, self._most, self._seed, self._stream = sizes, most, seed, stream
        self._first_steps = [0]  # of epochs
        self._even_cuts = lru_cache(maxsize=2)(self._cuts)

    def frames(self, step: int) -> NDArray[np.int64]:
        """Return the frames of a step, from 0."""
        while self._first_steps[-1] <= step:
            epoch = len(self._first_steps) - 1
            self._first_steps.append(self._first_steps[-1] + len(ends_of_steps(self._in_order(epoch), self._most)))
        epoch = bisect_right(self._first_steps, step) - 1
        cuts, number = self._even_cuts(epoch), step - self._first_steps[epoch]
        return self._order(epoch)[cuts[number] : cuts[number + 1]]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return _order_of_epoch(len(self._sizes), self._seed, epoch, self._stream)

    def _in_order(self, epoch: int) -> NDArray[np.int64]:
        return self._sizes[self._order(epoch)]

    def _cuts(self, epoch: int) -> list[int]:
        return [0, *even_ends_of_steps(self._in_order(epoch), self._most)]


def ends_of_steps(sizes: NDArray[np.int64], most: int) -> list[int]:
    """Cut a row of frames into steps, each with all frames that it has room for.

    Args:
        sizes: (M,) numbers of atoms, or of edges, none above `most`.
        most: of a step at most.

    Returns:
        Where steps end, the last at M. No cut into fewer steps keeps the limit.
    """
    totals, ends, done = np.cumsum(sizes), [], 0
    while done < len(sizes):
        before = int(totals[done - 1]) if done else 0
        done = int(np.searchsorted(totals, before + most, side="right"))
        ends.append(done)
    return ends


def even_ends_of_steps(sizes: NDArray[np.int64], most: int) -> list[int]:
    """Cut a row of frames into as few steps as `ends_of_steps`, with the lowest limit that needs no more."""
    ends = ends_of_steps(sizes, most)
    least = max(int(sizes.max()), -(-int(sizes.sum()) // len(ends)))
    while least < most:
        middle = (least + most) // 2
        if len(found := ends_of_steps(sizes, middle)) > len(ends):
            least = middle + 1
        else:
            ends, most = found, middle
    return ends


def dealt(sizes: NDArray[np.int64], ranks: int) -> list[list[int]]:
    """Deal structures to processes: the largest first, each to the process that has the least by then.

    No process has more than the mean of all and the largest structure together. Graham, SIAM J. Appl. Math. 17, 416
    (1969).

    Args:
        sizes: (M,) numbers of atoms, or of edges.
        ranks: how many processes there are.

    Returns:
        For each process, the places of its structures, ascending.
    """
    loads = [(0, rank) for rank in range(ranks)]  # a heap
    places: list[list[int]] = [[] for _ in loads]
    for place in np.argsort(-sizes, kind="stable").tolist():
        load, rank = loads[0]
        places[rank].append(place)
        heapq.heapreplace(loads, (load + int(sizes[place]), rank))
    return [sorted(own) for own in places]


class OrderBySize:
    """An order in which steps have about equally many atoms, or edges, and no more than a limit (`AnyOrder`)."""

    def __init__(
        self,
        labelled: NDArray[np.int64],
        most: tuple[int, int],
        seed: int,
        pool: NDArray[np.int64] = NO_FRAMES,
    ) -> None:
        """Keep the sizes of frames.

        Args:
            labelled: (M,) numbers of atoms, or of edges, of labelled training frames.
            most: of labelled frames of a step, and of frames of the pool, on all devices together; no frame has more.
            seed: of the run.
            pool: (P,) likewise of the frames of the pool.
        """
        self._labelled, self._sizes = len(labelled), np.concatenate([labelled, pool])
        self._of_labelled = Packing(labelled, most[0], seed)
        self._of_pool = Packing(pool, most[1], seed, "pool") if most[1] and len(pool) else None

    def places(self, step: int, rank: int, ranks: int) -> StepPlaces:
        """Return the places of a step that one of several processes has: those of about equally many atoms or edges."""
        sizes = self._sizes[self.frames(step)]
        return StepPlaces(dealt(sizes, ranks)[rank], len(sizes))

    def frames(self, step: int) -> NDArray[np.int64]:
        """Return the frames of a step, from 0, by place; those of the pool are counted on from the labelled ones."""
        labelled = self._of_labelled.frames(step)
        if self._of_pool is None:
            return labelled
        unlabelled = self._of_pool.frames(step)
        of_pool = _places_of_pool(len(labelled), len(unlabelled))
        frames = np.empty(len(of_pool), dtype=np.int64)
        frames[~of_pool], frames[of_pool] = labelled, self._labelled + unlabelled
        return frames


class StepBatches:
    """The batches of a range of steps, collated when asked for, or by processes beside the one that learns.

    A process without a frame of its own, where there are more processes than frames, gets one that shall not count.
    """

    def __init__(
        self,
        graphs: Sequence[Batch],
        order: AnyOrder,
        steps: range,
        done: Callable[[], int] = lambda: 0,
        rank: int = 0,
        ranks: int = 1,
        pool: Sequence[Batch] = (),
        loaders: int = 0,
    ) -> None:
        """Keep the graphs to learn from and the range of steps.

        Args:
            graphs: of labelled training frames.
            order: says which a step learns from.
            steps: the stretch.
            done: asked when iteration begins: steps before that one were made before an interruption.
            rank: of this process among those that share the frames of a step.
            ranks: how many there are.
            pool: graphs of the frames of the pool.
            loaders: processes that make batches ahead; by default none, and each is made when it is asked for.
        """
        self.graphs, self.pool, self.order, self.steps, self.done = graphs, pool, order, steps, done
        self.rank, self.ranks, self.loaders = rank, ranks, loaders
        self._iterator: Generator[Batch, None, None] | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of an optimiser step, wherever the stretch begins."""
        own = self.order.frames(step)[self.order.places(step, self.rank, self.ranks).own]
        return collate([self._graph(index) for index in own.tolist() or [0]])

    def _graph(self, index: int) -> Batch:
        return self.graphs[index] if index < len(self.graphs) else self.pool[index - len(self.graphs)]

    def __iter__(self) -> Iterator[Batch]:
        self._iterator = self._batches()
        return self._iterator

    def close(self) -> None:
        """End the processes that make batches."""
        if self._iterator is not None:
            self._iterator.close()

    def _batches(self) -> Generator[Batch, None, None]:
        steps = range(max(self.steps.start, self.done()), self.steps.stop)
        if not self.loaders or not steps:
            yield from (self[step] for step in steps)
            return
        # The order of a long epoch is found once, before the processes part.
        self.order.frames(steps.start)
        loader = DataLoader[Made](
            _Making(self),  # type: ignore[arg-type]  # it is a mapping from steps to batches
            batch_size=None,
            sampler=steps,
            num_workers=min(self.loaders, len(steps)),
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # what the mapping has is a batch already
            worker_init_fn=_outlive_signals,
            prefetch_factor=AHEAD,
            multiprocessing_context="fork",
        )
        with _signals_wait():
            ahead = iter(loader)
        try:
            for _ in steps[1:]:
                yield _batch(next(ahead))
            # Its processes end when it does; whoever knows how many batches there are does not ask for one more.
            (last,) = ahead
            yield _batch(last)
        finally:
            del ahead


Made = Batch | PiwslError
"""A batch, or why it could not be made."""


class _Making:
    """The batches of steps for another process, which has an error arrive as it is, and not as text."""

    def __init__(self, batches: StepBatches) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> Made:
        try:
            return self._batches[step]
        except PiwslError as error:
            return error


def _batch(made: Made) -> Batch:
    if isinstance(made, PiwslError):
        raise made
    return made


def _as_it_is(made: Made) -> Made:
    return made


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Block signals that are sent to all, also in processes that start: before they heed them, one would end them."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SENT_TO_ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _outlive_signals(_worker: int) -> None:
    """Leave stopping signals to the process that learns: it makes its step, writes a checkpoint, and ends its loaders.

    A scheduler sends them to all processes of a job.
    """
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SENT_TO_ALL)


def _end_soon(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS_TO_A_CHECKPOINT)
