"""Physical consistency: fields whose residuals are known by hand, potentials that are and are not physical."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import CONSERVATIVE, SMALL, displaced
from scipy.spatial.transform import Rotation

from piwsl.architectures.painn import PaiNN
from piwsl.evaluation.consistency import (
    CORNER,
    DIRECTIONS,
    consistency,
    force_minus_slope,
    loop_work,
    rotation_residuals,
    translation_residuals,
)
from piwsl.models import save_model
from piwsl.models.potential import Potential
from piwsl.models.predictor import Predictor
from piwsl.models.terms import Prediction
from piwsl.structures.structure import Structure, from_atoms


class Field(Predictor):
    """Energy and forces as functions of positions, which are relative to their mean."""

    def __init__(self, energy: Callable, forces: Callable) -> None:
        super().__init__()
        self.config, self.dtype, self.conservative = CONSERVATIVE["painn"], torch.float64, False
        self.energy_of, self.forces_of = energy, forces

    device, has_pair_potential = torch.device("cpu"), False

    def in_dtype(self, dtype):
        return self

    def elements(self):
        return ["H", "C", "N", "O"]

    def predict(self, batch, properties=("energy", "forces"), create_graph=False):
        per_atom = self.energy_of(batch.positions)
        energy = torch.zeros(batch.structures, dtype=torch.float64).index_add(0, batch.structure_index, per_atom)
        return Prediction(energy, per_atom, self.forces_of(batch.positions), None)


def spring(r):
    return 0.5 * r.square().sum(dim=1)


def whirl(r):
    return torch.stack([-r[:, 1], r[:, 0], torch.zeros_like(r[:, 0])], dim=1)


HYDROGEN = from_atoms(Atoms("H2", [[0.0, 0.0, 0.0], [0.0, 0.3, 0.74]]))


def centred(positions: np.ndarray) -> np.ndarray:
    return positions - positions.mean(axis=-2, keepdims=True)


def test_forces_that_are_twice_the_slope_miss_it_by_the_slope():
    found = force_minus_slope(Field(spring, lambda r: -2.0 * r), HYDROGEN, np.random.default_rng(3))
    directions = np.random.default_rng(3).normal(size=(DIRECTIONS, 2, 3))
    directions /= np.linalg.norm(directions, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found, -np.einsum("dni,ni->d", directions, centred(HYDROGEN.positions)), atol=1e-9)


def test_forces_that_are_the_slope_do_not_miss_it():
    found = force_minus_slope(Field(spring, lambda r: -r), HYDROGEN, np.random.default_rng(3))
    np.testing.assert_allclose(found, 0.0, atol=1e-9)


def test_the_work_of_a_whirl_is_twice_the_area_that_atoms_go_around():
    found = loop_work(Field(spring, whirl), HYDROGEN, np.random.default_rng(3))
    displaced_ = HYDROGEN.positions + CORNER * np.random.default_rng(3).normal(size=(2, 2, 3))
    a, b, c = centred(np.stack([HYDROGEN.positions, *displaced_]))
    areas = 0.5 * np.cross((b - a)[:, :2], (c - a)[:, :2])
    assert found == pytest.approx(2.0 * areas.sum())
    assert abs(found) > 1e-6


def test_a_field_that_is_fixed_in_space_is_seen_when_the_molecule_turns():
    field = Field(lambda r: r[:, 2].square(), lambda r: torch.ones_like(r))
    energy, forces = rotation_residuals(field, HYDROGEN, np.random.default_rng(3))
    matrix = Rotation.random(rng=np.random.default_rng(3)).as_matrix()
    before = centred(HYDROGEN.positions)
    after = before @ matrix.T
    assert energy == pytest.approx([np.square(after[:, 2]).sum() - np.square(before[:, 2]).sum()])
    np.testing.assert_allclose(forces, np.ones((2, 3)) @ matrix - 1.0)


@pytest.mark.parametrize("architecture", CONSERVATIVE)
@pytest.mark.parametrize("molecule", ["H2O", "H"])
def test_a_conservative_potential_is_physical(tmp_path, architecture, molecule):
    found = measured(tmp_path, CONSERVATIVE[architecture], molecule)
    assert found.pop("consistency_frames") == 3
    assert max(found.values()) < 0.01


def test_forces_of_a_head_of_their_own_are_no_slope_but_turn_with_the_molecule(tmp_path):
    found = measured(tmp_path, PaiNN(architecture="painn", forces="direct", **SMALL), "H2O")
    assert found["consistency_force_minus_slope_meV_per_A"] > 1.0
    assert found["consistency_loop_work_meV"] > 0.01
    assert found["consistency_rotation_force_meV_per_A"] < 1e-6


def test_a_model_in_float32_is_measured_without_its_rounding(tmp_path):
    single = PaiNN(architecture="painn", **(SMALL | {"dtype": "float32"}))
    assert measured(tmp_path, single, "H2O")["consistency_force_minus_slope_meV_per_A"] < 0.01


def test_a_periodic_frame_is_turned_with_its_cell():
    torch.manual_seed(0)
    potential = Potential(CONSERVATIVE["painn"], 1.0, {1: -13.0}, neighbours=2.0).eval()
    crystal = from_atoms(
        Atoms("H2", [[0, 0, 0], [0.1, 1.0, 1.1]], cell=[[2.5, 0, 0], [0.3, 2.6, 0], [0, 0.2, 2.7]], pbc=True)
    )
    for residuals in (rotation_residuals, translation_residuals):
        energy, forces = residuals(potential, crystal, np.random.default_rng(0))
        np.testing.assert_allclose(energy, 0.0, atol=1e-9)
        np.testing.assert_allclose(forces, 0.0, atol=1e-9)


def measured(folder, config, molecule: str) -> dict[str, float]:
    torch.manual_seed(0)
    save_model(folder / "m.safetensors", Potential(config, 1.0, {1: -13.0, 8: -2041.0}, neighbours=2.0), {})
    return consistency(folder / "m.safetensors", frames(molecule))


def frames(molecule: str) -> list[Structure]:
    rng = np.random.default_rng(0)
    return [from_atoms(displaced(molecule, 0.05, rng)) for _ in range(5)]
