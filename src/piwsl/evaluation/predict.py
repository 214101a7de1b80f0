"""Predictions of a potential for many structures, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from torch import Tensor

from piwsl.data.batch import collate, cut_by_atoms, graph, graphs
from piwsl.errors import PiwslError
from piwsl.evaluation.predictions import Predictions
from piwsl.models import Baseline, BaselineFailure, Predictor
from piwsl.models.terms import Property
from piwsl.structures.geometry import geometry_problem
from piwsl.structures.structure import Structure, from_atoms


def predict(
    potential: Predictor, structures: Sequence[Structure], positions: Sequence[int] | None = None
) -> Predictions:
    """Predict energies and forces, how uncertain they are where the model knows, and of periodic structures the stress.

    Args:
        potential: the model.
        structures: geometries; labels are not looked at.
        positions: of the structures among the frames that they come from, for messages; default: one after the other.

    Raises:
        PiwslError: an element that the potential was not trained on, no geometry, one that the network refuses or that
            the baseline gives up on; names the frame.
    """
    numbered = enumerate(structures) if positions is None else zip(positions, structures, strict=True)
    parts = [found for _, found in predicted(potential, numbered)]
    return Predictions(
        energy=np.concatenate([part.energy for part in parts]),
        forces=[forces for part in parts for forces in part.forces],
        stress=np.concatenate([part.stress for part in parts]),
        energy_std=_joined([part.energy_std for part in parts]),
        forces_std=[each for part in parts for each in part.forces_std or ()] or None,
    )


def predicted(
    potential: Predictor, structures: Iterable[tuple[int, Structure]]
) -> Iterator[tuple[list[Structure], Predictions]]:
    """Predict what `predict` does, some structures at a time: of many, none is held when the next ones are taken.

    Args:
        potential: as of `predict`.
        structures: likewise, each behind its position for messages; gone through once.

    Yields:
        Structures in their order, and predictions of these.

    Raises:
        PiwslError: likewise.
    """
    for chunk in _chunks(structures):
        positions, of_chunk = [position for position, _ in chunk], [structure for _, structure in chunk]
        found = _of_network(potential, of_chunk, positions)
        if potential.baseline is not None:
            found = _with_baseline(found, potential.baseline, of_chunk, positions)
        yield of_chunk, found


def _of_network(potential: Predictor, structures: list[Structure], positions: Sequence[int]) -> Predictions:
    """Predict structures of one batch, without what the potential corrects."""
    potential.check_elements(np.concatenate([structure.numbers for structure in structures]))
    batch = collate(graphs(structures, potential.cutoff, potential.dtype, positions))
    wanted: set[Property] = {"energy", "forces", "spread"}
    if potential.conservative and any(structure.pbc.all() for structure in structures):
        wanted.add("stress")
    try:
        found = potential.predict(batch.to(potential.device), wanted)
    except PiwslError as error:
        raise PiwslError(f"{_refused(potential, structures, positions)}{error}") from None
    cuts = np.cumsum([len(structure.numbers) for structure in structures])[:-1]
    assert found.forces is not None
    return Predictions(
        energy=_numbers(found.energy),
        forces=np.split(_numbers(found.forces), cuts),
        stress=np.full((len(structures), 3, 3), np.nan) if found.stress is None else _numbers(found.stress),
        energy_std=None if found.energy_std is None else _numbers(found.energy_std),
        forces_std=None if found.forces_std is None else np.split(_numbers(found.forces_std), cuts),
    )


def _refused(potential: Predictor, structures: Sequence[Structure], positions: Sequence[int]) -> str:
    """Return the beginning of a message: the first of some structures that a potential refuses by itself, too."""
    for structure, position in zip(structures, positions, strict=False):
        try:
            potential.predict(graph(structure, potential.cutoff, potential.dtype).to(potential.device), {"energy"})
        except PiwslError:
            return f"frame {position}: "
    return ""


def _with_baseline(
    found: Predictions, baseline: Baseline, structures: Sequence[Structure], positions: Sequence[int]
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


def _numbers(found: Tensor) -> NDArray[np.float64]:
    return found.detach().to(torch.float64).cpu().numpy()


def _joined(parts: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    """Return what all parts have, one after the other; None where they have it not."""
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None


def _chunks(structures: Iterable[tuple[int, Structure]]) -> Iterator[list[tuple[int, Structure]]]:
    """Cut structures, each behind its position, into batches that fit in memory; none are one empty batch."""
    chunks = cut_by_atoms(structures, lambda numbered: len(numbered[1].numbers))
    yield next(chunks, [])
    yield from chunks


def structures_of(
    frames: Iterable[Atoms], source: str, potential: Predictor | None = None, electrons: bool = False
) -> list[Structure]:
    """Return frames as structures with their labels; arguments, and what it raises, as of `each_structure`."""
    return [*each_structure(frames, source, potential, electrons)]


def each_structure(
    frames: Iterable[Atoms], source: str, potential: Predictor | None = None, electrons: bool = False
) -> Iterator[Structure]:
    """Yield frames as structures with their labels, one by one.

    Args:
        frames: geometries.
        source: where they come from, for messages.
        potential: that must know their elements, if any.
        electrons: whether charge and multiplicity are looked at; for a potential with a baseline they are.

    Raises:
        PiwslError: a frame is no geometry, holds an element that is unknown, or a label that is no number; names it.
    """
    electrons = electrons or (potential is not None and potential.baseline is not None)
    for position, atoms in enumerate(frames):
        try:
            if problem := geometry_problem(atoms):
                raise PiwslError(problem)
            if potential is not None:
                potential.check_elements(atoms.numbers)
            structure = from_atoms(atoms, electrons=electrons)
        except PiwslError as error:
            raise PiwslError(f"{source}: frame {position}: {error}") from None
        yield structure


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
