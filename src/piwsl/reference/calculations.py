"""All calculations of one geometry: one SCF a basis, and from it every correlation energy that a level combines.

Nothing unconverged is ever returned. Energies here are in Hartree and gradients in Hartree/Bohr, as PySCF gives them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pyscf import gto, lib, scf
from pyscf.data.elements import chemcore

from piwsl.reference.bases import core_potential
from piwsl.reference.components import (
    Component,
    MeanFieldKey,
    composite_energy,
    fitting_bases,
    required_components,
)
from piwsl.reference.correlation import correlate
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.extrapolation import ExtrapolationError, Limit
from piwsl.reference.failures import FrameFailure, failing_at
from piwsl.reference.mean_field import converge

# What PySCF is told of the memory of the job: its own limit is a soft one.
MEMORY_SHARE = 0.7


@dataclass
class Outcome:
    """What the calculations of one geometry gave."""

    energies: dict[Component, float] = field(default_factory=dict)
    """Hartree; mean-field total energies and correlation energies."""
    gradients: dict[Component, NDArray[np.float64]] = field(default_factory=dict)
    """(N, 3), Hartree/Bohr, where wanted: the derivative of `energies`."""
    notes: dict[str, Any] = field(default_factory=dict)
    """How it went: SCF, frozen orbitals, auxiliary bases, T1 diagnostic, CPU seconds."""


def build_molecule(atoms: Atoms, basis: str, charge: int, multiplicity: int, memory_mb: int) -> gto.Mole:
    """Make PySCF's molecule of a frame, with the effective core potentials that belong to the basis.

    Args:
        atoms: the geometry, Å.
        basis: orbital basis.
        charge: total charge, e.
        multiplicity: 2S + 1.
        memory_mb: memory of the job in MB; PySCF is told 70 % of it.

    Raises:
        FrameFailure: PySCF refuses the molecule (basis, charge or multiplicity do not fit).
    """
    symbols = atoms.get_chemical_symbols()
    potentials = {symbol: core_potential(basis, symbol) for symbol in set(symbols)}
    try:
        return gto.M(
            atom=list(zip(symbols, atoms.positions.tolist(), strict=True)),
            unit="Angstrom",
            basis=basis,
            ecp={symbol: potential for symbol, potential in potentials.items() if potential is not None},
            charge=charge,
            spin=multiplicity - 1,
            max_memory=MEMORY_SHARE * memory_mb,
            verbose=0,
        )
    except (RuntimeError, KeyError) as error:
        raise FrameFailure("molecule", str(error).strip()) from error


def run_level(
    atoms: Atoms, level: PySCF, charge: int, multiplicity: int, memory_mb: int, gradients: bool = False
) -> Outcome:
    """Compute all energies that a level combines: one SCF for each basis and kind of integrals.

    Args:
        atoms: the geometry, Å.
        level: the level of theory.
        charge: total charge, e.
        multiplicity: 2S + 1; 1 is restricted unless the level says otherwise, all others unrestricted.
        memory_mb: memory of the job, MB.
        gradients: also differentiate every energy; the level must have analytic gradients.

    Raises:
        FrameFailure: at the first step that does not converge.
        JobFailure: memory or disk gave out.
    """
    lib.num_threads(1)
    outcome = Outcome()
    components = required_components(level)
    converged: scf.hf.SCF | None = None
    for key in dict.fromkeys(part.mean_field for part in components):
        wanted = {part.method for part in components if part.mean_field == key}
        started = time.process_time()
        molecule = build_molecule(atoms, key.basis, charge, multiplicity, memory_mb)
        converged = _run_mean_field(outcome, molecule, key, wanted, level, gradients, converged)
        outcome.notes.setdefault("cpu_s_of", {})[str(key)] = round(time.process_time() - started, 3)
    return outcome


def _run_mean_field(
    outcome: Outcome,
    molecule: gto.Mole,
    key: MeanFieldKey,
    methods: set[str],
    level: PySCF,
    gradients: bool,
    smaller: scf.hf.SCF | None,
) -> scf.hf.SCF:
    """Add to the outcome what follows from one SCF, and return that."""
    own = Component("hf" if key.functional is None else "dft", key)
    correlated = methods - {own.method}
    with failing_at(str(key)):
        mean_field, how = converge(molecule, key, level, smaller)
        outcome.notes.setdefault("scf", {})[str(key)] = how
        outcome.energies[own] = float(mean_field.e_tot)
        if gradients:
            gradient = mean_field.nuc_grad_method()
            if key.functional is not None:
                gradient.grid_response = True
            outcome.gradients[own] = gradient.kernel()
    if key.density_fitting:
        outcome.notes.setdefault("auxiliary_bases", {})[key.basis] = list(fitting_bases(level, key.basis))
    if not correlated:
        return mean_field
    frozen = chemcore(molecule) if level.frozen_core else 0
    outcome.notes["frozen_orbitals"] = frozen
    ri_basis = fitting_bases(level, key.basis).ri if key.density_fitting else None
    with failing_at(str(Component(max(correlated, key=["mp2", "ccsd", "ccsd(t)"].index), key))):
        found = correlate(mean_field, correlated, frozen, ri_basis, gradients)
    outcome.notes |= found.notes
    for method, energy in found.energies.items():
        outcome.energies[Component(method, key)] = energy
    for method, gradient in found.gradients.items():
        outcome.gradients[Component(method, key)] = gradient - outcome.gradients[own]
    return mean_field


def level_energy(level: PySCF, outcome: Outcome) -> Limit:
    """Return the energy of the level in Hartree, and its slopes.

    Raises:
        FrameFailure: the energies cannot be extrapolated.
    """
    try:
        return composite_energy(level, outcome.energies)
    except ExtrapolationError as error:
        raise FrameFailure("extrapolation", str(error)) from None


def level_gradient(level: PySCF, outcome: Outcome) -> NDArray[np.float64]:
    """Return the gradient of the level, Σ over components of slope times gradient, (N, 3) in Hartree/Bohr."""
    slopes = level_energy(level, outcome).slopes
    parts = required_components(level)
    return np.sum([slope * outcome.gradients[part] for part, slope in zip(parts, slopes, strict=True)], axis=0)
