"""Named test sets: how they are written, what they are made of, and that no model has learned from them."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from ase import Atoms
from ase.build import molecule
from helpers import displaced, morse_frames, plain_experiment
from run_files import files_of
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.config import ComputedDataset, ConfigError, Experiment, parse_section
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_dataset
from piwsl.data.test_sets import take_whole_file, write_test_set
from piwsl.errors import PiwslError
from piwsl.evaluation.cheap import errors_of_constant
from piwsl.files import read_json, write_json
from piwsl.preflight import check_experiment, remarks
from piwsl.records import Finding
from piwsl.report.sections.named_tests import labelled_in_words
from piwsl.report.write import ForPrint, write_report
from piwsl.structures.coordinates import Coordinate, values_in_order
from piwsl.structures.frames import read_frames, write_frames
from piwsl.structures.structure import from_atoms
from piwsl.workflow.test_sets import named_tests

UNITS = {"energy_unit": "eV", "forces_unit": "eV/Å"}


def computed(tests: dict, **keys) -> dict:
    """Return an experiment on ammonia with named test sets; keys of its dataset may be others."""
    config = copy.deepcopy(plain_experiment())
    config["datasets"]["ammonia"] |= {"tests": tests} | keys
    return config


def given(tests: dict, **keys) -> dict:
    """Return an experiment on frames of mine.xyz with named test sets."""
    config = copy.deepcopy(plain_experiment())
    config["datasets"] = {"mine": {"file": "mine.xyz", "test_frames": 2, "tests": tests} | keys}
    return config | {"sizes": [4], "losses": {"supervised": {}}}


def experiment_of(config: dict) -> Experiment:
    return parse_section(Experiment, config, "config.yaml")


# In the config.


@pytest.mark.parametrize(
    ("test", "complaint"),
    [
        ({}, "give one of 'temperatures' and 'normal_modes' (in K), 'file' (geometries), 'scan'"),
        ({"temperatures": [600]}, "frames: of what is sampled, say how many"),
        ({"temperatures": [600, 600], "frames": 3}, "names one twice"),
        ({"file": "a.xyz", "frames": 3}, "frames: of what is sampled, say how many; of a file and a scan all"),
        ({"file": "a.xyz", "temperatures": [600], "frames": 3}, "give one of"),
        ({"temperatures": [600], "frames": 3, "force_frames": 4}, "force_frames: 4 is more than the 3 frames"),
        ({"temperatures": [600], "frames": 3, "along": [0, 1]}, "along: is of a file"),
        ({"file": "a.xyz", "along": [0, 1, 0]}, "[0, 1, 0] names an atom twice"),
        ({"scan": {"start": 1, "stop": 2}}, "scan: give either 'along' (two to four atoms) or 'mode'"),
        ({"scan": {"along": [0, 1], "start": 0, "stop": 2}}, "a distance is more than 0 Å"),
        ({"scan": {"along": [0, 1, 2], "start": 90, "stop": 90}}, "stop: 90 is where it starts"),
        ({"scan": {"along": [0, 1, 2], "start": 120, "stop": 180, "relaxed": True}}, "a relaxed angle is more than 0"),
        ({"scan": {"along": [0, 1, 2], "start": 200, "stop": 120, "relaxed": True}}, "a relaxed angle is more than 0"),
        ({"scan": {"along": [0, 1, 2], "start": 0, "stop": 120, "relaxed": True}}, "a relaxed angle is more than 0"),
        ({"scan": {"mode": 1, "start": -1, "stop": 1, "relaxed": True}}, "relaxed: nothing is relaxed along"),
        ({"scan": {"along": [0, 1], "start": 1, "stop": 2, "points": 5}, "force_frames": 6}, "more than the 5 frames"),
        ({"file": "a.xyz", "energy_key": "e"}, "unknown key 'energy_key'"),
    ],
)
def test_a_test_set_that_means_nothing_is_refused_in_one_line(test, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)) as refused:
        experiment_of(computed({"hot": test}))
    assert str(refused.value).startswith("config.yaml: datasets.ammonia.tests.hot")
    assert "\n" not in str(refused.value)


def test_geometries_without_a_molecule_have_test_sets_of_files_alone():
    config = computed({"hot": {"temperatures": [600], "frames": 2}})
    keys = config["datasets"]["ammonia"]
    del keys["molecule"], keys["sampling"]
    keys["geometries"] = {"file": "frames.xyz"}
    with pytest.raises(ConfigError, match=r"tests\.hot: the dataset has no molecule to sample or to scan"):
        experiment_of(config)
    keys["tests"] = {"hot": {"file": "hot.xyz"}}
    experiment_of(config)


@pytest.mark.parametrize("names", [("hot", "HOT"), ("datasets",)])
def test_names_of_test_sets_are_folders(names):
    tests = {name: {"temperatures": [600], "frames": 2} for name in names}
    with pytest.raises(ConfigError, match=r"datasets\.ammonia\.tests"):
        experiment_of(computed(tests))


def test_dynamics_of_a_test_set_end_too():
    tests = {"long": {"temperatures": [600], "frames": 100_000}}
    config = computed(tests)
    config["datasets"]["ammonia"]["sampling"] = {"normal_modes": [300], "stride": 1000}
    with pytest.raises(ConfigError, match="1e\\+08 steps of dynamics for all frames; 5e7 at most"):
        experiment_of(config)


def test_a_test_set_is_made_as_a_dataset_of_test_frames_at_the_same_level(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames("bend.xyz", [displaced("NH3", 0.01, np.random.default_rng(n)) for n in range(3)])
    tests = {
        "hot": {"temperatures": [900], "frames": 4, "force_frames": 1},
        "bend": {"file": "bend.xyz"},
        "stretch": {"scan": {"along": [0, 1], "start": 0.9, "stop": 1.5, "points": 7}},
    }
    experiment = experiment_of(computed(tests, pool_frames=5, weak_forces="gfn2-xtb"))
    main, found = experiment.datasets["ammonia"], named_tests(experiment)
    assert list(found) == ["ammonia/tests/hot", "ammonia/tests/bend", "ammonia/tests/stretch"]
    sections = [test.section for test in found.values()]
    assert [section.test_frames for section in sections] == [4, 3, 7]
    for section in sections:
        assert isinstance(section, ComputedDataset)
        assert section.level == main.level
        assert (section.training_frames, section.pool_frames, section.weak_forces) == (0, None, None)
    hot, bend, stretch = sections
    assert hot.test_force_frames == 1
    assert hot.sampling == main.sampling.model_copy(update={"temperatures": [900.0], "normal_modes": []})
    assert (bend.molecule, bend.geometries.file) == (None, Path("bend.xyz"))
    assert (stretch.molecule, stretch.sampling, stretch.geometries) == (main.molecule, None, None)


def test_what_a_given_test_set_does_not_say_is_as_the_dataset_says():
    tests = {"ours": {"file": "b.xyz"}, "theirs": {"file": "c.xyz", "energy_key": "E", "energy_unit": "Hartree"}}
    experiment = experiment_of(given(tests, energy_key="energy", forces_unit="kcal/mol/A", level="CCSD(T)"))
    ours, theirs = (test.section for test in named_tests(experiment).values())
    assert ours.labels_of(ours.file).energy_key == "energy"
    assert ours.labels_of(ours.file).forces_unit == theirs.labels_of(theirs.file).forces_unit == "kcal/mol/Å"
    assert (theirs.labels_of(theirs.file).energy_key, theirs.labels_of(theirs.file).energy_unit) == ("E", "Hartree")
    assert theirs.level == "CCSD(T)"


# Before anything is computed.


def checked(config: dict) -> None:
    check_experiment(experiment_of(config), "config.yaml")


def refusal(config: dict) -> str:
    with pytest.raises(ConfigError) as refused:
        checked(config)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_frames("mine.xyz", morse_frames("H2O", 8, forces=True))
    write_frames("others.xyz", morse_frames("H2O", 3, seed=1))
    return tmp_path


def test_a_given_test_set_may_have_energies_alone_though_the_dataset_names_its_forces(here):
    checked(given({"others": {"file": "others.xyz"}}, forces_key="REF_forces"))
    said = refusal(given({"others": {"file": "others.xyz", "forces_key": "forces"}}))
    assert "datasets.mine.tests.others: forces_key: no frame of others.xyz has a column 'forces'" in said


def test_frames_of_elements_that_no_model_has_seen_are_refused(here):
    write_frames("others.xyz", morse_frames("SH2", 3))
    said = refusal(given({"others": {"file": "others.xyz"}}))
    assert "datasets.mine.tests.others: holds S, which no training frame does" in said
    write_frames("geometries.xyz", [molecule("PH3")])
    said = refusal(computed({"others": {"file": "geometries.xyz"}}))
    assert "datasets.ammonia.tests.others: holds P, which no training frame does" in said


def test_files_and_atoms_that_are_not_there_are_named(here):
    assert "datasets.mine.tests.a: no.xyz" in refusal(given({"a": {"file": "no.xyz"}}))
    said = refusal(given({"a": {"file": "others.xyz", "along": [0, 7]}}))
    assert "datasets.mine.tests.a: along: frame 0: there is no atom 7" in said
    scan = {"along": [0, 1, 9], "start": 90, "stop": 120}
    assert "tests.a: along: frame 0: there is no atom 9" in refusal(computed({"a": {"scan": scan}}))
    write_frames("geometries.xyz", [molecule("NH3")])
    said = refusal(computed({"a": {"file": "geometries.xyz", "force_frames": 2}}))
    assert "tests.a: force_frames: 2 is more than the 1 frames" in said
    said = refusal(computed({"a": {"file": "geometries.xyz", "force_frames": 1, "slope_frames": 1}}))
    assert "tests.a: slope_frames: 1 is more than the 0 frames without forces" in said
    Path("folder").mkdir()
    assert "datasets.mine.tests.a.file: folder is no file" in refusal(given({"a": {"file": "folder"}}))


def test_a_scan_about_a_line_is_refused(here):
    scan = {"along": [0, 1, 2, 3], "start": 0, "stop": 180}
    config = computed({"turn": {"scan": scan}}, molecule={"smiles": "C#CC#N"})
    assert "tests.turn: along: frame 0: atoms 0, 1 and 2 lie in line and have no dihedral" in refusal(config)


def test_what_a_given_test_set_holds_is_said_before_the_start(here):
    write_frames("others.xyz", morse_frames("H2O", 2, seed=1) + read_frames("mine.xyz")[:1])
    lines = [line for line in remarks(experiment_of(given({"others": {"file": "others.xyz"}}))) if "others" in line]
    assert lines[0].startswith("mine, test set others: others.xyz: 3 frames, 1 with forces")
    assert lines[1] == "mine, test set others: warning: 1 frames are among those of mine.xyz"


def test_a_plan_counts_labels_of_test_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scan = {"along": [0, 1], "start": 0.9, "stop": 1.5, "points": 7}
    hot = {"temperatures": [900], "frames": 5, "force_frames": 2, "slope_frames": 1}
    tests = {"hot": hot, "stretch": {"scan": scan}}
    Path("config.yaml").write_text(yaml.safe_dump(computed(tests, cheap_levels=["gfn2-xtb"])))
    said = CliRunner().invoke(app, ["plan", "config.yaml"]).output
    hot, stretch = said.split("ammonia/tests/hot: ")[1].split("ammonia/tests/stretch: ")
    for words in ("test-forces: 2 frames", "test-slopes: 1 frames", "test: 2 frames", "gfn2-xtb, test: 5 frames"):
        assert words in hot
    for words in ("test: 7 frames", "gfn2-xtb, test: 7 frames"):
        assert words in stretch
    assert "training: " not in hot + stretch


def test_a_plan_says_what_options_save_of_a_dataset_and_its_test_sets_together(tmp_path, monkeypatch):
    """They are of one level: an option that makes one cheaper changes all."""
    monkeypatch.chdir(tmp_path)
    stretch = {"stretch": {"scan": {"along": [0, 1], "start": 1.3, "stop": 1.9, "points": 7}}}

    def said(**keys: object) -> str:
        ethanol = {"molecule": {"name": "CH3CH2OH"}, "level": "ccsdt-cbs"}
        Path("config.yaml").write_text(yaml.safe_dump(computed(stretch, **ethanol, **keys)))
        return CliRunner().invoke(app, ["plan", "config.yaml"]).output

    energies, forces = said(test_force_frames=0), said(test_force_frames=5)
    assert energies.count("would save") == energies.count("\nammonia with its test sets: natural_orbitals: ") == 2
    assert "would save" not in forces


def test_labels_that_datasets_share_are_counted_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scan = {"along": [0, 1], "start": 0.9, "stop": 1.5, "points": 7}

    def said_of_a_second(**keys: object) -> str:
        config = computed({"stretch": {"scan": scan}}, test_frames=9, test_force_frames=0)
        config["datasets"]["spread"] = config["datasets"]["ammonia"] | {"selection": "farthest_point"} | keys
        Path("config.yaml").write_text(yaml.safe_dump(config))
        return CliRunner().invoke(app, ["plan", "config.yaml"]).output

    spread = said_of_a_second().split("spread: ")[1]
    assert "  test: 9 frames, those of ammonia; 1 jobs that find their labels" in spread
    assert "  test: 7 frames, those of ammonia/tests/stretch; " in spread
    assert "  training: " in spread.split("frames not made yet")[0]
    for keys in ({"sampling": {"temperatures": [900]}}, {"test_frames": 10}, {"level": "mp2-cbs"}):
        assert "those of ammonia; " not in said_of_a_second(**keys)


def test_a_dataset_that_no_run_takes_is_not_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = computed({"stretch": {"scan": {"along": [0, 1], "start": 0.9, "stop": 1.5, "points": 7}}})
    Path("config.yaml").write_text(yaml.safe_dump(config))
    alone = CliRunner().invoke(app, ["plan", "config.yaml"]).output
    config["datasets"]["other"] = config["datasets"]["ammonia"] | {"level": "mp2-cbs"}
    Path("config.yaml").write_text(yaml.safe_dump(config | {"exclude": [{"dataset": "other"}]}))
    beside = CliRunner().invoke(app, ["plan", "config.yaml"]).output
    assert "other: not counted, for no run takes it\n" in beside
    assert "other/tests/stretch: not counted, for no run takes it\n" in beside
    assert beside.splitlines()[-1] == alone.splitlines()[-1]


# What they are made of.


def test_all_geometries_of_a_file_are_taken_in_its_order(tmp_path):
    frames = [displaced("NH3", 0.1, np.random.default_rng(n)) for n in range(5)]
    write_frames(tmp_path / "file.xyz", frames)
    dataset = experiment_of(computed({"file": {"file": str(tmp_path / "file.xyz")}})).datasets["ammonia"]
    take_whole_file(dataset.geometries_of(dataset.tests["file"]), tmp_path / "taken.xyz")
    taken = read_frames(tmp_path / "taken.xyz")
    assert [atoms.info["frame"] for atoms in taken] == [f"file-{n}" for n in range(5)]
    for atoms, frame in zip(taken, frames, strict=True):
        np.testing.assert_allclose(atoms.positions, frame.positions, atol=1e-8)


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path, Path]:
    """Frames to test on, training frames, and where the test set is written."""
    return tmp_path / "test.h5", tmp_path / "training.h5", tmp_path / "set.h5"


def write_parts(files: tuple[Path, Path, Path], test: list[Atoms], training: list[Atoms]) -> None:
    write_dataset(files[0], {TEST: test})
    write_dataset(files[1], {TRAINING: training})


def energies_in(path: Path) -> list[float]:
    with Dataset(path) as dataset:
        return [structure.energy for structure in dataset.structures(dataset.indices(TEST))]


def test_frames_that_a_model_learned_from_are_left_out_however_they_are_turned(files, capsys):
    training, test = morse_frames("H2O", 4), morse_frames("H2O", 3, seed=1)
    turned = training[2].copy()
    turned.rotate(70, "z")
    turned.translate([1.0, 2.0, 3.0])
    renumbered = training[1][[0, 2, 1]]
    renumbered.info = training[1].info
    write_parts(files, [test[0], turned, test[1], renumbered, test[2]], training)
    write_test_set(*files, along=None, units={})
    assert energies_in(files[2]) == [atoms.info["REF_energy"] for atoms in test]
    with Dataset(files[2]) as dataset:
        (said,) = (found.said for found in dataset.findings())
    assert said == "copies: 2 of 5 frames (frame 1, 3) have the geometry of a training frame, and are left out"
    assert said in capsys.readouterr().out


def test_few_frames_are_held_at_a_time(files, monkeypatch):
    training, test = morse_frames("H2O", 20, forces=True), morse_frames("H2O", 9, seed=1, forces=True)
    write_parts(files, [*test, training[4]], training)
    read: list[int] = []
    structures = Dataset.structures
    monkeypatch.setattr("piwsl.data.dataset.FRAMES_AT_ONCE", 4)
    monkeypatch.setattr(
        Dataset, "structures", lambda self, indices: (read.append(len(indices)), structures(self, indices))[1]
    )
    write_test_set(*files, along=[1, 0, 2], units=UNITS)
    assert max(read) == 4
    monkeypatch.undo()
    assert energies_in(files[2]) == [atoms.info["REF_energy"] for atoms in test]


def test_a_set_of_training_frames_alone_is_refused(files):
    training = morse_frames("H2O", 4)
    write_parts(files, training[:2], training)
    with pytest.raises(PiwslError, match="each frame has the geometry of a training frame; test on others"):
        write_test_set(*files, along=None, units={})
    assert not files[2].exists()


def test_elements_are_looked_at_again_where_all_frames_are_known(files):
    write_parts(files, morse_frames("SH2", 2), morse_frames("H2O", 4))
    with pytest.raises(PiwslError, match="test frames hold S, which no training frame does"):
        write_test_set(*files, along=None, units={})


def test_given_labels_of_another_level_or_unit_are_asked_about(files):
    training, test = morse_frames("H2O", 12), morse_frames("H2O", 3, seed=1)
    write_parts(files, test, training)
    write_test_set(*files, along=None, units=UNITS)
    with Dataset(files[2]) as dataset:
        assert dataset.findings() == []
    for atoms in test:
        atoms.info["REF_energy"] -= 12.0
    write_parts(files, test, training)
    write_test_set(*files, along=None, units=UNITS)
    with Dataset(files[2]) as dataset:
        (said,) = (found.said for found in dataset.findings())
    assert "3 of 15 frames (frame 0, 1, 2) are up to 4.02 eV an atom away from what fits" in said


def test_the_coordinate_of_a_file_is_measured_and_kept(files):
    frames = morse_frames("H2O", 3, seed=1)
    for atoms, angle in zip(frames, (100.0, 110.0, 130.0), strict=True):
        atoms.set_angle(1, 0, 2, angle)
    write_parts(files, frames, morse_frames("H2O", 4))
    write_test_set(*files, along=[1, 0, 2], units={})
    with Dataset(files[2]) as dataset:
        found = [structure.coordinate for structure in dataset.structures(dataset.indices(TEST))]
    assert found == pytest.approx([100.0, 110.0, 130.0])


def test_a_dihedral_goes_on_beyond_a_whole_turn():
    frames = []
    for angle in range(-60, 421, 60):
        atoms = molecule("H2O2")
        atoms.set_dihedral(2, 0, 1, 3, angle, indices=[3])
        frames.append(atoms)
    found = values_in_order(Coordinate((2, 0, 1, 3)), frames)
    np.testing.assert_allclose(found, np.arange(-60, 421, 60), atol=1e-6)


def test_where_on_a_scan_a_frame_is_changes_what_it_is(tmp_path):
    atoms = morse_frames("H2O", 1)[0]
    assert np.isnan(from_atoms(atoms).coordinate)
    hashes = []
    for value in (1.0, 2.0):
        atoms.info["scan_coordinate"] = value
        write_dataset(tmp_path / "d.h5", {TEST: [atoms]})
        with Dataset(tmp_path / "d.h5") as dataset:
            assert dataset.structure(0).coordinate == value
        hashes.append((tmp_path / "d.h5").read_bytes())
    assert hashes[0] != hashes[1]


# In the report.


def test_what_has_learned_nothing_is_tested_on_a_set_with_what_it_knows_of_the_training_frames(files):
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.1 * n]], info={"REF_energy": float(n)}) for n in range(4)]
    write_dataset(files[1], {TRAINING: frames[:2], TEST: frames[2:3]})
    write_dataset(files[2], {TEST: frames[3:]})
    with Dataset(files[1]) as dataset, Dataset(files[2]) as tested:
        # The mean of 0 and 1 eV, for 3 eV.
        assert errors_of_constant(dataset, tested)["energy_mae_meV"] == pytest.approx(2500.0)
        assert errors_of_constant(dataset)["energy_mae_meV"] == pytest.approx(1500.0)


@pytest.fixture
def reported(tmp_path) -> Path:
    """A report of two losses with a test set of energies, whose errors are ten times those on the test frames."""
    tests = {"hot": {"temperatures": [900], "frames": 4}, "cold": {"temperatures": [9], "frames": 4}}
    experiment = experiment_of(computed(tests))
    weak = next(loss for loss in experiment.losses if loss != "supervised")
    files = files_of(tmp_path / "runs", experiment.runs(), {"supervised": [10.0, 20.0], weak: [5.0, 12.0]})
    frames = morse_frames("NH3", 8, forces=True)
    for path, parts in (
        ("dataset.h5", {TRAINING: frames[:4], TEST: frames[4:6]}),
        ("tests/hot.h5", {TEST: frames[6:7]}),
        ("tests/cold.h5", {TEST: frames[7:]}),
    ):
        write_dataset(tmp_path / "datasets" / "ammonia" / path, parts)
    files.datasets.append(tmp_path / "datasets/ammonia/dataset.h5")
    files.test_sets.extend(tmp_path / f"datasets/ammonia/tests/{name}.h5" for name in tests)
    for path in files.errors:
        own = read_json(path)
        for name, factor in (("hot", 10.0), ("cold", 1.0)):
            more = {"test": name, "energy_mae_meV": factor * own["energy_mae_meV"], "force_mae_meV_per_A": None}
            more |= {"test_frames": 4, "test_energy_frames": 3 if name == "hot" else 4, "test_force_frames": 0}
            found = path.parent / "tests" / name / "errors.json"
            write_json(found, own | more)
            files.tests.append(found)
    for_print = ForPrint(tmp_path / "figures", tmp_path / "tables")
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv", for_print)
    return tmp_path


def test_named_test_sets_are_columns_beside_the_own_test_frames(reported):
    html = (reported / "report.html").read_text()
    assert "<p>Errors are those of the frames that have such a label: energies of 3 of 4 of hot.</p>" in html
    table = re.search(r'<table class="sortable" id="tests-1">.*?</table>', html, re.DOTALL)[0]
    titles = re.findall(r'<button type="button">(.*?)</button>', table)
    # Nobody labelled forces of the two sets.
    assert titles == [
        "Model", "Frames", "Loss", "test frames: Energy MAE (meV)", "test frames: Force MAE (meV/Å)",
        "hot: Energy MAE (meV)", "cold: Energy MAE (meV)",
    ]  # fmt: skip
    rows = [re.findall(r"<td[^>]*>\s*(.*?)\s*</td>", row, re.DOTALL) for row in table.split("<tr>")[2:]]
    assert rows[0][0] == "the best constant"
    assert rows[1][2:] == ["supervised", "15 ± 7.1", "150 ± 71", "150 ± 71", "15 ± 7.1"]


def test_named_test_sets_are_in_the_table_of_runs_and_in_those_for_print(reported):
    runs = pd.read_csv(reported / "results.csv")
    assert (runs["energy_mae_meV_on_hot"] == 10 * runs["energy_mae_meV"]).all()
    assert (runs["energy_mae_meV_on_cold"] == runs["energy_mae_meV"]).all()
    numbers = pd.read_csv(reported / "tables" / "tests.csv")
    row = numbers[(numbers["test"] == "hot") & (numbers["loss"] == "supervised")].iloc[0]
    assert (row["seeds"], row["energy_mae_meV_mean"]) == (2, 150.0)
    assert numbers[numbers["loss"] == "not trained"]["model"].unique().tolist() == ["the best constant"]
    latex = (reported / "tables" / "tests.tex").read_text()
    assert r"150 $\pm$ 71" in latex
    assert "hot: Energy MAE (meV)" in latex


def test_what_few_frames_of_a_test_set_have_is_said():
    rows = [("test frames", 9, 9, 9), ("hot", 8, 2, 3), ("cold", 7, 6, 0)]
    errors = pd.DataFrame(rows, columns=["test", "test_frames", "test_energy_frames", "test_force_frames"])
    assert labelled_in_words(errors) == (
        "Errors are those of the frames that have such a label: energies of 2 of 8 of hot, 6 of 7 of cold; forces of 3 "
        "of 8 of hot."
    )
    assert labelled_in_words(errors[:1]) == ""
    assert labelled_in_words(errors[["test", "test_frames"]]) == ""


def test_what_was_odd_about_a_test_set_is_said_first(reported, tmp_path):
    path = tmp_path / "datasets/ammonia/tests/hot.h5"
    write_dataset(path, {TEST: morse_frames("NH3", 1)}, findings=[Finding(said="copies: some")])
    experiment = experiment_of(computed({"hot": {"temperatures": [900], "frames": 4}}))
    weak = next(loss for loss in experiment.losses if loss != "supervised")
    files = files_of(tmp_path / "again", experiment.runs(), {"supervised": [10.0, 20.0], weak: [5.0, 12.0]})
    files.datasets.append(tmp_path / "datasets/ammonia/dataset.h5")
    files.test_sets.append(path)
    write_report(experiment, files, tmp_path / "again.html", tmp_path / "again.csv")
    assert 'copies: some<span class="where">ammonia, test set hot</span>' in (tmp_path / "again.html").read_text()
