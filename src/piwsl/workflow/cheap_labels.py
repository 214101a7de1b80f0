"""Jobs that label frames with the cheap levels of a dataset, computed or given: how many there are, what they take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ase import Atoms

from piwsl.config import ComputedDataset, GivenDataset, Level
from piwsl.config.level_checks import unquestioned
from piwsl.data.dataset import PARTS
from piwsl.data.dropping import frames_left
from piwsl.data.given import examples
from piwsl.reference.planning import (
    KnownFrames,
    LabellingJob,
    Plan,
    Planned,
    cheap_batch,
    cheap_batches,
    frames_wanted,
    labelled_parts,
    plan_cheap_level,
    structures_with_pool,
)


class CheapJobs:
    """The jobs of one dataset."""

    def __init__(
        self,
        name: str,
        dataset: ComputedDataset | GivenDataset,
        levels: Mapping[str, Level],
        parts: Sequence[str] = PARTS,
    ) -> None:
        """Keep name, section, those of the experiment's levels that it names, and the parts that are labelled."""
        self.name = name
        self._labelled = parts
        self.levels = {cheap: unquestioned(levels[cheap]) for cheap in dataset.cheap_levels}
        self._dataset = dataset

    @cached_property
    def _examples(self) -> list[Atoms]:
        return (
            structures_with_pool(self._dataset)
            if isinstance(self._dataset, ComputedDataset)
            else examples(self._dataset)
        )

    @cached_property
    def parts(self) -> dict[str, int]:
        """How many frames each part has, or each round of an acquisition; without those that have none."""
        dataset = self._dataset
        found = (
            {name: frames_wanted(dataset, name) for part in self._labelled for name in labelled_parts(dataset, part)}
            if isinstance(dataset, ComputedDataset)
            else {part: frames_left(dataset, part) for part in self._labelled}
        )
        return {part: frames for part, frames in found.items() if frames > 0}

    def batches(self, level: str, part: str, done: Iterable[tuple[int, int]] = ()) -> dict[str, LabellingJob]:
        """Return the jobs of a level and part by name; `done` are first frame and the one after the last of others."""
        return cheap_batches(part, self.parts.get(part, 0), self._examples, self.levels[level], done)

    def batch(self, level: str, part: str, name: str) -> LabellingJob:
        """Return the job of a name, however jobs would be cut now."""
        return cheap_batch(part, self._examples, self.levels[level], name)

    def plans(self, known: KnownFrames, store: Path, planned: Planned | None = None) -> Iterator[Plan]:
        """Say what each level and part takes.

        Args:
            known: frames, which are looked up in the store.
            store: folder of finished energies.
            planned: what plans before these have counted; these are added.
        """
        planned = planned or Planned()
        for level_name, level in self.levels.items():
            for part in self.parts:
                batches = list(self.batches(level_name, part).values())
                yield plan_cheap_level(self.name, batches, level_name, level, known, store, planned)
