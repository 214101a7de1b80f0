"""Where the errors of a model lie: by element, by temperature, in the direction of forces, and in which frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from piwsl.evaluation.predict import with_predictions
from piwsl.evaluation.predictions import Predictions
from piwsl.evaluation.sums import Sums
from piwsl.structures.frames import label
from piwsl.structures.labels import REFERENCE
from piwsl.structures.structure import Structure

MILLI = 1000.0
# eV/Å: a smaller label has a direction that is noise of the reference.
LEAST_FORCE = 1e-3
WORST = 5
# With more of them, or one a frame, `temperature` is no ensemble's but what the kinetic energy of each happened to be.
MOST_TEMPERATURES = 12


def breakdown(structures: Sequence[Structure], predictions: Predictions) -> dict[str, float]:
    """Return where the errors of all frames lie, as `Breakdown` does."""
    found = Breakdown()
    found.add(structures, predictions)
    return found.values()


class Breakdown:
    """Errors by element and temperature, and the angle between forces; frames come part by part, and none is held."""

    def __init__(self) -> None:
        """Begin with no frame."""
        self._by_element: defaultdict[int, Sums] = defaultdict(Sums)
        self._angles = Sums()
        self._by_temperature: defaultdict[float, tuple[Sums, Sums]] = defaultdict(lambda: (Sums(), Sums()))
        self._with_temperature = 0

    def add(self, structures: Sequence[Structure], predictions: Predictions) -> None:
        """Compare more predictions with labels; of what is not labelled, nothing.

        Args:
            structures: test frames, on some or none energies and forces.
            predictions: in the same order.
        """
        numbers, labels, predicted, temperatures = _atoms_with_labels(structures, predictions)
        errors = MILLI * (predicted - labels)
        for number in np.unique(numbers).tolist():
            self._by_element[number].add(errors[numbers == number])
        self._angles.add(angles(labels, predicted))
        of_frames = np.array([structure.temperature for structure in structures])
        known = np.array([structure.energy for structure in structures])
        energy_errors, labelled = MILLI * (predictions.energy - known), ~np.isnan(known)
        self._with_temperature += int((~np.isnan(of_frames)).sum())
        for temperature in np.unique(of_frames[~np.isnan(of_frames)]).tolist():
            if len(self._by_temperature) > MOST_TEMPERATURES:
                break
            energies, forces = self._by_temperature[temperature]
            energies.add(energy_errors[(of_frames == temperature) & labelled])
            forces.add(errors[temperatures == temperature])

    def values(self) -> dict[str, float]:
        """Return the errors of all frames that came.

        Returns:
            force_mae_by_element_X_meV_per_A, force_rmse_by_element_X_meV_per_A for each element X (a component);
            force_angle_deg, the mean of `angles`;
            energy_mae_by_temperature_TK_meV, force_mae_by_temperature_TK_meV_per_A for each temperature T of sampling,
            where there are at most MOST_TEMPERATURES, and fewer of them than frames.
        """
        found: dict[str, float | None] = {}
        for number, forces in sorted(self._by_element.items()):
            symbol = chemical_symbols[number]
            found[f"force_mae_by_element_{symbol}_meV_per_A"] = forces.mae
            found[f"force_rmse_by_element_{symbol}_meV_per_A"] = forces.rmse
        found["force_angle_deg"] = self._angles.mae
        if len(self._by_temperature) <= min(MOST_TEMPERATURES, self._with_temperature - 1):
            for temperature, (energies, forces) in sorted(self._by_temperature.items()):
                found[f"energy_mae_by_temperature_{temperature:g}K_meV"] = energies.mae
                found[f"force_mae_by_temperature_{temperature:g}K_meV_per_A"] = forces.mae
        return {name: value for name, value in found.items() if value is not None}


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


def angles(label: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angles between reference and predicted forces, in degrees, of atoms that have a direction.

    Those whose reference force is below LEAST_FORCE have none. A predicted force of 0 counts as 90°, as one that points
    anywhere does on average.

    Args:
        label: (A, 3).
        predicted: (A, 3).

    Returns:
        (D,), D ≤ A.
    """
    directed = np.linalg.norm(label, axis=1) >= LEAST_FORCE
    label, predicted = label[directed], predicted[directed]
    # Of both: arccos of a rounded cosine loses half of the digits of a small angle.
    sine = np.linalg.norm(np.cross(label, predicted), axis=1)
    cosine = np.einsum("ai,ai->a", label, predicted)
    return np.degrees(np.where((sine == 0.0) & (cosine == 0.0), np.pi / 2, np.arctan2(sine, cosine)))


def worst_frames(structures: Sequence[Structure], predictions: Predictions, count: int = WORST) -> list[Atoms]:
    """Return the worst of all frames, as `WorstFrames` does."""
    found = WorstFrames(count)
    found.add(structures, predictions)
    return found.frames()


class WorstFrames:
    """The frames with the largest errors of energy per atom, and with the largest of forces; others are not held."""

    def __init__(self, count: int = WORST) -> None:
        """Begin with no frame; keep so many of each kind, at most."""
        self._count, self._seen = count, 0
        # From the largest error on: that, and the index in the test part.
        self._in_energy: list[tuple[float, int]] = []
        self._in_forces: list[tuple[float, int]] = []
        self._frames: dict[int, Atoms] = {}

    def add(self, structures: Sequence[Structure], predictions: Predictions) -> None:
        """Look at more frames.

        Args:
            structures: test frames.
            predictions: in the same order.
        """
        energy = MILLI * (predictions.energy - [structure.energy for structure in structures])
        per_atom = np.abs(energy) / [len(structure.numbers) for structure in structures]
        forces = np.array([_force_rmse(*pair) for pair in zip(structures, predictions.forces, strict=True)])
        self._in_energy = self._largest(self._in_energy, per_atom)
        self._in_forces = self._largest(self._in_forces, forces)
        kept = {index for _, index in (*self._in_energy, *self._in_forces)}
        new = sorted(index - self._seen for index in kept - self._frames.keys())
        frames = [_labelled_frame(structures[place], float(energy[place]), float(forces[place])) for place in new]
        with_both = zip(new, with_predictions(frames, _of(predictions, new)), strict=True)
        self._frames |= {self._seen + place: frame for place, frame in with_both}
        self._frames = {index: frame for index, frame in self._frames.items() if index in kept}
        self._seen += len(structures)

    def _largest(self, before: list[tuple[float, int]], errors: NDArray[np.float64]) -> list[tuple[float, int]]:
        """Return the largest errors of those before and these, (M,), of which NaN are none; of equal ones the first."""
        order = np.argsort(-errors, kind="stable")[: self._count].tolist()
        these = [(float(errors[place]), self._seen + place) for place in order if not np.isnan(errors[place])]
        return sorted([*before, *these], key=lambda pair: -pair[0])[: self._count]

    def frames(self) -> list[Atoms]:
        """Return the worst of the frames that came.

        Returns:
            Worst energies first, then those that forces add. Labels as `REF_energy` and `REF_forces`, predictions as
            what a calculator says; info: frame, the index in the test part; worst_in, "energy", "forces" or "energy and
            forces"; energy_error_meV and force_rmse_meV_per_A, each where that is labelled.
        """
        in_energy, in_forces = ([index for _, index in kept] for kept in (self._in_energy, self._in_forces))
        for index, frame in self._frames.items():
            said = [name for name, found in (("energy", in_energy), ("forces", in_forces)) if index in found]
            frame.info = {"frame": index, "worst_in": " and ".join(said)} | frame.info
        return [self._frames[index] for index in dict.fromkeys([*in_energy, *in_forces])]


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


def _labelled_frame(structure: Structure, energy_error: float, force_rmse: float) -> Atoms:
    labels = structure.at_level(REFERENCE)
    frame = label(structure.atoms(), labels.energy, labels.forces, labels.stress, labels.slope)
    if labels.energy is not None:
        frame.info["energy_error_meV"] = energy_error
    if not np.isnan(force_rmse):
        frame.info["force_rmse_meV_per_A"] = force_rmse
    if not np.isnan(structure.temperature):
        frame.info["temperature"] = structure.temperature
    return frame
