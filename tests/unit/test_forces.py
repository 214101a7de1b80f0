"""Analytic forces: each that is offered is the derivative of its energy, each that PySCF gets wrong is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from helpers import MEMORY_MB, displaced
from pyscf import cc, gto, mp, scf
from pyscf.cc import ccsd_t_lambda_slow
from pyscf.grad import ccsd_t as ccsd_t_gradient
from pyscf.scf import cphf

from piwsl.config import ConfigError
from piwsl.config.stages import ccsdt_cbs
from piwsl.errors import PiwslError
from piwsl.files import read_json
from piwsl.records import read_labellings
from piwsl.reference import calculations
from piwsl.reference.batches import label_displaced
from piwsl.reference.calculations import level_energy, level_gradient, run_level
from piwsl.reference.checks import check_cheap_levels
from piwsl.reference.differences import energies_needed
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.fitted_gradient import fitted_mp2_gradient
from piwsl.reference.forces import check_forces, force_method
from piwsl.reference.labelling import label_frames
from piwsl.reference.store import LabelStore
from piwsl.reference.triples_gradient import triples_gradient
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, write_frames

TOLERANCE_HARTREE_PER_BOHR = 5e-6
STEP_BOHR = 5e-3


def single(method: str, **options: Any) -> dict[str, Any]:
    return {"method": method, "basis": "6-31g", "density_fitting": False} | options


def focal_point(hf_bases: list[str]) -> dict[str, Any]:
    return {
        "stages": [
            {"method": "hf", "bases": hf_bases, "density_fitting": False},
            {"method": "mp2", "bases": ["cc-pvdz", "cc-pvtz"], "density_fitting": False},
            {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"]},
        ]
    }


OFFERED = {
    "HF": (single("hf"), 0, 1),
    "UHF": (single("hf"), 1, 2),
    "ROHF": (single("hf", orbitals="restricted"), 1, 2),
    "DF-ROHF": ({"method": "hf", "basis": "cc-pvdz", "orbitals": "restricted"}, 1, 2),
    "ROLDA": (single("dft", functional="lda,vwn", orbitals="restricted"), 1, 2),
    "DF-HF": ({"method": "hf", "basis": "cc-pvdz"}, 0, 1),
    "DF-UHF": ({"method": "hf", "basis": "cc-pvdz"}, 1, 2),
    "MP2": (single("mp2"), 0, 1),
    "MP2, all electrons": (single("mp2", frozen_core=False), 0, 1),
    "UMP2": (single("mp2"), 1, 2),
    "DF-MP2": ({"method": "mp2", "basis": "cc-pvdz"}, 0, 1),
    "DF-MP2, all electrons": ({"method": "mp2", "basis": "cc-pvdz", "frozen_core": False}, 0, 1),
    "DF-MP2 of an ion": ({"method": "mp2", "basis": "cc-pvdz"}, -1, 1),
    "DF-MP2 with a core potential": ({"method": "mp2", "basis": "def2-svp"}, 0, 1),
    "CCSD": (single("ccsd"), 0, 1),
    "UCCSD": (single("ccsd"), 1, 2),
    "CCSD(T)": (single("ccsd(t)"), 0, 1),
    "CCSD(T), all electrons": (single("ccsd(t)", frozen_core=False), 0, 1),
    "LDA": (single("dft", functional="lda,vwn"), 0, 1),
    "DF-PBE-D3(BJ)": ({"method": "dft", "functional": "pbe", "dispersion": "d3bj", "basis": "def2-svp"}, 0, 1),
    "DF-PBE0-D4": ({"method": "dft", "functional": "pbe0", "dispersion": "d4", "basis": "def2-svp"}, 0, 1),
    "DF-UPBE0": ({"method": "dft", "functional": "pbe0", "basis": "def2-svp"}, 1, 2),
    "DF-wB97M-D3(BJ)": ({"method": "dft", "functional": "wb97m-d3bj", "basis": "def2-svp"}, 0, 1),
    "HF(DT) + MP2(DT) + [CCSD(T) - MP2]": (focal_point(["cc-pvdz", "cc-pvtz"]), 0, 1),
    "ccsdt-cbs": (ccsdt_cbs(), 0, 1),
    "HF(DTQ), not linear": (focal_point(["cc-pvdz", "cc-pvtz", "cc-pvqz"]), 0, 1),
}
# Of all others water.
OF_OTHERS = {
    "HF(DTQ), not linear": molecule("H2"),
    "DF-MP2 of an ion": molecule("OH"),
    "DF-MP2 with a core potential": Atoms("HI", [[0, 0, 0], [0, 0, 1.609]]),
}


@pytest.mark.parametrize("name", OFFERED)
def test_an_offered_gradient_is_the_derivative_of_its_energy(name):
    given, charge, multiplicity = OFFERED[name]
    level = PySCF.model_validate(given)
    assert level.analytic_problem(multiplicity) is None
    rng = np.random.default_rng(2)
    atoms = OF_OTHERS.get(name, molecule("H2O")).copy()
    atoms.positions += 0.03 * rng.normal(size=atoms.positions.shape)
    direction = rng.normal(size=atoms.positions.shape)
    direction /= np.linalg.norm(direction)

    def energy(step: float) -> float:
        moved = atoms.copy()
        moved.positions += step * units.Bohr * direction
        return level_energy(level, run_level(moved, level, charge, multiplicity, MEMORY_MB)).energy

    outcome = run_level(atoms, level, charge, multiplicity, MEMORY_MB, gradients=True)
    # Five points: the error is of fourth order in the step.
    slope = (8 * (energy(STEP_BOHR) - energy(-STEP_BOHR)) - (energy(2 * STEP_BOHR) - energy(-2 * STEP_BOHR))) / (
        12 * STEP_BOHR
    )
    analytic = float(np.sum(level_gradient(level, outcome) * direction))
    assert analytic == pytest.approx(slope, abs=TOLERANCE_HARTREE_PER_BOHR)


REFUSED = {
    "DF-UMP2": ({"method": "mp2", "basis": "cc-pvdz"}, 2, "density-fitted MP2 of open shells"),
    "DF-UMP2 of a singlet": ({"method": "mp2", "basis": "cc-pvdz", "orbitals": "unrestricted"}, 1, "of open shells"),
    "DF-CCSD": ({"method": "ccsd", "basis": "cc-pvdz", "density_fitting": True}, 1, "density-fitted coupled cluster"),
    "natural orbitals": ({"method": "ccsd", "basis": "cc-pvdz", "natural_orbitals": 1e-4}, 1, "that are cut off"),
    "UCCSD(T)": ({"method": "ccsd(t)", "basis": "cc-pvdz"}, 2, r"unrestricted CCSD\(T\)"),
    "UCCSD(T) of a singlet": ({"method": "ccsd(t)", "basis": "cc-pvdz", "orbitals": "unrestricted"}, 1, "unrestricted"),
    "MP2 on ROHF": (single("mp2", orbitals="restricted"), 2, "restricted orbitals of open shells"),
    "CCSD on ROHF": (single("ccsd", orbitals="restricted"), 2, "restricted orbitals of open shells"),
    "VV10": ({"method": "dft", "functional": "wb97m-v", "basis": "def2-svp"}, 1, "nonlocal"),
    "ccsdt-cbs of a radical": ({"preset": "ccsdt-cbs"}, 2, r"DF-MP2/CBS\(cc-pvtz, cc-pvqz\)"),
    "ccsdt-cbs-tz": ({"preset": "ccsdt-cbs-tz"}, 1, r"DF-\[FNO"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_gradient_that_is_wrong_or_missing_is_refused(name, tmp_path):
    given, multiplicity, why = REFUSED[name]
    level = PySCF.model_validate(given)
    with pytest.raises(PiwslError, match=why):
        check_forces(level, {multiplicity}, "analytic")
    assert force_method(level, {multiplicity}, None) == "differences"
    atoms = displaced("H2O", 0.02, np.random.default_rng(0))
    atoms.info |= {"charge": multiplicity - 1, "multiplicity": multiplicity}
    labelled, (record,) = label_frames([atoms], level, tmp_path, "analytic", MEMORY_MB, progress=lambda line: None)
    assert (labelled, record["status"], record["step"]) == ([], "failed", "forces")


def fitted_mean_field(name: str, basis: str, memory_mb: float = 2000) -> scf.hf.RHF:
    atoms = displaced(name, 0.05, np.random.default_rng(3))
    found = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis=basis, max_memory=memory_mb, verbose=0
    )
    mean_field = scf.RHF(found).density_fit(auxbasis=f"{basis}-jkfit")
    mean_field.conv_tol, mean_field.conv_tol_grad = 1e-12, 1e-8
    return mean_field.run()


def test_the_gradient_of_fitted_mp2_is_that_of_the_whole_integrals_but_for_the_fit():
    mean_field = fitted_mean_field("CH3OH", "cc-pvdz")
    gradient = fitted_mp2_gradient(mean_field, 2, "cc-pvdz-ri")
    whole = scf.RHF(mean_field.mol).run(conv_tol=1e-12)
    expected = mp.MP2(whole, frozen=2).run().nuc_grad_method().kernel() - whole.nuc_grad_method().kernel()
    np.testing.assert_allclose(gradient, expected, atol=1e-4)
    centred = mean_field.mol.atom_coords() - mean_field.mol.atom_coords().mean(axis=0)
    np.testing.assert_allclose(gradient.sum(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.cross(centred, gradient).sum(axis=0), 0.0, atol=1e-6)


def test_the_gradient_of_fitted_mp2_does_not_depend_on_the_memory():
    gradients = [fitted_mp2_gradient(fitted_mean_field("H2O", "cc-pvdz", mb), 1, "cc-pvdz-ri") for mb in (0.01, 2000)]
    np.testing.assert_allclose(*gradients, atol=1e-9)


def test_fitting_functions_that_depend_on_each_other_are_left_out_of_the_gradient():
    mean_field = fitted_mean_field("H2O", "cc-pvdz")
    functions = gto.basis.load("cc-pvdz-ri", "O")
    twice = {"O": functions + functions[:1], "H": "cc-pvdz-ri"}
    expected = fitted_mp2_gradient(mean_field, 1, "cc-pvdz-ri")
    np.testing.assert_allclose(fitted_mp2_gradient(mean_field, 1, twice), expected, atol=1e-8)


@pytest.mark.parametrize("length", np.linspace(0.8, 1.6, 9))
def test_the_orbitals_of_stiff_cores_respond_at_any_geometry(length):
    found = gto.M(atom=f"H 0 0 0; F 0 0 {length}", basis="aug-cc-pvdz", verbose=0)
    mean_field = scf.RHF(found).density_fit(auxbasis="aug-cc-pvdz-jkfit").run(conv_tol=1e-11)
    gradient = fitted_mp2_gradient(mean_field, 1, "aug-cc-pvdz-ri")
    np.testing.assert_allclose(gradient.sum(axis=0), 0.0, atol=1e-12)


@pytest.mark.parametrize(("symbol", "charge", "frozen"), [("He", 0, 0), ("F", -1, 1), ("Mg", 0, 1), ("Mg", 0, 5)])
def test_an_atom_has_no_force(symbol, charge, frozen):
    found = gto.M(atom=f"{symbol} 0 0 0", basis="cc-pvdz", charge=charge, verbose=0)
    mean_field = scf.RHF(found).density_fit(auxbasis="def2-universal-jkfit").run()
    np.testing.assert_allclose(fitted_mp2_gradient(mean_field, frozen, "def2-tzvp-ri"), 0.0, atol=1e-12)


def test_a_cheap_level_without_forces_of_radicals_is_refused_before_anything_runs():
    levels = {"mp2": PySCF.model_validate({"method": "mp2", "basis": "cc-pvdz"})}
    radical, closed = molecule("CH3"), molecule("CH4")
    radical.info["multiplicity"] = 2
    with pytest.raises(ConfigError, match=r"levels.mp2: no analytic forces of multiplicity 2 \(DF-MP2/cc-pvdz"):
        check_cheap_levels(["mp2"], levels, [radical])
    check_cheap_levels(["mp2"], levels, [closed])
    check_cheap_levels(["mp2"], levels, [closed, radical])  # which is left out, and said


def test_a_response_that_does_not_converge_fails_the_frame(monkeypatch, tmp_path):
    monkeypatch.setattr(cphf, "solve", lambda response, energies, occupations, rest, **options: (0 * rest, None))
    level, atoms = (
        PySCF.model_validate({"method": "mp2", "basis": "cc-pvdz"}),
        displaced("H2O", 0.02, np.random.default_rng(0)),
    )
    _, (record,) = label_frames([atoms], level, tmp_path, "analytic", MEMORY_MB, progress=lambda line: None)
    assert (record["status"], record["reason"]) == ("failed", "response of the orbitals not converged")


@pytest.mark.parametrize("frozen", [0, 2])
def test_the_gradient_of_triples_is_that_of_pyscf_which_makes_them_three_times(frozen):
    atoms = displaced("H2CO", 0.05, np.random.default_rng(3))
    found = gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="6-31g", verbose=0)
    solver = cc.CCSD(scf.RHF(found).run(conv_tol=1e-12), frozen=frozen)
    solver.conv_tol, solver.conv_tol_normt = 1e-10, 1e-8
    solver.run()
    integrals = solver.ao2mo()
    _, l1, l2 = ccsd_t_lambda_slow.kernel(solver, integrals, solver.t1, solver.t2, tol=1e-9, verbose=0)
    expected = ccsd_t_gradient.Gradients(solver).kernel(solver.t1, solver.t2, l1, l2, eris=integrals)
    np.testing.assert_allclose(triples_gradient(solver, integrals, 1e-9), expected, atol=1e-8)


def test_one_open_shell_among_the_structures_makes_all_forces_differences():
    level = PySCF.model_validate({"method": "ccsd(t)", "basis": "cc-pvdz"})
    assert force_method(level, {1}, None) == "analytic"
    assert force_method(level, {1, 2}, None) == "differences"


@pytest.mark.parametrize("given", [single("mp2", basis="cc-pvdz"), {"preset": "demo"}], ids=["MP2", "demo"])
def test_analytic_forces_are_central_differences_of_the_level(given, tmp_path):
    level = PySCF.model_validate(given)
    atoms = displaced("H2O", 0.03, np.random.default_rng(1))
    forces = {}
    for method in ("analytic", "differences"):
        (frame,), _ = label_frames([atoms], level, tmp_path / method, method, MEMORY_MB, progress=lambda line: None)
        forces[method] = frame.arrays[FORCES_KEY]
    np.testing.assert_allclose(forces["analytic"], forces["differences"], atol=1e-5)  # eV/Å


def test_forces_are_added_to_an_energy_that_is_stored_without_and_then_kept(tmp_path, monkeypatch):
    level = PySCF.model_validate({"method": "hf", "basis": "sto-3g", "density_fitting": False})
    atoms = displaced("H2O", 0.03, np.random.default_rng(1))

    def labelled(forces: str | None) -> Atoms:
        (frame,), _ = label_frames([atoms], level, tmp_path, forces, MEMORY_MB, progress=lambda line: None)
        return frame

    alone, both = labelled(None), labelled("analytic")
    assert FORCES_KEY not in alone.arrays
    assert both.info[ENERGY_KEY] == pytest.approx(alone.info[ENERGY_KEY], abs=1e-7)

    def forbidden(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(calculations, "run_level", forbidden)
    np.testing.assert_array_equal(labelled("analytic").arrays[FORCES_KEY], both.arrays[FORCES_KEY])
    assert FORCES_KEY not in labelled(None).arrays


def test_a_record_says_what_the_energies_out_of_the_store_had_cost_those_of_differences_too(tmp_path):
    level = PySCF.model_validate({"method": "hf", "basis": "sto-3g", "density_fitting": False})
    atoms = displaced("H2O", 0.03, np.random.default_rng(1))

    def record(forces: str | None) -> dict[str, Any]:
        return label_frames([atoms], level, tmp_path, forces, MEMORY_MB, progress=lambda line: None)[1][0]

    energy = record(None)
    assert energy["stored_cpu_s"] == 0.0
    # Of 1 + 12 energies, the displaced ones are computed now.
    assert record("differences")["stored_cpu_s"] == energy["cpu_s"] > 0.0
    records = LabelStore(tmp_path, level).folder.rglob("*.json")
    spent = [read_json(path)["cpu_s"] for path in records if path.name != "level.json"]
    assert len(spent) == 13
    assert record("differences")["stored_cpu_s"] == pytest.approx(sum(spent), abs=1e-3)


def test_displaced_energies_that_other_jobs_computed_leave_the_frame_its_own(tmp_path):
    level, frame = PySCF.model_validate(single("hf")), displaced("H2O", 0.05, np.random.default_rng(0))
    at_once, _ = label_frames([frame], level, tmp_path / "alone", "differences", MEMORY_MB)
    write_frames(tmp_path / "frames.xyz", [frame])
    shared, shares = tmp_path / "shared", 3
    for share in range(shares):
        own_share, records = slice(share, None, shares), tmp_path / f"{share}.jsonl"
        label_displaced(tmp_path / "frames.xyz", level, 0, "differences", own_share, shared, 2000, records)
    rows = [row for share in range(shares) for row in read_labellings(tmp_path / f"{share}.jsonl")]
    assert len({row.geometry for row in rows}) == energies_needed(frame.positions, "differences") - 1
    own = LabelStore(shared, level).folder
    before = set(own.rglob("*.json"))
    dealt_out, _ = label_frames([frame], level, shared, "differences", MEMORY_MB)
    assert len(set(own.rglob("*.json")) - before) == 1
    np.testing.assert_array_equal(dealt_out[0].arrays[FORCES_KEY], at_once[0].arrays[FORCES_KEY])


def test_a_frame_that_fails_costs_each_job_of_its_displaced_energies_one_try(tmp_path):
    odd = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"frame": "a"})
    write_frames(tmp_path / "frames.xyz", [odd])
    level = PySCF.model_validate(single("hf"))
    share, store, records = slice(0, None, 2), tmp_path / "labels", tmp_path / "a.jsonl"
    label_displaced(tmp_path / "frames.xyz", level, 0, "differences", share, store, 2000, records)
    (row,) = read_labellings(tmp_path / "a.jsonl")
    assert (row.status, row.step, row.frame) == ("failed", "charge and multiplicity", "a, displaced")
