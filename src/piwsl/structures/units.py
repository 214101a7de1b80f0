"""Units of other programs in ours: eV, Å, eV/Å; and how people write them."""

from __future__ import annotations

import unicodedata

from ase import units

ENERGY_UNITS = {
    "eV": 1.0,
    "Hartree": units.Hartree,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
}
FORCE_UNITS = {
    "eV/Å": 1.0,
    "Hartree/Bohr": units.Hartree / units.Bohr,
    "Hartree/Å": units.Hartree,
    "kcal/mol/Å": units.kcal / units.mol,
    "kJ/mol/Å": units.kJ / units.mol,
}


STRESS_UNITS = {
    "eV/Å³": 1.0,
    "GPa": units.GPa,
    "kbar": 0.1 * units.GPa,
    "Hartree/Bohr³": units.Hartree / units.Bohr**3,
}


ELECTRONVOLTS, HARTREES = ("ev", "electronvolt"), ("hartree", "hartrees", "ha", "eh", "au", "a.u.")
KCAL, KJ = ("kcal/mol", "kcalmol-1", "kcal/mole"), ("kj/mol", "kjmol-1", "kj/mole")
ANGSTROMS = ("å", "a", "ang", "angstrom", "angstroms", "ångström", "ångstrom", "aa")
BOHRS = ("bohr", "a0", "bohrs", "au", "a.u.")
# Canonical names by what people write, in lower case.
ENERGY_SPELLINGS = {
    spelling: name
    for name, spellings in zip(ENERGY_UNITS, (ELECTRONVOLTS, HARTREES, KCAL, KJ), strict=True)
    for spelling in spellings
}
FORCE_SPELLINGS = {
    f"{energy}/{length}": name
    for name, energies, lengths in (
        ("eV/Å", ELECTRONVOLTS, ANGSTROMS),
        ("Hartree/Bohr", HARTREES, BOHRS),
        ("Hartree/Å", HARTREES, ANGSTROMS),
        ("kcal/mol/Å", KCAL, ANGSTROMS),
        ("kJ/mol/Å", KJ, ANGSTROMS),
    )
    for energy in energies
    for length in lengths
} | {"au": "Hartree/Bohr", "a.u.": "Hartree/Bohr"}


STRESS_SPELLINGS = {
    f"{energy}/{length}{power}": name
    for name, energies, lengths in (
        ("eV/Å³", ELECTRONVOLTS, ANGSTROMS),
        ("Hartree/Bohr³", HARTREES, BOHRS),
    )
    for energy in energies
    for length in lengths
    for power in ("3", "^3", "**3")
} | {"gpa": "GPa", "kbar": "kbar", "kb": "kbar"}


def canonical_unit(written: str, spellings: dict[str, str]) -> str:
    """Return our name of a unit, or what was written where it is none that we know.

    Args:
        written: such as "kcal/mol/A", "ha/a0", "EV/ang".
        spellings: `ENERGY_SPELLINGS`, `FORCE_SPELLINGS` or `STRESS_SPELLINGS`.
    """
    plain = unicodedata.normalize("NFKC", written).lower().replace(" ", "")
    return spellings.get(plain, written)
