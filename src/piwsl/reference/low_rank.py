"""Fitted exchange of densities that come without orbitals, as those of guesses and of the search for minima do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyscf import df, lib

# Of the largest eigenvalue of a density: below it is what arithmetic leaves of zero.
NO_EIGENVALUE = 1e-12


class LowRankDF(df.DF):  # type: ignore[misc]  # PySCF has no types
    """PySCF's density fitting, which takes densities apart into few orbitals.

    With occupied orbitals at hand, exchange takes n² of them for each fitting function; from a bare density PySCF
    multiplies n³. A density D = Σ d u uᵀ of few eigenvectors u is the difference of two of such orbitals, those of
    positive and those of negative d, and exchange is linear in it.
    """

    def get_jk(
        self,
        dm: NDArray[np.float64],
        hermi: int = 1,
        with_j: bool = True,
        with_k: bool = True,
        *options: Any,
        **named: Any,
    ) -> tuple[Any, Any]:
        """Return Coulomb and exchange matrices as PySCF does, of the same densities.

        Args:
            dm: (n, n) or (k, n, n).
            hermi: 1 where they are symmetric.
            with_j: Coulomb is wanted.
            with_k: exchange is wanted.
            options: PySCF's further ones.
            named: the same by name.
        """
        bare = with_k and hermi == 1 and not hasattr(dm, "mo_coeff") and not np.iscomplexobj(dm)
        parts = in_orbitals(np.reshape(dm, (-1, *np.shape(dm)[-2:]))) if bare else None
        if parts is None:
            return super().get_jk(dm, hermi, with_j, with_k, *options, **named)
        coulomb, exchange = super().get_jk(parts, hermi, with_j, with_k, *options, **named)
        return (_difference(coulomb, dm) if with_j else coulomb), _difference(exchange, dm)


def _difference(of_parts: NDArray[np.float64], dm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what is linear in densities from what it is of their positive and negative parts."""
    positive, negative = np.split(of_parts, 2)
    return (positive - negative).reshape(np.shape(dm))


def in_orbitals(densities: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the positive parts of symmetric densities, then their negative parts, tagged with orbitals.

    Args:
        densities: (k, n, n).

    Returns:
        (2 k, n, n), with `mo_coeff`, (2 k, n, n), and `mo_occ`, (2 k, n), as PySCF tags them; None where taking them
        apart saves nothing.
    """
    eigenvalues, eigenvectors = np.linalg.eigh(densities)
    largest = np.abs(eigenvalues).max(axis=1, keepdims=True, initial=0.0)
    eigenvalues = np.where(np.abs(eigenvalues) > NO_EIGENVALUE * largest, eigenvalues, 0.0)
    if 2 * np.count_nonzero(eigenvalues) > eigenvalues.size:
        return None
    occupations = np.concatenate([np.maximum(eigenvalues, 0.0), np.maximum(-eigenvalues, 0.0)])
    orbitals = np.concatenate([eigenvectors, eigenvectors])
    parts = np.einsum("kpi,ki,kqi->kpq", orbitals, occupations, orbitals, optimize=True)
    return lib.tag_array(parts, mo_coeff=orbitals, mo_occ=occupations)
