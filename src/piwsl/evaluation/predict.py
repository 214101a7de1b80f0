"""Predictions of a potential for many structures, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from piwsl.data.batch import collate, graphs
from piwsl.errors import PiwslError
from piwsl.models import Baseline, Potential
from piwsl.models.terms import Property, WithVariance
from piwsl.structures.geometry import geometry_problem
from piwsl.structures.structure import Structure, from_atoms

ATOMS_PER_BATCH = 2000


@dataclass(frozen=True)
class Predictions:
    """Energies, forces and stress in the order of the structures."""

    energy: NDArray[np.float64]
    """(M,), eV."""
    forces: list[NDArray[np.float64]]
    """M arrays (N, 3), eV/Å."""
    stress: NDArray[np.float64]
    """(M, 3, 3), eV/Å³; NaN of structures that are not periodic in three directions, and of models without."""
    energy_std: NDArray[np.float64] | None = None
    """(M,), eV: how unsure the model is of each energy, where it knows."""


def predict(potential: Potential, structures: list[Structure]) -> Predictions:
    """Predict energies and forces, and of periodic structures the stress.

    Args:
        potential: the model.
        structures: geometries; labels are not looked at.

    Raises:
        PiwslError: an element that the potential was not trained on, or no geometry; names the frame.
    """
    device = potential.device
    energies: list[NDArray[np.float64]] = []
    forces: list[NDArray[np.float64]] = []
    stress: list[NDArray[np.float64]] = []
    variances: list[NDArray[np.float64]] = []
    for first, chunk in _chunks(structures):
        potential.check_elements(np.concatenate([structure.numbers for structure in chunk]))
        batch = collate(graphs(chunk, potential.cutoff, potential.dtype, range(first, first + len(chunk)))).to(device)
        with_stress = potential.conservative and any(structure.pbc.all() for structure in chunk)
        wanted: set[Property] = {"energy", "forces", "stress"} if with_stress else {"energy", "forces"}
        prediction = potential.predict(batch, wanted)
        sizes = [len(structure.numbers) for structure in chunk]
        if isinstance(potential.learned.network, WithVariance):
            variances.append(potential.energy_variance(batch).detach().cpu().numpy())
        energies.append(prediction.energy.detach().cpu().numpy())
        if prediction.forces is not None:
            forces += [part.numpy() for part in prediction.forces.detach().to(torch.float64).cpu().split(sizes)]
        absent = np.full((len(chunk), 3, 3), np.nan)
        stress.append(absent if prediction.stress is None else prediction.stress.detach().double().cpu().numpy())
    spread = np.sqrt(np.concatenate(variances)) if variances else None
    found = Predictions(np.concatenate(energies), forces, np.concatenate(stress), spread)
    return found if potential.baseline is None else _with_baseline(found, potential.baseline, structures)


def _with_baseline(found: Predictions, baseline: Baseline, structures: list[Structure]) -> Predictions:
    """Add what a potential corrects."""
    energy, forces = found.energy.copy(), []
    for position, structure in enumerate(structures):
        try:
            own = baseline.known(structure).at_level(baseline.name)
        except PiwslError as error:
            raise PiwslError(f"frame {position}: {error}") from None
        assert own.energy is not None
        assert own.forces is not None
        energy[position] += own.energy
        forces.append(found.forces[position] + own.forces)
    return Predictions(energy, forces, np.full_like(found.stress, np.nan))


def _chunks(structures: list[Structure]) -> Iterator[tuple[int, list[Structure]]]:
    """Cut structures into batches that fit in memory, each with the position of its first."""
    start, atoms = 0, 0
    for position, structure in enumerate(structures):
        if position > start and atoms + len(structure.numbers) > ATOMS_PER_BATCH:
            yield start, structures[start:position]
            start, atoms = position, 0
        atoms += len(structure.numbers)
    yield start, structures[start:]


def structures_of(frames: Sequence[Atoms], source: str, potential: Potential | None = None) -> list[Structure]:
    """Return frames as structures with their labels.

    Args:
        frames: geometries.
        source: where they come from, for messages.
        potential: that must know their elements, if any.

    Raises:
        PiwslError: a frame is no geometry, holds an element that is unknown, or a label that is no number; names it.
    """
    structures = []
    for position, atoms in enumerate(frames):
        try:
            if problem := geometry_problem(atoms):
                raise PiwslError(problem)
            if potential is not None:
                potential.check_elements(atoms.numbers)
            structures.append(from_atoms(atoms))
        except PiwslError as error:
            raise PiwslError(f"{source}: frame {position}: {error}") from None
    return structures


def with_predictions(frames: Sequence[Atoms], predictions: Predictions) -> list[Atoms]:
    """Return copies of frames with energy (eV), forces (eV/Å) and, where there is one, stress (eV/Å³) in a calculator.

    Args:
        frames: geometries.
        predictions: in the same order.
    """
    predicted = []
    for index, atoms in enumerate(frames):
        frame, stress = atoms.copy(), predictions.stress[index]
        known = {"stress": full_3x3_to_voigt_6_stress(stress)} if np.isfinite(stress).all() else {}
        energy = float(predictions.energy[index])
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=predictions.forces[index], **known)
        predicted.append(frame)
    return predicted
