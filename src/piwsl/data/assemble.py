"""Dataset files from what the reference stage computed, and from what a user gives. From here on both are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.data import atomic_numbers

from piwsl.config import GivenDataset, Labelling, Level, parse_level
from piwsl.data.dataset import POOL, TEST, TRAINING, check_labels, write_dataset
from piwsl.data.given import free_atoms, parts, read_files, summary
from piwsl.data.plausibility import warnings
from piwsl.errors import PiwslError
from piwsl.records import read_free_atoms
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, read_frames, too_close
from piwsl.structures.labels import label_key

# Of failures, in a line.
REASONS_SHOWN = 3


def assemble(
    training: list[Path],
    test: list[Path],
    atoms: list[Path],
    dataset_path: Path,
    weak_forces: bool = False,
    pool: Sequence[Path] = (),
    cheap: CheapLevels | None = None,
) -> None:
    """Join labelled batches, and frames that are not labelled, to a dataset file.

    A part of which no file is given is left out. What looks odd is said of training and test together.

    Args:
        training: extended XYZ files; empty ones (all frames failed) are passed over.
        test: likewise.
        atoms: one JSON file of free atoms' energies, or none.
        dataset_path: the file to write.
        weak_forces: whether frames of training and pool get forces of GFN2-xTB as weak labels.
        pool: one extended XYZ file of frames without labels, or none.
        cheap: further levels whose labels all frames get.

    Raises:
        PiwslError: files are given for training or for test, and no frame in them is labelled.
    """
    frames = {
        part: [atoms for path in paths if path.stat().st_size for atoms in read_frames(path)]
        for part, paths in ((TRAINING, training), (TEST, test))
        if paths
    }
    for part, found in frames.items():
        if not found:
            raise PiwslError(f"{dataset_path}: every {part} frame failed; see the records of the batches")
        check_labels(found, f"{part} frames")
    frames[POOL] = _possible([atoms for path in pool for atoms in read_frames(path)])
    if pool and not frames[POOL]:
        raise PiwslError(
            f"{dataset_path}: atoms of every pool frame lie on one another; see what they are sampled from"
        )
    if weak_forces:
        learnt = [part for part in (TRAINING, POOL) if part in frames]
        frames = _with_weak_forces(frames, {part: f"{dataset_path}: {part}" for part in learnt})
    frames, left_out = (frames, []) if cheap is None else cheap.on(frames)
    odd = (warnings(frames, computed=True) if training and test else []) + left_out
    _say(odd)
    write_dataset(dataset_path, frames, atomic_energies(atoms), odd, list(cheap.levels) if cheap is not None else ())


@dataclass(frozen=True)
class CheapLevels:
    """Levels whose energies and forces frames get beside their labels."""

    levels: Mapping[str, Level]
    """By the name that their labels are kept under."""
    store: Path
    """Folder of finished energies."""
    memory_mb: int
    max_failed: float = Labelling().max_failed
    """Share of a part's labelled frames that a level may fail."""

    def on(self, frames: dict[str, list[Atoms]]) -> tuple[dict[str, list[Atoms]], list[str]]:
        """Return copies of frames with `NAME_energy` (eV) and `NAME_forces` (eV/Å), without those that a level fails.

        Returns:
            The frames, and of each level and part that lacks some a line for the report, with the first reasons.

        Raises:
            PiwslError: a level fails more frames than it may, or all of the pool.
        """
        left_out: list[str] = []
        found = {part: [atoms.copy() for atoms in own] for part, own in frames.items()}
        for name in self.levels:
            for part, own in found.items():
                found[part], failed = self._labelled(name, own)
                if failed:
                    left_out.append(self._left_out(name, part, failed, len(own)))
        return found, left_out

    def _labelled(self, name: str, frames: list[Atoms]) -> tuple[list[Atoms], list[str]]:
        """Give frames the labels of a level; return those that have them, and why the others do not."""
        from piwsl.reference.labelling import label_frames

        level = self.levels[name]
        labelled, records = label_frames(frames, level, self.store, "analytic", self.memory_mb, lambda line: None)
        good = [atoms for atoms, record in zip(frames, records, strict=True) if record["status"] == "ok"]
        for atoms, with_labels in zip(good, labelled, strict=True):
            atoms.info[label_key(name, "energy")] = with_labels.info[ENERGY_KEY]
            atoms.arrays[label_key(name, "forces")] = with_labels.arrays[FORCES_KEY]
        failed = [
            f"{position if record['frame'] is None else record['frame']}: {record['step']}: {record['reason']}"
            for position, record in enumerate(records)
            if record["status"] == "failed"
        ]
        return good, failed

    def _left_out(self, name: str, part: str, failed: list[str], frames: int) -> str:
        """Say which frames of a part a level failed, or stop where they are too many; of the pool some are left."""
        what = f"{name} failed {len(failed)} of {frames} {part} frames"
        reasons = "; ".join(failed[:REASONS_SHOWN])
        if len(failed) > (self.max_failed * frames if part != POOL else frames - 1):
            allowed = f"max_failed ({self.max_failed:g}) allows" if part != POOL else "may be"
            raise PiwslError(f"{what}, more than {allowed}: {reasons}; leave it out of cheap_levels, or those frames")
        for reason in failed:
            print(f"{part} frame left out: {name}: {reason}")
        return f"{what}, which are left out: {reasons}"


def cheap_levels(
    levels: Mapping[str, Any], store: Path, memory_mb: int, max_failed: float = Labelling().max_failed
) -> CheapLevels | None:
    """Return cheap levels of plain values, as parameters of jobs hold them; None where there is none."""
    named = {name: parse_level(level, name) for name, level in levels.items()}
    return CheapLevels(named, store, memory_mb, max_failed) if named else None


def _possible(pool: list[Atoms]) -> list[Atoms]:
    """Leave out what a labelling job would refuse, too: atoms on top of one another."""
    found = []
    for atoms in pool:
        problem = too_close(atoms)
        if problem is None:
            found.append(atoms)
        else:
            print(f"{atoms.info['frame']} of the pool is left out: {problem}")
    return found


def _with_weak_forces(frames: dict[str, list[Atoms]], sources: dict[str, str]) -> dict[str, list[Atoms]]:
    """Return the parts with forces of GFN2-xTB on those that have a source, which messages name."""
    from piwsl.reference.tight_binding import with_weak_forces

    return frames | {part: with_weak_forces(frames[part], source) for part, source in sources.items()}


def _say(odd: list[str]) -> None:
    for warning in odd:
        print(f"warning: {warning}")


def atomic_energies(files: list[Path]) -> dict[int, float]:
    """Read the energies of free atoms, eV by atomic number; atoms that failed are left out.

    Args:
        files: JSON, a record by chemical symbol.
    """
    records = [item for path in files for item in read_free_atoms(path).items()]
    return {atomic_numbers[symbol]: found.energy_eV for symbol, found in records if found.energy_eV is not None}


def import_given(
    dataset: GivenDataset, dataset_path: Path, part: str | None = None, cheap: CheapLevels | None = None
) -> None:
    """Make a dataset file of the user's frames, and print what was taken from them.

    Args:
        dataset: the section that names the files.
        dataset_path: the file to write.
        part: write "training", "test" or "pool" alone; by default all, with what looks odd about them.
        cheap: further levels whose labels all frames get.

    Raises:
        PiwslError: a file cannot be read, or a frame is no geometry, or lacks its energy.
    """
    files = read_files(dataset)
    frames = parts(dataset, files)
    alone = free_atoms(frames[TRAINING]) if part in (TRAINING, None) else {}
    labels = dataset.labels_of(dataset.file)
    odd = warnings(frames, labels.energy_unit, labels.forces_unit) if part is None else []
    if part is not None:
        frames = {part: frames[part]}
    for file in files:
        print(summary(dataset, file))
    if dataset.weak_forces is not None:
        sources = {TRAINING: str(dataset.file), POOL: str(dataset.pool_file)}
        frames = _with_weak_forces(frames, {name: file for name, file in sources.items() if name in frames})
    frames, left_out = (frames, []) if cheap is None else cheap.on(frames)
    odd += left_out
    _say(odd)
    write_dataset(dataset_path, frames, alone, odd, list(cheap.levels) if cheap is not None else ())
