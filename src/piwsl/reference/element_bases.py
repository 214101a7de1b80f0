"""Which basis each element has where a level names one: it need not be that, and then the record says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ase.data import atomic_numbers

from piwsl.config.stages import MEAN_FIELD
from piwsl.reference.basis_sets import (
    automatic_fitting_functions,
    core_potential,
    functions,
    has_element,
)
from piwsl.reference.components import AUTOMATIC, UNIVERSAL_JK, fitting_bases, required_components, usual_fitting_bases
from piwsl.reference.engines.pyscf import PySCF

Purpose = Literal["jk", "ri"]
# Beyond krypton UNIVERSAL_JK is made for def2's core potentials.
HEAVIEST_ALL_ELECTRON = 36
# Ga to Kr, of which 3d is full. Products of two d functions reach g, of which these fitting bases have none: exchange
# of 3d would be 0.5 to 0.7 Hartree off, of HBr by 0.1 eV/Å along the bond. Those of cc-pVTZ are the same with g.
WITH_3D = range(31, 37)
WITHOUT_PAIRS_OF_D = {"cc-pvdz-jkfit": "cc-pvtz-jkfit", "aug-cc-pvdz-jkfit": "aug-cc-pvtz-jkfit"}
CORE_VALENCE = re.compile(r"^(?P<head>(aug-)?cc-p)w?c(?P<tail>v[dtq56]z)$")
FOR_CORES = re.compile(r"^(aug-)?cc-pw?cv")
TIGHT_D = re.compile(r"^(?P<head>(aug-)?cc-pv)\((?P<letter>[dtq56])\+d\)z$")
WITHOUT_CORE = {"H", "He"}
WITH_TIGHT_D = {"Al", "Si", "P", "S", "Cl", "Ar"}


def orbital_basis(level: PySCF, basis: str, symbol: str) -> str:
    """Return the orbital basis that an element has where a level says `basis`.

    That which the level says for it (element_bases). Else, where the basis has nothing of the element because there is
    nothing to add to the valence basis, that: cc-pCVXZ adds functions for cores, which hydrogen and helium have not
    (Woon, Dunning, J. Chem. Phys. 103, 4572 (1995)); cc-pV(X+d)Z a tight d function to Al to Ar (Dunning, Peterson,
    Wilson, J. Chem. Phys. 114, 9244 (2001)).

    Args:
        level: the level.
        basis: one of the level's.
        symbol: chemical symbol.
    """
    said = level.element_bases.get(basis, {}).get(symbol)
    if said is not None:
        return said
    valence = _valence_basis(basis, symbol)
    return basis if valence is None or has_element(basis, symbol) else valence


def _valence_basis(basis: str, symbol: str) -> str | None:
    if symbol in WITHOUT_CORE and (match := CORE_VALENCE.match(basis)):
        return match["head"] + match["tail"]
    if symbol not in WITH_TIGHT_D and (match := TIGHT_D.match(basis)):
        return f"{match['head']}{match['letter']}z"
    return None


def fitting_basis(level: PySCF, basis: str, symbol: str, purpose: Purpose) -> str:
    """Return the fitting basis of an element for an orbital basis of a level.

    That which the level says (auxiliary_bases); else the family's own, where it has the element, but for
    `WITHOUT_PAIRS_OF_D`; else def2-universal-jkfit for Coulomb and exchange (Weigend, J. Comput. Chem. 29, 167 (2008)),
    and one that is made for the orbital basis for correlation, and for what def2-universal-jkfit does not fit: cores
    beyond krypton.

    A level that says the family's own is the level that says none: one recipe has one energy.

    Args:
        level: the level.
        basis: orbital basis as the level says.
        symbol: chemical symbol.
        purpose: Coulomb and exchange, or correlation.
    """
    said: str = getattr(fitting_bases(level, basis), purpose)
    if said != getattr(usual_fitting_bases(basis), purpose):
        return said
    orbital = orbital_basis(level, basis, symbol)
    candidates = _fitting_for_exchange(orbital, symbol) if purpose == "jk" else _fitting_for_correlation(orbital)
    return next((name for name in candidates if has_element(name, symbol)), AUTOMATIC)


def refitted(level: PySCF, basis: str, symbols: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return by the family's own fitting basis of exchange what elements have in its place that it does not fit.

    Of old, they had that basis: kept energies that do not say the other one are not to be taken.

    Args:
        level: the level.
        basis: orbital basis as the level says, which is fitted.
        symbols: chemical symbols.
    """
    said = fitting_bases(level, basis).jk
    found = {
        symbol: taken
        for symbol in sorted(set(symbols))
        if (taken := fitting_basis(level, basis, symbol, "jk")) == WITHOUT_PAIRS_OF_D.get(said)
    }
    return {said: found} if found else {}


def _fitting_for_exchange(orbital: str, symbol: str) -> list[str]:
    heavy = int(atomic_numbers[symbol]) > HEAVIEST_ALL_ELECTRON
    universal = [] if heavy and core_potential(orbital, symbol) is None else [UNIVERSAL_JK]
    own = f"{orbital}-jkfit"
    if int(atomic_numbers[symbol]) in WITH_3D:
        own = WITHOUT_PAIRS_OF_D.get(own, own)
    return universal if orbital.startswith("def2-") else [own, *universal]


def _fitting_for_correlation(orbital: str) -> list[str]:
    names = [orbital]
    # Those of cc-pCVXZ are fitted with what is for cc-pwCVXZ, and those with a tight d function as without.
    if match := CORE_VALENCE.match(orbital):
        names.append(f"{match['head']}wc{match['tail']}")
    if match := TIGHT_D.match(orbital):
        names.append(f"{match['head']}{match['letter']}z")
    return [f"{name}-{ending}" for name in names for ending in ("ri", "rifit")]


def fitting_functions(level: PySCF, basis: str, symbols: Iterable[str], purpose: Purpose) -> dict[str, Any]:
    """Return the fitting functions of each element, as PySCF takes them; arguments as of `fitting_basis`."""
    found = {}
    for symbol in set(symbols):
        name = fitting_basis(level, basis, symbol, purpose)
        orbital = orbital_basis(level, basis, symbol)
        found[symbol] = automatic_fitting_functions(orbital, symbol) if name == AUTOMATIC else functions(name, symbol)
    return found


def for_valence_alone(level: PySCF, symbols: Iterable[str]) -> dict[str, str]:
    """Return by element a basis in which a level correlates it, and which has no functions for its core."""
    return {
        symbol: basis
        for symbol in sorted(set(symbols))
        for part in required_components(level)
        if part.method not in MEAN_FIELD
        for basis in [orbital_basis(level, part.mean_field.basis, symbol)]
        if not FOR_CORES.match(basis)
    }


def substitutions(level: PySCF, symbols: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return where elements have other bases than a level names: by the name, what each of them has."""
    found: dict[str, dict[str, str]] = {}
    for named, symbol, taken in _taken(level, sorted(set(symbols))):
        if taken != named:
            found.setdefault(named, {})[symbol] = taken
    return found


def says(bases_of_elements: Mapping[str, Mapping[str, str]], bases: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a record's bases of elements are those, by the name of what they stand in place of, of all in `bases`."""
    return all(
        bases_of_elements.get(named, {}).get(symbol) == taken
        for named, of_elements in bases.items()
        for symbol, taken in of_elements.items()
    )


def _taken(level: PySCF, symbols: list[str]) -> Iterable[tuple[str, str, str]]:
    for part in required_components(level):
        key = part.mean_field
        for symbol in symbols:
            yield key.basis, symbol, orbital_basis(level, key.basis, symbol)
            if key.density_fitting:
                fitting = fitting_bases(level, key.basis)
                yield fitting.jk, symbol, fitting_basis(level, key.basis, symbol, "jk")
                if part.method not in ("hf", "dft"):
                    yield fitting.ri, symbol, fitting_basis(level, key.basis, symbol, "ri")
