"""Molecular dynamics: the temperature is kept, the energy is conserved by the model's forces, a broken bond is seen."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.constraints import FixAtoms, MirrorForce
from ase.md.verlet import VelocityVerlet

from piwsl.architectures.painn import PaiNN
from piwsl.config import Simulation
from piwsl.data.batch import neighbour_list
from piwsl.errors import PiwslError
from piwsl.interfaces import PotentialCalculator
from piwsl.models.potential import Potential
from piwsl.simulation.dynamics import _drift, bond_lengths, bonds, run_dynamics
from piwsl.simulation.trajectory import Trajectory
from piwsl.structures.frames import read_frames, write_frames
from piwsl.structures.structure import from_atoms


def bound_water(depth: float = 4.0) -> Atoms:
    atoms = molecule("H2O")
    atoms.calc = MorsePotential(epsilon=depth, r0=0.97, rho0=2.0, rcut1=8.0, rcut2=9.0)
    return atoms


def quiet(line: str) -> None:
    """Take progress and say nothing."""


def test_one_atom_alone_is_not_simulated():
    with pytest.raises(PiwslError, match="one atom alone does not move"):
        run_dynamics(Atoms("H"), Simulation(time=0.01), quiet)


def test_bonds_are_found_once_each():
    assert bonds(molecule("H2O")).tolist() == [[0, 1], [0, 2]]
    assert len(bonds(molecule("CH3OH"))) == 5
    np.testing.assert_allclose(bond_lengths(molecule("H2O"), bonds(molecule("H2O"))), 0.969, atol=1e-3)


def test_bonds_cross_periodic_boundaries():
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    pairs = bonds(atoms)
    assert len(pairs) == 16
    np.testing.assert_allclose(bond_lengths(atoms, pairs), 5.43 * np.sqrt(3) / 4, atol=1e-8)


def test_a_bound_molecule_is_stable_at_the_temperature_asked_for():
    settings = Simulation(temperature=300, time=4.0, friction=0.05, bond_tolerance=1.0)
    frames, summary = run_dynamics(bound_water(), settings, quiet)
    assert summary["ended"] == "completed"
    assert summary["stable_ps"] == pytest.approx(4.0)
    assert summary["mean_temperature_K"] == pytest.approx(300, rel=0.15)
    assert len(frames) == 101
    assert frames[-1].info["time_fs"] == pytest.approx(4000)


def test_a_breaking_bond_ends_the_stable_time():
    frames, summary = run_dynamics(bound_water(depth=0.001), Simulation(temperature=2000, time=2.0), quiet)
    assert summary["ended"] == "a bond changed by more than 0.5 Å"
    assert 0 < summary["stable_ps"] < 2.0
    assert summary["largest_bond_change_A"] > 0.5
    assert frames[-1].info["time_fs"] == pytest.approx(1000 * summary["stable_ps"] + 0.5)


def test_the_start_is_left_as_it_was():
    start = bound_water()
    before = start.positions.copy()
    run_dynamics(start, Simulation(time=0.01), quiet)
    np.testing.assert_array_equal(start.positions, before)
    assert not start.constraints


def test_the_same_seed_gives_the_same_trajectory():
    settings = Simulation(time=0.02)
    ends = [run_dynamics(bound_water(), settings, quiet)[0][-1].positions for _ in range(2)]
    np.testing.assert_array_equal(*ends)


def test_the_forces_of_a_model_conserve_energy():
    import torch

    torch.manual_seed(0)
    config = PaiNN(architecture="painn", features=16, layers=2, cutoff=4.0, dtype="float64")
    atoms = molecule("NH3")
    # As if it had many neighbours, which makes an untrained surface smooth enough for dynamics.
    atoms.calc = PotentialCalculator(Potential(config, 5.0, {1: 0.0, 7: 0.0}, neighbours=300.0))
    rng = np.random.default_rng(0)
    atoms.set_velocities(rng.normal(size=(4, 3)) * np.sqrt(units.kB * 300 / atoms.get_masses()[:, None]))

    def drift(timestep: float) -> float:
        copy = atoms.copy()
        copy.calc = atoms.calc
        start = copy.get_total_energy()
        VelocityVerlet(copy, timestep=timestep * units.fs).run(round(40 / timestep))
        return abs(copy.get_total_energy() - start)

    # Velocity Verlet errs with the square of the timestep; forces that are no gradient would leave a drift.
    assert drift(0.25) < 1e-3
    assert drift(0.25) < drift(1.0) / 8


def test_a_trajectory_can_be_read_while_it_grows_and_stays_what_it_was_when_the_machine_stops(tmp_path):
    path, seen = tmp_path / "new" / "trajectory.xyz", []
    file = Trajectory(path)

    class Killed(BaseException):
        """The end of the process."""

    def keep(frame: Atoms) -> None:
        file.add(frame)
        seen.append(len(read_frames(path)))
        if len(seen) == 4:
            raise Killed

    with pytest.raises(Killed):
        run_dynamics(bound_water(), Simulation(time=0.02), quiet, keep)
    assert seen == [1, 2, 3, 4]
    assert [frame.info["time_fs"] for frame in read_frames(path)] == [0.0, 0.5, 1.0, 1.5]


def test_an_older_trajectory_goes_with_the_first_frame_of_the_new_one(tmp_path):
    path = tmp_path / "trajectory.xyz"
    path.write_text("older")
    file = Trajectory(path)
    assert path.read_text() == "older"
    file.add(molecule("H2O"))
    assert len(read_frames(path)) == 1


def test_a_molecule_that_flies_apart_ends_the_simulation_and_not_the_program(tmp_path):
    class Explosion(MorsePotential):
        """Forces that send the atoms away in one step, into the model's neighbour list."""

        def calculate(self, atoms=None, properties=None, system_changes=()):
            neighbour_list(from_atoms(atoms), 5.0)
            self.results = {"energy": 0.0, "forces": 1e12 * (atoms.positions - atoms.positions.mean(axis=0))}

    atoms = molecule("H2O")
    atoms.calc = Explosion()
    frames, summary = run_dynamics(atoms, Simulation(time=0.1), quiet)
    assert summary["ended"].startswith("the atoms flew apart: positions are not finite, or farther than")
    assert summary["stable_ps"] == 0
    assert summary["mean_temperature_K"] is None
    assert len(frames) == 1


def test_at_constant_energy_the_total_energy_stays():
    frames, summary = run_dynamics(bound_water(), Simulation(ensemble="nve", time=0.5, timestep=0.1), quiet)
    energies = np.array([frame.info["total_energy"] for frame in frames])
    assert np.ptp(energies) < 2.5e-3
    assert abs(summary["drift_meV_per_atom_per_ps"]) < 1.0
    assert np.ptp([frame.info["temperature"] for frame in frames]) > 10


def test_a_drift_is_the_slope_of_the_total_energy_an_atom():
    frames = [Atoms("H2", info={"time_fs": 500.0 * n, "total_energy": 0.002 * n}) for n in range(4)]
    assert _drift(frames, 1500.0) == pytest.approx(2.0)
    assert _drift(frames, 0.0) is None
    frames[-1].info["total_energy"] = 1e9  # of the step that failed
    assert _drift(frames, 1000.0) == pytest.approx(2.0)


def test_dynamics_of_constant_energy_that_goes_on_is_that_which_was_never_interrupted():
    settings = Simulation(ensemble="nve", time=0.1)
    whole, of_whole = run_dynamics(bound_water(), settings, quiet)
    first, _ = run_dynamics(bound_water(), settings.model_copy(update={"time": 0.05}), quiet)
    rest, summary = run_dynamics(bound_water(), settings, quiet, earlier=first)
    assert [frame.info["time_fs"] for frame in rest] == [frame.info["time_fs"] for frame in whole][-len(rest) :]
    np.testing.assert_allclose(rest[-1].positions, whole[-1].positions, atol=1e-9)
    for key in ("stable_ps", "mean_temperature_K", "largest_bond_change_A"):
        assert summary[key] == pytest.approx(of_whole[key]), key
    # Of more frames: a shorter run keeps every step.
    assert summary["drift_meV_per_atom_per_ps"] == pytest.approx(of_whole["drift_meV_per_atom_per_ps"], rel=0.1)


def test_what_breaks_a_bond_has_no_part_in_the_mean_temperature():
    class Burst(MorsePotential):
        """A molecule that is thrown apart at its eleventh step."""

        steps = -1

        def calculate(self, atoms=None, properties=None, system_changes=()):
            super().calculate(atoms, properties, system_changes)
            self.steps += 1
            if self.steps > 10:
                self.results["forces"] = 1e5 * (atoms.positions - atoms.positions.mean(axis=0))

    settings, seen = Simulation(time=0.05), []
    start = bound_water()
    start.calc = Burst(epsilon=4.0, r0=0.97, rho0=2.0, rcut1=8.0, rcut2=9.0)
    frames, summary = run_dynamics(start, settings, quiet, lambda frame: seen.append(frame.info["temperature"]))
    assert summary["ended"] == "a bond changed by more than 0.5 Å"
    # The kick that tears the molecule heats it a step before it is torn.
    assert min(seen[-2:]) > 1e6
    assert summary["mean_temperature_K"] == pytest.approx(np.mean(seen[1:-2]))
    assert frames[-1].info["mean_temperature_K"] == summary["mean_temperature_K"]


def test_frames_of_before_that_do_not_say_what_they_have_seen_are_gone_on_from_with_a_word():
    settings, said = Simulation(time=0.02), []
    first, _ = run_dynamics(bound_water(), Simulation(time=0.01), quiet)
    for frame in first:
        del frame.info["largest_bond_change_A"]
    rest, summary = run_dynamics(bound_water(), settings, said.append, earlier=first)
    assert said[0].startswith("the frames before do not say their mean temperature and bond change")
    assert summary["mean_temperature_K"] == pytest.approx(np.mean([frame.info["temperature"] for frame in rest]))


def test_noise_is_not_repeated_where_dynamics_goes_on():
    settings = Simulation(time=0.02)
    first, _ = run_dynamics(bound_water(), settings, quiet)
    again = first[0].copy()
    again.info["time_fs"] = 0.01 * 1000
    one, _ = run_dynamics(bound_water(), settings, quiet, earlier=[again])
    assert np.abs(one[0].positions - first[1].positions).max() > 1e-6


def slab() -> Atoms:
    """Copper whose lowest layer is held, as the file of a slab says it: its four atoms do not move."""
    atoms = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    atoms.pbc = [True, True, False]
    atoms.set_constraint(FixAtoms(indices=range(4)))
    atoms.calc = EMT()
    return atoms


@pytest.mark.parametrize("ensemble", ["nvt", "nve"])
def test_atoms_that_are_held_stay_and_have_no_part_in_the_temperature(tmp_path, ensemble):
    settings, start = Simulation(ensemble=ensemble, time=0.02, timestep=1.0), slab()
    whole, _ = run_dynamics(start, settings, quiet)
    write_frames(tmp_path / "earlier.xyz", whole[:11])
    going_on, _ = run_dynamics(start, settings, quiet, earlier=read_frames(tmp_path / "earlier.xyz"))
    for frames in (whole, going_on):
        np.testing.assert_allclose(frames[-1].positions[:4], start.positions[:4], atol=1e-8)  # decimals of files
        assert np.abs(frames[-1].positions[4:] - start.positions[4:]).max() > 0.01
        kinetic = 0.5 * (frames[-1].get_masses()[4:, None] * frames[-1].get_velocities()[4:] ** 2).sum()
        assert frames[-1].info["temperature"] == pytest.approx(2 * kinetic / (3 * 8 * units.kB))
    if ensemble == "nve":
        np.testing.assert_allclose(going_on[-1].positions, whole[-1].positions, atol=1e-6)


def test_what_is_held_as_a_whole_is_not_simulated():
    atoms = slab()
    atoms.set_constraint(FixAtoms(indices=range(len(atoms))))
    with pytest.raises(PiwslError, match="leave no atom that may move"):
        run_dynamics(atoms, Simulation(time=0.01), quiet)


def test_what_counts_no_degrees_of_freedom_is_not_held_in_dynamics():
    atoms = bulk("Cu", cubic=True)
    atoms.set_constraint(MirrorForce(0, 1))
    with pytest.raises(PiwslError, match=r"its constraints \(MirrorForce\) say nothing of a temperature"):
        run_dynamics(atoms, Simulation(time=0.01), quiet)


def test_heavy_water_stays_heavy_where_dynamics_goes_on(tmp_path):
    settings, heavy = Simulation(ensemble="nve", time=0.1), bound_water()
    heavy.set_masses([15.999, 2.014, 2.014])
    whole, _ = run_dynamics(heavy, settings, quiet)
    first, _ = run_dynamics(heavy, settings.model_copy(update={"time": 0.05}), quiet)
    write_frames(tmp_path / "first.xyz", first)
    rest, _ = run_dynamics(heavy, settings, quiet, earlier=read_frames(tmp_path / "first.xyz"))
    assert rest[-1].get_temperature() * 9 / 6 == pytest.approx(rest[-1].info["temperature"])
    np.testing.assert_allclose(rest[-1].positions, whole[-1].positions, atol=1e-6)
