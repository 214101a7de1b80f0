"""What the report says of simulations: shares with intervals, times that were cut off as such, nothing of none."""

from __future__ import annotations

import pytest
from run_files import STABILITY, files_of

from piwsl.config import Experiment, Run
from piwsl.files import write_json
from piwsl.report.context import Context, FilesOfRun
from piwsl.report.sections.errors import MeanErrors
from piwsl.report.sections.stability import StabilityOfDynamics
from piwsl.report.tables import cheap_table, run_table

CONFIG = {
    "experiment": "given",
    "datasets": {"water": {"file": "frames.xyz", "test_frames": 2}},
    "models": {"painn": {"architecture": "painn"}},
    "losses": {"supervised": {}, "weak": {"pitc": {"weight": 1.0}}},
    "sizes": [4],
    "seeds": [0, 1],
    "simulations": {"nvt": {}},
}
HELD = {
    "stable_ps": 2.0, "ended": "completed", "failed": 0, "reactive_bonds": [],
    "outcomes": [STABILITY["outcomes"][0], STABILITY["outcomes"][0] | {"frame": 1}],
}  # fmt: skip


@pytest.fixture
def context(tmp_path) -> Context:
    """Two seeds of two losses; replicas with the weak loss held."""
    experiment = Experiment.model_validate(CONFIG)
    runs: list[Run] = experiment.runs()
    files = files_of(tmp_path, runs, {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    for run, path in zip(runs, files.simulations, strict=True):
        if run.loss == "weak":
            write_json(path, run.plain() | STABILITY | HELD)
    found = zip(files.errors, files.predictions, files.histories, files.simulations, files.worst, strict=True)
    of_runs = {
        number: FilesOfRun(errors, predictions, history, {"nvt": summary}, worst)
        for number, (errors, predictions, history, summary, worst) in enumerate(found)
    }
    table = run_table(files.errors, files.simulations)
    return Context(experiment, table, of_runs, [], [], [], cheap_table(experiment, []))


def test_replicas_of_all_seeds_are_counted_together(context):
    page = StabilityOfDynamics().html(context)
    assert "Langevin dynamics, 1 ps at 300 K, timestep 0.5 fs" in page
    assert "2 of 4 failed, the first after 1 ps, of 2 ps" in page
    assert "at least 2 ps, none of 4 failed" in page
    assert page.count("a bond changed by more than 0.5 Å") == 1
    assert "the bonds\nO0-H3" in page
    assert page.count('class="plotly-graph-div"') == 3


def test_a_mean_of_times_that_were_cut_off_is_said_to_be_a_bound(context):
    page = MeanErrors().html(context)
    assert "all of 2 ps" in page
    assert "1.5 ± 0" in page


def test_an_experiment_without_simulations_has_a_report_without(tmp_path):
    experiment = Experiment.model_validate(CONFIG | {"simulations": {}})
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    table = run_table(files.errors, [])
    assert len(table) == 4
    assert table["stable_ps"].isna().all()
    context = Context(experiment, table, {}, [], [], [], cheap_table(experiment, []))
    assert StabilityOfDynamics().html(context) == ""
    assert "Stable MD is" not in MeanErrors().html(context)
