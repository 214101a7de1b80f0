"""Data that look odd are asked about: wrong units, signs and frames, and copies; data that are in order are not."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from helpers import ROOT, displaced, morse_frames
from pyscf import gto, scf
from tblite.ase import TBLite

from piwsl.data.dataset import POOL, TEST, TRAINING
from piwsl.data.plausibility import energy_outliers, warnings
from piwsl.data.reading import read_frames
from piwsl.data.survey import Formulas, survey_of
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, crowding, label
from piwsl.structures.units import ENERGY_UNITS, FORCE_UNITS

RMD17 = ROOT.parent / "shared" / "data" / "rmd17"


def named(frames):
    for number, atoms in enumerate(frames):
        atoms.info["frame"] = number
    return frames


@pytest.fixture(scope="module")
def water():
    """Fourteen frames with energies and forces of Hartree-Fock, eV and eV/Å."""
    frames = []
    rng = np.random.default_rng(0)
    for _ in range(14):
        atoms = displaced("H2O", 0.05, rng)
        field = scf.RHF(gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="6-31g", verbose=0))
        energy = field.kernel() * units.Hartree
        frames.append(label(atoms, energy, -field.nuc_grad_method().kernel() * units.Hartree / units.Bohr))
    return named(frames)


def odd(frames, **keys):
    return warnings({TRAINING: frames[:-3], TEST: frames[-3:]}, **keys)


def scaled(frames, energy=1.0, forces=1.0):
    return [label(atoms, energy * atoms.info[ENERGY_KEY], forces * atoms.arrays[FORCES_KEY]) for atoms in frames]


def with_labels_of(calculator, frames):
    labelled = []
    for atoms in frames:
        atoms.calc = calculator
        labelled.append(label(atoms, atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)))
    return named(labelled)


def rattled_slabs():
    """Slabs, of which the lower half is held, as they come out of a relaxation."""
    slabs = []
    for seed in range(8):
        slab = fcc111("Cu", (2, 2, 4), vacuum=8)
        slab.rattle(0.05, seed=seed)
        slab.set_constraint(FixAtoms(mask=slab.positions[:, 2] < slab.positions[:, 2].mean()))
        slabs.append(slab)
    return slabs


def stretched_nitrogen():
    """A molecule that is torn apart."""
    return [Atoms("N2", [[0, 0, 0], [0, 0, distance]]) for distance in np.linspace(0.9, 3.0, 15)]


ORDERLY = {
    "Hartree-Fock": lambda water: water,
    "tight binding, of valence electrons": lambda water: with_labels_of(TBLite(method="GFN2-xTB", verbosity=0), water),
    "a pair potential": lambda water: named(morse_frames("CH3OH", 10, forces=True)),
    "relative energies": lambda water: [
        label(atoms, atoms.info[ENERGY_KEY] - water[0].info[ENERGY_KEY], atoms.arrays[FORCES_KEY]) for atoms in water
    ],
    "several molecules": lambda water: with_labels_of(
        TBLite(method="GFN2-xTB", verbosity=0),
        [displaced(name, 0.02, np.random.default_rng(i)) for i in range(2) for name in ("H2O", "NH3", "CH4", "CH3OH")],
    ),
    "slabs": lambda water: with_labels_of(EMT(), rattled_slabs()),
    "a dissociation": lambda water: with_labels_of(TBLite(method="GFN2-xTB", verbosity=0), stretched_nitrogen()),
    "one frame each": lambda water: water[:1] + water[-3:],
}


@pytest.mark.parametrize("name", ORDERLY)
def test_data_in_order_raise_no_question(water, name):
    assert odd(ORDERLY[name](water)) == []


@pytest.mark.parametrize("unit", ["Hartree", "kcal/mol", "kJ/mol"])
def test_energies_in_another_unit_are_asked_about(water, unit):
    asked = odd(scaled(water, energy=1 / ENERGY_UNITS[unit]))
    assert any(f"energies: are they in {unit}?" in line for line in asked)
    asked = odd(scaled(water, energy=ENERGY_UNITS[unit]), energy_unit=unit)
    assert any("energies: are they in eV?" in line for line in asked)


def test_energies_of_the_opposite_sign_are_asked_about(water):
    asked = odd(scaled(water, energy=-1))
    assert "energies: are they of the opposite sign?" in asked[0]


@pytest.mark.parametrize("unit", ["Hartree/Bohr", "kcal/mol/Å"])
def test_forces_that_are_not_the_slope_of_the_energies_are_asked_about(water, unit):
    (asked,) = odd(scaled(water, forces=1 / FORCE_UNITS[unit]))
    assert f"are the forces in {unit}?" in asked


def test_gradients_in_place_of_forces_are_asked_about(water):
    (asked,) = odd(scaled(water, forces=-1))
    assert "are the forces of the opposite sign?" in asked or "are the energies of the opposite sign?" in asked


def test_one_frame_in_another_unit_is_named(water):
    frames = [*water[:6], *scaled(water[6:7], energy=1 / units.Hartree), *water[7:]]
    frames[6].info["frame"] = "frame six"
    (asked,) = [line for line in odd(frames) if line.startswith("energies")]
    assert "1 of 14 frames (frame frame six)" in asked
    assert "are they in Hartree?" in asked


def test_half_of_the_data_or_a_second_molecule_in_another_unit_is_named(water):
    half = [*water[:7], *scaled(water[7:], energy=1 / units.Hartree)]
    assert any("7 of 14 frames (frame 7, 8, 9, 10, 11, ...): are they in Hartree?" in line for line in odd(half))
    methane = [label(displaced("CH4", 0.05, np.random.default_rng(seed)), -40.2, None) for seed in range(6)]
    asked = odd([*water, *named(methane)])
    assert any("6 of 20 frames (frame 0, 1, 2, 3, 4, ...): are they in Hartree?" in line for line in asked)


def test_dimers_of_independent_lengths_and_ions_of_one_geometry_are_no_copies(water):
    rng = np.random.default_rng(0)
    dimers = [Atoms("N2", [[0, 0, 0], [0, 0, distance]]) for distance in rng.uniform(0.95, 1.25, 300)]
    frames = named([label(atoms, -2900.0 + atoms.get_distance(0, 1), None) for atoms in dimers])
    assert not [line for line in odd(frames) if line.startswith("copies") and int(line.split()[1]) > 3]
    ions = [label(atoms, atoms.info[ENERGY_KEY] + 12.6, None) for atoms in water]
    for atoms in ions:
        atoms.info["charge"] = 1
    assert not [line for line in warnings({TRAINING: water, TEST: ions}) if line.startswith("copies")]


def test_usual_energies_beside_forces_of_the_opposite_sign_are_not_doubted(water):
    (asked,) = odd(scaled(water, forces=-1))
    assert "are the forces of the opposite sign?" in asked


def test_forces_that_do_not_add_up_are_asked_about(water):
    frames = scaled(water)
    frames[4].arrays[FORCES_KEY][0] += 3.0
    assert any("1 of 14 frames" in line and "do not add up to zero" in line for line in odd(named(frames)))


def test_copies_are_found_however_they_are_turned(water):
    turned = water[2].copy()
    turned.rotate(77, (1, 2, 3))
    turned.positions += 5.0
    renumbered = water[5][[0, 2, 1]]
    turned.info["frame"], renumbered.info["frame"] = "turned", "renumbered"
    asked = warnings({TRAINING: [*water, renumbered], TEST: [turned]}, computed=True)
    assert len(asked) == 2
    assert "1 of 15 training frames (frame renumbered)" in asked[0]
    assert "1 of 1 test frames (frame turned) have the geometry of a training frame" in asked[1]
    (asked,) = [line for line in odd([water[0].copy() for _ in range(14)]) if "training frames" in line][:1]
    assert "10 of 11 training frames" in asked


def test_copies_among_test_frames_are_asked_about(water):
    turned = water[12].copy()
    turned.rotate(77, (1, 2, 3))
    turned.info["frame"] = "turned"
    (asked,) = warnings({TRAINING: water[:10], TEST: [*water[10:], turned, turned.copy()]}, computed=True)
    assert asked == (
        "copies: 2 of 6 test frames (frame turned, turned) have the geometry of another; the errors count that "
        "geometry more than once"
    )


def test_test_frames_of_which_atomic_references_say_nothing_are_asked_about(water):
    """Of water alone nobody can tell what a hydrogen molecule has; of both, what hydrogen peroxide has."""
    hydrogen, peroxide = label(molecule("H2"), -30.7, None), label(molecule("H2O2"), -4103.0, None)
    hydrogen.info["frame"], peroxide.info["frame"] = "hydrogen", "peroxide"
    (said,) = warnings({TRAINING: water[:10], TEST: [*water[10:], hydrogen]})
    assert said.startswith("compositions: 1 of 5 test frames (frame hydrogen) are free atoms, or of compositions that")
    assert warnings({TRAINING: [*water[:10], hydrogen], TEST: [*water[10:], peroxide]}) == []


def test_free_atoms_among_the_test_frames_are_asked_about(water):
    """Water less two hydrogen atoms is no oxygen atom: it is lower by all that binds them."""

    def asked(training, test):
        found = warnings({TRAINING: [*water[:10], *training], TEST: [*water[10:], *test]})
        return [said for said in found if said.startswith("compositions: ")]

    oxygen, hydrogen = (
        label(Atoms(symbol, info={"frame": symbol}), energy, None) for symbol, energy in (("O", -2036.0), ("H", -13.6))
    )
    assert "1 of 5 test frames (frame H) are free atoms" in asked([oxygen], [hydrogen])[0]
    assert "1 of 5 test frames (frame O) are free atoms" in asked([hydrogen], [oxygen])[0]
    assert asked([oxygen, hydrogen], []) == asked([oxygen, hydrogen], [oxygen, hydrogen]) == []


def test_frames_of_a_pool_that_are_labelled_or_tested_on_are_asked_about(water):
    training, test, pool = water[:6], water[6:8], water[8:]
    bare = [Atoms(atoms.numbers, atoms.positions, info={"frame": f"bare-{i}"}) for i, atoms in enumerate(water)]
    assert warnings({TRAINING: training, TEST: test, POOL: bare[8:]}, computed=True) == []
    known, tested = warnings({TRAINING: training, TEST: test, POOL: [bare[1], bare[7], *bare[8:]]}, computed=True)
    of_pool = len(pool) + 2
    assert known.startswith(f"copies: 1 of {of_pool} pool frames (frame bare-1) have the geometry of a training frame")
    assert tested.startswith(f"copies: 1 of {of_pool} pool frames (frame bare-7) have the geometry of a test frame")


def test_images_of_one_crystal_in_two_cells_are_no_copies():
    small, large = molecule("H2O"), molecule("H2O")
    small.set_cell([5, 5, 5])
    large.set_cell([6, 6, 6])
    small.pbc = large.pbc = True
    assert warnings({TRAINING: [small], TEST: [large]}, computed=True) == []


def test_sheared_cells_of_one_atom_are_no_copies():
    plain = Atoms("Cu", cell=[3.6, 3.6, 3.6], pbc=True)
    sheared = Atoms("Cu", cell=[3.6, 3.6, 3.6, 90, 90, 85], pbc=True)
    assert warnings({TRAINING: [plain], TEST: [sheared]}, computed=True) == []
    (asked,) = warnings({TRAINING: [plain], TEST: [plain.copy()]}, computed=True)
    assert "have the geometry of a training frame" in asked


WATER_CRYSTAL = Atoms("OH2", [[0.1, 0.1, 0.1], [0.1, 0.86, 0.69], [0.1, 2.86, 0.69]], cell=[3.0, 3.0, 4.0], pbc=True)
NEAR = {
    "hydrogen": (Atoms("H2", [[0, 0, 0], [0, 0, 0.2]]), 0.2),
    "hydrogen in a molecule": (Atoms("OH2", [[0, 0, 0], [0, 0.95, 0], [0.15, 0.9, 0]]), 0.158),
    "carbon": (Atoms("C2", [[0, 0, 0], [0, 0, 0.7]]), 0.7),
    "the nearest for their radii": (Atoms("CH2O", [[0, 0, 0], [0, 0, 0.3], [9, 0, 0], [9, 0, 0.45]]), 0.3),
    "through a face": (Atoms("H2", [[0, 0, 0.1], [0, 0, 4.85]], cell=[5, 5, 5], pbc=True), 0.25),
    "through an edge": (Atoms("H2", [[0.1, 4.9, 0], [4.9, 0.1, 0]], cell=[5, 5, 5], pbc=True), 0.283),
    "its own image, some cells on": (
        Atoms("K", [[0, 0, 0]], cell=[[0.6, 0, 0], [0, 5, 0], [0, 0, 5]], pbc=True), 0.6,
    ),
    "a slab open above": (Atoms("C2", [[0.1, 0, 0], [2.9, 0.3, 0]], cell=[3, 3, 0], pbc=[1, 1, 0]), 0.361),
}  # fmt: skip


@pytest.mark.parametrize("case", NEAR)
def test_atoms_nearer_than_any_bond_are_asked_about(case):
    atoms, distance = NEAR[case]
    assert crowding(atoms) == pytest.approx(distance, abs=1e-3)


def test_frames_of_atoms_nearer_than_any_bond_are_named(water):
    frames = named([atoms.copy() for atoms in water])
    frames[4].positions[1] = frames[4].positions[2] + [0, 0, 0.2]
    frames[13].positions[1] = frames[13].positions[2] + [0.25, 0, 0]
    pool = named([water[0].copy()])
    pool[0].positions[1] = pool[0].positions[0] + [0.15, 0, 0]
    (said,) = [
        each
        for each in warnings({TRAINING: frames[:-3], TEST: frames[-3:], POOL: pool})
        if each.startswith("geometries: ")
    ]
    assert "3 of 15 frames (frame 4, 13, 0) have atoms nearer than 0.5 times the sum" in said
    assert "as near as 0.15 Å" in said


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("H2", [[0, 0, 0], [0, 0, 0.5]]),  # under pressure
        Atoms("N2", [[0, 0, 0], [0, 0, 0.8]]),
        Atoms("CO", [[0, 0, 0], [0, 0, 0.8]]),
        Atoms("OH2", [[0, 0, 0], [0, 0, 0.6], [0, 0.6, 0]]),
        Atoms("V2", [[0, 0, 0], [0, 0, 1.65]]),  # the shortest for its radii
        Atoms("HeH", [[0, 0, 0], [0, 0, 0.5]]),
        Atoms("H2", [[0, 0, 0], [0, 0, 9.0]]),
        bulk("Na", "hcp", a=1.9, c=2.8),  # beyond 300 GPa
        bulk("H", "bcc", a=1.0),
        bulk("C", "diamond", a=2.8),
        bulk("Cs", "fcc", a=4.0),
        molecule("C6H6"),
        WATER_CRYSTAL,
        Atoms("H", [[0, 0, 0]]),
        fcc111("Cu", (1, 1, 2), vacuum=5),
    ],
    ids=str,
)
def test_what_occurs_under_pressure_is_not_asked_about(atoms):
    assert np.isnan(crowding(atoms))


@pytest.mark.skipif(not RMD17.is_dir(), reason="rMD17 is not there")
@pytest.mark.parametrize("name", ["ethanol", "aspirin"])
def test_no_frame_at_500_k_has_atoms_so_near(name):
    frames = read_frames(RMD17 / f"rmd17_{name}_train_01.npz", "rmd17")
    assert all(np.isnan(crowding(atoms)) for atoms in frames)


def test_labels_that_stand_for_none_are_asked_about(water):
    frames = scaled(water)
    frames[3].arrays[FORCES_KEY][:] = 0.0
    assert any(line.startswith("forces: those of 1 frames (frame 3) are all zero") for line in odd(named(frames)))
    frames = [label(atoms, -1.0, None) for atoms in water]
    assert "energies: all 14 frames have the same one, -1 eV" in odd(frames)


def test_zeros_in_place_of_energies_are_asked_about_and_make_no_others_outliers():
    frames = named(morse_frames("H2O", 60, forces=True) + morse_frames("NH3", 40, seed=1, forces=True))
    for atoms in frames:
        atoms.info[ENERGY_KEY] -= 100.0 * len(atoms)
    for atoms in frames[:58]:
        atoms.info[ENERGY_KEY] = 0.0
    (said,) = odd(frames)
    assert said == (
        "energies: those of 58 of 100 frames (frame 0, 1, 2, 3, 4, ...) are exactly zero; a frame without one has "
        "nothing in its place"
    )
    far = energy_outliers(survey_of(frames, Formulas()), "eV")
    assert far.rows.tolist() == [*range(58)]
    assert far.by == pytest.approx(100.0, rel=0.1)
    frames[70].info[ENERGY_KEY] += 50.0
    assert energy_outliers(survey_of(frames, Formulas()), "eV").rows.tolist() == [*range(58), 70]
    assert any("1 of 42 frames (frame 70) are up to" in line for line in odd(frames))
    for atoms in frames:
        atoms.info[ENERGY_KEY] = 0.0
    assert [line for line in odd(frames) if line.startswith("energies: those of 100 of 100 frames")]
    assert not len(energy_outliers(survey_of(frames, Formulas()), "eV").rows)


@pytest.mark.parametrize(
    "energies",
    [
        [0.0, *np.linspace(-300.0, -299.0, 13)],  # one alone is an outlier, if it is anything
        [0.0, 0.0, *np.linspace(0.1, 12.0, 12)],  # relative to the lowest, of two conformations
    ],
)
def test_a_zero_may_be_an_energy(energies):
    frames = morse_frames("H2O", 14)
    for atoms, energy in zip(frames, energies, strict=True):
        atoms.info[ENERGY_KEY] = energy
    assert not [line for line in odd(named(frames)) if "exactly zero" in line]


def test_free_atoms_of_no_binding_energy_stand_for_themselves():
    atoms = [Atoms(symbol, [[0, 0, 0]], info={ENERGY_KEY: 0.0}) for symbol in "HO"]
    frames = morse_frames("H2O", 14)
    for each in frames:
        each.info[ENERGY_KEY] -= 7.0
    assert not [line for line in odd(named(atoms + frames)) if "exactly zero" in line]
