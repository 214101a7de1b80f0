"""A Gaussian process knows its labels, the symmetries of its molecule, and how much it does not know."""

from __future__ import annotations

import shutil
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from helpers import displaced, morse_frames
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import piwsl
from piwsl.architectures.gaussian_process import GaussianProcess
from piwsl.architectures.gaussian_process.bonds import MOST_PERMUTATIONS, BondGraph, kinds_of_pairs, symmetries
from piwsl.architectures.gaussian_process.fit import fit
from piwsl.architectures.gaussian_process.kernel import Molecules, centre_of, pairs_of
from piwsl.architectures.gaussian_process.likelihood import (
    Parameters,
    Problem,
    factorised,
    left_out,
    likelier,
    likeliest,
    solve,
)
from piwsl.cli import app
from piwsl.config import Experiment, Loss
from piwsl.data.batch import Batch, collate, graph, pad
from piwsl.errors import PiwslError
from piwsl.evaluation.files import predict_file
from piwsl.loss_terms.pitc import PITC
from piwsl.models import Potential, load_model, save_model
from piwsl.structures.frames import label, write_frames
from piwsl.structures.labels import REFERENCE
from piwsl.structures.structure import Structure, from_atoms

FRAMES = morse_frames("CH3OH", 14, forces=True)
TEST = morse_frames("CH3OH", 10, seed=5, forces=True)


def trained(frames: list[Atoms], folder: Path, loss: Loss | None = None, **keys: object) -> Potential:
    return piwsl.train(frames, folder, {"architecture": "gaussian_process", **keys}, loss)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("process")


@pytest.fixture(scope="module", params=[1.0, 0.0], ids=["with forces", "energies alone"])
def potential(request, folder):
    return trained(FRAMES, folder / f"forces-{request.param}", Loss(forces=request.param))


@pytest.fixture(scope="module")
def of_forces(folder):
    return trained(FRAMES, folder / "of-forces")


def batch_of(frames: list[Atoms]) -> Batch:
    return collate([graph(from_atoms(atoms), 5.0, torch.float64) for atoms in frames])


def energies(potential: Potential, frames: list[Atoms]) -> np.ndarray:
    return potential.energy(batch_of(frames)).detach().numpy()


def labels(frames: list[Atoms]) -> np.ndarray:
    return np.array([atoms.info["REF_energy"] for atoms in frames])


def stretched(by: float) -> Atoms:
    atoms = molecule("CH3OH")
    atoms.positions[1] += [0.0, by, 0.0]
    return atoms


def test_a_covariance_that_rounding_has_spoilt_is_factorised_all_the_same():
    # Two labels that are nearly one, without noise: on some processors that is no covariance any more.
    exact = torch.tensor([[1.0, 1.0, 0.5], [1.0, 1.0, 0.5], [0.5, 0.5, 1.0]], dtype=torch.float64)
    spoilt = exact - 1e-14 * torch.diag(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    assert torch.linalg.cholesky_ex(spoilt).info
    factor = factorised(spoilt)
    torch.testing.assert_close(factor @ factor.T, exact, rtol=0, atol=1e-12)
    sound = exact + torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(factorised(sound), torch.linalg.cholesky(sound), rtol=0, atol=0)
    with pytest.raises(PiwslError, match="its model file is damaged"):
        factorised(-exact)


def test_labels_without_noise_are_known(potential):
    spread = labels(FRAMES).std()
    assert np.abs(energies(potential, FRAMES) - labels(FRAMES)).max() < 5e-3 * spread
    known = potential.learned.network.labelled[0]
    if len(known) > 1:
        _, forces = potential.energy_and_forces(batch_of(FRAMES))
        expected = np.concatenate([atoms.arrays["REF_forces"] for atoms in FRAMES])
        assert np.abs(forces.numpy() - expected).max() < 5e-3 * np.abs(expected).max()


def test_forces_are_the_gradient(potential):
    atoms = TEST[0]
    _, forces = potential.energy_and_forces(batch_of([atoms]))
    step = 1e-4
    for atom in range(len(atoms)):
        for axis in range(3):
            moved = [atoms.copy(), atoms.copy()]
            for each, sign in zip(moved, (1, -1), strict=True):
                each.positions[atom, axis] += sign * step
            upper, lower = energies(potential, moved)
            assert float(forces[atom, axis]) == pytest.approx(-(upper - lower) / (2 * step), abs=2e-6)


def test_forces_are_numbers_where_the_molecule_is_symmetric_and_at_training_points(potential):
    symmetric = molecule("CH3OH")
    _, forces = potential.energy_and_forces(batch_of([symmetric, FRAMES[0]]))
    assert forces.isfinite().all()
    mirrored = forces[:6].clone()
    mirrored[:, 2] *= -1  # the plane of C, O and the hydrogen of OH
    others = [
        int(np.linalg.norm(symmetric.positions - each * [1, 1, -1], axis=1).argmin()) for each in symmetric.positions
    ]
    torch.testing.assert_close(forces[:6][others], mirrored, atol=1e-8, rtol=0)


def test_equal_atoms_may_be_exchanged_and_the_molecule_turned_and_moved(potential):
    atoms = TEST[0]
    hydrogens = [index for index, each in enumerate(atoms) if each.symbol == "H" and atoms.get_distance(0, index) < 1.4]
    assert len(hydrogens) == 3
    swapped, turned, mirrored = atoms.copy(), atoms.copy(), atoms.copy()
    swapped.positions[hydrogens] = swapped.positions[hydrogens[1:] + hydrogens[:1]]
    turned.rotate(70, (1, 2, 3))
    turned.positions += [3.0, -2.0, 9.0]
    mirrored.positions *= -1
    found = energies(potential, [atoms, swapped, turned, mirrored])
    assert np.ptp(found) < 1e-9


def test_atoms_in_another_order_are_told_apart_by_their_bonds(potential):
    atoms = TEST[0]
    order = np.random.default_rng(0).permutation(len(atoms))
    assert not np.array_equal(atoms.numbers[order], atoms.numbers)
    energy, forces = potential.energy_and_forces(batch_of([atoms, atoms[order]]))
    torch.testing.assert_close(energy[0], energy[1], atol=1e-9, rtol=0)
    torch.testing.assert_close(forces[: len(atoms)][order], forces[len(atoms) :], atol=1e-8, rtol=0)


def test_training_frames_may_have_their_atoms_in_another_order(of_forces, folder):
    order = np.array([1, 0, 2, 4, 3, 5])
    assert FRAMES[0].numbers[order].tolist() != FRAMES[0].numbers.tolist()
    mixed = trained([FRAMES[0], *(atoms[order] for atoms in FRAMES[1:])], folder / "mixed")
    left, expected = (pd.read_csv(folder / name / "history.csv").iloc[0] for name in ("mixed", "of-forces"))
    # Whether 3 and 4 are exchanged or not, the kernel is the same.
    assert energies(mixed, TEST) == pytest.approx(energies(of_forces, TEST), abs=0.01 * labels(TEST).std())
    assert left["validation_forces_rmse"] == pytest.approx(expected["validation_forces_rmse"], rel=0.02)


def test_padding_changes_nothing(potential):
    batch = batch_of(TEST[:2])
    padded = pad(batch, len(batch.positions) + 3, batch.edge_index.shape[1] + 2, structure=True)
    assert torch.equal(potential.energy(padded)[:2], potential.energy(batch))
    assert potential.energy(padded)[2] == potential.references.energies[batch.atomic_numbers[0]] * 3


def test_forces_as_labels_improve_both_errors(folder, of_forces):
    alone = trained(FRAMES, folder / "alone", Loss(forces=0))
    few, many = (piwsl.evaluate(each, TEST) for each in (alone, of_forces))
    for key in ("energy_mae_meV", "force_mae_meV_per_A"):
        assert many[key] < 0.3 * few[key]


def test_a_loss_of_forces_alone_knows_the_energy_but_for_its_constant(folder):
    potential = trained(FRAMES, folder / "gradient", Loss(energy=0))
    assert np.abs(energies(potential, FRAMES) - labels(FRAMES)).max() < 0.01 * labels(FRAMES).std()


@pytest.mark.parametrize("some", [False, True], ids=["all forces", "forces of half"])
def test_mean_and_variance_are_those_of_a_dense_solution(some):
    """All by numpy, the constant as a kernel of its own, so wide that nothing is known of it."""
    frames = [from_atoms(atoms) for atoms in FRAMES[:8]]
    if some:
        frames[::2] = [
            each.labelled(REFERENCE, from_atoms(without_forces(each)).at_level(REFERENCE)) for each in frames[::2]
        ]
    network = fit(frames, energies=True).network
    # A shorter length and more noise than the likeliest: else rounding, not the formula, would be compared.
    network.set_parameters(Parameters(torch.full_like(network.lengths, 0.3), 2.0, 0.02, 0.1))
    lengths, amplitude, *noises = network.kernel_parameters
    centre = centre_of(network.positions, network.permutations)
    test = torch.tensor(np.stack([atoms.positions for atoms in TEST]))
    known, asked = (Molecules(each, network.permutations, centre, True) for each in (network.positions, test))
    half = network.labelled[:, [0] + [1] * (known.rows - 1)]
    mask, rows = half.flatten().numpy(), known.rows
    wide = 1e4

    def covariance(first: Molecules, second: Molecules) -> np.ndarray:
        found = amplitude**2 * first.covariance(second, lengths).numpy()
        found[:, 0, :, 0] += wide**2
        return found

    own = covariance(known, known).reshape(len(mask), len(mask))[mask][:, mask]
    is_energy = (np.arange(len(mask)) % rows == 0)[mask]
    own += np.diag(np.where(is_energy, noises[0], noises[1]) ** 2)
    between = covariance(asked, known)[:, 0].reshape(len(TEST), len(mask))[:, mask]
    prior = np.diag(covariance(asked, asked)[:, 0, :, 0])
    expected = prior - (between * np.linalg.solve(own, between.T).T).sum(axis=1)
    found = network.energy_variance(batch_of(TEST)).numpy()
    assert found == pytest.approx(expected, abs=1e-5)
    assert found.min() > 1e-3


@pytest.mark.parametrize("some", [False, True], ids=["all energies", "energies of half"])
def test_of_forces_alone_covariances_are_those_of_energies_less_the_mean_that_sets_the_constant(some):
    """All by numpy: energies, conditioned on forces, less their mean over the training frames that have one."""
    frames = [from_atoms(atoms) for atoms in FRAMES[:8]]
    if some:
        frames[::2] = [from_atoms(label(each.atoms(), None, each.forces)) for each in frames[::2]]
    network = fit(frames, energies=False).network
    # A shorter length and more noise than the likeliest: else rounding, not the formula, would be compared.
    network.set_parameters(Parameters(torch.full_like(network.lengths, 0.3), 2.0, 0.02, 0.1))
    lengths, amplitude, _, noise = network.kernel_parameters
    centre = centre_of(network.positions, network.permutations)
    test = torch.tensor(np.stack([atoms.positions for atoms in TEST]))

    def of_molecules(positions: torch.Tensor) -> Molecules:
        return Molecules(positions, network.permutations, centre, True)

    every = of_molecules(torch.cat([network.positions, test]))
    size, rows = len(every.x), every.rows
    whole = amplitude**2 * every.covariance(every, lengths).numpy().reshape(size * rows, size * rows)
    label_of = np.arange(size * rows).reshape(size, rows)
    energies, new = label_of[:, 0], label_of[8:].flatten()
    averaged = energies[:8][1::2] if some else energies[:8]

    def covariance(forces: np.ndarray, averaged: np.ndarray) -> np.ndarray:
        """Of all energies and forces, energies less their mean, once some forces are known."""
        known = whole[forces][:, forces] + noise**2 * np.eye(len(forces))
        left = whole - whole[:, forces] @ np.linalg.solve(known, whole[forces])
        less = np.eye(len(whole))
        less[np.ix_(energies, averaged)] -= 1 / len(averaged)
        return less @ left @ less.T

    expected = covariance(label_of[:8, 1:].flatten(), averaged)
    found = network.energy_variance(batch_of(TEST)).numpy()
    np.testing.assert_allclose(found, np.diag(expected)[energies[8:]], rtol=1e-7)
    assert found.max() < 0.1 * amplitude**2
    posterior = network.posterior(batch_of(TEST))
    left = amplitude**2 * posterior.covariance_left(test, forces=True).numpy()
    np.testing.assert_allclose(left.reshape(len(TEST), -1), expected[energies[8:]][:, new], atol=1e-9)
    posterior.learn(3)
    expected = covariance(label_of[[*range(8), 11], 1:].flatten(), np.append(averaged, energies[11]))
    np.testing.assert_allclose(posterior.variance(), np.diag(expected)[energies[8:]], rtol=1e-7)


def test_a_process_that_learned_forces_alone_knows_its_errors_of_energies(folder):
    potential = trained(FRAMES, folder / "judged-gradient", Loss(energy=0))
    errors = energies(potential, TEST) - labels(TEST)
    said = potential.energy_variance(batch_of(TEST)).numpy()
    assert 0.2 < np.sqrt(np.mean(errors**2 / said)) < 5
    again = load_model(folder / "judged-gradient" / "model.safetensors")
    assert np.array_equal(again.energy_variance(batch_of(TEST)).numpy(), said)


def without_forces(structure: Structure) -> Atoms:
    atoms = structure.atoms()
    atoms.info["REF_energy"] = structure.energy
    return atoms


def test_the_variance_is_none_at_training_points_and_grows_away_from_them(potential):
    known = potential.energy_variance(batch_of(FRAMES))
    away = potential.energy_variance(batch_of([stretched(by) for by in (0.0, 0.2, 0.5, 1.0)]))
    assert known.max() < 1e-2 * away[1]
    assert (away.diff() > 0).all()


def test_the_variance_tells_errors(folder):
    potential = trained(FRAMES, folder / "judged", Loss(forces=0))
    errors = energies(potential, TEST) - labels(TEST)
    ratio = np.sqrt(np.mean(errors**2 / potential.energy_variance(batch_of(TEST)).numpy()))
    assert 0.2 < ratio < 5


def test_other_models_have_no_variance(folder):
    other = piwsl.train(FRAMES[:4], folder / "painn", {"architecture": "painn", "training": {"steps": 1}})
    with pytest.raises(PiwslError, match="'painn' has no variance"):
        other.energy_variance(batch_of(TEST))


def test_covariances_of_forces_are_derivatives_of_those_of_energies():
    positions = torch.tensor(np.stack([atoms.positions for atoms in FRAMES[:2]]))
    permutations = torch.tensor(symmetries(BondGraph.mean(FRAMES[0].numbers, positions.numpy())))
    centre, lengths = centre_of(positions, permutations), torch.linspace(0.2, 0.6, 15, dtype=torch.float64)

    def of_energies(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        ours, theirs = (Molecules(each[None], permutations, centre, False) for each in (first, second))
        return ours.covariance(theirs, lengths)[0, 0, 0, 0]

    ours, theirs = (Molecules(each[None], permutations, centre, True) for each in positions)
    block = ours.covariance(theirs, lengths)[0, :, 0]
    first, second = torch.autograd.functional.jacobian(of_energies, tuple(positions))
    torch.testing.assert_close(block[1:, 0], -first.flatten() @ ours.directions[0])
    torch.testing.assert_close(block[0, 1:], -second.flatten() @ theirs.directions[0])
    hessian = torch.autograd.functional.hessian(of_energies, tuple(positions))[0][1].reshape(18, 18)
    torch.testing.assert_close(block[1:, 1:], ours.directions[0].T @ hessian @ theirs.directions[0])


@pytest.mark.parametrize("name", ["H2", "H2O", "NH3", "CH3CH2OH"])
def test_forces_are_looked_at_along_directions_in_which_the_shape_changes(name):
    positions = torch.tensor(molecule(name).positions[None])
    same = torch.arange(positions.shape[1])[None]
    directions = Molecules(positions, same, centre_of(positions, same), forces=True).directions[0]
    axes = torch.eye(3).double()
    moved = axes.repeat(positions.shape[1], 1)
    turned = torch.stack([torch.linalg.cross(axis.expand_as(positions[0]), positions[0]).flatten() for axis in axes])
    assert directions.shape[1] == max(3 * positions.shape[1] - 6, 1)
    torch.testing.assert_close(directions.T @ directions, torch.eye(directions.shape[1]).double())
    torch.testing.assert_close(directions.T @ moved, torch.zeros_like(directions.T @ moved))
    torch.testing.assert_close(turned @ directions, torch.zeros_like(turned @ directions))


def test_forces_that_move_or_turn_the_whole_say_nothing():
    """Clean data have none: the smallest noise of them would be the likeliest, and then that of all forces."""
    rng = np.random.default_rng(5)
    clean = fit([from_atoms(atoms) for atoms in FRAMES[:6]], energies=True).network
    pushed = fit([from_atoms(with_net_force(atoms, rng)) for atoms in FRAMES[:6]], energies=True).network
    assert pushed.scales.numpy() == pytest.approx(clean.scales.numpy(), rel=0.05)
    shares, others = (network(batch_of(TEST))[0] for network in (clean, pushed))
    torch.testing.assert_close(shares, others, rtol=0, atol=1e-4)


def with_net_force(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Return a frame with a force and a torque on the whole of it."""
    forces = atoms.arrays["REF_forces"] + rng.normal(size=3) + np.cross(rng.normal(size=3), atoms.positions)
    return label(atoms, atoms.info["REF_energy"], forces)


def test_the_likeliest_parameters_are_more_likely_than_others():
    problem, kinds = problem_of(FRAMES[:6])
    found = likeliest(problem, kinds)

    def cost(parameters: Parameters) -> float:
        solution = solve(problem.covariance(parameters), problem.known, problem.of_energies)
        return solution.cost

    best = cost(found)
    for kind in range(3):
        for factor in (0.7, 1.4):
            lengths = torch.where(kinds == kind, factor * found.lengths, found.lengths)
            assert cost(found._replace(lengths=lengths)) > best
    assert cost(found._replace(energy_noise=100 * found.energy_noise, force_noise=100 * found.force_noise)) > best


def test_pairs_of_other_elements_have_lengths_of_their_own_where_the_labels_say_so():
    """The energy is of the bond between carbon and oxygen alone: other bonds tell nothing, and their lengths grow."""
    rng = np.random.default_rng(2)
    frames = [displaced("CH3OH", 0.08, rng) for _ in range(100)]
    frames = [label(atoms, float(np.sin(12 * atoms.get_distance(0, 1))), None) for atoms in frames]
    found = fit([from_atoms(atoms) for atoms in frames], energies=True).network
    pairs = pairs_of(6)
    bonds = {(0, 1): "CO", (0, 2): "CH"}
    lengths = {
        name: float(found.lengths[((torch.tensor(pair) == pairs.T).all(dim=1))][0]) for pair, name in bonds.items()
    }
    assert lengths["CH"] > 2 * lengths["CO"]
    few = fit([from_atoms(atoms) for atoms in frames[:20]], energies=True).network
    assert len(few.lengths.unique()) <= 3


def test_further_labels_make_parameters_likelier():
    few, kinds = problem_of(FRAMES[:3])
    more, _ = problem_of(FRAMES)
    start = likeliest(few, kinds)
    found = likelier(more, kinds, start)

    def cost(parameters: Parameters) -> float:
        return solve(more.covariance(parameters), more.known, more.of_energies).cost

    assert cost(found) < cost(start)


def problem_of(frames: list[Atoms]) -> tuple[Problem, torch.Tensor]:
    """Return energies and forces of frames, and the kinds of pairs."""
    structures = [from_atoms(atoms) for atoms in frames]
    positions = torch.tensor(np.stack([each.positions for each in structures]))
    graph_of_bonds = BondGraph.mean(structures[0].numbers, positions.numpy())
    permutations = torch.tensor(symmetries(graph_of_bonds))
    targets = torch.tensor(np.stack([np.r_[each.energy, each.forces.flatten()] for each in structures]))
    first, second = pairs_of(positions.shape[1])
    kinds = torch.tensor(kinds_of_pairs(graph_of_bonds)[0])[first, second]
    molecules = Molecules(positions, permutations, centre_of(positions, permutations), True)
    return Problem(molecules, molecules.internal(targets)), kinds


def test_what_is_left_of_a_frame_is_what_labels_of_the_others_leave():
    problem, kinds = problem_of(FRAMES[:6])
    parameters = Parameters(torch.tensor([0.3, 0.4, 0.5]).double()[kinds], 1.0, 0.01, 0.1)
    solution = solve(problem.covariance(parameters), problem.known, problem.of_energies)
    frames = torch.arange(6)[:, None].expand_as(problem.targets).flatten()
    found = left_out(problem, solution).reshape(6, -1)
    for index in range(6):
        others = frames != index
        covariance = problem.covariance(parameters)
        own = solve(covariance[others][:, others], problem.known[others], problem.of_energies[others])
        predicted = covariance[~others][:, others] @ own.weights
        # Noise of the labels aside, a process leaves of energies that it knows the constant alone.
        left = problem.known[others] - covariance[others][:, others] @ own.weights
        predicted[0] += left[problem.of_energies[others] > 0].mean()
        assert found[index].numpy() == pytest.approx((problem.targets[index] - predicted).numpy(), abs=1e-7)


def test_a_file_gives_the_same_model_bit_by_bit(potential, folder):
    path = next(iter(folder.glob("forces-*/model.safetensors")))
    again, once = load_model(path), load_model(shutil.copy(path, folder / "copy.safetensors"))
    batch = batch_of(TEST)
    for ours, theirs in zip(again.energy_and_forces(batch), once.energy_and_forces(batch), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(again.energy_variance(batch), once.energy_variance(batch))


def test_the_same_training_gives_the_same_file(of_forces, folder):
    trained(FRAMES, folder / "again")
    first, second = (folder / name / "model.safetensors" for name in ("of-forces", "again"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("permutations", lambda value: value + 1, "permutations are none"),
        ("permutations", lambda value: value.repeat(20, 1), f"120 permutations, 1 to {MOST_PERMUTATIONS}"),
        ("numbers", lambda value: value * 0 + 6, "its molecule is not of these elements"),
        ("scales", lambda value: -value, "not positive"),
        ("labelled", lambda value: value & (torch.arange(19) > 0), "does not say which energies its constant is from"),
        ("weights", lambda value: value[:-1], "weights: found F64 [13, 19], expected F64 [14, 19]"),
        ("positions", lambda value: value[:, :-1], "labelled: found BOOL [14, 19], expected BOOL [14, 16]"),
        ("positions", None, "the geometries of a Gaussian process are not there"),
    ],
    ids=["order", "too many", "element", "scale", "constant", "rows", "atoms", "missing"],
)
def test_files_that_cannot_be_are_refused_in_one_line(of_forces, folder, tmp_path, name, change, complaint):
    source, path = folder / "of-forces" / "model.safetensors", tmp_path / "changed.safetensors"
    tensors = load_file(source)
    key = f"learned.network.{name}"
    value = tensors.pop(key)
    if change is not None:
        tensors[key] = change(value).contiguous()
    with safe_open(source, framework="pt") as file:
        save_file(tensors, path, file.metadata())
    with pytest.raises(PiwslError) as refused:
        load_model(path)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_other_molecules_and_crystals_are_refused(potential):
    with pytest.raises(PiwslError, match="trained on CH4O, asked for CH2O"):
        potential.energy(batch_of([displaced("H2CO", 0.0, np.random.default_rng(0))]))
    crystal = FRAMES[0].copy()
    crystal.set_cell([9.0, 9.0, 9.0])
    crystal.pbc = True
    with pytest.raises(PiwslError, match="a structure is periodic"):
        potential.energy(batch_of([crystal]))
    scattered = FRAMES[0][::-1]
    scattered.positions = 3.0 * np.random.default_rng(0).permutation(scattered.positions)
    with pytest.raises(PiwslError, match="bonds do not tell which is which"):
        potential.energy(batch_of([scattered]))


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        (FRAMES[:2] + morse_frames("H2O", 2), "frames are of CH4O and H2O|frames are of H2O and CH4O"),
        (FRAMES[:1], "needs two frames"),
        ([piwsl.structures.frames.label(bulk("Si"), float(number), None) for number in range(3)], "periodic"),
    ],
    ids=["two molecules", "one frame", "crystal"],
)
def test_frames_that_are_not_of_one_molecule_are_refused(frames, complaint, tmp_path):
    with pytest.raises(PiwslError, match=complaint) as refused:
        trained(frames, tmp_path / "model")
    assert len(str(refused.value)) <= 200


@pytest.mark.parametrize(
    ("loss", "complaint"),
    [
        (Loss(pitc=PITC(weight=1.0)), "pitc: a Gaussian process"),
        (Loss(function="huber"), "function: a Gaussian process"),
    ],
    ids=["term", "function"],
)
def test_losses_that_it_does_not_minimise_are_refused(loss, complaint, tmp_path):
    with pytest.raises(PiwslError, match=complaint):
        trained(FRAMES, tmp_path / "model", loss)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"training": {"steps": 10}}, "steps: a Gaussian process is fitted in closed form"),
        ({"resources": {"gpus": 1}}, "resources.gpus: a Gaussian process is fitted on the CPU"),
        ({"dtype": "float32"}, "dtype"),
    ],
    ids=["steps", "gpus", "float32"],
)
def test_keys_that_would_do_nothing_are_refused(keys, complaint, tmp_path):
    with pytest.raises(PiwslError, match=complaint):
        trained(FRAMES, tmp_path / "model", **keys)


def experiment(exclude: list[dict[str, str]]) -> Experiment:
    return Experiment.model_validate(
        {
            "experiment": "mine",
            "datasets": {"frames": {"file": "frames.xyz", "test_frames": 5}},
            "models": {"gp": {"architecture": "gaussian_process"}, "painn": {"architecture": "painn"}},
            "losses": {"plain": {"energy": 1}, "weak": {"energy": 1, "pitc": {"weight": 1}}},
            "sizes": [10],
            "seeds": [0],
            "exclude": exclude,
        }
    )


def test_an_experiment_leaves_out_its_runs_with_weak_losses():
    with pytest.raises(ValueError, match=r"losses\.weak\.pitc: a Gaussian process .* model 'gp'"):
        experiment([])
    assert len(experiment([{"model": "gp", "loss": "weak"}]).runs()) == 3


@pytest.mark.parametrize(
    ("name", "count"), [("H2O", 2), ("NH3", 6), ("CH4", 24), ("CH3CH2OH", 12), ("C6H6", 12), ("C2H6", 36)]
)
def test_the_bond_graph_allows_so_many_permutations(name, count):
    """Ethane has 72, of which those that leave one carbon where it is are taken."""
    atoms = molecule(name)
    found = symmetries(BondGraph.of(atoms.numbers, atoms.positions))
    assert len(found) == count
    group = {tuple(each) for each in found}
    assert {tuple(first[second]) for first in found for second in found} == group


def test_the_commands_train_test_and_simulate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(Path("frames.xyz"), FRAMES)
    write_frames(Path("test.xyz"), TEST)

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    assert "fitted in closed form" in call("train", "frames.xyz", "model", "--architecture", "gaussian_process")
    history = pd.read_csv("model/history.csv")
    assert len(history) == 1
    assert history["training_energy_rmse"][0] < history["validation_energy_rmse"][0]
    assert "force_mae_meV_per_A" in call("evaluate", "model/model.safetensors", "test.xyz")
    call("md", "model/model.safetensors", "test.xyz", "--temperature", "100", "--time", "0.01")
    assert len(ase.io.read("trajectory.xyz", index=":")) > 1


def test_the_constructor_of_the_config_has_its_own_defaults():
    config = GaussianProcess(architecture="gaussian_process")
    assert (config.dtype, config.pair_potential, config.training.validation_fraction) == ("float64", False, 0.0)


def test_a_molecule_that_a_process_does_not_know_is_named_with_file_and_frame(tmp_path):
    """Among others of its batch; its atoms are of elements that the model knows."""
    potential = trained(morse_frames("H2O", 4), tmp_path)
    save_model(tmp_path / "model.safetensors", potential, {})
    write_frames(tmp_path / "mixed.xyz", [molecule("H2O"), molecule("H2O"), molecule("H2O2"), molecule("H2O")])
    with pytest.raises(PiwslError, match=r"mixed\.xyz: frame 2: a Gaussian process knows one molecule"):
        predict_file(tmp_path / "model.safetensors", tmp_path / "mixed.xyz", tmp_path / "out.xyz")
    write_frames(tmp_path / "other.xyz", [molecule("H2O2")])
    said = CliRunner().invoke(app, ["md", str(tmp_path / "model.safetensors"), str(tmp_path / "other.xyz")]).output
    assert "other.xyz: frame 0: a Gaussian process knows one molecule: trained on H2O, asked for H2O2" in said
