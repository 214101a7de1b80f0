"""Errors of predictions against labels, in meV and meV/Å, and the plain table of predictions they come from."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from piwsl.config import Run
from piwsl.data.dataset import TEST, Dataset
from piwsl.evaluation.predict import Predictions, predict
from piwsl.files import write_atomically, write_json
from piwsl.models import load_model
from piwsl.structures.structure import Structure

MILLI = 1000.0


def error_summary(structures: list[Structure], predictions: Predictions) -> dict[str, float | int | None]:
    """Compare predictions with labels.

    Args:
        structures: with energies and, on some or none, forces and stress.
        predictions: in the same order.

    Returns:
        energy_mae_meV, energy_rmse_meV (a structure), energy_mae_meV_per_atom; energy_constant_meV, the mean size of
        `constant_errors`, and energy_mae_without_constant_meV, what is left of the errors without them (None where no
        composition has two frames);
        force_mae_meV_per_A, force_rmse_meV_per_A, stress_mae_meV_per_A3, stress_rmse_meV_per_A3 (a component; None
        without such labels, or predictions); and the numbers of frames behind them.
    """
    labels = np.array([structure.energy for structure in structures])
    atoms = np.array([len(structure.numbers) for structure in structures])
    energy_errors = MILLI * (predictions.energy - labels)
    force_errors = [
        MILLI * (predicted - structure.forces).ravel()
        for structure, predicted in zip(structures, predictions.forces, strict=True)
        if structure.forces is not None
    ]
    forces = np.concatenate(force_errors) if force_errors else None
    stress_errors = [
        MILLI * (predicted - structure.stress).ravel()
        for structure, predicted in zip(structures, predictions.stress, strict=True)
        if structure.stress is not None and np.isfinite(predicted).all()
    ]
    stress = np.concatenate(stress_errors) if stress_errors else None
    constant = constant_errors(structures, energy_errors)
    repeated = ~np.isnan(constant)
    return {
        "energy_mae_meV": _mae(energy_errors),
        "energy_rmse_meV": _rmse(energy_errors),
        "energy_mae_meV_per_atom": _mae(energy_errors / atoms),
        "energy_constant_meV": _mae(constant[repeated]) if repeated.any() else None,
        "energy_mae_without_constant_meV": _mae((energy_errors - constant)[repeated]) if repeated.any() else None,
        "force_mae_meV_per_A": None if forces is None else _mae(forces),
        "force_rmse_meV_per_A": None if forces is None else _rmse(forces),
        "stress_mae_meV_per_A3": None if stress is None else _mae(stress),
        "stress_rmse_meV_per_A3": None if stress is None else _rmse(stress),
        "test_frames": len(structures),
        "test_force_frames": len(force_errors),
        "test_stress_frames": len(stress_errors),
    }


def constant_errors(structures: list[Structure], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the part of each energy error that is the same for all frames of its composition.

    Forces, dynamics and relative energies of one molecule do not know it; reaction and atomisation energies do.

    Args:
        structures: M frames.
        errors: (M,), of any unit.

    Returns:
        (M,): the mean error of the frames of the same composition; NaN where a composition has but one frame, whose
        constant part nobody can tell.
    """
    constants = np.full(len(errors), np.nan)
    frames_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position, structure in enumerate(structures):
        frames_of[tuple(sorted(structure.numbers.tolist()))].append(position)
    for frames in frames_of.values():
        if len(frames) > 1:
            constants[frames] = errors[frames].mean()
    return constants


def _mae(errors: NDArray[np.float64]) -> float:
    return float(np.abs(errors).mean())


def _rmse(errors: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(errors).mean()))


def evaluate(dataset_path: Path, run: Run, model_path: Path, errors_path: Path, predictions_path: Path) -> None:
    """Test a trained model on the test frames of its dataset.

    Args:
        dataset_path: dataset file.
        run: the point of the grid, repeated in the output.
        model_path: the trained model.
        errors_path: JSON to write: the run, its errors, and whether a pair potential is part of the model.
        predictions_path: NPZ to write: energy_label, energy_predicted (eV), force_label, force_predicted (eV/Å,
            the labelled frames' components in a row).
    """
    potential = load_model(model_path)
    with Dataset(dataset_path) as dataset:
        structures = dataset.structures(dataset.indices(TEST))
    predictions = predict(potential, structures)
    pairs = [
        (structure.forces.ravel(), predicted.ravel())
        for structure, predicted in zip(structures, predictions.forces, strict=True)
        if structure.forces is not None
    ]
    arrays = {
        "energy_label": np.array([structure.energy for structure in structures]),
        "energy_predicted": predictions.energy,
        "force_label": np.concatenate([label for label, _ in pairs]) if pairs else np.empty(0),
        "force_predicted": np.concatenate([predicted for _, predicted in pairs]) if pairs else np.empty(0),
    }

    def write_arrays(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    write_atomically(predictions_path, write_arrays)
    summary = error_summary(structures, predictions) | {"pair_potential": potential.has_pair_potential}
    write_json(errors_path, run.plain() | summary)
