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
    """(M, rows), energies first, then forces along internal directions."""


class Posterior:
    """Variances of the energies of geometries, given labels of which there are more and more.

    Rasmussen, Williams, "Gaussian processes for machine learning", MIT Press 2006, equations 2.26 and 2.42. With the
    Cholesky factor L of the covariance of all labels, V = L⁻¹ K(labels, energies asked for) and w = L⁻¹ h, where h is 1
    for labels that are energies, it is k - Σ V² + (1 - wᵀV)² / wᵀw; new labels are new rows of L, V and w.

    Where forces alone are labels, the constant is such that the mean over some energies is right. What is not known
    then is the energy less this mean: k and V are those of a difference. These energies are taken to have no noise,
    of which forces say nothing.
    """

    def __init__(
        self,
        known: Known,
        factor: Tensor,
        positions: Tensor,
        averaged: Tensor | None,
        permutations: Tensor,
        centre: Tensor,
        of: Parameters,
    ) -> None:
        """Take what is known.

        Args:
            known: what the process has learned.
            factor: L, (L, L), of unit amplitude.
            positions: (B, n, 3), Å, of the geometries asked for.
            averaged: (A, n, 3), Å, of the geometries over whose energies the mean is right; None where energies are
                labels.
            permutations: (G, n).
            centre: (D,), 1/Å.
            of: lengths, amplitude and noise.
        """
        self._of, self._permutations, self._centre = of, permutations, centre
        self.positions, self._averaged = positions, averaged
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
        found = self._own - self._less_mean(self._solved).square().sum(dim=0)
        if self._averaged is not None:
            with_mean = self._with_mean()
            found = found - with_mean[:-1] - self._less_mean(with_mean)
        if self._constant.any():
            found = found + (1.0 - self._constant @ self._solved) ** 2 / self._constant.square().sum()
        return self._of.amplitude**2 * found.clamp_min(0.0)

    @property
    def amplitude(self) -> float:
        """EV."""
        return self._of.amplitude

    @property
    def energy_noise(self) -> float:
        """eV, standard deviation."""
        return self._of.energy_noise

    def covariance_left(self, positions: Tensor, forces: bool) -> Tensor:
        """Return covariances of the energies asked for with energies, and forces, of others, given what is known.

        Args:
            positions: (S, n, 3), Å.
            forces: whether there are rows of forces.

        Returns:
            (B, S, 1 + C or 1), of unit amplitude, that of the constant included; C internal directions of forces.
        """
        molecules = self._molecules(positions, forces)
        shape = (len(positions), molecules.rows)
        others = Known(molecules, torch.ones(shape, dtype=torch.bool, device=positions.device))
        solved = torch.linalg.solve_triangular(
            self._factor, torch.cat([self._covariance(each, others) for each in self._learned]), upper=False
        )
        energies = self._of_energies(others.labelled)
        left = self._less_mean(self._with_asked(others)).T
        if self._averaged is not None:
            left = left - torch.outer(self._less_mean(self._with_mean()), energies)
            solved = solved - torch.outer(self._solved[:, -1] / len(self._averaged), energies)
        left = left - self._less_mean(self._solved).T @ solved
        if self._constant.any():
            ours, theirs = 1.0 - self._constant @ self._solved, energies - self._constant @ solved
            left = left + torch.outer(ours, theirs) / self._constant.square().sum()
        return left.reshape(-1, *shape)

    def learn(self, index: int) -> None:
        """Take the labels of one of the geometries for known; its energy is among those of the mean, if there is one.

        Raises:
            PiwslError: rounding has left no covariance.
        """
        new = Known(self._molecules(self.positions[index : index + 1], self._forces), self._pattern[None])
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
        if self._averaged is not None:
            self._averaged = torch.cat([self._averaged, self.positions[index : index + 1]])
            self._solved[:, -1] += self._solved[:, index]

    def _molecules(self, positions: Tensor, forces: bool) -> Molecules:
        return Molecules(positions, self._permutations, self._centre, forces)

    def _covariance(self, first: Known, second: Known) -> Tensor:
        """Return covariances of the labels of two, (L, L')."""
        whole = first.molecules.covariance(second.molecules, self._of.lengths)
        whole = whole.reshape(first.labelled.numel(), second.labelled.numel())
        return whole[first.labelled.flatten()][:, second.labelled.flatten()]

    def _with_asked(self, known: Known) -> Tensor:
        """Return covariances of known labels with all energies asked for, (L, B); with the sum of a mean's behind."""
        found = [self._covariance(known, self._energies(some)) for some in self.positions.split(GEOMETRIES_AT_ONCE)]
        if self._averaged is not None:
            found.append(self._covariance(known, self._energies(self._averaged)).sum(dim=1, keepdim=True))
        return torch.cat(found, dim=1)

    def _with_mean(self) -> Tensor:
        """Return covariances of the mean with all energies asked for, and with the sum that it is of, (B + 1,)."""
        assert self._averaged is not None
        return self._with_asked(self._energies(self._averaged)).mean(dim=0)

    def _less_mean(self, values: Tensor) -> Tensor:
        """Return values of energies less the mean, (..., B), from those of energies with that of the sum behind."""
        if self._averaged is None:
            return values
        return values[..., :-1] - values[..., -1:] / len(self._averaged)

    def _energies(self, positions: Tensor) -> Known:
        """Return geometries (S, n, 3), Å, of which the energies are meant."""
        known = torch.ones(len(positions), 1, dtype=torch.bool, device=positions.device)
        return Known(self._molecules(positions, forces=False), known)

    def _of_energies(self, labelled: Tensor) -> Tensor:
        """Return 1 for labels that are energies, 0 for forces, (L,)."""
        marked = torch.zeros_like(labelled, dtype=self.positions.dtype)
        marked[:, 0] = 1.0
        return marked[labelled]

    def _noise(self) -> Tensor:
        """Return the variances of noise of the labels of a further structure, of unit amplitude."""
        noise = torch.full_like(self._pattern, self._of.force_noise, dtype=self.positions.dtype)
        noise[0] = self._of.energy_noise
        return (noise[self._pattern] / self._of.amplitude) ** 2


class ForceVariance:
    """What the energy of one geometry or another would take away of the variance of forces at some others.

    Of all that is left to know, the covariance of the energy of geometry j with a force component f is R_jf, and with
    the energy of geometry i C_ij. A label of the energy of j, of noise σ², makes the variance of f less by
    R_jf² / (C_jj + σ²): Cohn, Ghahramani, Jordan, J. Artif. Intell. Res. 4, 129 (1996); of Gaussian processes Seo,
    Wallat, Graepel, Obermayer, IJCNN 2000. Forces that may be labelled beside the energy are not looked at.
    """

    def __init__(self, energies: Posterior, seen: Tensor) -> None:
        """Compute the covariances.

        Args:
            energies: what is known, and the B geometries whose energies may be labelled; it stays as it is.
            seen: (S, n, 3), Å, the geometries whose forces are looked at.
        """
        self._amplitude, self._noise = energies.amplitude, energies.energy_noise
        self._with_forces = energies.covariance_left(seen, forces=True)[:, :, 1:].flatten(1)
        self._with_energies = energies.covariance_left(energies.positions, forces=False)[:, :, 0]

    def gains(self) -> Tensor:
        """Return what each energy would take away, (B,), (eV/Å)², of all components together."""
        return self._amplitude**2 * self._with_forces.square().sum(dim=1) / self._of_label()

    def learn(self, index: int) -> None:
        """Take the energy of one of the geometries for known."""
        of_label = self._of_label()[index]
        forces, energies = self._with_forces[index].clone(), self._with_energies[index].clone()
        self._with_forces -= torch.outer(energies, forces) / of_label
        self._with_energies -= torch.outer(energies, energies) / of_label

    def _of_label(self) -> Tensor:
        """Return the variances of labels, noise included, (B,), of unit amplitude."""
        return self._with_energies.diagonal().clamp_min(0.0) + (self._noise / self._amplitude) ** 2
