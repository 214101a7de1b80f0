"""Errors after training on few frames, and the CPU seconds of it: what the defaults of each architecture stand on.

    python tests/benchmarks/errors_at_few_frames.py ethanol rmd17_ethanol_train_01.npz rmd17_ethanol_test_01.npz
    python tests/benchmarks/errors_at_few_frames.py malonaldehyde dataset.h5

Two .npz files have the arrays of the published rMD17 (Christensen, von Lilienfeld, Mach. Learn.: Sci. Technol. 1,
045018 (2020)): nuclear_charges, coords (Å), energies (kcal/mol), forces (kcal/mol/Å). One .h5 file is a dataset of the
pipeline.

Each training adds a line to a CSV file as it ends, and is not repeated while that line stands; `--table` prints means
over seeds, and trains nothing.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from studies import TEST_FRAMES, frames_to_test, means_over_seeds, measure_missing, parser_of, read_npz, results

from piwsl.config import ARCHITECTURES, Architecture, Loss, Run, parse_model
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.evaluation.evaluate import scales_of
from piwsl.evaluation.metrics import SpreadSummary, error_summary
from piwsl.evaluation.predict import predict
from piwsl.loss_terms.pisc import PISC
from piwsl.loss_terms.pitc import PITC
from piwsl.models import load_model
from piwsl.training.run import train_run

LOSSES = {
    "supervised": Loss(),
    "order 1": Loss(pitc=PITC(weight=0.1), pisc=PISC(weight=0.001), displacement=0.005),
    "order 2": Loss(pitc=PITC(weight=1.0, order=2), displacement=0.02),
    "quadratic": Loss(pitc=PITC(weight=1.0, order="quadratic", share=0.5), displacement=0.02),
}
OF_SPREAD = [
    f"{quantity}_{name}"
    for quantity in ("energy", "force")
    for name in ("error_over_spread", "spread_scale", "miscalibration_area", "scaled_miscalibration_area")
]


@dataclass(frozen=True)
class Point:
    """One training of the study."""

    molecule: str
    architecture: str
    labels: str
    loss: str
    size: int
    settings: str
    seed: int

    def model(self) -> Architecture:
        """Return the architecture with its defaults but for the settings, `key=value` or `training.key=value`."""
        own: dict[str, object] = {"architecture": self.architecture}
        training: dict[str, object] = {}
        for setting in self.settings.split():
            key, value = setting.split("=")
            of_training = key.startswith("training.")
            (training if of_training else own)[key.removeprefix("training.")] = json.loads(value)
        return parse_model(own | {"training": training}, "the study")


def measure(point: Point, dataset: Path) -> dict[str, float | None]:
    """Train, and return errors on the test frames, CPU seconds of the training and, of committees, what spreads say."""
    run = Run(dataset="study", model=point.architecture, loss=point.loss, size=point.size, seed=point.seed)
    loss = LOSSES[point.loss].model_copy(update={} if point.labels == "forces" else {"forces": 0.0})
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.safetensors"
        started = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            train_run(dataset, run, point.model(), loss, path, path.with_name("history.csv"))
        seconds = time.process_time() - started
        test = frames_to_test(dataset)
        found = predict(load_model(path), test)
        said = SpreadSummary()
        said.add(test, found)
        spread = said.values(scales_of(path, said.spread()))
    errors = error_summary(test, found)
    signed = 1000 * float(np.mean(found.energy - [structure.energy for structure in test]))
    return {
        "energy_mae_meV": errors["energy_mae_meV"],
        "energy_mae_without_constant_meV": errors["energy_mae_without_constant_meV"],
        "energy_mean_error_meV": signed,
        "force_mae_meV_per_A": errors["force_mae_meV_per_A"],
        "cpu_s": seconds,
    } | {name: spread.get(name) for name in OF_SPREAD}


def table(path: Path) -> str:
    """Return the means over seeds, with the largest constant of any seed."""
    rows = results(path)
    rows["largest_constant_meV"] = rows.pop("energy_mean_error_meV").abs()
    return means_over_seeds(rows, Point, largest=["largest_constant_meV"])


def main() -> None:
    """Print a line a training."""
    parser = parser_of(__doc__, sizes=[25, 50, 100, 200], csv="study.csv")
    parser.add_argument("--architectures", nargs="+", default=["painn"], choices=list(ARCHITECTURES))
    parser.add_argument("--labels", nargs="+", default=["forces", "energies"], choices=["forces", "energies"])
    parser.add_argument("--losses", nargs="+", default=["supervised"], choices=LOSSES)
    parser.add_argument(
        "--settings", nargs="+", default=[""], help="e.g. 'training.steps=500 radial=8'; each a set of its own"
    )
    options = parser.parse_args()
    if options.table:
        print(table(options.csv))
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        dataset = options.data[0]
        if dataset.suffix == ".npz":
            training, test = options.data
            dataset = Path(temporary) / "dataset.h5"
            write_dataset(dataset, {TRAINING: read_npz(training), TEST: read_npz(test, TEST_FRAMES)})
        grid = itertools.product(
            options.settings, options.architectures, options.labels, options.losses, options.sizes, options.seeds
        )
        points = (
            Point(options.molecule, architecture, labels, loss, size, settings, seed)
            for settings, architecture, labels, loss, size, seed in grid
        )
        measure_missing(options.csv, points, partial(measure, dataset=dataset))


if __name__ == "__main__":
    main()
