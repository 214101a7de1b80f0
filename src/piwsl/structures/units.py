"""Units of other programs in ours: eV, Å, eV/Å."""

from __future__ import annotations

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
    "kcal/mol/Å": units.kcal / units.mol,
    "kJ/mol/Å": units.kJ / units.mol,
}
