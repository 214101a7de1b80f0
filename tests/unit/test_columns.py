"""The dataset file is written one frame after another and read in parts, whatever frames say, by many at once."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest

from piwsl.data.columns import Column
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset, write_structures
from piwsl.errors import PiwslError
from piwsl.structures.labels import Labels, Slope
from piwsl.structures.structure import Structure


def structure(rng: np.random.Generator, atoms: int, **labels: Labels) -> Structure:
    """Return atoms at random places, with labels by level."""
    said = rng.integers(1, 9, atoms), rng.normal(size=(atoms, 3)), rng.normal(size=(3, 3)), rng.random(3) < 0.5
    return Structure(*said, labels, charge=int(rng.integers(-2, 3)), multiplicity=int(rng.integers(1, 4)))


def some_labels(rng: np.random.Generator, atoms: int) -> Labels:
    """Return labels of which each may be there or not."""
    direction = rng.normal(size=(atoms, 3))
    every = {
        "energy": float(rng.normal()),
        "forces": rng.normal(size=(atoms, 3)),
        "stress": rng.normal(size=(3, 3)),
        "slope": Slope(float(rng.normal()), direction / np.linalg.norm(direction)),
        "weight": 0.5,
    }
    return Labels(**{name: value for name, value in every.items() if rng.random() < 0.5})


def mixed_frames(count: int, seed: int = 0) -> list[Structure]:
    """Return frames of which each says what it likes: of any size, of none, one or two levels."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms, levels = int(rng.integers(1, 7)), [name for name in ("reference", "hf") if rng.random() < 0.6]
        found.append(structure(rng, atoms, **{level: some_labels(rng, atoms) for level in levels}))
    return found


def assert_same(found: Structure, written: Structure) -> None:
    """Compare all that frames say, to the last bit; a level that says nothing is as one that is not there."""
    for name in ("numbers", "positions", "cell", "pbc", "charge", "multiplicity", "temperature", "coordinate"):
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name))
    for level in {*found.labels, *written.labels}:
        ours, theirs = found.at_level(level), written.at_level(level)
        if theirs.are_none:
            assert ours.are_none
            continue
        for name in ("energy", "forces", "stress"):
            assert (getattr(ours, name) is None) == (getattr(theirs, name) is None)
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        assert ours.weight == theirs.weight
        assert (ours.slope is None) == (theirs.slope is None)
        if ours.slope is not None:
            assert ours.slope.value == theirs.slope.value
            np.testing.assert_array_equal(ours.slope.direction, theirs.slope.direction)


@pytest.mark.parametrize("rows_at_once", [1, 7, 100_000])
def test_frames_come_back_to_the_last_bit_whatever_they_say_and_wherever_it_begins(tmp_path, monkeypatch, rows_at_once):
    for module in ("columns", "dataset"):
        monkeypatch.setattr(f"piwsl.data.{module}.ROWS_AT_ONCE", rows_at_once)
    written = mixed_frames(40)
    parts = {TRAINING: iter(written[:25]), TEST: iter(written[25:33]), POOL: iter(written[33:])}
    write_structures(tmp_path / "d.h5", parts, {1: -13.6})
    with Dataset(tmp_path / "d.h5") as dataset:
        assert len(dataset) == 40
        assert dataset.indices(POOL).tolist() == list(range(33, 40))
        order = np.random.default_rng(1).permutation(40)
        for indices in (order, np.arange(40), np.array([3, 4, 4, 5, 39, 0])):
            for index, found in zip(indices, dataset.structures(indices), strict=True):
                assert_same(found, written[index])
        known = [written[index].at_level("hf").forces is not None for index in range(40)]
        assert dataset.labelled("hf", "forces").tolist() == known
        assert dataset.elements() == sorted({number for each in written[:33] for number in each.numbers.tolist()})
    assert [path.name for path in tmp_path.iterdir()] == ["d.h5"]


def test_a_file_of_no_frame_and_of_one_part_can_be_read(tmp_path):
    write_structures(tmp_path / "none.h5", {})
    with Dataset(tmp_path / "none.h5") as dataset:
        assert (len(dataset), dataset.elements(), dataset.structures(dataset.indices(TEST))) == (0, [], [])
        dataset.verify()
    write_structures(tmp_path / "pool.h5", {POOL: mixed_frames(3)})
    with Dataset(tmp_path / "pool.h5") as dataset:
        assert (dataset.indices(POOL).tolist(), dataset.elements()) == ([0, 1, 2], [])


def large_frames(count: int) -> Iterator[Structure]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield structure(rng, 100, reference=Labels(energy=1.0, forces=rng.normal(size=(100, 3))))


def test_neither_writing_nor_reading_holds_more_than_a_few_frames(tmp_path):
    frames, bytes_of_one = 1500, 100 * (8 + 24 + 24)

    def peak() -> int:
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        return found

    tracemalloc.start()
    try:
        write_structures(tmp_path / "d.h5", {TRAINING: large_frames(frames)})
        writing = peak()
        with Dataset(tmp_path / "d.h5") as dataset:
            opening = peak()
            for index in range(0, frames, 7):
                dataset.structure(index)
            reading = peak()
    finally:
        tracemalloc.stop()
    whole = frames * bytes_of_one
    assert whole > 8e6
    # A block of the longest column, by atom, is moved at once.
    assert writing < 100_000 * 24 + 2e6
    assert max(opening, reading) < whole / 10


def structures_of(path: Path, index: int) -> list[bytes]:
    with Dataset(path) as dataset:
        return [each.positions.tobytes() for each in dataset.structures(np.arange(index, index + 5))]


def read_by_the_parents(dataset: Dataset, index: int) -> list[bytes]:
    return [each.positions.tobytes() for each in dataset.structures(np.arange(index, index + 5))]


def test_processes_read_at_once_also_by_what_their_parent_opened(tmp_path):
    written = mixed_frames(40)
    write_structures(tmp_path / "d.h5", {TRAINING: written})
    wanted = [[each.positions.tobytes() for each in written[start : start + 5]] for start in range(35)]
    with Dataset(tmp_path / "d.h5") as dataset, ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        for read, of in ((structures_of, tmp_path / "d.h5"), (read_by_the_parents, dataset)):
            assert list(pool.map(read, [of] * 35, range(35))) == wanted


def test_a_file_that_is_cut_while_it_is_open_is_said_to_be_damaged(tmp_path):
    path = tmp_path / "d.h5"
    write_structures(path, {TRAINING: mixed_frames(40)})
    with Dataset(path) as dataset:
        os.truncate(path, path.stat().st_size // 4)
        with pytest.raises(PiwslError, match=r"d.h5: is damaged .*the file ends before its content"):
            dataset.verify()


def test_a_column_in_pieces_is_none_of_ours(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        chunked = file.create_dataset("positions", data=np.ones((4, 3)), chunks=(2, 3))
        with pytest.raises(ValueError, match="/positions does not lie in one piece"):
            Column.of(chunked)


def test_what_stops_the_writing_leaves_nothing_behind(tmp_path):
    def broken() -> Iterator[Structure]:
        yield from mixed_frames(3)
        raise PiwslError("no more")

    with pytest.raises(PiwslError, match="no more"):
        write_structures(tmp_path / "d.h5", {TRAINING: broken()})
    assert list(tmp_path.iterdir()) == []


def test_forces_of_more_atoms_than_a_frame_has_are_refused(tmp_path):
    frames = mixed_frames(3)
    frames[1] = frames[1].labelled("reference", Labels(forces=np.zeros((len(frames[1].numbers) + 1, 3))))
    with pytest.raises(ValueError, match=r"labels/reference/forces has .* rows where there are"):
        write_structures(tmp_path / "d.h5", {TRAINING: frames})
