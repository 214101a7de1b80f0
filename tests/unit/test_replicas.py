"""Replicas in one batch: ASE's path step by step, the temperature of every atom, who fails and who does not notice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixCom
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.verlet import VelocityVerlet
from run_files import outputs_in
from torch import nn

from piwsl import holding
from piwsl.architectures.painn import PaiNN
from piwsl.config import ReplicaSimulation, Run
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.errors import PiwslError
from piwsl.files import read_json
from piwsl.interfaces import PotentialCalculator
from piwsl.models import BaselineFailure, Predictor, save_model
from piwsl.models.potential import Potential
from piwsl.models.terms import Prediction
from piwsl.records import Stability, read_record
from piwsl.simulation import engine
from piwsl.simulation.course import Course, resumed
from piwsl.simulation.criteria import judged_bonds
from piwsl.simulation.dynamics import bond_lengths, bonds
from piwsl.simulation.engine import run_replicas
from piwsl.simulation.group import Group, Replica
from piwsl.simulation.replicas import planned, simulate
from piwsl.simulation.summary import Outcome
from piwsl.structures.frames import label, read_frames
from piwsl.structures.labels import Labels
from piwsl.structures.structure import from_atoms

WATER = molecule("H2O")


class Springs(Predictor):
    """Each pair of atoms is held at its first distance by a spring, in eV/Å²: a surface of which all is known."""

    def __init__(self, atoms: Atoms, stiffness: float = 20.0, cutoff: float = 4.0) -> None:
        nn.Module.__init__(self)
        self.config = PaiNN(architecture="painn", cutoff=cutoff)
        self.dtype, self.conservative, self.neighbours = torch.float64, True, 1.0
        self.register_buffer("lengths", torch.tensor(atoms.get_all_distances()))
        self.stiffness = stiffness

    device = torch.device("cpu")
    has_pair_potential = False

    def in_dtype(self, dtype):
        return self

    def elements(self):
        return ["H", "C", "O", "Si"]

    def predict(self, batch, properties=("energy", "forces"), create_graph=False):
        positions = batch.positions.detach().requires_grad_()
        receivers, senders = batch.edge_index
        first = (batch.n_atoms.cumsum(0) - batch.n_atoms).long()[batch.structure_index]
        lengths = (positions[senders] + batch.edge_shift - positions[receivers]).norm(dim=1)
        rest = self.lengths[receivers - first[receivers], senders - first[senders]]
        energies = 0.25 * self.stiffness * (lengths - rest) ** 2  # of two directions
        energy = torch.zeros(batch.structures, dtype=torch.float64)
        energy = energy.index_add(0, batch.structure_index[receivers], energies)
        (gradient,) = torch.autograd.grad(energy.sum(), positions)
        return Prediction(energy.detach(), energies.detach(), -gradient, None)


def painn(forces: str = "conservative") -> Potential:
    torch.manual_seed(0)
    config = PaiNN(architecture="painn", features=16, layers=2, cutoff=4.0, dtype="float64", forces=forces)
    # As if it had many neighbours, which makes an untrained surface smooth enough for dynamics.
    return Potential(config, 5.0, {1: 0.0, 6: 0.0, 8: 0.0, 7: 0.0}, neighbours=300.0)


def replica(atoms: Atoms, temperature: float = 300.0, number: int = 0, tolerance: float = 0.5) -> Replica:
    return Replica(0, from_atoms(atoms), temperature, number, judged_bonds(atoms, [], tolerance))


def run(potential: Predictor, replicas: list[Replica], **settings):
    section = ReplicaSimulation.model_validate(settings)
    return run_replicas(potential, replicas, section, progress=lambda line: None)


def test_constant_energy_takes_ases_path_step_by_step():
    settings = {"ensemble": "nve", "time": 0.05, "bond_tolerance": 50.0}
    starts = [replica(molecule(name), temperature) for name, temperature in (("NH3", 300.0), ("CH3OH", 800.0))]
    course = run(painn(), starts, **settings)
    offset = 0
    for number, start in enumerate(starts):
        own = slice(offset, offset + start.atoms)
        atoms = start.structure.atoms()
        atoms.calc = PotentialCalculator(painn())
        atoms.set_velocities(course.frame_velocities[0][own])
        dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
        for positions in course.frame_positions[1:]:
            dynamics.run(1)
            np.testing.assert_allclose(positions[own], atoms.positions, rtol=0, atol=1e-11)
        assert atoms.get_total_energy() == pytest.approx(course.totals[-1][number], abs=1e-10)
        offset += start.atoms


def test_a_periodic_crystal_takes_ases_path_over_the_boundary():
    silicon = bulk("Si", "diamond", a=5.43, cubic=True)
    silicon.positions += 2.6  # so that some atoms leave the cell
    config = PaiNN(architecture="painn", features=8, layers=1, cutoff=4.0, dtype="float64")
    potential = Potential(config, 5.0, {14: 0.0}, neighbours=300.0)
    course = run(potential, [replica(silicon, 900.0)], ensemble="nve", time=0.02, bond_tolerance=50.0)
    silicon.calc = PotentialCalculator(potential)
    silicon.set_velocities(course.frame_velocities[0])
    VelocityVerlet(silicon, 0.5 * units.fs).run(40)
    np.testing.assert_allclose(course.positions, silicon.positions, rtol=0, atol=1e-10)


def test_a_bath_takes_the_path_of_ases_baoab_with_the_same_noise():
    start = replica(WATER, 400.0)
    course = run(Springs(WATER), [start], temperature=400.0, time=0.02, timestep=0.5, friction=0.02)

    class SameNoise:
        """Of the replica, without what would move the centre of mass."""

        def __init__(self):
            self.step = 0
            self.drawn = start.noise(0, 0, 64)

        def normal(self, size):
            noise = self.drawn[self.step] / np.sqrt(WATER.get_masses()[:, None])
            self.step += 1
            masses = WATER.get_masses()[:, None]
            return (noise - (masses * noise).sum(0) / masses.sum()) * np.sqrt(masses)

        standard_normal = normal

    atoms = WATER.copy()
    atoms.calc = PotentialCalculator(Springs(WATER))
    atoms.set_velocities(course.frame_velocities[0])
    dynamics = LangevinBAOAB(
        atoms, 0.5 * units.fs, temperature_K=400.0, T_tau=units.fs / 0.02, rng=np.random.default_rng(0)
    )
    dynamics.rng = SameNoise()
    for positions in course.frame_positions[1:]:
        dynamics.run(1)
        np.testing.assert_allclose(positions, atoms.positions, rtol=0, atol=1e-11)


def test_a_bath_gives_every_atom_and_every_vibration_its_share_of_energy():
    settings = ReplicaSimulation(temperatures=[300.0], time=1.0, friction=0.05, bond_tolerance=5.0)
    replicas = [replica(WATER, number=number) for number in range(32)]
    course = run_replicas(Springs(WATER), replicas, settings, progress=lambda line: None)
    (row,) = Outcome(settings, replicas, course).summary([])["energies"]
    assert row["kinetic_K_by_element"]["H"] == pytest.approx(300, rel=0.04)
    assert row["kinetic_K_by_element"]["O"] == pytest.approx(300, rel=0.04)
    # Three vibrations, each with kT/2 of potential energy.
    assert row["potential_eV"] == pytest.approx(1.5 * units.kB * 300, rel=0.05)
    assert abs(row["potential_eV"] - 1.5 * units.kB * 300) < 5 * row["potential_error_eV"]


def test_a_bath_is_as_hot_in_stiff_bonds_at_a_long_timestep():
    """Bonds of some 3700 cm⁻¹ at 1 fs: where steps end, velocities are of 273 K."""
    settings = ReplicaSimulation(temperatures=[300.0], time=1.0, timestep=1.0, friction=0.05, bond_tolerance=5.0)
    replicas = [replica(WATER, number=number) for number in range(100)]
    course = run_replicas(Springs(WATER, stiffness=45.0), replicas, settings, progress=lambda line: None)
    (row,) = Outcome(settings, replicas, course).summary([])["energies"]
    assert row["kinetic_K"] == pytest.approx(300, rel=0.03)
    assert row["kinetic_K_by_element"]["H"] == pytest.approx(row["kinetic_K_by_element"]["O"], rel=0.02)
    assert row["potential_eV"] == pytest.approx(1.5 * units.kB * 300, rel=0.05)


@pytest.mark.parametrize("potential", [Springs(WATER), painn("direct")], ids=["gradient", "no gradient"])
@pytest.mark.parametrize("ensemble", ["nvt", "nve"])
def test_the_centre_of_mass_stays_where_it_is(potential, ensemble):
    course = run(potential, [replica(WATER)], ensemble=ensemble, time=0.2, frames=10, bond_tolerance=50.0)
    masses = WATER.get_masses()[:, None]
    centres = [(masses * positions).sum(0) / masses.sum() for positions in course.frame_positions]
    assert not course.failed.any()
    np.testing.assert_allclose(centres, np.broadcast_to(centres[0], (len(centres), 3)), rtol=0, atol=1e-12)


def test_forces_that_are_no_gradient_take_the_path_of_piwsl_md():
    # Which holds the centre of mass by ASE's constraint: a net force would be taken for heat.
    methanol = molecule("CH3OH")
    methanol.calc = PotentialCalculator(painn("direct"))
    assert np.abs(methanol.get_forces().sum(axis=0)).max() > 0.03
    course = run(painn("direct"), [replica(methanol)], ensemble="nve", time=0.05, bond_tolerance=50.0)
    methanol.set_velocities(course.frame_velocities[0])
    methanol.set_constraint(FixCom())
    dynamics = VelocityVerlet(methanol, 0.5 * units.fs)
    for positions in course.frame_positions[1:]:
        dynamics.run(1)
        np.testing.assert_allclose(positions, methanol.positions, rtol=0, atol=1e-11)
    # Temperatures are of velocities half a kick on.
    half_a_kick = 0.25 * units.fs * methanol.get_forces() / methanol.get_masses()[:, None]
    methanol.set_velocities(methanol.get_velocities() + half_a_kick)
    assert course.temperatures[-1] == pytest.approx(methanol.get_temperature(), rel=1e-6)


def test_first_velocities_have_the_temperature_asked_for():
    temperatures = [100.0, 900.0]
    replicas = [replica(WATER, each, number) for each in temperatures for number in range(300)]
    group = Group(Springs(WATER), replicas, ReplicaSimulation(temperatures=temperatures))
    found = group.kinetic_temperatures(group.first_state()).numpy().reshape(2, 300)
    np.testing.assert_allclose(found.mean(axis=1), temperatures, rtol=0.1)
    # A chi-squared distribution of six degrees of freedom.
    np.testing.assert_allclose(found.std(axis=1), np.array(temperatures) * np.sqrt(2 / 6), rtol=0.15)


def test_a_replica_takes_the_same_path_whoever_shares_its_batch():
    alone = run(painn(), [replica(WATER)], time=0.02, bond_tolerance=50.0)
    others = [replica(molecule("CH3OH"), 700.0), replica(WATER), replica(WATER, number=1)]
    together = run(painn(), others, time=0.02, bond_tolerance=50.0)
    np.testing.assert_allclose(together.positions[6:9], alone.positions, rtol=0, atol=1e-10)
    assert np.abs(together.positions[9:12] - alone.positions).max() > 1e-3


def test_who_fails_ends_alone_and_says_why():
    torn = WATER.copy()
    torn.positions[1] += [0.0, 0.6, 0.0]  # the spring throws it back, the bond out of its range
    replicas = [replica(WATER), Replica(1, from_atoms(torn), 300.0, 0, judged_bonds(WATER, [], 0.5))]
    settings = ReplicaSimulation(time=0.1)
    course = run_replicas(Springs(WATER, 5.0), replicas, settings, progress=lambda line: None)
    alone = run(Springs(WATER, 5.0), replicas[:1], time=0.1)
    assert course.failed.tolist() == [False, True]
    assert course.step == 200
    np.testing.assert_allclose(course.positions[:3], alone.positions, rtol=0, atol=1e-10)
    outcome = Outcome(settings, replicas, course)
    summary = outcome.summary([])
    assert summary["stability"] == f"1 of 2 failed, after {summary['outcomes'][1]['stable_ps']:.3g} ps, of 0.1 ps"
    assert summary["ended"] == "1 of 2 failed: a bond changed by more than 0.5 Å"
    last = outcome.trajectory(1)[-1]
    assert last.info["ended"] == "a bond changed by more than 0.5 Å"
    assert last.info["time_fs"] == pytest.approx(1000 * summary["outcomes"][1]["stable_ps"] + 0.5)
    assert set(outcome.series().groupby("replica")["time_ps"].max().round(6)) == {
        0.1,
        last.info["time_fs"] // 0.5 * 0.0005,
    }


def test_of_a_model_that_holds_no_step_there_are_no_distances_and_no_temperature():
    class Pushing(Springs):
        """Its springs push, thirty times as hard."""

        def predict(self, batch, properties=("energy", "forces"), create_graph=False):
            found = super().predict(batch, properties)
            return found._replace(energy=-30 * found.energy, forces=-30 * found.forces)

    torn = WATER.copy()
    torn.positions[1] += [0.0, 0.45, 0.0]  # the first step takes the bond out of its range
    replicas = [Replica(0, from_atoms(torn), 300.0, n, judged_bonds(WATER, [], 0.5)) for n in range(4)]
    settings = ReplicaSimulation(time=0.1, replicas=4)
    course = run_replicas(Pushing(WATER), replicas, settings, progress=lambda line: None)
    summary = Outcome(settings, replicas, course).summary([from_atoms(WATER)])
    assert summary["failed"] == 4
    assert summary["stable_ps"] == 0
    # Where it started is a reference frame, and the first velocities were drawn.
    assert summary["distances"] == []
    assert summary["mean_temperature_K"] is None


def test_distances_and_the_mean_temperature_are_of_what_the_model_made_of_the_start():
    settings = ReplicaSimulation(time=0.01)
    replicas = [replica(WATER)]
    course = run_replicas(Springs(WATER), replicas, settings, progress=lambda line: None)
    outcome = Outcome(settings, replicas, course)
    summary, (_, *moved) = outcome.summary([from_atoms(WATER)]), outcome.trajectory(0)
    (bond,) = summary["distances"][0]["bonds"]
    assert len(moved) == 20
    assert bond["mean_A"] == pytest.approx(np.mean([bond_lengths(atoms, bonds(WATER)) for atoms in moved]))
    assert summary["mean_temperature_K"] == pytest.approx(np.mean(course.temperatures[1:]))


def test_distances_are_compared_with_those_in_the_same_cell():
    silicon = bulk("Si", "diamond", a=5.43, cubic=True)
    config = PaiNN(architecture="painn", features=8, layers=1, cutoff=4.0, dtype="float64")
    start = replica(silicon, 300.0)
    settings = ReplicaSimulation(time=0.02, bond_tolerance=50.0)
    course = run_replicas(Potential(config, 5.0, {14: 0.0}, neighbours=300.0), [start], settings, progress=str)
    outcome = Outcome(settings, [start], course)

    def distances(*references: Atoms) -> list[dict]:
        return outcome.summary([from_atoms(atoms) for atoms in references])["distances"]

    warm, pressed, cluster = silicon.copy(), silicon.copy(), silicon.copy()
    warm.rattle(0.05, seed=1)
    pressed.set_cell(0.94 * silicon.cell[:], scale_atoms=True)
    cluster.pbc = False
    (found,) = distances(silicon, warm)
    assert distances(pressed, silicon, warm, cluster) == [found]
    # At constant pressure every frame has a cell of its own: of a start alone there is no distribution.
    assert distances(silicon, pressed) == []


def test_a_replica_that_fails_where_it_starts_was_stable_for_no_time():
    class GivesUp(Springs):
        """Corrects a baseline that gives up on a stretched molecule."""

        class Baseline:
            def part(self, structure):
                if np.linalg.norm(structure.positions[1] - structure.positions[0]) > 1.2:
                    raise BaselineFailure("the SCF does not converge")
                return Labels(energy=0.0, forces=np.zeros_like(structure.positions))

        baseline = Baseline()

    stretched = WATER.copy()
    stretched.positions[1] *= 1.4
    replicas = [replica(stretched), replica(WATER)]
    settings = ReplicaSimulation(time=0.01)
    course = run_replicas(GivesUp(WATER), replicas, settings, progress=lambda line: None)
    summary = Outcome(settings, replicas, course).summary([])
    assert [each["stable_ps"] for each in summary["outcomes"]] == [0.0, 0.01]
    assert summary["stability"] == "1 of 2 failed, after 0 ps, of 0.01 ps"
    assert summary["ended"] == "1 of 2 failed: the SCF does not converge"


def test_each_bath_has_a_mean_temperature_which_replicas_of_another_do_not_change():
    settings = ReplicaSimulation(time=0.1, temperatures=[300.0, 500.0])
    cold, hot = replica(WATER), replica(WATER, 500.0)
    course = run_replicas(Springs(WATER), [cold, hot], settings, progress=lambda line: None)
    summary = Outcome(settings, [cold, hot], course).summary([])
    means = np.array(course.temperatures)[1:].mean(axis=0)
    assert summary["mean_temperatures_K"] == pytest.approx(means)
    assert summary["mean_temperature_K"] is None
    alone = Outcome(ReplicaSimulation(time=0.1), [cold], run(Springs(WATER), [cold], time=0.1)).summary([])
    assert alone["mean_temperatures_K"] == [pytest.approx(means[0], rel=1e-6)] == [alone["mean_temperature_K"]]
    course.ended[1] = 1
    assert Outcome(settings, [cold, hot], course).summary([])["mean_temperatures_K"] == [pytest.approx(means[0]), None]


def test_atoms_that_fly_apart_end_a_replica_and_not_the_program():
    class Explosive(Springs):
        def predict(self, batch, properties=("energy", "forces"), create_graph=False):
            found = super().predict(batch, properties)
            forces = found.forces.clone()
            forces[batch.structure_index == 1] *= 1e12
            return found._replace(forces=forces)

    moved = WATER.copy()
    moved.positions[1] += [0.0, 0.1, 0.0]
    course = run(Explosive(WATER), [replica(WATER), replica(moved)], time=0.01)
    assert course.failed.tolist() == [False, True]
    assert course.reasons[1].startswith("the atoms flew apart: positions are not finite, or farther than")
    assert np.isfinite(course.positions[:3]).all()


def test_a_spectrum_is_of_replicas_that_lived_through_its_last_step():
    class Torn(Springs):
        calls = 0

        def predict(self, batch, properties=("energy", "forces"), create_graph=False):
            found = super().predict(batch, properties)
            self.calls += 1
            forces = found.forces.clone()
            if self.calls == 21:  # the start, and twenty steps
                forces[batch.structure_index == 1] = torch.nan
            return found._replace(forces=forces)

    course = run(Torn(WATER), [replica(WATER), replica(WATER, number=1)], time=0.01, velocities_every=1)
    assert course.ended.tolist() == [-1, 20]
    assert course.segments.tolist() == [1, 0]
    assert np.isfinite(course.power).all()


@pytest.mark.parametrize(
    ("slope", "reason"),
    [(200.0, "the potential energy changed by more than 1 eV an atom"), (0.0, "hotter than the bath ever makes it")],
)
def test_explosions_are_seen_where_no_bond_breaks(slope, reason):
    class Wrong(Springs):
        """Its energy rises as the molecule turns, or its forces heat what they should hold."""

        calls = 0

        def predict(self, batch, properties=("energy", "forces"), create_graph=False):
            found = super().predict(batch, properties)
            self.calls += 1
            spin = torch.linalg.cross(
                torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64).expand(3, 3), batch.positions
            )
            energy = found.energy + slope * 0.1 * self.calls
            return found._replace(energy=energy, forces=found.forces + (0 if slope else 5) * spin)

    course = run(Wrong(WATER, stiffness=500.0), [replica(WATER, tolerance=20.0)], time=0.2, bond_tolerance=20.0)
    assert course.reasons == [reason]


def test_a_shared_proton_is_not_judged_where_reference_frames_pass_it_on():
    reference = [WATER.positions.copy() for _ in range(4)]
    reference[3][1] *= 1.8  # this hydrogen has gone over to a neighbour
    judged = judged_bonds(WATER, reference, 0.5)
    assert judged.reactive == ("O0-H1",)
    assert judged.pairs.tolist() == [[0, 2]]
    assert judged_bonds(WATER, reference[:3], 0.5).reactive == ()


def test_reference_lengths_are_the_mean_over_reference_frames():
    reference = [WATER.positions * scale for scale in (0.9, 1.0, 1.1, 1.2)]
    judged = judged_bonds(WATER, reference, 0.5)
    np.testing.assert_allclose(judged.lengths, 1.05 * WATER.get_distance(0, 1), rtol=1e-9)


def test_bonds_over_a_periodic_boundary_are_followed_as_atoms_leave_the_cell():
    silicon = bulk("Si", "diamond", a=5.43, cubic=True)
    judged = judged_bonds(silicon, [], 0.5)
    vectors = silicon.positions[judged.pairs[:, 1]] + judged.shifts - silicon.positions[judged.pairs[:, 0]]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 5.43 * np.sqrt(3) / 4, atol=1e-9)


def test_starts_are_spread_over_the_frames_that_can_move():
    frames = {number: from_atoms(WATER) for number in (0, 2, 3, 5, 7)}

    def starts(count: int) -> list[int]:
        return [each.frame for each in planned(frames, ReplicaSimulation(starts=count))]

    assert starts(1) == [0]
    assert starts(2) == [0, 3]
    assert starts(5) == starts(9) == [0, 2, 3, 5, 7]
    grid = planned(frames, ReplicaSimulation(starts=2, temperatures=[300.0, 500.0], replicas=3))
    assert len({(each.frame, each.temperature, each.number) for each in grid}) == 12


class Killed(BaseException):
    """The end of the process."""


@pytest.mark.parametrize("ensemble", ["nvt", "nve"])
def test_a_simulation_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, ensemble):
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    settings = ReplicaSimulation(ensemble=ensemble, time=0.1, velocities_every=2, bond_tolerance=50.0)
    replicas = [replica(WATER), replica(molecule("CH3OH"), 500.0)]
    whole = run_replicas(painn(), replicas, settings, progress=lambda line: None)
    said = []

    def dying(line: str) -> None:
        said.append(line)
        if len(said) == 6:
            raise Killed

    checkpoint = tmp_path / "checkpoint.npz"
    with pytest.raises(Killed):
        run_replicas(painn(), replicas, settings, checkpoint, "key", progress=dying)
    assert resumed(checkpoint, "key").step == 119
    said.clear()
    course = run_replicas(painn(), replicas, settings, checkpoint, "key", progress=said.append)
    assert said[0] == "going on from 0.0595 ps of 0.1"
    assert said[1].startswith("0.06 ps of 0.1: 2 of 2 replicas stable, ")
    assert said[1].endswith(" s left")
    for name in ("positions", "velocities", "totals", "temperatures", "frame_positions", "power", "kinetic"):
        np.testing.assert_allclose(getattr(course, name), getattr(whole, name), rtol=1e-12, atol=0, err_msg=name)


def test_a_checkpoint_of_another_simulation_or_a_damaged_one_is_not_gone_on_from(tmp_path, capsys):
    course = run(Springs(WATER), [replica(WATER)], time=0.002)
    path = tmp_path / "checkpoint.npz"
    course.save(path, "one")
    assert resumed(path, "one").step == 4
    assert resumed(path, "another") is None
    path.write_bytes(path.read_bytes()[:500])
    assert resumed(path, "one") is None
    said = capsys.readouterr().out.splitlines()
    assert "is of another model, start, setting or version" in said[0]
    assert "cannot be read" in said[1]


def test_what_a_simulation_of_the_grid_writes_is_read_by_others(tmp_path):
    torch.manual_seed(0)
    pair = label(Atoms("HH", positions=[[0, 0, 0], [0, 0, 0.74]]), -1.0, None)
    longer = label(Atoms("HH", positions=[[0, 0, 0], [0, 0, 0.78]]), -1.0, None)
    alone = label(Atoms("H"), -1.0, None)
    of_run = Run(dataset="d", model="painn", loss="supervised", size=1, seed=0)
    save_model(tmp_path / "model", Potential(PaiNN(architecture="painn"), 1.0, {1: 0.0}, neighbours=300.0), {})
    write_dataset(tmp_path / "mixed.h5", {TRAINING: [pair], TEST: [alone, pair, longer]})
    write_dataset(tmp_path / "alone.h5", {TRAINING: [pair], TEST: [alone]})
    settings = ReplicaSimulation(ensemble="nve", time=0.01, velocities_every=1, temperatures=[200.0, 300.0])
    outputs = outputs_in(tmp_path)
    simulate(tmp_path / "mixed.h5", of_run, "warm", tmp_path / "model", settings, outputs)

    frames = read_frames(outputs.trajectory)
    assert len(frames) == 4 * 21
    assert {frame.info["frame"] for frame in frames} == {2, 3}
    assert np.abs(ase.io.read(outputs.trajectory, "0").get_velocities()).max() > 0
    series = pd.read_parquet(outputs.series)
    assert list(series.columns) == ["replica", "time_ps", "temperature_K", "potential_eV", "total_eV"]
    assert len(series) == 4 * 21
    record = read_record(Stability, outputs.summary)
    assert record.stability == "at least 0.01 ps, none of 4 failed"
    assert (record.simulation, record.replicas, record.failed, record.ended) == ("warm", 4, 0, "completed")
    assert record.survival[-1].low == pytest.approx(0.025 ** (1 / 4))
    assert record.distances[0].bonds[0].reference_mean_A == pytest.approx(0.76)
    assert abs(record.drift_meV_per_atom_per_ps.mean) < 100
    # Of steps of 0.5 fs, which let such a vibration swing a little too fast.
    assert record.spectrum.wavenumber_per_cm[1] == pytest.approx(1 / (2.99792458e10 * 10e-15), rel=5e-3)
    assert "NaN" not in outputs.summary.read_text()
    assert json.loads(outputs.summary.read_text())["dataset"] == "d"
    assert not outputs.checkpoint.exists()
    with pytest.raises(PiwslError, match=r"alone.h5: no test frame has two atoms"):
        simulate(tmp_path / "alone.h5", of_run, "warm", tmp_path / "model", settings, outputs)


def test_a_simulation_that_outlived_its_snakemake_writes_nothing_over_what_is_wanted_now(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    pair = label(Atoms("HH", positions=[[0, 0, 0], [0, 0, 0.74]]), -1.0, None)
    save_model(tmp_path / "model", Potential(PaiNN(architecture="painn"), 1.0, {1: 0.0}, neighbours=300.0), {})
    write_dataset(tmp_path / "d.h5", {TRAINING: [pair], TEST: [pair]})

    def simulated(temperature: float) -> None:
        of_run = Run(dataset="d", model="painn", loss="supervised", size=1, seed=0)
        settings = ReplicaSimulation(time=0.01, starts=1, bond_tolerance=50.0, temperatures=[temperature])
        simulate(tmp_path / "d.h5", of_run, "warm", tmp_path / "model", settings, outputs_in(tmp_path))

    def as_another_starts(self: Course, path: Path, key: str) -> None:
        save(self, path, key)
        if self.step == 10:
            with pytest.raises(PiwslError, match="another process is at work"):
                simulated(77.0)

    save = Course.save
    with monkeypatch.context() as patch:
        patch.setattr(holding, "PATIENCE_SECONDS", 0.0)
        patch.setattr(Course, "save", as_another_starts)
        with pytest.raises(PiwslError, match="another process computes it with other settings"):
            simulated(300.0)
    assert not outputs_in(tmp_path).summary.exists()
    simulated(77.0)
    assert read_json(outputs_in(tmp_path).summary)["temperatures_K"] == [77.0]


def test_what_the_pieces_of_a_simulation_before_the_last_took_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    pair = label(Atoms("HH", positions=[[0, 0, 0], [0, 0, 0.74]]), -1.0, None)
    save_model(tmp_path / "model", Potential(PaiNN(architecture="painn"), 1.0, {1: 0.0}, neighbours=300.0), {})
    write_dataset(tmp_path / "d.h5", {TRAINING: [pair], TEST: [pair]})
    outputs = replace(outputs_in(tmp_path), earlier=tmp_path / "warm.earlier.json")

    def simulated() -> None:
        of_run = Run(dataset="d", model="painn", loss="supervised", size=1, seed=0)
        settings = ReplicaSimulation(time=0.01, starts=1, bond_tolerance=50.0)
        simulate(tmp_path / "d.h5", of_run, "warm", tmp_path / "model", settings, outputs)

    def killed(self: Course, path: Path, key: str) -> None:
        save(self, path, key)
        if self.step == 10:
            raise Killed

    save = Course.save
    with monkeypatch.context() as patched:
        patched.setattr(Course, "save", killed)
        with pytest.raises(Killed):
            simulated()
    noted = read_json(tmp_path / "pieces.json")
    simulated()
    assert read_json(outputs.earlier) == {key: noted[key] for key in ("wall_s", "cpu_s")}
    assert not (tmp_path / "pieces.json").exists()
    simulated()
    assert not outputs.earlier.exists()


@pytest.mark.parametrize(("name", "vibrations"), [("CO2", 4), ("H2O", 3)])
def test_energies_of_equipartition_are_those_of_a_harmonic_molecule_linear_or_bent(name, vibrations):
    atoms, temperatures = molecule(name), [300.0, 500.0]
    atoms.rattle(0.03)
    settings = ReplicaSimulation(time=0.002, temperatures=temperatures)
    replicas = [replica(atoms, temperature) for temperature in temperatures]
    course = run_replicas(Springs(atoms), replicas, settings, progress=lambda line: None)
    course.potentials = [vibrations * 0.5 * units.kB * np.array(temperatures) for _ in course.sample_steps]
    found = Outcome(settings, replicas, course).summary([])["capacity_over_harmonic"]
    assert found == {str(atoms.symbols.get_chemical_formula()): pytest.approx(1.0)}


def test_constant_energy_tells_no_heat_capacity():
    """Of one start, velocities of 300 and 500 K bring potential energies that differ by half of equipartition's."""
    atoms, temperatures = WATER, [300.0, 500.0]
    settings = ReplicaSimulation(time=0.002, temperatures=temperatures, ensemble="nve")
    replicas = [replica(atoms, temperature) for temperature in temperatures]
    course = run_replicas(Springs(atoms), replicas, settings, progress=lambda line: None)
    assert Outcome(settings, replicas, course).summary([])["capacity_over_harmonic"] == {}


def test_a_spring_swings_at_its_frequency_and_its_energy_does_not_drift():
    oxygen = Atoms("OO", positions=[[0, 0, 0], [0, 0, 1.2]])
    settings = ReplicaSimulation(ensemble="nve", time=1.0, velocities_every=6)
    replicas = [replica(oxygen, temperature=50.0, number=number) for number in range(3)]
    course = run_replicas(Springs(oxygen), replicas, settings, progress=lambda line: None)
    summary = Outcome(settings, replicas, course).summary([])
    wavenumbers, intensities = map(np.array, summary["spectrum"].values())
    vibrations = wavenumbers > 400  # below, the molecule turns
    peak = wavenumbers[vibrations][intensities[vibrations].argmax()]
    frequency = np.sqrt(20.0 / (0.5 * oxygen.get_masses()[0])) * units.fs / (2 * np.pi)  # 1/fs
    assert peak == pytest.approx(frequency * 1e15 / 2.99792458e10, abs=35)  # a picosecond resolves 33 cm⁻¹
    # Velocity Verlet shifts energies back and forth with the square of the timestep, and keeps them.
    assert abs(summary["drift_meV_per_atom_per_ps"]["mean"]) < 0.05
