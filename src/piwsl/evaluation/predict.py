"""Predictions of a potential for many structures, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from piwsl.data.batch import collate, graphs
from piwsl.models import Potential
from piwsl.structures.structure import Structure

ATOMS_PER_BATCH = 2000


@dataclass(frozen=True)
class Predictions:
    """Energies and forces in the order of the structures."""

    energy: NDArray[np.float64]
    """(M,), eV."""
    forces: list[NDArray[np.float64]]
    """M arrays (N, 3), eV/Å."""


def predict(potential: Potential, structures: list[Structure]) -> Predictions:
    """Predict energies and forces.

    Args:
        potential: the model.
        structures: geometries; labels are not looked at.

    Raises:
        PiwslError: an element that the potential was not trained on, or no geometry; names the frame.
    """
    device = next(potential.parameters()).device
    energies: list[NDArray[np.float64]] = []
    forces: list[NDArray[np.float64]] = []
    for first, chunk in _chunks(structures):
        potential.check_elements(np.concatenate([structure.numbers for structure in chunk]))
        batch = collate(graphs(chunk, potential.cutoff, potential.dtype, range(first, first + len(chunk)))).to(device)
        energy, force = potential.energy_and_forces(batch)
        energies.append(energy.detach().cpu().numpy())
        sizes = [len(structure.numbers) for structure in chunk]
        forces += [part.numpy() for part in force.detach().to(torch.float64).cpu().split(sizes)]
    return Predictions(np.concatenate(energies), forces)


def _chunks(structures: list[Structure]) -> Iterator[tuple[int, list[Structure]]]:
    """Cut structures into batches that fit in memory, each with the position of its first."""
    start, atoms = 0, 0
    for position, structure in enumerate(structures):
        if position > start and atoms + len(structure.numbers) > ATOMS_PER_BATCH:
            yield start, structures[start:position]
            start, atoms = position, 0
        atoms += len(structure.numbers)
    yield start, structures[start:]
