"""Forces of levels without analytic gradients, whole or along one direction: central differences of the energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.reference.failures import FrameFailure
from piwsl.reference.forces import BY_DIFFERENCES, ForceMethod
from piwsl.reference.store import COORDINATE_DECIMALS, geometry_hash
from piwsl.structures.frames import charge_of, multiplicity_of
from piwsl.structures.labels import Slope
from piwsl.structures.rigid import internal_degrees, rigid_motions
from piwsl.structures.seeds import generator

# Truncation error is step⁴/30 times the fifth derivative, 3e-6 eV/Å for stretching CO; energies that are good to
# 1e-8 eV add 2e-6 eV/Å. A shorter step makes the one larger, a longer step the other.
STEP_ANGSTROM = 0.005
# Displacements in steps, and the weight of the energies on either side over the step: exact for a quartic.
STENCIL = {1: 2.0 / 3.0, 2: -1.0 / 12.0}
DISPLACEMENTS = [m for side in STENCIL for m in (side, -side)]
FOURTH_DIFFERENCE = {0: 6.0, 1: -4.0, -1: -4.0, 2: 1.0, -2: 1.0}
# eV, at that step. Stretching CO gives 3e-6, noise of the energies 1e-7, unrestricted NO2 and NO where their spin
# symmetry begins to break 2e-4, with forces right to 1e-3 eV/Å. An energy off by 1.3e-4 makes 0.02 eV/Å, and is found.
LARGEST_FOURTH_DIFFERENCE = 5e-4
# A direction is taken if it keeps this share of the longest that is left. Symmetric molecules have many of equal
# length, and of simple fractions of it: a number that is none of these decides the same way whatever the rounding.
LONG_ENOUGH = 0.618


def internal_directions(
    positions: NDArray[np.float64], masses: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return orthonormal displacements that neither translate nor rotate the structure.

    An energy that is invariant under translation and rotation has no slope along those, so its gradient lies
    in the space of the others: 3N - 6 of them (3N - 5 for a linear structure) instead of 3N. Of the many bases of
    that space this is the one that Gram and Schmidt find from the Cartesian axes of the atoms, without what
    translates and rotates, taken in their order but for those that are nearly used up.

    Args:
        positions: (N, 3), Å.
        masses: (N,); with them the directions are those of mass-weighted displacements.

    Returns:
        (K, N, 3), each of unit norm; none for a single atom.
    """
    atoms, rigid = len(positions), rigid_motions(positions, masses)
    left = np.eye(3 * atoms) - rigid.T @ rigid
    directions: list[NDArray[np.float64]] = []
    for _ in range(3 * atoms - len(rigid)):
        lengths = np.linalg.norm(left, axis=1)
        direction = left[np.argmax(lengths > LONG_ENOUGH * lengths.max())]
        for other in (*rigid, *directions):  # once more: what is left of a short row is partly rounding
            direction = direction - (direction @ other) * other
        directions.append(direction / np.linalg.norm(direction))
        left = left - np.outer(left @ directions[-1], directions[-1])
    return np.array(directions).reshape(-1, atoms, 3)


def random_direction(atoms: Atoms) -> NDArray[np.float64] | None:
    """Return a displacement that is drawn uniformly from those of unit norm without translation and rotation.

    It is a vector of 3N independent Gaussian numbers without its rigid part: isotropic in what is left. The numbers
    follow from elements, coordinates, charge and multiplicity alone, so that whoever draws a direction of a geometry,
    as a frame of whatever file, dataset, experiment or level, draws the same, and the displaced energies are shared.

    Args:
        atoms: the structure, Å.

    Returns:
        (N, 3); None for a single atom, which has no such displacement.
    """
    rigid = rigid_motions(atoms.positions)
    if len(rigid) == atoms.positions.size:
        return None
    geometry = geometry_hash(atoms, charge_of(atoms), multiplicity_of(atoms))
    drawn = generator("slopes", 0, geometry).normal(size=atoms.positions.size)
    internal = drawn - (rigid @ drawn) @ rigid
    return (internal / np.linalg.norm(internal)).reshape(-1, 3)


def energies_needed(positions: NDArray[np.float64], forces: ForceMethod | None) -> int:
    """Return how many energies a frame takes, its own included.

    Args:
        positions: (N, 3), Å.
        forces: how its forces, or the slope along one direction, are computed.
    """
    internal = internal_degrees(positions) if forces in BY_DIFFERENCES else 0
    return 1 + 2 * len(STENCIL) * (min(internal, 1) if forces == "slope" else internal)


def displaced_geometries(atoms: Atoms, forces: ForceMethod | None) -> list[Atoms]:
    """Return the geometries whose energies a frame takes beside that of the structure itself.

    Args:
        atoms: the structure, Å.
        forces: "differences" of `central_difference_forces`, "slope" of `central_difference_slope`; for others none.
    """
    if forces == "differences":
        directions = internal_directions(atoms.positions)
    else:
        direction = random_direction(atoms) if forces == "slope" else None
        directions = np.empty((0, len(atoms), 3)) if direction is None else direction[None]
    return [_moved(atoms, m * shift) for shift in _shifts(directions, STEP_ANGSTROM) for m in DISPLACEMENTS]


def central_difference_forces(
    atoms: Atoms,
    energy: Callable[[Atoms], float],
    step: float = STEP_ANGSTROM,
    directions: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Differentiate an isolated structure's energy numerically.

    Along each internal direction u the slope is Σ_m w_m [E(r + m h u) - E(r - m h u)] / h, by a stencil of four
    points, m = 1 and 2; the error is O(h⁴). Displacements are rounded as coordinates are, and the force follows from
    the rounded ones. With the energy of the structure itself, which is known already, they have a fourth difference,
    E(2) - 4 E(1) + 6 E(0) - 4 E(-1) + E(-2), h⁴ times the fourth derivative: microelectronvolts where all five are of
    one state.

    Args:
        atoms: the structure, Å.
        energy: gives eV; must be invariant under translation and rotation.
        step: h, Å.
        directions: (K, N, 3), orthonormal, in place of those of `internal_directions`.

    Returns:
        (N, 3), eV/Å.

    Raises:
        FrameFailure: energies along a direction are not of one smooth curve.
    """
    if directions is None:
        directions = internal_directions(atoms.positions)
    shifts = _shifts(directions, step)
    slopes = _differences(atoms, energy, shifts, step)
    overlaps = np.tensordot(shifts, directions, axes=((1, 2), (1, 2)))
    return -np.tensordot(np.linalg.solve(overlaps, slopes), directions, axes=1)


def central_difference_slope(atoms: Atoms, energy: Callable[[Atoms], float]) -> Slope | None:
    """Return the slope of an isolated structure's energy along its `random_direction`: four displaced energies.

    The stencil, its error and its check are those of `central_difference_forces`.

    Args:
        atoms: the structure, Å.
        energy: gives eV; must be invariant under translation and rotation.

    Returns:
        The slope along the displacement as it is rounded; None for a single atom.

    Raises:
        FrameFailure: the energies are not of one smooth curve.
    """
    direction = random_direction(atoms)
    if direction is None:
        return None
    shifts = _shifts(direction[None], STEP_ANGSTROM)
    length = float(np.linalg.norm(shifts))
    (difference,) = _differences(atoms, energy, shifts, STEP_ANGSTROM)
    return Slope(float(difference) / length, shifts[0] / length)


def _differences(
    atoms: Atoms, energy: Callable[[Atoms], float], shifts: NDArray[np.float64], step: float
) -> NDArray[np.float64]:
    """Return the derivative of the energy by steps along each of K displacements (K, N, 3), eV a step."""
    own = energy(atoms.copy()) if len(shifts) else 0.0
    slopes = []
    for shift in shifts:
        curve = {m: energy(_moved(atoms, m * shift)) for m in DISPLACEMENTS}
        _check_smooth(curve | {0: own}, step)
        slopes.append(sum(weight * (curve[m] - curve[-m]) for m, weight in STENCIL.items()))
    return np.array(slopes)


def _shifts(directions: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Return displacements (Å) along directions, (K, N, 3), rounded as coordinates are."""
    return np.round(step * directions, COORDINATE_DECIMALS)


def _moved(atoms: Atoms, displacement: NDArray[np.float64]) -> Atoms:
    frame = atoms.copy()
    frame.positions += displacement
    return frame


def _check_smooth(curve: Mapping[int, float], step: float) -> None:
    """Refuse energies (eV) at 0, ±1 and ±2 steps (Å) that no smooth curve has."""
    difference = sum(weight * curve[m] for m, weight in FOURTH_DIFFERENCE.items())
    largest = LARGEST_FOURTH_DIFFERENCE * max(1.0, step / STEP_ANGSTROM) ** 4
    if not abs(difference) < largest:
        raise FrameFailure(
            "forces",
            f"energies of displaced geometries lie {1000 * abs(difference):.3g} meV off a smooth curve (fourth "
            f"difference, at most {1000 * largest:.3g}): they are of several electronic states",
        )
