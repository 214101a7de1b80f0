"""Frames as they travel: extended XYZ with `REF_energy` (eV), `REF_forces` (eV/Å), charge and multiplicity."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from piwsl.errors import PiwslError
from piwsl.files import write_atomically

ENERGY_KEY = "REF_energy"
FORCES_KEY = "REF_forces"
# Forces of a cheaper level: a label of less weight.
WEAK_FORCES_KEY = "WEAK_forces"
# Bonds shorter than this share of the sum of covalent radii are no chemistry: SCF converges there, to nonsense.
SHORTEST_BOND = 0.5


def read_frames(path: Path) -> list[Atoms]:
    """Read all frames of an extended XYZ file.

    Raises:
        PiwslError: the file is missing, empty, or not extended XYZ.
    """
    try:
        frames = list(ase.io.iread(path, index=":", format="extxyz"))
    except FileNotFoundError:
        raise PiwslError(f"{path}: no such file") from None
    except Exception as error:  # ASE raises many kinds for a malformed file; all mean the same to the user
        raise PiwslError(f"{path}: cannot be read as extended XYZ ({type(error).__name__}: {error})") from None
    if not frames:
        raise PiwslError(f"{path}: holds no frame")
    return frames


def write_frames(path: Path, frames: list[Atoms]) -> None:
    """Write frames as extended XYZ, atomically; an empty list gives an empty file."""
    write_atomically(path, lambda temporary: ase.io.write(temporary, frames, format="extxyz"))


def count_frames(path: Path) -> int:
    """Count the frames of an XYZ file without parsing them.

    Raises:
        PiwslError: the file is missing or its lines do not add up to frames.
    """
    count = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                atoms = int(line)
                if sum(1 for _ in zip(range(atoms + 1), lines, strict=False)) != atoms + 1:
                    raise PiwslError(f"{path}: frame {count} ends before its {atoms} atoms")
                count += 1
    except OSError as error:
        raise PiwslError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PiwslError(f"{path}: is no text in UTF-8; unpack or convert it") from None
    except ValueError:
        raise PiwslError(f"{path}: frame {count} does not begin with its number of atoms, found {line!r}") from None
    return count


def charge_of(atoms: Atoms) -> int:
    """Return the total charge of a frame (info `charge`, e; 0 where not stated)."""
    return int(atoms.info.get("charge", 0))


def multiplicity_of(atoms: Atoms) -> int:
    """Return 2S + 1 of a frame (info `multiplicity`; 1 where not stated)."""
    return int(atoms.info.get("multiplicity", 1))


def electron_problem(numbers: list[int], charge: int, multiplicity: int) -> str | None:
    """Say why charge and multiplicity do not fit the elements, or None where they do.

    Args:
        numbers: atomic numbers.
        charge: total charge, e.
        multiplicity: 2S + 1.
    """
    electrons = sum(numbers) - charge
    unpaired = multiplicity - 1
    if electrons <= 0:
        return f"charge {charge} leaves {electrons} electrons"
    if unpaired > electrons or (electrons - unpaired) % 2:
        parity = "odd" if electrons % 2 == 0 else "even"
        return f"{electrons} electrons cannot have multiplicity {multiplicity}; an {parity} one is needed"
    return None


def too_close(atoms: Atoms) -> str | None:
    """Say which two atoms are closer than half the sum of their covalent radii, or None."""
    distances = atoms.get_all_distances()
    radii = covalent_radii[atoms.numbers]
    limits = SHORTEST_BOND * (radii[:, None] + radii[None, :])
    np.fill_diagonal(limits, 0.0)
    close = np.argwhere(distances < limits)
    if len(close) == 0:
        return None
    first, second = close[0]
    symbols = atoms.get_chemical_symbols()
    return (
        f"atoms {first} ({symbols[first]}) and {second} ({symbols[second]}) are {distances[first, second]:.3f} Å apart"
    )


def label(atoms: Atoms, energy: float, forces: np.ndarray | None) -> Atoms:
    """Return a copy of the frame with its labels.

    Args:
        atoms: the frame.
        energy: eV.
        forces: (N, 3), eV/Å, or None where the level has none.
    """
    frame = atoms.copy()
    frame.calc = None
    frame.info[ENERGY_KEY] = energy
    if forces is not None:
        frame.arrays[FORCES_KEY] = forces
    return frame
