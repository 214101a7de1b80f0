"""From labelled frames of one molecule to the process that knows them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from piwsl.architectures.gaussian_process import MOST_LABELS
from piwsl.architectures.gaussian_process.bonds import BondGraph, kinds_of_pairs, order_of, symmetries
from piwsl.architectures.gaussian_process.kernel import Molecules, centre_of, pairs_of
from piwsl.architectures.gaussian_process.likelihood import (
    MOST_IN_SEARCH,
    MOST_LATER,
    SINGULAR,
    Problem,
    left_out,
    likelier,
    likeliest,
    solve_for,
)
from piwsl.architectures.gaussian_process.process import Network, formula
from piwsl.config.models import Fitted
from piwsl.errors import PiwslError
from piwsl.structures.structure import Structure

# Of a finer kind of pairs: fewer labels told lengths apart that were the same.
LABELS_A_LENGTH = 8


def _orders(structures: Sequence[Structure]) -> list[NDArray[np.int64]]:
    """Return which atoms of each structure stand for those of the first.

    Raises:
        PiwslError: a structure is periodic, or another molecule.
    """
    first = structures[0]
    graph = BondGraph.of(first.numbers, first.positions)
    found = []
    for structure in structures:
        if structure.pbc.any():
            raise PiwslError("a Gaussian process knows one molecule, and frames are periodic; choose another model")
        if not np.array_equal(np.sort(structure.numbers), np.sort(first.numbers)):
            formulas = " and ".join(formula(torch.tensor(each.numbers)) for each in (first, structure))
            raise PiwslError(
                f"a Gaussian process knows one molecule, and frames are of {formulas}; choose another model"
            )
        order = np.arange(len(first.numbers))
        if not np.array_equal(structure.numbers, first.numbers):
            order = np.array(order_of(graph, BondGraph.of(structure.numbers, structure.positions)))
        found.append(order)
    return found


def _targets(structures: Sequence[Structure], orders: Sequence[NDArray[np.int64]], energies: bool) -> Tensor:
    """Return energies, from their mean, and forces where any are known, (M, rows); NaN where there is no label."""
    forces = any(structure.forces is not None for structure in structures)
    atoms = len(structures[0].numbers)
    targets = torch.full((len(structures), 1 + 3 * atoms * forces), torch.nan, dtype=torch.float64)
    if energies:
        values = np.array([structure.energy for structure in structures])
        known = ~np.isnan(values)
        targets[:, 0] = torch.tensor(values - values[known].mean()) if known.any() else torch.nan
    for row, structure, order in zip(targets, structures, orders, strict=True):
        if structure.forces is not None:
            row[1:] = torch.tensor(structure.forces[order].flatten())
    return targets


def fit(structures: Sequence[Structure], energies: bool) -> Fitted:
    """Return a process that knows the labels of structures, and what it says of each without knowing it.

    Args:
        structures: of one molecule, with energies, forces, or both.
        energies: whether it looks at the energies.

    Raises:
        PiwslError: structures that are not of one molecule, fewer than two, or more labels than memory has room for.
    """
    labelled_frames = sum(structure.forces is not None or not np.isnan(structure.energy) for structure in structures)
    if labelled_frames < 2:
        raise PiwslError("a Gaussian process needs two frames to learn from; raise the size")
    if len(structures[0].numbers) < 2:
        raise PiwslError("a Gaussian process goes by distances between atoms, and the frames have one atom")
    orders = _orders(structures)
    targets = _targets(structures, orders, energies)
    labelled = ~targets.isnan()
    count = int(labelled.sum())
    if count > MOST_LABELS:
        raise PiwslError(
            f"a Gaussian process takes {MOST_LABELS} labels (energies, components of forces), and there are {count}; "
            "give fewer frames, say forces: 0, or choose another model"
        )
    numbers = structures[0].numbers
    positions = torch.tensor(
        np.stack([structure.positions[order] for structure, order in zip(structures, orders, strict=True)])
    )
    positions = positions - positions.mean(dim=1, keepdim=True)
    graph = BondGraph.mean(numbers, positions.numpy())
    permutations = torch.tensor(symmetries(graph))
    network = Network(len(structures), len(numbers), len(permutations), forces=targets.shape[1] > 1)
    network.numbers.copy_(torch.tensor(numbers))
    network.positions.copy_(positions)
    network.permutations.copy_(permutations)
    network.labelled.copy_(labelled)
    if not energies:
        network.averaged = torch.tensor([not np.isnan(structure.energy) for structure in structures])
    rest = _teach(network, targets, graph).numpy()
    if int(labelled[:, 0].sum()) < 2:
        rest[:, 0] = np.nan  # it is its own mean, from which nothing is left
    if targets.shape[1] == 1:
        return Fitted(network, rest[:, 0], None)
    forces = rest[:, 1:].reshape(len(structures), -1, 3)
    as_given = [each[np.argsort(order)] for each, order in zip(forces, orders, strict=True)]
    return Fitted(network, rest[:, 0], np.stack(as_given))


def _teach(network: Network, targets: Tensor, graph: BondGraph) -> Tensor:
    """Have a network know labels (M, rows); return what is left of them where their structure is left out.

    Raises:
        PiwslError: the frames do not determine a process.
    """
    centre, forces = centre_of(network.positions, network.permutations), targets.shape[1] > 1
    molecules = Molecules(network.positions, network.permutations, centre, forces)
    labels = molecules.internal(targets)

    def of_first(most: int) -> Problem:
        count = max(2, int(((~labels.isnan()).sum(dim=1).cumsum(dim=0) <= most).sum()))
        some = Molecules(network.positions[:count], network.permutations, centre, forces)
        return Problem(some, labels[:count])

    first, second = pairs_of(len(network.numbers))
    kinds, finer = (torch.tensor(each)[first, second].unique(return_inverse=True)[1] for each in kinds_of_pairs(graph))
    searched = of_first(MOST_IN_SEARCH)
    whole = len(searched.targets) == len(targets)
    many = int((~labels.isnan()).sum()) >= LABELS_A_LENGTH * (int(finer.max()) + 1)
    parameters = likeliest(searched, kinds, finer if whole and many else None)
    if not whole:
        parameters = likelier(of_first(MOST_LATER), kinds, parameters)
    network.set_parameters(parameters)
    problem = Problem(molecules, labels)
    solution = solve_for(problem, parameters)
    if solution is None:
        raise PiwslError(SINGULAR)
    known = ~labels.isnan()
    weights, rest = torch.zeros_like(labels), torch.full_like(labels, torch.nan)
    weights[known] = solution.weights
    rest[known] = left_out(problem, solution)
    network.weights.copy_(molecules.of_atoms(weights))
    # Nothing is said of forces that move or turn a molecule as a whole.
    return molecules.of_atoms(rest) + targets - molecules.of_atoms(labels)
