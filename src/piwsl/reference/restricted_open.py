"""Restricted open-shell orbitals made ready for correlation: semicanonical ones, and the energy of their singles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyscf import scf


def semicanonical(mean_field: scf.rohf.ROHF, frozen: int) -> tuple[scf.uhf.UHF, float]:
    """Turn converged ROHF orbitals so that each spin's Fock matrix is diagonal among the occupied and the empty ones.

    Orbitals of the two spins differ then, and the determinant stays what it is. Perturbation theory on it, ROHF-MBPT,
    has a term of single excitations, for Fock matrices keep elements between occupied and empty orbitals:
    Σ_ia F_ia² / (ε_i - ε_a) over both spins. Lauderdale, Stanton, Gauss, Watts, Bartlett, Chem. Phys. Lett. 187, 21
    (1991), and, as RMP2, Knowles, Andrews, Amos, Handy, Pople, Chem. Phys. Lett. 186, 130 (1991). ROHF-CCSD does not
    depend on the turn but for what is frozen; its (T) is defined in these orbitals: Watts, Gauss, Bartlett, J. Chem.
    Phys. 98, 8718 (1993).

    Args:
        mean_field: converged.
        frozen: core orbitals that are not excited from.

    Returns:
        A mean field of unrestricted orbitals, with the same density and energy; the energy of single excitations,
        Hartree, which is part of MP2's.
    """
    unrestricted = mean_field.remove_soscf().to_uhf()
    singles, orbitals, energies = 0.0, [], []
    for fock, own, occupations in zip(unrestricted.get_fock(), unrestricted.mo_coeff, unrestricted.mo_occ, strict=True):
        occupied, of_occupied = _diagonal(fock, own[:, occupations > 0])
        empty, of_empty = _diagonal(fock, own[:, occupations == 0])
        coupling = (occupied.T @ fock @ empty)[frozen:]
        singles += float(np.sum(coupling**2 / (of_occupied[frozen:, None] - of_empty)))
        orbitals.append(np.hstack([occupied, empty]))
        energies.append(np.concatenate([of_occupied, of_empty]))
    unrestricted.mo_occ = np.array([np.sort(occupations)[::-1] for occupations in unrestricted.mo_occ])
    unrestricted.mo_coeff, unrestricted.mo_energy = np.array(orbitals), np.array(energies)
    return unrestricted, singles


def _diagonal(
    fock: NDArray[np.float64], orbitals: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return orbitals of one space, (n, m), that make a Fock matrix diagonal in it, and its diagonal, ascending."""
    energies, turn = np.linalg.eigh(orbitals.T @ fock @ orbitals)
    return orbitals @ turn, energies
