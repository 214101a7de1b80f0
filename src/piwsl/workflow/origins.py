"""What frames were made from, noted beside them: whether those that lie there are the config's, without Snakemake.

Snakemake knows it too, but what reference energies take is said before it is asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piwsl.config import Run
from piwsl.config.acquisition import round_number
from piwsl.data.dataset import TRAINING
from piwsl.files import read_json, write_json
from piwsl.workflow.layout import DatasetFiles

if TYPE_CHECKING:
    from piwsl.workflow.jobs import Jobs

ORIGIN = "made_from"


@contextmanager
def noted_origin(frames: str, origin: str) -> Iterator[None]:
    """Note beside frames what they are made from, once they are made.

    Args:
        frames: the file that is made.
        origin: as of `origin_of`.
    """
    note = _note(Path(frames))
    note.unlink(missing_ok=True)
    yield
    write_json(note, {ORIGIN: origin})


def are_of_config(jobs: Jobs, dataset: str, folder: Path, part: str) -> bool:
    """Whether frames that are made follow from what the config says now; how many there are does not count.

    Frames without a note, as earlier versions left them, pass for the config's.

    Args:
        jobs: of the experiment.
        dataset: as of `origin_of`.
        folder: of the dataset's results.
        part: as of `origin_of`.
    """
    note = _note(Path(DatasetFiles(str(folder)).frames(part)))
    try:
        noted = read_json(note)[ORIGIN]
    except FileNotFoundError:
        return True
    except (ValueError, LookupError, TypeError):
        return False
    return bool(noted == origin_of(jobs, dataset, part))


def origin_of(jobs: Jobs, dataset: str, part: str) -> str:
    """Return a hash of what frames follow from, but for their number.

    Args:
        jobs: of the experiment.
        dataset: the name of a dataset, or of a named test set as a dataset.
        part: training, test or pool, or a round of an acquisition.
    """
    number = round_number(part)
    found = _of_part(jobs, dataset, part) if number is None else _of_round(jobs, dataset, number)
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _note(frames: Path) -> Path:
    return frames.with_suffix(".json")


def _of_part(jobs: Jobs, dataset: str, part: str) -> list[Any]:
    if dataset in jobs.given:
        files = jobs.given_files(dataset, part)
        return [jobs.geometry_settings(dataset, part), [*map(str, files)], jobs.contents(*files)]
    from piwsl.reference.planning import followed

    test, section = jobs.test_sets.get(dataset), jobs.computed[dataset]
    file = jobs.geometries(dataset, part).file if section.molecule is None else section.molecule.file
    scan = None if test is None or test.scan is None else test.scan.model_dump(mode="json")
    return [followed(section, part), scan, jobs.contents(file)]


def _of_round(jobs: Jobs, dataset: str, number: int) -> list[Any]:
    run = jobs.rounds.asked(dataset, number)
    wanted = jobs.rounds.wanted_of(dataset, number)
    return [origin_of(jobs, dataset, TRAINING), wanted, [] if run is None else _of_model(jobs, run)]


def _of_model(jobs: Jobs, run: Run) -> list[Any]:
    """Return what a model that chooses frames is made by, beside the frames that it was taught: those of other rounds.

    Of the labels it is their level, and whether they have forces.
    """
    section = jobs.experiment.datasets[run.dataset]
    model, loss = jobs.experiment.models[run.model], jobs.experiment.losses[run.loss]
    labels = []
    if run.dataset in jobs.computed:
        labels = [jobs.recipe(jobs.level_name(run.dataset)), jobs.computed[run.dataset].training_forces]
    learned = [model.beyond_defaults(), loss.beyond_defaults(), jobs.baseline(run.model)]
    return [*learned, section.weak_forces, labels]
