"""A compiled loss has the values and gradients of the loss, for any batch; where it cannot be compiled, it says so."""

from __future__ import annotations

import pytest
import torch
from helpers import morse_frames

from piwsl.architectures.painn import PaiNN
from piwsl.config import Loss
from piwsl.data.batch import Batch, collate, graph, pad
from piwsl.loss_terms.pisc import PISC
from piwsl.loss_terms.pitc import PITC
from piwsl.loss_terms.weak_forces import WeakForces
from piwsl.losses import StepPlaces, displacements_of_step, training_loss
from piwsl.models import Potential, build_potential
from piwsl.structures.frames import without_labels
from piwsl.structures.structure import from_atoms
from piwsl.training import compiled
from piwsl.training.batches import Order
from piwsl.training.compiled import CompiledLoss

WEAK = Loss(pitc=PITC(weight=1.0, order=2), pisc=PISC(weight=0.1), weak_forces=WeakForces(weight=1.0))
SHARED = WEAK.model_copy(update={"pisc": PISC(weight=0.1, share=0.6), "pool": 0.3})
FULL = WEAK.factors(0)
ENERGY = {"energy": 1.0}


@pytest.fixture(scope="module")
def graphs() -> list[Batch]:
    frames = morse_frames("H2O", 4) + morse_frames("NH3", 4, forces=True)
    return [graph(from_atoms(atoms), 4.5, torch.float32) for atoms in frames]


@pytest.fixture(scope="module")
def pool() -> list[Batch]:
    """Frames without labels, some larger than any labelled one."""
    frames = [without_labels(atoms) for atoms in morse_frames("H2O", 2, seed=9) + morse_frames("NH3", 2, seed=9)]
    frames += [frames[0] + frames[2] for _ in range(2)]
    for frame in frames[4:]:
        frame.positions[3:] += [0.0, 0.0, 2.0]
    return [graph(from_atoms(atoms), 4.5, torch.float32) for atoms in frames]


def potential() -> Potential:
    config = PaiNN(architecture="painn", cutoff=4.0, features=4, layers=1, radial=4)
    torch.manual_seed(0)
    frames = morse_frames("H2O", 4) + morse_frames("NH3", 4)
    return build_potential(config, [from_atoms(atoms) for atoms in frames])


def gradients(model: Potential, total: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    total.backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def test_padding_changes_no_energy_no_force_and_no_loss(graphs):
    model = potential()
    batch = collate([graphs[0], graphs[4]])
    filled = pad(batch, len(batch.atomic_numbers) + 3, batch.edge_index.shape[1] + 7, structure=True)
    energy, forces = model.energy_and_forces(batch)
    padded_energy, padded_forces = model.energy_and_forces(filled)
    torch.testing.assert_close(padded_energy[:2], energy)
    torch.testing.assert_close(padded_forces[: len(forces)], forces)
    draws = displacements_of_step(model, batch, WEAK, seed=0, step=0)
    longer = [torch.nn.functional.pad(draw, (0, 0, 0, 3)) for draw in draws]
    total, terms = training_loss(model, batch, WEAK, draws, FULL)
    padded_total, padded_terms = training_loss(model, filled, WEAK, longer, FULL)
    torch.testing.assert_close(padded_total, total)
    assert terms.keys() == padded_terms.keys()
    for ours, theirs in zip(gradients(model, padded_total), gradients(model, total), strict=True):
        torch.testing.assert_close(ours, theirs)


def assert_same(objective: CompiledLoss, model: Potential, loss: Loss, batch: Batch, factors, places):
    draws = displacements_of_step(model, batch, loss, seed=0, step=0, places=places.own)
    total, terms = objective(batch, draws, factors, places)
    expected, expected_terms = training_loss(model, batch, loss, draws, factors, places)
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=0.0)
    # A consistency is a square of differences of energies, of which single precision leaves four digits.
    torch.testing.assert_close(terms, expected_terms, rtol=1e-3, atol=1e-12)
    for ours, theirs in zip(gradients(model, total), gradients(model, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_compiled_loss_has_the_values_and_gradients_of_the_loss(graphs, pool, capfd):
    model = potential()
    order = Order(len(graphs), batch_size=6, seed=0, pool=len(pool), share=SHARED.pool)
    objective = CompiledLoss(model, SHARED, graphs, pool, order.of_pool)
    # Three batches of unlike sizes, the largest that can come among them: one compilation serves all. Of the six
    # structures of the step, this process has those at places 1, 3 and 5, of which the first two are of the pool;
    # PISC looks at the first four of six, of which it has these two.
    assert order.of_pool[1::2].tolist() == [True, True, False]
    for (first, second, last), factors in (
        ((0, 2, 4), FULL),
        ((3, 1, 2), FULL | {"weak_forces": 0.5, "pitc": 0.25}),
        ((5, 4, 7), FULL | {"forces": 0.3}),
    ):
        batch = collate([pool[first], pool[second], graphs[last]])
        assert_same(objective, model, SHARED, batch, factors, StepPlaces.in_turn(6, rank=1, ranks=2))
    printed = capfd.readouterr().out
    assert "compiled the loss (energy, forces, pisc, pitc, weak_forces) in" in printed
    assert printed.count("compiled the loss") == 1


def test_a_step_without_a_term_has_a_graph_of_its_own(graphs, capfd, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **keywords: function)  # traced is enough, and takes seconds
    model = potential()
    objective = CompiledLoss(model, SHARED, graphs)
    batch = collate([graphs[index] for index in (0, 4, 5)])
    for names in (("energy", "forces"), ("energy", "pisc"), ("energy", "forces"), ("energy",), ("energy", "pisc")):
        assert_same(objective, model, SHARED, batch, {name: FULL[name] for name in names}, StepPlaces.alone(3))
    assert [line.split(")")[0] for line in capfd.readouterr().out.splitlines()] == [
        f"compiled the loss ({names}" for names in ("energy, forces", "energy, pisc", "energy")
    ]


def test_what_cannot_be_compiled_is_evaluated_as_it_stands(graphs, capfd, monkeypatch):
    def broken(*arguments, **keywords):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", broken)
    model = potential()
    batch = collate(graphs[:3])
    total, _ = CompiledLoss(model, Loss(), graphs)(batch, [], ENERGY, StepPlaces.alone(3))
    assert total.item() == training_loss(model, batch, Loss(), [], ENERGY)[0].item()
    assert "the loss is not compiled (RuntimeError: no compiler here); going on without" in capfd.readouterr().out


@pytest.mark.parametrize("stage", ["traced", "compiled"])
def test_what_was_compiled_wrongly_is_not_used(graphs, capfd, monkeypatch, stage):
    def wrong(function, **keywords):
        def wrapped(*arguments):
            total, terms, found = function(*arguments)
            return total, terms, [gradient * 1.01 for gradient in found]

        return wrapped

    if stage == "traced":
        monkeypatch.setattr(compiled, "make_fx", lambda function: lambda *arguments: wrong(function))
    monkeypatch.setattr(torch, "compile", wrong)
    model = potential()
    total, _ = CompiledLoss(model, Loss(), graphs)(collate(graphs[:3]), [], ENERGY, StepPlaces.alone(3))
    assert f"(Deviation: {stage}, it differs from eager float64 by" in capfd.readouterr().out
    total.backward()
