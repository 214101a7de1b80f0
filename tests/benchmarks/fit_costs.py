"""Seconds a multiplication of the cost model, fitted to calculations that are run here; then a check on others.

What is measured is kept in tests/unit/costs.jsonl, a line a frame, and not measured again: to measure anew, on another
machine, remove the file. Prints `SECONDS` for `piwsl.reference.costs` as they fit best, and, for molecules and levels
that they were not fitted to, what the model as it stands estimates over what was measured: the table of the
documentation. A quarter of an hour of CPU time on one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.build import molecule
from scipy.optimize import least_squares

from piwsl.reference.calculations import run_level
from piwsl.reference.costs import SECONDS, Calculation, calculations_of, seconds_of
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.forces import ForceMethod
from piwsl.reference.labelling import label_frames
from piwsl.reference.planning import frame_cost

MEASURED = Path(__file__).parents[1] / "unit" / "costs.jsonl"
MEMORY_MB = 12_000
# Of the logarithm of a constant, where the calculations say nothing of it: a factor of ten or so.
PRIOR = 0.1
# A second more or less of what takes none does not matter.
SHORTEST_SECONDS = 0.1
# Beside those of ASE: Å.
LENGTHS = {"HI": 1.609, "HBr": 1.414}
MULTIPLICITY = {"OH": 2, "CH": 2, "CH3": 2, "NO2": 2, "NH2": 2, "CN": 2, "O2": 3, "HCO": 2}


class Case(NamedTuple):
    """Molecules and a level of theory to run."""

    molecules: str
    level: dict[str, Any]
    forces: ForceMethod | None = None


def single(method: str, basis: str, **more: Any) -> dict[str, Any]:
    """Return a level of one method."""
    return {"method": method, "basis": basis, **more}


CONVENTIONAL = {"density_fitting": False}
FITTED = {"density_fitting": True}
CUT = {"natural_orbitals": 1e-4}
FIT = (
    Case("H2O CH3OH C2H4", single("mp2", "cc-pvtz")),
    Case("H2O HCN CH3OH C2H4", single("mp2", "cc-pvqz")),
    Case("H2O CH3OH C2H4", single("mp2", "cc-pvtz"), "analytic"),
    Case("H2O HCN CH3OH", single("mp2", "cc-pvqz"), "analytic"),
    Case("H2O CH3OH", single("hf", "cc-pvtz"), "analytic"),
    Case("H2O CH3OH", single("dft", "def2-tzvp", functional="pbe0"), "analytic"),
    Case("H2O", single("dft", "def2-tzvp", functional="wb97m-d3bj"), "analytic"),
    Case("H2O HCN CH3OH", single("mp2", "cc-pvdz", **CONVENTIONAL), "analytic"),
    Case("H2O NH3 HCN", single("mp2", "cc-pvtz", **CONVENTIONAL), "analytic"),
    Case("H2O HCN CH3OH C2H4", single("ccsd(t)", "cc-pvdz")),
    Case("H2O NH3 HCN", single("ccsd(t)", "cc-pvtz")),
    Case("H2O HCN CH3OH", single("ccsd", "cc-pvdz"), "analytic"),
    Case("H2O NH3 HCN CH3OH", single("ccsd(t)", "cc-pvdz"), "analytic"),
    Case("H2O HCN CH3OH", single("ccsd(t)", "cc-pvtz", **CUT)),
    Case("H2O HCN CH3OH C2H4", single("ccsd(t)", "cc-pvtz", **FITTED, **CUT)),
    Case("H2O HCN CH3OH", single("ccsd(t)", "cc-pvdz", **FITTED)),
    Case("H2O NH3", single("ccsd(t)", "cc-pvtz", **FITTED)),
    Case("NH2 CN", single("ccsd(t)", "cc-pvdz")),
    Case("NH2", single("ccsd(t)", "cc-pvtz")),
    Case("NH2 CN", single("mp2", "cc-pvtz")),
    Case("NH2 CN", single("mp2", "cc-pvqz")),
    Case("NH2", single("ccsd(t)", "cc-pvtz", **FITTED, **CUT)),
)
CHECK = (
    Case("H2CO C2H6 HCOOH CH3CH2OH", {"preset": "ccsdt-cbs"}),
    Case("H2CO C2H6 HCOOH CH3CH2OH", {"preset": "ccsdt-cbs-tz"}),
    Case("C2H2 CH3CHO", {"preset": "demo"}),
    Case("CH3CH2OH", {"preset": "mp2-cbs"}),
    Case("H2CO C2H6 CH3CH2OH", {"preset": "ccsdt-cbs"}, "analytic"),
    Case("HCOOH", {"preset": "mp2-cbs"}, "analytic"),
    Case("H2CO", {"preset": "dft"}, "analytic"),
    Case("HCOOH", single("dft", "def2-svp", functional="b3lyp"), "analytic"),
    Case("H2CO", single("mp2", "cc-pvtz", **CONVENTIONAL), "analytic"),
    Case("H2O2", single("ccsd", "aug-cc-pvdz"), "analytic"),
    Case("H2CO C2H4", single("ccsd(t)", "cc-pvdz"), "analytic"),
    Case("H2O", single("ccsd(t)", "cc-pvtz"), "analytic"),
    Case("H2CO", single("ccsd(t)", "cc-pvtz")),
    Case("NH3", single("ccsd(t)", "aug-cc-pvtz", natural_orbitals=3e-5)),
    Case("OH CH", single("ccsd(t)", "cc-pvtz")),
    Case("NO2 HCO", {"preset": "ccsdt-cbs"}),
    Case("CH3 HCO", {"preset": "ccsdt-cbs-tz"}),
    Case("O2", single("hf", "cc-pvtz", **CONVENTIONAL), "analytic"),
    Case("HI HBr", single("ccsd(t)", "def2-tzvp")),
    Case("HI", single("dft", "def2-tzvp", functional="pbe0"), "analytic"),
    Case("CH3", single("dft", "def2-svp", functional="pbe0")),
    Case("NH3", {"preset": "demo"}, "differences"),
    Case("H2CO", single("mp2", "cc-pvtz"), "differences"),
    Case("CH3", single("ccsd(t)", "cc-pvdz"), "differences"),
    Case("CH3", single("mp2", "cc-pvtz"), "differences"),
    Case("HCN", single("ccsd(t)", "cc-pvdz"), "differences"),
)
PURPOSES = {"fit": FIT, "check": CHECK}


class Measured(NamedTuple):
    """What a frame took."""

    purpose: str
    """fit or check."""
    molecule: str
    level: dict[str, Any]
    forces: ForceMethod | None
    cpu_s: dict[str, float]
    """CPU seconds by the calculations of the level, or of all of them together for forces by differences."""

    def pyscf(self) -> PySCF:
        """Return the level."""
        return PySCF.model_validate(self.level)

    def in_words(self) -> str:
        """Say what was computed."""
        preset = self.level.get("preset")
        forces = "" if self.forces is None else f", forces ({self.forces})"
        return f"{self.molecule}, {preset or self.pyscf()}{forces}"

    def calculations(self) -> list[Calculation]:
        """Return what the model takes the energy for."""
        atoms, multiplicity = frame(self.molecule), MULTIPLICITY.get(self.molecule, 1)
        return calculations_of(atoms, self.pyscf(), 0, multiplicity, self.forces == "analytic")

    def estimated(self) -> float:
        """Return the CPU seconds of the model as it stands."""
        return frame_cost([frame(self.molecule)], self.pyscf(), self.forces).cpu_s

    def taken(self) -> float:
        """Return the CPU seconds of the frame."""
        return sum(self.cpu_s.values())


def frame(name: str) -> Atoms:
    """Return a molecule, displaced, so that it has no symmetry."""
    atoms = Atoms(name, positions=[[0, 0, 0], [0, 0, LENGTHS[name]]]) if name in LENGTHS else molecule(name)
    atoms.positions += 0.03 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    atoms.info = {"multiplicity": MULTIPLICITY.get(name, 1)}
    return atoms


def measured() -> list[Measured]:
    """Return what is kept."""
    return [Measured(**json.loads(line)) for line in MEASURED.read_text().splitlines()] if MEASURED.exists() else []


def measure(purpose: str) -> None:
    """Run the calculations that are not kept yet, and keep what each takes."""
    known = {(each.purpose, each.in_words()) for each in measured()}
    run_level(frame("H2O"), PySCF.model_validate(single("ccsd(t)", "sto-3g")), 0, 1, MEMORY_MB)  # loads libraries
    for case in PURPOSES[purpose]:
        for name in case.molecules.split():
            new = Measured(purpose, name, case.level, case.forces, {})
            if (purpose, new.in_words()) not in known:
                with MEASURED.open("a") as file:
                    file.write(json.dumps(new._replace(cpu_s=times(new))._asdict()) + "\n")


def times(case: Measured) -> dict[str, float]:
    """Run the calculations of a frame and return the CPU seconds of each."""
    atoms, level = frame(case.molecule), case.pyscf()
    if case.forces == "differences":
        with tempfile.TemporaryDirectory() as store:
            _, (record,) = label_frames([atoms], level, Path(store), case.forces, MEMORY_MB, lambda line: None)
        return {"forces by differences": record["elapsed_cpu_s"]}
    gradients = case.forces == "analytic"
    taken = run_level(atoms, level, 0, atoms.info["multiplicity"], MEMORY_MB, gradients).notes["cpu_s_of"]
    return {each.name: taken[each.name] for each in case.calculations()}


def fitted(cases: Iterable[Measured]) -> dict[str, float]:
    """Return seconds a multiplication that give the times best, by least squares of their logarithms."""
    each = [(one.work, case.cpu_s[one.name]) for case in cases for one in case.calculations()]
    names = list(SECONDS)
    start = np.log([SECONDS[name] for name in names])

    def residuals(logarithms: np.ndarray) -> np.ndarray:
        seconds = dict(zip(names, np.exp(logarithms), strict=True))
        misfit = [
            np.log((seconds_of(work, seconds) + SHORTEST_SECONDS) / (cpu_s + SHORTEST_SECONDS)) for work, cpu_s in each
        ]
        return np.concatenate([misfit, PRIOR * (logarithms - start)])

    solution = least_squares(residuals, start).x
    return {name: float(f"{np.exp(value):.1e}") for name, value in zip(names, solution, strict=True)}


def table(cases: Iterable[Measured]) -> Iterator[str]:
    """Yield estimates beside times, as a table in Markdown."""
    yield "| frame | estimated, CPU s | measured | ratio |"
    yield "|---|---|---|---|"
    for case in cases:
        estimated, taken = case.estimated(), case.taken()
        seconds = " | ".join(f"{float(f'{each:.2g}'):g}" for each in (estimated, taken))
        yield f"| {case.in_words()} | {seconds} | {estimated / taken:.2f} |"


def main() -> None:
    """Measure, fit, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="measure nothing, and print the table alone")
    given = parser.parse_args()
    if not given.table:
        for purpose in PURPOSES:
            measure(purpose)
        print(json.dumps(fitted(case for case in measured() if case.purpose == "fit"), indent=4))
    print(*table(case for case in measured() if case.purpose == "check"), sep="\n")


if __name__ == "__main__":
    main()
