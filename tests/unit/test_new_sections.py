"""Sections on where errors lie, and on minima and vibrations, as they stand in the page."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from ase.build import molecule
from helpers import plain_experiment
from run_files import files_of

from piwsl.config import Experiment, parse_section
from piwsl.files import read_json, write_json
from piwsl.records import Frequencies, FrequenciesOfLevels, StationaryPoint
from piwsl.report.sections.where_errors_lie import PHYSICAL, WHERE, titles_of
from piwsl.report.write import write_report


@pytest.fixture
def experiment() -> Experiment:
    return parse_section(Experiment, plain_experiment(), "config.yaml")


@pytest.fixture
def files(tmp_path, experiment):
    return files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})


def written(experiment, files, folder) -> str:
    write_report(experiment, files, folder / "report.html", folder / "results.csv")
    return (folder / "report.html").read_text()


def test_columns_are_found_by_what_they_are_called_where_any_run_has_a_number():
    runs = pd.DataFrame(
        {
            "force_mae_by_element_N_meV_per_A": [1.0, None],
            "force_mae_by_element_Si_meV_per_A": [None, None],
            "energy_mae_by_temperature_300K_meV": [2.0, 2.0],
            "energy_mae_meV": [3.0, 3.0],
            "consistency_loop_work_meV": [0.1, 0.1],
        }
    )
    assert list(titles_of(WHERE, runs).values()) == ["Forces on N (meV/Å)", "Energies, 300\u00a0K (meV)"]
    assert list(titles_of(PHYSICAL, runs)) == ["consistency_loop_work_meV"]


def test_errors_by_element_and_consistency_are_means_over_seeds(tmp_path, experiment, files):
    for number, path in enumerate(files.errors):
        more = {"force_mae_by_element_N_meV_per_A": 40.0 + 2 * (number % 2), "consistency_loop_work_meV": 1e-9}
        write_json(path, read_json(path) | more)
    html = written(experiment, files, tmp_path)
    assert 'Forces on N <span class="unit">(meV/Å)</span>' in html
    assert ">41<" in html
    assert "&lt; 0.001" in html


def test_runs_that_know_neither_have_no_such_section(tmp_path, experiment, files):
    assert "Where errors lie" not in written(experiment, files, tmp_path)


def test_frequencies_of_a_model_stand_beside_those_of_cheap_levels(tmp_path, experiment, files):
    run = experiment.runs()[0]
    minimum = molecule("NH3").positions
    point = StationaryPoint(surface="gfn2-xtb", molecule="H3N", start=0, positions_A=minimum.tolist())
    modes = [1010.0, 1600.4, 1600.4, 3400.0, 3500.0, 3500.0]
    levels = FrequenciesOfLevels(dataset=run.dataset, points=[point.model_copy(update={"frequencies_per_cm": modes})])
    stretched = {
        "surface": run.model,
        "positions_A": (1.01 * minimum).tolist(),
        "frequencies_per_cm": [-200.0, *modes[1:]],
    }
    of_run = Frequencies(**run.plain(), points=[point.model_copy(update=stretched)])
    broken = point.model_copy(update={"surface": run.model, "positions_A": [], "problem": "it <fell> apart"})
    losses = [loss for loss in experiment.losses if loss != run.loss]
    of_other = Frequencies(**(run.plain() | {"loss": losses[0]}), points=[broken])
    paths = {"levels.json": levels, "run.json": of_run, "other.json": of_other}
    for name, record in paths.items():
        write_json(tmp_path / name, record.model_dump(mode="json"))
    files = replace(
        files,
        frequencies=[tmp_path / "run.json", tmp_path / "other.json"],
        frequencies_of_levels=[tmp_path / "levels.json"],
    )
    html = written(experiment, files, tmp_path)
    section = html[html.index("Minima and vibrations") :]
    assert section.index(">1010<") < section.index(">-200<") < section.index(">3500<")
    # A hundredth of the distances from the centre of the atoms.
    centred = minimum - minimum.mean(axis=0)
    assert f">{0.01 * (centred**2).sum(axis=1).mean() ** 0.5:.4f}<" in section
    assert "it &lt;fell&gt; apart" in section
