"""What an experiment cost: times of jobs added up by stage, and what the label store spared it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import plain_experiment
from run_files import files_of

from piwsl.config import Experiment, parse_section
from piwsl.files import write_json, write_json_lines
from piwsl.records import read_benchmark
from piwsl.reference.budget import planned
from piwsl.report.context import Context
from piwsl.report.sections.cost import WhatItCost, budget_in_words, cost_in_words, costs, duration, former, total
from piwsl.report.write import write_report

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
JOBS = {
    "sample/ammonia/training-300K": (1800, 0.5),
    "label/ammonia/training/0a/00000-00010": (3600, 1.0),
    "isolated-atoms/ammonia": (3600, 0.5),
    "displace/ammonia/test-forces/0a/00000-00001/0-of-2": (0, 0.0),
    "label/ammonia/gfn2-xtb/training/0b/00000-00010": (360, 1.0),
    "dataset/ammonia": (360, 0.0),
    "dataset/ammonia/training": (360, 0.0),
    "train/ammonia/painn/weak/n8-seed0": (7200, 0.25),
    "train/ammonia/gone/weak/n8-seed0": (3600, 0.5),
    "teach/ammonia/painn/weak/n8-seed0": (360, 1.0),
    "another/ammonia/painn/weak/n8-seed0": (360, 1.0),
}


def benchmark(path: Path, wall: float, cpu: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEADER}\n{wall}\t0:00:01\t1\t1\t1\t1\t1\t1\t90.0\t{cpu}\n")
    return path


@pytest.fixture
def context(tmp_path) -> Context:
    """Jobs that were busy for a share of their time, and read to their end."""
    for name, (wall, busy) in JOBS.items():
        last_reading = 15 + (wall - 15) // 30 * 30
        benchmark(tmp_path / "benchmarks" / f"{name}.tsv", wall, str(busy * last_reading))
    config = plain_experiment()
    config["models"]["painn"]["resources"] = {"gpus": 2}
    experiment = parse_section(Experiment, config, "config.yaml")
    return Context(experiment, *([None] * 2), [], [], [], None, benchmarks=tmp_path / "benchmarks")


def by_stage(context: Context) -> dict[str, tuple[int, float, float, float]]:
    found = [*costs(context), total(costs(context))]
    return {cost.stage: (cost.jobs, cost.cpu_h, cost.wall_h, cost.gpu_h) for cost in found}


def test_times_are_added_up_by_stage_in_the_order_in_which_data_flows(context):
    found = by_stage(context)
    assert list(found) == [
        "Geometries",
        "Reference energies",
        "Cheap levels",
        "Dataset files",
        "Training",
        "another",
        "All",
    ]
    for stage, numbers in {
        "Geometries": (1, 0.25, 0.5, 0.0),
        "Reference energies": (3, 1.5, 2.0, 0.0),
        "Cheap levels": (1, 0.1, 0.1, 0.0),
        "Dataset files": (2, 0.0, 0.2, 0.0),
        # Two GPUs for two hours; what the model that is gone ran on nobody knows.
        "Training": (3, 1.1, 3.1, 4.0),
        "another": (1, 0.1, 0.1, 0.0),
        "All": (11, 3.05, 6.0, 4.0),
    }.items():
        assert found[stage] == pytest.approx(numbers), stage


def test_it_is_said_in_a_sentence_what_reference_energies_are_of_it(context):
    assert cost_in_words(costs(context)) == (
        "11 jobs took 3.1 CPU hours: 49 % for reference energies and 36 % for training; and 4 GPU hours for training."
    )


def test_energies_out_of_the_store_are_said_to_have_cost_something_before(context, tmp_path):
    records, atoms = tmp_path / "00000-00010.jsonl", tmp_path / "isolated-atoms.json"
    label = {"status": "ok", "energy_eV": 1.0, "cpu_s": 5.0}
    write_json_lines(records, [label | {"stored_cpu_s": 7000.0}, label, {"status": "failed", "frame": "a"}])
    write_json(atoms, {"H": label | {"stored_cpu_s": 200.0}})
    context = replace(context, records=[records], free_atoms=[atoms])
    (reference,) = [cost for cost in costs(context) if cost.stage == "Reference energies"]
    assert reference.stored_cpu_h == pytest.approx(2.0)
    assert reference.cpu_h == pytest.approx(1.5)
    assert cost_in_words(costs(context)).endswith(
        "Reference energies that were in the label store had taken 2 CPU hours before."
    )


def test_displaced_energies_that_jobs_of_their_own_have_just_put_into_the_store_are_not_counted_twice(
    context, tmp_path
):
    records = tmp_path / "00000-00001.jsonl"
    write_json_lines(records, [{"status": "ok", "energy_eV": 1.0, "stored_cpu_s": 9000.0}])
    share = tmp_path / "00000-00001.displaced" / "0-of-2.jsonl"
    row = {"status": "ok", "energy_eV": 1.0, "cpu_s": 1800.0}
    write_json_lines(share, [row | {"stored": False}, row | {"stored": True}, {"status": "failed", "frame": "a"}])
    (reference,) = [cost for cost in costs(replace(context, records=[records])) if cost.stage == "Reference energies"]
    assert reference.stored_cpu_h == pytest.approx(2.0)


def test_what_was_computed_after_the_last_reading_is_not_forgotten(tmp_path):
    """Snakemake reads every half second for 15 s, and every 30 s from then on."""
    for wall, read, whole in ((29.0, "15.0", 29.0), (44.9, "7.5", 22.45), (50.0, "45.0", 50.0), (10.2, "5.0", 5.1)):
        assert read_benchmark(benchmark(tmp_path / "a.tsv", wall, read)).cpu_s == pytest.approx(whole)
    # Too short for any reading.
    assert read_benchmark(benchmark(tmp_path / "a.tsv", 0.3, "NA")).cpu_s == 0.3
    assert read_benchmark(benchmark(tmp_path / "a.tsv", 0.3, "0.1")).cpu_s == 0.3


def test_a_training_that_was_stopped_and_went_on_costs_all_its_pieces(context):
    write_json(context.benchmarks / "train/ammonia/painn/weak/n8-seed0.earlier.json", {"wall_s": 3600, "cpu_s": 1800})
    # Two GPUs for two hours, and for the one before.
    assert by_stage(context)["Training"] == pytest.approx((3, 1.6, 4.1, 6.0))


@pytest.mark.parametrize("text", ["", HEADER, f"{HEADER}\n12.0\t0:00", "no table\n1\n", f"{HEADER}\nNA\t0:00\n"])
def test_a_job_whose_benchmark_cannot_be_read_is_counted_as_unknown(context, text):
    (context.benchmarks / "train/ammonia/painn/weak/n8-seed0.tsv").write_text(text)
    (training,) = [cost for cost in costs(context) if cost.stage == "Training"]
    assert (training.jobs, training.unknown, training.gpu_h) == (3, 1, 0.0)
    assert "Of 1 of the jobs nothing could be read." in WhatItCost().html(context)


def test_jobs_of_before_an_edit_are_told_apart_from_those_of_the_config(context):
    jobs = {*JOBS} - {"train/ammonia/gone/weak/n8-seed0"}
    edited = replace(context, jobs=jobs)
    (training,) = [cost for cost in costs(edited) if cost.stage == "Training"]
    assert (training.jobs, total(costs(edited)).jobs) == (2, len(jobs))
    assert (former(edited).jobs, former(edited).cpu_h) == (1, pytest.approx(0.5))
    page = " ".join(WhatItCost().html(edited).split())
    assert "nor is 1 job of before edits of the configuration, whose results it has no more: 30 CPU minutes" in page
    assert "of before edits" not in WhatItCost().html(context)


def test_columns_of_what_there_is_none_of_are_left_out(context):
    page = WhatItCost().html(context)
    assert 'GPU <span class="unit">(h)</span>' in page
    assert "label store" not in page
    (context.benchmarks / "train/ammonia/painn/weak/n8-seed0.tsv").unlink()
    assert "GPU" not in WhatItCost().html(context)


def test_what_took_less_than_an_hour_is_told_in_minutes(tmp_path, context):
    benchmark(tmp_path / "short" / "train/ammonia/painn/weak/n8-seed0.tsv", 600.0, "30.0")
    page = WhatItCost().html(replace(context, benchmarks=tmp_path / "short"))
    assert 'CPU <span class="unit">(min)</span>' in page
    assert page.count('<td class="number">10</td>') >= 2  # in the row of the stage, and in that of all
    (table,) = WhatItCost().tables(replace(context, benchmarks=tmp_path / "short")).values()
    assert table.numbers["wall_h"].tolist() == pytest.approx([1 / 6])


def test_a_report_without_benchmarks_has_no_such_section(tmp_path):
    experiment = parse_section(Experiment, plain_experiment(), "config.yaml")
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    for folder in (None, tmp_path / "nowhere"):
        write_report(experiment, replace(files, benchmarks=folder), tmp_path / "report.html", tmp_path / "results.csv")
        assert "What it cost" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        (0.0, "0 CPU seconds"),
        (0.01, "36 CPU seconds"),
        (0.5, "30 CPU minutes"),
        (1.24, "1.2 CPU hours"),
        (234.0, "230 CPU hours"),
    ],
)
def test_a_time_has_the_unit_that_gives_it_a_number_to_read(hours, said):
    assert duration(hours, "CPU") == said


def test_what_was_planned_and_spent_of_a_budget_is_said_where_every_computed_dataset_has_one(context):
    assert budget_in_words(context.experiment, costs(context)) is None
    config = plain_experiment()
    name = next(iter(config["datasets"]))
    config["datasets"][name]["budget"] = {"cpu_hours": 4}
    budgeted = parse_section(Experiment, config, "config.yaml")
    # Spent on geometries, reference energies and cheap levels: 0.25, 1.5 and 0.1 hours.
    ((_, section),) = budgeted.datasets.items()
    shares = planned(name, section, budgeted.levels[section.level], [])
    context = replace(context, experiment=budgeted)
    stages = {cost.stage: cost.planned_cpu_h for cost in costs(context) if cost.planned_cpu_h is not None}
    hours = {share.what: share.cpu_hours for share in shares}
    of_level = hours["training"] + hours["test"] + hours["forces of test"]
    assert stages == pytest.approx(
        {"Geometries": hours["sampling"], "Reference energies": of_level, "Cheap levels": 0.0}
    )
    said = budget_in_words(budgeted, costs(context))
    whole = duration(sum(hours.values()), "CPU")
    assert said.startswith(
        f"The budget was 4 CPU hours, of which {whole} were planned by estimate; "
        "geometries, reference energies and cheap levels took 1.9 CPU hours"
    )
    page = WhatItCost().html(context)
    assert said in page
    assert 'Planned <span class="unit">(CPU, h)</span>' in page
    config["datasets"]["another"] = config["datasets"][name] | {"budget": None}
    assert budget_in_words(parse_section(Experiment, config, "config.yaml"), costs(context)) is None
