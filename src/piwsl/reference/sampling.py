"""Geometries to label: Langevin trajectories on GFN2-xTB. Independent trajectories for training and for test."""

from __future__ import annotations

import zlib

import ase.build
import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from tblite.ase import TBLite

from piwsl.config import Molecule, Sampling
from piwsl.errors import PiwslError
from piwsl.reference.store import rounded


def load_molecule(molecule: Molecule) -> Atoms:
    """Return the starting geometry, with charge and multiplicity in its info.

    Raises:
        PiwslError: ASE knows no such molecule, or cannot read the file.
    """
    if molecule.name is not None:
        try:
            atoms = ase.build.molecule(molecule.name)
        except KeyError:
            raise PiwslError(
                f"molecule '{molecule.name}' is not in ASE's G2 collection; give its geometry as 'file:'"
            ) from None
    else:
        try:
            atoms = ase.io.read(str(molecule.file))
        except Exception as error:  # ASE raises many kinds for a missing or malformed file
            raise PiwslError(f"molecule file '{molecule.file}' cannot be read: {error}") from None
    atoms.info = {"charge": molecule.charge, "multiplicity": molecule.multiplicity}
    return atoms


def trajectory(molecule: Molecule, sampling: Sampling, temperature: float, part: str, frames: int) -> list[Atoms]:
    """Run Langevin dynamics on GFN2-xTB and keep a frame every stride.

    The random numbers depend on seed, part and temperature alone: a longer trajectory begins with a shorter one.

    Args:
        molecule: what to simulate.
        sampling: timestep (fs), friction (1/fs), stride, equilibration, seed.
        temperature: K.
        part: "training" or "test"; each has a trajectory of its own.
        frames: how many to keep.

    Raises:
        PiwslError: GFN2-xTB gave up on a geometry on the way.

    Returns:
        Frames with info: frame (a name), part, temperature (K), charge, multiplicity.
    """
    rng = np.random.default_rng([sampling.seed, zlib.crc32(part.encode()), round(temperature * 1000)])
    atoms = load_molecule(molecule)
    atoms.calc = TBLite(method="GFN2-xTB", charge=molecule.charge, multiplicity=molecule.multiplicity, verbosity=0)
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
                f"{str(error).strip().splitlines()[0]}; lower the temperature or the timestep, or check the geometry"
            ) from None
        frame = Atoms(atoms.numbers, atoms.positions, info=dict(atoms.info))
        frame.info |= {
            "frame": f"{part}-{temperature:g}K-{position}",
            "part": part,
            "temperature": temperature,
        }
        kept.append(rounded(frame))
    return kept


def interleave(trajectories: list[list[Atoms]], frames: int) -> list[Atoms]:
    """Take frames from the trajectories in turn, the first of each, then the second of each.

    With the same trajectories, more frames begin with the fewer.
    """
    length = max(len(part) for part in trajectories)
    turns = [part[position] for position in range(length) for part in trajectories if position < len(part)]
    return turns[:frames]
