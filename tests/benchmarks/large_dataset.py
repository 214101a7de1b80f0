"""Reading random batches of a large data set: our dataset file beside ASE databases, also MACE's, and extended XYZ.

Frames are as those of ANI-1x: 15 atoms, with energies and forces. Ours is written as an iterator gives them. Each is
opened by a process of its own, which reads batches of random frames; a row says how long opening and a batch took, and
by how much the process grew. Others get fewer frames where they take long. A step of PaiNN on such a batch, on one
core, stands beside: what a batch must not take longer than. Then ours is made of a user's file, as `ani1x` reads it; of
a tenth of the frames, too: by how much more the process grew with all is what a frame takes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import h5py
import numpy as np
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Hartree

from piwsl.architectures.painn import PaiNN
from piwsl.config import GivenDataset
from piwsl.data.assemble import import_given
from piwsl.data.batch import collate, graph
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_structures
from piwsl.models import build_potential
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import Structure

ATOMS, BATCH, CUTOFF = 15, 64, 5.0
# Conformations of a molecule, of ANI-1x.
OF_A_MOLECULE = 500
ELEMENTS = np.array([1, 6, 7, 8])
KILOBYTE = 1024


def frame(rng: np.random.Generator) -> Structure:
    """Return atoms on a jittered grid with a random energy and forces."""
    grid = 1.3 * np.array([(x, y, z) for x in range(3) for y in range(3) for z in range(2)], dtype=float)[:ATOMS]
    labels = Labels(energy=float(rng.normal()), forces=rng.normal(size=(ATOMS, 3)))
    positions = grid + 0.1 * rng.normal(size=grid.shape)
    return Structure(rng.choice(ELEMENTS, ATOMS), positions, np.zeros((3, 3)), np.zeros(3, bool), {REFERENCE: labels})


def frames(count: int) -> Iterator[Structure]:
    """Yield so many frames, the same at each call."""
    rng = np.random.default_rng(0)
    return (frame(rng) for _ in range(count))


def memory_mb() -> float:
    """Return the largest memory that this process had, MB."""
    # What getrusage says begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / KILOBYTE


def write_ours(path: Path, count: int) -> None:
    """Write our file; half of a thousandth is for the test."""
    test = max(1, count // 2000)
    sizes = {TRAINING: count - test, TEST: test}
    stream = frames(count)
    write_structures(path, {part: itertools.islice(stream, size) for part, size in sizes.items()})


def write_database(path: Path, count: int) -> None:
    """Write an ASE database (SQLite)."""
    with ase.db.connect(path, append=False) as database:
        for structure in frames(count):
            database.write(as_atoms(structure))


def write_lightning(path: Path, count: int) -> None:
    """Write an ASE database over LMDB, as MACE reads it."""
    database = lightning(path, readonly=False)
    for structure in frames(count):
        database.write(as_atoms(structure))
    database.close()


def lightning(path: Path, readonly: bool) -> Any:
    """Open one; MACE's code of it is read where it is used."""
    from mace.tools.fairchem_dataset.lmdb_dataset_tools import LMDBDatabase

    return LMDBDatabase(path, readonly=readonly)


def write_text(path: Path, count: int) -> None:
    """Write extended XYZ."""
    with path.open("w") as file:
        for structure in frames(count):
            ase.io.write(file, as_atoms(structure), format="extxyz")


def as_atoms(structure: Structure) -> Any:
    """Return a frame as ASE keeps it, with its labels."""
    atoms = structure.atoms()
    atoms.calc = SinglePointCalculator(atoms, energy=structure.energy, forces=structure.forces)
    return atoms


def open_ours(path: Path) -> tuple[Callable[[np.ndarray], Any], int]:
    """Return what reads frames of our file by index, and how many there are."""
    dataset = Dataset(path)
    return dataset.structures, len(dataset)


def open_database(path: Path) -> tuple[Callable[[np.ndarray], Any], int]:
    """Return the same of an ASE database."""
    database = ase.db.connect(path)
    return lambda indices: [database.get_atoms(int(index) + 1) for index in indices], database.count()


def open_lightning(path: Path) -> tuple[Callable[[np.ndarray], Any], int]:
    """Return the same of one over LMDB, by rows as MACE's data set takes them."""
    database = lightning(path, readonly=True)
    return lambda indices: [database._get_row(int(index) + 1).toatoms() for index in indices], database.count()


def open_text(path: Path) -> tuple[Callable[[np.ndarray], Any], int]:
    """Return the same of extended XYZ, all of which is read at once."""
    read = ase.io.read(path, ":")
    return lambda indices: [read[index] for index in indices], len(read)


@dataclass(frozen=True)
class Store:
    """A way to keep frames."""

    name: str
    suffix: str
    write: Callable[[Path, int], None]
    open: Callable[[Path], tuple[Callable[[np.ndarray], Any], int]]


STORES = [
    Store("piwsl's dataset file", ".h5", write_ours, open_ours),
    Store("ASE database", ".db", write_database, open_database),
    Store("ASE database over LMDB (MACE)", ".aselmdb", write_lightning, open_lightning),
    Store("extended XYZ", ".xyz", write_text, open_text),
]


def write_published(path: Path, count: int) -> None:
    """Write HDF5 as ANI-1x is published: a molecule a group."""
    stream = frames(count)
    with h5py.File(path, "w") as file:
        for number in range(0, count, OF_A_MOLECULE):
            own = [*itertools.islice(stream, OF_A_MOLECULE)]
            group = file.create_group(f"molecule-{number:09d}")
            group["atomic_numbers"] = own[0].numbers.astype(np.uint8)
            group["coordinates"] = np.array([structure.positions for structure in own], dtype=np.float32)
            group["wb97x_dz.energy"] = np.array([structure.energy for structure in own]) / Hartree
            group["wb97x_dz.forces"] = np.array([structure.forces for structure in own], dtype=np.float32) / Hartree


def importing(source: Path, path: Path, count: int) -> tuple[float, float]:
    """Make our file of another, and return CPU seconds and by how many MB the process grew."""
    section = GivenDataset(file=source, format="ani1x", test_frames=max(1, count // 2000))
    before, started = memory_mb(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        import_given(section, path)
    return time.process_time() - started, memory_mb() - before


def import_row(folder: Path, count: int) -> str:
    """Return the row of the table of imports."""
    grown = []
    for frames_there in (count // 10, count):
        source, path = folder / f"ani1x-{frames_there}.h5", folder / f"imported-{frames_there}.h5"
        if not source.exists():
            write_published(source, frames_there)
        took, grew = alone(importing, source, path, frames_there)
        grown.append(grew)
    size, of_a_frame = source.stat().st_size / 1e9, 1e6 * (grown[1] - grown[0]) / (count - count // 10)
    return f"| ANI-1x | {count:,} | {size:.2f} | {1e6 * took / count:.0f} | {grown[1]:.0f} | {of_a_frame:.0f} |"


def writing(store: Store, path: Path, count: int) -> tuple[float, float]:
    """Write frames, and return seconds and by how many MB the process grew."""
    before, started = memory_mb(), time.perf_counter()
    store.write(path, count)
    return time.perf_counter() - started, memory_mb() - before


def reading(store: Store, path: Path, batches: int) -> tuple[float, float, float]:
    """Open and read, and return seconds of both, the latter of a batch, and by how many MB the process grew."""
    before, started = memory_mb(), time.perf_counter()
    read, count = store.open(path)
    opened = time.perf_counter()
    rng = np.random.default_rng(1)
    for _ in range(batches):
        read(rng.integers(count, size=BATCH))
    return opened - started, (time.perf_counter() - opened) / batches, memory_mb() - before


def step_s(steps: int = 5) -> float:
    """Return how long a step's loss of energies and forces and its gradients take with a PaiNN, in seconds."""
    torch.manual_seed(0)
    structures = [*frames(BATCH)]
    potential = build_potential(PaiNN(architecture="painn"), structures)
    batch = collate([graph(structure, CUTOFF, torch.float32) for structure in structures])
    started = 0.0
    for step in range(steps + 1):
        started = time.perf_counter() if step == 1 else started  # the first is not counted
        energy, forces = potential.energy_and_forces(batch, create_graph=True)
        (energy.square().mean() + forces.square().mean()).backward()
    return (time.perf_counter() - started) / steps


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, and return what it does."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where stores are written; those that are there are read")
    parser.add_argument("--frames", type=int, default=5_000_000, help="of ours")
    parser.add_argument("--others", type=int, default=20_000, help="frames of the others")
    parser.add_argument("--imported", type=int, default=200_000, help="frames that are imported")
    parser.add_argument("--batches", type=int, default=100)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    print(f"a step of PaiNN on {BATCH} frames: {1000 * step_s():.0f} ms")
    print("| store | frames | GB | written (µs a frame) | grew (MB) | opened (s) | batch (ms) | grew (MB) |")
    print("|---|---|---|---|---|---|---|---|")
    for number, store in enumerate(STORES):
        for count in (args.frames, args.others) if number == 0 else (args.others,):
            path = args.folder / f"{count}{store.suffix}"
            took, grew = (float("nan"),) * 2 if path.exists() else alone(writing, store, path, count)
            opened, batch, grown = alone(reading, store, path, args.batches)
            size = path.stat().st_size / 1e9
            print(
                f"| {store.name} | {count:,} | {size:.2f} | {1e6 * took / count:.0f} | {grew:.0f} | {opened:.3f} | "
                f"{1000 * batch:.1f} | {grown:.0f} |",
                flush=True,
            )
    print("| imported from | frames | GB | CPU µs a frame | grew (MB) | bytes a frame |")
    print("|---|---|---|---|---|---|")
    print(import_row(args.folder, args.imported))


if __name__ == "__main__":
    main()
