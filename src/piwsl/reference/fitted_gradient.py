"""The gradient of density-fitted MP2 on density-fitted restricted HF, which PySCF lacks.

Weigend, Häser, Theor. Chem. Acc. 97, 331 (1997), with other fitting functions for HF than for MP2, and frozen cores.
What is differentiated is a Lagrangian that is stationary in amplitudes and orbitals, so that these need no derivatives:
with f the Fock matrix, S the overlap, (ia|K) and (K|L) integrals over fitting functions, and a superscript for the
derivative by a coordinate of a nucleus at fixed orbitals,

    E^x = Σ P_pq f_pq^x + Σ Γ_ia^K (ia|K)^x - 1/2 Σ Γ_ia^K c_ia^L (K|L)^x - Σ W_pq S_pq^x.

P and Γ are densities of one electron and of a pair, c the coefficients of the fit, W what keeps orbitals orthonormal.
i, j are occupied orbitals, a, b empty ones, p, q any; Hartree and Bohr throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyscf import df, gto, scf
from pyscf.ao2mo.outcore import balance_partition
from pyscf.df.incore import LINEAR_DEP_THR
from pyscf.scf import cphf
from scipy.linalg import cho_factor, cho_solve

Array = NDArray[np.float64]

# Hartree, of what is left of the equations of the response. Where that is stiff, the gradient is as far off.
BALANCED = 1e-7
# PySCF's solver leaves some 1e-6 of what it begins with, and begins again with that.
MOST_CYCLES, MOST_STARTS = 100, 6
# Of the memory that PySCF may take, for integrals that are held at a time; what is made of them takes as much again.
BLOCK_SHARE = 0.1


class _Space(NamedTuple):
    """Orbitals of a restricted mean field."""

    orbitals: Array
    """(functions, functions)."""
    energies: Array
    """(functions,)."""
    frozen: int
    occupied: int
    """The frozen ones included."""

    @property
    def active(self) -> slice:
        """Occupied ones that are correlated."""
        return slice(self.frozen, self.occupied)

    @property
    def virtual(self) -> slice:
        """Empty ones."""
        return slice(self.occupied, None)

    def in_functions(self, matrix: Array) -> Array:
        """Return a matrix over orbitals, as of a density, over functions."""
        return self.orbitals @ matrix @ self.orbitals.T

    def in_orbitals(self, matrix: Array) -> Array:
        """Return a matrix over functions, as of an operator, over orbitals."""
        return self.orbitals.T @ matrix @ self.orbitals


class _Pairs(NamedTuple):
    """Densities of MP2 before orbitals respond."""

    density: Array
    """P, (orbitals, orbitals)."""
    gamma: Array
    """Γ, (active, fitting functions, virtual)."""
    fit: Array
    """c, likewise."""


def fitted_mp2_gradient(mean_field: scf.hf.RHF, frozen: int, ri_basis: Mapping[str, Any] | str) -> Array | None:
    """Differentiate the correlation energy of density-fitted MP2.

    Args:
        mean_field: converged restricted HF of closed shells, with density fitting.
        frozen: core orbitals left out, fewer than are occupied.
        ri_basis: fitting functions of the correlation.

    Returns:
        (N, 3), Hartree/Bohr, without the gradient of HF; None where the response of the orbitals does not converge.
    """
    molecule = mean_field.mol
    fitting = df.addons.make_auxmol(molecule, ri_basis)
    occupied = int(np.count_nonzero(mean_field.mo_occ))
    space = _Space(mean_field.mo_coeff, mean_field.mo_energy, frozen, occupied)
    pairs = _pairs(molecule, fitting, space)
    moments = _moments(molecule, fitting, space, pairs.gamma)
    response = mean_field.gen_response(hermi=1)

    def fock_of(density: Array) -> Array:
        """Return what a density adds to the Fock matrix, both over orbitals."""
        return space.in_orbitals(response(space.in_functions(density)))

    relaxed = _with_relaxation(space, pairs.density, moments, fock_of)
    if relaxed is None:
        return None
    density, fock = relaxed
    over_functions = space.in_functions(density)
    weighted = space.in_functions(_weighted(space, density, moments, fock))
    return (
        _of_one_electron(mean_field, over_functions, weighted)
        + _of_mean_field(mean_field, space, over_functions)
        + _of_pairs(molecule, fitting, space, pairs)
    )


def _pairs(molecule: gto.Mole, fitting: gto.Mole, space: _Space) -> _Pairs:
    """Return densities of MP2: those of all pairs with one occupied orbital at a time.

    With t_ij^ab = (ia|jb) / (e_i + e_j - e_a - e_b) and u = 2 t - t of exchanged a and b, P_ij = -2 Σ t_ik^ab u_jk^ab,
    P_ab = 2 Σ t_ij^ac u_ij^bc, Γ_ia^K = 4 Σ u_ij^ab c_jb^K.
    """
    occupied, empty = space.orbitals[:, space.active], space.orbitals[:, space.virtual]
    integrals = np.empty((occupied.shape[1], fitting.nao, empty.shape[1]))
    for of_block, three in _three_center(molecule, fitting):
        integrals[:, of_block] = np.einsum("kma,mi->ika", three @ empty, occupied, optimize=True)
    flat = _fitted(fitting, integrals.transpose(1, 0, 2).reshape(fitting.nao, -1))
    fit = np.ascontiguousarray(flat.reshape(fitting.nao, len(integrals), -1).transpose(1, 0, 2))
    gaps = space.energies[space.active, None] - space.energies[space.virtual]
    of_occupied, of_empty = np.zeros((len(fit), len(fit))), np.zeros((empty.shape[1],) * 2)
    gamma = np.zeros_like(fit)
    for j in range(len(fit)):
        amplitudes = np.tensordot(integrals, fit[j], axes=(1, 0)) / (gaps[:, :, None] + gaps[j])
        both = 2 * amplitudes - amplitudes.transpose(0, 2, 1)
        of_occupied -= 2 * np.tensordot(amplitudes, both, axes=((1, 2), (1, 2)))
        of_empty += 2 * np.tensordot(amplitudes, both, axes=((0, 2), (0, 2)))
        gamma += 4 * (fit[j] @ both.transpose(0, 2, 1))
    density = np.zeros((len(space.energies),) * 2)
    density[space.active, space.active], density[space.virtual, space.virtual] = of_occupied, of_empty
    return _Pairs(density, gamma, fit)


def _moments(molecule: gto.Mole, fitting: gto.Mole, space: _Space, gamma: Array) -> Array:
    """Return what Γ says of turning orbital q towards p, (orbitals, orbitals).

    M_pi = Σ (pa|K) Γ_ia^K for correlated i, M_pa = Σ (pi|K) Γ_ia^K; nothing of frozen orbitals.
    """
    occupied, empty = space.orbitals[:, space.active], space.orbitals[:, space.virtual]
    found = np.zeros_like(space.orbitals)
    for of_block, three in _three_center(molecule, fitting):
        own = gamma[:, of_block]
        half = np.einsum("na,ika->kni", empty, own, optimize=True)
        found[:, space.active] += np.tensordot(three, half, axes=((0, 2), (0, 1)))
        found[:, space.virtual] += np.tensordot(three @ occupied, own, axes=((0, 2), (1, 0)))
    return space.orbitals.T @ found


def _with_relaxation(
    space: _Space, density: Array, moments: Array, fock_of: Callable[[Array], Array]
) -> tuple[Array, Array] | None:
    """Return P with the response of orbitals, frozen to correlated and occupied to empty, and its Fock matrix.

    Where the Lagrangian is stationary, W is symmetric (Z-vector method: Handy, Schaefer, J. Chem. Phys. 81, 5031
    (1984)); within the occupied orbitals that is an equation of each pair alone.
    """
    core, active, full, empty = slice(0, space.frozen), space.active, slice(0, space.occupied), space.virtual
    found = density.copy()
    energies = space.energies
    found[core, active] = -0.5 * moments[core, active] / (energies[core, None] - energies[active])
    found[active, core] = found[core, active].T
    fock = fock_of(found)
    unbalanced = 0.5 * (moments[empty, full] - moments[full, empty].T) + 2 * fock[empty, full]

    def turned(turn: Array) -> Array:
        """Return a density of occupied orbitals that turn towards empty ones."""
        of_turn = np.zeros_like(density)
        of_turn[empty, full] = turn.reshape(unbalanced.shape)
        return of_turn + of_turn.T

    def balanced_by(turn: Array) -> Array:
        return 2 * fock_of(turned(turn))[empty, full]

    turn = _solved(balanced_by, energies[empty, None] - energies[full], unbalanced)
    if turn is None:
        return None
    return found + turned(turn), fock + fock_of(turned(turn))


def _solved(response: Callable[[Array], Array], gaps: Array, right: Array) -> Array | None:
    """Return x of gaps x + response(x) + right = 0, each (virtual, occupied), Hartree; None where PySCF finds none."""
    empty, occupied = right.shape
    energies, occupations = np.append(gaps[:, 0], gaps[0, 0] - gaps[0]), np.repeat([0, 2], [empty, occupied])
    found, rest = np.zeros_like(right), right
    for _ in range(MOST_STARTS):
        largest = np.abs(rest).max()
        if largest < BALANCED:
            break
        # PySCF measures what is left in units of the gap.
        options = {"max_cycle": MOST_CYCLES, "tol": 0.1 * BALANCED / (largest * gaps.max()), "verbose": 0}
        try:
            step, _ = cphf.solve(response, energies, occupations, rest / largest, **options)
        except RuntimeError:  # it did not converge
            return None
        found = found + largest * step
        rest = gaps * found + response(found) + right
    return found if np.abs(rest).max() < BALANCED else None


def _weighted(space: _Space, density: Array, moments: Array, fock: Array) -> Array:
    """Return W: half of what the rest of the Lagrangian changes by where orbital q turns towards p."""
    found = space.energies[:, None] * density + 0.5 * moments
    found[:, : space.occupied] += 2 * fock[:, : space.occupied]
    return 0.5 * (found + found.T)


def _of_one_electron(mean_field: scf.hf.RHF, density: Array, weighted: Array) -> Array:
    """Return Σ P h^x - Σ W S^x, (N, 3); both densities are over functions."""
    molecule = mean_field.mol
    derivative = scf.hf.RHF(molecule).nuc_grad_method()
    core = derivative.hcore_generator(molecule)
    overlap = derivative.get_ovlp(molecule)
    found = np.empty((molecule.natm, 3))
    for atom, (*_, first, last) in enumerate(molecule.aoslice_by_atom()):
        found[atom] = np.einsum("xmn,mn->x", core(atom), density)
        found[atom] -= 2 * np.einsum("xmn,mn->x", overlap[:, first:last], weighted[first:last])
    return found


def _of_mean_field(mean_field: scf.hf.RHF, space: _Space, density: Array) -> Array:
    """Return the two-electron part of Σ P f^x, (N, 3), for P over functions: Coulomb and exchange with all electrons.

    Of Σ P_mn [ (mn|rs) - (mr|ns)/2 ] D_rs, fitted, with D twice the projector on occupied orbitals.
    """
    molecule, fitting = mean_field.mol, mean_field.with_df.auxmol
    filled = space.orbitals[:, : space.occupied]
    own = 2 * filled @ filled.T
    charges = np.empty((2, fitting.nao))
    orbitals = np.empty((fitting.nao, len(filled), space.occupied))
    for of_block, three in _three_center(molecule, fitting):
        charges[:, of_block] = np.tensordot([own, density], three, axes=((1, 2), (1, 2)))
        orbitals[of_block] = three @ filled
    of_own, of_density = _fitted(fitting, charges.T).T
    fit = _fitted(fitting, orbitals.reshape(fitting.nao, -1)).reshape(orbitals.shape)
    exchanged = density @ fit

    def three_center_density(block: slice) -> Array:
        """Return what integrals over functions and fitting functions are multiplied by."""
        coulomb = np.multiply.outer(of_own[block], density) + np.multiply.outer(of_density[block], own)
        return coulomb - 2 * exchanged[block] @ filled.T

    both = np.tensordot(exchanged, fit, axes=((1, 2), (1, 2))) - np.outer(of_own, of_density)
    return _derivative(molecule, fitting, three_center_density, both)


def _of_pairs(molecule: gto.Mole, fitting: gto.Mole, space: _Space, pairs: _Pairs) -> Array:
    """Return what Γ is multiplied by, (N, 3)."""
    occupied, empty = space.orbitals[:, space.active], space.orbitals[:, space.virtual]

    def three_center_density(block: slice) -> Array:
        return np.einsum("mi,ika,na->kmn", occupied, pairs.gamma[:, block], empty, optimize=True)

    both = -0.5 * np.tensordot(pairs.gamma, pairs.fit, axes=((0, 2), (0, 2)))
    return _derivative(molecule, fitting, three_center_density, both)


def _derivative(molecule: gto.Mole, fitting: gto.Mole, three: Callable[[slice], Array], two: Array) -> Array:
    """Return Σ three_Kmn (mn|K)^x + Σ two_KL (K|L)^x, (N, 3).

    An integral that is moved as a whole stays what it is, so that derivatives by the atom of K follow from the others.

    Args:
        molecule: of the functions m, n.
        fitting: of the functions K, L.
        three: gives those of a block of fitting functions, (K, functions, functions).
        two: (K, L).
    """
    of_functions, of_fitting = np.zeros((3, molecule.nao)), np.zeros((3, fitting.nao))
    for block, derivatives in _three_center(molecule, fitting, "int3c2e_ip1"):
        density = three(block)
        density = density + density.transpose(0, 2, 1)
        for axis, own in enumerate(derivatives):
            products = np.einsum("knm,knm->km", own, density)
            of_functions[axis] -= products.sum(axis=0)
            of_fitting[axis, block] += products.sum(axis=1)
    of_fitting -= np.einsum("xkl,kl->xk", fitting.intor("int2c2e_ip1", comp=3), two + two.T)
    return np.array(
        [
            of_functions[:, first:last].sum(axis=1) + of_fitting[:, first_fitting:last_fitting].sum(axis=1)
            for (*_, first, last), (*_, first_fitting, last_fitting) in zip(
                molecule.aoslice_by_atom(), fitting.aoslice_by_atom(), strict=True
            )
        ]
    )


def _fitted(fitting: gto.Mole, integrals: Array) -> Array:
    """Return coefficients of fitting functions, (K, anything), for integrals over them.

    Where functions depend on each other, of those that do not, as PySCF fits.
    """
    metric = fitting.intor("int2c2e")
    try:
        return np.asarray(cho_solve(cho_factor(metric, lower=True), integrals))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(metric)
        kept = values > LINEAR_DEP_THR
        return np.asarray(vectors[:, kept] @ ((vectors[:, kept].T @ integrals) / values[kept, None]))


def _three_center(molecule: gto.Mole, fitting: gto.Mole, kind: str = "int3c2e") -> Iterator[tuple[slice, Array]]:
    """Yield integrals (mn|K) of some fitting functions at a time: (K, n, m), of derivatives by m (3, K, n, m)."""
    components = 3 if kind == "int3c2e_ip1" else 1
    most = max(1, int(BLOCK_SHARE * molecule.max_memory * 1e6 / (8 * components * molecule.nao**2)))
    starts = fitting.ao_loc_nr()
    for first, last, _ in balance_partition(starts, most):
        shells = (0, molecule.nbas, 0, molecule.nbas, first, last)
        found = df.incore.aux_e2(molecule, fitting, kind, aosym="s1", comp=components, shls_slice=shells)
        turned = found.reshape(components, *found.shape[-3:]).transpose(0, 3, 2, 1)
        yield slice(starts[first], starts[last]), turned if components == 3 else turned[0]
