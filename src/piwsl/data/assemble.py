"""Dataset files from what the reference stage computed, and from what a user gives. From here on both are alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms
from ase.data import atomic_numbers

from piwsl.config import GivenDataset
from piwsl.data.cheap_levels import MAX_FAILED, CheapLabels, with_cheap_labels
from piwsl.data.dataset import POOL, TEST, TRAINING, check_labels, write_dataset
from piwsl.data.given import free_atoms, left_out, parts, read_files, summary
from piwsl.data.plausibility import warnings
from piwsl.errors import PiwslError
from piwsl.records import read_free_atoms
from piwsl.structures.frames import read_frames, too_close, without_labels, write_frames


def assemble(
    training: list[Path],
    test: list[Path],
    atoms: list[Path],
    dataset_path: Path,
    weak_forces: bool = False,
    pool: Sequence[Path] = (),
    cheap: Sequence[CheapLabels] = (),
    max_failed: float = MAX_FAILED,
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
        cheap: what further levels say of all frames.
        max_failed: share of a part's labelled frames that such a level may fail.

    Raises:
        PiwslError: files are given for training or for test, and no frame in them is labelled; or as of
            `with_cheap_labels`.
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
    frames, left_out = with_cheap_labels(frames, cheap, max_failed)
    odd = (warnings(frames, computed=True) if training and test else []) + left_out
    _say(odd)
    write_dataset(dataset_path, frames, atomic_energies(atoms), odd, [labels.name for labels in cheap])


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
    dataset: GivenDataset, dataset_path: Path, part: str | None = None, cheap: Sequence[CheapLabels] = ()
) -> None:
    """Make a dataset file of the user's frames, and print what was taken from them.

    Args:
        dataset: the section that names the files.
        dataset_path: the file to write.
        part: write "training", "test" or "pool" alone; by default all, with what looks odd about them.
        cheap: what further levels say of all frames.

    Raises:
        PiwslError: a file cannot be read, a frame is no geometry, or lacks its energy; or as of `with_cheap_labels`.
    """
    files = read_files(dataset, checked=part is None)
    frames = parts(dataset, files)
    _check_elements(frames, dataset)
    # Wherever they stand in the file: what is held out are molecules.
    alone = free_atoms(files[0].frames) if part in (TRAINING, None) else {}
    labels = dataset.labels_of(dataset.file)
    odd = warnings(frames, labels.energy_unit, labels.forces_unit) if part is None else []
    for line in dict.fromkeys(summary(dataset, file) for file in files):
        print(line)
    if (said := left_out(dataset, frames, files[0])) is not None:
        print(said)
    if part is not None:
        frames = {part: frames[part]}
    if dataset.weak_forces is not None:
        sources = {TRAINING: str(dataset.file), POOL: str(dataset.pool_file)}
        frames = _with_weak_forces(frames, {name: file for name, file in sources.items() if name in frames})
    frames, failed = with_cheap_labels(frames, cheap)
    odd += failed
    _say(odd)
    write_dataset(dataset_path, frames, alone, odd, [labels.name for labels in cheap])


def _check_elements(frames: dict[str, list[Atoms]], dataset: GivenDataset) -> None:
    """Refuse test frames of which a model would know nothing; a check of the config has not read all of many frames."""
    trained, tested = ({symbol for atoms in frames[part] for symbol in atoms.symbols} for part in (TRAINING, TEST))
    if unknown := sorted(tested - trained):
        raise PiwslError(
            f"{dataset.file}: test frames hold {', '.join(unknown)}, which no training frame does; test on others"
        )


def write_geometries(dataset: GivenDataset, part: str, path: Path) -> None:
    """Write the geometries of a part of the user's frames, for what labels them.

    Args:
        dataset: the section that names the files.
        part: "training", "test" or "pool".
        path: extended XYZ to write.

    Raises:
        PiwslError: a file cannot be read, or a frame is no geometry, or lacks its energy.
    """
    from piwsl.reference.store import rounded

    frames = parts(dataset, read_files(dataset, checked=False))[part]
    write_frames(path, [rounded(without_labels(atoms)) for atoms in frames])
