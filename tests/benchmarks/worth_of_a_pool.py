"""What geometries without labels are worth: losses of consistency on labelled frames alone, and on a pool as well.

    python tests/benchmarks/worth_of_a_pool.py ethanol rmd17_ethanol_train_01.npz rmd17_ethanol_test_01.npz

Files and frames are those of `from_few_energies.py`, and steps are as many everywhere. With "half of the pool" a step
has as many frames as without, half of them of the pool, and thus half as many labelled ones; with "as many of the pool"
those come beside the labelled ones. `inconsistency` is the mean of |F + ∂E/∂r| over components of the test frames, and
`gradient_mae` the error of -∂E/∂r as forces: those of models whose forces are no gradient. Each training adds a line to
a CSV file as it ends, and is not repeated while that line stands. `--table` prints means over seeds, and trains
nothing.
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

import numpy as np
import torch
from errors_at_few_frames import LOSSES
from numpy.typing import NDArray
from studies import (
    ERRORS,
    frames_to_test,
    labelled_pool_and_test,
    means_over_seeds,
    measure_missing,
    parser_of,
    results,
    write_with_and_without_forces,
)

from piwsl.config import Architecture, Loss, Run, parse_model
from piwsl.data.batch import collate, graphs
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import predict
from piwsl.loss_terms.pitc import PITC
from piwsl.models import Predictor, load_model
from piwsl.structures.structure import Structure
from piwsl.training.run import train_run

# From energies alone a weight of 100 left nothing but the pair potential, which is consistent at no effort.
CONSISTENCY = {
    ("conservative", "energies"): LOSSES["quadratic"],
    ("conservative", "forces"): LOSSES["order 2"],
    ("direct", "energies"): Loss(pitc=PITC(weight=1.0, order=2), displacement=0.02),
    ("direct", "forces"): Loss(pitc=PITC(weight=100.0, order=2), displacement=0.02),
}
# Frames a step of each, labelled and of the pool.
FRAMES = {
    "supervised": (4, 0),
    "consistency": (4, 0),
    "half of the pool": (2, 2),
    "as many of the pool": (4, 4),
}


@dataclass(frozen=True)
class Point:
    """One training of the study."""

    molecule: str
    forces: str
    labels: str
    loss: str
    size: int
    seed: int

    def training_loss(self) -> Loss:
        """Return the loss, which looks at forces only where they are labels."""
        loss = Loss() if self.loss == "supervised" else CONSISTENCY[self.forces, self.labels]
        labelled, pool = FRAMES[self.loss]
        return loss.model_copy(update={"forces": float(self.labels == "forces"), "pool": pool / (labelled + pool)})

    def model(self) -> Architecture:
        """Return the architecture, with its defaults but for the frames a step."""
        training = {"batch_size": sum(FRAMES[self.loss])}
        return parse_model({"architecture": "painn", "forces": self.forces, "training": training}, "the study")


def negative_gradient(potential: Predictor, structure: Structure) -> NDArray[np.float64]:
    """Return -∂E/∂r, (N, 3), eV/Å, whatever the model's forces are."""
    batch = collate(graphs([structure], potential.cutoff, potential.dtype, [0]))
    positions = batch.positions.requires_grad_()
    (gradient,) = torch.autograd.grad(potential.predict(batch.at(positions), ["energy"]).energy.sum(), positions)
    return -gradient.double().numpy()


def measure(point: Point, datasets: dict[str, Path]) -> dict[str, float | None]:
    """Train, and return errors on the test frames, how far forces are from the gradient, and CPU seconds."""
    run = Run(dataset="study", model=point.forces, loss=point.loss, size=point.size, seed=point.seed)
    loss = point.training_loss()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.safetensors"
        started = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            train_run(datasets[point.labels], run, point.model(), loss, path, path.with_name("history.csv"))
        seconds = time.process_time() - started
        potential = load_model(path)
    test = frames_to_test(datasets["forces"])
    found = predict(potential, test)
    errors = error_summary(test, found)
    gradients = np.array([negative_gradient(potential, structure) for structure in test])
    return {name: errors[name] for name in ERRORS} | {
        "gradient_mae_meV_per_A": 1000 * float(np.abs(gradients - [structure.forces for structure in test]).mean()),
        "inconsistency_meV_per_A": 1000 * float(np.abs(gradients - found.forces).mean()),
        "cpu_s": seconds,
    }


def main() -> None:
    """Print a line a training."""
    parser = parser_of(__doc__, sizes=[50, 100], csv="pool.csv")
    parser.add_argument("--forces", nargs="+", default=["direct", "conservative"], choices=["direct", "conservative"])
    parser.add_argument("--labels", nargs="+", default=["energies", "forces"], choices=["forces", "energies"])
    parser.add_argument("--losses", nargs="+", default=list(FRAMES), choices=list(FRAMES))
    options = parser.parse_args()
    if options.table:
        print(means_over_seeds(results(options.csv), Point))
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        datasets = write_with_and_without_forces(Path(temporary), labelled_pool_and_test(*options.data))
        grid = itertools.product(options.sizes, options.seeds, options.forces, options.labels, options.losses)
        points = (
            Point(options.molecule, forces, labels, loss, size, seed) for size, seed, forces, labels, loss in grid
        )
        measure_missing(options.csv, points, partial(measure, datasets=datasets))


if __name__ == "__main__":
    main()
