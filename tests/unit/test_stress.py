"""Stress is the derivative of the energy by strain: in predictions, labels, the loss, and what ASE does with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from ase.md.nptberendsen import NPTBerendsen
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import BFGS
from helpers import CONSERVATIVE, SMALL

import piwsl
from piwsl.architectures.painn import PaiNN
from piwsl.config import Architecture, GivenDataset, Loss, Run, Training
from piwsl.data.assemble import import_given
from piwsl.data.batch import collate, graph, pad
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_dataset
from piwsl.errors import PiwslError
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import predict
from piwsl.interfaces import PotentialCalculator
from piwsl.loss_terms.pisc import PISC
from piwsl.loss_terms.pitc import PITC
from piwsl.losses import displacements_of_step, training_loss
from piwsl.models import PairPotential, Potential, fit_pair_potential
from piwsl.structures.frames import label, write_frames
from piwsl.structures.structure import from_atoms
from piwsl.training.run import train_run

CUTOFF = 4.0
DIRECT = PaiNN(architecture="painn", forces="direct", **SMALL)
AXES = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


def untrained(config: Architecture) -> Potential:
    torch.manual_seed(0)
    references = {14: -7900.0, 18: -14000.0}
    potential = Potential(config, scale=0.7, references=references, neighbours=20.0)
    potential.pair = PairPotential(CUTOFF, sorted(references))
    random = torch.randn(potential.pair.coefficients.shape, dtype=torch.float64)
    potential.pair.coefficients.copy_(random + random.transpose(0, 1))
    return potential


def crystal() -> Atoms:
    """Two atoms of silicon in a skewed cell, off their places: no symmetry makes any component of the stress vanish."""
    atoms = bulk("Si", a=5.1)
    atoms.set_cell(atoms.cell[:] + np.array([[0.1, 0.0, -0.2], [0.05, 0.2, 0.0], [0.0, -0.1, 0.1]]), scale_atoms=True)
    atoms.positions[1] += [0.1, -0.05, 0.2]
    return atoms


def strained(atoms: Atoms, axes: tuple[int, int], size: float) -> Atoms:
    strain = np.eye(3)
    strain[axes] += 0.5 * size
    strain[axes[::-1]] += 0.5 * size
    deformed = atoms.copy()
    deformed.set_cell(atoms.cell[:] @ strain, scale_atoms=True)
    return deformed


@pytest.fixture(params=CONSERVATIVE)
def potential(request) -> Potential:
    """Every architecture whose forces are the gradient, with a pair potential."""
    return untrained(CONSERVATIVE[request.param])


def stress_of(potential: Potential, *frames: Atoms) -> np.ndarray:
    batch = collate([graph(from_atoms(atoms), CUTOFF, torch.float64) for atoms in frames])
    return potential.predict(batch, {"energy", "stress"}).stress.detach().numpy()


def test_the_stress_is_the_derivative_of_the_energy_by_strain(potential):
    atoms, step = crystal(), 1e-4
    found = stress_of(potential, atoms)[0]

    def energy(axes: tuple[int, int], size: float) -> float:
        batch = graph(from_atoms(strained(atoms, axes, size)), CUTOFF, torch.float64)
        return float(potential.energy(batch).detach())

    for axes in AXES:
        slope = (energy(axes, step) - energy(axes, -step)) / (2 * step) / atoms.get_volume()
        assert found[axes] == pytest.approx(slope, rel=1e-5, abs=1e-8)
    assert np.abs(found).min() > 1e-6
    np.testing.assert_allclose(found, found.T, atol=1e-15)


def test_a_larger_cell_of_the_same_crystal_has_the_same_stress(potential):
    one, eight = (stress_of(potential, atoms)[0] for atoms in (crystal(), crystal() * (2, 2, 2)))
    np.testing.assert_allclose(one, eight, rtol=1e-9, atol=1e-12)


def test_only_structures_that_are_periodic_in_three_directions_have_one(potential):
    molecular = Atoms("Si2", [[0.0, 0.0, 0.0], [2.2, 0.0, 0.0]])
    slab = crystal() * (2, 2, 1)
    slab.pbc = [True, True, False]
    stress = stress_of(potential, molecular, crystal(), slab)
    assert np.isnan(stress[[0, 2]]).all()
    np.testing.assert_allclose(stress[1], stress_of(potential, crystal())[0], rtol=1e-12)


def test_forces_beside_a_stress_are_those_without():
    potential = untrained(CONSERVATIVE["painn"])
    batch = graph(from_atoms(crystal()), CUTOFF, torch.float64)
    together, alone = potential.predict(batch, {"energy", "forces", "stress"}), potential.predict(batch)
    torch.testing.assert_close(together.forces, alone.forces, rtol=1e-12, atol=1e-12)
    assert alone.stress is None
    assert potential.predict(batch, {"stress"}).forces is None
    assert float(alone.energies.sum().detach()) == pytest.approx(float(alone.energy.detach()), rel=1e-14)


def test_a_model_with_a_head_for_forces_has_no_stress():
    potential = untrained(DIRECT)
    with pytest.raises(PiwslError, match="a head of their own, and it has no stress; say forces: conservative"):
        stress_of(potential, crystal())
    atoms = crystal()
    atoms.calc = PotentialCalculator(potential)
    with pytest.raises(PropertyNotImplementedError, match="head of their own"):
        atoms.get_stress()
    assert np.isnan(predict(potential, [from_atoms(atoms)]).stress).all()


def test_the_stress_of_a_pair_potential_is_that_of_its_gradient():
    pair = untrained(CONSERVATIVE["painn"]).pair
    batch = collate([graph(from_atoms(atoms), CUTOFF, torch.float64) for atoms in (crystal(), crystal() * (1, 2, 1))])
    strain = torch.zeros(2, 3, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(pair.contribution(batch.strained(strain)).energies.sum(), strain)
    volumes = torch.linalg.det(batch.cell)[:, None, None]
    torch.testing.assert_close(pair.predict(batch).stress, gradient / volumes, rtol=1e-10, atol=1e-12)


# Argon as Lennard-Jones has it: its energies, forces and stress are known.
EPSILON, SIGMA = 0.0104, 3.4


def argon(scale: float, random: np.random.Generator) -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.26 * scale, cubic=True)
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + 0.02 * random.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.1 * random.normal(size=atoms.positions.shape)
    atoms.calc = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=6.0, smooth=True)
    return label(atoms, atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False))


@pytest.fixture(scope="module")
def of_argon(tmp_path_factory):
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("argon") / "dataset.h5"
    frames = [argon(random.uniform(0.94, 1.08), random) for _ in range(30)]
    write_dataset(path, {TRAINING: frames[:24], TEST: frames[24:]})
    return path


def trained_on_argon(folder, dataset, stress: float, **settings) -> tuple[Potential, float]:
    """Train on energies and, where it has a weight, stress; return the potential and its error of the stress, eV/Å³."""
    model = PaiNN(
        architecture="painn", cutoff=6.0, features=16, layers=1, radial=8, pair_potential=False,
        training=Training(steps=150, learning_rate=5e-3, **settings),
    )  # fmt: skip
    folder.mkdir()
    path = folder / "model.safetensors"
    run = Run(dataset="argon", model="painn", loss="l", size=24, seed=0)
    train_run(dataset, run, model, Loss(forces=0.0, stress=stress), path, folder / "history.csv")
    potential = piwsl.load_model(path)
    with Dataset(dataset) as opened:
        test = opened.structures(opened.indices(TEST))
    return potential, 1e-3 * error_summary(test, predict(potential, test))["stress_mae_meV_per_A3"]


def test_training_learns_a_stress(of_argon, tmp_path):
    _, with_stress = trained_on_argon(tmp_path / "with", of_argon, stress=1e4)
    _, without = trained_on_argon(tmp_path / "without", of_argon, stress=0.0)
    assert with_stress < 0.5 * without
    history = (tmp_path / "with" / "history.csv").read_text().splitlines()[0]
    assert "training_stress" in history
    assert "validation_stress_rmse" in history


def test_cells_relax_and_breathe_with_a_model(of_argon, tmp_path):
    potential, _ = trained_on_argon(tmp_path / "model", of_argon, stress=1e4)
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True)
    atoms.calc = PotentialCalculator(potential)
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3, steps=60)
    assert np.abs(atoms.get_stress()).max() < 1e-4
    # Lennard-Jones' own lattice constant with this cutoff.
    reference = bulk("Ar", "fcc", a=5.4, cubic=True)
    reference.calc = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=6.0, smooth=True)
    BFGS(FrechetCellFilter(reference), logfile=None).run(fmax=1e-3, steps=60)
    assert atoms.get_volume() == pytest.approx(reference.get_volume(), rel=0.03)

    MaxwellBoltzmannDistribution(atoms, temperature_K=30, rng=np.random.default_rng(0))
    before = atoms.get_volume()
    dynamics = NPTBerendsen(
        atoms, timestep=2 * units.fs, temperature_K=30, pressure_au=1000 * units.bar, taut=100 * units.fs,
        taup=500 * units.fs, compressibility_au=5e-5 / units.bar,
    )  # fmt: skip
    dynamics.run(100)
    assert np.isfinite(atoms.get_potential_energy())
    assert 0.8 * before < atoms.get_volume() < before  # pressed


def test_a_stress_in_the_loss_has_the_gradients_of_finite_differences():
    potential = untrained(PaiNN(architecture="painn", **SMALL))
    potential.pair = None
    frames = [label(crystal(), -15800.0, None, np.full((3, 3), 0.01)), label(crystal() * (1, 1, 2), -31600.0, None)]
    batch = collate([graph(from_atoms(atoms), CUTOFF + 0.2, torch.float64) for atoms in frames])
    loss = Loss(energy=0.0, forces=1.0, stress=3.0, pitc=PITC(weight=0.1), pisc=PISC(weight=0.1))
    draws = displacements_of_step(potential, batch, loss, seed=0, step=0)

    def value() -> torch.Tensor:
        return training_loss(potential, batch, loss, draws, loss.factors(0))[0]

    weight = potential.learned.network.readout[0].weight
    value().backward()
    for place in ((0, 0), (2, 3)):
        step, found = 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * step
            found.append(float(value().detach()))
            with torch.no_grad():
                weight[place] -= sign * step
        assert float(weight.grad[place]) == pytest.approx((found[0] - found[1]) / (2 * step), rel=1e-5, abs=1e-9)


def test_what_programs_print_as_the_stress_of_slabs_and_clusters_is_not_learned_from():
    slab, cluster = crystal() * (2, 2, 1), Atoms("Si2", [[0.0, 0.0, 0.0], [2.2, 0.0, 0.0]])
    slab.pbc = [True, True, False]
    frames = [crystal(), slab, cluster]
    energies = [-7900.0 * len(atoms) for atoms in frames]
    potential, loss = untrained(PaiNN(architecture="painn", **SMALL)), Loss(stress=1.0)
    found = []
    for printed in ([0.01, 0.02, 0.03], [0.01, None, None]):
        stresses = [None if size is None else np.full((3, 3), size) for size in printed]
        labelled = [
            label(atoms, energy, None, stress)
            for atoms, energy, stress in zip(frames, energies, stresses, strict=True)
        ]  # fmt: skip
        batch = collate([graph(from_atoms(atoms), CUTOFF, torch.float64) for atoms in labelled])
        found.append(training_loss(potential, batch, loss, [], {"energy": 1.0, "stress": 1.0})[1])
    assert found[0]["stress"].isfinite()
    assert found[0] == found[1]


def test_padding_changes_no_stress_and_no_gradient_of_it():
    potential = untrained(PaiNN(architecture="painn", **SMALL))
    batch = graph(from_atoms(label(crystal(), -15800.0, None, np.full((3, 3), 0.01))), CUTOFF, torch.float64)
    padded = pad(batch, len(batch.atomic_numbers) + 3, batch.edge_index.shape[1] + 7, structure=True)
    loss = Loss(stress=1.0)
    found = []
    for each in (batch, padded):
        potential.zero_grad()
        total, terms = training_loss(potential, each, loss, [], {"stress": 1.0})
        total.backward()
        found.append((terms["stress"], potential.learned.network.readout[0].weight.grad.clone()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


def test_given_stress_is_taken_by_name_and_unit(tmp_path):
    frames = [argon(1.0, np.random.default_rng(seed)) for seed in range(4)]
    gas = label(molecule("H2"), -31.0, None)
    gas.info["pressure_tensor"] = np.ones(6)  # programs print one of molecules, too
    for atoms in frames:
        voigt = [atoms.info["REF_stress"][axes] for axes in AXES]
        atoms.info = {"REF_energy": atoms.info["REF_energy"], "pressure_tensor": np.array(voigt) / (0.1 * units.GPa)}
    write_frames(tmp_path / "mine.xyz", [*frames, gas])
    names = {"stress_key": "pressure_tensor", "stress_unit": "kbar"}
    import_given(GivenDataset(file=tmp_path / "mine.xyz", test_frames=1, **names), tmp_path / "given.h5")
    expected = [argon(1.0, np.random.default_rng(seed)).info["REF_stress"] for seed in range(4)]
    with Dataset(tmp_path / "given.h5") as dataset:
        found = [dataset.structure(index) for index in range(len(dataset))]
    for structure in found:
        if len(structure.numbers) == 2:
            assert structure.stress is None
        else:
            assert min(np.abs(structure.stress - each).max() for each in expected) < 1e-8


@pytest.mark.parametrize(
    ("stress", "complaint"),
    [
        (np.ones(5), "must be 6 or 3 x 3 finite numbers"),
        (np.arange(9.0).reshape(3, 3), "is not symmetric; a stress is"),
        ("high", "must be 6 or 3 x 3 finite numbers"),
        (np.full(6, np.inf), "must be 6 or 3 x 3 finite numbers"),
    ],
    ids=["five numbers", "not symmetric", "text", "infinite"],
)
def test_what_is_no_stress_is_refused(stress, complaint):
    atoms = crystal()
    atoms.info["REF_stress"] = stress
    with pytest.raises(PiwslError, match=f"REF_stress {complaint}"):
        from_atoms(atoms)


def test_a_pair_potential_takes_its_share_of_a_stress_away():
    random = np.random.default_rng(0)
    structures = [from_atoms(argon(scale, random)) for scale in np.linspace(0.95, 1.05, 10)]
    potential = fit_pair_potential(structures, 6.0).potential
    rest = [potential.subtracted_from(structure) for structure in structures]
    before, after = (np.mean([np.abs(each.stress).mean() for each in some]) for some in (structures, rest))
    assert after < 0.1 * before  # Lennard-Jones is a potential of pairs
