"""Seconds a multiplication of the cost model, fitted to calculations that are run here; then a check on others.

Prints `SECONDS` for `piwsl.reference.costs`, and for molecules and levels that it was not fitted to what it estimates
over what they take. CPU time on one thread, of a machine with nothing else to do; five minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.build import molecule
from scipy.optimize import least_squares

from piwsl.reference.calculations import run_level
from piwsl.reference.costs import SECONDS, Work, calculations_of, seconds_of
from piwsl.reference.engines.pyscf import PySCF

MEMORY_MB = 12_000
# Of the logarithm of a constant, where the calculations say nothing of it: a factor of ten or so.
PRIOR = 0.1
# A second more or less of what takes none does not matter.
SHORTEST_SECONDS = 0.1


class Case(NamedTuple):
    """Molecules and a level of theory to run."""

    molecules: str
    level: dict[str, Any]
    gradients: bool = False


def single(method: str, basis: str, **more: Any) -> dict[str, Any]:
    """Return a level of one method."""
    return {"method": method, "basis": basis, **more}


CONVENTIONAL = {"density_fitting": False}
FITTED = {"density_fitting": True}
CUT = {"natural_orbitals": 1e-4}
FIT = (
    Case("H2O CH3OH C2H4", single("mp2", "cc-pvtz")),
    Case("H2O HCN CH3OH C2H4", single("mp2", "cc-pvqz")),
    Case("H2O CH3OH", single("hf", "cc-pvtz"), gradients=True),
    Case("H2O CH3OH", single("dft", "def2-tzvp", functional="pbe0"), gradients=True),
    Case("H2O HCN CH3OH", single("mp2", "cc-pvdz", **CONVENTIONAL), gradients=True),
    Case("H2O NH3 HCN", single("mp2", "cc-pvtz", **CONVENTIONAL), gradients=True),
    Case("H2O HCN CH3OH C2H4", single("ccsd(t)", "cc-pvdz")),
    Case("H2O NH3 HCN", single("ccsd(t)", "cc-pvtz")),
    Case("H2O HCN CH3OH", single("ccsd", "cc-pvdz"), gradients=True),
    Case("H2O NH3 HCN CH3OH", single("ccsd(t)", "cc-pvdz"), gradients=True),
    Case("H2O HCN CH3OH", single("ccsd(t)", "cc-pvtz", **CUT)),
    Case("H2O HCN CH3OH C2H4", single("ccsd(t)", "cc-pvtz", **FITTED, **CUT)),
    Case("H2O HCN CH3OH", single("ccsd(t)", "cc-pvdz", **FITTED)),
    Case("H2O NH3", single("ccsd(t)", "cc-pvtz", **FITTED)),
)
CHECK = (
    Case("H2CO C2H6 HCOOH CH3CH2OH", {"preset": "ccsdt-cbs"}),
    Case("H2CO C2H6 HCOOH CH3CH2OH", {"preset": "ccsdt-cbs-tz"}),
    Case("C2H2 CH3CHO", {"preset": "demo"}),
    Case("CH3CH2OH", {"preset": "mp2-cbs"}),
    Case("H2CO", {"preset": "dft"}, gradients=True),
    Case("HCOOH", single("dft", "def2-svp", functional="b3lyp"), gradients=True),
    Case("H2CO C2H4", single("mp2", "cc-pvtz", **CONVENTIONAL), gradients=True),
    Case("H2CO C2H4", single("ccsd(t)", "cc-pvdz"), gradients=True),
    Case("H2O2", single("ccsd", "aug-cc-pvdz"), gradients=True),
    Case("H2CO", single("ccsd(t)", "cc-pvtz")),
    Case("C2H2", single("ccsd(t)", "aug-cc-pvtz", natural_orbitals=3e-5)),
    Case("OH CH3", single("ccsd(t)", "cc-pvtz")),
    Case("NO2", {"preset": "ccsdt-cbs"}),
)
MULTIPLICITY = {"OH": 2, "CH3": 2, "NO2": 2}


class Timing(NamedTuple):
    """What a calculation took."""

    of: str
    work: Work
    cpu_s: float


def frame(name: str) -> Atoms:
    """Return a molecule, displaced, so that it has no symmetry."""
    atoms = molecule(name)
    atoms.positions += 0.03 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    return atoms


def timings(cases: Iterable[Case]) -> Iterator[list[Timing]]:
    """Run calculations; the parts of each frame."""
    for case in cases:
        level = PySCF.model_validate(case.level)
        for name in case.molecules.split():
            atoms, multiplicity = frame(name), MULTIPLICITY.get(name, 1)
            taken = run_level(atoms, level, 0, multiplicity, MEMORY_MB, gradients=case.gradients).notes["cpu_s_of"]
            what = f"{name}, {level}{', gradient' if case.gradients else ''}"
            yield [
                Timing(what, each.work, taken[each.name])
                for each in calculations_of(atoms, level, 0, multiplicity, case.gradients)
            ]


def fitted(found: list[Timing]) -> dict[str, float]:
    """Return seconds a multiplication that give the times best, by least squares of their logarithms."""
    names = list(SECONDS)
    start = np.log([SECONDS[name] for name in names])

    def residuals(logarithms: np.ndarray) -> np.ndarray:
        seconds = dict(zip(names, np.exp(logarithms), strict=True))
        misfit = [
            np.log((seconds_of(each.work, seconds) + SHORTEST_SECONDS) / (each.cpu_s + SHORTEST_SECONDS))
            for each in found
        ]
        return np.concatenate([misfit, PRIOR * (logarithms - start)])

    solution = least_squares(residuals, start).x
    return {name: float(f"{np.exp(value):.1e}") for name, value in zip(names, solution, strict=True)}


def main() -> None:
    """Fit, or check what stands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="leave the constants as they stand")
    parser.add_argument("--keep", type=Path, help="file of the times of the fit; read where it is there")
    given = parser.parse_args()
    seconds = SECONDS
    if not given.check:
        if given.keep and given.keep.exists():
            each = [Timing(*line) for line in json.loads(given.keep.read_text())]
        else:
            each = [timing for parts in timings(FIT) for timing in parts]
        if given.keep:
            given.keep.write_text(json.dumps(each))
        seconds = fitted(each)
        print(json.dumps(seconds, indent=4))
        report([[timing] for timing in each], seconds)
    report(timings(CHECK), seconds)


def report(found: Iterable[list[Timing]], seconds: dict[str, float]) -> None:
    """Print estimates beside times."""
    print(f"\n{'CPU s':>9}{'estimate':>9}{'ratio':>7}  calculation")
    for parts in found:
        taken = sum(part.cpu_s for part in parts)
        estimate = sum(seconds_of(part.work, seconds) for part in parts)
        print(f"{taken:9.2f}{estimate:9.2f}{estimate / max(taken, 1e-3):7.2f}  {parts[0].of}", flush=True)


if __name__ == "__main__":
    main()
