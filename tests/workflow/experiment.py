"""A small but real experiment in a folder of its own, and what Snakemake plans to do in it."""

from __future__ import annotations

import copy
import os
import re
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

import yaml
from ase.build import molecule
from helpers import ROOT, morse_frames
from snakemake.cli import main

from piwsl.structures.frames import write_frames

TINY: dict[str, Any] = {
    "experiment": "tiny",
    "levels": {"hf": {"stages": [{"method": "hf", "bases": ["sto-3g"], "density_fitting": False}]}},
    "datasets": {
        "water": {
            "molecule": {"file": "water.xyz"},
            "sampling": {"temperatures": [300, 500], "stride": 10, "equilibration": 20},
            "level": "hf",
            "training_frames": 6,
            "test_frames": 3,
            "pool_frames": 4,
            "test_force_frames": 1,
            "forces_by": "differences",
            "labelling": {"frames_per_job": 3},
        },
        "mine": {"file": "mine.xyz", "test_frames": 4},
    },
    "models": {
        "painn": {
            "architecture": "painn",
            "features": 8,
            "layers": 1,
            "training": {"steps": 10, "validate_every": 5, "learning_rate": 1e-3},
        }
    },
    "losses": {"supervised": {}, "weak": {"pitc": {"weight": 0.1}, "pisc": {"weight": 0.01}, "pool": 0.5}},
    "sizes": [4],
    "seeds": [0],
    "exclude": [{"dataset": "mine", "loss": "weak"}],
    "simulations": {"nvt": {"time": 0.01, "starts": 2}},
}
RUNS = 3


def prepare(folder: Path) -> None:
    """Put workflow, config and the user's frames into a folder."""
    for name in ("workflow", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "profiles").symlink_to("workflow/profiles")
    write_frames(folder / "water.xyz", [molecule("H2O")])
    write_frames(folder / "mine.xyz", morse_frames("H2O", 3) + morse_frames("H2O", 7, seed=1, forces=True))
    configure(folder)


def edited(**edits: Any) -> dict[str, Any]:
    """Return the config with values set by their dotted paths (`__` for a dot)."""
    config = copy.deepcopy(TINY)
    for path, value in edits.items():
        *parents, last = path.split("__")
        section = config
        for key in parents:
            section = section[key]
        section[last] = value
    return config


def configure(folder: Path, **edits: Any) -> None:
    """Write the config with some values set."""
    (folder / "config.yaml").write_text(yaml.safe_dump(edited(**edits)))


# Each follows one run of a model and loss, or a dataset, and has a test of its own.
VIBRATIONS = ("vibrate", "vibrate_levels")


def jobs_in(said: str, vibrations: bool = False) -> dict[str, int]:
    """Read from what a dry run says how many jobs of which rules it would do, of VIBRATIONS only where wanted."""
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", said, flags=re.MULTILINE))
    passed_over = ("total", "all", *(() if vibrations else VIBRATIONS))
    return {rule: int(count) for rule, count in jobs.items() if rule not in passed_over}


def planned(folder: Path, *arguments: str, vibrations: bool = False) -> dict[str, int]:
    """Return what a dry run would do, jobs by rule, of VIBRATIONS only where wanted.

    Snakemake runs in a child of this process, which has loaded all that it imports.
    """
    said = folder / "dry-run.txt"
    child = os.fork()
    if child == 0:
        _dry_run(folder, said, arguments)
    _, status = os.waitpid(child, 0)
    text = said.read_text()
    said.unlink()
    assert status == 0, text
    return jobs_in(text, vibrations)


def _dry_run(folder: Path, said: Path, arguments: tuple[str, ...]) -> None:
    status = 1
    try:
        with said.open("w") as file:
            sys.stdout = sys.stderr = file
            os.chdir(folder)
            try:
                main(["--cores", "2", "--dry-run", *arguments])
            except SystemExit as end:
                if not isinstance(end.code, int):
                    print(end.code)
                status = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
    finally:
        os._exit(status)
