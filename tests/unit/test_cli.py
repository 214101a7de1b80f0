"""The command line does the pipeline's steps, and says in one line what is wrong."""

from __future__ import annotations

import os
import re
import shlex

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule
from helpers import ROOT, morse_frames
from typer.testing import CliRunner

from piwsl.architectures.painn import PaiNN
from piwsl.cli import app
from piwsl.files import read_json, read_json_lines, write_json
from piwsl.models import build_potential, load_model, save_model
from piwsl.structures.frames import read_frames, write_frames
from piwsl.structures.structure import from_atoms

COMMANDS = [
    "label",
    "predict",
    "md",
    "relax",
    "vibrations",
    "scan",
    "info",
    "check",
    "plan",
    "status",
    "clean",
    "submit",
    "compare",
    "schema",
]
COMMANDS += ["labels export", "labels list"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model and frames that it knows, as the working directory."""
    monkeypatch.chdir(tmp_path)
    frames = morse_frames("H2O", 4, forces=True)
    write_frames(tmp_path / "frames.xyz", frames)
    torch.manual_seed(0)
    config = PaiNN(architecture="painn", features=8, layers=1, cutoff=4.0)
    save_model(tmp_path / "model.safetensors", build_potential(config, [from_atoms(a) for a in frames]), {"data": "x"})
    return tmp_path


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    text = re.sub(r"\s+", " ", call(*command.split(), "--help"))
    assert f"Example: piwsl {command}" in text.replace("`", "")


def test_label_writes_energies_and_records(folder):
    (folder / "level.yaml").write_text("stages: [{method: hf, bases: [sto-3g], density_fitting: false}]")
    out = call("label", "frames.xyz", "labelled.xyz", "--level", "level.yaml", "--forces", "analytic", "--atoms")
    assert "4 of 4 frames labelled" in out
    frames = read_frames(folder / "labelled.xyz")
    assert all(frame.info["REF_energy"] < -2000 for frame in frames)
    assert all(frame.arrays["REF_forces"].shape == (3, 3) for frame in frames)
    assert len((folder / "labelled.jsonl").read_text().splitlines()) == 4
    assert set(read_json(folder / "labelled-atoms.json")) == {"H", "O"}


def test_label_goes_on_past_a_frame_with_an_atom_of_no_element(folder):
    (folder / "level.yaml").write_text("stages: [{method: hf, bases: [sto-3g], density_fitting: false}]")
    line = "1\nProperties=Z:I:1:pos:R:3\n500 0 0 0\n"
    (folder / "odd.xyz").write_text((folder / "frames.xyz").read_text() + line)
    out = call("label", "odd.xyz", "labelled.xyz", "--level", "level.yaml", "--atoms", code=1)
    assert "1 frames failed; labelled.jsonl says why" in out
    assert len(read_frames(folder / "labelled.xyz")) == 4
    assert "atomic number 500, which is no element" in (folder / "labelled.jsonl").read_text()


def test_label_refuses_forces_that_the_level_does_not_have(folder):
    out = call("label", "frames.xyz", "labelled.xyz", "--level", "ccsdt-cbs-tz", "--forces", "analytic", code=1)
    assert "has no analytic gradient: PySCF has none for natural orbitals that are cut off" in out
    assert not (folder / "labelled.xyz").exists()


def test_label_names_the_preset_that_is_meant(folder):
    out = call("label", "frames.xyz", "labelled.xyz", "--level", "mp2-cs", code=1)
    assert out == "error: --level: neither a file nor a preset: 'mp2-cs'; did you mean 'mp2-cbs'?\n"


def test_label_takes_a_cheap_level_by_its_name(folder):
    assert "4 of 4 frames labelled" in call("label", "frames.xyz", "labelled.xyz", "--level", "gfn2-xtb")
    assert all(-150 < frame.info["REF_energy"] < -120 for frame in read_frames(folder / "labelled.xyz"))


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        (["out.jsonl"], "out.jsonl would be overwritten"),
        (["frames.xyz"], "frames.xyz would be overwritten"),
        (["level.yaml"], "level.yaml would be overwritten"),
        (["blocked/out.xyz"], "blocked: is a file, not a folder"),
    ],
)
def test_label_refuses_outputs_that_collide_or_cannot_be_written_before_it_computes(folder, outputs, complaint):
    (folder / "level.yaml").write_text("{method: hf, basis: sto-3g, density_fitting: false}")
    (folder / "blocked").write_text("a file, not a folder")
    before = (folder / "frames.xyz").read_bytes()
    out = call("label", "frames.xyz", *outputs, "--level", "level.yaml", code=1)
    assert out.startswith(f"error: {complaint}")
    assert out.count("\n") == 1
    assert not (folder / "results").exists()
    assert (folder / "frames.xyz").read_bytes() == before


def test_label_leaves_no_label_of_another_program_beside_its_own(folder):
    (folder / "level.yaml").write_text("{method: hf, basis: sto-3g, density_fitting: false}")
    (folder / "others.xyz").write_text(
        "2\n"
        "Properties=species:S:1:pos:R:3:REF_forces:R:3:WEAK_forces:R:3:forces:R:3 REF_energy=-1 energy=-2 "
        'dft_energy=-3 stress="1 0 0 0 1 0 0 0 1" temperature=300 source=md pbc="F F F"\n'
        "H 0 0 0 1 1 1 2 2 2 3 3 3\nH 0 0 0.75 1 1 1 2 2 2 3 3 3\n"
    )
    call("label", "others.xyz", "labelled.xyz", "--level", "level.yaml")
    (frame,) = ase.io.read(folder / "labelled.xyz", index=":")
    assert frame.info["REF_energy"] == pytest.approx(-30.3, abs=0.5)
    assert set(frame.info) == {"REF_energy", "temperature", "source"}
    assert set(frame.arrays) == {"numbers", "positions"}
    assert frame.calc is None


def test_label_refuses_a_periodic_frame_before_it_computes(folder):
    (folder / "level.yaml").write_text("{method: hf, basis: sto-3g, density_fitting: false}")
    frames = read_frames(folder / "frames.xyz")
    frames[2].set_cell([5, 5, 5])
    frames[2].pbc = [True, False, False]
    write_frames(folder / "periodic.xyz", frames)
    out = call("label", "periodic.xyz", "labelled.xyz", "--level", "level.yaml", code=1)
    assert out.startswith("error: frame 2 of periodic.xyz is periodic; reference energies are of molecules")
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ("charge=0.5", "charge=0.5 is no whole number"),
        ("multiplicity=2.9", "multiplicity=2.9 is no whole number"),
        ("charge=abc", "charge=abc is no whole number"),
        ("charge=T", "charge=True is no whole number"),
        ("multiplicity=-1", "multiplicity=-1 is no number of spin states, 2S + 1; the least is 1"),
    ],
)
def test_charge_and_multiplicity_that_are_none_fail_their_frame_alone(folder, states, reason):
    (folder / "level.yaml").write_text("{method: hf, basis: sto-3g, density_fitting: false}")
    (folder / "two.xyz").write_text(f"2\n{states}\nH 0 0 0\nH 0 0 0.75\n2\ncharge=0.0\nH 0 0 0\nH 0 0 0.75\n")
    call("label", "two.xyz", "labelled.xyz", "--level", "level.yaml", code=1)
    bad, good = read_json_lines(folder / "labelled.jsonl")
    assert (bad["status"], bad["step"], bad["reason"]) == ("failed", "charge and multiplicity", reason)
    assert good["status"] == "ok"


def test_slopes_that_label_writes_tell_evaluate_of_force_errors(folder):
    (folder / "level.yaml").write_text("{method: hf, basis: sto-3g, density_fitting: false}")
    call("label", "frames.xyz", "labelled.xyz", "--level", "level.yaml", "--forces", "slope")
    frames = read_frames(folder / "labelled.xyz")
    assert all("REF_slope" in atoms.info and "REF_forces" not in atoms.arrays for atoms in frames)
    call("evaluate", "model.safetensors", "labelled.xyz", "--errors", "errors.json")
    errors = read_json(folder / "errors.json")
    call("predict", "model.safetensors", "labelled.xyz", "predicted.xyz")
    predicted = read_frames(folder / "predicted.xyz")
    slopes = [-np.sum(atoms.arrays["forces"] * atoms.arrays["REF_direction"]) for atoms in predicted]
    squares = [(slope - atoms.info["REF_slope"]) ** 2 for slope, atoms in zip(slopes, frames, strict=True)]
    # Of three internal directions and nine components.
    estimate = 1000 * np.sqrt(3 / 9 * np.mean(squares))
    assert errors["force_rmse_from_slopes_meV_per_A"] == pytest.approx(estimate, rel=1e-4)
    assert (errors["test_slope_frames"], errors["force_mae_meV_per_A"]) == (4, None)


def test_plan_says_what_labelling_takes(folder):
    out = call("plan", str(ROOT / "config.yaml"))
    assert "ammonia: ccsdt-cbs = DF-HF/CBS(cc-pvtz, cc-pvqz)" in out
    assert "training: 100 frames, frames not made yet: 10 jobs" in out
    assert "test-forces: 8 frames with forces (analytic)" in out
    assert "14 training runs" in out


@pytest.mark.parametrize("command", ["plan", "check"])
def test_plan_and_check_warn_on_the_terminal_of_what_is_not_sensible(folder, command):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["datasets"]["ammonia"]["molecule"] = {"smiles": "CC(C)Cc1ccc(cc1)C(C)C(=O)O"}
    (folder / "large.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, [command, "large.yaml"])
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert line.startswith("warning: large.yaml: datasets.ammonia: ccsdt-cbs takes more than a day of one core")
    assert CliRunner().invoke(app, [command, str(ROOT / "config.yaml")]).stderr == ""


def test_label_refuses_a_basis_without_the_element_before_it_computes(folder):
    (folder / "level.yaml").write_text("stages: [{method: hf, bases: [cc-pvtq]}]")
    out = call("label", "frames.xyz", "labelled.xyz", "--level", "level.yaml", code=1)
    assert out.startswith("error: basis 'cc-pvtq' has no H in PySCF")
    assert not (folder / "results").exists()


def test_predict_writes_what_the_model_says_and_prints_errors(folder):
    out = call("predict", "model.safetensors", "frames.xyz", "predicted.xyz")
    assert "energy_mae_meV" in out
    predicted = ase.io.read(folder / "predicted.xyz", index=":")
    assert len(predicted) == 4
    assert np.isfinite(predicted[0].get_potential_energy())
    assert predicted[0].get_forces().shape == (3, 3)
    assert predicted[0].info["REF_energy"] == read_frames(folder / "frames.xyz")[0].info["REF_energy"]


def test_md_writes_a_trajectory(folder):
    out = call("md", "model.safetensors", "frames.xyz", "--temperature", "100", "--time", "0.01")
    assert "of 0.01 ps" in out
    assert len(ase.io.read(folder / "trajectory.xyz", index=":")) > 1


def test_info_shows_the_header(folder):
    header = yaml.safe_load(call("info", "model.safetensors"))
    assert header["elements"] == ["H", "O"]
    assert header["config"]["architecture"] == "painn"


def test_check_counts_runs_or_names_the_mistake(folder):
    assert "14 training runs" in call("check", str(ROOT / "config.yaml"))
    (folder / "bad.yaml").write_text((ROOT / "config.yaml").read_text().replace("losses:", "loses:"))
    assert call("check", "bad.yaml", code=1) == "error: bad.yaml: unknown key 'loses'; did you mean 'losses'?\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "absent.safetensors"),
        ("predict", "frames.xyz", "frames.xyz", "out.xyz"),
        ("md", "model.safetensors", "absent.xyz"),
        ("md", "model.safetensors", "frames.xyz", "--temperature=-3"),
        ("label", "frames.xyz", "out.xyz", "--level", "absent.yaml"),
    ],
)
def test_mistakes_end_in_one_line(folder, arguments):
    out = call(*arguments, code=1)
    assert out.startswith("error: ")
    assert out.count("\n") == 1


def edited(text: str, **changes: str) -> str:
    """Return extended XYZ with its first comment line changed: keys of info, replaced or added."""
    lines = text.splitlines()
    comment = " ".join(part for part in shlex.split(lines[1], posix=False) if part.split("=")[0] not in changes)
    lines[1] = " ".join([comment, *(f"{key}={value}" for key, value in changes.items())])
    return "\n".join(lines) + "\n"


def test_md_goes_on_from_the_last_frame_of_its_trajectory(folder):
    arguments = ["md", "model.safetensors", "frames.xyz", "--temperature", "100", "--restart", "--time"]
    call(*arguments, "0.01")
    assert "completed after 0.02 of 0.02 ps" in call(*arguments, "0.02")
    times = [atoms.info["time_fs"] for atoms in ase.io.read("trajectory.xyz", index=":")]
    assert times == pytest.approx([0.5 * step for step in range(41)])
    frames = ase.io.read("trajectory.xyz", index=":")
    mean = np.mean([atoms.info["temperature"] for atoms in frames[1:]])
    assert frames[-1].info["mean_temperature_K"] == pytest.approx(mean)
    assert "trajectory.xyz: is 0.02 ps long already, of 0.02; raise --time" in call(*arguments, "0.02", code=1)


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (lambda: molecule("NH3"), "is of other atoms than the start; leave out --restart"),
        (lambda: molecule("H2O"), "its last frame has no time_fs or no momenta; leave out --restart"),
    ],
)
def test_md_does_not_go_on_from_what_is_not_its_trajectory(folder, written, line):
    atoms = written()
    if len(atoms) == 4:
        atoms.info["time_fs"] = 5.0
        atoms.set_momenta(np.ones((4, 3)))
    write_frames(folder / "trajectory.xyz", [atoms])
    before = (folder / "trajectory.xyz").read_bytes()
    said = call("md", "model.safetensors", "frames.xyz", "--restart", code=1)
    assert said == f"error: trajectory.xyz: {line}\n"
    assert (folder / "trajectory.xyz").read_bytes() == before


def test_md_at_constant_energy_says_its_drift(folder):
    said = call("md", "model.safetensors", "frames.xyz", "--ensemble", "nve", "--time", "0.01")
    assert re.search(r"energy drift -?[\d.e+-]+ meV/atom/ps, ", said)


@pytest.mark.parametrize("command", ["predict", "md"])
@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ("1\n\nH 0 0 nan\n", "frame 0: atom 0 (H) is at (0, 0, nan) Å"),
        ("2\n\nH 0 0 0\nO 0 0 0\n", "frame 0: atom 0 (H) and atom 1 (O) are 0.000 Å apart"),
        ("2\n\nH 0 0 0\nO 0 0 1e12\n", "frame 0: atom 1 (O) is at (0, 0, 1e+12) Å"),
        ('1\nLattice="0 0 0 0 0 0 0 0 0" pbc="T T T"\nH 0 0 0\n', "frame 0: it is periodic along a"),
        ('1\nLattice="1e-3 0 0 0 1e-3 0 0 0 1e-3" pbc="T T T"\nH 0 0 0\n', "frame 0: its cell repeats after 0.001 Å"),
        ("2\n\nH 0 0 0\nF 0 0 0.9\n", "the model was not trained on F; it knows H, O"),
        ("", "frame.xyz"),
    ],
)
def test_a_frame_that_is_no_geometry_of_the_model_is_said_with_file_and_frame(folder, command, frame, complaint):
    (folder / "frame.xyz").write_text(frame)
    arguments = {"predict": ["out.xyz"], "md": ["--trajectory", "out.xyz"]}[command]
    out = call(command, "model.safetensors", "frame.xyz", *arguments, code=1)
    assert out.startswith("error: frame.xyz: ")
    assert complaint in out
    assert out.count("\n") == 1
    assert not (folder / "out.xyz").exists()


def test_predict_names_the_frame_of_a_label_that_is_no_number_and_needs_none(folder):
    first = (folder / "frames.xyz").read_text().split("\n3\n")[0] + "\n"
    (folder / "bad.xyz").write_text(first + edited(first, REF_energy="abc"))
    out = call("predict", "model.safetensors", "bad.xyz", "out.xyz", code=1)
    assert out == "error: bad.xyz: frame 1: REF_energy is 'abc', not a finite number\n"
    (folder / "good.xyz").write_text(edited(first, charge="abc"))
    call("predict", "model.safetensors", "good.xyz", "out.xyz")


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ("frames.xyz", "frames.xyz would be overwritten: it is read"),
        ("./frames.xyz", "frames.xyz would be overwritten"),
        ("model.safetensors", "model.safetensors would be overwritten"),
        ("linked.xyz", "linked.xyz would be overwritten"),
        (".", ". is a folder; name a file"),
        ("frames.xyz/out.xyz", "frames.xyz: is a file, not a folder"),
        ("/proc/none/out.xyz", "/proc/none"),
        ("pipe", "pipe is a device or a pipe"),
        (f"{'x' * 300}.xyz", "the name is too long"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "md"])
def test_an_output_that_cannot_be_written_is_said_before_anything_is_computed(folder, command, output, complaint):
    (folder / "linked.xyz").symlink_to("frames.xyz")
    os.mkfifo(folder / "pipe")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    arguments = {"predict": [output], "md": ["--trajectory", output, "--time", "1000"]}[command]
    out = call(command, "model.safetensors", "frames.xyz", *arguments, code=1)
    assert out.startswith("error: ")
    assert complaint in out
    assert out.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_folders_of_an_output_are_made(folder):
    call("predict", "model.safetensors", "frames.xyz", "new/folder/out.xyz")
    assert [path.name for path in (folder / "new" / "folder").iterdir()] == ["out.xyz"]


def test_md_of_one_atom_is_refused(folder):
    (folder / "atom.xyz").write_text("1\n\nH 0 0 0\n")
    assert "one atom alone does not move" in call("md", "model.safetensors", "atom.xyz", "--time", "0.01", code=1)
    assert not (folder / "trajectory.xyz").exists()


def test_info_has_the_errors_of_the_run_that_lie_beside_its_model(folder):
    run = {"dataset": "d", "model": "m", "loss": "l", "size": 4, "seed": 0}
    potential = load_model("model.safetensors")
    save_model(folder / "model.safetensors", potential, {"run": run})
    write_json(folder / "errors.json", run | {"energy_mae_meV": 12.5, "test_frames": 9})
    said = yaml.safe_load(call("info", "model.safetensors"))
    assert said["test_errors"]["energy_mae_meV"] == 12.5
    assert said["test_errors"]["test_frames"] == 9
    assert "seed" not in said["test_errors"]

    write_json(folder / "errors.json", run | {"seed": 1, "energy_mae_meV": 12.5})
    assert "test_errors" not in call("info", "model.safetensors")


def test_info_leaves_out_errors_that_are_older_than_the_model(folder):
    run = {"dataset": "d", "model": "m", "loss": "l", "size": 4, "seed": 0}
    write_json(folder / "errors.json", run | {"energy_mae_meV": 12.5})
    os.utime(folder / "errors.json", (1, 1))
    save_model(folder / "model.safetensors", load_model("model.safetensors"), {"run": run})
    assert "test_errors" not in call("info", "model.safetensors")
