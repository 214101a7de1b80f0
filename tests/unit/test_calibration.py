"""What a model says of its own errors is compared with them: by hand, by physics, and in the report."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import morse_frames
from run_files import files_of
from scipy.stats import norm

from piwsl.architectures.gaussian_process import GaussianProcess
from piwsl.architectures.painn import PaiNN
from piwsl.config import ComputedDataset, Experiment, GivenDataset, Loss, Run, Training, parse_section
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_dataset
from piwsl.evaluation.calibration import Spreads, scale_of_spread
from piwsl.evaluation.evaluate import evaluate
from piwsl.evaluation.predict import predict
from piwsl.evaluation.predictions import Compared, read_predictions
from piwsl.files import read_json
from piwsl.models import load_model
from piwsl.report.sections.calibration import conclusion
from piwsl.report.sections.training import validation_errors
from piwsl.report.tables import run_table
from piwsl.report.write import write_report
from piwsl.structures.structure import from_atoms
from piwsl.training.run import train_run

RNG = np.random.default_rng(0)
SPREAD = RNG.uniform(0.5, 2.0, 4000)
NORMAL = SPREAD * norm.ppf((RNG.permutation(4000) + 0.5) / 4000)


def test_errors_of_the_normal_distribution_that_was_said_have_no_area():
    assert Spreads.of(NORMAL, SPREAD).miscalibration_area() < 0.001
    assert Spreads.of(NORMAL, SPREAD).values()["error_over_spread"] == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("factor", [0.3, 0.5, 2.0, 5.0])
def test_the_area_is_that_between_the_expected_and_the_found_share(factor):
    confidences = np.linspace(0.0, 1.0, 20001)[1:-1]
    # Of errors that are `factor` times as wide, so many are within the interval that should hold a share p.
    found = 2 * norm.cdf(norm.ppf(0.5 + confidences / 2) / factor) - 1
    expected = np.abs(found - confidences).mean()
    assert Spreads.of(factor * NORMAL, SPREAD).miscalibration_area() == pytest.approx(expected, abs=0.001)


def test_the_area_of_few_errors_is_that_of_their_steps():
    errors, spread = np.array([0.1, -0.7, 1.9]), np.array([1.0, 0.5, 1.0])
    confidences = np.linspace(0.0, 1.0, 200001)
    limits = norm.ppf(0.5 + np.minimum(confidences, 1 - 1e-12) / 2)
    found = (np.abs(errors / spread)[None, :] <= limits[:, None]).mean(axis=1)
    assert Spreads.of(errors, spread).miscalibration_area() == pytest.approx(
        np.abs(found - confidences).mean(), abs=1e-4
    )


@pytest.mark.parametrize(
    ("errors", "spread"), [(0.0, 1.0), (1.0, 0.0), (-1e9, 1.0), (0.0, 0.0)], ids=["none", "sure", "far", "exact"]
)
def test_the_area_is_a_half_at_worst(errors, spread):
    assert Spreads.of(np.full(5, errors), np.full(5, spread)).miscalibration_area() == pytest.approx(0.5)


def test_the_scale_is_exact_where_the_same_frames_say_both():
    # Krogh and Vedelsby: an identity, whatever the errors of the members have in common.
    errors = RNG.normal(size=(4, 50)) + 2.0 * RNG.normal(size=50) + 0.5
    spread = float(np.sqrt(np.square(errors.std(axis=0, ddof=1)).mean()))
    of_mean = float(np.sqrt(np.square(errors.mean(axis=0)).mean()))
    scale = scale_of_spread(float(np.sqrt(np.square(errors).mean())), spread, members=4)
    assert scale * spread == pytest.approx(of_mean)


def test_members_that_err_less_than_they_differ_give_no_scale():
    assert scale_of_spread(0.5, 1.0, members=4) is None
    assert Spreads.of(NORMAL, SPREAD).values()["scaled_miscalibration_area"] is None


def test_the_scale_mends_what_it_is_the_factor_of():
    found = Spreads.of(3.0 * NORMAL, SPREAD).values(scale=3.0)
    assert found["scaled_miscalibration_area"] < 0.001 < 0.2 < found["miscalibration_area"]


PAINN = PaiNN(
    architecture="painn", cutoff=4.0, features=8, layers=2, radial=6, members=3,
    training=Training(steps=60, validate_every=30),
)  # fmt: skip


def evaluated(folder: Path, model, test=None, like_validation=True) -> tuple[dict, dict[str, Compared], Path]:
    """Train and test; return errors, predictions and the model file."""
    folder.mkdir(parents=True)
    dataset, run = folder / "dataset.h5", Run(dataset="d", model="m", loss="l", size=20, seed=0)
    test = test or morse_frames("H2O", 6, seed=5, forces=True)
    write_dataset(dataset, {TRAINING: morse_frames("H2O", 20, forces=True), TEST: test})
    path = folder / "model.safetensors"
    train_run(dataset, run, model, Loss(), path, folder / "history.csv")
    files = (folder / "errors.json", folder / "predictions.parquet", folder / "worst.xyz")
    evaluate(dataset, run, path, *files, like_validation=like_validation)
    return read_json(folder / "errors.json"), read_predictions(folder / "predictions.parquet"), path


def test_a_committee_is_tested_with_its_spread_and_labels_of_test_frames_do_not_scale_it(tmp_path):
    errors, predicted, path = evaluated(tmp_path / "right", PAINN)
    with Dataset(tmp_path / "right" / "dataset.h5") as dataset:
        found = predict(load_model(path), dataset.structures(dataset.indices(TEST)))
    np.testing.assert_allclose(predicted["energy"].std, found.energy_std)
    np.testing.assert_allclose(predicted["force"].std, np.concatenate(found.forces_std).ravel())
    for quantity, unit in (("energy", "meV"), ("force", "meV_per_A")):
        compared = predicted[quantity]
        spread = np.sqrt(np.square(compared.std).mean())
        ratio = np.sqrt(np.square(compared.predicted - compared.label).mean()) / spread
        assert errors[f"{quantity}_error_over_spread"] == pytest.approx(ratio)
        assert errors[f"{quantity}_spread_{unit}"] == pytest.approx(1000 * spread)
    wrong = morse_frames("H2O", 6, seed=5, forces=True)
    for frame in wrong:
        frame.info["REF_energy"] += 100.0
        frame.arrays["REF_forces"] += 100.0
    others, _, _ = evaluated(tmp_path / "wrong", PAINN, wrong)
    assert others["energy_spread_scale"] == errors["energy_spread_scale"]
    assert others["force_spread_scale"] == errors["force_spread_scale"]
    assert others["energy_error_over_spread"] > 10 * errors["energy_error_over_spread"]


def test_without_held_out_frames_there_is_no_scale(tmp_path):
    training = PAINN.training.model_copy(update={"validation_fraction": 0.0})
    errors, _, _ = evaluated(tmp_path / "all", PAINN.model_copy(update={"training": training}))
    assert errors["energy_spread_scale"] is None
    assert errors["energy_miscalibration_area"] >= 0


def test_a_single_network_says_nothing_and_a_gaussian_process_its_own_deviation(tmp_path):
    errors, predicted, _ = evaluated(tmp_path / "one", PAINN.model_copy(update={"members": 1}))
    assert not [name for name in errors if "spread" in name or "calibration" in name]
    assert (predicted["energy"].std, predicted["force"].std) == (None, None)
    errors, predicted, path = evaluated(tmp_path / "process", GaussianProcess(architecture="gaussian_process"))
    frames = [from_atoms(atoms) for atoms in morse_frames("H2O", 6, seed=5)]
    np.testing.assert_allclose(predicted["energy"].std, predict(load_model(path), frames).energy_std)
    assert predicted["force"].std is None
    assert errors["energy_spread_scale"] is None


def test_of_frames_on_which_members_differ_more_held_out_ones_say_too_small_a_scale():
    """Members whose mean errs by 2.07 times the spread wherever it is asked."""
    held_out = float(np.sqrt(2.07**2 + 3 / 4))
    said = [scale_of_spread(held_out, spread, members=4) for spread in (1.0, 1.5, 2.0)]
    assert said == pytest.approx([2.07, 1.22, 0.71], abs=0.01)


def test_a_committee_is_told_no_scale_on_test_frames_of_another_kind(tmp_path):
    errors, _, _ = evaluated(tmp_path / "other", PAINN, like_validation=False)
    assert (errors["energy_spread_scale"], errors["force_scaled_miscalibration_area"]) == (None, None)
    assert errors["energy_miscalibration_area"] >= 0


BY_GROUP, BY_BLOCK = {"by": "group", "key": "trajectory"}, {"by": "block", "blocks": 5}
OF_FILE = {"file": "frames.xyz", "test_frames": 2}
ASKED = {"start": 2, "rounds": 1, "each": 2, "by": "disagreement", "model": "painn", "loss": "supervised"}
SAMPLED = {
    "molecule": {"name": "H2O"}, "sampling": {"temperatures": [300, 500]}, "level": "demo", "training_frames": 8,
    "test_frames": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("dataset", "by", "like"),
    [
        (OF_FILE, "frame", True),
        (OF_FILE | {"groups": {"key": "trajectory"}}, "group", False),
        (OF_FILE | {"split": BY_GROUP}, "frame", False),
        (OF_FILE | {"split": BY_GROUP}, "group", True),
        (OF_FILE | {"split": BY_GROUP, "groups": {"by": "composition"}}, "group", False),
        (OF_FILE | {"split": {"by": "size"}}, "group", False),
        (OF_FILE | {"split": BY_BLOCK}, "group", True),
        ({"file": "frames.xyz", "test_file": "hot.xyz"}, "frame", False),
        ({"file": "frames.xyz", "split": {"test": "test.csv"}}, "frame", False),
        (OF_FILE | {"acquisition": ASKED}, "frame", False),
        (OF_FILE | {"acquisition": {"start": 2, "rounds": 1, "each": 2, "by": "random"}}, "frame", True),
        (SAMPLED, "frame", True),
        (SAMPLED, "group", False),
        (SAMPLED | {"selection": "farthest_point"}, "frame", False),
        (SAMPLED | {"acquisition": ASKED}, "frame", False),
        (SAMPLED | {"molecule": None, "sampling": None, "geometries": {"file": "a.xyz"}}, "frame", False),
    ],
)
def test_a_scale_is_told_where_test_frames_are_drawn_as_held_out_ones_are(dataset, by, like):
    kind = GivenDataset if "file" in dataset else ComputedDataset
    assert parse_section(kind, dataset, "datasets.mine").test_is_like_validation(by) is like


def test_of_a_student_no_scale_is_told_for_its_teacher_has_learned_what_its_members_hold_out():
    student = {"architecture": "painn", "members": 3, "teacher": {"model": "process", "loss": "supervised"}}
    found = parse_section(
        Experiment,
        {
            "experiment": "e",
            "datasets": {"water": OF_FILE | {"pool_file": "pool.xyz"}},
            "models": {
                "process": {"architecture": "gaussian_process"},
                "alone": {"architecture": "painn", "members": 3},
                "student": student,
            },
            "losses": {"supervised": {}},
            "sizes": [12],
            "seeds": [0],
        },
        "config",
    )
    assert found.test_is_like_validation("water", "alone")
    assert not found.test_is_like_validation("water", "student")


SUMMARY = {
    f"{quantity}_{name}": value
    for quantity in ("energy", "force")
    for name, value in {
        "error_over_spread": 2.0, "miscalibration_area": 0.25, "spread_scale": 1.9, "scaled_miscalibration_area": 0.03,
    }.items()
}  # fmt: skip


@pytest.fixture
def experiment() -> Experiment:
    return parse_section(
        Experiment,
        {
            "experiment": "e",
            "datasets": {"water": {"file": "frames.xyz", "test_frames": 2}},
            "models": {"painn": {"architecture": "painn", "members": 2}},
            "losses": {"supervised": {}},
            "sizes": [4],
            "seeds": [0, 1],
        },
        "config",
    )


def page(folder: Path, experiment: Experiment, spread) -> str:
    files = files_of(folder, experiment.runs(), {"supervised": [10.0, 20.0]}, spread=spread)
    write_report(experiment, files, folder / "report.html", folder / "results.csv")
    return (folder / "report.html").read_text()


def test_the_report_says_what_a_spread_is_worth(tmp_path, experiment):
    written = page(tmp_path, experiment, SUMMARY)
    headings = re.findall(r"<h3 [^>]*>(.*?)</h3>", written)
    assert headings.index("Parity") < headings.index("How well it knows its errors") < headings.index("Training")
    assert "Energies: errors were 2 times the spread; multiplied by 1.9, as held-out frames say" in written
    assert written.count("<td>Forces</td>") == 1
    table = (tmp_path / "results.csv").read_text().splitlines()
    assert "energy_spread_scale" in table[0]


def test_without_a_spread_the_report_says_nothing_of_it(tmp_path, experiment):
    assert "How well it knows its errors" not in page(tmp_path, experiment, None)
    assert "spread" not in (tmp_path / "results.csv").read_text()


@pytest.mark.parametrize(
    ("ratio", "scale", "said"),
    [
        (1.1, 3.0, "1.1 times the spread; it may be taken for the error as it is."),
        (2.0, 2.2, "2 times the spread; multiplied by 2.2, as held-out frames say, it may be taken for the error."),
        (4.0, 1.5, "4 times the spread, where held-out frames say 1.5; it tells sure from unsure frames"),
        (4.0, None, "4 times the spread; no scale is known, so that it tells sure from unsure frames"),
    ],
)
def test_the_conclusion_follows_from_the_numbers(tmp_path, experiment, ratio, scale, said):
    spread = SUMMARY | {"energy_error_over_spread": ratio, "energy_spread_scale": scale}
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0]}, spread=spread)
    assert said in conclusion("energy", run_table(files.errors, files.simulations))


@pytest.mark.parametrize(
    ("ratios", "scales", "said"),
    [
        # Their mean is 1.2.
        ((2.4, 0.8, 0.4), None, "0.4 to 2.4 times the spread; no scale is known, so that it tells sure from unsure"),
        ((2.4, 0.8, 0.4), (1.2, 1.2, 1.2), "0.4 to 2.4 times the spread, where held-out frames say 1.2; it tells sure"),
        ((1.1, 0.9, 0.9), None, "0.9 to 1.1 times the spread; it may be taken for the error as it is."),
        ((2.4, 1.6, 1.5), (2.2, 1.5, 1.6), "multiplied by 1.5 to 2.2, as held-out frames say, it may be taken for"),
        ((2.4, 1.6, 1.5), (2.2, 1.5, None), "where held-out frames say 1.5 to 2.2; it tells sure from unsure frames"),
    ],
    ids=["other ratios", "one scale", "alike", "a scale each", "one without a scale"],
)
def test_the_conclusion_is_what_holds_of_all_sizes(ratios, scales, said):
    rows = [
        {"size": size, "loss": "supervised", "seed": seed, **SUMMARY,
         "energy_error_over_spread": ratio * factor, "energy_spread_scale": scale}
        for size, ratio, scale in zip((10, 100, 1000), ratios, scales or (None,) * 3, strict=True)
        for seed, factor in ((0, 0.9), (1, 1.1))
    ]  # fmt: skip
    assert said in conclusion("energy", pd.DataFrame(rows))


def test_the_course_of_training_is_that_of_all_members(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("member,step,validation_energy_rmse\n0,10,0.003\n0,20,0.001\n1,10,0.004\n")
    assert validation_errors(path).to_dict() == pytest.approx({10: 1000 * np.sqrt((9e-6 + 16e-6) / 2), 20: 1.0})


def test_without_validation_frames_the_report_leaves_the_course_of_training_out(tmp_path, experiment):
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0]})
    for path in files.histories:
        path.write_text("step,training_total\n10,0.5\n")
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    assert "<h3>Training</h3>" not in (tmp_path / "report.html").read_text()
