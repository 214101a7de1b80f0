"""What a batch costs that a training learns from, and how long its steps wait; ours beside schnetpack and graph-pes.

Frames are those of large_dataset.py: 15 atoms, with energies and forces, which lie in a file of each package's own
kind; 64 random ones a batch, with the neighbours within 5 Å. Each loader runs in a process of its own. CPU time
is that of making batches there; steps are those of PaiNN, loss and gradients, on one core, and wait for batches that
are made in between, or by a process beside.

With `--mixed`, how evenly steps are filled instead: four fifths of the frames are molecules of 3 to 30 atoms, the
others periodic cells of 8 to 96. Steps have 32 structures, or as many atoms, or edges, at most as 32 structures have on
average. All steps of an epoch are looked at; of those that several processes share, the edges of the fullest process
over the mean of the processes, averaged over steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ase.db
import numpy as np
import torch
from large_dataset import BATCH, CUTOFF, ELEMENTS, as_atoms, frames, memory_mb, write_ours

from piwsl.architectures.painn import PaiNN
from piwsl.data.dataset import TRAINING, Dataset, write_structures
from piwsl.data.views import StoredView, View, held, stored
from piwsl.models import Potential, build_potential
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import Structure
from piwsl.training.batches import AnyOrder, Order, OrderBySize, StepBatches

Batches = Iterator[Any]


def ours(path: Path, loaders: int, batches: int) -> Batches:
    """Return batches of our file, read on the way."""
    return _batches_of(_stored(path), loaders, batches)


def ours_in_memory(path: Path, loaders: int, batches: int) -> Batches:
    """Return batches of graphs that are made at the start."""
    return _batches_of(held([*_stored(path)]), loaders, batches)


def _stored(path: Path) -> StoredView:
    dataset = Dataset(path)
    return stored(dataset, dataset.indices(TRAINING))


def _batches_of(found: View, loaders: int, batches: int) -> Batches:
    graphs = found.graphs(CUTOFF, torch.float32)
    return iter(StepBatches(graphs, Order(len(graphs), BATCH, seed=0), range(batches), loaders=loaders))


def schnetpack(path: Path, loaders: int, batches: int) -> Batches:
    """Return batches of schnetpack's loader from its ASE database, with the neighbour list of matscipy."""
    import packages  # noqa: F401  # makes it importable with this torch
    import schnetpack.data
    from schnetpack.transform import CastTo32, MatScipyNeighborList

    transforms = [MatScipyNeighborList(CUTOFF), CastTo32()]
    data = schnetpack.data.ASEAtomsData(str(path), transforms=transforms)
    loader = schnetpack.data.AtomsLoader(data, batch_size=BATCH, shuffle=True, num_workers=loaders)
    return itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), batches)


def graph_pes(path: Path, loaders: int, batches: int) -> Batches:
    """Return batches of graph-pes's loader from an ASE database."""
    from graph_pes.data import GraphDataLoader, file_dataset

    data = file_dataset(str(path), CUTOFF)
    data.setup()
    loader = GraphDataLoader(data, batch_size=BATCH, shuffle=True, num_workers=loaders)
    return itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), batches)


def write_schnetpack(path: Path, count: int) -> None:
    """Write schnetpack's database."""
    import packages  # noqa: F401
    from schnetpack.data import ASEAtomsData

    units = {"energy": "eV", "forces": "eV/Ang"}
    data = ASEAtomsData.create(str(path), distance_unit="Ang", property_unit_dict=units)
    found = [*frames(count)]
    labels = [{"energy": [structure.energy], "forces": structure.forces} for structure in found]
    data.add_systems(labels, [structure.atoms() for structure in found])


def write_database(path: Path, count: int) -> None:
    """Write an ASE database."""
    with ase.db.connect(path, append=False) as database:
        for structure in frames(count):
            database.write(as_atoms(structure))


Loader = tuple[Callable[[Path, int, int], Batches], str, Callable[[Path, int], None]]
LOADERS: dict[str, Loader] = {
    "piwsl, read on the way": (ours, "ours.h5", write_ours),
    "piwsl, in memory": (ours_in_memory, "ours.h5", write_ours),
    "schnetpack": (schnetpack, "schnetpack.db", write_schnetpack),
    "graph-pes": (graph_pes, "ase.db", write_database),
}


def cost(name: str, path: Path, loaders: int, batches: int) -> dict[str, float]:
    """Return CPU seconds to the first batch, and of each further one, and by how many MB this process grew."""
    before, started = memory_mb(), time.process_time()
    made = LOADERS[name][0](path, loaders, batches)
    next(made)
    first = time.process_time()
    count = sum(1 for _ in made)
    return {
        "first": first - started,
        "each": (time.process_time() - first) / count,
        "grew": memory_mb() - before,
    }


def waiting(name: str, path: Path, loaders: int, batches: int) -> dict[str, float]:
    """Return which share of the time of steps, after the first, passes until their batch is there."""
    structures = [*frames(BATCH)]
    potential = build_potential(PaiNN(architecture="painn"), structures)
    made = LOADERS[name][0](path, loaders, batches)
    waited = learned = 0.0
    for number in range(batches):
        started = time.perf_counter()
        batch = next(made)
        there = time.perf_counter()
        _step(potential, batch)
        if number:
            waited, learned = waited + there - started, learned + time.perf_counter() - there
    return {"share": waited / (waited + learned), "step": learned / (batches - 1)}


def _step(potential: Potential, batch: Any) -> None:
    energy, forces = potential.energy_and_forces(batch, create_graph=True)
    (energy.square().mean() + forces.square().mean()).backward()


def alone(what: str, *arguments: Any) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--one", what, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


STRUCTURES = 32
SHARE_OF_MOLECULES = 0.8
# Å, between atoms of a grid.
SPACING, SPACING_OF_CELLS = 1.3, 2.4


def mixed_frames(count: int) -> Iterator[Structure]:
    """Yield molecules and periodic cells, of atoms on jittered grids with random labels."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        if rng.random() < SHARE_OF_MOLECULES:
            shape, spacing, atoms = np.array([3, 3, 4]), SPACING, int(rng.integers(3, 31))
        else:
            shape, spacing = rng.integers(2, 5, 3) + [0, 0, rng.integers(0, 3)], SPACING_OF_CELLS
            atoms = int(shape.prod())
        grid = spacing * np.indices(shape).reshape(3, -1).T[:atoms]
        periodic = spacing == SPACING_OF_CELLS
        labels = Labels(energy=float(rng.normal()), forces=rng.normal(size=(atoms, 3)))
        yield Structure(
            rng.choice(ELEMENTS, atoms), grid + 0.1 * rng.normal(size=grid.shape),
            np.diag(spacing * shape) * float(periodic), np.full(3, periodic), {REFERENCE: labels},
        )  # fmt: skip


def evenness(path: Path, count: int) -> None:
    """Print how large steps of mixed frames are, by what bounds them, and what their batches take."""
    if not path.exists():
        write_structures(path, {TRAINING: mixed_frames(count)})
    found = _stored(path)
    for kept in path.parent.glob(f"{path.stem}.edges-*"):
        kept.unlink()
    started = time.process_time()
    edges = found.edges(CUTOFF)
    counting = time.process_time() - started
    atoms = found.sizes()
    print(f"{1e6 * counting / count:.0f} CPU seconds to count a million frames; {edges.min()} to {edges.max()} edges")

    def by(sizes: np.ndarray) -> AnyOrder:
        return OrderBySize(sizes, (round(STRUCTURES * float(sizes.mean())), 0), seed=0)

    orders = {"batch_size": Order(count, STRUCTURES, seed=0), "max_atoms": by(atoms), "max_edges": by(edges)}
    print("| steps by | structures | atoms, max/mean | edges, max/mean | of 2 processes | of 4 | 1000 frames (CPU s) |")
    print("|---|---|---|---|---|---|---|")
    for name, order in orders.items():
        steps = _steps_of_epoch(order, count)
        structures = [len(order.frames(step)) for step in steps]
        spreads = [_max_over_mean([sizes[order.frames(step)].sum() for step in steps]) for sizes in (atoms, edges)]
        shares = [_fullest_share(order, steps, edges, ranks) for ranks in (2, 4)]
        batches = StepBatches(found.graphs(CUTOFF, torch.float32), order, steps)
        started = time.process_time()
        made = sum(batch.structures for batch in batches)
        seconds = 1000 * (time.process_time() - started) / made
        print(
            f"| {name} | {min(structures)} to {max(structures)} | {spreads[0]:.2f} | {spreads[1]:.2f} | "
            f"{shares[0]:.2f} | {shares[1]:.2f} | {seconds:.2f} |",
            flush=True,
        )


def _steps_of_epoch(order: AnyOrder, count: int) -> range:
    """Return the steps in which all of so many frames are learned from once, whole steps alone."""
    step = learned = 0
    while learned + len(order.frames(step)) <= count:
        learned += len(order.frames(step))
        step += 1
    return range(step)


def _fullest_share(order: AnyOrder, steps: range, sizes: np.ndarray, ranks: int) -> float:
    """Return the edges of the fullest of several processes over their mean, averaged over steps."""
    found = []
    for step in steps:
        frames = order.frames(step)
        found.append(
            _max_over_mean([sizes[frames[order.places(step, rank, ranks).own]].sum() for rank in range(ranks)])
        )
    return float(np.mean(found))


def _max_over_mean(values: list[float]) -> float:
    return float(np.max(values) / np.mean(values))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where files are written; those that are there are read")
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--mixed", action="store_true", help="how evenly steps of mixed frames are filled")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.one:
        what, name, path, loaders, batches = args.one
        measure = {"cost": cost, "waiting": waiting}[what]
        print(json.dumps(measure(name, Path(path), int(loaders), int(batches))))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.mixed:
        evenness(args.folder / f"{args.frames}-mixed.h5", args.frames)
        return
    print("| loader | to the first batch (CPU s) | a batch (CPU ms) | grew (MB) | steps wait | with a process beside |")
    print("|---|---|---|---|---|---|")
    for name, (_, file, write) in LOADERS.items():
        path = args.folder / f"{args.frames}-{file}"
        if not path.exists():
            write(path, args.frames)
        found = alone("cost", name, path, 0, args.batches)
        own = [alone("waiting", name, path, loaders, args.steps)["share"] for loaders in (0, 1) if "piwsl" in name]
        waits = " | ".join(f"{share:.1%}" for share in own) or " | "
        print(
            f"| {name} | {found['first']:.1f} | {1000 * found['each']:.1f} | {found['grew']:.0f} | {waits} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
