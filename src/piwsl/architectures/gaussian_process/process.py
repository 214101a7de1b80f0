"""A Gaussian process for the energy of one molecule."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from ase.data import chemical_symbols
from ase.formula import Formula
from torch import Tensor, nn

from piwsl.architectures.gaussian_process.bonds import MOST_PERMUTATIONS, BondGraph, order_of
from piwsl.architectures.gaussian_process.kernel import (
    Molecules,
    along,
    centre_of,
    inverse_distances,
    pair_permutations,
    radial,
    squared_distances,
)
from piwsl.architectures.gaussian_process.likelihood import Parameters, Problem, factorised
from piwsl.architectures.gaussian_process.posterior import ForceVariance, Known, Posterior
from piwsl.data.batch import Batch
from piwsl.errors import PiwslError


class Network(nn.Module):
    """The mean of a process that knows labels, and its variance; in eV, energies from some constant."""

    numbers: Tensor
    positions: Tensor
    permutations: Tensor
    labelled: Tensor
    averaged: Tensor | None
    weights: Tensor
    lengths: Tensor
    scales: Tensor

    def __init__(self, structures: int, atoms: int, permutations: int, forces: bool) -> None:
        """Make room for geometries, of which nothing is known yet.

        Args:
            structures: M, of the training.
            atoms: n, of the molecule.
            permutations: G, of equal atoms.
            forces: whether any force is known beside energies.
        """
        super().__init__()
        rows = 1 + (3 * atoms if forces else 0)
        self.register_buffer("numbers", torch.zeros(atoms, dtype=torch.int64))
        self.register_buffer("positions", torch.zeros(structures, atoms, 3, dtype=torch.float64))
        self.register_buffer("permutations", torch.zeros(permutations, atoms, dtype=torch.int64))
        # Energies, and components of forces.
        self.register_buffer("labelled", torch.zeros(structures, rows, dtype=torch.bool))
        # (M,), bool: where no energy is learned from, those whose mean says where energies begin; else None.
        self.register_buffer("averaged", None)
        # Over eV, and over eV/Å; 0 where there is no label.
        self.register_buffer("weights", torch.zeros(structures, rows, dtype=torch.float64))
        # Of pairs, 1/Å.
        self.register_buffer("lengths", torch.ones(atoms * (atoms - 1) // 2, dtype=torch.float64))
        # Amplitude, noise of energies, eV; noise of forces, eV/Å.
        self.register_buffer("scales", torch.ones(3, dtype=torch.float64))
        self._factor: Tensor | None = None

    @classmethod
    def of_file(cls, shapes: Mapping[str, tuple[int, ...]]) -> Network:
        """Make room for what a file holds, of whose tensors these are the shapes.

        Raises:
            PiwslError: a tensor is missing, or has not as many axes as it should.
        """
        positions, permutations, weights = (shapes.get(name, ()) for name in ("positions", "permutations", "weights"))
        if (len(positions), len(permutations), len(weights)) != (3, 2, 2):
            raise PiwslError("the geometries of a Gaussian process are not there")
        found = cls(positions[0], positions[1], permutations[0], forces=weights[1] > 1)
        if "averaged" in shapes:
            found.averaged = torch.zeros(positions[0], dtype=torch.bool)
        return found

    @property
    def kernel_parameters(self) -> Parameters:
        """Lengths, amplitude and noise."""
        return Parameters(self.lengths, *self.scales.tolist())

    def set_parameters(self, parameters: Parameters) -> None:
        """Take lengths, amplitude and noise."""
        self.lengths.copy_(parameters.lengths)
        self.scales.copy_(torch.tensor(parameters[1:]))

    def problem(self, elements: list[int]) -> str | None:
        """Say what of the values cannot be, or None: those of a file may be anyone's; elements may occur."""
        if sorted(set(self.numbers.tolist())) != elements:
            return "its molecule is not of these elements"
        atoms = len(self.numbers)
        if len(self.permutations) > MOST_PERMUTATIONS or len(self.permutations) == 0:
            return f"{len(self.permutations)} permutations, 1 to {MOST_PERMUTATIONS} are possible"
        orders = self.permutations.sort(dim=1).values
        if not torch.equal(orders, torch.arange(atoms).expand_as(orders)):
            return "permutations are none"
        if not ((self.lengths > 0).all() and (self.scales > 0).all()):
            return "length, amplitude and noise are not positive"
        averages = self.averaged is not None and bool(self.averaged.any())
        if averages == bool(self.labelled[:, 0].any()):
            return "it does not say which energies its constant is from"
        return None

    def forward(self, batch: Batch) -> tuple[Tensor, None]:
        """Return an equal share of the energy of its molecule for each atom, (N,), eV.

        Raises:
            PiwslError: a structure is periodic, or not the molecule that the process knows.
        """
        atoms = self._atoms(batch)
        energies = self._mean(batch.positions[atoms].to(self.weights))
        shares = (energies / len(self.numbers))[:, None].expand(atoms.shape)
        found = energies.new_zeros(len(batch.atomic_numbers))
        return found.index_put((atoms.flatten(),), shares.flatten()), None

    def _mean(self, positions: Tensor) -> Tensor:
        """Return energies (B,), eV, of positions (B, n, 3): Σ_m Σ_P [k w_m - a (P y - y_m)ᵀ J_m f_m / l] / G."""
        centre = centre_of(self.positions, self.permutations)
        known = (inverse_distances(self.positions) - centre) / self.lengths  # (M, D)
        orders = pair_permutations(self.permutations)
        permuted = (inverse_distances(positions) - centre)[:, orders] / self.lengths  # (B, G, D)
        found = radial(squared_distances(permuted.flatten(0, 1), known))
        energies = found.value @ self.weights[:, 0]
        if self.weights.shape[1] > 1:
            directions = (
                along(self.positions, self.weights[:, 1:].reshape(self.positions.shape)) / self.lengths
            )  # (M, D)
            projected = permuted.flatten(0, 1) @ directions.T - (known * directions).sum(dim=1)
            energies = energies - (found.slope * projected).sum(dim=1)
        return energies.reshape(len(positions), -1).mean(dim=1)

    def _atoms(self, batch: Batch) -> Tensor:
        """Return which atoms of a batch its molecules have, (B, n), in the order of the training."""
        present = batch.n_atoms > 0
        if (batch.pbc[present]).any():
            raise PiwslError("a Gaussian process knows one molecule, and a structure is periodic; say pbc: F F F")
        order = torch.argsort(batch.structure_index, stable=True)
        own = order[present[batch.structure_index[order]]]
        sizes = batch.n_atoms[present].long()
        of_each = batch.atomic_numbers[own].split(sizes.tolist())
        wanted = self.numbers.sort().values
        for numbers in of_each:
            if not torch.equal(numbers.sort().values, wanted):
                found, known = (formula(each) for each in (numbers, self.numbers))
                raise PiwslError(f"a Gaussian process knows one molecule: trained on {known}, asked for {found}")
        atoms = own.reshape(-1, len(self.numbers))
        for row in (batch.atomic_numbers[atoms] != self.numbers).any(dim=1).nonzero().flatten().tolist():
            atoms[row] = atoms[row][self._order_of(batch, atoms[row])]
        return atoms

    def _order_of(self, batch: Batch, atoms: Tensor) -> Tensor:
        graph = BondGraph.of(batch.atomic_numbers[atoms].cpu().numpy(), batch.positions[atoms].detach().cpu().numpy())
        known = BondGraph.mean(self.numbers.cpu().numpy(), self.positions.cpu().numpy())
        return torch.tensor(order_of(known, graph), device=atoms.device)

    def energy_variance(self, batch: Batch) -> Tensor:
        """Return the variances of energies, (M,), eV², as of `Posterior.variance`; NaN of structures of no atoms."""
        found = torch.full_like(batch.n_atoms, torch.nan, dtype=torch.float64)
        with torch.no_grad():
            found[batch.n_atoms > 0] = self.posterior(batch).variance()
        return found

    def posterior(self, batch: Batch) -> Posterior:
        """Return the variances of energies, as of `energy_variance`, ready to learn labels of these structures.

        Raises:
            PiwslError: a structure is periodic, or not the molecule that the process knows.
        """
        centre = centre_of(self.positions, self.permutations)
        known = self._known(centre)
        positions = batch.positions[self._atoms(batch)].detach().to(self.weights)
        averaged = None if self.averaged is None else self.positions[self.averaged]
        factor, parameters = self._factorised(known), self.kernel_parameters
        return Posterior(known, factor, positions, averaged, self.permutations, centre, parameters)

    def force_variance(self, batch: Batch, seen: Batch) -> ForceVariance:
        """Return what energies of these structures would take away of the variance of forces at others.

        Raises:
            PiwslError: a structure is periodic, or not the molecule that the process knows.
        """
        return ForceVariance(self.posterior(batch), seen.positions[self._atoms(seen)].detach().to(self.weights))

    def _known(self, centre: Tensor) -> Known:
        molecules = Molecules(self.positions, self.permutations, centre, forces=self.weights.shape[1] > 1)
        of_forces = self.labelled[:, 1:2].expand(-1, molecules.rows - 1)
        return Known(molecules, torch.cat([self.labelled[:, :1], of_forces], dim=1))

    def _factorised(self, known: Known) -> Tensor:
        """Return the Cholesky factor of C, (L, L), kept for the next call."""
        if self._factor is None or self._factor.device != self.weights.device:
            problem = Problem(known.molecules, torch.where(known.labelled, 0.0, torch.nan).to(self.weights))
            self._factor = factorised(problem.covariance(self.kernel_parameters))
        return self._factor


def formula(numbers: Tensor) -> str:
    """Return the formula of atomic numbers (n,), such as CH4O."""
    return Formula.from_list([chemical_symbols[number] for number in sorted(numbers.tolist())]).format("hill")
