"""Figures whose runs are chosen in the page: what is drawn of each run, and what of it goes into the page."""

from __future__ import annotations

import json
import re
from base64 import b64decode

import numpy as np
import pytest
from helpers import plain_experiment
from run_files import files_of, grid_of, random_test

from piwsl.config import Experiment, parse_section
from piwsl.evaluation.predictions import Predictions, write_predictions
from piwsl.report.choice import LEAST_OF_RUN, MOST_OF_RUN, STEPS, WRITTEN_OUT, packed, points_of_run
from piwsl.report.sections.parity import SHARES, figures, of_run, pairs_of, quantiles
from piwsl.report.write import write_report
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import Structure


def unpacked(array) -> np.ndarray:
    """Return the numbers that choice.js makes of packed ones."""
    if isinstance(array, list):
        return np.array(array)
    return array["low"] + array["step"] * np.frombuffer(b64decode(array["bits"]), dtype="<u2")


def test_packed_numbers_come_back_to_half_a_step():
    numbers = np.random.default_rng(0).normal(size=1000)
    array = packed(numbers)
    np.testing.assert_allclose(unpacked(array), numbers, rtol=0, atol=0.501 * np.ptp(numbers) / STEPS)
    assert len(array["bits"]) == 4 * np.ceil(2000 / 3)  # 2 bytes a number, 4 letters of Base64 every 3 bytes
    assert unpacked(array).min() == numbers.min()


@pytest.mark.parametrize("count", [0, 1, WRITTEN_OUT])
def test_few_numbers_are_written_out(count):
    numbers = np.linspace(-1e-6, 1e5, count)
    assert packed(numbers) == pytest.approx(numbers.tolist(), rel=1e-4)


def test_equal_numbers_are_packed_too():
    np.testing.assert_array_equal(unpacked(packed(np.full(100, -0.25))), np.full(100, -0.25))


@pytest.mark.parametrize(("runs", "points"), [(1, MOST_OF_RUN), (200, 1000), (1000, 200), (10**6, LEAST_OF_RUN)])
def test_of_many_runs_fewer_points_are_drawn(runs, points):
    assert points_of_run(runs) == points


def test_the_distribution_of_errors_is_that_of_all_of_them():
    # Of ten errors, 1 to 10 meV, the least is at most as large as a tenth of them, and so on.
    errors = np.arange(1.0, 11.0) / 1000
    found = quantiles(np.zeros(10), errors * np.array([1, -1] * 5))
    expected = {0.02: 1, 0.1: 1, 0.12: 2, 0.5: 5, 0.9: 9, 0.92: 10, 1.0: 10}
    for share, error in expected.items():
        assert found[np.argmin(np.abs(SHARES - share))] == pytest.approx(error), share


def frame(symbols: list[int], energy: float, forces: np.ndarray | None = None) -> Structure:
    labels = {REFERENCE: Labels(energy, forces)}
    count = len(symbols)
    return Structure(np.array(symbols), np.zeros((count, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), labels)


def written(path, structures, energy, forces):
    predictions = Predictions(np.array(energy), forces, np.full((len(structures), 3, 3), np.nan))
    write_predictions(path, [(structures, predictions)])
    return pairs_of(path)


def test_energies_are_relative_to_the_mean_of_their_composition(tmp_path):
    frames = [frame([1], -13.0), frame([8, 8], -4000.0), frame([1], -14.0)]
    forces = [np.zeros((len(one.numbers), 3)) for one in frames]
    label, predicted = written(tmp_path / "p.parquet", frames, [-13.1, -4000.0, -13.9], forces)["energy"]
    np.testing.assert_allclose(label, [0.5, 0.0, -0.5])
    np.testing.assert_allclose(predicted, [0.4, 0.0, -0.4])


def test_without_labelled_forces_there_is_no_figure_of_them(tmp_path):
    pairs = written(tmp_path / "p.parquet", [frame([1], 0.0)], [0.01], [np.zeros((1, 3))])
    assert [figure.empty.name for figure in figures([pairs])] == ["parity-energy", "errors-energy"]
    assert set(of_run(pairs, 10)) == {"parity-energy", "errors-energy"}


def test_what_a_model_says_that_is_no_number_is_not_drawn_but_counted(tmp_path):
    frames = [frame([1], energy) for energy in (0.0, 1.0, 2.0)]
    pairs = written(tmp_path / "p.parquet", frames, [0.01, np.nan, 2.03], [np.zeros((1, 3))] * 3)
    parity = of_run(pairs, 10)["parity-energy"]
    assert parity.words == "mean absolute difference 20 meV (1 are no number)"
    np.testing.assert_allclose(parity.x, [-1.0, 1.0])
    lost = written(tmp_path / "q.parquet", frames, [np.nan] * 3, [np.zeros((1, 3))] * 3)
    assert of_run(lost, 10) == {}
    assert figures([lost]) == []
    assert [figure.empty.name for figure in figures([lost, pairs])] == ["parity-energy", "errors-energy"]


def test_axes_of_errors_hold_every_run(tmp_path):
    frames = [frame([1], 0.0)]
    pairs = [
        written(tmp_path / f"{n}.parquet", frames, [error], [np.zeros((1, 3))]) for n, error in enumerate((1e-3, 3.0))
    ]
    low, high = figures(pairs)[1].empty.x.range
    assert low < 1.0 < 3000.0 < high


def test_where_no_run_gave_a_number_there_is_no_parity(tmp_path):
    experiment = parse_section(Experiment, plain_experiment(), "config.yaml")
    files = files_of(tmp_path / "runs", experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    for path in files.predictions:
        written(path, [frame([1], 0.0)], [np.nan], [np.full((1, 3), np.nan)])
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    headings = re.findall("<h3 [^>]*>(.*?)</h3>", (tmp_path / "report.html").read_text())
    assert "Parity" not in headings
    assert "Worst frames" in headings


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """A report of seven runs of a grid of eight."""
    folder = tmp_path_factory.mktemp("choice")
    experiment = parse_section(Experiment, plain_experiment(), "config.yaml")
    runs = [run for run in experiment.runs() if (run.loss, run.size, run.seed) != ("weak", 100, 1)]
    files = files_of(folder / "runs", runs, {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    write_report(experiment, files, folder / "report.html", folder / "results.csv")
    return (folder / "report.html").read_text()


def test_every_run_can_be_chosen_and_the_first_of_the_largest_size_is_shown(page):
    data, _ = [json.loads(found) for found in re.findall('<script type="application/json">(.*?)</script>', page)]
    assert len(data["runs"]) == 7
    assert {(run["which"], run["loss"]) for run in data["runs"]} > {("100 frames, seed 1", "supervised")}
    options = re.findall("<option(.*?)>(.*?)</option>", page)
    assert (" selected", "100 frames, seed 0") in options
    assert "<output>100 frames, seed 0: supervised, weak</output>" in page
    # Labels, 3 energies and 9 components of forces, are there once; so are the shares.
    drawn = [run["figures"][name] for run in data["runs"] for name in ("parity-energy", "parity-force")]
    assert {figure["x"] for figure in drawn} == {drawn[0]["x"], drawn[1]["x"]}
    first = next(run for run in data["runs"] if (run["which"], run["loss"]) == ("25 frames, seed 1", "weak"))
    assert data["arrays"][first["figures"]["parity-energy"]["y"]] == pytest.approx([-0.988, 0.012, 1.012])
    assert first["figures"]["errors-energy"]["words"] == "half are up to 12, 90 % up to 12 meV"


def test_without_scripts_the_figures_shown_first_are_pictures(page):
    pictures = re.findall('<noscript><img src="data:image/webp;base64,([^"]+)" alt="([^"]+)"></noscript>', page)
    assert len(pictures) == 4
    assert all(b64decode(picture)[8:12] == b"WEBP" for picture, _ in pictures)
    assert pictures[0][1].endswith(
        "100 frames, seed 0. supervised: mean absolute difference 10 meV; weak: mean absolute difference 5 meV."
    )


def test_a_page_of_200_runs_with_a_thousand_frames_of_nine_atoms_stays_under_10_mb(tmp_path):
    # A page grows by as much for each run of one grid: from 10 and 20 runs, that of 200 is known.
    sizes = []
    for seeds in (1, 2):
        experiment = parse_section(Experiment, grid_of(models=2, losses=5, sizes=1, seeds=seeds), "config.yaml")
        folder = tmp_path / str(seeds)
        errors = {loss: [10.0, 20.0] for loss in experiment.losses}
        files = files_of(folder, experiment.runs(), errors, test=random_test(1000, 9))
        write_report(experiment, files, folder / "report.html", folder / "results.csv")
        sizes.append((folder / "report.html").stat().st_size)
    assert (
        "Drawn against the reference: all 1,000 energies; 1,000 of 27,000 force components, chosen at random."
        in (folder / "report.html").read_text()
    )
    of_a_run = (sizes[1] - sizes[0]) / 10
    assert of_a_run > 4000  # what is drawn of it is there
    assert sizes[0] + 190 * of_a_run < 10e6
