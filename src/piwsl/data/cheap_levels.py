"""Labels of cheap levels, which frames get beside their own, and the frames that such a level fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.config import Labelling, Level
from piwsl.data.dataset import POOL
from piwsl.errors import PiwslError
from piwsl.records import Finding, cheap_level_of, read_labellings
from piwsl.structures.extxyz import iterate_frames
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, charge_of, multiplicity_of
from piwsl.structures.labels import label_key

# Of failures, in a line.
REASONS_SHOWN = 3
MAX_FAILED = Labelling().max_failed


@dataclass(frozen=True)
class CheapLabels:
    """What a level says of geometries; of those it fails, why."""

    name: str
    """That frames keep the labels under."""
    labelled: Mapping[str, tuple[float, NDArray[np.float64]]]
    """Energy, eV, and forces, eV/Å, by geometry hash."""
    failed: Mapping[str, str]
    """Step and reason, by geometry hash."""

    def put_on(self, atoms: Atoms) -> str | None:
        """Give a frame the level's labels; return why the level has none of it, or None where it has.

        Raises:
            PiwslError: the level was not asked about this geometry.
        """
        from piwsl.reference.store import geometry_hash  # with PySCF's library of linear algebra

        try:
            key = geometry_hash(atoms, charge_of(atoms), multiplicity_of(atoms))
        except PiwslError as error:
            return str(error)
        if key in self.failed:
            return self.failed[key]
        found = self.labelled.get(key)
        if found is None:
            raise PiwslError(f"has no labels of {self.name}: it was not among the frames that were labelled with that")
        atoms.info[label_key(self.name, "energy")], atoms.arrays[label_key(self.name, "forces")] = found
        return None


def read_cheap_labels(labelled: Iterable[Path], records: Iterable[Path]) -> list[CheapLabels]:
    """Read what labelling jobs of cheap levels wrote.

    Args:
        labelled: extended XYZ files, .../<level>/<part>/<work>/<file>.
        records: JSON lines of the same jobs, in the same order.

    Returns:
        A level an element, in the order of the files.
    """
    found: dict[str, CheapLabels] = {}
    for frames_path, records_path in zip(labelled, records, strict=True):
        name = cheap_level_of(frames_path)
        frames = iterate_frames(frames_path) if frames_path.stat().st_size else ()
        rows = [row.model_dump() for row in read_labellings(records_path)]
        of_job = _cheap_labels(name, frames, rows)
        before = found.get(name, CheapLabels(name, {}, {}))
        found[name] = CheapLabels(name, {**before.labelled, **of_job.labelled}, {**before.failed, **of_job.failed})
    return list(found.values())


def compute_cheap_labels(name: str, level: Level, frames: list[Atoms], store: Path, memory_mb: int) -> CheapLabels:
    """Compute what a level says of frames, one after the other.

    Args:
        name: that frames keep the labels under.
        level: with analytic forces.
        frames: geometries, Å.
        store: folder of finished energies.
        memory_mb: memory, MB.
    """
    from piwsl.reference.labelling import label_frames

    return _cheap_labels(name, *label_frames(frames, level, store, "analytic", memory_mb, lambda line: None))


def _cheap_labels(name: str, labelled: Iterable[Atoms], records: Iterable[Mapping[str, Any]]) -> CheapLabels:
    """Tell labelled frames and failures apart, each by its geometry; one that is no geometry says so by itself."""
    frames, good, failed = iter(labelled), {}, {}
    for record in records:
        if record["status"] == "ok":
            atoms = next(frames)
            good[record["geometry"]] = atoms.info[ENERGY_KEY], atoms.arrays[FORCES_KEY]
        elif record["geometry"] is not None:
            failed[record["geometry"]] = f"{record['step']}: {record['reason']}"
    return CheapLabels(name, good, failed)


def with_cheap_labels(
    parts: Mapping[str, Sequence[Atoms]], levels: Sequence[CheapLabels], max_failed: float = MAX_FAILED
) -> tuple[dict[str, list[Atoms]], list[Finding]]:
    """Return copies of frames with `NAME_energy` (eV) and `NAME_forces` (eV/Å), without those that a level fails.

    Args:
        parts: the frames of "training", "test" and "pool", those that there are.
        levels: what each says.
        max_failed: share of a part's labelled frames that a level may fail.

    Returns:
        The frames, and of each level and part that lacks some what was found, with the first reasons.

    Raises:
        PiwslError: a level fails more frames than it may, or all of the pool, or was not asked about one.
    """
    asked = CheapLevels(levels, max_failed)
    copies = {part: (atoms.copy() for atoms in own) for part, own in parts.items()}
    return {part: [*asked.labelled(part, own)] for part, own in copies.items()}, [*asked.left_out()]


@dataclass
class _Tally:
    """How many frames of a part a level was asked about, and which it failed."""

    name: str
    part: str
    frames: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)
    """Of the first that it failed."""

    def __str__(self) -> str:
        return f"{self.name} failed {self.failed} of {self.frames} {self.part} frames"

    def add(self, frame: object, reason: str | None) -> None:
        """Note what came of a frame; a failure is printed."""
        self.frames += 1
        if reason is None:
            return
        self.failed += 1
        if self.failed <= REASONS_SHOWN:
            self.reasons.append(f"{frame}: {reason}")
        print(f"{self.part} frame left out: {self.name}: {frame}: {reason}")

    def check(self, max_failed: float) -> None:
        """Stop where the level fails too many frames; of the pool some must be left."""
        if self.failed <= (max_failed * self.frames if self.part != POOL else max(self.frames - 1, 0)):
            return
        allowed = f"max_failed ({max_failed:g}) allows" if self.part != POOL else "may be"
        raise PiwslError(
            f"{self}, more than {allowed}: {'; '.join(self.reasons)}; leave it out of cheap_levels, or those frames"
        )


class CheapLevels:
    """Levels whose labels are put on frames that pass one by one."""

    def __init__(self, levels: Sequence[CheapLabels], max_failed: float = MAX_FAILED) -> None:
        """Begin with no frame.

        Args:
            levels: as of `with_cheap_labels`.
            max_failed: likewise.
        """
        self._levels, self._max_failed = levels, max_failed
        self._tallies: list[list[_Tally]] = []

    def labelled(self, part: str, frames: Iterable[Atoms]) -> Iterator[Atoms]:
        """Yield the frames of a part with the labels of all levels, without those that a level fails.

        Raises:
            PiwslError: as of `with_cheap_labels`.
        """
        tallies = [_Tally(labels.name, part) for labels in self._levels]
        self._tallies.append(tallies)
        yield from (atoms for atoms in frames if self._put_on(atoms, tallies))
        for tally in tallies:
            tally.check(self._max_failed)

    def _put_on(self, atoms: Atoms, tallies: Sequence[_Tally]) -> bool:
        """Give a frame the labels of level after level; return whether no level fails it."""
        for labels, tally in zip(self._levels, tallies, strict=True):
            reason = labels.put_on(atoms)
            tally.add(atoms.info.get("frame", tally.frames), reason)
            if reason is not None:
                return False
        return True

    def left_out(self) -> Iterator[Finding]:
        """Yield what `with_cheap_labels` does for the report, of the frames that have passed when it is asked."""
        for of_level in zip(*self._tallies, strict=True):
            for tally in of_level:
                if tally.failed:
                    yield Finding(
                        kind="cheap_levels",
                        said=f"{tally}, which are left out: {'; '.join(tally.reasons)}",
                        frames=tally.failed,
                        done="left out",
                    )
