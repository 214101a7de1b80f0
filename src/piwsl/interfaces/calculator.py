"""ASE calculator of a trained potential."""

from __future__ import annotations

from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from piwsl.data.batch import graph
from piwsl.models import Potential
from piwsl.structures.structure import from_atoms


class PotentialCalculator(Calculator):
    """Energy (eV) and forces (eV/Å) of a potential; periodic in any direction.

    Examples:
        >>> atoms.calc = PotentialCalculator(piwsl.load_model("model.safetensors"))
    """

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012 (declared so by ASE)

    def __init__(self, potential: Potential, **kwargs: Any) -> None:
        """Keep the potential; other arguments are ASE's."""
        super().__init__(**kwargs)
        self.potential = potential
        self.device = next(potential.parameters()).device

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate the potential.

        Raises:
            PiwslError: an element that the potential was not trained on, or positions or a cell that are none.
        """
        super().calculate(atoms, properties, system_changes)
        self.potential.check_elements(self.atoms.numbers)
        batch = graph(from_atoms(self.atoms), self.potential.cutoff, self.potential.dtype).to(self.device)
        energy, forces = self.potential.energy_and_forces(batch)
        total = float(energy.detach()[0])
        self.results = {
            "energy": total,
            "free_energy": total,
            "forces": forces.detach().to(torch.float64).cpu().numpy(),
        }
