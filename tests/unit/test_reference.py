"""Reference energies: real calculations of small molecules, checked against physics and against PySCF by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from helpers import MEMORY_MB, displaced, level_records, until
from pyscf import cc, gto, mp, scf

from piwsl.files import read_json
from piwsl.reference import calculations, mean_field
from piwsl.reference.calculations import build_molecule, run_level
from piwsl.reference.checks import check_level
from piwsl.reference.components import Component, MeanFieldKey
from piwsl.reference.differences import central_difference_forces, internal_directions
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.labelling import Labeller, label_frames
from piwsl.reference.store import LabelStore, geometry_hash
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, electron_problem, read_frames, write_frames

HF = PySCF.model_validate({"method": "hf", "basis": "sto-3g", "density_fitting": False})
COUPLED_CLUSTER = PySCF.model_validate(
    {
        "stages": [
            {"method": "hf", "bases": ["cc-pvdz"], "density_fitting": False},
            {"method": "mp2", "bases": ["cc-pvdz"], "density_fitting": False},
            {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"]},
        ]
    }
)


def energy_of(atoms: Atoms, level: PySCF, folder: Path) -> float:
    (frame,), _ = label_frames([atoms], level, folder, forces=None, memory_mb=MEMORY_MB, progress=lambda line: None)
    return frame.info[ENERGY_KEY]


def water(**info: int) -> Atoms:
    atoms = displaced("H2O", 0.03, np.random.default_rng(1))
    atoms.info |= info
    return atoms


def pyscf_molecule(atoms: Atoms, spin: int = 0, charge: int = 0) -> gto.Mole:
    coordinates = list(zip(atoms.get_chemical_symbols(), np.round(atoms.positions, 8).tolist(), strict=True))
    return gto.M(atom=coordinates, basis="cc-pvdz", spin=spin, charge=charge, verbose=0)


@pytest.mark.parametrize(("charge", "multiplicity"), [(0, 1), (1, 2)])
def test_a_composite_energy_is_what_pyscf_gives_by_hand(tmp_path, charge, multiplicity):
    atoms = water(charge=charge, multiplicity=multiplicity)
    mol = pyscf_molecule(atoms, spin=multiplicity - 1, charge=charge)
    mean_field = (scf.RHF if multiplicity == 1 else scf.UHF)(mol).run(conv_tol=1e-11)
    solver = cc.CCSD(mean_field, frozen=1).run(conv_tol=1e-10, conv_tol_normt=1e-7)
    # HF + MP2 + [CCSD(T) - MP2] in one basis is CCSD(T).
    expected = mean_field.e_tot + solver.e_corr + solver.ccsd_t()
    assert energy_of(atoms, COUPLED_CLUSTER, tmp_path) / units.Hartree == pytest.approx(expected, abs=1e-7)


def test_density_fitted_energies_are_close_to_conventional_ones_and_use_the_correlation_fitting_basis():
    atoms = water()
    outcomes = {}
    for fitted in (True, False):
        level = PySCF.model_validate({"method": "mp2", "basis": "cc-pvdz", "density_fitting": fitted})
        outcomes[fitted] = run_level(atoms, level, charge=0, multiplicity=1, memory_mb=MEMORY_MB)
    energies = {fitted: list(outcome.energies.values()) for fitted, outcome in outcomes.items()}
    assert energies[True] == pytest.approx(energies[False], abs=1e-4)
    assert energies[True][1] != energies[False][1]
    assert outcomes[True].notes["auxiliary_bases"]["cc-pvdz"] == ["cc-pvdz-jkfit", "cc-pvdz-ri"]
    solution = scf.RHF(pyscf_molecule(atoms)).run(conv_tol=1e-11)
    assert energies[False][1] == pytest.approx(mp.MP2(solution, frozen=1).run().e_corr, abs=1e-8)


def test_fitting_bases_may_be_named():
    level = PySCF.model_validate(
        {"method": "mp2", "basis": "6-31g", "auxiliary_bases": {"6-31G": {"jk": "cc-pvdz-jkfit", "ri": "cc-pvdz-ri"}}}
    )
    outcome = run_level(water(), level, charge=0, multiplicity=1, memory_mb=MEMORY_MB)
    assert outcome.notes["auxiliary_bases"]["6-31g"] == ["cc-pvdz-jkfit", "cc-pvdz-ri"]


@pytest.mark.parametrize(("name", "count"), [("H2O", 3), ("NH3", 6), ("CO2", 4), ("H2", 1), ("CH3OH", 12)])
def test_internal_directions_are_all_that_is_left_of_translation_and_rotation(name, count):
    positions = molecule(name).positions + 0.7
    directions = internal_directions(positions)
    assert len(directions) == count
    flat = directions.reshape(count, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(count), atol=1e-12)
    np.testing.assert_allclose(directions.sum(axis=1), 0.0, atol=1e-12)
    centred = positions - positions.mean(axis=0)
    np.testing.assert_allclose(np.cross(centred[None], directions).sum(axis=1), 0.0, atol=1e-12)


@pytest.mark.parametrize("atoms", [water(), displaced("CO2", 0.0, np.random.default_rng(0))], ids=["bent", "linear"])
def test_central_differences_are_the_analytic_gradient(tmp_path, atoms):
    (frame,), (record,) = label_frames([atoms], HF, tmp_path, "differences", MEMORY_MB, progress=lambda line: None)
    coordinates = list(zip(atoms.get_chemical_symbols(), np.round(atoms.positions, 8).tolist(), strict=True))
    mean_field = scf.RHF(gto.M(atom=coordinates, basis="sto-3g", verbose=0)).run(conv_tol=1e-12)
    analytic = -mean_field.nuc_grad_method().kernel() * units.Hartree / units.Bohr
    np.testing.assert_allclose(frame.arrays[FORCES_KEY], analytic, atol=1e-5)
    assert record["forces"] == "differences"


def test_forces_by_differences_are_the_same_along_any_directions_and_turn_with_the_molecule(tmp_path):
    rng = np.random.default_rng(5)
    labeller = Labeller(HF, LabelStore(tmp_path, HF), MEMORY_MB)

    def energy(atoms: Atoms) -> float:
        labelled, _ = labeller.label(atoms, None)
        return labelled.info[ENERGY_KEY]

    for name in ("CO", "H2CO"):
        atoms = displaced(name, 0.03, rng)
        forces = central_difference_forces(atoms, energy)
        directions = internal_directions(atoms.positions)
        mixing = random_orthogonal(len(directions), rng)
        along_others = central_difference_forces(atoms, energy, directions=np.tensordot(mixing, directions, axes=1))
        np.testing.assert_allclose(along_others, forces, atol=1e-5)
        rotation = random_orthogonal(3, rng)
        turned = Atoms(atoms.numbers, atoms.positions @ rotation)
        np.testing.assert_allclose(central_difference_forces(turned, energy), forces @ rotation, atol=1e-5)


def random_orthogonal(size: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


@pytest.mark.parametrize("name", ["CO", "CO2", "NH3", "C6H6", "CH3CH2OH"])
def test_directions_do_not_depend_on_rounding(name):
    # Symmetric molecules leave a linear algebra library many bases to choose from.
    rng = np.random.default_rng(0)
    positions = molecule(name).positions
    expected = internal_directions(positions)
    for _ in range(3):
        rounded_otherwise = positions + 1e-13 * rng.normal(size=positions.shape)
        np.testing.assert_allclose(internal_directions(rounded_otherwise), expected, atol=1e-10)


def test_a_single_atom_has_no_internal_direction_and_no_force():
    atom = Atoms("He", positions=[[0.1, 0.2, 0.3]])
    assert internal_directions(atom.positions).shape == (0, 1, 3)
    np.testing.assert_array_equal(central_difference_forces(atom, lambda moved: 1.0), np.zeros((1, 3)))


def test_central_differences_are_exact_for_a_quartic_and_their_error_falls_with_the_fourth_power_of_the_step():
    def power_of_length(power: int):
        return lambda atoms: float(np.linalg.norm(atoms.positions[0] - atoms.positions[1]) ** power)

    def error(power: int, step: float) -> float:
        atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 1.1]])
        exact = np.array([[0, 0, 1.0], [0, 0, -1.0]]) * power * 1.1 ** (power - 1)
        return np.abs(central_difference_forces(atoms, power_of_length(power), step) - exact).max()

    assert error(4, 0.02) < 1e-12
    assert error(6, 0.04) / error(6, 0.02) == pytest.approx(16.0, rel=1e-2)


def test_energies_are_invariant_under_translation_and_rotation(tmp_path):
    atoms = water()
    moved = atoms.copy()
    moved.rotate(73, (1, 2, 3))
    moved.translate((1.0, -2.0, 0.5))
    assert energy_of(moved, COUPLED_CLUSTER, tmp_path) == pytest.approx(
        energy_of(atoms, COUPLED_CLUSTER, tmp_path), abs=1e-6
    )


def test_a_frame_fails_alone_and_says_where_and_why(tmp_path):
    frames = [
        water(frame="good"),
        Atoms("OHH", positions=[[0, 0, 0], [0, 0, 0], [0, 0, 1]], info={"frame": "coincident"}),
        Atoms("OHH", positions=[[0, 0, 0], [0, 0, 0.3], [0, 0.9, 0]], info={"frame": "close"}),
        water(frame="odd", charge=1),
        water(frame="good too"),
    ]
    labelled, records = label_frames(frames, HF, tmp_path, None, MEMORY_MB, progress=lambda line: None)
    assert [record["status"] for record in records] == ["ok", "failed", "failed", "failed", "ok"]
    assert [frame.info["frame"] for frame in labelled] == ["good", "good too"]
    assert records[1]["step"] == "geometry"
    assert records[1]["reason"] == "atom 0 (O) and atom 1 (H) are 0.000 Å apart"
    assert records[3]["step"] == "charge and multiplicity"
    assert "9 electrons cannot have multiplicity 1" in records[3]["reason"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda atoms: atoms.numbers.__setitem__(1, 500), "atom 1 has atomic number 500, which is no element"),
        (lambda atoms: atoms.numbers.__setitem__(1, 0), "atom 1 has atomic number 0, which is no element"),
        (lambda atoms: atoms.positions.__setitem__(2, np.nan), "atom 2 (H) is at (nan, nan, nan) Å, which is no place"),
    ],
)
def test_a_frame_that_is_no_geometry_fails_alone_and_is_never_computed(tmp_path, monkeypatch, spoil, reason):
    spoilt = water()
    spoil(spoilt)
    monkeypatch.setattr(calculations, "run_level", lambda *rest: pytest.fail("was computed"))
    labelled, (record,) = label_frames([spoilt], HF, tmp_path, None, MEMORY_MB, progress=lambda line: None)
    assert (labelled, record["step"], record["reason"]) == ([], "geometry", reason)


def test_a_periodic_frame_is_neither_computed_nor_found_in_the_store(tmp_path):
    boxed = water()
    energy_of(boxed, HF, tmp_path)
    boxed.set_cell([4, 4, 4])
    boxed.pbc = True
    labelled, (record,) = label_frames([boxed], HF, tmp_path, None, MEMORY_MB, progress=lambda line: None)
    assert (labelled, record["status"], record["step"]) == ([], "failed", "geometry")
    assert record["reason"] == "periodic; reference energies are of molecules"


def one_cycle(mean_field):
    mean_field.max_cycle = 1
    return mean_field


def test_nothing_unconverged_is_labelled(tmp_path, monkeypatch):
    monkeypatch.setattr(mean_field, "SCF_LADDER", {"one cycle": mean_field.Rung(one_cycle, "minao")})
    labelled, (record,) = label_frames([water()], HF, tmp_path, None, MEMORY_MB, progress=lambda line: None)
    assert labelled == []
    assert (record["status"], record["step"]) == ("failed", "hf/sto-3g")
    assert record["reason"] == "SCF not converged by one cycle"
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.parametrize("rung", list(mean_field.SCF_LADDER)[1:])
def test_the_ladder_goes_on_where_a_step_does_not_converge(monkeypatch, rung):
    ladder = {"one cycle": mean_field.Rung(one_cycle, "minao"), rung: mean_field.SCF_LADDER[rung]}
    monkeypatch.setattr(mean_field, "SCF_LADDER", ladder)
    mol = pyscf_molecule(water())
    expected = scf.RHF(mol).run()
    found, how = mean_field.converge(mol, MeanFieldKey("cc-pvdz", density_fitting=False), HF)
    assert how == {"converged_by": rung}
    assert found.e_tot == pytest.approx(expected.e_tot, abs=1e-8)
    # A level shift must not survive in the orbital energies that MP2 divides by.
    assert mp.MP2(found).run().e_corr == pytest.approx(mp.MP2(expected).run().e_corr, abs=1e-7)


@pytest.mark.parametrize(("charge", "multiplicity"), [(0, 1), (1, 2)])
def test_starting_from_another_basis_saves_cycles_and_changes_nothing(charge, multiplicity):
    def solution(basis: str, smaller=None):
        molecule = build_molecule(water(), basis, charge, multiplicity, MEMORY_MB)
        start = None if smaller is None else mean_field.projected(smaller, molecule)
        return mean_field.converge(molecule, MeanFieldKey(basis, density_fitting=True), HF, start)[0]

    alone = solution("cc-pvtz")
    for basis in ("cc-pvdz", "cc-pvqz"):
        started = solution("cc-pvtz", smaller=solution(basis))
        assert started.e_tot == pytest.approx(alone.e_tot, abs=1e-9)
        assert started.cycles < alone.cycles


def test_a_geometry_whose_amplitudes_never_converge_is_a_failed_frame(tmp_path):
    # Triple-bonded nitrogen pulled to 3.5 Å: one determinant is no start for coupled cluster.
    level = PySCF.model_validate({"method": "ccsd(t)", "basis": "cc-pvdz"})
    frames = [Atoms("N2", positions=[[0, 0, 0], [0, 0, length]]) for length in (1.1, 3.5)]
    labelled, (good, bad) = label_frames(frames, level, tmp_path, None, MEMORY_MB, progress=lambda line: None)
    assert good["status"] == "ok"
    assert (bad["status"], bad["step"]) == ("failed", "ccsd/cc-pvdz")
    assert bad["reason"] == "amplitudes not converged in 100 cycles"
    assert len(labelled) == len(level_records(tmp_path)) == 1


def test_one_electron_has_no_correlation():
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 1.06]])
    level = PySCF.model_validate({"method": "ccsd(t)", "basis": "cc-pvdz"})
    outcome = run_level(atoms, level, charge=1, multiplicity=2, memory_mb=MEMORY_MB)
    assert outcome.energies[Component("ccsd(t)", MeanFieldKey("cc-pvdz", False))] == 0.0


def test_an_unstable_solution_is_followed_to_the_minimum():
    # Hydrogen pulled apart: the restricted solution in unrestricted clothes is a saddle point.
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 2.5]])
    energies = {}
    for stability in (False, True):
        level = PySCF.model_validate(
            {"method": "hf", "basis": "cc-pvdz", "density_fitting": False}
            | {"orbitals": "unrestricted", "stability": stability}
        )
        outcome = run_level(atoms, level, charge=0, multiplicity=1, memory_mb=MEMORY_MB)
        (energies[stability],) = outcome.energies.values()
    assert outcome.notes["scf"]["hf/cc-pvdz"]["stability"] == "stable after 1 steps down"
    assert energies[True] < energies[False] - 0.05
    assert energies[True] == pytest.approx(-0.9986, abs=5e-3)  # nearly two free atoms


def test_the_t1_diagnostic_of_unrestricted_orbitals_is_that_of_restricted_ones():
    diagnostics = []
    for orbitals in ("restricted", "unrestricted"):
        level = PySCF.model_validate({"method": "ccsd", "basis": "cc-pvdz", "orbitals": orbitals})
        diagnostics.append(run_level(water(), level, 0, 1, memory_mb=MEMORY_MB).notes["t1_diagnostic"])
    assert diagnostics[1] == pytest.approx(diagnostics[0], rel=1e-3)
    mean = scf.RHF(pyscf_molecule(water())).run(conv_tol=1e-11)
    assert diagnostics[0] == pytest.approx(cc.CCSD(mean, frozen=1).run().get_t1_diagnostic(), rel=1e-3)


def test_a_finished_energy_is_never_computed_again(tmp_path, monkeypatch):
    first = energy_of(water(), HF, tmp_path)

    def forbidden(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(calculations, "run_level", forbidden)
    assert energy_of(water(), HF, tmp_path) == first


def test_the_store_tells_geometries_charges_and_levels_apart(tmp_path):
    assert geometry_hash(water(), 0, 1) != geometry_hash(water(), 1, 2)
    moved = water()
    moved.positions[0, 0] += 1e-7
    assert geometry_hash(moved, 0, 1) != geometry_hash(water(), 0, 1)
    moved.positions[0, 0] += 1e-10 - 1e-7
    assert geometry_hash(moved, 0, 1) == geometry_hash(water(), 0, 1)
    assert LabelStore(tmp_path, HF).folder != LabelStore(tmp_path, COUPLED_CLUSTER).folder


def test_a_half_written_record_is_computed_again(tmp_path):
    energy = energy_of(water(), HF, tmp_path)
    path = LabelStore(tmp_path, HF).path(geometry_hash(water(), 0, 1))
    path.write_text(path.read_text()[:40])
    assert energy_of(water(), HF, tmp_path) == energy
    assert read_json(path)["energy_eV"] == energy


def test_labels_survive_the_file_to_rounding(tmp_path):
    frames, _ = label_frames([water()], HF, tmp_path / "store", "differences", MEMORY_MB, progress=lambda line: None)
    write_frames(tmp_path / "labelled.xyz", frames)
    (read,) = read_frames(tmp_path / "labelled.xyz")
    assert read.info[ENERGY_KEY] == pytest.approx(frames[0].info[ENERGY_KEY], abs=1e-7)
    np.testing.assert_allclose(read.arrays[FORCES_KEY], frames[0].arrays[FORCES_KEY], atol=1e-8)
    assert geometry_hash(read, 0, 1) == geometry_hash(water(), 0, 1)


def test_a_kill_in_the_middle_of_a_batch_loses_at_most_the_frame_it_was_in(tmp_path):
    rng = np.random.default_rng(3)
    write_frames(tmp_path / "in.xyz", [displaced("CH3OH", 0.05, rng) for _ in range(6)])
    (tmp_path / "level.yaml").write_text("stages: [{method: hf, bases: [cc-pvdz]}, {method: mp2, bases: [cc-pvdz]}]")
    command = [sys.executable, "-m", "piwsl", "label", "in.xyz", "out.xyz", "--level", "level.yaml", "--store", "store"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    job = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    until(lambda: len(level_records(tmp_path / "store")) >= 2, "second energy")
    job.send_signal(signal.SIGKILL)
    job.wait()
    finished = level_records(tmp_path / "store")
    assert 2 <= len(finished) < 6
    assert not (tmp_path / "out.xyz").exists()
    before = {path: path.stat().st_mtime_ns for path in finished}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(level_records(tmp_path / "store")) == 6
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["stored"] for row in rows] == [True] * len(before) + [False] * (6 - len(before))
    assert len(ase.io.read(tmp_path / "out.xyz", index=":")) == 6


def test_bases_are_checked_for_elements_and_names():
    check_level(COUPLED_CLUSTER, {"H", "C", "N", "O"})
    with pytest.raises(Exception, match="basis 'cc-pvdz' has no U in PySCF"):
        check_level(COUPLED_CLUSTER, {"U"})


@pytest.mark.parametrize(
    ("numbers", "charge", "multiplicity", "fits"),
    [([8, 1, 1], 0, 1, True), ([8, 1, 1], 0, 3, True), ([8, 1], 0, 1, False), ([8, 1], 0, 2, True),
     ([1], 1, 1, False), ([1], 0, 4, False)],
)  # fmt: skip
def test_charge_and_multiplicity_fit_the_number_of_electrons(numbers, charge, multiplicity, fits):
    assert (electron_problem(numbers, charge, multiplicity) is None) == fits
