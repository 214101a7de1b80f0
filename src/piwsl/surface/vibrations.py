"""Harmonic vibrations of a molecule or of a crystal at Γ, and what ideal gases of such molecules have.

Normal modes without translations and rotations: Wilson, Decius, Cross, Molecular Vibrations (1955), chapter 2 and
appendix VI; the projection as Miller, Handy, Adams, J. Chem. Phys. 72, 99 (1980), equations 2.12 to 2.14, at a
stationary point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms, units
from ase.thermochemistry import IdealGasThermo
from numpy.typing import NDArray

from piwsl.errors import PiwslError
from piwsl.structures.frames import multiplicity_of
from piwsl.surface.relaxation import largest_force

# Å: of central differences of forces.
DISPLACEMENT = 0.005
# eV/Å: beyond, a geometry is not stationary, and its vibrations are not those of anything.
LARGEST_FORCE = 0.1
# Of the rotations, the smallest over the largest in mass-weighted coordinates: molecules below are linear.
LINEAR = 1e-2
# ħ √(eV / (Å² u)) in eV.
QUANTUM = units._hbar * 1e10 / np.sqrt(units._e * units._amu)
Shape = Literal["monatomic", "linear", "nonlinear"]


@dataclass(frozen=True)
class Vibrations:
    """Harmonic vibrations of V modes."""

    atoms: Atoms
    """Where they are."""
    energy: float
    """There, eV."""
    frequencies: NDArray[np.float64]
    """(V,), cm⁻¹, ascending; imaginary ones are negative."""
    modes: NDArray[np.float64]
    """(V, N, 3): displacements of the atoms, Å √u; of unit length when weighted by √mass."""
    shape: Shape | None
    """None of periodic structures."""
    asymmetry: float
    """Largest difference between the Hessian and its transpose over its largest element: of forces that are no
    gradient, or not precise."""

    @property
    def imaginary(self) -> int:
        """How many modes have no minimum here: one at a transition state."""
        return int((self.frequencies < 0).sum())

    @property
    def zero_point_energy(self) -> float:
        """Half the sum of the quanta of real modes, eV."""
        return float(0.5 * units.invcm * self.frequencies[self.frequencies > 0].sum())


def vibrations(atoms: Atoms) -> Vibrations:
    """Compute the harmonic vibrations at a stationary point, by central differences of forces.

    Args:
        atoms: geometry with a calculator; charge and multiplicity stand in its info. Constraints are not looked at.

    Raises:
        PiwslError: forces are too large for a stationary point, or what the calculator raises.
    """
    atoms = _free(atoms)
    if (force := largest_force(atoms)) > LARGEST_FORCE:
        raise PiwslError(f"the largest force is {force:.2g} eV/Å, and vibrations are of stationary points; relax first")
    energy = float(atoms.get_potential_energy())
    hessian = differences_of_forces(atoms)
    weights = 1.0 / np.sqrt(np.repeat(atoms.get_masses(), 3))
    weighted = weights[:, None] * (0.5 * (hessian + hessian.T)) * weights
    rigid = _rigid_motions(atoms)
    # An orthonormal basis of what is neither translation nor rotation: the rest of a complete one.
    inner = np.linalg.svd(rigid, full_matrices=True)[0][:, rigid.shape[1] :]
    values, vectors = np.linalg.eigh(inner.T @ weighted @ inner)
    frequencies = np.sign(values) * np.sqrt(np.abs(values)) * QUANTUM / units.invcm
    modes = (weights[:, None] * (inner @ vectors)).T.reshape(-1, len(atoms), 3)
    scale = np.abs(hessian).max(initial=0.0)
    asymmetry = float(np.abs(hessian - hessian.T).max(initial=0.0) / scale) if scale > 0 else 0.0
    return Vibrations(atoms, energy, frequencies, modes, _shape(atoms, rigid.shape[1]), asymmetry)


def differences_of_forces(atoms: Atoms, displacement: float = DISPLACEMENT) -> NDArray[np.float64]:
    """Return the Hessian (3N, 3N), eV/Å²: row i is minus the derivative of all forces by coordinate i.

    Args:
        atoms: geometry with a calculator; it is left as it was.
        displacement: of each coordinate to both sides, Å.
    """
    positions = atoms.get_positions()
    rows = []
    for coordinate in range(positions.size):
        forces = []
        for sign in (1.0, -1.0):
            moved = positions.copy()
            moved.flat[coordinate] += sign * displacement
            atoms.set_positions(moved)
            forces.append(atoms.get_forces().ravel())
        rows.append((forces[1] - forces[0]) / (2 * displacement))
    atoms.set_positions(positions)
    return np.array(rows)


@dataclass(frozen=True)
class Thermochemistry:
    """An ideal gas of rigid rotors and harmonic oscillators; eV, eV/K."""

    temperature_K: float
    pressure_Pa: float
    symmetry_number: int
    enthalpy_eV: float
    entropy_eV_per_K: float
    gibbs_energy_eV: float


def thermochemistry(
    found: Vibrations, temperature: float = 298.15, pressure: float = 101325.0, symmetry_number: int = 1
) -> Thermochemistry:
    """Return enthalpy, entropy and Gibbs energy of an ideal gas, energy of the surface included.

    By `ase.thermochemistry.IdealGasThermo`: electronic ground state, spin by multiplicity. Imaginary modes are left
    out, as for a transition state.

    Args:
        found: of a molecule.
        temperature: K.
        pressure: Pa.
        symmetry_number: of the molecule's rotation: 12 of methane, 3 of ammonia, 2 of water.

    Raises:
        PiwslError: the structure is periodic.
    """
    if found.shape is None:
        raise PiwslError("a crystal is no ideal gas; leave out thermochemistry")
    gas = IdealGasThermo(
        (units.invcm * found.frequencies[found.frequencies > 0]).tolist(),
        geometry=found.shape,
        potentialenergy=found.energy,
        atoms=found.atoms,
        symmetrynumber=symmetry_number,
        spin=(multiplicity_of(found.atoms) - 1) / 2,
        vib_selection="all",
    )
    return Thermochemistry(
        temperature_K=temperature,
        pressure_Pa=pressure,
        symmetry_number=symmetry_number,
        enthalpy_eV=float(gas.get_enthalpy(temperature, verbose=False)),
        entropy_eV_per_K=float(gas.get_entropy(temperature, pressure, verbose=False)),
        gibbs_energy_eV=float(gas.get_gibbs_energy(temperature, pressure, verbose=False)),
    )


def molden(found: Vibrations) -> str:
    """Return vibrations as Molden, Jmol, Avogadro and others read them: positions in bohr, imaginary ones negative."""
    lines = ["[Molden Format]", "[FREQ]", *(f"{frequency:.4f}" for frequency in found.frequencies), "[FR-COORD]"]
    for symbol, position in zip(found.atoms.symbols, found.atoms.positions / units.Bohr, strict=True):
        lines.append(f"{symbol} " + " ".join(f"{coordinate:.8f}" for coordinate in position))
    lines.append("[FR-NORM-COORD]")
    for number, mode in enumerate(found.modes, 1):
        lines.append(f"vibration {number}")
        lines += [" ".join(f"{coordinate:.8f}" for coordinate in row) for row in mode / np.linalg.norm(mode)]
    return "\n".join(lines) + "\n"


def _free(atoms: Atoms) -> Atoms:
    free = atoms.copy()
    free.set_constraint()
    free.calc = atoms.calc
    return free


def _rigid_motions(atoms: Atoms) -> NDArray[np.float64]:
    """Return an orthonormal basis (3N, 3 to 6) of translations and, of molecules, rotations; weighted by √mass."""
    roots = np.sqrt(atoms.get_masses())
    axes = np.eye(3)
    motions = [np.outer(roots, axis).ravel() for axis in axes]
    basis, _, _ = np.linalg.svd(np.array(motions).T, full_matrices=False)
    if atoms.pbc.any() or len(atoms) == 1:
        return basis
    arms = atoms.positions - atoms.get_center_of_mass()
    rotations = np.array([(roots[:, None] * np.cross(axis, arms)).ravel() for axis in axes]).T
    turned, sizes, _ = np.linalg.svd(rotations, full_matrices=False)
    return np.concatenate([basis, turned[:, sizes > LINEAR * sizes.max()]], axis=1)


def _shape(atoms: Atoms, rigid: int) -> Shape | None:
    if atoms.pbc.any():
        return None
    return {3: "monatomic", 5: "linear", 6: "nonlinear"}[rigid]  # type: ignore[return-value]
