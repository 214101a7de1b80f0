"""What stands on the page of the report: axes that can be read, names that lead somewhere, lines that can be copied."""

from __future__ import annotations

import math
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import plain_experiment

from piwsl.config import Experiment, parse_section
from piwsl.report.context import Context, FilesOfRun
from piwsl.report.markup import mean_and_spread, whole
from piwsl.report.panels import DASHES, MOST_POINTS, PALETTE, SYMBOLS, loss_looks, one_two_five, thinned
from piwsl.report.sections.errors import MeanErrors, mean_rows
from piwsl.report.sections.learning_curves import LearningCurves
from piwsl.report.sections.making import git_state, lines
from piwsl.report.sections.training import Training
from piwsl.report.sections.use import UseOfModels, trained
from piwsl.report.tables import MEASURES
from piwsl.report.write import Part, anchored

PAGE = {"light": "#ffffff", "dark": "#12161b"}
CONSTANT = pd.DataFrame([{"dataset": "ammonia", "energy_mae_meV": 141.0, "force_mae_meV_per_A": 800.0}])


def context(runs: list[dict[str, object]], folder: str = "results/e") -> Context:
    plain = {"dataset": "ammonia", "model": "painn", "loss": "weak", "size": 8, "time_ps": 1.0, "stable_ps": 1.0}
    unknown = dict.fromkeys([*MEASURES, "force_rmse_from_slopes_error_meV_per_A"], math.nan)
    plain |= unknown | {"stable_ps": 1.0, "failed": 0}
    table = pd.DataFrame([plain | {"seed": seed, "observation": f"seed {seed}"} | run for seed, run in enumerate(runs)])
    files = {
        n: FilesOfRun(*[Path(f"{folder}/seed{n}/{name}") for name in ("e", "p", "h", "s", "w")]) for n in table.index
    }
    return Context(
        experiment=parse_section(Experiment, plain_experiment(), "config.yaml"),
        runs=table,
        files=files,
        records=[],
        free_atoms=[],
        datasets=[],
        cheap=pd.DataFrame(columns=["dataset", "level", *MEASURES]),
        constants=CONSTANT.reindex(columns=["dataset", *MEASURES]),
    )


@pytest.mark.parametrize(
    "values", [[128.174, 128.177], [3.0, 3.0], [6.0, 9.0], [0.012, 0.018], [1.0, 2.0], [3e-7, 4e5], [21.0, 49.0]]
)
def test_every_axis_has_ticks_within_it_that_are_round_and_not_too_many(values):
    axis = one_two_five("error (meV)", pd.Series(values))
    assert axis.range[0] < min(values) <= max(values) < axis.range[1]
    assert 2 <= len(axis.ticks) <= 14
    assert all(axis.range[0] <= tick <= axis.range[1] for tick in axis.ticks)
    assert all(tick == float(f"{tick:.3g}") for tick in axis.ticks)


def test_what_agrees_to_five_digits_does_not_fill_the_axis():
    low, high = one_two_five("error (meV)", pd.Series([128.174, 128.177])).range
    assert high / low > 1.2


def test_an_axis_of_no_positive_number_is_left_to_what_draws_it():
    assert one_two_five("error (meV)", pd.Series([0.0, math.nan])).range is None


def test_a_learning_curve_lies_beside_the_best_constant_and_the_cheap_levels_each_with_a_dash_of_its_own():
    given = context([{"energy_mae_meV": 10.0}, {"energy_mae_meV": 30.0, "size": 32}])
    cheap = given.cheap.assign(dataset=["ammonia"] * 2, level=["xtb", "hf"], energy_mae_meV=[20.0, math.nan])
    (energy,) = LearningCurves().panels(replace(given, cheap=cheap))
    lines = {series.name: series for series in energy.series if series.legend}
    assert list(lines) == ["weak", "the best constant", "xtb", "hf"]
    assert lines["the best constant"].y == [141.0, 141.0]
    assert energy.y.range[1] > 141.0
    assert len({lines[name].look.dash for name in ("the best constant", "xtb", "hf")}) == 3
    assert energy.said.endswith("weak 10 at 8 and 30 at 32 frames. Without training: the best constant 141, xtb 20.")


def test_one_size_makes_no_curve():
    given = context([{"energy_mae_meV": 10.0}, {"energy_mae_meV": 30.0}])
    assert LearningCurves().panels(given) == []
    assert LearningCurves().html(given) == ""


@pytest.mark.parametrize(("steps", "drawn"), [([1000, 2000], True), ([0], False), ([], False)])
def test_a_course_of_training_has_two_points_or_more(tmp_path, steps, drawn):
    history = pd.DataFrame({"step": steps, "validation_energy_rmse": [0.2] * len(steps)})
    given = context([{"energy_mae_meV": 10.0}])
    files = replace(given.files[0], history=tmp_path / "history.csv")
    history.to_csv(files.history, index=False)
    given = replace(given, files={0: files})
    assert bool(Training().panels(given)) == drawn
    assert bool(Training().html(given)) == drawn


@pytest.mark.parametrize(
    ("mean", "spread", "said"),
    [
        (8.5, 4.9497, "8.5 ± 4.9"),
        (1200.0, 141.4, "1200 ± 140"),
        (20.44, 0.0039, "20.4 ± 0.0"),  # not 20.4 ± 0.0039, which says that the mean is known to four decimals
        (2.089, 0.00095, "2.09 ± 0.00"),
        (0.28855, 0.0018, "0.289 ± 0.002"),
        (1234.0, 0.2, "1230 ± 0"),
        (0.0, 0.0, "0 ± 0"),
        (3.0, math.nan, "3"),
    ],
)
def test_a_deviation_has_no_digit_beyond_those_of_its_mean(mean, spread, said):
    assert mean_and_spread(mean, spread) == said


def test_the_unit_of_a_title_stays_in_one_line_and_names_stay_text():
    assert whole("Force MAE (meV/Å)") == 'Force MAE <span class="unit">(meV/Å)</span>'
    assert whole("Angle (a) between") == "Angle (a) between"
    assert whole("Forces on <b> (eV)") == 'Forces on &lt;b&gt; <span class="unit">(eV)</span>'


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("page", PAGE.values(), ids=PAGE)
@pytest.mark.parametrize("colour", PALETTE)
def test_a_colour_stands_out_from_the_page_by_light_and_in_the_dark(colour, page):
    bright, dark = sorted((luminance(colour), luminance(page)), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 3.0


def test_losses_are_told_apart_by_more_than_colour_and_none_looks_like_another():
    looks = list(loss_looks([f"loss {number}" for number in range(40)]).values())
    assert len(set(looks)) == 40
    assert len({look.symbol for look in looks[: len(SYMBOLS)]}) == len(SYMBOLS)
    assert len({look.dash for look in looks[: len(DASHES)]}) == len(DASHES)


@pytest.mark.parametrize(
    ("energy", "force", "said"),
    [
        (20.0, 100.0, ""),
        (140.5, 100.0, "energies no better than a constant"),
        (20.0, 800.0, "forces no better than a constant"),
        (150.0, 790.0, "energies and forces no better than a constant"),
        (20.0, math.nan, ""),
    ],
)
def test_a_model_that_learned_nothing_is_said_to_be_no_better_than_a_constant(energy, force, said):
    given = context([{"energy_mae_meV": energy, "force_mae_meV_per_A": force}] * 2)
    constant, row = mean_rows(given)
    assert (constant.model, constant.cells[0].text) == ("the best constant", "141")
    assert row.no_better == said
    html = MeanErrors().html(given)
    assert ("1 of 1 rows of trained models are no better" in html) == bool(said)


def test_what_slopes_say_of_forces_is_a_column_where_some_run_has_it_with_how_sure_it_is():
    estimate = {"energy_mae_meV": 3.0, "force_rmse_from_slopes_meV_per_A": 40.0}
    sure = [{"force_rmse_from_slopes_error_meV_per_A": error} for error in (2.0, 2.8)]
    with_slopes = MeanErrors().html(context([estimate | error for error in sure]))
    for words in ("Force RMSE by slopes", "not labelled", "leaves a standard error of 5 to 7 % of it"):
        assert words in with_slopes
    without = context([{"energy_mae_meV": 3.0, "force_mae_meV_per_A": 40.0}])
    assert "slopes" not in MeanErrors().html(without)
    assert not any("slopes" in title for title in MeanErrors().tables(without)["errors"].words)


def test_errors_of_the_stress_are_a_column_where_some_run_has_them():
    learned = {"energy_mae_meV": 3.0, "stress_mae_meV_per_A3": 0.25}
    with_stress = context([learned, {"energy_mae_meV": 3.0, "model": "schnet"}])
    with_stress = replace(
        with_stress,
        experiment=parse_section(
            Experiment,
            plain_experiment() | {"models": {name: {"architecture": name} for name in ("painn", "schnet")}},
            "config.yaml",
        ),
    )
    words = MeanErrors().tables(with_stress)["errors"].words
    assert words["Stress MAE (meV/Å³)"].tolist() == ["–", "0.25", "–"]  # the best constant has none, nor has schnet
    assert "forces and stresses are components" in MeanErrors().html(with_stress)
    without = context([{"energy_mae_meV": 3.0, "force_mae_meV_per_A": 40.0}])
    assert "tress" not in MeanErrors().html(without)


def test_a_figure_has_at_most_so_many_points_and_they_stay_pairs():
    x = np.arange(10 * MOST_POINTS, dtype=float)
    few, twice = thinned(x, 2 * x)
    assert len(few) == len(np.unique(few)) == MOST_POINTS
    np.testing.assert_array_equal(twice, 2 * few)
    np.testing.assert_array_equal(thinned(x, x)[0], few)  # a page written again is the same
    # No end of the data is left out, nor one component of three preferred.
    assert abs(few.mean() / x.mean() - 1) < 0.05
    assert np.bincount(few.astype(int) % 3).min() > 0.3 * MOST_POINTS
    assert len(thinned(x[:5], x[:5])[0]) == 5


@pytest.mark.parametrize(
    ("times", "said"),
    [([1.0, 1.0], "all of 1 ps"), ([1.0, 0.5], "≥ 0.75 ± 0.35"), ([0.25, 0.5], "0.375 ± 0.18"), ([0.5], "0.5")],
)
def test_a_time_that_the_end_of_the_simulation_cut_off_is_no_value(times, said):
    row = mean_rows(context([{"stable_ps": time, "failed": int(time < 1)} for time in times]))[-1]
    assert row.cells[list(MEASURES).index("stable_ps")].text == said


def test_anchors_are_words_of_the_headings_and_no_two_are_the_same():
    titles = [(2, "a, painn"), (3, "Parity"), (2, "b, painn"), (3, "Parity"), (2, "b painn"), (2, "?")]
    found = [part.anchor for part in anchored([Part(level, title, "") for level, title in titles])]
    assert found == ["a-painn", "a-painn-parity", "b-painn", "b-painn-parity", "b-painn-4", "5"]


def test_what_differs_from_the_defaults_is_marked_where_it_stands():
    plain = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": ["x"], "g": {}}
    found = list(lines(plain, {"b": {"d": {"e": 3}}, "f": ["x"]}))
    assert [line.text for line in found] == ["a: 1", "b:", "  c: 2", "  d:", "    e: 3", "f:", "- x", "g: {}"]
    assert [line.text for line in found if line.said] == ["b:", "  d:", "    e: 3", "f:", "- x"]


def test_the_state_of_the_source_is_its_commit_and_whether_files_were_changed(tmp_path):
    assert git_state(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    (tmp_path / "a").write_text("1")
    subprocess.run([*git, "add", "a"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "m"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert git_state(tmp_path) == commit[:12]
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path) == f"{commit[:12]}-dirty"


def test_lines_to_copy_name_the_model_file_whatever_its_folder_is_called():
    given = context([{"energy_mae_meV": 1.0}], folder="results/it's $HOME")
    (line,) = trained(given.runs, given)
    assert line.path == "results/it's $HOME/seed0/model.safetensors"
    assert shlex.split(f"piwsl info {line.shell}") == ["piwsl", "info", line.path]
    assert eval(line.quoted) == line.path


def test_the_best_potential_is_the_one_to_copy_and_all_are_listed():
    given = context([{"energy_mae_meV": 5.0}, {"energy_mae_meV": 1.0, "loss": "supervised", "size": 4}])
    html = UseOfModels().html(given)
    assert html.index("piwsl predict results/e/seed1/model.safetensors") < html.index("<td>weak</td>")
    assert "piwsl predict results/e/seed0" not in html
    nothing = replace(given, runs=given.runs.assign(energy_mae_meV=math.nan))
    assert "piwsl predict" not in UseOfModels().html(nothing)
