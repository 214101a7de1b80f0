"""Labels of cheap levels: computed by jobs of their own, put beside the labels by geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from helpers import ROOT, displaced
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.config import (
    ConfigError,
    Experiment,
    GivenDataset,
    Loss,
    named_level,
    parse_level,
    parse_model,
    parse_section,
)
from piwsl.data.assemble import assemble, import_given, write_geometries
from piwsl.data.cheap_levels import read_cheap_labels, with_cheap_labels
from piwsl.data.dataset import PARTS, POOL, TEST, TRAINING, Dataset
from piwsl.data.dropping import frames_left, frames_of, kept_of
from piwsl.data.given import read_files
from piwsl.errors import PiwslError
from piwsl.models import Baseline
from piwsl.preflight import check_experiment, remarks
from piwsl.reference.batches import label_batch
from piwsl.reference.planning import KnownFrames, cheap_batch, cheap_batches
from piwsl.structures.frames import label, write_frames
from piwsl.structures.structure import from_atoms
from piwsl.training.frames import frames_of_structures
from piwsl.training.run import train
from piwsl.workflow.cheap_labels import CheapJobs
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.layout import LABELLED, RECORDS, Layout

XTB = "gfn2-xtb"
GFN2 = named_level(XTB)
HF = {"method": "hf", "basis": "sto-3g", "density_fitting": False}


def frames(count: int, seed: int = 0) -> list[Atoms]:
    """Return labelled water, neutral and as a cation, anywhere in space."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        atoms = displaced("H2O", 0.05, rng)
        atoms.positions += rng.uniform(-50, 50, 3)
        if number % 3 == 2:
            atoms.info |= {"charge": 1, "multiplicity": 2}
        found.append(label(atoms, -100.0 - number, None))
    return found


def labelled_by_jobs(folder: Path, geometries: Path, part: str, cuts: list[tuple[int, int]]) -> list[list[Path]]:
    """Run labelling jobs as the rule does; return the files of labelled frames, and those of records."""
    files = Layout("test").dataset("mine")
    found: list[list[Path]] = [[], []]
    for start, stop in cuts:
        written = [
            folder / files.cheap_batch(XTB, part, "0a", f"{start:05d}-{stop:05d}", s) for s in (LABELLED, RECORDS)
        ]
        label_batch(geometries, GFN2, slice(start, stop), "analytic", folder / "store", 1000, *written)
        for paths, path in zip(found, written, strict=True):
            paths.append(path)
    return found


def test_frames_get_what_jobs_computed_of_their_geometries(tmp_path):
    write_frames(tmp_path / "mine.xyz", frames(9))
    given = GivenDataset(file=tmp_path / "mine.xyz", test_frames=3, cheap_levels=[XTB])
    files: list[list[Path]] = [[], []]
    for part, cuts in ((TRAINING, [(0, 4), (4, 6)]), (TEST, [(0, 3)])):
        write_geometries(given, part, tmp_path / f"{part}.xyz")
        for paths, more in zip(files, labelled_by_jobs(tmp_path, tmp_path / f"{part}.xyz", part, cuts), strict=True):
            paths += more
    import_given(given, tmp_path / "d.h5", cheap=read_cheap_labels(*files))
    with Dataset(tmp_path / "d.h5") as made:
        structures = made.structures(np.arange(9))
    assert sum(structure.charge for structure in structures) == 3
    for structure in structures:
        found = GFN2.single_point(structure.atoms(), structure.charge, structure.multiplicity, 1000, forces=True)
        assert structure.at_level(XTB).energy == pytest.approx(found.energy, abs=1e-6)
        np.testing.assert_allclose(structure.at_level(XTB).forces, found.forces, atol=1e-5)


def test_geometries_keep_their_labels_to_the_last_digit_that_files_carry(tmp_path):
    """Coordinates are rounded where they are written and where they are looked up, halves of the last digit too."""
    rng = np.random.default_rng(1)
    many = frames(60)
    for atoms in many:
        atoms.positions = np.round(atoms.positions, 8) + rng.choice([0, 5e-9, -5e-9, 4.999e-9], atoms.positions.shape)
    # A binary file, whose reader gives all digits.
    given = GivenDataset(file=tmp_path / "many.traj", test_frames=10)
    ase.io.write(tmp_path / "many.traj", [_for_ase(atoms) for atoms in many])
    write_geometries(given, TRAINING, tmp_path / "training.xyz")
    labels = read_cheap_labels(*labelled_by_jobs(tmp_path, tmp_path / "training.xyz", TRAINING, [(0, 50)]))
    training = frames_of(kept_of(given, read_files(given)))[TRAINING]
    found, left_out = with_cheap_labels({TRAINING: training}, labels)
    assert len(found[TRAINING]) == 50
    assert left_out == []


def _for_ase(atoms: Atoms) -> Atoms:
    """Return a frame with its energy where ASE's own formats keep it."""
    frame = Atoms(atoms.numbers, atoms.positions)
    frame.calc = SinglePointCalculator(frame, energy=atoms.info["REF_energy"])
    return frame


def test_a_frame_that_no_job_was_asked_about_is_said(tmp_path):
    write_frames(tmp_path / "training.xyz", frames(3))
    labels = read_cheap_labels(*labelled_by_jobs(tmp_path, tmp_path / "training.xyz", TRAINING, [(0, 2)]))
    with pytest.raises(PiwslError, match="has no labels of gfn2-xtb: it was not among the frames"):
        with_cheap_labels({TRAINING: frames(3)}, labels)


def test_a_job_of_which_all_frames_failed_leaves_reasons(tmp_path):
    clash = label(Atoms("H2", [[0, 0, 0], [0, 0, 1e-3]]), -1.0, None)
    write_frames(tmp_path / "pool.xyz", [clash])
    files = labelled_by_jobs(tmp_path, tmp_path / "pool.xyz", POOL, [(0, 1)])
    assert files[0][0].stat().st_size == 0
    with pytest.raises(PiwslError, match=r"gfn2-xtb failed 1 of 1 pool frames, more than may be: 0: geometry: atom 0"):
        with_cheap_labels({POOL: [clash]}, read_cheap_labels(*files))


def test_a_charge_that_is_none_fails_its_frame(tmp_path):
    odd = [*frames(19), label(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), -1.0, None)]
    odd[-1].info["charge"] = 0.5
    write_frames(tmp_path / "training.xyz", odd)
    labels = read_cheap_labels(*labelled_by_jobs(tmp_path, tmp_path / "training.xyz", TRAINING, [(0, 20)]))
    found, (failed,) = with_cheap_labels({TRAINING: odd}, labels)
    assert len(found[TRAINING]) == 19
    assert "19: charge=0.5 is no whole number" in failed.said


def test_computed_frames_get_them_by_geometry_too(tmp_path):
    """Frames that the reference level fails are labelled by the cheap one, and are not among the others."""
    every = frames(4)
    write_frames(tmp_path / "frames.xyz", every)
    write_frames(tmp_path / "labelled.xyz", every[1:])
    labels = read_cheap_labels(*labelled_by_jobs(tmp_path, tmp_path / "frames.xyz", TRAINING, [(0, 4)]))
    assemble([tmp_path / "labelled.xyz"], [], [], tmp_path / "d.h5", cheap=labels)
    with Dataset(tmp_path / "d.h5") as made:
        assert all(structure.at_level(XTB).forces is not None for structure in made.structures(np.arange(3)))


# Jobs and plans.


@pytest.mark.parametrize(
    "keys", [{"test_frames": 3}, {"test_file": "test.xyz"}, {"test_frames": 2, "pool_file": "pool.xyz"}]
)
def test_frames_are_counted_as_they_are_taken(tmp_path, monkeypatch, keys):
    monkeypatch.chdir(tmp_path)
    for name, count in (("mine.xyz", 8), ("test.xyz", 2), ("pool.xyz", 5)):
        write_frames(tmp_path / name, frames(count))
    given = GivenDataset.model_validate({"file": "mine.xyz", **keys})
    taken = frames_of(kept_of(given, read_files(given)))
    assert {part: frames_left(given, part) for part in PARTS} == {part: len(taken[part]) for part in PARTS}


def test_a_level_of_seconds_is_scattered_over_jobs_and_one_of_milliseconds_is_not():
    every = [displaced("CH3CH2OH", 0.0, np.random.default_rng(0))]
    mp2 = parse_level({"method": "mp2", "basis": "cc-pvtz"}, "level")
    dear, cheap = cheap_batches(TRAINING, 1000, every, mp2), cheap_batches(TRAINING, 1000, every, GFN2)
    assert len(dear) >= 5
    assert len(cheap) == 1
    spans = [(job.start, job.stop) for job in dear.values()]
    assert [number for start, stop in spans for number in range(start, stop)] == list(range(1000))
    assert {job.forces for job in dear.values()} == {"analytic"}
    assert all(cheap_batch(TRAINING, every, mp2, name) == job for name, job in dear.items())


def test_what_is_labelled_stays_as_it_was_cut():
    every = [displaced("H2O", 0.0, np.random.default_rng(0))]
    batches = cheap_batches(POOL, 12, every, GFN2, [(0, 3), (5, 10)])
    assert [(job.start, job.stop) for job in batches.values()] == [(0, 3), (3, 5), (5, 10), (10, 12)]


def experiment(folder: Path, **keys: Any) -> Experiment:
    section = {"file": str(folder / "mine.xyz"), "test_frames": 3, "cheap_levels": [XTB, "hf"]} | keys
    config = {
        "experiment": "cheap",
        "levels": {"hf": HF},
        "datasets": {"mine": section},
        "models": {"painn": {"architecture": "painn", "baseline": XTB}},
        "losses": {"supervised": {}},
        "sizes": [4],
        "seeds": [0],
    }
    return parse_section(Experiment, config, "config")


def test_a_plan_has_a_row_for_each_cheap_level_and_part_and_knows_what_is_stored(tmp_path):
    write_frames(tmp_path / "mine.xyz", frames(8))
    found = experiment(tmp_path)
    jobs = CheapJobs("mine", found.datasets["mine"], found.levels)
    rows = list(jobs.plans(KnownFrames(tmp_path), tmp_path / "store"))
    assert [(row.labels, row.frames, row.stored) for row in rows] == [
        ("gfn2-xtb, training", 5, None), ("gfn2-xtb, test", 3, None), ("hf, training", 5, None), ("hf, test", 3, None),
    ]  # fmt: skip
    given = found.datasets["mine"]
    assert isinstance(given, GivenDataset)
    write_geometries(given, TRAINING, tmp_path / "frames" / "training.xyz")
    labelled_by_jobs(tmp_path, tmp_path / "frames" / "training.xyz", TRAINING, [(0, 4)])
    first = next(jobs.plans(KnownFrames(tmp_path), tmp_path / "store"))
    assert first.stored == 4
    assert first.cpu_hours == pytest.approx(rows[0].cpu_hours / 5)


def test_the_command_plans_them_of_given_frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "mine.xyz", frames(8))
    (tmp_path / "config.yaml").write_text(
        "experiment: cheap\ndatasets:\n  mine: {file: mine.xyz, test_frames: 3, cheap_levels: [gfn2-xtb]}\n"
        "models:\n  painn: {architecture: painn, baseline: gfn2-xtb}\nlosses:\n  supervised: {}\n"
        "sizes: [4]\nseeds: [0]\n"
    )
    result = CliRunner().invoke(app, ["plan", "config.yaml"])
    assert result.exit_code == 0, result.output
    assert "mine: mine.xyz, with cheap levels" in result.output
    assert "gfn2-xtb, training: 5 frames with forces (analytic), frames not made yet: 1 job of " in result.output
    assert "In all 2 jobs" in result.output


# What is refused before anything is computed.


def test_periodic_frames_are_refused_before_anything_is_computed(tmp_path):
    periodic = [label(bulk("NaCl", "rocksalt", a=5.6), -1.0, None) for _ in range(8)]
    write_frames(tmp_path / "mine.xyz", periodic)
    with pytest.raises(ConfigError, match=r"datasets.mine.cheap_levels: frame 0 of .*mine.xyz is periodic, and levels"):
        check_experiment(experiment(tmp_path), "config.yaml")


def test_electrons_that_do_not_fit_are_said_before_anything_is_computed(tmp_path):
    """What the level would leave out of the data, one frame a job."""
    odd = frames(8)
    odd[4].info["multiplicity"] = 2
    write_frames(tmp_path / "mine.xyz", odd)
    (line,) = [line for line in remarks(experiment(tmp_path)) if "cheap levels leave out" in line]
    assert line.startswith(
        f"mine: warning: cheap levels leave out 1 of the frames of {tmp_path / 'mine.xyz'}: frame 4: "
    )
    assert "10 electrons cannot have multiplicity 2" in line


@pytest.mark.parametrize(("key", "value"), [("charge", 0.5), ("multiplicity", "two")])
def test_a_charge_or_multiplicity_that_is_none_is_said_with_file_and_frame(tmp_path, key, value):
    odd = frames(8)
    odd[4].info[key] = value
    write_frames(tmp_path / "mine.xyz", odd)
    with pytest.raises(ConfigError, match=rf"mine.xyz: frame 4: {key}={value} is no whole number"):
        check_experiment(experiment(tmp_path), "config.yaml")


def test_a_preset_that_costs_nothing_keeps_its_name(tmp_path):
    config = experiment(tmp_path).model_dump(mode="json", exclude_unset=True)
    config["levels"] = {"hf": HF, XTB: HF}
    with pytest.raises(ConfigError, match=r"levels\.gfn2-xtb: is not gfn2-xtb, for which the name stands"):
        parse_section(Experiment, config, "config")
    config["levels"] = {"hf": HF, XTB: {"engine": "tblite"}}
    assert parse_section(Experiment, config, "config").levels[XTB] == GFN2


def test_geometries_that_are_labelled_do_not_depend_on_what_labels_them(tmp_path):
    write_frames(tmp_path / "mine.xyz", frames(8))
    one, two = (
        Jobs(experiment(tmp_path, cheap_levels=levels), ROOT / "workflow" / "scripts")
        for levels in ([XTB], [XTB, "hf"])
    )
    assert one.geometry_settings("mine", TEST) == two.geometry_settings("mine", TEST)
    assert one.given_settings("mine", TEST) != two.given_settings("mine", TEST)
    assert set(one.cheap_labels("mine", LABELLED)) < set(two.cheap_labels("mine", LABELLED))


def test_more_jobs_than_are_planned_are_refused(tmp_path, monkeypatch):
    write_frames(tmp_path / "mine.xyz", frames(8))
    check_experiment(experiment(tmp_path), "config.yaml")
    monkeypatch.setattr("piwsl.preflight.MOST_JOBS", 1)
    with pytest.raises(ConfigError, match="cheap_levels: 'gfn2-xtb' takes 2 labelling jobs, 1 at most"):
        check_experiment(experiment(tmp_path), "config.yaml")


@pytest.mark.parametrize("name", ["scf", "again"])
def test_the_level_of_the_labels_is_no_cheap_level(name):
    config = {
        "experiment": "cheap",
        "levels": {"scf": HF, "again": HF},
        "datasets": {
            "water": {
                "molecule": {"name": "H2O"}, "sampling": {"temperatures": [300]}, "level": "scf",
                "training_frames": 4, "test_frames": 2, "cheap_levels": [name],
            }
        },
        "models": {"painn": {"architecture": "painn"}},
        "losses": {"supervised": {}},
        "sizes": [4],
        "seeds": [0],
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"cheap_levels: '{name}' is the level of the labels"):
        Experiment.model_validate(config)


@pytest.mark.parametrize(
    ("named", "given", "complaint"),
    [
        (XTB, None, "its baseline is gfn2-xtb, and none was given"),
        (None, Baseline(XTB, GFN2), "its baseline is none, and gfn2-xtb was given"),
        ("other", Baseline(XTB, GFN2), "its baseline is other, and gfn2-xtb was given"),
    ],
)
def test_a_model_is_trained_with_the_baseline_that_it_names(tmp_path, named, given, complaint):
    """A file whose config names another than its header could not be read."""
    model = parse_model({"architecture": "painn", "baseline": named}, "model")
    learned = frames_of_structures([from_atoms(atoms) for atoms in frames(6)], model, 0)
    with pytest.raises(PiwslError, match=complaint):
        train(learned, model, Loss(), 0, tmp_path / "m.safetensors", tmp_path / "h.csv", baseline=given)
    assert not list(tmp_path.iterdir())
