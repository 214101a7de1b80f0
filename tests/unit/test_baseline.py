"""A potential that corrects a cheap level: the level is computed, with its forces, wherever the potential is used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces
from helpers import displaced
from run_files import outputs_in
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import piwsl
from piwsl.cli import app
from piwsl.config import (
    ConfigError,
    Experiment,
    GivenDataset,
    Level,
    ReplicaSimulation,
    Run,
    Simulation,
    named_level,
    parse_level,
    parse_model,
    parse_section,
)
from piwsl.data.assemble import import_given
from piwsl.data.batch import graph
from piwsl.data.cheap_levels import CheapLabels, compute_cheap_labels, with_cheap_labels
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset, write_dataset
from piwsl.errors import PiwslError
from piwsl.evaluation.evaluate import evaluate
from piwsl.evaluation.predict import predict
from piwsl.evaluation.teaching import taught
from piwsl.files import read_json
from piwsl.interfaces import PotentialCalculator
from piwsl.models import Baseline, Committee, Potential, load_model, save_model
from piwsl.models.storage import read_header
from piwsl.preflight import check_experiment
from piwsl.records import Finding
from piwsl.simulation.dynamics import run_dynamics
from piwsl.simulation.replicas import simulate
from piwsl.structures.frames import label, read_frames, write_frames
from piwsl.structures.structure import from_atoms

XTB = "gfn2-xtb"
GFN2 = named_level(XTB)
# Without a temperature of the electrons GFN2-xTB does not converge for molecules that are torn apart.
COLD = parse_level({"engine": "tblite", "electronic_temperature": 1.0}, "cold")
HF = parse_level({"method": "hf", "basis": "sto-3g", "density_fitting": False}, "hf")
NETWORK: dict[str, Any] = {
    "architecture": "painn", "cutoff": 4.0, "features": 8, "layers": 1, "radial": 6, "dtype": "float64",
    "training": {"steps": 20, "validate_every": 10, "batch_size": 4},
}  # fmt: skip
PROCESS = {"architecture": "gaussian_process", "baseline": XTB}


def water(count: int, seed: int = 0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    return [displaced("H2O", 0.05, rng) for _ in range(count)]


def at(level: Level, atoms: Atoms) -> tuple[float, np.ndarray]:
    """Return what a level says itself of a geometry: energy (eV), forces (eV/Å)."""
    electrons = (atoms.info.get("charge", 0), atoms.info.get("multiplicity", 1))
    found = level.single_point(Atoms(atoms.numbers, atoms.positions), *electrons, memory_mb=1000, forces=True)
    assert found.forces is not None
    return found.energy, found.forces


def spring(atoms: Atoms) -> tuple[float, np.ndarray]:
    """Return a difference between levels that a test can write down: springs from atom 0 to the others."""
    bonds = atoms.positions[1:] - atoms.positions[0]
    forces = np.vstack([0.4 * bonds.sum(axis=0), -0.4 * bonds])
    return 0.2 * float((bonds**2).sum()) - 3.0, forces


def labelled(frames: list[Atoms], forces: bool = True, less: Callable = spring, level: Level = GFN2) -> list[Atoms]:
    """Label frames with a level and a difference to it."""
    found = []
    for atoms in frames:
        (energy, own), (more, its) = at(level, atoms), less(atoms)
        found.append(label(atoms, energy + more, own + its if forces else None))
    return found


FRAMES, OTHERS = labelled(water(12)), labelled(water(5, seed=7))
ENERGIES = labelled(water(12), forces=False)


def untrained(
    baseline: Baseline | None, references: dict[int, float] | None = None, scale: float = 0.7, **keys: Any
) -> Potential:
    torch.manual_seed(0)
    name = None if baseline is None else baseline.name
    config = parse_model(NETWORK | {"baseline": name} | keys, "model")
    potential = Potential(config, scale, references or {1: -0.1, 8: 0.3}, neighbours=2.0)
    potential.baseline = baseline
    return potential.eval().requires_grad_(False)


def saved(folder: Path, potential: Potential) -> Path:
    save_model(folder / "model.safetensors", potential, {})
    return folder / "model.safetensors"


# What is predicted.


@pytest.mark.parametrize("level", [GFN2, HF], ids=["GFN2-xTB", "HF/STO-3G"])
def test_a_prediction_is_the_network_and_the_level(tmp_path, level):
    potential = load_model(saved(tmp_path, untrained(Baseline("cheap", level))))
    calculator = PotentialCalculator(potential)
    frames = water(3)
    for position, (atoms, predicted) in enumerate(zip(frames, piwsl.predict(potential, frames), strict=True)):
        network = potential.predict(graph(from_atoms(atoms), potential.cutoff, torch.float64))
        energy, forces = at(level, atoms)
        expected = energy + network.energy.item(), forces + network.forces.numpy()
        atoms.calc = calculator
        for found in (predicted, atoms):
            assert found.get_potential_energy() == pytest.approx(expected[0], abs=1e-6), position
            np.testing.assert_allclose(found.get_forces(), expected[1], atol=1e-5)
        assert calculator.results["free_energy"] == calculator.results["energy"]
        np.testing.assert_allclose(calculator.results["energies"].sum(), network.energy.item())


@pytest.mark.parametrize(
    # GFN2-xTB is converged to some 1e-8 eV at this accuracy, HF to 1e-10 Eh: over twice the step 1e-5 eV/Å and less.
    ("level", "tolerance"), [(GFN2, 1e-4), (HF, 2e-5)], ids=["GFN2-xTB", "HF/STO-3G"],
)  # fmt: skip
def test_forces_are_minus_the_difference_of_the_energy(level, tolerance):
    (atoms,) = water(1)
    atoms.calc = PotentialCalculator(untrained(Baseline("cheap", level)))
    np.testing.assert_allclose(
        atoms.get_forces(), calculate_numerical_forces(atoms, eps=2.5e-4), atol=tolerance, rtol=0
    )


def test_labels_that_are_there_are_not_computed_again():
    known = from_atoms(OTHERS[0])
    baseline = Baseline("mine", GFN2)
    other = known.labelled("mine", baseline.labels(from_atoms(OTHERS[1])))
    assert baseline.known(other) is other
    potential = untrained(baseline)
    difference = predict(potential, [other]).energy[0] - predict(potential, [known]).energy[0]
    assert difference == pytest.approx(at(GFN2, OTHERS[1])[0] - at(GFN2, OTHERS[0])[0], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "charge", "multiplicity"),
    [("H2O", 1, 2), ("OH", 0, 2), ("NH3", 1, 2), ("O2", 0, 3)],
    ids=["cation", "radical", "cation of ammonia", "triplet"],
)
def test_charge_and_multiplicity_reach_the_level(name, charge, multiplicity):
    atoms = molecule(name)
    atoms.info |= {"charge": charge, "multiplicity": multiplicity}
    potential = untrained(Baseline(XTB, GFN2), {1: 0.0, 7: 0.0, 8: 0.0})
    network = potential.energy(graph(from_atoms(atoms), potential.cutoff, torch.float64)).item()
    (predicted,) = piwsl.predict(potential, [atoms])
    assert predicted.get_potential_energy() == pytest.approx(network + at(GFN2, atoms)[0], abs=1e-6)
    if charge:
        assert abs(at(GFN2, atoms)[0] - at(GFN2, molecule(name))[0]) > 5


def test_a_calculator_computes_anew_where_the_charge_is_another():
    atoms = molecule("H2O")
    atoms.calc = PotentialCalculator(untrained(Baseline(XTB, GFN2)))
    neutral = atoms.get_potential_energy()
    atoms.info |= {"charge": 1, "multiplicity": 2}
    assert atoms.get_potential_energy() > neutral + 5


# What is learned.


@pytest.mark.parametrize(
    ("keys", "loss"),
    [
        ({}, {}),
        ({"members": 2}, {}),
        ({"forces": "direct"}, {}),
        ({}, {"pitc": {"weight": 1.0}, "displacement": 0.02}),
        ({}, {"forces": 0.0}),
    ],
    ids=["plain", "committee", "direct forces", "weak loss", "energies"],
)
@pytest.mark.parametrize("frames", [FRAMES, ENERGIES], ids=["with forces", "energies alone"])
def test_networks_learn_the_difference(tmp_path, keys, loss, frames):
    """After a few steps errors are of the size of the difference, not of an energy of -138 eV that varies by 0.3."""
    if keys == {"forces": "direct"} and frames is ENERGIES:
        loss = {"pitc": {"weight": 1.0}}  # without, nothing would train the head for forces
    model = piwsl.train(frames, tmp_path, NETWORK | {"baseline": XTB} | keys, loss)
    spread = np.std([spring(atoms)[0] for atoms in OTHERS])
    errors = piwsl.evaluate(model, OTHERS)
    assert errors["energy_rmse_meV"] < 1000 * 3 * spread
    assert isinstance(model, Committee) == (keys.get("members", 1) > 1)
    if isinstance(model, Committee):
        found = predict(model, [from_atoms(atoms) for atoms in OTHERS])
        assert (found.energy_std > 0).all()


@pytest.mark.parametrize("frames", [FRAMES, ENERGIES], ids=["with forces", "energies alone"])
def test_a_process_learns_a_simple_difference_from_few_frames(tmp_path, frames):
    on_level = piwsl.evaluate(piwsl.train(frames, tmp_path / "a", PROCESS), OTHERS)
    alone = piwsl.evaluate(piwsl.train(frames, tmp_path / "b", PROCESS | {"baseline": None}), OTHERS)
    for quantity in ("force_mae_meV_per_A", "energy_mae_meV"):
        assert on_level[quantity] < 0.2 * alone[quantity], quantity


@pytest.mark.parametrize("model", [NETWORK, PROCESS], ids=["painn", "gaussian_process"])
def test_a_level_that_is_the_reference_leaves_nothing_to_learn(tmp_path, model):
    same = labelled(water(8), less=lambda atoms: (0.0, np.zeros((3, 3))))
    model = piwsl.train(same, tmp_path, model | {"baseline": XTB})
    structures = [from_atoms(atoms) for atoms in water(4, seed=9)]
    left = [from_atoms(atoms).labelled(XTB, model.baseline.labels(from_atoms(atoms))).less(XTB) for atoms in same]
    assert max(abs(structure.energy) for structure in left) < 1e-6
    found = predict(model, structures)
    for structure, energy, forces in zip(structures, found.energy, found.forces, strict=True):
        own = model.baseline.labels(structure)
        assert energy == pytest.approx(own.energy, abs=1e-5)
        np.testing.assert_allclose(forces, own.forces, atol=1e-5)


def test_a_student_learns_all_that_its_teacher_and_the_level_say(tmp_path):
    teacher = piwsl.train(FRAMES, tmp_path / "teacher", PROCESS)
    pool = water(6, seed=3)
    predicted = piwsl.predict(teacher, pool)
    for structure, atoms in zip(taught([from_atoms(each) for each in pool], teacher), predicted, strict=True):
        assert structure.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(structure.forces, atoms.get_forces(), atol=1e-9)
    student = piwsl.train(FRAMES, tmp_path / "student", NETWORK, pool=pool, teacher=teacher)
    assert student.baseline is None
    # Alone it has no level to lean on: its energies are those of the molecule.
    (found,) = piwsl.predict(student, OTHERS[:1])
    assert found.get_potential_energy() == pytest.approx(OTHERS[0].info["REF_energy"], abs=2)


# Files.


def test_a_model_file_names_its_baseline_and_gives_it_back(tmp_path):
    path = saved(tmp_path, untrained(Baseline("cheap", COLD, scale=0.8)))
    assert read_header(path)["baseline"] == {"name": "cheap", "level": COLD.plain(), "scale": 0.8}
    assert load_model(path).baseline == Baseline("cheap", COLD, scale=0.8)
    assert load_model(saved(tmp_path, untrained(None))).baseline is None


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"level": GFN2.plain()}, "header: baseline.name: this key is missing"),
        ({"name": 3, "level": GFN2.plain()}, "baseline.name"),
        ({"name": "cheap/../x", "level": GFN2.plain()}, "baseline.name"),
        ({"name": "reference", "level": GFN2.plain()}, "'reference' is what labels are called"),
        ({"name": "other", "level": GFN2.plain()}, "baseline: other does not fit its config (cheap)"),
        (None, "baseline: none does not fit its config (cheap)"),
        ({"name": "cheap"}, "baseline.level: this key is missing"),
        ({"name": "cheap", "level": {"engine": "tblight"}}, "no engine 'tblight'"),
        ({"name": "cheap", "level": {"engine": "tblite", "method": "gfn3"}}, "baseline.level"),
        ({"name": "cheap", "level": {"method": "hf", "basis": "sto-3gg"}}, "sto-3gg"),
    ],
)
def test_a_baseline_that_was_damaged_is_refused(tmp_path, said, complaint):
    path = saved(tmp_path, untrained(Baseline("cheap", GFN2)))
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, metadata=metadata | {"baseline": json.dumps(said)})
    with pytest.raises(PiwslError) as caught:
        load_model(path)
    line = str(caught.value)
    assert complaint in line
    assert line.startswith(str(path))
    assert line.isprintable()


def test_datasets_keep_labels_of_cheap_levels_and_what_they_are_of(tmp_path):
    ions = water(2)
    for atoms in ions:
        atoms.info |= {"charge": 1, "multiplicity": 2}
    frames = [*labelled(water(3)), *labelled(ions)]
    write_frames(tmp_path / "mine.xyz", frames)
    dataset = GivenDataset(file=tmp_path / "mine.xyz", test_frames=1, cheap_levels=[XTB])
    cheap = compute_cheap_labels(XTB, GFN2, frames, tmp_path / "store", 1000)
    import_given(dataset, tmp_path / "d.h5", cheap=[cheap])
    with Dataset(tmp_path / "d.h5") as made:
        structures = made.structures(np.arange(5))
    assert sorted((s.charge, s.multiplicity) for s in structures) == [(0, 1)] * 3 + [(1, 2)] * 2
    for structure in structures:
        energy, forces = at(GFN2, structure.atoms())
        assert structure.at_level(XTB).energy == pytest.approx(energy, abs=1e-6)
        np.testing.assert_allclose(structure.at_level(XTB).forces, forces, atol=1e-5)
        assert structure.energy == pytest.approx(energy + spring(structure.atoms())[0], abs=1e-6)


def test_files_of_before_there_were_cheap_levels_are_refused(tmp_path):
    write_dataset(tmp_path / "d.h5", {TRAINING: FRAMES, TEST: OTHERS})
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        file.attrs["format"] = 3
    with pytest.raises(PiwslError, match=r"is of format 3, and this version reads 5; delete it"):
        Dataset(tmp_path / "d.h5")


# The config.


def experiment(**keys: Any) -> dict[str, Any]:
    return {
        "experiment": "difference",
        "levels": {"REF": {"engine": "tblite"}, "WEAK": {"engine": "tblite"}, "weak": {"engine": "tblite"}},
        "datasets": {"mine": {"file": "a.xyz", "test_frames": 2, "cheap_levels": [XTB]}},
        "models": {"painn": NETWORK | {"baseline": XTB}},
        "losses": {"supervised": {}},
        "sizes": [4],
        "seeds": [0],
    } | keys


@pytest.mark.parametrize("name", ["REF", "WEAK", "weak"])
def test_a_cheap_level_is_not_called_what_labels_are(name):
    datasets = {"mine": {"file": "a.xyz", "test_frames": 2, "cheap_levels": [XTB, name]}}
    with pytest.raises(ConfigError, match=rf"'{name}' is what labels are called; give the level another name"):
        parse_section(Experiment, experiment(datasets=datasets), "config.yaml")


@pytest.mark.parametrize("references", ["free_atoms", {"H": -13.6, "O": -2041.0}])
def test_references_of_a_difference_are_fitted(tmp_path, references):
    model = NETWORK | {"baseline": XTB, "atomic_references": references}
    with pytest.raises(ConfigError, match="atomic_references: of a difference to a baseline they are fitted"):
        parse_section(Experiment, experiment(models={"painn": model}), "config.yaml")
    with pytest.raises(ConfigError, match="atomic_references: of a difference to a baseline they are fitted"):
        piwsl.train(FRAMES, tmp_path, model)


def test_elements_that_a_cheap_level_does_not_have_are_said_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(Path("a.xyz"), [label(Atoms("FrH", [[0, 0, 0], [0, 0, 2.2 + 0.1 * n]]), -1.0, None) for n in range(8)])
    parsed = parse_section(Experiment, experiment(), "config.yaml")
    with pytest.raises(ConfigError, match=r"levels.gfn2-xtb: GFN2-xTB has no Fr; name another level"):
        check_experiment(parsed, "config.yaml")
    with pytest.raises(PiwslError, match=r"baseline 'gfn2-xtb' \(GFN2-xTB\): GFN2-xTB has no Fr"):
        piwsl.train(read_frames(Path("a.xyz")), tmp_path / "run", NETWORK | {"baseline": XTB})


def test_outside_an_experiment_a_baseline_is_a_preset(tmp_path):
    with pytest.raises(ConfigError, match="no level 'mine'"):
        piwsl.train(FRAMES, tmp_path, NETWORK | {"baseline": "mine"})


# What cannot be computed.


def torn(distance: float = 4.0) -> Atoms:
    """Return chlorine at a distance, Å: at more than 3.4 GFN2-xTB without a temperature does not converge."""
    return Atoms("Cl2", [[0, 0, 0], [0, 0, distance]])


def chlorine(count: int) -> list[Atoms]:
    return [label(torn(1.9 + 0.02 * number), -10.0 + 0.1 * number, None) for number in range(count)]


COLD_BASELINE = Baseline("cold", COLD)
# A correction of next to nothing, so that it binds nothing.
ON_COLD = (COLD_BASELINE, {17: 0.0}, 1e-6)


def with_multiplicity(atoms: Atoms, multiplicity: int) -> Atoms:
    atoms.info["multiplicity"] = multiplicity
    return atoms


IMPOSSIBLE = {
    "no convergence": (torn(), "SCF not converged"),
    "periodic": (bulk("Cl", "fcc", a=5.0), "computes molecules, and this structure is periodic"),
    "electrons": (with_multiplicity(torn(2.1), 2), "34 electrons cannot have multiplicity 2"),
}


@pytest.mark.parametrize(("atoms", "reason"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_the_level_cannot_compute_ends_in_one_line_with_level_and_frame(atoms, reason):
    with pytest.raises(PiwslError) as caught:
        predict(untrained(*ON_COLD), [from_atoms(torn(2.1)), from_atoms(atoms)])
    line = str(caught.value)
    assert line.startswith(f"frame 1: baseline 'cold' (GFN2-xTB): {reason}")
    assert len(line) <= 200
    assert line.isprintable()


def test_two_atoms_on_one_spot_are_no_geometry(tmp_path):
    # tblite says 10^8 eV of atoms that are as near as this.
    for distance in (0.0, 1e-6):
        with pytest.raises(PiwslError, match=r"baseline 'cold' \(GFN2-xTB\): atom 0 .* atom 1 .* apart"):
            COLD_BASELINE.labels(from_atoms(torn(distance)))
        with pytest.raises(PiwslError, match="frame 1"):
            predict(untrained(*ON_COLD), [from_atoms(torn(2.1)), from_atoms(torn(distance))])
    found, left_out = with_cold(tmp_path, {POOL: [torn(2.1), torn(0.0)]})
    assert len(found[POOL]) == 1
    assert "0.000 Å apart" in left_out[0].said


def test_a_baseline_has_no_stress():
    atoms = molecule("H2O", vacuum=3.0)
    atoms.calc = PotentialCalculator(untrained(Baseline(XTB, GFN2)))
    with pytest.raises(PropertyNotImplementedError, match="the baseline of this model has no stress"):
        atoms.get_stress()


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize("place", [0, 1, 2])
def test_evaluate_leaves_out_a_frame_that_the_baseline_gives_up_on_and_says_why(tmp_path, place):
    model = saved(tmp_path, untrained(*ON_COLD))
    frames = chlorine(3)
    others = [atoms for position, atoms in enumerate(frames) if position != place]
    frames[place] = label(torn(), -1.0, None)
    write_frames(tmp_path / "in.xyz", frames)
    code, said = call("evaluate", model, tmp_path / "in.xyz", "--errors", tmp_path / "errors.json")
    assert code == 0, said
    assert f"frame {place} is left out: baseline 'cold' (GFN2-xTB): SCF not converged" in said
    assert "2 of 3 frames" in said.splitlines()
    assert read_json(tmp_path / "errors.json") == pytest.approx(piwsl.evaluate(load_model(model), others))


def test_evaluate_fails_where_the_baseline_gives_up_on_all_frames(tmp_path):
    model = saved(tmp_path, untrained(*ON_COLD))
    write_frames(tmp_path / "in.xyz", [label(torn(distance), -1.0, None) for distance in (4.0, 4.1)])
    code, said = call("evaluate", model, tmp_path / "in.xyz", "--errors", tmp_path / "errors.json")
    assert code == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert line.startswith("error: frames: no frame is left: baseline 'cold' (GFN2-xTB): SCF not converged")
    assert "Traceback" not in said
    assert not (tmp_path / "errors.json").exists()


@pytest.mark.parametrize("command", ["predict", "md"])
def test_commands_say_what_is_added_and_what_that_costs(tmp_path, command):
    model = saved(tmp_path, untrained(Baseline(XTB, GFN2)))
    write_frames(tmp_path / "in.xyz", water(1))
    rest = [tmp_path / "out.xyz"] if command == "predict" else ["--time", 0.002, "--trajectory", tmp_path / "t.xyz"]
    code, said = call(command, model, tmp_path / "in.xyz", *rest)
    assert code == 0, said
    (line,) = [line for line in said.splitlines() if "baseline" in line]
    assert line.startswith("baseline 'gfn2-xtb' (GFN2-xTB) is added to each geometry: ")
    assert line.endswith(" s for the first, of 3 atoms")
    assert 0 < float(line.split(": ")[1].split()[0]) < 60


# From here chlorine flies apart within some twenty steps.
NEARLY_TORN = 3.2
TEARING = {"temperature": 9000.0, "time": 0.1, "timestep": 1.0, "friction": 0.001, "bond_tolerance": 50.0, "seed": 3}


def test_a_simulation_ends_where_the_baseline_gives_up_and_says_so():
    atoms = torn(NEARLY_TORN)
    atoms.calc = PotentialCalculator(untrained(*ON_COLD))
    frames, summary = run_dynamics(atoms, parse_section(Simulation, TEARING, "simulation"), lambda line: None)
    step = round(summary["stable_ps"] * 1000) + 1
    assert summary["ended"].startswith(f"step {step}: baseline 'cold' (GFN2-xTB): ")
    assert summary["stable_ps"] < summary["time_ps"]
    assert NEARLY_TORN < frames[-1].get_distance(0, 1) < 3.4


def test_the_record_of_a_simulation_says_that_the_baseline_gave_up(tmp_path, capsys):
    model = saved(tmp_path, untrained(*ON_COLD))
    rest = (parse_section(ReplicaSimulation, TEARING, "simulation"), outputs_in(tmp_path))
    run = Run(dataset="d", model="painn", loss="supervised", size=1, seed=0)
    write_dataset(tmp_path / "d.h5", {TRAINING: chlorine(2), TEST: [label(torn(NEARLY_TORN), -1.0, None)]})
    simulate(tmp_path / "d.h5", run, "hot", model, *rest)
    assert "baseline 'cold' (GFN2-xTB) is added" in capsys.readouterr().out
    assert "baseline 'cold' (GFN2-xTB)" in read_json(outputs_in(tmp_path).summary)["ended"]
    # What cannot be started is no simulation.
    write_dataset(tmp_path / "d.h5", {TRAINING: chlorine(2), TEST: [label(torn(), -1.0, None)]})
    with pytest.raises(PiwslError, match=r"d.h5: baseline 'cold' \(GFN2-xTB\): SCF not converged"):
        simulate(tmp_path / "d.h5", run, "hot", model, *rest)


def test_the_command_of_a_simulation_ends_with_what_the_baseline_said(tmp_path):
    model = saved(tmp_path, untrained(*ON_COLD))
    options = ["--temperature", 9000, "--time", 0.1, "--timestep", 1, "--seed", 3, "--trajectory", tmp_path / "t.xyz"]
    write_frames(tmp_path / "start.xyz", [torn(NEARLY_TORN)])
    code, said = call("md", model, tmp_path / "start.xyz", *options)
    assert code == 0
    assert re.search(
        r"^step \d+: baseline 'cold' \(GFN2-xTB\): SCF not .* after [0-9.e-]+ of 0.1 ps", said, re.MULTILINE
    )
    assert len(read_frames(tmp_path / "t.xyz")) >= 1
    (tmp_path / "t.xyz").unlink()
    write_frames(tmp_path / "start.xyz", [torn(4.0)])
    code, said = call("md", model, tmp_path / "start.xyz", *options)
    assert code == 1
    assert "error: " in said
    assert "start.xyz: frame 0: baseline 'cold' (GFN2-xTB): SCF not converged" in said
    assert not (tmp_path / "t.xyz").exists()


def test_frames_of_a_simulation_say_what_molecule_they_are_of():
    atoms = molecule("H2O")
    atoms.info |= {"charge": 1, "multiplicity": 2}
    atoms.calc = PotentialCalculator(untrained(Baseline(XTB, GFN2)))
    frames, _ = run_dynamics(atoms, parse_section(Simulation, {"time": 0.002}, "simulation"), lambda line: None)
    assert all(frame.info["charge"] == 1 and frame.info["multiplicity"] == 2 for frame in frames)


Parts = dict[str, list[Atoms]]


def cold(folder: Path, parts: Parts) -> CheapLabels:
    return compute_cheap_labels("cold", COLD, [atoms for own in parts.values() for atoms in own], folder, 1000)


def with_cold(folder: Path, parts: Parts, max_failed: float = 0.1) -> tuple[Parts, list[Finding]]:
    return with_cheap_labels(parts, [cold(folder, parts)], max_failed)


@pytest.mark.parametrize("part", [TRAINING, TEST, POOL])
def test_a_geometry_that_a_cheap_level_fails_is_left_out_with_its_reason(tmp_path, capsys, part):
    frames = {name: chlorine(20) for name in (TRAINING, TEST, POOL)}
    frames[part][3] = label(torn(), -1.0, None)
    frames[part][3].info["frame"] = "torn-3"
    found, left_out = with_cold(tmp_path, frames)
    assert {name: len(own) for name, own in found.items()} == {name: 20 - (name == part) for name in frames}
    (line,) = (failed.said for failed in left_out)
    assert line.startswith(f"cold failed 1 of 20 {part} frames, which are left out: torn-3: tblite: ")
    assert "SCF not converged" in line
    assert "torn-3" in capsys.readouterr().out
    assert all("cold_energy" in atoms.info for own in found.values() for atoms in own)


@pytest.mark.parametrize("part", [TRAINING, TEST])
def test_too_many_failures_of_a_cheap_level_stop_as_those_of_the_reference_do(tmp_path, part):
    frames = chlorine(8) + [label(torn(), -1.0, None)] * 2
    complaint = rf"cold failed 2 of 10 {part} frames, more than max_failed \(0.1\) allows: 8: tblite: .*SCF not"
    with pytest.raises(PiwslError, match=complaint):
        with_cold(tmp_path, {part: frames})
    found, _ = with_cold(tmp_path, {part: frames}, max_failed=0.2)
    assert len(found[part]) == 8


def test_of_a_pool_any_share_may_fail_but_not_all(tmp_path):
    found, _ = with_cold(tmp_path, {POOL: [torn(), torn(4.1), torn(2.1)]})
    assert len(found[POOL]) == 1
    with pytest.raises(PiwslError, match="cold failed 2 of 2 pool frames"):
        with_cold(tmp_path, {POOL: [torn(), torn(4.1)]})


def test_a_dataset_notes_what_was_left_out_for_the_report(tmp_path):
    frames = chlorine(20)
    frames[5] = label(torn(), -1.0, None)
    write_frames(tmp_path / "mine.xyz", frames)
    dataset = GivenDataset(file=tmp_path / "mine.xyz", test_frames=2, cheap_levels=["cold"])
    import_given(dataset, tmp_path / "d.h5", cheap=[cold(tmp_path, {TRAINING: frames})])
    with Dataset(tmp_path / "d.h5") as made:
        assert len(made) == 19
        assert any("cold failed 1 of" in found.said for found in made.findings())


def test_a_run_is_tested_on_the_frames_that_its_baseline_has_labels_of_and_computes_none(tmp_path, monkeypatch):
    frames = chlorine(20)
    frames[5] = label(torn(), -1.0, None)
    parts, _ = with_cold(tmp_path, {TEST: frames})
    write_dataset(tmp_path / "test.h5", parts, cheap_levels=["cold"])
    model = saved(tmp_path, untrained(*ON_COLD))

    def computed(*_: object) -> None:
        raise AssertionError("labels that the dataset has are computed again")

    monkeypatch.setattr(Baseline, "labels", computed)
    run = Run(dataset="mine", model="painn", loss="supervised", size=8, seed=0)
    outputs = [tmp_path / name for name in ("errors.json", "predictions.parquet", "worst.xyz")]
    evaluate(tmp_path / "test.h5", run, model, *outputs)
    assert read_json(outputs[0])["test_frames"] == 19


def test_training_outside_an_experiment_leaves_out_what_the_baseline_gives_up_on(tmp_path, capsys):
    ion = label(molecule("H2O"), -130.0, None)
    ion.info["charge"] = 1  # and no multiplicity that nine electrons could have
    teacher = piwsl.train([*FRAMES[:6], ion, *FRAMES[6:]], tmp_path / "teacher", NETWORK | {"baseline": XTB})
    assert "frames: frame 6 is left out: baseline 'gfn2-xtb' (GFN2-xTB): 9 electrons" in capsys.readouterr().out
    found = taught([from_atoms(atoms) for atoms in (*water(2), ion)], teacher)
    assert len(found) == 2
    assert "pool: frame 2 is left out" in capsys.readouterr().out
    with pytest.raises(PiwslError, match="frames: no frame is left: baseline"):
        piwsl.train([ion, ion], tmp_path / "none", NETWORK | {"baseline": XTB})


# Where the level is not installed.

WITHOUT = """
import sys
sys.modules[{package!r}] = None
from piwsl.cli import app
app({arguments!r})
"""


@pytest.mark.parametrize(
    ("level", "package", "advice"),
    [
        (GFN2, "tblite", "GFN2-xTB needs tblite; pip install 'piwsl[xtb]'"),
        (HF, "pyscf", "reference energies need PySCF; pip install 'piwsl[reference]'"),
    ],
    ids=["tblite", "pyscf"],
)
def test_a_level_that_is_not_installed_is_said_where_the_model_is_loaded(tmp_path, level, package, advice):
    model = saved(tmp_path, untrained(Baseline("cheap", level)))
    write_frames(tmp_path / "in.xyz", water(1))
    for arguments in (
        ["predict", str(model), str(tmp_path / "in.xyz"), str(tmp_path / "out.xyz")],
        ["md", str(model), str(tmp_path / "in.xyz"), "--time", "0.001", "--trajectory", str(tmp_path / "t.xyz")],
    ):
        script = WITHOUT.format(package=package, arguments=arguments)
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 1
        assert result.stderr.startswith("error: ")
        assert "baseline 'cheap'" in result.stderr
        assert advice in result.stderr
        assert "Traceback" not in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out.xyz").exists()


def test_forces_of_a_cheap_level_are_not_learned_beside_one_as_baseline():
    """Those of GFN2-xTB, less GFN2-xTB itself, would pull the difference to zero."""
    config = {
        "experiment": "weak",
        "datasets": {
            "water": {
                "molecule": {"name": "H2O"},
                "sampling": {"temperatures": [300]},
                "level": "demo",
                "training_frames": 4,
                "test_frames": 2,
                "cheap_levels": ["gfn2-xtb"],
                "weak_forces": "gfn2-xtb",
            }
        },
        "models": {"painn": {"architecture": "painn", "baseline": "gfn2-xtb"}},
        "losses": {"weak": {"weak_forces": {"weight": 1.0}}},
        "sizes": [4],
        "seeds": [0],
    }
    with pytest.raises(ValueError, match=r"losses\.weak\.weak_forces: model 'painn' learns what a baseline leaves"):
        Experiment.model_validate(config)
