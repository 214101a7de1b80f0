"""Forces of further levels are asked about as those that are learned are, and beside those of other levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.optimize import BFGS
from helpers import displaced, plain_experiment
from pyscf import gto, mp, scf
from tblite.ase import TBLite

from piwsl.config import GivenDataset, parse_section
from piwsl.data import plausibility
from piwsl.data.assemble import import_given
from piwsl.data.between_levels import factor_between
from piwsl.data.dataset import TEST, Dataset
from piwsl.data.given import names_of_files, read_files
from piwsl.data.plausibility import Parts, asked_of_levels, doubts_of_levels
from piwsl.preflight import load_experiment, remarks
from piwsl.records import Finding
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, write_frames
from piwsl.structures.units import FORCE_UNITS

HF, XTB = "REF", "xtb"
# What the files of the tests have beside Hartree-Fock: GFN2-xTB.
FURTHER = {"given_levels": {"xtb": {}}}


def labelled(atoms: Atoms, level: str, energy: float, forces: np.ndarray) -> None:
    atoms.info[f"{level}_energy"] = energy
    atoms.set_array(f"{level}_forces", forces, float, (3,))


def mean_field(atoms: Atoms, basis: str) -> scf.hf.RHF:
    return scf.RHF(gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis=basis, verbose=0)).run()


def with_hartree_fock_and_xtb(frames: list[Atoms]) -> list[Atoms]:
    for atoms in frames:
        field = mean_field(atoms, "6-31g")
        forces = -field.nuc_grad_method().kernel() * units.Hartree / units.Bohr
        bare = Atoms(atoms.numbers, atoms.positions, calculator=TBLite(method="GFN2-xTB", verbosity=0))
        labelled(atoms, HF, field.e_tot * units.Hartree, forces)
        labelled(atoms, XTB, bare.get_potential_energy(), bare.get_forces())
    return frames


@pytest.fixture(scope="module")
def labelled_water() -> list[Atoms]:
    rng = np.random.default_rng(0)
    return with_hartree_fock_and_xtb([displaced("H2O", 0.05, rng) for _ in range(14)])


@pytest.fixture
def water(labelled_water) -> list[Atoms]:
    """Fourteen frames with energies and forces of Hartree-Fock and GFN2-xTB, eV and eV/Å."""
    return [atoms.copy() for atoms in labelled_water]


def turned(frames: list[Atoms]) -> list[Atoms]:
    """Return frames in orientations of their own, as dynamics leaves them."""
    rng = np.random.default_rng(1)
    for atoms in frames:
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        rotation *= np.sign(np.linalg.det(rotation))
        atoms.positions @= rotation
        for name, values in atoms.arrays.items():
            if name.endswith("_forces"):
                values @= rotation
    return frames


def scaled(frames: list[Atoms], level: str, forces: float, energy: float = 1.0) -> list[Atoms]:
    for atoms in frames:
        atoms.info[f"{level}_energy"] *= energy
        atoms.arrays[f"{level}_forces"] *= forces
    return frames


def without(frames: list[Atoms], *names: str) -> list[Atoms]:
    for atoms in frames:
        for name in names:
            atoms.info.pop(name, None)
            atoms.arrays.pop(name, None)
    return frames


def asked(tmp_path: Path, frames: list[Atoms], **keys) -> list[Finding]:
    """Return what an import asks about further levels."""
    write_frames(tmp_path / "mine.xyz", frames)
    section = {"file": str(tmp_path / "mine.xyz"), "test_frames": 3} | FURTHER | keys
    import_given(parse_section(GivenDataset, section, "config.yaml"), tmp_path / "mine.h5")
    with Dataset(tmp_path / "mine.h5") as dataset:
        return [found for found in dataset.findings() if found.level]


def question(tmp_path: Path, frames: list[Atoms], **keys) -> str:
    (found,) = asked(tmp_path, frames, **keys)
    assert found.level == "xtb"
    return found.said


# By themselves.


@pytest.mark.parametrize("made", [list, turned, lambda frames: without(frames, "xtb_energy")])
def test_labels_in_order_raise_no_question(tmp_path, water, made):
    assert asked(tmp_path, made(water)) == []


@pytest.mark.parametrize("unit", ["Hartree/Bohr", "kcal/mol/Å"])
def test_forces_that_are_not_the_slope_of_the_energies_of_their_level_are_asked_about(tmp_path, water, unit):
    said = question(tmp_path, without(scaled(water, XTB, 1 / FORCE_UNITS[unit]), FORCES_KEY))
    assert said.startswith(
        "given_levels.xtb (xtb_energy in eV, xtb_forces in eV/Å): forces: between neighbouring frames"
    )
    assert f"are the forces in {unit}?" in said


def test_gradients_in_place_of_forces_are_asked_about_or_energies_where_no_other_level_tells_which(tmp_path, water):
    said = question(tmp_path, without(scaled(water, XTB, -1), FORCES_KEY))
    assert said.endswith("; are the forces of the opposite sign or are the energies of the opposite sign?")


def test_forces_that_do_not_add_up_and_those_far_beyond_the_others_are_asked_about_by_level_key_and_frame(
    tmp_path, water
):
    water[4].arrays["xtb_forces"][0] += 3.0
    water[7].arrays["xtb_forces"][:] = [[900, 0, 0], [-900, 0, 0], [0, 0, 0]]
    water[9].arrays["xtb_forces"][:] = 0.0
    found = {each.kind: each for each in asked(tmp_path, without(water, "xtb_energy"))}
    assert {kind: each.which for kind, each in found.items()} == {
        "net_forces": f"{tmp_path}/mine.xyz: 4",
        "force_outliers": f"{tmp_path}/mine.xyz: 7",
        "placeholders": f"{tmp_path}/mine.xyz: 9",
    }
    start = "given_levels.xtb (xtb_forces in eV/Å): forces: "
    assert all(each.said.startswith(start) and each.frames == 1 for each in found.values())
    assert "those of 1 of 14 frames (frame 4) do not add up to zero" in found["net_forces"].said


def test_energies_of_some_frames_in_another_unit_are_asked_about_with_these_frames(tmp_path, water):
    for atoms in water:
        atoms.info["other"] = atoms.info[ENERGY_KEY]
    for atoms in water[2:4]:
        atoms.info["other"] /= units.Hartree
    del water[0].info["other"]
    (found,) = asked(tmp_path, water, given_levels={"hf": {"energy_key": "other"}})
    assert (found.frames, found.which) == (2, f"{tmp_path}/mine.xyz: 2, 3")
    assert found.said.startswith(
        "given_levels.hf (other in eV): energies: 2 of 13 frames (frame 2, 3): are they in Har"
    )


def test_energies_far_from_the_others_of_their_level_are_asked_about_with_the_level(tmp_path, water):
    without(water[:2], "xtb_energy", "xtb_forces")
    water[4].info["xtb_energy"] += 30.0
    (found,) = asked(tmp_path, water, drop=["energy_outliers"])  # by labels that are learned alone
    assert (found.kind, found.level, found.done) == ("energy_outliers", "xtb", "kept")
    assert (found.frames, found.which) == (1, f"{tmp_path}/mine.xyz: 4")
    assert found.said == (
        "given_levels.xtb (xtb_energy in eV, xtb_forces in eV/Å): energies: 1 of 12 frames (frame 4) are up to 9.97 eV "
        "an atom away from what fits the others"
    )


def test_a_single_energy_in_another_unit_than_its_level_is_asked_about(tmp_path, water):
    """Those of valence electrons are no usual totals, in any unit."""
    scaled(water, XTB, 1, 1 / units.Hartree)
    water[4].info["xtb_energy"] *= units.Hartree
    said = question(tmp_path, water, given_levels={"xtb": {"energy_unit": "Hartree"}})
    assert "energies: 1 of 14 frames (frame 4) are up to " in said
    assert said.endswith(" from what fits the others; are they in eV?")


# Beside those of another level.


@pytest.mark.parametrize("made", [list, turned])
@pytest.mark.parametrize(
    ("factor", "how"),
    [
        (-1, "-0.9 times; are they of the opposite sign, or those?"),
        (units.Bohr / units.Hartree, "0.02 times; are they in Hartree/Bohr?"),
        (-units.Bohr / units.Hartree, "-0.02 times; are they in Hartree/Bohr and of the opposite sign?"),
        (units.kJ / units.mol, "0.01 times; are those in kJ/mol/Å?"),
        (7.0, "6 times; are both in the units that were said, and are these forces, not gradients?"),
    ],
)
def test_forces_without_energies_are_asked_about_by_how_those_that_are_learned_change(
    tmp_path, water, made, factor, how
):
    said = question(tmp_path, without(made(scaled(water, XTB, factor)), "xtb_energy"))
    begin, rest = said.split(" what those of the labels (REF_forces in eV/Å) do, on 14 frames")
    assert begin.startswith("given_levels.xtb (xtb_forces in eV/Å): forces: as bonds stretch from frame to frame")
    value, times = how.split(" times")
    assert float(begin.split()[-2]) == pytest.approx(float(value), rel=0.3)
    assert rest == times


def test_a_unit_of_energies_and_forces_alike_is_found_beside_another_level(tmp_path, water):
    """Energies of valence electrons are no usual totals, and forces in kcal/mol/Å are their slope in kcal/mol."""
    mistaken = scaled(water, XTB, units.mol / units.kcal, units.mol / units.kcal)
    assert "; are they in kcal/mol/Å" in question(tmp_path, mistaken)


def test_units_that_the_section_says_are_those_that_others_are_measured_by(tmp_path, water):
    level = {"energy_unit": "Hartree", "forces_unit": "Hartree/Bohr"}
    right = scaled(water, XTB, units.Bohr / units.Hartree, 1 / units.Hartree)
    assert asked(tmp_path, right, given_levels={"xtb": level}) == []
    said = question(tmp_path, without(right, "xtb_energy"), given_levels={"xtb": {"forces_unit": "kcal/mol/Å"}})
    assert "(xtb_forces in kcal/mol/Å)" in said
    assert said.endswith("are they in Hartree/Bohr?")


def test_levels_are_compared_with_each_other_where_the_labels_have_no_forces(tmp_path, water):
    for atoms in without(water, FORCES_KEY):
        atoms.set_array("gfn_forces", -atoms.arrays["xtb_forces"])
    levels = {"given_levels": {"xtb": {}, "gfn": {}}}
    (found,) = asked(tmp_path, without(water, "xtb_energy"), **levels)
    assert found.level == "gfn"
    assert "change by -1 times what those of given_levels.xtb (xtb_forces in eV/Å) do" in found.said


def test_gradients_of_a_level_with_energies_are_told_from_energies_of_the_opposite_sign(tmp_path, water):
    gradients = question(tmp_path, scaled([atoms.copy() for atoms in water], XTB, -1))
    assert "they change by -0.855 times what those of the labels" in gradients
    assert gradients.endswith("are they of the opposite sign, or those?")
    energies = question(tmp_path, scaled(water, XTB, 1, -1))
    assert "between neighbouring frames energies change by -0.9" in energies
    assert energies.endswith("; are the energies of the opposite sign?")


def test_forces_in_hartree_by_bohr_are_told_from_those_by_angstrom_by_their_energies(tmp_path, water):
    """Another level may change by half as much, rightly: it does not say that the forces are right."""
    mistaken = scaled(water, XTB, units.Bohr / units.Hartree)
    said = question(tmp_path, mistaken, given_levels={"xtb": {"forces_unit": "Hartree/Å"}})
    assert "between neighbouring frames energies change by " in said
    assert "are the forces in Hartree/Bohr" in said


def test_forces_of_the_labels_that_are_asked_about_raise_no_question_about_other_levels(tmp_path, water):
    assert asked(tmp_path, scaled(water, HF, -1)) == []
    with Dataset(tmp_path / "mine.h5") as dataset:
        (found,) = dataset.findings()
    assert "are the forces of the opposite sign?" in found.said


@pytest.fixture(scope="module")
def between_minima() -> list[Atoms]:
    """Nitrogen longer than Hartree-Fock has it, and shorter than MP2: forces of opposite sign, rightly."""
    frames = []
    for distance in np.linspace(1.06, 1.14, 9):
        atoms = Atoms("N2", [[0, 0, 0], [0, 0, distance]])
        field = mean_field(atoms, "6-31g")
        methods = {HF: field, "mp2": mp.MP2(field).run()}
        for level, method in methods.items():
            gradient = method.nuc_grad_method().kernel()
            labelled(atoms, level, method.e_tot * units.Hartree, -gradient * units.Hartree / units.Bohr)
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def conformers() -> list[Atoms]:
    """Ethanol as GFN2-xTB relaxes it, with forces of Hartree-Fock in two basis sets: those of opposite sign, mostly."""
    frames = []
    for angle in (40, 80, 170, 290, 320):
        atoms = molecule("CH3CH2OH", calculator=TBLite(method="GFN2-xTB", verbosity=0))
        atoms.set_dihedral(0, 1, 2, 3, angle, indices=[3])
        BFGS(atoms, logfile=None).run(fmax=0.02, steps=200)
        bare = Atoms(atoms.numbers, atoms.positions)
        for level, basis in ((HF, "6-31g"), ("minimal", "sto-3g")):
            field = mean_field(bare, basis)
            forces = -field.nuc_grad_method().kernel() * units.Hartree / units.Bohr
            labelled(bare, level, field.e_tot * units.Hartree, forces)
        frames.append(bare)
    return frames


def correlation(frames: list[Atoms], *levels: str) -> float:
    own, other = (np.concatenate([atoms.arrays[f"{level}_forces"].ravel() for atoms in frames]) for level in levels)
    return float(own @ other / (np.linalg.norm(own) * np.linalg.norm(other)))


@pytest.mark.parametrize("made", [list, turned])
def test_frames_between_the_minima_of_two_levels_raise_no_question(tmp_path, between_minima, made):
    frames = made([atoms.copy() for atoms in between_minima])
    assert correlation(frames[4:6], HF, "mp2") < -0.9
    assert asked(tmp_path, frames, given_levels={"mp2": {}}) == []
    factor = factor_between(frames, "mp2_forces", FORCES_KEY)
    assert factor.correlation > 0.99
    assert factor.value == pytest.approx(0.8, abs=0.2)


@pytest.mark.parametrize("name", ["H2O", "HCl"])
def test_levels_that_are_far_apart_raise_no_question(name):
    frames = [displaced(name, 0.02, np.random.default_rng(seed)) for seed in range(6)]
    for atoms in frames:
        gradient = mean_field(atoms, "sto-3g").nuc_grad_method().kernel()
        bare = Atoms(atoms.numbers, atoms.positions, calculator=TBLite(method="GFN2-xTB", verbosity=0))
        labelled(atoms, HF, 0.0, -gradient * units.Hartree / units.Bohr)
        labelled(atoms, XTB, 0.0, bare.get_forces())
    factor = factor_between(frames, "xtb_forces", FORCES_KEY)
    assert factor.value < 0.6
    assert factor.is_known
    assert not factor.is_usual
    assert not factor.is_odd


def test_what_a_third_level_relaxed_does_not_tell_and_raises_no_question(tmp_path, conformers):
    assert correlation(conformers, HF, "minimal") < -0.2
    assert asked(tmp_path, without(conformers, "minimal_energy"), given_levels={"minimal": {}}) == []
    assert not factor_between(conformers, "minimal_forces", FORCES_KEY).is_known


def test_atoms_without_bonds_or_in_other_orders_are_not_compared(water):
    argon = [Atoms("Ar2", [[0, 0, 0], [0, 0, 3.6 + 0.1 * n]]) for n in range(6)]
    alone = [Atoms("Ar") for _ in range(6)]
    for atoms in argon + alone:
        for level in (HF, XTB):
            labelled(atoms, level, 0.0, np.random.default_rng(0).normal(size=(len(atoms), 3)))
    few = [*water[:3], *(atoms[[1, 0, 2]] for atoms in water[3:6]), *(atoms[[1, 2, 0]] for atoms in water[6:9])]
    for frames in (argon, alone, few, []):
        assert not factor_between(frames, "xtb_forces", FORCES_KEY).is_known


def test_noise_of_forces_that_symmetry_keeps_at_zero_is_not_compared():
    """Crystals that are compressed and stretched: a program leaves less than the other one."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        frames = [bulk("Si", a=5.43 * strain) for strain in (0.96, 0.98, 1.0, 1.02, 1.04)]
        for atoms in frames:
            labelled(atoms, HF, 0.0, 1e-3 * rng.normal(size=(2, 3)))
            labelled(atoms, XTB, 0.0, 1e-5 * rng.normal(size=(2, 3)))
        assert not factor_between(frames, "xtb_forces", FORCES_KEY).is_known


def test_forces_in_a_unit_that_makes_them_small_are_no_noise(water):
    frames = scaled([atoms.copy() for atoms in water], XTB, units.Bohr / units.Hartree)
    assert factor_between(frames, "xtb_forces", FORCES_KEY).is_odd


def test_bonds_across_the_cell_are_those_of_one_molecule(water):
    frames = [atoms.copy() for atoms in water]
    for number, atoms in enumerate(frames):
        atoms.set_cell([7.0, 8.0, 9.0])
        atoms.pbc = True
        atoms.positions += [0.5 * number, 0.0, 0.0]
        atoms.wrap()
    found, alone = (factor_between(each, "xtb_forces", FORCES_KEY) for each in (frames, water))
    assert found == pytest.approx(alone)


# Wherever they are read.


def test_the_check_asks_what_the_import_does_of_named_test_sets_too(tmp_path, water, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames("mine.xyz", water[:8])
    write_frames("hot.xyz", scaled(water[8:], XTB, -1))
    config = plain_experiment() | {"sizes": [3], "levels": {}}
    config["datasets"] = {
        "water": {"file": "mine.xyz", "test_frames": 2, "tests": {"hot": {"file": "hot.xyz"}}, **FURTHER}
    }
    config["models"]["painn"] |= {"atomic_references": "fitted"}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    experiment = load_experiment(Path("config.yaml"))
    section = experiment.datasets["water"]
    import_given(section, tmp_path / "mine.h5")
    import_given(section.tested_on("hot"), tmp_path / "hot.h5", TEST)
    with Dataset(tmp_path / "mine.h5") as whole, Dataset(tmp_path / "hot.h5") as hot:
        assert whole.findings() == []
        (found,) = hot.findings()
    assert found.said.endswith("are they of the opposite sign, or those?")
    lines = [line for line in remarks(experiment) if "given_levels" in line]
    assert lines == [f"water, test set hot: warning: {found.said}"]


def test_a_test_file_in_another_unit_is_told_from_the_file_that_is_trained_on(tmp_path, water):
    write_frames(tmp_path / "test.xyz", scaled(water[9:], XTB, units.Bohr / units.Hartree))
    keys = {"test_frames": None, "test_file": str(tmp_path / "test.xyz")}
    said = question(tmp_path, water[:9], **keys)
    assert said.startswith(f"given_levels.xtb (xtb_energy in eV, xtb_forces in eV/Å) in {tmp_path}/test.xyz: forces:")
    assert said.endswith("; are they in Hartree/Bohr?")


def test_a_few_frames_are_asked_for_however_many_there_are(tmp_path, water, monkeypatch):
    for name in ("FRAMES_PAIRED", "FRAMES_BESIDE"):
        monkeypatch.setattr(plausibility, name, 5)
    write_frames(tmp_path / "mine.xyz", without(water, "xtb_energy"))
    section = parse_section(
        GivenDataset, {"file": str(tmp_path / "mine.xyz"), "test_frames": 3} | FURTHER, "config.yaml"
    )
    (file,) = read_files(section)
    parts, names = Parts.of({TEST: (file.survey, file.taken)}, {TEST: str(file.path)}), names_of_files(section)
    rows = asked_of_levels(parts, names)
    assert len(rows) <= 10
    looked_at: set[int] = set()

    def frame_of(row: int) -> Atoms:
        looked_at.add(row)
        return file.frames[row]

    assert doubts_of_levels(parts, frame_of, names) == []
    assert looked_at <= {*rows.tolist()}
