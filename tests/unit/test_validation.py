"""What validation says is the loss of training, and what weights are chosen by knows no unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import morse_frames

from piwsl.architectures.painn import PaiNN
from piwsl.config import Loss
from piwsl.data.batch import Batch, collate, graph
from piwsl.loss_terms.augmentation import Augmentation
from piwsl.loss_terms.pisc import PISC
from piwsl.loss_terms.pitc import PITC
from piwsl.loss_terms.weak_forces import WeakForces
from piwsl.losses import training_loss
from piwsl.models import Potential, build_potential
from piwsl.models.statistics import Collated, refit_references
from piwsl.models.terms import Prediction
from piwsl.structures.structure import from_atoms
from piwsl.training.validation import ValidationErrors


@pytest.fixture(scope="module")
def structures():
    frames = morse_frames("H2O", 6, forces=True) + morse_frames("NH3", 4) + morse_frames("CH4", 3, forces=True)
    return [from_atoms(atoms) for atoms in frames]


@pytest.fixture(scope="module")
def potential(structures) -> Potential:
    torch.manual_seed(0)
    return build_potential(PaiNN(architecture="painn", features=8, layers=1, dtype="float64"), structures)


@pytest.fixture(scope="module")
def mixed(structures) -> Batch:
    return collate([graph(structure, 5.0, torch.float64) for structure in structures])


def validated(loss: Loss, batches: list[Batch], potential: Potential) -> ValidationErrors:
    errors = ValidationErrors(loss)
    for batch in batches:
        errors.add(batch, potential.predict(batch, errors.properties_of(batch)))
    return errors


@pytest.mark.parametrize("function", ["mse", "mae", "huber"])
@pytest.mark.parametrize("per", ["atom", "structure"])
def test_the_validation_loss_is_the_training_loss_of_the_labels(potential, mixed, function, per):
    loss = Loss(energy=3.0, forces=7.0, function=function, huber=0.05, per=per)
    total, _ = training_loss(potential, mixed, loss, [], loss.factors(0))
    assert validated(loss, [mixed], potential).loss() == pytest.approx(float(total.detach()), rel=1e-12)


def test_it_does_not_matter_how_the_frames_are_batched(potential, structures, mixed):
    loss = Loss(function="mae")
    graphs = [graph(structure, 5.0, torch.float64) for structure in structures]
    pieces = validated(loss, [collate(graphs[:4]), collate(graphs[4:9]), collate(graphs[9:])], potential)
    whole = validated(loss, [mixed], potential)
    assert pieces.loss() == pytest.approx(whole.loss(), rel=1e-12)
    assert pieces.criterion() == pytest.approx(whole.criterion(), rel=1e-12)
    assert pieces.rmse() == pytest.approx(whole.rmse(), rel=1e-12)


def test_large_cells_are_not_validated_on_64_at_a_time():
    def dilute(atoms: int) -> Batch:
        positions = 3.0 * np.stack(np.unravel_index(np.arange(atoms), (20, 20, 20)), axis=1)
        return graph(from_atoms(Atoms(f"He{atoms}", positions)), 2.0, torch.float32)

    def sizes(*atoms: int) -> list[list[int]]:
        held = Collated([dilute(count) for count in atoms])
        assert bool(held) == bool(atoms)
        return [batch.n_atoms.int().tolist() for batch in held]

    assert sizes(900, 900, 300, 2500, 1, 1999, 1) == [[900, 900], [300], [2500], [1, 1999], [1]]
    assert sizes(*[31] * 70) == [[31] * 64, [31] * 6]
    assert sizes() == []


def criterion(batch: Batch, energy: float, force: float, loss: Loss) -> float:
    """Return the criterion of errors that are the same for all structures (eV an atom) and components (eV/Å)."""
    errors = ValidationErrors(loss)
    predicted = Prediction(batch.energy + energy * batch.n_atoms, torch.empty(0), batch.forces + force, None)
    errors.add(batch, predicted)
    return errors.criterion()


@pytest.mark.parametrize("function", ["mse", "mae"])
def test_a_lower_force_error_does_not_pay_for_energies_that_are_four_times_worse(mixed, function):
    early = criterion(mixed, energy=0.038, force=0.985 * 0.14, loss=Loss(function=function))
    late = criterion(mixed, energy=0.0087, force=0.14, loss=Loss(function=function))
    assert late < early


@pytest.mark.parametrize("function", ["mse", "mae"])
def test_weights_of_the_loss_and_units_of_the_labels_change_no_choice(mixed, function):
    def ratio(scale: float, **weights: float) -> float:
        loss = Loss(function=function, **weights)
        return criterion(mixed, 0.01 * scale, 0.1, loss) / criterion(mixed, 0.012 * scale, 0.09, loss)

    expected = ratio(1.0)
    assert ratio(1.0, energy=1000.0, forces=0.001) == pytest.approx(expected, rel=1e-9)
    assert ratio(27.2114) == pytest.approx(expected, rel=1e-9)


def test_energies_alone_are_a_criterion_too(potential, mixed):
    unlabelled = mixed.labelled(forces=torch.full_like(mixed.forces, torch.nan))
    errors = validated(Loss(), [unlabelled], potential)
    assert list(errors.rmse()) == ["energy"]
    assert errors.criterion() == pytest.approx(errors.rmse()["energy"] ** 2, rel=1e-12)


@pytest.mark.parametrize("forces", [0.0, 100.0])
def test_energies_are_a_criterion_where_nothing_that_the_loss_weighs_is_labelled(potential, mixed, forces):
    unlabelled = mixed.labelled(forces=torch.full_like(mixed.forces, torch.nan))
    loss = Loss(energy=0.0, forces=forces, weak_forces=WeakForces(weight=1.0))
    errors = validated(loss, [unlabelled], potential)
    assert errors.criterion() == pytest.approx(errors.rmse()["energy"] ** 2, rel=1e-12)


def test_an_untrained_potential_has_no_constant_error(structures, potential, mixed):
    water = np.array([len(structure.numbers) == 3 for structure in structures])
    residuals = (mixed.energy - potential.energy(mixed)).detach().numpy()
    assert abs(residuals[water].mean()) < 1e-9
    assert np.abs(residuals[water]).max() > 1e-3


def test_a_refit_takes_away_what_an_energy_an_element_explains_and_nothing_else(potential, mixed):
    energy, forces = (value.detach() for value in potential.energy_and_forces(mixed))
    shifted = build_copy(potential)
    shifted.references.energies[torch.tensor([1, 8])] += torch.tensor([0.7, -31.0], dtype=torch.float64)
    refit_references(shifted, [mixed])
    again, same = (value.detach() for value in shifted.energy_and_forces(mixed))
    torch.testing.assert_close(again, energy, rtol=0.0, atol=1e-9)
    torch.testing.assert_close(same, forces, rtol=0.0, atol=1e-12)
    assert shifted.elements() == potential.elements()


def test_a_refit_passes_over_absent_energies(potential, mixed):
    refitted, holed = build_copy(potential), mixed.energy.clone()
    holed[0] = torch.nan
    refit_references(refitted, [mixed.labelled(energy=holed)])
    assert torch.isfinite(refitted.energy(mixed)).all()


def build_copy(potential: Potential) -> Potential:
    twin = Potential(potential.config, 1.0, dict.fromkeys([1, 6, 7, 8], 0.0), potential.neighbours)
    twin.load_state_dict(potential.state_dict())
    return twin


@pytest.mark.parametrize(
    ("given", "supervised", "displaced"),
    [
        ({}, True, False),
        ({"forces": 0.0}, True, False),
        ({"weak_forces": WeakForces(weight=1.0)}, False, False),
        ({"pitc": PITC(weight=1.0)}, False, True),
        ({"pisc": PISC(weight=1.0)}, False, True),
        ({"augmentation": Augmentation()}, False, True),
    ],
)
def test_a_loss_says_what_it_learns_from(given, supervised, displaced):
    loss = Loss(**given)
    assert (loss.supervised, loss.displaced) == (supervised, displaced)
