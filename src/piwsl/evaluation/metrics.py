"""Errors of predictions against labels, in meV and meV/Å: of all frames, which may come part by part."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from piwsl.evaluation.calibration import Spreads
from piwsl.evaluation.predictions import Predictions, energies_of, force_components_of, slopes_of, with_energy
from piwsl.evaluation.sums import Sums
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
    """Compare predictions of all frames with labels, as `ErrorSummary` does."""
    found = ErrorSummary()
    found.add(structures, predictions)
    return found.values()


class ErrorSummary:
    """Errors of predictions, of which frames come part by part: of each the error of its energy is held, no more."""

    def __init__(self) -> None:
        """Begin with no frame."""
        self._frames, self._energy_frames, self._force_frames, self._stress_frames = 0, 0, 0, 0
        self._energies, self._energies_per_atom, self._forces, self._stress = Sums(), Sums(), Sums(), Sums()
        self._slopes = SlopeErrors()
        self._energy_errors, self._compositions = array("d"), array("q")
        self._numbers_of_compositions: dict[bytes, int] = {}

    def add(self, structures: list[Structure], predictions: Predictions) -> None:
        """Compare more predictions with labels.

        Args:
            structures: on some or none energies, forces, stress and slopes.
            predictions: in the same order.
        """
        self._frames += len(structures)
        self._add_energies(structures, predictions)
        for structure, forces, stress in zip(structures, predictions.forces, predictions.stress, strict=True):
            if structure.forces is not None:
                self._force_frames += 1
                self._forces.add(MILLI * (forces - structure.forces))
            if structure.stress is not None and np.isfinite(stress).all():
                self._stress_frames += 1
                self._stress.add(MILLI * (stress - structure.stress))
        self._slopes.add(structures, predictions)

    def _add_energies(self, structures: list[Structure], predictions: Predictions) -> None:
        places, labelled = with_energy(structures)
        errors = MILLI * (predictions.energy[places] - np.array([structure.energy for structure in labelled]))
        self._energy_frames += len(labelled)
        self._energies.add(errors)
        self._energies_per_atom.add(errors / np.array([len(structure.numbers) for structure in labelled]))
        self._energy_errors.extend(errors)
        self._compositions.extend(map(self._composition, labelled))

    def _composition(self, structure: Structure) -> int:
        """Return a number that all frames of its composition have, and no others."""
        elements = np.sort(structure.numbers).astype(np.uint8).tobytes()
        return self._numbers_of_compositions.setdefault(elements, len(self._numbers_of_compositions))

    def values(self) -> dict[str, float | int | None]:
        """Return the errors of all frames that came.

        Returns:
            energy_mae_meV, energy_rmse_meV (a structure), energy_mae_meV_per_atom, energy_rmse_meV_per_atom;
            energy_constant_meV, the mean size of `constant_errors`, and energy_mae_without_constant_meV,
            energy_rmse_without_constant_meV, what is left of the errors without them: those of relative energies within
            a composition (None where no composition has two frames);
            force_mae_meV_per_A, force_rmse_meV_per_A, stress_mae_meV_per_A3, stress_rmse_meV_per_A3 (a component; None
            without such labels, or predictions); what `SlopeErrors.values` returns; and the numbers of frames behind
            them.
        """
        errors = np.array(self._energy_errors)
        constant = constant_errors(np.array(self._compositions), errors)
        repeated = ~np.isnan(constant)
        of_constant, relative = Sums.of(constant[repeated]), Sums.of((errors - constant)[repeated])
        return {
            "energy_mae_meV": self._energies.mae,
            "energy_rmse_meV": self._energies.rmse,
            "energy_mae_meV_per_atom": self._energies_per_atom.mae,
            "energy_rmse_meV_per_atom": self._energies_per_atom.rmse,
            "energy_constant_meV": of_constant.mae,
            "energy_mae_without_constant_meV": relative.mae,
            "energy_rmse_without_constant_meV": relative.rmse,
            "force_mae_meV_per_A": self._forces.mae,
            "force_rmse_meV_per_A": self._forces.rmse,
            "stress_mae_meV_per_A3": self._stress.mae,
            "stress_rmse_meV_per_A3": self._stress.rmse,
            **self._slopes.values(),
            "test_frames": self._frames,
            "test_energy_frames": self._energy_frames,
            "test_force_frames": self._force_frames,
            "test_stress_frames": self._stress_frames,
        }


class SlopeErrors:
    """Slopes of the energy along a random direction of each frame against predictions, and the force errors they tell.

    With e the error of the 3N components of the forces of a frame and d a unit vector, the error of its slope is
    -e.d. An energy that is invariant under translation and rotation has no force along those, so that e lies in the
    space of the n = 3N - 6 internal directions (3N - 5 of linear structures). For d drawn uniformly there, the mean of
    d d^T over draws is 1/n times the projector on that space: all directions are alike, and its trace is d.d = 1.
    Hence the mean of (e.d)^2 is |e|^2/n, and the sum over frames of n (e.d)^2, over the number of components, estimates
    the mean square of the components without bias: a trace by random vectors, as of Hutchinson, Commun. Stat. Simul.
    Comput. 18, 1059 (1989), with vectors of one length. Of what a model without an energy errs in net forces and
    torques, a slope says nothing.
    """

    def __init__(self) -> None:
        """Begin with no slope."""
        self._errors, self._degrees, self._components = array("d"), array("d"), array("d")

    def add(self, structures: list[Structure], predictions: Predictions) -> None:
        """Compare more predictions with slopes.

        Args:
            structures: some or none with slopes.
            predictions: in the same order.
        """
        compared = slopes_of(structures, predictions)
        self._errors.extend(MILLI * (compared.predicted - compared.label))
        positions = [structure.positions for structure in structures if structure.slope is not None]
        self._degrees.extend(internal_degrees(each) for each in positions)
        self._components.extend(each.size for each in positions)

    def values(self) -> dict[str, float | int | None]:
        """Return slope_mae_meV_per_A, slope_rmse_meV_per_A, of slopes, and what they tell of forces.

        Returns:
            Besides force_rmse_from_slopes_meV_per_A, the root of the estimate (whose square has no bias), a component;
            force_rmse_from_slopes_error_meV_per_A, its standard error over frames, that of a ratio of sums (Cochran,
            "Sampling Techniques", 3rd ed., chapter 6), None of one frame; None without slopes; and test_slope_frames,
            their number.
        """
        frames = len(self._errors)
        if not frames:
            return {**dict.fromkeys(SLOPES), "test_slope_frames": 0}
        errors, components = np.array(self._errors), np.array(self._components)
        squares = np.array(self._degrees) * np.square(errors)
        mean = squares.sum() / components.sum()
        force = float(np.sqrt(mean))
        error = None
        if frames > 1 and force:
            residuals = squares - mean * components
            of_mean = np.sqrt(frames / (frames - 1) * np.square(residuals).sum()) / components.sum()
            error = float(of_mean) / (2.0 * force)
        of_slopes = Sums.of(errors)
        values = (of_slopes.mae, of_slopes.rmse, force, error)
        return {**dict(zip(SLOPES, values, strict=True)), "test_slope_frames": frames}


class SpreadSummary:
    """Errors against how uncertain the model said it was; frames come part by part."""

    def __init__(self) -> None:
        """Begin with no frame."""
        self._labelled = {"energy": Spreads(), "force": Spreads()}
        self._said = {"energy": Sums(), "force": Sums()}

    def add(self, structures: list[Structure], predictions: Predictions) -> None:
        """Compare more predictions with labels.

        Args:
            structures: on some or none energies and forces.
            predictions: in the same order.
        """
        if predictions.energy_std is not None:
            self._said["energy"].add(predictions.energy_std)
        for spread in predictions.forces_std or ():
            self._said["force"].add(spread)
        compared = {
            "energy": energies_of(structures, predictions),
            "force": force_components_of(structures, predictions),
        }
        for quantity, both in compared.items():
            if both.std is not None:
                self._labelled[quantity].add(MILLI * (both.predicted - both.label), MILLI * both.std)

    def spread(self) -> dict[str, float]:
        """Return root mean squares of what the model said of all frames, with and without labels, eV and eV/Å."""
        return {quantity: sums.rmse for quantity, sums in self._said.items() if sums.rmse is not None}

    def values(self, scales: Mapping[str, float | None] = NO_SCALES) -> dict[str, float | None]:
        """Return how errors compare with what the model said.

        Args:
            scales: of the spread of energies and of forces, `energy` and `force`, where they are known.

        Returns:
            energy_spread_meV, energy_error_over_spread, energy_miscalibration_area, energy_spread_scale and
            energy_scaled_miscalibration_area, as of `Spreads.values`, and the same of components of forces (force_...,
            force_spread_meV_per_A); what the model did not say is left out.
        """
        found: dict[str, float | None] = {}
        for quantity, unit in (("energy", "meV"), ("force", "meV_per_A")):
            if self._labelled[quantity]:
                measures = self._labelled[quantity].values(scales.get(quantity))
                found[f"{quantity}_spread_{unit}"] = measures.pop("spread")
                found |= {f"{quantity}_{name}": value for name, value in measures.items()}
        return found


def constant_errors(compositions: NDArray[np.int64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the part of each energy error that is the same for all frames of its composition.

    Forces, dynamics and relative energies of one molecule do not know it; reaction and atomisation energies do.

    Args:
        compositions: (M,) numbers, from 0, that tell those of the frames apart.
        errors: (M,), of any unit.

    Returns:
        (M,): the mean error of the frames of the same composition; NaN where a composition has but one frame, whose
        constant part nobody can tell.
    """
    counts, sums = np.bincount(compositions), np.bincount(compositions, weights=errors)
    means = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 1)
    return means[compositions]
