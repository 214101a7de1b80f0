"""What an edit of a finished experiment redoes: all that depends on it, and nothing else."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from experiment import RUNS, TINY, VIBRATIONS, configure, jobs_in, planned
from helpers import ROOT, displaced, morse_frames, snakemake
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.data.dataset import PARTS, POOL, TEST, TRAINING
from piwsl.files import read_json
from piwsl.preflight import load_experiment
from piwsl.structures.frames import read_frames, write_frames
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.origins import are_of_config

WATER = {"train": 2, "evaluate": 2, "simulate": 2, "report": 1}
TESTED = {"assemble_part": 1, "assemble_dataset": 1, "evaluate": 2, "simulate": 2, "report": 1}
ALL = {"train": RUNS, "evaluate": RUNS, "simulate": RUNS, "report": 1}
NEW_RUNS = ALL
REPORT = {"report": 1}
SIMULATE = {"simulate": RUNS, "report": 1}
LOSSES: dict[str, Any] = TINY["losses"]
PAINN: dict[str, Any] = TINY["models"]["painn"]
# Named test sets.
HOT: dict[str, Any] = {"temperatures": [900], "frames": 3}
BEND: dict[str, Any] = {"scan": {"along": [1, 0, 2], "start": 90, "stop": 120, "points": 4}}


class Edit(NamedTuple):
    """An edit of the config, or of files beside it; the jobs that it redoes; and why."""

    what: str
    edit: dict[str, Any] | Callable[[Path], object]
    redone: dict[str, int]
    why: str


def comment(folder: Path) -> None:
    with (folder / "config.yaml").open("a") as file:
        file.write("# a thought\n")


def changed_frames(folder: Path, time: float | None = None) -> None:
    write_frames(folder / "mine.xyz", morse_frames("H2O", 12, seed=9))
    if time is not None:
        os.utime(folder / "mine.xyz", (time, time))


def changed_molecule(folder: Path) -> None:
    write_frames(folder / "water.xyz", [displaced("H2O", 0.01, np.random.default_rng(0))])


def given_pool(folder: Path) -> None:
    write_frames(folder / "pool.xyz", morse_frames("H2O", 3, seed=2))
    configure(folder, datasets__mine={"file": "mine.xyz", "test_frames": 4, "pool_file": "pool.xyz"})


def geometries_to_test_on(folder: Path) -> None:
    write_frames(folder / "bend.xyz", [displaced("H2O", 0.05, np.random.default_rng(n)) for n in range(3)])
    configure(folder, datasets__water__tests={"bend": {"file": "bend.xyz", "along": [1, 0, 2]}})


def given_test(folder: Path) -> None:
    write_frames(folder / "others.xyz", morse_frames("H2O", 3, seed=2))
    configure(folder, datasets__mine=TINY["datasets"]["mine"] | {"tests": {"others": {"file": "others.xyz"}}})


def level(**keys: Any) -> dict[str, Any]:
    return {"levels": {"hf": keys}}


HF = TINY["levels"]["hf"]
TEACHER = {"model": "painn", "loss": "supervised"}
NO_POOL = [*TINY["exclude"], {"dataset": "mine", "model": "pupil"}]
# Of given frames alone.
CHEAP = {
    "datasets__mine__cheap_levels": ["gfn2-xtb"],
    "exclude": [*TINY["exclude"], {"dataset": "water", "model": "difference"}],
}
EDITS = [
    Edit("nothing", {}, {}, "nothing changed"),
    Edit("a comment", comment, {}, "it says nothing to the workflow"),
    Edit(
        "more test frames", {"datasets__water__test_frames": 5}, {"sample": 2, "select": 1, "label": 3} | TESTED,
        "the test trajectories grow, old energies come from the store; models never saw a test frame",
    ),
    Edit(
        "fewer test frames", {"datasets__water__test_frames": 2}, {"sample": 2, "select": 1, "label": 2} | TESTED,
        "likewise",
    ),
    Edit(
        "forces on more test frames", {"datasets__water__test_force_frames": 2}, {"label": 2} | TESTED,
        "a frame goes from those with energies alone to those with forces; the first one keeps its job",
    ),
    Edit(
        "slopes of test frames", {"datasets__water__test_slope_frames": 1}, {"label": 2} | TESTED,
        "a frame goes from those with energies alone to those with a slope",
    ),
    Edit(
        "more training frames", {"datasets__water__training_frames": 8},
        {"sample": 2, "select": 1, "label": 3, "assemble_part": 1, "assemble_dataset": 1} | WATER,
        "runs draw their frames from all training frames",
    ),
    Edit("frames per job", {"datasets__water__labelling__frames_per_job": 2}, REPORT, "what is labelled stays so"),
    Edit("memory of jobs", {"datasets__water__labelling__mem_mb": 999}, REPORT, "no result depends on it"),
    Edit(
        "resources of training", {"models__painn__resources": {"mem_mb": 9000, "runtime": 10}}, {},
        "no result depends on them, and the report does not show them",
    ),
    Edit(
        "share of failed frames", {"datasets__water__labelling__max_failed": 0.5},
        {"assemble_dataset": 1, "report": 1}, "it is asked again whether too many failed; the frames are the same",
    ),
    Edit(
        "another name of the level", {"levels": {"scf": HF}, "datasets__water__level": "scf"}, REPORT,
        "it is the same recipe",
    ),
    Edit(
        "the level spelt otherwise", level(method="hf", basis="STO-3G", density_fitting=False, frozen_core=False),
        REPORT, "it is the same recipe: HF has no core to freeze",
    ),
    Edit(
        "another level", level(method="hf", basis="6-31g", density_fitting=False),
        {"label": 4, "label_free_atoms": 1, "assemble_part": 2, "assemble_dataset": 1} | WATER,
        "all labels are others; frames are the same, and so is the pool",
    ),
    Edit(
        "another temperature of sampling", {"datasets__water__sampling__temperatures": [300, 600]},
        {"sample": 3, "select": 3, "label": 4, "assemble_part": 3, "assemble_dataset": 1} | WATER,
        "the trajectories at 300 K stay; frames of all parts are others; free atoms are not",
    ),
    Edit(
        "another molecule", changed_molecule,
        {"sample": 6, "select": 3, "label": 4, "assemble_part": 3, "assemble_dataset": 1} | WATER,
        "all frames are others; the free atoms are those of the same elements",
    ),
    Edit(
        "a larger pool", {"datasets__water__pool_frames": 6},
        {"sample": 2, "select": 1, "assemble_part": 1, "assemble_dataset": 1}
        | {"train": 1, "evaluate": 1, "simulate": 1, "report": 1},
        "one loss takes frames of it",
    ),
    Edit("a pool that no loss takes", given_pool, {"import_dataset": 1, "report": 1}, "the dataset file has it, too"),
    Edit(
        "a named test set at another temperature", {"datasets__water__tests": {"hot": HOT}},
        {"sample": 1, "select": 1, "label": 1, "assemble_part": 1, "make_test_set": 1, "evaluate_on": 2, "report": 1},
        "models are tested on it as they are; neither training frames nor the dataset's own test frames are others",
    ),
    Edit(
        "a scan", {"datasets__water__tests": {"bend": BEND}},
        {"scan": 1, "select": 1, "label": 2, "assemble_part": 1, "make_test_set": 1, "evaluate_on": 2, "report": 1},
        "likewise",
    ),
    Edit(
        "a file of geometries to test on", geometries_to_test_on,
        {"take_whole_file": 1, "select": 1, "label": 1, "assemble_part": 1, "make_test_set": 1, "evaluate_on": 2}
        | REPORT,
        "likewise",
    ),
    Edit(
        "a named test set of given frames", given_test,
        {"import_part": 1, "make_test_set": 1, "evaluate_on": 1, "report": 1}, "likewise",
    ),
    Edit("given frames touched", lambda folder: (folder / "mine.xyz").touch(), {}, "their content is the same"),
    Edit(
        "other given frames", changed_frames,
        {"import_part": 2, "import_dataset": 1, "train": 1, "evaluate": 1, "simulate": 1, "report": 1},
        "training and test frames come from this file",
    ),
    Edit(
        "other given frames, older than the results", lambda folder: changed_frames(folder, 1e9),
        {"import_part": 2, "import_dataset": 1, "train": 1, "evaluate": 1, "simulate": 1, "report": 1},
        "as `cp -p` and `tar` leave them",
    ),
    Edit("the level of given frames in words", {"datasets__mine__level": "DLPNO"}, REPORT, "it is for the report"),
    Edit("steps of training", {"models__painn__training__steps": 11}, ALL, "all runs are of this model"),
    Edit("a second model", {"models": {"painn": PAINN, "deep": PAINN | {"layers": 2}}}, NEW_RUNS, "its runs alone"),
    Edit(
        "another loss", {"losses": LOSSES | {"central": {"pitc": {"weight": 0.1, "order": "central"}}}},
        {"train": 2, "evaluate": 2, "simulate": 2, "report": 1}, "its runs on both datasets alone",
    ),
    Edit(
        "the weight of one loss", {"losses__weak__pitc__weight": 0.2},
        {"train": 1, "evaluate": 1, "simulate": 1, "report": 1}, "its runs alone",
    ),
    Edit(
        "a cheap level beside the labels", {"datasets__water__cheap_levels": ["gfn2-xtb"]},
        {"label_cheaply": 3, "assemble_part": 3, "assemble_dataset": 1} | WATER,
        "frames of all parts have more labels; neither frames nor reference energies are others",
    ),
    Edit(
        "a model of a difference", {"models": {"painn": PAINN, "difference": PAINN | {"baseline": "gfn2-xtb"}}} | CHEAP,
        {"take_geometries": 2, "label_cheaply": 2, "import_part": 2, "import_dataset": 1}
        | {"train": 2, "evaluate": 2, "simulate": 2, "report": 1},
        "its run, and that of the dataset whose frames now have labels of its baseline",
    ),
    Edit(
        "a student", {"models": {"painn": PAINN, "pupil": PAINN | {"teacher": TEACHER}}, "exclude": NO_POOL},
        {"teach": 1, "train": 2, "evaluate": 2, "simulate": 2, "report": 1},
        "both of its runs learn what one model of before, which stays, says of the pool",
    ),
    Edit(
        "a student of another loss's model",
        {
            "models": {"painn": PAINN, "pupil": PAINN | {"teacher": TEACHER | {"loss": "weak"}}},
            "exclude": [*NO_POOL, {"model": "pupil", "loss": "weak"}],
        },
        {"teach": 1, "train": 1, "evaluate": 1, "simulate": 1, "report": 1}, "likewise, with one run",
    ),
    Edit("another size", {"sizes": [4, 5]}, NEW_RUNS, "its runs alone"),
    Edit("another seed", {"seeds": [0, 1]}, NEW_RUNS, "its runs alone"),
    Edit("fewer runs", {"exclude": [{"loss": "weak"}]}, REPORT, "they are left out of the report, and stay"),
    Edit("time of simulation", {"simulations__nvt__time": 0.02}, SIMULATE, "nothing else has it"),
    Edit("temperature of simulation", {"simulations__nvt__temperature": 400}, SIMULATE, "likewise"),
    Edit(
        "another experiment", {"experiment": "other"},
        {"sample": 6, "select": 3, "label": 4, "label_free_atoms": 1, "assemble_part": 3, "assemble_dataset": 1}
        | {"import_part": 2, "import_dataset": 1} | ALL,
        "results are its own; the energies come from the store",
    ),
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=[edit.what for edit in EDITS])
def test_an_edit_redoes_what_depends_on_it_and_nothing_else(rerun, edit):
    if callable(edit.edit):
        edit.edit(rerun)
    else:
        configure(rerun, **edit.edit)
    assert planned(rerun) == edit.redone, edit.why


@pytest.mark.parametrize(
    ("edits", "redone"),
    [
        ({}, {}),
        # Of the largest size and the first seed alone: one of each loss.
        ({"datasets__water__test_frames": 5}, {"vibrate": 2}),
        ({"models__painn__training": PAINN["training"] | {"steps": 3}}, {"vibrate": 3}),
        ({"datasets__mine__cheap_levels": ["gfn2-xtb"]}, {"vibrate_levels": 1, "vibrate": 1}),
        ({"sizes": [4, 5], "datasets__water__training_frames": 5}, {"vibrate": 3}),
    ],
)
def test_minima_are_found_again_of_models_and_frames_that_changed(rerun, edits, redone):
    configure(rerun, **edits)
    found = planned(rerun, vibrations=True)
    assert {rule: found[rule] for rule in VIBRATIONS if rule in found} == redone


def test_two_edits_redo_what_each_redoes(rerun):
    configure(rerun, datasets__water__test_force_frames=2, models__painn__training__steps=11)
    assert planned(rerun) == {"label": 2, "assemble_part": 1, "assemble_dataset": 1} | ALL


def test_frames_that_are_left_are_labelled_in_jobs_of_the_size_that_the_config_says_now(rerun):
    labels = rerun / "results" / "tiny" / "datasets" / "water" / "labels" / "training"
    edit = {"datasets__water__training_frames": 10, "datasets__water__labelling__frames_per_job": 1}
    configure(rerun, **edit)
    result = snakemake(rerun, "--until", "label")
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(path.stem for path in labels.rglob("*.xyz")) == [
        "00000-00003", "00003-00006", "00006-00007", "00007-00008", "00008-00009", "00009-00010",
    ]  # fmt: skip


FRAMES = [
    ({}, set()),
    (comment, set()),
    ({"datasets__water__training_frames": 8, "datasets__water__test_frames": 2}, set()),
    (level(method="hf", basis="6-31g", density_fitting=False), set()),
    (changed_molecule, {TRAINING, TEST, POOL}),
    ({"datasets__water__sampling__temperatures": [300, 600]}, {TRAINING, TEST, POOL}),
    ({"datasets__water__selection": "farthest_point"}, {TRAINING}),
]


@pytest.mark.parametrize(("edit", "others"), FRAMES)
def test_a_plan_takes_frames_for_known_that_were_made_of_what_the_config_says(rerun, monkeypatch, edit, others):
    if callable(edit):
        edit(rerun)
    else:
        configure(rerun, **edit)
    monkeypatch.chdir(rerun)
    jobs = Jobs(load_experiment(Path("config.yaml")), ROOT / "workflow" / "scripts")
    folder = Path("results/tiny/datasets/water")
    assert {part for part in PARTS if not are_of_config(jobs, "water", folder, part)} == others
    said = CliRunner().invoke(app, ["plan", "config.yaml"]).output
    assert ("  training: 6 frames, frames not made yet" in said) == (TRAINING in others), said


class Change(NamedTuple):
    """A change of the code: of a function, or of a text; the jobs that it redoes; and why."""

    file: str
    change: str | tuple[str, str]
    redone: dict[str, int]
    why: str


CHANGES = [
    Change("losses/objective.py", ("\n", "\n# a thought\n"), {}, "a comment changes no result"),
    Change("losses/objective.py", ('"""', '"""Well. '), {}, "a docstring changes no result"),
    Change("preflight.py", "check_start", {}, "checks refuse, and change no result"),
    Change("losses/objective.py", "training_loss", ALL, "models are trained by it"),
    Change("evaluation/metrics.py", "_add_energies", {"evaluate": RUNS, "report": 1}, "only tests know it"),
    Change("simulation/dynamics.py", "bonds", SIMULATE, "only simulations know it"),
    Change("report/tables.py", "run_table", REPORT, "only the report knows it"),
    Change("report/sections/verdicts.py", "comparisons", REPORT, "a section, which nobody imports by name"),
    Change("report/sections/parity.py", ("perfect", "full"), REPORT, "the markup of a section"),
    Change("report/template.html", ("<body>", "<body> "), REPORT, "likewise"),
    Change(
        "reference/labelling.py", "label_frames",
        {"label": 4, "label_free_atoms": 1, "assemble_part": 2, "assemble_dataset": 1} | WATER,
        "labels are made by it, of energies in the store; neither pool nor given frames have any",
    ),
    Change(
        "reference/calculations.py", "run_level", {},
        "finished energies have a version of their own, which names their store",
    ),
]  # fmt: skip


def with_a_statement_more(source: str, function: str) -> str:
    """Return a module with one more statement at the end of a function, or of a method."""
    every = ast.walk(ast.parse(source))
    (found,) = [node for node in every if isinstance(node, ast.FunctionDef) and node.name == function]
    lines = source.splitlines(keepends=True)
    last = found.body[-1]
    lines.insert(last.lineno - 1, " " * last.col_offset + "added = 1\n")
    return "".join(lines)


@pytest.mark.parametrize("change", CHANGES, ids=[f"{change.file}, {change.why}" for change in CHANGES])
def test_a_change_of_the_code_redoes_what_runs_it_and_nothing_else(finished, tmp_path, change):
    shutil.copytree(ROOT / "src" / "piwsl", tmp_path / "piwsl", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "piwsl" / change.file
    text = file.read_text()
    new = (
        with_a_statement_more(text, change.change)
        if isinstance(change.change, str)
        else text.replace(*change.change, 1)
    )
    assert new != text
    file.write_text(new)
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--dry-run"],
        cwd=finished, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert jobs_in(result.stdout + result.stderr) == change.redone, change.why


def test_other_test_frames_of_a_file_of_their_own_train_nothing(rerun):
    # Of frames that were held out of one file, those that are left are others, too.
    shutil.copy(rerun / "mine.xyz", rerun / "others.xyz")
    configure(rerun, datasets__mine={"file": "mine.xyz", "test_file": "others.xyz"})
    trained, tested = (f"results/tiny/mine/painn/supervised/n4/seed0/{name}" for name in ("history.csv", "errors.json"))
    result = snakemake(rerun, tested)
    assert result.returncode == 0, result.stdout + result.stderr
    write_frames(rerun / "others.xyz", morse_frames("H2O", 4, seed=5))
    assert planned(rerun, trained) == {}
    assert planned(rerun, tested) == {"import_part": 1, "evaluate": 1}


def test_a_named_test_set_that_changes_is_tested_on_again_and_trains_nothing(rerun):
    tests = {"hot": HOT, "bend": BEND}
    given = TINY["datasets"]["mine"] | {"tests": {"others": {"file": "others.xyz"}}}
    write_frames(rerun / "others.xyz", morse_frames("H2O", 3, seed=2) + read_frames(rerun / "mine.xyz")[:5])
    configure(rerun, datasets__water__tests=tests, datasets__mine=given)
    models = {path: path.stat().st_mtime_ns for path in rerun.rglob("model.safetensors")}
    result = snakemake(rerun)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {path: path.stat().st_mtime_ns for path in rerun.rglob("model.safetensors")} == models
    assert planned(rerun) == {}
    results = rerun / "results" / "tiny"
    assert read_json(results / "water/painn/weak/n4/seed0/tests/hot/errors.json")["test_frames"] == 3
    # Of five frames of the dataset's file, those that were held out for its own test are none of training.
    assert 3 <= read_json(results / "mine/painn/supervised/n4/seed0/tests/others/errors.json")["test_frames"] < 8
    assert "have the geometry of a training frame, and are left out" in (results / "report.html").read_text()
    table = pd.read_csv(results / "results.csv")
    assert {"energy_mae_meV_on_hot", "energy_mae_meV_on_bend", "energy_mae_meV_on_others"} <= set(table)
    assert (results / "figures/water/painn/scan-bend.svg").exists()

    again = {"make_test_set": 1, "evaluate_on": 2, "report": 1}
    configure(rerun, datasets__water__tests=tests | {"hot": HOT | {"frames": 4}}, datasets__mine=given)
    assert planned(rerun) == again | {"sample": 1, "select": 1, "label": 2, "assemble_part": 1}
    further = {"scan": BEND["scan"] | {"stop": 130}}
    configure(rerun, datasets__water__tests=tests | {"bend": further}, datasets__mine=given)
    assert planned(rerun) == again | {"scan": 1, "select": 1, "label": 2, "assemble_part": 1}
    configure(rerun, datasets__water__tests=tests, datasets__mine=given)
    write_frames(rerun / "others.xyz", morse_frames("H2O", 4, seed=3))
    assert planned(rerun) == {"import_part": 1, "make_test_set": 1, "evaluate_on": 1, "report": 1}
    configure(rerun, datasets__mine=TINY["datasets"]["mine"])
    assert planned(rerun) == {"report": 1}


FOLDERS = [
    f"results/tiny/{run}/n4/seed0" for run in ("mine/painn/supervised", "water/painn/supervised", "water/painn/weak")
]


def reported_again(folder: Path) -> subprocess.CompletedProcess[str]:
    """Let Snakemake make the report anew without its notes of what results were made by."""
    shutil.rmtree(folder / ".snakemake")
    (folder / "results/tiny/report.html").unlink()
    return snakemake(folder)


def refusal(folder: Path) -> str:
    """Return the one line with which the report is refused that is made without the notes."""
    result = reported_again(folder)
    assert result.returncode != 0
    assert not (folder / "results/tiny/report.html").exists()
    log = (folder / "results/tiny/logs/report.log").read_text()
    assert "Traceback" not in log
    return log.strip().splitlines()[-1]


def test_models_of_other_settings_are_not_reported_where_snakemakes_notes_are_lost(rerun):
    result = reported_again(rerun)
    assert result.returncode == 0, result.stdout + result.stderr
    configure(rerun, models__painn__training__steps=11)
    models = [f"{folder}/model.safetensors" for folder in FOLDERS]
    said = "trained with models.painn.training.steps: 10, and the config says 11 (2 more are of other settings)"
    again = f"have them made anew: snakemake --forcerun {' '.join(models)}"
    assert refusal(rerun).endswith(f"{models[0]}: {said}; {again}")


def test_simulations_of_other_settings_are_not_reported_and_made_anew_as_it_is_said(rerun):
    configure(rerun, simulations__nvt__temperature=400)
    line = refusal(rerun)
    summaries = [f"{folder}/simulations/nvt/summary.json" for folder in FOLDERS]
    assert f"{summaries[0]}: simulated with simulations.nvt.temperatures: [300.0], and the config says [400.0]" in line
    assert line.partition("--forcerun ")[2].split() == summaries
    result = snakemake(rerun, "--forcerun", *summaries)
    assert result.returncode == 0, result.stdout + result.stderr
    assert all(read_json(rerun / path)["temperatures_K"] == [400.0] for path in summaries)
    assert (rerun / "results/tiny/report.html").exists()
