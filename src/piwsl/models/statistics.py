"""What a potential takes from its training frames in closed form: atomic references, scale, number of neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from piwsl.config import Model
from piwsl.data.batch import Batch, collate, graph, neighbour_list
from piwsl.models.geometry import MAX_ATOMIC_NUMBER
from piwsl.models.potential import Potential
from piwsl.structures.structure import Structure

# So many structures know the constant of a potential's energy to a fourteenth of its scatter, at little cost.
REFIT_STRUCTURES = 200
STRUCTURES_PER_BATCH = 64


def fit_atomic_energies(counts: NDArray[np.float64], energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit one energy an element to total energies: least squares, of smallest norm where compositions leave it open.

    Args:
        counts: (M, K) atoms of each element.
        energies: (M,), eV.

    Returns:
        (K,), eV.
    """
    solution, *_ = np.linalg.lstsq(counts, energies, rcond=None)
    return np.asarray(solution, dtype=np.float64)


def reference_energies(structures: list[Structure]) -> dict[int, float]:
    """Fit one energy an element to the energies of structures.

    Args:
        structures: with energies, eV.

    Returns:
        Atomic number to eV.
    """
    elements = sorted({int(number) for structure in structures for number in structure.numbers})
    counts = np.array([[(structure.numbers == number).sum() for number in elements] for structure in structures])
    energies = np.array([structure.energy for structure in structures])
    return dict(zip(elements, fit_atomic_energies(counts.astype(float), energies).tolist(), strict=True))


def batches_of(graphs: Sequence[Batch]) -> Iterator[Batch]:
    """Collate graphs of single structures to batches that fit in memory."""
    for start in range(0, len(graphs), STRUCTURES_PER_BATCH):
        yield collate(list(graphs[start : start + STRUCTURES_PER_BATCH]))


def refit_references(potential: Potential, batches: Iterable[Batch]) -> None:
    """Fit the atomic references anew, to what the rest of the potential leaves of labelled energies.

    A constant in the energy has no force: beside forces that weigh more, gradients reach it slowly or never. It is
    linear in the references, so that it costs one least-squares fit.

    Args:
        potential: its references are changed, and nothing else.
        batches: structures with energies; absent ones (NaN) and padding are passed over.
    """
    counts, residuals = [], []
    device = potential.references.device
    with torch.no_grad():
        for batch in (batch.to(device) for batch in batches):
            labelled = (~batch.energy.isnan() & (batch.atoms > 0)).cpu()
            residuals.append((batch.energy - potential.energy(batch)).cpu()[labelled])
            counts.append(element_counts(batch).cpu()[labelled])
    all_counts = torch.cat(counts)
    elements = torch.nonzero(all_counts.sum(dim=0)).flatten()
    shifts = fit_atomic_energies(all_counts[:, elements].numpy(), torch.cat(residuals).numpy())
    potential.references[elements] += torch.as_tensor(shifts).to(potential.references)


def element_counts(batch: Batch) -> Tensor:
    """Return how many atoms of each element the structures have, (M, 119), float64, by atomic number."""
    counts = torch.zeros(batch.structures, MAX_ATOMIC_NUMBER + 1, dtype=torch.float64, device=batch.numbers.device)
    ones = torch.ones_like(batch.numbers, dtype=torch.float64)
    return counts.index_put((batch.structure, batch.numbers), ones, accumulate=True)


def mean_neighbours(structures: list[Structure], cutoff: float) -> float:
    """Return how many neighbours within a cutoff (Å) an atom has on average; 1 where all are alone."""
    edges = sum(neighbour_list(structure, cutoff)[0].shape[1] for structure in structures)
    atoms = sum(len(structure.numbers) for structure in structures)
    return edges / atoms if edges else 1.0


def build_potential(config: Model, structures: list[Structure]) -> Potential:
    """Build an untrained potential whose references and scale come from training frames.

    The scale is the root mean square of what the references leave of the energy, per square root of atoms:
    independent atomic contributions of unit variance then sum to the spread that the data have. The references are
    then fitted once more, to take away what the untrained network adds to the energies.

    Args:
        config: the architecture.
        structures: the training frames, with energies.
    """
    references = reference_energies(structures)
    rest = [
        (structure.energy - sum(references[int(number)] for number in structure.numbers))
        / np.sqrt(len(structure.numbers))
        for structure in structures
    ]
    scale = float(np.sqrt(np.mean(np.square(rest))))
    neighbours = mean_neighbours(structures, config.cutoff)
    potential = Potential(config, scale if scale > 1e-6 else 1.0, references, neighbours)
    graphs = [graph(structure, config.cutoff, potential.dtype) for structure in structures[:REFIT_STRUCTURES]]
    refit_references(potential, batches_of(graphs))
    return potential
