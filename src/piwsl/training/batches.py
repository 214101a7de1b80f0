"""The order in which frames are learned from: a function of seed and step, so that it survives interruptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from piwsl.data.batch import Batch, collate
from piwsl.structures.seeds import generator


def frames_of_step(frames: int, batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """Return which frames a step learns from: the stream of seeded permutations, cut into batches.

    Args:
        frames: how many there are.
        batch_size: frames a step; at most all of them.
        seed: of the run.
        step: optimiser step, from 0.
    """
    batch_size = min(batch_size, frames)
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, within = np.divmod(positions, frames)
    orders = {epoch: generator("batches", seed, epoch).permutation(frames) for epoch in set(epochs.tolist())}
    return np.array([orders[epoch][place] for epoch, place in zip(epochs.tolist(), within.tolist(), strict=True)])


class StepBatches:
    """The batches of a range of steps, collated when asked for.

    A process without a frame of its own, where there are more processes than frames, gets one that shall not count.
    """

    def __init__(
        self,
        graphs: list[Batch],
        batch_size: int,
        seed: int,
        steps: range,
        done: Callable[[], int] = lambda: 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Keep the training graphs and the range of steps.

        Args:
            graphs: training frames.
            batch_size: frames a step.
            seed: of the run.
            steps: the stretch.
            done: asked when iteration begins: steps before that one were made before an interruption.
            rank: of this process among those that share the frames of a step.
            ranks: how many there are.
        """
        self.graphs, self.batch_size, self.seed, self.steps, self.done = graphs, batch_size, seed, steps, done
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        for step in range(max(self.steps.start, self.done()), self.steps.stop):
            chosen = frames_of_step(len(self.graphs), self.batch_size, self.seed, step)
            own = [self.graphs[index] for index in chosen[self.rank :: self.ranks]]
            yield collate(own or self.graphs[:1])
