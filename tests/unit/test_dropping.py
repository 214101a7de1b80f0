"""Frames with faults are left out at the import where the config says so: each with its reason, and nothing else."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import molecule
from ase.units import Hartree
from helpers import morse_frames, plain_experiment
from run_files import files_of
from typer.testing import CliRunner

from piwsl import preflight
from piwsl.cli import app
from piwsl.config import ConfigError, Experiment, GivenDataset, parse_section
from piwsl.data import copies, given
from piwsl.data.assemble import import_given, write_geometries
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset, write_dataset
from piwsl.data.dropping import COLUMNS, frames_left
from piwsl.errors import PiwslError
from piwsl.readers.extxyz import ExtendedXYZ
from piwsl.records import Finding
from piwsl.report.sections.data_warnings import DataWarnings
from piwsl.report.write import write_report
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, label, read_frames, write_frames

# Of forty frames, which have which fault.
WITHOUT, NOT_FINITE, OVERLAPPING, FAR, STRONG, CLOSE, MOVING, COPY = 3, 5, 8, 13, 21, 26, 30, 34
FAULTS = {
    "unlabelled": [WITHOUT, NOT_FINITE],
    "overlaps": [OVERLAPPING],
    "close_atoms": [CLOSE],
    "energy_outliers": [FAR],
    "force_outliers": [STRONG],
    "net_forces": [MOVING],
    "duplicates": [COPY],
}
REFUSED = ["unlabelled", "overlaps"]


def faulty_frames():
    frames = morse_frames("H2O", 40, forces=True)
    del frames[WITHOUT].info[ENERGY_KEY], frames[WITHOUT].arrays[FORCES_KEY]
    frames[NOT_FINITE].arrays[FORCES_KEY][1, 2] = np.nan
    frames[OVERLAPPING].positions[2] = frames[OVERLAPPING].positions[1] + (0.01, 0, 0)
    frames[CLOSE].positions[2] = frames[CLOSE].positions[1] + (0.25, 0, 0)
    frames[FAR].info[ENERGY_KEY] += 30.0
    frames[STRONG].arrays[FORCES_KEY][:2] += [[90.0, 0, 0], [-90.0, 0, 0]]
    frames[MOVING].arrays[FORCES_KEY] += 1.0
    frames[COPY] = frames[2].copy()
    frames[COPY].rotate(40, (1, 2, 3), rotate_cell=False)
    return frames


@pytest.fixture
def path(tmp_path) -> Path:
    write_frames(tmp_path / "mine.xyz", faulty_frames())
    (tmp_path / "test.csv").write_text("0 1 39")
    return tmp_path / "mine.xyz"


def imported(dataset: GivenDataset, folder: Path, part: str | None = None) -> tuple[dict[str, list[Any]], list[Any]]:
    """Return the energies of each part as they were written, and the rows of what was dropped."""
    import_given(dataset, folder / "made.h5", part, dropped_path=folder / "dropped.csv")
    with Dataset(folder / "made.h5") as made, (folder / "dropped.csv").open() as file:
        parts = {name: made.structures(made.indices(name)) for name in (TRAINING, TEST, POOL)}
        return parts, [*csv.DictReader(file)]


def given_by_list(path: Path, **keys: Any) -> GivenDataset:
    return GivenDataset(file=path, split={"test": path.with_name("test.csv")}, **keys)


@pytest.mark.parametrize("fault", FAULTS)
def test_frames_with_a_fault_are_dropped_and_no_others(path, fault, tmp_path):
    parts, rows = imported(given_by_list(path, drop=[fault, *REFUSED]), tmp_path)
    found = {int(row["frame"]) for row in rows if row["fault"] == fault}
    assert found == set(FAULTS[fault])
    assert {int(row["frame"]) for row in rows} == {*FAULTS[fault], *FAULTS["unlabelled"], *FAULTS["overlaps"]}
    assert len(parts[TRAINING]) == 37 - len(rows)
    assert all(row["file"] == str(path) and row["part"] == TRAINING and row["why"] for row in rows)


def test_what_is_left_are_the_other_frames_in_their_order(path, tmp_path):
    dropped = sorted(frame for frames in FAULTS.values() for frame in frames)
    parts, rows = imported(given_by_list(path, drop=[*FAULTS]), tmp_path)
    assert [int(row["frame"]) for row in rows] == dropped
    left = [atoms for number, atoms in enumerate(read_frames_of(path)) if number not in {*dropped, 0, 1, 39}]
    for structure, atoms in zip(parts[TRAINING], left, strict=True):
        np.testing.assert_array_equal(structure.positions, atoms.positions)
    assert len(parts[TEST]) == 3


def read_frames_of(path: Path):
    return [*ExtendedXYZ().frames(path)]


def test_reasons_say_how_far_and_of_what(path, tmp_path):
    why = {int(row["frame"]): row["why"] for row in imported(given_by_list(path, drop=[*FAULTS]), tmp_path)[1]}
    assert why[CLOSE] == "atoms are 0.25 Å apart, nearer than 0.5 times the sum of their covalent radii"
    assert why[FAR] == "9.97 eV an atom away from what fits the others"
    assert 85 < float(why[STRONG].removeprefix("a force of ").removesuffix(" eV/Å")) < 95
    assert why[MOVING] == f"forces add up to {3 * np.sqrt(3):.3g} eV/Å"
    assert why[COPY] == f"the geometry of frame 2 of {path} (training)"


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_taken_is_refused_unless_it_is_dropped(path, fault, tmp_path):
    (other,) = {*REFUSED} - {fault}
    with pytest.raises(PiwslError, match=f"frame {FAULTS[fault][0]}: ") as raised:
        imported(given_by_list(path, drop=[other]), tmp_path)
    assert "\n" not in str(raised.value)


def test_frames_of_close_atoms_are_dropped_from_all_parts_and_those_on_one_another_refused(tmp_path):
    mine, pool = morse_frames("H2O", 20), morse_frames("H2O", 4, seed=1)
    for atoms in (mine[1], mine[6], pool[2]):
        atoms.positions[2] = atoms.positions[1] + (0.3, 0, 0)
    mine[7].positions[2] = mine[7].positions[1] + (0.32, 0, 0)  # as H2 may be under pressure
    write_frames(tmp_path / "mine.xyz", mine)
    write_frames(tmp_path / "pool.xyz", pool)
    (tmp_path / "test.csv").write_text("0 1")
    dataset = given_by_list(tmp_path / "mine.xyz", drop=["close_atoms"], pool_file=tmp_path / "pool.xyz")
    parts, rows = imported(dataset, tmp_path)
    found = [(Path(row["file"]).name, int(row["frame"]), row["part"], row["fault"]) for row in rows]
    assert found == [
        ("mine.xyz", 1, TEST, "close_atoms"),
        ("mine.xyz", 6, TRAINING, "close_atoms"),
        ("pool.xyz", 2, POOL, "close_atoms"),
    ]
    assert {name: len(part) for name, part in parts.items()} == {TRAINING: 17, TEST: 1, POOL: 3}
    with Dataset(tmp_path / "made.h5") as made:
        (said,) = [each for each in made.findings() if each.kind == "close_atoms"]
    assert (said.frames, said.done) == (3, "dropped")
    assert said.said.endswith("have atoms nearer than 0.5 times the sum of their covalent radii, and are dropped")
    assert not dataset.parts_are_compared
    mine[9].positions[2] = mine[9].positions[1] + (0.05, 0, 0)
    write_frames(tmp_path / "mine.xyz", mine)
    with pytest.raises(PiwslError, match="frame 9: "):
        imported(dataset, tmp_path)


def test_text_in_place_of_a_label_is_a_broken_file_and_refused(path, tmp_path):
    path.write_text(path.read_text().replace("REF_energy=", "REF_energy=x", 1))
    with pytest.raises(PiwslError, match="frame 0: REF_energy is 'x"):
        imported(given_by_list(path, drop=[*FAULTS]), tmp_path)


def test_of_copies_the_test_frame_is_kept_then_the_first(tmp_path):
    frames = morse_frames("CH3OH", 8)
    again = [frames[1].copy(), frames[1].copy(), frames[4].copy(), frames[6].copy()]
    write_frames(tmp_path / "mine.xyz", [*frames, *again])
    write_frames(tmp_path / "pool.xyz", [frames[0].copy(), *morse_frames("CH3OH", 2, seed=1)])
    (tmp_path / "test.csv").write_text("0 10")  # the copy of 4
    dataset = given_by_list(tmp_path / "mine.xyz", drop=["duplicates"], pool_file=tmp_path / "pool.xyz")
    parts, rows = imported(dataset, tmp_path)
    found = {(Path(row["file"]).name, int(row["frame"])): (row["part"], row["why"]) for row in rows}
    mine = tmp_path / "mine.xyz"
    assert found == {
        ("mine.xyz", 4): (TRAINING, f"the geometry of frame 10 of {mine} (test)"),
        ("mine.xyz", 8): (TRAINING, f"the geometry of frame 1 of {mine} (training)"),
        ("mine.xyz", 9): (TRAINING, f"the geometry of frame 1 of {mine} (training)"),
        ("mine.xyz", 11): (TRAINING, f"the geometry of frame 6 of {mine} (training)"),
        ("pool.xyz", 0): (POOL, f"the geometry of frame 0 of {mine} (test)"),
    }
    assert {name: len(part) for name, part in parts.items()} == {TRAINING: 6, TEST: 2, POOL: 2}


def test_of_copies_of_one_part_the_one_with_the_most_labels_is_kept(tmp_path):
    labelled = morse_frames("CH3OH", 8, forces=True)
    bare = [atoms.copy() for atoms in labelled]
    for atoms in bare:
        del atoms.arrays[FORCES_KEY]
    write_frames(tmp_path / "mine.xyz", [*bare, *labelled])
    (tmp_path / "test.csv").write_text("0 9")  # a test frame is kept though it has fewer
    parts, rows = imported(given_by_list(tmp_path / "mine.xyz", drop=["duplicates"]), tmp_path)
    assert [int(row["frame"]) for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(each.forces is not None for each in parts[TRAINING])
    assert rows[1]["why"] == f"the geometry of frame 10 of {tmp_path / 'mine.xyz'} (training)"


def test_copies_whose_energies_contradict_each_other_are_kept_and_asked_about(tmp_path, capsys):
    frames = morse_frames("H2O", 8)
    again = [frames[2].copy(), frames[4].copy(), frames[4].copy()]
    again[0].info[ENERGY_KEY] += 2e-3  # noise of three atoms
    again[2].info[ENERGY_KEY] += 0.5
    write_frames(tmp_path / "mine.xyz", [*frames, *again])
    (tmp_path / "test.csv").write_text("0 1")
    rows = imported(given_by_list(tmp_path / "mine.xyz", drop=["duplicates"]), tmp_path)[1]
    assert [int(row["frame"]) for row in rows] == [8]
    said = "copies: 3 of 10 frames (frame 4, 9, 10) have the geometry of another and energies that contradict each "
    with Dataset(tmp_path / "made.h5") as made:
        (asked,) = [found for found in made.findings() if "contradict" in found.said]
    assert asked.said.startswith(f"{said}other, by up to 0.5 eV; none of them is dropped")
    assert (asked.frames, asked.done) == (3, "kept")
    assert f"warning: {said}" in capsys.readouterr().out


def turned_in_a_box(count: int) -> list[Atoms]:
    """A molecule whose images are near, turned: its distances within the cell stay, those to its images do not."""
    rng, found = np.random.default_rng(0), []
    for number in range(count):
        atoms = molecule("H2O")
        atoms.rotate(360 * rng.random(), rng.normal(size=3))
        atoms.set_cell([3.2, 3.2, 3.2])
        atoms.pbc = True
        found.append(label(atoms, -2079.0 + 0.01 * number, None))
    return found


def seen_from_the_other_side(atoms: Atoms) -> Atoms:
    mirrored = atoms.copy()
    mirrored.positions[:, 2] *= -1
    return mirrored


def in_two_directions(atoms: Atoms) -> Atoms:
    slab = atoms.copy()
    slab.pbc = [True, True, False]
    return slab


@pytest.mark.parametrize("most", [10_000, 0])
@pytest.mark.parametrize("other", [seen_from_the_other_side, in_two_directions])
def test_periodic_frames_that_differ_in_how_they_lie_to_their_images_are_no_copies(tmp_path, monkeypatch, most, other):
    monkeypatch.setattr(copies, "MOST_COMPARED", most)
    frames = turned_in_a_box(12)
    shifted = frames[3][[2, 0, 1]]
    shifted.positions += (0.3, -0.2, 5.0)
    write_frames(tmp_path / "mine.xyz", [*frames, *map(other, frames), shifted])
    (tmp_path / "test.csv").write_text("0 1")
    rows = imported(given_by_list(tmp_path / "mine.xyz", drop=["duplicates"]), tmp_path)[1]
    assert [int(row["frame"]) for row in rows] == [24]


def test_ions_are_as_far_from_neutral_molecules_as_they_should_be_and_stay(tmp_path):
    frames = morse_frames("H2O", 40)
    for number, atoms in enumerate(frames):
        atoms.info[ENERGY_KEY] = -2079.0 + 0.01 * number
    for atoms in frames[30:]:
        atoms.info |= {"charge": 1, "multiplicity": 2}
        atoms.info[ENERGY_KEY] += 12.6
    frames[7].info[ENERGY_KEY] += 12.6
    frames[34].info[ENERGY_KEY] += 12.6
    write_frames(tmp_path / "mine.xyz", frames)
    dataset = GivenDataset(file=tmp_path / "mine.xyz", test_frames=2, drop=["energy_outliers"])
    assert [int(row["frame"]) for row in imported(dataset, tmp_path)[1]] == [7, 34]


def test_a_single_frame_in_another_unit_is_an_outlier_and_a_whole_file_is_none(tmp_path):
    frames = morse_frames("H2O", 20)
    for number, atoms in enumerate(frames):
        atoms.info[ENERGY_KEY] = -2080.0 + 0.01 * number
    frames[7].info[ENERGY_KEY] /= Hartree
    write_frames(tmp_path / "mine.xyz", frames)
    dataset = GivenDataset(file=tmp_path / "mine.xyz", test_frames=2, drop=["energy_outliers"])
    assert [row["frame"] for row in imported(dataset, tmp_path)[1]] == ["7"]
    for atoms in frames:
        atoms.info[ENERGY_KEY] = -2080.0 / Hartree
    write_frames(tmp_path / "mine.xyz", frames)
    assert imported(dataset, tmp_path)[1] == []


def test_free_atoms_are_far_from_molecules_and_stay(tmp_path):
    frames = morse_frames("H2O", 20)
    for atoms in frames:
        atoms.info[ENERGY_KEY] = -2080.0
    frames.append(label(Atoms("O"), -2040.0, None))
    write_frames(tmp_path / "mine.xyz", frames)
    dataset = GivenDataset(file=tmp_path / "mine.xyz", test_frames=2, drop=["energy_outliers"])
    assert imported(dataset, tmp_path)[1] == []


def test_the_test_frames_are_those_of_all_less_what_is_dropped(path, tmp_path):
    """Frames are divided before any is dropped, so that what else is tested stays what it was."""
    frames = faulty_frames()
    for number in (WITHOUT, NOT_FINITE, OVERLAPPING):
        frames[number] = morse_frames("H2O", 1, seed=number + 1, forces=True)[0]
    write_frames(path, frames)
    every, _ = imported(GivenDataset(file=path, test_frames=20), tmp_path)
    less, rows = imported(GivenDataset(file=path, test_frames=20, drop=["energy_outliers", "net_forces"]), tmp_path)
    energies = [structure.energy for structure in every[TEST]]
    gone = [frames[int(row["frame"])].info[ENERGY_KEY] for row in rows if row["part"] == TEST]
    assert len(rows) == 2
    assert [energy for energy in energies if not np.isclose(gone, energy).any()] == [
        structure.energy for structure in less[TEST]
    ]


def test_each_part_alone_is_that_of_the_whole_and_so_are_geometries_to_label(path, tmp_path):
    dataset = GivenDataset(file=path, test_frames=12, drop=[*FAULTS])
    whole, _ = imported(dataset, tmp_path)
    for part in (TRAINING, TEST):
        alone, _ = imported(dataset, tmp_path, part)
        assert [each.energy for each in alone[part]] == [each.energy for each in whole[part]]
        write_geometries(dataset, part, tmp_path / "geometries.xyz")
        found = read_frames(tmp_path / "geometries.xyz")
        assert len(found) == len(whole[part])
        np.testing.assert_allclose(found[0].positions, whole[part][0].positions, atol=1e-7)


def test_files_are_read_once_more_only_where_frames_may_be_copies(tmp_path, monkeypatch):
    read: list[str] = []
    frames = ExtendedXYZ.frames
    monkeypatch.setattr(
        ExtendedXYZ, "frames", lambda self, path, every=1: (read.append(path.name), frames(self, path, every))[1]
    )
    mine = morse_frames("H2O", 12)
    write_frames(tmp_path / "mine.xyz", mine)
    dataset = GivenDataset(file=tmp_path / "mine.xyz", test_frames=2, drop=["duplicates"])
    imported(dataset, tmp_path)
    assert len(read) == 2
    write_frames(tmp_path / "mine.xyz", [*mine, mine[3]])
    imported(dataset, tmp_path)
    assert len(read) == 2 + 3


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"energy_key": "no_such"}, r"no training frame has no_such, and forces do not tell where energies begin"),
        ({"test": "3 5"}, r"drop leaves no test frame; frame 3: has no REF_energy and no REF_forces; its"),
        ({"test": "5"}, r"drop leaves no test frame; frame 5: REF_forces must be"),
        ({"test": "8"}, r"drop leaves no test frame; frame 8: atom 1 \(H\) and atom 2 \(H\)"),
        ({"test": "26"}, r"drop leaves no test frame; there are 1 close_atoms; drop less$"),
        ({"test": "13 30"}, r"drop leaves no test frame; there are 1 energy_outliers, 1 net_forces; drop less$"),
    ],
)
def test_a_part_of_which_nothing_is_left_is_refused_with_a_reason(path, tmp_path, keys, said):
    if (positions := keys.pop("test", None)) is not None:
        (tmp_path / "test.csv").write_text(positions)
    with pytest.raises(PiwslError, match=said) as raised:
        imported(given_by_list(path, drop=[*FAULTS], **keys), tmp_path)
    assert "\n" not in str(raised.value)


def test_lists_mean_positions_among_all_frames(path, tmp_path):
    (tmp_path / "training.csv").write_text("2 3 4 34 36")
    dataset = GivenDataset(
        file=path, split={"training": tmp_path / "training.csv", "test": tmp_path / "test.csv"}, drop=[*FAULTS]
    )
    parts, rows = imported(dataset, tmp_path)
    energies = [atoms.info.get(ENERGY_KEY) for atoms in read_frames_of(path)]
    assert [each.energy for each in parts[TRAINING]] == [energies[2], energies[4], energies[36]]
    assert [int(row["frame"]) for row in rows] == [3, 34]  # what is in no list is not dropped either


def test_without_drop_the_table_has_a_heading_alone(tmp_path):
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 6))
    assert imported(GivenDataset(file=tmp_path / "mine.xyz", test_frames=2), tmp_path)[1] == []
    assert (tmp_path / "dropped.csv").read_text().strip() == ",".join(COLUMNS)


def test_named_test_sets_are_not_dropped_from(path):
    dataset = GivenDataset(file=path, test_frames=4, drop=["duplicates"], tests={"hot": {"file": path}})
    assert dataset.tested_on("hot").drop == []


def test_a_fault_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="drop"):
        parse_section(GivenDataset, {"file": "a.xyz", "test_frames": 1, "drop": ["units"]}, "datasets.mine")


# What is said before and after.


def checked(folder: Path, size: int, **keys: Any) -> tuple[int, str]:
    config = plain_experiment() | {"levels": {}, "sizes": [size]}
    config["models"]["painn"]["atomic_references"] = "fitted"
    config["datasets"] = {"mine": {"file": "mine.xyz", "test_frames": 10, "drop": [*FAULTS]} | keys}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["check", "config.yaml"])
    return result.exit_code, result.output


def test_check_counts_what_is_left_and_refuses_larger_sizes(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = GivenDataset(file=Path("mine.xyz"), test_frames=10, drop=[*FAULTS])
    parts, rows = imported(dataset, tmp_path)
    left = len(parts[TRAINING])
    assert left + len(parts[TEST]) + len(rows) == 40
    assert {part: frames_left(dataset, part) for part in parts} == {part: len(own) for part, own in parts.items()}
    code, said = checked(tmp_path, left)
    assert code == 0
    assert "unlabelled: 2 of 40 frames (mine.xyz: 3" in said
    assert f"mine: left are {left} training frames, {len(parts[TEST])} test frames" in said
    assert "warning: energies" not in said
    code, said = checked(tmp_path, left + 1)
    assert (code, said.count("\n")) == (1, 1)
    assert f"(mine.xyz has 40 less {40 - left} held out for testing, or dropped)" in said


def test_check_counts_all_frames_though_it_looks_at_some(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    left = frames_left(GivenDataset(file=Path("mine.xyz"), test_frames=10, drop=[*FAULTS]), TRAINING)
    monkeypatch.setattr(preflight, "FRAMES_CHECKED", 14)  # each third
    assert checked(tmp_path, left)[0] == 0
    assert "is more than the training frames" in checked(tmp_path, left + 1)[1]
    monkeypatch.setattr(given, "MOST_GROUPED", 39)
    code, said = checked(tmp_path, 30)  # the import will tell
    assert code == 0
    assert "left are at most 30 training frames" in said


def test_check_refuses_no_part_of_which_it_has_seen_some_frames_alone(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = morse_frames("H2O", 60)
    for atoms in frames[::3]:
        del atoms.info[ENERGY_KEY]
    write_frames(path, frames)
    whole = checked(tmp_path, 10)
    assert (whole[0], "(one frame in" in whole[1]) == (0, False)
    monkeypatch.setattr(preflight, "FRAMES_CHECKED", 20)  # those without an energy
    code, said = checked(tmp_path, 10)
    assert code == 0, said
    dropped = "unlabelled: 20 of 60 frames (mine.xyz: "
    assert f"mine: {dropped}" in said
    monkeypatch.setattr(given, "MOST_GROUPED", 59)
    code, said = checked(tmp_path, 10)
    assert code == 0, said
    assert "mine (one frame in 3 was read): unlabelled: 20 of 20 frames (mine.xyz: " in said
    assert dropped not in said


def test_frames_that_are_dropped_for_their_own_labels_need_no_group(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    every = faulty_frames()
    for number, atoms in enumerate(every):
        atoms.info["trajectory"] = "abcd"[number % 4]
    write_frames(path, every)
    keys = {"test_frames": 6, "split": {"by": "group", "key": "trajectory"}}
    dataset = parse_section(GivenDataset, {"file": "mine.xyz", "drop": REFUSED} | keys, "datasets.mine")
    for number in (WITHOUT, OVERLAPPING):
        del every[number].info["trajectory"]
    write_frames(path, every)
    parts, rows = imported(dataset, tmp_path)
    assert [int(row["frame"]) for row in rows if row["part"] == TRAINING] == [WITHOUT, NOT_FINITE, OVERLAPPING]
    assert len(parts[TEST]) == 6
    for most in (5000, 14):  # each third
        monkeypatch.setattr(preflight, "FRAMES_CHECKED", most)
        code, said = checked(tmp_path, 10, drop=REFUSED, **keys)
        assert code == 0, said
    del every[NOT_FINITE + 1].info["trajectory"]
    write_frames(path, every)
    refusal = f"mine.xyz: frame {NOT_FINITE + 1}: has no trajectory, by which frames are grouped"
    with pytest.raises(PiwslError, match=refusal):
        imported(dataset, tmp_path)
    code, said = checked(tmp_path, 10, drop=REFUSED, **keys)
    assert (code, refusal in said) == (1, True)


def test_findings_of_earlier_versions_are_said_and_have_no_row(tmp_path):
    """They are a line alone: how many frames they are of is not known."""
    path = tmp_path / "datasets" / "old" / "dataset.h5"
    frames, said = morse_frames("H2O", 2), "forces: those of 2 of 5000 frames (frame 7, 9) do not add up to zero"
    write_dataset(path, {TRAINING: frames[:1], TEST: frames[1:]}, {}, [Finding(said=said)])
    html = DataWarnings().html(SimpleNamespace(datasets=[path], test_sets=[]))
    assert said in html
    assert "<table" not in html


def test_the_report_has_a_row_a_finding(path, tmp_path):
    experiment = parse_section(Experiment, plain_experiment(), "config.yaml")
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    files.datasets.append(tmp_path / "mine" / "dataset.h5")
    import_given(given_by_list(path, drop=[*REFUSED, "duplicates"]), files.datasets[-1])
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    html = (tmp_path / "report.html").read_text()
    body = html[html.index('<div id="content"') :]
    rows = [" ".join(row.split("</tr>")[0].split()) for row in body.split("<tr>") if "mine</td>" in row]
    cells = [[cell.split("</td>")[0].partition(">")[2] for cell in row.split("<td")[1:]] for row in rows]
    assert ["mine", "unlabelled", "2", f"{path}: 3, 5", "dropped"] in cells
    assert ["mine", "duplicates", "1", f"{path}: 34", "dropped"] in cells
    assert ["mine", "energy outliers", "1", f"{path}: 13", "kept"] in cells
    assert "dropped.csv" in body
