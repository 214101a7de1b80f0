"""A potential: a network's atomic outputs, scaled, plus atomic reference energies; forces as the gradient or direct."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Self

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from piwsl.config import Architecture
from piwsl.data.batch import Batch, stress_of, sum_per_structure
from piwsl.errors import PiwslError
from piwsl.models.geometry import MAX_ATOMIC_NUMBER
from piwsl.models.pair import PairPotential
from piwsl.models.predictor import Predictor
from piwsl.models.terms import Contribution, Prediction, Property, Term, WithVariance

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class AtomicReferences(nn.Module):
    """One energy an element."""

    energies: Tensor

    def __init__(self, references: Mapping[int, float]) -> None:
        """Take energies, eV, by atomic number; these elements, and no others, are known."""
        super().__init__()
        table = torch.full((MAX_ATOMIC_NUMBER + 1,), torch.nan, dtype=torch.float64)
        for number, energy in references.items():
            table[number] = energy
        self.register_buffer("energies", table)

    def contribution(self, batch: Batch) -> Contribution:
        """Return the energy of each atom's element."""
        return Contribution(self.energies[batch.atomic_numbers])

    def numbers(self) -> list[int]:
        """Return the atomic numbers of the elements that are known, ascending."""
        return torch.nonzero(~self.energies.isnan()).flatten().tolist()


class ScaledNetwork(nn.Module):
    """A network's outputs times a scale; it computes in its own precision what is small, sums are in float64."""

    scale: Tensor

    def __init__(self, network: nn.Module, scale: float) -> None:
        """Keep the network and how many eV, or eV/Å, a unit of its output is."""
        super().__init__()
        self.network = network
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    def contribution(self, batch: Batch) -> Contribution:
        """Return the scaled outputs, and forces of a network with a head for them."""
        outputs, forces = self.network(batch)
        return Contribution(self.scale * outputs.double(), None if forces is None else forces * self.scale.to(forces))


class Potential(Predictor):
    """A sum of terms: E = Σ_i [reference(Z_i) + scale · network_i + pair_i], in eV; F = -∂E/∂r, or a head of its own.

    The network learns what the pair potential leaves: in training there is none, and labels are without it. A baseline
    is no term: it is no function of a batch, and who asks for structures adds it (`piwsl.evaluation.predict`, the
    calculator).
    """

    def __init__(
        self,
        config: Architecture,
        scale: float,
        references: dict[int, float],
        neighbours: float,
        network: nn.Module | None = None,
    ) -> None:
        """Build a potential.

        Args:
            config: the architecture.
            scale: eV a unit of the network's output.
            references: atomic number to eV; these elements, and no others, are known.
            neighbours: average number of neighbours of an atom within the cutoff.
            network: of that architecture; by default one that is untrained.
        """
        super().__init__()
        self.config = config
        self.dtype = DTYPES[config.dtype]
        self.neighbours = neighbours
        self.references = AtomicReferences(references)
        if network is None:
            network = config.network(sorted(references), neighbours)
        self.learned = ScaledNetwork(network.to(self.dtype), scale)
        self.conservative = config.conservative
        self.pair: PairPotential | None = None

    @property
    def terms(self) -> list[Term]:
        """What the potential is a sum of."""
        terms: list[Term] = [self.references, self.learned]
        return terms if self.pair is None else [*terms, self.pair]

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.references.energies.device

    @property
    def has_pair_potential(self) -> bool:
        """Whether a pair potential is part of it."""
        return self.pair is not None

    def in_dtype(self, dtype: torch.dtype) -> Self:
        """Convert the network to another precision, in place."""
        self.dtype = dtype
        self.learned.network.to(dtype)
        return self

    def elements(self) -> list[str]:
        """Return the chemical symbols that the potential knows."""
        return [chemical_symbols[number] for number in self.references.numbers()]

    def predict(
        self, batch: Batch, properties: Collection[Property] = ("energy", "forces"), create_graph: bool = False
    ) -> Prediction:
        """Predict what is asked for.

        The stress is ∂E/∂ε / V with the strain ε of positions and cell: Knuth, Carbogno, Atalla, Blum, Scheffler,
        "All-electron formalism for total energy strain derivatives and stress tensor components for numeric
        atom-centered orbitals", Comput. Phys. Commun. 190, 33 (2015), equation 2.

        Args:
            batch: the structures.
            properties: of energy, forces, stress and spread (the standard deviation of the energy, of networks that
                know it); energies are always there.
            create_graph: keep what a later derivative of forces and stress needs (training on them).

        Raises:
            PiwslError: a stress of a model whose forces are no gradient.
        """
        found = self._predicted(batch, properties, create_graph)
        if "spread" in properties and isinstance(self.learned.network, WithVariance):
            return found._replace(energy_std=self.energy_variance(batch).sqrt())
        return found

    def _predicted(self, batch: Batch, properties: Collection[Property], create_graph: bool) -> Prediction:
        if "stress" in properties and not self.conservative:
            raise PiwslError(
                "the forces of this model have a head of their own, and it has no stress; say forces: conservative"
            )
        if "forces" not in properties and "stress" not in properties:
            energy, energies, _ = self._evaluate(batch)
            return Prediction(energy, energies, None, None)
        if not self.conservative and self.pair is None:
            energy, energies, contributions = self._evaluate(batch)
            return Prediction(energy, energies, _sum(_own_forces(contributions)), None)
        with torch.enable_grad():
            positions = batch.positions.detach().requires_grad_()
            strain = torch.zeros_like(batch.cell).requires_grad_() if "stress" in properties else None
            deformed = batch.at(positions)
            if strain is not None:
                deformed = deformed.strained(0.5 * (strain + strain.transpose(1, 2)))
            energy, energies, contributions = self._evaluate(deformed)
            gradients = _gradients(contributions, positions, strain, create_graph)
        forces = _sum([-gradients[0], *_own_forces(contributions)]) if "forces" in properties else None
        return Prediction(energy, energies, forces, None if strain is None else stress_of(gradients[1], batch))

    def _evaluate(self, batch: Batch) -> tuple[Tensor, Tensor, list[Contribution]]:
        """Return energies of structures, of atoms, and what each term says."""
        contributions = [term.contribution(batch) for term in self.terms]
        # Term by term, for the references are large.
        energy = _sum([sum_per_structure(each.energies, batch) for each in contributions])
        return energy, _sum([each.energies for each in contributions]), contributions

    def energy_variance(self, batch: Batch) -> Tensor:
        """Return how uncertain energies are, (M,), eV²: the variance of the energy, not of a noisy label.

        Raises:
            PiwslError: the architecture does not know.
        """
        network = self.learned.network
        if not isinstance(network, WithVariance):
            raise PiwslError(f"architecture '{self.config.architecture}' has no variance; take gaussian_process")
        return self.learned.scale**2 * network.energy_variance(batch)


def _sum(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum(dim=0)


def _own_forces(contributions: Sequence[Contribution]) -> list[Tensor]:
    """Return the forces that are no gradient, one (N, 3) a term that has such."""
    return [each.forces for each in contributions if each.forces is not None]


def _gradients(
    contributions: Sequence[Contribution], positions: Tensor, strain: Tensor | None, create_graph: bool
) -> list[Tensor]:
    """Return ∂E/∂r (N, 3) and, where there is a strain, ∂E/∂ε (M, 3, 3), of what has no forces of a head of its own."""
    variables = [positions] + ([] if strain is None else [strain])
    sums = [each.energies.sum() for each in contributions if each.forces is None and each.energies.requires_grad]
    if not sums:
        return [torch.zeros_like(variable) for variable in variables]
    return list(torch.autograd.grad(_sum(sums), variables, create_graph=create_graph))
