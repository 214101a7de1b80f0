"""Which frames are for training and which for the test, and which of them a run learns from.

Sizes of one seed nest: the frames of a smaller are among those of a larger.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from piwsl.config import Architecture
from piwsl.errors import PiwslError
from piwsl.files import write_atomically
from piwsl.records import StoredSplit, read_record
from piwsl.structures.seeds import generator

# Of a position; there are not that many frames.
MOST_DIGITS = 18
# Of positions, a text of these is held.
POSITIONS_AT_ONCE = 100_000
DIGITS_SHOWN = 8


@dataclass(frozen=True)
class Split:
    """Indices into a dataset file."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    of_members: tuple[NDArray[np.int64], ...] | None = None
    """Which places among the validation frames, and then the training frames, each member of a committee validates on;
    None where the windows that follow each other do."""

    def of_member(self, member: int) -> Split:
        """Return the indices as a member of a committee takes them, as `TrainingFrames.of_member` does.

        Args:
            member: from 0.
        """
        together, count = np.concatenate([self.validation, self.training]), len(self.validation)
        if self.of_members is None:
            together = np.roll(together, -member * count)
            return Split(training=together[count:], validation=together[:count])
        own = self.of_members[member]
        return Split(training=np.delete(together, own), validation=together[own])


def split_run(
    available: NDArray[np.int64],
    groups: Callable[[], Sequence[str | None]],
    size: int,
    seed: int,
    model: Architecture,
) -> Split:
    """Choose the frames of a run, and those of them that a model validates on: frames, or whole groups.

    Args:
        available: as of `split_frames`.
        groups: asked for that of each, where a model validates on groups.
        size: as of `split_frames`.
        seed: likewise.
        model: says how it validates, and how many members it has.

    Raises:
        PiwslError: as of `split_frames` and `split_groups`.
    """
    training = model.training
    if training.validation_by == "frame":
        return split_frames(available, size, seed, training.validation_fraction)
    return split_groups(available, groups(), size, seed, training.validation_fraction, model.members)


def split_frames(available: NDArray[np.int64], size: int, seed: int, validation_fraction: float) -> Split:
    """Choose `size` of the labelled training frames and set a share of them apart for validation.

    Args:
        available: (P,) indices to choose from.
        size: labelled frames of the run, those for validation included.
        seed: of the run; it alone orders them.
        validation_fraction: share of `size` that is not learned from: at least one frame, or none where it is 0.

    Returns:
        Disjoint indices.

    Raises:
        PiwslError: there are fewer than the size.
    """
    if size > len(available):
        raise PiwslError(
            f"size {size} is more than the {len(available)} labelled training frames that there are; "
            "raise training_frames, give more frames, or leave the size out"
        )
    chosen = generator("frames of a run", seed).permutation(available)[:size]
    validation = min(size - 1, max(1, round(validation_fraction * size))) if validation_fraction else 0
    return Split(training=chosen[validation:], validation=chosen[:validation])


def split_groups(
    available: NDArray[np.int64],
    groups: Sequence[str | None],
    size: int,
    seed: int,
    validation_fraction: float,
    members: int = 1,
) -> Split:
    """Choose the same frames as `split_frames`, and set whole groups of them apart for validation.

    Groups are gone through in the seed's order, and taken where that brings the number of frames nearer to the share.
    Each member of a committee begins with the groups that the fewest before it have validated on.

    Args:
        available: (P,) indices to choose from.
        groups: that of each; None where nobody said it.
        size: as of `split_frames`.
        seed: likewise.
        validation_fraction: likewise, more than 0.
        members: of the committee.

    Returns:
        Disjoint indices, of no group in both.

    Raises:
        PiwslError: there are fewer frames than the size, one has no group, there is one group alone, or no groups come
            as near to the share as half or twice of it.
    """
    place_of = {index: place for place, index in enumerate(available.tolist())}
    whole = split_frames(available, size, seed, validation_fraction)
    chosen = np.concatenate([whole.validation, whole.training])
    of_each = [groups[place_of[index]] for index in chosen.tolist()]
    if None in of_each:
        raise PiwslError(
            f"validation_by: {of_each.count(None)} of {size} frames say no group; give it (without an experiment "
            "group=... on the comment line), or validate by frame"
        )
    kinds = {group: kind for kind, group in enumerate(sorted(set(of_each), key=str))}
    kind = np.array([kinds[group] for group in of_each], dtype=np.int64)
    order = generator("validation groups", seed).permutation(len(kinds))
    windows = _windows(np.bincount(kind), order, len(whole.validation), members)
    _check_windows(windows, np.bincount(kind), validation_fraction, size, seed)
    apart = [np.isin(kind, window) for window in windows]
    ordered = np.concatenate([np.flatnonzero(apart[0]), np.flatnonzero(~apart[0])])
    first = int(apart[0].sum())
    of_members = tuple(np.flatnonzero(each[ordered]) for each in apart)
    return Split(chosen[ordered[first:]], chosen[ordered[:first]], of_members)


def _windows(counts: NDArray[np.int64], order: NDArray[np.int64], wanted: int, members: int) -> list[list[int]]:
    """Return which groups each member validates on.

    Args:
        counts: (G,) frames of each group.
        order: (G,) of the groups.
        wanted: frames to come near to.
        members: how many.
    """
    held_out, windows = np.zeros(len(counts), dtype=np.int64), []
    for _ in range(members):
        window, frames = list[int](), 0
        for group in order[np.argsort(held_out[order], kind="stable")].tolist():
            if frames >= wanted:
                break
            if counts[group] <= 2 * (wanted - frames):
                window.append(group)
                frames += int(counts[group])
        held_out[window] += 1
        windows.append(window)
    return windows


def _check_windows(
    windows: Sequence[list[int]], counts: NDArray[np.int64], validation_fraction: float, size: int, seed: int
) -> None:
    """Refuse validation on too few frames, or on all.

    Raises:
        PiwslError: as of `split_groups`.
    """
    where = f"validation_by: the {size} frames of size {size}, seed {seed}, are of"
    if len(counts) == 1:
        raise PiwslError(f"{where} one group, and none is left to train on; validate by frame, or give more groups")
    wanted = max(1, round(validation_fraction * size))
    found = min(int(counts[window].sum()) for window in windows)
    if 2 * found < wanted or not found:
        raise PiwslError(
            f"{where} {len(counts)} groups of {counts.min()} to {counts.max()} frames, and validation_fraction: "
            f"{validation_fraction:g} asks for {wanted}; say {(found or counts.min()) / size:.2g}, or give more groups"
        )
    if any(len(window) == len(counts) for window in windows):
        raise PiwslError(
            f"{where} {len(counts)} groups, all of which validation_fraction: {validation_fraction:g} takes; say less"
        )


def hold_out(frames: int, test_frames: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Set frames of a file apart for testing.

    Args:
        frames: how many there are.
        test_frames: how many to hold out.
        seed: chooses them.

    Returns:
        Indices for training and for test, each in the order of the file.

    Raises:
        PiwslError: nothing would be left to train on.
    """
    if test_frames >= frames:
        raise PiwslError(f"test_frames {test_frames} leaves none of the {frames} frames to train on")
    order = generator("held-out frames", seed).permutation(frames)
    return np.sort(order[test_frames:]), np.sort(order[:test_frames])


def hold_out_groups(
    groups: Sequence[str] | Sequence[int] | Sequence[str | int],
    test_frames: int,
    seed: int,
    largest_first: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Set whole groups of frames apart, and of these frames for testing: no group is trained on and tested.

    Args:
        groups: that of each frame of a file.
        test_frames: how many frames to test on; so many groups are set apart that there are no fewer.
        seed: chooses the groups, and the frames of them.
        largest_first: whether the groups are numbers, of which the largest are set apart.

    Returns:
        Indices for training and for test, each in the order of the file. What else the groups for the test have is in
        neither.

    Raises:
        PiwslError: nothing would be left to train on.
    """
    kinds = {group: number for number, group in enumerate(sorted(set(groups)))}
    kind = np.array([kinds[group] for group in groups], dtype=np.int64)
    counts = np.bincount(kind)
    order = np.arange(len(kinds))[::-1] if largest_first else generator("held-out groups", seed).permutation(len(kinds))
    needed = int(np.searchsorted(np.cumsum(counts[order]), test_frames)) + 1
    if needed >= len(kinds):
        raise PiwslError(
            f"test_frames {test_frames} takes all of the {len(kinds)} groups of the {len(groups)} frames, and leaves "
            f"none to train on; take fewer{'' if largest_first else f', or another seed than {seed}'}"
        )
    apart = np.isin(kind, order[:needed])
    chosen = generator("held-out frames", seed).permutation(np.flatnonzero(apart))[:test_frames]
    return np.flatnonzero(~apart), np.sort(chosen)


def blocks_of(frames: int, blocks: int) -> list[int]:
    """Return in which of so many contiguous blocks, as equal as they can be, each frame of a file stands, from 0.

    Args:
        frames: how many there are.
        blocks: how many to cut them into; of fewer frames each is one.
    """
    return [number for number, block in enumerate(np.array_split(np.arange(frames), blocks)) for _ in block]


def read_positions(path: Path, frames: int) -> NDArray[np.int64]:
    """Read which frames of a file are meant, in the order of that file.

    Args:
        path: numbers from 0, apart by commas, spaces or lines.
        frames: how many there are.

    Raises:
        PiwslError: the file cannot be read, a number is none of a frame, or stands there twice.
    """
    try:
        words = path.read_text(encoding="utf-8-sig").replace(",", " ").split()
    except OSError as error:
        raise PiwslError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise PiwslError(f"{path}: cannot be read ({error}); positions of frames are text") from None
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise PiwslError(f"{path}: '{word[:40]}' is no position of a frame; expected numbers from 0")
        if len(word) > MOST_DIGITS or int(word) >= frames:
            raise PiwslError(f"{path}: {word[:40]} is no position of a frame; there are {frames}, from 0")
    return _in_order(path, [int(word) for word in words], frames)


def _in_order(path: Path, positions: Sequence[int], frames: int) -> NDArray[np.int64]:
    """Return positions that a file names in their order.

    Raises:
        PiwslError: there is none, one is none of a frame, or stands there twice.
    """
    if not positions:
        raise PiwslError(f"{path}: holds no position of a frame")
    if (most := max(positions)) >= frames or (most := min(positions)) < 0:
        raise PiwslError(f"{path}: {most} is no position of a frame; there are {frames}, from 0")
    found, counts = np.unique(np.array(positions, dtype=np.int64), return_counts=True)
    if len(found) < len(positions):
        raise PiwslError(f"{path}: {found[counts.argmax()]} stands there {counts.max()} times")
    return found


@dataclass(frozen=True)
class Source:
    """A file, as its reader counts its frames."""

    path: Path
    form: str
    """Name of the reader."""
    sha256: str
    """Of its content."""


def write_split(
    path: Path, parts: Mapping[str, tuple[Source, Sequence[int]]], held_out: Sequence[str | int] = ()
) -> None:
    """Write which frames a dataset has for training and for the test (`piwsl.records.StoredSplit`), atomically.

    Args:
        path: JSON to write.
        parts: of "training" and "test" the file, and the positions there, in order.
        held_out: the groups that only test frames are of.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as file:
            file.write("{\n")
            for part, (source, positions) in parts.items():
                about = {"file": str(source.path), "sha256": source.sha256, "format": source.form}
                file.write(f'  "{part}": {json.dumps(about, ensure_ascii=False)[:-1]}, "positions": [')
                for start in range(0, len(positions), POSITIONS_AT_ONCE):
                    some = ", ".join(map(str, positions[start : start + POSITIONS_AT_ONCE]))
                    file.write(f"{', ' if start else ''}{some}")
                file.write("]},\n")
            file.write(f'  "held_out": {json.dumps([*held_out], ensure_ascii=False)}\n}}\n')

    write_atomically(path, write)


def read_split(path: Path, source: Source, frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read which frames of a file are for training, and which for the test.

    Args:
        path: of `write_split`.
        source: the file that is to be split.
        frames: how many it has.

    Raises:
        PiwslError: the file is no split, or one of another file or of two; or as of `read_positions`.
    """
    found = read_record(StoredSplit, path)
    if found.training.sha256 != found.test.sha256:
        raise PiwslError(
            f"{path}: test frames are those of {found.test.file}, a file of their own; say file, test_file and drop as "
            "in that import, in place of split"
        )
    for part in (found.training, found.test):
        if part.sha256 != source.sha256:
            hashes = f"SHA-256 {source.sha256[:DIGITS_SHOWN]}..., not {part.sha256[:DIGITS_SHOWN]}..."
            raise PiwslError(f"{path}: is of another {part.file} than {source.path} ({hashes}); give that file")
        if part.format != source.form:
            raise PiwslError(f"{path}: counts frames as '{part.format}' does; say format: {part.format}")
    training, test = (_in_order(path, part.positions, frames) for part in (found.training, found.test))
    if len(both := np.intersect1d(training, test)):
        raise PiwslError(f"{path}: {both[0]} is a position of training and test; no frame is in both")
    return training, test
