"""Readers of labelled frames: what ASE reads, and what distributions bring, becomes what extended XYZ would."""

from __future__ import annotations

import inspect
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
import yaml
from ase import units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io.formats import ioformats
from helpers import ROOT, displaced, distribution, morse_frames, plain_experiment
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.config import ConfigError, Experiment, GivenDataset, parse_section
from piwsl.data.assemble import import_given
from piwsl.data.dataset import TRAINING, Dataset, content_hash
from piwsl.data.given import read_files, summary
from piwsl.data.reading import count_of, frames_of, read_frames
from piwsl.errors import PiwslError
from piwsl.readers import DEFAULT, READERS, Reader, format_of
from piwsl.readers.ase import REFUSED
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, STRESS_KEY, write_frames
from piwsl.workflow.jobs import Jobs

SUFFIXES = [".traj", ".db", ".json"]


def calculated(count=8):
    """Molecules and a crystal with the results of a calculator, one of them without forces, one held in place."""
    rng = np.random.default_rng(0)
    frames = [displaced("H2O", 0.05, rng) for _ in range(count - 1)] + [bulk("Cu") * (2, 1, 1)]
    for number, atoms in enumerate(frames):
        results = {"energy": -3.0 - number / 7, "forces": rng.normal(size=(len(atoms), 3)), "free_energy": 99.0}
        if atoms.pbc.all():
            results["stress"] = rng.normal(size=6) / 100
        if number == 1:
            del results["forces"]
        atoms.calc = SinglePointCalculator(atoms, **results)
    frames[2].set_constraint(FixAtoms([0]))
    return frames


def hash_of(path, **keys):
    made = path.with_name("made.h5")
    import_given(GivenDataset(file=path, test_frames=1, **keys), made)
    with Dataset(made) as dataset:
        return content_hash(dataset.structures(np.arange(len(dataset))))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_of_ase_give_the_dataset_that_extended_xyz_gives(tmp_path, suffix):
    frames = calculated()
    ase.io.write(tmp_path / f"mine{suffix}", frames)
    labelled = []
    for atoms in frames:
        frame, results = atoms.copy(), atoms.calc.results
        frame.info[ENERGY_KEY] = results["energy"]
        if "stress" in results:
            frame.info[STRESS_KEY] = results["stress"]
        if "forces" in results:
            frame.arrays[FORCES_KEY] = results["forces"]
        labelled.append(frame)
    ase.io.write(tmp_path / "mine.xyz", labelled, format="extxyz", write_results=False)
    # Extended XYZ of ASE has eight digits: what it says is what the others shall say.
    rounded = read_frames(tmp_path / "mine.xyz")
    for atoms in rounded:
        names = {ENERGY_KEY: "energy", STRESS_KEY: "stress", FORCES_KEY: "forces"}
        results = {names[key]: value for key, value in (atoms.info | atoms.arrays).items() if key in names}
        atoms.calc = SinglePointCalculator(atoms, **results, free_energy=99.0)
    ase.io.write(tmp_path / f"rounded{suffix}", rounded)
    assert hash_of(tmp_path / f"rounded{suffix}") == hash_of(tmp_path / "mine.xyz")
    assert hash_of(tmp_path / f"mine{suffix}") == hash_of(tmp_path / f"mine{suffix}", format="ase")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_are_counted_and_each_so_manyth_is_read(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    ase.io.write(path, calculated(8))
    assert format_of(path) == "ase"
    assert count_of(path, "ase") == 8
    energies = [atoms.info["energy"] for atoms in frames_of(path, "ase")]
    assert energies == pytest.approx([-3.0 - number / 7 for number in range(8)])
    assert [atoms.info["energy"] for atoms in frames_of(path, "ase", 3)] == energies[::3]
    assert [atoms.info[ENERGY_KEY] for atoms in read_frames(path)] == energies


def test_results_are_taken_as_they_were_calculated(tmp_path):
    frames = calculated()
    ase.io.write(tmp_path / "mine.traj", frames)
    read = read_frames(tmp_path / "mine.traj")
    assert FORCES_KEY not in read[1].arrays
    # ASE shows forces of atoms that are held as zero.
    np.testing.assert_array_equal(read[2].arrays[FORCES_KEY], frames[2].calc.results["forces"])
    assert np.abs(read[2].arrays[FORCES_KEY][0]).max() > 0
    np.testing.assert_allclose(read[-1].info[STRESS_KEY][1, 2], frames[-1].calc.results["stress"][3])
    assert all(atoms.calc is None for atoms in read)


def test_a_row_of_a_database_says_what_stands_beside_its_results(tmp_path):
    with ase.db.connect(tmp_path / "mine.db") as database:
        for atoms in calculated(4):
            data = {"forces": np.full((len(atoms), 3), 0.5), "energy": np.array([-1.5])}
            database.write(atoms, ccsd=-2.5, charge=1, data=data)
    beside = {"energy_key": "ccsd", "energy_unit": "Hartree"}
    (file,) = read_files(GivenDataset(file=tmp_path / "mine.db", test_frames=1, **beside))
    assert [atoms.info[ENERGY_KEY] for atoms in file.frames] == pytest.approx([-2.5 * units.Hartree] * 4)
    assert [atoms.info["charge"] for atoms in file.frames] == [1] * 4
    keys = {"energy_key": "data.energy", "forces_key": "data.forces"}
    (file,) = read_files(GivenDataset(file=tmp_path / "mine.db", test_frames=1, **keys))
    assert [atoms.info[ENERGY_KEY] for atoms in file.frames] == [-1.5] * 4
    assert all((atoms.arrays[FORCES_KEY] == 0.5).all() for atoms in file.frames)


def test_an_output_of_vasp_gives_the_energy_without_smearing(tmp_path):
    (output,) = Path(ase.io.__file__).parents[1].glob("test/testdata/vasp/OUTCAR_example_1")
    (tmp_path / "OUTCAR").symlink_to(output)
    (atoms,) = read_frames(tmp_path / "OUTCAR")
    text = output.read_text()
    (printed,) = re.findall(r"energy\(sigma->0\) =\s*(\S+)", text)[-1:]
    assert atoms.info[ENERGY_KEY] == pytest.approx(float(printed))
    assert atoms.info[ENERGY_KEY] != pytest.approx(float(re.findall(r"free  energy   TOTEN  =\s*(\S+)", text)[-1]))


def test_reading_changes_no_file_and_leaves_none_beside(tmp_path):
    for suffix in SUFFIXES:
        ase.io.write(tmp_path / f"mine{suffix}", calculated(3))
    (tmp_path / "empty.db").touch()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for suffix in SUFFIXES:
        assert len(read_frames(tmp_path / f"mine{suffix}")) == 3
    with pytest.raises(PiwslError, match=r"empty\.db: ASE does not know what this is"):
        read_frames(tmp_path / "empty.db")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_cut_is_refused_in_one_line_and_never_read_in_part(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    ase.io.write(path, calculated(6))
    whole = path.read_bytes()
    for kept in np.linspace(0, len(whole) - 10, 40).astype(int):
        path.write_bytes(whole[:kept])
        with pytest.raises(PiwslError) as raised:
            read_frames(path)
        assert "\n" not in str(raised.value)
        assert str(raised.value).startswith(f"{path}: ")
        assert len(str(raised.value).replace(str(tmp_path), "")) < 200


def test_the_frame_that_is_damaged_is_named(tmp_path):
    path = tmp_path / "mine.traj"
    ase.io.write(path, calculated(6))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PiwslError, match=r"mine.traj: frame 5: cannot be read as 'ase' \(.*\); is it whole\?"):
        read_frames(path)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize("name", ["mine.pckl", "mine.traj", "mine.db", "mine.dat", "mine.npy", "mine.npz"])
@pytest.mark.parametrize("form", ["ase", "extxyz"])
def test_nothing_is_unpickled(tmp_path, monkeypatch, name, form):
    monkeypatch.chdir(tmp_path)
    match Path(name).suffix:
        case ".npy":
            np.save(name, np.array([Payload()], dtype=object))
        case ".npz":
            np.savez(name, frames=np.array([Payload()], dtype=object))
        case _:
            Path(name).write_bytes(pickle.dumps([Payload()]))
    with pytest.raises(PiwslError, match=r"^mine\.\w+: (pickles and NumPy's files may run code|is no text)"):
        read_frames(name, form)
    assert not Path("unpickled").exists()


def test_no_format_that_is_read_unpickles(tmp_path, monkeypatch):
    """Formats whose modules know of pickles are refused, but for trajectories, which do not use what they know."""
    runs = re.compile(r"pickle|allow_pickle|\bexec\(|\beval\(|runpy")
    read = [known for known in ioformats.values() if known.can_read and known.name not in REFUSED]
    assert len(read) > 50
    suspects = {known.name for known in read if runs.search(inspect.getsource(known.module))}
    assert suspects <= {"traj"}
    for suffix in SUFFIXES:
        ase.io.write(tmp_path / f"mine{suffix}", calculated(3))

    def refuse(*_, **__):
        raise AssertionError("unpickles")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    for suffix in SUFFIXES:
        assert len(read_frames(tmp_path / f"mine{suffix}")) == 3


@pytest.mark.parametrize("name", ["mine.xyz", "mine.extxyz", "mine.dat", "mine", "mine.XYZ", "traj"])
def test_what_no_reader_takes_for_its_own_is_extended_xyz(tmp_path, name):
    write_frames(tmp_path / name, morse_frames("H2O", 3, forces=True))
    assert format_of(tmp_path / name) == DEFAULT
    (file,) = read_files(GivenDataset(file=tmp_path / name, test_frames=1))
    assert len(file.frames) == 3
    assert file.with_label(FORCES_KEY) == 3


def jobs_of(**dataset) -> Jobs:
    config = plain_experiment()
    config |= {"datasets": {"mine": {"test_frames": 1} | dataset}, "sizes": [3], "levels": {}}
    return Jobs(parse_section(Experiment, config, "config.yaml"), ROOT / "workflow" / "scripts")


def test_extended_xyz_adds_nothing_to_what_a_job_depends_on():
    plain = jobs_of(file="a.xyz").given_settings("mine")
    assert plain == {"test_frames": 1}
    ours = {"energy_key": "REF_energy", "energy_unit": "eV", "forces_key": "REF_forces", "stress_unit": "eV/Å³"}
    assert jobs_of(file="a.xyz", format="extxyz", **ours).given_settings("mine") == plain
    assert jobs_of(file="a.traj", energy_key="energy").given_settings("mine") == plain | {"formats": ["ase"]}
    assert jobs_of(file="a.xyz", format="ase").given_settings("mine") == plain | {"formats": ["ase"]}
    mixed = jobs_of(file="a.xyz", pool_file="b.traj")
    assert mixed.given_settings("mine", TRAINING) == plain
    assert mixed.given_settings("mine") == plain | {"formats": ["extxyz", "ase"]}


@pytest.mark.parametrize("said", [{}, {"energy_key": "REF_energy"}, {"energy_key": "energy", "energy_unit": "Ha"}])
@pytest.mark.parametrize("files", [{"file": "a.traj"}, {"file": "a.xyz"}, {"file": "a.xyz", "pool_file": "b.db"}])
def test_a_job_reads_what_the_config_said(said, files):
    """Of a section, a job is given what its defaults do not say."""
    section = GivenDataset(test_frames=1, **files, **said)
    again = GivenDataset.model_validate(section.beyond_defaults())
    for path in map(Path, files.values()):
        assert again.labels_of(path) == section.labels_of(path)
        assert again.labels_of(path).energy_key == said.get("energy_key", READERS[format_of(path)].labels.energy_key)


def test_what_the_config_says_wins_and_is_said(tmp_path):
    ase.io.write(tmp_path / "mine.traj", calculated(4))
    dataset = GivenDataset(file=tmp_path / "mine.traj", test_frames=1, energy_unit="Ha")
    (file,) = read_files(dataset)
    assert file.frames[0].info[ENERGY_KEY] == pytest.approx(-3.0 * units.Hartree)
    assert "3 with forces (forces in eV/Å), 1 with stress (stress in eV/Å³); energy in Hartree" in summary(
        dataset, file
    )
    with pytest.raises(PiwslError, match="has no REF_energy and no forces; its info holds"):
        read_files(GivenDataset(file=tmp_path / "mine.traj", test_frames=1, energy_key="REF_energy"))


def test_train_evaluate_and_predict_take_other_formats(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = morse_frames("H2O", 8, forces=True)
    write_frames("mine.xyz", frames)
    written = read_frames("mine.xyz")
    for atoms in written:
        results = {"energy": atoms.info[ENERGY_KEY], "forces": atoms.arrays[FORCES_KEY]}
        atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write("mine.of-ase", written, format="traj")

    def said(*arguments):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    for name, options in (("mine.xyz", ()), ("mine.of-ase", ("--format", "ase"))):
        said("train", name, f"of-{name}", "--steps", "2", *options)
        said("predict", f"of-{name}/model.safetensors", name, f"{name}-predicted.xyz", *options)
    model = "of-mine.xyz/model.safetensors"
    errors = said("evaluate", model, "mine.xyz")
    assert "force_mae" in errors
    assert said("evaluate", model, "mine.of-ase", "--format", "ase") == errors
    assert said("evaluate", "of-mine.of-ase/model.safetensors", "mine.xyz") == errors
    result = CliRunner().invoke(app, ["evaluate", model, "mine.xyz", "--format", "ase2"])
    assert result.output == f"error: no format 'ase2'; known are {', '.join(READERS)}\n"


def test_every_reader_of_ours_says_what_it_must():
    for name in READERS.own():
        kind = READERS[name]
        assert issubclass(kind, Reader)
        assert kind.suffixes
        assert all(suffix == suffix.lower() for suffix in kind.suffixes)


# Readers of others, in processes of their own: what is installed is found once.

TOY = re.search(r"## A reader\n.*?```python\n(.*?)```", (ROOT / "docs/how-to/extend.md").read_text(), re.DOTALL)[1]
ENTRY = {"piwsl.readers": "toy = toy_reader:Toy"}
WATER = "O 0 0 0.119 H 0 0.763 -0.477 H 0 -0.763 -0.477"


def piwsl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder whose `others` holds distributions."""
    path = os.pathsep.join([str(folder / "others"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env=environment)


def check(folder: Path, **dataset: object) -> subprocess.CompletedProcess[str]:
    config = plain_experiment()
    config |= {"datasets": {"mine": {"test_frames": 1} | dataset}, "sizes": [3], "levels": {}}
    config["models"]["painn"]["atomic_references"] = "fitted"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return piwsl(folder, "-m", "piwsl", "check", "config.yaml")


def toy_file(path: Path, frames: int = 6) -> None:
    path.write_text("".join(f"{-76.4 - number / 100} {WATER[:-1]}{number}\n" for number in range(frames)))


def test_a_reader_from_outside_is_found_by_suffix_and_by_name(tmp_path):
    distribution(tmp_path / "others", "toy_reader", TOY, ENTRY)
    toy_file(tmp_path / "mine.toy")
    toy_file(tmp_path / "mine.txt", 4)
    done = check(tmp_path, file="mine.toy", pool_file="mine.txt")
    assert (done.returncode, "mine.txt: frame 0, line 1: a frame begins with its number of" in done.stderr) == (1, True)
    done = check(tmp_path, file="mine.toy", pool_file="mine.txt", format="toy")
    assert done.returncode == 0, done.stderr
    assert "mine: mine.toy: 6 frames, none with forces; E in Hartree, -693." in done.stdout
    assert "mine: mine.txt: 4 frames of the pool; 4 have labels, which are not looked at" in done.stdout


def test_a_suffix_is_one_in_any_case(tmp_path):
    distribution(tmp_path / "others", "toy_reader", TOY.replace('".toy"', '".TOY"'), ENTRY)
    for name in ("mine.toy", "Mine.Toy"):
        toy_file(tmp_path / name)
        assert f"mine: {name}: 6 frames" in check(tmp_path, file=name).stdout


def test_the_import_of_a_foreign_reader_depends_on_its_sources(tmp_path):
    distribution(tmp_path / "others", "toy_reader", TOY, ENTRY)
    toy_file(tmp_path / "mine.toy")
    config = plain_experiment()
    config |= {"datasets": {"mine": {"test_frames": 1, "file": "mine.toy"}}, "sizes": [3], "levels": {}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    asked = (
        "from pathlib import Path; from piwsl.preflight import load_experiment; from piwsl.workflow.jobs import Jobs\n"
        "from piwsl.data.assemble import import_given\n"
        f"jobs = Jobs(load_experiment(Path('config.yaml')), Path({str(ROOT / 'workflow' / 'scripts')!r}))\n"
        "import_given(type(jobs.given['mine'])(**jobs.given['mine'].beyond_defaults()), Path('made.h5'), 'training')\n"
        "print(jobs.given_settings('mine'))\n"
    )
    before = piwsl(tmp_path, "-c", asked).stdout.splitlines()[-1]
    assert "'formats': ['toy'], 'readers': ['toy_reader 1.0, " in before
    with Dataset(tmp_path / "made.h5") as made:
        assert len(made.indices(TRAINING)) == 5
    source = tmp_path / "others" / "toy_reader.py"
    source.write_text(source.read_text() + "\nEDITED = True\n")
    after = piwsl(tmp_path, "-c", asked).stdout.splitlines()[-1]
    assert "'readers': ['toy_reader 1.0, " in after
    assert after != before


def test_an_unknown_format_names_those_that_are_known(tmp_path):
    distribution(tmp_path / "others", "toy_reader", TOY, ENTRY)
    done = check(tmp_path, file="mine.toy", format="hdf5")
    assert done.returncode == 1
    known = ", ".join(sorted([*READERS.own(), "toy"]))
    assert done.stderr == f"error: config.yaml: datasets.mine.format: no format 'hdf5'; known are {known}\n"
    with pytest.raises(ConfigError, match="format: no format 'extxy'; did you mean 'extxyz'"):
        parse_section(GivenDataset, {"file": "a", "test_frames": 1, "format": "extxy"}, "x")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "import what_is_not_there",
            "toy_reader 1.0 brings piwsl.readers 'toy', which cannot be loaded (ModuleNotFound",
        ),
        ("class Toy: suffixes = ('.toy',)", "toy_reader 1.0: toy_reader:Toy is no Reader of piwsl's; mend its entry"),
        (TOY.replace('(".toy",)', '(".toy")'), "TypeError: Toy: suffixes is a tuple of texts"),
        (TOY.replace("Hartree", "furlong"), "no unit 'furlong'; known are eV"),
        (TOY.replace("yield Atoms", "yield repr"), "mine.toy: frame 0: cannot be read as 'toy' (TypeError: repr"),
        (TOY.replace("yield Atoms", "yield dict"), "mine.toy: frame 0: "),
        (TOY.replace("for number, line", "for line, number"), "mine.toy: frame 0: cannot be read as 'toy' (TypeError"),
        (TOY.replace("energy, *atoms", "raise SystemExit(3)\n                    energy, *atoms"), "(SystemExit: 3)"),
        (
            TOY.replace("return len", "return repr"),
            "mine.toy: toy_reader 1.0: the reader 'toy' counts str frames, expected a whole",
        ),
        (TOY.replace('(".toy",)', '("",)'), "TypeError: Toy: suffixes is a tuple of texts"),
    ],
    ids=[
        "import",
        "another class",
        "suffix",
        "unit",
        "exception",
        "what is no geometry",
        "another exception",
        "exit",
        "count",
        "suffix of all",
    ],
)
def test_a_reader_that_is_broken_is_one_line(tmp_path, source, said):
    distribution(tmp_path / "others", "toy_reader", source, ENTRY)
    toy_file(tmp_path / "mine.toy")
    done = check(tmp_path, file="mine.toy")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert said in done.stderr


def test_a_reader_that_is_broken_harms_no_file_of_ours(tmp_path):
    distribution(tmp_path / "others", "toy_reader", "import what_is_not_there", ENTRY)
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 6))
    ase.io.write(tmp_path / "mine.traj", calculated(4)[:3])
    assert "mine.traj: 3 frames" in check(tmp_path, file="mine.xyz", pool_file="mine.traj").stdout


def test_a_reader_from_outside_takes_none_of_our_files(tmp_path):
    distribution(tmp_path / "others", "toy_reader", TOY.replace('".toy"', '".xyz", ".traj"'), ENTRY)
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 6))
    toy_file(tmp_path / "mine.traj")
    assert "mine.traj: cannot be read as 'ase'" in check(tmp_path, file="mine.xyz", pool_file="mine.traj").stderr


def test_two_readers_from_outside_for_one_suffix_are_asked_about(tmp_path):
    distribution(tmp_path / "others", "toy_reader", TOY, ENTRY)
    distribution(tmp_path / "others", "doll_reader", TOY, {"piwsl.readers": "doll = doll_reader:Toy"})
    toy_file(tmp_path / "mine.toy")
    done = check(tmp_path, file="mine.toy")
    assert "datasets.mine: mine.toy: doll and toy read such files; say which in format" in done.stderr
