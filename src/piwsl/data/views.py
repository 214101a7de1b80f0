"""Frames to learn from as one sequence, whether they are in memory or are read when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray

from piwsl.data.batch import Batch, graph_of_frame
from piwsl.data.dataset import Dataset, add_content
from piwsl.data.edge_counts import count_edges, edges_of_stored
from piwsl.errors import PiwslError
from piwsl.structures.labels import REFERENCE
from piwsl.structures.structure import Structure

if TYPE_CHECKING:
    from hashlib import _Hash

READ_AT_ONCE = 1000
# Of a job's memory, what frames and their graphs may take together: the rest is for the network and its derivatives.
MOST_HELD = 0.5
# Bytes of a frame and its graph beside what is in the tensors: Python's objects, and those of torch.
OVERHEAD = 12_000
MEASURED = 50

Change = Callable[[Structure], Structure]


@dataclass(frozen=True, eq=False)
class View(Sequence[Structure], ABC):
    """Frames in an order, with what is done to each before it is learned from."""

    indices: NDArray[np.int64]
    """(M,) where they stand in what they were taken from: what messages call them."""

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> Structure: ...

    @overload
    def __getitem__(self, place: slice) -> Self: ...

    def __getitem__(self, place: int | slice) -> Structure | Self:
        if isinstance(place, slice):
            return self.taken(np.arange(len(self))[place])
        return self._structure(range(len(self))[place])

    @abstractmethod
    def _structure(self, place: int) -> Structure:
        """Return the frame at a place, from 0."""

    @abstractmethod
    def taken(self, places: NDArray[np.int64]) -> Self:
        """Return the frames at these places, in their order."""

    @abstractmethod
    def joined(self, others: Self) -> Self:
        """Return these frames and then others of the same source."""

    @abstractmethod
    def mapped(self, change: Change) -> Self:
        """Return the frames with a change made to each, which leaves geometry, elements and electrons as they are."""

    @abstractmethod
    def graphs(self, cutoff: float, dtype: torch.dtype) -> Sequence[Batch]:
        """Return a batch of each frame, with the neighbours within a cutoff (Å)."""

    def without_forces(self) -> Self:
        """Return the frames without forces of the reference level."""
        return self.mapped(_without_forces)

    def sizes(self) -> NDArray[np.int64]:
        """Return how many atoms each has, (M,)."""
        return np.array([len(structure.numbers) for structure in self], dtype=np.int64)

    def edges(self, cutoff: float, processes: int = 1) -> NDArray[np.int64]:
        """Return how many edges the graph of each has, (M,): neighbours within a cutoff (Å), summed over atoms.

        Args:
            cutoff: Å.
            processes: that count frames of a file, as of `edges_of_stored`.
        """
        return count_edges(self, cutoff)

    def elements(self) -> set[int]:
        """Return the atomic numbers that occur."""
        return {number for structure in self for number in structure.numbers.tolist()}

    def groups(self) -> list[str | None]:
        """Return what each belongs to; None where nobody said."""
        return [structure.group for structure in self]

    def electrons(self) -> set[tuple[int, int]]:
        """Return charge (e) and multiplicity (2S + 1), each pair that occurs."""
        return {(structure.charge, structure.multiplicity) for structure in self}

    def have_forces(self, level: str = REFERENCE) -> bool:
        """Whether any frame has forces of a level."""
        return any(structure.at_level(level).forces is not None for structure in self)

    def have_energies(self) -> bool:
        """Whether any frame has an energy of the reference level."""
        return any(structure.at_level(REFERENCE).energy is not None for structure in self)

    def places_with_energy(self) -> NDArray[np.int64]:
        """Return the places of the frames with an energy of the reference level."""
        return np.flatnonzero([structure.at_level(REFERENCE).energy is not None for structure in self])

    def with_energy(self) -> Self:
        """Return the frames with an energy of the reference level."""
        places = self.places_with_energy()
        return self if len(places) == len(self) else self.taken(places)

    def have_stress(self) -> bool:
        """Whether any frame has a stress of the reference level."""
        return any(structure.stress is not None for structure in self)

    def _changed(self, place: int, structure: Structure, change: Change) -> Structure:
        """Return a frame with a change made to it; what goes wrong names it."""
        try:
            return change(structure)
        except PiwslError as error:
            raise type(error)(f"frame {self.indices[place]}: {error}") from None

    def add_to(self, digest: _Hash) -> None:
        """Add the content to a hash, in order."""
        add_content(digest, self)

    def sampled(self, most: int) -> NDArray[np.int64]:
        """Return the places of the first so many frames, and of the first that hold elements which those lack."""
        places = [*range(min(most, len(self)))]
        missing = self.elements() - self[:most].elements()
        for place, structure in enumerate(self[most:] if missing else (), most):
            if here := missing.intersection(structure.numbers.tolist()):
                places.append(place)
                missing -= here
            if not missing:
                break
        return np.array(places, dtype=np.int64)

    def sample(self, most: int) -> list[Structure]:
        """Return the frames at these places."""
        return [*self.taken(self.sampled(most))]


@dataclass(frozen=True, eq=False)
class HeldView(View):
    """Frames in memory."""

    structures: list[Structure]
    written: StoredView | None = None
    """The same frames as they stand in the file that they were read from, if they were."""

    def __iter__(self) -> Iterator[Structure]:
        return iter(self.structures)

    def _structure(self, place: int) -> Structure:
        return self.structures[place]

    def taken(self, places: NDArray[np.int64]) -> Self:
        """Return the frames at these places, in their order."""
        written = None if self.written is None else self.written.taken(places)
        structures = [self.structures[place] for place in places]
        return replace(self, indices=self.indices[places], structures=structures, written=written)

    def joined(self, others: Self) -> Self:
        """Return these frames and then others."""
        both = self.written, others.written
        written = None if both[0] is None or both[1] is None else both[0].joined(both[1])
        indices = np.concatenate([self.indices, others.indices])
        return replace(self, indices=indices, structures=self.structures + others.structures, written=written)

    def mapped(self, change: Change) -> Self:
        """Return the frames with a change made to each."""
        changed = [self._changed(place, structure, change) for place, structure in enumerate(self.structures)]
        return replace(self, structures=changed)

    def add_to(self, digest: _Hash) -> None:
        """Add the content to a hash, in order; of frames of a file as if they were still there.

        A training goes on from its checkpoint whether its frames fitted the memory of the job before or not.
        """
        if self.written is None:
            super().add_to(digest)
        else:
            self.written.add_written(digest)
            add_content(digest, self[:READ_AT_ONCE])

    def graphs(self, cutoff: float, dtype: torch.dtype) -> list[Batch]:
        """Return a batch of each frame, made at once: what cannot be searched for neighbours is found now."""
        return [*Graphs(self, cutoff, dtype)]


@dataclass(frozen=True, eq=False)
class StoredView(View):
    """Frames of a dataset file, each read, and changed, when it is asked for: none is in memory."""

    dataset: Dataset
    places: NDArray[np.int64]
    """(M,) in the file."""
    changes: tuple[Change, ...] = field(default=())

    def __iter__(self) -> Iterator[Structure]:
        for start in range(0, len(self), READ_AT_ONCE):
            read = self.dataset.structures(self.places[start : start + READ_AT_ONCE])
            yield from (self._with_changes(start + place, structure) for place, structure in enumerate(read))

    def _structure(self, place: int) -> Structure:
        return self._with_changes(place, self.dataset.structure(int(self.places[place])))

    def _with_changes(self, place: int, structure: Structure) -> Structure:
        for change in self.changes:
            structure = self._changed(place, structure, change)
        return structure

    def taken(self, places: NDArray[np.int64]) -> Self:
        """Return the frames at these places, in their order."""
        return replace(self, indices=self.indices[places], places=self.places[places])

    def joined(self, others: Self) -> Self:
        """Return these frames and then others of the same file, changed likewise."""
        indices = np.concatenate([self.indices, others.indices])
        return replace(self, indices=indices, places=np.concatenate([self.places, others.places]))

    def mapped(self, change: Change) -> Self:
        """Return the frames with a change made to each."""
        return replace(self, changes=(*self.changes, change))

    def graphs(self, cutoff: float, dtype: torch.dtype) -> Graphs:
        """Return a batch of each frame, made when it is asked for."""
        return Graphs(self, cutoff, dtype)

    def sizes(self) -> NDArray[np.int64]:
        """Return how many atoms each has, (M,), without reading any."""
        return self.dataset.sizes()[self.places]

    def as_read(self) -> Self:
        """Return the frames without the changes that were to be made to each."""
        return replace(self, changes=())

    def edges(self, cutoff: float, processes: int = 1) -> NDArray[np.int64]:
        """Return how many edges each has, (M,): counted once, and kept beside the file."""
        return edges_of_stored(self, cutoff, processes)

    def elements(self) -> set[int]:
        """Return the atomic numbers that occur."""
        return self.dataset.elements_of(self.places)

    def groups(self) -> list[str | None]:
        """Return what each belongs to, without reading any."""
        return self.dataset.groups_of(self.places)

    def electrons(self) -> set[tuple[int, int]]:
        """Return charge (e) and multiplicity (2S + 1), each pair that occurs."""
        return self.dataset.electrons_of(self.places)

    def have_forces(self, level: str = REFERENCE) -> bool:
        """Whether any frame has forces of a level."""
        if level == REFERENCE and _without_forces in self.changes:
            return False
        return bool(self.dataset.labelled(level, "forces")[self.places].any()) and super().have_forces(level)

    def have_energies(self) -> bool:
        """Whether any frame has an energy of the reference level."""
        return bool(self.dataset.labelled(REFERENCE, "energy")[self.places].any())

    def places_with_energy(self) -> NDArray[np.int64]:
        """Return the places of the frames with an energy of the reference level, without reading any."""
        return np.flatnonzero(self.dataset.labelled(REFERENCE, "energy")[self.places])

    def have_stress(self) -> bool:
        """Whether any frame has a stress of the reference level."""
        return bool(self.dataset.labelled(REFERENCE, "stress")[self.places].any()) and super().have_stress()

    def add_to(self, digest: _Hash) -> None:
        """Add what was written of the frames, their order, and what becomes of the first ones, to a hash."""
        self.add_written(digest)
        add_content(digest, self[:READ_AT_ONCE])

    def add_written(self, digest: _Hash) -> None:
        """Add what was written of the frames, and their order, to a hash."""
        digest.update(self.places.tobytes())
        for digests in self.dataset.digests_of(self.places):
            digest.update(digests.tobytes())


@dataclass(frozen=True, eq=False)
class Graphs(Sequence[Batch]):
    """Batches of one structure each, made when they are asked for."""

    frames: View
    cutoff: float
    """Å."""
    dtype: torch.dtype

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, place: int) -> Batch: ...

    @overload
    def __getitem__(self, place: slice) -> Self: ...

    def __getitem__(self, place: int | slice) -> Batch | Self:
        if isinstance(place, slice):
            return replace(self, frames=self.frames[place])
        return graph_of_frame(self.frames[place], self.cutoff, self.dtype, int(self.frames.indices[place]))


def held(structures: Sequence[Structure], indices: NDArray[np.int64] | None = None) -> HeldView:
    """Return frames in memory; by default they stand where they stand in the sequence."""
    return HeldView(np.arange(len(structures)) if indices is None else indices, list(structures))


def stored(dataset: Dataset, places: NDArray[np.int64], first: int = 0) -> StoredView:
    """Return frames of a dataset file, to be read when they are asked for.

    Args:
        dataset: stays open as long as the view is used.
        places: (M,) of the frames in the file.
        first: what messages call the first frame of the file.
    """
    return StoredView(first + places, dataset, places)


def in_memory(frames: Sequence[StoredView], cutoff: float, memory: float, copies: int = 1) -> list[View]:
    """Return frames in memory if they all fit, and as they are if not, with a line that says so.

    Args:
        frames: those of one training.
        cutoff: Å, of the graphs that will be made of them.
        memory: bytes that the training may take.
        copies: how many graphs of each there will be.
    """
    needed = copies * sum(_bytes(each, cutoff) for each in frames)
    if needed > MOST_HELD * memory:
        print(
            f"frames stay in the file: with their neighbours they would take {needed / 1e9:.2g} GB, and may take half "
            f"of the {memory / 1e9:.2g} GB that a process of the training has, by mem_mb or what the machine has left",
            flush=True,
        )
        return [*frames]
    return [replace(held(each.dataset.structures(each.places), each.indices), written=each) for each in frames]


def _bytes(frames: StoredView, cutoff: float) -> float:
    """Estimate how much memory frames and their graphs would take together."""
    here_and_there = np.unique(np.linspace(0, len(frames) - 1, MEASURED).astype(np.int64)) if frames else frames.places
    found = frames.taken(here_and_there).graphs(cutoff, torch.float32)
    each = [sum(tensor.nbytes for tensor in made.tensors()) for made in found]
    return len(frames) * (OVERHEAD + float(np.mean(each))) if each else 0.0


def _without_forces(structure: Structure) -> Structure:
    return structure.labelled(REFERENCE, replace(structure.at_level(REFERENCE), forces=None))
