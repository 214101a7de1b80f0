"""How forces of a level are had: analytic gradients where PySCF's are right, central differences elsewhere."""

from __future__ import annotations

from typing import Literal

from pyscf.dft import libxc
from pyscf.scf.dispersion import parse_dft

from piwsl.config import Level, Stage
from piwsl.errors import PiwslError

ForceMethod = Literal["analytic", "differences"]


def analytic_problem(level: Level, multiplicity: int) -> str | None:
    """Say why a level has no analytic gradient, or None where it has.

    Each refusal is of a gradient that PySCF 2.14 lacks or gets wrong without saying so; each gradient that is offered
    is tested against finite differences.

    Args:
        level: the level of theory.
        multiplicity: 2S + 1 of the structure.
    """
    unrestricted = level.unrestricted or multiplicity != 1
    for stage in level.stages:
        problem = _stage_problem(stage, unrestricted)
        if problem is not None:
            return f"{stage} has no analytic gradient: {problem}"
    return None


def _stage_problem(stage: Stage, unrestricted: bool) -> str | None:
    if stage.functional is not None and has_nonlocal_correlation(stage.functional):
        return "that of nonlocal (VV10) correlation is not checked against differences; use a D3 or D4 form"
    if stage.method in ("hf", "dft"):
        return None
    if stage.density_fitting:
        return "PySCF has none for density-fitted MP2; set density_fitting: false"
    if stage.method == "ccsd(t)" and unrestricted:
        return "PySCF's is wrong for unrestricted CCSD(T)"
    return None


def has_nonlocal_correlation(functional: str) -> bool:
    """Whether PySCF adds VV10 to a functional; forms with D3 or D4 in their name switch it off."""
    bare, nonlocal_part, _ = parse_dft(functional)
    return nonlocal_part is not False and bool(libxc.is_nlc(bare))


def check_forces(level: Level, multiplicities: set[int], wanted: ForceMethod | None) -> None:
    """Check that a level has the forces that are asked for.

    Args:
        level: the level of theory.
        multiplicities: 2S + 1 of the structures.
        wanted: how forces shall be computed.

    Raises:
        PiwslError: analytic gradients are asked for and the level has none; says which part and why.
    """
    problem = _first_problem(level, multiplicities)
    if wanted == "analytic" and problem is not None:
        raise PiwslError(f"{problem}; or ask for forces by differences")


def force_method(level: Level, multiplicities: set[int], wanted: ForceMethod | None) -> ForceMethod:
    """Choose how forces are computed: as asked for, else analytic where that is possible for every structure."""
    return wanted or ("analytic" if _first_problem(level, multiplicities) is None else "differences")


def _first_problem(level: Level, multiplicities: set[int]) -> str | None:
    problems = (analytic_problem(level, multiplicity) for multiplicity in sorted(multiplicities))
    return next((problem for problem in problems if problem is not None), None)
