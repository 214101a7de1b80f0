"""The test of one run: a model and the test frames of its dataset in; errors and predictions out."""

from __future__ import annotations

from pathlib import Path

from piwsl.config import Run
from piwsl.data.dataset import TEST, Dataset
from piwsl.evaluation.breakdown import breakdown, worst_frames
from piwsl.evaluation.consistency import consistency
from piwsl.evaluation.metrics import error_summary, scales_of, spread_summary
from piwsl.evaluation.predict import predict
from piwsl.evaluation.predictions import write_predictions
from piwsl.files import write_json
from piwsl.models import load_model
from piwsl.models.storage import read_header
from piwsl.structures.frames import write_frames


def evaluate(
    dataset_path: Path,
    run: Run,
    model_path: Path,
    errors_path: Path,
    predictions_path: Path,
    worst_path: Path,
    test: str | None = None,
) -> None:
    """Test a trained model on the test frames of its dataset.

    Args:
        dataset_path: dataset file.
        run: the point of the grid, repeated in the output.
        model_path: the trained model.
        errors_path: JSON to write: the run, its errors, as a whole and by element and temperature, how they compare
            with the spread that the model predicted, if it did, how physical the model is, whether a pair potential
            is part of it, what its atomic references come from, in words, and what its baseline is multiplied by.
        predictions_path: Parquet to write, as `write_predictions` does.
        worst_path: extended XYZ to write, the frames of `worst_frames`.
        test: name of the test set, repeated in the output; None of a dataset's own test frames.
    """
    potential = load_model(model_path)
    with Dataset(dataset_path) as dataset:
        structures = dataset.structures(dataset.indices(TEST))
    predictions = predict(potential, structures)
    write_predictions(predictions_path, structures, predictions)
    write_frames(worst_path, worst_frames(structures, predictions))
    found = (
        error_summary(structures, predictions)
        | breakdown(structures, predictions)
        | spread_summary(structures, predictions, scales_of(model_path, predictions))
        | consistency(model_path, structures)
    )
    named = {} if test is None else {"test": test}
    references = read_header(model_path)["provenance"].get("references")
    scale = None if potential.baseline is None else potential.baseline.scale
    about = {"pair_potential": potential.has_pair_potential, "references": references, "baseline_scale": scale}
    write_json(errors_path, run.plain() | named | found | about)
