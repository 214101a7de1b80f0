"""Sampling: independent trajectories, the same again from the same seed, longer ones beginning with shorter ones."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from ase.optimize import BFGS

from piwsl.config import Molecule, Sampling
from piwsl.errors import PiwslError
from piwsl.reference import sampling
from piwsl.reference.geometries import load_molecule
from piwsl.reference.sampling import normal_mode_frames, normal_modes, trajectory

AMMONIA = Molecule(name="NH3")
SAMPLING = Sampling(temperatures=[300.0], stride=20, equilibration=50)


def positions(temperature: float, part: str, frames: int) -> np.ndarray:
    return np.array([atoms.positions for atoms in trajectory(AMMONIA, SAMPLING, temperature, part, frames)])


def test_more_frames_begin_with_the_fewer():
    few, many = positions(300, "training", 2), positions(300, "training", 4)
    np.testing.assert_array_equal(few, many[:2])


def test_parts_and_temperatures_have_trajectories_of_their_own():
    of_parts = [positions(300, part, 2) for part in ("training", "test", "pool")]
    for one, other in combinations([*of_parts, positions(600, "training", 2)], 2):
        assert np.abs(one - other).max() > 1e-3


def test_frames_carry_what_labelling_needs():
    (frame,) = trajectory(Molecule(name="NH2", multiplicity=2), SAMPLING, 300, "test", 1)
    assert frame.info["multiplicity"] == 2
    assert frame.info["frame"] == "test-300K-0"
    assert frame.info["temperature"] == 300
    np.testing.assert_array_equal(frame.positions, np.round(frame.positions, 8))


def test_dynamics_have_the_temperature_that_was_asked_for():
    # Equipartition: the three stiff vibrations of water hold 3 kT/2 = 0.0517 eV of potential energy at 400 K.
    from tblite.ase import TBLite

    def potential_energies(temperature: float, frames: int) -> np.ndarray:
        sampling = Sampling(temperatures=[temperature], stride=40, equilibration=400, friction=0.05)
        energies = []
        for atoms in trajectory(Molecule(name="H2O"), sampling, temperature, "test", frames):
            atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
            energies.append(atoms.get_potential_energy())
        return np.array(energies)

    minimum, warm = potential_energies(0.1, 1).min(), potential_energies(400.0, 150)
    assert warm.mean() - minimum == pytest.approx(0.0517, rel=0.35)


def test_an_unknown_molecule_is_refused():
    with pytest.raises(PiwslError, match="not in ASE's G2 collection"):
        load_molecule(Molecule(name="unobtainium"))


def test_dynamics_that_explode_say_so_in_one_line():
    hot = Sampling(temperatures=[1.0], timestep=20.0, stride=50, equilibration=0)
    with pytest.raises(PiwslError, match=r"dynamics of training frames at 90000 K failed after \d+ frames"):
        trajectory(AMMONIA, hot, 90000, "training", 20)


def test_normal_modes_have_the_frequencies_of_water():
    from ase import units
    from tblite.ase import TBLite

    atoms = load_molecule(Molecule(name="H2O"))
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=1e-4)
    modes, stiffness = normal_modes(atoms)
    wavenumbers = np.sqrt(stiffness) * units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm
    # Harmonic GFN2-xTB; experiment has 1595, 3657, 3756 1/cm.
    np.testing.assert_allclose(np.sort(wavenumbers), [1595, 3657, 3756], rtol=0.08)
    # In mass-weighted coordinates the modes are orthonormal, and none moves the centre of mass.
    weighted = (modes * np.sqrt(atoms.get_masses())[:, None]).reshape(3, -1)
    np.testing.assert_allclose(weighted @ weighted.T, np.eye(3), atol=1e-10)
    np.testing.assert_allclose(np.tensordot(atoms.get_masses(), modes, axes=(0, 1)), 0.0, atol=1e-10)


def test_normal_mode_frames_have_the_potential_energy_of_their_temperature():
    # Equipartition on the harmonic surface: three vibrations of kT/2 at 100 K, where water is nearly harmonic.
    from ase import units
    from tblite.ase import TBLite

    frames = normal_mode_frames(Molecule(name="H2O"), Sampling(normal_modes=[100.0]), 100.0, "training", 300)
    energies = []
    for frame in frames:
        frame.calc = TBLite(method="GFN2-xTB", verbosity=0)
        energies.append(frame.get_potential_energy())
    minimum = load_molecule(Molecule(name="H2O"))
    minimum.calc = TBLite(method="GFN2-xTB", verbosity=0)
    BFGS(minimum, logfile=None).run(fmax=1e-4)
    mean = np.mean(energies) - minimum.get_potential_energy()
    # The mean of 300 draws of a sum of three squares is good within 5 %.
    assert mean == pytest.approx(1.5 * units.kB * 100, rel=0.2)


def test_normal_mode_frames_nest_and_are_independent_of_those_of_other_parts():
    sampling = Sampling(normal_modes=[300.0])

    def frames(part: str, count: int) -> np.ndarray:
        return np.array([atoms.positions for atoms in normal_mode_frames(AMMONIA, sampling, 300.0, part, count)])

    few, many = frames("training", 2), frames("training", 4)
    np.testing.assert_array_equal(few, many[:2])
    for one, other in combinations([few, frames("test", 2), frames("pool", 2)], 2):
        assert np.abs(one - other).max() > 1e-3


def test_normal_mode_frames_do_not_depend_on_the_signs_and_mixtures_of_modes_that_a_library_chooses(monkeypatch):
    # Methane's modes come in pairs and triples of one frequency, each of any sign and in any mixture.
    def frames() -> np.ndarray:
        methane, options = Molecule(name="CH4"), Sampling(normal_modes=[300.0])
        return np.array([atoms.positions for atoms in normal_mode_frames(methane, options, 300.0, "training", 2)])

    def otherwise(atoms):
        modes, stiffness = normal_modes(atoms)
        other = -modes
        together = np.isclose(stiffness[:-1], stiffness[1:], rtol=1e-3)
        assert together.any()
        for first in np.flatnonzero(together):
            other[[first, first + 1]] = (other[first] + other[first + 1], other[first] - other[first + 1])
            other[[first, first + 1]] /= np.sqrt(2)
        return other, stiffness

    expected = frames()
    monkeypatch.setattr(sampling, "normal_modes", otherwise)
    np.testing.assert_allclose(frames(), expected, atol=1e-4)
