"""One step of many replicas at once: velocity Verlet and Langevin dynamics. No forces of their own, no random numbers.

Units are ASE's: eV, Å, u, and the time in which u Å²/time² is eV (`ase.units.fs` is a femtosecond of it).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from ase import units
from torch import Tensor


@dataclass(frozen=True)
class State:
    """Replicas at one time; N atoms of M replicas, float64."""

    positions: Tensor
    """(N, 3), Å; never wrapped into a cell."""
    velocities: Tensor
    """(N, 3)."""
    energies: Tensor
    """(M,), eV."""
    forces: Tensor
    """(N, 3), eV/Å."""


@dataclass(frozen=True)
class Masses:
    """Of the atoms of all replicas, and who they belong to."""

    of_atoms: Tensor
    """(N, 1), u."""
    replica: Tensor
    """(N,)."""
    replicas: int

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the atoms of each replica: (N, ...) to (M, ...)."""
        return values.new_zeros(self.replicas, *values.shape[1:]).index_add_(0, self.replica, values)

    def at_rest(self, velocities: Tensor) -> Tensor:
        """Return velocities (N, 3) without those of the centres of mass."""
        drift = self.sum(self.of_atoms * velocities) / self.sum(self.of_atoms)
        return velocities - drift[self.replica]

    def kinetic(self, velocities: Tensor) -> Tensor:
        """Return kinetic energies (M,), eV."""
        return self.sum((0.5 * self.of_atoms * velocities**2).sum(1))

    def thermal(self, temperatures: Tensor, noise: Tensor) -> Tensor:
        """Return velocities of Maxwell and Boltzmann's distribution, centres of mass at rest.

        Args:
            temperatures: (M,), K.
            noise: (N, 3), of the standard normal distribution.
        """
        spread = torch.sqrt(units.kB * temperatures[self.replica, None] / self.of_atoms)
        return self.at_rest(spread * noise)


Surface = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions (N, 3) to energies (M,) and forces (N, 3)."""


def velocity_verlet(state: State, masses: Masses, timestep: float, surface: Surface) -> State:
    """Return the state a timestep later, at constant energy.

    Swope et al., J. Chem. Phys. 76, 637 (1982): half a kick, a drift, half a kick.

    Args:
        state: now.
        masses: of the atoms.
        timestep: in ASE's units.
        surface: gives energies and forces.
    """
    velocities = half_kicked(state.velocities, state.forces, masses, timestep)
    positions = state.positions + timestep * velocities
    energies, forces = surface(positions)
    return State(positions, half_kicked(velocities, forces, masses, timestep), energies, forces)


def baoab(
    state: State,
    masses: Masses,
    timestep: float,
    surface: Surface,
    friction: float,
    temperatures: Tensor,
    noise: Tensor,
) -> State:
    """Return the state a timestep later, in a bath.

    Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013), scheme BAOAB: half a kick, half a drift, friction and
    noise solved exactly, half a drift, half a kick. Friction and noise leave the centres of mass at rest: their part is
    taken out along the masses, which leaves the canonical distribution of all other motion as it is.

    Args:
        state: now.
        masses: of the atoms.
        timestep: in ASE's units.
        surface: gives energies and forces.
        friction: in ASE's units of 1/time.
        temperatures: (M,), K.
        noise: (N, 3), of the standard normal distribution.
    """
    kept = math.exp(-friction * timestep)
    velocities = half_kicked(state.velocities, state.forces, masses, timestep)
    positions = state.positions + 0.5 * timestep * velocities
    velocities = kept * velocities + math.sqrt(1 - kept**2) * masses.thermal(temperatures, noise)
    positions = positions + 0.5 * timestep * velocities
    energies, forces = surface(positions)
    return State(positions, half_kicked(velocities, forces, masses, timestep), energies, forces)


def half_kicked(velocities: Tensor, forces: Tensor, masses: Masses, timestep: float) -> Tensor:
    """Return velocities (N, 3) after half the kick of a timestep."""
    return velocities + 0.5 * timestep * forces / masses.of_atoms
