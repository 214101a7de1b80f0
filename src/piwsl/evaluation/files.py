"""Predictions for the frames of a file, outside the grid of runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.data.reading import read_frames
from piwsl.errors import PiwslError
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import predict, structures_of, with_predictions
from piwsl.files import check_outputs
from piwsl.models import Baseline, BaselineFailure, load_model
from piwsl.records import Errors, read_record
from piwsl.structures.frames import write_frames
from piwsl.structures.structure import Structure


def errors_of(model_path: Path, header: Mapping[str, Any], errors_path: Path) -> dict[str, Any] | None:
    """Return the errors on test frames that the evaluation of a run left beside its model; None where there are none.

    Those of another run, or older than the model, are none.

    Args:
        model_path: a model file.
        header: of it.
        errors_path: where the evaluation writes.

    Raises:
        PiwslError: the file of errors is damaged.
    """
    run = header["provenance"].get("run")
    if run is None or not errors_path.exists() or errors_path.stat().st_mtime_ns < model_path.stat().st_mtime_ns:
        return None
    found = read_record(Errors, errors_path).model_dump()
    return {key: value for key, value in found.items() if key not in run} if found.items() >= run.items() else None


def predict_file(
    model_path: Path, frames_path: Path, predicted_path: Path, device: str = "cpu", form: str | None = None
) -> None:
    """Predict the frames of a file; write them with `energy` (eV), `forces` (eV/Å) and, if periodic, `stress` (eV/Å³).

    Of a committee also with `energy_std` and `forces_std`, of a Gaussian process with `energy_std`. Where frames have
    `REF_energy` or `REF_forces`, errors are printed. Frames that the model's baseline gives up on are left out, with a
    line each; the others are written first, then it is an error.

    Args:
        model_path: a model file.
        frames_path: extended XYZ, or what else is read.
        predicted_path: extended XYZ to write.
        device: cpu or cuda.
        form: name of what reads the frames; default: by the end of the file's name.

    Raises:
        PiwslError: a file cannot be read or written, or a frame is no geometry, holds elements that are unknown to the
            model, or labels that are no numbers; or the model refuses one, or its baseline gave up on some.
    """
    check_outputs([predicted_path], inputs=[model_path, frames_path])
    potential = load_model(model_path, device)
    frames = read_frames(frames_path, form)
    structures = structures_of(frames, str(frames_path), potential)
    known = dict(enumerate(structures))
    if potential.baseline is not None:
        known = _with_baseline(potential.baseline, structures, str(frames_path))
    kept = list(known.values())
    try:
        predictions = predict(potential, kept, list(known))
    except PiwslError as error:
        raise PiwslError(f"{frames_path}: {error}") from None
    write_frames(predicted_path, with_predictions([frames[position] for position in known], predictions))
    print(f"{len(known)} of {len(frames)} frames: {predicted_path}")
    if any(np.isfinite(structure.energy) or structure.forces is not None for structure in kept):
        for name, value in error_summary(kept, predictions).items():
            print(f"  {name}: {'not labelled' if value is None else f'{value:.4g}'}")
    if len(known) < len(frames):
        raise PiwslError(f"{frames_path}: {len(frames) - len(known)} frames are left out; the lines above say why")


def _with_baseline(baseline: Baseline, structures: list[Structure], source: str) -> dict[int, Structure]:
    """Return structures with labels of a baseline, by position, without those that it fails; print what it costs."""
    try:
        structures[0], line = baseline.cost(structures[0])
        print(line, flush=True)
    except BaselineFailure:
        pass  # said with the others that fail
    return baseline.known_by_position(structures, source)
