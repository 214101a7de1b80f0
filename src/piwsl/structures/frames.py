"""Frames as they travel: extended XYZ with `REF_energy` (eV), `REF_forces` (eV/Å), charge and multiplicity.

Where forces would cost too much, `REF_slope` (eV/Å) is the derivative of the energy along the unit vector that the
column `REF_direction` holds: not forces, and no program takes it for some.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.data import chemical_symbols, covalent_radii, ground_state_magnetic_moments
from ase.io.extxyz import write_xyz
from ase.io.formats import open_with_compression

from piwsl.errors import PiwslError
from piwsl.files import write_atomically
from piwsl.structures.extxyz import iterate_frames
from piwsl.structures.geometry import near_pairs
from piwsl.structures.labels import REFERENCE, WEAK, Slope, label_key

ENERGY_KEY = label_key(REFERENCE, "energy")
FORCES_KEY = label_key(REFERENCE, "forces")
STRESS_KEY = label_key(REFERENCE, "stress")
SLOPE_KEY = label_key(REFERENCE, "slope")
DIRECTION_KEY = label_key(REFERENCE, "direction")
WEAK_FORCES_KEY = label_key(WEAK, "forces")
# Bonds shorter than this share of the sum of covalent radii are no chemistry: SCF converges there, to nonsense. At rest
# none is below V2 (0.58), sodium at 300 GPa comes to 0.57, N2 at 0.9 Å to 0.63; H2 is at the limit at 0.31 Å.
SHORTEST_BOND = 0.5
# Names of one thing: ours first; MACE (training data; its calculator and OMol25 say charge, spin), QCSchema, pymatgen.
CHARGE_KEYS = ("charge", "total_charge", "molecular_charge")
MULTIPLICITY_KEYS = ("multiplicity", "total_spin", "spin", "molecular_multiplicity", "spin_multiplicity")
UNSTATED_AT_ZERO = ("total_spin", "spin")


def read_frames(path: Path | str) -> list[Atoms]:
    """Read all frames of an extended XYZ file, as `iterate_frames` does.

    Raises:
        PiwslError: the file is missing, empty, or not extended XYZ.
    """
    frames = list(iterate_frames(Path(path)))
    if not frames:
        raise PiwslError(f"{path}: holds no frame")
    return frames


def write_frames(path: Path | str, frames: Iterable[Atoms]) -> None:
    """Write frames as extended XYZ, atomically and one by one; no frame gives an empty file.

    What a frame's calculator has computed is written as `energy`, `forces`, ..., in place of what a file said there.
    """
    written = (atoms if atoms.calc is None else _with_results_of_its_calculator(atoms) for atoms in frames)

    def write(temporary: Path) -> None:
        with open_with_compression(str(temporary), "w") as file:
            write_xyz(file, written)

    write_atomically(Path(path), write)


def _with_results_of_its_calculator(atoms: Atoms) -> Atoms:
    frame = without_labels(atoms, ())
    frame.calc = atoms.calc
    return frame


OUR_LABELS = (ENERGY_KEY, FORCES_KEY, STRESS_KEY, SLOPE_KEY, DIRECTION_KEY, WEAK_FORCES_KEY)


def without_labels(atoms: Atoms, ours: tuple[str, ...] = OUR_LABELS) -> Atoms:
    """Return a copy of a frame without energies, forces and other results that a file gave it.

    Args:
        atoms: the frame.
        ours: names of labels that are taken away beside those that ASE gives to results.
    """
    frame = atoms.copy()
    for name in (*all_properties, *ours):
        frame.info.pop(name, None)
        frame.arrays.pop(name, None)
    return frame


def charge_of(atoms: Atoms) -> int:
    """Return the total charge of a frame (info `charge`, or what other programs call it; e; 0 where not stated).

    Raises:
        PiwslError: it is no whole number, or two names say different things.
    """
    return _stated(atoms, CHARGE_KEYS, default=0)


def multiplicity_of(atoms: Atoms) -> int:
    """Return 2S + 1 of a frame (info `multiplicity`, or what other programs call it; 1 where not stated).

    `spin` and `total_spin` are 2S + 1 to the programs that write them; their 0 says that nothing was stated.

    Raises:
        PiwslError: it is no whole number, or less than 1, or two names say different things.
    """
    found = _stated(atoms, MULTIPLICITY_KEYS, default=1)
    if found < 1:
        raise PiwslError(f"multiplicity={found} is no number of spin states, 2S + 1; the least is 1")
    return found


def states_charge(atoms: Atoms) -> bool:
    """Whether a frame says its charge, under any name."""
    return not atoms.info.keys().isdisjoint(CHARGE_KEYS)


def states_multiplicity(atoms: Atoms) -> bool:
    """Whether a frame says its multiplicity, under any name; a `spin` of 0 says nothing."""
    return any(
        key in atoms.info and not (key in UNSTATED_AT_ZERO and np.array_equal(atoms.info[key], 0))
        for key in MULTIPLICITY_KEYS
    )


def electrons_stated(atoms: Atoms) -> dict[str, Any]:
    """Return what a frame's info says of its electrons, under the names that it has there."""
    return {key: atoms.info[key] for key in (*CHARGE_KEYS, *MULTIPLICITY_KEYS) if key in atoms.info}


def _stated(atoms: Atoms, keys: tuple[str, ...], default: int) -> int:
    """Return what a frame says under one of several names that mean the same."""
    found = {key: _whole_number(atoms, key) for key in keys if key in atoms.info}
    said = {key: number for key, number in found.items() if number != 0 or key not in UNSTATED_AT_ZERO}
    if len(set(said.values())) > 1:
        both = " and ".join(f"{key}={number}" for key, number in said.items())
        raise PiwslError(f"{both} contradict each other; keep {keys[0]}")
    return next(iter(said.values()), default)


def _whole_number(atoms: Atoms, name: str) -> int:
    value = atoms.info[name]
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or value != round(value):
        raise PiwslError(f"{name}={str(value)[:40]} is no whole number")
    return int(value)


def ground_state_multiplicity(number: int) -> int | None:
    """Return 2S + 1 of the ground state of a free, neutral atom (ASE's table), None where it is not known.

    Args:
        number: atomic number.
    """
    known = 1 <= number < len(ground_state_magnetic_moments) and np.isfinite(ground_state_magnetic_moments[number])
    return round(ground_state_magnetic_moments[number]) + 1 if known else None


def free_atom_problem(atoms: Atoms) -> str | None:
    """Say which multiplicity a free, neutral atom has that states none and is not the singlet it would be taken for.

    Raises:
        PiwslError: its charge is no whole number.
    """
    if len(atoms) != 1 or states_multiplicity(atoms) or charge_of(atoms) != 0:
        return None
    number = int(atoms.numbers[0])
    multiplicity = ground_state_multiplicity(number)
    if multiplicity in (None, 1):
        return None
    return (
        f"a free {chemical_symbols[number]} atom has multiplicity {multiplicity} in its ground state, and the frame "
        f"states none; say multiplicity={multiplicity}, or that of the state that is meant"
    )


def frame_electron_problem(atoms: Atoms) -> str | None:
    """Say why charge and multiplicity, or their not being stated, do not fit a frame; None where they do.

    Raises:
        PiwslError: they are no whole numbers, or the multiplicity is less than 1.
    """
    return free_atom_problem(atoms) or electron_problem(
        atoms.numbers.tolist(), charge_of(atoms), multiplicity_of(atoms)
    )


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


def crowding(atoms: Atoms) -> float:
    """Return the distance, Å, of the two atoms that are nearest to each other for their radii, images included.

    Only where it is less than half the sum of these (`SHORTEST_BOND`); else NaN.
    """
    if len(atoms) == 0:
        return np.nan
    radii = covalent_radii[atoms.numbers]
    pairs, distances = near_pairs(atoms, 2 * SHORTEST_BOND * float(radii.max()))
    shares = distances / radii[pairs].sum(axis=1)
    near = np.flatnonzero(shares < SHORTEST_BOND)
    return float(distances[near[np.argmin(shares[near])]]) if len(near) else np.nan


def label(
    atoms: Atoms,
    energy: float | None,
    forces: np.ndarray | None,
    stress: np.ndarray | None = None,
    slope: Slope | None = None,
) -> Atoms:
    """Return a copy of the frame with its labels, in place of any that it had.

    Args:
        atoms: the frame.
        energy: eV, or None where it is not known.
        forces: (N, 3), eV/Å, or None where the level has none.
        stress: (3, 3), eV/Å³, or None where the level has none.
        slope: of the energy along one direction, or None where it is not known.
    """
    frame = without_labels(atoms)
    if energy is not None:
        frame.info[ENERGY_KEY] = energy
    if forces is not None:
        frame.arrays[FORCES_KEY] = forces
    if stress is not None:
        frame.info[STRESS_KEY] = stress
    if slope is not None:
        frame.info[SLOPE_KEY] = slope.value
        frame.arrays[DIRECTION_KEY] = slope.direction
    return frame
