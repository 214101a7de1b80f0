"""Graphs of structures and batches of them: neighbour lists once a structure, collation by concatenation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase.geometry import minkowski_reduce
from torch import Tensor
from vesin import NeighborList

from piwsl.errors import PiwslError
from piwsl.structures.geometry import flatness, volume
from piwsl.structures.structure import Structure

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


@dataclass(frozen=True)
class Batch:
    """Structures as one disconnected graph; N atoms, E directed edges, M structures."""

    positions: Tensor
    """(N, 3), Å, from the mean position of the structure: of no meaning but in differences."""
    numbers: Tensor
    """(N,) atomic numbers."""
    edge_index: Tensor
    """(2, E): atom that receives, atom that sends."""
    edge_shift: Tensor
    """(E, 3), Å: added to the sender's position to reach its periodic image."""
    structure: Tensor
    """(N,) which structure an atom belongs to."""
    atoms: Tensor
    """(M,) number of atoms of each structure, in the dtype of the positions; 0: padding, which enters no loss."""
    energy: Tensor
    """(M,), eV, float64; NaN where there is no label."""
    forces: Tensor
    """(N, 3), eV/Å; NaN where there is no label."""
    has_forces: bool
    """Whether any structure has force labels."""
    weak_forces: Tensor
    """(N, 3), eV/Å, of a cheaper level; NaN where there is no label."""
    has_weak_forces: bool
    """Whether any structure has labels of a cheaper level."""

    @property
    def structures(self) -> int:
        """M."""
        return len(self.atoms)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        moved: dict[str, Any] = {
            key: value.to(device) for key, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def in_dtype(self, dtype: torch.dtype) -> Batch:
        """Return the batch with positions, shifts and forces in another precision; energies stay in float64."""
        names = ("positions", "edge_shift", "atoms", "forces", "weak_forces")
        converted: dict[str, Any] = {name: getattr(self, name).to(dtype) for name in names}
        return replace(self, **converted)

    def at(self, positions: Tensor) -> Batch:
        """Return the batch with other positions (N, 3) and the same neighbour list."""
        return replace(self, positions=positions)

    def first(self, count: int) -> Batch:
        """Return the first structures of a batch that is not padded."""
        if count == self.structures:
            return self
        atoms = int(self.atoms[:count].sum())
        edges = self.edge_index[0] < atoms
        forces, weak_forces = self.forces[:atoms], self.weak_forces[:atoms]
        return Batch(
            positions=self.positions[:atoms],
            numbers=self.numbers[:atoms],
            edge_index=self.edge_index[:, edges],
            edge_shift=self.edge_shift[edges],
            structure=self.structure[:atoms],
            atoms=self.atoms[:count],
            energy=self.energy[:count],
            forces=forces,
            has_forces=not bool(forces.isnan().all()),
            weak_forces=weak_forces,
            has_weak_forces=not bool(weak_forces.isnan().all()),
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
    cell = _searchable_cell(structure, cutoff)
    finder = NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    receivers, senders, images, distances = finder.compute(
        points=structure.positions, box=cell, periodic=structure.pbc.tolist(), quantities="ijSd"
    )
    if distances.min(initial=cutoff) < NEAREST:
        nearest = distances.argmin()
        raise ImpossibleGeometry(f"atoms {receivers[nearest]} and {senders[nearest]} lie on one another")
    return np.stack([receivers, senders]).astype(np.int64), images @ cell


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
    """Make a batch of each structure; arguments as of `graph`.

    Args:
        structures: geometries and labels.
        cutoff: Å.
        dtype: of positions and forces.
        frames: what to call the structures in errors.

    Raises:
        ImpossibleGeometry: names the frame.
    """
    made = []
    for structure, frame in zip(structures, frames, strict=True):
        try:
            made.append(graph(structure, cutoff, dtype))
        except ImpossibleGeometry as error:
            raise ImpossibleGeometry(f"frame {frame}: {error}") from None
    return made


def graph(structure: Structure, cutoff: float, dtype: torch.dtype) -> Batch:
    """Make a batch of one structure, about its mean position: far from the origin, float32 has no digits for bonds.

    Args:
        structure: geometry and labels.
        cutoff: Å, of the neighbour list; a skin for displaced copies is the caller's to add.
        dtype: of positions and forces.
    """
    edge_index, edge_shift = neighbour_list(structure, cutoff)
    count = len(structure.numbers)
    absent = np.full((count, 3), np.nan)
    forces = absent if structure.forces is None else structure.forces
    weak_forces = absent if structure.weak_forces is None else structure.weak_forces
    return Batch(
        positions=torch.tensor(structure.positions - structure.positions.mean(axis=0), dtype=dtype),
        numbers=torch.tensor(structure.numbers),
        edge_index=torch.tensor(edge_index),
        edge_shift=torch.tensor(edge_shift, dtype=dtype),
        structure=torch.zeros(count, dtype=torch.int64),
        atoms=torch.tensor([count], dtype=dtype),
        energy=torch.tensor([structure.energy], dtype=torch.float64),
        forces=torch.tensor(forces, dtype=dtype),
        has_forces=structure.forces is not None,
        weak_forces=torch.tensor(weak_forces, dtype=dtype),
        has_weak_forces=structure.weak_forces is not None,
    )


def collate(batches: list[Batch]) -> Batch:
    """Join batches to one; sizes, cells and labels mix freely."""
    atom_offsets = np.cumsum([0] + [len(batch.numbers) for batch in batches])
    structure_offsets = np.cumsum([0] + [batch.structures for batch in batches])
    return Batch(
        positions=torch.cat([batch.positions for batch in batches]),
        numbers=torch.cat([batch.numbers for batch in batches]),
        edge_index=torch.cat(
            [batch.edge_index + int(start) for batch, start in zip(batches, atom_offsets, strict=False)],
            dim=1,
        ),
        edge_shift=torch.cat([batch.edge_shift for batch in batches]),
        structure=torch.cat(
            [batch.structure + int(start) for batch, start in zip(batches, structure_offsets, strict=False)]
        ),
        atoms=torch.cat([batch.atoms for batch in batches]),
        energy=torch.cat([batch.energy for batch in batches]),
        forces=torch.cat([batch.forces for batch in batches]),
        has_forces=any(batch.has_forces for batch in batches),
        weak_forces=torch.cat([batch.weak_forces for batch in batches]),
        has_weak_forces=any(batch.has_weak_forces for batch in batches),
    )


def pad(batch: Batch, atoms: int, edges: int, structure: bool) -> Batch:
    """Fill a batch up to a size without a change of any energy, force or loss of its structures.

    Args:
        batch: with at most that many atoms and edges.
        atoms: N afterwards; the new ones are alone in a structure of their own, which no loss looks at.
        edges: E afterwards; the new ones are far longer than any cutoff.
        structure: whether to add that structure, even if no atom is missing.
    """
    missing_atoms, missing_edges = atoms - len(batch.numbers), edges - batch.edge_index.shape[1]
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
        return torch.cat([values, values.new_full((1,), value)])

    return replace(
        filled,
        positions=lengthened(batch.positions, 0.0),
        numbers=lengthened(batch.numbers, int(batch.numbers[0])),
        structure=lengthened(batch.structure, batch.structures),
        forces=lengthened(batch.forces, torch.nan),
        weak_forces=lengthened(batch.weak_forces, torch.nan),
        atoms=with_one_more(batch.atoms, 0.0),
        energy=with_one_more(batch.energy, torch.nan),
    )


def sum_per_structure(values: Tensor, batch: Batch) -> Tensor:
    """Sum (N,) values of atoms to (M,) values of structures."""
    return values.new_zeros(batch.structures).index_add(0, batch.structure, values)
