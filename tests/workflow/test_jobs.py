"""What jobs depend on, how labelling is cut, and the records that jobs leave for others."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from experiment import edited
from helpers import ROOT, morse_frames

from piwsl.config import ComputedDataset, Experiment, parse_section
from piwsl.data.dataset import POOL, TEST, TRAINING
from piwsl.errors import PiwslError
from piwsl.records import Errors, dataset_of, read_free_atoms, read_labellings, read_record
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.planning import label_batches, structures
from piwsl.structures.frames import write_frames
from piwsl.workflow.graph import every_job
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.layout import LABELLED, RECORDS

HF = PySCF.model_validate({"method": "hf", "basis": "sto-3g", "density_fitting": False})


def water(frames: int, per_job: int) -> ComputedDataset:
    return ComputedDataset.model_validate(
        {"molecule": {"name": "H2O"}, "sampling": {"temperatures": [300.0]}, "level": "hf", "test_frames": 1}
        | {"training_frames": frames, "labelling": {"frames_per_job": per_job}}
    )


def spans(frames: int, per_job: int, before: list[tuple[int, int]]) -> list[tuple[int, int]]:
    dataset = water(frames, per_job)
    batches = label_batches(dataset, structures(dataset), HF, {"training": before})
    return [(batch.start, batch.stop) for (labels, _), batch in batches.items() if labels == "training"]


def test_jobs_that_are_done_stay_and_every_frame_is_in_one_job():
    rng = np.random.default_rng(0)
    for _ in range(50):
        frames, per_job = int(rng.integers(1, 40)), int(rng.integers(1, 9))
        edges = np.sort(rng.integers(0, 50, size=(5, 2)), axis=1)
        before = [(int(start), int(stop)) for start, stop in edges if stop > start]
        found = spans(frames, per_job, before)
        assert [frame for start, stop in found for frame in range(start, stop)] == list(range(frames))
        assert all(stop - start <= per_job or (start, stop) in before for start, stop in found)
        # As the jobs end, those that are left stay what they are: a job on another machine plans anew.
        assert spans(frames, per_job, before + found[::2]) == spans(frames, per_job, found) == found


def jobs_of(**edits) -> Jobs:
    return Jobs(parse_section(Experiment, edited(**edits), "config.yaml"), ROOT / "workflow" / "scripts")


def test_a_labelling_job_waits_for_those_of_its_displaced_energies_and_keeps_what_it_was_made_from(tmp_path):
    jobs = jobs_of(datasets__water__molecule={"name": "C6H6"}, levels__hf={"preset": "ccsdt-cbs"})
    ((labels, name),) = [key for key in jobs.batches("water") if key[0] == "test-forces"]
    batch = SimpleNamespace(dataset="water", labels=labels, work=jobs.work("water", labels), batch=name)
    shares = jobs.batches("water")[labels, name].shares
    planned = jobs.displaced(batch)
    assert len(planned) == len(set(planned)) == shares > 1
    assert [jobs.share(SimpleNamespace(share=Path(path).stem)) for path in planned] == [
        (number, shares) for number in range(shares)
    ]
    with contextlib.chdir(tmp_path):
        for suffix in (LABELLED, RECORDS):
            path = Path(jobs.layout.dataset("water").batch(labels, batch.work, name, suffix))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        assert jobs.displaced(batch) == []


def test_a_part_of_given_frames_depends_on_its_own_file_and_on_how_that_is_read():
    own_file = {
        "file": "a.xyz",
        "test_file": "b.xyz",
        "pool_file": "c.xyz",
        "level": "words",
        "weak_forces": "gfn2-xtb",
    }
    jobs = jobs_of(datasets__mine=own_file | {"weak_forces": "gfn2-xtb"})
    assert [jobs.given_files("mine", part) for part in (TRAINING, TEST, POOL)] == [
        [Path("a.xyz")], [Path("b.xyz")], [Path("c.xyz")],
    ]  # fmt: skip
    assert jobs.given_settings("mine", TRAINING) == {"weak_forces": "gfn2-xtb"}
    assert jobs.given_settings("mine", TEST) == {}
    held_out = jobs_of(datasets__mine={"file": "a.xyz", "test_frames": 4, "seed": 1, "energy_unit": "Hartree"})
    assert held_out.given_files("mine", TEST) == [Path("a.xyz")]
    assert held_out.given_settings("mine", TEST) == {"test_frames": 4, "seed": 1, "energy_unit": "Hartree"}
    assert held_out.given_settings("mine", POOL) == {"energy_unit": "Hartree"}


def test_a_part_depends_on_all_files_where_frames_are_dropped_by_those_of_other_parts():
    files = {"file": "a.xyz", "test_file": "b.xyz", "pool_file": "c.xyz"}
    alone = jobs_of(datasets__mine=files | {"drop": ["unlabelled", "net_forces"]})
    beside = jobs_of(datasets__mine=files | {"drop": ["duplicates"]})
    for part, own in ((TRAINING, "a.xyz"), (TEST, "b.xyz"), (POOL, "c.xyz")):
        assert alone.given_files("mine", part) == [Path(own)]
        assert beside.given_files("mine", part) == [Path("a.xyz"), Path("b.xyz"), Path("c.xyz")]
        assert beside.given_settings("mine", part) == {"drop": ["duplicates"]}


def test_every_result_of_an_experiment_has_a_path_of_its_own():
    results = jobs_of(sizes=[4, 5], seeds=[0, 1]).results()
    assert len(results) == len(set(results))
    assert all(path.startswith("results/tiny/") for path in results)
    (weak,) = [path for path in results if path.endswith("weak/n5/seed1/errors.json")]
    assert weak == "results/tiny/water/painn/weak/n5/seed1/errors.json"


def test_named_test_sets_have_results_of_every_run_and_nothing_of_other_datasets():
    tests = {"hot": {"temperatures": [900], "frames": 2}, "600K+": {"temperatures": [600], "frames": 2}}
    results = jobs_of(datasets__water__tests=tests).results()
    assert len(results) == len(set(results))
    assert "results/tiny/datasets/water/tests/600K+.h5" in results
    assert [path for path in results if "/tests/hot/" in path and path.endswith("errors.json")] == [
        f"results/tiny/water/painn/{loss}/n4/seed0/tests/hot/errors.json" for loss in ("supervised", "weak")
    ]


def test_a_named_test_set_is_labelled_with_cheap_levels_as_a_test_part_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames("mine.xyz", morse_frames("H2O", 6))
    write_frames("others.xyz", morse_frames("H2O", 3, seed=1))
    mine = {"file": "mine.xyz", "test_frames": 2, "cheap_levels": ["gfn2-xtb"]}
    jobs = jobs_of(datasets__mine=mine | {"tests": {"others": {"file": "others.xyz"}}})
    (labelled,) = jobs.cheap_labels("mine/tests/others", LABELLED)
    assert labelled.startswith("results/tiny/datasets/mine/tests/others/cheap-labels/gfn2-xtb/test/")
    assert labelled.endswith("/00000-00003.xyz")
    assert dataset_of(Path(labelled)) == "mine"


def test_a_file_belongs_to_the_dataset_whose_folder_it_is_in():
    assert dataset_of(Path("results/datasets/datasets/water/labels/test/0a/00000-00001.jsonl")) == "water"


POINT = {"dataset": "d", "model": "m", "loss": "l", "size": 1, "seed": 0}


def test_records_of_other_versions_are_read(tmp_path):
    path = tmp_path / "errors.json"
    path.write_text(json.dumps(POINT | {"energy_mae_meV": 1.0, "measured_since": 2.0}))
    errors = read_record(Errors, path)
    assert errors.pair_potential is False
    assert errors.model_dump()["measured_since"] == 2.0
    path.write_text('{"status": "ok", "unknown": 1}\n')
    assert read_labellings(path)[0].scf == {}


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (lambda path: read_record(Errors, path), "{", "is damaged or no JSON"),
        (lambda path: read_record(Errors, path), json.dumps(POINT | {"seed": "none"}), "seed: "),
        (read_labellings, '{"status": "ok"}\n{"status": "odd"}\n', "line 2: status: "),
        (read_free_atoms, '{"H": {"energy_eV": 1.0}}', "H: status: field required"),
        (read_free_atoms, "[]", "holds no atoms"),
    ],
    ids=["no JSON", "a key", "a line", "a lacking key", "a list"],
)
def test_what_is_no_record_is_refused_in_one_line(tmp_path, read, text, said):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(PiwslError) as refused:
        read(path)
    line = str(refused.value)
    assert line.startswith(str(path))
    assert said in line
    assert "delete the file, and it is made again" in line
    assert "\n" not in line


def test_of_a_run_that_is_not_simulated_no_simulation_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "water.xyz", morse_frames("H2O", 1))
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 12))
    every, some = jobs_of(seeds=[0, 1]), jobs_of(seeds=[0, 1], simulations={"bath": {"only": [{"seed": 1}]}})
    assert len(every.simulations()) == len(every.runs)
    assert [files.summary for files in some.simulations()] == [
        some.layout.run(run).simulation("bath").summary for run in some.runs if run.seed == 1
    ]
    made = {path for job in every_job(some) for path in job.results}
    assert {path for path in made if "/simulations/" in path} == {
        path for files in some.simulations() for path in files.taken_away()
    }
