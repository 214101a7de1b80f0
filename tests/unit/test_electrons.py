"""Charge and multiplicity of a frame, by whatever name a program wrote them."""

from __future__ import annotations

import re

import pytest
from ase import Atoms
from ase.build import molecule
from helpers import MEMORY_MB, morse_frames

from piwsl.config import Geometries, GivenDataset, parse_level
from piwsl.data.assemble import import_given
from piwsl.data.dataset import TRAINING, Dataset
from piwsl.errors import PiwslError
from piwsl.reference.estimates import estimate
from piwsl.reference.geometries import read_geometries
from piwsl.reference.labelling import label_frames
from piwsl.structures.frames import charge_of, free_atom_problem, multiplicity_of, write_frames
from piwsl.structures.structure import from_atoms


def water(**info: object):
    atoms = molecule("H2O")
    atoms.info = info
    return atoms


@pytest.mark.parametrize("name", ["charge", "total_charge", "molecular_charge"])
def test_a_charge_is_found_by_the_names_that_programs_give_it(name):
    assert charge_of(water(**{name: -1})) == -1


@pytest.mark.parametrize("name", ["multiplicity", "total_spin", "spin", "molecular_multiplicity", "spin_multiplicity"])
def test_a_multiplicity_is_found_by_the_names_that_programs_give_it(name):
    assert multiplicity_of(water(**{name: 3.0})) == 3


def test_a_frame_that_says_nothing_is_a_neutral_singlet():
    assert (charge_of(water()), multiplicity_of(water())) == (0, 1)


@pytest.mark.parametrize("name", ["spin", "total_spin"])
def test_a_spin_of_zero_says_nothing(name):
    assert multiplicity_of(water(**{name: 0})) == 1
    assert multiplicity_of(water(**{name: 0, "multiplicity": 3})) == 3


@pytest.mark.parametrize(("symbol", "ground_state"), [("C", 3), ("O", 3), ("Si", 3), ("S", 3), ("Cr", 7), ("N", 4)])
def test_a_free_atom_whose_ground_state_is_no_singlet_must_say_its_multiplicity(symbol, ground_state):
    for said in ({}, {"spin": 0}, {"charge": 0}):
        problem = free_atom_problem(Atoms(symbol, info=said))
        assert problem is not None
        assert f"a free {symbol} atom has multiplicity {ground_state} in its ground state" in problem
        assert f"say multiplicity={ground_state}" in problem
    assert free_atom_problem(Atoms(symbol, info={"multiplicity": 1})) is None
    assert free_atom_problem(Atoms(symbol, info={"spin": ground_state})) is None


@pytest.mark.parametrize(
    "atoms",
    [Atoms("He"), Atoms("Mg"), Atoms("Xe"), Atoms("C", info={"charge": 2}), Atoms("C2"), Atoms(numbers=[118]), Atoms()],
    ids=["He", "Mg", "Xe", "ion", "molecule", "unknown ground state", "nothing"],
)
def test_what_is_a_singlet_or_no_free_atom_need_not_say_it(atoms):
    assert free_atom_problem(atoms) is None


def test_a_free_atom_without_multiplicity_fails_alone_and_is_not_found_as_a_singlet_either(tmp_path):
    level = parse_level({"engine": "tblite"}, "level")
    frames = [Atoms("C", info=info) for info in ({"multiplicity": 1}, {}, {"multiplicity": 3})] + [water()]
    labelled, records = label_frames(frames, level, tmp_path, None, MEMORY_MB, lambda line: None)
    assert [record["status"] for record in records] == ["ok", "failed", "ok", "ok"]
    assert len(labelled) == 3
    assert records[1]["step"] == "charge and multiplicity"
    assert "multiplicity 3" in records[1]["reason"]
    takes = estimate(frames, level, None, tmp_path)
    assert (takes.stored, takes.kinds) == (3, [])


def test_a_config_says_the_multiplicity_of_free_atoms_in_a_file_that_does_not(tmp_path):
    path = tmp_path / "atoms.xyz"
    write_frames(path, [water(), Atoms("O"), Atoms("O", info={"charge": 2})])
    with pytest.raises(PiwslError, match=r"frame 1 of .*atoms.xyz: a free O atom has multiplicity 3"):
        read_geometries(Geometries(file=path))
    with pytest.raises(PiwslError, match="a free O atom"):
        read_geometries(Geometries(file=path, charge=0))
    for said in (1, 3):
        frames = read_geometries(Geometries(file=path, multiplicity=said))
        assert [multiplicity_of(frame) for frame in frames] == [said] * 3
    assert len(read_geometries(Geometries(file=path, charge=2))) == 3


def test_names_that_contradict_each_other_are_refused():
    with pytest.raises(PiwslError, match=re.escape("charge=0 and total_charge=1 contradict each other; keep charge")):
        charge_of(water(charge=0, total_charge=1))
    with pytest.raises(PiwslError, match="multiplicity=1 and spin=2 contradict"):
        multiplicity_of(water(multiplicity=1, spin=2))
    assert charge_of(water(charge=1, total_charge=1.0)) == 1


def test_names_that_say_no_whole_number_are_refused():
    with pytest.raises(PiwslError, match=re.escape("spin=0.5 is no whole number")):
        multiplicity_of(water(spin=0.5))


def test_a_structure_has_the_charge_of_its_frame():
    structure = from_atoms(water(total_charge=1, total_spin=2))
    assert (structure.charge, structure.multiplicity) == (1, 2)


def test_given_frames_keep_the_charge_that_another_program_named(tmp_path):
    frames = morse_frames("H2O", 4)
    for atoms in frames:
        atoms.info |= {"total_charge": 1, "total_spin": 2}
    write_frames(tmp_path / "frames.xyz", frames)
    import_given(GivenDataset(file=tmp_path / "frames.xyz", test_frames=1), tmp_path / "frames.h5")
    with Dataset(tmp_path / "frames.h5") as dataset:
        structures = dataset.structures(dataset.indices(TRAINING))
    assert {(structure.charge, structure.multiplicity) for structure in structures} == {(1, 2)}
