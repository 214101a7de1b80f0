"""Geometries of a molecule to label: GFN2-xTB dynamics and normal modes; those for test are independent."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import BFGS
from numpy.typing import NDArray

from piwsl.config import Molecule, Sampling
from piwsl.errors import PiwslError
from piwsl.reference.differences import internal_directions
from piwsl.reference.geometries import load_molecule
from piwsl.reference.store import rounded
from piwsl.reference.tight_binding import gfn2
from piwsl.structures.frames import too_close
from piwsl.structures.seeds import generator

HESSIAN_STEP_ANGSTROM = 0.005
MINIMUM_FORCE_EV_PER_ANGSTROM = 1e-3
# A softer direction is no vibration; thermal displacements along it would have no bound.
SOFTEST_MODE_INVERSE_CM = 30.0
ATTEMPTS = 100


def trajectory(molecule: Molecule, sampling: Sampling, temperature: float, part: str, frames: int) -> list[Atoms]:
    """Run Langevin dynamics on GFN2-xTB and keep a frame every stride.

    The random numbers depend on seed, part and temperature alone: a longer trajectory begins with a shorter one.

    Args:
        molecule: what to simulate.
        sampling: timestep (fs), friction (1/fs), stride, equilibration, seed.
        temperature: K.
        part: "training", "test" or "pool"; each has a trajectory of its own.
        frames: how many to keep.

    Raises:
        PiwslError: GFN2-xTB gave up on a geometry on the way.

    Returns:
        Frames with info: frame (a name), part, temperature (K), charge, multiplicity.
    """
    rng = generator("trajectory", sampling.seed, part, float(temperature))
    atoms = _with_gfn2(molecule)
    # Without it the centre of mass would wander; it is out of the temperature's degrees of freedom then, too.
    atoms.set_constraint(FixCom())
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        atoms,
        timestep=sampling.timestep * units.fs,
        temperature_K=temperature,
        friction=sampling.friction / units.fs,
        fixcm=False,
        rng=rng,
    )
    kept: list[Atoms] = []
    for position in range(frames):
        try:
            dynamics.run(sampling.stride + (0 if kept else sampling.equilibration))
        except CalculationFailed as error:
            raise PiwslError(
                f"GFN2-xTB dynamics of {part} frames at {temperature:g} K failed after {len(kept)} frames: "
                f"{_first_line(error)}; lower the temperature or the timestep, or check the geometry"
            ) from None
        kept.append(_frame(atoms, atoms.positions, part, temperature, f"{part}-{temperature:g}K-{position}"))
    return kept


def normal_mode_frames(
    molecule: Molecule, sampling: Sampling, temperature: float, part: str, frames: int
) -> list[Atoms]:
    """Displace the GFN2-xTB minimum along its normal modes, with the classical distribution of a temperature.

    Each mode's coordinate is Gaussian of variance kT/λ, with λ its eigenvalue of the mass-weighted Hessian, so that it
    holds kT/2 of potential energy on average: this is the canonical
    distribution of the harmonic surface. Directions softer than 30 1/cm stay still, geometries with two
    atoms on top of one another are drawn again.

    Args:
        molecule: where to start; it is relaxed first.
        sampling: seed.
        temperature: K.
        part: "training", "test" or "pool"; each has random numbers of its own.
        frames: how many.

    Returns:
        Frames with info: frame (a name), part, temperature (K), charge, multiplicity.

    Raises:
        PiwslError: GFN2-xTB finds no minimum, or nearly every geometry has atoms on top of one another.
    """
    rng = generator("normal modes", sampling.seed, part, float(temperature))
    atoms = _with_gfn2(molecule)
    try:
        if not BFGS(atoms, logfile=None).run(fmax=MINIMUM_FORCE_EV_PER_ANGSTROM, steps=1000):
            raise PiwslError("GFN2-xTB finds no minimum in 1000 steps; start from a better geometry")
        modes, stiffness = normal_modes(atoms)
    except CalculationFailed as error:
        raise PiwslError(f"GFN2-xTB failed on the way to a minimum: {_first_line(error)}; check the geometry") from None
    widths = np.sqrt(units.kB * temperature / stiffness)
    orthonormal = (modes * np.sqrt(atoms.get_masses())[:, None]).reshape(len(modes), -1)
    kept: list[Atoms] = []
    for _ in range(ATTEMPTS * frames):
        if len(kept) == frames:
            break
        # Drawn for all coordinates, then projected: neither a mode's sign nor the choice of modes of one frequency,
        # which are the linear algebra library's, changes the frame.
        coordinates = orthonormal @ rng.normal(size=orthonormal.shape[1])
        displacement = np.tensordot(widths * coordinates, modes, axes=1)
        name = f"{part}-modes-{temperature:g}K-{len(kept)}"
        frame = _frame(atoms, atoms.positions + displacement, part, temperature, name)
        if too_close(frame) is None:
            kept.append(frame)
    if len(kept) < frames:
        raise PiwslError(
            f"normal modes at {temperature:g} K: {ATTEMPTS * frames} geometries gave only {len(kept)} without atoms on "
            "top of one another; lower the temperature"
        )
    return kept


def normal_modes(atoms: Atoms) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the vibrations of a minimum, from central differences of its forces.

    Args:
        atoms: at a minimum, with a calculator.

    Returns:
        (K, N, 3) displacements for a unit of the mass-weighted coordinate, 1/√amu; (K,) eigenvalues λ of the
        mass-weighted Hessian, eV/Å²/amu. Translations, rotations and directions softer than 30 1/cm are left out.
    """
    roots = np.sqrt(atoms.get_masses())
    directions = internal_directions(atoms.positions, atoms.get_masses()).reshape(-1, 3 * len(atoms))
    hessian = _hessian(atoms) / np.outer(np.repeat(roots, 3), np.repeat(roots, 3))
    eigenvalues, vectors = np.linalg.eigh(directions @ hessian @ directions.T)
    # ħω in eV is √λ times this, as in ase.vibrations.
    quantum = units._hbar * 1e10 / np.sqrt(units._e * units._amu)
    stiff = eigenvalues > (SOFTEST_MODE_INVERSE_CM * units.invcm / quantum) ** 2
    modes = (vectors.T @ directions).reshape(-1, len(atoms), 3) / roots[None, :, None]
    return modes[stiff], eigenvalues[stiff]


def _hessian(atoms: Atoms) -> NDArray[np.float64]:
    """Return the symmetrised (3N, 3N) second derivatives of the energy, eV/Å²."""
    start = atoms.positions.copy()
    rows = []
    for index in np.ndindex(start.shape):
        gradients = []
        for sign in (1, -1):
            moved = start.copy()
            moved[index] += sign * HESSIAN_STEP_ANGSTROM
            atoms.positions = moved
            gradients.append(-atoms.get_forces().ravel())
        rows.append((gradients[0] - gradients[1]) / (2 * HESSIAN_STEP_ANGSTROM))
    atoms.positions = start
    hessian = np.array(rows)
    return (hessian + hessian.T) / 2


def _with_gfn2(molecule: Molecule) -> Atoms:
    atoms = load_molecule(molecule)
    atoms.calc = gfn2(molecule.charge, molecule.multiplicity)
    return atoms


def _frame(atoms: Atoms, positions: NDArray[np.float64], part: str, temperature: float, name: str) -> Atoms:
    info = dict(atoms.info) | {"frame": name, "part": part, "temperature": temperature}
    return rounded(Atoms(atoms.numbers, positions, info=info))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
