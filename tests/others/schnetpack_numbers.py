"""Energies and forces of schnetpack's SchNet and PaiNN with given weights: `write` stores them, `check` compares."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from packages import SchNetPack
from torch import Tensor

from piwsl.data.batch import collate, graph
from piwsl.structures.structure import from_atoms

STORED = Path(__file__).parent / "schnetpack.json"
SIZES = {"features": 6, "layers": 2, "radial": 5, "cutoff": 4.0}
TOLERANCE = 1e-10


def frames() -> list[Atoms]:
    """Return a molecule and a crystal, displaced."""
    rng = np.random.default_rng(0)
    atoms = [molecule("CH3OH"), bulk("Si", "diamond", a=5.43, cubic=True)]
    for frame in atoms:
        frame.positions += 0.1 * rng.normal(size=frame.positions.shape)
    return atoms


def numbers(architecture: str) -> dict[str, object]:
    """Return weights, geometries, energies and forces, as plain values."""
    torch.manual_seed(0)
    model = SchNetPack(architecture, **SIZES).double()
    for parameter in model.parameters():  # schnetpack's biases start at zero
        torch.nn.init.normal_(parameter, std=0.4)
    batch = collate([graph(from_atoms(atoms), SIZES["cutoff"], torch.float64) for atoms in frames()])
    energy, forces = model(batch)

    def plain(tensor: Tensor) -> list[object]:
        return tensor.detach().tolist()

    elements = sorted({int(number) for number in batch.atomic_numbers})
    weights = {name: plain(parameter) for name, parameter in model.named_parameters()}
    embedding = "representation.embedding.weight"
    weights[embedding] = [row if number in elements else None for number, row in enumerate(weights[embedding])]
    return {"weights": weights, "energy": plain(energy), "forces": plain(forces)}


def main(task: str) -> int:
    """Write or check; return the number of disagreements."""
    found = {architecture: numbers(architecture) for architecture in ("schnet", "painn")}
    if task == "write":
        geometries = [
            {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist(),
             "cell": np.asarray(atoms.cell).tolist(), "pbc": atoms.pbc.tolist()}
            for atoms in frames()
        ]  # fmt: skip
        content = {"schnetpack": version("schnetpack"), "sizes": SIZES, "frames": geometries, "models": found}
        STORED.write_text(json.dumps(content) + "\n")
        return 0
    stored = json.loads(STORED.read_text())["models"]
    wrong = 0
    for architecture, values in found.items():
        for name in ("energy", "forces"):
            difference = np.abs(np.array(values[name]) - np.array(stored[architecture][name])).max()
            wrong += not difference < TOLERANCE
            print(f"{architecture} {name}: largest difference {difference:.1e}")
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
