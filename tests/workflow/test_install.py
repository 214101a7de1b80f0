"""The wheel in environments that hold what an extra brings: it is enough for its part, and what is missing is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import ROOT, morse_frames
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from piwsl.architectures.mace import MACE
from piwsl.architectures.painn import PaiNN
from piwsl.models import build_potential, save_model
from piwsl.structures.frames import read_frames, write_frames
from piwsl.structures.structure import from_atoms

TRAINING = "import piwsl.training.run"
REPORT = "from piwsl.report.write import SECTIONS; [SECTIONS[name] for name in SECTIONS]"
LABELLING = (
    "import piwsl.reference.calculations, piwsl.reference.smiles, piwsl.reference.sampling, piwsl.reference.planning"
)
WEAK_FORCES = "import piwsl.reference.tight_binding"
TIGHT_BINDING = "import ase.build, piwsl; piwsl.label([ase.build.molecule('H2O')], {'engine': 'tblite'}, 'analytic')"
MACE_TORCH = "from piwsl.models import load_model; load_model('mace.safetensors')"
WORKFLOW = "import snakemake.cli"
MISSING = {
    TRAINING: "training needs Lightning; pip install 'piwsl[training]'",
    REPORT: "tables of results need pandas; pip install 'piwsl[workflow]'",
    LABELLING: "reference energies need PySCF; pip install 'piwsl[reference]'",
    WEAK_FORCES: "GFN2-xTB needs tblite; pip install 'piwsl[xtb]'",
    TIGHT_BINDING: "GFN2-xTB needs tblite; pip install 'piwsl[xtb]'",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel"]
    build = [*pip, "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


class Environment:
    """A virtual environment that holds a wheel and what it says it needs, linked from the one of these tests."""

    def __init__(self, folder: Path, wheel: Path, *extras: str) -> None:
        self.python = folder / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        shutil.unpack_archive(wheel, packages, "zip")
        (own,) = metadata.distributions(name="piwsl", path=[str(packages)])
        for distribution in needed(own.requires or [], {"", *extras}):
            for file in distribution.files or []:
                top = packages / file.parts[0]
                if file.parts[0] not in ("..", "__pycache__") and not top.exists():
                    top.symlink_to(str(distribution.locate_file(file.parts[0])))

    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [str(self.python), *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=1800
        )

    def piwsl(self, folder: Path, *arguments: str) -> str:
        """Run the command line; return what it prints."""
        done = self.run(folder, "-m", "piwsl", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def as_job(self, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
        """Run code as a job of the workflow does."""
        return self.run(folder, "-c", f"from piwsl.logs import logged_to\nwith logged_to('log'):\n    {code}")


def needed(requirements: Iterable[str], extras: set[str]) -> list[metadata.Distribution]:
    """Return the distributions that requirements stand for, with all that they need."""
    waiting, found = [(Requirement(line), extras) for line in requirements], {}
    while waiting:
        requirement, asked = waiting.pop()
        if requirement.marker is not None and not any(requirement.marker.evaluate({"extra": name}) for name in asked):
            continue
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in found or key[0] in ("piwsl", "snakemake-executor-plugin-submitit"):
            continue
        found[key] = metadata.distribution(key[0])
        waiting += [(Requirement(line), {"", *requirement.extras}) for line in found[key].requires or []]
    return list(found.values())


@pytest.fixture(scope="module")
def light(wheel, tmp_path_factory) -> Environment:
    """What `pip install piwsl` makes."""
    return Environment(tmp_path_factory.mktemp("light"), wheel)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Models and frames that they know."""
    frames = morse_frames("H2O", 3, forces=True)
    structures = [from_atoms(atoms) for atoms in frames]
    write_frames(tmp_path / "frames.xyz", frames)
    torch.manual_seed(0)
    painn = PaiNN(architecture="painn", features=8, layers=1, cutoff=4.0)
    mace = MACE(architecture="mace", features=4, layers=1, cutoff=4.0, max_ell=1, max_L=0, correlation=1)
    for name, config in (("painn", painn), ("mace", mace)):
        save_model(tmp_path / f"{name}.safetensors", build_potential(config, structures), {"data": "x"})
    return tmp_path


def test_a_plain_install_holds_nothing_that_it_does_not_need(light, folder):
    there = "from importlib import metadata; print(*(d.metadata['Name'].lower() for d in metadata.distributions()))"
    names = set(light.run(folder, "-c", there).stdout.split())
    assert {"piwsl", "torch", "ase", "vesin"} <= names
    assert not names & {
        "pyscf",
        "tblite",
        "rdkit",
        "snakemake",
        "submitit",
        "pandas",
        "lightning",
        "mace-torch",
        "plotly",
    }


def test_a_plain_install_predicts(light, folder):
    assert "3 frames: out.xyz" in light.piwsl(folder, "predict", "painn.safetensors", "frames.xyz", "out.xyz")
    assert all(np.isfinite(atoms.arrays["forces"]).all() for atoms in read_frames(folder / "out.xyz"))


def test_a_plain_install_runs_dynamics(light, folder):
    out = light.piwsl(folder, "md", "painn.safetensors", "frames.xyz", "--time", "0.001", "--trajectory", "t.xyz")
    assert "after" in out
    assert (folder / "t.xyz").exists()


def test_a_plain_install_shows_models_and_itself(light, folder):
    assert "architecture: painn" in light.piwsl(folder, "info", "painn.safetensors")
    assert light.piwsl(folder, "--version") == f"piwsl {metadata.version('piwsl')}\n"


def test_a_plain_install_is_a_calculator_of_ase(light, folder):
    code = (
        "import piwsl, ase.io; from piwsl.interfaces import PotentialCalculator; atoms = ase.io.read('frames.xyz'); "
        "atoms.calc = PotentialCalculator(piwsl.load_model('painn.safetensors')); print(atoms.get_potential_energy())"
    )
    assert np.isfinite(float(light.run(folder, "-c", code).stdout))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["label", "frames.xyz", "out.xyz", "--level", "demo"], MISSING[LABELLING]),
        (["plan", str(ROOT / "config.yaml")], MISSING[LABELLING]),
        (["check", str(ROOT / "config.yaml")], MISSING[LABELLING]),
        (
            ["predict", "mace.safetensors", "frames.xyz", "out.xyz"],
            "mace.safetensors: MACE needs mace-torch; pip install 'piwsl[mace]'",
        ),
    ],
    ids=["label", "plan", "check", "mace"],
)
def test_a_command_names_the_extra_that_it_misses(light, folder, arguments, line):
    done = light.run(folder, "-m", "piwsl", *arguments)
    assert (done.returncode, done.stderr) == (1, f"error: {line}\n")


@pytest.mark.parametrize("code", MISSING, ids=["training", "report", "labelling", "weak-forces", "tight-binding"])
def test_a_job_names_the_extra_that_it_misses(light, folder, code):
    done = light.as_job(folder, code)
    assert (done.returncode, done.stderr) == (1, f"error: {MISSING[code]}\n")


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ("training", TRAINING),
        ("workflow", f"{REPORT}; {WORKFLOW}"),
        ("reference", LABELLING),
        ("xtb", f"{WEAK_FORCES}; {TIGHT_BINDING}"),
        ("mace", MACE_TORCH),
    ],
    ids=["training", "workflow", "reference", "xtb", "mace"],
)
def test_an_extra_is_enough_for_its_part(wheel, folder, extra, code):
    done = Environment(folder / "environment", wheel, extra).as_job(folder, code)
    assert done.returncode == 0, done.stderr + (folder / "log").read_text()


def test_the_workflow_takes_given_data_without_pyscf_and_says_what_computed_data_need(wheel, folder):
    environment = Environment(folder / "environment", wheel, "workflow", "training")
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    given = {
        "experiment": "given",
        "datasets": {"water": {"file": "frames.xyz", "test_frames": 1}},
        "models": {"painn": {"architecture": "painn"}},
        "losses": {"supervised": {}},
        "sizes": [2],
        "seeds": [0],
    }
    (folder / "given.yaml").write_text(yaml.safe_dump(given))
    dry_run = ("-m", "snakemake", "--cores", "1", "--dry-run", "--quiet", "all", "--configfile")
    planned = environment.run(folder, *dry_run, "given.yaml")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    refused = environment.run(folder, *dry_run, "config.yaml")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == f"error: {MISSING[LABELLING]}"
