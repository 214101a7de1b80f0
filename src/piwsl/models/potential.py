"""A potential: a network's atomic outputs, scaled, plus atomic reference energies; forces as the gradient or direct."""

from __future__ import annotations

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from piwsl.config import MACE as MACEConfig
from piwsl.config import Model
from piwsl.config import PaiNN as PaiNNConfig
from piwsl.config import SchNet as SchNetConfig
from piwsl.data.batch import Batch, sum_per_structure
from piwsl.errors import PiwslError
from piwsl.models.geometry import MAX_ATOMIC_NUMBER
from piwsl.models.mace import MACE
from piwsl.models.painn import PaiNN
from piwsl.models.pair import PairPotential
from piwsl.models.schnet import SchNet

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Potential(nn.Module):
    """E = Σ_i [scale · network_i + reference(Z_i)] + pair potential, in eV; F = -∂E/∂r, or a head of its own, in eV/Å.

    The network learns what the pair potential leaves: in training there is none, and labels are without it.
    """

    scale: Tensor
    references: Tensor

    def __init__(self, config: Model, scale: float, references: dict[int, float], neighbours: float) -> None:
        """Build an untrained potential.

        Args:
            config: the architecture.
            scale: eV a unit of the network's output.
            references: atomic number to eV; these elements, and no others, are known.
            neighbours: average number of neighbours of an atom within the cutoff.
        """
        super().__init__()
        self.config = config
        self.dtype = DTYPES[config.dtype]
        self.neighbours = neighbours
        self.network = _network(config, sorted(references), neighbours).to(self.dtype)
        self.conservative = not (isinstance(config, PaiNNConfig) and config.forces == "direct")
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        table = torch.full((MAX_ATOMIC_NUMBER + 1,), torch.nan, dtype=torch.float64)
        for number, energy in references.items():
            table[number] = energy
        self.register_buffer("references", table)
        self.pair: PairPotential | None = None

    @property
    def cutoff(self) -> float:
        """Å."""
        return self.config.cutoff

    def in_dtype(self, dtype: torch.dtype) -> Potential:
        """Convert the network to another precision, in place."""
        self.dtype = dtype
        self.network.to(dtype)
        return self

    def elements(self) -> list[str]:
        """Return the chemical symbols that the potential knows."""
        return [chemical_symbols[int(number)] for number in torch.nonzero(~self.references.isnan()).flatten()]

    def check_elements(self, numbers: np.ndarray) -> None:
        """Refuse elements that were not in the training data.

        Raises:
            PiwslError: naming them.
        """
        known = self.elements()
        unknown = sorted({chemical_symbols[int(number)] for number in numbers} - set(known))
        if unknown:
            raise PiwslError(f"the model was not trained on {', '.join(unknown)}; it knows {', '.join(known)}")

    def energy(self, batch: Batch) -> Tensor:
        """Return energies (M,), eV, float64."""
        return self._evaluate(batch)[0]

    def _evaluate(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return energies (M,) and, of a model with a head for them, forces (N, 3).

        The network computes in its own precision what is small; sums, and the references, which are large, are in
        float64.
        """
        outputs, forces = self.network(batch)
        interaction = sum_per_structure(outputs.double(), batch)
        energy = self.scale * interaction + sum_per_structure(self.references[batch.numbers], batch)
        if self.pair is not None:
            energy = energy + self.pair.energy(batch)
        return energy, None if forces is None else forces * self.scale.to(self.dtype)

    def energy_and_forces(self, batch: Batch, create_graph: bool = False) -> tuple[Tensor, Tensor]:
        """Return energies (M,), eV, and forces (N, 3), eV/Å.

        Args:
            batch: the structures.
            create_graph: keep what a later derivative of the forces needs (training on them).
        """
        if not self.conservative:
            energy, forces = self._evaluate(batch)
            assert forces is not None
            return energy, forces if self.pair is None else forces + self.pair.energy_and_forces(batch)[1]
        with torch.enable_grad():
            positions = batch.positions.detach().requires_grad_()
            energy = self.energy(batch.at(positions))
            (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=create_graph)
        return energy, -gradient


def _network(config: Model, elements: list[int], neighbours: float) -> nn.Module:
    match config:
        case SchNetConfig():
            return SchNet(config)
        case PaiNNConfig():
            return PaiNN(config, neighbours)
        case MACEConfig():
            return MACE(config, elements, neighbours, DTYPES[config.dtype])
