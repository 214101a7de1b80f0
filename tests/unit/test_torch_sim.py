"""A potential within torch-sim: its own check of models, ASE's numbers, and the path of our integrator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_sim
from ase import Atoms, units
from ase.build import bulk, molecule
from torch_sim.models.interface import validate_model_outputs

from piwsl.architectures.painn import PaiNN
from piwsl.config import ReplicaSimulation
from piwsl.errors import PiwslError
from piwsl.interfaces import PotentialCalculator
from piwsl.interfaces.torch_sim import TorchSimModel
from piwsl.models.potential import Potential
from piwsl.simulation.criteria import judged_bonds
from piwsl.simulation.engine import run_replicas
from piwsl.simulation.group import Replica
from piwsl.structures.structure import from_atoms

CPU = torch.device("cpu")


def potential() -> Potential:
    torch.manual_seed(0)
    config = PaiNN(architecture="painn", features=8, layers=1, cutoff=4.0, dtype="float64")
    return Potential(config, 5.0, dict.fromkeys((1, 6, 8, 14, 26), 0.0), neighbours=300.0)


def test_torch_sim_finds_the_model_in_order():
    validate_model_outputs(TorchSimModel(potential(), stress=True), CPU, torch.float64)


def test_energies_forces_and_stress_are_those_of_the_calculator():
    silicon = bulk("Si", "diamond", a=5.43, cubic=True)
    silicon.set_cell(silicon.cell @ [[1.0, 0.1, 0.0], [0.0, 1.1, 0.0], [0.05, 0.0, 0.9]], scale_atoms=True)
    silicon.rattle(0.1, seed=1)
    found = TorchSimModel(potential(), stress=True)(torch_sim.io.atoms_to_state([silicon], CPU, torch.float64))
    silicon.calc = PotentialCalculator(potential())
    assert float(found["energy"]) == pytest.approx(silicon.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(found["forces"], silicon.get_forces(), atol=1e-10)
    np.testing.assert_allclose(found["stress"][0], silicon.get_stress(voigt=False), atol=1e-10)


def test_torch_sims_verlet_takes_the_path_of_ours():
    settings = ReplicaSimulation(ensemble="nve", time=0.02, bond_tolerance=50.0)
    starts = [molecule("H2O"), molecule("CH3OH")]
    replicas = [Replica(0, from_atoms(atoms), 300.0, 0, judged_bonds(atoms, [], 50.0)) for atoms in starts]
    ours = run_replicas(potential(), replicas, settings, progress=lambda line: None)
    state = torch_sim.io.atoms_to_state(starts, CPU, torch.float64)
    timestep, cold = torch.tensor(0.5 * units.fs, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    start, step = torch_sim.nve(TorchSimModel(potential()), dt=timestep, kT=cold)
    state = start(state)
    state.momenta = torch.tensor(ours.frame_velocities[0]) * state.masses[:, None]
    for positions in ours.frame_positions[1:]:
        state = step(state)
        np.testing.assert_allclose(state.positions, positions, rtol=0, atol=1e-10)


def test_what_torch_sim_cannot_compute_is_said():
    with pytest.raises(PiwslError, match="was not trained on He"):
        TorchSimModel(potential())(torch_sim.io.atoms_to_state([Atoms("He")], CPU, torch.float64))
