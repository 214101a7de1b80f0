"""Errors of predictions, each worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from piwsl.evaluation.metrics import constant_errors, error_summary
from piwsl.evaluation.predictions import Predictions
from piwsl.structures.structure import Structure, from_atoms


def labelled(symbols: str, energy: float, forces: float | None = None) -> Structure:
    atoms = Atoms(symbols, np.arange(3.0 * len(Atoms(symbols))).reshape(-1, 3))
    atoms.info["REF_energy"] = energy
    if forces is not None:
        atoms.arrays["REF_forces"] = np.full((len(atoms), 3), forces)
    return from_atoms(atoms)


def summary(structures: list[Structure], energies: list[float]) -> dict[str, float | int | None]:
    forces = [np.zeros((len(structure.numbers), 3)) for structure in structures]
    return error_summary(structures, Predictions(np.array(energies), forces, np.full((len(energies), 3, 3), np.nan)))


def test_errors_are_means_over_frames_and_components():
    found = summary([labelled("H2", 1.0, forces=0.2), labelled("H2O", 2.0)], [1.003, 1.998])
    assert found["energy_mae_meV"] == pytest.approx(2.5)
    assert found["energy_rmse_meV"] == pytest.approx(np.sqrt((9 + 4) / 2))
    assert found["energy_mae_meV_per_atom"] == pytest.approx((3 / 2 + 2 / 3) / 2)
    assert found["energy_rmse_meV_per_atom"] == pytest.approx(np.sqrt(((3 / 2) ** 2 + (2 / 3) ** 2) / 2))
    assert found["force_mae_meV_per_A"] == pytest.approx(200.0)
    assert (found["test_frames"], found["test_force_frames"]) == (2, 1)


def test_the_constant_part_is_what_all_frames_of_a_composition_share():
    # Hydrogen: errors of 30 and 34 meV; water: -10, -10, -40; ammonia, once: 500, which may or may not be constant.
    structures = [labelled(symbols, 0.0) for symbols in ("H2", "H2O", "H2", "OH2", "NH3", "HOH")]
    found = summary(structures, [0.030, -0.010, 0.034, -0.010, 0.500, -0.040])
    assert found["energy_constant_meV"] == pytest.approx((2 * 32 + 3 * 20) / 5)
    assert found["energy_mae_without_constant_meV"] == pytest.approx((2 + 2 + 10 + 10 + 20) / 5)
    assert found["energy_rmse_without_constant_meV"] == pytest.approx(np.sqrt((4 + 4 + 100 + 100 + 400) / 5))


def test_a_composition_of_one_frame_has_no_constant_part_that_anybody_knows():
    structures = [labelled("H2", 0.0), labelled("H2O", 0.0)]
    assert np.isnan(constant_errors(np.array([0, 1]), np.array([1.0, 2.0]))).all()
    found = summary(structures, [0.1, 0.2])
    assert (found["energy_constant_meV"], found["energy_mae_without_constant_meV"]) == (None, None)
