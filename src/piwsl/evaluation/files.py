"""Predictions for the frames of a file, outside the grid of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from piwsl.evaluation.errors import error_summary
from piwsl.evaluation.predict import predict
from piwsl.models import load_model
from piwsl.structures.frames import read_frames, write_frames
from piwsl.structures.structure import from_atoms


def predict_file(model_path: Path, frames_path: Path, predicted_path: Path, device: str = "cpu") -> None:
    """Predict the frames of a file and write them with `energy` (eV) and `forces` (eV/Å).

    Where all frames have `REF_energy`, errors are printed.

    Args:
        model_path: a model file.
        frames_path: extended XYZ.
        predicted_path: extended XYZ to write.
        device: cpu or cuda.

    Raises:
        PiwslError: a file cannot be read, or an element is unknown to the model.
    """
    frames = read_frames(frames_path)
    structures = [from_atoms(atoms) for atoms in frames]
    predictions = predict(load_model(model_path, device), structures)
    for atoms, energy, forces in zip(frames, predictions.energy, predictions.forces, strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=float(energy), forces=forces)
    write_frames(predicted_path, frames)
    print(f"{len(frames)} frames: {predicted_path}")
    if all(np.isfinite(structure.energy) for structure in structures):
        for name, value in error_summary(structures, predictions).items():
            print(f"  {name}: {'not labelled' if value is None else f'{value:.4g}'}")
