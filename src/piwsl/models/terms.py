"""What a potential is a sum of, and what it predicts."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from piwsl.data.batch import Batch


class Contribution(NamedTuple):
    """What one term of a potential says of a batch."""

    energies: Tensor
    """(N,), eV, of each atom, float64."""
    forces: Tensor | None = None
    """(N, 3), eV/Å, of a head of their own; None where they are the gradient of the energies."""


class Term(Protocol):
    """What a potential is a sum of."""

    def contribution(self, batch: Batch) -> Contribution:
        """Return energies of atoms, differentiable in positions and shifts, and forces that are no gradient."""


@runtime_checkable
class WithVariance(Protocol):
    """A network that knows how uncertain it is."""

    def energy_variance(self, batch: Batch) -> Tensor:
        """Return variances of energies, (M,), in squares of the network's unit."""


class Posterior(Protocol):
    """What a network says of some structures, as it learns labels of more and more of them."""

    def variance(self) -> Tensor:
        """Return variances of energies, (M,), in squares of the network's unit."""

    def learn(self, index: int) -> None:
        """Take the labels of one of the structures, whatever they are, for known."""


class Gains(Protocol):
    """What energies of some structures would tell a network of the forces at others, one after the other."""

    def gains(self) -> Tensor:
        """Return what each would take away of the variance of those forces, (M,)."""

    def learn(self, index: int) -> None:
        """Take the energy of one of the structures, whatever it is, for known."""


@runtime_checkable
class WithPosterior(Protocol):
    """A network whose variance depends on where there are labels, and not on what they say."""

    def posterior(self, batch: Batch) -> Posterior:
        """Return what it says of structures before it learns labels of any of them."""

    def force_variance(self, batch: Batch, seen: Batch) -> Gains:
        """Return what energies of structures would tell it of forces at others, before it learns any."""


Property = Literal["energy", "forces", "stress", "spread"]


class Prediction(NamedTuple):
    """What was asked for of M structures of N atoms; None otherwise."""

    energy: Tensor
    """(M,), eV, float64."""
    energies: Tensor
    """(N,), eV, of each atom, float64; that they add up is all that training says of them."""
    forces: Tensor | None
    """(N, 3), eV/Å."""
    stress: Tensor | None
    """(M, 3, 3), eV/Å³; NaN of structures that are not periodic in three directions."""
    energy_std: Tensor | None = None
    """(M,), eV, how uncertain energies are; None of what does not know."""
    forces_std: Tensor | None = None
    """(N, 3), eV/Å, likewise."""
