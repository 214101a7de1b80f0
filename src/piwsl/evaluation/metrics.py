"""Errors of predictions against labels, in meV and meV/Å."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from piwsl.evaluation.calibration import calibration, scale_of_spread
from piwsl.evaluation.predict import Predictions
from piwsl.evaluation.predictions import energies_of, force_components_of, in_a_row, slopes_of
from piwsl.models.storage import read_header
from piwsl.records import HeldOutErrors
from piwsl.structures.rigid import internal_degrees
from piwsl.structures.structure import Structure

MILLI = 1000.0
SLOPES = (
    "slope_mae_meV_per_A",
    "slope_rmse_meV_per_A",
    "force_rmse_from_slopes_meV_per_A",
    "force_rmse_from_slopes_error_meV_per_A",
)
NO_SCALES: Mapping[str, float | None] = MappingProxyType({})


def error_summary(structures: list[Structure], predictions: Predictions) -> dict[str, float | int | None]:
    """Compare predictions with labels.

    Args:
        structures: with energies and, on some or none, forces, stress and slopes.
        predictions: in the same order.

    Returns:
        energy_mae_meV, energy_rmse_meV (a structure), energy_mae_meV_per_atom, energy_rmse_meV_per_atom;
        energy_constant_meV, the mean size of `constant_errors`, and energy_mae_without_constant_meV,
        energy_rmse_without_constant_meV, what is left of the errors without them: those of relative energies within a
        composition (None where no composition has two frames);
        force_mae_meV_per_A, force_rmse_meV_per_A, stress_mae_meV_per_A3, stress_rmse_meV_per_A3 (a component; None
        without such labels, or predictions); what `slope_summary` returns; and the numbers of frames behind them.
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
    relative = (energy_errors - constant)[repeated]
    return {
        "energy_mae_meV": _mae(energy_errors),
        "energy_rmse_meV": _rmse(energy_errors),
        "energy_mae_meV_per_atom": _mae(energy_errors / atoms),
        "energy_rmse_meV_per_atom": _rmse(energy_errors / atoms),
        "energy_constant_meV": _mae(constant[repeated]) if repeated.any() else None,
        "energy_mae_without_constant_meV": _mae(relative) if repeated.any() else None,
        "energy_rmse_without_constant_meV": _rmse(relative) if repeated.any() else None,
        "force_mae_meV_per_A": None if forces is None else _mae(forces),
        "force_rmse_meV_per_A": None if forces is None else _rmse(forces),
        "stress_mae_meV_per_A3": None if stress is None else _mae(stress),
        "stress_rmse_meV_per_A3": None if stress is None else _rmse(stress),
        **slope_summary(structures, predictions),
        "test_frames": len(structures),
        "test_force_frames": len(force_errors),
        "test_stress_frames": len(stress_errors),
    }


def slope_summary(structures: list[Structure], predictions: Predictions) -> dict[str, float | int | None]:
    """Compare predictions with slopes of the energy along a random direction of each frame, and estimate force errors.

    With e the error of the 3N components of the forces of a frame and d a unit vector, the error of its slope is
    -e.d. An energy that is invariant under translation and rotation has no force along those, so that e lies in the
    space of the n = 3N - 6 internal directions (3N - 5 of linear structures). For d drawn uniformly there, the mean of
    d d^T over draws is 1/n times the projector on that space: all directions are alike, and its trace is d.d = 1.
    Hence the mean of (e.d)^2 is |e|^2/n, and the sum over frames of n (e.d)^2, over the number of components, estimates
    the mean square of the components without bias: a trace by random vectors, as of Hutchinson, Commun. Stat. Simul.
    Comput. 18, 1059 (1989), with vectors of one length. Of what a model without an energy errs in net forces and
    torques, a slope says nothing.

    Args:
        structures: some or none with slopes.
        predictions: in the same order.

    Returns:
        slope_mae_meV_per_A, slope_rmse_meV_per_A, of slopes; force_rmse_from_slopes_meV_per_A, the root of the estimate
        (whose square has no bias), a component; force_rmse_from_slopes_error_meV_per_A, its standard error over frames,
        that of a ratio of sums (Cochran, "Sampling Techniques", 3rd ed., chapter 6), None of one frame; None without
        slopes; and test_slope_frames, their number.
    """
    compared = slopes_of(structures, predictions)
    if not len(compared):
        return {**dict.fromkeys(SLOPES), "test_slope_frames": 0}
    errors = MILLI * (compared.predicted - compared.label)
    positions = [structure.positions for structure in structures if structure.slope is not None]
    components = np.array([each.size for each in positions])
    squares = np.array([internal_degrees(each) for each in positions]) * np.square(errors)
    mean, frames = squares.sum() / components.sum(), len(errors)
    force = float(np.sqrt(mean))
    error = None
    if frames > 1 and force:
        residuals = squares - mean * components
        of_mean = np.sqrt(frames / (frames - 1) * np.square(residuals).sum()) / components.sum()
        error = float(of_mean) / (2.0 * force)
    values = (_mae(errors), _rmse(errors), force, error)
    return {**dict(zip(SLOPES, values, strict=True)), "test_slope_frames": frames}


def spread_summary(
    structures: list[Structure], predictions: Predictions, scales: Mapping[str, float | None] = NO_SCALES
) -> dict[str, float | None]:
    """Compare errors with how uncertain the model said it was.

    Args:
        structures: with energies and, on some or none, forces.
        predictions: in the same order.
        scales: of the spread of energies and of forces, `energy` and `force`, where they are known.

    Returns:
        energy_spread_meV, energy_error_over_spread, energy_miscalibration_area, energy_spread_scale and
        energy_scaled_miscalibration_area, as of `calibration`, and the same of components of forces (force_...,
        force_spread_meV_per_A); what the model did not say is left out.
    """
    found: dict[str, float | None] = {}
    for quantity, unit, compared in (
        ("energy", "meV", energies_of(structures, predictions)),
        ("force", "meV_per_A", force_components_of(structures, predictions)),
    ):
        if compared.std is not None and len(compared):
            errors = MILLI * (compared.predicted - compared.label)
            measures = calibration(errors, MILLI * compared.std, scales.get(quantity))
            found[f"{quantity}_spread_{unit}"] = measures.pop("spread")
            found |= {f"{quantity}_{name}": value for name, value in measures.items()}
    return found


def scales_of(model_path: Path, predictions: Predictions) -> dict[str, float | None]:
    """Return what spreads are to be multiplied by, of `energy` and `force`; no label of a predicted frame is looked at.

    Args:
        model_path: a model file; of a committee it says how well members know frames that they did not learn from.
        predictions: of this model.

    Returns:
        As of `scale_of_spread`; None where nothing was held out, and of models that are no committee.
    """
    header = read_header(model_path)
    members = header["config"].get("members", 1)
    held_out = HeldOutErrors.model_validate(header["provenance"].get("held_out", {"frames": 0}))
    spreads = {"energy": predictions.energy_std, "force": predictions.forces_std and in_a_row(predictions.forces_std)}
    errors = {"energy": held_out.energy_rmse, "force": held_out.forces_rmse}
    found: dict[str, float | None] = {}
    for quantity, spread in spreads.items():
        error, whole = errors[quantity], 0.0 if spread is None else float(np.sqrt(np.square(spread).mean()))
        found[quantity] = scale_of_spread(error, whole, members) if error is not None and whole else None
    return found


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
