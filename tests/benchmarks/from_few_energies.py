"""What baselines, processes, committees and students make of few frames, against plain and weakly supervised networks.

    python tests/benchmarks/from_few_energies.py ethanol rmd17_ethanol_train_01.npz rmd17_ethanol_test_01.npz

The files are those of `errors_at_few_frames.py`: sizes draw from the first frames of the first, the pool is the last of
it, whose labels nobody sees, and tests are on the second. GFN2-xTB is the baseline, and what costs nothing. Each
training adds a line to a CSV file as it ends, and is not repeated while that line stands; a teacher is trained again
for each of its students. `--table` prints means over seeds, and trains nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from errors_at_few_frames import LOSSES, TEST_FRAMES, read_npz

from piwsl.config import Run, named_level, parse_model
from piwsl.data.cheap_levels import compute_cheap_labels, with_cheap_labels
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset, write_dataset
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import predict
from piwsl.evaluation.teaching import teach
from piwsl.models import Baseline, load_model
from piwsl.training.run import train_run

CHEAP = "gfn2-xtb"
POOL_FRAMES = 400
LABELLED_FRAMES = 200
KEYS = ["molecule", "model", "labels", "size", "seed"]
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
    with Dataset(datasets["forces"]) as opened:
        test = opened.structures(opened.indices(TEST))
    found = predict(potential, test)
    errors = error_summary(test, found)
    return {
        "energy_mae_meV": errors["energy_mae_meV"],
        "energy_mae_without_constant_meV": errors["energy_mae_without_constant_meV"],
        "force_mae_meV_per_A": errors["force_mae_meV_per_A"],
        "cpu_s": seconds,
    }


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


def written(folder: Path, training: Path, test: Path) -> dict[str, Path]:
    """Write the frames as datasets of which the labelled ones have forces, or energies alone."""
    every = read_npz(training)
    parts = {TRAINING: every[:LABELLED_FRAMES], POOL: every[-POOL_FRAMES:], TEST: read_npz(test, TEST_FRAMES)}
    for atoms in parts[POOL]:
        del atoms.info["REF_energy"], atoms.arrays["REF_forces"]
    frames = [atoms for own in parts.values() for atoms in own]
    labels = compute_cheap_labels(CHEAP, named_level(CHEAP), frames, folder / "store", 4000)
    parts, _ = with_cheap_labels(parts, [labels])
    paths = {labels: folder / f"{labels}.h5" for labels in ("forces", "energies")}
    write_dataset(paths["forces"], parts, cheap_levels=[CHEAP])
    for atoms in parts[TRAINING]:
        del atoms.arrays["REF_forces"]
    write_dataset(paths["energies"], parts, cheap_levels=[CHEAP])
    return paths


def table(path: Path) -> str:
    """Return the means over seeds."""
    rows = pd.read_csv(path)
    groups = rows.groupby(KEYS[:-1], sort=False)
    means = groups.mean(numeric_only=True).drop(columns="seed")
    means["seeds"] = groups["seed"].count()
    return means.round(1).reset_index().to_string(index=False)


def main() -> None:
    """Print a line a training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molecule", nargs="?", help="its name in the table")
    parser.add_argument("data", nargs="*", type=Path, help="two .npz files, training and test")
    parser.add_argument("--models", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--labels", nargs="+", default=["energies", "forces"], choices=["forces", "energies"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[50, 100, 200])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--csv", type=Path, default=Path("few-energies.csv"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table(options.csv))
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        datasets = written(Path(temporary), *options.data)
        for size in options.sizes:
            print(f"{CHEAP}, constant of {size} frames: {cheap_errors(datasets['forces'], size)}", flush=True)
        grid = itertools.product(options.labels, options.sizes, options.seeds, options.models)
        for labels, size, seed, model in grid:
            point = Point(options.molecule, model, labels, size, seed)
            known = pd.read_csv(options.csv)[KEYS].values.tolist() if options.csv.exists() else []
            if list(vars(point).values()) in known:
                continue
            row = pd.DataFrame([vars(point) | measure(point, datasets)])
            row.to_csv(options.csv, mode="a", header=not options.csv.exists(), index=False)
            print(row.to_string(index=False, header=False), flush=True)


if __name__ == "__main__":
    main()
