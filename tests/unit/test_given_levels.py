"""Levels whose labels files bring beside those that are learned: units, absence, refusals, the report, weak forces."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from ase import Atoms
from ase.units import Bohr, Hartree
from helpers import ROOT, morse_frames, plain_experiment
from published import TRIPLE_ZETA, write_ani
from run_files import files_of

from piwsl.config import ConfigError, Experiment, GivenDataset, parse_section
from piwsl.data.assemble import import_given
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset
from piwsl.data.given import findings_of_levels, read_files, summary
from piwsl.errors import PiwslError
from piwsl.evaluation.cheap import errors_of_level
from piwsl.files import read_json, write_json
from piwsl.preflight import load_experiment, remarks
from piwsl.report.context import Context
from piwsl.report.sections.data_warnings import DataWarnings
from piwsl.report.sections.given_levels import GivenLevels
from piwsl.report.tables import cheap_table
from piwsl.report.write import write_report
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, write_frames
from piwsl.structures.labels import WEAK, label_key
from piwsl.workflow.jobs import Jobs

MP2 = {"energy_key": "mp2", "energy_unit": "Hartree", "forces_key": "mp2_gradient", "forces_unit": "Hartree/Bohr"}
# What a frame is higher at MP2, by its number and by its atoms, eV.
STEP, AN_ATOM = 0.01, 5.0


def frames_of_two_levels(count: int) -> list[Atoms]:
    """Return water with energies of Hartree-Fock in eV, and of MP2 in Hartree of all, forces of every other frame."""
    frames = morse_frames("H2O", count, forces=True)
    for number, atoms in enumerate(frames):
        atoms.info["mp2"] = (atoms.info[ENERGY_KEY] + AN_ATOM * len(atoms) + STEP * number) / Hartree
        atoms.info["hf_energy"] = atoms.info[ENERGY_KEY] + 1.0
        if number % 2 == 0:
            atoms.set_array("mp2_gradient", (atoms.arrays[FORCES_KEY] + 0.1) / (Hartree / Bohr))
    return frames


def section(path: Path, **keys) -> GivenDataset:
    return parse_section(GivenDataset, {"file": str(path), "test_frames": 2} | keys, "config.yaml")


def jobs_of(**keys) -> Jobs:
    config = plain_experiment() | {"sizes": [3], "levels": {}, "datasets": {"mine": {"test_frames": 2} | keys}}
    config["models"]["painn"] |= {"atomic_references": "fitted"}
    return Jobs(parse_section(Experiment, config, "config.yaml"), ROOT / "workflow" / "scripts")


def written(tmp_path: Path, frames: list[Atoms], name: str = "mine.xyz") -> Path:
    write_frames(tmp_path / name, frames)
    return tmp_path / name


def imported(path: Path, **keys) -> Path:
    import_given(section(path, **keys), path.with_suffix(".h5"))
    return path.with_suffix(".h5")


def refusal(path: Path, **keys) -> str:
    with pytest.raises(PiwslError) as raised:
        imported(path, **keys)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def path(tmp_path) -> Path:
    return written(tmp_path, frames_of_two_levels(6))


def test_labels_are_those_of_the_file_in_our_units_and_what_is_absent_stays_absent(path):
    with Dataset(imported(path, given_levels={"mp2": MP2, "hf": {}})) as dataset:
        structures = dataset.structures(np.sort(dataset.indices(TRAINING)))
        for structure in structures:
            mp2, hf = structure.at_level("mp2"), structure.at_level("hf")
            above = (mp2.energy - structure.energy - 3 * AN_ATOM) / STEP
            assert above == pytest.approx(round(above), abs=1e-6)
            assert hf.energy == pytest.approx(structure.energy + 1.0)
            assert hf.forces is None
            if round(above) % 2:
                assert mp2.forces is None
            else:
                np.testing.assert_allclose(mp2.forces, structure.forces + 0.1, atol=1e-6)
        assert {structure.at_level("mp2").forces is None for structure in structures} == {True, False}
        assert dataset.labelled("hf", "energy").all()
        assert not dataset.labelled("hf", "forces").any()
    with h5py.File(path.with_suffix(".h5")) as file:
        assert {*file["labels"]} == {"reference", "mp2", "hf"}


def test_a_level_more_leaves_the_other_labels_and_the_frames_of_each_part_as_they_are(path):
    with Dataset(imported(path)) as dataset:
        before = {part: dataset.structures(dataset.indices(part)) for part in (TRAINING, TEST)}
    with Dataset(imported(path, given_levels={"mp2": MP2})) as dataset:
        for part, structures in before.items():
            for old, new in zip(structures, dataset.structures(dataset.indices(part)), strict=True):
                assert old.energy == new.energy
                np.testing.assert_array_equal(old.positions, new.positions)


def test_the_check_says_of_each_level_how_many_frames_have_what(path):
    given = section(path, given_levels={"mp2": MP2, "hf": {}})
    assert summary(given, read_files(given)[0]).endswith(
        "; mp2: 6 with energies (mp2 in Hartree), 3 with forces (mp2_gradient in Hartree/Bohr); "
        "hf: 6 with energies (hf_energy in eV)"
    )


def test_weak_forces_of_a_level_are_called_by_its_name(path):
    given = section(path, given_levels={"mp2": MP2}, weak_forces="mp2")
    assert "3 with forces of a cheaper level (those of mp2)" in summary(given, read_files(given)[0])


def test_what_is_learned_from_alone_has_no_labels_of_given_levels_but_the_weak_forces(tmp_path, path):
    pool = written(tmp_path, frames_of_two_levels(2), "pool.xyz")
    keys = {"given_levels": {"mp2": MP2, "hf": {}}, "weak_forces": "mp2", "pool_file": str(pool)}
    for part in (TRAINING, POOL):
        import_given(section(path, **keys), tmp_path / f"{part}.h5", part)
        with h5py.File(tmp_path / f"{part}.h5") as file:
            assert {*file["labels"]} - {"reference"} == {"weak"}


def test_what_is_trained_depends_on_no_level_that_only_the_report_has(path):
    def settings(part: str | None, **keys) -> dict:
        return jobs_of(file=str(path), **keys).given_settings("mine", part)

    levels = {"mp2": MP2 | {"level": "MP2/cc-pVTZ"}, "hf": {}}
    for part in (TRAINING, POOL):
        assert settings(part, given_levels=levels) == settings(part)
        weak = settings(part, given_levels=levels, weak_forces="mp2")
        assert weak == settings(part, given_levels={"mp2": MP2}, weak_forces="mp2")
        assert weak != settings(part, given_levels={"mp2": MP2 | {"forces_key": "other"}}, weak_forces="mp2")
        # No frame is dropped for what it has of them.
        assert settings(part, given_levels=levels, drop=["unlabelled"]) == settings(part, drop=["unlabelled"])
    for part in (TEST, None):
        assert settings(part, given_levels=levels) == settings(part, given_levels={"mp2": MP2, "hf": {}})
        assert settings(part, given_levels=levels) != settings(part, given_levels={"mp2": MP2})


def test_geometries_that_cheap_levels_label_depend_on_no_given_level(path):
    def settings(**keys) -> dict:
        return jobs_of(file=str(path), **keys).geometry_settings("mine", TEST)

    levels = {"given_levels": {"hf": {}}}
    assert settings(**levels) == settings()
    assert settings(**levels, drop=["unlabelled"]) == settings(drop=["unlabelled"])


@pytest.mark.parametrize(
    ("level", "said"),
    [
        (
            {"energy_key": "mp4"},
            "given_levels.mp2.energy_key: no frame of .* has 'mp4'; their info holds .*'hf_energy'",
        ),
        (
            MP2 | {"forces_key": "dft"},
            "given_levels.mp2.forces_key: no frame of .* has 'dft'; columns of three .*'mp2_",
        ),
        ({}, "given_levels.mp2.energy_key: no frame of .* has 'mp2_energy'"),
        ({"energy_key": ENERGY_KEY}, "given_levels.mp2.energy_key: 'REF_energy' holds the labels themselves"),
    ],
)
def test_a_level_that_the_file_does_not_have_is_refused(path, level, said):
    assert re.search(said, refusal(path, given_levels={"mp2": level}))


@pytest.mark.parametrize("drop", [[], ["unlabelled"]])
def test_a_label_that_is_nan_is_absent_in_its_frame_which_stays(tmp_path, drop, capsys):
    frames = frames_of_two_levels(6)
    frames[3].info["mp2"], frames[5].info["mp2"] = np.nan, np.inf
    frames[4].arrays["mp2_gradient"][1, 2] = np.nan
    path, keys = written(tmp_path, frames), {"given_levels": {"mp2": MP2, "hf": {}}, "drop": drop}
    with Dataset(imported(path, **keys)) as dataset:
        assert len(dataset) == 6
        assert dataset.labelled("reference", "energy").all()
        assert dataset.labelled("hf", "energy").all()
        counts = [dataset.labelled("mp2", quantity).sum() for quantity in ("energy", "forces")]
        found = {each.said: each for each in dataset.findings() if each.done == "label left out"}
    assert counts == [4, 2]
    energies, forces = (
        f"given_levels.mp2: energies (mp2) of 2 of 6 frames of {path} (frame 3, 5) are NaN or infinite, and are left "
        "out; the frames are not",
        f"given_levels.mp2: forces (mp2_gradient) of 1 of 6 frames of {path} (frame 4) are NaN or infinite, and are "
        "left out; the frames are not",
    )
    assert [*found] == [energies, forces]
    assert [(each.kind, each.frames, each.which, each.level) for each in found.values()] == [
        ("not_finite", 2, f"{path}: 3, 5", "mp2"),
        ("not_finite", 1, f"{path}: 4", "mp2"),
    ]
    assert f"warning: {energies}" in capsys.readouterr().out
    table = DataWarnings().html(SimpleNamespace(datasets=[path.with_suffix(".h5")], test_sets=[])).split("<tbody>")[1]
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in table.split("<tr>") if "not finite" in row]
    assert [row[1:] for row in rows] == [
        ["not finite, mp2", "2", f"{path}: 3, 5", "label left out"],
        ["not finite, mp2", "1", f"{path}: 4", "label left out"],
    ]


def test_a_label_of_the_level_that_is_learned_that_is_nan_is_refused_or_drops_its_frame(tmp_path):
    frames = frames_of_two_levels(6)
    frames[3].info[ENERGY_KEY] = np.nan
    path = written(tmp_path, frames)
    assert refusal(path, given_levels={"hf": {}}).endswith(
        "frame 3: REF_energy is nan, not a finite number; leave it out where it is not known"
    )
    with Dataset(imported(path, given_levels={"hf": {}}, drop=["unlabelled"])) as dataset:
        assert len(dataset) == 5


def test_a_label_that_is_text_is_refused_with_its_frame_and_one_that_is_nowhere_a_number(tmp_path):
    frames = frames_of_two_levels(6)
    frames[3].info["mp2"] = "failed"
    assert "frame 3: mp2 is 'failed'" in refusal(written(tmp_path, frames), given_levels={"mp2": MP2})
    for atoms in frames:
        atoms.info["mp2"] = np.nan
    said = refusal(written(tmp_path, frames), given_levels={"mp2": MP2})
    assert said.startswith("given_levels.mp2.energy_key: 'mp2' is NaN or infinite wherever a frame of")


def test_weak_forces_of_a_level_are_absent_where_its_forces_are_nan(tmp_path):
    frames = frames_of_two_levels(6)
    frames[2].arrays["mp2_gradient"][0, 0] = np.nan
    path = written(tmp_path, frames)
    with Dataset(imported(path, given_levels={"mp2": MP2}, weak_forces="mp2")) as dataset:
        training = dataset.structures(dataset.indices(TRAINING))
    for structure in training:
        assert (structure.at_level(WEAK).forces is None) == (structure.at_level("mp2").forces is None)
        assert structure.forces is not None


def test_a_label_that_is_nan_in_a_named_test_set_is_said_of_it(tmp_path, path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hot = [atoms.copy() for atoms in morse_frames("H2O", 3, seed=7, forces=True)]
    for atoms in hot:
        atoms.info["hf_energy"] = atoms.info[ENERGY_KEY]
    hot[1].info["hf_energy"] = np.nan
    config = experiment_of(path, {"hf": {}})
    config["datasets"]["water"]["tests"] = {"hot": {"file": str(written(tmp_path, hot, "hot.xyz"))}}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    experiment = load_experiment(Path("config.yaml"))
    said = "given_levels.hf: energies (hf_energy) of 1 of 3 frames of"
    assert any(line.startswith(f"water, test set hot: warning: {said}") for line in remarks(experiment))
    import_given(experiment.datasets["water"].tested_on("hot"), tmp_path / "hot.h5", TEST)
    with Dataset(tmp_path / "hot.h5") as dataset:
        assert [each.said.startswith(said) for each in dataset.findings()] == [True]
        assert len(dataset) == 3


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"given_levels": {"reference": {}}}, "given_levels.reference: 'reference' is what other labels are called"),
        ({"given_levels": {"gfn2-xtb": {}}}, "given_levels.gfn2-xtb: 'gfn2-xtb' is what other labels are called"),
        ({"given_levels": {"scf": {}}, "cheap_levels": ["scf"]}, "is one of cheap_levels, too, which are computed"),
        ({"given_levels": {"mp2": MP2}, "energy_key": "mp2"}, "'mp2' is energy_key, the labels themselves"),
        (
            {"given_levels": {"mp2": {}}, "energy_key": "mp2_energy"},
            "'mp2_energy' is energy_key, the labels themselves",
        ),
        (
            {"given_levels": {"mp2": {"energy_key": "e"}, "hf": {"energy_key": "e"}}},
            "given_levels.hf.energy_key: 'e' is that of given_levels.mp2, too; say of each level where its own labels",
        ),
        (
            {"given_levels": {"mp2": {"energy_key": "hf_energy"}, "hf": {}}},
            "given_levels.hf.energy_key: 'hf_energy' is that of given_levels.mp2, too",
        ),
        (
            {"given_levels": {"hf": {}, "mp2": {"energy_key": "e", "forces_key": "hf_forces"}}},
            "given_levels.mp2.forces_key: 'hf_forces' is that of given_levels.hf, too",
        ),
        ({"given_levels": {"mp2": {"energy_unit": "Rydberg"}}}, "given_levels.mp2.energy_unit: no unit 'Rydberg'"),
        ({"weak_forces": "mp2"}, "weak_forces: no level 'mp2'; say gfn2-xtb, or name it under given_levels"),
        (
            {"given_levels": {"mp2": MP2}, "weak_forces": "mp2", "weak_forces_key": "dft"},
            "weak_forces_key: forces of a cheaper level are those of weak_forces",
        ),
    ],
)
def test_what_contradicts_itself_is_said_in_one_line(keys, said):
    with pytest.raises(ConfigError) as raised:
        section(Path("mine.xyz"), **keys)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("factor", "unit"), [(1.0, None), (1 / Hartree, "in Hartree"), (-1.0, "of the opposite sign")])
def test_energies_of_a_level_in_another_unit_are_asked_about(tmp_path, factor, unit):
    """Total energies of water, -76.3 Hartree, which the section says are in eV."""
    frames = frames_of_two_levels(6)
    for number, atoms in enumerate(frames):
        atoms.info |= {
            ENERGY_KEY: -76.3 * Hartree + 0.01 * number,
            "hf_energy": factor * (-76.0 * Hartree + 0.01 * number),
        }
    path = written(tmp_path, frames)
    with Dataset(imported(path, given_levels={"hf": {}})) as dataset:
        said = [found.said for found in dataset.findings() if found.level == "hf"]
    asked = f"given_levels.hf (hf_energy in eV): energies: are they {unit}?"
    assert said == [] if unit is None else said[0].startswith(asked)


def test_a_level_that_test_frames_alone_have_is_asked_about(tmp_path, path):
    bare = written(tmp_path, morse_frames("H2O", 4, seed=7, forces=True), "bare.xyz")
    given = section(bare, test_frames=None, test_file=str(path), given_levels={"hf": {}})
    (found,) = findings_of_levels(given, read_files(given))
    assert found.said.startswith(f"given_levels.hf: no frame of {bare} has its energy; the report has no errors")
    given = section(bare, test_frames=None, test_file=str(path), given_levels={"mp2": MP2})
    assert "given_levels.mp2: no frame of" in findings_of_levels(given, read_files(given))[0].said
    given = section(path, given_levels={"hf": {}})
    assert not findings_of_levels(given, read_files(given))


# Weak forces.


def test_weak_forces_are_those_of_the_level_in_training_and_pool_and_of_no_test(tmp_path, path):
    pool = written(tmp_path, frames_of_two_levels(2), "pool.xyz")
    keys = {"given_levels": {"mp2": MP2}, "weak_forces": "mp2", "pool_file": str(pool)}
    with Dataset(imported(path, **keys)) as dataset:
        for part in (TRAINING, POOL):
            for structure in dataset.structures(dataset.indices(part)):
                weak, mp2 = structure.at_level(WEAK).forces, structure.at_level("mp2").forces
                assert (weak is None) == (mp2 is None)
                if weak is not None:
                    np.testing.assert_array_equal(weak, mp2)
        pooled = dataset.structures(dataset.indices(POOL))
        assert [structure.at_level(WEAK).forces is None for structure in pooled] == [False, True]
        assert all(np.isnan(structure.energy) for structure in pooled)


def test_weak_forces_of_a_level_take_the_place_of_those_that_a_reader_finds(tmp_path):
    frames = frames_of_two_levels(6)
    for atoms in frames:
        atoms.set_array("WEAK_forces", np.full((3, 3), 9.0))
    path = written(tmp_path, frames)
    with Dataset(imported(path, given_levels={"mp2": MP2}, weak_forces="mp2")) as dataset:
        training = dataset.structures(dataset.indices(TRAINING))
    assert not any(
        np.any(each.at_level(WEAK).forces == 9.0) for each in training if each.at_level(WEAK).forces is not None
    )


def test_weak_forces_of_a_level_without_forces_are_refused(path):
    assert "weak_forces: no frame of" in refusal(path, given_levels={"hf": {}}, weak_forces="hf")


# The experiment and its report.


def experiment_of(path: Path, given: dict, **model) -> dict:
    config = plain_experiment() | {"sizes": [3], "levels": {}}
    config["datasets"] = {"water": {"file": str(path), "test_frames": 2, "given_levels": given}}
    config["models"]["painn"] |= {"atomic_references": "fitted"} | model
    return config


def test_a_given_level_is_no_baseline_which_is_asked_about_any_geometry(path):
    config = experiment_of(path, {"mp2": MP2}, baseline="mp2")
    with pytest.raises(ConfigError, match=r"models.painn.baseline: of 'mp2' the labels of the files are known and no"):
        parse_section(Experiment, config, "config.yaml")


def test_piwsl_check_has_its_labels_in_the_line_of_the_file(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    Path("config.yaml").write_text(yaml.safe_dump(experiment_of(path, {"mp2": MP2})))
    assert any("; mp2: 6 with energies" in line for line in remarks(load_experiment(Path("config.yaml"))))
    Path("config.yaml").write_text(yaml.safe_dump(experiment_of(path, {"ccsd": {}})))
    with pytest.raises(ConfigError, match=r"given_levels\.ccsd\.energy_key"):
        load_experiment(Path("config.yaml"))


def test_its_errors_are_a_row_of_those_test_frames_that_have_its_labels(tmp_path):
    """Of two test frames one has MP2, wrong by a constant an atom and, in forces, by 0.1 eV/Å."""
    training, test = frames_of_two_levels(4), frames_of_two_levels(2)
    for atoms in training:
        atoms.info["mp2"] = (atoms.info[ENERGY_KEY] + AN_ATOM * 3) / Hartree
    del test[1].info["mp2"]
    path, other = written(tmp_path, training), written(tmp_path, test, "test.xyz")
    folder = tmp_path / "water"
    folder.mkdir()
    keys = {"test_frames": None, "test_file": str(other), "given_levels": {"mp2": MP2, "hf": {}}}
    import_given(section(path, **keys), folder / "dataset.h5")
    config = experiment_of(path, {"mp2": MP2, "hf": {}, "ccsd": {}})
    table = cheap_table(parse_section(Experiment, config, "config.yaml"), [folder / "dataset.h5"])
    assert table["level"].tolist() == ["mp2", "hf"]
    assert table["energy_mae_meV"].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert table["force_mae_meV_per_A"].iloc[0] == pytest.approx(100.0)
    assert np.isnan(table["force_mae_meV_per_A"].iloc[1])
    assert table["known"].tolist() == ["energies of 1 of 2, forces of 1 of 2 test frames", ""]
    with Dataset(folder / "dataset.h5") as dataset:
        assert errors_of_level(dataset, "mp2")["test_frames"] == 1
        assert errors_of_level(dataset, "hf")["test_force_frames"] == 0
        assert errors_of_level(dataset, "ccsd") == {}


def test_test_frames_whose_composition_no_training_frame_with_labels_settles_are_passed_over(tmp_path):
    """Of ammonia no training frame has the level: constants of N and H that fit water say nothing of it."""
    training, test = frames_of_two_levels(4), frames_of_two_levels(2)
    ammonia = morse_frames("NH3", 4)
    for atoms in ammonia[2:]:
        atoms.info["hf_energy"] = atoms.info[ENERGY_KEY] + 1500.0
    path, other = written(tmp_path, training + ammonia[:2]), written(tmp_path, test + ammonia[2:], "test.xyz")
    given = section(path, test_frames=None, test_file=str(other), given_levels={"hf": {}})
    import_given(given, tmp_path / "mine.h5")
    with Dataset(tmp_path / "mine.h5") as dataset:
        found = errors_of_level(dataset, "hf")
    assert found["test_frames"] == 2
    assert found["energy_mae_meV"] == pytest.approx(0.0, abs=1e-6)


def test_the_report_names_levels_and_what_they_are():
    config = experiment_of(Path("a.xyz"), {"mp2": MP2 | {"level": "MP2/cc-pVTZ"}, "hf": {}})
    experiment = parse_section(Experiment, config, "config.yaml")
    html = GivenLevels().html(Context(experiment, pd.DataFrame(), {}, [], [], [], None))
    assert "<strong>water</strong>: labels of further levels, computed elsewhere: mp2 (MP2/cc-pVTZ), hf.</p>" in html


def test_a_named_test_set_need_not_have_them(tmp_path, path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bare = written(tmp_path, [atoms.copy() for atoms in morse_frames("H2O", 3, seed=7, forces=True)], "hot.xyz")
    config = experiment_of(path, {"mp2": MP2})
    config["datasets"]["water"]["tests"] = {"hot": {"file": str(bare)}, "same": {"file": str(path)}}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    tested = load_experiment(Path("config.yaml")).datasets["water"]
    known = {}
    for name in ("hot", "same"):
        import_given(tested.tested_on(name), tmp_path / f"{name}.h5", TEST)
        with Dataset(tmp_path / f"{name}.h5") as dataset:
            known[name] = dataset.labelled("mp2", "energy").tolist()
    assert known == {"hot": [False] * 3, "same": [True] * 6}


def test_the_table_of_named_test_sets_says_of_how_many_frames_a_level_is_as_the_main_table_does(tmp_path):
    """Of the own test frames all have mp2 and one its forces; of the set `hot` two of three have it, one its forces."""
    own, hot = frames_of_two_levels(2), frames_of_two_levels(5)[2:]
    del hot[0].info["mp2"]
    files = [written(tmp_path, each, f"{name}.xyz") for name, each in (("own", own), ("hot", hot))]
    config = experiment_of(written(tmp_path, frames_of_two_levels(4)), {"mp2": MP2, "hf": {}})
    del config["datasets"]["water"]["test_frames"]
    config["datasets"]["water"] |= {"test_file": str(files[0]), "tests": {"hot": {"file": str(files[1])}}}
    experiment = parse_section(Experiment, config, "config.yaml")
    dataset, folder = experiment.datasets["water"], tmp_path / "datasets" / "water"
    (folder / "tests").mkdir(parents=True)
    import_given(dataset, folder / "dataset.h5")
    import_given(dataset.tested_on("hot"), folder / "tests" / "hot.h5", TEST)
    files = files_of(tmp_path / "runs", experiment.runs(), {loss: [10.0, 20.0] for loss in experiment.losses})
    files.datasets.append(folder / "dataset.h5")
    files.test_sets.append(folder / "tests" / "hot.h5")
    for errors in list(files.errors):
        files.tests.append(errors.parent / "tests" / "hot" / "errors.json")
        write_json(files.tests[-1], read_json(errors) | {"test": "hot"})
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    html = (tmp_path / "report.html").read_text()
    main, further = (re.search(rf'id="{name}".*?</table>', html, re.DOTALL)[0] for name in ("errors", "tests-1"))
    said = {
        table: {
            name: re.findall(r'class="more">(.*?)</span>', more)
            for name, more in re.findall(r">(mp2|hf|the best constant)((?:<span.*?</span>)*)</td>", table)
        }
        for table in (main, further)
    }
    own = "forces of 1 of 2 test frames"
    assert said[main] == {"the best constant": [], "mp2": [own], "hf": []}
    of_hot = "hot: energies of 2 of 3, forces of 1 of 3 test frames"
    assert said[further] == {"the best constant": [], "mp2": [own, of_hot], "hf": []}


# Published sets.


@pytest.fixture
def ani(tmp_path) -> Path:
    write_ani(tmp_path / "ani1x-release.h5", {"H2O": morse_frames("H2O", 24, forces=True)})
    return tmp_path / "ani1x-release.h5"


def test_ani_brings_its_levels_by_itself(ani, tmp_path):
    given = parse_section(GivenDataset, {"catalogue": "ani1x", "path": str(ani), "test_frames": 2}, "config.yaml")
    assert {"wb97x_tz", "ccsdt_cbs", "hf_dz"} <= {*given.given_levels}
    import_given(given, tmp_path / "ani.h5")
    with Dataset(tmp_path / "ani.h5") as dataset:
        triple, coupled = (dataset.labelled(level, "energy") for level in ("wb97x_tz", "ccsdt_cbs"))
        assert triple.all()
        assert 0 < coupled.sum() < len(dataset)
        structure = dataset.structure(0)
    assert structure.at_level("wb97x_tz").energy == pytest.approx(structure.energy + TRIPLE_ZETA * Hartree)


def test_what_is_learned_of_a_published_set_is_none_of_its_further_levels(ani):
    keys = {"catalogue": "ani1ccx", "path": str(ani), "test_frames": 2}
    dear = parse_section(GivenDataset, keys, "config.yaml")
    cheap = parse_section(
        GivenDataset, keys | {"energy_key": "wb97x_dz_energy", "forces_key": "wb97x_dz_forces"}, "config.yaml"
    )
    assert {*dear.given_levels} - {*cheap.given_levels} == {"wb97x_dz"}
    none = parse_section(GivenDataset, keys | {"given_levels": {}}, "config.yaml")
    assert not none.given_levels
    file = read_files(dear)[0]
    assert file.with_label(label_key("wb97x_dz", "energy")) == len(file)


def test_a_job_is_given_the_levels_that_the_config_said(path):
    given = section(path, given_levels={"mp2": MP2}, weak_forces="mp2")
    assert GivenDataset.model_validate(given.beyond_defaults()) == given
