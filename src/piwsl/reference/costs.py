"""What a frame costs at a level: CPU seconds and memory, estimated from the sizes of its bases before any compute.

Each calculation is counted as the multiplications that it must do, times seconds a multiplication. Good within a factor
of two on a server core of these years.
"""

from __future__ import annotations

from typing import NamedTuple

from ase import Atoms
from pyscf import df, gto
from pyscf.data.elements import chemcore

from piwsl.config import Cost
from piwsl.reference.calculations import build_molecule
from piwsl.reference.components import Component, MeanFieldKey, fitting_bases, required_components
from piwsl.reference.engines.pyscf import PySCF

SCF_CYCLES = 11
CC_CYCLES = 13
# Grid points an atom at PySCF's level 4, after pruning.
GRID_POINTS = 20000
BASE_MB = 250.0
# Natural orbitals that are kept, in a large basis, of each pair of electrons: this over the root of the threshold
# (water, methanol, ethene, formic acid, HCN; DZ and TZ; 1e-3 to 1e-5, within a fifth).
KEPT_OF_A_PAIR = 0.11
# Seconds a multiplication on one thread, as tests/benchmarks/fit_costs.py finds them; in each, small contractions run
# slower than large ones, hence the differences.
SECONDS = {
    "start": 0.05,
    "integral fitting": 3.6e-8,
    "metric": 3.1e-8,
    "exchange": 2.5e-11,
    "fitted derivative": 8.0e-7,
    "two-electron": 1.5e-8,
    "two-electron derivative": 6.1e-8,
    "grid": 1.0e-7,
    "grid derivative": 2.5e-7,
    "fitted pairs": 6.1e-11,
    "fitted transformation": 2.0e-9,
    "transformation": 4.5e-10,
    "mp2 derivative": 1.1e-8,
    "mp2 response": 9.3e-8,
    "whole transformation": 6.0e-10,
    "last transformation": 2.0e-10,
    "fitted ladder": 2.0e-11,
    "ladder": 2.7e-10,
    "rings": 8.2e-10,
    "triples": 3.7e-10,
    "multipliers": 2.1e-9,
    "cc response": 2.8e-7,
    "triples multipliers": 2.2e-8,
}
# Unrestricted over restricted: two sets of orbitals, three of pairs, four of triples.
UNRESTRICTED = {"scf": 2.0, "mp2": 5.0, "cc": 5.0, "triples": 8.0}

Work = dict[str, float]
"""Multiplications of a calculation, by the names in `SECONDS`."""


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
    unrestricted = level.unrestricted or multiplicity != 1
    parts = required_components(level)
    costs = []
    for key in dict.fromkeys(part.mean_field for part in parts):
        own = [part for part in parts if part.mean_field == key]
        sizes = sizes_of(atoms, key, level, charge, multiplicity)
        costs += [mean_field_cost(sizes, key, unrestricted, gradients)]
        costs += [
            correlation_cost(sizes, method, key, unrestricted, gradients, threshold)
            for threshold, method in _separate(own).items()
        ]
    return Cost(
        sum(cost.cpu_s for cost in costs),
        max(cost.memory_mb for cost in costs),
        max(cost.scratch_mb for cost in costs),
    )


def _separate(parts: list[Component]) -> dict[float | None, str]:
    """Return the correlated methods that are calculations of their own, by the natural orbitals that they keep.

    Coupled cluster brings what is below it, whether or not it cuts orbitals off.
    """
    found: dict[float | None, str] = {}
    for method in ("ccsd(t)", "ccsd"):
        for part in parts:
            if part.method == method:
                found.setdefault(part.natural_orbitals, method)
    return found or dict.fromkeys([None] * any(part.method == "mp2" for part in parts), "mp2")


def sizes_of(atoms: Atoms, key: MeanFieldKey, level: PySCF, charge: int, multiplicity: int) -> Sizes:
    """Count orbitals and auxiliary functions of a calculation."""
    molecule = build_molecule(atoms, key.basis, charge, multiplicity, memory_mb=1000)
    fitting = fitting_bases(level, key.basis) if key.density_fitting else None
    correlated = any(part.method not in ("hf", "dft") for part in _parts_of(level, key))
    return Sizes(
        orbitals=molecule.nao,
        occupied=max(molecule.nelec),
        frozen=chemcore(molecule) if level.frozen_core else 0,
        auxiliary_jk=_functions(molecule, fitting.jk) if fitting else 0,
        auxiliary_ri=_functions(molecule, fitting.ri) if fitting and correlated else 0,
        atoms=molecule.natm,
    )


def _parts_of(level: PySCF, key: MeanFieldKey) -> list[Component]:
    return [part for part in required_components(level) if part.mean_field == key]


def _functions(molecule: gto.Mole, auxiliary_basis: str) -> int:
    return int(df.addons.make_auxmol(molecule, auxiliary_basis).nao)


def mean_field_work(sizes: Sizes, key: MeanFieldKey, unrestricted: bool, gradient: bool) -> Work:
    """Count the multiplications of one SCF, and of its gradient where wanted."""
    n, auxiliary, factor = sizes.orbitals, sizes.auxiliary_jk, UNRESTRICTED["scf"] if unrestricted else 1.0
    points = factor * GRID_POINTS * sizes.atoms * n if key.functional is not None else 0.0
    of_grid = {"grid": SCF_CYCLES * points, "grid derivative": gradient * points}
    if key.density_fitting:
        return {
            "start": 1.0,
            "integral fitting": factor * auxiliary * n**2,
            "metric": factor * auxiliary**2 * n,
            "exchange": factor * SCF_CYCLES * auxiliary * n**2 * sizes.occupied,
            "fitted derivative": gradient * factor * auxiliary * n**2,
            **of_grid,
        }
    return {
        "start": 1.0,
        "two-electron": factor * n**4,
        "two-electron derivative": gradient * factor * n**4,
        **of_grid,
    }


def mean_field_cost(sizes: Sizes, key: MeanFieldKey, unrestricted: bool, gradient: bool) -> Cost:
    """Estimate one SCF, and its gradient where wanted."""
    n = sizes.orbitals
    points = GRID_POINTS * sizes.atoms if key.functional is not None else 0
    memory = 5e-6 * sizes.auxiliary_jk * n**2 if key.density_fitting else 1.2e-6 * n**4
    seconds = seconds_of(mean_field_work(sizes, key, unrestricted, gradient))
    return Cost(seconds, BASE_MB + memory + 3.5e-5 * points * n, scratch_mb=0.0)


def seconds_of(work: Work) -> float:
    """Return CPU seconds."""
    return sum(SECONDS[name] * count for name, count in work.items())


def mp2_work(sizes: Sizes, fitted: bool, unrestricted: bool, gradient: bool) -> Work:
    """Count the multiplications of MP2 from a converged SCF, and of its gradient where wanted."""
    n, o, v = sizes.orbitals, sizes.active, sizes.virtual
    if fitted:
        auxiliary = sizes.auxiliary_ri
        return {
            "start": 1.0,
            "fitted transformation": auxiliary * n**2 * o,
            "fitted pairs": (o * v) ** 2 * auxiliary,
        }
    factor = UNRESTRICTED["mp2"] if unrestricted else 1.0
    return {
        "transformation": factor * o * n**4,
        "mp2 derivative": gradient * factor * o * n**4,
        "mp2 response": gradient * factor * n**4,
    }


def coupled_cluster_work(
    sizes: Sizes, fitted: bool, threshold: float | None, triples: bool, unrestricted: bool, gradient: bool
) -> Work:
    """Count the multiplications of coupled cluster from a converged SCF, and of its gradient where wanted."""
    n, o, v = sizes.orbitals, sizes.active, kept_orbitals(sizes, threshold)
    factor, of_triples = (UNRESTRICTED["cc"], UNRESTRICTED["triples"]) if unrestricted else (1.0, 1.0)
    work = {
        "start": 3.0,
        "ladder": factor * CC_CYCLES * o**2 * v**4,
        "rings": factor * CC_CYCLES * (o * v) ** 3,
        "triples": of_triples * triples * o**3 * v**4,
        "multipliers": gradient * CC_CYCLES * (o * v) ** 3,
        "cc response": gradient * n**4,
        "triples multipliers": gradient * triples * o**3 * v**4,
    }
    if threshold is not None:
        work |= mp2_work(sizes, fitted, unrestricted, gradient=False)
    if fitted:
        auxiliary = sizes.auxiliary_ri
        return work | {
            "integral fitting": auxiliary * n**2,
            "fitted ladder": factor * auxiliary * v**4 / 4,
        }
    return work | {
        "whole transformation": factor * (o + v) * n**4,
        "last transformation": factor * n * (o + v) ** 4,
    }


def kept_orbitals(sizes: Sizes, threshold: float | None) -> float:
    """Estimate how many virtual natural orbitals are occupied by more than a threshold, in electrons."""
    if threshold is None or not sizes.active:
        return sizes.virtual
    return (sizes.virtual**-2 + threshold / (KEPT_OF_A_PAIR * sizes.active) ** 2) ** -0.5


def correlation_cost(
    sizes: Sizes,
    method: str,
    key: MeanFieldKey,
    unrestricted: bool,
    gradient: bool,
    threshold: float | None = None,
) -> Cost:
    """Estimate one correlation energy from a converged SCF, and its gradient where wanted."""
    n, o = sizes.orbitals, sizes.active
    if method == "mp2":
        return _mp2_cost(sizes, key.density_fitting, unrestricted, gradient)
    v = kept_orbitals(sizes, threshold)
    triples = method == "ccsd(t)"
    work = coupled_cluster_work(sizes, key.density_fitting, threshold, triples, unrestricted, gradient)
    integrals = 0.0 if key.density_fitting else n**4
    memory = 1.25 * (BASE_MB + (8 * v**4 + integrals) / 1e6) * (2.5 if unrestricted else 1.0)
    if gradient:
        # The multipliers of the triples hold several arrays of all triples at once.
        memory = 1.5 * memory + (50e-6 * (o * v) ** 3 if triples else 0.0)
    if threshold is not None:
        memory = max(memory, _mp2_cost(sizes, key.density_fitting, unrestricted, gradient).memory_mb)
    return Cost(seconds_of(work), memory, 2e-6 * v**4)


def _mp2_cost(sizes: Sizes, fitted: bool, unrestricted: bool, gradient: bool) -> Cost:
    n, pairs = sizes.orbitals, sizes.active * sizes.virtual
    seconds = seconds_of(mp2_work(sizes, fitted, unrestricted, gradient))
    if fitted:
        pairs_mb = 8e-6 * pairs * sizes.auxiliary_ri
        return Cost(seconds, BASE_MB + 5e-6 * sizes.auxiliary_ri * n**2 + pairs_mb, pairs_mb)
    return Cost(seconds, BASE_MB + (5.5e-6 if gradient else 1.2e-6) * n**4, 8e-6 * pairs**2)
