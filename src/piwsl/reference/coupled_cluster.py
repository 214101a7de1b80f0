"""What coupled cluster starts from: its orbitals, natural ones where they are cut off, its integrals and amplitudes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyscf import cc, df, gto, lib, mp, scf
from pyscf.cc import ccsd, dfccsd, dfuccsd, uccsd
from pyscf.mp.dfmp2 import DFMP2
from pyscf.mp.dfump2 import DFUMP2

from piwsl.reference.failures import FrameFailure

# Of what is left of the memory of a job.
LADDER_SHARE = 0.4

RIBasis = Mapping[str, Any] | str | None


class Amplitudes(NamedTuple):
    """Converged amplitudes of coupled cluster, with the orbitals that they belong to.

    All are of each spin where orbitals of both differ, and once where they are the same.
    """

    molecule: gto.Mole
    occupied: tuple[NDArray[np.float64], ...]
    """(functions, occupied); only those that are correlated."""
    virtual: tuple[NDArray[np.float64], ...]
    """(functions, virtual)."""
    singles: Any
    """As PySCF has them: (occupied, virtual), or a tuple of two."""
    doubles: Any
    """(occupied, occupied, virtual, virtual), or a tuple of three: αα, αβ, ββ."""

    @property
    def kept(self) -> tuple[int, ...]:
        """How many virtual orbitals there are."""
        return tuple(orbitals.shape[1] for orbitals in self.virtual)


class Space(NamedTuple):
    """The orbitals that coupled cluster correlates."""

    frozen: Any
    """As PySCF takes them: a number of core orbitals, or which orbitals, of each spin."""
    orbitals: Any = None
    """(functions, functions), of each spin; those of the mean field by default."""
    mp2: float | None = None
    """Hartree: MP2's correlation energy before anything is cut off."""


def mp2_solver(mean_field: scf.hf.SCF, frozen: int, ri_basis: RIBasis) -> mp.mp2.MP2Base:
    """Return PySCF's MP2, not yet run.

    Args:
        mean_field: converged HF.
        frozen: core orbitals left out.
        ri_basis: auxiliary basis of fitted integrals; None for conventional ones.
    """
    if ri_basis is None:
        return mp.MP2(mean_field, frozen=frozen)
    solver = (DFUMP2 if isinstance(mean_field, scf.uhf.UHF) else DFMP2)(mean_field, frozen=frozen)
    # Without this PySCF reuses the fitting basis of Coulomb and exchange.
    solver.with_df = df.DF(mean_field.mol, auxbasis=ri_basis)
    return solver


def natural_orbitals(
    mean_field: scf.hf.SCF, frozen: int, ri_basis: RIBasis, threshold: float, kept: tuple[int, ...] | None
) -> Space:
    """Cut off the virtual natural orbitals of MP2 that are hardly occupied.

    Taube, Bartlett, J. Chem. Phys. 128, 164101 (2008); DePrince, Sherrill, J. Chem. Theory Comput. 9, 2687 (2013). For
    unrestricted orbitals occupations are twice those of a spin, as if both were alike. At least one is kept.

    Args:
        mean_field: converged HF.
        frozen: core orbitals left out.
        ri_basis: auxiliary basis of fitted integrals; None for conventional ones.
        threshold: occupation, in electrons, above which an orbital is kept.
        kept: keep so many in place of those above the threshold, of each spin: of geometries that lie near each other
            the energy is a smooth function then.
    """
    solver = mp2_solver(mean_field, frozen, ri_basis)
    solver.kernel()
    if kept is None:
        kept = tuple(max(1, count) for count in _kept(solver, *solver.make_fno(thresh=threshold)))
    left_out, orbitals = solver.make_fno(nvir_act=list(kept) if len(kept) > 1 else kept[0])
    return Space(left_out, orbitals, float(solver.e_corr))


def _kept(solver: mp.mp2.MP2Base, left_out: Any, orbitals: Any) -> tuple[int, ...]:
    """Count the virtual orbitals that are not left out, of each spin."""
    if isinstance(solver.nocc, tuple):
        each = zip(orbitals, left_out, solver.nocc, strict=True)
        return tuple(own.shape[1] - len(out) - occupied for own, out, occupied in each)
    return (orbitals.shape[1] - len(left_out) - solver.nocc,)


def ccsd_solver(mean_field: scf.hf.SCF, space: Space, ri_basis: RIBasis) -> ccsd.CCSDBase:
    """Return PySCF's CCSD, not yet run; arguments as of `mp2_solver`."""
    if ri_basis is None:
        return cc.CCSD(mean_field, frozen=space.frozen, mo_coeff=space.orbitals)
    fitted = df.DF(mean_field.mol, auxbasis=ri_basis)
    kind = dfuccsd.UCCSD if isinstance(mean_field, scf.uhf.UHF) else dfccsd.RCCSD
    solver = kind(mean_field, frozen=space.frozen, mo_coeff=space.orbitals)
    solver.with_df = fitted
    return _of_one_spin(solver, fitted, space) if 0 in (*np.ravel(solver.nocc), *virtual_of(solver)) else solver


def _of_one_spin(solver: ccsd.CCSDBase, fitted: df.DF, space: Space) -> uccsd.UCCSD:
    """Return CCSD on fitted integrals where a spin has no orbitals of a kind, of which PySCF can store no fitted ones.

    The fitted integrals over basis functions are multiplied out: there are few electrons, or few functions.
    """
    mean_field = solver._scf.copy()
    mean_field._eri = fitted.get_eri()
    found = uccsd.UCCSD(mean_field, frozen=space.frozen, mo_coeff=space.orbitals)
    found.incore_complete = True
    return found


def virtual_of(solver: ccsd.CCSDBase) -> list[int]:
    """Count the virtual orbitals that CCSD correlates, of each spin, or of both."""
    return (np.ravel(solver.nmo) - np.ravel(solver.nocc)).tolist()


def triples_energy(solver: ccsd.CCSDBase, integrals: Any) -> float:
    """Return the energy of perturbative triples of a converged CCSD, Hartree.

    Raises:
        FrameFailure: no virtual orbital of one spin is left, and there are triples of the other, which PySCF has not.
    """
    if 0 not in virtual_of(solver):
        return float(solver.ccsd_t(eris=integrals))
    if min(np.ravel(solver.nocc)[-1], virtual_of(solver)[-1]) < 3:
        return 0.0
    raise FrameFailure(
        f"ccsd(t)/{solver.mol.basis}", "no virtual orbital of one spin is left in this basis; take a larger one"
    )


def integrals_of(solver: ccsd.CCSDBase) -> Any:
    """Return the integrals of CCSD in its orbitals.

    PySCF makes those of four virtual orbitals anew in each cycle where they are fitted, which takes most of the time:
    they are made once where they fit into memory.
    """
    integrals = solver.ao2mo()
    pairs = {name: getattr(integrals, name) for name in ("vvL", "VVL") if hasattr(integrals, name)}
    needed_mb = sum(8e-6 * len(each) ** 2 for each in pairs.values()) * (1.5 if len(pairs) > 1 else 1.0)
    if not pairs or needed_mb > LADDER_SHARE * (solver.max_memory - lib.current_memory()[0]):
        return integrals
    in_core = copy.copy(integrals)
    fitted = {name: each[:] for name, each in pairs.items()}
    in_core.vvvv = lib.ddot(fitted["vvL"], fitted["vvL"].T)
    if len(fitted) > 1:
        in_core.VVVV = lib.ddot(fitted["VVL"], fitted["VVL"].T)
        in_core.vvVV = lib.ddot(fitted["vvL"], fitted["VVL"].T)
    in_core.__class__ = uccsd._ChemistsERIs if len(fitted) > 1 else ccsd._ChemistsERIs
    return in_core


def amplitudes_of(solver: ccsd.CCSDBase, integrals: Any) -> Amplitudes:
    """Return what a converged CCSD found."""
    unrestricted = isinstance(solver.t1, tuple)
    orbitals = integrals.mo_coeff if unrestricted else (integrals.mo_coeff,)
    occupied = integrals.nocc if unrestricted else (integrals.nocc,)
    each = list(zip(orbitals, occupied, strict=True))
    return Amplitudes(
        solver.mol,
        tuple(own[:, :count] for own, count in each),
        tuple(own[:, count:] for own, count in each),
        solver.t1,
        solver.t2,
    )


def in_orbitals_of(solver: ccsd.CCSDBase, integrals: Any, near: Amplitudes) -> tuple[Any, Any]:
    """Return amplitudes of a geometry near by in the orbitals of this one, to start from.

    Orbitals may have turned among each other and changed sign. The unitary matrix that is nearest to the overlap of
    both sets turns one into the other.

    Args:
        solver: CCSD, of as many orbitals.
        integrals: its own.
        near: amplitudes of the geometry near by.

    Returns:
        Singles and doubles, as PySCF has them.
    """
    unrestricted = len(near.virtual) > 1
    orbitals = integrals.mo_coeff if unrestricted else (integrals.mo_coeff,)
    overlap = gto.intor_cross("int1e_ovlp", near.molecule, solver.mol)
    turns = [
        (_turn(occupied.T @ overlap @ own[:, :count]), _turn(virtual.T @ overlap @ own[:, count:]))
        for occupied, virtual, own in zip(near.occupied, near.virtual, orbitals, strict=True)
        for count in [occupied.shape[1]]
    ]
    spins = [(0, 0), (0, 1), (1, 1)] if unrestricted else [(0, 0)]
    singles = [
        o.T @ own @ v for own, (o, v) in zip(near.singles if unrestricted else [near.singles], turns, strict=True)
    ]
    doubles = [
        lib.einsum("ijab,ik,jl,ac,bd->klcd", own, turns[a][0], turns[b][0], turns[a][1], turns[b][1])
        for own, (a, b) in zip(near.doubles if unrestricted else [near.doubles], spins, strict=True)
    ]
    return (tuple(singles), tuple(doubles)) if unrestricted else (singles[0], doubles[0])


def _turn(overlap: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unitary matrix that is nearest to a square one (polar decomposition)."""
    left, _, right = np.linalg.svd(overlap)
    return left @ right
