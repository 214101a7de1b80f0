"""The store of finished energies: what a level comes to is its key, and a record is believed only if it is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from helpers import MEMORY_MB, displaced

from piwsl.config import stages
from piwsl.files import read_json, write_json
from piwsl.reference import calculations
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.labelling import label_frames
from piwsl.reference.recipe import level_key, recipe
from piwsl.reference.store import SCHEME_VERSION, LabelStore, geometry_hash
from piwsl.structures.frames import ENERGY_KEY

GOLDEN = Path(__file__).parent / "levels.json"
NAMED: dict[str, dict[str, Any]] = {
    "demo": {"preset": "demo"},
    "ccsdt-cbs": {"preset": "ccsdt-cbs"},
    "mp2-cbs": {"preset": "mp2-cbs"},
    "dft": {"preset": "dft"},
    "hf": {"method": "hf", "basis": "cc-pvdz"},
    "mp2": {"method": "mp2", "basis": "def2-tzvp"},
    "ccsd(t)": {"method": "ccsd(t)", "basis": "cc-pvdz"},
    "def2": {"stages": [{"method": method, "bases": ["def2-svp", "def2-tzvp"]} for method in ("hf", "mp2")]},
    "three points": {"stages": [{"method": "hf", "bases": ["cc-pvdz", "cc-pvtz", "cc-pvqz"]}]},
    "square root": {
        "stages": [{"method": "hf", "bases": ["aug-cc-pvdz", "aug-cc-pvtz"], "extrapolation": "exponential-sqrt"}]
    },
}
HF_AND_MP2 = PySCF.model_validate({"method": "mp2", "basis": "sto-3g", "density_fitting": False})


def level(**given: Any) -> PySCF:
    return PySCF.model_validate(given)


def test_presets_and_defaults_mean_what_they_meant_when_the_energies_in_the_store_were_computed():
    # Where this fails, a level has another meaning than in the last release: energies get another place in the store.
    # If that is meant, say so in CHANGELOG.md and put what is found here into levels.json.
    found = {name: {"key": level_key(level(**given)), **recipe(level(**given))} for name, given in NAMED.items()}
    assert {"version": SCHEME_VERSION, "levels": found} == read_json(GOLDEN)


STAGES = [{"method": "hf", "bases": ["cc-pvtz", "cc-pvqz"]}, {"method": "mp2", "bases": ["cc-pvtz", "cc-pvqz"]}]
SAID_OTHERWISE = {
    "by its preset": {"preset": "mp2-cbs"},
    "its defaults": {"stages": STAGES, "frozen_core": True, "orbitals": None, "grid": 4},
    "its exponents": {"stages": [STAGES[0] | {"exponent": 1.63}, STAGES[1] | {"exponent": 3.0}]},
    "its formula": {"stages": [STAGES[0] | {"extrapolation": "exponential"}, STAGES[1]]},
    "its fitting bases": {"stages": STAGES, "auxiliary_bases": {"cc-pVTZ": {"jk": "cc-pvtz-jkfit"}}},
    "a fitting basis of a basis that it has not": {"stages": STAGES, "auxiliary_bases": {"cc-pvdz": {"ri": "x"}}},
    "a grid that nothing uses": {"stages": STAGES, "grid": 9},
    "in another order": {"stages": STAGES[::-1]},
}


@pytest.mark.parametrize("how", SAID_OTHERWISE)
def test_a_level_that_is_said_otherwise_shares_its_energies(how):
    assert level_key(level(**SAID_OTHERWISE[how])) == level_key(level(stages=STAGES))


def test_unrestricted_orbitals_of_old_share_their_energies():
    for old, new in ((True, "unrestricted"), (False, None)):
        with pytest.warns(FutureWarning, match="'unrestricted' is 'orbitals' now"):
            said = level(stages=STAGES, unrestricted=old)
        assert said == level(stages=STAGES, orbitals=new)
        assert recipe(said)["unrestricted"] is old


OTHER = {
    "all electrons": {"frozen_core": False},
    "unrestricted": {"orbitals": "unrestricted"},
    "restricted open shells": {"orbitals": "restricted"},
    "followed down": {"stability": True},
    "another fitting basis": {"auxiliary_bases": {"cc-pvtz": {"ri": "cc-pvqz-ri"}}},
    "another exponent": {"stages": [STAGES[0] | {"exponent": 1.64}, STAGES[1]]},
    "conventional": {"stages": [STAGES[0], STAGES[1] | {"density_fitting": False}]},
}


@pytest.mark.parametrize("what", OTHER)
def test_a_level_that_computes_something_else_has_energies_of_its_own(what):
    assert level_key(level(**{"stages": STAGES} | OTHER[what])) != level_key(level(stages=STAGES))


def test_a_changed_default_preset_or_published_exponent_finds_no_old_energy(monkeypatch):
    before = level_key(level(preset="mp2-cbs"))
    monkeypatch.setattr(stages, "HELGAKER_EXPONENT", 3.1)
    exponent = level_key(level(preset="mp2-cbs"))
    monkeypatch.setitem(stages.PRESETS, "mp2-cbs", lambda: {"stages": STAGES, "frozen_core": False})
    preset = level_key(level(preset="mp2-cbs"))

    class LaterLevel(PySCF):
        orbitals: str | None = "unrestricted"

    default = level_key(LaterLevel.model_validate({"stages": STAGES}))
    assert len({before, exponent, preset, default}) == 4


def water() -> Atoms:
    return displaced("H2O", 0.03, np.random.default_rng(1))


def labelled(folder: Path, atoms: Atoms, forces: str | None = "analytic") -> Atoms:
    (frame,), _ = label_frames([atoms], HF_AND_MP2, folder, forces, MEMORY_MB, progress=lambda line: None)
    return frame


def path_of(folder: Path, atoms: Atoms) -> Path:
    return LabelStore(folder, HF_AND_MP2).path(geometry_hash(atoms, 0, 1))


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], object]:
    def spoil(path: Path, other: Path) -> None:
        record = read_json(path)
        change(record)
        write_json(path, record)

    return spoil


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "of somebody").write_text("kept")


SPOILT: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "NaN": (edited(lambda record: record.update(energy_eV=float("nan"))), "energy_eV is nan"),
    "another number": (edited(lambda record: record.update(energy_eV=-1.0)), "energy_eV is -1.0, and its parts"),
    "a text": (edited(lambda record: record.update(energy_eV="-2000")), "energy_eV is -2000"),
    "true": (edited(lambda record: record.update(energy_eV=True)), "energy_eV is True"),
    "a part that is missing": (edited(lambda record: record["components_Eh"].popitem()), "lacks energies of its parts"),
    "a part that is infinite": (
        edited(lambda record: record["components_Eh"].update({"hf/sto-3g": float("inf")})), "no finite numbers",
    ),
    "another geometry": (lambda path, other: path.write_bytes(other.read_bytes()), "is of another geometry"),
    "another charge": (edited(lambda record: record.update(charge=1)), "is of another geometry, charge"),
    "another level": (edited(lambda record: record.update(level="0" * 16)), "is of another level"),
    "forces of another shape": (edited(lambda record: record["forces_eV_per_A"].pop()), "three finite numbers"),
    "forces with NaN": (
        edited(lambda record: record["forces_eV_per_A"][0].__setitem__(0, float("nan"))), "three finite numbers",
    ),
    "a list": (lambda path, other: path.write_text("[1, 2]"), "holds no record"),
    "half a record": (lambda path, other: path.write_text(path.read_text()[:40]), "cannot be read"),
    "nothing": (lambda path, other: path.write_text(""), "cannot be read"),
    "no end": (lambda path, other: path.write_text("[" * 100_000), "cannot be read"),
    "a folder": (lambda path, other: made_a_folder(path), "cannot be read"),
    "a note of another type": (edited(lambda record: record.update(scf=None)), "its note scf is not right"),
    "T1 in words": (edited(lambda record: record.update(t1_diagnostic="small")), "its note t1_diagnostic is not right"),
    "no text": (lambda path, other: path.write_bytes(b"\xff\xfe\x00"), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_a_record_that_is_not_right_is_computed_again_and_said(tmp_path, capsys, how):
    spoil, reason = SPOILT[how]
    stretched = water()
    stretched.positions[1] *= 1.1
    good, _ = labelled(tmp_path, water()), labelled(tmp_path, stretched)
    path = path_of(tmp_path, water())
    spoil(path, path_of(tmp_path, stretched))
    again = labelled(tmp_path, water())
    assert again.info[ENERGY_KEY] == pytest.approx(good.info[ENERGY_KEY], abs=1e-7)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: ")
    assert reason in line
    assert read_json(path)["energy_eV"] == pytest.approx(good.info[ENERGY_KEY], abs=1e-7)


def test_a_record_that_is_right_is_used_as_it_stands(tmp_path, monkeypatch, capsys):
    good = labelled(tmp_path, water())
    monkeypatch.setattr(calculations, "run_level", None)
    again = labelled(tmp_path, water())
    assert again.info[ENERGY_KEY] == good.info[ENERGY_KEY]
    assert capsys.readouterr().err == ""
    assert json.loads((path_of(tmp_path, water()).parents[1] / "level.json").read_text())["stages"]
