"""Every model obeys the symmetries of physics, has forces that are its gradient, and survives its file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.morse import MorsePotential
from helpers import CONSERVATIVE, SMALL, displaced, morse_frames
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation

import piwsl
from piwsl.architectures.painn import PaiNN
from piwsl.config import Architecture
from piwsl.data.batch import ImpossibleGeometry, collate, graph
from piwsl.errors import PiwslError
from piwsl.evaluation.predict import predict
from piwsl.interfaces import PotentialCalculator
from piwsl.models import PairPotential, Potential, build_potential, save_model
from piwsl.models.geometry import cosine_cutoff
from piwsl.models.statistics import batches_of, reference_energies, refit_references
from piwsl.models.storage import read_header
from piwsl.structures.frames import label
from piwsl.structures.structure import Structure, from_atoms

CUTOFF = 4.0
ALL = CONSERVATIVE | {"painn direct": PaiNN(architecture="painn", forces="direct", **SMALL)}


def untrained(config: Architecture) -> Potential:
    torch.manual_seed(0)
    references = {1: -13.6, 6: -1030.0, 7: -1485.0, 8: -2041.0, 14: -7900.0}
    potential = Potential(config, scale=1.7, references=references, neighbours=5.0)
    potential.pair = PairPotential(CUTOFF, sorted(references))
    random = torch.randn(potential.pair.coefficients.shape, dtype=torch.float64)
    potential.pair.coefficients.copy_(random + random.transpose(0, 1))
    return potential


@pytest.fixture(params=ALL)
def potential(request) -> Potential:
    """Every model."""
    return untrained(ALL[request.param])


@pytest.fixture(params=CONSERVATIVE)
def conservative(request) -> Potential:
    """Every model whose forces are the gradient."""
    return untrained(CONSERVATIVE[request.param])


def evaluate(potential: Potential, *frames: Atoms) -> tuple[np.ndarray, np.ndarray]:
    batch = collate([graph(from_atoms(atoms), potential.cutoff, potential.dtype) for atoms in frames])
    energy, forces = potential.energy_and_forces(batch)
    return energy.detach().numpy(), forces.detach().numpy()


def methanol() -> Atoms:
    return displaced("CH3OH", 0.1, np.random.default_rng(0))


def silicon() -> Atoms:
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.positions += 0.1 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    return atoms


@pytest.mark.parametrize("atoms", [methanol(), silicon()], ids=["molecule", "crystal"])
def test_forces_are_the_gradient(conservative, atoms):
    _, forces = evaluate(conservative, atoms)
    rng = np.random.default_rng(1)
    for _ in range(3):
        direction = rng.normal(size=atoms.positions.shape)
        ahead, behind = atoms.copy(), atoms.copy()
        ahead.positions += 1e-5 * direction
        behind.positions -= 1e-5 * direction
        slope = (evaluate(conservative, ahead)[0] - evaluate(conservative, behind)[0])[0] / 2e-5
        assert slope == pytest.approx(-(forces * direction).sum(), abs=1e-6)


def test_energy_is_invariant_and_forces_turn_with_the_molecule(potential):
    atoms = methanol()
    energy, forces = evaluate(potential, atoms)
    rotation = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    moved = atoms.copy()
    moved.positions = atoms.positions @ rotation.T + [3.0, -1.0, 2.0]
    moved_energy, moved_forces = evaluate(potential, moved)
    np.testing.assert_allclose(moved_energy, energy, atol=1e-10)
    np.testing.assert_allclose(moved_forces, forces @ rotation.T, atol=1e-10)
    mirrored = atoms.copy()
    mirrored.positions = -atoms.positions
    np.testing.assert_allclose(evaluate(potential, mirrored)[0], energy, atol=1e-10)


def test_the_order_of_atoms_does_not_matter(potential):
    atoms = methanol()
    energy, forces = evaluate(potential, atoms)
    order = np.random.default_rng(0).permutation(len(atoms))
    shuffled_energy, shuffled_forces = evaluate(potential, atoms[order])
    np.testing.assert_allclose(shuffled_energy, energy, atol=1e-10)
    np.testing.assert_allclose(shuffled_forces, forces[order], atol=1e-10)


def test_forces_and_torques_vanish_in_sum(conservative):
    atoms = methanol()
    _, forces = evaluate(conservative, atoms)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(np.cross(atoms.positions, forces).sum(axis=0), 0.0, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("atoms", [methanol(), silicon()], ids=["molecule", "crystal"])
def test_far_from_the_origin_nothing_is_lost_in_single_precision(name, atoms):
    single = untrained(ALL[name].model_copy(update={"dtype": "float32"}))
    atoms.calc = PotentialCalculator(single)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    for distance in (1e3, 1e5):
        far = atoms.copy()
        far.positions += distance * np.array([0.6, -0.64, 0.48])
        far.calc = PotentialCalculator(single)
        # A few units in the last place of what is summed; float32 rounds positions at 1,000 Å to 6e-5 Å.
        np.testing.assert_allclose(far.get_forces(), forces, atol=2e-5 * np.abs(forces).max())
        np.testing.assert_allclose(evaluate(single, far)[1], forces, atol=2e-5 * np.abs(forces).max())
        assert far.get_potential_energy() == pytest.approx(energy, abs=1e-4)


def test_a_batch_gives_what_its_structures_give_alone(potential):
    frames = [methanol(), silicon(), molecule("H2O"), Atoms("H")]
    energy, forces = evaluate(potential, *frames)
    alone = [evaluate(potential, atoms) for atoms in frames]
    np.testing.assert_allclose(energy, np.concatenate([e for e, _ in alone]), atol=1e-9)
    np.testing.assert_allclose(forces, np.concatenate([f for _, f in alone]), atol=1e-9)


def test_a_repeated_cell_has_the_repeated_energy(potential):
    atoms = silicon()
    energy, forces = evaluate(potential, atoms)
    big_energy, big_forces = evaluate(potential, atoms * (2, 1, 2))
    np.testing.assert_allclose(big_energy, 4 * energy, atol=1e-8)
    np.testing.assert_allclose(big_forces, np.tile(forces, (4, 1)), atol=1e-9)


def test_the_choice_of_cell_does_not_matter(potential):
    atoms = silicon()
    sheared = atoms.copy()
    cell = np.array(atoms.cell)
    sheared.set_cell([cell[0], cell[1] + cell[0], cell[2] - cell[1]], scale_atoms=False)
    outside = sheared.copy()
    outside.positions[2] += cell[0] - 2 * cell[1]
    for changed in (sheared, outside):
        np.testing.assert_allclose(evaluate(potential, changed)[0], evaluate(potential, atoms)[0], atol=1e-9)
        np.testing.assert_allclose(evaluate(potential, changed)[1], evaluate(potential, atoms)[1], atol=1e-9)


def test_a_cell_of_long_skewed_vectors_is_the_lattice_that_it_is(potential):
    atoms = silicon()
    skewed = atoms.copy()
    cell = np.array(atoms.cell)
    skewed.set_cell([cell[0], cell[1] + 700 * cell[0], cell[2] - 900 * cell[1]], scale_atoms=False)
    for ours, theirs in zip(evaluate(potential, skewed), evaluate(potential, atoms), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-8)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False)], ids=["slab", "wire"])
def test_what_is_open_needs_no_vector_and_takes_any(potential, pbc):
    def crystal(vacuum: float) -> Atoms:
        atoms = silicon()
        cell = np.array(atoms.cell)
        cell[~np.array(pbc)] *= vacuum
        atoms.set_cell(cell)
        atoms.set_pbc(pbc)
        return atoms

    energies = [evaluate(potential, crystal(vacuum))[0] for vacuum in (0.0, 1.0, 1e-3, 1e4)]
    np.testing.assert_allclose(energies, energies[1:2] * 4, atol=1e-9)
    away = crystal(0.0) + Atoms("H", positions=[[0.0, 0.0, 300.0]])
    assert evaluate(potential, away)[0] == pytest.approx(energies[0] + evaluate(potential, Atoms("H"))[0], abs=1e-9)


IMPOSSIBLE = {
    "no number": Atoms("OH", positions=[[0, 0, 0], [0, 0, np.nan]]),
    "far away": Atoms("OH", positions=[[0, 0, 0], [0, 0, 1e12]]),
    "on one another": Atoms("OH", positions=[[1, 2, 3], [1, 2, 3]]),
    "on an image": Atoms("OH", positions=[[0, 0, 0], [3, 0, 0]], cell=[3, 3, 3], pbc=True),
    "no cell": Atoms("O", pbc=True),
    "flat cell": Atoms("O", cell=[[1, 0, 0], [0, 1, 0], [1, 1, 0]], pbc=True),
    "flat slab": Atoms("O", cell=[[3, 0, 0], [3, 0, 0], [0, 0, 9]], pbc=[True, True, False]),
    "tiny cell": Atoms("O", cell=[1e-3] * 3, pbc=True),
    "cell of no numbers": Atoms("O", cell=[np.nan] * 3, pbc=True),
    "needle": Atoms("OH", positions=[[0, 0, 0], [900, 900, 900]], cell=[0, 3, 0], pbc=[False, True, False]),
    "sheet": Atoms("O", cell=[9e3, 9e3, 3], pbc=True),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_no_neighbours_can_be_found_of_is_an_error_and_neither_a_hang_nor_a_crash(name):
    atoms = IMPOSSIBLE[name].copy()
    atoms.calc = PotentialCalculator(untrained(CONSERVATIVE["painn"]))
    with pytest.raises(ImpossibleGeometry) as caught:
        atoms.get_forces()
    assert str(caught.value).isprintable()


def test_energy_and_forces_are_smooth_where_an_atom_leaves_the_cutoff(potential):
    def pair(distance: float) -> tuple[float, float]:
        energy, forces = evaluate(potential, Atoms("OH", positions=[[0, 0, 0], [0, 0, distance]]))
        return energy[0], forces[1, 2]

    apart = pair(CUTOFF + 1.0)
    inside, outside = pair(CUTOFF - 1e-4), pair(CUTOFF + 1e-4)
    assert outside == pytest.approx(apart, abs=1e-12)
    assert inside[0] == pytest.approx(apart[0], abs=1e-6)
    assert inside[1] == pytest.approx(0.0, abs=1e-3)


def test_a_neighbour_list_with_a_skin_changes_nothing(potential):
    structure = from_atoms(silicon())
    tight = potential.energy_and_forces(graph(structure, CUTOFF, torch.float64))
    wide = potential.energy_and_forces(graph(structure, CUTOFF + 1.0, torch.float64))
    for a, b in zip(tight, wide, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_the_envelope_is_zero_at_and_beyond_the_cutoff():
    distances = torch.tensor([0.0, CUTOFF / 2, CUTOFF, CUTOFF + 1], dtype=torch.float64)
    torch.testing.assert_close(cosine_cutoff(distances, CUTOFF), torch.tensor([1.0, 0.5, 0.0, 0.0]).double())


def test_references_recover_additive_energies():
    energies = {1: -13.0, 6: -1030.0, 8: -2040.0}
    frames = [molecule(name) for name in ("H2O", "CH4", "CH3OH", "CO2")]
    for atoms in frames:
        atoms.info["REF_energy"] = sum(energies[int(number)] for number in atoms.numbers)
    fitted = reference_energies([from_atoms(atoms) for atoms in frames])
    assert fitted == pytest.approx(energies, abs=1e-8)


def test_references_and_scale_come_from_the_training_frames():
    frames = morse_frames("H2O", 20)
    structures = [from_atoms(atoms) for atoms in frames]
    potential = build_potential(CONSERVATIVE["schnet"], structures)
    energies = np.array([structure.energy for structure in structures])
    predicted = predict(potential, structures).energy
    assert predicted.mean() == pytest.approx(energies.mean(), abs=1e-9)
    assert predicted.std() < 5 * energies.std()
    assert float(potential.learned.scale) == pytest.approx(energies.std() / np.sqrt(3), rel=1e-9)


@pytest.mark.parametrize("name", ["NH3", "H2O", "OH", "H2"])
def test_an_untrained_network_spreads_no_more_than_the_energies(name):
    # Of few neighbours nothing averages out: some initial weights gave forty times the spread that they shall learn.
    for seed in range(4):
        torch.manual_seed(seed)
        random = np.random.default_rng(seed)
        structures = [from_atoms(label(displaced(name, 0.05, random), float(random.normal()), None)) for _ in range(20)]
        potential = build_potential(PaiNN(architecture="painn", features=32), structures)
        atoms = len(structures[0].numbers)
        spread = np.std(predict(potential, structures).energy) / np.sqrt(atoms)
        assert spread <= 1.001 * np.std([structure.energy for structure in structures]) / np.sqrt(atoms)


def test_the_scale_is_no_less_than_what_is_known_to_be_left():
    structures = [from_atoms(label(atoms, -2000.0, None)) for atoms in morse_frames("H2O", 3)]
    potential = build_potential(CONSERVATIVE["mace"], structures, least_scale=0.02)
    assert float(potential.learned.scale) == pytest.approx(0.02)


# eV; those of Hartree-Fock, roughly.
FREE_ATOMS = {1: -13.6, 8: -2036.0}


def bound(atoms: Atoms) -> Atoms:
    """Return a frame labelled with its free atoms and a pair potential: what binds it is its atomisation energy."""
    bare = Atoms(atoms.numbers, atoms.positions)
    bare.calc = MorsePotential(epsilon=3.0, r0=1.0, rho0=2.0, rcut1=3.0, rcut2=4.0)
    free = sum(FREE_ATOMS[int(number)] for number in atoms.numbers)
    return label(bare, free + bare.get_potential_energy(), None)


@pytest.fixture(scope="module")
def water_and_its_dimer() -> list[Structure]:
    """Two compositions of which one is twice the other: they do not say what an oxygen is worth in hydrogens."""
    rng = np.random.default_rng(0)
    frames = [displaced("H2O", 0.05, rng) for _ in range(12)]
    for atoms in frames[:6]:
        second = displaced("H2O", 0.05, rng)
        second.positions += [0.0, 3.0, 0.0]
        atoms += second
    return [from_atoms(bound(atoms)) for atoms in frames]


STATED = {"H": FREE_ATOMS[1], "O": FREE_ATOMS[8]}


@pytest.mark.parametrize("kind", ["free_atoms", STATED, "fitted"], ids=["free atoms", "numbers", "fitted"])
def test_free_atoms_know_other_compositions_which_no_fit_to_collinear_ones_does(water_and_its_dimer, kind):
    config = CONSERVATIVE["painn"].model_copy(update={"atomic_references": kind})
    torch.manual_seed(0)
    potential = build_potential(config, water_and_its_dimer, FREE_ATOMS)
    others = [from_atoms(bound(molecule(name))) for name in ("H2O2", "H2", "OH")]
    error = predict(potential, others).energy - [structure.energy for structure in others]
    # Untrained, it is wrong by little more than the bonds of a molecule hold, 3 eV each.
    assert (np.abs(error) < 30.0).all() == (kind != "fitted")
    if kind == "fitted":
        assert np.abs(error).min() > 100.0
    else:
        energies = potential.references.energies
        assert float(energies[8] - energies[1]) == pytest.approx(-2022.4, abs=1e-9)
    assert potential.elements() == ["H", "O"]


@pytest.mark.parametrize("kind", ["free_atoms", "fitted"])
def test_a_refit_takes_the_constant_away_whichever_the_references_are(water_and_its_dimer, kind):
    config = CONSERVATIVE["painn"].model_copy(update={"atomic_references": kind})
    torch.manual_seed(0)
    potential = build_potential(config, water_and_its_dimer, FREE_ATOMS)
    potential.references.energies += 0.7
    graphs = [graph(structure, CUTOFF, torch.float64) for structure in water_and_its_dimer]
    refit_references(potential, batches_of(graphs))
    residuals = predict(potential, water_and_its_dimer).energy - [s.energy for s in water_and_its_dimer]
    # Least squares: what is left has no part along the number of atoms.
    assert abs(residuals @ [len(structure.numbers) for structure in water_and_its_dimer]) < 1e-8
    alone = predict(potential, water_and_its_dimer[6:]).energy - [s.energy for s in water_and_its_dimer[6:]]
    refit_references(potential, batches_of(graphs[6:]))
    after = predict(potential, water_and_its_dimer[6:]).energy - [s.energy for s in water_and_its_dimer[6:]]
    assert abs(after.mean()) < 1e-9
    assert after.std() == pytest.approx(alone.std(), rel=1e-9)


def test_a_free_atom_that_is_missing_is_named(water_and_its_dimer):
    for kind, complaint in (
        ("free_atoms", "free_atoms: the dataset has no free O; give"),
        ({"H": -1.0}, "energy of O"),
    ):
        config = CONSERVATIVE["painn"].model_copy(update={"atomic_references": kind})
        with pytest.raises(PiwslError, match=complaint):
            build_potential(config, water_and_its_dimer, {1: -13.6})


def test_float32_keeps_the_precision_of_large_totals():
    config = CONSERVATIVE["painn"].model_copy(update={"dtype": "float32"})
    references = {6: -1030.123456789, 8: -2041.0, 1: -13.6}
    torch.manual_seed(0)
    low = Potential(config, 1.0, references, neighbours=5.0)
    high = Potential(config.model_copy(update={"dtype": "float64"}), 1.0, references, neighbours=5.0)
    high.load_state_dict(low.state_dict())
    assert evaluate(low, methanol())[0] == pytest.approx(evaluate(high, methanol())[0], abs=1e-5)


def test_a_model_survives_its_file(potential, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, potential, {"data": "abc"})
    loaded = piwsl.load_model(path)
    for ours, theirs in zip(evaluate(loaded, methanol()), evaluate(potential, methanol()), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    header = read_header(path)
    assert header["elements"] == ["H", "C", "N", "O", "Si"]
    assert header["units"] == {"energy": "eV", "length": "Å", "forces": "eV/Å"}
    assert header["provenance"] == {"data": "abc"}


def test_files_that_are_no_models_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors", metadata={"format": json.dumps("pt")})
    for name, complaint in (("text", "not a model file"), ("absent", "no such file"), ("foreign.safetensors", "'pt'")):
        with pytest.raises(PiwslError, match=complaint):
            piwsl.load_model(tmp_path / name)


def test_a_model_file_holds_tensors_and_text_alone(potential, tmp_path):
    save_model(tmp_path / "model.safetensors", potential, {})
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert all(
            isinstance(json.loads(value), str | dict | list | bool | float) for value in file.metadata().values()
        )


def test_direct_forces_are_no_gradient_and_the_file_says_so(tmp_path):
    direct = untrained(ALL["painn direct"])
    assert not direct.conservative
    _, forces = evaluate(direct, methanol())
    assert np.abs(forces).max() > 1e-3
    assert np.abs(forces.sum(axis=0)).max() > 1e-6
    save_model(tmp_path / "model.safetensors", direct, {})
    assert read_header(tmp_path / "model.safetensors")["conservative"] is False
    assert not piwsl.load_model(tmp_path / "model.safetensors").conservative


def test_unknown_elements_are_refused(potential):
    atoms = Atoms("HF", positions=[[0, 0, 0], [0, 0, 0.9]])
    atoms.calc = PotentialCalculator(potential)
    with pytest.raises(PiwslError, match="not trained on F; it knows H, C, N, O, Si"):
        atoms.get_potential_energy()


def test_the_ase_calculator_gives_what_the_potential_gives(potential):
    atoms = silicon()
    atoms.calc = PotentialCalculator(potential)
    energy, forces = evaluate(potential, atoms)
    assert atoms.get_potential_energy() == pytest.approx(energy[0], abs=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-12)
    atoms.positions[0] += 0.1
    assert atoms.get_potential_energy() == pytest.approx(evaluate(potential, atoms)[0][0], abs=1e-12)
