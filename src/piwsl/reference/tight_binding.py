"""GFN2-xTB through tblite: it drives the sampling, and its forces may serve as weak labels.

Bannwarth, Ehlert, Grimme, "GFN2-xTB - an accurate and broadly parametrized self-consistent tight-binding quantum
chemical method", J. Chem. Theory Comput. 15, 1652 (2019).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from tblite.ase import TBLite

from piwsl.errors import PiwslError
from piwsl.structures.frames import WEAK_FORCES_KEY, charge_of, multiplicity_of


def gfn2(charge: int, multiplicity: int) -> TBLite:
    """Return the ASE calculator; charge in e, multiplicity 2S + 1."""
    return TBLite(method="GFN2-xTB", charge=charge, multiplicity=multiplicity, verbosity=0)


def with_weak_forces(frames: Iterable[Atoms], source: str) -> Iterator[Atoms]:
    """Yield copies of frames with the forces of GFN2-xTB, eV/Å, as weak labels, one by one.

    Args:
        frames: with info `charge` and `multiplicity`, where they are not 0 and 1.
        source: where they come from, for messages.

    Raises:
        PiwslError: GFN2-xTB gave up on a frame, or its charge or multiplicity is no whole number.
    """
    for position, atoms in enumerate(frames):
        frame = atoms.copy()
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        try:
            bare.calc = gfn2(charge_of(atoms), multiplicity_of(atoms))
        except PiwslError as error:
            raise PiwslError(f"{source}: frame {position}: {error}") from None
        try:
            frame.arrays[WEAK_FORCES_KEY] = bare.get_forces()
        except CalculationFailed as error:
            reason = str(error).strip().splitlines()[0]
            raise PiwslError(
                f"{source}: GFN2-xTB has no forces for frame {position} ({atoms.get_chemical_formula()}): {reason}; "
                "take the frame out, or leave weak_forces out"
            ) from None
        yield frame
