"""Checks of a computed dataset before anything is computed: geometries, electrons, bases, functionals, forces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ase import Atoms

from piwsl.config import ComputedDataset, ConfigError, Geometries, Level, Molecule, level_checks
from piwsl.config.level_checks import problem_said
from piwsl.errors import PiwslError
from piwsl.reference.failures import PERIODIC
from piwsl.reference.forces import ForceMethod, check_forces, force_method
from piwsl.reference.geometries import indices_of, indices_of_parts, load_molecule, read_file, unpaired_electrons
from piwsl.reference.store import rounded
from piwsl.structures.frames import charge_of, electron_problem, multiplicity_of, too_close
from piwsl.structures.geometry import atom_problem, geometry_problem, symbols_of


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
    for position, atoms in enumerate(frames):
        if atoms.pbc.any():
            raise PiwslError(f'frame {position} of {source} is {PERIODIC}; if it is one, its line must say pbc="F F F"')
    return _multiplicities(frames)


def _multiplicities(frames: Iterable[Atoms]) -> set[int]:
    found = set()
    for atoms in frames:
        with suppress(PiwslError):
            found.add(multiplicity_of(atoms))
    return found


def _checked_molecule(where: str, molecule: Molecule) -> Atoms:
    try:
        atoms = load_molecule(molecule)
    except PiwslError as error:
        raise ConfigError(f"{where}: {error}") from None
    problem = geometry_problem(atoms) or too_close(atoms)
    if problem is not None:
        raise ConfigError(f"{where}: {f'frame 0 of {molecule.file}: ' if molecule.file else ''}{problem}")
    if len(atoms) < 2:
        raise ConfigError(f"{where}: one atom alone has no geometry to sample")
    unpaired = unpaired_electrons(molecule)
    # What RDKit counts at a metal may not fit the number of electrons.
    possible = electron_problem(atoms.numbers.tolist(), molecule.charge, unpaired + 1) is None
    if unpaired and possible and "multiplicity" not in molecule.model_fields_set:
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
        files = {path: read_file(path, geometries) for path in geometries.files.values()}
    except PiwslError as error:
        raise ConfigError(f"{where}: {error}") from None
    for path, frames in files.items():
        for position, atoms in enumerate(frames):
            problem = atom_problem(atoms) or electron_problem(
                atoms.numbers.tolist(), charge_of(atoms), multiplicity_of(atoms)
            )
            if problem is not None:
                raise ConfigError(f"{where}: frame {position} of {path}: {problem}")
    _check_parts(where, geometries, {path: len(frames) for path, frames in files.items()}, dataset)
    if geometries.pool_file == geometries.file:
        raise ConfigError(f"{where}.pool_file: is file itself; leave it out, and its frames that are left are the pool")
    _check_no_test_frame_is_elsewhere(where, geometries, files)
    labelled = [atoms for path in geometries.labelled_files for atoms in files[path]]
    pool = [] if geometries.pool_file is None else files[geometries.pool_file]
    if unknown := sorted(symbols_of(pool) - symbols_of(labelled)):
        raise ConfigError(
            f"{where}.pool_file: {geometries.pool_file} holds {', '.join(unknown)}, which no labelled frame does; take "
            "those frames out"
        )
    return labelled


def _check_parts(where: str, geometries: Geometries, frames: Mapping[Path, int], dataset: ComputedDataset) -> None:
    pool = dataset.pool_frames or 0
    if geometries.pool_file is not None and not pool and dataset.budget is None:
        raise ConfigError(f"{where}.pool_file: say how many of its frames to take, pool_frames")
    parts = indices_of_parts(geometries, frames, pool)
    blocks = f"{geometries.blocks} blocks, test_fraction {geometries.test_fraction:g}"
    cut = [] if geometries.test_file is not None else [blocks]
    cut += [f"pool_frames {pool}"] if pool and geometries.pool_file is None else []
    for part, wanted in (("training", dataset.training_frames), ("test", dataset.test_frames), ("pool", pool)):
        path = geometries.file_of(part)
        if wanted > len(parts[part]):
            beside = f" ({', '.join(cut)})" if cut and path == geometries.file else ""
            change = "ask for fewer, or change test_fraction" if blocks in cut else "ask for fewer, or give more"
            raise ConfigError(
                f"{where}: {path} has {frames[path]} frames, {len(parts[part])} of them for {part}{beside}, and "
                f"{part}_frames asks for {wanted}; {change}"
            )


def _check_no_test_frame_is_elsewhere(where: str, geometries: Geometries, files: Mapping[Path, list[Atoms]]) -> None:
    """Refuse a test frame that is a frame of another file, to the digits that labels are kept by."""
    test_file = geometries.file_of("test")
    own = indices_of("test", len(files[test_file]), geometries)
    tested = {_digits(files[test_file][position]): int(position) for position in own}
    others = {geometries.file, geometries.file_of("pool")}
    if geometries.test_file is None:
        others.remove(geometries.file)  # whose blocks are apart
    for path in others:
        for position, atoms in enumerate(files[path]):
            if (twin := tested.get(_digits(atoms))) is not None:
                raise ConfigError(
                    f"{where}: test frame {twin} of {test_file} is frame {position} of {path}; take it out of one"
                )


def _digits(atoms: Atoms) -> tuple[bytes, bytes]:
    return atoms.numbers.tobytes(), rounded(atoms).positions.tobytes()


def check_cheap_levels(names: list[str], levels: Mapping[str, Level], frames: list[Atoms]) -> None:
    """Check that all cheap levels of a dataset can be computed, forces included.

    Args:
        names: of them.
        levels: of the experiment.
        frames: of the dataset, or its molecule.

    Raises:
        ConfigError: what a level is missing: an element, a program, or analytic forces of any multiplicity that occurs.
    """
    symbols, multiplicities = symbols_of(frames), sorted(_multiplicities(frames))
    for name in names:
        try:
            check_level(levels[name], symbols)
        except PiwslError as error:
            raise ConfigError(f"levels.{name}: {error}") from None
        problems = [problem_said(levels[name], "analytic_problem", multiplicity) for multiplicity in multiplicities]
        if problems and all(problems):
            raise ConfigError(
                f"levels.{name}: no analytic forces of multiplicity {multiplicities[0]} ({problems[0]}), which cheap "
                "levels are asked for"
            )


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
