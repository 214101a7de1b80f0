"""What PySCF has of functionals and bases, looked up before anything is computed."""

from __future__ import annotations

import warnings
from typing import Any

from pyscf import gto
from pyscf.dft import libxc
from pyscf.scf.dispersion import parse_dft
from scipy.linalg import eigh

from piwsl.errors import PiwslError
from piwsl.reference.components import fitting_bases, required_components
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.gradients import has_nonlocal_correlation

# Of the energy of one electron at the bare nucleus; see has_core.
CORE_SHARE = 0.9


def lacking(level: PySCF, symbols: set[str]) -> str | None:
    """Say what PySCF lacks of the functional, and all orbital and fitting bases of a level for all elements.

    A basis that lacks the core of an element is refused where PySCF has no core potential of the same name.

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
        bases = [key.basis]
        if key.functional is not None:
            check_functional(key.functional, key.dispersion)
        if key.density_fitting:
            try:
                fitting = fitting_bases(level, key.basis)
            except ValueError as error:
                raise PiwslError(str(error)) from None
            bases += [fitting.jk] if part.method in ("hf", "dft") else [fitting.jk, fitting.ri]
        for basis in bases:
            for symbol in sorted(symbols):
                if not _has(basis, symbol):
                    raise PiwslError(
                        f"basis '{basis}' has no {symbol} in PySCF; name a basis that has all of "
                        f"{', '.join(sorted(symbols))}"
                    )
        for symbol in sorted(symbols):
            if core_potential(key.basis, symbol) is None and not has_core(key.basis, symbol):
                raise PiwslError(
                    f"basis '{key.basis}' of {symbol} is made for an effective core potential, and PySCF has none of "
                    "that name; name an all-electron basis, or one of def2"
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


def core_potential(basis: str, symbol: str) -> list[Any] | None:
    """Return the effective core potential that belongs to a basis, as PySCF takes it; None where there is none.

    Args:
        basis: PySCF's name of it, which is that of the potential, too.
        symbol: chemical symbol.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return gto.basis.load_ecp(basis, symbol) or None
    # What PySCF raises where there is none.
    except (KeyError, IndexError, OSError, RuntimeError, TypeError, gto.BasisNotFoundError):
        return None


def has_core(basis: str, symbol: str) -> bool:
    """Whether a basis describes the innermost electrons of an element, as all-electron bases do.

    One electron in the field of the bare nucleus has the energy -Z²/2 Hartree. All-electron bases of PySCF come to 0.93
    of it (STO-3G of hydrogen) or more; those that are made for a core potential, whose functions have no core to
    describe, to 0.76 (crenbl of sodium) or less.

    Args:
        basis: PySCF's name of it, which has the element.
        symbol: chemical symbol.
    """
    number = gto.charge(symbol)
    atom = gto.M(
        atom=[(symbol, (0.0, 0.0, 0.0))], basis={symbol: gto.basis.load(basis, symbol)}, spin=number % 2, verbose=0
    )
    one_electron = atom.intor("int1e_kin") + atom.intor("int1e_nuc")
    lowest = eigh(one_electron, atom.intor("int1e_ovlp"), eigvals_only=True)[0]
    return bool(lowest < -CORE_SHARE * number**2 / 2)


def _has(basis: str, symbol: str) -> bool:
    try:
        with warnings.catch_warnings():  # PySCF advises to install a package for bases it lacks
            warnings.simplefilter("ignore")
            return bool(gto.basis.load(basis, symbol))
    except (KeyError, RuntimeError, gto.BasisNotFoundError):
        return False
