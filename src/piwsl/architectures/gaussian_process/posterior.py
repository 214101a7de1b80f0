"""What further labels would leave of a process's variance: it depends on where they are, and not on what they say."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from piwsl.architectures.gaussian_process.kernel import Molecules
from piwsl.architectures.gaussian_process.likelihood import SINGULAR, Parameters
from piwsl.errors import PiwslError

# Covariances with so many geometries are in memory at once.
GEOMETRIES_AT_ONCE = 500


@dataclass(frozen=True)
class Known:
    """Geometries whose labels are known, and which labels those are."""

    molecules: Molecules
    labelled: Tensor
    """(M, rows), energies first, then components of forces."""


class Posterior:
    """Variances of the energies of geometries, given labels of which there are more and more.

    Rasmussen, Williams, "Gaussian processes for machine learning", MIT Press 2006, equations 2.26 and 2.42. With the
    Cholesky factor L of the covariance of all labels, V = L⁻¹ K(labels, energies asked for) and w = L⁻¹ h, where h is 1
    for labels that are energies, it is k - Σ V² + (1 - wᵀV)² / wᵀw; new labels are new rows of L, V and w.
    """

    def __init__(
        self, known: Known, factor: Tensor, positions: Tensor, permutations: Tensor, centre: Tensor, of: Parameters
    ) -> None:
        """Take what is known.

        Args:
            known: what the process has learned.
            factor: L, (L, L), of unit amplitude.
            positions: (B, n, 3), Å, of the geometries asked for.
            permutations: (G, n).
            centre: (D,), 1/Å.
            of: lengths, amplitude and noise.
        """
        self._of, self._permutations, self._centre = of, permutations, centre
        self._positions = positions
        self._forces = known.molecules.forces
        # A further structure has the labels that any known one has.
        self._pattern = known.labelled.any(dim=0)
        self._learned = [known]
        self._factor = factor
        self._solved = torch.linalg.solve_triangular(factor, self._with_asked(known), upper=False)
        energies = self._of_energies(known.labelled)
        self._constant = torch.linalg.solve_triangular(factor, energies[:, None], upper=False)[:, 0]
        chunks = positions.split(GEOMETRIES_AT_ONCE)
        self._own = torch.cat([self._molecules(some, False).own_covariance(of.lengths) for some in chunks])

    def variance(self) -> Tensor:
        """Return variances, (B,), eV²: of energies, not of noisy labels; that of the constant included."""
        found = self._own - self._solved.square().sum(dim=0)
        if self._constant.any():
            found = found + (1.0 - self._constant @ self._solved) ** 2 / self._constant.square().sum()
        return self._of.amplitude**2 * found.clamp_min(0.0)

    def learn(self, index: int) -> None:
        """Take the labels of one of the geometries for known.

        Raises:
            PiwslError: rounding has left no covariance.
        """
        new = Known(self._molecules(self._positions[index : index + 1], self._forces), self._pattern[None])
        with_known = torch.cat([self._covariance(new, each) for each in self._learned], dim=1).T  # (L, r)
        above = torch.linalg.solve_triangular(self._factor, with_known, upper=False)
        own = self._covariance(new, new) + torch.diag(self._noise()) - above.T @ above
        corner, failed = torch.linalg.cholesky_ex(own)
        if failed:
            raise PiwslError(SINGULAR)

        def rows(whole: Tensor, before: Tensor) -> Tensor:
            return torch.linalg.solve_triangular(corner, whole - above.T @ before, upper=False)

        constant = rows(self._of_energies(new.labelled)[:, None], self._constant[:, None])[:, 0]
        self._solved = torch.cat([self._solved, rows(self._with_asked(new), self._solved)])
        self._constant = torch.cat([self._constant, constant])
        right = torch.cat([torch.zeros_like(above), corner])
        self._factor = torch.cat([torch.cat([self._factor, above.T]), right], dim=1)
        self._learned.append(new)

    def _molecules(self, positions: Tensor, forces: bool) -> Molecules:
        return Molecules(positions, self._permutations, self._centre, forces)

    def _covariance(self, first: Known, second: Known) -> Tensor:
        """Return covariances of the labels of two, (L, L')."""
        whole = first.molecules.covariance(second.molecules, self._of.lengths)
        whole = whole.reshape(first.labelled.numel(), second.labelled.numel())
        return whole[first.labelled.flatten()][:, second.labelled.flatten()]

    def _with_asked(self, known: Known) -> Tensor:
        """Return covariances of known labels with all energies asked for, (L, B)."""
        found = []
        for some in self._positions.split(GEOMETRIES_AT_ONCE):
            energies = torch.ones(len(some), 1, dtype=torch.bool, device=some.device)
            found.append(self._covariance(known, Known(self._molecules(some, forces=False), energies)))
        return torch.cat(found, dim=1)

    def _of_energies(self, labelled: Tensor) -> Tensor:
        """Return 1 for labels that are energies, 0 for forces, (L,)."""
        marked = torch.zeros_like(labelled, dtype=self._positions.dtype)
        marked[:, 0] = 1.0
        return marked[labelled]

    def _noise(self) -> Tensor:
        """Return the variances of noise of the labels of a further structure, of unit amplitude."""
        noise = torch.full_like(self._pattern, self._of.force_noise, dtype=self._positions.dtype)
        noise[0] = self._of.energy_noise
        return (noise[self._pattern] / self._of.amplitude) ** 2
