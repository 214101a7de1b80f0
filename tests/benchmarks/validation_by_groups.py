"""What validation at random and on whole groups say of the error on groups that nobody has learned from.

Frames of Langevin dynamics at 500 K on GFN2-xTB, labelled by it, 2 fs apart: of twelve small molecules of H, C and O,
or of twelve trajectories of ethanol. Three groups are the test, and of the frames of
the others each run validates on a fifth: at random, or whole groups. PaiNN of the default size learns from the rest,
with a loss on energies and forces. A line of JSON a run: root mean square errors on validation and test frames, of
energies in meV an atom and of forces in meV/Å. Twelve runs take five minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from piwsl.config import GivenDataset, Loss, Run, parse_model
from piwsl.data.assemble import import_given
from piwsl.data.dataset import TEST, Dataset
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import predict
from piwsl.files import read_json
from piwsl.models import load_model
from piwsl.reference.tight_binding import gfn2
from piwsl.structures.frames import label, write_frames
from piwsl.structures.structure import Structure
from piwsl.training.run import train_run

MOLECULES = (
    "H2O", "CH4", "CH3OH", "H2CO", "C2H2", "C2H4", "C2H6", "CH3CHO", "HCOOH", "H2CCO", "CH3CH2OH", "CH3OCH3",
)  # fmt: skip
GROUPS, TEMPERATURE = 12, 500.0  # K
FRAMES = 20  # of each group
EQUILIBRATION, STRIDE, TIMESTEP = 400, 4, 0.5  # steps, steps, fs
TESTED = 3  # groups


def trajectory(name: str, group: str, seed: int) -> list[Atoms]:
    """Return labelled frames of dynamics, 2 fs apart, so that neighbours are alike."""
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    atoms.calc = gfn2(0, 1)
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=rng)
    dynamics = Langevin(
        atoms, TIMESTEP * units.fs, temperature_K=TEMPERATURE, friction=0.01 / units.fs, fixcm=False, rng=rng
    )
    dynamics.run(EQUILIBRATION)
    frames = []
    for _ in range(FRAMES):
        dynamics.run(STRIDE)
        plain = Atoms(atoms.numbers, atoms.positions)
        frames.append(label(plain, atoms.get_potential_energy(), atoms.get_forces()))
        frames[-1].info["group"] = group
    return frames


def groups_of(kind: str) -> list[list[Atoms]]:
    """Return the frames of twelve molecules, or of twelve trajectories of ethanol."""
    if kind == "molecules":
        return [trajectory(name, name, seed) for seed, name in enumerate(MOLECULES)]
    return [trajectory("CH3CH2OH", f"trajectory {seed}", seed) for seed in range(GROUPS)]


def errors(path: Path, structures: list[Structure]) -> dict[str, Any]:
    """Return root mean square errors of a model."""
    found = error_summary(structures, predict(load_model(path), structures))
    return {key: found[key] for key in ("energy_rmse_meV_per_atom", "force_rmse_meV_per_A")}


def measured(folder: Path, file: Path, seed: int, by: str, steps: int) -> dict[str, Any]:
    """Train on all groups but three, which the seed holds out, and say what validation and test find."""
    made = folder / f"{seed}.h5"
    split = {"by": "group", "key": "group"}
    import_given(GivenDataset(file=file, test_frames=TESTED * FRAMES, split=split, seed=seed), made)
    training = {"steps": steps, "validation_fraction": 0.2, "validation_by": by}
    model = parse_model({"architecture": "painn", "training": training}, "model")
    with Dataset(made) as dataset:
        size = len(dataset) - TESTED * FRAMES
        run = Run(dataset="d", model="m", loss="l", size=size, seed=seed)
        path = folder / f"{by}-{seed}" / "model.safetensors"
        train_run(made, run, model, Loss(), path, path.with_name("history.csv"))
        validated = dataset.structures(np.array(read_json(path.with_name("frames.json"))["validation"]))
        tested = dataset.structures(dataset.indices(TEST))
    return {"by": by, "seed": seed, "validation": errors(path, validated), "test": errors(path, tested)}


def main() -> None:
    """Measure and print a line a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("molecules", "trajectories"))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=800)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_frames(folder / "frames.xyz", [atoms for group in groups_of(options.kind) for atoms in group])
        for seed in range(options.seeds):
            for by in ("frame", "group"):
                found = measured(folder, folder / "frames.xyz", seed, by, options.steps)
                print(json.dumps({"kind": options.kind, **found}), flush=True)


if __name__ == "__main__":
    main()
