"""Levels that psi4 computes: Hartree-Fock, MP2, CCSD, CCSD(T), for energies of another program than PySCF's.

psi4 is none of our dependencies (Debian: `apt-get install psi4`; elsewhere conda), and has a Python of its own: it is
run as a program. Smith et al., J. Chem. Phys. 152, 184108 (2020).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ase.data import atomic_numbers
from pydantic import Field, field_validator

from piwsl.config import Cost, FittingBases
from piwsl.config.stages import BasisName
from piwsl.errors import PiwslError
from piwsl.files import read_json
from piwsl.reference.failures import FrameFailure, JobFailure
from piwsl.reference.program_level import Molecule, Parts, ProgramLevel
from piwsl.reference.programs import MEMORY_SHARE, Finished, Program, run, scratch_folder

if TYPE_CHECKING:
    from ase import Atoms

    from piwsl.reference.components import Component, Fitting, MeanFieldKey

JOB = Path(__file__).parents[1] / "psi4_job.py"
# psi4's variables, by our names.
VARIABLES = {
    "mp2": "MP2 CORRELATION ENERGY",
    "ccsd": "CCSD CORRELATION ENERGY",
    "ccsd(t)": "CCSD(T) CORRELATION ENERGY",
}
# Highest first: it brings those after it.
HIGHEST = ("ccsd(t)", "ccsd", "mp2")
# Correlation energies are linear in what is left of the orbital gradient: a density of 1e-8 leaves them 1e-7 Eh.
CONVERGED = {"e_convergence": 1e-10, "d_convergence": 1e-9, "r_convergence": 1e-8, "maxiter": 200}
# psi4's name of def2-universal-jkfit: it has the basis once for each of def2's.
UNIVERSAL_JK_OF_PSI4 = "def2-qzvpp-jkfit"
# CPU seconds of psi4 1.3 over those of PySCF, methanol and ethanol.
SLOWER_THAN_PYSCF = 1.7


class Psi4(ProgramLevel):
    """psi4's: a sum of stages. `{method, basis}` is short for a single level."""

    PROGRAM: ClassVar[Program] = Program("psi4", "psi4", "PIWSL_PSI4", "install it (Debian: apt-get install psi4)")

    auxiliary_bases: dict[BasisName, FittingBases] = Field(
        {}, description="By orbital basis; default: the family's own -jkfit and -ri."
    )

    @field_validator("auxiliary_bases")
    @classmethod
    def _lower(cls, bases: dict[str, FittingBases]) -> dict[str, FittingBases]:
        return {basis.lower(): fitting for basis, fitting in bases.items()}

    def parts(self, molecule: Molecule) -> Parts:
        """Run psi4 once for all energies of a molecule; open shells are followed to a minimum, once."""
        found = _psi4(self._job(molecule), molecule.threads)
        if "calculations" not in found:
            raise FrameFailure(found["failed"], f"psi4: {' '.join(found['error'].split())}")
        energies: dict[Component, float] = {}
        notes: dict[str, Any] = {"scf": {}, "frozen_orbitals": 0}
        for key, methods in self.wanted().items():
            _add(energies, notes, key, methods, found["calculations"][str(key)])
        return Parts(energies, notes)

    def _job(self, molecule: Molecule) -> dict[str, Any]:
        """Return what psi4 is to do, as psi4_job.py takes it."""
        from pyscf.data.elements import chemcore_atm

        head = f"{molecule.charge} {molecule.multiplicity}"
        tail = ["units angstrom", "no_com", "no_reorient", "symmetry c1"]
        open_shell = self.is_open_shell(molecule.multiplicity)
        follow = {"stability_analysis": "follow"} if open_shell and molecule.electrons() > 1 else {}
        return {
            "molecule": "\n".join([head, *molecule.lines(), *tail]),
            "cores": [chemcore_atm[number] if self.frozen_core else 0 for number in molecule.atoms.numbers],
            "memory_bytes": int(MEMORY_SHARE * molecule.memory_mb * 1e6),
            "options": CONVERGED | {"reference": "uhf" if open_shell else "rhf"} | follow,
            "calculations": [
                {
                    "name": str(key),
                    # One electron correlates with nothing.
                    "method": _highest(methods) if molecule.electrons() > 1 else "scf",
                    "options": self._integrals(key),
                }
                for key, methods in self.wanted().items()
            ],
        }

    def _fitting(self, basis: str) -> Fitting:
        """Return the auxiliary bases of an orbital basis, as psi4 calls them."""
        from piwsl.reference.components import UNIVERSAL_JK, fitting_bases

        fitting = fitting_bases(self, basis)
        return fitting._replace(jk=UNIVERSAL_JK_OF_PSI4) if fitting.jk == UNIVERSAL_JK else fitting

    def _integrals(self, key: MeanFieldKey) -> dict[str, str]:
        if not key.density_fitting:
            return {"basis": key.basis, "scf_type": "pk", "mp2_type": "conv", "cc_type": "conv"}
        fitting = self._fitting(key.basis)
        bases = {"basis": key.basis, "df_basis_scf": fitting.jk, "df_basis_mp2": fitting.ri}
        return bases | {"scf_type": "df", "mp2_type": "df"}

    def cost(self, atoms: Atoms, charge: int, multiplicity: int, forces: bool) -> Cost:
        """Estimate a frame by what PySCF takes for the same level."""
        from piwsl.reference.costs import estimate
        from piwsl.reference.engines.pyscf import PySCF

        level = PySCF(
            stages=self.stages,
            frozen_core=self.frozen_core,
            orbitals="unrestricted" if self.unrestricted else None,
            auxiliary_bases=self.auxiliary_bases,
        )
        cost = estimate(atoms, level, charge, multiplicity, gradients=False)
        return Cost(SLOWER_THAN_PYSCF * cost.cpu_s, cost.memory_mb, cost.scratch_mb)

    def problem(self, symbols: set[str]) -> str | None:
        """Say that psi4 is missing, which basis it lacks, or which does not fit."""
        if (missing := super().problem(symbols)) is not None:
            return missing
        bases = []
        for key, methods in self.wanted().items():
            bases.append(key.basis)
            if key.density_fitting:
                fitting = self._fitting(key.basis)[: 2 if methods else 1]
                if (unfit := _unfit(key.basis, fitting, symbols)) is not None:
                    return unfit
                bases += fitting
        try:
            lacking = _what_it_has(tuple(dict.fromkeys(bases)), tuple(sorted(symbols)))["lacking"]
        except PiwslError as error:
            return str(error)
        return lacking and f"basis '{lacking[0]}' has no {lacking[1]} in psi4; name another (fitting: auxiliary_bases)"

    def recipe(self) -> dict[str, Any]:
        """Return stages, with defaults and published exponents as what they come to."""
        from piwsl.reference.recipe import stages_of

        correlated = any(stage.method != "hf" for stage in self.stages)
        return {
            "stages": stages_of(self),
            "frozen_core": self.frozen_core if correlated else None,
            "unrestricted": self.unrestricted,
        }

    def versions(self) -> dict[str, str]:
        """Return psi4's version."""
        return {"psi4": _what_it_has((), ())["version"]}


def _unfit(basis: str, fitting: tuple[str, ...], symbols: set[str]) -> str | None:
    """Say that there is no fitting basis, or one that does not fit all shells.

    Without cores that an orbital basis has energies are tens of Hartree wrong, without pairs of d by half a Hartree.
    """
    from piwsl.reference.basis_sets import core_potential
    from piwsl.reference.components import AUTOMATIC
    from piwsl.reference.element_bases import HEAVIEST_ALL_ELECTRON, WITH_3D, WITHOUT_PAIRS_OF_D

    if AUTOMATIC in fitting:
        return f"psi4 makes no fitting basis for '{basis}'; name one (auxiliary_bases)"
    full = sorted(symbol for symbol in symbols if atomic_numbers[symbol] in WITH_3D)
    if full and (right := WITHOUT_PAIRS_OF_D.get(fitting[0])) is not None:
        return f"'{fitting[0]}' does not fit 3d of {full[0]}; say auxiliary_bases: {{{basis}: {{jk: {right}}}}}"
    if not fitting[0].startswith("def2-"):
        return None
    heavy = sorted(symbol for symbol in symbols if atomic_numbers[symbol] > HEAVIEST_ALL_ELECTRON)
    cores = [symbol for symbol in heavy if core_potential(basis, symbol) is None]
    return (
        f"'{fitting[0]}' is made for core potentials, and '{basis}' has all electrons of {cores[0]}; "
        "name another (auxiliary_bases), or say density_fitting: false"
        if cores
        else None
    )


def _highest(methods: list[str]) -> str:
    return next((method for method in HIGHEST if method in methods), "scf")


def _add(
    energies: dict[Component, float],
    notes: dict[str, Any],
    key: MeanFieldKey,
    methods: list[str],
    found: Mapping[str, Any],
) -> None:
    """Add what a calculation gave to the energies and notes of a molecule."""
    from piwsl.reference.components import Component

    variables = found["variables"]
    energies[Component("hf", key)] = found["scf"]
    # Where there is but one electron, psi4 was not asked for what it correlates with.
    energies.update({Component(method, key): variables.get(VARIABLES[method], 0.0) for method in methods})
    notes["scf"][str(key)] = {} if found["s_squared"] is None else {"s_squared": round(found["s_squared"], 6)}
    if methods:
        notes["frozen_orbitals"] = found["frozen_orbitals"]
    if (t1 := variables.get("CC T1 DIAGNOSTIC")) is not None:
        # psi4 adds up the amplitudes of both spins where PySCF's levels take their mean.
        notes["t1_diagnostic"] = t1 if found["s_squared"] is None else t1 / math.sqrt(2)


@cache
def _what_it_has(bases: tuple[str, ...], symbols: tuple[str, ...]) -> dict[str, Any]:
    """Ask psi4 once for its version and the first basis that lacks an element.

    Raises:
        JobFailure: psi4 cannot be used.
    """
    return _psi4({"bases": bases, "numbers": {symbol: int(atomic_numbers[symbol]) for symbol in symbols}}, threads=1)


def _psi4(job: dict[str, Any], threads: int) -> dict[str, Any]:
    """Run psi4 in a folder of its own and return what it found.

    Raises:
        JobFailure: it is missing, or ended without a word.
        MemoryError, OSError: memory or disk gave out.
    """
    path = Psi4.PROGRAM.path()
    if path is None:
        raise JobFailure(Psi4.PROGRAM.missing())
    with scratch_folder(Psi4.PROGRAM) as folder:
        (folder / "job.json").write_text(json.dumps(job))
        command = [str(path), "-k", "-n", str(threads), "-i", str(JOB), "-o", "output.dat", "-s", str(folder)]
        # Its Python is not ours.
        environment = {"PYTHONPATH": "", "PYTHONHOME": "", "VIRTUAL_ENV": "", "OMP_NUM_THREADS": str(threads)}
        finished = run(command, folder, folder / "terminal", environment)
        return _read(folder / "energies.json", finished)


def _read(path: Path, finished: Finished) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read_json(path)
    except (FileNotFoundError, ValueError):
        raise JobFailure(f"psi4 ended with status {finished.status} and no energies: {finished.last_line()}") from None
    return found
