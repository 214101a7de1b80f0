"""How forces of a level are had: analytic gradients where PySCF's are right, central differences elsewhere."""

from __future__ import annotations

from typing import Literal

from piwsl.config import Level, Stage

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
    if stage.method in ("hf", "dft"):
        return None
    if stage.density_fitting:
        return "PySCF has none for density-fitted MP2; set density_fitting: false"
    if stage.method == "ccsd(t)" and unrestricted:
        return "PySCF's is wrong for unrestricted CCSD(T)"
    return None


def force_method(level: Level, multiplicity: int, wanted: ForceMethod | None) -> ForceMethod:
    """Choose how forces are computed.

    Args:
        level: the level of theory.
        multiplicity: 2S + 1 of the structures.
        wanted: what the config asks for; None leaves the choice: analytic where possible.

    Raises:
        ValueError: analytic gradients are asked for and the level has none; says which part and why.
    """
    problem = analytic_problem(level, multiplicity)
    if wanted == "analytic" and problem is not None:
        raise ValueError(f"{problem}; or say forces_by: differences")
    return wanted or ("analytic" if problem is None else "differences")
