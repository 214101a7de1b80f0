"""Files of any number of frames are imported in the same memory: a survey of a few numbers a frame, then the parts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from helpers import displaced, morse_frames

from piwsl.config import GivenDataset
from piwsl.data import copies, plausibility
from piwsl.data.assemble import import_given, write_geometries
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset
from piwsl.data.given import divide, survey_files
from piwsl.data.plausibility import Parts, asked_for, warnings
from piwsl.data.survey import Formulas, survey_of
from piwsl.errors import PiwslError
from piwsl.readers.extxyz import ExtendedXYZ
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, label, read_frames, write_frames

FEW, MANY = 2_000, 14_000
# Bytes for each further frame; one that is held takes some thousands.
MOST_A_FRAME = 400
# Of a further level with forces.
MOST_OF_A_LEVEL = 150
IMPORTS = """
import re, sys
from pathlib import Path
from piwsl.config import GivenDataset
from piwsl.data import columns
from piwsl.data.assemble import import_given
from piwsl.readers import _npz

# Buffers are full with few frames, too.
columns.ROWS_AT_ONCE, _npz.BLOCK_BYTES = 1000, 1 << 14
drop, levels, *names = sys.argv[1:]
for name in names:
    given = {level: {} for level in levels.split()}
    dataset = GivenDataset(file=Path(name), format="npz", test_frames=100, drop=drop.split(), given_levels=given)
    path = Path(name)
    import_given(dataset, path.with_suffix(".h5"), dropped_path=path.with_suffix(".csv"))
    print(re.search(r"VmHWM:.*", Path("/proc/self/status").read_text()).group())
"""


def write_water(path: Path, frames: int) -> Path:
    """Write frames of which each hundredth is a copy of the one before it."""
    rng = np.random.default_rng(0)
    positions = molecule("H2O").positions + 0.05 * rng.normal(size=(frames, 3, 3))
    energies = rng.normal(size=frames)
    positions[99::100], energies[99::100] = positions[98::100], energies[98::100]
    forces = rng.normal(size=(frames, 3, 3))
    np.savez(path, R=positions, z=[8, 1, 1], E=energies, F=forces, mp2_energy=2 * energies, mp2_forces=forces[::-1])
    return path


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the largest memory of a process from /proc")
@pytest.mark.parametrize(
    ("drop", "levels"),
    [("", ""), ("", "mp2"), ("unlabelled overlaps close_atoms energy_outliers force_outliers duplicates", "")],
)
def test_further_frames_take_a_few_bytes_of_memory_each(tmp_path, drop, levels):
    files = [write_water(tmp_path / "few.npz", FEW), write_water(tmp_path / "many.npz", MANY)]
    run = subprocess.run(
        [sys.executable, "-c", IMPORTS, drop, levels, *map(str, files)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = (1024 * int(line.split()[1]) for line in run.stdout.splitlines() if line.startswith("VmHWM"))
    assert (many - few) / (MANY - FEW) < MOST_A_FRAME + MOST_OF_A_LEVEL * len(levels.split())
    with Dataset(tmp_path / "many.h5") as made:
        found = len(made.indices(TRAINING)) + len(made.indices(TEST))
    # Some copies are missed, whose sums are next to those of other frames.
    assert found == MANY if not drop else 0.99 * MANY <= found < 0.992 * MANY
    assert len((tmp_path / "many.csv").read_text().splitlines()) == 1 + MANY - found


@pytest.fixture
def given(tmp_path) -> GivenDataset:
    """Twenty frames, of which seven are for the test, and a pool."""
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 20, forces=True))
    write_frames(tmp_path / "pool.xyz", morse_frames("H2O", 5, seed=1))
    return GivenDataset(file=tmp_path / "mine.xyz", test_frames=7, pool_file=tmp_path / "pool.xyz")


def test_a_file_is_read_twice_for_all_its_parts(given, tmp_path, monkeypatch):
    read: list[str] = []
    frames = ExtendedXYZ.frames
    monkeypatch.setattr(
        ExtendedXYZ, "frames", lambda self, path, every=1: (read.append(path.name), frames(self, path, every))[1]
    )
    import_given(given, tmp_path / "all.h5")
    assert sorted(read) == ["mine.xyz", "mine.xyz", "pool.xyz", "pool.xyz"]


def test_parts_of_one_file_keep_their_order(given, tmp_path):
    import_given(given, tmp_path / "all.h5")
    energies = [atoms.info[ENERGY_KEY] for atoms in read_frames(given.file)]
    with Dataset(tmp_path / "all.h5") as made:
        for name, part in divide(given, survey_files(given)).items():
            of_part = made.structures(made.indices(name))
            assert len(of_part) == len(part.indices) == {TRAINING: 13, TEST: 7, POOL: 5}[name]
            if name != POOL:
                assert [structure.energy for structure in of_part] == [energies[index] for index in part.indices]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "tmp"))] == []


@pytest.mark.parametrize("part", [TRAINING, TEST, POOL])
def test_a_part_alone_is_that_of_the_whole(given, tmp_path, part):
    import_given(given, tmp_path / "all.h5")
    import_given(given, tmp_path / "part.h5", part)
    with Dataset(tmp_path / "all.h5") as whole, Dataset(tmp_path / "part.h5") as made:
        for one, other in zip(
            whole.structures(whole.indices(part)), made.structures(np.arange(len(made))), strict=True
        ):
            np.testing.assert_array_equal(one.positions, other.positions)
            assert one.energy == other.energy or part == POOL


def test_a_file_that_changes_between_the_readings_is_refused(given, tmp_path, monkeypatch):
    def divide_and_change(*arguments):
        write_frames(given.file, morse_frames("H2O", 20, seed=5))
        return divide(*arguments)

    monkeypatch.setattr("piwsl.data.dropping.divide", divide_and_change)
    with pytest.raises(PiwslError, match=r"mine.xyz: changed while it was read; start again$"):
        import_given(given, tmp_path / "d.h5")
    with pytest.raises(PiwslError, match=r"mine.xyz: changed while it was read; start again$"):
        write_geometries(given, TEST, tmp_path / "g.xyz")
    assert {path.name for path in tmp_path.iterdir()} == {"mine.xyz", "pool.xyz"}


def test_a_file_that_is_written_to_while_it_is_read_is_refused(given, tmp_path, monkeypatch):
    """What reading half of each ran into is not what is said."""

    def cut(self, path, every=1):
        for number, atoms in enumerate(read_frames(given.file)):
            if number == 11:
                path.write_text("3\n")
                raise ValueError("an end in the middle")
            yield atoms

    monkeypatch.setattr(ExtendedXYZ, "frames", cut)
    with pytest.raises(PiwslError, match=r"mine.xyz: changed while it was read; start again$"):
        import_given(given, tmp_path / "d.h5")


@pytest.mark.parametrize(("then", "said"), [(19, "19"), (21, "more")])
def test_a_reader_that_gives_other_frames_the_second_time_is_refused(given, tmp_path, monkeypatch, then, said):
    counts = iter([20, then])
    monkeypatch.setattr(
        ExtendedXYZ, "frames", lambda self, path, every=1: iter(morse_frames("H2O", next(counts), forces=True))
    )
    mine = GivenDataset(file=given.file, test_frames=7)
    with pytest.raises(PiwslError, match=rf"mine.xyz: the reader 'extxyz' gave 20 frames, and then {said}; mend it$"):
        import_given(mine, tmp_path / "d.h5")
    assert not (tmp_path / "d.h5").exists()


def test_a_file_of_no_frame_is_refused(tmp_path):
    (tmp_path / "mine.xyz").write_text("")
    with pytest.raises(PiwslError, match=r"mine.xyz: holds no frame$"):
        import_given(GivenDataset(file=tmp_path / "mine.xyz", test_frames=1), tmp_path / "d.h5")


# What is doubted of frames that are not held.


def copies_among(frames) -> list[str]:
    return [line.partition(" have")[0] for line in warnings({TRAINING: frames, TEST: []}, computed=True)]


def named(frames):
    for number, atoms in enumerate(frames):
        atoms.info["frame"] = number
    return frames


def test_the_later_of_two_copies_is_the_copy():
    frames = morse_frames("CH3OH", 6)
    again = frames[1].copy()
    again.rotate(50, (1, 1, 0))
    assert copies_among(named([*frames, again])) == ["copies: 1 of 7 training frames (frame 6)"]


def test_turns_about_a_bond_are_no_copies_though_no_radius_changes():
    turned = []
    for angle in np.linspace(0, 59, 60):
        atoms = molecule("C2H6")
        carbon = atoms.positions[0]
        half = [index for index, each in enumerate(atoms.positions) if each @ carbon > 0]
        part = atoms[half]
        part.rotate(angle, carbon, center=(0, 0, 0))
        atoms.positions[half] = part.positions
        turned.append(atoms)
    assert copies_among(named(turned)) == []
    assert copies_among(named([*turned, turned[17].copy()])) == ["copies: 1 of 61 training frames (frame 60)"]


def test_copies_in_cells_of_one_atom_are_found_wherever_they_stand():
    cells = [Atoms("Cu", cell=[length] * 3, pbc=True) for length in (3.6, 3.7, 3.8, 3.6, 3.9)]
    assert copies_among(named(cells)) == ["copies: 1 of 5 training frames (frame 3)"]


def test_fingerprints_are_believed_beyond_what_is_compared_in_full(monkeypatch):
    frames = morse_frames("H2O", 5)
    every = named([each.copy() for each in frames for _ in range(3)])
    monkeypatch.setattr(copies, "MOST_COMPARED", 2)
    assert copies_among(every) == ["copies: 10 of 15 training frames (frame 1, 2, 4, 5, 7, ...)"]
    assert len(copies.compared(survey_of(every, Formulas()))) <= 4


def test_frames_of_one_geometry_differ_by_less_than_the_tolerance():
    rng = np.random.default_rng(0)
    for name in ("H2", "CH3OH", "C6H6"):
        atoms = displaced(name, 0.1, rng)
        near = atoms.copy()
        near.positions += copies.SAME_GEOMETRY / 8 * rng.uniform(-1, 1, near.positions.shape)
        near.rotate(33, (3, 2, 1))
        differences = np.abs(copies.fingerprint(atoms) - copies.fingerprint(near))
        assert (differences > 0).all()
        assert (differences < copies.tolerance(len(atoms))).all()


def test_a_few_frames_are_asked_for_however_many_there_are(monkeypatch):
    monkeypatch.setattr(plausibility, "FRAMES_PAIRED", 10)
    monkeypatch.setattr(plausibility, "MOST_PAIRED", 25)
    frames = [atoms for name in ("H2O", "NH3", "CH4") for atoms in morse_frames(name, 30, forces=True)]
    for atoms in frames[::7]:
        del atoms.arrays[FORCES_KEY]
    rows = asked_for(Parts.of({TRAINING: (survey_of(frames, Formulas()), np.arange(len(frames)))}))
    assert len(rows) == 20
    assert all(FORCES_KEY in frames[row].arrays for row in rows)


def test_frames_of_a_formula_are_fitted_as_if_each_were_a_row():
    """Their weighted mean stands for them: the same as least absolute errors of all frames, one wrong one aside."""
    rng = np.random.default_rng(0)
    energies = {"H2O": -2080.0, "H2": -31.0, "O2": -4090.0, "H2O2": -4120.0}
    frames = [
        label(molecule(name), energy + 0.1 * rng.normal(), None) for name, energy in energies.items() for _ in "abc"
    ]
    frames[4].info[ENERGY_KEY] = -10_000.0
    fitted = plausibility._fitted_to_most(survey_of(frames, Formulas()))
    counts = np.array([[np.count_nonzero(atoms.numbers == number) for number in (1, 8)] for atoms in frames])
    references = np.linalg.lstsq(counts, fitted, rcond=None)[0]
    np.testing.assert_allclose(counts @ references, fitted, atol=1e-6)
    best = np.abs(fitted - [atoms.info[ENERGY_KEY] for atoms in frames]).sum()
    for change in 0.02 * rng.normal(size=(100, 2)):
        assert np.abs(counts @ (references + change) - [atoms.info[ENERGY_KEY] for atoms in frames]).sum() > best - 1e-3
