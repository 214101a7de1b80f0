"""Reference energies are of molecules: a periodic structure is refused by every way in, and nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import molecule

import piwsl
from piwsl.config import Geometries, Molecule
from piwsl.config.levels import parse_level
from piwsl.errors import PiwslError
from piwsl.files import read_json_lines
from piwsl.reference import batches
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.geometries import load_molecule, read_geometries

LEVEL = {"method": "hf", "basis": "sto-3g", "density_fitting": False}
PERIODIC = {
    "a crystal": [True, True, True],
    "a slab": [True, True, False],
    "a wire": [False, False, True],
}


@pytest.fixture(params=PERIODIC)
def water(request) -> Atoms:
    atoms = molecule("H2O", cell=[9.0, 9.0, 9.0])
    atoms.pbc = PERIODIC[request.param]
    return atoms


@pytest.fixture(autouse=True)
def nothing_is_computed(monkeypatch):
    def computed(*arguments: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(PySCF, "single_point", computed)


def written(atoms: Atoms, name: str, **options: object) -> Path:
    ase.io.write(name, atoms, **options)
    return Path(name)


WAYS: dict[str, Callable[[Atoms], object]] = {
    "piwsl.label": lambda atoms: piwsl.label([atoms], LEVEL, store="store"),
    "geometries of a dataset": lambda atoms: read_geometries(Geometries(file=written(atoms, "water.xyz"))),
    "geometries that ASE reads": lambda atoms: read_geometries(Geometries(file=written(atoms, "water.traj"))),
    "the molecule of a dataset": lambda atoms: load_molecule(Molecule(file=written(atoms, "water.xyz"))),
    "a molecule that ASE reads": lambda atoms: load_molecule(Molecule(file=written(atoms, "water.json"))),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_periodic_structure_is_refused(way, water, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PiwslError, match="periodic; reference energies are of molecules"):
        WAYS[way](water)
    assert not (tmp_path / "store").exists()


def test_a_crystal_of_a_file_that_says_no_more_than_its_cell_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    water = molecule("H2O", cell=[9.0, 9.0, 9.0])
    with pytest.raises(PiwslError, match="periodic"):
        read_geometries(Geometries(file=written(water, "POSCAR", format="vasp")))
    (tmp_path / "water.xyz").write_text('1\nLattice="9 0 0 0 9 0 0 0 9"\nHe 0 0 0\n')
    with pytest.raises(PiwslError, match="periodic"):
        read_geometries(Geometries(file=tmp_path / "water.xyz"))


def test_a_molecule_in_a_box_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = written(molecule("H2O", cell=[9.0, 9.0, 9.0], pbc=False), "water.xyz")
    (frame,) = read_geometries(Geometries(file=file))
    assert not frame.cell.any()
    assert not load_molecule(Molecule(file=file)).cell.any()


def test_a_periodic_frame_that_comes_to_a_job_fails_alone(water, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    water.info["frame"] = "edited by hand"
    written(water, "selected.xyz")
    out = {"labelled": Path("labelled.xyz"), "records": Path("records.jsonl")}
    batches.label_batch(
        Path("selected.xyz"), parse_level(LEVEL, "level"), slice(0, 1), None, Path("store"), 1000, **out
    )
    assert out["labelled"].read_text() == ""
    (record,) = read_json_lines(out["records"])
    assert (record["status"], record["step"]) == ("failed", "geometry")
    assert record["reason"] == "periodic; reference energies are of molecules"
    with pytest.raises(PiwslError, match=r"1 of 1 frames failed.*edited by hand: geometry: periodic"):
        batches.check_failures([out["records"]], 0.5)
