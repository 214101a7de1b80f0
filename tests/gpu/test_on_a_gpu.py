"""On a GPU everything is what it is on the CPU: predictions, losses, trainings, dynamics; skipped without one."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from helpers import CONSERVATIVE, SMALL, morse_frames

import piwsl
from piwsl.architectures.gaussian_process import GaussianProcess
from piwsl.architectures.painn import PaiNN
from piwsl.config import Architecture, Loss, ReplicaSimulation, Training
from piwsl.data.batch import Batch, collate, graph
from piwsl.errors import PiwslError
from piwsl.interfaces import PotentialCalculator
from piwsl.loss_terms.pisc import PISC
from piwsl.loss_terms.pitc import PITC
from piwsl.losses import displacements_of_step, training_loss
from piwsl.models import Potential, Predictor, load_model
from piwsl.simulation.criteria import judged_bonds
from piwsl.simulation.engine import run_replicas
from piwsl.simulation.group import Replica
from piwsl.structures.frames import without_labels
from piwsl.structures.structure import from_atoms
from piwsl.training.compiled import CompiledLoss
from piwsl.training.module import PotentialModule

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

CUDA = torch.device("cuda")
DIRECT = PaiNN(architecture="painn", forces="direct", **SMALL)
ARCHITECTURES = CONSERVATIVE | {"direct": DIRECT}
WEAK = Loss(pitc=PITC(weight=1.0, order=2), pisc=PISC(weight=0.1, every=1), displacement=0.02)
LOSSES = {
    "supervised": Loss(),
    "weak": WEAK,
    "quadratic": Loss(pitc=PITC(weight=1.0, order="quadratic", share=0.5), displacement=0.02),
    "pool": WEAK.model_copy(update={"pool": 0.5}),
}
FRAMES = morse_frames("H2O", 12) + morse_frames("NH3", 12, forces=True)
POOL = [without_labels(atoms) for atoms in morse_frames("NH3", 8, seed=9)]
TEST = morse_frames("H2O", 5, seed=5, forces=True) + morse_frames("NH3", 5, seed=6, forces=True)
FEW = {"steps": 30, "validate_every": 10, "batch_size": 6}


def untrained(config: Architecture) -> Potential:
    torch.manual_seed(0)
    references = {1: -13.0, 7: -1480.0, 8: -2040.0, 14: -7900.0}
    return Potential(config, scale=0.7, references=references, neighbours=20.0)


def crystal() -> Atoms:
    """Eight atoms of silicon off their places in a skewed cell."""
    atoms = bulk("Si", a=5.43, cubic=True)
    atoms.set_cell(atoms.cell[:] + np.array([[0.1, 0.0, -0.2], [0.05, 0.2, 0.0], [0.0, -0.1, 0.1]]), scale_atoms=True)
    atoms.positions += 0.1 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    return atoms


def batch_of(frames: list[Atoms], cutoff: float = 4.1) -> Batch:
    return collate([graph(from_atoms(atoms), cutoff, torch.float64) for atoms in frames])


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_energies_forces_and_stress_are_those_of_the_cpu(architecture):
    potential = untrained(ARCHITECTURES[architecture])
    properties = {"energy", "forces"} | ({"stress"} if architecture != "direct" else set())
    batch = batch_of([*TEST, crystal()], potential.cutoff)
    expected = potential.predict(batch, properties)
    found = potential.to(CUDA).predict(batch.to(CUDA), properties)
    for name in properties:
        assert getattr(found, name).is_cuda
        close(getattr(found, name).detach(), getattr(expected, name).detach())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_and_their_gradients_are_those_of_the_cpu(architecture, loss):
    here, objective = untrained(ARCHITECTURES[architecture]), LOSSES[loss]
    there = copy.deepcopy(here).to(CUDA)
    totals = []
    for potential in (here, there):
        batch = batch_of(FRAMES[9:15]).to(potential.device)
        factors = objective.factors(0)
        displaced = displacements_of_step(potential, batch, objective, seed=0, step=0) if objective.displaced else []
        total, _ = training_loss(potential, batch, objective, displaced, factors)
        total.backward()
        totals.append(total.detach())
    close(totals[1], totals[0])
    for (name, ours), theirs in zip(there.named_parameters(), here.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if theirs.grad is not None:
            close(ours.grad, theirs.grad, 1e-7)


@pytest.mark.parametrize("architecture", ["painn", "mace"])
def test_a_compiled_loss_is_the_loss(architecture, capfd):
    potential = untrained(ARCHITECTURES[architecture]).to(CUDA)
    frames = [graph(from_atoms(atoms), 4.1, torch.float64) for atoms in FRAMES]
    objective = CompiledLoss(potential, WEAK, frames)
    for chosen in ((0, 13, 14), (1, 2, 20)):
        batch = collate([frames[index] for index in chosen]).to(CUDA)
        draws = displacements_of_step(potential, batch, WEAK, seed=0, step=0)
        total, _ = objective(batch, draws, WEAK.factors(0), range(3))
        expected, _ = training_loss(potential, batch, WEAK, draws, WEAK.factors(0))
        close(total.detach(), expected.detach().cpu(), 1e-7)
    assert "compiled the loss" in capfd.readouterr().out


def energies(potential: Predictor) -> np.ndarray:
    return np.array([atoms.get_potential_energy() for atoms in piwsl.predict(potential, TEST)])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("architecture", CONSERVATIVE)
def test_a_training_ends_where_that_of_the_cpu_does(architecture, loss, tmp_path):
    model = CONSERVATIVE[architecture].model_copy(update={"training": Training(**FEW)})
    pool = POOL if LOSSES[loss].pool else []
    here, there = (
        piwsl.train(FRAMES, tmp_path / str(gpus), model, LOSSES[loss], pool=pool, devices=gpus) for gpus in (0, 1)
    )
    # eV; the sums of a GPU are in another order each time, which 30 steps of AdamW make 1e-7 of at most.
    np.testing.assert_allclose(energies(there), energies(here), rtol=0, atol=1e-5)
    histories = [pd.read_csv(tmp_path / str(gpus) / "history.csv") for gpus in (0, 1)]
    pd.testing.assert_frame_equal(*histories, rtol=1e-3)


def test_what_was_trained_on_a_gpu_is_used_on_either(tmp_path):
    model = CONSERVATIVE["painn"].model_copy(update={"training": Training(**FEW)})
    here = piwsl.train(FRAMES, tmp_path, model, devices=1)
    there = load_model(tmp_path / "model.safetensors", "cuda")
    assert (here.device.type, there.device.type) == ("cpu", "cuda")
    np.testing.assert_allclose(energies(there), energies(here), rtol=0, atol=1e-9)
    assert piwsl.evaluate(there, TEST) == pytest.approx(piwsl.evaluate(here, TEST), abs=1e-6)
    atoms = TEST[0].copy()
    atoms.calc = PotentialCalculator(there)
    own = TEST[0].copy()
    own.calc = PotentialCalculator(here)
    np.testing.assert_allclose(atoms.get_forces(), own.get_forces(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("forces", [1.0, 0.0], ids=["with forces", "energies alone"])
def test_a_gaussian_process_predicts_the_same_with_its_uncertainty(forces, tmp_path):
    frames = morse_frames("CH3OH", 12, forces=True)
    piwsl.train(frames, tmp_path, GaussianProcess(architecture="gaussian_process"), Loss(forces=forces))
    here, there = (load_model(tmp_path / "model.safetensors", device) for device in ("cpu", "cuda"))
    batch = batch_of(morse_frames("CH3OH", 6, seed=4), here.cutoff)
    expected, found = (each.predict(batch.to(each.device), {"energy", "forces", "spread"}) for each in (here, there))
    close(found.energy.detach(), expected.energy.detach(), 1e-7)
    close(found.forces.detach(), expected.forces.detach(), 1e-6)
    close(found.energy_std.detach(), expected.energy_std.detach(), 1e-5)
    close(found.forces_std.detach(), expected.forces_std.detach(), 1e-5)


def test_a_process_a_committee_and_mixed_precision_are_trained_there_too(tmp_path):
    frames = morse_frames("CH3OH", 12, forces=True)
    for name, model in {
        "process": {"architecture": "gaussian_process"},
        "committee": {"architecture": "painn", **SMALL, "members": 2, "training": FEW},
        "mixed": {
            "architecture": "painn",
            **(SMALL | {"dtype": "float32"}),
            "training": FEW | {"mixed_precision": True},
        },
        "compiled": {"architecture": "painn", **(SMALL | {"dtype": "float32"}), "training": FEW | {"compile": True}},
    }.items():
        found = piwsl.train(frames, tmp_path / name, model, devices=1)
        errors = piwsl.evaluate(found, frames)
        assert np.isfinite(errors["energy_mae_meV"]), name
        assert np.isfinite(errors["force_mae_meV_per_A"]), name


class Stopped(Exception):
    """In the middle of a training."""


def test_a_training_that_was_stopped_goes_on(tmp_path, monkeypatch):
    model = CONSERVATIVE["painn"].model_copy(update={"training": Training(**FEW)})
    whole = piwsl.train(FRAMES, tmp_path / "whole", model, WEAK, devices=1)
    original, steps = PotentialModule.training_step, []

    def dying(self, batch, index):
        steps.append(self.global_step)
        if steps.count(25) == 1 and self.global_step == 25:
            raise Stopped
        return original(self, batch, index)

    monkeypatch.setattr(PotentialModule, "training_step", dying)
    with pytest.raises(Stopped):
        piwsl.train(FRAMES, tmp_path / "stopped", model, WEAK, devices=1)
    again = piwsl.train(FRAMES, tmp_path / "stopped", model, WEAK, devices=1)
    assert steps == [*range(26), *range(20, 30)]
    np.testing.assert_allclose(energies(again), energies(whole), rtol=0, atol=1e-5)


def test_replicas_take_the_path_of_the_cpu():
    settings = ReplicaSimulation(time=0.02, timestep=0.5, bond_tolerance=50.0)
    config = PaiNN(architecture="painn", features=16, layers=2, cutoff=4.0, dtype="float64")
    torch.manual_seed(0)
    # As if it had many neighbours, which makes an untrained surface smooth enough for dynamics.
    potential = Potential(config, 5.0, {1: 0.0, 7: 0.0, 8: 0.0, 14: 0.0}, neighbours=300.0)
    starts = [
        Replica(0, from_atoms(without_labels(atoms)), 300.0, number, judged_bonds(atoms, [], 50.0))
        for number, atoms in enumerate([TEST[0], TEST[-1], crystal()])
    ]
    here, there = (
        run_replicas(copy.deepcopy(potential).to(device), starts, settings, progress=lambda line: None)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there.positions, here.positions, rtol=0, atol=1e-9)


def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PiwslError, match="cuda:99"):
        load_model(Path(tmp_path) / "model.safetensors", "cuda:99")
