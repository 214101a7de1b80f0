"""The first screen: four answers, with the numbers that stand below."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import morse_frames, plain_experiment
from run_files import files_of

from piwsl.config import Experiment, parse_section
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.evaluation.predictions import read_predictions
from piwsl.report.context import Context, FilesOfRun
from piwsl.report.sections.summary import (
    Summary,
    asked,
    came_out,
    compared,
    decided,
    how_sure,
    interval_of_mean,
    models_asked,
    named,
    told_apart,
)
from piwsl.report.sections.verdicts import comparisons, pooled
from piwsl.report.tables import MEASURES, run_table

NOTHING_CHEAP = pd.DataFrame(columns=["dataset", "level", *MEASURES])


def experiment(**edits: object) -> Experiment:
    return parse_section(Experiment, plain_experiment() | edits, "config.yaml")


def context(folder: Path, given: Experiment, energy: dict[str, list[float]], with_forces: bool = True) -> Context:
    files = files_of(folder, given.runs(), energy, with_forces)
    table = run_table(files.errors, files.simulations)
    of_runs = {
        n: FilesOfRun(errors, predictions, history, {}, worst)
        for n, (errors, predictions, history, worst) in enumerate(
            zip(files.errors, files.predictions, files.histories, files.worst, strict=True)
        )
    }
    constants = pd.DataFrame([{"dataset": "ammonia", "energy_mae_meV": 141.0, "force_mae_meV_per_A": 800.0}])
    cheap = NOTHING_CHEAP.assign(dataset=["ammonia"], level=["xtb"], energy_mae_meV=20.0)
    return Context(given, table, of_runs, [], [], [], cheap, constants)


def test_what_was_asked_is_the_grid_in_words(tmp_path):
    given = context(tmp_path, experiment(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    assert asked(given) == (
        "How well painn predicts ammonia (ccsdt-cbs) from 25 to 100 labelled frames, and what weak (pitc) adds to "
        "supervised: 8 trainings, 2 seeds."
    )


def test_without_a_weak_loss_nothing_is_said_of_one(tmp_path):
    given = context(tmp_path, experiment(losses={"supervised": {}}, seeds=[0], sizes=[25]), {"supervised": [10.0]})
    assert asked(given) == "How well painn predicts ammonia (ccsdt-cbs) from 25 labelled frames: 1 training, 1 seed."


def test_what_came_out_is_the_best_potential_beside_what_needs_no_training(tmp_path):
    given = context(tmp_path, experiment(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    assert list(came_out(given)) == [
        "painn (weak, 25 frames) is best, with mean absolute errors of 8.5 meV in energies and 85 meV/Å in forces; "
        "without training: the best constant 141 meV and 800 meV/Å; xtb 20 meV. Its dynamics stayed stable for 1.5 of "
        "1 ps at 300 K on average."
    ]


def test_of_what_is_not_simulated_no_dynamics_is_told(tmp_path):
    given = context(tmp_path, experiment(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    runs = given.runs.assign(stable_ps=float("nan"), time_ps=float("nan"))
    (said,) = came_out(replace(given, runs=runs))
    assert said.startswith("painn (weak, 25 frames) is best")
    assert "ynamics" not in said


def test_models_that_learned_nothing_are_counted(tmp_path):
    given = context(tmp_path, experiment(), {"supervised": [141.0, 150.0], "weak": [5.0, 12.0]})
    assert list(came_out(given))[-1] == (
        "2 of 4 means over seeds are no better than the best constant, in energies or in forces."
    )


def test_a_decided_comparison_is_told_with_its_size_and_an_undecided_one_counted(tmp_path):
    given = context(
        tmp_path, experiment(seeds=[0, 1, 2]), {"supervised": [10.0, 20.0, 40.0], "weak": [5.0, 10.0, 20.0]}
    )
    found = pooled(comparisons(given.runs, given.experiment))
    assert list(compared(found)) == [
        "ammonia, painn, weak against supervised: energy errors 50 % lower, force errors 50 % lower."
    ]
    assert list(decided(found)) == ["2 paired comparisons, sizes pooled: 2 better. A verdict takes 3 seeds."]
    two = context(tmp_path / "two", experiment(), {"supervised": [10.0, 20.0], "weak": [5.0, 10.0]})
    found = pooled(comparisons(two.runs, two.experiment))
    assert list(compared(found)) == []
    assert list(decided(found)) == ["2 paired comparisons, sizes pooled: 2 undecided. A verdict takes 3 seeds."]


def test_the_interval_of_a_mean_is_students_and_no_error_is_negative():
    # s = 1, so 1/√3 times t(0.975, 2) = 4.3027.
    low, high = interval_of_mean(np.array([9.0, 10.0, 11.0]))
    assert (low, high) == pytest.approx((10 - 2.4842, 10 + 2.4842), abs=1e-4)
    assert interval_of_mean(np.array([0.0, 1.0, 2.0]))[0] == 0.0


def test_how_sure_it_is_are_the_seeds_and_the_test_frames(tmp_path):
    given = context(tmp_path, experiment(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    # All test frames of a run are off by as much.
    found = read_predictions(given.files[0].predictions)["energy"]
    np.testing.assert_allclose(found.predicted - found.label, 0.01)
    assert list(how_sure(given)) == [
        "2 seeds gave 5 to 12 meV in energies; 3 test frames leave 8.5 to 8.5 meV, the 95 % interval of their mean.",
        "painn (supervised, 25 frames) is next, with 15 meV in energies and 150 meV/Å in forces; energies of these "
        "test frames tell the two apart.",
    ]
    one = context(tmp_path / "one", experiment(seeds=[0]), {"supervised": [10.0], "weak": [5.0]})
    assert next(how_sure(one)).startswith("one seed, which says nothing of another; 3 test frames leave")


@pytest.mark.parametrize(("frames", "shared"), [(25, True), (26, False)])
def test_seeds_that_take_all_frames_there_are_are_said_to_share_them(tmp_path, frames, shared):
    given = context(tmp_path, experiment(), {"supervised": [10.0, 20.0], "weak": [5.0, 5.0]})
    file = tmp_path / "ammonia" / "dataset.h5"
    write_dataset(file, {TRAINING: morse_frames("NH3", frames), TEST: morse_frames("NH3", 1)})
    first = next(how_sure(replace(given, datasets=[file])))
    assert first.startswith("2 seeds, all of the same 25 frames (there are no more), gave 5 meV in energies;") == shared
    assert first.startswith("2 seeds gave 5 meV in energies;") != shared


@pytest.mark.parametrize(("errors", "apart"), [([4.0, 5.0, 6.0], "tell"), ([-40.0, 5.0, 50.0], "do not tell")])
def test_the_next_is_told_from_the_best_where_the_test_frames_do(tmp_path, errors, apart):
    given = context(tmp_path, experiment(seeds=[0], sizes=[25]), {"supervised": [1.0], "weak": [0.0]})
    # By hand: differences of (4, 5, 6) have a mean of 5 and an interval of ± 2.5; of (40, 5, 50) one of ± 59 about 32.
    found = pq.read_table(given.files[0].predictions)
    off = pa.array([label + error / 1000 for label, error in zip((0.0, 1.0, 2.0), errors, strict=True)])
    column = found.schema.get_field_index("energy_predicted")
    pq.write_table(found.set_column(column, found.schema.field(column), off), given.files[0].predictions)
    last = list(how_sure(given))[-1]
    assert last.startswith("painn (supervised, 25 frames) is next, with 1 meV in energies and 10 meV/Å in forces; ")
    assert last.endswith(f"; energies of these test frames {apart} the two apart.")


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ([4.0, 5.0, 6.0], "energies of these test frames tell the two apart"),
        ([-4.0, -5.0, -6.0], "energies of these test frames tell the two apart: those of the next are better"),
        ([-4.0, 5.0, 6.0], "energies of these test frames do not tell the two apart"),
        ([-4.0, np.nan], "energies of these test frames do not tell the two apart"),
    ],
)
def test_the_next_may_have_the_better_energies_and_then_that_is_said(differences, words):
    assert told_apart(np.array(differences)) == words


def test_without_force_labels_there_is_a_next_all_the_same(tmp_path):
    given = context(tmp_path, experiment(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]}, with_forces=False)
    assert "painn (supervised, 25 frames) is next, with 15 meV in energies; " in list(how_sure(given))[-1]


def test_of_one_model_and_loss_there_is_no_next(tmp_path):
    given = context(tmp_path, experiment(losses={"supervised": {}}), {"supervised": [10.0, 20.0]})
    assert len(list(how_sure(given))) == 1


def test_names_that_do_not_say_what_models_are_are_explained(tmp_path):
    painn = plain_experiment()["models"]["painn"]
    models = {
        "painn": painn,
        "process": {"architecture": "gaussian_process"},
        "student": painn | {"teacher": {"model": "process", "loss": "supervised"}},
    }
    dataset = plain_experiment()["datasets"]["ammonia"] | {"pool_frames": 10}
    given = experiment(models=models, datasets={"ammonia": dataset}, losses={"supervised": {"energy": 1.0}})
    found = Context(given, pd.DataFrame(), {}, [], [], [], NOTHING_CHEAP)
    assert list(models_asked(found)) == ["process: gaussian process; student: painn, taught by process (supervised)."]
    assert list(models_asked(replace(found, experiment=experiment()))) == []


def test_several_datasets_are_told_apart_and_many_are_counted(tmp_path):
    config = plain_experiment()
    datasets = {f"ammonia{n}": config["datasets"]["ammonia"] for n in range(6)}
    given = context(tmp_path, experiment(datasets=datasets), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    told = list(came_out(given))
    assert [line.partition(":")[0] for line in told[:4]] == ["ammonia0", "ammonia1", "ammonia2", "ammonia3"]
    assert told[4] == "2 more datasets stand below."
    assert "predicts 6 datasets from" in asked(given)


def test_without_a_finished_run_what_was_asked_still_stands(tmp_path):
    given = context(tmp_path, experiment(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    page = Summary().html(replace(given, runs=given.runs.iloc[:0]))
    assert "What was asked" in page
    assert "What came out" not in page
    assert "What it cost" not in page


def test_names_in_a_row():
    assert named(["a"], "models") == "a"
    assert named(["a", "b", "c"], "models") == "a, b and c"
    assert named(list("abcde"), "models") == "5 models"
