"""Where the errors of a model lie: by element, by temperature, in the direction of forces, and in which frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from piwsl.evaluation.predict import Predictions, with_predictions
from piwsl.structures.frames import label
from piwsl.structures.structure import Structure

MILLI = 1000.0
# eV/Å: a smaller label has a direction that is noise of the reference.
LEAST_FORCE = 1e-3
WORST = 5
# With more of them, `temperature` is no ensemble's but what the kinetic energy of each frame happened to be.
MOST_TEMPERATURES = 12


def breakdown(structures: Sequence[Structure], predictions: Predictions) -> dict[str, float]:
    """Return errors by element and temperature, and the angle between forces; of what is not labelled, nothing.

    Args:
        structures: test frames with energies and, on some or none, forces.
        predictions: in the same order.

    Returns:
        force_mae_by_element_X_meV_per_A, force_rmse_by_element_X_meV_per_A for each element X (a component);
        energy_mae_by_temperature_TK_meV, force_mae_by_temperature_TK_meV_per_A for each temperature T of sampling,
        where there are at most MOST_TEMPERATURES;
        force_angle_deg, as of `mean_angle`.
    """
    found: dict[str, float] = {}
    numbers, labels, predicted, temperatures = _atoms_with_labels(structures, predictions)
    errors = MILLI * (predicted - labels)
    for number in np.unique(numbers):
        of_element, symbol = errors[numbers == number], chemical_symbols[number]
        found[f"force_mae_by_element_{symbol}_meV_per_A"] = float(np.abs(of_element).mean())
        found[f"force_rmse_by_element_{symbol}_meV_per_A"] = float(np.sqrt(np.square(of_element).mean()))
    angle = mean_angle(labels, predicted)
    if angle is not None:
        found["force_angle_deg"] = angle
    return found | _by_temperature(structures, predictions, temperatures, errors)


def _by_temperature(
    structures: Sequence[Structure],
    predictions: Predictions,
    of_atoms: NDArray[np.float64],
    force_errors: NDArray[np.float64],
) -> dict[str, float]:
    """Return errors by temperature; those of energies of all frames, those of forces, (A, 3), of atoms with labels."""
    of_frames = np.array([structure.temperature for structure in structures])
    energy_errors = MILLI * np.abs(predictions.energy - [structure.energy for structure in structures])
    temperatures = np.unique(of_frames[~np.isnan(of_frames)])
    found: dict[str, float] = {}
    for temperature in temperatures if len(temperatures) <= MOST_TEMPERATURES else ():
        found[f"energy_mae_by_temperature_{temperature:g}K_meV"] = float(energy_errors[of_frames == temperature].mean())
        if (of_atoms == temperature).any():
            mean = float(np.abs(force_errors[of_atoms == temperature]).mean())
            found[f"force_mae_by_temperature_{temperature:g}K_meV_per_A"] = mean
    return found


def _atoms_with_labels(
    structures: Sequence[Structure], predictions: Predictions
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return atomic numbers (A,), labels and predictions (A, 3), eV/Å, and temperatures (A,) of all labelled atoms."""
    pairs = zip(structures, predictions.forces, strict=True)
    labelled = [(structure, forces) for structure, forces in pairs if structure.forces is not None]
    if not labelled:
        return np.empty(0, dtype=np.int64), np.empty((0, 3)), np.empty((0, 3)), np.empty(0)
    return (
        np.concatenate([structure.numbers for structure, _ in labelled]),
        np.concatenate([np.asarray(structure.forces) for structure, _ in labelled]),
        np.concatenate([forces for _, forces in labelled]),
        np.concatenate([np.full(len(forces), structure.temperature) for structure, forces in labelled]),
    )


def mean_angle(label: NDArray[np.float64], predicted: NDArray[np.float64]) -> float | None:
    """Return the mean angle between reference and predicted forces, in degrees.

    Atoms whose reference force is below LEAST_FORCE have no direction and are left out. A predicted force of 0 counts
    as 90°, as one that points anywhere does on average.

    Args:
        label: (A, 3).
        predicted: (A, 3).

    Returns:
        None where no atom has a direction.
    """
    sizes = np.linalg.norm(label, axis=1)
    directed = sizes >= LEAST_FORCE
    if not directed.any():
        return None
    label, predicted = label[directed], predicted[directed]
    # Of both: arccos of a rounded cosine loses half of the digits of a small angle.
    sine = np.linalg.norm(np.cross(label, predicted), axis=1)
    cosine = np.einsum("ai,ai->a", label, predicted)
    angles = np.where((sine == 0.0) & (cosine == 0.0), np.pi / 2, np.arctan2(sine, cosine))
    return float(np.degrees(angles.mean()))


def worst_frames(structures: Sequence[Structure], predictions: Predictions, count: int = WORST) -> list[Atoms]:
    """Return the frames with the largest errors of energy per atom, and those with the largest of forces.

    Args:
        structures: test frames.
        predictions: in the same order.
        count: of each kind, at most.

    Returns:
        Worst energies first, then those that forces add. Labels as `REF_energy` and `REF_forces`, predictions as what
        a calculator says; info: frame, the index in the test part; worst_in, "energy", "forces" or "energy and forces";
        energy_error_meV, and force_rmse_meV_per_A where forces are labelled.
    """
    energy = MILLI * (predictions.energy - [structure.energy for structure in structures])
    per_atom = np.abs(energy) / [len(structure.numbers) for structure in structures]
    forces = np.array([_force_rmse(*pair) for pair in zip(structures, predictions.forces, strict=True)])
    in_energy = np.argsort(-per_atom, kind="stable")[:count].tolist()
    in_forces = [index for index in np.argsort(-forces, kind="stable")[:count].tolist() if not np.isnan(forces[index])]
    worst = list(dict.fromkeys([*in_energy, *in_forces]))
    frames = []
    for index in worst:
        said = [name for name, found in (("energy", in_energy), ("forces", in_forces)) if index in found]
        info = {"frame": index, "worst_in": " and ".join(said), "energy_error_meV": float(energy[index])}
        frames.append(_labelled_frame(structures[index], info, float(forces[index])))
    return with_predictions(frames, _of(predictions, worst))


def _of(predictions: Predictions, indices: list[int]) -> Predictions:
    std = predictions.energy_std
    return Predictions(
        energy=predictions.energy[indices],
        forces=[predictions.forces[index] for index in indices],
        stress=predictions.stress[indices],
        energy_std=None if std is None else std[indices],
        forces_std=predictions.forces_std and [predictions.forces_std[index] for index in indices],
    )


def _force_rmse(structure: Structure, predicted: NDArray[np.float64]) -> float:
    """Return that of the components of one frame, meV/Å; NaN without labels."""
    if structure.forces is None:
        return np.nan
    return MILLI * float(np.sqrt(np.square(predicted - structure.forces).mean()))


def _labelled_frame(structure: Structure, info: dict[str, str | float], force_rmse: float) -> Atoms:
    frame = label(structure.atoms(), structure.energy, structure.forces, structure.stress, structure.slope)
    frame.info |= info
    if not np.isnan(force_rmse):
        frame.info["force_rmse_meV_per_A"] = force_rmse
    if not np.isnan(structure.temperature):
        frame.info["temperature"] = structure.temperature
    return frame
