"""Levels that ORCA computes: among them local coupled cluster, for molecules that are too large for CCSD(T).

ORCA is free for academic use, and none of our dependencies: it is run as a program. DLPNO-CCSD(T) is an approximation
to CCSD(T) with errors of its own: Liakos, Sparta, Kesharwani, Martin, Neese, J. Chem. Theory Comput. 11, 1525 (2015).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from ase import Atoms
from pydantic import Field

from piwsl.config import Cost
from piwsl.config.stages import LOCAL, Method
from piwsl.errors import PiwslError
from piwsl.reference.failures import FrameFailure, JobFailure
from piwsl.reference.program_level import Molecule, Parts, ProgramLevel
from piwsl.reference.programs import Program, run, scratch_folder

if TYPE_CHECKING:
    from piwsl.reference.components import Component
    from piwsl.reference.engines.pyscf import PySCF
    from piwsl.reference.orca import Found, Run

# Of one mean field in two runs, the second from the orbitals of the first.
SAME_ENERGY_HARTREE = 1e-6
# CPU seconds of DLPNO-CCSD(T) over the cube of the basis functions: a guess from published timings of molecules of 20
# to 60 atoms, not fitted. Iterated triples take about twice as long.
LOCAL_SECONDS = {"loose": 5e-6, "normal": 1.5e-5, "tight": 6e-5, "very_tight": 2.4e-4}
ITERATED_TRIPLES = 2.0
LOCAL_MB = 2000.0
PROBE_SECONDS = 60
# Status of a program that lacks its libraries.
NOT_STARTED = 127


class Orca(ProgramLevel):
    """ORCA's: a sum of stages. `{method, basis}` is short for a single level."""

    METHODS: ClassVar[tuple[Method, ...]] = ("hf", "mp2", "ccsd", "ccsd(t)", *LOCAL)
    PROGRAM: ClassVar[Program] = Program(
        "ORCA", "orca", "PIWSL_ORCA", "install it (https://orcaforum.kofo.mpg.de, free for academic use)"
    )

    pno: Literal["loose", "normal", "tight", "very_tight"] = Field(
        "tight", description="Thresholds of the pair natural orbitals of dlpno-..., ORCA's TightPNO and so on."
    )

    def parts(self, molecule: Molecule) -> Parts:
        """Run ORCA for each mean field and family of methods, each from the orbitals of the run before."""
        from piwsl.reference.components import Component, required_components

        energies: dict[Component, float] = {}
        notes: dict[str, Any] = {"scf": {}, "frozen_orbitals": 0}
        for one, found in self._found(molecule):
            mean_field = Component("hf", one.key)
            before = energies.setdefault(mean_field, found.scf)
            if abs(before - found.scf) > SAME_ENERGY_HARTREE:
                raise FrameFailure(one.step, f"its SCF is {found.scf - before:+.6f} Eh off that of the run before")
            energies |= {Component(method, one.key): energy for method, energy in found.correlation.items()}
            notes["orca"] = found.version
            notes["scf"].setdefault(str(one.key), {})
            _add_notes(notes, one, found)
        wanted = required_components(self)
        if molecule.electrons() < 2:  # one electron correlates with nothing
            energies |= dict.fromkeys((part for part in wanted if part not in energies), 0.0)
        if lacks := [str(part) for part in wanted if part not in energies]:
            raise FrameFailure(lacks[0], "ORCA's output lacks this energy")
        return Parts(energies, notes)

    def _found(self, molecule: Molecule) -> Iterator[tuple[Run, Found]]:
        """Run one calculation after the other."""
        from piwsl.reference.orca import input_text, processes_of, read

        path = self._path()
        unrestricted = self.is_open_shell(molecule.multiplicity)
        # Several processes of a job that SLURM knows as one task, on the cores of that task.
        several = {"OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none"}
        environment = {"OMP_NUM_THREADS": "1"} | (several if processes_of(molecule) > 1 else {})
        orbitals = ""
        with scratch_folder(self.PROGRAM) as folder:
            for number, one in enumerate(self._runs(molecule.electrons())):
                name = f"run{number}"
                text = input_text(one, molecule, self.pno, self.frozen_core, unrestricted, orbitals)
                (folder / f"{name}.inp").write_text(text)
                finished = run([str(path), f"{name}.inp"], folder, folder / f"{name}.out", environment)
                yield one, read(one, finished)
                orbitals = f"{name}.gbw" if (folder / f"{name}.gbw").exists() else ""

    def _runs(self, electrons: int) -> Iterator[Run]:
        """Yield the calculations that a level takes of a molecule of so many electrons."""
        from piwsl.reference.components import Component
        from piwsl.reference.orca import FAMILIES, Run

        for key, methods in self.wanted().items():
            families = [[method for method in family if method in methods] for family in FAMILIES]
            highest = [family[-1] for family in families if family and electrons > 1]
            yield from (Run(key, method, str(Component(method, key))) for method in highest or ["hf"])

    def _path(self) -> Path:
        if (problem := self._program_problem()) is not None:
            raise JobFailure(problem)
        path = self.PROGRAM.path()
        assert path is not None
        return path

    def _program_problem(self) -> str | None:
        path = self.PROGRAM.path()
        if path is None:
            return self.PROGRAM.missing()
        # The screen reader of GNOME has the name, too, and would start to speak.
        if not path.with_name("orca_mdci").exists():
            return f"{path} is not ORCA (no orca_mdci beside it); say where ORCA is with {self.PROGRAM.variable}"
        return _probe(path).problem

    def problem(self, symbols: set[str]) -> str | None:
        """Say that ORCA is missing or too old, or which basis is unknown."""
        if (problem := self._program_problem()) is not None:
            return problem
        problems = (_lacking(one, self, symbols) for one in self._runs(electrons=2))
        return next((problem for problem in problems if problem is not None), None)

    def differences_problem(self) -> str | None:
        """Say that domains of pair natural orbitals change from geometry to geometry."""
        local = next((name for stage in self.stages for name in (stage.method, stage.minus) if name in LOCAL), None)
        return local and f"{local} has no forces by differences: its energy is not smooth, for its domains change"

    def cost(self, atoms: Atoms, charge: int, multiplicity: int, forces: bool) -> Cost:
        """Estimate a frame by what PySCF takes for the same; of local coupled cluster it is a guess."""
        costs = [self._cost_of(one, atoms, charge, multiplicity) for one in self._runs(electrons=2)]
        return Cost(
            sum(cost.cpu_s for cost in costs),
            max(cost.memory_mb for cost in costs),
            max(cost.scratch_mb for cost in costs),
        )

    def _cost_of(self, one: Run, atoms: Atoms, charge: int, multiplicity: int) -> Cost:
        from piwsl.reference.calculations import build_molecule
        from piwsl.reference.costs import estimate

        cost = estimate(atoms, _like(one, self), charge, multiplicity, gradients=False)
        if one.method not in LOCAL:
            return cost
        functions = build_molecule(atoms, one.key.basis, charge, multiplicity, memory_mb=1000).nao
        seconds = LOCAL_SECONDS[self.pno] * functions**3 * (ITERATED_TRIPLES if one.method.endswith("(t1)") else 1.0)
        return Cost(cost.cpu_s + seconds, cost.memory_mb + LOCAL_MB, cost.scratch_mb + LOCAL_MB)

    def recipe(self) -> dict[str, Any]:
        """Return stages, with defaults and published exponents as what they come to."""
        stages = [
            {
                "method": stage.method,
                "minus": stage.minus,
                "bases": list(stage.bases),
                "density_fitting": stage.density_fitting,
                "extrapolation": None if len(stage.bases) == 1 else stage.limit()._asdict(),
            }
            for stage in self.stages
        ]
        methods = {name for stage in self.stages for name in (stage.method, stage.minus)}
        return {
            "stages": sorted(stages, key=lambda stage: json.dumps(stage, sort_keys=True)),
            "frozen_core": self.frozen_core if methods - {"hf", None} else None,
            "unrestricted": self.unrestricted,
            "pno": self.pno if methods & {*LOCAL} else None,
        }

    def versions(self) -> dict[str, str]:
        """Return ORCA's version, where it says one without a calculation; `orca` of each record has it anyway."""
        path = self.PROGRAM.path()
        version = None if path is None else _probe(path).version
        return {} if version is None else {"orca": version}


def _add_notes(notes: dict[str, Any], one: Run, found: Found) -> None:
    if found.s_squared is not None:
        notes["scf"][str(one.key)]["s_squared"] = found.s_squared
    if found.t1_diagnostic is not None:
        notes["t1_diagnostic"] = max(found.t1_diagnostic, notes.get("t1_diagnostic", 0.0))
    if found.frozen_orbitals is not None:
        notes["frozen_orbitals"] = found.frozen_orbitals


def _lacking(one: Run, level: Orca, symbols: set[str]) -> str | None:
    """Say what is lacking of the basis of a run: ORCA takes no other basis for an element, as PySCF's levels do."""
    from piwsl.reference.basis_sets import has_element

    basis = one.key.basis
    try:
        lacks = next((symbol for symbol in sorted(symbols) if not has_element(basis, symbol)), None)
    except PiwslError as error:
        return str(error)
    return f"basis '{basis}' has no {lacks}; name another" if lacks else _like(one, level).problem(symbols)


def _like(one: Run, level: Orca) -> PySCF:
    """Return PySCF's level of a run, MP2 in the place of local coupled cluster: its bases and much of its cost."""
    from piwsl.reference.engines.pyscf import PySCF

    return PySCF.model_validate(
        {
            "method": "mp2" if one.method in LOCAL else one.method,
            "basis": one.key.basis,
            "density_fitting": one.key.density_fitting,
            "frozen_core": level.frozen_core,
            "orbitals": "unrestricted" if level.unrestricted else None,
        }
    )


class Probe(NamedTuple):
    """What ORCA says without a calculation."""

    version: str | None
    """Version 5 may say none."""
    problem: str | None
    """Why it cannot be used."""


@cache
def _probe(path: Path) -> Probe:
    """Ask ORCA for its version, once."""
    from piwsl.reference.orca import old, version_of

    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Probe(None, f"{path} cannot be started: {error}")
    if done.returncode == NOT_STARTED:
        return Probe(None, f"{path} cannot be started: {' '.join(done.stderr.split())}")
    version = version_of(done.stdout)
    return Probe(version, version and old(version))
