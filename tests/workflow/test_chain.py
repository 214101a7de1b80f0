"""The workflow as a user runs it: the whole chain once, small but real; then what an edit, a loss or a kill redoes."""

from __future__ import annotations

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from experiment import RUNS, TINY, configure, planned, prepare
from helpers import ROOT, displaced, level_records, morse_frames, snakemake
from safetensors.torch import load_file

from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset
from piwsl.files import read_json, read_json_lines
from piwsl.models.storage import read_header
from piwsl.preflight import plan_of
from piwsl.structures.frames import read_frames, write_frames


def test_the_cluster_profile_plans_and_makes_the_report_of_snakemake(rerun):
    shutil.copytree(ROOT / "slurm", rerun / "slurm")
    report = rerun / "results" / "tiny" / "snakemake.zip"
    for asking in ("--dry-run", "-n"):
        result = snakemake(rerun, "--profile", "slurm", asking)
        assert result.returncode == 0, result.stdout + result.stderr
        assert not report.exists()
    (rerun / "results" / "tiny" / "report.html").unlink()
    result = snakemake(rerun, "--profile", "slurm", "--submitit-cluster", "local")
    assert result.returncode == 0, result.stdout + result.stderr
    with zipfile.ZipFile(report) as archive:
        assert any(name.endswith("report.html") for name in archive.namelist())

    complete = report.stat()
    vibrations = next((rerun / "results" / "tiny").rglob("seed0/frequencies.json"))
    vibrations.unlink()
    result = snakemake(rerun, "--profile", "slurm", "--submitit-cluster", "local", "frequencies")
    assert result.returncode == 0, result.stdout + result.stderr
    assert vibrations.exists()
    assert (report.stat().st_ino, report.stat().st_mtime) == (complete.st_ino, complete.st_mtime)
    # All is made where Snakemake's report alone fails.
    report.unlink()
    report.mkdir()
    (rerun / "results" / "tiny" / "report.html").unlink()
    result = snakemake(rerun, "--profile", "slurm", "--submitit-cluster", "local")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "warning: results/tiny/snakemake.zip is not written: IsADirectoryError" in result.stderr


def test_the_chain_makes_every_result_from_computed_and_from_given_data(finished):
    results = finished / "results" / "tiny"
    for name in (
        "model.safetensors",
        "history.csv",
        "errors.json",
        "predictions.parquet",
        "worst.xyz",
        "trajectory.xyz",
    ):
        assert len(list(results.rglob(name))) == RUNS, name
    table = pd.read_csv(results / "results.csv")
    assert len(table) == RUNS
    assert table["force_mae_meV_per_A"].notna().all()
    assert table.set_index("dataset").loc["mine", "test_frames"] == 4
    assert (results / "report.html").stat().st_size > 1e6
    assert not list(results.rglob("checkpoints"))


def test_what_every_job_took_is_measured_and_no_job_is_done_again_for_want_of_that(rerun):
    results = rerun / "results" / "tiny"
    kinds = {path.name for path in (results / "benchmarks").iterdir() if path.is_dir()}
    assert kinds == {
        "sample", "select", "label", "isolated-atoms", "dataset", "train", "evaluate", "simulate", "vibrate",
    }  # fmt: skip
    page = (results / "report.html").read_text()
    assert "What it cost" in page
    assert "of before edits" not in page  # all jobs with a benchmark are of the config
    shutil.rmtree(results / "benchmarks")
    assert planned(rerun, vibrations=True) == {}


def test_the_chain_samples_a_pool_that_it_does_not_label(finished):
    folder = finished / "results" / "tiny" / "datasets" / "water"
    sampled = {part: read_frames(folder / "frames" / f"{part}.xyz") for part in (TRAINING, TEST, POOL)}
    assert sorted(atoms.info["frame"] for atoms in sampled[POOL]) == [
        "pool-300K-0", "pool-300K-1", "pool-500K-0", "pool-500K-1",
    ]  # fmt: skip
    labels = {path.relative_to(folder / "labels").parts[0] for path in (folder / "labels").rglob("*.xyz")}
    assert labels == {"training", "test", "test-forces"}
    with Dataset(folder / "dataset.h5") as dataset:
        pool = dataset.structures(dataset.indices(POOL))
        assert len(dataset.indices(TRAINING)) == 6
    for structure, atoms in zip(pool, sampled[POOL], strict=True):
        np.testing.assert_array_equal(structure.positions, atoms.positions)
        assert np.isnan(structure.energy)
        assert structure.forces is None


def test_given_geometries_and_normal_modes_are_selected_and_labelled_with_analytic_forces_and_slopes(tmp_path):
    prepare(tmp_path)
    rng = np.random.default_rng(0)
    write_frames(tmp_path / "geometries.xyz", [displaced("H2O", 0.05, rng) for _ in range(40)])
    common = {"level": "hf", "training_forces": True, "test_force_frames": 2, "test_frames": 3, "pool_frames": 3}
    common["test_slope_frames"] = 1
    modes = {"molecule": {"smiles": "O"}, "sampling": {"normal_modes": [300, 600]}, "training_frames": 4}
    given = {"geometries": {"file": "geometries.xyz"}, "selection": "farthest_point", "training_frames": 5}
    configure(tmp_path, datasets={"given": common | given, "modes": common | modes}, exclude=[])
    result = snakemake(tmp_path, "--until", "assemble_dataset")
    assert result.returncode == 0, result.stdout + result.stderr
    for name, frames in (("given", 5), ("modes", 4)):
        with Dataset(tmp_path / "results" / "tiny" / "datasets" / name / "dataset.h5") as dataset:
            training, test = (dataset.structures(dataset.indices(part)) for part in (TRAINING, TEST))
            assert dataset.atomic_energies().keys() == {1, 8}
            assert len(dataset.indices(POOL)) == 3
        assert (len(training), len(test)) == (frames, 3)
        assert all(structure.forces is not None for structure in training + test[:2])
        assert [structure.slope is not None for structure in test] == [False, False, True]


def test_a_difference_and_its_student_are_trained_tested_and_simulated(rerun):
    painn = TINY["models"]["painn"]
    models = {
        "difference": painn | {"baseline": "gfn2-xtb"},
        "pupil": painn | {"teacher": {"model": "difference", "loss": "supervised"}},
    }
    edits = {"models": models, "losses": {"supervised": {}}, "exclude": [{"dataset": "mine"}]}
    configure(rerun, datasets__water__cheap_levels=["gfn2-xtb"], **edits)
    result = snakemake(rerun)
    assert result.returncode == 0, result.stdout + result.stderr
    results = rerun / "results" / "tiny"
    runs = {name: results / "water" / name / "supervised" / "n4" / "seed0" for name in models}
    for folder in runs.values():
        assert np.isfinite(read_json(folder / "errors.json")["force_mae_meV_per_A"])
        assert read_json(folder / "simulations" / "nvt" / "summary.json")["ended"]
    headers = {name: read_header(folder / "model.safetensors") for name, folder in runs.items()}
    assert headers["difference"]["baseline"]["name"] == "gfn2-xtb"
    assert headers["pupil"]["baseline"] is None
    log = results / "logs" / "simulate" / "water" / "difference" / "supervised" / "n4-seed0" / "nvt.log"
    assert "baseline 'gfn2-xtb' (GFN2-xTB) is added" in log.read_text()
    with Dataset(runs["difference"] / "taught.h5") as dataset:
        pool = dataset.structures(dataset.indices(POOL))
    # HF/STO-3G, which is learned, and GFN2-xTB lie 1900 eV apart.
    assert all(structure.at_level("gfn2-xtb").energy > -150 > structure.energy for structure in pool)
    assert planned(rerun) == {}


def test_a_second_run_has_nothing_to_do(finished):
    result = snakemake(finished)
    assert "Nothing to be done" in result.stdout + result.stderr
    assert planned(finished) == {}


def test_more_frames_compute_just_the_new_ones(rerun):
    labels = rerun / "results" / "tiny" / "datasets" / "water" / "labels"
    configure(rerun, datasets__water__training_frames=8)
    assert planned(rerun)["label"] >= 1
    result = snakemake(rerun, "--until", "assemble_dataset")
    assert result.returncode == 0, result.stderr
    rows = [row for path in sorted((labels / "training").rglob("*.jsonl")) for row in read_json_lines(path)]
    assert [row["frame"] for row in rows if not row["stored"]][-2:] == ["training-300K-3", "training-500K-3"]
    records = level_records(rerun / "results" / "labels")
    # Six training frames before and two more, three test frames, one of them with 4 x 3 displaced geometries;
    # hydrogen and oxygen by themselves.
    assert len(records) == 8 + 3 + 12 + 2


def test_a_level_that_comes_to_something_else_is_labelled_anew_though_the_config_says_the_same(rerun):
    # A later version, of which a default is another.
    (rerun / "later.py").write_text(
        "import sys\n"
        "from piwsl.reference import recipe\n"
        "now = recipe.recipe\n"
        "recipe.recipe = lambda level: now(level) | {'unrestricted': True}\n"
        "from snakemake.cli import main\n"
        "main(['--cores', '1', '--dry-run', *sys.argv[1:]])\n"
    )
    result = subprocess.run([sys.executable, "later.py"], cwd=rerun, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^label +\d+$", result.stdout + result.stderr, flags=re.MULTILINE)
    assert re.search(r"^label_free_atoms +1$", result.stdout + result.stderr, flags=re.MULTILINE)
    assert planned(rerun) == {}


def test_another_experiment_shares_the_labels(rerun):
    before = {path: path.stat().st_mtime_ns for path in (rerun / "results" / "labels").rglob("*.json")}
    other = copy.deepcopy(TINY) | {"experiment": "other"}
    (rerun / "other.yaml").write_text(yaml.safe_dump(other))
    result = snakemake(rerun, "--configfile", "other.yaml", "--until", "assemble_dataset")
    assert result.returncode == 0, result.stderr
    assert {path: path.stat().st_mtime_ns for path in (rerun / "results" / "labels").rglob("*.json")} == before
    assert (rerun / "results" / "other" / "datasets" / "water" / "dataset.h5").exists()


def test_a_configfile_stands_alone(rerun):
    only_mine = copy.deepcopy(TINY) | {"experiment": "alone"}
    only_mine["datasets"] = {"mine": TINY["datasets"]["mine"]}
    only_mine["losses"] = {"supervised": {}, "weak": {"pitc": {"weight": 0.1}}}
    del only_mine["exclude"]
    (rerun / "alone.yaml").write_text(yaml.safe_dump(only_mine))
    jobs = planned(rerun, "--configfile", "alone.yaml")
    assert jobs == {"import_dataset": 1, "import_part": 2, "train": 2, "evaluate": 2, "simulate": 2, "report": 1}


def test_two_configs_do_not_write_to_one_experiment(rerun):
    shutil.copy(rerun / "config.yaml", rerun / "copy.yaml")
    result = snakemake(rerun, "--configfile", "copy.yaml", "--dry-run")
    assert result.returncode != 0
    assert "copy.yaml: experiment: results/tiny belongs to config.yaml" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_job_of_another_plan_stops_with_one_line(rerun, monkeypatch):
    report = rerun / "results" / "tiny" / "report.html"
    as_a_job = ("--mode", "remote", "--nolock", "--force", "--allowed-rules", "report", "--", str(report))
    config = yaml.safe_load((rerun / "config.yaml").read_text())
    rules = [rerun / "Snakefile", rerun / "Snakefile", *sorted((rerun / "workflow" / "rules").iterdir())]
    monkeypatch.setenv("PIWSL_PLAN", plan_of(config, rules))

    def complaint() -> str:
        (line,) = [line for line in snakemake(rerun, *as_a_job).stderr.splitlines() if line.startswith("error:")]
        return line

    configure(rerun, models__painn__training__steps=11)
    assert complaint().startswith("error: config: edited after this job was planned; start snakemake again")
    configure(rerun)
    with (rerun / "workflow" / "rules" / "training.smk").open("a") as file:
        file.write("# edited\n")
    assert complaint().startswith("error: Snakefile or workflow/rules: edited after this job was planned")


HERE, ELSEWHERE = ("--nolock",), ("--executor", "submitit", "--submitit-cluster", "debug", "--jobs", "1")


@pytest.mark.parametrize("place", [HERE, ELSEWHERE])
def test_a_file_that_was_edited_after_planning_is_not_imported(tmp_path, place):
    prepare(tmp_path)
    rules, planned_with = tmp_path / "Snakefile", (tmp_path / "mine.xyz").read_text()
    text = rules.read_text()
    edit = "    Path('mine.xyz').write_text(Path('mine.xyz').read_text().replace('H2O', 'H2O2') + '\\n')\n"
    rules.write_text(text.replace("onstart:\n", f"onstart:\n{edit}"))
    made = tmp_path / "results" / "tiny" / "datasets" / "mine" / "dataset.h5"
    result = snakemake(tmp_path, *place, str(made.relative_to(tmp_path)))
    assert result.returncode != 0
    logs = tmp_path / "results" / "tiny" / "logs"
    said = "".join(path.read_text() for path in logs.rglob("*.log"))
    assert "mine.xyz: edited after this job was planned; start snakemake again, which plans anew" in said
    assert not made.exists()
    (tmp_path / "mine.xyz").write_text(planned_with)
    rules.write_text(text)
    result = snakemake(tmp_path, *place, str(made.relative_to(tmp_path)))
    assert result.returncode == 0, result.stdout + result.stderr


def test_jobs_of_the_executor_read_the_config_byte_by_byte(tmp_path):
    prepare(tmp_path)
    configure(tmp_path, models__painn__training__learning_rate=0.25)
    # A number to our reader, text to Snakemake's.
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text().replace("0.25", "1e-3"))
    inline = ("--executor", "submitit", "--submitit-cluster", "debug", "--jobs", "1", "--until", "import_dataset")
    result = snakemake(tmp_path, *inline)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "results" / "tiny" / "datasets" / "mine" / "dataset.h5").exists()


def test_a_deleted_result_is_made_again(rerun):
    results = rerun / "results" / "tiny"
    (results / "report.html").unlink()
    assert planned(rerun) == {"report": 1}
    (results / "water" / "painn" / "weak" / "n4" / "seed0" / "errors.json").unlink()
    assert planned(rerun) == {"evaluate": 1, "report": 1}
    assert snakemake(rerun).returncode == 0
    model = results / "water" / "painn" / "weak" / "n4" / "seed0" / "model.safetensors"
    before = load_file(model)
    model.unlink()
    # The report that stands is no reason to do without it.
    assert planned(rerun) == {"train": 1, "evaluate": 1, "simulate": 1, "report": 1}
    assert snakemake(rerun).returncode == 0
    again = load_file(model)
    assert all(again[key].numpy().tobytes() == before[key].numpy().tobytes() for key in before)


def test_whatever_is_taken_away_while_the_report_stands_is_made_again(rerun):
    results = rerun / "results" / "tiny"
    weak, supervised, mine = (
        results / dataset / "painn" / loss / "n4" / "seed0"
        for dataset, loss in (("water", "weak"), ("water", "supervised"), ("mine", "supervised"))
    )
    for files, jobs in (
        ([results / "results.csv"], {"report": 1}),
        (
            [
                weak / "simulations/nvt/trajectory.xyz",
                mine / "simulations/nvt/summary.json",
                supervised / "predictions.parquet",
                mine / "errors.json",
            ],
            {"simulate": 2, "evaluate": 2, "report": 1},
        ),
        (
            [weak / "history.csv", supervised / "model.safetensors", results / "datasets" / "mine" / "training.h5"],
            {"import_part": 1, "train": 3, "evaluate": 3, "simulate": 3, "report": 1},
        ),
        ([results / "datasets" / "mine" / "dataset.h5"], {"import_dataset": 1, "report": 1}),
        (
            [results / "datasets" / "water" / "test.h5", results / "datasets" / "water" / "pool.h5"],
            {"assemble_part": 2, "train": 1, "evaluate": 2, "simulate": 2, "report": 1},
        ),
    ):
        for file in files:
            file.rename(file.with_suffix(".away"))
        assert planned(rerun) == jobs
        for file in files:
            file.with_suffix(".away").rename(file)


def test_snakemakes_own_report_has_ours_with_captions_and_categories(finished):
    result = snakemake(finished, "--report", "all.html")
    assert result.returncode == 0, result.stderr
    html = (finished / "all.html").read_text()
    assert "what was asked, what came out, how sure it is and what it cost" in html
    assert "Share of replicas that are still stable in the simulation" in html
    assert html.count("mean and standard deviation over seeds") == 1
    # None is without a caption of its own.
    assert "The figure of the report that is called" not in html
    assert "The table of the report that is called" not in html


def test_a_killed_snakemake_goes_on_without_doing_a_finished_thing_again(tmp_path):
    prepare(tmp_path)
    # One core and one frame a job, so that the kill falls between finished and unfinished jobs.
    configure(tmp_path, datasets__water__labelling__frames_per_job=1)
    store, results = tmp_path / "results" / "labels", tmp_path / "results" / "tiny"

    def kill_when(reached) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "1"], cwd=tmp_path,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 900
        while not reached() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() is None, "Snakemake ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        locked = snakemake(tmp_path)
        assert "--unlock" in locked.stderr
        assert snakemake(tmp_path, "--unlock").returncode == 0

    def models() -> list[Path]:
        # Not beside the datasets, where folders come and go.
        return [path for name in ("water", "mine") for path in (results / name).glob("*/*/*/*/model.safetensors")]

    kill_when(lambda: len(level_records(store)) >= 3)
    finished = {path: path.stat().st_mtime_ns for path in level_records(store)}
    already = len(models())
    kill_when(lambda: len(models()) > already)
    trained = {path: path.stat().st_mtime_ns for path in models()}
    assert len(trained) < RUNS
    # What Snakemake had not yet noted as finished it may do again: at most the job in flight.
    result = snakemake(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(models()) == RUNS
    repeated = [path for path in trained if path.stat().st_mtime_ns != trained[path]]
    assert len(repeated) <= 1
    assert (results / "report.html").exists()


@pytest.mark.parametrize(
    ("edits", "complaint"),
    [
        ({"sizs": [1]}, "unknown key 'sizs'; did you mean 'sizes'?"),
        ({"sizes": [7]}, "sizes: 7 is more than the 6 training frames of dataset 'water'"),
        ({"datasets__mine__test_frames": 8}, "10 less 8 held out"),
        ({"datasets__water__molecule__multiplicity": 2}, "datasets.water.molecule: 10 electrons cannot have"),
        (
            {"levels__hf__stages": [{"method": "hf", "bases": ["sto-3gg"]}]},
            "levels.hf: basis 'sto-3gg' has no H",
        ),
        ({"models__painn__architecture": "schnett"}, "no architecture 'schnett'"),
    ],
)
def test_bad_input_ends_in_one_line_before_anything_is_computed(tmp_path, edits, complaint):
    prepare(tmp_path)
    configure(tmp_path, **edits)
    result = snakemake(tmp_path)
    assert result.returncode != 0
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith("error: config.yaml: ")
    assert complaint in line
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "results").exists()


def test_frames_that_the_import_would_refuse_stop_the_start(tmp_path):
    prepare(tmp_path)
    frames = morse_frames("H2O", 10)
    del frames[3].info["REF_energy"]
    write_frames(tmp_path / "mine.xyz", frames)
    result = snakemake(tmp_path)
    assert result.returncode != 0
    assert "error: config.yaml: datasets.mine: mine.xyz: frame 3: has no REF_energy" in result.stderr
    assert not (tmp_path / "results").exists()


def test_a_damaged_dataset_file_stops_the_start_before_models_are_deleted(rerun):
    (made,) = (rerun / "results").rglob("mine/dataset.h5")
    made.write_bytes(made.read_bytes()[:-100])
    models = sorted((rerun / "results").rglob("model.safetensors"))
    result = snakemake(rerun)
    assert result.returncode != 0
    assert "mine/dataset.h5: is damaged or no dataset file" in result.stderr
    assert sorted((rerun / "results").rglob("model.safetensors")) == models
    made.unlink()
    result = snakemake(rerun)
    assert result.returncode == 0, result.stdout + result.stderr


def test_too_many_failed_frames_stop_the_experiment_with_their_reasons(tmp_path):
    prepare(tmp_path)
    doubted = {"method": "ccsd", "basis": "sto-3g", "density_fitting": False, "max_t1": 1e-6, "doubtful": "fail"}
    configure(tmp_path, levels__hf=doubted)
    result = snakemake(tmp_path, "--until", "assemble_dataset", "--cores", "1")
    assert result.returncode != 0
    assert "9 of 9 frames failed, more than max_failed (0.1) allows" in result.stderr
    assert "T1 diagnostic" in result.stderr


def test_a_thousand_runs_are_planned(tmp_path):
    prepare(tmp_path)
    configure(tmp_path, seeds=list(range(334)))
    assert planned(tmp_path, "--quiet", "rules")["train"] == 3 * 334
