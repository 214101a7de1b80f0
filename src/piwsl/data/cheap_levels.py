"""Labels of cheap levels, which frames get beside their own, and the frames that such a level fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from piwsl.config import Labelling, Level
from piwsl.data.dataset import POOL
from piwsl.errors import PiwslError
from piwsl.records import cheap_level_of, read_labellings
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, charge_of, multiplicity_of, read_frames
from piwsl.structures.labels import label_key

# Of failures, in a line.
REASONS_SHOWN = 3
MAX_FAILED = Labelling().max_failed


@dataclass(frozen=True)
class CheapLabels:
    """What a level says of geometries; of those it fails, why."""

    name: str
    """That frames keep the labels under."""
    labelled: Mapping[str, Atoms]
    """With `REF_energy` (eV) and `REF_forces` (eV/Å), by geometry hash."""
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
        atoms.info[label_key(self.name, "energy")] = found.info[ENERGY_KEY]
        atoms.arrays[label_key(self.name, "forces")] = found.arrays[FORCES_KEY]
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
        frames = read_frames(frames_path) if frames_path.stat().st_size else []
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
            good[record["geometry"]] = next(frames)
        elif record["geometry"] is not None:
            failed[record["geometry"]] = f"{record['step']}: {record['reason']}"
    return CheapLabels(name, good, failed)


def with_cheap_labels(
    parts: Mapping[str, Sequence[Atoms]], levels: Sequence[CheapLabels], max_failed: float = MAX_FAILED
) -> tuple[dict[str, list[Atoms]], list[str]]:
    """Return copies of frames with `NAME_energy` (eV) and `NAME_forces` (eV/Å), without those that a level fails.

    Args:
        parts: the frames of "training", "test" and "pool", those that there are.
        levels: what each says.
        max_failed: share of a part's labelled frames that a level may fail.

    Returns:
        The frames, and of each level and part that lacks some a line for the report, with the first reasons.

    Raises:
        PiwslError: a level fails more frames than it may, or all of the pool, or was not asked about one.
    """
    found = {part: [atoms.copy() for atoms in own] for part, own in parts.items()}
    left_out: list[str] = []
    for labels in levels:
        for part, own in found.items():
            reasons = [labels.put_on(atoms) for atoms in own]
            found[part] = [atoms for atoms, reason in zip(own, reasons, strict=True) if reason is None]
            failed = list(_failures(own, reasons))
            if failed:
                _check_failures(labels.name, part, failed, len(own), max_failed)
                left_out.append(f"{_count(labels.name, part, failed, len(own))}, which are left out: {_first(failed)}")
                for reason in failed:
                    print(f"{part} frame left out: {labels.name}: {reason}")
    return found, left_out


def _failures(frames: Sequence[Atoms], reasons: Sequence[str | None]) -> Iterator[str]:
    for position, (atoms, reason) in enumerate(zip(frames, reasons, strict=True)):
        if reason is not None:
            yield f"{atoms.info.get('frame', position)}: {reason}"


def _check_failures(name: str, part: str, failed: Sequence[str], frames: int, max_failed: float) -> None:
    """Stop where a level fails too many frames of a part; of the pool some must be left."""
    if len(failed) <= (max_failed * frames if part != POOL else frames - 1):
        return
    allowed = f"max_failed ({max_failed:g}) allows" if part != POOL else "may be"
    raise PiwslError(
        f"{_count(name, part, failed, frames)}, more than {allowed}: {_first(failed)}; leave it out of cheap_levels, "
        "or those frames"
    )


def _count(name: str, part: str, failed: Sequence[str], frames: int) -> str:
    return f"{name} failed {len(failed)} of {frames} {part} frames"


def _first(failed: Sequence[str]) -> str:
    return "; ".join(failed[:REASONS_SHOWN])
