"""What the report says of simulations: shares with intervals, times that were cut off as such, nothing of none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from run_files import STABILITY, files_of

from piwsl.config import Experiment, Run
from piwsl.files import read_json, write_json
from piwsl.report.context import Context, FilesOfRun
from piwsl.report.sections.errors import MeanErrors, mean_rows
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
    assert "2 of 4 failed, the first after 1 ps, of 2 ps; by seed 1, 1" in page
    assert "at least 2 ps, none of 4 failed" in page
    assert page.count("a bond changed by more than 0.5 Å") == 1
    assert "the bonds\nO0-H3" in page
    assert page.count('class="plotly-graph-div"') == 4


def test_figures_say_what_replicas_drift_distances_and_spectrum_showed(context):
    survival, drift, distances, spectrum = StabilityOfDynamics().panels(context)
    assert [panel.name for panel in (survival, drift, distances, spectrum)] == [
        "survival-nvt", "drift-nvt", "distances-nvt", "spectrum-nvt",
    ]  # fmt: skip
    # Half of four replicas failed after 1 ps.
    supervised, weak = [one for one in survival.series if one.legend]
    assert (list(supervised.x), list(supervised.y)) == ([0.0, 1.0, 2.0], [1.0, 0.5, 0.5])
    assert list(weak.y) == [1.0, 1.0]
    assert supervised.steps
    assert survival.said == (
        "Share of replicas that are stable in 'nvt' against time: supervised 0.5 after 2 ps; weak 1 after 2 ps."
    )
    assert drift.said.endswith("means: supervised 0.01; weak 0.01.")
    assert distances.said == (
        "Distribution h(r) of distances in H2O in 'nvt' beside the test frames; its error: supervised 0.12; weak 0.12."
    )
    assert spectrum.said.endswith("its highest peak, cm⁻¹: supervised 1600; weak 1600.")
    for panel in (survival, drift, distances, spectrum):
        looks = {one.name: one.look for one in panel.series}
        assert looks["supervised"].dash != looks["weak"].dash


def test_seeds_are_models_of_their_own_and_have_a_curve_each_and_no_interval_together(context):
    # One seed lost both of its replicas: a binomial interval of all four would be of one share, and there are two.
    last = next(index for index, run in context.runs.iterrows() if (run["loss"], run["seed"]) == ("weak", 1))
    record = read_json(context.files[last].simulations["nvt"])
    broken = [outcome | {"failed": True, "stable_ps": 1.0} for outcome in record["outcomes"]]
    write_json(context.files[last].simulations["nvt"], record | {"outcomes": broken})
    survival = StabilityOfDynamics().panels(context)[0]
    *seeds, together = [one for one in survival.series if one.name == "weak"]
    assert [list(one.y) for one in seeds] == [[1.0, 1.0], [1.0, 0.0]]
    assert list(together.y) == [1.0, 0.5, 0.5]
    assert not any(one.legend for one in seeds)
    assert all(one.band is None for one in survival.series)
    assert "2 of 4 failed, the first after 1 ps, of 2 ps; by seed 0, 2" in StabilityOfDynamics().html(context)


def test_the_interval_of_one_seed_is_that_of_its_replicas(context):
    one_seed = replace(context, runs=context.runs[context.runs["seed"] == 0])
    _, weak = StabilityOfDynamics().panels(one_seed)[0].series
    # Neither of two failed: the lower end is (0.05 / 2)^(1/2).
    assert (weak.band[0][-1], weak.band[1][-1]) == (pytest.approx(0.025**0.5), 1.0)
    assert "by seed" not in StabilityOfDynamics().html(one_seed)


def test_a_drift_that_is_negative_has_a_size(context):
    index, files = next(iter(context.files.items()))
    record = read_json(files.simulations["nvt"])
    write_json(files.simulations["nvt"], record | {"drift_meV_per_atom_per_ps": {"mean": -0.03}})
    (drift,) = [panel for panel in StabilityOfDynamics().panels(context) if panel.name == "drift-nvt"]
    assert index == 0
    assert sorted(value for one in drift.series for value in one.y)[-1] == 0.03


def test_records_that_know_less_have_fewer_figures(context):
    known = {"mean": None, "deviation": None, "largest": None}
    for files in context.files.values():
        record = read_json(files.simulations["nvt"])
        bare = {"outcomes": [], "distances": [], "spectrum": None, "drift_meV_per_atom_per_ps": known}
        write_json(files.simulations["nvt"], record | bare)
    assert StabilityOfDynamics().panels(context) == []
    assert "plotly-graph-div" not in StabilityOfDynamics().html(context)


def test_a_column_that_no_simulation_fills_is_left_out(context):
    assert "Drift" in StabilityOfDynamics().html(context)
    for files in context.files.values():
        record = read_json(files.simulations["nvt"])
        write_json(files.simulations["nvt"], record | {"drift_meV_per_atom_per_ps": None})
    page = StabilityOfDynamics().html(context)
    assert "Drift" not in page
    assert page.count('<td class="number">300</td>') == 2  # the mean temperature, a row a loss


def test_a_simulation_that_held_no_step_has_no_mean_temperature(context):
    for number, files in context.files.items():
        if context.runs.loss[number] == "supervised":
            record = read_json(files.simulations["nvt"])
            write_json(files.simulations["nvt"], record | {"mean_temperature_K": None})
    page = StabilityOfDynamics().html(context)
    assert page.count('<td class="number">300</td>') == 1
    assert page.count('<td class="number">–</td>') == 1


def test_baths_of_several_temperatures_have_a_mean_each_on_the_page_and_none_in_the_table(context):
    for number, files in context.files.items():
        record = read_json(files.simulations["nvt"])
        hot = None if context.runs.loss[number] == "supervised" else 498.0 + 4 * context.runs.seed[number]
        known = {"mean_temperature_K": None, "temperatures_K": [300.0, 500.0], "mean_temperatures_K": [301.0, hot]}
        write_json(files.simulations["nvt"], record | known)
    page = StabilityOfDynamics().html(context)
    assert '<td class="number">301, –</td>' in page
    assert '<td class="number">301, 500</td>' in page
    runs = run_table(
        [files.errors for files in context.files.values()],
        [files.simulations["nvt"] for files in context.files.values()],
    )
    assert runs["mean_temperature_K"].isna().all()
    assert runs["mean_temperature_K"].dtype == float


def test_a_mean_of_times_that_were_cut_off_is_said_to_be_a_bound(context):
    page = MeanErrors().html(context)
    assert "all of 2 ps" in page
    assert "1.5 ± 0" in page


def test_seeds_that_are_not_simulated_are_none_that_broke(context):
    table = context.runs.assign(failed=context.runs["failed"].where(context.runs["seed"] == 0))
    table["stable_ps"] = table["stable_ps"].where(table["seed"] == 0)
    broke, held = mean_rows(replace(context, runs=table))
    assert (broke.loss, broke.cells[-1].text) == ("supervised", "1.5")
    assert (held.loss, held.cells[-1].text) == ("weak", "all of 2 ps")


def test_an_experiment_without_simulations_has_a_report_without(tmp_path):
    experiment = Experiment.model_validate(CONFIG | {"simulations": {}})
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    table = run_table(files.errors, [])
    assert len(table) == 4
    assert table["stable_ps"].isna().all()
    context = Context(experiment, table, {}, [], [], [], cheap_table(experiment, []))
    assert StabilityOfDynamics().html(context) == ""
    assert "Stable MD is" not in MeanErrors().html(context)
