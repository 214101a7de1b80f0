"""Which core orbitals are left uncorrelated: PySCF's chemical cores, or as many of an element as a level says."""

from __future__ import annotations

from collections.abc import Mapping

from pyscf import gto
from pyscf.data.elements import chemcore_atm

FrozenCore = bool | Mapping[str, int]


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
