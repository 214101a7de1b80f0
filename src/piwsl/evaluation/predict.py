"""Predictions of a potential for many structures, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from torch import Tensor

from piwsl.data.batch import collate, graph, graphs
from piwsl.errors import PiwslError
from piwsl.models import Baseline, BaselineFailure, Predictor
from piwsl.models.terms import Prediction, Property
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
    """(M,), eV, the spread of a committee or the standard deviation of a Gaussian process; None of other models."""
    forces_std: list[NDArray[np.float64]] | None = None
    """M arrays (N, 3), eV/Å, of a committee."""


def predict(potential: Predictor, structures: list[Structure], positions: Sequence[int] | None = None) -> Predictions:
    """Predict energies and forces, how uncertain they are where the model knows, and of periodic structures the stress.

    Args:
        potential: the model.
        structures: geometries; labels are not looked at.
        positions: of the structures among the frames that they come from, for messages; default: one after the other.

    Raises:
        PiwslError: an element that the potential was not trained on, no geometry, one that the network refuses or that
            the baseline gives up on; names the frame.
    """
    positions = range(len(structures)) if positions is None else positions
    parts: list[Prediction] = []
    for first, chunk in _chunks(structures):
        potential.check_elements(np.concatenate([structure.numbers for structure in chunk]))
        batch = collate(graphs(chunk, potential.cutoff, potential.dtype, positions[first : first + len(chunk)]))
        with_stress = potential.conservative and any(structure.pbc.all() for structure in chunk)
        wanted: set[Property] = {"energy", "forces", "spread"}
        if with_stress:
            wanted.add("stress")
        try:
            prediction = potential.predict(batch.to(potential.device), wanted)
        except PiwslError as error:
            raise PiwslError(f"{_refused(potential, chunk, positions[first:])}{error}") from None
        if prediction.stress is None:
            prediction = prediction._replace(stress=torch.full((len(chunk), 3, 3), torch.nan))
        parts.append(prediction)
    energy, stress = _joined([part.energy for part in parts]), _joined([part.stress for part in parts])
    assert energy is not None
    assert stress is not None
    cuts = np.cumsum([len(structure.numbers) for structure in structures])[:-1]
    forces, forces_std = (
        None if found is None else np.split(found, cuts)
        for found in (_joined([part.forces for part in parts]), _joined([part.forces_std for part in parts]))
    )
    found = Predictions(energy, forces or [], stress, _joined([part.energy_std for part in parts]), forces_std)
    return found if potential.baseline is None else _with_baseline(found, potential.baseline, structures, positions)


def _refused(potential: Predictor, structures: Sequence[Structure], positions: Sequence[int]) -> str:
    """Return the beginning of a message: the first of some structures that a potential refuses by itself, too."""
    for structure, position in zip(structures, positions, strict=False):
        try:
            potential.predict(graph(structure, potential.cutoff, potential.dtype).to(potential.device), {"energy"})
        except PiwslError:
            return f"frame {position}: "
    return ""


def _with_baseline(
    found: Predictions, baseline: Baseline, structures: list[Structure], positions: Sequence[int]
) -> Predictions:
    """Add what a potential corrects."""
    energy, forces = found.energy.copy(), []
    for position, structure in enumerate(structures):
        try:
            own = baseline.part(structure)
        except BaselineFailure as failure:
            raise BaselineFailure(f"frame {positions[position]}: {failure}") from None
        assert own.energy is not None
        assert own.forces is not None
        energy[position] += own.energy
        forces.append(found.forces[position] + own.forces)
    return replace(found, energy=energy, forces=forces, stress=np.full_like(found.stress, np.nan))


def _joined(parts: Sequence[Tensor | None]) -> NDArray[np.float64] | None:
    """Return what all batches have, one after the other; None where they have it not."""
    known = [part.detach().to(torch.float64).cpu().numpy() for part in parts if part is not None]
    return np.concatenate(known) if known else None


def _chunks(structures: list[Structure]) -> Iterator[tuple[int, list[Structure]]]:
    """Cut structures into batches that fit in memory, each with the position of its first."""
    start, atoms = 0, 0
    for position, structure in enumerate(structures):
        if position > start and atoms + len(structure.numbers) > ATOMS_PER_BATCH:
            yield start, structures[start:position]
            start, atoms = position, 0
        atoms += len(structure.numbers)
    yield start, structures[start:]


def structures_of(
    frames: Sequence[Atoms], source: str, potential: Predictor | None = None, electrons: bool = False
) -> list[Structure]:
    """Return frames as structures with their labels.

    Args:
        frames: geometries.
        source: where they come from, for messages.
        potential: that must know their elements, if any.
        electrons: whether charge and multiplicity are looked at; for a potential with a baseline they are.

    Raises:
        PiwslError: a frame is no geometry, holds an element that is unknown, or a label that is no number; names it.
    """
    structures = []
    electrons = electrons or (potential is not None and potential.baseline is not None)
    for position, atoms in enumerate(frames):
        try:
            if problem := geometry_problem(atoms):
                raise PiwslError(problem)
            if potential is not None:
                potential.check_elements(atoms.numbers)
            structures.append(from_atoms(atoms, electrons=electrons))
        except PiwslError as error:
            raise PiwslError(f"{source}: frame {position}: {error}") from None
    return structures


def with_predictions(frames: Sequence[Atoms], predictions: Predictions) -> list[Atoms]:
    """Return copies of frames with energy (eV), forces (eV/Å) and, where there is one, stress (eV/Å³) in a calculator.

    How uncertain they are stands in `info` and `arrays`, as energy_std and forces_std, where it is known.

    Args:
        frames: geometries.
        predictions: in the same order.
    """
    predicted = []
    for index, atoms in enumerate(frames):
        frame, stress = _without_spreads(atoms), predictions.stress[index]
        if predictions.energy_std is not None:
            frame.info["energy_std"] = float(predictions.energy_std[index])
        if predictions.forces_std is not None:
            frame.arrays["forces_std"] = predictions.forces_std[index]
        known = {"stress": full_3x3_to_voigt_6_stress(stress)} if np.isfinite(stress).all() else {}
        energy = float(predictions.energy[index])
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=predictions.forces[index], **known)
        predicted.append(frame)
    return predicted


def _without_spreads(atoms: Atoms) -> Atoms:
    """Return a copy of a frame without what another model said of how uncertain it was."""
    frame = atoms.copy()
    frame.info.pop("energy_std", None)
    frame.arrays.pop("forces_std", None)
    return frame
