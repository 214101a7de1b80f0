"""Predictions for the frames of a file, outside the grid of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from piwsl.errors import PiwslError
from piwsl.evaluation.errors import error_summary
from piwsl.evaluation.predict import predict
from piwsl.files import check_outputs
from piwsl.models import Potential, load_model
from piwsl.structures.frames import read_frames, write_frames
from piwsl.structures.geometry import geometry_problem
from piwsl.structures.structure import Structure, from_atoms


def predict_file(model_path: Path, frames_path: Path, predicted_path: Path, device: str = "cpu") -> None:
    """Predict the frames of a file; write them with `energy` (eV), `forces` (eV/Å) and, if periodic, `stress` (eV/Å³).

    Where all frames have `REF_energy`, errors are printed.

    Args:
        model_path: a model file.
        frames_path: extended XYZ.
        predicted_path: extended XYZ to write.
        device: cpu or cuda.

    Raises:
        PiwslError: a file cannot be read or written, or a frame is no geometry, holds elements that are unknown to the
            model, or labels that are no numbers.
    """
    check_outputs([predicted_path], inputs=[model_path, frames_path])
    potential = load_model(model_path, device)
    frames = read_frames(frames_path)
    structures = [_structure(atoms, potential, f"{frames_path}: frame {index}") for index, atoms in enumerate(frames)]
    predictions = predict(potential, structures)
    for index, atoms in enumerate(frames):
        stress = predictions.stress[index]
        periodic = {"stress": full_3x3_to_voigt_6_stress(stress)} if np.isfinite(stress).all() else {}
        atoms.calc = SinglePointCalculator(
            atoms, energy=float(predictions.energy[index]), forces=predictions.forces[index], **periodic
        )
    write_frames(predicted_path, frames)
    print(f"{len(frames)} frames: {predicted_path}")
    if all(np.isfinite(structure.energy) for structure in structures):
        for name, value in error_summary(structures, predictions).items():
            print(f"  {name}: {'not labelled' if value is None else f'{value:.4g}'}")


def _structure(atoms: Atoms, potential: Potential, source: str) -> Structure:
    if problem := geometry_problem(atoms):
        raise PiwslError(f"{source}: {problem}")
    try:
        potential.check_elements(atoms.numbers)
        return from_atoms(atoms)
    except PiwslError as error:
        raise PiwslError(f"{source}: {error}") from None
