"""Charge and multiplicity of a frame, by whatever name a program wrote them."""

from __future__ import annotations

import re

import pytest
from ase.build import molecule
from helpers import morse_frames

from piwsl.config import GivenDataset
from piwsl.data.assemble import import_given
from piwsl.data.dataset import TRAINING, Dataset
from piwsl.errors import PiwslError
from piwsl.structures.frames import charge_of, multiplicity_of, write_frames
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
