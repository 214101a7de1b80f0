"""Predictions for the frames of a file, outside the grid of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from piwsl.data.reading import read_frames
from piwsl.errors import PiwslError
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import predict, structures_of, with_predictions
from piwsl.files import check_outputs
from piwsl.models import BaselineFailure, load_model
from piwsl.structures.frames import write_frames


def predict_file(
    model_path: Path, frames_path: Path, predicted_path: Path, device: str = "cpu", form: str | None = None
) -> None:
    """Predict the frames of a file; write them with `energy` (eV), `forces` (eV/Å) and, if periodic, `stress` (eV/Å³).

    Of a committee also with `energy_std` and `forces_std`, of a Gaussian process with `energy_std`. Where all frames
    have `REF_energy`, errors are printed.

    Args:
        model_path: a model file.
        frames_path: extended XYZ, or what else is read.
        predicted_path: extended XYZ to write.
        device: cpu or cuda.
        form: name of what reads the frames; default: by the end of the file's name.

    Raises:
        PiwslError: a file cannot be read or written, or a frame is no geometry, holds elements that are unknown to the
            model, or labels that are no numbers.
    """
    check_outputs([predicted_path], inputs=[model_path, frames_path])
    potential = load_model(model_path, device)
    frames = read_frames(frames_path, form)
    structures = structures_of(frames, str(frames_path), potential)
    if potential.baseline is not None:
        try:
            structures[0], line = potential.baseline.cost(structures[0])
        except BaselineFailure as failure:
            raise PiwslError(f"frame 0: {failure}") from None
        print(line, flush=True)
    predictions = predict(potential, structures)
    write_frames(predicted_path, with_predictions(frames, predictions))
    print(f"{len(frames)} frames: {predicted_path}")
    if all(np.isfinite(structure.energy) for structure in structures):
        for name, value in error_summary(structures, predictions).items():
            print(f"  {name}: {'not labelled' if value is None else f'{value:.4g}'}")
