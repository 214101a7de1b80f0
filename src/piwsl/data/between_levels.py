"""How forces of two levels on the same frames compare: what that tells of their units and signs.

Each level has bond lengths of its own, and near its minima forces of another may point either way. But a bond that
is longer than in other frames is pulled together the more, and nearly as much the more at all levels: a factor beyond
tells of a unit, a sign of gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.neighborlist import natural_cutoffs, neighbor_list
from numpy.typing import NDArray

from piwsl.structures.units import FORCE_UNITS

LEAST_CORRELATION = 0.9
# Between HF/STO-3G, HF and PBE/6-31G*, GFN2-xTB and MP2/6-31G* on H2O, CH3OH, N2 and HCN, displaced by 0.01 to 0.05 Å,
# correlations are 0.998 and more, factors 0.82 to 1.52.
USUAL_FACTOR = 1.67
# Between HF/STO-3G, GFN1-, GFN2- and IPEA1-xTB on H2O, H2O2, HCl, SiH4, N2 and H2 factors are 0.46 to 2.2. Units are a
# factor of 4.2 apart and more, but for Hartree/Å and Hartree/Bohr, which energies tell.
LARGEST_FACTOR = 2.5
# How far a unit may be from explaining a factor.
NEAR = 1.3
# Of the same atoms, from whose mean theirs are told.
FEWEST_FRAMES = 4
# Times the sum of covalent radii.
BONDED = 1.3
# Times its length in the first frame: what is shorter or longer is another bond, or none.
SHORTEST, LONGEST = 0.7, 1.3
# Å, standard deviation: bonds that vary less are as a third level relaxed them.
LEAST_VARIATION = 0.01
# eV/Å, likewise: where forces of both levels vary less, as those that are zero by symmetry in crystals, it is noise. A
# bond that varies as it has to changes them by more at one of the levels, whatever the unit of the other.
NOISE = 0.01


class Factor(NamedTuple):
    """Changes of the forces of a level as a multiple of those of another."""

    value: float
    """Negative where they point the other way."""
    correlation: float
    """Of all changes, from -1 to 1."""

    @property
    def is_known(self) -> bool:
        """Whether both are of one thing, so that the factor means something."""
        return abs(self.correlation) > LEAST_CORRELATION

    @property
    def is_usual(self) -> bool:
        """Whether both are of one thing, beyond doubt in one unit and of one sign."""
        return self.is_known and 1 / USUAL_FACTOR < self.value < USUAL_FACTOR

    @property
    def is_odd(self) -> bool:
        """Whether both are of one thing, and not in one unit and of one sign."""
        return self.is_known and not 1 / LARGEST_FACTOR < self.value < LARGEST_FACTOR


def factor_between(frames: Sequence[Atoms], key: str, other: str) -> Factor:
    """Compare how forces along bonds change between frames of the same atoms at two levels.

    Args:
        frames: with forces of both.
        key: column of the forces that are asked about.
        other: column of those that they are compared with.

    Returns:
        The ratio of the norms of all changes, with the sign of their correlation; NaN where either are zero, as where
        no bond varies in four frames of the same atoms, or both are noise.
    """
    kinds = [_changes(kind, (key, other)) for kind in _kinds(frames) if len(kind) >= FEWEST_FRAMES]
    own, others = np.concatenate([np.empty((2, 0)), *kinds], axis=1)
    norms = float(np.linalg.norm(own)), float(np.linalg.norm(others))
    if not all(norms) or max(norms) < NOISE * np.sqrt(own.size):
        return Factor(np.nan, np.nan)
    correlation = float(own @ others) / (norms[0] * norms[1])
    return Factor(float(np.copysign(norms[0] / norms[1], correlation)), correlation)


def _kinds(frames: Sequence[Atoms]) -> list[list[Atoms]]:
    """Return the frames by their atoms, in order."""
    kinds: dict[bytes, list[Atoms]] = {}
    for atoms in frames:
        kinds.setdefault(atoms.numbers.tobytes(), []).append(atoms)
    return list(kinds.values())


def _changes(kind: Sequence[Atoms], keys: tuple[str, str]) -> NDArray[np.float64]:
    """Return (2, M B), by what forces along the B bonds that vary differ in M frames from their mean, at two levels."""
    first, second = neighbor_list("ij", kind[0], natural_cutoffs(kind[0], mult=BONDED))
    pairs = np.unique(np.stack([first, second])[:, first < second], axis=1)
    lengths, *forces = (np.array(each) for each in zip(*(_along(atoms, pairs, keys) for atoms in kind), strict=True))
    kept = (lengths > SHORTEST * lengths[0]).all(axis=0) & (lengths < LONGEST * lengths[0]).all(axis=0)
    kept &= lengths.std(axis=0) >= LEAST_VARIATION
    return np.array([(each - each.mean(axis=0))[:, kept].ravel() for each in forces])


def _along(atoms: Atoms, pairs: NDArray[np.int64], keys: tuple[str, str]) -> list[NDArray[np.float64]]:
    """Return the lengths of bonds (2, B), Å, and the forces of each level that pull their atoms apart, (B,) each."""
    first, second = pairs
    vectors, lengths = find_mic(atoms.positions[second] - atoms.positions[first], atoms.cell, atoms.pbc)
    pulls = (0.5 * (atoms.arrays[key][second] - atoms.arrays[key][first]) for key in keys)
    return [lengths, *(np.sum(pull * vectors, axis=1) / lengths for pull in pulls)]


def explanation(factor: float, unit: str, unit_of_other: str) -> str:
    """Return the question that a factor between forces of two levels raises.

    Args:
        factor: as of `factor_between`.
        unit: that the forces were read in.
        unit_of_other: likewise those that they are a multiple of.
    """
    own, other = _mistake(1 / factor, unit), _mistake(factor, unit_of_other)
    if own and other:
        return f"are they {own}, or those {other}?" if own != other else f"are they {own}, or those?"
    if own or other:
        return f"are they {own}?" if own else f"are those {other}?"
    return "are both in the units that were said, and are these forces, not gradients?"


def _mistake(factor: float, read_in: str) -> str:
    """Say in which unit, of which sign, forces would be that times a factor are right; "" where none explains it."""
    sign = ["of the opposite sign"] if factor < 0 else []
    if 1 / LARGEST_FACTOR < abs(factor) < LARGEST_FACTOR:
        return " and ".join(sign)
    off = {unit: abs(np.log(abs(factor) * FORCE_UNITS[read_in] / scale)) for unit, scale in FORCE_UNITS.items()}
    likely = min(off, key=off.__getitem__)
    return " and ".join([f"in {likely}", *sign]) if off[likely] < np.log(NEAR) else ""
