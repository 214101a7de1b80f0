"""Checks of a computed dataset before anything is computed: geometries, electrons, bases, functionals, forces."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

from ase import Atoms
from pyscf import gto
from pyscf.dft import libxc
from pyscf.scf.dispersion import parse_dft

from piwsl.config import ComputedDataset, ConfigError, Geometries, Level, Molecule
from piwsl.errors import PiwslError
from piwsl.reference.components import fitting_bases, required_components
from piwsl.reference.failures import PERIODIC
from piwsl.reference.forces import check_forces
from piwsl.reference.geometries import blocks_of, load_molecule, read_geometries, unpaired_electrons
from piwsl.structures.frames import charge_of, electron_problem, multiplicity_of
from piwsl.structures.geometry import atom_problem, geometry_problem


def check_computed_dataset(name: str, dataset: ComputedDataset, level: Level) -> list[Atoms]:
    """Check that a dataset can be computed.

    Args:
        name: of the dataset in the config, for messages.
        dataset: the section.
        level: the level it names.

    Returns:
        Its structures: the molecule, or all given geometries.

    Raises:
        ConfigError: the molecule is unknown, charge and multiplicity do not fit it, a basis lacks an element, the
            functional is unknown, or forces are asked for that the level does not have.
    """
    where = f"datasets.{name}"
    if dataset.molecule is not None:
        structures = [_checked_molecule(f"{where}.molecule", dataset.molecule)]
    else:
        assert dataset.geometries is not None
        structures = _checked_geometries(f"{where}.geometries", dataset.geometries, dataset)
    try:
        check_level(level, {symbol for atoms in structures for symbol in atoms.get_chemical_symbols()})
    except PiwslError as error:
        raise ConfigError(f"levels.{dataset.level}: {error}") from None
    try:
        check_forces(level, {multiplicity_of(atoms) for atoms in structures}, dataset.forces_by)
    except PiwslError as error:
        raise ConfigError(f"{where}.forces_by: {error}") from None
    return structures


def check_molecules(frames: list[Atoms], source: Path) -> set[int]:
    """Check that frames are molecules, and return the multiplicities that occur.

    A frame whose multiplicity is no whole number is none of theirs: it fails alone, when its turn comes.

    Args:
        frames: of a file.
        source: the file, for messages.

    Raises:
        PiwslError: a frame is periodic.
    """
    multiplicities = set()
    for position, atoms in enumerate(frames):
        if atoms.pbc.any():
            raise PiwslError(f'frame {position} of {source} is {PERIODIC}; if it is one, its line must say pbc="F F F"')
        with suppress(PiwslError):
            multiplicities.add(multiplicity_of(atoms))
    return multiplicities


def _checked_molecule(where: str, molecule: Molecule) -> Atoms:
    try:
        atoms = load_molecule(molecule)
    except PiwslError as error:
        raise ConfigError(f"{where}: {error}") from None
    problem = geometry_problem(atoms)
    if problem is not None:
        raise ConfigError(f"{where}: {f'frame 0 of {molecule.file}: ' if molecule.file else ''}{problem}")
    if len(atoms) < 2:
        raise ConfigError(f"{where}: one atom alone has no geometry to sample")
    unpaired = unpaired_electrons(molecule)
    if unpaired and "multiplicity" not in molecule.model_fields_set:
        raise ConfigError(
            f"{where}.multiplicity: '{molecule.smiles or molecule.name}' has {unpaired} unpaired electrons; "
            f"say {unpaired + 1}, or another one if they pair"
        )
    problem = electron_problem(atoms.numbers.tolist(), molecule.charge, molecule.multiplicity)
    if problem is not None:
        raise ConfigError(f"{where}: {problem}")
    return atoms


def _checked_geometries(where: str, geometries: Geometries, dataset: ComputedDataset) -> list[Atoms]:
    try:
        frames = read_geometries(geometries)
    except PiwslError as error:
        raise ConfigError(f"{where}: {error}") from None
    for position, atoms in enumerate(frames):
        problem = atom_problem(atoms) or electron_problem(
            atoms.numbers.tolist(), charge_of(atoms), multiplicity_of(atoms)
        )
        if problem is not None:
            raise ConfigError(f"{where}: frame {position} of {geometries.file}: {problem}")
    pool = dataset.pool_frames or 0
    parts = blocks_of(len(frames), geometries, pool)
    beside = f", pool_frames {pool}" if pool else ""
    for part, wanted in (("training", dataset.training_frames), ("test", dataset.test_frames), ("pool", pool)):
        if wanted > len(parts[part]):
            raise ConfigError(
                f"{where}: {geometries.file} has {len(frames)} frames, {len(parts[part])} of them for {part} "
                f"({geometries.blocks} blocks, test_fraction {geometries.test_fraction:g}{beside}), and {part}_frames "
                f"asks for {wanted}; ask for fewer, or change test_fraction"
            )
    return frames


def check_level(level: Level, symbols: set[str]) -> None:
    """Check that PySCF has the functional, and all orbital and fitting bases of a level for all elements.

    A basis that is made for an effective core potential is refused: none is computed.

    Args:
        level: the level.
        symbols: chemical symbols.

    Raises:
        PiwslError: what is missing.
    """
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
        for symbol in sorted(symbols):
            if _has_core_potential(key.basis, symbol):
                raise PiwslError(
                    f"basis '{key.basis}' of {symbol} is made for an effective core potential, which is not computed "
                    "here; name an all-electron basis"
                )
        for basis in bases:
            for symbol in sorted(symbols):
                if not _has(basis, symbol):
                    raise PiwslError(
                        f"basis '{basis}' has no {symbol} in PySCF; name a basis that has all of "
                        f"{', '.join(sorted(symbols))}"
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


def _is_libxc_name(name: str) -> bool:
    underscored = name.replace("-", "_")
    if name.replace("-", "") in libxc.XC_ALIAS or {name, underscored, name.replace("-", "")} & set(libxc.XC_CODES):
        return True
    return any(
        str(code).endswith((f"_XC_{underscored}", f"_X_{underscored}", f"_C_{underscored}")) for code in libxc.XC_CODES
    )


def _has_core_potential(basis: str, symbol: str) -> bool:
    """Whether PySCF knows a core potential of that name: without it the basis gives an energy of no meaning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(gto.basis.load_ecp(basis, symbol))
    except (KeyError, RuntimeError, TypeError, gto.BasisNotFoundError):  # what PySCF raises where there is none
        return False


def _has(basis: str, symbol: str) -> bool:
    try:
        with warnings.catch_warnings():  # PySCF advises to install a package for bases it lacks
            warnings.simplefilter("ignore")
            return bool(gto.basis.load(basis, symbol))
    except (KeyError, RuntimeError, gto.BasisNotFoundError):
        return False
