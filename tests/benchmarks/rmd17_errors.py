"""Errors after training on few frames of rMD17, with the constant part of the energy error on its own.

    python tests/benchmarks/rmd17_errors.py rmd17_ethanol_train_01.npz rmd17_ethanol_test_01.npz --frames 50

The files have the arrays of the published set (Christensen, von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018
(2020)): nuclear_charges, coords (Å), energies (kcal/mol), forces (kcal/mol/Å).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units

from piwsl.config import PISC, PITC, Loss, PaiNN, Run, Training
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_dataset
from piwsl.evaluation.predict import predict
from piwsl.models import load_model
from piwsl.structures.frames import label
from piwsl.training.run import train

LOSSES = {
    "supervised": Loss(),
    "weak": Loss(pitc=PITC(weight=1.0, order=2), pisc=PISC(weight=0.01, order=2), displacement=0.02),
}
KCAL_PER_MOL = units.kcal / units.mol
TEST_FRAMES = 300


def read(path: Path, frames: int) -> list[Atoms]:
    """Read the first frames of a file, in eV and eV/Å."""
    with np.load(path, allow_pickle=False) as arrays:
        numbers, count = arrays["nuclear_charges"], min(frames, len(arrays["energies"]))
        return [
            label(Atoms(numbers, coordinates), float(energy) * KCAL_PER_MOL, forces * KCAL_PER_MOL)
            for coordinates, energy, forces in zip(
                arrays["coords"][:count], arrays["energies"][:count], arrays["forces"][:count], strict=True
            )
        ]


def errors(dataset: Path, folder: Path, loss: Loss, frames: int, seed: int, steps: int) -> tuple[float, float, float]:
    """Train, and return energy MAE, mean energy error (meV) and force MAE (meV/Å) on the test frames."""
    model = PaiNN(architecture="painn", training=Training(steps=steps))
    run = Run(dataset="rmd17", model="painn", loss="loss", size=frames, seed=seed)
    with contextlib.redirect_stdout(io.StringIO()):
        train(dataset, run, model, loss, folder / "model.safetensors", folder / "history.csv")
    with Dataset(dataset) as opened:
        test = opened.structures(opened.indices(TEST))
    found = predict(load_model(folder / "model.safetensors"), test)
    energy = 1000 * (found.energy - [structure.energy for structure in test])
    forces = 1000 * np.concatenate([ours - own.forces for ours, own in zip(found.forces, test, strict=True)])
    return float(np.abs(energy).mean()), float(energy.mean()), float(np.abs(forces).mean())


def main() -> None:
    """Print a line a loss and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        dataset = Path(temporary) / "dataset.h5"
        write_dataset(
            dataset, {TRAINING: read(options.training, 10 * options.frames), TEST: read(options.test, TEST_FRAMES)}
        )
        print("loss        seed  energy MAE  mean error  force MAE   (meV, meV/Å)")
        for loss in options.losses:
            for seed in options.seeds:
                folder = Path(temporary) / f"{loss}-{seed}"
                energy, mean, force = errors(dataset, folder, LOSSES[loss], options.frames, seed, options.steps)
                print(f"{loss:10} {seed:5d} {energy:11.1f} {mean:11.1f} {force:10.1f}", flush=True)


if __name__ == "__main__":
    main()
