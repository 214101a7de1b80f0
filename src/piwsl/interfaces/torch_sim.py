"""torch-sim's view of a trained potential, for its optimisers, integrators and batches of systems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from piwsl.data.batch import collate, graph
from piwsl.errors import PiwslError
from piwsl.extras import naming_extras
from piwsl.models import Predictor
from piwsl.models.terms import Property
from piwsl.structures.structure import Structure

with naming_extras():
    from torch_sim.models.interface import ModelInterface
    from torch_sim.state import SimState


class TorchSimModel(ModelInterface):  # type: ignore[misc]  # torch-sim's types are unknown to mypy
    """Energies (M,), eV, forces (N, 3), eV/Å, and stress (M, 3, 3), eV/Å³, of M systems with N atoms in all.

    States are in float64; the potential computes in its own precision.

    Examples:
        >>> model = TorchSimModel(piwsl.load_model("model.safetensors"))
        >>> torch_sim.optimize(atoms, model, optimizer=torch_sim.gradient_descent)
    """

    def __init__(self, potential: Predictor, stress: bool = False) -> None:
        """Keep the potential.

        Args:
            potential: a trained model or a committee.
            stress: whether stress is computed, too: of systems that are periodic in three directions.

        Raises:
            PiwslError: the potential corrects a baseline, which is computed outside torch, or has no stress.
        """
        super().__init__()
        if potential.baseline is not None:
            raise PiwslError(f"{potential.baseline} is computed outside torch-sim; use ASE's calculator")
        if stress and not potential.conservative:
            raise PiwslError("the forces of this model have a head of their own, and it has no stress")
        self.potential = potential
        self._device = potential.device
        self._dtype = torch.float64
        self._compute_forces, self._compute_stress = True, stress

    def forward(self, state: SimState | Mapping[str, Any], **_: Any) -> dict[str, Tensor]:
        """Evaluate the potential.

        Raises:
            PiwslError: an element that the potential was not trained on.
            ImpossibleGeometry: positions or a cell that are none.
        """
        systems = state if isinstance(state, SimState) else SimState(**state)
        self.potential.check_elements(systems.atomic_numbers.cpu().numpy())
        graphs = [graph(found, self.potential.cutoff, self.potential.dtype) for found in _structures(systems)]
        wanted: list[Property] = ["energy", "forces", "stress"]
        prediction = self.potential.predict(
            collate(graphs).to(self._device), wanted if self._compute_stress else wanted[:2]
        )
        found = {"energy": prediction.energy, "forces": prediction.forces, "stress": prediction.stress}
        return {name: value.detach().to(self._dtype) for name, value in found.items() if value is not None}


def _structures(systems: SimState) -> list[Structure]:
    sizes = torch.bincount(systems.system_idx).tolist()
    positions = systems.positions.detach().cpu().to(torch.float64).split(sizes)
    numbers = systems.atomic_numbers.cpu().split(sizes)
    cells = systems.row_vector_cell.detach().cpu().to(torch.float64)
    pbc = torch.as_tensor(systems.pbc).cpu().expand(3).numpy()
    return [
        Structure(its_numbers.numpy(), its_positions.numpy(), cell.numpy(), pbc)
        for its_numbers, its_positions, cell in zip(numbers, positions, cells, strict=True)
    ]
