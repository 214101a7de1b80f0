"""Minima: geometries without forces, by ASE's optimisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.calculators.calculator import PropertyNotImplementedError
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE

from piwsl.errors import PiwslError

OPTIMISERS = {"bfgs": BFGS, "fire": FIRE}
Optimiser = Literal["bfgs", "fire"]


@dataclass(frozen=True)
class Relaxed:
    """A relaxed geometry, with the calculator that relaxed it."""

    atoms: Atoms
    steps: int
    energy: float
    """eV."""
    gained: float
    """eV; by how much the energy fell."""
    largest_force: float
    """eV/Å; of what may move."""
    converged: bool
    moved: float
    """Å; root mean square distance of the atoms from where they began, after superposition of molecules."""


def relax(
    start: Atoms, fmax: float = 0.01, most_steps: int = 1000, optimiser: Optimiser = "bfgs", cell: bool = False
) -> Relaxed:
    """Relax a geometry until no force is larger than a limit.

    Args:
        start: geometry with a calculator; it is not changed. Atoms that its constraints fix stay.
        fmax: eV/Å.
        most_steps: of the optimiser.
        optimiser: quasi-Newton (bfgs), or damped dynamics (fire) for surfaces that are rough.
        cell: relax the cell, too, until its stress is as small (ASE's `FrechetCellFilter`).

    Raises:
        PiwslError: a cell is asked for where there is none, or no stress, or what the calculator raises.
    """
    if cell and not start.pbc.all():
        raise PiwslError("a cell is relaxed of structures that are periodic in three directions; leave out --cell")
    atoms = start.copy()
    atoms.calc = start.calc
    if cell:
        _check_stress(atoms)
    before = atoms.get_potential_energy()
    moving: Any = FrechetCellFilter(atoms) if cell else atoms
    optimisation = OPTIMISERS[optimiser](moving, logfile=None)
    converged = bool(optimisation.run(fmax=fmax, steps=most_steps))
    energy = float(atoms.get_potential_energy())
    return Relaxed(
        atoms=atoms,
        steps=int(optimisation.nsteps),
        energy=energy,
        gained=float(before) - energy,
        largest_force=largest_force(atoms),
        converged=converged,
        moved=distance(start, atoms),
    )


def _check_stress(atoms: Atoms) -> None:
    try:
        atoms.get_stress()
    except PropertyNotImplementedError as error:
        raise PiwslError(f"{error}, and without a stress no cell is relaxed; leave out --cell") from None


def largest_force(atoms: Atoms) -> float:
    """Return the largest force on an atom that may move, eV/Å."""
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def distance(first: Atoms, second: Atoms) -> float:
    """Return the root mean square distance of the atoms of two geometries, Å; of molecules after superposition.

    Args:
        first: one geometry.
        second: the other, its atoms in the same order.
    """
    moved = second.copy()
    moved.set_constraint()
    if not first.pbc.any() and len(first) > 1:
        minimize_rotation_and_translation(first, moved)
    elif len(first) == 1:
        return 0.0
    return float(np.sqrt(np.square(moved.positions - first.positions).sum(axis=1).mean()))
