"""What a training learns from: labelled frames, some of them for validation, and a pool; and what it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from piwsl.config import Architecture, Loss, Run
from piwsl.data.dataset import POOL, TRAINING, Dataset
from piwsl.data.memory import UNKNOWN
from piwsl.data.splits import split_run
from piwsl.data.views import Change, HeldView, StoredView, View, held, in_memory, stored
from piwsl.errors import PiwslError
from piwsl.models import Baseline, PairPotential
from piwsl.structures.labels import REFERENCE, WEAK
from piwsl.structures.structure import Structure


@dataclass(frozen=True)
class Names:
    """What messages call data, model and loss."""

    dataset: str = "the data"
    model: str = "the model"
    loss: str = "the loss"

    @classmethod
    def of(cls, run: Run) -> Names:
        """Return what a point of the grid calls them."""
        return cls(f"dataset '{run.dataset}'", f"model '{run.model}'", f"loss '{run.loss}'")


@dataclass(frozen=True)
class TrainingFrames:
    """Labelled frames and those of a pool."""

    training: View
    validation: View
    pool: View = field(default_factory=lambda: held([]))
    """Frames without reference labels, or with those of a teacher; none where nothing takes any."""
    free_atoms: dict[int, float] = field(default_factory=dict)
    """Energies at the level of the labels, atomic number to eV."""
    distributions: Mapping[str, str] = field(default_factory=dict)
    """Those of others that read or computed the frames, by kind."""
    level: str | None = None
    """Of the labels, in words, where it is known."""
    windows: Sequence[NDArray[np.int64]] | None = None
    """As of `piwsl.data.splits.Split.of_members`."""

    @property
    def taught(self) -> bool:
        """Whether a teacher labelled the pool."""
        return self.pool.have_energies()

    def content_hash(self) -> str:
        """Return a hash of all frames, in order."""
        digest = hashlib.sha256()
        for frames in (self.training, self.validation, self.pool):
            frames.add_to(digest)
        return digest.hexdigest()[:16]

    def have_forces(self, level: str = REFERENCE) -> bool:
        """Whether any frame that is learned from has forces of a level."""
        return self.training.have_forces(level) or self.pool.have_forces(level)

    def electrons(self) -> list[dict[str, int]]:
        """Return charge (e) and multiplicity (2S + 1) of the labelled frames, each pair once."""
        found = self.training.electrons() | self.validation.electrons()
        return [{"charge": charge, "multiplicity": multiplicity} for charge, multiplicity in sorted(found)]

    def pool_share(self, model: Architecture, loss: Loss) -> float:
        """Return the share of each step's frames that is taken from the pool: what is taught, or what the loss says."""
        return model.training.taught_share if self.taught else loss.pool

    def without(self, pair: PairPotential) -> TrainingFrames:
        """Return the frames with what a pair potential leaves of their labels."""
        return self._mapped(pair.subtracted_from)

    def _mapped(self, change: Change) -> TrainingFrames:
        return replace(
            self,
            training=self.training.mapped(change),
            validation=self.validation.mapped(change),
            pool=self.pool.mapped(change),
        )

    def knowing(self, baseline: Baseline) -> TrainingFrames:
        """Return the frames with labels of a baseline, which is computed of those that have none.

        Raises:
            PiwslError: the baseline gave up on a frame, or cannot be run here.
        """
        return self._mapped(baseline.known)

    def less(self, baseline: Baseline) -> TrainingFrames:
        """Return the frames with what a baseline leaves of their labels.

        It is computed of those that do not have its labels. Free atoms are left out: cheap levels do not agree with
        dear ones about them, and differences of molecules do not need them.

        Raises:
            PiwslError: the baseline gave up on a frame, or cannot be run here.
        """
        return replace(self._mapped(baseline.rest), free_atoms={})

    def of_member(self, member: int) -> TrainingFrames:
        """Return the frames as a member of a committee takes them: each validates on the next ones in the seed's order.

        The first takes them as they are; beyond the last frame the order begins again. Where whole groups are validated
        on, `windows` say which.

        Args:
            member: from 0.
        """
        together, count = self.validation.joined(self.training), len(self.validation)
        order = np.roll(np.arange(len(together)), -member * count)
        if self.windows is not None:
            own = self.windows[member]
            order, count = np.concatenate([own, np.setdiff1d(np.arange(len(together)), own)]), len(own)
        return replace(self, training=together.taken(order[count:]), validation=together.taken(order[:count]))

    def of_members(self, members: int) -> list[TrainingFrames]:
        """Return the frames as each member of a committee takes them."""
        return [self.of_member(member) for member in range(members)]

    def elements(self) -> set[int]:
        """Return the atomic numbers that are learned from."""
        return self.training.elements()

    @property
    def in_memory(self) -> bool:
        """Whether none is read from a file on the way."""
        return all(isinstance(frames, HeldView) for frames in (self.training, self.validation, self.pool))

    def seen_by(self, loss: Loss) -> TrainingFrames:
        """Return the frames without what a loss shall not see: neither directions nor the choice of weights may."""
        wanted = loss.pool or self.taught
        seen = self if wanted else replace(self, pool=held([]))
        if loss.forces:
            return seen
        return replace(
            seen,
            training=seen.training.without_forces(),
            validation=seen.validation.without_forces(),
            pool=seen.pool.without_forces(),
        )

    def check(self, loss: Loss, names: Names) -> None:
        """Refuse frames that a loss could not learn from.

        Raises:
            PiwslError: the labels that it looks at are missing, energies that fix where those of the model begin, or a
                pool.
        """
        if loss.pool or self.taught:
            _check_pool(self, loss, names)
        _check_energies(self, loss, names)
        _check_labels(self, loss, names)


def frames_of_structures(
    structures: Sequence[Structure],
    model: Architecture,
    seed: int,
    pool: Sequence[Structure] = (),
    free_atoms: Mapping[int, float] | None = None,
) -> TrainingFrames:
    """Take labelled structures, some of them for validation, and a pool.

    Args:
        structures: with labels of the reference level.
        model: says how many validate.
        seed: chooses them.
        pool: without labels of that level.
        free_atoms: energies of free atoms at that level, atomic number to eV, where they are known.

    Raises:
        PiwslError: there is no structure, or one has neither energy nor forces.
    """
    if not structures:
        raise PiwslError("there is no frame to learn from")
    for position, structure in enumerate(structures):
        if not np.isfinite(structure.energy) and structure.forces is None:
            raise PiwslError(f"frame {position} has no REF_energy and no REF_forces")
    labelled = held(structures)
    split = split_run(np.arange(len(structures)), labelled.groups, len(structures), seed, model)
    return TrainingFrames(
        labelled.taken(split.training),
        labelled.taken(split.validation),
        held(pool, len(structures) + np.arange(len(pool))),
        dict(free_atoms or {}),
        windows=split.of_members,
    )


def frames_of_run(
    path: Path,
    pool_path: Path | None,
    run: Run,
    model: Architecture,
    loss: Loss,
    to_local_disk: bool = False,
    memory: float = UNKNOWN,
) -> TrainingFrames:
    """Read the frames of a point of the grid.

    Args:
        path: dataset file.
        pool_path: that of the pool, where it is not in the other.
        run: its size and seed choose the frames.
        model: says how many validate.
        loss: says whether there is a pool, where no teacher labelled one.
        to_local_disk: whether frames that do not fit the memory are read from a copy on a disk of this machine.
        memory: bytes that the training may take.

    Raises:
        PiwslError: fewer labelled frames than the size, or an element that is in others alone.
    """
    dataset = Dataset(path)
    available = dataset.indices(TRAINING)
    split = split_run(available, lambda: dataset.groups_of(available), run.size, run.seed, model)
    found = [stored(dataset, split.training), stored(dataset, split.validation)]
    _check_elements(run, found[0], dataset.elements(), by_group=split.of_members is not None)
    if loss.pool or model.teacher is not None:
        # No frame of the pool stands where a labelled one does.
        of_pool, first = (dataset, 0) if pool_path is None else (Dataset(pool_path), len(available))
        found.append(stored(of_pool, of_pool.indices(POOL), first))
    training, validation, *pools = in_memory(found, model.cutoff, memory, model.members)
    (pool,) = pools or [held([])]
    if to_local_disk and isinstance(training, StoredView):
        for each in {view.dataset for view in found}:
            each.move_to_local_disk()
    return TrainingFrames(training, validation, pool, dataset.atomic_energies(), windows=split.of_members)


def _check_elements(run: Run, training: View, needed: list[int], by_group: bool) -> None:
    """Refuse, before it is trained, a model that could not be tested: an element it has never seen."""
    if missing := sorted(set(needed) - training.elements()):
        names = ", ".join(chemical_symbols[number] for number in missing)
        raise PiwslError(
            f"the {len(training)} training frames of size {run.size}, seed {run.seed} hold no {names}, which other "
            f"frames of dataset '{run.dataset}' do; raise the size"
            f"{', or validate by frame' if by_group else ''}"
        )


def _check_pool(frames: TrainingFrames, loss: Loss, names: Names) -> None:
    """Refuse a pool of which the loss learns nothing, or that has elements of which no label says anything."""
    training, pool = frames.training, frames.pool
    if not pool:
        raise PiwslError(
            f"{names.loss} takes frames of the pool, and {names.dataset} has none; say pool_frames or pool_file there"
        )
    learned_from = frames.taught or loss.terms_of_level(None)
    if not learned_from and not pool.have_forces(WEAK):
        raise PiwslError(
            f"{names.loss} has weak_forces for the pool, but none of its {len(pool)} frames in "
            f"{names.dataset} has such forces; say weak_forces: gfn2-xtb there, or give WEAK_forces"
        )
    if missing := sorted(pool.elements() - training.elements()):
        elements = ", ".join(chemical_symbols[number] for number in missing)
        raise PiwslError(
            f"the pool of {names.dataset} holds {elements}, which the {len(training)} training frames "
            "do not; take those frames out of the pool, or label some"
        )


def _check_energies(frames: TrainingFrames, loss: Loss, names: Names) -> None:
    """Refuse frames that leave open where energies begin, of all elements or of one, or that say nothing of a model."""
    known = frames.training.with_energy()
    validation, of_frames = frames.validation, f"of the {len(frames.training)} training frames of {names.dataset}"
    if not known and (held_out := len(validation.with_energy())):
        raise PiwslError(
            f"none {of_frames} has an energy: those of the size that have one, {held_out}, are validated on; give more "
            "REF_energy, raise the size, lower validation_fraction, or say another seed"
        )
    if not known:
        raise PiwslError(
            f"none {of_frames} has an energy, and forces do not tell where energies begin; give some REF_energy, or "
            "raise the size"
        )
    if known is not frames.training and (missing := sorted(frames.elements() - known.elements())):
        raise PiwslError(
            f"none {of_frames} with {', '.join(chemical_symbols[number] for number in missing)} has an energy, and "
            "forces do not tell where energies of an element begin; give some REF_energy, raise the size, or leave "
            "these frames out"
        )
    looked_at = validation.have_energies() or validation.have_forces() or (loss.stress and validation.have_stress())
    if validation and not looked_at:
        raise PiwslError(
            f"none of the {len(validation)} validation frames of {names.dataset} has a label that {names.loss} looks "
            "at; raise validation_fraction, or say validation_fraction: 0"
        )


def _check_labels(frames: TrainingFrames, loss: Loss, names: Names) -> None:
    """Refuse a loss on forces, of the level of the labels or of a cheaper one, or on stress, that no frame has."""
    training, pool = frames.training, frames.pool
    if loss.needs_forces and not frames.have_forces():
        raise PiwslError(
            f"{names.loss} has energy: 0, but none of the {len(training)} training frames of "
            f"{names.dataset} has forces; give energy a weight"
        )
    if (terms := loss.terms_of_labelled_forces) and not frames.have_forces():
        raise PiwslError(
            f"{names.loss} has {terms[0]}, which is made of labelled forces, but none of the {len(training)} training "
            f"frames of {names.dataset} has them; say another anchor"
        )
    if loss.stress and not training.have_stress():
        raise PiwslError(
            f"{names.loss} has stress, but none of the {len(training)} training frames of "
            f"{names.dataset} has one; give REF_stress, say stress_key, or leave it out"
        )
    cheap = loss.terms_of_level(WEAK)
    if cheap and not frames.have_forces(WEAK):
        beside = f" and {len(pool)} pool" if pool else ""
        raise PiwslError(
            f"{names.loss} has {cheap[0]}, but none of the {len(training)} training{beside} frames of "
            f"{names.dataset} has forces of a cheaper level; say weak_forces: gfn2-xtb there, or give WEAK_forces"
        )
