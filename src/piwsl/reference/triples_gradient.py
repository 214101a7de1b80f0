"""What perturbative triples add to the multipliers and densities of CCSD, for the gradient of restricted CCSD(T).

Rendell, Lee, J. Chem. Phys. 94, 6219 (1991); spin-summed as in Zhang, Valeev, J. Chem. Phys. 147, 044104 (2017), which
PySCF follows, whose gradient of CCSD takes them. PySCF makes amplitudes of triples three times over; here they are made
once, for all i and a pair j, k at a time. i to m are occupied orbitals, a to f empty ones, canonical all; (ia|jb) are
integrals in the order of charges.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyscf import cc, lib
from pyscf.cc import ccsd_lambda, ccsd_rdm
from pyscf.grad import ccsd as ccsd_gradient

Array = NDArray[np.float64]

MOST_CYCLES = 100


class _Integrals(NamedTuple):
    """What triples are made of."""

    ovvv: Array
    ovoo: Array
    ovov: Array
    gaps: Array
    """(occupied, virtual), Hartree: e_i - e_a."""


class _Triples:
    """Sums over all triples."""

    def __init__(self, o: int, v: int) -> None:
        """Begin with zeros, of so many occupied and empty orbitals."""
        self.singles, self.doubles = np.zeros((o, v)), np.zeros((o, o, v, v))
        """What equations of multipliers have in addition."""
        self.oo, self.vv, self.vo = np.zeros((o, o)), np.zeros((v, v)), np.zeros((v, o))
        """What the density of one electron has."""
        self.ovov, self.ooov, self.ovvv = np.zeros((o, v, o, v)), np.zeros((o, o, o, v)), np.zeros((o, v, v, v))
        """What that of pairs has."""


def triples_gradient(solver: cc.ccsd.CCSD, eris: Any, tolerance: float) -> Array | None:
    """Differentiate the total energy by CCSD(T).

    Args:
        solver: converged restricted CCSD, on conventional integrals and canonical orbitals.
        eris: its integrals.
        tolerance: of the multipliers.

    Returns:
        (N, 3), Hartree/Bohr; None where the multipliers do not converge.
    """
    t1, t2 = solver.t1, solver.t2
    triples = _sum_of_triples(t1, t2, eris)
    converged, l1, l2 = ccsd_lambda.kernel(
        solver, eris, t1, t2, max_cycle=MOST_CYCLES, tol=tolerance, verbose=0, fupdate=_updating(triples)
    )
    if not converged:
        return None
    doo, dov, dvo, dvv = ccsd_rdm._gamma1_intermediates(solver, t1, t2, l1, l2)
    one = doo - 0.5 * triples.oo, dov, dvo + 0.5 * triples.vo, dvv + 0.5 * triples.vv
    dovov, *others, dovvv, dooov = ccsd_rdm._gamma2_intermediates(solver, t1, t2, l1, l2, compress_vvvv=True)
    pairs = dovov + 0.5 * triples.ovov, *others, dovvv + triples.ovvv, dooov - triples.ooov
    gradient = solver.nuc_grad_method()
    electronic = ccsd_gradient.grad_elec(gradient, t1, t2, l1, l2, eris, None, one, pairs, lib.logger.QUIET)
    return np.asarray(electronic + gradient.grad_nuc())


def _updating(triples: _Triples) -> Callable[..., tuple[Array, Array]]:
    def update(*arguments: Any) -> tuple[Array, Array]:
        l1, l2 = ccsd_lambda.update_lambda(*arguments)
        return l1 + triples.singles, l2 + triples.doubles

    return update


def _sum_of_triples(t1: Array, t2: Array, eris: Any) -> _Triples:
    occupied, empty = t1.shape
    gaps = eris.mo_energy[:occupied, None] - eris.mo_energy[occupied:]
    integrals = _Integrals(np.asarray(eris.get_ovvv()), np.asarray(eris.ovoo), np.asarray(eris.ovov), gaps)
    found = _Triples(occupied, empty)
    for j, k in combinations_with_replacement(range(occupied), 2):
        connected, disconnected = _amplitudes(t1, t2, integrals, j, k)
        _add(found, t1, t2, integrals, j, k, connected, disconnected)
        if j != k:
            _add(found, t1, t2, integrals, k, j, connected.transpose(0, 1, 3, 2), disconnected.transpose(0, 1, 3, 2))
    found.singles /= gaps
    found.doubles = found.doubles + found.doubles.transpose(1, 0, 3, 2)
    found.doubles /= gaps[:, None, :, None] + gaps[:, None]
    return found


def _amplitudes(t1: Array, t2: Array, integrals: _Integrals, j: int, k: int) -> tuple[Array, Array]:
    """Return connected and disconnected amplitudes of triples i, j, k for all i, (i, a, b, c).

    W = P [ Σ (ia|bf) t_jk^fc - Σ (ia|jm) t_mk^bc ] / D of all six orders of the pairs ia, jb, kc, and
    V = [ (ia|jb) t_k^c + (ia|kc) t_j^b + (jb|kc) t_i^a ] / D.
    """
    ovvv, ovoo, ovov, gaps = integrals
    o, v = t1.shape
    shape = (o, v, v, v)

    def half(j: int, k: int) -> Array:
        """Return three of the orders; the others are those of j and k exchanged, with b and c exchanged."""
        found = (ovvv.reshape(-1, v) @ t2[j, k]).reshape(shape)
        found += (t2[:, k].reshape(-1, v) @ ovvv[j].transpose(1, 0, 2).reshape(v, -1)).reshape(shape)
        found += np.tensordot(ovvv[j], t2[:, k], axes=(2, 1)).transpose(2, 1, 0, 3)
        found -= (ovoo[:, :, j].reshape(-1, o) @ t2[:, k].reshape(o, -1)).reshape(shape)
        found -= np.tensordot(ovoo[j], t2[:, k], axes=(2, 0)).transpose(1, 2, 0, 3)
        found -= np.tensordot(t2, ovoo[j, :, k], axes=(1, 1)).transpose(0, 1, 3, 2)
        return found

    connected = half(j, k) + half(k, j).transpose(0, 1, 3, 2)
    disconnected = ovov[:, :, j, :, None] * t1[k]
    disconnected += ovov[:, :, k, None, :] * t1[j][:, None]
    disconnected += t1[:, :, None, None] * ovov[j, :, k]
    denominators = gaps[:, :, None, None] + gaps[j][:, None] + gaps[k]
    return connected / denominators, disconnected / denominators


def _add(
    found: _Triples, t1: Array, t2: Array, integrals: _Integrals, j: int, k: int, connected: Array, disconnected: Array
) -> None:
    """Add triples i, j, k of all i to the sums; those of k, j are another call."""
    ovvv, ovoo, ovov, _ = integrals
    o, v = t1.shape
    of_energy = _spin_summed(connected)
    both = 2 * connected + disconnected
    found.singles += 0.5 * np.tensordot(of_energy, ovov[j, :, k], axes=2)
    of_multipliers = 2 * both - both.transpose(0, 3, 2, 1) - both.transpose(0, 1, 3, 2)
    found.doubles[:, j] += (of_multipliers.reshape(-1, v * v) @ ovvv[k].transpose(2, 0, 1).reshape(v * v, v)).reshape(
        o, v, v
    )
    found.doubles -= np.tensordot(of_multipliers, ovoo[k, :, j], axes=(3, 0)).transpose(0, 3, 1, 2)
    amplitudes = connected + disconnected
    found.oo += np.tensordot(amplitudes, of_energy, axes=((1, 2, 3), (1, 2, 3)))
    found.vv += np.tensordot(amplitudes, of_energy, axes=((0, 2, 3), (0, 2, 3)))
    found.vo[:, k] += np.tensordot(t2[:, j], of_energy, axes=3)
    found.ovov[:, :, j] += of_energy @ t1[k]
    summed = _spin_summed(both)
    found.ooov[j] += np.tensordot(t2[:, k], summed, axes=((1, 2), (2, 3)))
    found.ovvv += (summed.reshape(-1, v) @ t2[k, j]).reshape(o, v, v, v).transpose(0, 1, 3, 2)


def _spin_summed(triples: Array) -> Array:
    """Return what amplitudes (i, a, b, c) count for where spins are summed over."""
    even = 4 * triples + triples.transpose(0, 2, 3, 1) + triples.transpose(0, 3, 1, 2)
    odd = triples.transpose(0, 3, 2, 1) + triples.transpose(0, 1, 3, 2) + triples.transpose(0, 2, 1, 3)
    return even - 2 * odd
