"""The weak losses on potentials with known derivatives, and each structure summed by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import morse_frames
from torch import nn

from piwsl.architectures.painn import PaiNN
from piwsl.config import Loss
from piwsl.data.batch import Batch, BatchLabels, collate, graph, sum_per_structure
from piwsl.loss_terms.augmentation import Augmentation
from piwsl.loss_terms.pisc import PISC
from piwsl.loss_terms.pitc import PITC
from piwsl.loss_terms.weak_forces import WeakForces
from piwsl.losses import (
    StepPlaces,
    displacements_of_step,
    draw_displacements,
    factors_of_rank,
    largest_displacement,
    residual_counts,
    training_loss,
)
from piwsl.models import Potential, build_potential
from piwsl.models.terms import Prediction
from piwsl.structures.frames import without_labels
from piwsl.structures.structure import from_atoms


def both(order) -> dict[str, PITC | PISC]:
    return {"pitc": PITC(weight=1.0, order=order), "pisc": PISC(weight=1.0, order=order)}


FIRST, SECOND = both(1), both(2)
CLOSINGS = ["B_to_C", "C_to_B", "C_to_A", "two_routes", "loop"]


class Known(nn.Module):
    """A potential whose energies and forces are written down; predicts what it is asked for."""

    def predict(self, batch: Batch, properties: set[str], create_graph: bool = False) -> Prediction:
        if "forces" not in properties:
            return Prediction(self.energy(batch), torch.empty(0), None, None)
        energy, forces = self.energy_and_forces(batch, create_graph)
        return Prediction(energy, torch.empty(0), forces, None)


class PairPotential(Known):
    """Energy of all edges by a function of distance, differentiable, with forces as the gradient."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.strength = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def energy(self, batch: Batch) -> torch.Tensor:
        receiver, sender = batch.edge_index
        bond = batch.positions[sender] + batch.edge_shift - batch.positions[receiver]
        pair = 0.5 * self.strength * self.function(torch.linalg.vector_norm(bond, dim=1))
        atoms = torch.zeros(len(batch.atomic_numbers), dtype=torch.float64).index_add(0, receiver, pair)
        return sum_per_structure(atoms, batch)

    def energy_and_forces(self, batch: Batch, create_graph: bool = False):
        positions = batch.positions.detach().requires_grad_()
        energy = self.energy(batch.at(positions))
        (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=create_graph)
        return energy, -gradient


class Polynomial(PairPotential):
    """Sums a power of one coordinate over the atoms."""

    def __init__(self, degree: int):
        super().__init__(None)
        self.degree = degree

    def energy(self, batch: Batch) -> torch.Tensor:
        return sum_per_structure(batch.positions[:, 0] ** self.degree, batch)


class Harmonic(Known):
    """E = ½ Σ (r - r0)ᵀ K (r - r0) with a random K for each structure: its Hessian is known everywhere."""

    def __init__(self, batch: Batch):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        size = 3 * len(batch.atomic_numbers)
        random = torch.randn(size, size, generator=generator, dtype=torch.float64)
        same = (
            (batch.structure_index[:, None] == batch.structure_index[None, :])
            .repeat_interleave(3, 0)
            .repeat_interleave(3, 1)
        )
        self.hessian = (random @ random.T) * same
        self.origin = batch.positions - 0.1

    def energy_and_forces(self, batch: Batch, create_graph: bool = False):
        return self.energy(batch), self._forces(batch)

    def _forces(self, batch: Batch) -> torch.Tensor:
        copies = len(batch.atomic_numbers) // len(self.origin)
        shifts = (batch.positions - self.origin.repeat(copies, 1)).reshape(copies, -1)
        return -(shifts @ self.hessian).reshape(-1, 3)

    def energy(self, batch: Batch) -> torch.Tensor:
        copies = len(batch.atomic_numbers) // len(self.origin)
        shift = batch.positions - self.origin.repeat(copies, 1)
        return sum_per_structure(-0.5 * (shift * self._forces(batch)).sum(dim=1), batch)


def morse(distance: torch.Tensor) -> torch.Tensor:
    return 2.0 * (1 - torch.exp(-1.5 * (distance - 1.1))) ** 2


def lennard_jones(distance: torch.Tensor) -> torch.Tensor:
    return 0.5 * ((1.2 / distance) ** 6 - (1.2 / distance) ** 3)


@pytest.fixture
def mixed() -> Batch:
    """Structures of 3, 4, 6 and 3 atoms in one batch, float64, with a wide neighbour list."""
    frames = morse_frames("H2O", 1) + morse_frames("NH3", 1) + morse_frames("CH3OH", 1) + morse_frames("H2O", 1, seed=2)
    return collate([graph(from_atoms(atoms), 20.0, torch.float64) for atoms in frames])


def split(batch: Batch) -> list[Batch]:
    """Return batches of one structure each."""
    parts = []
    for place, size in enumerate(int(atoms) for atoms in batch.n_atoms):
        start = int(batch.n_atoms[:place].sum())
        atoms = slice(start, start + size)
        edges = (batch.edge_index[0] >= start) & (batch.edge_index[0] < start + size)
        part = Batch(
            positions=batch.positions[atoms], atomic_numbers=batch.atomic_numbers[atoms],
            edge_shift=batch.edge_shift[edges], edge_index=batch.edge_index[:, edges] - start,
            structure_index=torch.zeros(size, dtype=torch.int64), n_atoms=batch.n_atoms[[place]],
            cell=batch.cell[[place]], pbc=batch.pbc[[place]],
            labels={
                level: BatchLabels(
                    labels.energy[[place]], labels.forces[atoms], labels.stress[[place]], labels.weight[[place]]
                )
                for level, labels in batch.labels.items()
            },
        )  # fmt: skip
        parts.append(part)
    return parts


def displacements(batch: Batch, length: float) -> list[torch.Tensor]:
    return [length * draw for draw in draw_displacements(batch, 1.0, seed=0, step=0, count=2)]


def term(potential, batch: Batch, loss: Loss, draws: list[torch.Tensor], name: str) -> float:
    return float(training_loss(potential, batch, loss, draws, loss.factors(0))[1][name])


def test_first_order_residuals_of_a_harmonic_potential_are_half_the_curvature(mixed):
    potential = Harmonic(mixed)
    draws = displacements(mixed, 0.05)
    paths = {"pitc": draws[0], "pisc": draws[0] - draws[1]}
    for name, path in paths.items():
        curvature = (path.reshape(-1) @ potential.hessian).reshape(-1, 3) * path
        expected = 0.5 * sum_per_structure(curvature.sum(dim=1), mixed) / mixed.n_atoms
        found = term(potential, mixed, Loss(**FIRST), draws, name)
        assert found == pytest.approx(float((expected**2).mean()), rel=1e-10)


def test_second_order_residuals_of_a_harmonic_potential_vanish(mixed):
    for name in ("pitc", "pisc"):
        assert term(Harmonic(mixed), mixed, Loss(**SECOND), displacements(mixed, 0.05), name) < 1e-25


@pytest.mark.parametrize("function", [morse, lennard_jones])
@pytest.mark.parametrize(("order", "length", "power"), [(1, 1e-3, 2), (2, 1e-3, 3), ("simpson", 2e-3, 5)])
@pytest.mark.parametrize("name", ["pitc", "pisc"])
def test_residuals_fall_with_the_order_of_the_quadrature(mixed, function, order, length, power, name):
    potential, loss = PairPotential(function), Loss(**both(order))
    values = [term(potential, mixed, loss, displacements(mixed, scale * length), name) for scale in (2, 1)]
    # The term is the mean square of residuals, each of which falls as |δ| to the power.
    assert 0.5 * np.log2(values[0] / values[1]) == pytest.approx(power, abs=0.3)


@pytest.mark.parametrize(("order", "power"), [(1, 2), (2, 3), ("simpson", 5), ("gauss-legendre", 7)])
@pytest.mark.parametrize("name", ["pitc", "pisc"])
def test_a_quadrature_is_exact_below_its_order_and_errs_by_that_power_at_it(mixed, order, power, name):
    # Of an energy of that degree nothing is left of higher orders: the power is exact for displacements of any length,
    # where a smooth potential's residual of seventh order drowns in rounding before the eighth is small.
    def residual(degree: int, length: float) -> float:
        draws = displacements(mixed, length)
        return np.sqrt(term(Polynomial(degree), mixed, Loss(**both(order)), draws, name))

    assert residual(power - 1, 0.5) < 1e-6 * residual(power, 0.5)
    assert np.log2(residual(power, 1.0) / residual(power, 0.5)) == pytest.approx(power, abs=1e-5)


@pytest.mark.parametrize(("order", "power"), [(1, 2), (2, 3)])
@pytest.mark.parametrize("closing", CLOSINGS)
def test_every_closing_is_consistent_for_a_conservative_potential(mixed, closing, order, power):
    potential, loss = PairPotential(morse), Loss(pisc=PISC(weight=1.0, order=order, closing=closing))
    values = [term(potential, mixed, loss, displacements(mixed, length), "pisc") for length in (4e-3, 2e-3)]
    assert 0.5 * np.log2(values[0] / values[1]) == pytest.approx(power, abs=0.2)


@pytest.mark.parametrize("closing", CLOSINGS)
def test_every_closing_sees_forces_that_are_no_gradient(mixed, closing):
    class Swirling(PairPotential):
        """Adds a force with a curl, which leaves the energy as it is."""

        def energy_and_forces(self, batch: Batch, create_graph: bool = False):
            energy, forces = super().energy_and_forces(batch, create_graph)
            axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(forces)
            return energy, forces + 50.0 * torch.linalg.cross(axis, batch.positions)

    loss = Loss(pisc=PISC(weight=1.0, order=2, closing=closing))
    draws = displacements(mixed, 2e-3)
    consistent, swirling = (term(kind(morse), mixed, loss, draws, "pisc") for kind in (PairPotential, Swirling))
    assert swirling > 100 * consistent


def test_a_label_takes_the_place_of_the_models_energy_and_force(mixed):
    potential = PairPotential(morse)
    draws = displacements(mixed, 2e-3)
    energy, forces = potential.energy_and_forces(mixed)
    exact = mixed.labelled(energy=energy.detach(), forces=forces.detach())
    shifted = exact.labelled(energy=exact.energy + 0.7 * mixed.n_atoms)

    def pitc(batch: Batch, anchor: str) -> float:
        return term(potential, batch, Loss(pitc=PITC(weight=1.0, anchor=anchor)), draws, "pitc")

    # With labels that the model meets, all anchors are one; with labels that are wrong by 0.7 eV an atom, they show it.
    assert pitc(exact, "label") == pytest.approx(pitc(exact, "model"), rel=1e-8)
    assert pitc(exact, "pseudo-label") == pytest.approx(pitc(exact, "model"), rel=1e-8)
    assert pitc(shifted, "model") == pitc(exact, "model")
    assert pitc(shifted, "label") == pytest.approx(0.49, rel=0.05)
    assert pitc(shifted, "pseudo-label") == pytest.approx(0.49, rel=0.05)


def test_pseudo_labels_are_of_structures_with_forces_alone(mixed):
    potential = PairPotential(morse)
    draws = displacements(mixed, 2e-3)
    energy, forces = (value.detach() for value in potential.energy_and_forces(mixed))
    loss = Loss(pitc=PITC(weight=1.0, anchor="pseudo-label"))
    some = forces.clone()
    some[:3] = torch.nan
    part = mixed.labelled(energy=energy, forces=some)
    # The first structure, of three atoms, has no forces: a wrong energy of it is not seen.
    wrong = part.labelled(energy=part.energy + torch.tensor([9.0, 0, 0, 0], dtype=torch.float64))
    assert term(potential, wrong, loss, draws, "pitc") == term(potential, part, loss, draws, "pitc")
    none = part.labelled(forces=torch.full_like(forces, torch.nan))
    assert term(potential, none, loss, draws, "pitc") == 0.0


def test_augmentation_compares_displaced_structures_with_the_labels_of_the_undisplaced(mixed):
    potential = PairPotential(morse)
    draws = displacements(mixed, 2e-3)
    labels = potential.energy_and_forces(mixed.at(mixed.positions + draws[0]))
    batch = mixed.labelled(energy=labels[0].detach(), forces=labels[1].detach())
    loss = Loss(augmentation=Augmentation(weight=1.0))
    for name in ("energy", "forces"):
        assert term(potential, batch, loss, draws, f"augmentation_{name}") < 1e-25
        assert term(potential, batch, loss, draws, name) > 1e-10
    assert term(potential, mixed, loss, draws, "augmentation_energy") > 0.0
    assert term(potential, mixed, loss, draws, "augmentation_forces") == 0.0


@pytest.mark.parametrize(("function", "expected"), [("mse", 0.25), ("mae", 0.5), ("huber", 0.1 * (0.5 - 0.05))])
@pytest.mark.parametrize("per", ["atom", "structure"])
def test_residuals_are_measured_as_asked(mixed, function, expected, per):
    potential = PairPotential(morse)
    error = 0.5 * (mixed.n_atoms if per == "atom" else torch.ones_like(mixed.n_atoms))
    batch = mixed.labelled(energy=potential.energy(mixed).detach() + error)
    loss = Loss(function=function, huber=0.1, per=per)
    assert term(potential, batch, loss, [], "energy") == pytest.approx(expected, rel=1e-9)


def test_weak_terms_start_late_grow_and_may_rest():
    loss = Loss(pitc=PITC(weight=1.0, every=2), augmentation=Augmentation(weight=1.0), start=4, ramp=3)
    steps = [loss.factors(step) for step in range(10)]
    # Twice as much at every second step.
    assert [factors.get("pitc") for factors in steps] == [None] * 4 + [0.5, None, 1.5, None, 2.0, None]
    assert [factors.get("augmentation_energy") for factors in steps] == [None] * 4 + [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert all(factors["energy"] == factors["forces"] == 1.0 for factors in steps)
    assert Loss().factors(100).keys() == {"energy", "forces"}


def test_what_has_no_weight_is_not_evaluated():
    forces_alone = Loss(energy=0.0, augmentation=Augmentation(weight=1.0))
    assert forces_alone.factors(0).keys() == {"forces", "augmentation_forces"}
    fading = Loss(forces=0.0, weak_forces=WeakForces(weight=1.0, until=2))
    assert [fading.factors(step).get("weak_forces") for step in range(4)] == [1.0, 0.5, None, None]
    assert "forces" not in fading.factors(0)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_term_that_rests_has_the_same_mean_gradient(mixed, every):
    potential, draws = PairPotential(morse), displacements(mixed, 0.02)

    def mean_gradient(loss: Loss) -> float:
        totals = [training_loss(potential, mixed, loss, draws, loss.factors(step))[0] for step in range(6)]
        return float(torch.autograd.grad(torch.stack(totals).mean(), potential.strength)[0])

    terms = {"pitc": PITC(weight=3.0, every=every), "pisc": PISC(weight=2.0, every=1)}
    always = {"pitc": PITC(weight=3.0), "pisc": PISC(weight=2.0, every=1)}
    assert mean_gradient(Loss(**terms)) == pytest.approx(mean_gradient(Loss(**always)), rel=1e-12)


def test_factors_scale_their_own_terms(mixed):
    potential, draws, loss = PairPotential(morse), displacements(mixed, 0.02), Loss(**FIRST)

    def total(**factors: float) -> float:
        return training_loss(potential, mixed, loss, draws, factors)[0].item()

    assert total(energy=1.0, pitc=0.5) - total(energy=1.0) == pytest.approx(0.5 * total(pitc=1.0), rel=1e-10)
    assert total(pitc=0.0, pisc=3.0) == pytest.approx(3.0 * total(pisc=1.0), rel=1e-10)


class Counting(PairPotential):
    """Notes what it is asked for: how many structures, and whether their forces."""

    def __init__(self):
        super().__init__(morse)
        self.asked = []

    def energy(self, batch: Batch) -> torch.Tensor:
        self.asked.append((batch.structures, "energies"))
        return super().energy(batch)

    def energy_and_forces(self, batch: Batch, create_graph: bool = False):
        self.asked.append((batch.structures, "forces"))
        silent = PairPotential(morse)
        silent.strength = self.strength
        return silent.energy_and_forces(batch, create_graph)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("name", ["pitc", "pisc", "augmentation"])
def test_a_term_is_evaluated_on_its_share_of_the_structures_alone(mixed, name, share):
    kind = {"pitc": PITC, "pisc": PISC, "augmentation": Augmentation}[name]
    names = ("augmentation_energy", "augmentation_forces") if name == "augmentation" else (name,)
    batch = mixed.labelled(energy=torch.arange(4.0).double(), forces=torch.zeros_like(mixed.positions))
    count = {0.25: 1, 0.5: 2, 0.7: 3, 1.0: 4}[share]
    part = batch.first(count)
    loss = Loss(**{name: kind(weight=1.0, share=share)})
    draws = displacements(part, 0.02)
    potential = Counting()
    total, terms = training_loss(potential, batch, loss, draws, dict.fromkeys(names, 1.0))
    whole = Loss(**{name: kind(weight=1.0)})
    expected, expected_terms = training_loss(potential, part, whole, draws, dict.fromkeys(names, 1.0))
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(terms, expected_terms, rtol=1e-12, atol=0.0)
    # As much as for a batch of the share alone, and that is as much as so many structures need.
    half = len(potential.asked) // 2
    assert potential.asked[:half] == potential.asked[half:]
    assert max(structures for structures, _ in potential.asked) == count


def test_a_point_that_two_terms_need_is_evaluated_once_for_the_larger_share(mixed):
    potential = Counting()
    loss = Loss(forces=0.0, pitc=PITC(weight=1.0, share=0.75), pisc=PISC(weight=1.0, share=0.5))
    draws = displacements(mixed.first(3), 0.02)
    _, terms = training_loss(potential, mixed, loss, draws, loss.factors(0))
    # Forces at r of all four (whose energies are compared) and at r + δ' of two, energies at r + δ of three.
    assert potential.asked == [(4 + 2, "forces"), (3, "energies")]
    for name, count in (("pitc", 3), ("pisc", 2)):
        part = mixed.first(count)
        alone = Loss(**{name: type(getattr(loss, name))(weight=1.0)})
        cut = [draw[: len(part.positions)] for draw in draws]
        assert float(terms[name]) == pytest.approx(term(PairPotential(morse), part, alone, cut, name), rel=1e-12)


def test_processes_that_share_a_batch_weigh_their_means_by_what_they_have_residuals_of(mixed):
    forces = torch.full_like(mixed.positions, torch.nan)
    forces[:7] = 0.3  # of the first two structures, of 3 and 4 atoms
    energy = torch.tensor([1.0, 2.0, torch.nan, 3.0], dtype=torch.float64)
    batch = mixed.labelled(energy=energy, forces=forces)
    loss = Loss(pitc=PITC(weight=0.7, share=0.75, anchor="label"), pisc=PISC(weight=0.2, share=0.5))
    factors, potential = loss.factors(0), PairPotential(morse)
    draws = displacements(batch.first(3), 0.02)
    expected = training_loss(potential, batch, loss, draws, factors)[0]
    own = [
        residual_counts(structure, loss, factors, StepPlaces.in_turn(4, place, 4))
        for place, structure in enumerate(split(batch))
    ]
    together = torch.stack(own).sum(dim=0)
    assert dict(zip(factors, together.tolist(), strict=True)) == {"energy": 3, "forces": 21, "pitc": 2, "pisc": 2}
    found = []
    for place, structure in enumerate(split(batch)):
        here = [draw[batch.structure_index[: len(draw)] == place] for draw in draws]
        mine = factors_of_rank(factors, own[place], together, 4)
        found.append(training_loss(potential, structure, loss, here, mine, StepPlaces.in_turn(4, place, 4))[0])
    torch.testing.assert_close(torch.stack(found).mean(), expected, rtol=1e-12, atol=0.0)


def test_a_process_without_residuals_has_a_loss_of_zero_that_can_be_differentiated(mixed):
    none = torch.zeros(2, dtype=torch.float64)
    factors = factors_of_rank({"energy": 1.0, "forces": 1.0}, none, torch.tensor([3.0, 9.0]), 2)
    potential = PairPotential(morse)
    total, _ = training_loss(potential, mixed, Loss(), [], factors)
    assert total.item() == 0.0
    assert float(torch.autograd.grad(total, potential.strength)[0]) == 0.0


@pytest.mark.parametrize("kind", ["conservative", "direct"])
@pytest.mark.parametrize("with_forces", [False, True], ids=["energies", "energies and forces"])
@pytest.mark.parametrize("terms", [FIRST, SECOND, {"pitc": FIRST["pitc"]}, {"pisc": SECOND["pisc"]}])
def test_fused_evaluation_is_the_plain_triple_evaluation_and_so_are_its_gradients(with_forces, terms, kind):
    frames = morse_frames("H2O", 2, forces=with_forces) + morse_frames("NH3", 2)
    structures = [from_atoms(atoms) for atoms in frames]
    config = PaiNN(architecture="painn", forces=kind, cutoff=4.0, features=8, layers=2, radial=6, dtype="float64")
    torch.manual_seed(0)
    potential = build_potential(config, structures)
    batch = collate([graph(structure, 5.0, torch.float64) for structure in structures])
    loss = Loss(energy=2.0, forces=3.0, **terms)
    once = dict.fromkeys(loss.factors(0), 1.0)
    draws = draw_displacements(batch, 0.02, seed=0, step=0, count=2)

    def plain() -> torch.Tensor:
        at = {"A": batch.positions, "B": batch.positions + draws[1], "C": batch.positions + draws[0]}
        energy, forces = {}, {}
        for point, positions in at.items():
            energy[point], forces[point] = potential.energy_and_forces(batch.at(positions), create_graph=True)

        def consistency(start: str, order: int) -> torch.Tensor:
            force = forces[start] if order == 1 else 0.5 * (forces[start] + forces["C"])
            work = [
                ((at["C"] - at[start]) * force)[batch.structure_index == index].sum()
                for index in range(batch.structures)
            ]
            return ((energy["C"] - energy[start] + torch.stack(work)) / batch.n_atoms).square().mean()

        total = 2.0 * ((energy["A"] - batch.energy) / batch.n_atoms).square().mean()
        if with_forces:
            total = total + 3.0 * (forces["A"][:6] - batch.forces[:6]).square().mean()
        if "pitc" in loss.terms:
            total = total + consistency("A", loss.pitc.order)
        if "pisc" in loss.terms:
            total = total + consistency("B", loss.pisc.order)
        return total

    parameters = list(potential.parameters())
    fused, _ = training_loss(potential, batch, loss, draws, once)
    expected = plain()
    assert fused.item() == pytest.approx(expected.item(), rel=1e-10)
    gradients = torch.autograd.grad(fused, parameters, allow_unused=True)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, parameters, allow_unused=True), strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


def test_a_structure_counts_the_same_alone_and_among_others(mixed):
    potential = PairPotential(morse)
    draws = displacements(mixed, 0.03)
    together = term(potential, mixed, Loss(**FIRST), draws, "pitc")
    alone = [
        term(potential, part, Loss(**FIRST), [draw[mixed.structure_index == place] for draw in draws], "pitc")
        for place, part in enumerate(split(mixed))
    ]
    assert together == pytest.approx(np.mean(alone), rel=1e-10)


def test_absent_forces_enter_no_loss_and_are_not_evaluated(mixed):
    loss, potential = Loss(), Counting()
    total, terms = training_loss(potential, mixed, loss, [], loss.factors(0))
    assert torch.isfinite(total)
    assert float(terms["forces"]) == 0.0
    counts = residual_counts(mixed, loss, loss.factors(0), StepPlaces.alone(4))
    assert factors_of_rank(loss.factors(0), counts, counts, 1) == {"energy": 1.0}


def joined(count: int = 3) -> tuple[Potential, Batch, Batch, list[torch.Tensor]]:
    """Return a potential, labelled frames, these and `count` frames without labels, and displacements of all."""
    frames = morse_frames("H2O", 2) + morse_frames("NH3", 2, forces=True)
    pool = [without_labels(atoms) for atoms in morse_frames("H2O", count, seed=9)]
    config = PaiNN(architecture="painn", cutoff=4.0, features=8, layers=2, radial=6, dtype="float64")
    torch.manual_seed(0)
    potential = build_potential(config, [from_atoms(atoms) for atoms in frames])
    graphs = [graph(from_atoms(atoms), 5.0, torch.float64) for atoms in frames + pool]
    together = collate(graphs)
    return potential, collate(graphs[:4]), together, displacements(together, 0.02)


def gradients(potential: nn.Module, batch: Batch, loss: Loss, draws: list[torch.Tensor]) -> torch.Tensor:
    """Return the gradient of the loss by all parameters, (P,)."""
    total, _ = training_loss(
        potential, batch, loss, [draw[: len(batch.atomic_numbers)] for draw in draws], loss.factors(0)
    )
    parameters = list(potential.parameters())
    found = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"function": "mae", "per": "structure"},
        {"augmentation": Augmentation()},
        {"pitc": PITC(weight=1.0, anchor="label", order=2)},
        {"pitc": PITC(weight=1.0, anchor="pseudo-label")},
    ],
    ids=["labels", "labels mae", "augmentation", "anchor label", "anchor pseudo-label"],
)
def test_frames_without_labels_change_no_gradient_of_a_term_on_labels(terms):
    potential, labelled, together, draws = joined()
    loss = Loss(**terms)
    alone = gradients(potential, labelled, loss, draws)
    assert alone.abs().max() > 1e-3
    torch.testing.assert_close(gradients(potential, together, loss, draws), alone, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("terms", [{"pitc": FIRST["pitc"]}, {"pisc": SECOND["pisc"]}], ids=["pitc", "pisc"])
def test_consistency_terms_count_frames_without_labels_like_any_other(terms):
    _, labelled, together, draws = joined(count=4)
    potential = PairPotential(morse)
    of_labels, weak = Loss(), Loss(**terms)

    def of_term(batch: Batch) -> torch.Tensor:
        return gradients(potential, batch, weak, draws) - gradients(potential, batch, of_labels, draws)

    atoms, edges = len(labelled.atomic_numbers), labelled.edge_index.shape[1]
    pool = replace(
        together, positions=together.positions[atoms:], atomic_numbers=together.atomic_numbers[atoms:],
        edge_index=together.edge_index[:, edges:] - atoms, edge_shift=together.edge_shift[edges:],
        structure_index=together.structure_index[atoms:] - 4, n_atoms=together.n_atoms[4:], cell=together.cell[4:],
        pbc=together.pbc[4:], labels={},
    )  # fmt: skip
    pool = pool.labelled()
    alone = gradients(potential, pool, weak, [draw[atoms:] for draw in draws])
    # Four structures each: the mean over all is the mean of both means.
    torch.testing.assert_close(of_term(together), 0.5 * (of_term(labelled) + alone), rtol=1e-7, atol=0.0)
    assert alone.abs().max() > 1e-7


def test_displacements_do_not_translate_and_stay_within_their_bound(mixed):
    for step in range(50):
        for draw in draw_displacements(mixed, 0.02, seed=1, step=step, count=2):
            sums = torch.zeros(4, 3, dtype=torch.float64).index_add(0, mixed.structure_index, draw)
            torch.testing.assert_close(sums, torch.zeros_like(sums), rtol=0, atol=1e-15)
            assert torch.linalg.vector_norm(draw, dim=1).max() <= largest_displacement(0.02) + 1e-12
            assert not draw.requires_grad


def test_displacements_have_the_standard_deviation_that_was_asked_for():
    batch = collate([graph(from_atoms(atoms), 3.0, torch.float64) for atoms in morse_frames("CH3OH", 300)])
    draws = torch.cat([draw_displacements(batch, 0.02, seed=0, step=step, count=1)[0] for step in range(20)])
    # Taking the mean of six atoms away leaves 5/6 of the variance. Of 90,000 free numbers this is good within 0.24 %.
    assert float(draws.std()) == pytest.approx(0.02 * np.sqrt(5 / 6), rel=0.015)


def test_displacements_depend_on_seed_and_step_alone(mixed):
    def draw(seed: int, step: int) -> torch.Tensor:
        return draw_displacements(mixed, 0.02, seed=seed, step=step, count=2)[0]

    assert torch.equal(draw(0, 5), draw(0, 5))
    assert not torch.equal(draw(0, 5), draw(0, 6))
    assert not torch.equal(draw(0, 5), draw(1, 5))
    first, second = draw_displacements(mixed, 0.02, seed=0, step=0, count=2)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", ["gaussian", "uniform", "sphere"])
def test_displacements_of_a_structure_depend_on_its_place_in_the_whole_batch_alone(mixed, kind):
    whole = draw_displacements(mixed, 0.02, seed=0, step=3, count=2, kind=kind)
    structures = split(mixed)
    for rank in range(3):
        places = range(rank, 4, 3)
        own = collate([structures[place] for place in places])
        mine = draw_displacements(own, 0.02, seed=0, step=3, count=2, kind=kind, places=places)
        for all_of_them, some in zip(whole, mine, strict=True):
            expected = torch.cat([all_of_them[mixed.structure_index == place] for place in places])
            torch.testing.assert_close(some, expected, rtol=1e-14, atol=0.0)
    first = draw_displacements(mixed.first(2), 0.02, seed=0, step=3, count=2, kind=kind)
    torch.testing.assert_close(first[0], whole[0][:7], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("kind", ["gaussian", "uniform", "sphere"])
def test_kinds_of_displacement_do_not_translate_and_have_their_length(kind):
    batch = collate([graph(from_atoms(atoms), 3.0, torch.float64) for atoms in morse_frames("CH3OH", 300)])
    (draw,) = draw_displacements(batch, 0.02, seed=0, step=0, count=1, kind=kind)
    sums = torch.zeros(300, 3, dtype=torch.float64).index_add(0, batch.structure_index, draw)
    torch.testing.assert_close(sums, torch.zeros_like(sums), rtol=0, atol=1e-15)
    variance = {"gaussian": 1.0, "uniform": 1 / 3, "sphere": 1 / 3}[kind]
    more = [draw_displacements(batch, 0.02, seed=0, step=step, count=1, kind=kind)[0] for step in range(20)]
    assert float(torch.cat(more).square().mean()) == pytest.approx(5 / 6 * variance * 0.02**2, rel=0.03)


@pytest.mark.parametrize("labelled", [True, False], ids=["forces", "energies alone"])
def test_adversarial_displacements_find_larger_residuals_than_random_ones(mixed, labelled):
    potential = PairPotential(morse)
    energy, forces = (value.detach() for value in potential.energy_and_forces(mixed))
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(forces.shape, generator=generator, dtype=torch.float64)
    labels = forces + noise if labelled else torch.full_like(forces, torch.nan)
    batch = mixed.labelled(energy=energy, forces=labels)
    # Against the label's force where there is one, against the model's own elsewhere.
    loss = Loss(pitc=PITC(weight=1.0, anchor="pseudo-label" if labelled else "model"), displacement=0.01)

    def mean_residual(direction: str) -> float:
        chosen = loss.model_copy(update={"direction": direction})
        draws = [displacements_of_step(potential, batch, chosen, seed=0, step=step) for step in range(8)]
        assert all(not draw.requires_grad for pair in draws for draw in pair)
        return float(np.mean([term(potential, batch, chosen, pair, "pitc") for pair in draws]))

    assert mean_residual("adversarial") > 1.5 * mean_residual("gaussian")


def test_directions_along_labelled_force_errors_cost_one_evaluation_of_forces(mixed):
    labelled = mixed.labelled(forces=torch.zeros_like(mixed.positions))
    forces = labelled.forces.clone()
    forces[:3] = torch.nan
    loss = Loss(pitc=PITC(weight=1.0), displacement=0.01, direction="adversarial")
    for batch, asked in (
        (labelled, [(4, "forces")]),
        (labelled.labelled(forces=forces), [(4, "forces"), (4, "energies")]),
    ):
        potential = Counting()
        displacements_of_step(potential, batch, loss, seed=0, step=0)
        assert potential.asked == asked


# Orders without any force, and the power of |δ| with which their residual falls.
WITHOUT_FORCE = [("central", 2), ("quadratic", 3), ("central-4", 4)]
ORDERS_WITHOUT_FORCE = [order for order, _ in WITHOUT_FORCE]


def without_force(order: str, anchor: str = "model") -> Loss:
    return Loss(pitc=PITC(weight=1.0, order=order, anchor=anchor))


def small_painn(with_forces: bool = False):
    frames = morse_frames("H2O", 2, forces=with_forces) + morse_frames("NH3", 2)
    structures = [from_atoms(atoms) for atoms in frames]
    config = PaiNN(architecture="painn", cutoff=4.0, features=8, layers=2, radial=6, dtype="float64")
    torch.manual_seed(0)
    return build_potential(config, structures), collate([graph(each, 5.0, torch.float64) for each in structures])


@pytest.mark.parametrize("function", [morse, lennard_jones])
@pytest.mark.parametrize(
    ("order", "length", "power"), [("central", 1e-3, 2), ("quadratic", 1e-3, 3), ("central-4", 2e-2, 4)]
)
def test_residuals_without_force_fall_with_their_order(mixed, function, order, length, power):
    potential = PairPotential(function)
    values = [
        term(potential, mixed, without_force(order), displacements(mixed, scale * length), "pitc") for scale in (2, 1)
    ]
    assert 0.5 * np.log2(values[0] / values[1]) == pytest.approx(power, abs=0.3)


@pytest.mark.parametrize(("order", "power"), WITHOUT_FORCE)
def test_an_order_without_force_is_exact_below_its_power_and_errs_by_it_at_it(mixed, order, power):
    def residual(degree: int, length: float) -> float:
        return np.sqrt(term(Polynomial(degree), mixed, without_force(order), displacements(mixed, length), "pitc"))

    for degree in range(power):
        assert residual(degree, 0.5) < 1e-6 * residual(power, 0.5)
    assert np.log2(residual(power, 1.0) / residual(power, 0.5)) == pytest.approx(power, abs=1e-5)


def test_higher_orders_see_no_curvature_where_central_sees_half_of_it(mixed):
    potential, draws = Harmonic(mixed), displacements(mixed, 0.05)
    curvature = (draws[0].reshape(-1) @ potential.hessian).reshape(-1, 3) * draws[0]
    half = 0.5 * sum_per_structure(curvature.sum(dim=1), mixed) / mixed.n_atoms
    assert term(potential, mixed, without_force("central"), draws, "pitc") == pytest.approx(
        float((half**2).mean()), rel=1e-9
    )
    for order in ("quadratic", "central-4"):
        assert term(potential, mixed, without_force(order), draws, "pitc") < 1e-25


def test_quadratic_is_the_trapezoid_of_order_2_by_energies_alone(mixed):
    potential, draws = PairPotential(morse), displacements(mixed, 1e-3)
    by_force = term(potential, mixed, Loss(pitc=PITC(weight=1.0, order=2)), draws, "pitc")
    assert term(potential, mixed, without_force("quadratic"), draws, "pitc") == pytest.approx(by_force, rel=0.05)
    cubic = term(Polynomial(3), mixed, Loss(pitc=PITC(weight=1.0, order=2)), displacements(mixed, 0.5), "pitc")
    found = term(Polynomial(3), mixed, without_force("quadratic"), displacements(mixed, 0.5), "pitc")
    assert found == pytest.approx(cubic, rel=1e-10)


def test_central_is_the_mean_of_order_1_over_both_directions():
    potential, batch = small_painn()
    across = draw_displacements(batch, 0.02, seed=0, step=0, count=1)[0]
    energy, forces = potential.energy_and_forces(batch)

    def first(path: torch.Tensor) -> torch.Tensor:
        work = sum_per_structure((path * forces).sum(dim=1), batch)
        return potential.energy(batch.at(batch.positions + path)) - energy + work

    expected = (0.5 * (first(across) + first(-across)) / batch.n_atoms).square().mean().item()
    assert term(potential, batch, without_force("central"), [across, across], "pitc") == pytest.approx(
        expected, rel=1e-7
    )


@pytest.mark.parametrize("with_forces", [False, True], ids=["energies", "energies and forces"])
@pytest.mark.parametrize("anchor", ["model", "label"])
@pytest.mark.parametrize("order", ORDERS_WITHOUT_FORCE)
def test_gradients_of_residuals_without_force_are_those_of_finite_differences(order, anchor, with_forces):
    potential, batch = small_painn(with_forces)
    draws = draw_displacements(batch, 0.2, seed=0, step=0, count=2)
    parameters = list(potential.parameters())

    def total() -> torch.Tensor:
        loss = without_force(order, anchor)
        return training_loss(potential, batch, loss, draws, loss.factors(0))[0]

    gradients = torch.autograd.grad(total(), parameters, allow_unused=True)
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(each.shape, generator=generator, dtype=each.dtype) for each in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)

    def along(step: float) -> float:
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += step * direction
            value = total().item()
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter -= step * direction
        return value

    step = 1e-4
    coarse, fine = ((along(h) - along(-h)) / (2 * h) for h in (2 * step, step))
    assert (4 * fine - coarse) / 3 == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(("order", "power"), WITHOUT_FORCE)
def test_a_label_takes_the_place_of_the_energy_that_is_interpolated(mixed, order, power):
    potential, draws = PairPotential(morse), displacements(mixed, 1e-2)
    exact = mixed.labelled(energy=potential.energy(mixed).detach())
    shifted = exact.labelled(energy=exact.energy + 0.7 * mixed.n_atoms)

    def pitc(batch: Batch, anchor: str) -> float:
        return term(potential, batch, without_force(order, anchor), draws, "pitc")

    assert pitc(exact, "label") == pytest.approx(pitc(exact, "model"), rel=1e-8)
    assert pitc(shifted, "model") == pitc(exact, "model")
    assert pitc(shifted, "label") == pytest.approx(0.49, rel=0.05)
    # A structure without a label is not compared with one.
    unlabelled = shifted.labelled(energy=shifted.energy.clone().index_fill(0, torch.tensor([0, 1, 2, 3]), torch.nan))
    assert pitc(unlabelled, "label") == 0.0


def pitc_of_step(potential: nn.Module, batch: Batch, loss: Loss, draws: list[torch.Tensor]) -> float:
    """Return the mean of PITC of a step, in which only what the batch has residuals of is evaluated."""
    counts = residual_counts(batch, loss, loss.factors(0), StepPlaces.alone(batch.structures))
    factors = factors_of_rank(loss.factors(0), counts, counts, 1)
    return float(training_loss(potential, batch, loss, draws, factors)[1]["pitc"])


@pytest.mark.parametrize("anchor", ["model", "label"])
@pytest.mark.parametrize("order", ORDERS_WITHOUT_FORCE)
def test_no_force_is_evaluated_where_none_is_compared(mixed, order, anchor):
    class WithoutForces(PairPotential):
        """Has an energy alone."""

        def energy_and_forces(self, batch: Batch, create_graph: bool = False):
            raise AssertionError("a force was evaluated")

    draws = displacements(mixed, 0.02)
    assert pitc_of_step(WithoutForces(morse), mixed, without_force(order, anchor), draws) > 0.0
    with pytest.raises(AssertionError, match="a force was evaluated"):
        pitc_of_step(WithoutForces(morse), mixed, Loss(pitc=PITC(weight=1.0)), draws)


@pytest.mark.parametrize("order", ORDERS_WITHOUT_FORCE)
def test_no_atom_moves_further_than_the_neighbour_list_was_made_for(mixed, order):
    class Recording(PairPotential):
        """Keeps the positions of all copies that it was asked for."""

        def energy(self, batch: Batch) -> torch.Tensor:
            self.asked = batch.positions.reshape(-1, *mixed.positions.shape)
            return super().energy(batch)

    potential, draws = Recording(morse), displacements(mixed, 0.02)
    pitc_of_step(potential, mixed, without_force(order), draws)
    moved = torch.linalg.vector_norm(potential.asked - mixed.positions, dim=2)  # (copies, N)
    assert len(moved) == {"central": 3, "quadratic": 4, "central-4": 5}[order]
    torch.testing.assert_close(moved.max(dim=0).values, torch.linalg.vector_norm(draws[0], dim=1), rtol=1e-9, atol=0)
