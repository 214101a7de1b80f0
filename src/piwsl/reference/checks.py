"""Checks of a computed dataset before anything is computed: geometries, electrons, bases, functionals, forces."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ase import Atoms

from piwsl.config import ComputedDataset, ConfigError, Geometries, Level, Molecule, level_checks
from piwsl.errors import PiwslError
from piwsl.reference.failures import PERIODIC
from piwsl.reference.forces import ForceMethod, check_forces, force_method
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
    multiplicities = {multiplicity_of(atoms) for atoms in structures}
    some = dataset.training_forces or dataset.test_force_frames > 0
    by = force_method(level, multiplicities, dataset.forces_by) if some else dataset.forces_by
    slopes: ForceMethod | None = "slope" if dataset.test_slope_frames else None
    for key, forces in (("forces_by", by), ("test_slope_frames", slopes)):
        try:
            check_forces(level, multiplicities, forces)
        except PiwslError as error:
            raise ConfigError(f"{where}.{key}: {error}") from None
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


def check_cheap_levels(names: list[str], levels: Mapping[str, Level], symbols: set[str]) -> None:
    """Check that all cheap levels of a dataset can be computed.

    Args:
        names: of them.
        levels: of the experiment.
        symbols: chemical symbols of the dataset.

    Raises:
        ConfigError: what a level is missing.
    """
    for name in names:
        try:
            check_level(levels[name], symbols)
        except PiwslError as error:
            raise ConfigError(f"levels.{name}: {error}") from None


def check_level(level: Level, symbols: set[str]) -> None:
    """Check that an engine has all that a level needs for these elements, and answers what jobs will ask.

    Args:
        level: the level.
        symbols: chemical symbols.

    Raises:
        PiwslError: what is missing, or which answer is none.
    """
    problem = level_checks.problem_said(level, "problem", symbols)
    if problem is not None:
        raise PiwslError(problem)
    level_checks.in_words(level)
    for each in (level, level_checks.of_free_atoms(level)):
        level_checks.recipe(each)
    level_checks.versions(level)
