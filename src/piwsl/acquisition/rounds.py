"""The files of a round: which frames it has, their labels, and those that take the place of frames that fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from piwsl.acquisition.choice import Choice, at_random, by_disagreement, by_force_variance, by_variance
from piwsl.config import Level
from piwsl.data.dataset import TRAINING, Dataset, write_structures
from piwsl.errors import PiwslError
from piwsl.files import write_json, write_json_lines
from piwsl.models import load_model
from piwsl.records import Round, read_labellings, read_record
from piwsl.reference.forces import ForceMethod
from piwsl.reference.labelling import label_frames
from piwsl.structures.frames import read_frames, write_frames
from piwsl.structures.structure import Structure, from_atoms

DATASET_FILE = ".h5"
BY_PROCESS = {"variance": by_variance, "force_variance": by_force_variance}
REASONS_SHOWN = 3


@dataclass(frozen=True)
class Wanted:
    """What a round is asked for."""

    dataset: str
    number: int
    """Of the round; the start is 0."""
    frames: int
    by: str
    """variance, force_variance, disagreement or random."""
    seed: int
    learned: int | None = None
    """From how many frames the model that is asked has learned; None where chance chooses."""


def choose_round(
    wanted: Wanted, candidates: Path, before: Sequence[Path], model: Path | None, frames: Path, record: Path
) -> None:
    """Choose the frames of a round, and as many in reserve, where there are so many.

    Args:
        wanted: what is asked for.
        candidates: extended XYZ of geometries, or a dataset file, whose training frames are candidates.
        before: records of all earlier rounds.
        model: the file of the model that is asked; None where chance chooses.
        frames: extended XYZ to write: the frames and behind them those in reserve, without labels.
        record: JSON to write, a `Round`.

    Raises:
        PiwslError: fewer candidates are left, or as of the choice.
    """
    every = _candidates(candidates)
    rounds = [read_record(Round, path) for path in before]
    tried = {index for each in rounds for index in each.tried}
    left = [index for index in range(len(every)) if index not in tried]
    if len(left) < wanted.frames:
        raise PiwslError(
            f"datasets.{wanted.dataset}.acquisition: round {wanted.number} takes {wanted.frames} frames, and "
            f"{len(left)} of {len(every)} are left; give more to choose from, or ask for fewer rounds"
        )
    structures = [from_atoms(atoms) for atoms in every]
    if model is None:
        order = [index for index in at_random(structures, wanted.seed) if index not in tried][: 2 * wanted.frames]
        choice = None
    else:
        bought = [structures[index] for each in rounds for index in each.bought]
        choice = _asked(model, wanted, [structures[index] for index in left], bought)
        order = [left[position] for position in choice.order]
    found = _round(wanted, order, choice, len(left))
    write_frames(frames, [every[index] for index in order])
    write_json(record, found.model_dump())
    print(_said(found))


def _candidates(path: Path) -> list[Atoms]:
    """Read geometries to choose from; of a dataset file without labels."""
    if path.suffix != DATASET_FILE:
        return read_frames(path)
    with Dataset(path) as dataset:
        return [structure.atoms() for structure in dataset.structures(dataset.indices(TRAINING))]


def _asked(model: Path, wanted: Wanted, left: Sequence[Structure], bought: Sequence[Structure]) -> Choice:
    potential = load_model(model)
    potential.baseline = None  # it is certain, and says the same to all members
    try:
        if wanted.by in BY_PROCESS:
            return BY_PROCESS[wanted.by](potential, left, 2 * wanted.frames)
        return by_disagreement(potential, left, bought, wanted.frames, reserve=wanted.frames)
    except PiwslError as error:
        raise PiwslError(f"datasets.{wanted.dataset}.acquisition: {model}: {error}") from None


def _round(wanted: Wanted, order: list[int], choice: Choice | None, candidates: int) -> Round:
    spread = {} if choice is None else {"unit": choice.unit, "spread_median": float(np.median(choice.spread))}
    return Round(
        dataset=wanted.dataset,
        round=wanted.number,
        by=wanted.by,
        learned=wanted.learned,
        candidates=candidates,
        **spread,
        spread_largest=None if choice is None else float(choice.spread.max()),
        bought=order[: wanted.frames],
        reserve=order[wanted.frames :],
    )


def _said(found: Round) -> str:
    line = f"round {found.round}: {len(found.bought)} of {found.candidates} candidates, by {found.by}"
    if found.unit is None:
        return line
    return f"{line}; spread before: median {found.spread_median:.4g}, largest {found.spread_largest:.4g} {found.unit}"


@dataclass(frozen=True)
class Labels:
    """What frames are labelled with."""

    level: Level
    forces: ForceMethod | None
    store: Path
    """Folder of finished energies."""
    memory_mb: int
    max_failed: float
    """Share of a round's frames in whose place others may be labelled; one may always be."""


@dataclass(frozen=True)
class Bought:
    """The files of a round whose frames have labels."""

    frames: Path
    """Extended XYZ, labelled."""
    records: Path
    """JSON lines: of the frames out of the reserve alone."""
    record: Path
    """JSON, the `Round`."""


def complete_round(
    chosen: Path, frames: Path, labelled: Sequence[Path], records: Sequence[Path], labels: Labels, bought: Bought
) -> None:
    """Put the labelled frames of a round together; for those that failed, label the next ones of the reserve.

    Args:
        chosen: JSON, the `Round` as it was chosen.
        frames: extended XYZ of its frames and of those in reserve.
        labelled: extended XYZ of its labelling jobs, one after the other.
        records: JSON lines of the same jobs.
        labels: what frames of the reserve are labelled with.
        bought: what to write.

    Raises:
        PiwslError: more failed than may, or the reserve does not suffice.
    """
    found, every = read_record(Round, chosen), read_frames(frames)
    rows = [row for path in records for row in read_labellings(path)]
    good = [atoms for path in labelled if path.stat().st_size for atoms in read_frames(path)]
    of_row = list(zip(found.bought, rows, strict=True))
    kept = [index for index, row in of_row if row.status == "ok"]
    failed = {index: f"{row.step}: {row.reason}" for index, row in of_row if row.status == "failed"}
    reserve = iter(zip(found.reserve, every[len(found.bought) :], strict=True))
    further = []
    while len(kept) < len(found.bought):
        _check_failed(found, failed, labels.max_failed)
        index, atoms = next(reserve)
        got, (row,) = label_frames([atoms], labels.level, labels.store, labels.forces, labels.memory_mb)
        further.append(row)
        good += got
        if got:
            kept.append(index)
            print(f"candidate {index} takes the place of one that failed")
        else:
            failed[index] = f"{row['step']}: {row['reason']}"
    write_frames(bought.frames, good)
    write_json_lines(bought.records, further)
    write_json(bought.record, found.model_copy(update={"bought": kept, "failed": failed}).model_dump())


def _check_failed(found: Round, failed: dict[int, str], max_failed: float) -> None:
    """Stop where nobody takes the place of frames that failed, or more failed than may."""
    reasons = "; ".join([*failed.values()][:REASONS_SHOWN])
    where = f"datasets.{found.dataset}.acquisition: round {found.round}: {len(failed)} frames failed"
    if len(failed) > max(1, max_failed * len(found.bought)):
        raise PiwslError(f"{where}, of {len(found.bought)}, more than max_failed ({max_failed:g}) allows: {reasons}")
    if len(failed) > len(found.reserve):
        raise PiwslError(f"{where}, and no candidate is left to take the place of the last: {reasons}")


def take_bought(dataset_path: Path, records: Sequence[Path], path: Path) -> None:
    """Write the training frames that some rounds have bought as a dataset file of their own.

    Args:
        dataset_path: dataset file with the training frames of all labels.
        records: of the rounds.
        path: dataset file to write.

    Raises:
        PiwslError: a file cannot be read.
    """
    bought = [index for each in records for index in read_record(Round, each).bought]
    with Dataset(dataset_path) as dataset:
        frames = dataset.structures(dataset.indices(TRAINING)[bought])
        found = dataset.atomic_energies(), dataset.findings(), dataset.provenance()
        write_structures(path, {TRAINING: frames}, *found)
