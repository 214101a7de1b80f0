"""What a frame costs at a level: CPU seconds and memory, estimated from the sizes of its bases before any compute.

Each calculation is counted as the number of multiplications that it must do, times seconds a multiplication. Good
within a factor of two on a server core of these years.
"""

from __future__ import annotations

from typing import NamedTuple

from ase import Atoms
from pyscf import df, gto

from piwsl.config import Cost
from piwsl.reference.calculations import build_molecule
from piwsl.reference.components import Component, MeanFieldKey, required_components
from piwsl.reference.cores import frozen_orbitals
from piwsl.reference.element_bases import Purpose, fitting_functions, orbital_basis
from piwsl.reference.engines.pyscf import PySCF

SCF_CYCLES = 11
CC_CYCLES = 13
SMALL_JOB_SECONDS = 0.05
# Grid points an atom at PySCF's level 4, after pruning.
GRID_POINTS = 20000
BASE_MB = 250.0
# Seconds a multiplication on one thread, fitted to PySCF 2.14 (water to malonaldehyde, DZ to QZ); in each, small
# contractions run slower than large ones, hence the differences.
INTEGRAL_FITTING = 3.6e-8
METRIC = 3.1e-8
EXCHANGE_CYCLE = 2.5e-11
TWO_ELECTRON = 1.5e-8
TWO_ELECTRON_DERIVATIVE = 6.1e-8
FITTED_PAIRS = 6.1e-11
FITTED_TRANSFORMATION = 2.0e-9
TRANSFORMATION = 4.5e-10
FULL_TRANSFORMATION = (6.0e-10, 2.0e-10)
LADDER, RINGS = 2.7e-10, 8.2e-10
TRIPLES = 3.7e-10
GRID_POINT = 1.0e-7
# Unrestricted over restricted: two sets of orbitals, three of pairs, four of triples.
UNRESTRICTED = {"scf": 2.0, "mp2": 5.0, "cc": 5.0, "triples": 8.0}


class Sizes(NamedTuple):
    """Dimensions of one calculation."""

    orbitals: int
    """Basis functions."""
    occupied: int
    """Doubly occupied orbitals, the larger spin's where they differ."""
    frozen: int
    auxiliary_jk: int
    auxiliary_ri: int
    atoms: int

    @property
    def active(self) -> int:
        """Occupied orbitals that are correlated."""
        return max(self.occupied - self.frozen, 0)

    @property
    def virtual(self) -> int:
        """Unoccupied orbitals."""
        return self.orbitals - self.occupied


def estimate(atoms: Atoms, level: PySCF, charge: int, multiplicity: int, gradients: bool) -> Cost:
    """Estimate what the energy of a frame takes.

    Args:
        atoms: a geometry; only its elements matter.
        level: the level of theory.
        charge: total charge, e.
        multiplicity: 2S + 1.
        gradients: with analytic gradients.
    """
    unrestricted = level.is_open_shell(multiplicity)
    parts = required_components(level)
    costs = []
    for key in dict.fromkeys(part.mean_field for part in parts):
        methods = _separate({part.method for part in parts if part.mean_field == key})
        sizes = sizes_of(atoms, key, level, charge, multiplicity)
        costs += [mean_field_cost(sizes, key, unrestricted, gradients)]
        costs += [correlation_cost(sizes, method, key, unrestricted, gradients) for method in methods]
    return Cost(
        sum(cost.cpu_s for cost in costs),
        max(cost.memory_mb for cost in costs),
        max(cost.scratch_mb for cost in costs),
    )


def _separate(methods: set[str]) -> set[str]:
    """Return the correlated methods that are calculations of their own: coupled cluster brings what is below it."""
    for highest in ("ccsd(t)", "ccsd", "mp2"):
        if highest in methods:
            return {highest}
    return set()


def sizes_of(atoms: Atoms, key: MeanFieldKey, level: PySCF, charge: int, multiplicity: int) -> Sizes:
    """Count orbitals and auxiliary functions of a calculation."""
    bases = {symbol: orbital_basis(level, key.basis, symbol) for symbol in set(atoms.get_chemical_symbols())}
    molecule = build_molecule(atoms, bases, charge, multiplicity, memory_mb=1000)
    fitted = key.density_fitting
    correlated = any(part.method not in ("hf", "dft") for part in _parts_of(level, key))
    return Sizes(
        orbitals=molecule.nao,
        occupied=max(molecule.nelec),
        frozen=frozen_orbitals(molecule, level.frozen_core),
        auxiliary_jk=_functions(molecule, level, key, "jk") if fitted else 0,
        auxiliary_ri=_functions(molecule, level, key, "ri") if fitted and correlated else 0,
        atoms=molecule.natm,
    )


def _parts_of(level: PySCF, key: MeanFieldKey) -> list[Component]:
    return [part for part in required_components(level) if part.mean_field == key]


def _functions(molecule: gto.Mole, level: PySCF, key: MeanFieldKey, purpose: Purpose) -> int:
    of_elements = fitting_functions(level, key.basis, molecule.elements, purpose)
    return int(df.addons.make_auxmol(molecule, of_elements).nao)


def mean_field_cost(sizes: Sizes, key: MeanFieldKey, unrestricted: bool, gradient: bool) -> Cost:
    """Estimate one SCF, and its gradient where wanted."""
    n, auxiliary = sizes.orbitals, sizes.auxiliary_jk
    points = GRID_POINTS * sizes.atoms if key.functional is not None else 0
    if key.density_fitting:
        seconds = auxiliary * n**2 * INTEGRAL_FITTING + auxiliary**2 * n * METRIC
        seconds += SCF_CYCLES * auxiliary * n**2 * sizes.occupied * EXCHANGE_CYCLE
        derivative = auxiliary * n**2 * 8e-7
    else:
        seconds, derivative = n**4 * TWO_ELECTRON, n**4 * TWO_ELECTRON_DERIVATIVE
    seconds += SCF_CYCLES * points * n * GRID_POINT
    derivative += 2.5 * points * n * GRID_POINT
    memory = 5e-6 * auxiliary * n**2 if key.density_fitting else 1.2e-6 * n**4
    factor = UNRESTRICTED["scf"] if unrestricted else 1.0
    return Cost(
        SMALL_JOB_SECONDS + factor * (seconds + gradient * derivative),
        BASE_MB + memory + 3.5e-5 * points * n,
        scratch_mb=0.0,
    )


def correlation_cost(sizes: Sizes, method: str, key: MeanFieldKey, unrestricted: bool, gradient: bool) -> Cost:
    """Estimate one correlation energy from a converged SCF, and its gradient where wanted."""
    n, o, v = sizes.orbitals, sizes.active, sizes.virtual
    if method == "mp2":
        if key.density_fitting:
            auxiliary = sizes.auxiliary_ri
            seconds = auxiliary * n**2 * o * FITTED_TRANSFORMATION + (o * v) ** 2 * auxiliary * FITTED_PAIRS
            pairs_mb = 8e-6 * o * v * auxiliary
            return Cost(SMALL_JOB_SECONDS + seconds, BASE_MB + 5e-6 * auxiliary * n**2 + pairs_mb, pairs_mb)
        seconds = o * n**4 * TRANSFORMATION + gradient * n**4 * (1.1e-8 * o + 9.3e-8)
        memory = (5.5e-6 if gradient else 1.2e-6) * n**4
        return Cost(seconds * (UNRESTRICTED["mp2"] if unrestricted else 1.0), BASE_MB + memory, 8e-6 * (o * v) ** 2)
    transformation = FULL_TRANSFORMATION[0] * o * n**4 + FULL_TRANSFORMATION[1] * n**5
    amplitudes = CC_CYCLES * (o**2 * v**4 * LADDER + (o * v) ** 3 * RINGS)
    triples = o**3 * v**4 * TRIPLES if method == "ccsd(t)" else 0.0
    multipliers = gradient * (2.6 * CC_CYCLES * (o * v) ** 3 * RINGS + 2.8e-7 * n**4 + 60 * triples)
    cc_factor, triples_factor = (UNRESTRICTED["cc"], UNRESTRICTED["triples"]) if unrestricted else (1.0, 1.0)
    memory = 1.25 * (BASE_MB + (8 * v**4 + n**4) / 1e6) * (2.5 if unrestricted else 1.0)
    if gradient:
        # The multipliers of the triples hold several arrays of all triples at once.
        memory = 1.5 * memory + (50e-6 * (o * v) ** 3 if triples else 0.0)
    seconds = cc_factor * (transformation + amplitudes) + triples_factor * triples + multipliers
    return Cost(3 * SMALL_JOB_SECONDS + seconds, memory, 2e-6 * v**4)
