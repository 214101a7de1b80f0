"""How far an experiment has come, by its files: every job, what became of it, how long is left, what nobody knows."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiment import configure, edited, planned, prepare
from helpers import ROOT, displaced, morse_frames, snakemake
from snakemake.persistence.file import FilePersistence

from piwsl.config import Experiment, parse_section, read_yaml
from piwsl.files import write_json_lines
from piwsl.logs import duration, seconds_left
from piwsl.reference.store import LabelStore, geometry_hash
from piwsl.structures.frames import read_frames, write_frames
from piwsl.workflow.graph import Job, every_job
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.layout import RECORDS
from piwsl.workflow.snakemake_notes import marks
from piwsl.workflow.status import Found, State, Status, status_of
from piwsl.workflow.status_lines import status_lines
from snakemake_executor_plugin_submitit.marks import put_back

NOW = 1_000_000.0
TRAIN = "train/water/painn/supervised/n4-seed0"


class Folder:
    """A working directory in which jobs began and ended as a test says, seconds before NOW."""

    def __init__(self, path: Path, **edits) -> None:
        self.path = path
        self.jobs = Jobs(parse_section(Experiment, edited(**edits), "config.yaml"), ROOT / "workflow" / "scripts")
        self.snakemake = FilePersistence(path=path / ".snakemake")

    @property
    def every(self) -> dict[str, Job]:
        return {job.name: job for job in every_job(self.jobs)}

    def write(self, path: str, text: str, ago: float) -> None:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, (NOW - ago, NOW - ago))

    def log(self, name: str, text: str, ago: float) -> None:
        self.write(self.jobs.layout.log(name), text, ago)

    def end(self, *names: str, took: float = 1.0, ago: float = 100.0) -> None:
        """Have jobs end well, all by default, and before that what they build on."""
        every = self.every
        for name in names or every:
            missing = [other for other in every[name].after if not Path(every[other].results[0]).exists()]
            if missing:
                self.end(*missing, ago=ago)
            for result in every[name].results:
                self.write(result, "", ago)
            self.log(name, "done\n", ago)
            self.write(self.jobs.layout.benchmark(name), f"s\tcpu_time\n{took}\tNA\n", ago)

    def take_away(self, name: str) -> None:
        for result in self.every[name].results:
            (self.path / result).unlink()

    def begin(self, name: str, ago: float, scheduler_id: str | None = None) -> None:
        """Have Snakemake note that a job began, as it does."""
        for result in self.every[name].results:
            self.snakemake._mark_incomplete(result, scheduler_id)
            note = self.snakemake._record_path(self.snakemake._incomplete_path, result)
            os.utime(note, (NOW - ago, NOW - ago))

    def lock(self, ago: float) -> None:
        """Have a Snakemake begin that makes all of the experiment."""
        self.snakemake._write_locks("output", [path for job in self.every.values() for path in job.results])
        for path in (self.path / ".snakemake" / "locks").iterdir():
            os.utime(path, (NOW - ago, NOW - ago))

    def status(self) -> Status:
        return status_of(self.jobs, NOW)

    def __getitem__(self, name: str) -> Found:
        (found,) = [each for each in self.status().found if each.job.name == name]
        return found


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "water.xyz", morse_frames("H2O", 1))
    return Folder(tmp_path)


def test_the_jobs_are_those_of_snakemake_each_with_its_results_and_log(finished, monkeypatch):
    monkeypatch.chdir(finished)
    jobs = jobs_here()
    assert results_of(jobs) == results_by_snakemake(finished)
    status = status_of(jobs, NOW)
    assert {each.state for each in status.found} == {State.DONE}
    benchmarks = {str(path) for path in Path(jobs.layout.folder).rglob("*.tsv")}
    assert benchmarks <= {jobs.layout.benchmark(job.name) for job in every_job(jobs)}


TESTS: dict[str, Any] = {
    "water": {
        "hot": {"temperatures": [900], "frames": 4, "force_frames": 1},
        "own": {"file": "water.xyz"},
        "stretch": {"scan": {"along": [0, 1], "start": 0.9, "stop": 1.5, "points": 3}},
    },
    "mine": {"others": {"file": "others.xyz"}},
}


@pytest.mark.parametrize("costly", [False, True], ids=["named test sets", "displaced energies dealt out"])
def test_further_jobs_are_those_of_snakemake(tmp_path, monkeypatch, costly):
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "others.xyz", morse_frames("H2O", 3, seed=9, forces=True))
    if costly:
        edits = {"levels__hf": {"preset": "ccsdt-cbs"}, "datasets__water__molecule": {"name": "C6H6"}}
    else:
        edits = {f"datasets__{name}__tests": tests for name, tests in TESTS.items()}
        edits |= {f"datasets__{name}__cheap_levels": ["gfn2-xtb"] for name in TESTS}
    configure(tmp_path, **edits)
    jobs = jobs_here()
    # Of a job that never ran, Snakemake says neither rule nor log.
    assert {path for path, *_ in results_of(jobs)} == {path for path, *_ in results_by_snakemake(tmp_path)}
    planned_jobs = Counter(job.rule for job in every_job(jobs))
    assert planned_jobs == planned(tmp_path, vibrations=True)
    rules = {job.rule for job in every_job(jobs)}
    assert {"displace"} <= rules if costly else {"scan", "take_whole_file", "make_test_set", "evaluate_on"} <= rules


def jobs_here() -> Jobs:
    experiment = parse_section(Experiment, read_yaml(Path("config.yaml")), "config.yaml")
    return Jobs(experiment, ROOT / "workflow" / "scripts")


def results_of(jobs: Jobs) -> set[tuple[str, str, str]]:
    """Return each result of an experiment, the rule that makes it, and its log."""
    return {(path, job.rule, jobs.layout.log(job.name)) for job in every_job(jobs) for path in job.results}


def results_by_snakemake(folder: Path) -> set[tuple[str, ...]]:
    said = snakemake(folder, "--summary").stdout.splitlines()[1:]
    return {tuple(line.split("\t")[column] for column in (0, 2, 3)) for line in said}


@pytest.mark.parametrize(
    "edits",
    [
        {},
        {"exclude": [{"dataset": "water"}, {"loss": "weak"}]},
        {"datasets__mine__cheap_levels": ["gfn2-xtb"], "datasets__water__cheap_levels": ["gfn2-xtb"]},
        {"datasets__water__free_atoms": False, "simulations": {}},
    ],
    ids=["as it is", "a dataset that no run takes", "cheap levels", "no free atoms, no dynamics"],
)
def test_a_job_stands_after_those_whose_results_it_takes(tmp_path, monkeypatch, edits):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 10))
    write_frames(tmp_path / "water.xyz", morse_frames("H2O", 1))
    met: set[str] = set()
    for job in every_job(Folder(tmp_path, **edits).jobs):
        assert set(job.after) <= met, job
        met.add(job.name)


def test_before_anything_ran_all_wait_and_only_labels_have_a_time(folder):
    status = folder.status()
    assert {each.state for each in status.found} == {State.WAITING}
    assert all(each.left > 0 for each in status.found if each.job.rule == "label")
    assert all(each.left is None for each in status.found if each.job.rule == "train")
    said = "\n".join(status_lines(status, NOW))
    assert "tiny: 0 of 34 jobs done; at least" in said
    assert "none alike has ended yet: sample of water (6), label_free_atoms of water (1), train of painn (3)" in said
    assert "count as done" not in said


def test_the_time_left_in_all_says_whether_it_is_of_all_jobs(folder):
    unknown = [each for each in folder.status().found if each.left is None]
    timed = [each for each in folder.status().found if each.left is not None]

    def first_line(found: list[Found]) -> str:
        return next(status_lines(replace(folder.status(), found=found), NOW))

    assert "jobs done; about" in first_line(timed)
    assert "jobs done; at least" in first_line([*timed, *unknown])
    assert first_line(unknown).endswith("jobs done; how long is left is not known yet")


def test_results_are_believed_unless_what_they_build_on_is_not_there(folder):
    folder.end()
    assert {each.state for each in folder.status().found} == {State.DONE}
    assert "tiny: 34 of 34 jobs done\n" in "\n".join(status_lines(folder.status(), NOW))
    folder.take_away(TRAIN)
    waiting = {each.job.name for each in folder.status().of(State.WAITING)}
    point = "water/painn/supervised/n4-seed0"
    assert waiting == {TRAIN, f"evaluate/{point}", f"simulate/{point}/nvt", f"vibrate/{point}", "report"}
    assert not folder.status().of(State.FAILED)  # somebody took it away


def test_a_job_runs_while_snakemake_holds_the_experiment_and_its_log_says_how_long(folder):
    folder.lock(ago=100)
    folder.begin(TRAIN, ago=60)
    assert (folder[TRAIN].state, folder[TRAIN].silent) == (State.RUNNING, None)
    folder.log(TRAIN, "step 50 of 100 (40 s, 1 min 10 s left): loss 1\n", ago=10)
    found = folder[TRAIN]
    assert (found.state, found.silent, found.left) == (State.RUNNING, 10.0, 60.0)
    said = "\n".join(status_lines(folder.status(), NOW))
    assert f"{TRAIN}; its log, 10 s ago: step 50 of 100" in said
    assert "Whether what is called running still runs is not known here" in said


def test_what_ran_when_snakemake_was_killed_waits_and_is_said_to_have_been_cut_off(folder):
    folder.begin(TRAIN, ago=60)
    folder.log(TRAIN, "step 50 of 100 (40 s, 40 s left): loss 1\n", ago=10)
    assert (folder[TRAIN].state, folder[TRAIN].cut_off) == (State.WAITING, True)
    assert "1 of those that wait were running when their Snakemake ended" in "\n".join(
        status_lines(folder.status(), NOW)
    )
    folder.lock(ago=5)  # of another run of Snakemake, which has not come to it
    assert (folder[TRAIN].state, folder[TRAIN].cut_off) == (State.WAITING, True)


def test_a_snakemake_of_another_experiment_holds_nothing_here(folder):
    folder.begin(TRAIN, ago=60)
    folder.snakemake._write_locks("output", ["results/other/report.html", "results/tiny2/report.html"])
    assert folder.status().locked_since is None


def test_a_job_that_a_scheduler_has_is_in_the_queue_until_its_log_begins(folder):
    folder.lock(ago=100)
    folder.begin(TRAIN, ago=60, scheduler_id="17_3")
    folder.log(TRAIN, "an earlier attempt\n", ago=90)
    assert folder[TRAIN].state == State.QUEUED
    folder.log(TRAIN, "step 1\n", ago=30)
    assert (folder[TRAIN].state, folder[TRAIN].scheduler_id) == (State.RUNNING, "17_3")
    assert f"{TRAIN} (job 17_3)" in "\n".join(status_lines(folder.status(), NOW))


def test_a_job_that_left_a_log_and_no_result_failed_until_it_is_tried_again(folder):
    folder.log(TRAIN, "step 1\nerror: diverged\n\n", ago=30)
    assert (folder[TRAIN].state, folder[TRAIN].said) == (State.FAILED, "error: diverged")
    said = "\n".join(status_lines(folder.status(), NOW))
    assert f"{TRAIN}; its log, 30 s ago: error: diverged\n    results/tiny/logs/{TRAIN}.log" in said
    folder.lock(ago=20)
    assert folder[TRAIN].state == State.WAITING


def test_a_training_is_taken_to_last_as_those_that_are_most_alike(folder):
    weak, mine = "train/water/painn/weak/n4-seed0", "train/mine/painn/supervised/n4-seed0"
    folder.end(TRAIN, took=10.0)
    assert folder[weak].left == folder[mine].left == 10.0
    folder.end(mine, took=30.0)
    assert folder[weak].left == 10.0  # of the same dataset
    folder.begin(weak, ago=4)
    folder.lock(ago=5)
    assert folder[weak].left == 6.0
    assert folder["simulate/water/painn/weak/n4-seed0/nvt"].left is None


@pytest.fixture
def labels(folder) -> list[Job]:
    """The jobs that label the training frames, which are made."""
    folder.end("select/water/training")
    path = folder.path / folder.jobs.layout.dataset("water").frames("training")
    write_frames(path, [displaced("H2O", 0.1, np.random.default_rng(seed)) for seed in range(6)])
    return [job for name, job in folder.every.items() if name.startswith("label/water/training")]


def test_labels_take_what_the_cost_model_says_set_right_by_those_that_are_there(folder, labels):
    first, second = labels
    assert folder[second.name].left == pytest.approx(second.labelling.cpu_s)
    folder.end(first.name)
    (records,) = (Path(path) for path in first.results if path.endswith(RECORDS))
    a_frame = first.labelling.cpu_s / 3
    known = {"status": "ok", "cpu_s": 5 * a_frame}
    write_json_lines(records, [known, known, {"status": "failed"}])
    assert folder[second.name].left == pytest.approx(5 * second.labelling.cpu_s)


def test_energies_that_are_in_the_store_take_no_time(folder, labels):
    _, second = labels
    store = LabelStore(Path(folder.jobs.layout.store), folder.jobs.experiment.levels["hf"])
    frames = read_frames(Path(folder.jobs.layout.dataset("water").frames("training")))
    path = store.path(geometry_hash(frames[3], 0, 1))
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert folder[second.name].left == pytest.approx(second.labelling.cpu_s * 2 / 3)


def test_results_with_long_names_are_known_by_their_notes(tmp_path):
    persistence = FilePersistence(path=tmp_path)
    name = f"results/{'long/' * 80}é.xyz"
    persistence._mark_incomplete(name, "5")
    assert marks(tmp_path)[name].scheduler_id == "5"


def test_what_a_job_has_made_is_not_begun_though_snakemake_has_not_seen_it_end(tmp_path):
    persistence = FilePersistence(path=tmp_path)
    persistence._mark_incomplete("results/model", "5")
    put_back([Path(persistence._record_path(persistence._incomplete_path, "results/model"))], 0.0, made=True)
    assert marks(tmp_path).keys() == {"results/model"}
    persistence._unmark_incomplete("results/model")
    put_back([Path(persistence._record_path(persistence._incomplete_path, "results/model"))], 0.0, made=True)
    assert marks(tmp_path) == {}


def test_looking_changes_nothing(folder):
    folder.end(TRAIN)
    folder.begin("report", ago=1)
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    list(status_lines(folder.status(), NOW))
    assert before == {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}


@pytest.mark.parametrize("seconds", [0.0, 25.0, 60.0, 185.0, 3600.0, 7440.0])
def test_a_time_left_is_read_as_it_is_written(seconds):
    assert seconds_left(f"step 5 of 10 (12 s, at most {duration(seconds)} left): 3 members left") == seconds
    assert seconds_left("nothing is left of 12 s") is None
