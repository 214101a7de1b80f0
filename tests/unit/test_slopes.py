"""Slopes of the energy along one random direction of a frame, and what they say of errors of forces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from helpers import MEMORY_MB, displaced, level_records, morse_frames

from piwsl.config import ComputedDataset, GivenDataset, named_level, parse_level
from piwsl.data.assemble import assemble
from piwsl.data.dataset import TEST, TRAINING, Dataset, content_hash, write_dataset
from piwsl.data.given import read_given, summary
from piwsl.errors import PiwslError
from piwsl.evaluation.cheap import errors_of_constant
from piwsl.evaluation.metrics import SlopeErrors
from piwsl.evaluation.predictions import Predictions
from piwsl.records import read_labellings
from piwsl.reference import checks
from piwsl.reference.batches import label_batch, label_displaced
from piwsl.reference.checks import check_computed_dataset
from piwsl.reference.differences import central_difference_slope, energies_needed, random_direction
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.failures import FrameFailure
from piwsl.reference.labelling import label_frames
from piwsl.reference.planning import KnownFrames, frame_cost, label_batches, label_spans, plan_dataset, structures
from piwsl.structures.frames import DIRECTION_KEY, FORCES_KEY, SLOPE_KEY, label, read_frames, write_frames
from piwsl.structures.labels import Labels, Slope
from piwsl.structures.rigid import internal_degrees, rigid_motions
from piwsl.structures.structure import Structure, from_atoms

XTB = named_level("gfn2-xtb")
HF = PySCF.model_validate({"method": "hf", "basis": "sto-3g", "density_fitting": False})


def labelled(frames: list[Atoms], store: Path, forces: str | None, level: object = XTB) -> list[Atoms]:
    found, records = label_frames(frames, level, store, forces, MEMORY_MB, progress=lambda line: None)
    assert [record.get("reason") for record in records] == [None] * len(frames)
    return found


@pytest.mark.parametrize(("level", "tolerance"), [(XTB, 1e-5), (HF, 1e-5)], ids=["GFN2-xTB", "HF"])
@pytest.mark.parametrize("name", ["CO", "CO2", "H2CO"])
def test_a_slope_is_minus_the_analytic_force_along_its_direction(name, level, tolerance, tmp_path):
    frames = [molecule(name), displaced(name, 0.05, np.random.default_rng(0))]
    analytic = labelled(frames, tmp_path, "analytic", level)
    for exact, frame in zip(analytic, labelled(frames, tmp_path, "slope", level), strict=True):
        assert FORCES_KEY not in frame.arrays
        along = -np.sum(exact.arrays[FORCES_KEY] * frame.arrays[DIRECTION_KEY])
        assert frame.info[SLOPE_KEY] == pytest.approx(along, abs=tolerance)


@pytest.mark.parametrize(("name", "degrees"), [("H2", 1), ("CO2", 4), ("H2O", 3), ("CH3OH", 12)])
def test_a_direction_is_of_norm_1_and_neither_translates_nor_rotates(name, degrees):
    atoms = molecule(name)
    direction = random_direction(atoms)
    assert np.linalg.norm(direction) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(rigid_motions(atoms.positions) @ direction.ravel(), 0.0, atol=1e-12)
    assert internal_degrees(atoms.positions) == degrees
    assert energies_needed(atoms.positions, "slope") == 5
    assert energies_needed(atoms.positions, None) == 1


def test_directions_are_uniform_among_the_internal_ones():
    # The mean of d d^T is the projector on internal displacements over their number.
    positions = molecule("H2O").positions
    rng = np.random.default_rng(1)
    mean, draws = np.zeros((9, 9)), 4000
    for _ in range(draws):
        # So little that the space stays the same, and enough for another geometry.
        atoms = Atoms("OHH", positions + 1e-4 * rng.normal(size=(3, 3)))
        direction = random_direction(atoms).ravel()
        mean += np.outer(direction, direction) / draws
    rigid = rigid_motions(positions)
    np.testing.assert_allclose(mean, (np.eye(9) - rigid.T @ rigid) / 3, atol=4 / np.sqrt(draws) / 3)


def test_a_direction_follows_from_the_geometry_alone():
    atoms, other = displaced("H2O", 0.05, np.random.default_rng(0)), displaced("H2O", 0.05, np.random.default_rng(1))
    again = atoms.copy()
    again.info |= {"frame": "300K-7", "temperature": 300.0}
    again.arrays["velocities"] = np.ones((3, 3))
    np.testing.assert_array_equal(random_direction(again), random_direction(atoms))
    assert np.abs(random_direction(other) - random_direction(atoms)).max() > 0.1
    again.info |= {"charge": 1, "multiplicity": 2}  # another frame to the store, too
    assert np.abs(random_direction(again) - random_direction(atoms)).max() > 0.1


def test_four_displaced_energies_are_stored_and_found_again_from_any_place_in_a_file(tmp_path):
    frames = [displaced("H2O", 0.05, np.random.default_rng(seed)) for seed in range(3)]
    first = labelled(frames[:1], tmp_path, "slope")[0]
    assert len(level_records(tmp_path)) == 5
    last = labelled(frames[::-1], tmp_path, "slope")[-1]
    assert len(level_records(tmp_path)) == 15
    assert last.info[SLOPE_KEY] == first.info[SLOPE_KEY]
    np.testing.assert_array_equal(last.arrays[DIRECTION_KEY], first.arrays[DIRECTION_KEY])


def test_a_single_atom_has_an_energy_and_no_slope(tmp_path):
    helium = Atoms("He", [[0.1, 0.2, 0.3]])
    assert random_direction(helium) is None
    (frame,), (record,) = label_frames([helium], XTB, tmp_path, "slope", MEMORY_MB, progress=lambda line: None)
    assert (record["status"], record["forces"]) == ("ok", None)
    assert from_atoms(frame).slope is None
    assert energies_needed(helium.positions, "slope") == len(level_records(tmp_path)) == 1


def test_energies_of_two_electronic_states_are_refused():
    atoms = molecule("H2O")
    with pytest.raises(FrameFailure, match="off a smooth curve"):
        central_difference_slope(atoms, lambda moved: 0.02 * (moved.positions[0, 2] > atoms.positions[0, 2]))


def test_shares_of_displaced_energies_leave_the_frame_its_own(tmp_path):
    frame = displaced("H2O", 0.05, np.random.default_rng(0))
    write_frames(tmp_path / "frames.xyz", [frame])
    store, records = tmp_path / "labels", tmp_path / "share.jsonl"
    label_displaced(tmp_path / "frames.xyz", XTB, 0, "slope", slice(0, None, 2), store, MEMORY_MB, records)
    assert len(read_labellings(records)) == len(level_records(store)) == 2
    out = tmp_path / "out.xyz", tmp_path / "out.jsonl"
    label_batch(tmp_path / "frames.xyz", XTB, slice(0, 1), "slope", store, MEMORY_MB, *out)
    assert len(level_records(store)) == 5
    (record,) = read_labellings(out[1])
    assert record.forces == "slope"
    at_once = labelled([frame], tmp_path / "alone", "slope")[0]
    assert read_frames(out[0])[0].info[SLOPE_KEY] == at_once.info[SLOPE_KEY]


# Planning and configs.


def dataset(**keys: object) -> ComputedDataset:
    given = {"molecule": {"name": "CH3CH2OH"}, "sampling": {"temperatures": [300]}, "level": "x"}
    return ComputedDataset.model_validate(given | {"training_frames": 5, "test_frames": 100} | keys)


def test_slopes_are_of_the_test_frames_after_those_with_forces():
    section = dataset(test_force_frames=3, test_slope_frames=60)
    spans = label_spans(section, structures(section), HF)
    assert {labels: (span.first, span.last, span.forces) for labels, span in spans.items()} == {
        "training": (0, 5, None),
        "test-forces": (0, 3, "analytic"),
        "test-slopes": (3, 63, "slope"),
        "test": (63, 100, None),
    }


def test_a_slope_costs_five_energies_and_jobs_hold_several_frames(tmp_path):
    level = PySCF.model_validate({"preset": "demo"})
    section = dataset(test_slope_frames=100)
    every = structures(section)
    alone, near = frame_cost(every, level, None), level.displaced_cost(every[0], 0, 1)
    cost = frame_cost(every, level, "slope")
    assert (cost.energies, cost.cpu_s) == (5, pytest.approx(alone.cpu_s + 4 * near.cpu_s))
    batches = {name: batch for (labels, name), batch in label_batches(section, every, level).items() if "slo" in labels}
    assert 1 < len(batches) < 100
    assert all(batch.shares == 0 for batch in batches.values())
    row = next(
        row for row in plan_dataset("d", section, level, KnownFrames(tmp_path), tmp_path) if row.labels == "test-slopes"
    )
    assert row.cpu_hours == pytest.approx(100 * cost.cpu_s / 3600)


def test_slopes_of_a_frame_that_takes_hours_are_dealt_out_to_four_jobs_at_most():
    level = PySCF.model_validate({"method": "ccsd(t)", "basis": "cc-pvtz"})
    section = dataset(test_slope_frames=2, molecule={"name": "C6H6"})
    batches = label_batches(section, structures(section), level)
    own = [batch for (labels, _), batch in batches.items() if labels == "test-slopes"]
    assert [(batch.stop - batch.start, batch.shares) for batch in own] == [(1, 4)] * 2


def test_a_plan_finds_the_energies_of_slopes_in_the_store(tmp_path):
    frames = [displaced("H2O", 0.05, np.random.default_rng(seed)) for seed in range(2)]
    write_frames(tmp_path / "frames/test.xyz", frames)
    given = dataset(molecule={"name": "H2O"}, test_frames=2, test_slope_frames=2)
    labelled(frames[:1], tmp_path / "labels", "slope", HF)
    rows = {row.labels: row for row in plan_dataset("d", given, HF, KnownFrames(tmp_path), tmp_path / "labels")}
    cost = frame_cost(structures(given), HF, "slope")
    assert rows["test-slopes"].stored == 1
    assert rows["test-slopes"].cpu_hours == pytest.approx(cost.cpu_s / 3600)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"test_slope_frames": 101}, "test_slope_frames: 101 is more than test_frames without forces"),
        ({"test_force_frames": 50, "test_slope_frames": 51}, r"\(100 - 50\)"),
        (
            {"tests": {"hot": {"temperatures": [900], "frames": 4, "force_frames": 1, "slope_frames": 4}}},
            "slope_frames: 4 is more than the 3 frames without forces",
        ),
    ],
)
def test_a_frame_has_forces_or_a_slope(keys, said):
    with pytest.raises(ValueError, match=said):
        dataset(**keys)


def test_named_test_sets_may_have_slopes():
    section = dataset(tests={"hot": {"temperatures": [900], "frames": 4, "force_frames": 1, "slope_frames": 3}})
    hot = section.tested_on("hot", 4)
    assert (hot.test_force_frames, hot.test_slope_frames) == (1, 3)


def test_slopes_of_an_energy_that_is_not_smooth_are_refused_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(checks, "check_level", lambda level, symbols: None)  # asks for ORCA itself
    local = parse_level({"engine": "orca", "method": "dlpno-ccsd(t)", "basis": "cc-pvdz"}, "level")
    with pytest.raises(PiwslError, match=r"datasets\.d\.test_slope_frames: dlpno-ccsd\(t\) .* is not smooth"):
        check_computed_dataset("d", dataset(test_slope_frames=2), local)


# Frames and dataset files.


def test_slopes_travel_in_frames_and_dataset_files_and_their_absence_too(tmp_path):
    with_slopes = labelled([displaced("H2O", 0.05, np.random.default_rng(0)), molecule("CO2")], tmp_path / "s", "slope")
    alone = labelled([molecule("NH3")], tmp_path / "s", None)
    write_frames(tmp_path / "test.xyz", with_slopes + alone)
    write_frames(tmp_path / "training.xyz", morse_frames("H2O", 2, forces=True))
    assemble([tmp_path / "training.xyz"], [tmp_path / "test.xyz"], [], tmp_path / "d.h5")
    with Dataset(tmp_path / "d.h5") as found:
        assert found.labelled("reference", "slope").tolist() == [False, False, True, True, False]
        test = found.structures(found.indices(TEST))
    assert [structure.forces for structure in test] == [None] * 3
    assert test[2].slope is None
    for structure, atoms in zip(test, with_slopes, strict=False):
        assert structure.slope.value == atoms.info[SLOPE_KEY]
        np.testing.assert_allclose(structure.slope.direction, atoms.arrays[DIRECTION_KEY], atol=1e-8)


def test_a_slope_is_part_of_what_is_hashed_and_a_dataset_without_any_is_as_it_was(tmp_path):
    direction = np.zeros((2, 3))
    direction[0, 0] = 1.0
    bare = Structure(np.array([1, 1]), np.eye(3)[:2], np.zeros((3, 3)), np.zeros(3, bool))
    hashes = {
        content_hash([bare.labelled("reference", Labels(1.0, slope=slope))])
        for slope in (None, Slope(0.1, direction), Slope(0.2, direction), Slope(0.1, -direction))
    }
    assert len(hashes) == 4
    write_dataset(tmp_path / "d.h5", {TRAINING: morse_frames("H2O", 1), TEST: morse_frames("H2O", 1)})
    with Dataset(tmp_path / "d.h5") as found:
        assert not found.labelled("reference", "slope").any()


@pytest.mark.parametrize(
    ("slope", "direction", "said"),
    [
        (0.1, None, "REF_slope is there and REF_direction is not"),
        (None, np.eye(3), "REF_direction is there and REF_slope is not"),
        (0.1, np.eye(3), r"REF_direction is of norm 1\.73"),
        (np.nan, np.eye(3) / np.sqrt(3), "REF_slope is nan, not a finite number"),
        (0.1, np.eye(3)[:, :2] / np.sqrt(2), "REF_direction must be 3 x 3 finite numbers"),
    ],
)
def test_half_a_slope_and_a_direction_that_is_none_are_refused(slope, direction, said):
    atoms = molecule("H2O")
    if slope is not None:
        atoms.info[SLOPE_KEY] = slope
    if direction is not None:
        atoms.arrays[DIRECTION_KEY] = direction
    with pytest.raises(PiwslError, match=said):
        from_atoms(atoms)


def test_frames_of_a_file_keep_their_slopes_in_ev_whatever_the_unit_of_forces(tmp_path):
    frames = labelled([displaced("H2O", 0.05, np.random.default_rng(0))], tmp_path / "s", "slope")
    write_frames(tmp_path / "mine.xyz", frames)
    section = GivenDataset.model_validate(
        {"file": str(tmp_path / "mine.xyz"), "test_frames": 1, "forces_unit": "Hartree/Bohr"}
    )
    read = read_given(section, tmp_path / "mine.xyz")
    assert from_atoms(read.frames[0]).slope.value == frames[0].info[SLOPE_KEY]
    said = summary(section, read)
    assert "1 with the slope along a direction (REF_slope in eV/Å)" in said
    assert "meant as forces_key" not in said  # its direction is none


def test_what_a_baseline_leaves_of_a_slope_is_what_its_forces_do_not_say():
    direction = np.array([[0.0, 0.0, 0.6], [0.0, -0.8, 0.0]])
    forces = np.arange(6.0).reshape(2, 3)  # of which 0.6 * 2 - 0.8 * 4 = -2 lies along it
    own = Labels(1.0, slope=Slope(3.0, direction))
    assert own.less(Labels(0.5, forces)).slope.value == pytest.approx(1.0)
    assert own.less(Labels(0.5)).slope is None


# What slopes say of errors of forces.


def erring(count: int, rng: np.random.Generator, names: tuple[str, ...] = ("NH3",)) -> tuple[list[Structure], list]:
    """Return structures with slopes of no force at all, and forces that err without net force and torque."""
    structures, predicted = [], []
    for index in range(count):
        atoms = displaced(names[index % len(names)], 0.05, rng)
        rigid, error = rigid_motions(atoms.positions), 0.1 * rng.normal(size=atoms.positions.size)
        predicted.append((error - (rigid @ error) @ rigid).reshape(-1, 3))
        structures.append(from_atoms(label(atoms, 0.0, None, slope=Slope(0.0, random_direction(atoms)))))
    return structures, predicted


def estimated(structures: list[Structure], forces: list) -> dict[str, float]:
    count = len(structures)
    found = SlopeErrors()
    found.add(structures, Predictions(np.zeros(count), forces, np.full((count, 3, 3), np.nan)))
    return found.values()


def true_rmse(forces: list) -> float:
    return 1000 * float(np.sqrt(np.mean(np.concatenate([each.ravel() for each in forces]) ** 2)))


@pytest.mark.parametrize("names", [("NH3",), ("H2O", "CH3OH", "CO")], ids=["one", "several compositions"])
def test_slopes_say_the_error_of_forces_without_bias_and_how_sure_they_are(names):
    rng = np.random.default_rng(0)
    found = [
        estimated(*sample) | {"true": true_rmse(sample[1])} for sample in (erring(60, rng, names) for _ in range(80))
    ]
    squares = np.array([each["force_rmse_from_slopes_meV_per_A"] ** 2 - each["true"] ** 2 for each in found])
    assert abs(squares.mean()) < 3 * squares.std() / np.sqrt(len(squares))
    # What it says of its own scatter is what estimates scatter by, about the error of all frames.
    estimates = np.array([each["force_rmse_from_slopes_meV_per_A"] for each in found])
    said = np.mean([each["force_rmse_from_slopes_error_meV_per_A"] for each in found])
    assert said == pytest.approx(estimates.std(), rel=0.25)


def test_of_a_diatomic_one_slope_says_all():
    # One internal direction, with 1/6 of the components: the error of the bond's force is 2 eV/Å on either atom.
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])
    forces = [np.array([[0, 0, 2.0], [0, 0, -2.0]])]
    structures = [from_atoms(label(atoms, 0.0, None, slope=Slope(0.0, random_direction(atoms))))]
    found = estimated(structures, forces)
    assert found["force_rmse_from_slopes_meV_per_A"] == pytest.approx(true_rmse(forces))
    assert found["slope_mae_meV_per_A"] == pytest.approx(2000 * np.sqrt(2))
    assert (found["test_slope_frames"], found["force_rmse_from_slopes_error_meV_per_A"]) == (1, None)


def test_without_slopes_nothing_is_said():
    bare = [from_atoms(label(molecule("NH3"), 0.0, None))]
    found = estimated(bare, [np.zeros((4, 3))])
    assert found.pop("test_slope_frames") == 0
    assert set(found.values()) == {None}


def test_a_constant_errs_by_all_of_the_slopes(tmp_path):
    frames = labelled(
        [displaced("H2O", 0.05, np.random.default_rng(seed)) for seed in range(3)], tmp_path / "s", "slope"
    )
    write_dataset(tmp_path / "d.h5", {TRAINING: frames[:1], TEST: frames[1:]})
    with Dataset(tmp_path / "d.h5") as found:
        errors = errors_of_constant(found)
    assert errors["slope_mae_meV_per_A"] == pytest.approx(1000 * np.mean([abs(f.info[SLOPE_KEY]) for f in frames[1:]]))
    assert errors["test_slope_frames"] == 2
