"""Correlation energies and their gradients with PySCF: MP2, CCSD, CCSD(T), from converged orbitals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyscf import cc, mp, scf

from piwsl.reference.coupled_cluster import (
    Amplitudes,
    RIBasis,
    Space,
    amplitudes_of,
    ccsd_solver,
    in_orbitals_of,
    integrals_of,
    mp2_solver,
    natural_orbitals,
    triples_energy,
)
from piwsl.reference.failures import FrameFailure
from piwsl.reference.fitted_gradient import fitted_mp2_gradient
from piwsl.reference.restricted_open import semicanonical
from piwsl.reference.triples_gradient import triples_gradient

Gradient = NDArray[np.float64]

CC_TOLERANCE_HARTREE = 1e-9
CC_AMPLITUDE_TOLERANCE = 1e-6
# Of energies that are differentiated: those of displaced geometries are of a smooth curve within 1e-9 Hartree, and
# gradients, which are of first order in what is left, are right within 1e-7 Hartree/Bohr.
DIFFERENTIATED_AMPLITUDE_TOLERANCE = 2e-7
LAMBDA_TOLERANCE = 1e-7


class Correlation(NamedTuple):
    """What the correlated methods gave from one mean field."""

    energies: dict[str, float]
    """Hartree, by method: the correlation energy."""
    gradients: dict[str, Gradient]
    """(N, 3), Hartree/Bohr, by method where wanted: of the correlation energy, response of the orbitals included."""
    notes: dict[str, Any]
    amplitudes: Amplitudes | None = None
    """Of coupled cluster."""


def correlate(
    mean_field: scf.hf.SCF,
    methods: set[str],
    frozen: int,
    ri_basis: RIBasis,
    own_gradient: Gradient | None,
    threshold: float | None = None,
    near: Amplitudes | None = None,
) -> Correlation:
    """Compute correlation energies from converged orbitals.

    Args:
        mean_field: converged HF.
        methods: of mp2, ccsd, ccsd(t).
        frozen: core orbitals left out.
        ri_basis: auxiliary basis, of each element, of density-fitted correlation; None for conventional integrals.
        own_gradient: of the mean field, (N, 3) in Hartree/Bohr: correlation is differentiated, too, where
            `gradient_problem` has nothing to say.
        threshold: occupation above which coupled cluster keeps virtual natural orbitals; None keeps all orbitals.
        near: amplitudes of a geometry near by: coupled cluster starts from them, and keeps as many orbitals.

    Raises:
        FrameFailure: amplitudes or multipliers do not converge.
    """
    if _correlates_with_nothing(mean_field, frozen):
        zero = {} if own_gradient is None else dict.fromkeys(methods, np.zeros_like(own_gradient))
        return Correlation(dict.fromkeys(methods, 0.0), zero, {})
    singles = 0.0
    if isinstance(mean_field, scf.rohf.ROHF):
        mean_field, singles = semicanonical(mean_field, frozen)
    if methods & {"ccsd", "ccsd(t)"}:
        space = Space(frozen)
        if threshold is not None:
            space = natural_orbitals(mean_field, frozen, ri_basis, threshold, near and near.kept)
        return _coupled_cluster(mean_field, methods, space, ri_basis, own_gradient, near, singles)
    solver = mp2_solver(mean_field, frozen, ri_basis)
    solver.kernel()
    gradients = {} if own_gradient is None else {"mp2": _mp2_gradient(mean_field, solver, ri_basis, own_gradient)}
    return Correlation({"mp2": float(solver.e_corr) + singles}, gradients, {})


def _mp2_gradient(
    mean_field: scf.hf.SCF, solver: mp.mp2.MP2Base, ri_basis: RIBasis, own_gradient: Gradient
) -> Gradient:
    if ri_basis is None:
        return solver.nuc_grad_method().kernel() - own_gradient
    found = fitted_mp2_gradient(mean_field, solver.frozen, ri_basis)
    if found is None:
        raise FrameFailure(f"mp2/{mean_field.mol.basis} gradient", "response of the orbitals not converged")
    return found


def _correlates_with_nothing(mean_field: scf.hf.SCF, frozen: int) -> bool:
    """Whether less than two electrons are correlated, or all orbitals of both spins are occupied."""
    orbitals = np.shape(mean_field.mo_coeff)[-1]
    return mean_field.mol.nelectron - 2 * frozen < 2 or orbitals == min(mean_field.mol.nelec)


def _coupled_cluster(
    mean_field: scf.hf.SCF,
    methods: set[str],
    space: Space,
    ri_basis: RIBasis,
    own_gradient: Gradient | None,
    near: Amplitudes | None,
    singles: float,
) -> Correlation:
    solver = ccsd_solver(mean_field, space, ri_basis)
    solver.conv_tol = CC_TOLERANCE_HARTREE
    solver.conv_tol_normt = CC_AMPLITUDE_TOLERANCE if own_gradient is None else DIFFERENTIATED_AMPLITUDE_TOLERANCE
    solver.max_cycle = 100
    integrals = integrals_of(solver)
    truncated_mp2, *start = solver.init_amps(integrals)
    if near is not None:
        start = in_orbitals_of(solver, integrals, near)
        solver.conv_tol_normt = DIFFERENTIATED_AMPLITUDE_TOLERANCE
    solver.kernel(*start, eris=integrals)
    if not solver.converged:
        raise FrameFailure(f"ccsd/{mean_field.mol.basis}", f"amplitudes not converged in {solver.max_cycle} cycles")
    # The MP2 energy of the same orbitals and integrals is the first step of the amplitudes. What it lacks by the
    # orbitals that are cut off is added to coupled cluster's, so that [CCSD(T) - MP2] is of one space.
    mp2 = float(truncated_mp2) if space.mp2 is None else space.mp2
    energies = {"mp2": mp2 + singles, "ccsd": float(solver.e_corr) + mp2 - float(truncated_mp2)}
    if "ccsd(t)" in methods:
        energies["ccsd(t)"] = energies["ccsd"] + triples_energy(solver, integrals)
    differentiate: dict[str, Callable[[], Gradient]] = {
        "mp2": lambda: mp.MP2(mean_field, frozen=space.frozen).run().nuc_grad_method().kernel(),
        "ccsd": lambda: _ccsd_gradient(solver, integrals),
        "ccsd(t)": lambda: _triples_gradient(solver, integrals),
    }
    amplitudes = amplitudes_of(solver, integrals)
    notes: dict[str, Any] = {"t1_diagnostic": t1_diagnostic(solver.t1), "ccsd_cycles": solver.cycles}
    if space.mp2 is not None:
        notes["virtual_orbitals"] = list(amplitudes.kept)
    return Correlation(
        {method: energies[method] for method in methods},
        {} if own_gradient is None else {method: differentiate[method]() - own_gradient for method in methods},
        notes,
        amplitudes,
    )


def _ccsd_gradient(solver: cc.ccsd.CCSD, integrals: Any) -> Gradient:
    solver.conv_tol_normt = LAMBDA_TOLERANCE
    solver.solve_lambda(eris=integrals)
    if not solver.converged_lambda:
        raise FrameFailure(f"ccsd/{solver.mol.basis} gradient", "multipliers not converged")
    return solver.nuc_grad_method().kernel(solver.t1, solver.t2, solver.l1, solver.l2, eris=integrals)


def _triples_gradient(solver: cc.ccsd.CCSD, integrals: Any) -> Gradient:
    found = triples_gradient(solver, integrals, LAMBDA_TOLERANCE)
    if found is None:
        raise FrameFailure(f"ccsd(t)/{solver.mol.basis} gradient", "multipliers not converged")
    return found


def t1_diagnostic(amplitudes: NDArray[np.float64] | tuple[NDArray[np.float64], ...]) -> float:
    """Return the T1 diagnostic, |t1| / √N over the N correlated electrons.

    Lee, Taylor, Int. J. Quantum Chem. Symp. 23, 199 (1989). For unrestricted orbitals |t1|² is the mean over both
    spins, which is the same number where the two are alike.

    Args:
        amplitudes: (occupied, virtual) singles, or one such array for each spin.
    """
    alpha, beta = amplitudes if isinstance(amplitudes, tuple) else (amplitudes, amplitudes)
    electrons = len(alpha) + len(beta)
    return float(np.sqrt((np.sum(alpha**2) + np.sum(beta**2)) / 2.0 / electrons))
