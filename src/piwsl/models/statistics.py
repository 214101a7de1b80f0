"""What a potential takes from its training frames in closed form: atomic references, scale, number of neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from piwsl.config import Architecture
from piwsl.data.batch import Batch, collate, cut_by_atoms, graph, neighbour_list, sum_per_structure
from piwsl.errors import PiwslError
from piwsl.models.geometry import MAX_ATOMIC_NUMBER
from piwsl.models.potential import Potential
from piwsl.models.probe import check_locality, check_network, fragments
from piwsl.structures.compositions import fit_atomic_energies
from piwsl.structures.structure import Structure

# So many structures know the constant of a potential's energy to a fourteenth of its scatter, at little cost.
REFIT_STRUCTURES = 200
# More of a large data set say no more about what has a few parameters.
MOST_FITTED = 10_000
STRUCTURES_PER_BATCH = 64
# Of the largest singular value of compositions, which are whole numbers.
LEAST_SINGULAR = 1e-9
# eV, or eV/Å: what differs by less does not differ.
LEAST_SCALE = 1e-6


def reference_energies(structures: Sequence[Structure]) -> dict[int, float]:
    """Fit one energy an element to the energies of structures.

    Args:
        structures: with energies, eV.

    Returns:
        Atomic number to eV.
    """
    elements, counts = compositions(structures)
    energies = np.array([structure.energy for structure in structures])
    return dict(zip(elements, fit_atomic_energies(counts, energies).tolist(), strict=True))


def undetermined_elements(structures: Sequence[Structure]) -> list[int]:
    """Return the atomic numbers whose energy a fit to compositions leaves open; none where it tells all elements apart.

    Args:
        structures: one at least.
    """
    elements, counts = compositions(structures)
    _, singular, directions = np.linalg.svd(np.unique(counts, axis=0), full_matrices=True)
    rank = int((singular > LEAST_SINGULAR * singular[0]).sum())
    shares = np.abs(directions[rank:]).max(axis=0, initial=0.0)  # of the elements in what no composition sees
    return [number for number, share in zip(elements, shares, strict=True) if share > LEAST_SINGULAR]


def compositions(structures: Sequence[Structure]) -> tuple[list[int], NDArray[np.float64]]:
    """Return the atomic numbers that occur, and how many atoms of each the structures have, (M, K)."""
    elements = _elements(structures)
    counts = [[(structure.numbers == number).sum() for number in elements] for structure in structures]
    return elements, np.array(counts, dtype=np.float64)


def stated_references(
    config: Architecture, structures: Sequence[Structure], free_atoms: Mapping[int, float]
) -> dict[int, float] | None:
    """Return the references that are not fitted element by element; None where they are.

    Args:
        config: says which: energies of free atoms, or numbers of its own.
        structures: whose elements need one.
        free_atoms: energies of free atoms at the level of the labels, atomic number to eV.

    Returns:
        Atomic number to eV, of the elements that occur.

    Raises:
        PiwslError: an element has none.
    """
    if config.atomic_references == "fitted":
        return None
    elements = _elements(structures)
    known = dict(free_atoms)
    if isinstance(config.atomic_references, dict):
        known = {atomic_numbers[symbol]: energy for symbol, energy in config.atomic_references.items()}
    problem = config.references_problem(
        [chemical_symbols[number] for number in elements], [chemical_symbols[number] for number in free_atoms]
    )
    if problem is not None:
        raise PiwslError(problem)
    return {number: known[number] for number in elements}


def initial_references(
    config: Architecture, structures: Sequence[Structure], free_atoms: Mapping[int, float]
) -> dict[int, float]:
    """Return references, atomic number to eV, before there is a network; arguments as of `stated_references`."""
    stated = stated_references(config, structures, free_atoms)
    return reference_energies(structures) if stated is None else _with_shift(stated, structures)


def _elements(structures: Sequence[Structure]) -> list[int]:
    return sorted({int(number) for structure in structures for number in structure.numbers})


def _with_shift(references: dict[int, float], structures: Sequence[Structure]) -> dict[int, float]:
    """Return references, all moved by the one energy an atom that fits the energies of structures best."""
    atoms = np.array([[float(len(structure.numbers))] for structure in structures])
    rest = [structure.energy - sum(references[int(number)] for number in structure.numbers) for structure in structures]
    (shift,) = fit_atomic_energies(atoms, np.array(rest))
    return {number: energy + shift for number, energy in references.items()}


@dataclass(frozen=True)
class Collated(Iterable[Batch]):
    """Graphs of single structures as batches that fit in memory, made as they are gone through, as often as that is."""

    graphs: Sequence[Batch]

    def __bool__(self) -> bool:
        return bool(len(self.graphs))

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.graphs), STRUCTURES_PER_BATCH):
            together = self.graphs[start : start + STRUCTURES_PER_BATCH]
            yield from map(collate, cut_by_atoms(together, lambda graph: len(graph.atomic_numbers)))


def batches_of(graphs: Sequence[Batch]) -> Iterator[Batch]:
    """Collate graphs of single structures to batches that fit in memory."""
    return iter(Collated(graphs))


def refit_references(potential: Potential, batches: Iterable[Batch]) -> None:
    """Fit the atomic references anew, to what the rest of the potential leaves of labelled energies.

    A constant in the energy has no force: beside forces that weigh more, gradients reach it slowly or never. It is
    linear in the references, so that it costs one least-squares fit.

    References that were stated (free atoms, numbers of the config) keep their differences, and with them what they say
    of other compositions: one energy an atom, the same for all elements, is added to them. It is well defined by a
    single molecule, too, where a fit by element would spread it over the elements as the smallest norm has it.

    Args:
        potential: its references are changed, and nothing else.
        batches: structures with energies; absent ones (NaN) and padding are passed over.
    """
    counts, residuals = [], []
    device = potential.references.energies.device
    with torch.no_grad():
        for batch in (batch.to(device) for batch in batches):
            labelled = (~batch.energy.isnan() & (batch.n_atoms > 0)).cpu()
            residuals.append((batch.energy - potential.energy(batch)).cpu()[labelled])
            counts.append(element_counts(batch).cpu()[labelled])
    columns = torch.cat(counts)
    moved = columns.sum(dim=0) > 0
    if potential.config.atomic_references == "fitted":
        columns = columns[:, moved]
    else:  # one column for all, those included that these structures happen to lack
        columns, moved = columns.sum(dim=1, keepdim=True), torch.ones_like(moved)
    shifts = fit_atomic_energies(columns.numpy(), torch.cat(residuals).numpy())
    potential.references.energies[moved] += torch.as_tensor(shifts).to(device)


def element_counts(batch: Batch) -> Tensor:
    """Return how many atoms of each element the structures have, (M, 119), float64, by atomic number."""
    counts = torch.zeros(
        batch.structures, MAX_ATOMIC_NUMBER + 1, dtype=torch.float64, device=batch.atomic_numbers.device
    )
    ones = torch.ones_like(batch.atomic_numbers, dtype=torch.float64)
    return counts.index_put((batch.structure_index, batch.atomic_numbers), ones, accumulate=True)


def mean_neighbours(structures: Sequence[Structure], cutoff: float) -> float:
    """Return how many neighbours within a cutoff (Å) an atom has on average; 1 where all are alone."""
    edges = sum(neighbour_list(structure, cutoff)[0].shape[1] for structure in structures)
    atoms = sum(len(structure.numbers) for structure in structures)
    return edges / atoms if edges else 1.0


def limit_untrained_spread(potential: Potential, batches: Iterable[Batch]) -> None:
    """Divide the scale of an untrained potential so that its energies spread no more than those that it shall learn.

    Features of a molecule of two or three atoms average over nothing, and some initial weights make them large:
    training would spend its steps on unlearning them. After Mishkin, Matas, "All you need is a good init", ICLR 2016,
    who normalise each layer by the spread of its outputs on data.

    Args:
        potential: its scale is changed, and nothing else.
        batches: structures; compositions take away what references will.
    """
    energies, counts = [], []
    with torch.no_grad():
        for batch in batches:
            present = batch.n_atoms > 0
            references = sum_per_structure(potential.references.energies[batch.atomic_numbers], batch)
            energies.append((potential.energy(batch) - references)[present])
            counts.append(element_counts(batch)[present])
    columns, values = torch.cat(counts).numpy(), torch.cat(energies).numpy()
    rest = values - columns @ fit_atomic_energies(columns, values)
    spread = float(np.sqrt(np.mean(np.square(rest) / columns.sum(axis=1))))
    scale = potential.learned.scale
    scale /= max(1.0, spread / float(scale))


def energy_spread(structures: Sequence[Structure], references: Mapping[int, float]) -> float:
    """Return the root mean square of what references leave of energies, eV, per square root of atoms."""
    rest = [
        (structure.energy - sum(references[int(number)] for number in structure.numbers))
        / np.sqrt(len(structure.numbers))
        for structure in structures
    ]
    return float(np.sqrt(np.mean(np.square(rest))))


def _are_without_forces(structures: Sequence[Structure]) -> bool:
    """Whether forces are known and none, so that energies that do not differ leave nothing to learn."""
    forces = [structure.forces for structure in structures if structure.forces is not None]
    return bool(forces) and max(float(np.abs(each).max()) for each in forces) < LEAST_SCALE


def build_potential(
    config: Architecture,
    structures: Sequence[Structure],
    free_atoms: Mapping[int, float] | None = None,
    least_scale: float = 0.0,
    neighbours: float | None = None,
    moved: Sequence[Structure] = (),
) -> Potential:
    """Build an untrained potential whose references and scale come from training frames.

    The scale is the root mean square of what the references leave of the energy, per square root of atoms:
    independent atomic contributions of unit variance then sum to the spread that the data have. The references are
    then fitted once more, to take away what the untrained network adds to the energies.

    Args:
        config: the architecture.
        structures: the training frames, with energies.
        free_atoms: energies of free atoms, atomic number to eV, for the config that asks for them.
        least_scale: eV; what the energies may fall short of where they are no measure of what is to be learned.
        neighbours: average number of neighbours of an atom within the cutoff; by default in the training frames.
        moved: training frames beside these that have forces alone: where energies do not differ, there is nothing to
            learn if no frame has a force.

    Raises:
        PiwslError: an element has no stated reference, or the network does not give what it must.
    """
    references = initial_references(config, structures, free_atoms or {})
    scale = max(energy_spread(structures, references), least_scale)
    if neighbours is None:
        neighbours = mean_neighbours(structures, config.cutoff)
    if scale < LEAST_SCALE:
        scale = LEAST_SCALE if _are_without_forces([*structures, *moved]) else 1.0
    potential = Potential(config, scale, references, neighbours)
    network, elements = potential.learned.network, sorted(references)
    check_network(config, network, potential.dtype, fragments(elements, config.cutoff))
    check_locality(config, network, potential.dtype, elements)
    graphs = [graph(structure, config.cutoff, potential.dtype) for structure in structures[:REFIT_STRUCTURES]]
    limit_untrained_spread(potential, batches_of(graphs))
    refit_references(potential, batches_of(graphs))
    return potential
