"""Replicas, and groups of them that take their steps in one batch.

What a replica meets does not depend on who shares its batch: its velocities and noise are streams of its own. Noise is
drawn in blocks that their numbers name, so that a simulation that was stopped takes the same path as one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import units
from ase.data import atomic_masses
from numpy.typing import NDArray
from torch import Tensor

from piwsl.config import ReplicaSimulation
from piwsl.models import Predictor
from piwsl.simulation.criteria import Criteria, JudgedBonds
from piwsl.simulation.integrators import Masses, State, baoab, half_kicked, velocity_verlet
from piwsl.simulation.surface import ReplicaSurface
from piwsl.structures.seeds import generator
from piwsl.structures.structure import Structure

Array = NDArray[np.float64]
# Steps.
NOISE_BLOCK = 64


@dataclass(frozen=True)
class Replica:
    """One of the molecules that are simulated at once."""

    frame: int
    """Index of its start in the dataset."""
    structure: Structure
    temperature: float
    """K, of the bath, or of the first velocities."""
    number: int
    """Among those of this start and temperature."""
    judged: JudgedBonds

    @property
    def atoms(self) -> int:
        """How many."""
        return len(self.structure.numbers)

    @property
    def masses(self) -> Array:
        """(N,), u."""
        return np.asarray(atomic_masses[self.structure.numbers])

    def noise(self, seed: int, what: str | int, *shape: int) -> Array:
        """Return normal random numbers of its own, (*shape, N, 3).

        Args:
            seed: of the simulation.
            what: "velocities", or the number of a block of steps.
            shape: of the axes before (N, 3).
        """
        stream = generator("simulation", seed, self.frame, self.temperature, self.number, what)
        return stream.standard_normal((*shape, self.atoms, 3))


class Group:
    """M replicas with N atoms in all."""

    def __init__(self, potential: Predictor, replicas: Sequence[Replica], settings: ReplicaSimulation) -> None:
        """Prepare what stays the same from step to step."""
        self.replicas = list(replicas)
        self.surface = ReplicaSurface(potential, [replica.structure for replica in replicas])
        self._conservative = potential.conservative
        self._settings = settings
        self._device = potential.device
        self._timestep = settings.timestep * units.fs
        owner = np.repeat(np.arange(len(replicas)), [replica.atoms for replica in replicas])
        masses = np.concatenate([replica.masses for replica in replicas])
        self.masses = Masses(self.tensor(masses)[:, None], torch.as_tensor(owner, device=self._device), len(replicas))
        self.temperatures = self.tensor(np.array([replica.temperature for replica in replicas]))
        self._block, self._noise = -1, self.tensor(np.empty(0))

    def tensor(self, values: Array) -> Tensor:
        """Return numbers as a tensor where the potential is."""
        return torch.as_tensor(values, dtype=torch.float64, device=self._device)

    def first_state(self) -> State:
        """Return the replicas where they start, with velocities of their temperatures."""
        noise = np.concatenate([replica.noise(self._settings.seed, "velocities") for replica in self.replicas])
        positions = self.tensor(np.concatenate([replica.structure.positions for replica in self.replicas]))
        energies, forces = self._evaluated(positions)
        return State(positions, self.masses.thermal(self.temperatures, self.tensor(noise)), energies, forces)

    def criteria(self, start_energies: Array) -> Criteria:
        """Return what the replicas are judged by; their potential energies at the start, (M,), in eV."""
        judged = [replica.judged for replica in self.replicas]
        tolerance = self._settings.bond_tolerance
        return Criteria(judged, self.masses, self.temperatures, self.tensor(start_energies), tolerance)

    def moved(self, state: State, step: int) -> State:
        """Return the state a timestep later; `step` counts those that were made."""
        if self._settings.ensemble == "nve":
            return velocity_verlet(state, self.masses, self._timestep, self._evaluated)
        friction = self._settings.friction / units.fs
        noise = self._noise_of(step)
        return baoab(state, self.masses, self._timestep, self._evaluated, friction, self.temperatures, noise)

    def _evaluated(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (M,), eV, and forces (N, 3), eV/Å, that leave the centres of mass at rest.

        A gradient has no net force, but one beside the energy has, and motion of the centre would be taken for heat.
        """
        energies, forces = self.surface(positions)
        if self._conservative:
            return energies, forces
        return energies, self.masses.of_atoms * self.masses.at_rest(forces / self.masses.of_atoms)

    def _noise_of(self, step: int) -> Tensor:
        block, place = divmod(step, NOISE_BLOCK)
        if block != self._block:
            drawn = [replica.noise(self._settings.seed, block, NOISE_BLOCK) for replica in self.replicas]
            self._block, self._noise = block, self.tensor(np.concatenate(drawn, axis=1))
        return self._noise[place]

    def halfway(self, state: State) -> Tensor:
        """Return velocities (N, 3) in the middle of the next step, whose squares tell the temperature.

        Where steps h end, velocity Verlet and BAOAB give a vibration ω only 1 - (ωh/2)² of it: one of 3700 cm⁻¹ in a
        bath of 300 K has 291 K at 0.5 fs and 264 K at 1 fs, though its positions are those of 300 K. Halfway they give
        all of it. On such temperatures in general: Eastwood et al., J. Chem. Theory Comput. 6, 2045 (2010).
        """
        return half_kicked(state.velocities, state.forces, self.masses, self._timestep)

    def kinetic_temperatures(self, state: State) -> Tensor:
        """Return the temperature of each replica, (M,), K: 3N - 3 degrees of freedom, for the centre is at rest."""
        atoms = torch.bincount(self.masses.replica, minlength=self.masses.replicas)
        return 2 * self.masses.kinetic(self.halfway(state)) / ((3 * atoms - 3) * units.kB)
