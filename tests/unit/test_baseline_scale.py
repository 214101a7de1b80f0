"""How many times a cheap level is taken before the difference to it is learned, and added wherever it is used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.fd import calculate_numerical_forces
from helpers import displaced

from piwsl.architectures.gaussian_process import GaussianProcess
from piwsl.config import ConfigError, Loss, named_level, parse_model
from piwsl.errors import PiwslError
from piwsl.evaluation.predict import predict
from piwsl.interfaces import PotentialCalculator
from piwsl.models import Baseline, Potential, load_model
from piwsl.models.scale import SPREAD_OF_SCALE, fit_scale
from piwsl.simulation.surface import ReplicaSurface
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import Structure, from_atoms
from piwsl.training.frames import frames_of_structures
from piwsl.training.run import train

XTB = "gfn2-xtb"
CHEAP = Baseline(XTB, named_level(XTB))
PER_ATOM = {1: -13.0, 6: -1030.0, 8: -2040.0}


def surface(atoms: Atoms) -> tuple[float, np.ndarray]:
    """Return energy and forces of springs between all atoms: what a cheap level may say."""
    apart = atoms.positions[:, None] - atoms.positions[None]
    return 0.25 * float((apart**2).sum()), -apart.sum(axis=1)


def labelled(
    names: list[str], scale: float, noise: float = 0.0, forces: bool = False, energies: bool = True
) -> list[Structure]:
    """Return geometries with a cheap level, and labels that are so many times it, atomic energies and noise (eV)."""
    rng = np.random.default_rng(0)
    found = []
    for name in names:
        atoms = displaced(name, 0.1, rng)
        energy, own = surface(atoms)
        total = scale * energy + sum(PER_ATOM[number] for number in atoms.numbers) + noise * rng.normal()
        theirs = scale * own + noise * rng.normal(size=own.shape)
        labels = Labels(total if energies else None, theirs if forces else None)
        # Cheap levels have atomic energies of their own.
        cheap = Labels(energy - 3.0 * len(atoms), own)
        found.append(from_atoms(atoms).labelled(REFERENCE, labels).labelled("cheap", cheap))
    return found


@pytest.mark.parametrize("scale", [0.85, 1.0, 1.1])
@pytest.mark.parametrize("names", [["H2O"] * 8, ["H2O", "CH4", "H2CO", "CO2", "CH3OH", "H2O2"] * 3])
@pytest.mark.parametrize("labels", [{}, {"forces": True}, {"forces": True, "energies": False}])
def test_the_factor_is_found_whatever_atoms_are_worth_to_either_level(scale, names, labels):
    assert fit_scale(labelled(names, scale, **labels), "cheap") == pytest.approx(scale, abs=1e-6)


def test_the_factor_scatters_as_the_labels_do():
    found = [fit_scale(labelled(["H2O"] * count, 0.85, noise=0.1), "cheap") for count in (400, 50)]
    assert found[0] == pytest.approx(0.85, abs=0.02)
    assert found[1] == pytest.approx(0.85, abs=0.1)


def test_what_is_smooth_is_left_to_the_difference():
    rng = np.random.default_rng(1)
    structures, totals = [], []
    for _ in range(60):
        slow, stiff = rng.uniform(-1.0, 1.0, 2)
        atoms = Atoms("HCN", [[-1.1 + 0.05 * stiff, 0.0, 0.0], [0.0, 0.0, 0.0], [1.2 + 0.2 * slow, 0.0, 0.0]])
        cheap = 1.0 * np.sin(3.0 * stiff) + 1.0 * slow
        labels = 0.85 * np.sin(3.0 * stiff) + 0.3 * slow + 0.2 * slow**2
        structures.append(
            from_atoms(atoms).labelled(REFERENCE, Labels(labels)).labelled("cheap", Labels(cheap, np.zeros((3, 3))))
        )
        totals.append((cheap, labels))
    cheap, labels = (np.array(column) - np.mean(column) for column in zip(*totals, strict=True))
    plain = float(cheap @ labels / (cheap @ cheap))
    found = fit_scale(structures, "cheap")
    assert abs(plain - 0.85) > 0.1
    assert found == pytest.approx(0.85, abs=0.03)


def test_labels_that_scatter_less_count_for_more():
    exact = labelled(["H2O"] * 20, 0.85, forces=True, energies=False)
    useless = labelled(["CH4"] * 20, 1.3, noise=1.0)
    assert fit_scale([*exact, *useless], "cheap") == pytest.approx(0.85, abs=1e-3)


def test_where_there_is_little_to_tell_from_the_plain_difference_is_learned():
    assert fit_scale([], "cheap") == 1.0
    assert fit_scale(labelled(["H2O"], 0.5), "cheap") == 1.0
    assert fit_scale(labelled(["H2O", "CH4"], 0.5), "cheap") == pytest.approx(1.0)  # two compositions, one frame each
    assert fit_scale(labelled(["H2O"] * 10, 0.5), "nobody") == 1.0
    drowned = fit_scale(labelled(["H2O"] * 4, 0.5, noise=100.0), "cheap")
    assert abs(drowned - 1.0) < SPREAD_OF_SCALE / 3


def test_a_model_of_a_multiple_of_a_level_is_that_multiple_wherever_it_is_used(tmp_path):
    frames = [displaced("H2O", 0.05, np.random.default_rng(seed)) for seed in range(12)]
    structures = [CHEAP.known(from_atoms(atoms)) for atoms in frames]
    labels = [structure.at_level(XTB).times(0.8) for structure in structures]
    learned = [
        structure.labelled(REFERENCE, Labels(own.energy)) for structure, own in zip(structures, labels, strict=True)
    ]
    model = GaussianProcess(architecture="gaussian_process", baseline=XTB)
    loss, paths = Loss(), (tmp_path / "model.safetensors", tmp_path / "history.csv")
    train(frames_of_structures(learned[:8], model, seed=0), model, loss, 0, *paths, baseline=CHEAP)
    potential = load_model(tmp_path / "model.safetensors")
    assert potential.baseline is not None
    assert potential.baseline.scale == pytest.approx(0.8, abs=1e-3)
    found = predict(potential, structures[8:])
    for energy, forces, own in zip(found.energy, found.forces, labels[8:], strict=True):
        assert energy == pytest.approx(own.energy, abs=1e-3)
        np.testing.assert_allclose(forces, own.forces, atol=1e-2)
    atoms = frames[9].copy()
    atoms.calc = PotentialCalculator(potential)
    assert atoms.get_potential_energy() == pytest.approx(found.energy[1], abs=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-3), atol=2e-3)


def test_a_number_of_the_config_is_taken_as_it_is(tmp_path):
    structures = [CHEAP.known(from_atoms(displaced("H2O", 0.05, np.random.default_rng(seed)))) for seed in range(8)]
    learned = [each.labelled(REFERENCE, Labels(each.at_level(XTB).times(0.8).energy)) for each in structures]
    for scale in (1.0, 0.9):
        model = GaussianProcess(architecture="gaussian_process", baseline=XTB, baseline_scale=scale)
        path = tmp_path / f"{scale}.safetensors"
        train(frames_of_structures(learned, model, seed=0), model, Loss(), 0, path, tmp_path / "h.csv", baseline=CHEAP)
        baseline = load_model(path).baseline
        assert baseline is not None
        assert baseline.scale == scale


@pytest.mark.parametrize("scale", [-1.0, 11.0, "some", float("nan")])
def test_a_factor_that_is_none_is_refused(scale):
    with pytest.raises(ConfigError, match="baseline_scale"):
        parse_model({"architecture": "painn", "baseline": XTB, "baseline_scale": scale}, "model")


def test_what_has_no_baseline_has_no_factor():
    with pytest.raises(ConfigError, match="baseline_scale: there is no baseline"):
        parse_model({"architecture": "painn", "baseline_scale": 1.0}, "model")


def test_a_simulation_computes_the_baseline_where_the_atoms_are(tmp_path):
    atoms = molecule("H2O")
    known = CHEAP.known(from_atoms(atoms))  # as the test frames of a dataset with that cheap level are
    torch.manual_seed(0)
    config = parse_model(
        {"architecture": "painn", "baseline": XTB, "features": 8, "layers": 1, "dtype": "float64"}, "model"
    )
    potential = Potential(config, 0.5, {1: -0.1, 8: 0.3}, neighbours=2.0)
    potential.baseline = replace(CHEAP, scale=0.8)
    surface_of = ReplicaSurface(potential.eval().requires_grad_(False), [known])
    for moved in (0.0, 0.1):
        atoms.positions[1, 1] += moved
        atoms.calc = PotentialCalculator(potential)
        energies, forces = surface_of(torch.tensor(atoms.positions))
        assert float(energies[0]) == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(forces.numpy(), atoms.get_forces(), atol=1e-6)


@pytest.mark.parametrize("factor", [-1.0, 300.0])
def test_labels_of_another_unit_or_sign_are_doubted(tmp_path, factor):
    structures = [CHEAP.known(from_atoms(displaced("H2O", 0.05, np.random.default_rng(seed)))) for seed in range(8)]
    learned = [each.labelled(REFERENCE, each.at_level(XTB).times(factor)) for each in structures]
    model = GaussianProcess(architecture="gaussian_process", baseline=XTB)
    frames = frames_of_structures(learned, model, seed=0)
    with pytest.raises(PiwslError, match=rf"nearest to {factor:.3g} times .* in the units that were said"):
        train(frames, model, Loss(forces=1.0), 0, tmp_path / "m.safetensors", tmp_path / "h.csv", baseline=CHEAP)
