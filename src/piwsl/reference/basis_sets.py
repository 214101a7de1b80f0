"""Functions and core potentials of a basis by element: PySCF's, and the Basis Set Exchange's where PySCF has none.

Pritchard, Altarawy, Didier, Gibson, Windus, J. Chem. Inf. Model. 59, 4814 (2019). PySCF asks the exchange itself for
functions; here it is said what is missing, and the exchange is asked for potentials, too.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

from pyscf import df, gto
from scipy.linalg import eigh

from piwsl.extras import naming_extras

# Of the energy of one electron at the bare nucleus; see has_core.
CORE_SHARE = 0.9
# What PySCF raises where it lacks a basis or an element of it.
MISSING = (KeyError, IndexError, OSError, RuntimeError, TypeError, gto.BasisNotFoundError)


def functions(basis: str, symbol: str) -> list[Any] | None:
    """Return the functions of an element in a basis, as PySCF takes them; None where nobody has them.

    Args:
        basis: its name in PySCF or the Basis Set Exchange.
        symbol: chemical symbol.

    Raises:
        PiwslError: PySCF lacks them, and the package of the exchange is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return gto.basis.load(basis, symbol) or None
        except MISSING:
            with naming_extras():
                import basis_set_exchange  # noqa: F401  # which PySCF has asked, then
            return None


@cache
def has_element(basis: str, symbol: str) -> bool:
    """Whether there are functions of an element in a basis; arguments and errors as of `functions`."""
    return functions(basis, symbol) is not None


@cache
def has_core(basis: str, symbol: str) -> bool:
    """Whether a basis describes the innermost electrons of an element, as all-electron bases do.

    One electron in the field of the bare nucleus has the energy -Z²/2 Hartree. All-electron bases of PySCF come to 0.93
    of it (STO-3G of hydrogen) or more; those that are made for a core potential, whose functions have no core to
    describe, to 0.76 (crenbl of sodium) or less.

    Args:
        basis: which has the element.
        symbol: chemical symbol.
    """
    number = gto.charge(symbol)
    atom = _atom(symbol, functions(basis, symbol), None)
    one_electron = atom.intor("int1e_kin") + atom.intor("int1e_nuc")
    lowest = eigh(one_electron, atom.intor("int1e_ovlp"), eigvals_only=True)[0]
    return bool(lowest < -CORE_SHARE * number**2 / 2)


def core_potential(basis: str, symbol: str) -> list[Any] | None:
    """Return the effective core potential that belongs to a basis, as PySCF takes it; None where there is none.

    Args:
        basis: name of it, which is that of the potential, too.
        symbol: chemical symbol.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = gto.basis.load_ecp(basis, symbol) or None
        except MISSING:
            found = None
    if found is None and has_element(basis, symbol) and not has_core(basis, symbol):
        return _potential_of_exchange(basis, symbol)
    return found


def _potential_of_exchange(basis: str, symbol: str) -> list[Any] | None:
    with naming_extras():
        import basis_set_exchange

    try:
        text = basis_set_exchange.get_basis(basis, elements=symbol, fmt="nwchem", header=False)
    except MISSING:
        return None
    _, potentials, block = text.partition("\nECP\n")
    return gto.basis.parse_ecp(potentials + block, symbol) if block else None


def automatic_fitting_functions(basis: str, symbol: str) -> list[Any]:
    """Make a fitting basis of an element for Coulomb, exchange and correlation, out of its orbital basis.

    Stoychev, Auer, Neese, J. Chem. Theory Comput. 13, 554 (2017), as PySCF has it.

    Args:
        basis: orbital basis, which has the element.
        symbol: chemical symbol.
    """
    return df.autoaux(_atom(symbol, functions(basis, symbol), core_potential(basis, symbol)))[symbol]


def _atom(symbol: str, of_element: Any, potential: list[Any] | None) -> gto.Mole:
    return gto.M(
        atom=[(symbol, (0.0, 0.0, 0.0))],
        basis={symbol: of_element},
        ecp={} if potential is None else {symbol: potential},
        spin=None,
        verbose=0,
    )
