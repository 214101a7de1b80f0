"""Coupled cluster in fewer orbitals, in fitted integrals, and from the amplitudes of a geometry near by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from helpers import MEMORY_MB, displaced
from pyscf import cc, gto, scf

from piwsl.config import ConfigError
from piwsl.config.levels import parse_level
from piwsl.config.stages import PRESETS
from piwsl.reference.calculations import Outcome, level_energy, run_level, solutions_of
from piwsl.reference.coupled_cluster import Amplitudes, amplitudes_of, in_orbitals_of, integrals_of
from piwsl.reference.differences import central_difference_forces
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.gradients import gradient_problem
from piwsl.reference.recipe import level_key, recipe


def focal_point(basis: str = "cc-pvdz", fitted: bool = False, orbitals: str | None = None, **cut: Any) -> PySCF:
    shared = {"bases": [basis], "density_fitting": fitted}
    stages = [
        {"method": "hf", **shared},
        {"method": "mp2", **shared},
        {"method": "ccsd(t)", "minus": "mp2", **shared, **cut},
    ]
    return PySCF.model_validate({"stages": stages, "orbitals": orbitals})


def frame_of(name: str, seed: int) -> Atoms:
    return displaced(name, 0.03, np.random.default_rng(seed))


def computed(atoms: Atoms, level: PySCF, multiplicity: int = 1, **near: Any) -> Outcome:
    return run_level(atoms, level, 0, multiplicity, MEMORY_MB, **near)


def energy(atoms: Atoms, level: PySCF, multiplicity: int = 1, **near: Any) -> float:
    return level_energy(level, computed(atoms, level, multiplicity, **near)).energy


def test_all_natural_orbitals_are_all_orbitals():
    water = frame_of("H2O", 0)
    whole = energy(water, focal_point())
    assert energy(water, focal_point(natural_orbitals=1e-7)) == pytest.approx(whole, abs=1e-8)


def test_what_is_cut_off_counts_as_in_mp2_as_pyscf_has_it_by_hand():
    water = frame_of("H2O", 1)
    outcome = computed(water, focal_point(natural_orbitals=1e-3))
    found = {str(part): value for part, value in outcome.energies.items()}
    molecule = gto.M(atom=list(zip(water.symbols, water.positions, strict=True)), basis="cc-pvdz", verbose=0)
    solver = cc.FNOCCSD(scf.RHF(molecule).run(conv_tol=1e-11), thresh=1e-3, frozen=1)
    solver.run(conv_tol=1e-9)
    expected = solver.e_corr + solver.ccsd_t() + solver.delta_emp2
    assert found["fno(0.001)-ccsd(t)/cc-pvdz"] == pytest.approx(expected, abs=1e-7)
    assert outcome.notes["virtual_orbitals"] == [solver.nmo - solver.nocc]
    # So that of [CCSD(T) - MP2] only what coupled cluster alone finds in the orbitals that are left out is lost.
    whole = {str(part): value for part, value in computed(water, focal_point()).energies.items()}
    assert found["mp2/cc-pvdz"] == pytest.approx(whole["mp2/cc-pvdz"], abs=1e-9)
    lost = found["fno(0.001)-ccsd(t)/cc-pvdz"] - whole["ccsd(t)/cc-pvdz"]
    assert 1e-4 < abs(lost) < 1e-2


@pytest.mark.parametrize("cut", [{}, {"natural_orbitals": 1e-3}], ids=["whole", "natural"])
@pytest.mark.parametrize("fitted", [False, True], ids=["conventional", "fitted"])
def test_unrestricted_orbitals_of_a_closed_shell_give_what_restricted_ones_give(fitted, cut):
    water = frame_of("H2O", 2)
    restricted = energy(water, focal_point(fitted=fitted, **cut))
    unrestricted = energy(water, focal_point(fitted=fitted, orbitals="unrestricted", **cut))
    assert unrestricted == pytest.approx(restricted, abs=3e-8)


@pytest.mark.parametrize(("molecule", "multiplicity"), [("OH", 2), ("H", 2), ("CH2_s3B1d", 3)])
def test_radicals_come_close_to_the_whole_space_and_meet_it(molecule, multiplicity):
    radical = frame_of(molecule, 0)
    whole = energy(radical, focal_point(), multiplicity)
    errors = [
        abs(energy(radical, focal_point(natural_orbitals=cut), multiplicity) - whole) for cut in (1e-3, 1e-4, 1e-7)
    ]
    assert errors[0] < 6e-3
    assert errors[1] < 3e-4
    assert errors[2] < 1e-7


def test_fitted_coupled_cluster_is_close_to_conventional():
    water = frame_of("H2O", 3)

    def parts(level: PySCF) -> list[float]:
        energies = {part.method: value for part, value in computed(water, level).energies.items()}
        return [energies["ccsd(t)"], energies["ccsd(t)"] - energies["mp2"]]

    whole = np.subtract(parts(focal_point("cc-pvtz", fitted=True)), parts(focal_point("cc-pvtz")))
    assert np.abs(whole).max() < 3e-4
    assert np.abs(whole).max() > 1e-7


def test_fitted_integrals_are_the_same_whether_or_not_they_fit_into_memory(monkeypatch):
    water = frame_of("H2O", 3)
    in_core = energy(water, focal_point(fitted=True))
    monkeypatch.setattr("piwsl.reference.coupled_cluster.LADDER_SHARE", 0.0)
    assert energy(water, focal_point(fitted=True)) == pytest.approx(in_core, abs=1e-9)


def solved(positions: Any, turn: bool = False) -> tuple[Any, Any, Amplitudes]:
    molecule = gto.M(atom=list(zip("OHH", positions, strict=True)), basis="6-31g", verbose=0)
    mean_field = scf.RHF(molecule).run(conv_tol=1e-12)
    if turn:
        mean_field.mo_coeff[:, ::2] *= -1.0
    solver = cc.CCSD(mean_field, frozen=1).set(conv_tol=1e-10, conv_tol_normt=1e-8)
    integrals = integrals_of(solver)
    solver.kernel(eris=integrals)
    return solver, integrals, amplitudes_of(solver, integrals)


def test_amplitudes_go_with_their_orbitals_whatever_the_signs():
    water = frame_of("H2O", 4).positions
    *_, amplitudes = solved(water)
    turned, integrals, expected = solved(water, turn=True)
    singles, doubles = in_orbitals_of(turned, integrals, amplitudes)
    assert np.abs(expected.singles - amplitudes.singles).max() > 1e-3
    np.testing.assert_allclose(singles, expected.singles, atol=1e-7)
    np.testing.assert_allclose(doubles, expected.doubles, atol=1e-7)


@pytest.mark.parametrize(
    ("level", "molecule", "multiplicity"),
    [
        (focal_point(), "CH3OH", 1),
        (focal_point(natural_orbitals=1e-3), "H2O", 1),
        (focal_point(fitted=True, natural_orbitals=1e-3), "NO", 2),
        (focal_point(fitted=True, orbitals="restricted"), "NO", 2),
    ],
    ids=["methanol", "natural", "radical", "restricted"],
)
def test_amplitudes_of_the_frame_save_cycles_and_change_nothing(level, molecule, multiplicity):
    frame = frame_of(molecule, 5)
    near = solutions_of(frame, level, 0, multiplicity, MEMORY_MB)
    frame.positions[0, 0] += 0.005
    alone, started = computed(frame, level, multiplicity), computed(frame, level, multiplicity, starts=lambda: near)
    assert started.notes["ccsd_cycles"] < alone.notes["ccsd_cycles"]
    if alone.notes.get("virtual_orbitals") == started.notes.get("virtual_orbitals"):
        difference = level_energy(level, started).energy - level_energy(level, alone).energy
        assert abs(difference) < 3e-9 if multiplicity == 1 else 3e-8


def test_displaced_geometries_keep_the_orbitals_of_their_frame():
    # A threshold that lies just above an occupation: the displaced geometry by itself keeps one orbital more or less.
    water = frame_of("H2O", 6)
    level = focal_point(natural_orbitals=1e-4)
    near = solutions_of(water, level, 0, 1, MEMORY_MB)
    kept = computed(water, level).notes["virtual_orbitals"]
    far = water.copy()
    far.set_distance(0, 1, 1.6, fix=0)
    assert computed(far, level).notes["virtual_orbitals"] != kept
    assert computed(far, level, starts=lambda: near).notes["virtual_orbitals"] == kept


def test_forces_by_differences_are_of_a_smooth_surface():
    # Four points and two give one slope, along every direction: where orbitals come and go, they do not.
    frame = frame_of("H2O", 7)
    level = focal_point(natural_orbitals=1e-3)
    near = level.displaced(frame, 0, 1, MEMORY_MB)
    fine, coarse = (
        central_difference_forces(frame, lambda moved: near(moved).energy, step=step) for step in (0.005, 0.01)
    )
    np.testing.assert_allclose(fine, coarse, atol=5e-5)


def test_the_energy_of_a_stage_that_is_not_cut_off_keeps_its_name_and_the_other_says_what_it_is():
    plain, cut = focal_point(), focal_point(natural_orbitals=1e-4)
    assert all("natural_orbitals" not in stage for stage in recipe(plain)["stages"])
    assert level_key(plain) != level_key(cut)
    assert level_key(cut) != level_key(focal_point(natural_orbitals=3e-5))
    assert "[FNO(1e-04)-CCSD(T) - MP2]/cc-pvdz" in str(cut)
    assert plain.part_recipes()["hf/cc-pvdz"] == cut.part_recipes()["hf/cc-pvdz"]
    assert plain.part_recipes()["mp2/cc-pvdz"] == cut.part_recipes()["mp2/cc-pvdz"]
    assert cut.part_recipes()["fno(0.0001)-ccsd(t)/cc-pvdz"]["natural_orbitals"] == 1e-4


def test_the_sharper_preset_shares_the_orbitals_and_mp2_of_the_extrapolation():
    parts = PySCF.model_validate({"preset": "ccsdt-cbs-tz"}).part_recipes()
    assert set(parts) == {
        *(f"df-{method}/cc-pv{zeta}z" for method in ("hf", "mp2") for zeta in "tq"),
        "df-fno(0.0001)-ccsd(t)/cc-pvtz",
    }
    assert PRESETS["ccsdt-cbs-tz"]()["stages"][:2] == PRESETS["ccsdt-cbs"]()["stages"][:2]


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ({"method": "mp2", "bases": ["cc-pvdz"], "natural_orbitals": 1e-4}, "natural_orbitals"),
        ({"method": "ccsd", "bases": ["cc-pvdz"], "natural_orbitals": 0.1}, "natural_orbitals"),
    ],
)
def test_what_cannot_be_cut_off_is_refused(stage, reason):
    with pytest.raises(ConfigError, match=reason):
        parse_level({"stages": [{"method": "hf", "bases": ["cc-pvdz"]}, stage]}, "level")


def test_restricted_orbitals_of_open_shells_have_no_natural_ones():
    given = {"method": "ccsd(t)", "basis": "cc-pvdz", "orbitals": "restricted", "natural_orbitals": 1e-4}
    with pytest.raises(ConfigError, match="restricted open shells have no natural_orbitals; leave out one of both"):
        parse_level(given, "level")


@pytest.mark.parametrize(
    ("level", "reason"),
    [
        (focal_point(natural_orbitals=1e-4), "natural orbitals"),
        (PySCF.model_validate({"method": "ccsd", "basis": "cc-pvdz", "density_fitting": True}), "wrong for density-"),
    ],
)
def test_gradients_that_are_missing_or_wrong_are_refused(level, reason):
    problem = gradient_problem(level, 1)
    assert problem is not None
    assert reason in problem
