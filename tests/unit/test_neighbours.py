"""A kept neighbour list is the one that a search finds, however the atoms move."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from helpers import CONSERVATIVE

import piwsl.interfaces.neighbours as kept
from piwsl.data.batch import ImpossibleGeometry, neighbour_list
from piwsl.interfaces import PotentialCalculator
from piwsl.models import build_potential
from piwsl.structures.structure import from_atoms

CUTOFF = 4.0


@pytest.fixture
def searches(monkeypatch):
    """The cutoffs of all searches that were made."""
    made = []

    def counted(structure, cutoff):
        made.append(cutoff)
        return neighbour_list(structure, cutoff)

    monkeypatch.setattr(kept, "neighbour_list", counted)
    return made


def pairs(edges: np.ndarray, shifts: np.ndarray) -> set[tuple]:
    return {(int(i), int(j), *np.round(shift, 6) + 0.0) for (i, j), shift in zip(edges.T, shifts, strict=True)}


def assert_same(neighbours: kept.KeptNeighbours, atoms: Atoms) -> None:
    structure = from_atoms(atoms)
    found, searched = neighbours(structure, CUTOFF), neighbour_list(structure, CUTOFF)
    assert pairs(*found) == pairs(*searched)
    assert found[0].shape == searched[0].shape


@pytest.mark.parametrize(
    "atoms",
    [
        molecule("CH3CH2OH"),
        bulk("Cu", cubic=True) * (2, 1, 1),
        Atoms("Cu2", [[0, 0, 0], [0, 0, 3]], cell=[0, 0, 6], pbc=[0, 0, 1]),
    ],
    ids=["molecule", "crystal", "wire"],
)
def test_atoms_that_wander_have_the_neighbours_of_a_search(atoms, searches):
    rng, neighbours = np.random.default_rng(0), kept.KeptNeighbours()
    atoms = atoms.copy()
    for _ in range(60):
        assert_same(neighbours, atoms)
        atoms.positions += 0.03 * rng.normal(size=atoms.positions.shape)
    assert 2 <= len(searches) < 40


def test_a_list_is_kept_until_an_atom_moved_by_half_the_skin(searches):
    neighbours, atoms = kept.KeptNeighbours(skin=0.5), molecule("H2O")
    for step, expected in ((0.0, 1), (0.24, 1), (0.02, 2), (0.24, 2)):
        atoms.positions[1, 0] += step
        assert_same(neighbours, atoms)
        assert len(searches) == expected


def test_another_cell_periodicity_or_molecule_is_searched_anew(searches):
    neighbours, crystal = kept.KeptNeighbours(), bulk("Cu", cubic=True)
    open_one, strained = crystal.copy(), crystal.copy()
    open_one.pbc = False
    strained.set_cell(1.001 * crystal.cell)
    for atoms in (crystal, open_one, strained, molecule("H2O"), molecule("CH4")):
        assert_same(neighbours, atoms)
    assert len(searches) == 5


def test_atoms_that_are_nowhere_or_on_one_another_are_refused_as_by_a_search():
    neighbours, atoms = kept.KeptNeighbours(skin=1.0), Atoms("H2", [[0, 0, 0], [0, 0, 0.4]])
    assert_same(neighbours, atoms)
    for position, problem in ((0.0, "lie on one another"), (np.nan, "not finite")):
        atoms.positions[1, 2] = position
        with pytest.raises(ImpossibleGeometry, match=problem):
            neighbours(from_atoms(atoms), CUTOFF)


@pytest.mark.parametrize("name", ["painn", "schnet"])
def test_dynamics_are_the_same_with_a_kept_list(name):
    torch.manual_seed(0)
    start = bulk("Cu", cubic=True)
    start.info["REF_energy"] = -1.0
    potential = build_potential(CONSERVATIVE[name], [from_atoms(start)] * 2)
    MaxwellBoltzmannDistribution(start, temperature_K=2000, rng=np.random.default_rng(0))
    forces = []
    for skin in (0.0, 0.5):
        atoms = start.copy()
        atoms.calc = PotentialCalculator(potential)
        atoms.calc.neighbours = kept.KeptNeighbours(skin)
        VelocityVerlet(atoms, 2 * units.fs).run(30)
        forces.append(atoms.get_forces())
    np.testing.assert_allclose(forces[1], forces[0], rtol=0, atol=1e-12 * max(1.0, np.abs(forces[0]).max()))
