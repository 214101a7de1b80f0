"""The pair potential is a ridge regression: exact where the truth is one, careful where labels say little."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from helpers import displaced, morse_frames

from piwsl.data.batch import collate, graph
from piwsl.models import PairPotential, fit_pair_potential
from piwsl.models.pair import Normal, nuclear_repulsion, radial_functions
from piwsl.structures.frames import label
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import Structure, from_atoms

CUTOFF = 4.0


def random_potential(elements: list[int], seed: int = 0) -> PairPotential:
    potential = PairPotential(CUTOFF, elements)
    generator = torch.Generator().manual_seed(seed)
    coefficients = torch.randn(potential.coefficients.shape, generator=generator, dtype=torch.float64)
    potential.coefficients.copy_(coefficients + coefficients.transpose(0, 1))
    return potential


def labelled(potential: PairPotential, frames: list[Atoms], atomic: dict[int, float]) -> list[Structure]:
    """Return frames with energies and forces of a pair potential, beside energies of atoms."""
    structures = []
    for atoms in frames:
        energy, _, forces, *_ = potential.predict(graph(from_atoms(atoms), CUTOFF, torch.float64))
        total = float(energy) + sum(atomic[int(number)] for number in atoms.numbers)
        structures.append(from_atoms(label(atoms, total, forces.numpy())))
    return structures


TEST = [from_atoms(atoms) for atoms in morse_frames("NH3", 10, seed=5, forces=True)]


def noisy(name: str, count: int, noise: float, random: np.random.Generator) -> list[tuple[Atoms, float]]:
    """Return frames and their energies, eV, with noise that no pair potential can explain."""
    frames = morse_frames(name, count, seed=int(random.integers(1000)))
    return [(atoms, atoms.info["REF_energy"] + noise * random.normal()) for atoms in frames]


def methanols(count: int, seed: int = 0, spread: float = 0.1) -> list[Atoms]:
    random = np.random.default_rng(seed)
    return [displaced("CH3OH", spread, random) for _ in range(count)]


def errors(potential: PairPotential, structures: list[Structure]) -> tuple[float, float]:
    """Return the spread of the energies that it leaves, eV, and the RMS of the forces, eV/Å."""
    rest = [potential.subtracted_from(structure) for structure in structures]
    energies = np.array([structure.energy for structure in rest])
    return float(energies.std()), float(np.sqrt(np.mean([structure.forces**2 for structure in rest])))


@pytest.mark.parametrize("frames", [methanols(1), [bulk("Si", cubic=True)]], ids=["molecule", "crystal"])
def test_the_energy_is_half_the_sum_over_all_neighbours(frames):
    atoms = frames[0]
    potential = random_potential(sorted(set(atoms.numbers.tolist())))
    energy, *_ = potential.predict(graph(from_atoms(atoms), CUTOFF, torch.float64))
    cells = [-2, -1, 0, 1, 2] if atoms.pbc.any() else [0]
    total = 0.0
    for shift in np.array(np.meshgrid(cells, cells, cells)).reshape(3, -1).T @ np.asarray(atoms.cell):
        for first, one in enumerate(atoms):
            for second, other in enumerate(atoms):
                distance = np.linalg.norm(other.position + shift - one.position)
                if (first != second or shift.any()) and distance < CUTOFF:
                    places = potential.places[[one.number, other.number]]
                    length = potential.lengths[places[0], places[1]][None]
                    values = radial_functions(torch.tensor([distance]).double(), length, CUTOFF)[0]
                    total += 0.5 * float(potential.coefficients[places[0], places[1]] @ values)
    assert float(energy) == pytest.approx(total, rel=1e-10)


def test_forces_are_the_gradient_of_a_pair_potential():
    atoms = methanols(1)[0]
    potential = random_potential([1, 6, 8])
    _, _, forces, *_ = potential.predict(graph(from_atoms(atoms), CUTOFF, torch.float64))
    step = 1e-5
    for atom, axis in ((0, 0), (3, 2), (5, 1)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(float(potential.predict(graph(from_atoms(moved), CUTOFF, torch.float64)).energy))
        assert float(forces[atom, axis]) == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-6)


@pytest.mark.parametrize("forces", [True, False], ids=["with forces", "energies alone"])
def test_a_pair_potential_is_found_again_from_few_frames(forces):
    truth = random_potential([1, 6, 8])
    atomic = {1: -13.6, 6: -1030.0, 8: -2041.0}
    training = labelled(truth, methanols(30 if forces else 150), atomic)
    if not forces:
        training = [structure.labelled(REFERENCE, Labels(structure.energy)) for structure in training]
    # Much nearer to each other than in training no two atoms come: there the potential is not the truth's any more.
    test = labelled(truth, methanols(20, seed=1, spread=0.07), atomic)
    spread, rms = errors(PairPotential(CUTOFF, [1, 6, 8]), test)
    left, left_forces = errors(fit_pair_potential(training, CUTOFF).potential, test)
    assert left < 0.02 * spread
    assert left_forces < 0.05 * rms


def test_other_compositions_are_predicted_where_the_truth_is_of_pairs():
    truth = random_potential([1, 8], seed=3)
    atomic = {1: -13.6, 8: -2041.0}
    random = np.random.default_rng(0)
    training = labelled(truth, [displaced("H2O", 0.1, random) for _ in range(40)], atomic)
    test = labelled(truth, [displaced("H2O2", 0.02, random) for _ in range(5)], atomic)
    # Of water no O-O pair is known, and that H-H is no other one in peroxide; what is known shall not be made worse.
    assert (
        errors(fit_pair_potential(training, CUTOFF).potential, test)[1]
        < 2.0 * errors(PairPotential(CUTOFF, [1, 8]), test)[1]
    )


def test_labels_that_are_noise_are_left_to_the_network():
    random = np.random.default_rng(0)
    frames = [label(atoms, float(random.normal()), None) for atoms in methanols(20)]
    potential = fit_pair_potential([from_atoms(atoms) for atoms in frames], CUTOFF).potential
    found = [
        float(potential.predict(graph(from_atoms(atoms), CUTOFF, torch.float64)).energy)
        for atoms in methanols(50, seed=1)
    ]
    assert np.std(found) < 0.3


def test_what_is_left_and_the_potential_are_the_labels():
    structures = [from_atoms(atoms) for atoms in morse_frames("NH3", 10, forces=True)]
    potential = fit_pair_potential(structures, CUTOFF).potential
    rest = [potential.subtracted_from(structure) for structure in structures]
    energy, _, forces, *_ = potential.predict(collate([graph(s, CUTOFF, torch.float64) for s in structures]))
    np.testing.assert_allclose(
        energy.numpy() + [structure.energy for structure in rest], [s.energy for s in structures], atol=1e-9
    )
    left = np.concatenate([structure.forces for structure in rest])
    np.testing.assert_allclose(forces.numpy() + left, np.concatenate([s.forces for s in structures]), atol=1e-9)
    # Morse's energy is one of pairs: a tenth of the forces, or less, is left.
    assert np.abs(left).mean() < 0.1 * np.mean([np.abs(structure.forces).mean() for structure in structures])


DEPTH, STEEPNESS, LENGTH = 6.0, 2.2, 0.92
ATOMS = {1: -13.6, 9: -2712.0}


def diatomic(length: float) -> Atoms:
    return Atoms("HF", [[0.0, 0.0, 0.0], [length, 0.0, 0.0]])


def diatomics(shortest: float, longest: float) -> list[Structure]:
    """Return HF of such lengths, Å, with the energy of free atoms and Morse's potential, eV."""
    return [
        from_atoms(label(diatomic(float(length)), sum(ATOMS.values()) + morse(float(length)), None))
        for length in np.linspace(shortest, longest, 20)
    ]


def morse(length: float) -> float:
    return DEPTH * ((1.0 - np.exp(-STEEPNESS * (length - LENGTH))) ** 2 - 1.0)


@pytest.fixture(scope="module")
def of_diatomics() -> PairPotential:
    """Fitted to lengths down to 0.8 Å, and to be believed to 0.75 Å."""
    return fit_pair_potential(diatomics(0.8, 1.1), CUTOFF).potential


def along_bond(potential: PairPotential, length: float) -> tuple[float, float]:
    """Return the energy of HF, eV, and the force that drives its atoms apart, eV/Å."""
    energy, _, forces, *_ = potential.predict(graph(from_atoms(diatomic(length)), CUTOFF, torch.float64))
    return float(energy), float(forces[1, 0])


def test_atoms_nearer_than_in_any_frame_repel_each_other_more_and_more(of_diatomics):
    forces = [along_bond(of_diatomics, length)[1] for length in np.arange(0.05, 0.81, 0.05)]
    assert (np.diff(forces) < 0.0).all()
    assert forces[-1] > 0.0


def test_energy_and_force_are_continuous_where_the_fit_ends(of_diatomics):
    (inner, inner_force), (outer, outer_force) = (along_bond(of_diatomics, 0.75 + side) for side in (-1e-7, 1e-7))
    assert inner == pytest.approx(outer, abs=1e-5)
    assert inner_force == pytest.approx(outer_force, abs=1e-4)


@pytest.mark.parametrize("length", [0.3, 0.7, 0.749, 0.75, 0.8, 0.9])
def test_the_force_is_the_slope_on_both_sides_of_where_the_fit_ends(of_diatomics, length):
    step = 1e-5
    slope = (along_bond(of_diatomics, length + step)[0] - along_bond(of_diatomics, length - step)[0]) / (2 * step)
    assert along_bond(of_diatomics, length)[1] == pytest.approx(-slope, abs=1e-3)


def test_the_repulsion_of_nuclei_is_that_of_their_charges_where_they_touch():
    distance = torch.tensor([1e-6], dtype=torch.float64)
    coulomb = 14.399645 * 7 * 8 / 1e-6
    assert float(nuclear_repulsion(distance, torch.tensor([[7], [8]]))) == pytest.approx(coulomb, rel=1e-4)


def test_frames_near_equilibrium_say_roughly_how_much_it_costs_to_break_a_bond_and_free_atoms_say_it():
    structures = diatomics(0.85, 1.0)
    with_atoms, without = (fit_pair_potential(structures, CUTOFF, atoms).potential for atoms in (ATOMS, {}))
    assert along_bond(with_atoms, LENGTH)[0] == pytest.approx(-DEPTH, abs=0.2)
    assert along_bond(without, LENGTH)[0] == pytest.approx(-DEPTH, abs=1.0)
    for potential in (with_atoms, without):
        # All the way out the atoms are drawn back.
        assert max(along_bond(potential, float(length))[1] for length in np.arange(1.0, 1.8, 0.1)) < 0.0


def test_only_elements_that_are_bonded_have_the_function_of_a_bond():
    structures = [from_atoms(atoms) for atoms in morse_frames("NH3", 10)]
    potential = fit_pair_potential(structures, CUTOFF).potential
    lengths = potential.lengths  # hydrogen first
    assert float(lengths[0, 1]) == pytest.approx(1.02, abs=0.05)
    assert torch.equal(lengths, lengths.T)
    assert not lengths.diagonal().any()
    assert not radial_functions(torch.tensor([1.6]).double(), lengths[:1, 0], CUTOFF)[0, -1]


def test_few_frames_do_not_lead_to_large_coefficients():
    # The best of many ridges is chosen by chance where frames are few; a larger one that does as well is taken.
    found = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        frames = [label(atoms, energy, None) for atoms, energy in noisy("NH3", 25, 0.02, random)]
        found.append(errors(fit_pair_potential([from_atoms(each) for each in frames], CUTOFF).potential, TEST)[1])
    assert max(found) < 2.0 * np.median(found)


def test_the_energy_of_one_of_two_atoms_says_nothing():
    structures = diatomics(0.85, 1.0)
    partly, without = (fit_pair_potential(structures, CUTOFF, atoms).potential for atoms in ({1: -13.6}, {}))
    for length in (0.7, 0.9, 1.2):
        assert along_bond(partly, length) == pytest.approx(along_bond(without, length), abs=1e-3)


@pytest.mark.parametrize("count", [1, 2], ids=["one frame", "two frames"])
def test_few_frames_give_a_finite_potential(count):
    structures = [from_atoms(atoms) for atoms in morse_frames("H2O", count, forces=True)]
    potential = fit_pair_potential(structures, CUTOFF).potential
    assert torch.isfinite(potential.coefficients).all()
    assert count > 1 or not potential.coefficients.any()


def test_atoms_without_neighbours_have_no_pair_energy():
    lone = [from_atoms(label(Atoms("He", [[0.0, 0.0, 0.0]]), -79.0, None)) for _ in range(4)]
    assert not fit_pair_potential(lone, CUTOFF).potential.coefficients.any()


def test_the_sums_of_folds_are_the_least_squares_of_all_rows():
    random = torch.Generator().manual_seed(0)
    design, target = (torch.randn(*shape, generator=random).double() for shape in ((40, 6), (40,)))
    whole = Normal.of(design[:30], target[:30])
    left = Normal.of(design, target).plus(Normal.of(design[30:], target[30:]), -1.0)
    expected = torch.linalg.lstsq(design[:30], target[:30]).solution
    for sums in (whole, left):
        torch.testing.assert_close(sums.solution(0.0), expected, rtol=1e-8, atol=1e-10)
    residual = design[:30] @ expected - target[:30]
    assert whole.squared_error(expected) == pytest.approx(float(residual @ residual), rel=1e-9)


def ammonias(count: int) -> list[Structure]:
    return [from_atoms(atoms) for atoms in morse_frames("NH3", count)]


def test_a_composition_of_one_frame_takes_nothing_from_the_others():
    test = [from_atoms(atoms) for atoms in morse_frames("NH3", 10, seed=5, forces=True)]
    lone = from_atoms(label(Atoms("OH", [[0, 0, 0], [0, 0, 1.0]]), -2060.0, None))
    alone = fit_pair_potential(ammonias(40), CUTOFF).potential
    beside = fit_pair_potential([*ammonias(40), lone], CUTOFF).potential
    nothing = errors(PairPotential(CUTOFF, [1, 7]), test)[1]
    assert errors(alone, test)[1] < 0.2 * nothing
    assert errors(beside, test)[1] < 0.2 * nothing


def test_frames_that_are_all_the_same_leave_nothing_to_fit():
    assert not fit_pair_potential(ammonias(1) * 8, CUTOFF).potential.coefficients.any()


@pytest.mark.parametrize("offset", [-1e5, -5e5])
def test_large_totals_leave_the_fit_what_it_is(offset):
    test = [from_atoms(atoms) for atoms in morse_frames("NH3", 10, seed=5, forces=True)]
    shifted = [
        structure.labelled(REFERENCE, Labels(structure.energy + offset, structure.forces)) for structure in ammonias(40)
    ]
    assert (
        errors(fit_pair_potential(shifted, CUTOFF).potential, test)[1]
        < 1.2 * errors(fit_pair_potential(ammonias(40), CUTOFF).potential, test)[1]
    )
