"""ASE calculator of a level of theory: what a model's surface is laid beside."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from piwsl.models import Baseline
from piwsl.structures.frames import electrons_stated
from piwsl.structures.structure import from_atoms


class LevelCalculator(Calculator):
    """Energy (eV) and forces (eV/Å) of molecules; charge and multiplicity stand in their info.

    Examples:
        >>> atoms.calc = LevelCalculator(Baseline("gfn2-xtb", named_level("gfn2-xtb")))
    """

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012 (ASE's)

    def __init__(self, level: Baseline, **kwargs: Any) -> None:
        """Keep the level, by its name; other arguments are ASE's."""
        super().__init__(**kwargs)
        self.level = level

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute energy and forces.

        Raises:
            BaselineFailure: the level gave up on this geometry, or has no analytic forces of it.
            PiwslError: it cannot be run here.
        """
        super().calculate(atoms, properties, system_changes)
        found = self.level.labels(from_atoms(self.atoms))
        self.results = {"energy": found.energy, "free_energy": found.energy, "forces": found.forces}

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Say what has changed since results were computed, charge and multiplicity included."""
        changes: list[str] = super().check_state(atoms, tol)
        if self.atoms is None or electrons_stated(atoms) == electrons_stated(self.atoms):
            return changes
        return [*changes, "electrons"]
