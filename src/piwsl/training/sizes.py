"""How large frames are, in what the size of a step is bounded by, and what is too large for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from piwsl.config import Architecture, Loss
from piwsl.config.training import Largest
from piwsl.data.views import View
from piwsl.errors import PiwslError
from piwsl.losses import largest_displacement
from piwsl.training.frames import Names, TrainingFrames


def reach(model: Architecture, loss: Loss) -> float:
    """Return within which distance (Å) neighbours are looked for, so that displaced copies have theirs, too."""
    # Two atoms may approach each other by one displacement each.
    skin = 2 * largest_displacement(loss.displacement) if loss.displaced else 0.0
    return model.cutoff + skin


@dataclass(frozen=True)
class Sizes:
    """Numbers of atoms, or of edges, of frames."""

    frames: NDArray[np.int64]
    """(M,) ascending: what messages call them."""
    sizes: NDArray[np.int64]
    """(M,)."""

    @classmethod
    def found(cls, frames: TrainingFrames, model: Architecture, loss: Loss, processes: int = 1) -> Sizes | None:
        """Measure all that a training may learn from; None where the size of a step is a number of structures.

        A frame without an edge counts as one: no step has more structures than it has edges.

        Args:
            frames: of a training; members of a committee learn from those that the others validate on.
            model: says what is bounded, and the cutoff of edges.
            loss: says by how much displacements extend it.
            processes: that count edges at once, as of `piwsl.data.edge_counts`.

        Raises:
            ImpossibleGeometry: names a frame that has no neighbour list.
        """
        if (limit := model.training.limit) is None:
            return None
        labelled = frames.training if model.members == 1 else frames.training.joined(frames.validation)
        views = (labelled, frames.pool)
        if limit.unit == "atoms":
            sizes = [view.sizes() for view in views]
        else:
            sizes = [np.maximum(view.edges(reach(model, loss), processes), 1) for view in views]
        numbers = np.concatenate([view.indices for view in views])
        order = np.argsort(numbers)
        return cls(numbers[order], np.concatenate(sizes)[order])

    def of(self, view: View) -> NDArray[np.int64]:
        """Return the sizes of the frames of a view, (M,)."""
        return self.sizes[np.searchsorted(self.frames, view.indices)]

    def largest(self, view: View) -> Largest | None:
        """Return the largest frame of a view; None where it has none."""
        if not view:
            return None
        sizes = self.of(view)
        place = int(sizes.argmax())
        return Largest(str(view.indices[place]), int(sizes[place]))


def check_room(
    of_members: Sequence[TrainingFrames], model: Architecture, loss: Loss, sizes: Sizes, names: Names
) -> None:
    """Refuse frames that a step has no room for.

    Args:
        of_members: frames that each member of a committee takes.
        model: says how large a step may be.
        loss: says which part of it is the pool's.
        sizes: of all frames.
        names: what messages call the model.

    Raises:
        PiwslError: names the largest frame.
    """
    for frames in of_members:
        share = frames.pool_share(model, loss)
        problem = model.training.room_problem(share, sizes.largest(frames.training), sizes.largest(frames.pool))
        if problem is not None:
            raise PiwslError(f"{names.model}: {problem}")
