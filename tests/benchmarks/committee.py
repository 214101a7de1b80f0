"""What training the members of a committee together would bring: one step of all at once over one after the other.

PaiNN of the default size on ethanol with random labels of energies and forces, float32, one thread, the double backward
of a loss on forces; together by torch.func.vmap over stacked weights. Members learn from the same frames here, which in
a training they do not: the ratio is the most that there is to gain. Sums over edges are plain `index_add` where members
are together, since vmap knows torch's functions alone.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from piwsl.architectures.painn import PaiNN, network
from piwsl.data.batch import Batch, collate, graph
from piwsl.models import Potential, build_potential
from piwsl.reference.smiles import from_smiles
from piwsl.structures.structure import from_atoms

Gradients = list[Tensor]


def weighted_sum(weights: Tensor, features: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
    """Return what `piwsl.models.messages.weighted_sum` returns, by an array of all products."""
    products = features.index_select(0, sender) * weights[:, None, :]
    return torch.zeros_like(features).index_add(0, receiver, products)


def directed_sum(weights: Tensor, directions: Tensor, receiver: Tensor, atoms: int) -> Tensor:
    """Return what `piwsl.models.messages.directed_sum` returns, likewise."""
    products = directions[:, :, None] * weights[:, None, :]
    return weights.new_zeros(atoms, 3, weights.shape[1]).index_add(0, receiver, products)


def committee(members: int, count: int) -> tuple[list[Potential], Batch]:
    """Return untrained potentials of different weights, and a batch of so many displaced molecules."""
    config = PaiNN(architecture="painn")
    rng = np.random.default_rng(0)
    molecule = from_smiles("CCO", charge=0)
    structures = []
    for _ in range(count):
        atoms = Atoms(molecule.numbers, molecule.positions + 0.05 * rng.normal(size=molecule.positions.shape))
        atoms.info["REF_energy"] = float(rng.normal())
        atoms.arrays["REF_forces"] = rng.normal(size=atoms.positions.shape)
        structures.append(from_atoms(atoms))
    torch.manual_seed(0)
    potentials = [build_potential(config, structures) for _ in range(members)]
    batch = collate([graph(structure, config.cutoff, torch.float32) for structure in structures])
    return potentials, batch


def loss(energies: Tensor, forces: Tensor, batch: Batch) -> Tensor:
    """Return the sum over members of energies (K, N) of atoms and forces (K, N, 3) against the labels."""
    of_structures = energies.new_zeros(len(energies), batch.structures).index_add(1, batch.structure_index, energies)
    error = (of_structures - batch.energy.to(energies)) / batch.n_atoms
    return error.square().mean(dim=1).sum() + 100.0 * (forces - batch.forces).square().mean(dim=(1, 2)).sum()


def one_after_the_other(members: list[Potential], batch: Batch) -> Gradients:
    """Return the gradients of all weights."""
    found: Gradients = []
    for member in members:
        positions = batch.positions.clone().requires_grad_()
        energies, _ = member.learned.network(batch.at(positions))
        (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=True)
        total = loss(energies[None], -gradient[None], batch)
        found += torch.autograd.grad(total, list(member.learned.network.parameters()), allow_unused=True)
    return found


def together(members: list[Potential], batch: Batch) -> Gradients:
    """Return the gradients of all stacked weights."""
    networks = [member.learned.network for member in members]
    weights, buffers = stack_module_state(networks)
    base = copy.deepcopy(networks[0])

    def energies_of(own: dict[str, Tensor], constants: dict[str, Tensor], positions: Tensor) -> Tensor:
        energies: Tensor = functional_call(base, (own, constants), (batch.at(positions),))[0]
        return energies

    positions = batch.positions.expand(len(members), -1, -1).clone().requires_grad_()
    with patch.multiple(network, weighted_sum=weighted_sum, directed_sum=directed_sum):
        energies = vmap(energies_of)(weights, buffers, positions)
        (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=True)
        total = loss(energies, -gradient, batch)
        return list(torch.autograd.grad(total, list(weights.values()), allow_unused=True))


def largest_difference(members: list[Potential], batch: Batch) -> float:
    """Return the largest difference of a gradient by one way and the other, over the largest gradient."""
    apart, stacked = one_after_the_other(members, batch), together(members, batch)
    differences = [0.0]
    largest = max(float(each.abs().max()) for each in apart if each is not None)
    for position, of_all in enumerate(stacked):
        for member in range(len(members)):
            own = apart[member * len(stacked) + position]
            if own is not None:
                differences.append(float((own - of_all[member]).abs().max()))
    return max(differences) / largest


def seconds(step: Callable[[list[Potential], Batch], Gradients], members: list[Potential], batch: Batch) -> float:
    """Return the time of one step."""
    started = time.perf_counter()
    step(members, batch)
    return time.perf_counter() - started


def main() -> None:
    """Print a line a size of batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--batches", nargs="+", type=int, default=[4, 8])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for size in options.batches:
        members, batch = committee(options.members, size)
        difference = largest_difference(members, batch)
        rounds = [(seconds(one_after_the_other, members, batch), seconds(together, members, batch)) for _ in range(30)]
        apart, at_once = map(statistics.median, zip(*rounds, strict=True))
        print(
            f"{options.members} members, batch {size}: {1000 * apart:.1f} ms one after the other, {1000 * at_once:.1f} "
            f"ms together: {apart / at_once:.2f} times as fast (gradients differ by {difference:.1e})",
            flush=True,
        )


if __name__ == "__main__":
    main()
