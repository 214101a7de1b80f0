"""What there is of functionals and bases, looked up before anything is computed."""

from __future__ import annotations

import re

from pyscf.dft import libxc
from pyscf.scf.dispersion import parse_dft

from piwsl.errors import PiwslError
from piwsl.reference.basis_sets import core_potential, has_core, has_element
from piwsl.reference.components import AUTOMATIC, required_components
from piwsl.reference.element_bases import fitting_basis, orbital_basis
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.gradients import has_nonlocal_correlation

# Contracted for another Hamiltonian than the one that is solved here.
RELATIVISTIC = re.compile(r"-(dk3?|dkh2?|zora|x2c)(-|$)|^(x2c|sarc2?|ano-rcc)")


def lacking(level: PySCF, symbols: set[str]) -> str | None:
    """Say what is lacking of the functional, and all orbital and fitting bases of a level for all elements.

    A basis that lacks the core of an element is refused where there is no core potential of the same name.

    Args:
        level: the level.
        symbols: chemical symbols.
    """
    try:
        _check(level, symbols)
    except PiwslError as error:
        return str(error)
    return None


def _check(level: PySCF, symbols: set[str]) -> None:
    for part in required_components(level):
        key = part.mean_field
        if key.functional is not None:
            check_functional(key.functional, key.dispersion)
        for symbol in sorted(symbols):
            _check_orbital_basis(key.basis, orbital_basis(level, key.basis, symbol), symbol)
            if key.density_fitting:
                _check_has(fitting_basis(level, key.basis, symbol, "jk"), symbol, "auxiliary_bases")
                if part.method not in ("hf", "dft"):
                    _check_has(fitting_basis(level, key.basis, symbol, "ri"), symbol, "auxiliary_bases")


def _check_orbital_basis(named: str, basis: str, symbol: str) -> None:
    """Check the basis that an element has where the level names another."""
    if RELATIVISTIC.search(basis):
        raise PiwslError(
            f"basis '{basis}' is contracted for a relativistic Hamiltonian, which is not solved here; name another"
        )
    _check_has(basis, symbol, f"element_bases: {{{named}: {{{symbol}: ...}}}}")
    if core_potential(basis, symbol) is None and not has_core(basis, symbol):
        raise PiwslError(
            f"basis '{basis}' of {symbol} is made for an effective core potential, and there is none of that name; "
            "name an all-electron basis, or one of def2"
        )


def _check_has(basis: str, symbol: str, key: str) -> None:
    if basis != AUTOMATIC and not has_element(basis, symbol):
        raise PiwslError(
            f"basis '{basis}' has no {symbol} in PySCF or the Basis Set Exchange; name another, or one for {symbol} "
            f"({key})"
        )


def check_functional(name: str, dispersion: str | None) -> None:
    """Check that PySCF computes a functional in full.

    PySCF reads a name it does not know as a sum (wb97x-2 as wb97x minus 2 of something): the name must be known.

    Raises:
        PiwslError: the functional is unknown, or not whole (double hybrids, some dispersion corrections).
    """
    try:
        bare, _, own_dispersion = parse_dft(name)
        libxc.parse_xc(bare)
    except (NotImplementedError, KeyError, ValueError) as error:  # what PySCF raises for names it cannot compute
        raise PiwslError(f"functional '{name}' is not to be had in PySCF: {' '.join(map(str, error.args))}") from None
    if not all(_is_libxc_name(part) for part in bare.upper().split(",") if part):
        raise PiwslError(f"functional '{name}' is no name that PySCF knows; see pyscf.dft.libxc.XC_CODES")
    if own_dispersion and dispersion and own_dispersion != dispersion:
        raise PiwslError(f"functional '{name}' brings its own dispersion, {own_dispersion}; leave out '{dispersion}'")
    if dispersion and has_nonlocal_correlation(name):
        raise PiwslError(f"functional '{name}' has nonlocal (VV10) correlation; '{dispersion}' would count it twice")


def _is_libxc_name(name: str) -> bool:
    underscored = name.replace("-", "_")
    if name.replace("-", "") in libxc.XC_ALIAS or {name, underscored, name.replace("-", "")} & set(libxc.XC_CODES):
        return True
    return any(
        str(code).endswith((f"_XC_{underscored}", f"_X_{underscored}", f"_C_{underscored}")) for code in libxc.XC_CODES
    )
