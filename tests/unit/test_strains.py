"""Stresses that are not the derivative of the energies by strain are asked about: signs, units, virials."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.lj import LennardJones

from piwsl.config import GivenDataset
from piwsl.data.assemble import import_given
from piwsl.data.dataset import TEST, TRAINING, Dataset
from piwsl.data.plausibility import warnings
from piwsl.structures.frames import FORCES_KEY, STRESS_KEY, label, write_frames


def argon(random: np.random.Generator, strain: float = 0.02, displacement: float = 0.1) -> Atoms:
    """Four atoms with the labels of Lennard-Jones, in a cell of their own unless the strain is zero."""
    atoms = bulk("Ar", "fcc", a=5.26 * (1 + 2 * strain * random.uniform(-1, 1)), cubic=True)
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain * random.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += displacement * random.normal(size=(4, 3))
    atoms.wrap()  # as programs write frames: neighbours in a trajectory may be apart by a lattice vector
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=6.0, smooth=True)
    return label(atoms, atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False))


def frames_of(strain: float = 0.02, displacement: float = 0.1) -> list[Atoms]:
    random = np.random.default_rng(0)
    return [argon(random, strain, displacement) for _ in range(24)]


def asked(frames: list[Atoms], stress_unit: str = "eV/Å³") -> list[str]:
    found = warnings({TRAINING: frames[:16], TEST: frames[16:]}, stress_unit=stress_unit)
    return [each for each in found if each.startswith("stress")]


def changed(frames: list[Atoms], change) -> list[Atoms]:
    """Return frames with what a file says in place of their stress."""
    for atoms in frames:
        atoms.info[STRESS_KEY] = change(atoms.info[STRESS_KEY], atoms.get_volume())
    return frames


KBAR = 0.1 * units.GPa
MISTAKES = {
    "a pressure, positive under pressure": (lambda stress, volume: -stress, "eV/Å³", "in eV/Å³, of the opposite sign"),
    "what VASP prints": (lambda stress, volume: -stress, "kbar", "in kbar, of the opposite sign"),
    "GPa": (lambda stress, volume: stress / units.GPa, "eV/Å³", "in GPa"),
    "kbar for GPa": (lambda stress, volume: stress / KBAR * units.GPa, "GPa", "in kbar"),
    "a virial": (lambda stress, volume: -stress * volume, "eV/Å³", "a virial in eV, not divided by the volume"),
}


@pytest.mark.parametrize("displacement", [0.1, 0.0], ids=["at any places", "strained alone"])
def test_a_stress_that_is_the_derivative_of_the_energy_by_strain_is_not_asked_about(displacement):
    assert asked(frames_of(displacement=displacement)) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_stress_of_another_sign_or_unit_and_a_virial_are_asked_about(mistake):
    change, unit, said = MISTAKES[mistake]
    (question,) = asked(changed(frames_of(), change), unit)
    assert said in question.partition("is it ")[2].rstrip("?").split(" or ")


def test_energies_of_strained_cells_tell_without_forces():
    frames = changed(frames_of(displacement=0.0), lambda stress, volume: -stress)
    for atoms in frames:
        del atoms.arrays[FORCES_KEY]
    (question,) = asked(frames)
    assert "of the opposite sign" in question


def test_in_one_cell_only_the_size_tells():
    assert asked(frames_of(strain=0.0)) == []
    assert asked(changed(frames_of(strain=0.0), lambda stress, volume: -stress)) == []
    (question,) = asked(changed(frames_of(strain=0.0), lambda stress, volume: 1e4 * stress))
    assert "is it in another unit, or a virial" in question


def test_the_import_asks_in_the_unit_that_the_config_says(tmp_path):
    frames = frames_of()
    for atoms in frames:
        atoms.info = {"REF_energy": atoms.info["REF_energy"], "stress_kB": -atoms.info[STRESS_KEY] / KBAR}
    write_frames(tmp_path / "vasp.xyz", frames)
    names = {"stress_key": "stress_kB", "stress_unit": "kbar"}
    import_given(GivenDataset(file=tmp_path / "vasp.xyz", test_frames=6, **names), tmp_path / "given.h5")
    with Dataset(tmp_path / "given.h5") as dataset:
        (found,) = [each.said for each in dataset.findings() if each.said.startswith("stress")]
    assert "in kbar, of the opposite sign" in found
