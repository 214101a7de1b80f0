"""The report of an experiment that is not finished: of what is there, without doing anything else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from experiment import configure, prepare
from helpers import morse_frames, snakemake

from piwsl.config import Experiment, parse_section, read_yaml
from piwsl.structures.frames import write_frames
from piwsl.workflow.graph import Job
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.outdated import Outdated
from piwsl.workflow.partial import without, write_partial_report
from piwsl.workflow.status import Found, State, Status, status_of

NOW = 2e9
SUPERVISED = Path("results/tiny/water/painn/supervised/n4/seed0")


@pytest.fixture
def here(rerun, monkeypatch) -> Path:
    """A copy of a finished experiment, as the working directory, without the report."""
    monkeypatch.chdir(rerun)
    Path("results/tiny/report.html").unlink()
    return rerun


def reported() -> str:
    """Write a partial report; return its text without markup, "" where there is none."""
    jobs = Jobs(parse_section(Experiment, read_yaml(Path("config.yaml")), "config.yaml"), Path("workflow/scripts"))
    html = Path(jobs.layout.partial_report)
    assert write_partial_report(jobs, status_of(jobs, NOW)) == html.exists()
    if not html.exists():
        return ""
    body = re.sub(r"<script.*?</script>", "", html.read_text().partition("<main>")[2], flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_what_is_there_is_reported_and_what_is_missing_said_first(here):
    shutil.rmtree(SUPERVISED)
    text = reported()
    assert text.index("29 of 33 jobs") < text.index("Errors on the test frames Mean")
    assert "2 of 3 training runs are tested" in text
    assert "train 1 2 0 evaluate 1 2 0 simulate 1 2 0 vibrate 1 2 0" in text
    assert set(pd.read_csv("results/tiny/partial-results.csv")["loss"]) == {"weak", "supervised"}
    assert not Path("results/tiny/report.html").exists()


def test_a_run_counts_without_its_simulation_and_not_without_its_errors(here):
    (SUPERVISED / "simulations/nvt/summary.json").unlink()
    reported()
    table = pd.read_csv("results/tiny/partial-results.csv").set_index(["dataset", "loss"])
    assert table["stable_ps"].isna().to_dict() == {
        ("water", "supervised"): True, ("water", "weak"): False, ("mine", "supervised"): False,
    }  # fmt: skip


def test_errors_of_a_model_that_is_trained_anew_are_not_reported(here):
    (SUPERVISED / "model.safetensors").unlink()
    assert "2 of 3 training runs are tested" in reported()


def test_results_of_other_settings_are_left_out_and_said(here):
    configure(here, losses__weak__pitc__weight=0.2, simulations__nvt__time=0.02)
    text = reported()
    assert "2 of 3 training runs are tested" in text
    text = text.replace("&#39;", "'")
    assert (
        "3 models and simulations that are there are of other settings than the configuration's, and left out" in text
    )
    folder = "results/tiny/water/painn"
    assert f"{folder}/weak/n4/seed0/model.safetensors: trained with losses.weak.pitc.weight: 0.1, and the" in text
    assert f"{folder}/supervised/n4/seed0/simulations/nvt/summary.json: simulated with simulations.nvt.time: 0." in text
    assert "whether an edit outdated them, snakemake --dry-run says" in text
    table = pd.read_csv("results/tiny/partial-results.csv")
    assert set(table["loss"]) == {"supervised"}
    assert table["stable_ps"].isna().all()


def test_of_the_config_nothing_is_said_to_be_left_out(here):
    text = reported()
    assert "3 of 3 training runs are tested" in text
    assert "other settings" not in text


def test_what_a_model_of_other_settings_taught_waits_as_it_does():
    names = ["train/teacher", "teach/teacher", "train/student", "evaluate/student", "train/other"]
    after = [(), ("train/teacher",), ("teach/teacher",), ("train/student",), ()]
    jobs = [Job("any", name, (f"{name}.made",), taken) for name, taken in zip(names, after, strict=True)]
    status = Status("tiny", [Found(job, State.DONE) for job in jobs], None)
    found = without(status, [Outdated("train/teacher.made", "train", "trained otherwise")])
    assert [each.job.name for each in found.of(State.WAITING)] == names[:4]
    assert [each.job.name for each in found.of(State.DONE)] == names[4:]


def test_before_any_run_is_tested_the_reference_energies_are_reported(here):
    shutil.rmtree("results/tiny/water")
    shutil.rmtree("results/tiny/mine")
    text = reported()
    assert "None of 3 training runs is tested yet" in text
    assert "Reference energies water : level hf" in text
    for nothing in ("Rows with the words", "The best potential", "Using a potential", "Paired comparisons"):
        assert nothing not in text
    shutil.rmtree("results/tiny/datasets")
    assert reported() == ""


def test_a_named_test_set_whose_dataset_is_not_made_yet_is_not_reported(here):
    write_frames(Path("hot.xyz"), morse_frames("H2O", 3, seed=2, forces=True))
    configure(here, datasets__mine__tests={"hot": {"file": "hot.xyz"}})
    made = snakemake(here, "results/tiny/datasets/mine/tests/hot.h5")
    assert made.returncode == 0, made.stderr
    Path("results/tiny/datasets/mine/dataset.h5").unlink(missing_ok=True)
    assert "Reference energies water : level hf" in reported()


def test_snakemake_writes_it_beside_one_that_runs_and_does_nothing_else(here):
    shutil.rmtree(SUPERVISED)
    lock = Path(".snakemake/locks/0.output.lock")
    lock.parent.mkdir(exist_ok=True)
    lock.write_text("results/tiny/report.html\n")
    result = snakemake(here, "partial_report")
    assert result.returncode == 0, result.stderr
    assert f"The report is at {here / 'results/tiny/partial-report.html'}" in result.stderr
    assert lock.exists()
    assert not SUPERVISED.exists()
    assert not Path("results/tiny/report.html").exists()


def test_where_nothing_is_finished_snakemake_says_so_in_a_line(tmp_path):
    prepare(tmp_path)
    result = snakemake(tmp_path, "partial_report")
    assert result.returncode == 0, result.stderr
    assert "There is nothing to report yet; piwsl status says more\n" in result.stderr
    assert "Traceback" not in result.stderr
    assert {path.name for path in (tmp_path / "results" / "tiny").iterdir()} == {".config", "logs"}
