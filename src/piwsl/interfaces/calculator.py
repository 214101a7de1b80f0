"""ASE calculator of a trained potential."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.outputs import Properties
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from torch import Tensor

from piwsl.data.batch import graph
from piwsl.interfaces.neighbours import KeptNeighbours
from piwsl.models import Predictor
from piwsl.models.compiled import compiled_predictor
from piwsl.models.terms import Property
from piwsl.structures.frames import electrons_stated
from piwsl.structures.structure import from_atoms

# Names that ASE does not know: its writers pass over them.
SPREADS = ("energy_std", "forces_std")
# What results are a function of.
GEOMETRY = ("positions", "numbers", "cell", "pbc")


class PotentialCalculator(Calculator):
    """Energy, energies of atoms (eV), forces (eV/Å) and stress (eV/Å³) of a potential; periodic in any direction.

    Of a model with a baseline that is computed, too; energies of atoms are of the correction alone. A stress have
    structures that are periodic in three directions, of models whose forces are the gradient. Of a committee `results`
    also hold how uncertain these are: `energy_std` (eV) and `forces_std` (N, 3) (eV/Å); of a Gaussian process
    energy_std where `get_property` asks for it.

    Examples:
        >>> atoms.calc = PotentialCalculator(piwsl.load_model("model.safetensors"))
    """

    implemented_properties = ["energy", "energies", "free_energy", "forces", "stress", *SPREADS]  # noqa: RUF012 (ASE's)

    def __init__(self, potential: Predictor, compiled: bool = False, **kwargs: Any) -> None:
        """Keep the potential.

        Args:
            potential: a model.
            compiled: evaluate energies and forces as native code (`piwsl.models.compiled`); half a minute the first
                time, and worth it for ten thousand steps or more.
            kwargs: ASE's.
        """
        super().__init__(**kwargs)
        self.potential = compiled_predictor(potential) if compiled else potential
        self.device = potential.device
        self.neighbours = KeptNeighbours()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate the potential.

        Raises:
            PiwslError: an element that the potential was not trained on, or positions or a cell that are none.
            BaselineFailure: its baseline gave up on this geometry.
            PropertyNotImplementedError: a stress, or a spread, where there is none.
        """
        if "numbers" in system_changes:  # before these atoms are those that nothing has changed in
            self.potential.check_elements((self.atoms if atoms is None else atoms).numbers)
        super().calculate(atoms, properties, system_changes)
        structure = from_atoms(self.atoms, electrons=self.potential.baseline is not None)
        batch = graph(structure, self.potential.cutoff, self.potential.dtype, self.neighbours).to(self.device)
        wanted: set[Property] = {"energy", "forces"}
        if "stress" in (properties or []):
            self._check_stress()
            wanted.add("stress")
        if not set(SPREADS).isdisjoint(properties or []):
            wanted.add("spread")
        prediction = self.potential.predict(batch, wanted)
        total = float(prediction.energy.detach()[0])
        own = None if self.potential.baseline is None else self.potential.baseline.part(structure)
        if own is not None:
            assert own.energy is not None
            total += own.energy
        self.results = {"energy": total, "free_energy": total, "energies": _array(prediction.energies)}
        if prediction.forces is not None:
            forces = _array(prediction.forces)
            self.results["forces"] = forces if own is None or own.forces is None else forces + own.forces
        if prediction.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(_array(prediction.stress[0]))
        if prediction.energy_std is not None:
            self.results["energy_std"] = float(prediction.energy_std[0])
        if prediction.forces_std is not None:
            self.results["forces_std"] = _array(prediction.forces_std)
        self._check_spread(properties or [])

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Say what has changed since results were computed; for a baseline also charge and multiplicity in `info`.

        Args:
            atoms: now.
            tol: of ASE, and not used: numbers are compared to the last bit, in a tenth of the time.
        """
        if self.atoms is None:
            return list(all_changes)
        changes = [name for name in GEOMETRY if not np.array_equal(getattr(atoms, name), getattr(self.atoms, name))]
        if self.potential.baseline is not None:
            changes += [] if electrons_stated(atoms) == electrons_stated(self.atoms) else ["electrons"]
        return changes

    def export_properties(self) -> Properties:
        """Return what ASE has names for."""
        return Properties({name: value for name, value in self.results.items() if name not in SPREADS})

    def _check_spread(self, properties: list[str]) -> None:
        for name in SPREADS:
            if name in properties and name not in self.results:
                raise PropertyNotImplementedError(f"this model does not know {name}; train one with members: 4")

    def _check_stress(self) -> None:
        if self.potential.baseline is not None:
            raise PropertyNotImplementedError("the baseline of this model has no stress")
        if not self.potential.conservative:
            raise PropertyNotImplementedError("the forces of this model have a head of their own, and it has no stress")
        if not self.atoms.pbc.all():
            raise PropertyNotImplementedError("a stress have only structures that are periodic in three directions")


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().to(torch.float64).cpu().numpy()
