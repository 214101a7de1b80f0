"""Whether stresses are the derivative of energies by strain: what that tells of their sign and unit, and of virials.

Of two frames of a crystal in cells that differ by a little, what the forces leave of the difference of their energies
is the work of the stress.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, STRESS_KEY
from piwsl.structures.units import STRESS_UNITS

# Of an element of the strain between two frames: less is noise, and beyond, the mean stress is not that of the way.
LEAST_STRAIN, LARGEST_STRAIN = 1e-3, 0.1
# Å, that an atom moves beside the strain: without forces, and at most.
STILL, LARGEST_MOVE = 1e-3, 0.5
FEWEST_PAIRS = 4
LEAST_CORRELATION = 0.9
# Between cells of one cutoff of plane waves energies lack the Pulay stress, which is beside units and signs a little.
USUAL_FACTOR = 1.67
# How far a unit or sign may be from explaining a factor.
NEAR = 1.3
# eV/Å³, 480 GPa: beyond the centre of the Earth.
LARGEST_STRESS = 3.0


def doubt_of_stress(groups: Sequence[Sequence[Atoms]], stress_unit: str) -> str | None:
    """Say what is odd about stresses, or None: a question that another unit, the other sign or a virial would answer.

    Args:
        groups: frames of a composition each, with `REF_energy` (eV), `REF_stress` (eV/Å³, symmetric) and, some or all,
            `REF_forces` (eV/Å).
        stress_unit: that the stresses were read in; others are measured by it.
    """
    pairs = np.concatenate([np.empty((0, 3)), *(_work_of_strain(frames) for frames in groups)])
    work, rest, volume = pairs.T
    if len(pairs) < FEWEST_PAIRS or (factor := _factor(work, rest)) is None:
        return _doubt_of_size(groups)
    if 1 / USUAL_FACTOR < factor < USUAL_FACTOR:
        return None
    explained = {
        f"in {unit}" if sign > 0 else f"in {unit}, of the opposite sign": sign * size / STRESS_UNITS[stress_unit]
        for unit, size in STRESS_UNITS.items()
        for sign in (1, -1)
    }
    off = {how: abs(np.log(meant / factor)) for how, meant in explained.items() if meant * factor > 0}
    # A virial is minus the stress times the volume; some write it without the minus.
    of_virial = _factor(work / (volume * STRESS_UNITS[stress_unit]), rest)
    if of_virial is not None:
        off["a virial in eV, not divided by the volume"] = abs(np.log(abs(of_virial)))
    likely = sorted((by, how) for how, by in off.items() if by < np.log(NEAR))
    if not likely:
        return None
    return (
        f"stress: between neighbouring cells energies change by {factor:.3g} times what the stress says; is it "
        f"{' or '.join(how for _, how in likely)}?"
    )


def _doubt_of_size(groups: Sequence[Sequence[Atoms]]) -> str | None:
    sizes = [float(np.abs(atoms.info[STRESS_KEY]).max()) for frames in groups for atoms in frames]
    if not sizes or np.median(sizes) < LARGEST_STRESS:
        return None
    return (
        f"stress: of half of the frames a component is beyond {np.median(sizes):.3g} eV/Å³; is it in another unit, or "
        "a virial, not divided by the volume?"
    )


def _factor(work: NDArray[np.float64], rest: NDArray[np.float64]) -> float | None:
    """Return differences as a multiple of work, (P,) each; None where the two do not go together."""
    scale = np.sqrt((work @ work) * (rest @ rest))
    if scale == 0 or abs(work @ rest) < LEAST_CORRELATION * scale:
        return None
    return float(np.sqrt((rest @ rest) / (work @ work)) * np.sign(work @ rest))


def _work_of_strain(frames: Sequence[Atoms]) -> NDArray[np.float64]:
    """Return (P, 3) of each frame and the nearest of another cell.

    Work of the mean stress, difference of energy without the work of the mean forces, both in eV, and mean volume, Å³.
    """
    cells = np.array([atoms.cell.array for atoms in frames])
    scaled = np.array([atoms.get_scaled_positions(wrap=False) for atoms in frames])
    rows = []
    for index, atoms in enumerate(frames):
        deformations = np.linalg.solve(cells[index], cells) - np.eye(3)  # of vectors in rows
        moves = _moves(scaled, index)
        moved = np.linalg.norm(moves @ cells[index], axis=2).max(axis=1)
        strained = np.abs(deformations).max(axis=(1, 2))
        away = np.cbrt(atoms.get_volume()) * strained + moved
        away[(strained < LEAST_STRAIN) | (strained > LARGEST_STRAIN) | (moved > LARGEST_MOVE)] = np.inf
        nearest = int(np.argmin(away))
        other = frames[nearest]
        if not np.isfinite(away[nearest]) or not np.array_equal(atoms.numbers, other.numbers):
            continue
        forces = _mean_forces(atoms, other)
        if forces is None and moved[nearest] > STILL:
            continue
        rest = other.info[ENERGY_KEY] - atoms.info[ENERGY_KEY]
        if forces is not None:
            rest += np.sum(forces * (moves[nearest] @ (0.5 * (cells[index] + cells[nearest]))))
        volumes = atoms.get_volume(), other.get_volume()
        virial = 0.5 * (volumes[0] * atoms.info[STRESS_KEY] + volumes[1] * other.info[STRESS_KEY])
        rows.append((np.sum(virial * deformations[nearest]), rest, np.mean(volumes)))
    return np.array(rows).reshape(-1, 3)


def _moves(scaled: NDArray[np.float64], index: int) -> NDArray[np.float64]:
    """Return by how much atoms of frames are elsewhere than in one of them, (M, N, 3), of the lattice vectors.

    Nearest images count, and not what all atoms have in common.
    """
    moves = scaled - scaled[index]
    moves -= np.round(moves)
    return moves - moves.mean(axis=1, keepdims=True)


def _mean_forces(first: Atoms, second: Atoms) -> NDArray[np.float64] | None:
    """Return the mean of the forces (N, 3) of two frames, eV/Å; None where either has none."""
    if FORCES_KEY not in first.arrays or FORCES_KEY not in second.arrays:
        return None
    return np.asarray(0.5 * (first.arrays[FORCES_KEY] + second.arrays[FORCES_KEY]))
