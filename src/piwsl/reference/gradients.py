"""Which parts of a level have a gradient that is right, of PySCF or of the project."""

from __future__ import annotations

from pyscf.dft import libxc
from pyscf.scf.dispersion import parse_dft

from piwsl.config import Stage
from piwsl.reference.engines.pyscf import PySCF


def gradient_problem(level: PySCF, multiplicity: int) -> str | None:
    """Say why a level has no analytic gradient, or None where it has.

    Each refusal is of a gradient that is lacking, or that PySCF 2.14 gets wrong without saying so; each that is offered
    is tested against finite differences.

    Args:
        level: the level of theory.
        multiplicity: 2S + 1 of the structure.
    """
    open_shell = level.is_open_shell(multiplicity)
    for stage in level.stages:
        problem = _stage_problem(stage, open_shell, level.orbitals == "restricted")
        if problem is not None:
            return f"{stage} has no analytic gradient: {problem}"
    return None


def _stage_problem(stage: Stage, open_shell: bool, restricted: bool) -> str | None:
    if stage.functional is not None and has_nonlocal_correlation(stage.functional):
        return "that of nonlocal (VV10) correlation is not checked against differences; use a D3 or D4 form"
    if stage.method in ("hf", "dft"):
        return None
    if stage.natural_orbitals is not None:
        return "PySCF has none for natural orbitals that are cut off"
    if stage.density_fitting and stage.method == "mp2":
        return "there is none for density-fitted MP2 of open shells; set density_fitting: false" if open_shell else None
    if stage.density_fitting:
        return "PySCF's is wrong for density-fitted coupled cluster; set density_fitting: false"
    if open_shell and restricted:
        return "PySCF has none of correlation on restricted orbitals of open shells"
    if stage.method == "ccsd(t)" and open_shell:
        return "PySCF's is wrong for unrestricted CCSD(T)"
    return None


def has_nonlocal_correlation(functional: str) -> bool:
    """Whether PySCF adds VV10 to a functional; forms with D3 or D4 in their name switch it off."""
    bare, nonlocal_part, _ = parse_dft(functional)
    return nonlocal_part is not False and bool(libxc.is_nlc(bare))
