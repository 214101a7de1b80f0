"""Figures and tables of the report as a paper takes them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from helpers import morse_frames, plain_experiment
from run_files import files_of

from piwsl.config import Experiment, parse_section
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.files import write_json_lines, write_text
from piwsl.report.figures import drawn
from piwsl.report.panels import DASHES, SYMBOLS, Axis, Look, Panel, Series, stepped
from piwsl.report.printed import LINES, MARKERS, printed
from piwsl.report.write import ForPrint, write_report


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("printed")
    losses = {"supervised": {}, "weak_1": {"pitc": {"weight": 1.0}}}
    experiment = parse_section(Experiment, plain_experiment() | {"losses": losses}, "config.yaml")
    energy = {"supervised": [10.0, 20.0], "weak_1": [5.0, 12.0]}
    files = files_of(folder / "runs", experiment.runs(), energy, simulation="bath")
    files.datasets.append(folder / "ammonia" / "dataset.h5")
    write_dataset(files.datasets[0], {part: morse_frames("NH3", 2, forces=True) for part in (TRAINING, TEST)})
    records = folder / "datasets" / "ammonia" / "labels" / "training" / "0a" / "00000-00002.jsonl"
    labels = {"status": "ok", "cpu_s": 2.0, "t1_diagnostic": 0.006, "frozen_orbitals": 1, "forces": "analytic"}
    write_json_lines(records, [labels, {"status": "failed", "frame": "a", "step": "s", "reason": "r"}])
    files.records.append(records)
    benchmark = folder / "benchmarks" / "train" / "ammonia" / "painn" / "supervised" / "n25-seed0.tsv"
    write_text(benchmark, "s\tcpu_time\n7200.0\t3592.5\n")  # read last after 7185 s
    files = replace(files, benchmarks=folder / "benchmarks")
    for_print = ForPrint(folder / "figures", folder / "tables")
    write_report(experiment, files, folder / "report.html", folder / "results.csv", for_print)
    return folder


def test_each_figure_is_an_svg_and_a_pdf_one_column_wide(written):
    found = {path.relative_to(written / "figures").as_posix() for path in written.glob("figures/**/*.*")}
    names = ["learning-curve-energy", "learning-curve-force", "parity-energy", "parity-force", "errors-energy",
             "errors-force", "training"]  # fmt: skip
    names += [f"{kind}-bath" for kind in ("survival", "drift", "distances", "spectrum")]
    assert found == {f"ammonia/painn/{name}{suffix}" for name in names for suffix in (".svg", ".pdf")}
    for path in written.glob("figures/**/*.svg"):
        width = float(re.search(r'<svg [^>]*width="([\d.]+)pt"', path.read_text())[1])
        assert width == pytest.approx(8.5 / 2.54 * 72, abs=0.1)


def test_text_of_a_figure_stays_text_and_ticks_are_those_of_the_page(written):
    svg = (written / "figures/ammonia/painn/learning-curve-energy.svg").read_text()
    texts = re.findall(r"<text[^>]*>(.*?)</text>", svg)
    assert {"supervised", "weak_1", "labelled frames", "25", "100", "5", "10", "20"} <= set(texts)


def test_a_band_that_holds_until_the_next_value_has_corners_and_a_curve_steps():
    x, low, high = stepped([0.0, 1.0, 3.0], [0.5, 0.2, 0.1], [1.0, 0.9, 0.8])
    assert x.tolist() == [0.0, 1.0, 1.0, 3.0, 3.0]
    assert low.tolist() == [0.5, 0.5, 0.2, 0.2, 0.1]
    assert high.tolist() == [1.0, 1.0, 0.9, 0.9, 0.8]
    curve = Series("a", [0.0, 1.0], [1.0, 0.5], Look("#000000"), line=2, steps=True, band=([0.5, 0.2], [1.0, 0.9]))
    panel = Panel("a", "A", "A.", Axis("x"), Axis("y"), (curve,))
    (axes,) = printed(panel).axes
    assert axes.lines[0].get_drawstyle() == "steps-post"
    assert [0.0, 0.5] in axes.collections[0].get_paths()[0].vertices.tolist()
    band, line = drawn(panel).data
    assert (band.fill, line.line.shape) == ("toself", "hv")
    assert band.y.max() == 1.0


def test_every_look_of_the_page_is_drawn_in_print():
    assert set(LINES) >= set(DASHES)
    assert set(MARKERS) >= set(SYMBOLS)


def test_errors_are_numbers_in_csv_with_what_is_not_trained_first(written):
    table = pd.read_csv(written / "tables/errors.csv")
    assert table["model"].tolist() == ["the best constant", *4 * ["painn"]]
    row = table.iloc[1]
    assert (row["loss"], row["size"], row["seeds"]) == ("supervised", 25, 2)
    assert (row["energy_mae_meV_mean"], row["energy_mae_meV_std"]) == (15.0, pytest.approx(50**0.5))


def test_errors_are_a_table_that_latex_takes(written):
    latex = (written / "tables/errors.tex").read_text()
    assert r"ammonia & painn & 25 & weak\_1 & 2 & 8.5 $\pm$ 4.9 &" in latex
    assert latex.isascii()
    assert latex.count(r"\\") == 6


def test_every_table_of_the_whole_experiment_is_written_twice(written):
    found = {path.name for path in (written / "tables").iterdir()}
    names = ["errors", "comparisons", "cost", "reference-energies"]
    assert found == {f"{name}{suffix}" for name in names for suffix in (".csv", ".tex")}


def test_comparisons_are_numbers_with_the_pooled_ones_first(written):
    table = pd.read_csv(written / "tables/comparisons.csv")
    assert len(table) == 6  # two kinds of error, of two sizes and of both
    pooled = table.iloc[0]
    assert (pooled["candidate"], pooled["baseline"], pooled["measure"]) == ("weak_1", "supervised", "energy_mae_meV")
    assert math.isnan(pooled["size"])
    assert pooled["ratio"] == pytest.approx(0.3**0.5)  # of 5 to 10 and of 12 to 20
    assert r"weak\_1 against supervised & pooled & energy & 0.548" in (written / "tables/comparisons.tex").read_text()


def test_what_was_computed_and_what_it_cost_are_numbers(written):
    (cost,) = pd.read_csv(written / "tables/cost.csv").to_dict("records")
    assert (cost["stage"], cost["jobs"], cost["cpu_h"], cost["wall_h"]) == ("Training", 1, pytest.approx(1.0), 2.0)
    (reference,) = pd.read_csv(written / "tables/reference-energies.csv").to_dict("records")
    assert (reference["labelled"], reference["failed"], reference["with_forces"]) == (1, 1, 1)
    assert reference["largest_t1"] == 0.006
