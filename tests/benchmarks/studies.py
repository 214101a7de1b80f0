"""What the studies of errors at few frames share: frames of rMD17, a CSV file with a line a training, means over seeds.

A point, one training of a study, is a dataclass whose fields are the first columns of the file; the last is the seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms, units

from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset, write_dataset
from piwsl.structures.frames import label
from piwsl.structures.structure import Structure

KCAL_PER_MOL = units.kcal / units.mol
TEST_FRAMES = 300
POOL_FRAMES = 400
LABELLED_FRAMES = 200
ERRORS = ["energy_mae_meV", "energy_mae_without_constant_meV", "force_mae_meV_per_A"]


def read_npz(path: Path, frames: int | None = None) -> list[Atoms]:
    """Read the first frames of a file of rMD17, in eV and eV/Å."""
    with np.load(path, allow_pickle=False) as arrays:
        numbers = arrays["nuclear_charges"]
        return [
            label(Atoms(numbers, coordinates), float(energy) * KCAL_PER_MOL, forces * KCAL_PER_MOL)
            for coordinates, energy, forces in zip(
                arrays["coords"][:frames], arrays["energies"][:frames], arrays["forces"][:frames], strict=True
            )
        ]


def labelled_pool_and_test(training: Path, test: Path, pool: int = POOL_FRAMES) -> dict[str, list[Atoms]]:
    """Read the first frames of a file as those to draw sizes from, its last without labels, and those of a second."""
    every = read_npz(training)
    parts = {TRAINING: every[:LABELLED_FRAMES], POOL: every[-pool:], TEST: read_npz(test, TEST_FRAMES)}
    for atoms in parts[POOL]:
        del atoms.info["REF_energy"], atoms.arrays["REF_forces"]
    return parts


def write_with_and_without_forces(
    folder: Path, parts: Mapping[str, list[Atoms]], cheap_levels: Sequence[str] = ()
) -> dict[str, Path]:
    """Write the frames as two datasets: of one the labelled frames have forces, of the other energies alone."""
    paths = {labels: folder / f"{labels}.h5" for labels in ("forces", "energies")}
    write_dataset(paths["forces"], parts, cheap_levels=cheap_levels)
    for atoms in parts[TRAINING]:
        del atoms.arrays["REF_forces"]
    write_dataset(paths["energies"], parts, cheap_levels=cheap_levels)
    return paths


def frames_to_test(path: Path) -> list[Structure]:
    """Return the test frames of a dataset."""
    with Dataset(path) as dataset:
        return dataset.structures(dataset.indices(TEST))


def parser_of(description: str | None, sizes: Sequence[int], csv: str) -> argparse.ArgumentParser:
    """Return a parser of what all studies are told; `data` is read by each in its own way.

    Args:
        description: what the study is.
        sizes: by default.
        csv: the file's name, by default.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molecule", nargs="?", help="its name in the table")
    parser.add_argument("data", nargs="*", type=Path, help="two .npz files, training and test")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(sizes))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--csv", type=Path, default=Path(csv))
    parser.add_argument("--table", action="store_true", help="print means over seeds, and train nothing")
    return parser


def results(path: Path) -> pd.DataFrame:
    """Read what a CSV file has; no setting is "", no missing number."""
    return pd.read_csv(path, keep_default_na=False)


def measure_missing(path: Path, points: Iterable[Any], measure: Callable[[Any], Mapping[str, float | None]]) -> None:
    """Measure the points that a CSV file does not have yet; each adds a line to it, and prints it, as it ends.

    The file is read anew for each, for another process may have added to it.
    """
    for point in points:
        keys = vars(point)
        known = results(path)[list(keys)].itertuples(index=False, name=None) if path.exists() else []
        if tuple(keys.values()) in set(known):
            continue
        row = pd.DataFrame([{**keys, **measure(point)}])
        row.to_csv(path, mode="a", header=not path.exists(), index=False)
        print(row.to_string(index=False, header=False), flush=True)


def means_over_seeds(rows: pd.DataFrame, point: type, largest: Sequence[str] = ()) -> str:
    """Return a table of means over the seeds, and of how many they are.

    Args:
        rows: of a CSV file.
        point: whose fields they are told apart by.
        largest: columns of which the largest value is taken, in place of the mean.
    """
    *keys, seed = (field.name for field in fields(point))
    groups = rows.groupby(keys, sort=False)
    means = groups.mean(numeric_only=True).drop(columns=seed)
    for column in largest:
        means[column] = groups[column].max()
    means["seeds"] = groups[seed].count()
    return means.round(1).reset_index().to_string(index=False)
