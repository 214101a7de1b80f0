"""Levels that tblite computes: extended tight binding, for trials and as a cheap level. Milliseconds each.

GFN2-xTB: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019); GFN1-xTB: Grimme, Bannwarth, Shushkov,
J. Chem. Theory Comput. 13, 1989 (2017). Orbitals of both spins are the same: free atoms are above their ground states.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from ase.data import atomic_numbers
from pydantic import Field

from piwsl.config import Cost, Level, SinglePoint

if TYPE_CHECKING:
    from ase import Atoms

# Neither method has parameters beyond radon.
HEAVIEST = 86
NAMES = {"gfn2-xtb": "GFN2-xTB", "gfn1-xtb": "GFN1-xTB"}


class TBLite(Level):
    """tblite's: extended tight binding, energies and forces in milliseconds."""

    method: Literal["gfn2-xtb", "gfn1-xtb"] = Field("gfn2-xtb", description="Which parametrisation.")
    accuracy: float = Field(
        1e-3, ge=1e-6, le=1, description="tblite's: its thresholds of convergence are in proportion to it."
    )
    electronic_temperature: float = Field(
        300.0, ge=1, le=10_000, description="K; of the occupation of orbitals. Energies are electronic free energies."
    )

    def single_point(self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int, forces: bool) -> SinglePoint:
        """Compute energy and forces; a charge distribution that does not converge is refused by tblite."""
        from tblite.ase import TBLite as Calculator

        atoms.calc = Calculator(
            method=NAMES[self.method],
            charge=charge,
            multiplicity=multiplicity,
            accuracy=self.accuracy,
            electronic_temperature=self.electronic_temperature,
            verbosity=0,
        )
        return SinglePoint(atoms.get_potential_energy(), atoms.get_forces() if forces else None)

    def cost(self, atoms: Atoms, charge: int, multiplicity: int, forces: bool) -> Cost:
        """Estimate a frame: diagonalisations, which grow with the cube of the atoms."""
        return Cost(cpu_s=0.01 + 2e-6 * len(atoms) ** 3, memory_mb=150 + 1e-3 * len(atoms) ** 2)

    def analytic_problem(self, multiplicity: int) -> None:
        """Say that there are analytic forces, always."""

    def problem(self, symbols: set[str]) -> str | None:
        """Say which element is beyond radon."""
        import tblite.ase  # noqa: F401  # one that is not installed is missed before anything is computed

        beyond = sorted(symbol for symbol in symbols if atomic_numbers[symbol] > HEAVIEST)
        return f"{NAMES[self.method]} has no {', '.join(beyond)}; name another level" if beyond else None

    def versions(self) -> dict[str, str]:
        """Return tblite's version."""
        return {"tblite": version("tblite")}

    def __str__(self) -> str:
        """Return the method as it is written."""
        return NAMES[self.method]
