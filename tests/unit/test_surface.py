"""Minima, vibrations and scans: known physics, and ASE's own where it has one."""

from __future__ import annotations

import csv
import re

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.constraints import FixAtoms
from ase.vibrations import Vibrations as OfASE
from helpers import CONSERVATIVE, SMALL, displaced, morse_frames
from typer.testing import CliRunner

from piwsl.architectures.painn import PaiNN
from piwsl.cli import app
from piwsl.config import Run, named_level
from piwsl.data.batch import graph
from piwsl.data.dataset import write_dataset
from piwsl.errors import PiwslError
from piwsl.files import read_json
from piwsl.interfaces import LevelCalculator, PotentialCalculator
from piwsl.models import Baseline, build_potential, save_model
from piwsl.records import Frequencies, FrequenciesOfLevels, read_record
from piwsl.reference.smiles import from_smiles
from piwsl.structures.coordinates import Coordinate
from piwsl.structures.frames import label
from piwsl.structures.structure import from_atoms
from piwsl.surface.comparison import geometry_and_frequencies, starts_of, vibrate_levels, vibrate_run
from piwsl.surface.relaxation import distance, relax
from piwsl.surface.scan import scan
from piwsl.surface.source import Surface
from piwsl.surface.vibrations import differences_of_forces, molden, thermochemistry, vibrations

GFN2 = Baseline("gfn2-xtb", named_level("gfn2-xtb"), "level")
# J/(mol K) in eV/K.
MOLAR = units.J / units.mol


def by_gfn2(atoms: Atoms) -> Atoms:
    atoms.calc = LevelCalculator(GFN2)
    return atoms


def minimum(atoms: Atoms) -> Atoms:
    return relax(by_gfn2(atoms), fmax=1e-4).atoms


def morse_dimer(length: float) -> Atoms:
    atoms = Atoms("HF", [[0, 0, 0], [0, 0, length]])
    atoms.calc = MorsePotential(epsilon=5.0, r0=0.92, rho0=2.0, rcut1=8.0, rcut2=9.0)
    return atoms


# Minima.


@pytest.mark.parametrize("optimiser", ["bfgs", "fire"])
def test_two_atoms_come_to_rest_at_the_minimum_of_their_potential(optimiser):
    start = morse_dimer(1.1)
    found = relax(start, fmax=1e-4, optimiser=optimiser)
    assert found.converged
    assert found.atoms.get_distance(0, 1) == pytest.approx(0.92, abs=1e-5)
    assert found.energy == pytest.approx(-5.0, abs=1e-6)
    assert found.gained == pytest.approx(start.get_potential_energy() + 5.0)
    assert start.get_distance(0, 1) == pytest.approx(1.1)


def test_a_relaxation_without_steps_enough_says_so():
    found = relax(morse_dimer(1.5), fmax=1e-4, most_steps=2)
    assert (found.converged, found.steps) == (False, 2)
    assert found.largest_force > 1e-4


def test_fixed_atoms_stay():
    start = morse_dimer(1.1)
    start.set_constraint(FixAtoms([0]))
    found = relax(start)
    np.testing.assert_array_equal(found.atoms.positions[0], start.positions[0])
    assert found.atoms.get_distance(0, 1) == pytest.approx(0.92, abs=1e-3)


def test_a_single_atom_is_relaxed_where_it_is():
    found = relax(by_gfn2(Atoms("O")))
    assert (found.steps, found.moved, found.converged) == (0, 0.0, True)


def test_a_cell_is_relaxed_to_the_lattice_constant_of_its_potential():
    """EMT's copper: 3.589 Å, of ASE's documentation of the equation of state."""
    copper = bulk("Cu", a=3.7)
    copper.calc = EMT()
    found = relax(copper, fmax=1e-4, cell=True)
    assert found.atoms.cell.volume == pytest.approx(3.589**3 / 4, rel=1e-3)
    assert relax(copper, fmax=1e-4).atoms.cell.volume == pytest.approx(3.7**3 / 4)


def test_a_molecule_has_no_cell_to_relax():
    with pytest.raises(PiwslError, match="leave out --cell"):
        relax(morse_dimer(1.0), cell=True)


def test_without_a_stress_there_is_no_cell_to_relax():
    argon = bulk("Ar", cubic=True)
    frames = [from_atoms(label(argon * size, -0.1 * number, None)) for number, size in enumerate([1, 2])]
    direct = build_potential(PaiNN(architecture="painn", forces="direct", **SMALL), frames)
    argon.calc = PotentialCalculator(direct)
    with pytest.raises(PiwslError, match=r"a head of their own, and it has no stress, and .*; leave out --cell"):
        relax(argon, cell=True)
    assert relax(argon, most_steps=1).steps <= 1


def test_geometries_are_compared_after_superposition():
    water = molecule("H2O")
    turned = water.copy()
    turned.rotate(40, (1, 2, 3))
    turned.translate((1.0, -2.0, 3.0))
    assert distance(water, turned) == pytest.approx(0.0, abs=1e-10)
    shaken = displaced("H2O", 0.1, np.random.default_rng(0))
    assert 0.01 < distance(water, shaken) < 0.3


# Vibrations.


def test_two_atoms_vibrate_with_their_reduced_mass():
    """Of the Morse potential, k = 2 D (ρ₀ / r₀)²."""
    found = vibrations(relax(morse_dimer(1.0), fmax=1e-6).atoms)
    one, other = found.atoms.get_masses()
    quantum = units._hbar * np.sqrt(2 * 5.0 * (2.0 / 0.92) ** 2 * (1 / one + 1 / other) / units._amu)
    expected = quantum / np.sqrt(units._e) * 1e10
    np.testing.assert_allclose(found.frequencies * units.invcm, [expected], rtol=1e-3)
    assert found.zero_point_energy == pytest.approx(expected / 2, rel=1e-3)


@pytest.mark.parametrize("name", ["H2O", "NH3"])
def test_vibrations_are_those_that_ase_finds(tmp_path, name):
    atoms = minimum(molecule(name))
    theirs = OfASE(atoms, name=str(tmp_path / "vibrations"), delta=0.005)
    theirs.run()
    found = vibrations(atoms)
    np.testing.assert_allclose(found.frequencies, theirs.get_frequencies().real[6:], atol=0.2)


def test_ammonia_has_two_pairs_of_vibrations_that_are_one_by_symmetry():
    frequencies = vibrations(minimum(molecule("NH3"))).frequencies
    assert len(frequencies) == 6
    assert frequencies[2] - frequencies[1] < 0.5
    assert frequencies[5] - frequencies[4] < 0.5
    assert frequencies[4] - frequencies[3] > 20


def test_planar_ammonia_is_a_transition_state():
    """Its imaginary mode takes it out of the plane: nitrogen one way, hydrogen the other."""
    planar = molecule("NH3")
    planar.positions[:, 2] = 0.0
    found = vibrations(minimum(planar))
    assert found.imaginary == 1
    mode = found.modes[0]
    assert np.abs(mode[:, :2]).max() < 1e-3 * np.abs(mode).max()
    assert (np.sign(mode[1:, 2]) == -np.sign(mode[0, 2])).all()
    assert "-" in molden(found).splitlines()[2]


def test_a_linear_molecule_has_one_vibration_more():
    found = vibrations(minimum(molecule("CO2")))
    assert found.shape == "linear"
    assert len(found.frequencies) == 4
    assert found.frequencies[1] - found.frequencies[0] < 0.5


def test_a_single_atom_does_not_vibrate():
    found = vibrations(by_gfn2(Atoms("O")))
    assert (found.shape, len(found.frequencies), found.zero_point_energy) == ("monatomic", 0, 0.0)


def test_a_crystal_has_vibrations_without_its_translations_and_is_no_gas():
    copper = bulk("Cu", cubic=True)
    copper.calc = EMT()
    found = vibrations(relax(copper, fmax=1e-6).atoms)
    assert len(found.frequencies) == 3 * 4 - 3
    assert (found.frequencies > 50).all()
    with pytest.raises(PiwslError, match="no ideal gas"):
        thermochemistry(found)


def test_modes_move_no_centre_of_mass_and_turn_nothing():
    atoms = minimum(molecule("CH3OH"))
    found = vibrations(atoms)
    masses = atoms.get_masses()
    arms = atoms.positions - atoms.get_center_of_mass()
    for mode in found.modes:
        weighted = masses[:, None] * mode
        np.testing.assert_allclose(weighted.sum(axis=0), 0.0, atol=1e-10)
        np.testing.assert_allclose(np.cross(arms, weighted).sum(axis=0), 0.0, atol=1e-10)
        assert (masses[:, None] * mode**2).sum() == pytest.approx(1.0)


def test_what_is_not_stationary_has_no_vibrations():
    with pytest.raises(PiwslError, match=r"the largest force is .* eV/Å, .* relax first"):
        vibrations(morse_dimer(1.1))


@pytest.mark.parametrize("name", CONSERVATIVE)
def test_differences_of_forces_of_a_model_are_the_second_derivative_of_its_energy(name):
    torch.manual_seed(0)
    frames = morse_frames("H2O", 4)
    potential = build_potential(CONSERVATIVE[name], [from_atoms(atoms) for atoms in frames])
    batch = graph(from_atoms(frames[0]), potential.cutoff, potential.dtype)
    exact = torch.autograd.functional.hessian(lambda x: potential.energy(batch.at(x)).sum(), batch.positions)
    atoms = frames[0].copy()
    atoms.calc = PotentialCalculator(potential)
    found = differences_of_forces(atoms, 1e-4)
    np.testing.assert_allclose(found, exact.reshape(9, 9).numpy(), rtol=0, atol=2e-4 * np.abs(found).max())
    np.testing.assert_array_equal(atoms.positions, frames[0].positions)


# Ideal gases: standard molar entropies of the NIST-JANAF tables, J/(mol K) at 298.15 K and 1 bar.


@pytest.mark.parametrize(
    ("name", "symmetry", "tabulated"), [("H2O", 2, 188.8), ("NH3", 3, 192.8), ("CO2", 2, 213.8), ("CH4", 12, 186.3)]
)
def test_entropies_of_gases_are_those_of_tables(name, symmetry, tabulated):
    gas = thermochemistry(vibrations(minimum(molecule(name))), 298.15, 1e5, symmetry)
    assert gas.entropy_eV_per_K / MOLAR == pytest.approx(tabulated, rel=0.01)
    assert gas.gibbs_energy_eV == pytest.approx(gas.enthalpy_eV - 298.15 * gas.entropy_eV_per_K)


def test_a_radical_has_the_entropy_of_its_spin():
    radical = molecule("OH")
    radical.info["multiplicity"] = 2
    found = vibrations(minimum(radical))
    doublet = thermochemistry(found).entropy_eV_per_K
    found.atoms.info["multiplicity"] = 1
    assert doublet - thermochemistry(found).entropy_eV_per_K == pytest.approx(units.kB * np.log(2))


# Scans.


def test_a_stretched_bond_takes_with_it_what_hangs_there():
    ethane = molecule("C2H6")
    points = scan(by_gfn2(ethane), Coordinate((0, 1)), [1.4, 1.6])
    for point in points:
        assert point.atoms.get_distance(0, 1) == pytest.approx(point.value)
        for carbon, hydrogens in ((0, (2, 3, 4)), (1, (5, 6, 7))):
            for hydrogen in hydrogens:
                assert point.atoms.get_distance(carbon, hydrogen) == pytest.approx(
                    ethane.get_distance(carbon, hydrogen)
                )


def test_ethane_turned_by_a_third_is_ethane():
    start = by_gfn2(molecule("C2H6"))
    coordinate = Coordinate((2, 0, 1, 5))
    points = scan(start, coordinate, [60, 120, 180, 240, 300])
    energies = [point.energy for point in points]
    np.testing.assert_allclose(energies[2:], [energies[0], *energies[1:3]][: len(energies[2:])], atol=1e-4)
    assert abs(energies[1] - energies[0]) > 0.05
    assert [coordinate.of(point.atoms) for point in points] == pytest.approx([60, 120, 180, 240, 300])


def test_molecules_side_by_side_are_moved_as_wholes():
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += (0.0, 0.0, 4.0)
    (point,) = scan(by_gfn2(pair), Coordinate((0, 3)), [6.0])
    np.testing.assert_allclose(point.atoms.positions[:3], pair.positions[:3])
    np.testing.assert_allclose(point.atoms.positions[3:], pair.positions[3:] + (0.0, 0.0, 2.0))


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize("indices", [(0, 1), (0, 1, 5), (4, 0, 1, 5)])
def test_a_scan_is_the_same_wherever_the_cell_cuts_a_molecule(indices, relaxed):
    coordinate, whole = Coordinate(indices), molecule("C2H6", cell=[9.0, 9.0, 9.0], pbc=True)
    values = {2: [1.4, 1.7], 3: [100.0, 120.0], 4: [30.0, 60.0]}[len(indices)]
    energies = []
    for shift in ([4.0, 4.0, 4.0], [0.0, 0.0, 0.0]):
        atoms = whole.copy()
        atoms.positions += shift
        atoms.wrap()
        atoms.calc = EMT()
        points = scan(atoms, coordinate, values, relaxed)
        assert [coordinate.of(point.atoms) for point in points] == pytest.approx(values, abs=1e-2)
        energies.append([point.energy for point in points])
    np.testing.assert_allclose(energies[0], energies[1], atol=1e-3 if relaxed else 1e-9)


def test_of_a_ring_one_atom_moves():
    ring = molecule("C6H6")
    assert Coordinate((0, 1)).moving(ring).sum() == 1


def test_a_relaxed_scan_holds_its_coordinate_and_lies_below_the_rigid_one():
    start = minimum(molecule("H2O2"))
    coordinate, values = Coordinate((2, 0, 1, 3)), [100.0, 140.0, 180.0]
    rigid, relaxed = (scan(start, coordinate, values, relaxed) for relaxed in (False, True))
    for stiff, point in zip(rigid, relaxed, strict=True):
        assert point.problem is None
        assert coordinate.of(point.atoms) == pytest.approx(point.value, abs=1e-3)
        assert point.energy <= stiff.energy + 1e-5


def test_a_point_that_cannot_be_computed_leaves_the_others():
    points = scan(by_gfn2(molecule("H2O")), Coordinate((0, 1)), [0.01, 0.96])
    assert np.isnan(points[0].energy)
    assert "Å apart" in points[0].problem
    assert np.isfinite(points[1].energy)


@pytest.mark.parametrize(("indices", "problem"), [((0, 3), "no atom 3"), ((0, 0), "different"), ((0,), "different")])
def test_atoms_that_make_no_coordinate_are_refused(indices, problem):
    with pytest.raises(PiwslError, match=problem):
        scan(morse_frames("H2O", 1)[0], Coordinate(indices), [1.0])


def test_a_dihedral_with_three_atoms_in_line_is_none():
    straight = from_smiles("C#CC#N", 0)
    with pytest.raises(PiwslError, match="atoms 0, 1 and 2 lie in line and have no dihedral"):
        Coordinate((0, 1, 2, 3)).check(straight)
    propyne = from_smiles("CC#C", 0)
    with pytest.raises(PiwslError, match="atoms 0, 1 and 2 lie in line"):
        Coordinate((3, 0, 1, 2)).check(propyne)
    # Of an angle, and of a bond that is bent by little, nothing is said.
    Coordinate((0, 1, 2)).check(straight)
    Coordinate((3, 0, 1, 2)).check(from_smiles("N=C=O", 0))
    Coordinate((2, 0, 1, 3)).check(molecule("H2O2"))


# Models beside levels.


def surface(name: str) -> Surface:
    return Surface(name, LevelCalculator(Baseline(name, named_level(name), "level")))


def test_a_minimum_and_its_vibrations_are_a_record():
    first, other = (geometry_and_frequencies(surface(name), molecule("NH3"), 7) for name in ("gfn2-xtb", "gfn1-xtb"))
    assert (first.molecule, first.start, first.problem) == ("H3N", 7, None)
    assert len(first.frequencies_per_cm) == len(other.frequencies_per_cm) == 6
    minima = [Atoms("NH3", positions=found.positions_A) for found in (first, other)]
    assert 0 < distance(*minima) < 0.05


def test_what_has_no_minimum_says_why_and_others_are_found():
    ion = molecule("NH3")
    ion.info["multiplicity"] = 2
    broken = geometry_and_frequencies(surface("gfn2-xtb"), ion, 0)
    whole = geometry_and_frequencies(Surface("morse", MorsePotential(r0=1.1)), ion, 0)
    assert "10 electrons cannot have multiplicity 2" in broken.problem
    assert (broken.positions_A, whole.problem) == ([], None)
    assert len(whole.frequencies_per_cm) == 6


def test_a_molecule_of_each_kind_is_taken():
    ion = molecule("H2O")
    ion.info |= {"charge": 1, "multiplicity": 2}
    frames = [
        Atoms("O"),
        molecule("H2O"),
        bulk("Cu", cubic=True),
        molecule("H2O"),
        ion,
        molecule("CH4"),
        molecule("NH3"),
    ]
    starts = starts_of(from_atoms(atoms) for atoms in frames)
    assert [(start, atoms.get_chemical_formula(), atoms.info["charge"]) for start, atoms in starts.items()] == [
        (1, "H2O", 0),
        (4, "H2O", 1),
        (5, "CH4", 0),
    ]


def test_minima_of_a_run_and_of_the_cheap_levels_of_its_dataset_are_files(tmp_path):
    torch.manual_seed(0)
    frames = morse_frames("H2O", 4)
    write_dataset(tmp_path / "test.h5", {"training": frames[:2], "test": frames[2:]})
    potential = build_potential(CONSERVATIVE["painn"], [from_atoms(atoms) for atoms in frames])
    save_model(tmp_path / "model.safetensors", potential, {})
    run = Run(dataset="water", model="painn", loss="l", size=2, seed=0)
    vibrate_run(tmp_path / "test.h5", run, tmp_path / "model.safetensors", tmp_path / "run.json")
    found = read_record(Frequencies, tmp_path / "run.json")
    assert (found.dataset, [point.surface for point in found.points]) == ("water", ["painn"])
    # An untrained network has nothing to hold a molecule together.
    assert found.points[0].problem is not None
    levels = {name: named_level(name) for name in ("gfn2-xtb", "gfn1-xtb")}
    vibrate_levels(tmp_path / "test.h5", "water", levels, tmp_path / "levels.json")
    beside = read_record(FrequenciesOfLevels, tmp_path / "levels.json")
    assert [point.surface for point in beside.points] == ["gfn2-xtb", "gfn1-xtb"]
    assert [len(point.frequencies_per_cm) for point in beside.points] == [3, 3]


# From file to file.


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("start.xyz", [displaced("NH3", 0.03, np.random.default_rng(seed)) for seed in range(2)])
    torch.manual_seed(0)
    frames = morse_frames("NH3", 4)
    potential = build_potential(CONSERVATIVE["painn"], [from_atoms(atoms) for atoms in frames])
    save_model(tmp_path / "model.safetensors", potential, {})
    return tmp_path


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_relax_writes_the_geometries_of_each_surface(folder):
    said = call("relax", "gfn2-xtb", "start.xyz", "out.xyz", "--beside", "gfn1-xtb", "--fmax", "0.001")
    assert "2 of 2 frames: out.xyz, out-gfn1-xtb.xyz" in said
    for path in ("out.xyz", "out-gfn1-xtb.xyz"):
        frames = ase.io.read(path, index=":")
        assert all(np.abs(atoms.get_forces()).max() < 1e-3 for atoms in frames)
        assert distance(*frames) < 0.01


def test_relax_says_what_is_not_relaxed_after_writing_it(folder):
    said = call("relax", "gfn2-xtb", "start.xyz", "out.xyz", "--steps", "1", code=1)
    assert "error: 2 relaxations have forces above 0.01 eV/Å left" in said
    assert len(ase.io.read("out.xyz", index=":")) == 2


def test_relax_goes_on_past_a_frame_that_cannot_be_computed(folder):
    ase.io.write("mixed.xyz", [molecule("NH3"), bulk("Cu"), molecule("H2O")])
    said = call("relax", "gfn2-xtb", "mixed.xyz", "out.xyz", code=1)
    assert "mixed.xyz: frame 1 is left out: gfn2-xtb: level 'gfn2-xtb' (GFN2-xTB): computes molecules" in said
    assert "error: mixed.xyz: 1 frames are left out; the lines above say why" in said
    assert [len(atoms) for atoms in ase.io.read("out.xyz", index=":")] == [4, 3]
    ase.io.write("crystal.xyz", bulk("Cu"))
    assert "error: crystal.xyz: no frame is left" in call("relax", "gfn2-xtb", "crystal.xyz", "none.xyz", code=1)


def test_vibrations_writes_what_other_programs_read(folder):
    said = call("vibrations", "gfn2-xtb", "start.xyz", "out.json", "--beside", "gfn1-xtb", "--symmetry-number", "3")
    assert re.search(r"mode +┃ gfn2-xtb \(cm⁻¹\) ┃ gfn1-xtb \(cm⁻¹\)", said)
    model, beside = read_json(folder / "out.json")
    assert (model["surface"], beside["surface"]) == ("gfn2-xtb", "gfn1-xtb")
    assert len(model["frequencies_per_cm"]) == 6
    assert model["ideal_gas"]["symmetry_number"] == 3
    lines = (folder / "out.molden").read_text().splitlines()
    assert lines[0] == "[Molden Format]"
    assert [float(line) for line in lines[2:8]] == pytest.approx(model["frequencies_per_cm"], abs=1e-3)
    assert sum(line.startswith("vibration ") for line in lines) == 6
    np.testing.assert_allclose(ase.io.read("out.xyz").positions, model["positions_A"], atol=1e-7)


def test_vibrations_at_a_geometry_as_given_refuses_forces(folder):
    said = call("vibrations", "gfn2-xtb", "start.xyz", "out.json", "--as-given", code=1)
    assert said.startswith("error: gfn2-xtb: start.xyz: frame 0: the largest force is ")
    assert not (folder / "out.json").exists()


def test_scan_writes_a_column_for_each_surface(folder):
    arguments = ["--atoms", "0,1", "--from", "0.9", "--to", "1.1", "--points", "3", "--beside", "gfn2-xtb"]
    said = call("scan", "model.safetensors", "start.xyz", "out.csv", *arguments)
    assert "3 points: out.csv, out.xyz" in said
    rows = list(csv.reader((folder / "out.csv").open()))
    assert rows[0] == ["distance_Å", "model.safetensors_eV", "gfn2-xtb_eV"]
    assert [float(row[0]) for row in rows[1:]] == pytest.approx([0.9, 1.0, 1.1])
    lengths = [atoms.get_distance(0, 1) for atoms in ase.io.read("out.xyz", index=":")]
    assert lengths == pytest.approx([0.9, 1.0, 1.1])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["relax", "gfn2-xt", "start.xyz", "out.xyz"], "gfn2-xt: neither a model file nor a level; did you mean"),
        (["relax", "model.safetensors", "start.xyz", "start.xyz"], "start.xyz would be overwritten"),
        (["relax", "model.safetensors", "salt.xyz", "out.xyz"], "model.safetensors: the model was not trained on Cl"),
        (["relax", "gfn2-xtb", "start.xyz", "out.xyz", "--beside", "gfn2-xtb"], "gfn2-xtb is named twice"),
        (["scan", "gfn2-xtb", "start.xyz", "out.csv", "--atoms", "a b", "--from", "1", "--to", "2"], "--atoms: found"),
        (
            ["scan", "gfn2-xtb", "start.xyz", "out.csv", "--atoms", "0 9", "--from", "1", "--to", "2"],
            "start.xyz: frame",
        ),
    ],
)
def test_what_cannot_be_is_one_line(folder, arguments, line):
    ase.io.write("salt.xyz", molecule("NaCl"))
    said = call(*arguments, code=1)
    assert said.startswith(f"error: {line}")
    assert said.count("\n") == 1
