"""An experiment that buys its labels in rounds: as it was planned, in rounds that nothing finished is redone for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from experiment import TINY, planned, prepare
from helpers import ROOT, level_records, morse_frames, snakemake

from piwsl.config import Experiment, parse_section, read_yaml
from piwsl.config.acquisition import round_name
from piwsl.data.dataset import TRAINING, Dataset
from piwsl.preflight import load_experiment
from piwsl.records import Round, read_labellings, read_record
from piwsl.structures.frames import read_frames, write_frames
from piwsl.workflow.graph import every_job
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.origins import are_of_config
from piwsl.workflow.status import State, status_of

WATER = TINY["datasets"]["water"]
BOUGHT: dict[str, Any] = {
    "experiment": "bought",
    "levels": TINY["levels"] | {"cheap": {"engine": "tblite"}},
    "datasets": {
        "water": {
            "molecule": {"file": "water.xyz"},
            "sampling": {"temperatures": [500], "stride": 10, "equilibration": 20},
            "level": "hf",
            "training_frames": 16,
            "test_frames": 3,
            "free_atoms": False,
            "cheap_levels": ["cheap"],
            "acquisition": {
                "start": 3, "rounds": 2, "each": 2, "by": "variance", "model": "process", "loss": "supervised",
            },
        },
        "mine": {
            "file": "mine.xyz",
            "test_frames": 4,
            "acquisition": {
                "start": 4, "rounds": 1, "each": 3, "by": "disagreement", "model": "committee", "loss": "supervised",
                "seed": 3,
            },
        },
    },
    "models": {
        "process": {"architecture": "gaussian_process"},
        "committee": TINY["models"]["painn"] | {"members": 2},
    },
    "losses": {"supervised": {"forces": 0.0}},
    "sizes": [7],
    "seeds": [0],
    "only": [{"model": "process"}],
    "simulations": {},
}  # fmt: skip


def configure(folder: Path, rounds: int = 2, **edits: Any) -> None:
    water = BOUGHT["datasets"]["water"]
    acquisition = water["acquisition"] | {"rounds": rounds}
    datasets = BOUGHT["datasets"] | {"water": water | {"acquisition": acquisition}}
    (folder / "config.yaml").write_text(yaml.safe_dump(BOUGHT | {"datasets": datasets} | edits))


def made(folder: Path) -> Path:
    prepare(folder)
    write_frames(folder / "mine.xyz", morse_frames("H2O", 16, forces=True))
    configure(folder)
    return folder


@pytest.fixture(scope="module")
def bought(tmp_path_factory) -> Path:
    folder = made(tmp_path_factory.mktemp("bought"))
    result = snakemake(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture
def rerun(bought, tmp_path) -> Path:
    shutil.copytree(bought, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def positions(path: Path) -> list[np.ndarray]:
    with Dataset(path) as dataset:
        return [each.positions for each in dataset.structures(dataset.indices(TRAINING))]


def test_the_jobs_are_those_of_snakemake_and_stand_after_those_whose_results_they_take(bought, monkeypatch):
    monkeypatch.chdir(bought)
    jobs = Jobs(parse_section(Experiment, read_yaml(Path("config.yaml")), "config.yaml"), ROOT / "workflow" / "scripts")
    every = every_job(jobs)
    said = snakemake(bought, "--summary").stdout.splitlines()[1:]
    by_snakemake = {tuple(line.split("\t")[column] for column in (0, 2, 3)) for line in said}
    assert {(path, job.rule, jobs.layout.log(job.name)) for job in every for path in job.results} == by_snakemake
    met: set[str] = set()
    for job in every:
        assert set(job.after) <= met, job
        met.add(job.name)
    assert {each.state for each in status_of(jobs, time.time()).found} == {State.DONE}


def test_frames_are_bought_once_and_sizes_nest(bought):
    water = bought / "results" / "bought" / "datasets" / "water"
    three, five, seven = (positions(water / "sizes" / f"n{size}.h5") for size in (3, 5, 7))
    assert (len(three), len(five), len(seven)) == (3, 5, 7)
    np.testing.assert_array_equal(seven[:5], five)
    np.testing.assert_array_equal(seven[:3], three)
    np.testing.assert_array_equal(positions(water / "training.h5"), seven)
    # Of the frames that there are to choose from, those that were not bought have no label.
    assert len(read_frames(water / "frames" / "training.xyz")) == 16
    records = [row for path in sorted((water / "labels").glob("round-*/**/*.jsonl")) for row in read_labellings(path)]
    assert [row.status for row in records] == ["ok"] * 7
    cheap = [path.parts[-3] for path in sorted((water / "cheap-labels").rglob("*.jsonl"))]
    assert cheap == ["round-0", "round-1", "round-2", "test"]


def test_rounds_go_by_the_model_of_those_before_them_beside_the_grid_or_of_it(bought):
    results = bought / "results" / "bought"
    rounds = [read_record(Round, results / "datasets" / "water" / "rounds" / f"{number}.json") for number in range(3)]
    assert [(each.by, each.learned, each.candidates) for each in rounds] == [
        ("random", None, 16), ("variance", 3, 13), ("variance", 5, 11),
    ]  # fmt: skip
    assert [0 < each.spread_median <= each.spread_largest for each in rounds[1:]] == [True, True]
    assert (results / "water" / "process" / "supervised" / "n5" / "seed0" / "model.safetensors").exists()
    assert not (results / "water" / "process" / "supervised" / "n5" / "seed0" / "errors.json").exists()


@pytest.mark.parametrize(
    ("edits", "others"),
    [
        ({"rounds": 3}, set()),
        ({"seeds": [0, 1]}, set()),
        ({"models": BOUGHT["models"] | {"process": {"architecture": "gaussian_process", "cutoff": 4.0}}}, {1, 2}),
        ({"levels": BOUGHT["levels"] | {"hf": {"method": "hf", "basis": "6-31g"}}}, {1, 2}),
        ({"losses": {"supervised": {"forces": 0.0, "energy": 2.0}}}, {1, 2}),
    ],
)
def test_frames_that_a_model_of_another_config_chose_are_not_known(rerun, monkeypatch, edits, others):
    configure(rerun, **edits)
    monkeypatch.chdir(rerun)
    jobs = Jobs(load_experiment(Path("config.yaml")), ROOT / "workflow" / "scripts")
    folder = Path("results/bought/datasets/water")
    rounds = range(3)
    assert {each for each in rounds if not are_of_config(jobs, "water", folder, round_name(each))} == others


def test_published_labels_are_looked_at_where_they_were_bought_alone(bought):
    mine = bought / "results" / "bought" / "datasets" / "mine"
    every, seven = positions(mine / "training.h5"), positions(mine / "sizes" / "n7.h5")
    chosen = [read_record(Round, mine / "rounds" / f"{number}-chosen.json") for number in (0, 1)]
    assert [each.by for each in chosen] == ["random", "disagreement"]
    bought_frames = [index for each in chosen for index in each.bought]
    np.testing.assert_array_equal(seven, [every[index] for index in bought_frames])
    assert len(every) == 12


def test_the_report_says_what_was_bought_in_each_round(bought):
    report = (bought / "results" / "bought" / "report.html").read_text()
    assert "Which frames were labelled" in report
    assert "3 frames at random, then 2 rounds of 2 by variance of the model process with loss supervised" in report
    assert "then 1 round of 3 by disagreement of the model committee" in report
    table = pd.read_csv(bought / "results" / "bought" / "tables" / "acquisition.csv")
    rows = table.set_index("dataset")[["by", "bought", "unit"]].fillna("")
    assert rows.loc["water"].to_numpy().tolist() == [["random", 3, ""], ["variance", 2, "eV"], ["variance", 2, "eV"]]
    assert rows.loc["mine"].to_numpy().tolist() == [["random", 4, ""], ["disagreement", 3, "eV/Å"]]


REPORTED = {"assemble_part": 1, "assemble_dataset": 1, "report": 1}


def test_a_further_round_redoes_nothing(rerun):
    configure(rerun, rounds=3)
    # It asks a model of the last size, which is there, and its frames go to the dataset that is reported.
    a_round = {"choose_round": 1, "label": 1, "complete_round": 1, "label_cheaply": 1}
    assert planned(rerun) == REPORTED | a_round
    configure(rerun, rounds=3, sizes=[7, 9], exclude=[{"dataset": "mine", "size": 9}])
    assert planned(rerun) == REPORTED | a_round | {"assemble_size": 1, "train": 1, "evaluate": 1}
    before = [*(rerun / "results").rglob("*.safetensors"), *level_records(rerun / "results" / "labels")]
    times = {path: path.stat().st_mtime_ns for path in before}
    result = snakemake(rerun)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == times
    assert planned(rerun) == {}


@pytest.mark.parametrize(
    ("edits", "redone"),
    [
        ({}, {}),
        ({"seeds": [0, 1]}, {"train": 2, "evaluate": 2, "report": 1}),
    ],
    ids=["nothing", "another seed, of the same labels"],
)
def test_an_edit_that_asks_for_no_other_frame_labels_none(rerun, edits, redone):
    configure(rerun, **edits)
    assert planned(rerun) == redone


def test_killed_between_rounds_it_goes_on_without_doing_a_finished_thing_again(tmp_path):
    folder = made(tmp_path)
    water = folder / "results" / "bought" / "datasets" / "water"
    last = str((water / "sizes" / "n7.h5").relative_to(folder))
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1", last], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 900
    while not (water / "rounds" / "1-chosen.json").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None, "Snakemake ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert snakemake(folder, "--unlock").returncode == 0
    finished = [
        *level_records(folder / "results" / "labels"),
        *(water / "rounds").glob("0*"),
        water / "sizes" / "n3.h5",
    ]
    times = {path: path.stat().st_mtime_ns for path in finished}
    assert len(times) >= 3 + 4
    result = snakemake(folder, last)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len(positions(Path(folder, last))) == 7
