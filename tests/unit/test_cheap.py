"""What costs nothing stands in the report beside what is trained: cheap levels, with errors worked out by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from run_files import files_of

from piwsl.config import Experiment, parse_section
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_dataset
from piwsl.evaluation.cheap import errors_of_constant, errors_of_level
from piwsl.report.panels import loss_looks
from piwsl.report.sections.learning_curves import learning_curves
from piwsl.report.tables import cheap_table, run_table
from piwsl.report.write import write_report

CONFIG = {
    "experiment": "cheap",
    "datasets": {"water": {"file": "frames.xyz", "test_frames": 2, "cheap_levels": ["gfn2-xtb"]}},
    "models": {"painn": {"architecture": "painn"}},
    "losses": {"supervised": {}},
    "sizes": [4, 8],
    "seeds": [0, 1],
}
# Of the two levels, eV an atom: what each element's energy differs by.
CONSTANTS = {"H": 3.0, "O": -50.0}
BOTH = ["H2", "OH2"]


def frame(symbols: str, cheap_error: float, force_error: float | None = None) -> Atoms:
    """Return a frame whose cheap energy is wrong by an error (eV) and constants, its forces by another (eV/Å)."""
    atoms = Atoms(symbols, np.arange(3.0 * len(Atoms(symbols))).reshape(-1, 3))
    atoms.info["REF_energy"] = -7.0
    constant = sum(CONSTANTS[symbol] for symbol in atoms.get_chemical_symbols())
    atoms.info["gfn2-xtb_energy"] = -7.0 - constant + cheap_error
    atoms.arrays["gfn2-xtb_forces"] = np.full((len(atoms), 3), 0.2 + (force_error or 0.0))
    if force_error is not None:
        atoms.arrays["REF_forces"] = np.full((len(atoms), 3), 0.2)
    return atoms


def dataset(folder: Path, training: list[Atoms], test: list[Atoms]) -> Path:
    path = folder / "water" / "dataset.h5"
    write_dataset(path, {TRAINING: training, TEST: test}, cheap_levels=["gfn2-xtb"])
    return path


@pytest.fixture
def experiment() -> Experiment:
    return parse_section(Experiment, CONFIG, "config.yaml")


@pytest.fixture
def labelled(tmp_path) -> Path:
    """A dataset whose test energies are wrong by 10 and -30 meV, once constants are fitted, and forces by 0.1 eV/Å."""
    training = [frame(symbols, error, 0.1) for symbols in BOTH for error in (-0.05, 0.05)]
    return dataset(tmp_path, training, [frame("H2", 0.010, 0.1), frame("OH2", -0.030)])


def test_energies_are_compared_but_for_a_constant_an_element_of_the_training_frames_and_forces_as_they_are(labelled):
    with Dataset(labelled) as opened:
        found = errors_of_level(opened, "gfn2-xtb")
    assert found["energy_mae_meV"] == pytest.approx(20.0)
    assert found["force_mae_meV_per_A"] == pytest.approx(100.0)
    assert (found["test_frames"], found["test_force_frames"]) == (2, 1)


def test_constants_that_one_molecule_leaves_open_do_no_harm(tmp_path):
    test = [frame("OH2", 0.020), frame("OH2", 0.040)]
    path = dataset(tmp_path, [frame("OH2", error) for error in (0.0, 0.1)], test)
    with Dataset(path) as opened:
        found = errors_of_level(opened, "gfn2-xtb")
    # The training frames are wrong by 50 meV on average, the test frames by 30: the rest is a constant of 20.
    assert found["energy_mae_meV"] == pytest.approx(20.0)
    assert found["energy_constant_meV"] == pytest.approx(20.0)
    assert found["force_mae_meV_per_A"] is None


def labelled_alone(symbols: str, energy: float) -> Atoms:
    """Return a frame with a reference energy (eV), and forces of 0.3 and -0.1 eV/Å in turn."""
    atoms = Atoms(symbols, np.arange(3.0 * len(Atoms(symbols))).reshape(-1, 3))
    atoms.info["REF_energy"] = energy
    atoms.arrays["REF_forces"] = np.resize([0.3, -0.1], (len(atoms), 3))
    return atoms


def test_the_best_constant_is_the_mean_of_the_training_frames_of_a_composition_and_has_no_forces(tmp_path):
    # Means: H2 -2, H2O -12. Of H4 there is none: the constants of the elements, H -1 and O -10, give -4.
    training = [labelled_alone("H2", -1.9), labelled_alone("H2", -2.1), labelled_alone("OH2", -12.0)]
    test = [labelled_alone("H2", -2.01), labelled_alone("HOH", -12.03), labelled_alone("H4", -4.02)]
    path = tmp_path / "water" / "dataset.h5"
    write_dataset(path, {TRAINING: training, TEST: test})
    with Dataset(path) as opened:
        found = errors_of_constant(opened)
    assert found["energy_mae_meV"] == pytest.approx((10.0 + 30.0 + 20.0) / 3)
    # Of 27 components, water has five of nine, the others have half of theirs, that are 0.3: 14 in all.
    assert found["force_mae_meV_per_A"] == pytest.approx((14 * 300.0 + 13 * 100.0) / 27)


def rows_of_tables(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr.*?</tr>", html[html.index("<body>") :], re.DOTALL)
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)] for row in rows]


def test_a_cheap_level_stands_above_the_models_of_its_dataset_and_is_no_run(tmp_path, experiment, labelled):
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0]})
    files.datasets.append(labelled)
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    html = (tmp_path / "report.html").read_text()
    rows = [row for row in rows_of_tables(html) if len(row) == 9]
    assert rows[0] == ["water", "the best constant", "–", "not trained", "–", "0", "–", "200", "–"]
    assert rows[1] == ["water", "gfn2-xtb", "–", "not trained", "–", "20", "–", "100", "–"]
    assert [row[1] for row in rows[2:]] == ["painn", "painn"]
    assert "the constant an element" in html
    assert len(pd.read_csv(tmp_path / "results.csv")) == 4


def test_learning_curves_have_a_named_line_at_its_errors_which_ticks_reach(tmp_path, experiment, labelled):
    files = files_of(tmp_path, experiment.runs(), {"supervised": [0.1, 0.2]})
    table, cheap = run_table(files.errors, files.simulations), cheap_table(experiment, [labelled])
    panels = learning_curves(table, loss_looks(["supervised"]), cheap)
    lines = [series for panel in panels for series in panel.series if series.name == "gfn2-xtb"]
    assert [line.y for line in lines] == [pytest.approx([20.0, 20.0]), pytest.approx([100.0, 100.0])]
    assert all(line.x[0] < 4 and line.x[1] > 8 for line in lines)
    for panel, low, high in ((panels[0], 0.1, 20.0), (panels[1], 1.0, 100.0)):
        assert panel.y.range[0] < low < high < panel.y.range[1]
        assert min(panel.y.ticks) == low


def test_without_cheap_levels_nothing_is_said_of_them(tmp_path, experiment):
    plain = parse_section(Experiment, CONFIG | {"datasets": {"water": {"file": "x.xyz", "test_frames": 2}}}, "config")
    files = files_of(tmp_path, plain.runs(), {"supervised": [10.0, 20.0]})
    write_report(plain, files, tmp_path / "report.html", tmp_path / "results.csv")
    html = (tmp_path / "report.html").read_text()
    assert "not trained" not in html
    assert "cheap level" not in html
