"""Reference energies: real calculations of small molecules, checked against physics and against PySCF by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from conftest import displaced
from pyscf import cc, gto, mp, scf

from piwsl.config import Level
from piwsl.files import read_json
from piwsl.reference import calculations, labelling
from piwsl.reference.calculations import Component, FrameFailure, converge_scf, run_components
from piwsl.reference.checks import check_bases
from piwsl.reference.differences import central_difference_forces, internal_directions
from piwsl.reference.frames import ENERGY_KEY, FORCES_KEY, electron_problem, read_frames, write_frames
from piwsl.reference.labelling import label_frames
from piwsl.reference.store import LabelStore, geometry_hash

HF = Level.model_validate({"stages": [{"method": "hf", "bases": ["sto-3g"], "density_fitting": False}]})
COUPLED_CLUSTER = Level.model_validate(
    {
        "stages": [
            {"method": "hf", "bases": ["cc-pvdz"], "density_fitting": False},
            {"method": "mp2", "bases": ["cc-pvdz"], "density_fitting": False},
            {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"]},
        ]
    }
)


def energy_of(atoms: Atoms, level: Level, folder: Path) -> float:
    (frame,), _ = label_frames([atoms], level, folder, forces=False, memory_mb=2000, progress=lambda line: None)
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
    parts = [Component(method, "cc-pvdz", fitted) for fitted in (True, False) for method in ("hf", "mp2")]
    outcome = run_components(atoms, parts, frozen_core=True, charge=0, multiplicity=1, memory_mb=2000)
    energies = outcome.energies
    assert energies[parts[0]] == pytest.approx(energies[parts[2]], abs=1e-4)
    assert energies[parts[1]] == pytest.approx(energies[parts[3]], abs=1e-4)
    assert energies[parts[1]] != energies[parts[3]]
    assert outcome.notes["auxiliary_bases"]["cc-pvdz"] == ("cc-pvdz-jkfit", "cc-pvdz-ri")
    mean_field = scf.RHF(pyscf_molecule(atoms)).run(conv_tol=1e-11)
    assert energies[parts[3]] == pytest.approx(mp.MP2(mean_field, frozen=1).run().e_corr, abs=1e-8)


def test_hartree_fock_of_water_in_a_large_basis_is_the_published_number():
    # 0.9572 Å, 104.52 degrees; HF/aug-cc-pVQZ
    half = np.deg2rad(104.52 / 2)
    arm = 0.9572 * np.array([[np.sin(half), np.cos(half), 0.0], [-np.sin(half), np.cos(half), 0.0]])
    atoms = Atoms("OHH", positions=np.vstack([np.zeros(3), arm]))
    part = Component("hf", "aug-cc-pvqz", False)
    outcome = run_components(atoms, [part], frozen_core=True, charge=0, multiplicity=1, memory_mb=4000)
    assert outcome.energies[part] == pytest.approx(-76.06600082, abs=2e-8)


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
    (frame,), (record,) = label_frames([atoms], HF, tmp_path, forces=True, memory_mb=1000, progress=lambda line: None)
    coordinates = list(zip(atoms.get_chemical_symbols(), np.round(atoms.positions, 8).tolist(), strict=True))
    mean_field = scf.RHF(gto.M(atom=coordinates, basis="sto-3g", verbose=0)).run(conv_tol=1e-12)
    analytic = -mean_field.nuc_grad_method().kernel() * units.Hartree / units.Bohr
    np.testing.assert_allclose(frame.arrays[FORCES_KEY], analytic, atol=3e-4)
    assert record["forces"] == "central differences"


def test_the_error_of_central_differences_falls_with_the_square_of_the_step():
    def quartic(atoms: Atoms) -> float:
        return float(np.linalg.norm(atoms.positions[0] - atoms.positions[1]) ** 4)

    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 1.1]])
    exact = np.array([[0, 0, 1.0], [0, 0, -1.0]]) * 4 * 1.1**3
    errors = [np.abs(central_difference_forces(atoms, quartic, step) - exact).max() for step in (0.02, 0.01)]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=1e-3)


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
    labelled, records = label_frames(frames, HF, tmp_path, forces=False, memory_mb=1000, progress=lambda line: None)
    assert [record["status"] for record in records] == ["ok", "failed", "failed", "failed", "ok"]
    assert [frame.info["frame"] for frame in labelled] == ["good", "good too"]
    assert records[1]["step"] == "geometry"
    assert records[1]["reason"] == "atoms 0 (O) and 1 (H) are 0.000 Å apart"
    assert records[3]["step"] == "charge and multiplicity"
    assert "9 electrons cannot have multiplicity 1" in records[3]["reason"]


def test_nothing_unconverged_is_labelled(tmp_path, monkeypatch):
    def hopeless(mean_field):
        mean_field.max_cycle = 1
        return mean_field

    monkeypatch.setattr(calculations, "SCF_LADDER", {"one cycle": hopeless})
    labelled, (record,) = label_frames([water()], HF, tmp_path, False, 1000, progress=lambda line: None)
    assert labelled == []
    assert (record["status"], record["step"]) == ("failed", "hf/sto-3g")
    assert record["reason"] == "SCF not converged by one cycle"
    assert list(tmp_path.rglob("*.json")) == []


def test_the_ladder_goes_on_where_a_step_does_not_converge(monkeypatch):
    def hopeless(mean_field):
        mean_field.max_cycle = 1
        return mean_field

    ladder = {"one cycle": hopeless} | {name: step for name, step in calculations.SCF_LADDER.items() if name != "DIIS"}
    mol = pyscf_molecule(water())
    expected = scf.RHF(mol).run().e_tot
    monkeypatch.setattr(calculations, "SCF_LADDER", ladder)
    mean_field, step = converge_scf(mol, "hf/cc-pvdz", fitted=False)
    assert step == "level shift and damping"
    assert mean_field.e_tot == pytest.approx(expected, abs=1e-8)
    # The shift must not survive in the orbital energies that MP2 divides by.
    assert mp.MP2(mean_field).run().e_corr == pytest.approx(mp.MP2(scf.RHF(mol).run()).run().e_corr, abs=1e-7)


def test_amplitudes_that_do_not_converge_are_a_failure(monkeypatch):
    monkeypatch.setattr(calculations, "CC_TOLERANCE_HARTREE", -1.0)
    part = Component("ccsd", "sto-3g", False)
    with pytest.raises(FrameFailure, match="amplitudes not converged"):
        run_components(water(), [part], frozen_core=True, charge=0, multiplicity=1, memory_mb=1000)


def test_one_electron_has_no_correlation():
    parts = [Component("hf", "cc-pvdz", False), Component("ccsd(t)", "cc-pvdz", False)]
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 1.06]])
    outcome = run_components(atoms, parts, frozen_core=True, charge=1, multiplicity=2, memory_mb=1000)
    assert outcome.energies[parts[1]] == 0.0


def test_a_finished_energy_is_never_computed_again(tmp_path, monkeypatch):
    first = energy_of(water(), HF, tmp_path)

    def forbidden(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(labelling, "run_components", forbidden)
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
    frames, _ = label_frames([water()], HF, tmp_path / "store", True, 1000, progress=lambda line: None)
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
    deadline = time.monotonic() + 120
    while len(finished := _records(tmp_path / "store")) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.wait()
    finished = _records(tmp_path / "store")
    assert 2 <= len(finished) < 6
    assert not (tmp_path / "out.xyz").exists()
    before = {path: path.stat().st_mtime_ns for path in finished}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(_records(tmp_path / "store")) == 6
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["stored"] for row in rows] == [True] * len(before) + [False] * (6 - len(before))
    assert len(ase.io.read(tmp_path / "out.xyz", index=":")) == 6


def _records(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.json") if not path.name.startswith(".") and path.name != "level.json"]


def test_bases_are_checked_for_elements_and_names():
    check_bases(COUPLED_CLUSTER, {"H", "C", "N", "O"})
    with pytest.raises(Exception, match="basis 'cc-pvdz' has no U in PySCF"):
        check_bases(COUPLED_CLUSTER, {"U"})


@pytest.mark.parametrize(
    ("numbers", "charge", "multiplicity", "fits"),
    [([8, 1, 1], 0, 1, True), ([8, 1, 1], 0, 3, True), ([8, 1], 0, 1, False), ([8, 1], 0, 2, True),
     ([1], 1, 1, False), ([1], 0, 4, False)],
)  # fmt: skip
def test_charge_and_multiplicity_fit_the_number_of_electrons(numbers, charge, multiplicity, fits):
    assert (electron_problem(numbers, charge, multiplicity) is None) == fits
