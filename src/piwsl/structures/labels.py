"""Labels of a structure at a level of theory, and how frames hold them: under names that begin with the level's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from piwsl.errors import PiwslError

if TYPE_CHECKING:  # the config asks for names alone
    from ase import Atoms

# The level whose labels are learned and tested, and a cheaper one: what it says counts for less.
REFERENCE, WEAK = "reference", "weak"
PREFIXES = {REFERENCE: "REF", WEAK: "WEAK"}
# What no other level is called: its labels would take the place of these.
RESERVED = (*PREFIXES, *PREFIXES.values())
Quantity = Literal["energy", "forces", "stress"]
QUANTITIES: tuple[Quantity, ...] = ("energy", "forces", "stress")
# Components of a stress in Voigt's order.
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
# Relative; what programs print has so many digits.
ASYMMETRY = 1e-3
# How far the norm of a direction may be from 1; files have it with eight decimals.
UNIT_NORM = 1e-5
# Beyond any energy or force, in any unit that is in use; its square is still a number.
LARGEST_LABEL = 1e12


class NoLabel(PiwslError):
    """A frame lacks a label that it should have, or has NaN, infinity or a placeholder in its stead."""


@dataclass(frozen=True)
class Slope:
    """What is known of a gradient along one direction alone."""

    value: float
    """The derivative of the energy by a displacement along the direction, eV/Å: minus the force along it."""
    direction: NDArray[np.float64]
    """(N, 3), of unit norm."""

    def of(self, forces: NDArray[np.float64]) -> float:
        """Return the slope along the direction that forces (N, 3), eV/Å, have: -F.d."""
        return -float(np.sum(forces * self.direction))

    def less(self, forces: NDArray[np.float64]) -> Slope:
        """Return what forces (N, 3), eV/Å, leave of the slope."""
        return replace(self, value=self.value - self.of(forces))


@dataclass(frozen=True)
class Labels:
    """What one level says of a structure; None where it says nothing."""

    energy: float | None = None
    """eV."""
    forces: NDArray[np.float64] | None = None
    """(N, 3), eV/Å."""
    stress: NDArray[np.float64] | None = None
    """(3, 3), eV/Å³: the derivative of the energy by strain over the volume, so that a cell under pressure has
    negative diagonal elements."""
    weight: float = 1.0
    """How much their errors count in a loss: less than one where they are less sure than others."""
    slope: Slope | None = None
    """Of frames whose forces would cost too much; nothing is trained on it."""

    @property
    def are_none(self) -> bool:
        """Whether the level says nothing."""
        return all(getattr(self, name) is None for name in (*QUANTITIES, "slope"))

    def times(self, factor: float) -> Labels:
        """Return energy, forces and stress times a factor."""
        scaled: dict[str, Any] = {}
        for quantity in QUANTITIES:
            own = getattr(self, quantity)
            scaled[quantity] = None if own is None else factor * own
        return replace(self, **scaled)

    def less(self, other: Labels) -> Labels:
        """Return what another level's labels leave of these; what either of the two lacks is absent."""
        rest: dict[str, Any] = {}
        for quantity in QUANTITIES:
            own, theirs = getattr(self, quantity), getattr(other, quantity)
            rest[quantity] = None if own is None or theirs is None else own - theirs
        slope = None if self.slope is None or other.forces is None else self.slope.less(other.forces)
        return replace(self, **rest, slope=slope)


def label_key(level: str, quantity: Quantity | Literal["slope", "direction"]) -> str:
    """Return the name under which frames hold a quantity of a level: `REF_energy`, `WEAK_forces`, `LEVEL_stress`.

    A slope stands in info, its direction beside it as a column.
    """
    return f"{PREFIXES.get(level, level)}_{quantity}"


def labels_of(atoms: Atoms, level: str) -> Labels:
    """Return the labels of a level that a frame holds.

    Raises:
        PiwslError: a label is there but is no number.
    """
    return Labels(
        energy=energy_label(atoms, label_key(level, "energy")),
        forces=forces_label(atoms, label_key(level, "forces")),
        stress=stress_label(atoms, label_key(level, "stress")),
        slope=slope_label(atoms, label_key(level, "slope"), label_key(level, "direction")),
    )


def energy_label(atoms: Atoms, key: str) -> float | None:
    """Return the energy that a frame's info holds under a name, or None where it holds nothing there.

    Raises:
        PiwslError: what it holds is not one finite number; True, text and complex numbers are none.
    """
    if key not in atoms.info:
        return None
    value = np.asarray(atoms.info[key]) if not isinstance(atoms.info[key], dict) else np.asarray("")
    is_number = value.size == 1 and value.dtype.kind in "iuf"
    if not (is_number and _in_range(value)):
        shown = repr(atoms.info[key] if value.size != 1 else value.item())
        hint = "; leave it out where it is not known" if is_number else ""
        raise _refusal(is_number)(f"{key} is {shown[:60]}, not a finite number{hint}")
    return float(value.item())


def forces_label(atoms: Atoms, key: str) -> NDArray[np.float64] | None:
    """Return the (N, 3) forces of a frame's column of a name, or None where it has no such column.

    Raises:
        PiwslError: the column is not of N x 3 finite numbers.
    """
    values = atoms.arrays.get(key)
    if values is None:
        return None
    are_numbers = values.shape == (len(atoms), 3) and values.dtype.kind in "iuf"
    if not (are_numbers and _in_range(values)):
        raise _refusal(are_numbers)(f"{key} must be {len(atoms)} x 3 finite numbers")
    return values.astype(np.float64)


def stress_label(atoms: Atoms, key: str) -> NDArray[np.float64] | None:
    """Return the (3, 3) stress that a frame's info holds under a name, or None where it holds nothing there.

    None, too, of what is not periodic in three directions: programs print one, but without a volume it means nothing.

    Raises:
        PiwslError: it is neither 6 (xx, yy, zz, yz, xz, xy) nor 3 x 3 symmetric finite numbers.
    """
    if key not in atoms.info or not atoms.pbc.all():
        return None
    values = np.asarray(atoms.info[key]) if not isinstance(atoms.info[key], dict) else np.asarray("")
    are_numbers = values.size in (6, 9) and values.dtype.kind in "iuf"
    if not (are_numbers and _in_range(values)):
        raise _refusal(are_numbers)(f"{key} must be 6 or 3 x 3 finite numbers")
    if values.size == 6:
        stress = np.zeros((3, 3))
        for (row, column), value in zip(VOIGT, values.ravel(), strict=True):
            stress[row, column] = stress[column, row] = value
        return stress
    stress = values.reshape(3, 3).astype(np.float64)
    if np.abs(stress - stress.T).max() > ASYMMETRY * np.abs(stress).max():
        raise PiwslError(f"{key} is not symmetric; a stress is")
    return 0.5 * (stress + stress.T)


def slope_label(atoms: Atoms, key: str, direction_key: str) -> Slope | None:
    """Return the slope that a frame's info holds under a name, along the direction in a column, or None without both.

    Raises:
        PiwslError: there is one without the other, the slope is no number, or the direction not of unit norm.
    """
    value, direction = energy_label(atoms, key), forces_label(atoms, direction_key)
    if value is None and direction is None:
        return None
    if value is None or direction is None:
        there, missing = (key, direction_key) if direction is None else (direction_key, key)
        raise PiwslError(f"{there} is there and {missing} is not; a slope is along a direction")
    if abs(np.linalg.norm(direction) - 1.0) > UNIT_NORM:
        raise PiwslError(f"{direction_key} is of norm {np.linalg.norm(direction):.3g}; a direction is of norm 1")
    return Slope(value, direction)


def _refusal(are_numbers: bool) -> type[PiwslError]:
    """Return what to raise of a label that is none: of numbers that are not finite that there is no label."""
    return NoLabel if are_numbers else PiwslError


def _in_range(values: NDArray[np.generic]) -> bool:
    return bool((np.abs(values.astype(np.float64)) <= LARGEST_LABEL).all())  # false for NaN, too
