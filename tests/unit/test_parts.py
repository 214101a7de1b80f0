"""The parts of energies that are kept by themselves: what levels share, what is of one state, what a kill leaves."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from helpers import MEMORY_MB, ROOT, displaced, level_records

from piwsl.config import KeptParts, Level, Part, SinglePoint, named_level
from piwsl.config.levels import LackingParts
from piwsl.files import read_json, write_json
from piwsl.reference import calculations
from piwsl.reference.calculations import level_energy, run_level
from piwsl.reference.components import components_by_mean_field
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.labelling import label_frames
from piwsl.reference.parts import PART_PREFIX, PartStore
from piwsl.reference.store import LabelStore, geometry, geometry_hash
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY

SMALL, LARGE = "sto-3g", "6-31g"


def focal_point(large: str = LARGE, **more: Any) -> PySCF:
    stages = [
        {"method": "hf", "bases": [large], "density_fitting": False},
        {"method": "mp2", "bases": [large], "density_fitting": False},
        {"method": "ccsd(t)", "minus": "mp2", "bases": [SMALL]},
    ]
    return PySCF.model_validate({"stages": stages} | more)


def single(method: str, basis: str, **more: Any) -> PySCF:
    return PySCF.model_validate({"method": method, "basis": basis, "density_fitting": False} | more)


COUPLED_CLUSTER = single("ccsd(t)", SMALL)


class Memory(KeptParts):
    """KeptParts of one geometry that are kept in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Part] = {}
        self.order: list[str] = []

    def find(self, name: str) -> Part | None:
        return self.kept.get(name)

    def keep(self, name: str, part: Part) -> None:
        self.kept[name] = part
        self.order.append(name)


class Watch:
    """What was computed: SCFs, and correlation energies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scfs: list[str] = []
        self.correlated: list[set[str]] = []
        self._converge, self._correlate = calculations.converge, calculations.correlate
        monkeypatch.setattr(calculations, "converge", self.converge)
        monkeypatch.setattr(calculations, "correlate", self.correlate)

    def converge(self, molecule, key, *rest):
        self.scfs.append(str(key))
        return self._converge(molecule, key, *rest)

    def correlate(self, mean_field, methods, *rest):
        self.correlated.append(methods)
        return self._correlate(mean_field, methods, *rest)

    def forget(self) -> None:
        self.scfs.clear()
        self.correlated.clear()


@pytest.fixture
def watch(monkeypatch) -> Watch:
    return Watch(monkeypatch)


def water(seed: int = 1) -> Atoms:
    return displaced("H2O", 0.03, np.random.default_rng(seed))


def labelled(atoms: Atoms, level: Level, store: Path, forces: str | None = None) -> tuple[Atoms, dict[str, Any]]:
    (frame,), (record,) = label_frames([atoms], level, store, forces, MEMORY_MB, lambda line: None)
    return frame, record


def record_of(store: Path, level: Level, part: str, atoms: Atoms) -> Path:
    """Return where a part of a geometry lies."""
    return PartStore(store, level).folders[part].path(geometry_hash(atoms, 0, atoms.info.get("multiplicity", 1)))


def names(level: PySCF) -> set[str]:
    return {str(part) for parts in components_by_mean_field(level).values() for part in parts}


@pytest.mark.parametrize("preset", ["demo", "ccsdt-cbs", "mp2-cbs", "dft"])
def test_every_energy_that_a_level_combines_has_a_part(preset):
    level = named_level(preset)
    assert isinstance(level, PySCF)
    assert set(level.part_recipes()) == names(level)


def shared(first: PySCF, second: PySCF) -> set[str]:
    return {name for name, recipe in first.part_recipes().items() if second.part_recipes().get(name) == recipe}


def test_presets_share_what_they_have_in_common():
    demo, best = named_level("demo"), named_level("ccsdt-cbs")
    assert shared(demo, best) == {
        "df-hf/cc-pvtz", "df-mp2/cc-pvtz", "hf/cc-pvdz", "mp2/cc-pvdz", "ccsd(t)/cc-pvdz",
    }  # fmt: skip
    assert shared(named_level("mp2-cbs"), best) == set(named_level("mp2-cbs").part_recipes())


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ({"frozen_core": False}, {"hf/sto-3g", "hf/6-31g"}),
        ({"frozen_core": {"O": 2}}, {"hf/sto-3g", "hf/6-31g"}),
        ({"unrestricted": True}, set()),
        ({"orbitals": "restricted"}, set()),
        ({"element_bases": {SMALL: {"H": LARGE}}}, {"hf/6-31g", "mp2/6-31g"}),
        ({"stability": True}, set()),
        ({"max_t1": 0.5}, names(focal_point())),
        ({"grid": 9}, names(focal_point())),
    ],
)
def test_an_option_changes_the_parts_that_depend_on_it_and_no_others(more, left):
    assert shared(focal_point(), focal_point(**more)) == left


def test_a_fitting_basis_changes_only_what_is_fitted_with_it():
    def level(**fitting: str) -> PySCF:
        stages = [{"method": method, "bases": ["cc-pvdz"]} for method in ("hf", "mp2")]
        return PySCF.model_validate({"stages": stages, "auxiliary_bases": {"cc-pvdz": fitting}})

    assert shared(level(), level(ri="cc-pvtz-ri")) == {"df-hf/cc-pvdz"}
    assert shared(level(), level(jk="cc-pvtz-jkfit")) == set()


def test_levels_share_the_parts_in_bases_for_which_they_say_the_same_of_elements():
    other = {f"cc-pv{size}z": {"I": f"cc-pv{size}z-pp"} for size in "dtq"}
    demo, best = (PySCF.model_validate({"preset": preset, "element_bases": other}) for preset in ("demo", "ccsdt-cbs"))
    assert "df-mp2/cc-pvtz" in shared(demo, best) == shared(named_level("demo"), named_level("ccsdt-cbs"))
    assert shared(demo, named_level("demo")) == set()


def test_what_a_later_recipe_says_beyond_what_is_known_today_separates_all_parts(monkeypatch):
    before = focal_point().part_recipes()
    now = PySCF.recipe
    monkeypatch.setattr(PySCF, "recipe", lambda self: now(self) | {"relativity": "x2c"})
    after = focal_point().part_recipes()
    assert before.keys() == after.keys()
    assert not any(before[name] == after[name] for name in before)


def test_a_level_computes_only_what_no_level_computed_before(tmp_path, watch):
    _, first = labelled(water(), focal_point("3-21g"), tmp_path)
    watch.forget()
    frame, record = labelled(water(), focal_point(), tmp_path)
    assert watch.scfs == ["hf/6-31g"]  # not the one beneath CCSD(T)
    assert watch.correlated == [{"mp2"}]
    fresh, alone = labelled(water(), focal_point(), tmp_path / "fresh")
    assert frame.info[ENERGY_KEY] == pytest.approx(fresh.info[ENERGY_KEY], abs=1e-7)
    # What speaks for and against an energy travels with it.
    assert record["t1_diagnostic"] == first["t1_diagnostic"]
    assert record["frozen_orbitals"] == alone["frozen_orbitals"] == 1
    assert record["scf"] == alone["scf"]
    assert record["cpu_s_of"].keys() == alone["cpu_s_of"].keys()


def test_a_record_of_before_parts_were_kept_gives_its_parts_with_what_it_says_of_them(tmp_path, watch):
    _, first = labelled(water(), focal_point("3-21g"), tmp_path)
    for folder in tmp_path.glob(f"{PART_PREFIX}*"):
        shutil.rmtree(folder)
    watch.forget()
    _, record = labelled(water(), focal_point(), tmp_path)
    assert watch.scfs == ["hf/6-31g"]
    for note in ("t1_diagnostic", "frozen_orbitals", "frozen_orbitals_of"):
        assert record[note] == first[note]


def test_a_level_whose_parts_are_all_there_computes_nothing(tmp_path, watch):
    frame, _ = labelled(water(), focal_point(), tmp_path)
    for path in level_records(tmp_path):
        path.unlink()
    watch.forget()
    again, record = labelled(water(), focal_point(), tmp_path)
    assert (watch.scfs, watch.correlated) == ([], [])
    assert again.info[ENERGY_KEY] == frame.info[ENERGY_KEY]
    assert record["versions"]


def test_whether_restricted_orbitals_are_a_saddle_point_is_known_of_every_level(tmp_path, watch):
    # Of two bases it is looked into in the smaller one: the part of the larger does not know.
    stretched = Atoms("N2", positions=[[0, 0, 0], [0, 0, 1.7]])
    _, both = labelled(stretched, focal_point(), tmp_path)
    assert "a saddle point" in both["doubt"] or "T1" in both["doubt"]
    watch.forget()
    for _ in range(2):
        _, alone = labelled(stretched, single("hf", LARGE), tmp_path)
        assert "a saddle point" in alone["doubt"]
    _, later = labelled(stretched, single("mp2", LARGE), tmp_path)
    assert "a saddle point" in later["doubt"]
    assert watch.scfs == ["hf/6-31g"]


def test_analytic_forces_take_parts_with_gradients_and_leave_them_to_others(tmp_path, watch):
    level = focal_point()
    energy, _ = labelled(water(), level, tmp_path)
    forces, _ = labelled(water(), level, tmp_path, "analytic")
    fresh, _ = labelled(water(), level, tmp_path / "fresh", "analytic")
    np.testing.assert_allclose(forces.arrays[FORCES_KEY], fresh.arrays[FORCES_KEY], atol=1e-6)
    assert forces.info[ENERGY_KEY] == pytest.approx(energy.info[ENERGY_KEY], abs=1e-7)
    watch.forget()
    mp2, _ = labelled(water(), single("mp2", LARGE), tmp_path, "analytic")
    assert (watch.scfs, watch.correlated) == (["hf/6-31g"], [])  # its stability alone is not known
    alone, _ = labelled(water(), single("mp2", LARGE), tmp_path / "fresh2", "analytic")
    np.testing.assert_allclose(mp2.arrays[FORCES_KEY], alone.arrays[FORCES_KEY], atol=1e-6)


HYDROXYL = Atoms("OH", positions=[[0, 0, 0], [0.1, 0, 0.97]], info={"multiplicity": 2})


def test_parts_of_open_shells_are_taken_without_computing_where_one_knows_that_all_are_of_one_state(tmp_path, watch):
    labelled(HYDROXYL, focal_point(), tmp_path)
    watch.forget()
    frame, record = labelled(HYDROXYL, COUPLED_CLUSTER, tmp_path)
    assert (watch.scfs, watch.correlated) == ([], [])
    alone, _ = labelled(HYDROXYL, COUPLED_CLUSTER, tmp_path / "fresh")
    assert frame.info[ENERGY_KEY] == pytest.approx(alone.info[ENERGY_KEY], abs=1e-7)
    assert record["scf"]["hf/sto-3g"]["s_squared"] > 0.75


def test_open_shells_of_two_levels_are_told_to_be_of_one_state_by_the_energies_of_their_scfs(tmp_path, watch):
    labelled(HYDROXYL, focal_point("3-21g"), tmp_path)
    watch.forget()
    labelled(HYDROXYL, focal_point(), tmp_path)
    # Nobody knew whether the states of 3-21G and 6-31G are one: all SCFs run, and the one beneath CCSD(T) is as it was.
    assert sorted(set(watch.scfs)) == ["hf/6-31g", "hf/sto-3g"]
    assert watch.correlated == [{"mp2"}]


def test_a_part_of_another_state_is_not_taken(tmp_path, watch):
    fresh, _ = labelled(HYDROXYL, COUPLED_CLUSTER, tmp_path)
    part = record_of(tmp_path, COUPLED_CLUSTER, "ccsd(t)/sto-3g", HYDROXYL)
    other = read_json(part)
    other["energy_Eh"] -= 0.1
    other["state_Eh"]["hf/sto-3g"] += 0.05
    write_json(part, other)
    for path in level_records(tmp_path):
        path.unlink()
    watch.forget()
    frame, _ = labelled(HYDROXYL, COUPLED_CLUSTER, tmp_path)
    assert watch.correlated == [{"ccsd(t)"}]
    assert frame.info[ENERGY_KEY] == pytest.approx(fresh.info[ENERGY_KEY], abs=1e-7)
    assert read_json(part)["energy_Eh"] == pytest.approx(other["energy_Eh"] + 0.1, abs=1e-8)


def test_parts_and_records_of_before_a_d_shell_was_fitted_are_computed_again(tmp_path, watch):
    hydride = Atoms("HBr", positions=[[0, 0, 0], [0, 0, 1.41]])
    level = PySCF.model_validate({"method": "mp2", "basis": "cc-pvdz", "doubtful": "ignore"})
    frame, record = labelled(hydride, level, tmp_path)
    for path in [LabelStore(tmp_path, level).path(record["geometry"]), *sorted(tmp_path.glob(f"{PART_PREFIX}*/??/*"))]:
        of_before = read_json(path)
        (of_before.get("notes") or of_before).pop("bases_of_elements", None)
        write_json(path, of_before)
    watch.forget()
    again, record = labelled(hydride, level, tmp_path)
    assert watch.scfs == ["df-hf/cc-pvdz"]
    assert watch.correlated == [{"mp2"}]
    assert not record["stored"]
    assert labelled(hydride, level, tmp_path)[1]["stored"]
    assert again.info[ENERGY_KEY] == pytest.approx(frame.info[ENERGY_KEY], abs=1e-7)


@pytest.mark.parametrize("atoms", [water(), HYDROXYL], ids=["closed", "open"])
def test_displaced_geometries_have_parts_too(tmp_path, watch, atoms):
    level = single("mp2", SMALL)
    frame, _ = labelled(atoms, level, tmp_path, "differences")
    for path in level_records(tmp_path):
        path.unlink()
    watch.forget()
    again, _ = labelled(atoms, level, tmp_path, "differences")
    assert watch.correlated == []
    # A displaced radical is of the state of its frame, which its SCF alone can tell.
    assert bool(watch.scfs) == ("multiplicity" in atoms.info)
    np.testing.assert_allclose(again.arrays[FORCES_KEY], frame.arrays[FORCES_KEY], atol=1e-5)


def test_a_level_is_combined_from_parts_without_any_calculation(watch):
    level, kept = focal_point(), Memory()
    outcome = run_level(water(), level, 0, 1, MEMORY_MB, kept=kept)
    watch.forget()
    combined = level.combined(1, False, kept)
    assert combined.energy == pytest.approx(level_energy(level, outcome).energy * units.Hartree, abs=1e-12)
    assert (watch.scfs, watch.correlated) == ([], [])
    with pytest.raises(LackingParts, match=r"mp2/6-31g"):
        level.combined(1, True, kept)  # no gradients
    del kept.kept["ccsd(t)/sto-3g"]
    with pytest.raises(LackingParts) as caught:
        level.combined(1, False, kept)
    assert caught.value.names == ("ccsd(t)/sto-3g",)


def test_parts_of_radicals_that_nobody_knows_to_be_of_one_state_are_not_combined():
    level, kept = focal_point(), Memory()
    run_level(HYDROXYL, level, 0, 2, MEMORY_MB, kept=kept)
    assert level.combined(2, False, kept).energy < 0
    kept.kept = {
        name: replace(part, state={key: energy for key, energy in part.state.items() if key.split("/")[1] in name})
        for name, part in kept.kept.items()
    }
    with pytest.raises(LackingParts, match="of one state"):
        level.combined(2, False, kept)


def test_each_part_is_kept_as_soon_as_it_is_computed():
    kept = Memory()
    run_level(water(), focal_point(), 0, 1, MEMORY_MB, kept=kept)
    assert kept.order[:2] == ["hf/6-31g", "mp2/6-31g"]
    assert set(kept.order[3:]) == {"mp2/sto-3g", "ccsd(t)/sto-3g"}


STOPPED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_parts import focal_point, labelled, water
from piwsl.reference import calculations
correlate = calculations.correlate
def killed(mean_field, methods, *rest):
    if "ccsd(t)" in methods:
        os.kill(os.getpid(), signal.SIGKILL)
    return correlate(mean_field, methods, *rest)
calculations.correlate = killed
labelled(water(), focal_point(), Path({store!r}))
"""


def test_a_frame_that_is_killed_goes_on_with_the_parts_that_it_had(tmp_path, watch):
    script = STOPPED.format(paths=[str(ROOT / "tests"), str(ROOT / "tests/unit")], store=str(tmp_path))
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert level_records(tmp_path) == []
    frame, record = labelled(water(), focal_point(), tmp_path)
    assert watch.scfs == ["hf/sto-3g"]
    assert watch.correlated == [{"mp2", "ccsd(t)"}]
    assert record["stored"] is False
    fresh, _ = labelled(water(), focal_point(), tmp_path / "fresh")
    assert frame.info[ENERGY_KEY] == pytest.approx(fresh.info[ENERGY_KEY], abs=1e-7)


SPOILT = {
    "NaN": {"energy_Eh": float("nan")},
    "no number": {"energy_Eh": "-76"},
    "an integer without end": {"energy_Eh": 10**400},
    "a gradient of another molecule": {"gradient_Eh_per_bohr": [[0.0, 0.0, 0.0]]},
    "no notes": {"notes": None},
    "notes of another type": {"notes": {"scf": 1}},
    "T1 in words": {"notes": {"t1_diagnostic": "small"}},
    "another state": {"state_Eh": {"hf/sto-3g": None}},
    "another charge": {"charge": 1},
    "another part": {"part": "0" * 16},
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_part_that_is_not_right_is_named_and_computed_again(tmp_path, capsys, watch, how):
    fresh, _ = labelled(water(), COUPLED_CLUSTER, tmp_path)
    part = record_of(tmp_path, COUPLED_CLUSTER, "ccsd(t)/sto-3g", water())
    good = read_json(part)
    write_json(part, good | SPOILT[how])
    for path in level_records(tmp_path):
        path.unlink()
    watch.forget()
    frame, _ = labelled(water(), COUPLED_CLUSTER, tmp_path)
    assert watch.correlated == [{"ccsd(t)"}]
    assert frame.info[ENERGY_KEY] == pytest.approx(fresh.info[ENERGY_KEY], abs=1e-7)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{part}: ")
    assert line.endswith("; this energy is computed again")
    assert read_json(part)["energy_Eh"] == pytest.approx(good["energy_Eh"], abs=1e-8)


def test_a_record_says_all_that_it_is_of(tmp_path):
    labelled(water(), COUPLED_CLUSTER, tmp_path)
    path = record_of(tmp_path, COUPLED_CLUSTER, "ccsd(t)/sto-3g", water())
    assert read_json(path).items() >= geometry(water(), 0, 1).items()
    assert read_json(path.parents[1] / "part.json") == {
        "part": "ccsd(t)/sto-3g", "method": "ccsd(t)", "basis": "sto-3g", "density_fitting": False,
        "auxiliary_bases": [],
        "frozen_core": True, "unrestricted": False, "stability": False, "grid": None, "functional": None,
        "dispersion": None,
    }  # fmt: skip


class Combining(Level):
    """An engine of two numbers, of which one is kept."""

    engine: str = "combining"

    def part_recipes(self):
        return {"part": {"of": "a level"}}

    def single_point(self, atoms, charge, multiplicity, memory_mb, forces):
        raise NotImplementedError

    def single_point_of_parts(self, atoms, charge, multiplicity, memory_mb, forces, parts):
        part = parts.find("part") or Part(-1.0 - atoms.positions.sum())
        parts.keep("part", part)
        return SinglePoint(part.energy, notes={"computed": part.cpu_s is None})

    def cost(self, atoms, charge, multiplicity, forces):
        raise NotImplementedError


def test_an_engine_from_outside_may_keep_parts(tmp_path):
    first, _ = labelled(water(), Combining(), tmp_path)
    (folder,) = tmp_path.glob("*-part-*")
    assert read_json(folder / "part.json") == {"part": "part", "engine": "combining", "of": "a level"}
    for path in level_records(tmp_path):
        path.unlink()
    (part,) = folder.glob("??/*.json")
    write_json(part, read_json(part) | {"energy_Eh": -7.0})
    second, _ = labelled(water(), Combining(), tmp_path)
    assert second.info[ENERGY_KEY] == -7.0
    assert first.info[ENERGY_KEY] != -7.0
