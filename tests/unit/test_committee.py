"""A committee predicts its members' mean, and their spread; the first is the plain model, and none is trained twice."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from helpers import morse_frames
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_training import struck

import piwsl
from piwsl.architectures.painn import PaiNN
from piwsl.config import ConfigError, Loss, Training, parse_model
from piwsl.data.batch import collate, graph
from piwsl.errors import PiwslError
from piwsl.evaluation.files import predict_file
from piwsl.evaluation.predict import predict
from piwsl.interfaces import PotentialCalculator
from piwsl.models import Committee, Potential, load_model, save_model
from piwsl.models.storage import read_header
from piwsl.structures.frames import write_frames
from piwsl.structures.seeds import seed_of
from piwsl.structures.structure import from_atoms
from piwsl.training.frames import frames_of_structures
from piwsl.training.module import PotentialModule
from piwsl.training.run import Devices, train

WATER = [from_atoms(atoms) for atoms in morse_frames("H2O", 20, forces=True)]
OTHERS = [from_atoms(atoms) for atoms in morse_frames("H2O", 6, seed=5, forces=True)]


def small(members: int = 3, dtype: str = "float32", **training) -> PaiNN:
    settings = Training(**({"steps": 30, "validate_every": 10, "batch_size": 4} | training))
    return PaiNN(
        architecture="painn", cutoff=4.0, features=8, layers=2, radial=6, dtype=dtype, members=members,
        training=settings,
    )  # fmt: skip


def untrained(members: int = 3, **keys) -> Committee:
    torch.manual_seed(0)
    one = small(1, **keys)
    return Committee([Potential(one, 1.7, {1: -13.6, 8: -2041.0}, 2.0) for _ in range(members)])


def train_in(folder: Path, model: PaiNN, structures=WATER, loss: Loss | None = None, devices: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    path, frames = folder / "model.safetensors", frames_of_structures(structures, model, seed=0)
    where = Devices("cpu", devices)
    train(frames, model, loss or Loss(), 0, path, folder / "history.csv", threads=devices, devices=where)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The model file of a committee that was not interrupted."""
    return train_in(tmp_path_factory.mktemp("trained"), small())


def bits(tensors: dict[str, torch.Tensor]) -> dict[str, bytes]:
    # The references of unknown elements are NaN, which no comparison of numbers calls equal.
    return {key: tensor.numpy().tobytes() for key, tensor in tensors.items()}


def of_member(path: Path, member: int) -> dict[str, bytes]:
    prefix = f"members.{member}."
    return {key.removeprefix(prefix): own for key, own in bits(load_file(path)).items() if key.startswith(prefix)}


def test_the_first_member_is_the_model_without_the_others_bit_by_bit(trained, tmp_path):
    alone = train_in(tmp_path, small(1))
    assert bits(load_file(alone)) == of_member(trained, 0)
    own = pd.read_csv(tmp_path / "history.csv")
    rows = pd.read_csv(trained.with_name("history.csv"))
    assert "member" not in own
    pd.testing.assert_frame_equal(rows[rows["member"] == 0].drop(columns="member"), own, check_exact=True)
    assert rows["member"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert rows["step"].tolist() == 3 * [10, 20, 30]


def test_members_differ(trained):
    weights = [of_member(trained, member)["learned.network.filters.weight"] for member in range(3)]
    assert len(set(weights)) == 3


@pytest.mark.parametrize("pair_potential", [False, True])
def test_it_predicts_the_mean_of_its_members_and_their_sample_standard_deviation(tmp_path, pair_potential):
    path = train_in(tmp_path, small().model_copy(update={"pair_potential": pair_potential}))
    committee = load_model(path)
    assert isinstance(committee, Committee)
    assert committee.has_pair_potential == pair_potential
    found, own = predict(committee, OTHERS), [predict(member, OTHERS) for member in committee.potentials]
    energies = np.array([each.energy for each in own])
    np.testing.assert_allclose(found.energy, energies.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.energy_std, energies.std(axis=0, ddof=1), rtol=1e-6)
    for frame in range(len(OTHERS)):
        forces = np.array([each.forces[frame] for each in own])
        np.testing.assert_allclose(found.forces[frame], forces.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(found.forces_std[frame], forces.std(axis=0, ddof=1), atol=1e-5)
    assert own[0].energy_std is None
    assert own[0].forces_std is None


def test_forces_and_stress_are_derivatives_of_the_mean_energy():
    committee = untrained(dtype="float64")
    water = molecule("H2O", vacuum=2.0, pbc=True)
    water.rattle(0.1, seed=1)
    batch = graph(from_atoms(water), committee.cutoff, torch.float64)
    found = committee.predict(batch, {"forces", "stress"})
    step, strained = 1e-4, []
    for sign in (1, -1):
        moved = batch.positions.clone()
        moved[1, 2] += sign * step
        strain = torch.zeros(1, 3, 3, dtype=torch.float64)
        strain[0, 0, 0] = sign * step
        strained.append((committee.energy(batch.at(moved)), committee.energy(batch.strained(strain))))
    (up, longer), (down, shorter) = strained
    assert found.forces[1, 2].item() == pytest.approx(-(up - down).item() / (2 * step), rel=1e-5)
    volume = abs(float(torch.linalg.det(batch.cell[0])))
    assert found.stress[0, 0, 0].item() == pytest.approx((longer - shorter).item() / (2 * step) / volume, rel=1e-5)


def test_without_forces_asked_for_it_has_no_spread_of_them():
    committee = untrained()
    batch = collate([graph(structure, committee.cutoff, torch.float32) for structure in OTHERS])
    found = committee.predict(batch, {"energy"})
    assert found.forces is None
    assert found.forces_std is None
    assert found.energy_std.shape == (len(OTHERS),)


def test_precision_and_device_are_those_of_all_members():
    committee = untrained().in_dtype(torch.float64)
    assert committee.dtype == torch.float64
    batch = collate([graph(structure, committee.cutoff, torch.float64) for structure in OTHERS])
    assert committee.predict(batch).forces_std.dtype == torch.float64
    assert committee.device == torch.device("cpu")
    with pytest.raises(PiwslError, match="not trained on C; it knows H, O"):
        committee.check_elements(np.array([6, 1]))


@pytest.mark.parametrize(("members", "frames", "fraction"), [(3, 20, 0.1), (10, 20, 0.1), (4, 10, 0.3), (3, 2, 0.5)])
def test_each_member_validates_on_the_next_frames_and_learns_from_all_others(members, frames, fraction):
    model = small(members, validation_fraction=fraction)
    taken = frames_of_structures(WATER[:frames], model, seed=3)
    validated = []
    for member in range(members):
        own = taken.of_member(member)
        assert sorted([*own.training.indices, *own.validation.indices]) == list(range(frames))
        assert len(own.validation) == round(fraction * frames)
        for taken_of_member in (own.training, own.validation):
            found = zip(taken_of_member, taken_of_member.indices, strict=True)
            assert all(structure is WATER[index] for structure, index in found)
        validated += own.validation.indices.tolist()
    counts = np.bincount(validated, minlength=frames)
    assert counts.max() - counts.min() <= 1


def test_without_validation_all_members_learn_from_all_frames_and_nothing_is_held_out(tmp_path):
    model = small(2, validation_fraction=0.0)
    frames = frames_of_structures(WATER, model, seed=0)
    assert all(len(frames.of_member(member).training) == len(WATER) for member in range(2))
    held_out = read_header(train_in(tmp_path, model))["provenance"]["held_out"]
    assert held_out == {"frames": 0, "energy_rmse": None, "forces_rmse": None}


def test_the_file_says_how_well_members_know_the_frames_that_they_did_not_learn_from(trained):
    committee, frames = load_model(trained), frames_of_structures(WATER, small(), seed=0)
    energies, forces = [], []
    for number, member in enumerate(committee.potentials):
        held = frames.of_member(number).validation
        found = predict(member, held)
        energies += list(found.energy - [structure.energy for structure in held])
        forces += [own - structure.forces for own, structure in zip(found.forces, held, strict=True)]
    held_out = read_header(trained)["provenance"]["held_out"]
    assert held_out["frames"] == 6
    assert held_out["energy_rmse"] == pytest.approx(np.sqrt(np.square(energies).mean()), rel=1e-5)
    assert held_out["forces_rmse"] == pytest.approx(np.sqrt(np.square(forces).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("member", "step", "number"),
    [(1, 0, signal.SIGKILL), (1, 13, signal.SIGTERM), (2, 25, signal.SIGKILL)],
    ids=["between members", "told to stop", "killed"],
)
def test_what_was_interrupted_goes_on_and_ends_with_the_same_bytes(trained, tmp_path, capfd, member, step, number):
    folder = tmp_path / "run"

    def is_here(module: PotentialModule) -> bool:
        return module.global_step == step and module.task.seed == seed_of("members", 0, member)

    stopped = struck(lambda: train_in(folder, small()), number, is_here)
    assert stopped.returncode == (-9 if number == signal.SIGKILL else 1)
    assert not (folder / "model.safetensors").exists()
    capfd.readouterr()
    path = train_in(folder, small())
    assert path.read_bytes() == trained.read_bytes()
    assert (folder / "history.csv").read_text() == trained.with_name("history.csv").read_text()
    assert not (folder / "checkpoints").exists()
    # No member is trained that was trained before.
    lines = [line for line in capfd.readouterr().out.splitlines() if "step" in line]
    assert {line.split(",")[0] for line in lines} == {f"member {each} of 3" for each in range(member + 1, 4)}


def test_several_processes_train_what_one_does(tmp_path):
    # In float64, where rounding has not grown much after so few steps.
    model = small(2, dtype="float64")
    alone, both = (train_in(tmp_path / name, model, devices=count) for name, count in (("one", 1), ("two", 2)))
    ours, theirs = load_file(alone), load_file(both)
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-5, atol=1e-7, equal_nan=True)


def test_a_member_that_would_not_know_an_element_is_refused(tmp_path):
    ammonia = [from_atoms(atoms) for atoms in morse_frames("NH3", 1, forces=True)]
    # Each of three members validates on seven of 21 frames.
    model = small(3, validation_fraction=0.33)
    with pytest.raises(PiwslError) as caught:
        train_in(tmp_path, model, WATER + ammonia)
    assert "all frames with N are those that member" in str(caught.value)
    assert len(str(caught.value)) <= 200


def test_what_is_written_is_read_and_written_again_the_same(trained, tmp_path):
    again = tmp_path / "again.safetensors"
    save_model(again, load_model(trained), read_header(trained)["provenance"])
    assert again.read_bytes() == trained.read_bytes()
    assert read_header(trained)["config"]["members"] == 3


def changed(path: Path, folder: Path, change, **header) -> Path:
    """Return a copy of a model file whose tensors, or whose config, were changed."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors, config = load_file(path), json.loads(metadata["config"]) | header
    change(tensors, config)
    copy = folder / "changed.safetensors"
    save_file(tensors, copy, metadata | {"config": json.dumps(config)})
    return copy


DAMAGES = {
    "a member too few": (lambda t, c: [t.pop(key) for key in list(t) if key.startswith("members.2.")], {}),
    "a member too many": (lambda t, c: t.update({"members.3.references.energies": torch.zeros(119)}), {}),
    "a tensor of no member": (lambda t, c: t.update({"references.energies": torch.zeros(119)}), {}),
    "a tensor less": (lambda t, c: t.pop("members.1.learned.scale"), {}),
    "not finite": (lambda t, c: t["members.1.learned.scale"].fill_(torch.inf), {}),
    "no such elements": (lambda t, c: t["members.2.references.energies"].fill_(1.0), {}),
    "more members said": (lambda t, c: None, {"members": 4}),
    "fewer members said": (lambda t, c: None, {"members": 2}),
    "one member said": (lambda t, c: None, {"members": 1}),
    "none said": (lambda t, c: None, {"members": 0}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_was_changed_is_refused_in_a_line(trained, tmp_path, damage):
    change, header = DAMAGES[damage]
    with pytest.raises(PiwslError) as caught:
        load_model(changed(trained, tmp_path, change, **header))
    assert str(caught.value).startswith(f"{tmp_path / 'changed.safetensors'}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 400


def test_a_file_of_before_there_were_committees_is_read(tmp_path):
    path = changed(train_in(tmp_path, small(1)), tmp_path, lambda tensors, config: config.pop("members"))
    assert isinstance(load_model(path), Potential)


def test_predictions_are_written_with_their_spread(trained, tmp_path):
    frames = morse_frames("H2O", 4, seed=5)
    frames[0].info["energy_std"] = 99.0
    write_frames(tmp_path / "in.xyz", frames)
    predict_file(trained, tmp_path / "in.xyz", tmp_path / "out.xyz")
    expected = predict(load_model(trained), [from_atoms(atoms) for atoms in frames])
    for position, atoms in enumerate(ase.io.read(tmp_path / "out.xyz", index=":")):
        assert atoms.info["energy_std"] == pytest.approx(expected.energy_std[position], rel=1e-6)
        np.testing.assert_allclose(atoms.arrays["forces_std"], expected.forces_std[position], atol=1e-6)
    (again,) = piwsl.predict(untrained().potentials[0], [piwsl.read_frames(tmp_path / "out.xyz")[0]])
    assert "energy_std" not in again.info
    assert "forces_std" not in again.arrays


def test_the_calculator_has_the_spread_beside_what_ase_knows(trained, tmp_path):
    committee, atoms = load_model(trained), morse_frames("H2O", 1, seed=5)[0]
    expected = predict(committee, [from_atoms(atoms)])
    atoms.calc = PotentialCalculator(committee)
    assert atoms.get_potential_energy() == pytest.approx(expected.energy[0])
    assert atoms.calc.results["energy_std"] == pytest.approx(expected.energy_std[0], rel=1e-6)
    assert atoms.calc.get_property("energy_std", atoms) == atoms.calc.results["energy_std"]
    np.testing.assert_allclose(atoms.calc.results["forces_std"], expected.forces_std[0], atol=1e-7)
    assert "energy_std" not in atoms.calc.export_properties()
    for name in ("frame.xyz", "frame.traj"):
        ase.io.write(tmp_path / name, atoms)
        assert ase.io.read(tmp_path / name).get_potential_energy() == pytest.approx(expected.energy[0])
    atoms.calc = PotentialCalculator(committee.potentials[0])
    with pytest.raises(PropertyNotImplementedError, match="does not know energy_std; train one with members: 4"):
        atoms.calc.get_property("energy_std", atoms)


def test_a_stress_of_a_crystal_has_a_calculator(trained):
    cell = bulk("O", "sc", a=3.0) * (2, 1, 1)
    cell.calc = PotentialCalculator(untrained())
    assert cell.get_stress().shape == (6,)
    assert cell.calc.results["forces_std"].shape == (2, 3)


@pytest.mark.parametrize("members", [0, 33, 1.5, "many"])
def test_a_number_of_members_that_cannot_be_is_refused(members):
    with pytest.raises(ConfigError, match="members"):
        parse_model({"architecture": "painn", "members": members}, "model")


def test_a_gaussian_process_has_one_member():
    with pytest.raises(ConfigError, match="members: all would be the same Gaussian process"):
        parse_model({"architecture": "gaussian_process", "members": 2}, "model")
