"""What predicts: a batch in, energies, forces and stress out; a potential, or a committee of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Self

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from piwsl.config import Architecture
from piwsl.data.batch import Batch
from piwsl.errors import PiwslError
from piwsl.models.baseline import Baseline
from piwsl.models.terms import Prediction, Property


class Predictor(nn.Module, ABC):
    """What energies and forces come from."""

    config: Architecture
    dtype: torch.dtype
    """Of the positions that it is given, and of its network."""
    neighbours: float
    """Average number of neighbours of an atom within the cutoff, in training."""
    conservative: bool
    """Whether forces are the gradient of the energy."""
    baseline: Baseline | None = None
    """What it corrects: a level of theory that whoever uses it adds to what `predict` says."""

    @property
    def cutoff(self) -> float:
        """Å."""
        return self.config.cutoff

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where its tensors are."""

    @property
    @abstractmethod
    def has_pair_potential(self) -> bool:
        """Whether a pair potential is part of it."""

    @abstractmethod
    def in_dtype(self, dtype: torch.dtype) -> Self:
        """Convert what is learned to another precision, in place."""

    @abstractmethod
    def elements(self) -> list[str]:
        """Return the chemical symbols that it knows, by atomic number."""

    @abstractmethod
    def predict(
        self, batch: Batch, properties: Collection[Property] = ("energy", "forces"), create_graph: bool = False
    ) -> Prediction:
        """Predict what is asked for.

        Args:
            batch: the structures.
            properties: of energy, forces, stress and spread; energies are always there, and so is the spread of a
                committee.
            create_graph: keep what a later derivative of forces and stress needs (training on them).

        Raises:
            PiwslError: a stress of a model whose forces are no gradient.
        """

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
        return self.predict(batch, {"energy"}).energy

    def energy_and_forces(self, batch: Batch, create_graph: bool = False) -> tuple[Tensor, Tensor]:
        """Return energies (M,), eV, and forces (N, 3), eV/Å; arguments as of `predict`."""
        prediction = self.predict(batch, ("energy", "forces"), create_graph)
        assert prediction.forces is not None
        return prediction.energy, prediction.forces
