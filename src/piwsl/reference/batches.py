"""The files of the reference stage: trajectories, frames to label, labelled batches, one labelled dataset."""

from __future__ import annotations

from pathlib import Path

from piwsl.config import Level
from piwsl.errors import PiwslError
from piwsl.files import read_json_lines, write_json_lines
from piwsl.reference.frames import read_frames, write_frames
from piwsl.reference.labelling import label_frames
from piwsl.reference.sampling import interleave


def select(trajectories: list[Path], frames: int, selected: Path) -> None:
    """Write the frames to label, taken from the trajectories in turn.

    Args:
        trajectories: extended XYZ files.
        frames: how many to take.
        selected: extended XYZ to write.
    """
    write_frames(selected, interleave([read_frames(path) for path in trajectories], frames))


def label_batch(
    selected: Path,
    level: Level,
    positions: slice,
    forces: bool,
    store: Path,
    memory_mb: int,
    labelled: Path,
    records: Path,
) -> None:
    """Label some of the frames of a file.

    Args:
        selected: extended XYZ of the frames.
        level: the level of theory.
        positions: which of them.
        forces: also differentiate the energy.
        store: folder of finished energies.
        memory_mb: memory of the job, MB.
        labelled: extended XYZ to write: the frames that succeeded.
        records: JSON lines to write: one a frame, the failed ones too.
    """
    frames, rows = label_frames(read_frames(selected)[positions], level, store, forces, memory_mb)
    write_frames(labelled, frames)
    write_json_lines(records, rows)


def check_failures(records: list[Path], max_failed: float) -> None:
    """Stop where more frames failed than the config allows.

    Args:
        records: JSON lines of all batches.
        max_failed: share of the frames that may fail.

    Raises:
        PiwslError: how many failed, and the first reasons.
    """
    rows = [row for path in records for row in read_json_lines(path)]
    failed = [row for row in rows if row["status"] == "failed"]
    if len(failed) > max_failed * len(rows):
        reasons = "; ".join(f"{row['frame']}: {row['step']}: {row['reason']}" for row in failed[:3])
        raise PiwslError(
            f"{len(failed)} of {len(rows)} frames failed, more than max_failed ({max_failed:g}) allows: {reasons}"
        )
