"""Geometries to start from: a molecule by name, file or SMILES; a file of many geometries, cut into blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import ase.build
import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import filetype
from numpy.typing import NDArray

from piwsl.config import Geometries, Molecule
from piwsl.errors import PiwslError
from piwsl.reference.failures import PERIODIC
from piwsl.reference.selection import in_turn
from piwsl.reference.store import rounded
from piwsl.structures.frames import (
    charge_of,
    free_atom_problem,
    multiplicity_of,
    read_frames,
    states_charge,
    states_multiplicity,
)
from piwsl.structures.seeds import generator

TRAINING, TEST, POOL = "training", "test", "pool"


def load_molecule(molecule: Molecule) -> Atoms:
    """Return the starting geometry, with charge and multiplicity in its info.

    Raises:
        PiwslError: ASE knows no such molecule, the file cannot be read, is not one molecule alone or says another
            charge or multiplicity, or RDKit cannot make a geometry of the SMILES.
    """
    if molecule.name is not None:
        try:
            atoms = ase.build.molecule(molecule.name)
        except KeyError:
            raise PiwslError(
                f"molecule '{molecule.name}' is not in ASE's G2 collection; give its geometry as 'file:' or 'smiles:'"
            ) from None
    elif molecule.smiles is not None:
        from piwsl.reference.smiles import from_smiles

        atoms = from_smiles(molecule.smiles, molecule.charge)
    else:
        assert molecule.file is not None
        atoms = _only_frame(molecule.file, molecule)
    atoms.info = {"charge": molecule.charge, "multiplicity": molecule.multiplicity}
    return atoms


def _only_frame(path: Path, molecule: Molecule) -> Atoms:
    frames = _frames_of(path)
    if len(frames) != 1:
        raise PiwslError(f"{path} has {len(frames)} frames; leave one to start from, or give them all as 'geometries:'")
    if frames[0].pbc.any():
        raise PiwslError(f"{path} is {PERIODIC}")
    for key, states, of_frame in (
        ("charge", states_charge, charge_of),
        ("multiplicity", states_multiplicity, multiplicity_of),
    ):
        said = getattr(molecule, key)
        if states(frames[0]) and (found := of_frame(frames[0])) != said:
            raise PiwslError(f"{path} says {key} {found}, and the config {key} {said}; make them agree")
    return Atoms(frames[0].numbers, frames[0].positions)


def _frames_of(path: Path) -> list[Atoms]:
    """Read a file of geometries: extended XYZ with our reader, all other formats with ASE's.

    Datasets share files, and each is asked for its frames many times before a job starts: a file is read once.

    Returns:
        Frames that are not to be changed.

    Raises:
        PiwslError: it cannot be read.
    """
    try:
        about = path.stat()
    except OSError:
        return _read(path, None)  # whose reader says it
    return _read(path, (about.st_mtime_ns, about.st_size, about.st_ino))


@lru_cache(maxsize=8)
def _read(path: Path, _stamp: tuple[int, int, int] | None) -> list[Atoms]:
    if path.suffix.lower() in (".xyz", ".extxyz"):
        return read_frames(path)
    try:
        frames = list(ase.io.read(str(path), index=":"))
        said = _electrons_of(path)
    except Exception as error:  # ASE raises many kinds for a missing or malformed file
        raise PiwslError(f"file '{path}' cannot be read: {error or type(error).__name__}") from None
    for frame in frames:
        frame.info |= said
    return frames


def _electrons_of(path: Path) -> dict[str, int]:
    """Return charge and multiplicity that a file says and ASE leaves out: formal charges of MDL, Gaussian's input."""
    kind = filetype(str(path))
    if kind in ("mol", "sdf"):
        head = path.read_text(errors="replace").partition("M  END")[0]
        charges = [line.split()[4::2] for line in head.splitlines() if line.startswith("M  CHG")]
        return {"charge": sum(int(charge) for line in charges for charge in line)} if charges else {}
    if kind == "gaussian-in":
        (atoms,) = list(ase.io.read(str(path), index=":", attach_calculator=True))
        parameters = atoms.calc.parameters
        keys = {"charge": "charge", "multiplicity": "mult"}
        return {name: int(parameters[key]) for name, key in keys.items() if key in parameters}
    return {}


def unpaired_electrons(molecule: Molecule) -> int:
    """Return how many unpaired electrons a SMILES string or ASE's collection says, 0 where they say nothing.

    Whether those of several atoms of a SMILES string pair, it does not know.
    """
    if molecule.smiles is not None:
        from piwsl.reference.smiles import radical_electrons

        return radical_electrons(molecule.smiles)
    if molecule.name is not None:
        return round(float(ase.build.molecule(molecule.name).get_initial_magnetic_moments().sum()))
    return 0


def read_geometries(geometries: Geometries) -> list[Atoms]:
    """Read all files of geometries in the order they have them, one after the other.

    Returns:
        Frames as of `read_file`.

    Raises:
        PiwslError: as of `read_file`.
    """
    return [frame for path in geometries.files.values() for frame in read_file(path, geometries)]


def read_file(path: Path, geometries: Geometries) -> list[Atoms]:
    """Read a file of geometries in the order it has them.

    Args:
        path: one of the section's files.
        geometries: the section, whose charge and multiplicity frames have that say none.

    Returns:
        Frames with info: frame (its name), charge, multiplicity and, where it is said, temperature (K); nothing else is
        kept.

    Raises:
        PiwslError: the file cannot be read, or a frame is periodic, or its charge or multiplicity is no whole number,
            or nothing says the multiplicity of a free atom.
    """
    frames = []
    for position, atoms in enumerate(_frames_of(path)):
        if atoms.pbc.any():
            raise PiwslError(f"frame {position} of {path} is {PERIODIC}")
        try:
            charge = charge_of(atoms) if states_charge(atoms) else geometries.charge
            multiplicity = multiplicity_of(atoms) if states_multiplicity(atoms) else geometries.multiplicity
        except PiwslError as error:
            raise PiwslError(f"frame {position} of {path}: {error}") from None
        info = {"frame": f"{path.stem}-{position}", "charge": charge}
        frame = Atoms(atoms.numbers, atoms.positions, info=info)
        said = states_multiplicity(atoms) or "multiplicity" in geometries.model_fields_set
        if not said and (problem := free_atom_problem(frame)):
            raise PiwslError(f"frame {position} of {path}: {problem}")
        frame.info["multiplicity"] = multiplicity
        if isinstance(temperature := atoms.info.get("temperature"), int | float | np.integer) and math.isfinite(
            temperature
        ):
            frame.info["temperature"] = float(temperature)
        frames.append(frame)
    return frames


def indices_of(part: str, frames: int, geometries: Geometries, pool_frames: int = 0) -> NDArray[np.int64]:
    """Say which frames of the file of a part are the part's, in which order.

    A file that has training frames and test frames is cut into blocks, and each of those is for one of them: neighbours
    in time stay together. The pool takes the last frames of the training blocks, where training takes the first, unless
    it has a file.

    Args:
        part: "training", "test" or "pool".
        frames: how many its file has.
        geometries: files, number of blocks, share of them for test, seed.
        pool_frames: how many are not labelled.

    Returns:
        Indices. A part takes its blocks in turn, and a block's frames at random, so that few frames come from
        everywhere.
    """
    rng = generator("blocks of geometries", geometries.seed)
    cut = geometries.file_of(part) == geometries.file
    number = geometries.blocks if cut and geometries.test_file is None else 1
    blocks = [rng.permutation(block) for block in np.array_split(np.arange(frames), number) if len(block)]
    if number > 1:
        order = rng.permutation(len(blocks))
        held = min(max(1, round(geometries.test_fraction * len(blocks))), max(len(blocks) - 1, 1))
        blocks = [blocks[index] for index in sorted(order[:held] if part == TEST else order[held:])]
    chosen = np.array(in_turn([block.tolist() for block in blocks]), dtype=np.int64)
    if part == TEST or not cut or geometries.pool_file is not None:
        return chosen
    labelled = max(len(chosen) - pool_frames, 0)
    return chosen[:labelled] if part == TRAINING else chosen[labelled:]


def frames_of_part(geometries: Geometries, part: str, pool_frames: int = 0) -> list[Atoms]:
    """Return the frames of the user's files that belong to a part, rounded as they are stored.

    Arguments as of `indices_of`.

    Raises:
        PiwslError: as of `read_file`.
    """
    frames = read_file(geometries.file_of(part), geometries)
    return [rounded(frames[index]) for index in indices_of(part, len(frames), geometries, pool_frames)]


def whole_file(geometries: Geometries) -> list[Atoms]:
    """Return all geometries of a file of the user's, in its order, rounded as they are stored.

    Raises:
        PiwslError: as of `read_file`.
    """
    return [rounded(atoms) for atoms in read_geometries(geometries)]


def indices_of_parts(
    geometries: Geometries, frames: Mapping[Path, int], pool_frames: int = 0
) -> dict[str, NDArray[np.int64]]:
    """Return `indices_of` of every part, given how many frames each file has."""
    return {
        part: indices_of(part, frames[geometries.file_of(part)], geometries, pool_frames)
        for part in (TRAINING, TEST, POOL)
    }
