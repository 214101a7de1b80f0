"""What baselines, processes, committees and students make of few frames, against plain and weakly supervised networks.

    python tests/benchmarks/from_few_energies.py ethanol rmd17_ethanol_train_01.npz rmd17_ethanol_test_01.npz

The files are those of `errors_at_few_frames.py`: sizes draw from the first frames of the first, the pool is the last of
it, whose labels nobody sees, and tests are on the second. GFN2-xTB is the baseline, and what costs nothing. Each
training adds a line to a CSV file as it ends, and is not repeated while that line stands; a teacher is trained again
for each of its students. `--table` prints means over seeds, and trains nothing.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from errors_at_few_frames import LOSSES
from studies import (
    ERRORS,
    POOL_FRAMES,
    frames_to_test,
    labelled_pool_and_test,
    means_over_seeds,
    measure_missing,
    parser_of,
    results,
    write_with_and_without_forces,
)

from piwsl.config import Run, named_level, parse_model
from piwsl.data.cheap_levels import compute_cheap_labels, with_cheap_labels
from piwsl.data.dataset import TEST, TRAINING, Dataset
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import predict
from piwsl.evaluation.teaching import teach
from piwsl.models import Baseline, load_model
from piwsl.training.run import train_run

CHEAP = "gfn2-xtb"
PAINN = {"architecture": "painn"}
PROCESS = {"architecture": "gaussian_process"}


@dataclass(frozen=True)
class Kind:
    """A model, the loss that it is trained with, by the labels, and who teaches it."""

    model: dict[str, Any]
    weak: bool = False
    teacher: str | None = None

    def loss(self, labels: str) -> str:
        """Return the loss, a name of `errors_at_few_frames`."""
        return {"energies": "quadratic", "forces": "order 2"}[labels] if self.weak else "supervised"


TAUGHT = PAINN | {"training": {"steps": 3000}}
TAUGHT_LONG = PAINN | {"training": {"steps": 10_000, "batch_size": 8}}
TAUGHT_LONGEST = PAINN | {"training": {"steps": 30_000, "batch_size": 8}}
KINDS = {
    "plain": Kind(PAINN),
    "weak": Kind(PAINN, weak=True),
    "difference": Kind(PAINN | {"baseline": CHEAP}),
    "committee": Kind(PAINN | {"members": 4}),
    "process": Kind(PROCESS),
    "process on difference": Kind(PROCESS | {"baseline": CHEAP}),
    "student of process": Kind(TAUGHT, teacher="process"),
    "student of difference": Kind(TAUGHT, teacher="difference"),
    "student of process on difference": Kind(TAUGHT, teacher="process on difference"),
    "long student of process on difference": Kind(TAUGHT_LONG, teacher="process on difference"),
    "longest student of process on difference": Kind(TAUGHT_LONGEST, teacher="process on difference"),
}


@dataclass(frozen=True)
class Point:
    """One training of the study."""

    molecule: str
    model: str
    labels: str
    size: int
    seed: int


def trained(point: Point, name: str, dataset: Path, folder: Path) -> tuple[Path, float]:
    """Train a kind of model, and before it its teacher; return its file and the CPU seconds of its own training."""
    kind, folder = KINDS[name], folder / name.replace(" ", "-")
    loss = LOSSES[kind.loss(point.labels)].model_copy(update={} if point.labels == "forces" else {"forces": 0.0})
    keys = dict(kind.model)
    if kind.teacher is not None:
        teacher, _ = trained(point, kind.teacher, dataset, folder)
        teach(teacher, dataset, folder / "taught.h5")
        keys["teacher"] = {"model": "teacher", "loss": "supervised"}
        # What the teacher says of forces is learned from, whatever labels it had.
        loss = loss.model_copy(update={"forces": 1.0})
    model = parse_model(keys, name)
    baseline = None if model.baseline is None else Baseline(CHEAP, named_level(CHEAP))
    run = Run(dataset="study", model=name, loss=kind.loss(point.labels), size=point.size, seed=point.seed)
    path = folder / "model.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    started = time.process_time()
    pool = folder / "taught.h5" if kind.teacher else None
    train_run(dataset, run, model, loss, path, folder / "history.csv", pool_path=pool, baseline=baseline)
    return path, time.process_time() - started


def measure(point: Point, datasets: dict[str, Path]) -> dict[str, float | None]:
    """Train, and return errors on the test frames and the CPU seconds of the training."""
    with tempfile.TemporaryDirectory() as temporary:
        with contextlib.redirect_stdout(io.StringIO()):
            path, seconds = trained(point, point.model, datasets[point.labels], Path(temporary))
        potential = load_model(path)
    test = frames_to_test(datasets["forces"])
    errors = error_summary(test, predict(potential, test))
    return {name: errors[name] for name in ERRORS} | {"cpu_s": seconds}


def cheap_errors(dataset: Path, size: int) -> dict[str, float]:
    """Return the errors of the cheap level itself, after the constant that the first frames of a size give."""
    with Dataset(dataset) as opened:
        training = opened.structures(opened.indices(TRAINING)[:size])
        test = opened.structures(opened.indices(TEST))
    constant = np.mean([s.energy - s.at_level(CHEAP).energy for s in training])
    energies = [s.energy - s.at_level(CHEAP).energy - constant for s in test]
    forces = [np.abs(s.forces - s.at_level(CHEAP).forces).mean() for s in test]
    return {
        "energy_mae_meV": 1e3 * float(np.abs(energies).mean()),
        "force_mae_meV_per_A": 1e3 * float(np.mean(forces)),
    }


def written(folder: Path, training: Path, test: Path, pool: int) -> dict[str, Path]:
    """Write the frames as datasets of which the labelled ones have forces, or energies alone."""
    parts = labelled_pool_and_test(training, test, pool)
    frames = [atoms for own in parts.values() for atoms in own]
    labels = compute_cheap_labels(CHEAP, named_level(CHEAP), frames, folder / "store", 4000)
    parts, _ = with_cheap_labels(parts, [labels])
    return write_with_and_without_forces(folder, parts, [CHEAP])


def main() -> None:
    """Print a line a training."""
    parser = parser_of(__doc__, sizes=[50, 100, 200], csv="few-energies.csv")
    usual = [name for name in KINDS if not name.startswith("longest")]
    parser.add_argument("--models", nargs="+", default=usual, choices=list(KINDS))
    parser.add_argument("--labels", nargs="+", default=["energies", "forces"], choices=["forces", "energies"])
    parser.add_argument("--pool", type=int, default=POOL_FRAMES, help="how many frames the pool has")
    options = parser.parse_args()
    if options.table:
        print(means_over_seeds(results(options.csv), Point))
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        datasets = written(Path(temporary), *options.data, options.pool)
        for size in options.sizes:
            print(f"{CHEAP}, constant of {size} frames: {cheap_errors(datasets['forces'], size)}", flush=True)
        grid = itertools.product(options.labels, options.sizes, options.seeds, options.models)
        points = (Point(options.molecule, model, labels, size, seed) for labels, size, seed, model in grid)
        measure_missing(options.csv, points, partial(measure, datasets=datasets))


if __name__ == "__main__":
    main()
