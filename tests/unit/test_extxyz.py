"""Extended XYZ as others write it: what a file says is found under its name, or one line says what is wrong."""

from __future__ import annotations

import gzip
import os

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from helpers import morse_frames

from piwsl.config import Geometries
from piwsl.errors import PiwslError
from piwsl.reference import geometries
from piwsl.reference.geometries import read_geometries
from piwsl.structures.extxyz import count_frames, iterate_frames
from piwsl.structures.frames import label, read_frames, write_frames

FRAME = "2\nREF_energy=-1.5 Properties=species:S:1:pos:R:3\nH 0 0 0\nH 0 0 0.7\n"


@pytest.mark.parametrize(
    "text",
    [
        FRAME + FRAME,
        FRAME + "\n" + FRAME,
        FRAME + FRAME + "\n   \n\n",
        (FRAME + FRAME).replace("\n", "\r\n"),
        "\ufeff" + FRAME + FRAME,
        (FRAME + FRAME).replace("H ", "H\t"),
        (FRAME + FRAME).replace("H 0 0", "h  0   0"),
    ],
    ids=["plain", "blank between", "blank after", "Windows", "byte order mark", "tabs", "spaces"],
)
def test_spaces_and_line_ends_change_nothing(tmp_path, text):
    path = tmp_path / "frames.xyz"
    path.write_text(text, newline="")
    frames = read_frames(path)
    assert len(frames) == count_frames(path) == len(read_geometries(Geometries(file=path))) == 2
    assert [frame.info for frame in frames] == [{"REF_energy": -1.5}] * 2
    assert all(frame.get_distance(0, 1) == pytest.approx(0.7) for frame in frames)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (FRAME + FRAME[:-12], "frame 1, line 5: ends before its 2 atoms, after 1"),
        (FRAME + "the end\n", "frame 1, line 5: a frame begins with its number of atoms, found 'the end'"),
        (FRAME.replace("2", "+2", 1), r"frame 0, line 1: .* found '\+2'"),
        (FRAME + FRAME.replace("2", "1000000000000", 1), "frame 1, line 5: ends before its 1000000000000 atoms"),
        (FRAME.replace("2", "1" + "0" * 60, 1), "frame 0, line 1: ends before"),
        ("2\nH 0 0 0\nH 0 0 .7\n" + FRAME, "frame 0, line 4: '2' is no element|line 4: expected 4 columns, found 1"),
        (FRAME + "\n2\nenergy=1\nH 0 0 0\nH 0 0\n", r"frame 1, line 9: expected 4 columns, found 3 \('H 0 0'\)"),
        (FRAME.replace("0.7", "7.0D-1"), "frame 0, line 4: column 'positions' holds '7.0D-1'"),
        (FRAME.replace("0.7", "0.7 1 2 3"), "frame 0, line 4: expected 4 columns, found 7"),
        (FRAME.replace("H 0 0 0.7", "Qq 0 0 1"), "frame 0, line 4: 'Qq' is no element"),
        (FRAME.replace("pos:R:3", "pos:R"), "frame 0, line 2: Properties is"),
        (FRAME.replace("pos:R:3", "pos:R:2:x:R:1"), "positions are R:3, found R:2"),
        (FRAME.replace("pos:R:3", "x:R:3"), "Properties names no columns"),
        (FRAME.replace("REF", 'lattice="1 0 0 0 1 0 0 0 1" REF'), "'lattice' is written 'Lattice'"),
        (FRAME.replace("REF", 'Lattice="1 0 0" REF'), "frame 0, line 2: the comment line cannot be read"),
        (FRAME.replace("REF", "pbc=maybe REF"), "pbc is three of T and F"),
        (FRAME.replace("REF", 'REF_energy=-2 x="a=1 b=2" REF'), "line 2: the comment line says 'REF_energy' twice"),
        ("\0" * 100_000, "frame 0, line 1"),
        ("x" * 1_000_000, "frame 0, line 1"),
        ("", "holds no frame"),
    ],
)
def test_a_file_that_is_wrong_ends_in_one_line_with_frame_and_line(tmp_path, text, problem):
    path = tmp_path / "frames.xyz"
    path.write_text(text)
    with pytest.raises(PiwslError, match=problem) as raised:
        read_frames(path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value).replace(str(tmp_path), "")) < 200


# The ids are names: gzip writes the time into its bytes, and workers that collect in different seconds would not agree.
@pytest.mark.parametrize(
    "content",
    [FRAME.replace("REF", "at=1Å REF").encode("latin-1"), FRAME.encode("utf-16"), gzip.compress(b"1")],
    ids=["latin-1", "utf-16", "gzip"],
)
def test_what_is_no_text_is_refused(tmp_path, content):
    (tmp_path / "frames.xyz").write_bytes(content)
    for read in (read_frames, count_frames):
        with pytest.raises(PiwslError, match="is no text in UTF-8"):
            read(tmp_path / "frames.xyz")


def test_pipes_and_folders_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.xyz")
    for path in (tmp_path, tmp_path / "pipe.xyz"):
        with pytest.raises(PiwslError, match="is no file"):
            read_frames(path)


def test_frames_are_read_as_ase_wrote_them(tmp_path):
    frames = morse_frames("CH3OH", 2, forces=True)
    frames[0].set_cell([[5, 1, 0], [0, 6, 2], [1, 0, 7]])
    frames[0].pbc = [True, False, True]
    frames[1].info |= {"name": "a b", "list": np.array([1.5, 2.5]), "charge": -1}
    ase.io.write(tmp_path / "frames.xyz", frames, format="extxyz")
    for frame, read in zip(
        ase.io.read(tmp_path / "frames.xyz", ":"), read_frames(tmp_path / "frames.xyz"), strict=True
    ):
        assert read == frame
        assert read.info.keys() == frame.info.keys()
        np.testing.assert_array_equal(read.arrays["REF_forces"], frame.arrays["REF_forces"])


@pytest.mark.parametrize("pbc", [False, True])
def test_frames_out_and_in_again_are_what_they_were(tmp_path, pbc):
    """Energies of all levels, stress and cell to the last bit; what stands in columns has eight digits."""
    rng = np.random.default_rng(7)
    frames = morse_frames("CH3OH", 5, forces=True)
    for number, atoms in enumerate(frames):
        atoms.info |= {"hf_energy": -rng.random() * 10.0**number, "charge": number - 2, "source": "a = [1, 'b']"}
        atoms.set_array("hf_forces", rng.normal(size=(len(atoms), 3)))
        if pbc:
            atoms.set_cell(rng.normal(size=(3, 3)) + 9 * np.eye(3))
            atoms.pbc = [True, True, number % 2 == 0]
            atoms.info["REF_stress"] = rng.normal(size=(3, 3)) / 300
    write_frames(tmp_path / "first.xyz", frames)
    once = read_frames(tmp_path / "first.xyz")
    write_frames(tmp_path / "second.xyz", once)
    for read in (once, read_frames(tmp_path / "second.xyz")):
        for before, after in zip(frames, read, strict=True):
            assert before.info.keys() == after.info.keys()
            assert all(np.array_equal(value, after.info[key]) for key, value in before.info.items())
            np.testing.assert_array_equal(before.numbers, after.numbers)
            np.testing.assert_array_equal(before.cell.array, after.cell.array)
            np.testing.assert_array_equal(before.pbc, after.pbc)
            for name in ("positions", "REF_forces", "hf_forces"):
                np.testing.assert_allclose(after.arrays[name], before.arrays[name], rtol=0, atol=1e-8)
    assert (tmp_path / "second.xyz").read_bytes() == (tmp_path / "first.xyz").read_bytes()


def test_names_that_ase_moves_into_a_calculator_stay_where_the_file_has_them(tmp_path):
    atoms = molecule("H2O")
    results = {"energy": -76.0, "free_energy": -76.5, "forces": np.ones((3, 3)), "stress": np.arange(6.0)}
    atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write(tmp_path / "frames.xyz", atoms, format="extxyz")
    (read,) = iterate_frames(tmp_path / "frames.xyz")
    assert read.calc is None
    assert (read.info["energy"], read.info["free_energy"]) == (-76.0, -76.5)
    np.testing.assert_array_equal(read.arrays["forces"], np.ones((3, 3)))
    write_frames(tmp_path / "again.xyz", [read])
    (again,) = read_frames(tmp_path / "again.xyz")
    np.testing.assert_array_equal(again.info["stress"], read.info["stress"])


def test_what_is_computed_takes_the_place_of_what_a_file_said(tmp_path):
    (tmp_path / "frames.xyz").write_text(
        "1\nenergy=-1 free_energy=-2 REF_energy=-3 Properties=species:S:1:pos:R:3:forces:R:3:REF_forces:R:3\n"
        "H 0 0 0 1 1 1 2 2 2\n"
    )
    (frame,) = read_frames(tmp_path / "frames.xyz")
    labelled = label(frame, -13.6, None)
    assert labelled.info == {"REF_energy": -13.6}
    assert set(labelled.arrays) == {"numbers", "positions"}
    frame.calc = SinglePointCalculator(frame, energy=-7.0, forces=np.zeros((1, 3)))
    write_frames(tmp_path / "predicted.xyz", [frame])
    (predicted,) = read_frames(tmp_path / "predicted.xyz")
    assert predicted.info == {"energy": -7.0, "REF_energy": -3.0}
    np.testing.assert_array_equal(predicted.arrays["forces"], np.zeros((1, 3)))


def test_atoms_that_may_not_move_are_held(tmp_path):
    (tmp_path / "frames.xyz").write_text("2\nProperties=species:S:1:pos:R:3:move_mask:L:1\nH 0 0 0 F\nH 0 0 .7 T\n")
    (frame,) = read_frames(tmp_path / "frames.xyz")
    assert frame.constraints[0].index.tolist() == [0]


@pytest.mark.parametrize(
    "comment", ["", "Properties of water", "lattice energy: -3.2 gnorm: 0.001", "made by hand, a = b"]
)
def test_the_comment_of_plain_xyz_may_be_any_text(tmp_path, comment):
    (tmp_path / "frames.xyz").write_text(f"2\n{comment}\nH 0 0 0\nH 0 0 0.7\n")
    (frame,) = read_frames(tmp_path / "frames.xyz")
    assert frame.get_distance(0, 1) == pytest.approx(0.7)


def test_a_file_of_geometries_is_read_once_until_it_is_another(tmp_path, monkeypatch):
    path, read = tmp_path / "mine.xyz", []
    monkeypatch.setattr(geometries, "read_frames", lambda asked: read.append(asked) or read_frames(asked))
    write_frames(path, [molecule("H2O")])
    (first,), (again,) = (read_geometries(Geometries(file=path)) for _ in range(2))
    assert len(read) == 1
    first.positions += 1.0
    first.info["frame"] = "mine"
    assert np.array_equal(again.positions, molecule("H2O").positions)
    (third,) = read_geometries(Geometries(file=path))
    assert np.array_equal(third.positions, molecule("H2O").positions)
    assert third.info["frame"] == "mine-0"
    write_frames(path, [molecule("NH3"), molecule("H2O")])
    assert len(read_geometries(Geometries(file=path))) == len(read) == 2
    path.unlink()
    with pytest.raises(PiwslError, match=r"mine\.xyz"):
        read_geometries(Geometries(file=path))
