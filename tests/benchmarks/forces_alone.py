"""What frames with forces and no energy add to frames with energies alone, beside further frames with both.

python tests/benchmarks/forces_alone.py rmd17_ethanol_train_01.npz rmd17_ethanol_test_01.npz
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from studies import TEST_FRAMES, read_npz

import piwsl


def without_energy(frames: Sequence[Atoms]) -> list[Atoms]:
    """Return copies that have forces alone."""
    found = [atoms.copy() for atoms in frames]
    for atoms in found:
        del atoms.info["REF_energy"]
    return found


def without_forces(frames: Sequence[Atoms]) -> list[Atoms]:
    """Return copies that have energies alone."""
    found = [atoms.copy() for atoms in frames]
    for atoms in found:
        del atoms.arrays["REF_forces"]
    return found


def main() -> None:
    """Print a line a training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--size", type=int, default=50, help="frames with energies, and further frames")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    frames, test = read_npz(options.training), read_npz(options.test, TEST_FRAMES)
    for seed in options.seeds:
        order = np.random.default_rng(seed).permutation(len(frames))
        first = [frames[index] for index in order[: options.size]]
        further = [frames[index] for index in order[options.size : 2 * options.size]]
        sets = {
            "energies": without_forces(first),
            "and further frames with forces alone": without_forces(first) + without_energy(further),
            "and further frames with both": without_forces(first) + further,
        }
        for name, training in sets.items():
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                started = time.process_time()
                # No pair potential, which energies alone would be given: the sets differ in their labels alone.
                potential = piwsl.train(training, folder, {"architecture": "painn", "pair_potential": False}, seed=seed)
                seconds = time.process_time() - started
                found = piwsl.evaluate(potential, test)
            print(
                f"seed {seed}, {name}: {found['energy_mae_meV']:.1f} meV, {found['force_mae_meV_per_A']:.1f} meV/Å, "
                f"{seconds:.0f} CPU s",
                flush=True,
            )


if __name__ == "__main__":
    main()
