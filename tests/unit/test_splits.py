"""What is tested was not trained on: whole groups, compositions or sizes are held out, or a list of frames."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms, units
from helpers import morse_frames, plain_experiment
from typer.testing import CliRunner

from piwsl import preflight
from piwsl.architectures.painn import PaiNN
from piwsl.catalogue import DOWNLOADS, find
from piwsl.cli import app
from piwsl.config import ConfigError, GivenDataset, Training, parse_section
from piwsl.data import given
from piwsl.data.assemble import import_given, write_geometries
from piwsl.data.dataset import TEST, TRAINING, Dataset
from piwsl.data.dropping import frames_left, frames_of, kept_of
from piwsl.data.given import _group_of, read_files
from piwsl.data.splits import hold_out_groups, read_positions, split_run
from piwsl.errors import PiwslError
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, write_frames
from piwsl.structures.structure import from_atoms
from piwsl.training.frames import frames_of_structures

TRAJECTORIES = ("cold", "warm", "hot", "melt")


@pytest.fixture
def path(tmp_path) -> Path:
    """Twelve frames of water from four trajectories in turns."""
    frames = morse_frames("H2O", 12)
    for number, atoms in enumerate(frames):
        atoms.info["trajectory"] = TRAJECTORIES[number % 4]
    write_frames(tmp_path / "mine.xyz", frames)
    return tmp_path / "mine.xyz"


@pytest.fixture
def mixed(tmp_path) -> Path:
    """Frames of molecules of two to six atoms, four of each but the largest."""
    names = ["H2", "H2O", "NH3", "CO2", "CH4", "CH3OH"]
    frames = [atoms for name in names for atoms in morse_frames(name, 2 if name == "CH3OH" else 4)]
    write_frames(tmp_path / "mixed.xyz", frames)
    return tmp_path / "mixed.xyz"


def divided(path: Path, **keys: Any) -> dict[str, list[Any]]:
    dataset = parse_section(GivenDataset, {"file": str(path)} | keys, "datasets.mine")
    found = frames_of(kept_of(dataset, read_files(dataset)))
    assert {part: frames_left(dataset, part) for part in (TRAINING, TEST)} == {
        part: len(found[part]) for part in (TRAINING, TEST)
    }
    return found


def of_trajectory(path: Path, frames: list[Any]) -> set[str]:
    return {TRAJECTORIES[atoms.info["frame"] % 4] for atoms in frames}


@pytest.mark.parametrize("wanted", [1, 3, 4, 7])
@pytest.mark.parametrize("seed", [0, 1, 5])
def test_no_group_is_trained_on_and_tested(path, wanted, seed):
    found = divided(path, test_frames=wanted, seed=seed, split={"by": "group", "key": "trajectory"})
    assert len(found[TEST]) == wanted
    held = -(-wanted // 3)  # three frames a trajectory
    assert len(found[TRAINING]) == 12 - 3 * held
    assert not of_trajectory(path, found[TRAINING]) & of_trajectory(path, found[TEST])


@pytest.mark.parametrize(
    "values", [(300, 300.0, "300", 5e2), ("é", "e\u0301", "é", "e"), (True, np.True_, True, False)]
)
def test_a_group_is_one_however_it_is_written(tmp_path, values):
    frames = morse_frames("H2O", 8)
    for number, atoms in enumerate(frames):
        atoms.info["group of mine"] = values[number % 4]
    dataset = GivenDataset(file="a.traj", test_frames=1, split={"by": "group", "key": "group of mine"})
    groups = [_group_of(dataset.split, atoms) for atoms in frames]
    assert len(set(groups[:3])) == 1
    assert groups[3] != groups[0]


@pytest.mark.parametrize("value", [np.eye(3), [1, 2], float("nan"), {"a": 1}, None])
def test_a_group_that_is_neither_text_nor_a_number_is_refused(value):
    atoms = morse_frames("H2O", 1)[0]
    atoms.info["box"] = value
    dataset = GivenDataset(file="a.traj", test_frames=1, split={"by": "group", "key": "box"})
    with pytest.raises(PiwslError, match="a group is text or a number") as raised:
        _group_of(dataset.split, atoms)
    assert "\n" not in str(raised.value)


def test_geometries_for_cheap_levels_do_not_depend_on_what_held_them_out(path, tmp_path):
    keys = {"file": path, "test_frames": 3}
    split = {"by": "group", "key": "trajectory"}
    write_geometries(GivenDataset(**keys, split=split), TEST, tmp_path / "a.xyz")
    assert "group" not in (tmp_path / "a.xyz").read_text()


def test_free_atoms_are_known_wherever_they_are_held_out(tmp_path):
    atoms = [Atoms("H"), Atoms("O")]
    for atom, energy in zip(atoms, (-13.6, -2040.0), strict=True):
        atom.info["REF_energy"] = energy
    write_frames(tmp_path / "mine.xyz", [*morse_frames("H2O", 6), *atoms])
    (tmp_path / "lists.csv").write_text("1,2")
    (tmp_path / "test.csv").write_text("0")
    split = {"training": tmp_path / "lists.csv", "test": tmp_path / "test.csv"}
    import_given(GivenDataset(file=tmp_path / "mine.xyz", split=split), tmp_path / "mine.h5")
    with Dataset(tmp_path / "mine.h5") as dataset:
        assert dataset.atomic_energies() == {1: -13.6, 8: -2040.0}
        assert len(dataset.indices(TRAINING)) == 2


def test_a_seed_says_which_groups_are_held_out(path):
    keys = {"test_frames": 3, "split": {"by": "group", "key": "trajectory"}}
    held = [of_trajectory(path, divided(path, seed=seed, **keys)[TEST]).pop() for seed in range(12)]
    assert len(set(held)) > 1
    assert held[0] == of_trajectory(path, divided(path, seed=0, **keys)[TEST]).pop()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_compositions_are_held_out_whole(mixed, seed):
    found = divided(mixed, test_frames=5, seed=seed, split={"by": "composition"})
    tested, learned = ({str(atoms.symbols.formula) for atoms in found[part]} for part in (TEST, TRAINING))
    assert len(found[TEST]) == 5
    assert not tested & learned


def test_the_largest_molecules_are_held_out(mixed):
    found = divided(mixed, test_frames=3, split={"by": "size"})
    # The two frames of methanol are too few, so methane is held out, too.
    assert {len(atoms) for atoms in found[TEST]} <= {5, 6}
    assert len(found[TEST]) == 3
    assert sorted({len(atoms) for atoms in found[TRAINING]}) == [2, 3, 4]


@pytest.mark.parametrize(("blocks", "stride"), [(5, 1), (7, 1), (30, 1), (4, 2)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_neighbours_in_time_stay_together(mixed, blocks, stride, seed):
    keys = {"test_frames": 3, "seed": seed, "stride": stride, "split": {"by": "block", "blocks": blocks}}
    found = {
        part: {atoms.info["frame"] // stride for atoms in frames}
        for part, frames in divided(mixed, **keys).items()
        if part in (TRAINING, TEST)
    }
    taken = -(-22 // stride)
    cut = [set(block.tolist()) for block in np.array_split(np.arange(taken), blocks)]
    assert len(found[TEST]) == 3
    held = [block for block in cut if block & found[TEST]]
    assert found[TRAINING] == set(range(taken)).difference(*held)


def test_blocks_are_known_however_many_frames_there_are(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(given, "MOST_GROUPED", 11)
    monkeypatch.setattr(preflight, "FRAMES_CHECKED", 4)
    keys = {"test_frames": 3, "split": {"by": "block", "blocks": 3}}
    assert checked(tmp_path, 8, **keys)[0] == 0
    assert "9 is more than the training frames" in checked(tmp_path, 9, **keys)[1]
    dataset = GivenDataset(file=path, **keys)
    some, every = (frames_of(kept_of(dataset, read_files(dataset, most))) for most in (4, None))
    for part in (TRAINING, TEST):
        assert {atoms.info["frame"] for atoms in some[part]} <= {atoms.info["frame"] for atoms in every[part]}


def test_what_is_in_neither_part_is_said(path, capsys):
    dataset = GivenDataset(file=path, test_frames=2, split={"by": "group", "key": "trajectory"})
    import_given(dataset, path.with_suffix(".h5"))
    assert "1 frames of the groups of test frames are in neither part" in capsys.readouterr().out
    with Dataset(path.with_suffix(".h5")) as file:
        assert (len(file.indices(TRAINING)), len(file.indices(TEST))) == (9, 2)


def test_a_list_of_positions_says_what_is_tested(path, tmp_path):
    (tmp_path / "test.csv").write_text("7\n2\n11\n")
    found = divided(path, split={"test": str(tmp_path / "test.csv")})
    assert [atoms.info["frame"] for atoms in found[TEST]] == [2, 7, 11]
    assert len(found[TRAINING]) == 9
    (tmp_path / "training.csv").write_text("0, 1, 3")
    found = divided(path, split={"test": str(tmp_path / "test.csv"), "training": str(tmp_path / "training.csv")})
    assert [atoms.info["frame"] for atoms in found[TRAINING]] == [0, 1, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no position"),
        ("index\n3\n", "'index' is no position of a frame; expected numbers from 0"),
        ("3.0\n", "'3.0' is no position"),
        ("-1\n", "'-1' is no position"),
        ("12\n", "12 is no position of a frame; there are 12, from 0"),
        ("9" * 5000, "is no position of a frame; there are 12"),
        ("3 4 3", "3 stands there 2 times"),
        ("²", "is no position"),
        ("\ufeffindex", "'index' is no position"),
    ],
)
def test_positions_that_are_none_are_refused(tmp_path, text, said):
    (tmp_path / "test.csv").write_text(text)
    with pytest.raises(PiwslError, match=said) as raised:
        read_positions(tmp_path / "test.csv", 12)
    assert "\n" not in str(raised.value)


def test_a_list_that_a_spreadsheet_wrote_is_read(tmp_path):
    (tmp_path / "test.csv").write_bytes(b"\xef\xbb\xbf3\r\n1\r\n")
    assert read_positions(tmp_path / "test.csv", 12).tolist() == [1, 3]


def test_positions_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "test.npy").write_bytes(b"\x93NUMPY\x01\x00\xff")
    with pytest.raises(PiwslError, match=r"test\.npy: cannot be read .*; positions of frames are text"):
        read_positions(tmp_path / "test.npy", 12)


def test_no_frame_is_in_both_lists_and_some_are_left_to_train_on(path, tmp_path):
    (tmp_path / "a.csv").write_text("0 1 2")
    (tmp_path / "b.csv").write_text("2 3")
    with pytest.raises(PiwslError, match=r"a\.csv: 2 is a position of .*b\.csv, too"):
        divided(path, split={"training": str(tmp_path / "a.csv"), "test": str(tmp_path / "b.csv")})
    (tmp_path / "all.csv").write_text(" ".join(map(str, range(12))))
    with pytest.raises(PiwslError, match="names all of the 12 frames"):
        divided(path, split={"test": str(tmp_path / "all.csv")})


def test_groups_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(PiwslError, match="test_frames 4 takes all of the 2 groups of the 6 frames"):
        hold_out_groups(["a", "b", "a", "b", "a", "b"], 4, seed=0)
    with pytest.raises(PiwslError, match="takes all of the 1 groups"):
        hold_out_groups(["a", "a"], 1, seed=0)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"test_frames": 1, "split": {"by": "group"}}, "'key' and 'by: group' go together"),
        ({"test_frames": 1, "split": {"key": "trajectory"}}, "'key' and 'by: group' go together"),
        ({"test_frames": 1, "split": {"by": "block"}}, "'blocks' and 'by: block' go together"),
        ({"test_frames": 1, "split": {"by": "size", "blocks": 10}}, "'blocks' and 'by: block' go together"),
        ({"test_frames": 1, "split": {"by": "block", "blocks": 1}}, "greater than or equal to 2"),
        ({"split": {"by": "block", "blocks": 10, "test": "a.csv"}}, "leave one of them out"),
        ({"test_frames": 1, "split": {"test": "a.csv"}}, "give one of 'test_file', 'test_frames'"),
        ({"test_file": "b.xyz", "split": {"by": "size"}}, "split: goes with 'test_frames'"),
        ({"split": {"by": "size"}}, "give one of 'test_file', 'test_frames'"),
        ({"split": {"by": "size", "test": "a.csv"}}, "leave one of them out"),
        ({"test_frames": 1, "split": {"training": "a.csv"}}, "goes with 'test'"),
        ({"split": {"published": 1}}, "published: is of a set of the catalogue, which this is not"),
        ({"catalogue": "rmd17/ethanol", "split": {"published": 6}}, "split 6 of 'rmd17/ethanol' is not published"),
        ({"catalogue": "3bpa", "split": {"published": 1}}, "there are none as files"),
        ({"catalogue": "rmd17/ethanol", "split": {"published": 1, "by": "size"}}, "leave its other keys out"),
        ({"catalogue": "rmd17/ethanol", "split": {"published": True}}, "published"),
        (
            {"catalogue": "rmd17/ethanol", "path": "no/a.npz", "split": {"published": 1}},
            "no index_train_01.csv in no, no/splits, splits; put it there, or say split: {training, test}",
        ),
    ],
)
def test_a_split_that_says_two_things_is_refused(keys, said):
    section = keys if "catalogue" in keys else {"file": "a.xyz"} | keys
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse_section(GivenDataset, section, "datasets.mine")


def test_a_published_split_is_downloaded_with_its_set():
    section = parse_section(GivenDataset, {"catalogue": "rmd17/ethanol", "split": {"published": 2}}, "datasets.mine")
    assert section.split.files == [DOWNLOADS / "rmd17" / f"index_{part}_02.csv" for part in ("train", "test")]
    assert GivenDataset.model_validate(section.beyond_defaults()) == section
    sources = {source.path: source for source in find("rmd17/ethanol").sources()}
    assert sources[section.split.test].member == "splits/index_test_02.csv"
    assert sources[section.split.test].archive == sources[section.file].archive


@pytest.mark.parametrize(
    ("file", "lists"),
    [
        ("rmd17/npz_data/rmd17_ethanol.npz", "rmd17/splits"),  # as the archive has them
        ("rmd17/rmd17_ethanol.npz", "rmd17/splits"),
        ("rmd17_ethanol.npz", "."),
        ("rmd17_ethanol.npz", "../splits"),
    ],
)
def test_a_published_split_is_found_by_a_set_that_is_there_already(tmp_path, monkeypatch, file, lists):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path in (Path(file).parent, Path(lists)):
        path.mkdir(parents=True, exist_ok=True)
    frames = morse_frames("CH3CH2OH", 6, forces=True)
    labels = {"energies": [atoms.info[ENERGY_KEY] for atoms in frames]}
    labels["forces"] = [atoms.arrays[FORCES_KEY] for atoms in frames]
    np.savez(file, nuclear_charges=frames[0].numbers, coords=[atoms.positions for atoms in frames], **labels)
    (Path(lists) / "index_train_03.csv").write_text("5\n0\n2\n")
    said = {"catalogue": "rmd17/ethanol", "path": file, "split": {"published": 3}}
    with pytest.raises(ConfigError, match=r"'rmd17/ethanol': no index_test_03\.csv in .*splits; put it there"):
        parse_section(GivenDataset, said, "datasets.mine")
    (Path(lists) / "index_test_03.csv").write_text("1\n3\n")
    section = parse_section(GivenDataset, said, "datasets.mine")
    assert (section.file, section.test_file) == (Path(file), None)
    assert GivenDataset.model_validate(section.beyond_defaults()) == section
    import_given(section, tmp_path / "d.h5")
    with Dataset(tmp_path / "d.h5") as made:
        found = {part: [each.energy for each in made.structures(made.indices(part))] for part in (TRAINING, TEST)}
    kcal = units.kcal / units.mol
    for part, positions in ((TRAINING, [0, 2, 5]), (TEST, [1, 3])):
        np.testing.assert_allclose(found[part], [kcal * labels["energies"][each] for each in positions])


def checked(folder: Path, size: int, **keys: Any) -> tuple[int, str]:
    config = plain_experiment() | {"levels": {}, "sizes": [size]}
    config["models"]["painn"]["atomic_references"] = "fitted"
    config["datasets"] = {"mine": {"file": "mine.xyz"} | keys}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["check", "config.yaml"])
    return result.exit_code, result.output


def test_check_knows_what_groups_leave_to_train_on(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = {"test_frames": 4, "split": {"by": "group", "key": "trajectory"}}
    assert checked(tmp_path, 6, **keys)[0] == 0
    code, said = checked(tmp_path, 7, **keys)
    assert (code, said.count("\n")) == (1, 1)
    assert "7 is more than the training frames of dataset 'mine' (mine.xyz has 12 less 6 that are tested or in" in said
    code, said = checked(tmp_path, 6, test_frames=4, split={"by": "group", "key": "trjectory"})
    assert (code, said.count("\n")) == (1, 1)
    assert "frame 0: has no trjectory, by which frames are grouped; its info holds" in said
    (tmp_path / "test.csv").write_text("99")
    code, said = checked(tmp_path, 6, split={"test": "test.csv"})
    assert (code, said.count("\n")) == (1, 1)
    assert "test.csv: 99 is no position of a frame; there are 12" in said


def test_check_of_a_file_of_which_some_frames_are_read_divides_it_as_the_import_does(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight, "FRAMES_CHECKED", 4)  # each third: of all trajectories
    keys = {"test_frames": 4, "split": {"by": "group", "key": "trajectory"}}
    assert checked(tmp_path, 6, **keys)[0] == 0
    assert "7 is more than the training frames" in checked(tmp_path, 7, **keys)[1]
    dataset = GivenDataset(file=path, **keys)
    some, every = (frames_of(kept_of(dataset, read_files(dataset, most))) for most in (4, None))
    for part in (TRAINING, TEST):
        assert {atoms.info["frame"] for atoms in some[part]} <= {atoms.info["frame"] for atoms in every[part]}
    monkeypatch.setattr(given, "MOST_GROUPED", 11)
    assert checked(tmp_path, 8, **keys)[0] == 0  # the import will tell


@pytest.mark.parametrize("stride", [2, 3, 5, 40])
def test_a_stride_takes_each_so_many_th_frame(mixed, stride):
    whole = [atoms.info["frame"] for atoms in read_files(GivenDataset(file=mixed, test_frames=1))[0].frames]
    dataset = GivenDataset(file=mixed, test_frames=1, stride=stride)
    (file,) = read_files(dataset)
    assert [atoms.info["frame"] for atoms in file.frames] == whole[::stride]
    (some,) = read_files(dataset, most=2)
    assert len(some.frames) <= 2
    assert {atoms.info["frame"] for atoms in some.frames} <= set(whole[::stride])


@pytest.mark.parametrize("split", [{"by": "composition"}, {"by": "size"}, {"by": "frame"}])
def test_frames_that_a_stride_takes_are_divided_by_check_as_by_the_import(mixed, split):
    keys = {"file": mixed, "test_frames": 4, "split": split, "stride": 2}
    every = divided(mixed, test_frames=4, split=split, stride=2)
    assert len(every[TEST]) == 4
    dataset = parse_section(GivenDataset, keys, "datasets.mine")
    some = frames_of(kept_of(dataset, read_files(dataset, most=6)))
    if split["by"] != "frame":
        for part in (TRAINING, TEST):
            assert {atoms.info["frame"] for atoms in some[part]} <= {atoms.info["frame"] for atoms in every[part]}
        assert not {str(atoms.symbols) for atoms in every[TRAINING]} & {str(atoms.symbols) for atoms in every[TEST]}
    assert len(some[TEST]) >= 1


def test_two_levels_of_one_file_hold_the_same_frames_out(mixed):
    """What a first step learned at a cheap level is none of what the second is tested on."""
    keys = {"test_frames": 5, "split": {"by": "composition"}, "stride": 2}
    dear, cheap = divided(mixed, **keys), divided(mixed, energy_key="REF_energy", level="cheap", **keys)
    for part in (TRAINING, TEST):
        assert [atoms.info["frame"] for atoms in dear[part]] == [atoms.info["frame"] for atoms in cheap[part]]


def test_a_stride_is_of_the_file_that_is_divided(mixed, tmp_path, monkeypatch):
    dataset = GivenDataset(file=mixed, test_file=tmp_path / "test.xyz", stride=4)
    write_frames(tmp_path / "test.xyz", morse_frames("H2O", 3))
    assert [len(file.frames) for file in read_files(dataset)] == [6, 3]
    with pytest.raises(ConfigError, match=r"stride: positions of 'split\.test' are of all frames"):
        parse_section(GivenDataset, {"file": "a.xyz", "stride": 2, "split": {"test": "a.csv"}}, "datasets.mine")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.xyz").write_bytes(mixed.read_bytes())
    code, said = checked(tmp_path, 10, test_frames=2, stride=2)
    assert code == 1
    assert "(mine.xyz has 11 by its stride of 2 less 2 held out for testing)" in said


def test_a_list_is_looked_at_before_its_set_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = plain_experiment() | {"levels": {}, "sizes": [4]}
    config["models"]["painn"]["atomic_references"] = "fitted"
    for text, said in ((None, "test.csv: No such file"), ("idx", "test.csv: 'idx' is no position")):
        if text is not None:
            Path("test.csv").write_text(text)
        config["datasets"] = {"mine": {"catalogue": "rmd17/ethanol", "split": {"test": "test.csv"}}}
        Path("config.yaml").write_text(yaml.safe_dump(config))
        result = CliRunner().invoke(app, ["check", "config.yaml"])
        assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
        assert f"datasets.mine.split.test: {said}" in result.output


def test_named_tests_hold_elements_that_are_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    water, other = morse_frames("H2O", 8), morse_frames("CO2", 2)
    write_frames(tmp_path / "mine.xyz", [*water, *other])
    write_frames(tmp_path / "hot.xyz", morse_frames("CO2", 2, seed=1))
    Path("training.csv").write_text("0 1 2 3 4 5")
    Path("test.csv").write_text("6 7")
    split = {"training": "training.csv", "test": "test.csv"}
    assert checked(tmp_path, 4, split=split)[0] == 0
    code, said = checked(tmp_path, 4, split=split, tests={"hot": {"file": "hot.xyz"}})
    assert (code, "hold C" in said or " C" in said) == (1, True), said


def test_indices_are_those_of_the_frames(path):
    groups = np.arange(12) % 4
    training, test = hold_out_groups([int(group) for group in groups], 3, seed=3)
    assert set(groups[training]) | set(groups[test]) == {0, 1, 2, 3}
    assert len(training) + len(test) == 12
    assert (np.diff(training) > 0).all()
    assert (np.diff(test) > 0).all()


def test_the_import_refuses_a_test_of_elements_that_nobody_trains_on(tmp_path):
    write_frames(tmp_path / "mine.xyz", [*morse_frames("H2O", 4), *morse_frames("CO2", 2)])
    (tmp_path / "test.csv").write_text("4 5")
    dataset = GivenDataset(file=tmp_path / "mine.xyz", split={"test": tmp_path / "test.csv"})
    with pytest.raises(PiwslError, match=r"test frames hold C, which no training frame does"):
        import_given(dataset, tmp_path / "mine.h5")


@pytest.mark.parametrize("by", ["frame", "group"])
def test_a_member_takes_of_a_split_the_frames_that_it_trains_on(by):
    training = Training(validation_fraction=0.25, validation_by=by)
    model = PaiNN(architecture="painn", training=training, members=5)
    structures = [replace(from_atoms(atoms), group=str(n % 6)) for n, atoms in enumerate(morse_frames("H2O", 12))]
    frames = frames_of_structures(structures, model, seed=3)
    split = split_run(np.arange(12), lambda: [each.group for each in structures], 12, 3, model)
    for member in range(5):
        own, taken = split.of_member(member), frames.of_member(member)
        assert own.training.tolist() == taken.training.indices.tolist()
        assert own.validation.tolist() == taken.validation.indices.tolist()
