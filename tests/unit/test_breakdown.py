"""Where errors lie, each worked out by hand: elements, temperatures, angles, the worst frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms

from piwsl.evaluation.breakdown import angles, breakdown, worst_frames
from piwsl.evaluation.predictions import Predictions
from piwsl.structures.frames import read_frames, write_frames
from piwsl.structures.structure import Structure, from_atoms

CO = [[0.1, 0.0, 0.0], [-0.1, 0.0, 0.0]]


def frame(symbols: str, energy: float, forces: list[list[float]] | None = None, **info: float) -> Structure:
    atoms = Atoms(symbols, 2.0 * np.arange(3.0 * len(Atoms(symbols))).reshape(-1, 3), info=info)
    atoms.info["REF_energy"] = energy
    if forces is not None:
        atoms.arrays["REF_forces"] = np.array(forces)
    return from_atoms(atoms)


def predicted(energies: list[float], forces: list[list[list[float]]]) -> Predictions:
    arrays = [np.array(each, dtype=float) for each in forces]
    return Predictions(np.array(energies), arrays, np.full((len(arrays), 3, 3), np.nan))


def test_force_errors_are_told_apart_by_element():
    structures = [frame("CO", 0.0, CO), frame("H", 0.0)]  # of hydrogen nothing is labelled
    found = breakdown(structures, predicted([0, 0], [[[0.4, 0.0, 0.0], [-0.1, 0.06, 0.0]], [[9, 9, 9]]]))
    assert found["force_mae_by_element_C_meV_per_A"] == pytest.approx(100)  # 300, 0, 0
    assert found["force_rmse_by_element_C_meV_per_A"] == pytest.approx(300 / math.sqrt(3))
    assert found["force_mae_by_element_O_meV_per_A"] == pytest.approx(20)  # 0, 60, 0
    assert not any("_H_" in name for name in found)


def test_errors_are_told_apart_by_temperature():
    structures = [
        frame("CO", 1.0, CO, temperature=300), frame("CO", 1.0, temperature=300.0),
        frame("CO", 1.0, temperature=298.15), frame("CO", 1.0, CO),
    ]  # fmt: skip
    found = breakdown(structures, predicted([1.001, 0.997, 1.01, 9.0], [np.add(CO, 0.05), CO, CO, CO]))
    temperatures = {name: value for name, value in found.items() if "temperature" in name}
    assert temperatures == pytest.approx({
        "energy_mae_by_temperature_300K_meV": 2.0,
        "force_mae_by_temperature_300K_meV_per_A": 50.0,
        "energy_mae_by_temperature_298.15K_meV": 10.0,
    })  # fmt: skip


@pytest.mark.parametrize("frames", [1, 6, 12, 20])
def test_temperatures_that_differ_from_frame_to_frame_are_no_ensembles(frames):
    structures = [frame("CO", 0.0, temperature=300.0 + index) for index in range(frames)]
    assert breakdown(structures, predicted([0.0] * frames, [CO] * frames)) == {}


@pytest.mark.parametrize(
    ("label", "prediction", "angle"),
    [
        ([1, 0, 0], [3, 0, 0], 0.0),
        ([1, 0, 0], [2, 2, 0], 45.0),
        ([1, 0, 0], [0, 0, 0.01], 90.0),
        ([1, 0, 0], [-5, 0, 0], 180.0),
        ([1, 0, 0], [0, 0, 0], 90.0),
        ([0, 0, 0.0009], [1, 0, 0], None),
    ],
)
def test_the_angle_between_forces(label, prediction, angle):
    found = angles(np.array([label], dtype=float), np.array([prediction], dtype=float))
    assert found.tolist() == ([] if angle is None else [pytest.approx(angle)])


def test_angles_are_averaged_over_atoms_that_have_a_direction():
    structure = frame("CHFO", 0.0, [*np.eye(3).tolist(), [0, 0, 0]])
    prediction = [[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert breakdown([structure], predicted([0.0], [prediction]))["force_angle_deg"] == pytest.approx(45)


def test_small_angles_keep_their_digits():
    found = angles(np.array([[1.0, 0.0, 0.0]]), np.array([[1.0, 1e-9, 0.0]]))
    assert found[0] == pytest.approx(math.degrees(1e-9), rel=1e-6)


def test_the_worst_frames_are_kept_with_labels_and_predictions(tmp_path):
    # Energy errors an atom: 1, 30, 20, 2 meV; force errors are labelled in frames 0 and 1 alone.
    structures = [frame("CO", 1.0, CO), frame("CO", 1.0, CO), frame("H", 1.0, temperature=500.0), frame("CO", 1.0)]
    predictions = predicted([1.002, 0.94, 1.02, 1.004], [np.add(CO, 0.1), np.add(CO, 0.2), [[0, 0, 0]], CO])
    write_frames(tmp_path / "worst.xyz", worst_frames(structures, predictions, count=2))
    first, second, third = read_frames(tmp_path / "worst.xyz")
    assert [atoms.info["frame"] for atoms in (first, second, third)] == [1, 2, 0]
    assert [atoms.info["worst_in"] for atoms in (first, second, third)] == ["energy and forces", "energy", "forces"]
    assert first.info["energy_error_meV"] == pytest.approx(-60)
    assert first.info["force_rmse_meV_per_A"] == pytest.approx(200)
    assert (first.info["REF_energy"], first.info["energy"]) == (1.0, 0.94)
    np.testing.assert_allclose(first.arrays["REF_forces"], CO)
    np.testing.assert_allclose(first.arrays["forces"], np.add(CO, 0.2), atol=1e-7)
    assert second.info["temperature"] == 500.0
    assert "REF_forces" not in second.arrays
    assert "force_rmse_meV_per_A" not in second.info


def test_of_one_frame_there_is_one_worst():
    (only,) = worst_frames([frame("H", 1.0, [[0, 0, 0]])], predicted([1.0], [[[0, 0, 0]]]))
    assert only.info["worst_in"] == "energy and forces"
