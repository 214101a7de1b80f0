"""The files of the reference stage: candidates, frames to label, labelled batches, energies of free atoms."""

from __future__ import annotations

from pathlib import Path

from piwsl.config import Geometries, Level
from piwsl.errors import PiwslError
from piwsl.files import write_json_lines
from piwsl.records import read_labellings
from piwsl.reference.differences import energies_needed
from piwsl.reference.forces import ForceMethod
from piwsl.reference.geometries import frames_of_part
from piwsl.reference.labelling import Labeller, Progress, label_frames
from piwsl.reference.selection import farthest_points, in_turn
from piwsl.reference.store import LabelStore
from piwsl.structures.frames import read_frames, write_frames


def select(candidates: list[Path], frames: int, selected: Path, candidates_each: int | None) -> None:
    """Write the frames of a part.

    Args:
        candidates: extended XYZ files; frames are taken from them in turn.
        frames: how many to take.
        selected: extended XYZ to write.
        candidates_each: choose the farthest points among that many candidates each; None takes frames as they come.
    """
    found = in_turn([read_frames(path) for path in candidates])
    chosen = range(frames) if candidates_each is None else farthest_points(found, frames, candidates_each)
    write_frames(selected, [found[index] for index in chosen])


def split_geometries(geometries: Geometries, part: str, candidates: Path, pool_frames: int = 0) -> None:
    """Write the frames of a user's files that belong to a part.

    Args:
        geometries: the section.
        part: "training", "test" or "pool".
        candidates: extended XYZ to write.
        pool_frames: how many frames are not labelled.
    """
    write_frames(candidates, frames_of_part(geometries, part, pool_frames))


def label_batch(
    selected: Path,
    level: Level,
    positions: slice,
    forces: ForceMethod | None,
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
        forces: how to compute forces, too, or the slope along one direction; None for energies alone.
        store: folder of finished energies.
        memory_mb: memory of the job, MB.
        labelled: extended XYZ to write: the frames that succeeded.
        records: JSON lines to write: one a frame, the failed ones too.
    """
    frames, rows = label_frames(read_frames(selected)[positions], level, store, forces, memory_mb)
    write_frames(labelled, frames)
    write_json_lines(records, rows)


def label_displaced(
    selected: Path,
    level: Level,
    position: int,
    forces: ForceMethod,
    share: slice,
    store: Path,
    memory_mb: int,
    records: Path,
) -> None:
    """Compute a share of the energies that differences of one frame of a file take, into the store.

    Args:
        selected: extended XYZ of the frames.
        level: the level of theory.
        position: of the frame.
        forces: of which differences.
        share: which of its displaced geometries.
        store: folder of finished energies.
        memory_mb: memory of the job, MB.
        records: JSON lines to write: one a geometry, the failed ones too.
    """
    labeller, frame = Labeller(level, LabelStore(store, level), memory_mb), read_frames(selected)[position]
    displaced = range(energies_needed(frame.positions, forces) - 1)
    lines, rows = Progress(len(displaced[share]), print), []
    for row in labeller.label_displaced(frame, forces, share):
        rows.append(row)
        lines.frame(row)
    write_json_lines(records, rows)


def check_failures(records: list[Path], max_failed: float) -> None:
    """Stop where more frames failed than the config allows.

    Args:
        records: JSON lines of all batches.
        max_failed: share of the frames that may fail.

    Raises:
        PiwslError: how many failed, and the first reasons.
    """
    rows = [row for path in records for row in read_labellings(path)]
    failed = [row for row in rows if row.status == "failed"]
    if len(failed) > max_failed * len(rows):
        reasons = "; ".join(f"{row.frame}: {row.step}: {row.reason}" for row in failed[:3])
        raise PiwslError(
            f"{len(failed)} of {len(rows)} frames failed, more than max_failed ({max_failed:g}) allows: {reasons}"
        )
