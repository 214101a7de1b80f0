"""Frames that others labelled: their names, units and geometries, before anything is computed with them."""

from __future__ import annotations

import re

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from helpers import displaced, morse_frames, plain_experiment
from typer.testing import CliRunner

from piwsl.architectures.painn import PaiNN
from piwsl.cli import app
from piwsl.config import ConfigError, Experiment, GivenDataset, Loss, Run, parse_section
from piwsl.data.assemble import import_given
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset
from piwsl.data.given import read_files, summary
from piwsl.data.plausibility import warnings
from piwsl.errors import PiwslError
from piwsl.preflight import check_experiment
from piwsl.structures.extxyz import count_frames
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, write_frames
from piwsl.structures.labels import WEAK
from piwsl.structures.units import FORCE_UNITS
from piwsl.training.frames import Names, frames_of_run


def written_by_ase(path, count=4):
    """Write frames with energy and forces as any calculator of ASE leaves them."""
    frames = []
    for number in range(count):
        atoms = displaced("H2O", 0.05, np.random.default_rng(number))
        atoms.calc = SinglePointCalculator(atoms, energy=-76.0 - 0.01 * number, forces=np.full((3, 3), 0.1))
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")


def imported(path, **keys):
    file = path.with_suffix(".h5")
    import_given(GivenDataset(file=path, test_frames=1, **keys), file)
    with Dataset(file) as dataset:
        return dataset.structures(dataset.indices(TRAINING))


def test_energy_and_forces_of_a_file_that_ase_wrote_are_found(tmp_path, capsys):
    written_by_ase(tmp_path / "orca.xyz")
    units_there = {"energy_unit": "Hartree", "forces_unit": "Hartree/Bohr"}
    for structure in imported(tmp_path / "orca.xyz", energy_key="energy", forces_key="forces", **units_there):
        assert structure.energy == pytest.approx(-76.0 * units.Hartree, abs=1.0)
        np.testing.assert_allclose(structure.forces, 0.1 * units.Hartree / units.Bohr)
    said = capsys.readouterr().out
    assert "4 frames, 4 with forces (forces in Hartree/Bohr); energy in Hartree, -689.6" in said


@pytest.mark.parametrize(("said", "periodic"), [("1 1 0", [1, 1, 0]), ("F F F", [0, 0, 0]), ("T", [1, 1, 1])])
def test_periodic_directions_in_capitals_are_those_of_the_frame(tmp_path, said, periodic):
    """`PBC="1 1 0"`, as KLIFF has it beside a Lattice, is no crystal."""
    lattice = 'Lattice="9 0 0 0 9 0 0 0 9"'
    text = f'1\n{lattice} PBC="{said}" Energy=-29.4 Properties=species:S:1:pos:R:3:force:R:3\nSi 0 0 0 0 0 0.5\n'
    (tmp_path / "kliff.xyz").write_text(2 * text)
    keys = {"energy_key": "Energy", "forces_key": "force"}
    (file,) = read_files(GivenDataset(file=tmp_path / "kliff.xyz", test_frames=1, **keys))
    assert [atoms.pbc.tolist() for atoms in file.frames] == [[bool(each) for each in periodic]] * 2
    assert file.frames[0].cell.lengths().tolist() == [9.0, 9.0, 9.0]
    (tmp_path / "kliff.xyz").write_text(text.replace(said, "x y"))
    with pytest.raises(PiwslError, match="PBC is three of T and F"):
        read_files(GivenDataset(file=tmp_path / "kliff.xyz", test_frames=1, **keys))


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ('pbc="T T T" PBC="F F F"', 'pbc="T T T" and PBC="F F F" contradict each other'),
        ('PBC="1 1 0" pbc="T T T"', 'PBC="1 1 0" and pbc="T T T" contradict each other'),
        ("Pbc=T PBC=F", 'Pbc="T" and PBC="F" contradict each other'),
        ('pbc="T T F" PBC="1 1 0"', None),
        ('pbc=T PBC="T T T"', None),
    ],
)
def test_periodic_directions_that_are_said_twice_are_the_same_or_refused(tmp_path, said, problem):
    lattice, columns = 'Lattice="9 0 0 0 9 0 0 0 9"', "Properties=species:S:1:pos:R:3"
    once, twice = (f"1\n{lattice} {each} REF_energy=-29.4 {columns}\nSi 0 0 0\n" for each in ("pbc=T", said))
    (tmp_path / "frames.xyz").write_text(once + twice)
    given = GivenDataset(file=tmp_path / "frames.xyz", test_frames=1)
    if problem is None:
        assert read_files(given)[0].frames[1].pbc.tolist() == [True, True, "F" not in said]
        return
    with pytest.raises(PiwslError) as refused:
        read_files(given)
    found = f"{tmp_path}/frames.xyz: frame 1, line 5: {problem}; leave out the one that is wrong"
    assert str(refused.value) == found


def test_the_temperature_that_frames_say_is_kept(tmp_path):
    frames = morse_frames("H2O", 4)
    for atoms in frames[:3]:
        atoms.info["temperature"] = 350
    write_frames(tmp_path / "mine.xyz", frames)
    temperatures = sorted(structure.temperature for structure in imported(tmp_path / "mine.xyz"))
    assert temperatures.count(350.0) >= 2


def test_a_named_key_takes_no_label_of_another_name(tmp_path):
    frames = morse_frames("H2O", 4, forces=True)
    for atoms in frames[:2]:
        atoms.arrays["dft_forces"] = 2 * atoms.arrays[FORCES_KEY]
    for number, atoms in enumerate(frames):
        atoms.info["dft"] = -float(number)
    write_frames(tmp_path / "mine.xyz", frames)
    keys = {"energy_key": "dft", "forces_key": "dft_forces"}
    (file,) = read_files(GivenDataset(file=tmp_path / "mine.xyz", test_frames=1, **keys))
    assert [atoms.info[ENERGY_KEY] for atoms in file.frames] == [0, -1, -2, -3]
    assert [FORCES_KEY in atoms.arrays for atoms in file.frames] == [True, True, False, False]
    del frames[3].info["dft"]
    write_frames(tmp_path / "mine.xyz", frames)
    with pytest.raises(PiwslError, match=r"frame 3: has no dft and no dft_forces; its info holds \['REF_energy'\]"):
        read_files(GivenDataset(file=tmp_path / "mine.xyz", test_frames=1, **keys))


@pytest.mark.parametrize("keys", [{"weak_forces_key": "REF_forces"}, {"forces_key": "dft", "weak_forces_key": "dft"}])
def test_one_column_is_not_the_forces_of_two_levels(tmp_path, keys):
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 4, forces=True))
    with pytest.raises(PiwslError, match=r"weak_forces_key: column '.*' of .*mine.xyz is forces_key, too; forces of a"):
        read_files(GivenDataset(file=tmp_path / "mine.xyz", test_frames=1, **keys))


@pytest.mark.parametrize("key", ["forces_key", "weak_forces_key"])
def test_a_column_that_is_written_out_must_be_there(tmp_path, key):
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 4, forces=True))
    with pytest.raises(PiwslError, match=rf"{key}: no frame of .* has a column 'Forces'; .* are \['REF_forces'\]"):
        read_files(GivenDataset(file=tmp_path / "mine.xyz", test_frames=1, **{key: "Forces"}))


def test_columns_that_may_be_forces_are_named_where_none_are_taken(tmp_path):
    written_by_ase(tmp_path / "mine.xyz")
    dataset = GivenDataset(file=tmp_path / "mine.xyz", test_frames=1, energy_key="energy")
    (file,) = read_files(dataset)
    assert "none with forces (is one of its columns ['forces'] meant as forces_key?)" in summary(dataset, file)


@pytest.mark.parametrize("written", ["-74", "-74.0", "-7.4e1", '"-74"', '"[-74.0]"'])
def test_an_energy_is_converted_however_the_number_is_written(tmp_path, written):
    (tmp_path / "mine.xyz").write_text(f"1\nREF_energy={written}\nO 0 0 0\n" * 2)
    if "[" in written:
        (tmp_path / "mine.xyz").write_text('1\nREF_energy="_JSON [-74.0]"\nO 0 0 0\n' * 2)
    (structure,) = imported(tmp_path / "mine.xyz", energy_unit="Hartree")
    assert structure.energy == pytest.approx(-74 * units.Hartree)


@pytest.mark.parametrize(
    "written", ["T", "true", "abc", "nan", "inf", "1e300", '"-76 Ha"', '"-1 -2"', "1+2j", '"_JSON {}"']
)
def test_an_energy_that_is_no_number_is_refused(tmp_path, written):
    (tmp_path / "mine.xyz").write_text(f"1\nREF_energy=-1\nO 0 0 0\n1\nREF_energy={written}\nO 0 0 0\n")
    with pytest.raises(PiwslError, match=r"frame 1: REF_energy is .*, not a finite number") as raised:
        imported(tmp_path / "mine.xyz")
    assert "\n" not in str(raised.value)


def test_a_frame_that_is_no_geometry_is_named(tmp_path):
    frames = morse_frames("H2O", 4)
    frames[2].positions[1] = frames[2].positions[0]
    write_frames(tmp_path / "mine.xyz", frames)
    with pytest.raises(PiwslError, match=r"mine.xyz: frame 2: atom 0 \(O\) and atom 1 \(H\) are 0.000 Å apart"):
        imported(tmp_path / "mine.xyz")


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("kcal/mol/A", "kcal/mol/Å"),
        ("KCAL/MOL/ANGSTROM", "kcal/mol/Å"),
        ("ev/ang", "eV/Å"),
        ("eV / A\u030a", "eV/Å"),
        ("Ha/a0", "Hartree/Bohr"),
        ("Eh/bohr", "Hartree/Bohr"),
        ("kJ/mol/Å", "kJ/mol/Å"),
    ],
)
def test_units_are_taken_as_people_write_them(written, unit):
    assert GivenDataset(file="a.xyz", test_frames=1, forces_unit=written).forces_unit == unit
    assert unit in FORCE_UNITS


def test_a_unit_that_is_none_names_the_nearest():
    keys = {"file": "a.xyz", "test_frames": 1}
    with pytest.raises(ConfigError, match="energy_unit: no unit 'Hartre'; did you mean 'Hartree'"):
        parse_section(GivenDataset, keys | {"energy_unit": "Hartre"}, "x")
    with pytest.raises(ConfigError, match="forces_unit: no unit 'furlong'; known are"):
        parse_section(GivenDataset, keys | {"forces_unit": "furlong"}, "x")
    assert GivenDataset(**keys, energy_unit="EH").energy_unit == "Hartree"


def checked(tmp_path, references="fitted", share=0.0, **keys):
    """Return what `piwsl check` says of an experiment on `mine.xyz`, whose weak loss takes a share of a pool."""
    config = plain_experiment()
    config["models"]["painn"]["atomic_references"] = references
    config["losses"]["weak"]["pool"] = share
    config |= {"datasets": {"mine": {"file": "mine.xyz", "test_frames": 1} | keys}, "sizes": [3]}
    config |= {"levels": {}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["check", "config.yaml"])
    return result.exit_code, result.output


def test_check_refuses_what_the_import_would_refuse_and_says_what_it_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written_by_ase(tmp_path / "mine.xyz", count=6)
    code, said = checked(tmp_path)
    assert code == 1
    assert "datasets.mine: " in said
    assert "frame 0: has no REF_energy and no REF_forces; its info holds ['energy']" in said
    code, said = checked(tmp_path, energy_key="energy", forces_key="force")
    assert (code, said.count("\n")) == (1, 1)
    assert "has a column 'force'; columns of three numbers are ['forces']" in said
    code, said = checked(tmp_path, energy_key="energy", forces_key="forces")
    assert code == 0
    assert "mine: " in said
    assert "6 frames, 6 with forces" in said


def test_frames_of_one_atom_are_the_free_atoms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atoms = [Atoms("H"), Atoms("O"), Atoms("O"), Atoms("O"), Atoms("O", cell=[9, 9, 9], pbc=True)]
    for atom, energy in zip(atoms, (-13.6, -2034.0, -2036.0, -2040.0, -2050.0), strict=True):
        atom.info[ENERGY_KEY] = energy
    atoms[3].info["charge"] = -1
    write_frames(tmp_path / "test.xyz", morse_frames("H2O", 2, seed=1))
    write_frames(tmp_path / "mine.xyz", [*morse_frames("H2O", 6), *atoms])
    import_given(GivenDataset(file=tmp_path / "mine.xyz", test_file=tmp_path / "test.xyz"), tmp_path / "mine.h5")
    with Dataset(tmp_path / "mine.h5") as dataset:
        # Of two spin states the lower; neither the ion nor the crystal.
        assert dataset.atomic_energies() == {1: -13.6, 8: -2036.0}
    keys = {"test_frames": None, "test_file": "test.xyz"}
    assert checked(tmp_path, references="free_atoms", **keys)[0] == 0
    write_frames(tmp_path / "mine.xyz", [*morse_frames("H2O", 6), atoms[0]])
    code, said = checked(tmp_path, references="free_atoms", **keys)
    assert (code, said.count("\n")) == (1, 1)
    assert "models.painn.atomic_references: free_atoms: the dataset has no free O; give" in said
    code, said = checked(tmp_path, references={"O": -2036.0}, **keys)
    assert "models.painn.atomic_references: has no energy of H; give" in said


def test_labels_of_a_pool_are_not_looked_at_and_the_import_says_so(tmp_path, capsys):
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 6))
    pool = morse_frames("H2O", 4, seed=1, forces=True)
    pool[0].info[ENERGY_KEY] = "unknown"
    pool[1] = Atoms(pool[1].numbers, pool[1].positions)
    for atoms in pool:
        atoms.arrays["xtb"] = np.full((3, 3), 0.5)
    write_frames(tmp_path / "pool.xyz", pool)
    imported(tmp_path / "mine.xyz", pool_file=tmp_path / "pool.xyz", weak_forces_key="xtb")
    said = capsys.readouterr().out
    assert "pool.xyz: 4 frames of the pool, 4 with forces of a cheaper level (xtb); 3 have labels, which are no" in said
    with Dataset(tmp_path / "mine.h5") as dataset:
        found = dataset.structures(dataset.indices(POOL))
        assert len(dataset.indices(TEST)) == 1
    for structure, atoms in zip(found, pool, strict=True):
        assert np.isnan(structure.energy)
        assert structure.forces is None
        np.testing.assert_array_equal(structure.at_level(WEAK).forces, 0.5)
        np.testing.assert_allclose(structure.positions, atoms.positions, atol=1e-7)


def test_a_pool_is_checked_before_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 6))
    pool = [Atoms(atoms.numbers, atoms.positions) for atoms in morse_frames("H2O", 3, seed=1)]
    code, said = checked(tmp_path, pool_file="pool.xyz")
    assert (code, said.count("\n")) == (1, 1)
    assert "pool.xyz" in said
    write_frames(tmp_path / "pool.xyz", pool)
    code, said = checked(tmp_path, share=0.5, pool_file="pool.xyz")
    assert code == 0
    assert "mine: pool.xyz: 3 frames of the pool\n" in said
    write_frames(tmp_path / "pool.xyz", [*pool, Atoms("NH", positions=[[0, 0, 0], [0, 0, 1]])])
    assert checked(tmp_path, pool_file="pool.xyz")[0] == 0
    code, said = checked(tmp_path, share=0.5, pool_file="pool.xyz")
    assert (code, said.count("\n")) == (1, 1)
    assert "datasets.mine.pool_file: holds N, which no training frame does; take those frames out" in said
    write_frames(tmp_path / "pool.xyz", [*pool, Atoms("OH", positions=np.zeros((2, 3)))])
    code, said = checked(tmp_path, pool_file="pool.xyz")
    assert code == 1
    assert "datasets.mine: pool.xyz: frame 3: " in said


@pytest.mark.parametrize("name", ["mine.npz", "mine.traj"])
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    written_by_ase(tmp_path / "mine.xyz")
    if name.endswith("npz"):
        np.savez(tmp_path / name, x=np.zeros(3))
    else:
        ase.io.write(tmp_path / name, ase.io.read(tmp_path / "mine.xyz", ":"))
    (tmp_path / name).rename(tmp_path / "mine.xyz")
    code, said = checked(tmp_path)
    assert (code, said.count("\n")) == (1, 1), said
    assert "mine.xyz" in said


def test_a_damaged_dataset_file_of_an_earlier_run_stops_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 6))
    made = tmp_path / "results" / "ammonia" / "datasets" / "mine" / "dataset.h5"
    made.parent.mkdir(parents=True)
    import_given(GivenDataset(file=tmp_path / "mine.xyz", test_frames=1), made)
    assert checked(tmp_path)[0] == 0
    made.write_bytes(made.read_bytes()[:-100])
    code, said = checked(tmp_path)
    assert (code, said.count("\n")) == (1, 1)
    assert "datasets/mine/dataset.h5: is damaged" in said


def test_what_looks_odd_is_said_by_check_by_the_import_and_in_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frames = morse_frames("H2O", 6)
    write_frames(tmp_path / "mine.xyz", [*frames, frames[0]])
    code, said = checked(tmp_path)
    assert code == 0
    assert "mine: warning: copies: 1 of" in said
    import_given(GivenDataset(file=tmp_path / "mine.xyz", test_frames=1), tmp_path / "mine.h5")
    assert "warning: copies: 1 of" in capsys.readouterr().out
    with Dataset(tmp_path / "mine.h5") as dataset:
        assert dataset.findings()[0].said.startswith("copies: 1 of")


PIECES = (
    "nan",
    "-inf",
    "1e308",
    "1e12",
    "0",
    "T",
    "",
    "X",
    "Cu",
    "119",
    "10000000000000",
    "1_0",
    "R:3",
    "Z:I:1",
    "²",
    "١",
)
PIECES += (
    '"',
    "=",
    'Lattice="',
    'pbc="T T T"',
    'PBC="1 1 0"',
    "\0",
    "é",
    "\n",
    "\n\n",
    "\t",
    "_JSON {",
    ":",
    "[",
    "}",
    "\\",
    "forces:R:3",
)


def spoilt(text: str, rng: np.random.Generator) -> str:
    """Return a text with a few pieces, words or lines put in, left out or exchanged."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        separator = ["", " ", "\n"][rng.integers(3)]
        words = list(text) if separator == "" else text.split(separator)
        first, second = (int(rng.integers(len(words))) for _ in range(2))
        match rng.integers(4):
            case 0:
                words.insert(first, str(rng.choice(PIECES)))
            case 1:
                words[first] = str(rng.choice(PIECES))
            case 2:
                del words[first : first + int(rng.integers(1, 20 if separator == "" else 2))]
            case _:
                words[first], words[second] = words[second], words[first]
        text = separator.join(words)
    return text


@pytest.mark.filterwarnings("error")
def test_a_spoilt_file_is_imported_or_refused_in_one_line(tmp_path):
    frames = morse_frames("H2O", 3, forces=True)
    crystal = bulk("Cu") * (1, 1, 2)
    crystal.info[ENERGY_KEY] = -3.0
    write_frames(tmp_path / "good.xyz", [*frames, crystal, frames[0]])
    good = (tmp_path / "good.xyz").read_text()
    dataset = GivenDataset(file=tmp_path / "mine.xyz", test_frames=1)
    outcomes = {"imported": 0, "refused": 0}
    for seed in range(500):
        dataset.file.write_text(spoilt(good, np.random.default_rng(seed)))
        complaint = refusal(dataset)
        outcomes["refused" if complaint else "imported"] += 1
        assert "\n" not in complaint
        assert len(complaint.replace(str(tmp_path), "")) < 250
    assert min(outcomes.values()) > 20


def refusal(dataset: GivenDataset) -> str:
    """Return what the import says against a file, or nothing."""
    try:
        files = read_files(dataset)
        assert len(files[0].frames) == count_frames(dataset.file)
        warnings({TRAINING: files[0].frames, TEST: []})
    except PiwslError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("test_frames", [1, 7, 17])
def test_of_a_large_file_some_frames_are_read_before_the_start(tmp_path, monkeypatch, test_frames):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("piwsl.preflight.FRAMES_CHECKED", 5)
    frames = morse_frames("H2O", 20)
    write_frames(tmp_path / "mine.xyz", frames)
    code, said = checked(tmp_path, test_frames=test_frames)
    assert code == 0, said
    assert "mine (one frame in 4 was read): " in said
    assert "5 frames, none with forces" in said
    del frames[8].info["REF_energy"]
    write_frames(tmp_path / "mine.xyz", frames)
    code, said = checked(tmp_path, test_frames=test_frames)
    assert code == 1
    assert "frame 8: has no REF_energy" in said


def with_forces_alone(name: str, count: int) -> list[Atoms]:
    frames = morse_frames(name, count, seed=1, forces=True)
    for atoms in frames:
        del atoms.info[ENERGY_KEY]
    return frames


@pytest.mark.parametrize(
    ("frames", "keys", "said"),
    [
        (
            lambda: with_forces_alone("CH4", 12) + morse_frames("CH4", 1) + morse_frames("H2O", 12),
            {"sizes": [8], "seeds": [1]},
            r"sizes: of the \d frames with C of dataset 'mine' that model 'painn' learns from at size 8, seed 1 none "
            r"has an energy \(1 of all 13 with C have one\); raise the size, or give more$",
        ),
        (
            lambda: with_forces_alone("H2O", 12) + morse_frames("H2O", 2),
            {"sizes": [6], "seeds": [0], "members": 3},
            r"sizes: of the 5 frames of dataset 'mine' that model 'painn' learns from at size 6, seed 0, member \d "
            r"none has an energy \(2 of all 14 training frames have one\); ",
        ),
    ],
    ids=["element", "member"],
)
def test_a_size_whose_frames_leave_open_where_energies_begin_is_refused_as_by_a_training(
    tmp_path, frames, keys, said, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "mine.xyz", frames())
    write_frames(tmp_path / "test.xyz", morse_frames("H2O", 2, seed=2))
    members, files = keys.pop("members", 1), {"file": "mine.xyz", "test_file": "test.xyz"}
    config = plain_experiment() | {"levels": {}, "datasets": {"mine": files}, "losses": {"supervised": {}}}
    config["models"]["painn"]["members"] = members
    import_given(GivenDataset(**files), tmp_path / "mine.h5")
    model = PaiNN(architecture="painn", members=members)
    refused = {}
    for seed in range(2):
        run = Run(dataset="mine", model="painn", loss="supervised", size=keys["sizes"][0], seed=seed)
        frames_there = frames_of_run(tmp_path / "mine.h5", None, run, model, Loss())
        try:
            for of_member in frames_there.of_members(members):
                of_member.check(Loss(), Names())
        except PiwslError as error:
            refused[seed] = str(error)
    found = {}
    for seed in range(2):
        experiment = parse_section(Experiment, config | keys | {"seeds": [seed]}, "config.yaml")
        try:
            check_experiment(experiment, "config.yaml")
        except ConfigError as error:
            found[seed] = str(error)
    assert len(found) < 2
    assert {*found} == {*refused}
    assert re.search(said, found[keys["seeds"][0]])
