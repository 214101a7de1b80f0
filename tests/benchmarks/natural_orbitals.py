"""What approximations of [CCSD(T) - MP2] in a triple-zeta basis cost, and how far they scatter about the whole of it.

A constant error of the correction is none of a potential: what counts is its scatter over geometries. Each line of the
output is a frame at one level, written as soon as it is known; a second run goes on where the first stopped, and
prints the table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import molecule

MOLECULES = ("H2O", "NH3", "H2CO")
FRAMES = 20
AMPLITUDE_ANGSTROM = 0.05
WHOLE = "whole"
LEVELS: dict[str, dict[str, Any]] = {
    WHOLE: {"basis": "cc-pvtz"},
    "cc-pVDZ": {"basis": "cc-pvdz"},
    "FNO 1e-4": {"basis": "cc-pvtz", "natural_orbitals": 1e-4},
    "DF-FNO 1e-4": {"basis": "cc-pvtz", "natural_orbitals": 1e-4, "density_fitting": True},
    "DF-FNO 3e-5": {"basis": "cc-pvtz", "natural_orbitals": 3e-5, "density_fitting": True},
    "FNO 3e-5": {"basis": "cc-pvtz", "natural_orbitals": 3e-5},
    "DF": {"basis": "cc-pvtz", "density_fitting": True},
}


def frames(name: str) -> list[Atoms]:
    """Return displaced geometries of a molecule."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(FRAMES):
        atoms = molecule(name)
        atoms.positions += AMPLITUDE_ANGSTROM * rng.normal(size=atoms.positions.shape)
        found.append(atoms)
    return found


def correction(atoms: Atoms, keys: dict[str, Any]) -> dict[str, float]:
    """Return [CCSD(T) - MP2] in meV, and the CPU seconds that it takes with all that it starts from."""
    from piwsl.reference.calculations import run_level
    from piwsl.reference.engines.pyscf import PySCF

    shared = {"bases": [keys["basis"]], "density_fitting": keys.get("density_fitting", False)}
    cut = {key: keys[key] for key in ("natural_orbitals",) if key in keys}
    stages = [
        {"method": "hf", **shared},
        {"method": "mp2", **shared},
        {"method": "ccsd(t)", "minus": "mp2", **shared, **cut},
    ]
    level = PySCF.model_validate({"stages": stages})
    started = time.process_time()
    outcome = run_level(atoms, level, 0, 1, memory_mb=6000)
    seconds = time.process_time() - started
    energies = {part.method: energy for part, energy in outcome.energies.items()}
    times = outcome.notes["cpu_s_of"]
    return {
        "meV": (energies["ccsd(t)"] - energies["mp2"]) * units.Hartree * 1000,
        "cpu_s": seconds,
        "correlation_cpu_s": sum(times[str(part)] for part in outcome.energies if part.method != "hf"),
    }


def measure(path: Path) -> None:
    """Compute what is not in the file yet."""
    known = {(line["molecule"], line["frame"], line["level"]) for line in lines(path)}
    each = {name: frames(name) for name in MOLECULES}
    for number, name, level in itertools.product(range(FRAMES), MOLECULES, LEVELS):
        if (name, number, level) not in known:
            found = correction(each[name][number], LEVELS[level])
            with path.open("a") as file:
                file.write(json.dumps({"molecule": name, "frame": number, "level": level, **found}) + "\n")


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Return what is known."""
    if path.exists():
        yield from map(json.loads, path.read_text().splitlines())


def table(path: Path) -> None:
    """Print mean and scatter about the whole correction, and CPU seconds, a line a molecule and level."""
    found = list(lines(path))
    print(f"{'molecule':9}{'frames':>7} {'level':12}{'mean, meV':>10}{'scatter, meV':>13}{'CPU s':>8}{'of CC':>8}")
    for name in MOLECULES:
        own = [line for line in found if line["molecule"] == name]
        whole = {line["frame"]: line["meV"] for line in own if line["level"] == WHOLE}
        for level in LEVELS:
            each = [line for line in own if line["level"] == level and line["frame"] in whole]
            if each:
                errors = np.array([line["meV"] - whole[line["frame"]] for line in each])
                seconds = [np.mean([line[key] for line in each]) for key in ("cpu_s", "correlation_cpu_s")]
                scatter = errors.std(ddof=1) if len(errors) > 1 else np.nan
                row = f"{name:9}{len(each):7} {level:12}{errors.mean():10.2f}{scatter:13.2f}"
                print(f"{row}{seconds[0]:8.2f}{seconds[1]:8.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=Path("natural-orbitals.jsonl"))
    parser.add_argument("--table", action="store_true", help="print what is known, and compute nothing")
    given = parser.parse_args()
    if not given.table:
        measure(given.file)
    table(given.file)
