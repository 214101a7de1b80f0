"""When a replica is no longer the molecule that it was: a bond out of its range, or an explosion.

Bonds: Fu et al., "Forces are not enough", TMLR 2023 (arXiv 2210.07237), section 3: unstable is a molecule of which a
bond has left its reference length by more than a tolerance (0.5 Å for MD17). A bond that reference frames themselves
take that far, such as that of a shared proton, is reactive and not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms, units
from ase.data import chemical_symbols
from ase.geometry import find_mic
from numpy.typing import NDArray
from scipy.stats import chi2
from torch import Tensor

from piwsl.simulation.dynamics import bonds
from piwsl.simulation.integrators import Masses, State

# eV an atom, of the potential energy since the start: at 300 K each atom takes up some 0.04, a broken bond 2.
ENERGY_TOLERANCE = 1.0
# Of kinetic energies that a bath gives; a billion steps will not meet a rarer one.
RAREST = 1e-12


@dataclass(frozen=True)
class JudgedBonds:
    """The bonds of one geometry that are judged, B of them."""

    pairs: NDArray[np.int64]
    """(B, 2)."""
    shifts: NDArray[np.float64]
    """(B, 3), Å: added to the second atom's position to reach the image that the first is bonded to."""
    lengths: NDArray[np.float64]
    """(B,), Å: mean over the reference frames."""
    reactive: tuple[str, ...]
    """Bonds that are not judged, such as "O0-H3"."""


def judged_bonds(start: Atoms, references: Sequence[NDArray[np.float64]], tolerance: float) -> JudgedBonds:
    """Find the bonds of a start, and those of them that reference frames leave intact.

    Args:
        start: the geometry.
        references: positions (N, 3), Å, of frames of the same atoms in the same order and cell; none: the start is the
            reference.
        tolerance: Å, from the mean length.
    """
    pairs = bonds(start)
    shifts = bond_vectors(start, pairs) - (start.positions[pairs[:, 1]] - start.positions[pairs[:, 0]])
    frames = [Atoms(start.numbers, positions, cell=start.cell, pbc=start.pbc) for positions in references] or [start]
    lengths = np.array([np.linalg.norm(bond_vectors(frame, pairs), axis=1) for frame in frames])
    mean = lengths.mean(axis=0)
    reactive = np.abs(lengths - mean).max(axis=0, initial=0.0) > tolerance
    names = tuple(
        "-".join(f"{chemical_symbols[start.numbers[atom]]}{atom}" for atom in pair) for pair in pairs[reactive]
    )
    return JudgedBonds(pairs[~reactive], shifts[~reactive], mean[~reactive], names)


def bond_vectors(atoms: Atoms, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the vectors from the first atom of each pair to the nearest image of the second, (B, 3), Å."""
    vectors = atoms.positions[pairs[:, 1]] - atoms.positions[pairs[:, 0]]
    return find_mic(vectors, atoms.cell, atoms.pbc)[0] if len(pairs) and atoms.pbc.any() else vectors


class Criteria:
    """Judges all replicas of a batch at once."""

    def __init__(
        self,
        judged: Sequence[JudgedBonds],
        masses: Masses,
        temperatures: Tensor,
        start_energies: Tensor,
        tolerance: float,
    ) -> None:
        """Prepare what the replicas are compared with.

        Args:
            judged: bonds of each replica.
            masses: of their atoms.
            temperatures: (M,), K.
            start_energies: (M,), eV: potential energies when they started.
            tolerance: Å, of bonds.
        """
        device = masses.of_atoms.device
        sizes = torch.bincount(masses.replica, minlength=masses.replicas)
        offsets = (sizes.cumsum(0) - sizes).tolist()
        pairs = [bonds.pairs + offset for bonds, offset in zip(judged, offsets, strict=True)]
        self._pairs = torch.as_tensor(np.concatenate(pairs), device=device).T
        self._shifts = torch.as_tensor(np.concatenate([bonds.shifts for bonds in judged]), device=device)
        self._lengths = torch.as_tensor(np.concatenate([bonds.lengths for bonds in judged]), device=device)
        self._tolerance = tolerance
        self._masses = masses
        self._sizes = sizes
        self._start_energies = start_energies
        self._temperatures = temperatures
        tail = chi2.isf(RAREST, 3 * sizes.cpu().numpy() - 3)
        self._hottest = 0.5 * units.kB * temperatures * torch.as_tensor(tail, device=device)

    def bond_changes(self, positions: Tensor) -> Tensor:
        """Return the largest departure of a bond from its reference length, (M,), Å; 0 without bonds."""
        first, second = self._pairs
        lengths = (positions[second] + self._shifts - positions[first]).norm(dim=1)
        changes = (lengths - self._lengths).abs()
        largest = positions.new_zeros(self._masses.replicas)
        return largest.scatter_reduce_(0, self._masses.replica[first], changes, "amax")

    def failures(self, state: State, changes: Tensor) -> dict[int, str]:
        """Say which replicas have failed, and why.

        Args:
            state: of the replicas.
            changes: as `bond_changes` returns them.
        """
        kinetic = self._masses.kinetic(state.velocities)
        gained = state.energies - self._start_energies
        # What the potential energy has given away since the start is kinetic now, and no wonder.
        finite = torch.isfinite(kinetic) & torch.isfinite(state.energies)
        flags = torch.stack(
            [
                ~finite,
                changes > self._tolerance,
                gained.abs() > ENERGY_TOLERANCE * self._sizes,
                kinetic - (-gained).clamp(min=0.0) > self._hottest,
            ]
        )
        if not flags.any():
            return {}
        reasons = (
            "positions or energies are no longer finite",
            f"a bond changed by more than {self._tolerance:g} Å",
            f"the potential energy changed by more than {ENERGY_TOLERANCE:g} eV an atom",
            "hotter than the bath ever makes it",
        )
        return {
            number: next(reason for reason, flag in zip(reasons, column, strict=True) if flag)
            for number, column in enumerate(flags.T.tolist())
            if any(column)
        }
