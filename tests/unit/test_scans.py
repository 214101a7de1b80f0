"""Scans in an experiment: geometries along a coordinate, and curves of models beside that of the reference."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import invcm
from helpers import plain_experiment
from run_files import files_of

from piwsl.config import Experiment, Scan, parse_section
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.errors import PiwslError
from piwsl.evaluation.curves import curve_errors, ends_of
from piwsl.evaluation.predictions import Predictions, write_predictions
from piwsl.files import read_json, write_json
from piwsl.reference.tight_binding import gfn2
from piwsl.report.write import ForPrint, write_report
from piwsl.structures.frames import read_frames
from piwsl.structures.structure import from_atoms
from piwsl.surface.relaxation import relax
from piwsl.surface.scan_frames import write_scan
from piwsl.surface.vibrations import vibrations

# Geometries.


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.info = {"charge": 0, "multiplicity": 1}
    atoms.calc = gfn2(0, 1)
    return atoms


def frames_of(folder: Path, atoms: Atoms, **keys) -> list[Atoms]:
    write_scan(atoms, Scan.model_validate(keys), "mine", folder / "scan.xyz")
    return read_frames(folder / "scan.xyz")


def energy(atoms: Atoms) -> float:
    atoms.calc = gfn2(0, 1)
    return atoms.get_potential_energy()


def test_a_bond_is_stretched_and_all_else_stays_as_it_is_in_the_minimum(tmp_path):
    frames = frames_of(tmp_path, water(), along=[0, 1], start=0.8, stop=1.6, points=5)
    assert [atoms.info["scan_coordinate"] for atoms in frames] == pytest.approx([0.8, 1.0, 1.2, 1.4, 1.6])
    assert [atoms.get_distance(0, 1) for atoms in frames] == pytest.approx([0.8, 1.0, 1.2, 1.4, 1.6])
    assert [atoms.info["frame"] for atoms in frames] == [f"mine-{n}" for n in range(5)]
    minimum = relax(water(), 1e-3).atoms
    for atoms in frames:
        assert atoms.get_distance(0, 2) == pytest.approx(minimum.get_distance(0, 2), abs=1e-6)
        assert atoms.get_angle(1, 0, 2) == pytest.approx(minimum.get_angle(1, 0, 2), abs=1e-4)


def test_relaxed_points_hold_the_coordinate_and_lie_below_rigid_ones(tmp_path):
    keys = {"along": [1, 0, 2], "start": 80, "stop": 100, "points": 3}
    rigid = frames_of(tmp_path, water(), **keys)
    relaxed = frames_of(tmp_path, water(), **keys, relaxed=True)
    for before, after in zip(rigid, relaxed, strict=True):
        assert after.get_angle(1, 0, 2) == pytest.approx(before.info["scan_coordinate"], abs=0.01)
        assert energy(after) < energy(before)


def test_a_relaxed_scan_of_two_atoms_is_a_rigid_one(tmp_path):
    hydrogen = molecule("H2")
    hydrogen.info, hydrogen.calc = {"charge": 0, "multiplicity": 1}, gfn2(0, 1)
    keys = {"along": [0, 1], "start": 0.6, "stop": 1.2, "points": 4}
    rigid = frames_of(tmp_path, hydrogen, **keys)
    relaxed = frames_of(tmp_path, hydrogen, **keys, relaxed=True)
    assert [atoms.get_distance(0, 1) for atoms in relaxed] == pytest.approx([0.6, 0.8, 1.0, 1.2])
    assert list(map(energy, relaxed)) == pytest.approx(list(map(energy, rigid)), abs=1e-9)


def test_along_a_vibration_the_energy_rises_by_half_a_quantum_times_the_square(tmp_path):
    frequencies = vibrations(relax(water(), 1e-4).atoms).frequencies
    for mode in (1, 3):
        frames = frames_of(tmp_path, water(), mode=mode, start=-0.1, stop=0.1, points=3)
        left, middle, right = map(energy, frames)
        # Cubic terms cancel between the two sides.
        rise = (left + right) / 2 - middle
        assert rise == pytest.approx(0.5 * frequencies[mode - 1] * invcm * 0.1**2, rel=0.01)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"mode": 4, "start": -1, "stop": 1}, "scan 'mine': mode 4: the minimum has 3 vibrations"),
        ({"along": [0, 3], "start": 1, "stop": 2}, "scan 'mine': there is no atom 3"),
    ],
)
def test_what_the_molecule_does_not_have_is_said_in_one_line(tmp_path, keys, complaint):
    with pytest.raises(PiwslError, match=re.escape(complaint)):
        frames_of(tmp_path, water(), **keys)
    assert not (tmp_path / "scan.xyz").exists()


def test_a_relaxed_angle_nearly_opens_to_a_line(tmp_path):
    keys = {"along": [1, 0, 2], "start": 150, "stop": 179, "points": 3, "relaxed": True}
    frames = frames_of(tmp_path, water(), **keys)
    assert [atoms.get_angle(1, 0, 2) for atoms in frames] == pytest.approx([150.0, 164.5, 179.0], abs=0.01)


def test_a_value_that_a_molecule_cannot_have_is_said_and_nothing_is_written(tmp_path):
    keys = {"along": [1, 0, 2], "start": 160, "stop": 200, "points": 3}
    with pytest.raises(PiwslError, match=r"scan 'mine': angle 200 °: "):
        frames_of(tmp_path, water(), **keys)
    assert not (tmp_path / "scan.xyz").exists()


# Curves.


def test_a_barrier_is_the_highest_point_between_others():
    # Rises to the left of the well, as repulsion does, and higher than the barrier.
    assert ends_of(np.array([9.0, 1.0, 0.0, 2.0, 3.0, 2.5]), periodic=False) == (2, 4)
    # A dissociation has none: its end.
    assert ends_of(np.array([9.0, 1.0, 0.0, 2.0, 3.0, 3.2]), periodic=False) == (2, 5)
    # A plateau counts once.
    assert ends_of(np.array([0.0, 2.0, 2.0, 1.0]), periodic=False) == (0, 2)


def test_a_dihedral_may_have_its_barrier_at_an_end():
    assert ends_of(np.array([3.0, 1.0, 0.0, 0.5, 0.0]), periodic=True) == (2, 0)


def test_errors_of_a_curve_by_hand():
    reference = np.array([0.0, 0.1, 0.3, 0.1])
    ends = ends_of(reference, periodic=False)
    # Up by a constant of 1 eV, and by 40 meV at the top.
    found = curve_errors(reference, reference + 1.0 + np.array([0.0, 0.0, 0.04, 0.0]), ends)
    assert found["height_meV"] == pytest.approx(340.0)
    assert found["height_error_meV"] == pytest.approx(40.0)
    # -10, -10, 30 and -10 meV without their mean.
    assert found["rmse_meV"] == pytest.approx(np.sqrt(1200 / 4))
    assert found["largest_meV"] == pytest.approx(30.0)
    assert curve_errors(reference, reference - 7.0, ends)["rmse_meV"] == pytest.approx(0.0, abs=1e-9)


# In the report.


def angles(name: str, count: int) -> list[Atoms]:
    """Return bent molecules: a harmonic reference of 1 eV a rad², and a cheap level of half of that."""
    frames = []
    for degrees in np.linspace(100, 130, count):
        atoms = molecule(name)
        atoms.info = {"scan_coordinate": float(degrees)}
        atoms.info["REF_energy"] = np.radians(degrees - 110) ** 2 - 50.0
        atoms.info["gfn2-xtb_energy"] = 0.5 * np.radians(degrees - 110) ** 2
        atoms.arrays["gfn2-xtb_forces"] = np.zeros((len(atoms), 3))
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    """A report with a scan, along which models say twice the reference's energy."""
    tmp_path = tmp_path_factory.mktemp("reported")
    config = copy.deepcopy(plain_experiment())
    scan = {"along": [1, 0, 2], "start": 100, "stop": 130, "points": 4}
    config["datasets"]["ammonia"] |= {"tests": {"bend": {"scan": scan}}, "cheap_levels": ["gfn2-xtb"]}
    experiment = parse_section(Experiment, config, "config.yaml")
    weak = next(loss for loss in experiment.losses if loss != "supervised")
    files = files_of(tmp_path / "runs", experiment.runs(), {"supervised": [10.0, 20.0], weak: [5.0, 12.0]})
    frames = angles("NH3", 4)
    cheap = ["gfn2-xtb"]
    write_dataset(tmp_path / "datasets/ammonia/dataset.h5", {TRAINING: frames, TEST: frames}, cheap_levels=cheap)
    write_dataset(tmp_path / "datasets/ammonia/tests/bend.h5", {TEST: frames}, cheap_levels=cheap)
    files.datasets.append(tmp_path / "datasets/ammonia/dataset.h5")
    files.test_sets.append(tmp_path / "datasets/ammonia/tests/bend.h5")
    structures = [from_atoms(atoms) for atoms in frames]
    energies = np.array([structure.energy for structure in structures])
    said = Predictions(2 * energies, [np.zeros((4, 3))] * 4, np.full((4, 3, 3), np.nan))
    for path in files.errors:
        found = path.parent / "tests" / "bend"
        write_json(found / "errors.json", read_json(path) | {"test": "bend"})
        write_predictions(found / "predictions.parquet", [(structures, said)])
        files.tests.append(found / "errors.json")
    for_print = ForPrint(tmp_path / "figures", tmp_path / "tables")
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv", for_print)
    return tmp_path


def test_heights_of_models_and_cheap_levels_stand_beside_the_reference(reported):
    html = (reported / "report.html").read_text()
    assert "bend, angle 1-0-2. The height is the energy at 130 above that at 110 °." in html
    table = html[html.index("bend, angle 1-0-2") :]
    table = table[: table.index("</table>")]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table.split("<tr>")[2:]]
    # (20° in rad)² is 0.12185.
    assert rows[0] == ["–", "reference", "121.8", "–", "–", "–"]
    assert rows[1][1:4] == ["gfn2-xtb", "60.9", "-60.9"]
    assert rows[2][1:4] == ["supervised", "244 ± 0", "122 ± 0"]


def test_curves_are_drawn_on_the_page_and_for_print(reported):
    html = (reported / "report.html").read_text()
    assert "bend: energy along Angle 1-0-2 (°), of reference, gfn2-xtb, supervised" in html
    assert (reported / "figures/ammonia/painn/scan-bend.pdf").exists()
    svg = (reported / "figures/ammonia/painn/scan-bend.svg").read_text()
    texts = re.findall(r"<text[^>]*>(.*?)</text>", svg)
    assert {"Angle 1-0-2 (°)", "energy (meV)", "reference", "gfn2-xtb", "supervised"} <= set(texts)


def test_predictions_say_where_on_the_scan_each_is(reported):
    path = next((reported / "runs").rglob("tests/bend/predictions.parquet"))
    assert pd.read_parquet(path)["coordinate"].tolist() == pytest.approx([100.0, 110.0, 120.0, 130.0])
