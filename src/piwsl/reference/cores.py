"""Which core orbitals are left uncorrelated: PySCF's chemical cores, or as many of an element as a level says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from pyscf import gto, scf
from pyscf.data.elements import chemcore_atm

from piwsl.config.stages import CORRELATION_CONSISTENT

FrozenCore = bool | Mapping[str, int]
# Of the orbitals of an element's cores: theirs lie within a tenth of one on its atoms, and one in another's place is 1.
MISPLACED = 0.5

# Full shells below the valence, which PySCF does not count as cores, and how many orbitals are frozen with them.
D_SHELLS = {"3d": (range(31, 37), 14), "4d": (range(49, 55), 23), "5d": (range(81, 87), 39)}
# Those of alkali and alkaline earth metals, which def2 has functions for and cc-pVXZ has none.
OUTER_CORES = {
    "1s": (range(3, 5), 1),
    "2s 2p": (range(11, 13), 5),
    "3s 3p": (range(19, 21), 9),
    "4s 4p": (range(37, 39), 18),
    "5s 5p": (range(55, 57), 27),
    "6s 6p": (range(87, 89), 43),
}


class CorrelatedShell(NamedTuple):
    """A shell below the valence that is correlated with it."""

    name: str
    frozen: int
    """How many orbitals of the element are to be frozen for it not to be."""


def correlated_shell(symbol: str, frozen_core: FrozenCore, basis: str) -> CorrelatedShell | None:
    """Return the shell of an element that is correlated though it is full and below the valence, if one is.

    Without functions for it the correlation of 2s and 2p of sodium grows with cc-pVXZ, the shorter a bond the more:
    extrapolated, NaH has no minimum above 1.6 Å. cc-pVXZ of these elements is for the valence alone: Prascher, Woon,
    Peterson, Dunning, Wilson, Theor. Chem. Acc. 128, 69 (2011).

    Args:
        symbol: of the element.
        frozen_core: as of `frozen_by_element`; nothing is said where all electrons are to be correlated.
        basis: of the element, one without functions for its core.
    """
    if frozen_core is False:
        return None
    said = {} if frozen_core is True else frozen_core
    shells = D_SHELLS | (OUTER_CORES if CORRELATION_CONSISTENT.match(basis) else {})
    for name, (elements, frozen) in shells.items():
        if gto.charge(symbol) in elements and said.get(symbol, core_orbitals(symbol)) < frozen:
            return CorrelatedShell(name, frozen)
    return None


def unusual_counts(frozen_core: FrozenCore) -> FrozenCore:
    """Return which cores are frozen, without counts that are PySCF's own; True where all are."""
    if isinstance(frozen_core, bool):
        return frozen_core
    return {symbol: count for symbol, count in frozen_core.items() if count != core_orbitals(symbol)} or True


def core_orbitals(symbol: str) -> int:
    """Return how many orbitals PySCF takes for the chemical core of an element, a core potential's among them."""
    return int(chemcore_atm[gto.charge(symbol)])


def frozen_by_element(molecule: gto.Mole, frozen_core: FrozenCore) -> dict[str, int]:
    """Return how many orbitals of an atom of each element are not correlated; those in a core potential are none.

    Args:
        molecule: PySCF's, with the electrons of core potentials taken out.
        frozen_core: whether cores are frozen, or counts by element in place of PySCF's.
    """
    if frozen_core is False:
        return {molecule.atom_pure_symbol(atom): 0 for atom in range(molecule.natm)}
    said = {} if frozen_core is True else frozen_core
    found = {}
    for atom in range(molecule.natm):
        symbol = molecule.atom_pure_symbol(atom)
        replaced = molecule.atom_nelec_core(atom) // 2
        found[symbol] = max(said.get(symbol, core_orbitals(symbol)) - replaced, 0)
    return found


def frozen_orbitals(molecule: gto.Mole, frozen_core: FrozenCore) -> int:
    """Return how many orbitals of a molecule, the lowest, are not correlated; arguments as of `frozen_by_element`."""
    by_element = frozen_by_element(molecule, frozen_core)
    return sum(by_element[molecule.atom_pure_symbol(atom)] for atom in range(molecule.natm))


def core_problem(mean_field: scf.hf.SCF, frozen_core: FrozenCore) -> str | None:
    """Say of which element the lowest orbitals of a molecule are not the cores that are to be frozen.

    The lowest are frozen, whosever they are, and the valence of one element may lie below the core of another: 3d of
    bromine and 4d of iodine below 2p of sodium. By the populations of Mulliken, J. Chem. Phys. 23, 1833 (1955).

    Args:
        mean_field: converged.
        frozen_core: as of `frozen_by_element`.
    """
    molecule = mean_field.mol
    by_element = frozen_by_element(molecule, frozen_core)
    symbols = [molecule.atom_pure_symbol(atom) for atom in range(molecule.natm)]
    frozen = sum(by_element[symbol] for symbol in symbols)
    orbitals = np.reshape(mean_field.mo_coeff, (-1, *np.shape(mean_field.mo_coeff)[-2:]))[:, :, :frozen]
    populations = np.einsum("spi,pq,sqi->sp", orbitals, mean_field.get_ovlp(), orbitals)
    for symbol, count in by_element.items():
        atoms = [atom for atom, other in enumerate(symbols) if other == symbol]
        functions = [np.arange(first, last) for *_, first, last in molecule.aoslice_by_atom()[atoms]]
        for held in populations[:, np.concatenate(functions)].sum(axis=1):
            if abs(held - count * len(atoms)) > MISPLACED:
                return (
                    f"of the {frozen} lowest orbitals {held:.1f} are of {symbol}, and {count * len(atoms)} are to be "
                    "frozen of it: cores and valence do not lie apart; freeze fewer or more (frozen_core)"
                )
    return None
