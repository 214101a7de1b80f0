"""All calculations of one geometry: one SCF a basis, and from it every correlation energy that a level combines.

Nothing unconverged is ever returned. Energies here are in Hartree and gradients in Hartree/Bohr, as PySCF gives them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pyscf import gto, lib, scf

from piwsl.reference.basis_sets import core_potential
from piwsl.reference.components import (
    Component,
    MeanFieldKey,
    composite_energy,
    fitting_bases,
    required_components,
)
from piwsl.reference.cores import frozen_by_element, frozen_orbitals
from piwsl.reference.correlation import correlate
from piwsl.reference.element_bases import fitting_functions, orbital_basis, substitutions
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.extrapolation import ExtrapolationError, Limit
from piwsl.reference.failures import FrameFailure, failing_at
from piwsl.reference.mean_field import (
    SAME_ENERGY_HARTREE,
    converge,
    is_open_shell,
    is_same_state,
    projected,
    stability_of_restricted,
)

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


class Solution(NamedTuple):
    """A converged SCF."""

    key: MeanFieldKey
    mean_field: scf.hf.SCF
    how: dict[str, Any]
    """How it went, for the record."""


def build_molecule(
    atoms: Atoms, basis: str | Mapping[str, str], charge: int, multiplicity: int, memory_mb: int
) -> gto.Mole:
    """Make PySCF's molecule of a frame, with the effective core potentials that belong to the basis.

    Args:
        atoms: the geometry, Å.
        basis: orbital basis, or that of each element.
        charge: total charge, e.
        multiplicity: 2S + 1.
        memory_mb: memory of the job in MB; PySCF is told 70 % of it.

    Raises:
        FrameFailure: PySCF refuses the molecule (basis, charge or multiplicity do not fit).
    """
    symbols = atoms.get_chemical_symbols()
    names = {symbol: basis if isinstance(basis, str) else basis[symbol] for symbol in set(symbols)}
    potentials = {symbol: core_potential(name, symbol) for symbol, name in names.items()}
    try:
        return gto.M(
            atom=list(zip(symbols, atoms.positions.tolist(), strict=True)),
            unit="Angstrom",
            basis=names if len(set(names.values())) > 1 else next(iter(names.values())),
            ecp={symbol: potential for symbol, potential in potentials.items() if potential is not None},
            charge=charge,
            spin=multiplicity - 1,
            max_memory=MEMORY_SHARE * memory_mb,
            verbose=0,
        )
    except (RuntimeError, KeyError) as error:
        raise FrameFailure("molecule", str(error).strip()) from error


Starts = Mapping[MeanFieldKey, NDArray[np.float64]]


def run_level(
    atoms: Atoms,
    level: PySCF,
    charge: int,
    multiplicity: int,
    memory_mb: int,
    gradients: bool = False,
    starts: Starts | None = None,
) -> Outcome:
    """Compute all energies that a level combines: one SCF for each basis and kind of integrals.

    Args:
        atoms: the geometry, Å.
        level: the level of theory.
        charge: total charge, e.
        multiplicity: 2S + 1; 1 is restricted and all others unrestricted, unless the level says otherwise.
        memory_mb: memory of the job, MB.
        gradients: also differentiate every energy; the level must have analytic gradients.
        starts: density matrices of a geometry near by, as of `densities`, to start from: its state is kept.

    Raises:
        FrameFailure: at the first step that does not converge, or where SCFs are of several states.
        JobFailure: memory or disk gave out.
    """
    outcome = Outcome()
    if taken := substitutions(level, atoms.get_chemical_symbols()):
        outcome.notes["bases_of_elements"] = taken
    components = required_components(level)
    started = time.process_time()
    for key, mean_field, how in mean_fields(atoms, level, charge, multiplicity, memory_mb, starts):
        wanted = {part.method for part in components if part.mean_field == key}
        outcome.notes.setdefault("scf", {})[str(key)] = how
        _add_energies(outcome, mean_field, key, wanted, level, gradients)
        now = time.process_time()
        outcome.notes.setdefault("cpu_s_of", {})[str(key)] = round(now - started, 3)
        started = now
    return outcome


def densities(
    atoms: Atoms, level: PySCF, charge: int, multiplicity: int, memory_mb: int
) -> dict[MeanFieldKey, NDArray[np.float64]]:
    """Return the density matrices of all SCFs of a level, (n, n), or (2, n, n) of open shells."""
    return {
        key: mean_field.make_rdm1() for key, mean_field, _ in mean_fields(atoms, level, charge, multiplicity, memory_mb)
    }


def mean_fields(
    atoms: Atoms, level: PySCF, charge: int, multiplicity: int, memory_mb: int, starts: Starts | None = None
) -> Iterable[Solution]:
    """Converge all SCFs of a level; arguments as of `run_level`.

    Those of closed shells come one by one. Those of open shells are followed to a minimum, unless the level says
    otherwise, and are all of the state that the last basis has: a larger one may step down where a smaller did not.
    """
    lib.num_threads(1)
    keys = dict.fromkeys(part.mean_field for part in required_components(level))
    symbols = set(atoms.get_chemical_symbols())
    bases = {key: {symbol: orbital_basis(level, key.basis, symbol) for symbol in symbols} for key in keys}
    molecules = {key: build_molecule(atoms, bases[key], charge, multiplicity, memory_mb) for key in keys}
    found = _one_by_one(molecules, level, level.follows(multiplicity), starts)
    return found if not level.is_open_shell(multiplicity) or starts is not None else _of_one_state(list(found), level)


def _one_by_one(
    molecules: Mapping[MeanFieldKey, gto.Mole], level: PySCF, follow: bool, starts: Starts | None
) -> Iterator[Solution]:
    """Converge each SCF from the one before it, or from a geometry near by."""
    before: scf.hf.SCF | None = None
    smallest = min(molecules, key=lambda key: molecules[key].nao)
    for key, molecule in molecules.items():
        with failing_at(str(key)):
            if starts is not None:
                before, how = converge(molecule, key, level, starts[key])
                how["started_from"] = "the geometry before displacement"
            else:
                start = None if before is None else projected(before, molecule)
                before, how = converge(molecule, key, level, start, follow)
                # It hardly depends on the basis.
                if key == smallest and not is_open_shell(before) and key.functional is None:
                    how["restricted"] = stability_of_restricted(before)
        yield Solution(key, before, how)


def _of_one_state(solutions: list[Solution], level: PySCF) -> list[Solution]:
    """Restart SCFs that are of another state than the last one.

    Raises:
        FrameFailure: the state that is lowest in one basis is not in another.
    """
    last = solutions[-1]
    return [
        each if is_same_state(each.mean_field, last.mean_field) else _in_state_of(last, each, level)
        for each in solutions
    ]


def _in_state_of(last: Solution, other: Solution, level: PySCF) -> Solution:
    """Return the solution of another basis that is of the state of the last one."""
    key, molecule = other.key, other.mean_field.mol
    with failing_at(str(key)):
        again, how = converge(molecule, key, level, projected(last.mean_field, molecule), "stability" in other.how)
        above = again.e_tot - other.mean_field.e_tot
        if above > SAME_ENERGY_HARTREE or not is_same_state(again, last.mean_field):
            raise FrameFailure(
                str(key),
                f"its lowest SCF solution is of another state than that of {last.key}, and no energy may mix the two",
            )
    return Solution(key, again, how | {"restarted_from": str(last.key)})


def _add_energies(
    outcome: Outcome, mean_field: scf.hf.SCF, key: MeanFieldKey, methods: set[str], level: PySCF, gradients: bool
) -> None:
    """Add to the outcome what follows from one SCF."""
    own = Component("hf" if key.functional is None else "dft", key)
    correlated = methods - {own.method}
    outcome.energies[own] = float(mean_field.e_tot)
    if gradients:
        with failing_at(str(key)):
            gradient = mean_field.nuc_grad_method()
            if key.functional is not None:
                gradient.grid_response = True
            outcome.gradients[own] = gradient.kernel()
    if key.density_fitting:
        outcome.notes.setdefault("auxiliary_bases", {})[key.basis] = list(fitting_bases(level, key.basis))
    if not correlated:
        return
    molecule = mean_field.mol
    frozen = frozen_orbitals(molecule, level.frozen_core)
    if molecule.nelectron > 1 and frozen > min(molecule.nelec):
        reason = f"{frozen} orbitals are frozen, and {min(molecule.nelec)} electrons have the rarer spin"
        raise FrameFailure("frozen core", f"{reason}; freeze fewer (frozen_core)")
    outcome.notes |= {
        "frozen_orbitals": frozen,
        "frozen_orbitals_of": frozen_by_element(molecule, level.frozen_core),
    }
    fitted = key.density_fitting
    ri_basis = fitting_functions(level, key.basis, molecule.elements, "ri") if fitted else None
    with failing_at(str(Component(max(correlated, key=["mp2", "ccsd", "ccsd(t)"].index), key))):
        found = correlate(mean_field, correlated, frozen, ri_basis, gradients)
    outcome.notes |= found.notes
    for method, energy in found.energies.items():
        outcome.energies[Component(method, key)] = energy
    for method, gradient in found.gradients.items():
        outcome.gradients[Component(method, key)] = gradient - outcome.gradients[own]


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
