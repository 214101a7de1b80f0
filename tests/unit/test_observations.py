"""When seeds are one observation: where a model in closed form learns the same frames, however many seeds say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import morse_frames
from run_files import STABILITY, files_of

from piwsl.config import Experiment, Loss, Run
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.evaluation.comparison import by_seed, compare
from piwsl.evaluation.evaluate import evaluate
from piwsl.files import read_json, write_json
from piwsl.report.context import Context, FilesOfRun
from piwsl.report.sections.best import candidates
from piwsl.report.sections.errors import means_over_seeds
from piwsl.report.sections.stability import StabilityOfDynamics
from piwsl.report.sections.summary import how_sure
from piwsl.report.sections.verdicts import verdicts_on
from piwsl.report.tables import cheap_table, run_table
from piwsl.training.run import train_run

FRAMES, SEEDS = 8, (0, 1, 2)
CONFIG = {
    "experiment": "given",
    "datasets": {"water": {"file": "frames.xyz", "test_frames": 3}},
    "models": {
        "process": {"architecture": "gaussian_process"},
        "on-pairs": {"architecture": "gaussian_process", "pair_potential": True},
    },
    "losses": {"supervised": {}},
    "sizes": [4, FRAMES],
    "seeds": [*SEEDS],
    "simulations": {"nvt": {}},
}
EXPERIMENT = Experiment.model_validate(CONFIG)


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> list[Path]:
    """Train and test two processes at a size that leaves frames out, and at one that takes all there are."""
    folder = tmp_path_factory.mktemp("runs")
    dataset = folder / "dataset.h5"
    write_dataset(dataset, {TRAINING: morse_frames("H2O", FRAMES), TEST: morse_frames("H2O", 3, seed=1)})
    return [_tested(dataset, run, folder / f"{run.model}-n{run.size}-seed{run.seed}") for run in EXPERIMENT.runs()]


def _tested(dataset: Path, run: Run, folder: Path) -> Path:
    model = folder / "model.safetensors"
    train_run(dataset, run, EXPERIMENT.models[run.model], Loss(), model, folder / "history.csv")
    evaluate(dataset, run, model, folder / "errors.json", folder / "predictions.parquet", folder / "worst.xyz")
    return folder / "errors.json"


def test_a_process_of_all_frames_is_the_same_of_all_seeds_and_one_observation(errors):
    table = run_table(errors, [])
    every = table[(table["size"] == FRAMES) & (table["model"] == "process")]
    # Alike but for the order of the frames, and rounding.
    np.testing.assert_allclose(every["energy_mae_meV"], every["energy_mae_meV"].iloc[0], rtol=1e-2)
    assert every["observation"].nunique() == 1
    some = table[(table["size"] == 4) & (table["model"] == "process")]
    assert some["observation"].nunique() == len(SEEDS)


def test_frames_that_are_not_known_make_no_seeds_one(errors, tmp_path):
    (tmp_path / "errors.json").write_text(errors[0].read_text())
    assert run_table([tmp_path / "errors.json"], [])["observation"].tolist() == ["seed 0"]


def test_one_observation_has_neither_interval_nor_p_value(errors):
    whole, some, every = compare(run_table(errors, []), "model", "process", ["on-pairs"], "energy_mae_meV")
    assert (every.size, every.ratio.seeds, every.ratio.interval, every.ratio.p_value) == (FRAMES, 1, None, None)
    assert every.ratio.verdict == "undecided"
    assert (some.size, some.ratio.seeds) == (4, len(SEEDS))
    # What is the same of all seeds would narrow the interval of what differs.
    assert whole.ratio == some.ratio


def test_the_mean_of_one_observation_has_no_deviation(errors):
    means = means_over_seeds(run_table(errors, []).assign(stable_ps=np.nan)).droplevel(["dataset", "loss"])
    assert means["seeds"]["process"].to_dict() == {4: len(SEEDS), FRAMES: 1}
    assert np.isnan(means["energy_mae_meV", "std"]["process", FRAMES])
    assert means["energy_mae_meV", "std"]["process", 4] > 0


def series(values: list[float], runs: list[tuple[int, int]]) -> pd.Series:
    return pd.Series(values, index=pd.MultiIndex.from_tuples(runs, names=["size", "seed"]))


def test_equal_ratios_of_models_that_are_trained_by_steps_are_as_many_observations_as_seeds():
    runs = [(10, 0), (10, 1), (10, 2)]
    ratios = series([-0.03, -0.03, -0.03], runs)
    assert len(by_seed(ratios, series(["seed 0", "seed 1", "seed 2"], runs))) == 3
    assert len(by_seed(ratios, series(["frames a"] * 3, runs))) == 1


def test_a_model_trained_by_steps_differs_from_seed_to_seed_beside_one_that_does_not(errors):
    table = run_table(errors, [])
    network = table["model"] == "on-pairs"
    table.loc[network, "observation"] = "seed " + table.loc[network, "seed"].astype(str)
    *_, every = compare(table, "model", "process", ["on-pairs"], "energy_mae_meV")
    assert every.ratio.seeds == len(SEEDS)


@pytest.fixture
def context(tmp_path) -> Context:
    """A process at a size of which all seeds have the same frames."""
    experiment = Experiment.model_validate(
        CONFIG | {"models": {"process": CONFIG["models"]["process"]}, "sizes": [FRAMES]}
    )
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 10.0, 10.002]})
    for path, summary, run in zip(files.errors, files.simulations, experiment.runs(), strict=True):
        write_json(path, read_json(path) | {"in_closed_form": True})
        order = np.random.default_rng(run.seed).permutation(FRAMES).tolist()
        write_json(path.with_name("frames.json"), {"training": order, "validation": [], "data": str(run.seed)})
        write_json(summary, run.plain() | STABILITY)
    table = run_table(files.errors, files.simulations)
    found = zip(files.errors, files.predictions, files.histories, files.simulations, files.worst, strict=True)
    of_runs = {
        number: FilesOfRun(errors, predictions, history, {"nvt": summary}, worst)
        for number, (errors, predictions, history, summary, worst) in enumerate(found)
    }
    return Context(experiment, table, of_runs, [], [], [], cheap_table(experiment, []))


def test_the_first_screen_says_that_seeds_gave_one_model(context):
    (best,) = candidates(context.runs)
    assert best.seeds == 1
    said = f"3 seeds gave one model, of the same {FRAMES} frames: they say nothing of others; 3 test frames leave"
    assert next(how_sure(context)).startswith(said)


def test_replicas_of_one_model_are_counted_once(context):
    # Each seed starts and moves them with the same random numbers.
    assert "1 of 2 failed, after 1 ps, of 2 ps" in StabilityOfDynamics().html(context)


def test_seeds_after_an_acquisition_are_said_to_share_their_frames(context):
    chosen = {"start": 4, "rounds": 1, "each": 4, "by": "random"}
    datasets = {"water": CONFIG["datasets"]["water"] | {"acquisition": chosen}}
    networks = context.runs.assign(observation=["seed 0", "seed 1", "seed 2"])
    experiment = Experiment.model_validate(CONFIG | {"datasets": datasets})
    said = next(how_sure(replace(context, runs=networks, experiment=experiment)))
    assert said.startswith("3 seeds, all of the same 8 frames (an acquisition chose them), gave 10 meV in energies;")


def test_the_page_says_what_intervals_cover_and_what_not(errors):
    page = verdicts_on(compare(run_table(errors, []), "model", "process", ["on-pairs"], "energy_mae_meV"), "the model")
    assert "not of an acquisition, nor at\na size that takes all frames" in page
    assert "Seeds of which both models are fitted in closed form to the same frames are one" in page
