"""Dataset files from what the reference stage computed, and from what a user gives. From here on both are alike."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.data import atomic_numbers

from piwsl.config import GivenDataset
from piwsl.data.dataset import TEST, TRAINING, check_labels, write_dataset
from piwsl.data.splits import hold_out
from piwsl.errors import PiwslError
from piwsl.files import read_json
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, WEAK_FORCES_KEY, read_frames
from piwsl.structures.units import ENERGY_UNITS, FORCE_UNITS


def assemble(
    training: list[Path], test: list[Path], atoms: list[Path], dataset_path: Path, weak_forces: bool = False
) -> None:
    """Join labelled batches to a dataset file.

    Args:
        training: extended XYZ files; empty ones (all frames failed) are passed over.
        test: likewise.
        atoms: one JSON file of free atoms' energies, or none.
        dataset_path: the file to write.
        weak_forces: whether training frames get forces of GFN2-xTB as weak labels.

    Raises:
        PiwslError: no labelled frame for training or for test.
    """
    frames = {
        part: [atoms for path in paths if path.stat().st_size for atoms in read_frames(path)]
        for part, paths in ((TRAINING, training), (TEST, test))
    }
    for part, found in frames.items():
        if not found:
            raise PiwslError(f"{dataset_path}: every {part} frame failed; see the records of the batches")
        check_labels(found, f"{part} frames")
    if weak_forces:
        from piwsl.reference.tight_binding import with_weak_forces

        frames[TRAINING] = with_weak_forces(frames[TRAINING], str(dataset_path))
    write_dataset(dataset_path, frames, atomic_energies(atoms))


def atomic_energies(files: list[Path]) -> dict[int, float]:
    """Read the energies of free atoms, eV by atomic number; atoms that failed are left out.

    Args:
        files: JSON, a record by chemical symbol.
    """
    records = [item for path in files for item in read_json(path).items()]
    return {atomic_numbers[symbol]: record["energy_eV"] for symbol, record in records if record["status"] == "ok"}


def import_given(dataset: GivenDataset, dataset_path: Path) -> None:
    """Make a dataset file of the user's frames.

    Args:
        dataset: the section that names the files.
        dataset_path: the file to write.

    Raises:
        PiwslError: a file cannot be read, or a frame lacks its energy.
    """
    frames = _given_frames(dataset, dataset.file)
    if dataset.test_file is not None:
        training, test = frames, _given_frames(dataset, dataset.test_file)
    else:
        assert dataset.test_frames is not None
        kept, held = hold_out(len(frames), dataset.test_frames, dataset.seed)
        training, test = [frames[i] for i in kept], [frames[i] for i in held]
    if dataset.weak_forces is not None:
        from piwsl.reference.tight_binding import with_weak_forces

        training = with_weak_forces(training, str(dataset.file))
    write_dataset(dataset_path, {TRAINING: training, TEST: test})


def _given_frames(dataset: GivenDataset, path: Path) -> list[Atoms]:
    frames = read_frames(path)
    converted = with_labels_in(frames, dataset)
    for position, (given, atoms) in enumerate(zip(frames, converted, strict=True)):
        if ENERGY_KEY not in atoms.info:
            raise PiwslError(
                f"{path}: frame {position} has no {dataset.energy_key}; its info holds "
                f"{sorted(given.info) or 'nothing'}. "
                "Write the total energy there, or say energy_key and energy_unit"
            )
    check_labels(converted, str(path))
    return converted


def with_labels_in(frames: list[Atoms], dataset: GivenDataset) -> list[Atoms]:
    """Return frames of another program with their labels where ours are, in eV and eV/Å.

    Args:
        frames: labelled elsewhere.
        dataset: says under which names the labels are, and in which units. Labels that are absent stay absent.
    """
    energy_in_ev, force_in_ev = ENERGY_UNITS[dataset.energy_unit], FORCE_UNITS[dataset.forces_unit]
    converted = []
    for atoms in frames:
        frame = atoms.copy()
        energy = frame.info.pop(dataset.energy_key, None)
        forces = frame.arrays.pop(dataset.forces_key, None)
        weak_forces = frame.arrays.pop(dataset.weak_forces_key, None)
        if energy is not None:
            # What is no number is left for the check of labels to name.
            frame.info[ENERGY_KEY] = energy * energy_in_ev if isinstance(energy, int | float) else energy
        if forces is not None:
            frame.arrays[FORCES_KEY] = forces * force_in_ev
        if weak_forces is not None:
            frame.arrays[WEAK_FORCES_KEY] = weak_forces * force_in_ev
        converted.append(frame)
    return converted
