"""What a frame costs at a level: CPU seconds and memory, estimated from the sizes of its bases before any compute.

Each calculation is counted as the multiplications that it must do, times seconds a multiplication. Good within a factor
of two on a server core of these years.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ase import Atoms
from pyscf import df, dft, gto

from piwsl.config import Cost
from piwsl.reference.calculations import build_molecule
from piwsl.reference.components import Component, MeanFieldKey, components_by_mean_field
from piwsl.reference.cores import frozen_orbitals
from piwsl.reference.element_bases import Purpose, fitting_functions, orbital_basis
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.mean_field import LAST_OF_SMALL_BASIS, SMALL_BASIS

# Of the points of an atom's grid, what is left after pruning.
PRUNED = 0.5
NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)
# Of a functional of the kinetic energy density over others: second derivatives of functions on the grid.
META_GGA = 2.0
BASE_MB = 250.0
# Natural orbitals that are kept, in a large basis, of each pair of electrons: this over the root of the threshold
# (water, methanol, ethene, formic acid, HCN; DZ and TZ; 1e-3 to 1e-5, within a fifth).
KEPT_OF_A_PAIR = 0.11
# Seconds a multiplication on one thread, as tests/benchmarks/fit_costs.py finds them; in each, small contractions run
# slower than large ones, hence the differences.
SECONDS = {
    "start": 0.048,
    "integral fitting": 3.3e-9,
    "metric": 3.6e-11,
    "exchange": 4.9e-10,
    "fitted stability": 1.1e-9,
    "fitted derivative": 1.6e-7,
    "two-electron": 1.1e-8,
    "check of restricted orbitals": 7.7e-8,
    "stability": 1.1e-9,
    "two-electron derivative": 3.0e-8,
    "grid": 4.8e-8,
    "grid derivative": 1.9e-7,
    "fitted pairs": 2.7e-11,
    "fitted transformation": 2.2e-10,
    "fitted mp2 derivative": 2.0e-7,
    "fitted response": 1.3e-9,
    "transformation": 2.8e-10,
    "mp2 derivative": 1.3e-8,
    "mp2 response": 5.0e-8,
    "whole transformation": 1.1e-10,
    "last transformation": 1.7e-10,
    "fitted ladder": 5.0e-11,
    "ladder": 2.5e-10,
    "rings": 1.0e-9,
    "triples": 1.1e-10,
    "multipliers": 1.2e-9,
    "cc response": 2.4e-7,
    "triples multipliers": 2.2e-9,
}
# Unrestricted over restricted: two sets of orbitals, three of pairs, four of triples.
UNRESTRICTED = {"scf": 2.0, "fitted mp2": 3.0, "mp2": 5.0, "cc": 5.0, "triples": 8.0}

Work = dict[str, float]
"""Multiplications of a calculation, by the names in `SECONDS`."""


class Cycles(NamedTuple):
    """How many iterations there are."""

    scf: int
    stability: int
    """Of the search for unstable directions of orbitals that are followed to a minimum."""
    coupled_cluster: int


# Of the search 34 to 54 (NH2, CN, NO2); from the orbitals and amplitudes of a geometry near by there is none.
FROM_ATOMS, FROM_FRAME = Cycles(11, 40, 13), Cycles(6, 0, 8)


class Sizes(NamedTuple):
    """Dimensions of one calculation."""

    orbitals: int
    """Basis functions."""
    occupied: int
    """Doubly occupied orbitals, the larger spin's where they differ."""
    frozen: int
    auxiliary_jk: int
    auxiliary_ri: int
    grid_points: float

    @property
    def active(self) -> int:
        """Occupied orbitals that are correlated."""
        return max(self.occupied - self.frozen, 0)

    @property
    def virtual(self) -> int:
        """Unoccupied orbitals."""
        return self.orbitals - self.occupied


class Calculation(NamedTuple):
    """One SCF, or the correlation that follows from it at once."""

    name: str
    """Of its hardest energy, as in records."""
    work: Work
    memory_mb: float
    scratch_mb: float = 0.0


def estimate(
    atoms: Atoms, level: PySCF, charge: int, multiplicity: int, gradients: bool, displaced: bool = False
) -> Cost:
    """Estimate what the energy of a frame takes.

    Args:
        atoms: a geometry; only its elements matter.
        level: the level of theory.
        charge: total charge, e.
        multiplicity: 2S + 1.
        gradients: with analytic gradients.
        displaced: from the orbitals and amplitudes of a geometry near by, whose state is not looked into again.
    """
    asked = _Asked(tuple(sorted(atoms.numbers.tolist())), level.model_dump_json(), atoms, level)
    return _estimate(asked, charge, multiplicity, gradients, displaced)


@dataclass(frozen=True)
class _Asked:
    """What a plan asks for dozens of times: elements and level, by which it is known again."""

    elements: tuple[int, ...]
    level_said: str
    atoms: Atoms = field(compare=False)
    level: PySCF = field(compare=False)


@lru_cache(maxsize=1000)
def _estimate(asked: _Asked, charge: int, multiplicity: int, gradients: bool, displaced: bool) -> Cost:
    each = calculations_of(asked.atoms, asked.level, charge, multiplicity, gradients, displaced)
    return Cost(
        sum(seconds_of(one.work) for one in each),
        max(one.memory_mb for one in each),
        max(one.scratch_mb for one in each),
    )


def seconds_of(work: Work, seconds: Mapping[str, float] = SECONDS) -> float:
    """Return CPU seconds of a calculation, with those of each multiplication."""
    return sum(seconds[name] * count for name, count in work.items())


def calculations_of(
    atoms: Atoms, level: PySCF, charge: int, multiplicity: int, gradients: bool, displaced: bool = False
) -> list[Calculation]:
    """Return what an energy of a level is made of; arguments as of `estimate`."""
    unrestricted = level.is_open_shell(multiplicity)
    by_key = components_by_mean_field(level)
    sizes = {key: sizes_of(atoms, key, level, charge, multiplicity) for key in by_key}
    smallest = min(by_key, key=lambda key: sizes[key].orbitals)
    cycles = FROM_FRAME if displaced else FROM_ATOMS
    if not level.follows(multiplicity):
        cycles = cycles._replace(stability=0)
    found = []
    for key, components in by_key.items():
        scf = _mean_field(sizes[key], key, unrestricted, cycles, gradients)
        asks = key == smallest and key.functional is None and level.doubtful != "ignore"
        if asks and not unrestricted and not displaced:
            of_check = min(sizes[key].orbitals, _functions_of_check(atoms, charge))
            scf.work["check of restricted orbitals"] = of_check**4
        found.append(scf)
        for component in _separate(components):
            found.append(_correlation(sizes[key], component, unrestricted, cycles, gradients))
    return found


def _functions_of_check(atoms: Atoms, charge: int) -> float:
    if max(atoms.numbers) > LAST_OF_SMALL_BASIS:
        return math.inf
    electrons = int(atoms.numbers.sum()) - charge
    return int(build_molecule(atoms, SMALL_BASIS, charge, 1 + electrons % 2, memory_mb=1000).nao)


def _separate(components: list[Component]) -> list[Component]:
    """Return the correlation energies that are calculations of their own, the hardest of each.

    Coupled cluster brings what is below it, whether or not it cuts orbitals off.
    """
    found: dict[float | None, Component] = {}
    for method in ("ccsd(t)", "ccsd"):
        for component in components:
            if component.method == method:
                found.setdefault(component.natural_orbitals, component)
    return [*found.values()] or [component for component in components if component.method == "mp2"]


def sizes_of(atoms: Atoms, key: MeanFieldKey, level: PySCF, charge: int, multiplicity: int) -> Sizes:
    """Count orbitals and auxiliary functions of a calculation."""
    bases = {symbol: orbital_basis(level, key.basis, symbol) for symbol in set(atoms.get_chemical_symbols())}
    molecule = build_molecule(atoms, bases, charge, multiplicity, memory_mb=1000)
    fitted = key.density_fitting
    correlated = len(components_by_mean_field(level)[key]) > 1
    return Sizes(
        orbitals=molecule.nao,
        occupied=max(molecule.nelec),
        frozen=frozen_orbitals(molecule, level.frozen_core),
        auxiliary_jk=_functions(molecule, level, key, "jk") if fitted else 0,
        auxiliary_ri=_functions(molecule, level, key, "ri") if fitted and correlated else 0,
        grid_points=0.0
        if key.functional is None
        else sum(_grid_points(number, level.grid) for number in atoms.numbers),
    )


def _grid_points(number: int, grid: int) -> float:
    """Return how many points PySCF's grid has about an atom, by its atomic number and the level of the grid."""
    period = bisect_left(NOBLE_GASES, number)
    angular = dft.gen_grid.LEBEDEV_ORDER[dft.gen_grid.ANG_ORDER[grid, period]]
    return PRUNED * float(dft.gen_grid.RAD_GRIDS[grid, period] * angular)


def _functions(molecule: gto.Mole, level: PySCF, key: MeanFieldKey, purpose: Purpose) -> int:
    of_elements = fitting_functions(level, key.basis, molecule.elements, purpose)
    return int(df.addons.make_auxmol(molecule, of_elements).nao)


def _mean_field(sizes: Sizes, key: MeanFieldKey, unrestricted: bool, cycles: Cycles, gradient: bool) -> Calculation:
    n, auxiliary, factor = sizes.orbitals, sizes.auxiliary_jk, UNRESTRICTED["scf"] if unrestricted else 1.0
    points = sizes.grid_points * n
    on_grid = factor * points * (META_GGA if _is_meta(key.functional) else 1.0)
    work = {
        "start": 1.0,
        "grid": (cycles.scf + cycles.stability) * on_grid,
        "grid derivative": gradient * on_grid,
    }
    if key.density_fitting:
        work |= {
            **_fitting(n, auxiliary),
            "exchange": factor * cycles.scf * auxiliary * n**2 * sizes.occupied,
            "fitted stability": factor * cycles.stability * auxiliary * n**2 * sizes.occupied,
            "fitted derivative": gradient * factor * auxiliary * n**2,
        }
    else:
        work |= {
            "two-electron": factor * n**4,
            "stability": cycles.stability * n**4,
            "two-electron derivative": gradient * factor * n**4,
        }
    memory = 5e-6 * auxiliary * n**2 if key.density_fitting else 1.2e-6 * n**4
    return Calculation(str(key), work, BASE_MB + memory + 3.5e-5 * points)


def _fitting(orbitals: int, auxiliary: int) -> Work:
    """Return the work of three-center integrals, and of fitting them: solving for each pair of functions."""
    return {"integral fitting": auxiliary * orbitals**2, "metric": auxiliary**2 * orbitals**2}


def _is_meta(functional: str | None) -> bool:
    return functional is not None and dft.libxc.xc_type(functional) == "MGGA"


def _correlation(sizes: Sizes, component: Component, unrestricted: bool, cycles: Cycles, gradient: bool) -> Calculation:
    fitted = component.mean_field.density_fitting
    mp2 = _mp2(sizes, fitted, unrestricted, gradient)
    if component.method == "mp2":
        return mp2._replace(name=str(component))
    threshold = component.natural_orbitals
    triples = component.method == "ccsd(t)"
    found = _coupled_cluster(sizes, fitted, threshold, triples, unrestricted, cycles, gradient)
    if threshold is not None:
        # The natural orbitals are those of MP2.
        found = found._replace(work=found.work | mp2.work, memory_mb=max(found.memory_mb, mp2.memory_mb))
    return found._replace(name=str(component))


def _mp2(sizes: Sizes, fitted: bool, unrestricted: bool, gradient: bool) -> Calculation:
    n, o, v = sizes.orbitals, sizes.active, sizes.virtual
    if fitted:
        factor, auxiliary = UNRESTRICTED["fitted mp2"] if unrestricted else 1.0, sizes.auxiliary_ri
        work = {
            "start": 1.0,
            **_fitting(n, auxiliary),
            "fitted transformation": factor * auxiliary * n**2 * o,
            "fitted pairs": factor * (o * v) ** 2 * auxiliary,
            "fitted mp2 derivative": gradient * (auxiliary + sizes.auxiliary_jk) * n**2,
            "fitted response": gradient * sizes.auxiliary_jk * n**2 * sizes.occupied,
        }
        pairs_mb = 8e-6 * o * v * auxiliary
        held_mb = gradient * (4 * pairs_mb + 3 * 8e-6 * sizes.auxiliary_jk * n * sizes.occupied)
        return Calculation("", work, BASE_MB + 5e-6 * auxiliary * n**2 + pairs_mb + held_mb, pairs_mb)
    factor = UNRESTRICTED["mp2"] if unrestricted else 1.0
    work = {
        "transformation": factor * o * n**4,
        "mp2 derivative": gradient * factor * o * n**4,
        "mp2 response": gradient * factor * n**4,
    }
    return Calculation("", work, BASE_MB + (5.5e-6 if gradient else 1.2e-6) * n**4, 8e-6 * (o * v) ** 2)


def _coupled_cluster(
    sizes: Sizes,
    fitted: bool,
    threshold: float | None,
    triples: bool,
    unrestricted: bool,
    cycles: Cycles,
    gradient: bool,
) -> Calculation:
    n, o, v = sizes.orbitals, sizes.active, kept_orbitals(sizes, threshold)
    factor, of_triples = (UNRESTRICTED["cc"], UNRESTRICTED["triples"]) if unrestricted else (1.0, 1.0)
    work = {
        "start": 3.0,
        "ladder": factor * cycles.coupled_cluster * o**2 * v**4,
        "rings": factor * cycles.coupled_cluster * (o * v) ** 3,
        "triples": of_triples * triples * o**3 * v**4,
        "multipliers": gradient * cycles.coupled_cluster * (o * v) ** 3,
        "cc response": gradient * n**4,
        "triples multipliers": gradient * triples * o**3 * v**4,
    }
    if fitted:
        auxiliary = sizes.auxiliary_ri
        work |= _fitting(n, auxiliary) | {"fitted ladder": factor * auxiliary * v**4}
    else:
        work |= {
            "whole transformation": factor * (o + v) * n**4,
            "last transformation": factor * n * (o + v) ** 4,
        }
    memory = 1.25 * (BASE_MB + (8 * v**4 + (0 if fitted else n**4)) / 1e6) * (2.5 if unrestricted else 1.0)
    if gradient:
        # Of triples, those of one pair at a time.
        memory = 1.5 * memory + (1e-4 * o * v**3 if triples else 0.0)
    return Calculation("", work, memory, 2e-6 * v**4)


def kept_orbitals(sizes: Sizes, threshold: float | None) -> float:
    """Estimate how many virtual natural orbitals are occupied by more than a threshold, in electrons."""
    if threshold is None or not sizes.active or not sizes.virtual:
        return sizes.virtual
    return float((sizes.virtual**-2 + threshold / (KEPT_OF_A_PAIR * sizes.active) ** 2) ** -0.5)
