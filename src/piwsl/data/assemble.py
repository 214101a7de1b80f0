"""Dataset files from what the reference stage computed, and from what a user gives. From here on both are alike."""

from __future__ import annotations

from pathlib import Path

from piwsl.config import GivenDataset
from piwsl.data.dataset import TEST, TRAINING, check_labels, write_dataset
from piwsl.data.splits import hold_out
from piwsl.errors import PiwslError
from piwsl.reference.frames import read_frames


def assemble(training: list[Path], test: list[Path], dataset_path: Path) -> None:
    """Join labelled batches to a dataset file.

    Args:
        training: extended XYZ files; empty ones (all frames failed) are passed over.
        test: likewise.
        dataset_path: the file to write.

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
    write_dataset(dataset_path, frames)


def import_given(dataset: GivenDataset, dataset_path: Path) -> None:
    """Make a dataset file of the user's frames.

    Args:
        dataset: the section that names the files.
        dataset_path: the file to write.

    Raises:
        PiwslError: a file cannot be read, or a frame lacks its energy.
    """
    frames = read_frames(dataset.file)
    check_labels(frames, str(dataset.file))
    if dataset.test_file is not None:
        test = read_frames(dataset.test_file)
        check_labels(test, str(dataset.test_file))
        write_dataset(dataset_path, {TRAINING: frames, TEST: test})
        return
    assert dataset.test_frames is not None
    kept, held = hold_out(len(frames), dataset.test_frames, dataset.seed)
    write_dataset(dataset_path, {TRAINING: [frames[i] for i in kept], TEST: [frames[i] for i in held]})
