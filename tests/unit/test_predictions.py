"""The table of predictions: a row a frame, what is unknown null, units beside the columns."""

from __future__ import annotations

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase import Atoms

from piwsl.data.assemble import assemble
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_dataset
from piwsl.errors import PiwslError
from piwsl.evaluation.predictions import Predictions, read_predictions, write_predictions
from piwsl.structures.frames import write_frames
from piwsl.structures.structure import Structure, from_atoms


def frame(
    symbols: str,
    energy: float,
    forces: list[list[float]] | None = None,
    direction: list[list[float]] | None = None,
    **info: float,
) -> Structure:
    atoms = Atoms(symbols, 2.0 * np.arange(3.0 * len(Atoms(symbols))).reshape(-1, 3), info=info)
    if direction is not None:
        atoms.arrays["REF_direction"] = np.array(direction)
    atoms.info["REF_energy"] = energy
    if forces is not None:
        atoms.arrays["REF_forces"] = np.array(forces)
    return from_atoms(atoms)


STRUCTURES = [
    frame("H", 1.0, temperature=300),
    frame("CO", 2.0, [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]], scan_coordinate=1.1),
]
FORCES = [np.zeros((1, 3)), np.arange(6.0).reshape(2, 3)]
# Of norm 1; the slope of the energy along it is -(0.6 * 1 - 0.8 * 5) = 3.4 by FORCES.
SLOPE = {"REF_slope": 3.0, "direction": [[0.0, 0.6, 0.0], [0.0, 0.0, -0.8]]}


def predicted(**spread: object) -> Predictions:
    return Predictions(np.array([1.5, 1.9]), FORCES, np.full((2, 3, 3), np.nan), **spread)


def test_a_row_a_frame_says_what_is_known_and_nothing_of_the_rest(tmp_path):
    write_predictions(tmp_path / "p.parquet", [(STRUCTURES, predicted())])
    assert pq.read_table(tmp_path / "p.parquet").to_pylist() == [
        {"frame": 0, "formula": "H", "n_atoms": 1, "atomic_numbers": [1], "temperature_K": 300.0, "coordinate": None,
         "energy_label": 1.0, "energy_predicted": 1.5, "energy_std": None, "forces_label": None,
         "forces_predicted": [0.0, 0.0, 0.0], "forces_std": None, "slope_label": None, "slope_predicted": None},
        {"frame": 1, "formula": "CO", "n_atoms": 2, "atomic_numbers": [6, 8], "temperature_K": None, "coordinate": 1.1,
         "energy_label": 2.0, "energy_predicted": 1.9, "energy_std": None,
         "forces_label": [0.1, 0.2, 0.3, -0.1, -0.2, -0.3], "forces_predicted": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
         "forces_std": None, "slope_label": None, "slope_predicted": None},
    ]  # fmt: skip


def test_the_slope_along_a_direction_is_minus_the_force_along_it(tmp_path):
    write_predictions(tmp_path / "p.parquet", [([STRUCTURES[0], frame("CO", 2.0, **SLOPE)], predicted())])
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [row["slope_label"] for row in rows] == [None, 3.0]
    assert [row["slope_predicted"] for row in rows] == [None, pytest.approx(3.4)]
    slope = read_predictions(tmp_path / "p.parquet")["slope"]
    np.testing.assert_allclose([slope.label, slope.predicted], [[3.0], [3.4]])


def test_a_table_of_an_earlier_version_has_no_slopes(tmp_path):
    write_predictions(tmp_path / "p.parquet", [(STRUCTURES, predicted())])
    table = pq.read_table(tmp_path / "p.parquet")
    pq.write_table(table.drop_columns(["slope_label", "slope_predicted"]), tmp_path / "p.parquet")
    found = read_predictions(tmp_path / "p.parquet")
    assert (len(found["energy"]), len(found["force"]), len(found["slope"])) == (2, 6, 0)


def test_columns_say_their_units(tmp_path):
    write_predictions(tmp_path / "p.parquet", [(STRUCTURES, predicted())])
    units = {field.name: (field.metadata or {}).get(b"unit") for field in pq.read_schema(tmp_path / "p.parquet")}
    assert units["energy_predicted"] == b"eV"
    assert units["forces_std"].decode() == "eV/Å"
    assert units["temperature_K"] == b"K"


def test_what_is_read_are_all_energies_and_the_labelled_forces(tmp_path):
    spread = {"energy_std": np.array([0.1, 0.2]), "forces_std": [np.full((1, 3), 9.0), np.full((2, 3), 0.5)]}
    write_predictions(tmp_path / "p.parquet", [(STRUCTURES, predicted(**spread))])
    found = read_predictions(tmp_path / "p.parquet")
    np.testing.assert_array_equal(found["energy"].label, [1.0, 2.0])
    np.testing.assert_array_equal(found["energy"].std, [0.1, 0.2])
    np.testing.assert_array_equal(found["force"].label, [0.1, 0.2, 0.3, -0.1, -0.2, -0.3])
    np.testing.assert_array_equal(found["force"].predicted, np.arange(6.0))
    np.testing.assert_array_equal(found["force"].std, np.full(6, 0.5))


def test_without_labelled_forces_none_are_read(tmp_path):
    write_predictions(
        tmp_path / "p.parquet", [(STRUCTURES[:1], Predictions(np.ones(1), FORCES[:1], np.ones((1, 3, 3))))]
    )
    found = read_predictions(tmp_path / "p.parquet")
    assert (len(found["energy"]), len(found["force"])) == (1, 0)
    assert found["energy"].std is None


def test_what_is_no_such_table_is_refused_in_one_line(tmp_path):
    (tmp_path / "p.parquet").write_text("energy_label")
    with pytest.raises(PiwslError, match=r"p\.parquet: is no file of predictions .*; delete it"):
        read_predictions(tmp_path / "p.parquet")


def test_a_dataset_keeps_the_temperature_that_a_frame_was_sampled_at(tmp_path):
    hot, unknown = (hydrogen(temperature) for temperature in (500.0, None))
    write_dataset(tmp_path / "d.h5", {TRAINING: [unknown], TEST: [hot, unknown]})
    with Dataset(tmp_path / "d.h5") as dataset:
        found = [structure.temperature for structure in dataset.structures(dataset.indices(TEST))]
    assert found[0] == 500.0
    assert math.isnan(found[1])


def test_labelled_batches_keep_it_on_their_way_into_a_dataset(tmp_path):
    for part in (TRAINING, TEST):
        write_frames(tmp_path / f"{part}.xyz", [hydrogen(300.0), hydrogen(600.0)])
    assemble([tmp_path / f"{TRAINING}.xyz"], [tmp_path / f"{TEST}.xyz"], [], tmp_path / "d.h5")
    with Dataset(tmp_path / "d.h5") as dataset:
        assert [s.temperature for s in dataset.structures(dataset.indices(TEST))] == [300.0, 600.0]


def test_a_dataset_without_temperatures_has_no_such_column(tmp_path):
    write_dataset(tmp_path / "d.h5", {TRAINING: [hydrogen(None)], TEST: [hydrogen(None)]})
    with Dataset(tmp_path / "d.h5") as dataset:
        assert math.isnan(dataset.structure(1).temperature)


def hydrogen(temperature: float | None) -> Atoms:
    info = {"REF_energy": 1.0} | ({} if temperature is None else {"temperature": temperature})
    return Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], info=info)
