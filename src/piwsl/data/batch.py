"""Graphs of structures and batches of them: neighbour lists once a structure, collation by concatenation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from ase.geometry import minkowski_reduce
from torch import Tensor
from vesin import NeighborList

from piwsl.errors import PiwslError
from piwsl.structures.geometry import flatness, volume
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import Structure

Item = TypeVar("Item")
# Å, of coordinates: atoms that fly apart get there.
FARTHEST_SEARCHED = 1e6
# Å: nearer, the direction from one atom to the other is rounding.
NEAREST = 1e-4
# Å, of lattice vectors.
LONGEST = 1e4
# Volume over that of a box of the same lengths: below the first a lattice has shorter vectors than those given, below
# the second, none in some direction.
SKEWED, FLAT = 0.1, 1e-8
# Directed; of dense matter and a cutoff of 6 Å, 300,000 atoms.
MOST_EDGES = 1e8
# Over those of a cube as wide as the narrowest part: with more, vesin takes minutes, and with 1e5 it dies.
MOST_BOXES = 3000
# Of structures that are predicted side by side.
ATOMS_PER_BATCH = 2000


@dataclass(frozen=True)
class BatchLabels:
    """What one level says of structures; NaN where it says nothing."""

    energy: Tensor
    """(M,), eV, float64."""
    forces: Tensor
    """(N, 3), eV/Å."""
    stress: Tensor
    """(M, 3, 3), eV/Å³."""
    weight: Tensor
    """(M,), float64: how much errors of these labels count."""

    @classmethod
    def absent(cls, atoms: int, structures: int, like: Tensor) -> BatchLabels:
        """Return labels of which none is there; in the dtype and on the device of a tensor."""
        return cls(
            energy=like.new_full((structures,), torch.nan, dtype=torch.float64),
            forces=like.new_full((atoms, 3), torch.nan),
            stress=like.new_full((structures, 3, 3), torch.nan),
            weight=like.new_ones(structures, dtype=torch.float64),
        )


@dataclass(frozen=True)
class Batch:
    """Structures as one disconnected graph; N atoms, E directed edges, M structures."""

    positions: Tensor
    """(N, 3), Å, from the mean position of the structure: of no meaning but in differences."""
    atomic_numbers: Tensor
    """(N,)."""
    edge_index: Tensor
    """(2, E): atom that receives, atom that sends."""
    edge_shift: Tensor
    """(E, 3), Å: added to the sender's position to reach its periodic image."""
    structure_index: Tensor
    """(N,) which structure an atom belongs to."""
    n_atoms: Tensor
    """(M,) number of atoms of each structure, in the dtype of the positions; 0: padding, which enters no loss."""
    cell: Tensor
    """(M, 3, 3), Å; rows are lattice vectors."""
    pbc: Tensor
    """(M, 3), bool."""
    labels: Mapping[str, BatchLabels]
    """By name of the level; the reference level is always there."""

    @property
    def structures(self) -> int:
        """M."""
        return len(self.n_atoms)

    @property
    def energy(self) -> Tensor:
        """Labels of the reference level, (M,), eV, float64; NaN where there is none."""
        return self.labels[REFERENCE].energy

    @property
    def forces(self) -> Tensor:
        """Labels of the reference level, (N, 3), eV/Å; NaN where there is none."""
        return self.labels[REFERENCE].forces

    @property
    def stress(self) -> Tensor:
        """Labels of the reference level, (M, 3, 3), eV/Å³; NaN where there is none."""
        return self.labels[REFERENCE].stress

    def at_level(self, level: str) -> BatchLabels:
        """Return the labels of a level; of one that says nothing, absent ones."""
        return self.labels.get(level) or BatchLabels.absent(len(self.atomic_numbers), self.structures, self.positions)

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in an order that the names of the levels alone decide."""
        own = [value for value in vars(self).values() if isinstance(value, Tensor)]
        return own + [value for _, labels in sorted(self.labels.items()) for value in vars(labels).values()]

    def with_tensors(self, tensors: Iterable[Tensor]) -> Batch:
        """Return the batch with other tensors, in the order of `tensors`."""
        values = iter(tensors)
        own: dict[str, Any] = {key: next(values) for key, value in vars(self).items() if isinstance(value, Tensor)}
        labels = {
            level: BatchLabels(**{key: next(values) for key in vars(labels)})
            for level, labels in sorted(self.labels.items())
        }
        return replace(self, **own, labels=labels)

    def labelled(self, level: str = REFERENCE, **labels: Tensor) -> Batch:
        """Return the batch with other labels of a level.

        Args:
            level: its name.
            labels: `energy`, `forces` or `stress`; what is not given stays.
        """
        return replace(self, labels={**self.labels, level: replace(self.at_level(level), **labels)})

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        if self.positions.device == device:
            return self
        return self.with_tensors(value.to(device) for value in self.tensors())

    def in_dtype(self, dtype: torch.dtype) -> Batch:
        """Return the batch in another precision; energies stay in float64."""
        labels = {
            level: replace(labels, forces=labels.forces.to(dtype), stress=labels.stress.to(dtype))
            for level, labels in self.labels.items()
        }
        own: dict[str, Any] = {
            name: getattr(self, name).to(dtype) for name in ("positions", "edge_shift", "n_atoms", "cell")
        }
        return replace(self, **own, labels=labels)

    def at(self, positions: Tensor) -> Batch:
        """Return the batch with other positions (N, 3) and the same neighbour list."""
        return replace(self, positions=positions)

    def strained(self, strain: Tensor) -> Batch:
        """Return the batch with each structure, its periodic images included, deformed by its strain.

        Args:
            strain: (M, 3, 3); positions, shifts and lattice vectors r become r + strain r.
        """
        of_atoms = strain[self.structure_index]  # (N, 3, 3)
        of_edges = of_atoms[self.edge_index[0]]
        return replace(
            self,
            positions=self.positions + torch.einsum("nij,nj->ni", of_atoms, self.positions),
            edge_shift=self.edge_shift + torch.einsum("eij,ej->ei", of_edges, self.edge_shift),
            cell=self.cell + torch.einsum("mij,mkj->mki", strain, self.cell),
        )

    def periodic(self) -> Tensor:
        """Return which structures (M,) are periodic in three directions: only those have a volume, and a stress."""
        return self.pbc.all(dim=1)

    def first(self, count: int) -> Batch:
        """Return the first structures of a batch that is not padded."""
        if count == self.structures:
            return self
        atoms = int(self.n_atoms[:count].sum())
        edges = self.edge_index[0] < atoms
        return Batch(
            positions=self.positions[:atoms],
            atomic_numbers=self.atomic_numbers[:atoms],
            edge_index=self.edge_index[:, edges],
            edge_shift=self.edge_shift[edges],
            structure_index=self.structure_index[:atoms],
            n_atoms=self.n_atoms[:count],
            cell=self.cell[:count],
            pbc=self.pbc[:count],
            labels={
                level: BatchLabels(
                    labels.energy[:count], labels.forces[:atoms], labels.stress[:count], labels.weight[:count]
                )
                for level, labels in self.labels.items()
            },
        )


class ImpossibleGeometry(PiwslError):
    """Positions or a cell that no neighbour list can be made of."""


def neighbour_list(structure: Structure, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Find all pairs within a cutoff, each in both directions.

    Args:
        structure: periodic or not, in each direction.
        cutoff: Å.

    Returns:
        edge_index (2, E) of receiver and sender; edge_shift (E, 3) in Å.

    Raises:
        ImpossibleGeometry: what is not finite, far from everything, flat, of atoms on one another, or has more
            neighbours than any matter.
    """
    cell, finder = _searchable_cell(structure, cutoff), _finder(cutoff, sorted_pairs=True)
    receivers, senders, images, distances = finder.compute(structure.positions, cell, structure.pbc.tolist(), "ijSd")
    if distances.min(initial=cutoff) < NEAREST:
        nearest = distances.argmin()
        raise ImpossibleGeometry(f"atoms {receivers[nearest]} and {senders[nearest]} lie on one another")
    return np.stack([receivers, senders]).astype(np.int64), images @ cell


def count_neighbours(structure: Structure, cutoff: float) -> int:
    """Return how many pairs `neighbour_list` finds, E, in less time; atoms on one another are not refused.

    Arguments, and what else it raises, as of that.
    """
    cell, finder = _searchable_cell(structure, cutoff), _finder(cutoff, sorted_pairs=False)
    (receivers,) = finder.compute(structure.positions, cell, structure.pbc.tolist(), "i")
    return len(receivers)


def _finder(cutoff: float, sorted_pairs: bool) -> NeighborList:
    return NeighborList(cutoff=cutoff, full_list=True, sorted=sorted_pairs, n_threads=1)


def _searchable_cell(structure: Structure, cutoff: float) -> np.ndarray:
    """Return a cell (3, 3) of the same lattice that can be searched for neighbours in time and memory that are there.

    vesin divides the cell into boxes as wide as the cutoff, and looks through the images that the cutoff reaches: it
    dies of cells that are flat, not finite or much longer than wide, and goes on for ever in those much narrower than
    the cutoff.
    """
    pbc, positions = structure.pbc, structure.positions
    lattice = structure.cell[pbc]
    if not (np.abs(positions) <= FARTHEST_SEARCHED).all():  # false for NaN, too
        raise ImpossibleGeometry(f"positions are not finite, or farther than {FARTHEST_SEARCHED:g} Å from the origin")
    if not (np.abs(lattice) <= LONGEST).all():
        raise ImpossibleGeometry(f"the cell is not finite, or longer than {LONGEST:g} Å")
    if not pbc.any():
        return structure.cell
    if flatness(lattice) < FLAT:
        raise ImpossibleGeometry(f"the cell has no volume; its periodic vectors are {lattice.tolist()}")
    if flatness(lattice) < SKEWED:
        full = np.where(pbc[:, None], structure.cell, 0.0)
        lattice = minkowski_reduce(full, pbc=pbc)[0][pbc]
    # Those in a cube of twice the cutoff, at the mean density.
    neighbours = len(positions) * (2 * cutoff) ** len(lattice) / volume(lattice)
    if neighbours * len(positions) > MOST_EDGES:
        raise ImpossibleGeometry(
            f"each atom would have some {neighbours:.0e} neighbours within {cutoff:g} Å; is the cell in Å?"
        )
    cell = np.empty((3, 3))
    cell[pbc] = lattice
    cell[~pbc] = _open_vectors(lattice, positions, cutoff)
    _check_shape(cell, cutoff)
    return cell


def _check_shape(cell: np.ndarray, cutoff: float) -> None:
    """Refuse a cell that is divided into far more boxes along one vector than along another."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    boxes = np.maximum(np.floor(heights / cutoff), 1.0)
    if boxes.prod() > MOST_BOXES * boxes.min() ** 3:
        raise ImpossibleGeometry(
            f"the cell, with all atoms in it, is {heights.max():.3g} Å long and {heights.min():.3g} Å wide"
        )


def _open_vectors(lattice: np.ndarray, positions: np.ndarray, cutoff: float) -> np.ndarray:
    """Return vectors normal to a lattice (D, 3) and to each other, (3 - D, 3), around all positions and the cutoff."""
    normals = np.linalg.svd(lattice)[2][len(lattice) :]
    return normals * (np.ptp(positions @ normals.T, axis=0) + cutoff)[:, None]


def graphs(structures: Sequence[Structure], cutoff: float, dtype: torch.dtype, frames: Iterable[int]) -> list[Batch]:
    """Make a batch of each structure; arguments, and what it raises, as of `graph_of_frame`."""
    return [
        graph_of_frame(structure, cutoff, dtype, frame) for structure, frame in zip(structures, frames, strict=True)
    ]


def graph_of_frame(structure: Structure, cutoff: float, dtype: torch.dtype, frame: int) -> Batch:
    """Make a batch of one structure; arguments as of `graph`.

    Args:
        structure: geometry and labels.
        cutoff: Å.
        dtype: of positions and forces.
        frame: what to call the structure in errors.

    Raises:
        ImpossibleGeometry: names the frame.
    """
    try:
        return graph(structure, cutoff, dtype)
    except ImpossibleGeometry as error:
        raise ImpossibleGeometry(f"frame {frame}: {error}") from None


def graph(
    structure: Structure,
    cutoff: float,
    dtype: torch.dtype,
    neighbours: Callable[[Structure, float], tuple[np.ndarray, np.ndarray]] = neighbour_list,
) -> Batch:
    """Make a batch of one structure, about its mean position: far from the origin, float32 has no digits for bonds.

    Args:
        structure: geometry and labels.
        cutoff: Å, of the neighbour list; a skin for displaced copies is the caller's to add.
        dtype: of positions and forces.
        neighbours: what finds the neighbours.
    """
    edge_index, edge_shift = neighbours(structure, cutoff)
    count = len(structure.numbers)
    positions = torch.tensor(structure.positions - structure.positions.mean(axis=0), dtype=dtype)
    levels = dict.fromkeys([REFERENCE, *structure.labels])
    return Batch(
        positions=positions,
        atomic_numbers=torch.tensor(structure.numbers),
        edge_index=torch.tensor(edge_index),
        edge_shift=torch.tensor(edge_shift, dtype=dtype),
        structure_index=torch.zeros(count, dtype=torch.int64),
        n_atoms=torch.tensor([count], dtype=dtype),
        cell=torch.tensor(structure.cell[None], dtype=dtype),
        pbc=torch.tensor(structure.pbc[None]),
        labels={level: _tensors_of(structure.at_level(level), positions) for level in levels},
    )


def _tensors_of(labels: Labels, positions: Tensor) -> BatchLabels:
    """Return the labels of one structure, whose positions are (N, 3)."""
    absent = BatchLabels.absent(len(positions), 1, positions)
    return BatchLabels(
        energy=absent.energy if labels.energy is None else torch.tensor([labels.energy], dtype=torch.float64),
        forces=absent.forces if labels.forces is None else torch.tensor(labels.forces, dtype=positions.dtype),
        stress=absent.stress if labels.stress is None else torch.tensor(labels.stress[None], dtype=positions.dtype),
        weight=torch.tensor([labels.weight], dtype=torch.float64),
    )


def cut_by_atoms(items: Iterable[Item], atoms: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Cut what has atoms into runs of `ATOMS_PER_BATCH` at most; what has more stands alone."""
    run: list[Item] = []
    together = 0
    for item in items:
        if run and together + atoms(item) > ATOMS_PER_BATCH:
            yield run
            run, together = [], 0
        run.append(item)
        together += atoms(item)
    if run:
        yield run


def collate(batches: list[Batch]) -> Batch:
    """Join batches to one; sizes, cells and labels mix freely."""
    atom_offsets = np.cumsum([0] + [len(batch.atomic_numbers) for batch in batches])
    structure_offsets = np.cumsum([0] + [batch.structures for batch in batches])
    return Batch(
        positions=torch.cat([batch.positions for batch in batches]),
        atomic_numbers=torch.cat([batch.atomic_numbers for batch in batches]),
        edge_index=torch.cat(
            [batch.edge_index + int(start) for batch, start in zip(batches, atom_offsets, strict=False)],
            dim=1,
        ),
        edge_shift=torch.cat([batch.edge_shift for batch in batches]),
        structure_index=torch.cat(
            [batch.structure_index + int(start) for batch, start in zip(batches, structure_offsets, strict=False)]
        ),
        n_atoms=torch.cat([batch.n_atoms for batch in batches]),
        cell=torch.cat([batch.cell for batch in batches]),
        pbc=torch.cat([batch.pbc for batch in batches]),
        labels={level: _joined(level, batches) for level in dict.fromkeys(chain(*(batch.labels for batch in batches)))},
    )


def _joined(level: str, batches: list[Batch]) -> BatchLabels:
    parts = [batch.at_level(level) for batch in batches]
    return BatchLabels(
        energy=torch.cat([part.energy for part in parts]),
        forces=torch.cat([part.forces for part in parts]),
        stress=torch.cat([part.stress for part in parts]),
        weight=torch.cat([part.weight for part in parts]),
    )


def pad(batch: Batch, atoms: int, edges: int, structure: bool) -> Batch:
    """Fill a batch up to a size without a change of any energy, force or loss of its structures.

    Args:
        batch: with at most that many atoms and edges.
        atoms: N afterwards; the new ones are alone in a structure of their own, which no loss looks at.
        edges: E afterwards; the new ones are far longer than any cutoff.
        structure: whether to add that structure, even if no atom is missing.
    """
    missing_atoms, missing_edges = atoms - len(batch.atomic_numbers), edges - batch.edge_index.shape[1]
    far = batch.edge_shift.new_tensor([1e3, 0.0, 0.0])
    filled = replace(
        batch,
        edge_index=torch.nn.functional.pad(batch.edge_index, (0, missing_edges)),
        edge_shift=torch.cat([batch.edge_shift, far.expand(missing_edges, 3)]),
    )
    if not structure:
        return filled

    def lengthened(values: Tensor, fill: float) -> Tensor:
        return torch.cat([values, values.new_full((missing_atoms, *values.shape[1:]), fill)])

    def with_one_more(values: Tensor, value: float) -> Tensor:
        return torch.cat([values, values.new_full((1, *values.shape[1:]), value)])

    return replace(
        filled,
        positions=lengthened(batch.positions, 0.0),
        atomic_numbers=lengthened(batch.atomic_numbers, int(batch.atomic_numbers[0])),
        structure_index=lengthened(batch.structure_index, batch.structures),
        n_atoms=with_one_more(batch.n_atoms, 0.0),
        cell=with_one_more(batch.cell, 0.0),
        pbc=with_one_more(batch.pbc, False),
        labels={
            level: BatchLabels(
                energy=with_one_more(labels.energy, torch.nan),
                forces=lengthened(labels.forces, torch.nan),
                stress=with_one_more(labels.stress, torch.nan),
                weight=with_one_more(labels.weight, 1.0),
            )
            for level, labels in batch.labels.items()
        },
    )


def sum_per_structure(values: Tensor, batch: Batch) -> Tensor:
    """Sum (N,) values of atoms to (M,) values of structures."""
    return values.new_zeros(batch.structures).index_add(0, batch.structure_index, values)


def stress_of(derivative: Tensor, batch: Batch) -> Tensor:
    """Return the stress (M, 3, 3), eV/Å³, of energies whose derivatives by strain are (M, 3, 3), eV.

    NaN of structures that are not periodic in three directions.
    """
    periodic = batch.periodic()
    volumes = torch.linalg.det(batch.cell).abs()
    # Divided by a number everywhere, so that a later derivative is one.
    divided = derivative / torch.where(periodic, volumes, torch.ones_like(volumes))[:, None, None]
    return torch.where(periodic[:, None, None], divided, torch.full_like(divided, torch.nan))
