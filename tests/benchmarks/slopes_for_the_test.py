"""How well the error of a model's forces is known from slopes of the energy along one random direction of a frame.

    python tests/benchmarks/slopes_for_the_test.py rmd17_ethanol_train_01.npz rmd17_ethanol_test_01.npz

A Gaussian process learns the energies of the first frames of the first file, 50 and 400 of them. The root mean square
error of its forces on the frames of the second, all of which have forces, is taken for the truth; what some of these
frames say of it, drawn at random, is off by so much of it: root mean square over draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from acquisition import process_of
from numpy.typing import NDArray
from studies import read_npz

from piwsl.evaluation.predict import predict
from piwsl.reference.differences import energies_needed
from piwsl.structures.rigid import internal_degrees, rigid_motions
from piwsl.structures.structure import Structure, from_atoms

SIZES = (50, 400)
# Of whole forces by differences, and with one slope each.
WHOLE, SLOPES = (4, 8, 16), (16, 50, 100, 200, 320)
DIRECTIONS, DRAWS = 10, 4000


def squares_of_slopes(structures: list[Structure], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (M * DIRECTIONS,), what the slope along each of some directions says of the mean square of components.

    Args:
        structures: M frames.
        errors: (M, 3N), of their forces.
    """
    rng, found = np.random.default_rng(0), []
    for structure, error in zip(structures, errors, strict=True):
        rigid, drawn = rigid_motions(structure.positions), rng.normal(size=(DIRECTIONS, error.size))
        internal = drawn - (drawn @ rigid.T) @ rigid
        directions = internal / np.linalg.norm(internal, axis=1, keepdims=True)
        found.append(internal_degrees(structure.positions) / error.size * (directions @ error) ** 2)
    return np.concatenate(found)


def off_by(squares: NDArray[np.float64], frames: int, truth: float) -> float:
    """Return by which share of the truth the root of the mean of some squares is off, root mean square over draws."""
    rng = np.random.default_rng(frames)
    drawn = rng.choice(squares, (DRAWS, frames)).mean(axis=1)
    return float(np.sqrt(np.mean((np.sqrt(drawn) / truth - 1.0) ** 2)))


def main() -> None:
    """Print a line a row of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path)
    parser.add_argument("test", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    training = [from_atoms(atoms) for atoms in read_npz(options.training, max(SIZES))]
    test = [from_atoms(atoms) for atoms in read_npz(options.test)]
    positions = test[0].positions
    rows: dict[tuple[str, int, int], list[str]] = {}
    for size in SIZES:
        forces = predict(process_of(training[:size], 0), test).forces
        errors = np.stack([np.ravel(own - each.forces) for own, each in zip(forces, test, strict=True)])
        truth = float(np.sqrt((errors**2).mean()))
        share = float(np.abs(errors).mean()) / truth
        print(f"{size} energies: {1000 * truth:.0f} meV/Å in {len(test)} frames, mean absolute {share:.2f} of that")
        kinds = {"forces": ((errors**2).mean(axis=1), WHOLE), "a slope": (squares_of_slopes(test, errors), SLOPES)}
        for kind, (squares, counts) in kinds.items():
            needed = energies_needed(positions, "differences" if kind == "forces" else "slope") - 1
            for frames in counts:
                rows.setdefault((kind, frames, frames * needed), []).append(f"{off_by(squares, frames, truth):.1%}")
    for (kind, frames, energies), found in rows.items():
        print(f"| {frames}, {kind} | {energies:,} | {' | '.join(found)} |")


if __name__ == "__main__":
    main()
