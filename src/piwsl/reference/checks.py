"""Checks of a computed dataset before anything is computed: molecule, electrons, basis sets."""

from __future__ import annotations

import warnings

from ase.data import chemical_symbols
from pyscf import gto

from piwsl.config import ComputedDataset, ConfigError, Level
from piwsl.errors import PiwslError
from piwsl.reference.calculations import FrameFailure, auxiliary_bases, required_components
from piwsl.reference.frames import electron_problem
from piwsl.reference.sampling import load_molecule


def check_computed_dataset(name: str, dataset: ComputedDataset, level: Level) -> None:
    """Check that a dataset can be computed.

    Args:
        name: of the dataset in the config, for messages.
        dataset: the section.
        level: the level it names.

    Raises:
        ConfigError: the molecule is unknown, charge and multiplicity do not fit it, or a basis lacks an element.
    """
    try:
        atoms = load_molecule(dataset.molecule)
    except PiwslError as error:
        raise ConfigError(f"datasets.{name}.molecule: {error}") from None
    if len(atoms) < 2:
        raise ConfigError(f"datasets.{name}.molecule: one atom alone has no geometry to sample")
    problem = electron_problem(atoms.numbers.tolist(), dataset.molecule.charge, dataset.molecule.multiplicity)
    if problem is not None:
        raise ConfigError(f"datasets.{name}.molecule: {problem}")
    try:
        check_bases(level, {chemical_symbols[number] for number in atoms.numbers})
    except PiwslError as error:
        raise ConfigError(f"levels.{dataset.level}: {error}") from None


def check_bases(level: Level, symbols: set[str]) -> None:
    """Check that all orbital and fitting bases of a level have all elements.

    Args:
        level: the level.
        symbols: chemical symbols.

    Raises:
        PiwslError: a basis that PySCF does not have, or that lacks an element.
    """
    for component in required_components(level):
        bases = [component.basis]
        if component.density_fitting:
            try:
                bases += auxiliary_bases(component.basis)
            except FrameFailure as failure:
                raise PiwslError(failure.reason) from None
        for basis in bases:
            for symbol in sorted(symbols):
                if not _has(basis, symbol):
                    raise PiwslError(
                        f"basis '{basis}' has no {symbol} in PySCF; name a basis that has all of "
                        f"{', '.join(sorted(symbols))}"
                    )


def _has(basis: str, symbol: str) -> bool:
    try:
        with warnings.catch_warnings():  # PySCF advises to install a package for bases it lacks
            warnings.simplefilter("ignore")
            return bool(gto.basis.load(basis, symbol))
    except (KeyError, RuntimeError, gto.BasisNotFoundError):
        return False
