"""The test of one run: a model and the test frames of its dataset in; errors and predictions out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from piwsl.config import Run
from piwsl.data.dataset import TEST, Dataset
from piwsl.data.views import stored
from piwsl.evaluation.breakdown import Breakdown, WorstFrames
from piwsl.evaluation.calibration import scale_of_spread
from piwsl.evaluation.consistency import consistency
from piwsl.evaluation.metrics import NO_SCALES, ErrorSummary, SpreadSummary
from piwsl.evaluation.predict import predicted
from piwsl.evaluation.predictions import Predictions, write_predictions
from piwsl.files import write_json
from piwsl.models import load_model
from piwsl.models.storage import read_header
from piwsl.records import HeldOutErrors
from piwsl.structures.frames import write_frames
from piwsl.structures.structure import Structure


def evaluate(
    dataset_path: Path,
    run: Run,
    model_path: Path,
    errors_path: Path,
    predictions_path: Path,
    worst_path: Path,
    test: str | None = None,
    like_validation: bool = False,
) -> None:
    """Test a trained model on the test frames of its dataset, which are read and predicted part by part.

    Args:
        dataset_path: dataset file.
        run: the point of the grid, repeated in the output.
        model_path: the trained model.
        errors_path: JSON to write: the run, its errors, as a whole and by element and temperature, how they compare
            with the spread that the model predicted, if it did, how physical the model is, whether a pair potential
            is part of it, what its atomic references come from, in words, what its baseline is multiplied by, and
            whether it was fitted in closed form.
        predictions_path: Parquet to write, as `write_predictions` does.
        worst_path: extended XYZ to write, the frames of `WorstFrames`.
        test: name of the test set, repeated in the output; None of a dataset's own test frames.
        like_validation: whether test frames come as those do that members of a committee validate on: of others these
            tell no scale of the spread.
    """
    potential = load_model(model_path)
    errors, breakdown, spread, worst = ErrorSummary(), Breakdown(), SpreadSummary(), WorstFrames()

    def compared(frames: Iterable[Structure]) -> Iterator[tuple[list[Structure], Predictions]]:
        for structures, predictions in predicted(potential, enumerate(frames)):
            for each in (errors, breakdown, spread, worst):
                each.add(structures, predictions)
            yield structures, predictions

    with Dataset(dataset_path) as dataset:
        frames = stored(dataset, dataset.indices(TEST))
        write_predictions(predictions_path, compared(frames))
        physical = consistency(model_path, frames)
    write_frames(worst_path, worst.frames())
    scales = scales_of(model_path, spread.spread()) if like_validation else NO_SCALES
    found = errors.values() | breakdown.values() | spread.values(scales) | physical
    named = {} if test is None else {"test": test}
    references = read_header(model_path)["provenance"].get("references")
    scale = None if potential.baseline is None else potential.baseline.scale
    about = {"pair_potential": potential.has_pair_potential, "references": references, "baseline_scale": scale}
    closed = {"in_closed_form": potential.config.in_closed_form}
    write_json(errors_path, run.plain() | named | found | about | closed)


def scales_of(model_path: Path, spreads: Mapping[str, float]) -> dict[str, float | None]:
    """Return what spreads are to be multiplied by, of `energy` and `force`; no label of a predicted frame is looked at.

    Args:
        model_path: a model file; of a committee it says how well members know frames that they did not learn from.
        spreads: of what this model predicted, as of `SpreadSummary.spread`, of frames like those.

    Returns:
        As of `scale_of_spread`; None where nothing was held out, and of models that are no committee.
    """
    header = read_header(model_path)
    members = header["config"].get("members", 1)
    held_out = HeldOutErrors.model_validate(header["provenance"].get("held_out", {"frames": 0}))
    errors = {"energy": held_out.energy_rmse, "force": held_out.forces_rmse}
    found: dict[str, float | None] = {}
    for quantity, error in errors.items():
        spread = spreads.get(quantity, 0.0)
        found[quantity] = scale_of_spread(error, spread, members) if error is not None and spread else None
    return found
