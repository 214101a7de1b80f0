"""All calculations of one geometry: one SCF a basis, and from it every correlation energy that a level combines.

Nothing unconverged is ever returned. Energies here are in Hartree and gradients in Hartree/Bohr, as PySCF gives them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pyscf import gto, lib, scf

from piwsl.config import KeptParts, Part
from piwsl.config.levels import LackingParts
from piwsl.reference.basis_sets import core_potential
from piwsl.reference.components import (
    Component,
    MeanFieldKey,
    components_by_mean_field,
    composite_energy,
    fitting_bases,
    own_component,
    required_components,
)
from piwsl.reference.cores import core_problem, frozen_by_element, frozen_orbitals
from piwsl.reference.correlation import correlate
from piwsl.reference.coupled_cluster import Amplitudes, RIBasis
from piwsl.reference.element_bases import fitting_functions, orbital_basis, refitted, says, substitutions
from piwsl.reference.engines.pyscf import LOWEST_OF, RESTRICTED, PySCF, is_lowest
from piwsl.reference.extrapolation import ExtrapolationError, Limit
from piwsl.reference.failures import FrameFailure, failing_at
from piwsl.reference.mean_field import (
    SAME_ENERGY_HARTREE,
    converge,
    in_small_basis,
    is_open_shell,
    is_same_state,
    lowest_of_atom,
    projected,
    stability_of_restricted,
)
from piwsl.reference.parts import is_same_state as are_same_state

# What PySCF is told of the memory of the job: its own limit is a soft one.
MEMORY_SHARE = 0.7
NOTHING = KeptParts()


@dataclass
class Outcome:
    """What the calculations of one geometry gave."""

    energies: dict[Component, float] = field(default_factory=dict)
    """Hartree; mean-field total energies and correlation energies."""
    gradients: dict[Component, NDArray[np.float64]] = field(default_factory=dict)
    """(N, 3), Hartree/Bohr, where wanted: the derivative of `energies`."""
    notes: dict[str, Any] = field(default_factory=dict)
    """How it went: SCF, frozen orbitals, auxiliary bases, T1 diagnostic, CPU seconds."""

    def add(self, component: Component, part: Part) -> None:
        """Add a part, just computed or kept from before, with its notes."""
        self.energies[component] = part.energy
        if part.gradient is not None:
            self.gradients[component] = part.gradient
        for name, note in part.notes.items():
            before = self.notes.get(name)
            both = isinstance(before, dict) and isinstance(note, dict)
            self.notes[name] = before | note if both else note
        self.notes.setdefault("cpu_s_of", {})[str(component)] = part.cpu_s


class Solution(NamedTuple):
    """A converged SCF."""

    key: MeanFieldKey
    mean_field: scf.hf.SCF
    how: dict[str, Any]
    """How it went, for the record."""
    cpu_s: float


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


class Start(NamedTuple):
    """What the calculations of a geometry near by start from, which keeps their state."""

    density: NDArray[np.float64]
    """(n, n), or (2, n, n) for unrestricted orbitals."""
    amplitudes: Mapping[float | None, Amplitudes]
    """Of coupled cluster, by the natural orbitals that it keeps."""


Starts = Mapping[MeanFieldKey, Start]


def run_level(
    atoms: Atoms,
    level: PySCF,
    charge: int,
    multiplicity: int,
    memory_mb: int,
    gradients: bool = False,
    starts: Callable[[], Starts] | None = None,
    kept: KeptParts = NOTHING,
) -> Outcome:
    """Compute all energies that a level combines, but for those that are kept: one SCF a basis and kind of integrals.

    Args:
        atoms: the geometry, Å.
        level: the level of theory.
        charge: total charge, e.
        multiplicity: 2S + 1; 1 is restricted and all others unrestricted, unless the level says otherwise.
        memory_mb: memory of the job, MB.
        gradients: also differentiate every energy; the level must have analytic gradients.
        starts: gives solutions of a geometry near by, as of `solutions_of`, to start from: its state is kept.
        kept: the parts of this geometry; what is computed is kept there from then on.

    Raises:
        FrameFailure: at the first step that does not converge, or where SCFs are of several states.
        JobFailure: memory or disk gave out.
    """
    found = _fitted_as_now(_found(level, kept, gradients), level, atoms.get_chemical_symbols())
    if level.looks_for_lowest(atoms.numbers.tolist(), multiplicity):
        found = {each: part for each, part in found.items() if is_lowest(part.notes)}
    molecules = _molecules(atoms, level, charge, multiplicity, memory_mb)
    to_run = _scfs_to_run(molecules, level, multiplicity, found, displaced=starts is not None)
    outcome = Outcome()
    for component, part in found.items():
        if component.mean_field not in to_run:
            outcome.add(component, part)
    near = starts() if starts and to_run else None
    solutions = mean_fields(molecules, level, multiplicity, near, to_run)
    state: dict[str, float] = {}
    if level.is_open_shell(multiplicity):
        solutions = list(solutions)
        state = {str(each.key): float(each.mean_field.e_tot) for each in solutions}
        found = {each: part for each, part in found.items() if _is_of_state(part, state, each.mean_field)}
        # Who shares one of these SCFs shares the state of all.
        state = {name: energy for part in found.values() for name, energy in part.state.items()} | state
    asked = Asked(level, gradients, kept, found, state)
    for solution in solutions:
        _add_scf(outcome, solution, asked)
        _add_correlation(outcome, solution, asked, near[solution.key].amplitudes if near else {})
    if taken := substitutions(level, atoms.get_chemical_symbols()):
        outcome.notes["bases_of_elements"] = taken
    return outcome


@dataclass(frozen=True)
class Asked:
    """What is asked of the SCFs of a geometry, and what is known of it before."""

    level: PySCF
    gradients: bool
    kept: KeptParts
    found: Mapping[Component, Part]
    """Kept parts that need not be computed."""
    state: Mapping[str, float]
    """As of `Part.state`, for parts that are computed."""


def combined(level: PySCF, multiplicity: int, gradients: bool, kept: KeptParts) -> Outcome:
    """Return the energies that a level combines as they are kept; arguments as of `run_level`.

    Raises:
        LackingParts: names those that are not, or, of open shells, says that they may be of several states.
    """
    found = _found(level, kept, gradients)
    lacking = [str(each) for each in required_components(level) if each not in found]
    if lacking:
        raise LackingParts(lacking)
    if level.is_open_shell(multiplicity) and not _of_known_state(found):
        raise LackingParts([f"{', '.join(map(str, found))} of one state"])
    outcome = Outcome()
    for component, part in found.items():
        outcome.add(component, part)
    return outcome


def _found(level: PySCF, kept: KeptParts, gradients: bool) -> dict[Component, Part]:
    """Return the parts of a level that are kept, with their gradients where those are asked for."""
    components = [each for of_one in components_by_mean_field(level).values() for each in of_one]
    found = {each: part for each in components if (part := kept.find(str(each))) is not None}
    return {each: part for each, part in found.items() if part.gradient is not None or not gradients}


def _fitted_as_now(found: Mapping[Component, Part], level: PySCF, symbols: Collection[str]) -> dict[Component, Part]:
    """Leave out parts of SCFs of which an element had another fitting basis when they were kept."""
    fitted = {key for key in components_by_mean_field(level) if key.density_fitting}
    other = set()
    for key in fitted:
        own = found.get(own_component(key))
        said = {} if own is None else own.notes.get("bases_of_elements", {})
        if not says(said, refitted(level, key.basis, symbols)):
            other.add(key)
    return {each: part for each, part in found.items() if each.mean_field not in other}


def _scfs_to_run(
    molecules: Mapping[MeanFieldKey, gto.Mole],
    level: PySCF,
    multiplicity: int,
    found: Mapping[Component, Part],
    displaced: bool,
) -> set[MeanFieldKey]:
    """Return the SCFs from which something follows that is not kept.

    Of open shells it is all or none: their SCFs are of one state, which a displaced geometry has from its frame, and
    kept parts of another are told by their SCF's energy.
    """
    components = components_by_mean_field(level)
    missing = {key for key, own in components.items() if not all(each in found for each in own)}
    if level.is_open_shell(multiplicity):
        return set(components) if missing or displaced or not _of_known_state(found) else set()
    smallest = _smallest(molecules)
    if not displaced and smallest.functional is None and not any(map(_knows_stability, found.values())):
        missing.add(smallest)
    return missing


def _of_known_state(found: Mapping[Component, Part]) -> bool:
    """Whether one of the parts knows of all SCFs that they are of its state."""
    own = {str(each.mean_field): part.state.get(str(each.mean_field)) for each, part in found.items()}
    energies = {name: energy for name, energy in own.items() if energy is not None}
    return (
        len(energies) == len(own)
        and all(are_same_state(part.state, energies) for part in found.values())
        and any(own.keys() <= part.state.keys() for part in found.values())
    )


def _is_of_state(part: Part, state: Mapping[str, float], key: MeanFieldKey) -> bool:
    """Whether a part follows from an SCF of the state that SCFs (Hartree, by name) are of."""
    return str(key) in part.state and are_same_state(part.state, state)


def _knows_stability(part: Part) -> bool:
    return any(RESTRICTED in how for how in part.notes.get("scf", {}).values())


def solutions_of(
    atoms: Atoms, level: PySCF, charge: int, multiplicity: int, memory_mb: int
) -> dict[MeanFieldKey, Start]:
    """Solve SCFs and coupled cluster of a level, for geometries near by to start from; arguments as of `run_level`."""
    molecules = _molecules(atoms, level, charge, multiplicity, memory_mb)
    found = {}
    for key, mean_field, *_ in mean_fields(molecules, level, multiplicity):
        _, *components = components_by_mean_field(level)[key]
        amplitudes = {}
        for threshold in dict.fromkeys(part.natural_orbitals for part in components if part.method != "mp2"):
            frozen, ri_basis = _correlated(mean_field, key, level)
            with failing_at(f"ccsd/{key.basis}"):
                solved = correlate(mean_field, {"ccsd"}, frozen, ri_basis, None, threshold)
            if solved.amplitudes is not None:
                amplitudes[threshold] = solved.amplitudes
        found[key] = Start(mean_field.make_rdm1(), amplitudes)
    return found


def _correlated(mean_field: scf.hf.SCF, key: MeanFieldKey, level: PySCF) -> tuple[int, RIBasis]:
    """Return the number of frozen orbitals, and the auxiliary basis of correlation where it is fitted.

    Raises:
        FrameFailure: more orbitals are frozen than are occupied, or the lowest are not of the cores.
    """
    molecule = mean_field.mol
    frozen = frozen_orbitals(molecule, level.frozen_core)
    if molecule.nelectron > 1 and frozen > min(molecule.nelec):
        reason = f"{frozen} orbitals are frozen, and {min(molecule.nelec)} electrons have the rarer spin"
        raise FrameFailure("frozen core", f"{reason}; freeze fewer (frozen_core)")
    if (problem := core_problem(mean_field, level.frozen_core)) is not None:
        raise FrameFailure("frozen core", problem)
    return frozen, fitting_functions(level, key.basis, molecule.elements, "ri") if key.density_fitting else None


def _molecules(
    atoms: Atoms, level: PySCF, charge: int, multiplicity: int, memory_mb: int
) -> dict[MeanFieldKey, gto.Mole]:
    symbols = set(atoms.get_chemical_symbols())
    found = {}
    for key in components_by_mean_field(level):
        bases = {symbol: orbital_basis(level, key.basis, symbol) for symbol in symbols}
        found[key] = build_molecule(atoms, bases, charge, multiplicity, memory_mb)
    return found


def _smallest(molecules: Mapping[MeanFieldKey, gto.Mole]) -> MeanFieldKey:
    return min(molecules, key=lambda key: molecules[key].nao)


def mean_fields(
    molecules: Mapping[MeanFieldKey, gto.Mole],
    level: PySCF,
    multiplicity: int,
    starts: Starts | None = None,
    wanted: Collection[MeanFieldKey] | None = None,
) -> Iterable[Solution]:
    """Converge the SCFs of a level, or some of them.

    Those of closed shells come one by one. Those of open shells are followed to a minimum, unless the level says
    otherwise, and are all of the state that the last basis has: a larger one may step down where a smaller did not.

    Args:
        molecules: PySCF's, for every SCF of the level.
        level: the level of theory.
        multiplicity: 2S + 1.
        starts: solutions to start from, as of `run_level`.
        wanted: which to converge; all by default.

    Raises:
        FrameFailure: one does not converge, or they are of several states.
    """
    lib.num_threads(level.threads)
    found = _one_by_one(molecules, level, level.follows(multiplicity), starts, molecules if wanted is None else wanted)
    return found if not level.is_open_shell(multiplicity) or starts is not None else _of_one_state(list(found), level)


def _one_by_one(
    molecules: Mapping[MeanFieldKey, gto.Mole],
    level: PySCF,
    follow: bool,
    starts: Starts | None,
    wanted: Collection[MeanFieldKey],
) -> Iterator[Solution]:
    """Converge each SCF from the one before it, or from a geometry near by."""
    before: scf.hf.SCF | None = None
    smallest = _smallest(molecules)
    for key, molecule in molecules.items():
        if key not in wanted:
            continue
        started = time.process_time()
        with failing_at(str(key)):
            if starts is not None:
                before, how = converge(molecule, key, level, starts[key].density)
                how["started_from"] = "the geometry before displacement"
            else:
                start = None if before is None else projected(before, molecule)
                if level.looks_for_lowest([gto.charge(symbol) for symbol in molecule.elements], molecule.spin + 1):
                    before, how = lowest_of_atom(molecule, key, level, start)
                else:
                    before, how = converge(molecule, key, level, start, follow)
                asks = key == smallest and key.functional is None and level.doubtful != "ignore"
                if asks and not is_open_shell(before):
                    how[RESTRICTED] = stability_of_restricted(in_small_basis(before, level))
        yield Solution(key, before, how, _cpu_s_since(started))


def _cpu_s_since(started: float) -> float:
    return round(time.process_time() - started, 3)


def _of_one_state(solutions: list[Solution], level: PySCF) -> list[Solution]:
    """Restart SCFs that are of another state than the last one.

    Raises:
        FrameFailure: the state that is lowest in one basis is not in another.
    """
    if not solutions:
        return []
    last = solutions[-1]
    return [
        each if is_same_state(each.mean_field, last.mean_field) else _in_state_of(last, each, level)
        for each in solutions
    ]


def _in_state_of(last: Solution, other: Solution, level: PySCF) -> Solution:
    """Return the solution of another basis that is of the state of the last one."""
    key, molecule = other.key, other.mean_field.mol
    started = time.process_time()
    with failing_at(str(key)):
        again, how = converge(molecule, key, level, projected(last.mean_field, molecule), "stability" in other.how)
        above = again.e_tot - other.mean_field.e_tot
        if above > SAME_ENERGY_HARTREE or not is_same_state(again, last.mean_field):
            raise FrameFailure(
                str(key),
                f"its lowest SCF solution is of another state than that of {last.key}, and no energy may mix the two",
            )
    how |= {"restarted_from": str(last.key)} | {name: other.how[name] for name in (LOWEST_OF,) if name in other.how}
    return Solution(key, again, how, other.cpu_s + _cpu_s_since(started))


def _add_scf(outcome: Outcome, solution: Solution, asked: Asked) -> None:
    """Add the energy of an SCF, and keep it where what is kept says less."""
    key, mean_field, how, cpu_s = solution
    own = own_component(key)
    before = asked.found.get(own)
    # An SCF of a closed shell that had to run for what follows from it says no more than what is kept of it.
    if before is not None and not asked.state and (RESTRICTED not in how or _knows_stability(before)):
        outcome.add(own, before)
        return
    started = time.process_time()
    gradient = None
    if asked.gradients:
        with failing_at(str(key)):
            derivative = mean_field.nuc_grad_method()
            if key.functional is not None:
                derivative.grid_response = True
            gradient = derivative.kernel()
    notes: dict[str, Any] = {"scf": {str(key): how}}
    if key.density_fitting:
        notes["auxiliary_bases"] = {key.basis: list(fitting_bases(asked.level, key.basis))}
        if other := refitted(asked.level, key.basis, mean_field.mol.elements):
            notes["bases_of_elements"] = other
    part = Part(float(mean_field.e_tot), gradient, notes, asked.state, cpu_s + _cpu_s_since(started))
    outcome.add(own, part)
    asked.kept.keep(str(own), part)


def _add_correlation(
    outcome: Outcome, solution: Solution, asked: Asked, near: Mapping[float | None, Amplitudes]
) -> None:
    """Add the correlation energies that follow from an SCF, and keep those that are computed."""
    _, *components = components_by_mean_field(asked.level)[solution.key]
    for component in components:
        if component in asked.found:
            outcome.add(component, asked.found[component])
    missing = [component for component in components if component not in asked.found]
    for threshold, of_one in _calculations(missing).items():
        _correlate(outcome, solution, asked, of_one, threshold, near.get(threshold))


def _calculations(components: Iterable[Component]) -> dict[float | None, list[Component]]:
    """Return the correlation energies that are computed together, by the natural orbitals that are kept.

    Coupled cluster brings MP2, whether or not it cuts orbitals off.
    """
    found: dict[float | None, list[Component]] = {}
    for component in sorted(components, key=lambda component: component.method == "mp2"):
        with_others = component.method == "mp2" and found
        found.setdefault(next(iter(found)) if with_others else component.natural_orbitals, []).append(component)
    return found


def _correlate(
    outcome: Outcome,
    solution: Solution,
    asked: Asked,
    components: list[Component],
    threshold: float | None,
    near: Amplitudes | None,
) -> None:
    key, mean_field = solution.key, solution.mean_field
    frozen, ri_basis = _correlated(mean_field, key, asked.level)
    hardest = max(components, key=lambda component: ["mp2", "ccsd", "ccsd(t)"].index(component.method))
    methods = {component.method for component in components}
    started = time.process_time()
    with failing_at(str(hardest)):
        own = outcome.gradients[own_component(key)] if asked.gradients else None
        correlation = correlate(mean_field, methods, frozen, ri_basis, own, threshold, near)
    cpu_s = _cpu_s_since(started)
    for component in components:
        method = component.method
        by_element = frozen_by_element(mean_field.mol, asked.level.frozen_core)
        notes = {"frozen_orbitals": frozen, "frozen_orbitals_of": by_element} | correlation.notes
        cpu_s_of = cpu_s if component == hardest else 0.0
        part = Part(correlation.energies[method], correlation.gradients.get(method), notes, asked.state, cpu_s_of)
        outcome.add(component, part)
        asked.kept.keep(str(component), part)


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
