"""What is a geometry, and what is refused as none before anything computes with it."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from piwsl.structures.geometry import SHORTEST_DISTANCE, geometry_problem

GOOD = {
    "a molecule": molecule("CH3OH"),
    "a single atom": Atoms("He"),
    "fragments sixty Å apart": Atoms("H2", [[0, 0, 0], [60, 0, 0]]),
    "a molecule in a box that is not periodic": Atoms("H2", [[0, 0, 0], [0.7, 0, 0]], cell=[20, 20, 20]),
    "a molecule with a flat cell that nobody uses": Atoms("H2", [[0, 0, 0], [0.7, 0, 0]], cell=[20, 0, 0]),
    "a primitive cell": bulk("Cu"),
    "a slab with vacuum": fcc111("Al", (2, 2, 3), vacuum=8),
    "a slab without a third vector": fcc111("Al", (2, 2, 3)),
    "left-handed vectors": Atoms("H2", [[0, 0, 0], [0.7, 0, 0]], cell=[-20, 20, 20], pbc=True),
    "unwrapped coordinates": Atoms("H2", [[0, 0, 0], [50.7, 300, 0]], cell=[5, 5, 5], pbc=True),
    "a skewed cell": Atoms("H", cell=[[5, 0, 0], [1001, 5, 0], [0, 0, 5]], pbc=True),
    "a chain": Atoms("C2", [[0, 0, 0], [0, 1.3, 0]], cell=[[0, 2.6, 0], [0, 0, 0], [0, 0, 0]], pbc=[1, 0, 0]),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_geometry_is_in_order(name):
    assert geometry_problem(GOOD[name]) is None


def hydrogen(second=(0.7, 0.0, 0.0), **cell) -> Atoms:
    return Atoms("H2", [[0.0, 0.0, 0.0], second], **cell)


@pytest.mark.parametrize(
    ("atoms", "problem"),
    [
        (Atoms(), "it has no atoms"),
        (Atoms("HX"), "atom 1 has atomic number 0, which is no element"),
        (Atoms(numbers=[119]), "atom 0 has atomic number 119"),
        (hydrogen((np.nan, 0, 0)), r"atom 1 \(H\) is at \(nan, 0, 0\) Å, which is no place"),
        (hydrogen((1e12, 0, 0)), r"atom 1 \(H\) is at \(1e\+12, 0, 0\) Å, farther than 10000 Å"),
        (hydrogen((1e12, 0, 0), cell=[5, 5, 5], pbc=True), "farther than"),
        (hydrogen((0, 0, 0.02)), r"atom 0 \(H\) and atom 1 \(H\) are 0.020 Å apart"),
        (hydrogen((4.98, 4.99, 0), cell=[5, 5, 5], pbc=True), "apart"),
        (hydrogen(pbc=True), "periodic along a, but its cell has no such vector"),
        (hydrogen(cell=[5, 5, 0], pbc=True), "periodic along c, but"),
        (hydrogen(cell=np.full((3, 3), np.nan)), "its cell holds nan"),
        (hydrogen(cell=[1e9, 5, 5], pbc=True), r"its cell holds 1e\+09"),
        (hydrogen(cell=[[5, 0, 0], [0, 5, 0], [5, 5, 1e-9]], pbc=True), "lie in one plane"),
        (hydrogen(cell=[[5, 0, 0], [0, 5, 0], [5, 0, 0]], pbc=[1, 1, 0]), "lie in one plane"),
        (Atoms("H", cell=[0.01] * 3, pbc=True), "repeats after 0.01 Å"),
        (Atoms("H", cell=[[5, 0, 0], [1000.2, 0.3, 0], [0, 0, 5]], pbc=True), "repeats after 0.361 Å|lie in one plane"),
    ],
)
def test_what_is_no_geometry_is_said_in_words(atoms, problem):
    with np.errstate(all="raise"):
        found = geometry_problem(atoms)
    assert found is not None
    assert re.search(problem, found), found


def test_atoms_on_one_another_are_found_across_all_images():
    rng = np.random.default_rng(0)
    overlaps = 0
    for _ in range(100):
        cell, pbc = rng.normal(size=(3, 3)) * 2, rng.integers(0, 2, 3).astype(bool)
        atoms = Atoms("H25", rng.uniform(-3, 3, (25, 3)), cell=cell, pbc=pbc)
        images = np.array(list(product(*[range(-9, 10) if periodic else [0] for periodic in pbc]))) @ cell
        first, second = np.triu_indices(25, 1)
        apart = (atoms.positions[first] - atoms.positions[second])[:, None] + images
        overlap = np.linalg.norm(apart, axis=2).min() < SHORTEST_DISTANCE
        assert overlap == ("apart" in (geometry_problem(atoms) or ""))
        overlaps += overlap
    assert overlaps > 0
