"""Reading a store by itself: labels as frames, levels combined anew, what is lacking, what it holds."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from helpers import level_records
from test_cli import call
from test_parts import COUPLED_CLUSTER, HYDROXYL, LARGE, Watch, focal_point, labelled, single, water

from piwsl.config import Level
from piwsl.files import read_json, read_json_lines, write_json
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.exporting import Export, export_level
from piwsl.reference.parts import PART_PREFIX
from piwsl.reference.store import LabelStore, geometry_hash
from piwsl.structures.frames import DIRECTION_KEY, ENERGY_KEY, FORCES_KEY, SLOPE_KEY, read_frames

HF_AND_MP2 = single("mp2", LARGE)


@pytest.fixture
def watch(monkeypatch) -> Watch:
    return Watch(monkeypatch)


def exported(store: Path, level: Level, said: list[str] | None = None) -> Export:
    return export_level(store, level, (said if said is not None else []).append)


def only_whole_records(store: Path) -> None:
    """Leave of a store what earlier versions wrote."""
    for folder in store.glob("*-part-*"):
        shutil.rmtree(folder)


def test_what_is_exported_is_what_was_labelled(tmp_path):
    given = [labelled(water(seed), HF_AND_MP2, tmp_path, "analytic") for seed in (1, 2)]
    given.append(labelled(HYDROXYL, HF_AND_MP2, tmp_path))
    found = exported(tmp_path, HF_AND_MP2)
    by_geometry = {frame.info["geometry"]: frame for frame in found.frames}
    assert len(by_geometry) == 3
    for frame, record in given:
        other = by_geometry[record["geometry"]]
        assert other.info[ENERGY_KEY] == frame.info[ENERGY_KEY]
        assert (other.get_chemical_symbols(), other.info["multiplicity"]) == (
            frame.get_chemical_symbols(), frame.info.get("multiplicity", 1),
        )  # fmt: skip
        np.testing.assert_allclose(other.positions, frame.positions, atol=1e-8)
        assert other.info["components_Eh"] == record["components_Eh"]
        assert (FORCES_KEY in other.arrays) == (record["forces"] is not None)
    assert [len(frame) for frame in found.frames] == [2, 3, 3]


def test_the_same_store_gives_the_same_file(tmp_path):
    (tmp_path / "level.yaml").write_text(yaml.safe_dump({"method": "mp2", "basis": LARGE, "density_fitting": False}))
    for seed in range(5):
        labelled(water(seed), HF_AND_MP2, tmp_path / "store")
    contents = set()
    for name in ("one.xyz", "two.xyz"):
        out = call("labels", "export", str(tmp_path / name), "--level", str(tmp_path / "level.yaml"),
                   "--store", str(tmp_path / "store"))  # fmt: skip
        assert "5 frames, 0 with forces, 0 combined from parts" in out
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 1
    (first, *_) = read_frames(tmp_path / "one.xyz")
    assert first.info["components_Eh"]["hf/6-31g"] < -75
    assert ase.io.read(tmp_path / "one.xyz", index=0).info["components_Eh"] == first.info["components_Eh"]
    rows = read_json_lines(tmp_path / "one.jsonl")
    assert [row["from"] for row in rows] == ["record"] * 5


def test_a_level_that_was_never_computed_is_combined_from_what_others_have(tmp_path, watch):
    labelled(water(1), focal_point(), tmp_path, "analytic")
    labelled(water(2), focal_point(), tmp_path)
    labelled(HYDROXYL, focal_point(), tmp_path)
    labelled(water(3), COUPLED_CLUSTER, tmp_path)
    watch.forget()
    found = exported(tmp_path, HF_AND_MP2)
    assert (watch.scfs, watch.correlated) == ([], [])
    fresh = {}
    for atoms, forces in ((HYDROXYL, None), (water(1), "analytic"), (water(2), None)):
        frame, record = labelled(atoms, HF_AND_MP2, tmp_path / "fresh", forces)
        fresh[record["geometry"]] = frame
    assert {frame.info["geometry"] for frame in found.frames} == fresh.keys()
    for frame in found.frames:
        other = fresh[frame.info["geometry"]]
        assert frame.info[ENERGY_KEY] == pytest.approx(other.info[ENERGY_KEY], abs=1e-7)
        assert (FORCES_KEY in frame.arrays) == (FORCES_KEY in other.arrays)
        if FORCES_KEY in frame.arrays:
            np.testing.assert_allclose(frame.arrays[FORCES_KEY], other.arrays[FORCES_KEY], atol=1e-6)
    assert {row["from"] for row in found.rows} == {"parts"}
    # Of the third water no part is of this level.
    assert len(found.rows) == 3


def test_parts_of_before_a_d_shell_was_fitted_are_not_combined(tmp_path):
    hydride = Atoms("HBr", positions=[[0, 0, 0], [0, 0, 1.41]])
    level, other = (
        PySCF.model_validate({"method": method, "basis": "cc-pvdz", "density_fitting": True, "doubtful": "ignore"})
        for method in ("mp2", "hf")
    )
    frame, record = labelled(hydride, level, tmp_path)
    (found,) = exported(tmp_path, other).frames
    assert abs(found.info[ENERGY_KEY] - frame.info[ENERGY_KEY]) < 10  # the correlation alone
    for path in [LabelStore(tmp_path, level).path(record["geometry"]), *sorted(tmp_path.glob(f"{PART_PREFIX}*/??/*"))]:
        of_before = read_json(path)
        (of_before.get("notes") or of_before).pop("bases_of_elements", None)
        write_json(path, of_before)
    again = exported(tmp_path, other)
    assert again.frames == []
    assert [*again.lacking()] == ["parts as they are computed now: exchange of a d shell was not fitted"]


def test_what_is_doubtful_is_said_of_combined_energies_too(tmp_path):
    stretched = Atoms("N2", positions=[[0, 0, 0], [0, 0, 1.7]])
    _, labelling = labelled(stretched, focal_point(), tmp_path)
    (row,) = exported(tmp_path, COUPLED_CLUSTER).rows
    assert row["from"] == "parts"
    assert row["t1_diagnostic"] == labelling["t1_diagnostic"]
    assert row["doubt"] == labelling["doubt"] is not None


def test_geometries_that_lack_parts_are_listed_with_them(tmp_path):
    labelled(water(1), focal_point(), tmp_path)
    labelled(water(2), COUPLED_CLUSTER, tmp_path)
    labelled(water(3), single("hf", LARGE), tmp_path)
    found = exported(tmp_path, focal_point())
    assert len(found.frames) == 1
    lacking = {row["geometry"]: row.get("lacking") for row in found.rows}
    assert lacking == {
        geometry_hash(water(1), 0, 1): None,
        geometry_hash(water(2), 0, 1): ["hf/6-31g", "mp2/6-31g", "mp2/sto-3g"],
        geometry_hash(water(3), 0, 1): ["mp2/6-31g", "ccsd(t)/sto-3g", "mp2/sto-3g"],
    }
    assert found.lacking() == Counter({"mp2/6-31g": 2, "mp2/sto-3g": 2, "hf/6-31g": 1, "ccsd(t)/sto-3g": 1})


def test_forces_by_differences_are_those_of_the_displaced_geometries_which_are_no_frames(tmp_path):
    frame, _ = labelled(water(), HF_AND_MP2, tmp_path, "differences")
    for level in (HF_AND_MP2, single("hf", LARGE)):  # the one finished, the other combined
        (found,) = exported(tmp_path, level).frames
        fresh, _ = labelled(water(), level, tmp_path / "fresh", "differences")
        np.testing.assert_allclose(found.arrays[FORCES_KEY], fresh.arrays[FORCES_KEY], atol=1e-5)
    assert exported(tmp_path, HF_AND_MP2).frames[0].info[ENERGY_KEY] == frame.info[ENERGY_KEY]
    assert len(exported(tmp_path, focal_point()).rows) == 1


def test_a_slope_is_that_of_the_displaced_geometries_and_of_a_diatomic_all_of_its_forces(tmp_path):
    frame, _ = labelled(water(), HF_AND_MP2, tmp_path, "slope")
    (found,), (row,) = vars(exported(tmp_path, HF_AND_MP2)).values()
    assert row["forces"] == "slope"
    assert FORCES_KEY not in found.arrays
    assert found.info[SLOPE_KEY] == pytest.approx(frame.info[SLOPE_KEY], abs=1e-9)
    np.testing.assert_allclose(found.arrays[DIRECTION_KEY], frame.arrays[DIRECTION_KEY], atol=1e-8)
    frame, _ = labelled(HYDROXYL, HF_AND_MP2, tmp_path / "radical", "slope")
    (found,), (row,) = vars(exported(tmp_path / "radical", HF_AND_MP2)).values()
    assert row["forces"] == "differences"
    along = -np.sum(found.arrays[FORCES_KEY] * frame.arrays[DIRECTION_KEY])
    assert along == pytest.approx(frame.info[SLOPE_KEY], abs=1e-6)


def test_where_a_displaced_geometry_is_missing_there_are_no_forces(tmp_path):
    labelled(water(), HF_AND_MP2, tmp_path, "differences")
    own = LabelStore(tmp_path, HF_AND_MP2).path(geometry_hash(water(), 0, 1))
    only_whole_records(tmp_path)
    next(path for path in level_records(tmp_path) if path != own).unlink()
    (frame,) = exported(tmp_path, HF_AND_MP2).frames
    assert FORCES_KEY not in frame.arrays


def test_stores_of_earlier_versions_have_parts_in_their_whole_records(tmp_path, watch):
    labelled(water(), focal_point("3-21g"), tmp_path)
    labelled(HYDROXYL, focal_point("3-21g"), tmp_path)
    only_whole_records(tmp_path)
    watch.forget()
    frame, record = labelled(water(), focal_point(), tmp_path)
    assert (watch.scfs, watch.correlated) == (["hf/6-31g"], [{"mp2"}])
    fresh, alone = labelled(water(), focal_point(), tmp_path / "fresh")
    assert frame.info[ENERGY_KEY] == pytest.approx(fresh.info[ENERGY_KEY], abs=1e-7)
    assert (record["scf"], record["t1_diagnostic"]) == (alone["scf"], pytest.approx(alone["t1_diagnostic"], abs=1e-6))
    # A radical's record does not say that its SCFs are of one state.
    watch.forget()
    labelled(HYDROXYL, focal_point(), tmp_path)
    assert {"mp2", "ccsd(t)"} in watch.correlated


def test_a_whole_record_that_is_not_right_is_no_part_either(tmp_path):
    _, good = labelled(water(), focal_point(), tmp_path)
    only_whole_records(tmp_path)
    (path,) = level_records(tmp_path)
    write_json(path, read_json(path) | {"components_Eh": good["components_Eh"] | {"mp2/6-31g": -1.0}})
    _, again = labelled(water(), focal_point(), tmp_path)
    assert again["components_Eh"]["mp2/6-31g"] == pytest.approx(good["components_Eh"]["mp2/6-31g"], abs=1e-8)


@pytest.mark.parametrize("about", ["[]", "{", '{"stages": 1}', '{"stages": [{"bases": 3}]}', '{"level": "x"}'])
def test_a_folder_that_does_not_say_what_it_is_stops_nothing(tmp_path, about):
    folder = tmp_path / "v3-0123456789abcdef"
    folder.mkdir()
    (folder / "level.json").write_text(about)
    frame, _ = labelled(water(), COUPLED_CLUSTER, tmp_path)
    (found,) = exported(tmp_path, COUPLED_CLUSTER).frames
    assert found.info[ENERGY_KEY] == frame.info[ENERGY_KEY]


def test_records_that_are_not_right_are_named_and_left_out(tmp_path):
    labelled(water(1), HF_AND_MP2, tmp_path)
    labelled(water(2), HF_AND_MP2, tmp_path)
    only_whole_records(tmp_path)
    bad, _ = level_records(tmp_path)
    bad.write_text("{")
    said: list[str] = []
    assert len(exported(tmp_path, HF_AND_MP2, said).frames) == 1
    assert [line.startswith(f"{bad}: cannot be read") for line in said] == [True]


def test_all_levels_of_a_store_are_exported_by_what_it_says(tmp_path):
    labelled(water(), HF_AND_MP2, tmp_path / "store", "analytic")
    labelled(water(), COUPLED_CLUSTER, tmp_path / "store")
    out = call("labels", "export", str(tmp_path / "all.xyz"), "--level", "all", "--store", str(tmp_path / "store"))
    keys = {LabelStore(tmp_path, level).key: level for level in (HF_AND_MP2, COUPLED_CLUSTER)}
    assert {path.name for path in tmp_path.glob("*.xyz")} == {f"all-{key}.xyz" for key in keys}
    assert all(f"{level}: 1 frames" in out for level in keys.values())
    (frame,) = read_frames(tmp_path / f"all-{LabelStore(tmp_path, HF_AND_MP2).key}.xyz")
    assert FORCES_KEY in frame.arrays


def test_a_level_of_an_experiment_is_exported_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labelled(water(), HF_AND_MP2, Path("results/labels"))
    keys: dict[str, Any] = {
        "experiment": "e", "levels": {"mine": {"method": "mp2", "basis": LARGE, "density_fitting": False}},
        "datasets": {"water": {"molecule": {"name": "H2O"}, "sampling": {"temperatures": [300]}, "level": "mine",
                               "training_frames": 2, "test_frames": 1}},
        "models": {"painn": {"architecture": "painn"}}, "losses": {"supervised": {}}, "sizes": [2], "seeds": [0],
    }  # fmt: skip
    Path("config.yaml").write_text(yaml.safe_dump(keys))
    assert "1 frames" in call("labels", "export", "out.xyz", "--level", "mine", "--config", "config.yaml")
    said = call("labels", "export", "out.xyz", "--level", "main", "--config", "config.yaml", code=1)
    assert said == "error: --level: config.yaml has no level 'main'; did you mean 'mine'?\n"


def test_what_a_store_holds_is_listed(tmp_path):
    labelled(water(1), HF_AND_MP2, tmp_path, "analytic")
    labelled(water(2), HF_AND_MP2, tmp_path)
    out = call("labels", "list", "--store", str(tmp_path))
    assert "2 energies, 1 with gradients" in out.splitlines()[1]
    assert out.splitlines()[1].endswith(str(HF_AND_MP2))
    assert {line.split(": ")[1] for line in out.splitlines()[3:]} == {"hf/6-31g", "mp2/6-31g"}


@pytest.mark.parametrize("command", [("list",), ("export", "out.xyz", "--level", "mp2-cbs")])
def test_a_folder_that_is_no_store_is_one_line(tmp_path, command):
    for folder, problem in ((tmp_path / "absent", "no such folder"), (tmp_path, "holds no finished energies")):
        said = call("labels", *command, "--store", str(folder), code=1)
        assert said.startswith(f"error: {folder}: {problem}")
