"""ORCA's input and output: what a run is asked for, as text, and what it says, read back.

Neese, WIREs Comput. Mol. Sci. 12, e1606 (2022); the formats are those of its manual, versions 5 and 6. Nothing
here starts a program.
"""

from __future__ import annotations

import errno
import os
import re
from typing import NamedTuple

from piwsl.config.stages import LOCAL
from piwsl.files import is_no_room
from piwsl.reference.components import MeanFieldKey
from piwsl.reference.failures import FrameFailure, JobFailure, ProgramOutOfMemory
from piwsl.reference.program_level import Molecule
from piwsl.reference.programs import MEMORY_SHARE, NO_MEMORY, Finished

OLDEST_VERSION = 5
# One run gives all methods of a row; the last that is wanted is asked for.
FAMILIES = (("mp2",), ("ccsd", "ccsd(t)"), ("dlpno-ccsd", "dlpno-ccsd(t)"), ("dlpno-ccsd(t1)",))
PNO = {"loose": "LoosePNO", "normal": "NormalPNO", "tight": "TightPNO", "very_tight": "VeryTightPNO"}
# ORCA has fitting bases of these; of others it makes some.
WITH_JK = re.compile(r"(aug-)?cc-pv[tq5]z")
WITH_C = re.compile(r"(aug-)?cc-p(wc)?v[dtq5]z|def2-(svp|tzvp|tzvpp|qzvp|qzvpp)d?")
MADE = "AutoAux"

NUMBER = r"(-?\d+\.\d+)"
VERSION = re.compile(r"Program Version\s+((\d+)[\d.]*)")
SCF_ENERGY = re.compile(rf"^\s*Total Energy\s+:\s+{NUMBER} Eh", re.MULTILINE)
FINAL_ENERGY = re.compile(rf"^FINAL SINGLE POINT ENERGY\s+{NUMBER}\s*$", re.MULTILINE)
CCSD_ENERGY = re.compile(rf"^\s*E\(CCSD\)\s+\.\.\.\s+{NUMBER}", re.MULTILINE)
T1 = re.compile(rf"^\s*T1 diagnostic\s+\.\.\.\s+{NUMBER}", re.MULTILINE)
S_SQUARED = re.compile(rf"Expectation value of <S\*\*2>\s*:\s*{NUMBER}")
CORE_ELECTRONS = re.compile(r"NCore=\s*(\d+) chemical core electrons")
SCF_CONVERGED = re.compile(r"SCF CONVERGED AFTER\s+\d+ CYCLES")
CC_CONVERGED = "The Coupled-Cluster iterations have converged"
NORMAL_END = "****ORCA TERMINATED NORMALLY****"
ERROR_END = re.compile(r"ORCA finished by error termination in (.*)")
NOT_CONVERGED = {
    re.compile(r"SCF NOT CONVERGED|the SCF has not converged|not fully converged"): "SCF not converged",
    re.compile(r"Coupled-Cluster iterations have NOT converged"): "amplitudes not converged",
}
# Lines that say what is wrong, and those among them that say nothing more.
WRONG = re.compile(r"^\W*(\[file [^\]]*\]:\s*)?(input )?error\b|unrecognized|-> impossible|no basis", re.IGNORECASE)
NO_NEWS = re.compile(r"aborting the run", re.IGNORECASE)


class Run(NamedTuple):
    """One calculation of ORCA's."""

    key: MeanFieldKey
    method: str
    """The highest; hf alone for an SCF."""
    step: str
    """Names it in a failure."""


class Found(NamedTuple):
    """What a run gave."""

    scf: float
    """Hartree; total energy of the mean field."""
    correlation: dict[str, float]
    """Hartree, by method: total energy less that of the mean field."""
    t1_diagnostic: float | None
    s_squared: float | None
    frozen_orbitals: int | None
    """None where the module does not say."""
    version: str


def input_text(run: Run, molecule: Molecule, pno: str, frozen_core: bool, unrestricted: bool, orbitals: str) -> str:
    """Return the input file of a run.

    Args:
        run: what to compute.
        molecule: of what.
        pno: a key of PNO.
        frozen_core: leave the chemical core uncorrelated.
        unrestricted: orbitals of both spins differ.
        orbitals: file of orbitals to start from, in the folder of the run; "" for none.
    """
    processes = processes_of(molecule)
    words = ["UHF" if unrestricted else "RHF", *_method(run, pno, frozen_core), "VeryTightSCF", "NoAutoStart"]
    return "\n".join(
        [
            "! " + " ".join([*words, *(["MORead"] if orbitals else [])]),
            f"%maxcore {int(MEMORY_SHARE * molecule.memory_mb / processes)}",
            f"%pal nprocs {processes} end",
            "%basis",
            *(f'  {slot} "{name}"' for slot, name in _bases(run).items()),
            "end",
            "%scf MaxIter 300 end",
            # Forces are differences of energies.
            *(["%mdci STol 1e-7 MaxIter 100 end"] if run.method not in ("hf", "mp2") else []),
            *([f'%moinp "{orbitals}"'] if orbitals else []),
            f"* xyz {molecule.charge} {molecule.multiplicity}",
            *molecule.lines(),
            "*",
            "",
        ]
    )


def processes_of(molecule: Molecule) -> int:
    """Return how many processes a run has: coupled cluster refuses more than there are pairs of electrons."""
    return max(1, min(molecule.threads, molecule.electrons() // 2))


def _method(run: Run, pno: str, frozen_core: bool) -> list[str]:
    fitted = ["RIJK"] if run.key.density_fitting else []
    if run.method == "hf":
        return fitted
    name = "RI-MP2" if run.method == "mp2" and fitted else run.method.upper()
    local = [PNO[pno]] if run.method in LOCAL else []
    return [name, *local, *fitted, "FrozenCore" if frozen_core else "NoFrozenCore"]


def _bases(run: Run) -> dict[str, str]:
    """Return the names of bases by ORCA's slots."""
    basis = run.key.basis
    if not run.key.density_fitting:
        return {"Basis": basis}
    jk = f"{basis}/JK" if WITH_JK.fullmatch(basis) else "def2/JK" if basis.startswith("def2-") else MADE
    correlation = {} if run.method == "hf" else {"AuxC": f"{basis}/C" if WITH_C.fullmatch(basis) else MADE}
    return {"Basis": basis, "AuxJK": jk, **correlation}


def read(run: Run, finished: Finished) -> Found:
    """Read what a run said.

    Args:
        run: what was asked for.
        finished: status and output.

    Raises:
        FrameFailure: it did not converge, or ended with an error.
        JobFailure, MemoryError, OSError: memory or disk gave out, it was stopped half way, or it is too old.
    """
    text = finished.text
    version = version_of(text)
    if version is not None and (problem := old(version)):
        raise JobFailure(problem)
    for pattern, reason in NOT_CONVERGED.items():
        if pattern.search(text):
            raise FrameFailure(run.step, reason)
    if NORMAL_END not in text:
        raise _failure(run, finished)
    if not SCF_CONVERGED.search(text):
        raise FrameFailure(run.step, "ORCA does not say that the SCF converged")
    if run.method not in ("hf", "mp2") and CC_CONVERGED not in text:
        raise FrameFailure(run.step, "ORCA does not say that the amplitudes converged")
    return _energies(run, text, version or "unknown")


def _energies(run: Run, text: str, version: str) -> Found:
    scf, final, ccsd = (_last(pattern, text) for pattern in (SCF_ENERGY, FINAL_ENERGY, CCSD_ENERGY))
    if scf is None or final is None:
        raise FrameFailure(run.step, "ORCA ended normally, but its output has no energies")
    correlation = {} if run.method == "hf" else {run.method: final - scf}
    if ccsd is not None:
        simpler = "dlpno-ccsd" if run.method in LOCAL else "ccsd"
        correlation.setdefault(simpler, ccsd - scf)
    core = CORE_ELECTRONS.search(text)
    return Found(
        scf=scf,
        correlation=correlation,
        t1_diagnostic=_last(T1, text),
        s_squared=_last(S_SQUARED, text),
        frozen_orbitals=int(core[1]) // 2 if core else None,
        version=version,
    )


def _last(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.findall(text)
    return float(found[-1]) if found else None


def version_of(text: str) -> str | None:
    """Return the version in an output; None where it has none."""
    found = VERSION.search(text)
    return None if found is None else found[1]


def old(version: str) -> str | None:
    """Say that a version is too old; None where it is not."""
    if int(version.split(".")[0]) >= OLDEST_VERSION:
        return None
    return f"ORCA {version} is too old; {OLDEST_VERSION} or later is needed"


def _failure(run: Run, finished: Finished) -> Exception:
    """Return what a run that did not end normally raises."""
    text = finished.text
    if found := NO_MEMORY.search(text):
        return ProgramOutOfMemory(f"ORCA says '{found[0]}'")
    if is_no_room(OSError(text)):
        return OSError(errno.ENOSPC, f"ORCA: {os.strerror(errno.ENOSPC)}")
    module = ERROR_END.search(text)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    said = [line for line in lines if WRONG.search(line) and not NO_NEWS.search(line)]
    if said:
        return FrameFailure(run.step, f"ORCA ended with an error: {said[-1][:200]}")
    if module is not None:
        return ProgramOutOfMemory(f"ORCA's {module[1].strip()} ended without a word, as where memory gives out")
    return JobFailure(
        f"{run.step}: ORCA stopped half way (status {finished.status}), as where it is killed; its last line: "
        f"{finished.last_line()}"
    )
