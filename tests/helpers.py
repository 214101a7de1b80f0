"""What several tests use: small molecules, labelled frames of an analytic potential, a checkout to run in."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.build import molecule
from ase.calculators.morse import MorsePotential

from piwsl.architectures.mace import MACE
from piwsl.architectures.painn import PaiNN
from piwsl.architectures.schnet import SchNet
from piwsl.structures.frames import label

ROOT = Path(__file__).parent.parent
# Of a calculation in a test, MB: PySCF counts all that the process holds, which grows from test to test.
MEMORY_MB = 8000
SMALL = {"cutoff": 4.0, "features": 16, "layers": 2, "radial": 8, "dtype": "float64"}
# Every architecture whose forces are the gradient, small and exact.
CONSERVATIVE = {
    "painn": PaiNN(architecture="painn", **SMALL),
    "schnet": SchNet(architecture="schnet", **SMALL),
    "mace": MACE(architecture="mace", max_ell=2, correlation=2, **(SMALL | {"features": 4})),
}


def displaced(name: str, amplitude: float, rng: np.random.Generator) -> Atoms:
    """Return a molecule with every coordinate displaced by Gaussian noise of `amplitude` Å."""
    atoms = molecule(name)
    atoms.positions += amplitude * rng.normal(size=atoms.positions.shape)
    return atoms


def morse_frames(name: str, count: int, seed: int = 0, forces: bool = False) -> list[Atoms]:
    """Return displaced molecules labelled with a Morse potential between all pairs (eV, eV/Å)."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = displaced(name, 0.05, rng)
        atoms.calc = MorsePotential(epsilon=1.0, r0=1.1, rho0=2.0, rcut1=8.0, rcut2=9.0)
        frames.append(label(atoms, atoms.get_potential_energy(), atoms.get_forces() if forces else None))
    return frames


def plain_experiment() -> dict[str, Any]:
    """Return the default experiment with one model and without what others need: two losses, sizes and seeds."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    del config["exclude"], config["datasets"]["ammonia"]["pool_frames"], config["datasets"]["ammonia"]["cheap_levels"]
    return config | {"models": {"painn": config["models"]["painn"]}}


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake of this environment in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=1800,
    )


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until something is so; the limit ends what would not end, and a busy machine does not come near it."""
    deadline = time.monotonic() + 600.0
    while not condition():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.05)


def forked(done: Callable[[], object]) -> subprocess.CompletedProcess[str]:
    """Do something in a process of its own, forked from this one: nothing is imported anew.

    It has ended then, and all that it started.
    """
    ended, not_yet = os.pipe()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            sys.stdout, sys.stderr = out, err
            status = 1
            try:
                done()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                out.flush()
                err.flush()
                os._exit(status)
        os.close(not_yet)
        os.read(ended, 1)
        os.close(ended)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([], os.waitstatus_to_exitcode(status), out.read(), err.read())


def distribution(folder: Path, name: str, source: str, entry: dict[str, str]) -> Path:
    """Write a distribution of one module as if it were installed in a folder, and return the folder.

    Args:
        folder: to be put on the path of Python.
        name: of the distribution and its module.
        source: of the module.
        entry: by group of entry points "kind = module:Class".
    """
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{kinds}\n" for group, kinds in entry.items()))
    return folder


def level_records(store: Path) -> list[Path]:
    """Return the records of finished energies in a store, without those of their parts."""
    return [
        path
        for level in sorted(store.glob("*/level.json"))
        for path in sorted(level.parent.rglob("*.json"))
        if path != level and not path.name.startswith(".")
    ]
