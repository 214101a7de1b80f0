"""A Gaussian process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from piwsl.config.losses import Loss
from piwsl.config.models import Architecture, Fitted
from piwsl.config.training import Training

if TYPE_CHECKING:
    from ase import Atoms
    from torch import nn

    from piwsl.structures.structure import Structure


# Energies and components of forces: the solution holds some matrices of so many squared.
MOST_LABELS = 8000


class ClosedForm(Training):
    """A training without steps: its keys say nothing, and all frames are learned from."""

    validation_fraction: float = Field(0.0, ge=0, lt=1, description="None: leaving frames out costs nothing here.")

    @model_validator(mode="after")
    def _nothing_is_said(self) -> Self:
        if said := self.beyond_defaults():
            raise ValueError(f"{next(iter(said))}: a Gaussian process is fitted in closed form; leave training out")
        return self


class GaussianProcess(Architecture):
    """A Gaussian process on the inverse distances of one molecule, fitted in closed form in seconds.

    It knows no other composition and no crystal, and sees all pairs of atoms, however far apart.
    """

    architecture: Literal["gaussian_process"] = Field(description="Which network; the keys beside it are its own.")
    cutoff: float = Field(5.0, ge=0.5, le=20, description="Å, of the pair potential; the process itself has none.")
    dtype: Literal["float64"] = Field("float64", description="Precision: covariances need double.")
    pair_potential: bool | Literal["auto"] = Field(
        False,
        description="Whether the process corrects a pair potential, which is fitted to the training frames in closed "
        "form; auto: where no forces are learned from.",
    )
    training: ClosedForm = ClosedForm()

    most_labels: ClassVar[int | None] = MOST_LABELS

    @model_validator(mode="after")
    def _nobody_teaches_it(self) -> Self:
        if self.teacher is not None:
            raise ValueError("teacher: a Gaussian process learns labelled frames alone; let it teach another model")
        return self

    @model_validator(mode="after")
    def _one_member(self) -> Self:
        if self.members > 1:
            raise ValueError("members: all would be the same Gaussian process, whose variance is its own; leave it out")
        return self

    @model_validator(mode="after")
    def _no_device(self) -> Self:
        if self.resources.gpus:
            raise ValueError("resources.gpus: a Gaussian process is fitted on the CPU; leave it out")
        return self

    @property
    def local(self) -> bool:
        """Whether it has a cutoff: it has none."""
        return False

    @property
    def has_posterior(self) -> bool:
        """Whether it knows what further labels would tell it: it does."""
        return True

    def frames_problem(self, frames: Sequence[Atoms]) -> str | None:
        """Say why structures are not of one molecule; arguments as of `Architecture`."""
        if any(atoms.pbc.any() for atoms in frames):
            return "a Gaussian process knows one molecule, and frames are periodic"
        formulas = sorted({atoms.get_chemical_formula() for atoms in frames})
        if len(formulas) > 1:
            return f"a Gaussian process knows one molecule, and frames are of {formulas[0]} and {formulas[1]}"
        if any(len(atoms) < 2 for atoms in frames):
            return "a Gaussian process goes by distances between atoms, and the frames have one atom"
        return None

    def fitted(self, structures: Sequence[Structure], loss: Loss) -> Fitted:
        """Fit the process; arguments as of `Architecture`."""
        from piwsl.architectures.gaussian_process.fit import fit

        return fit(structures, energies=loss.energy > 0)

    def loss_problem(self, loss: Loss) -> str | None:
        """Say what of a loss a process does not minimise: it knows the labels, and no more."""
        said = [*loss.terms, *(["stress"] if loss.stress else []), *(["function"] if loss.function != "mse" else [])]
        return f"{said[0]}: a Gaussian process knows labels of energies and forces, and no more" if said else None

    def network(self, elements: list[int], neighbours: float) -> nn.Module:
        """Build the process that knows nothing."""
        from piwsl.architectures.gaussian_process.process import Network

        return Network(0, 0, 1, forces=False)

    def network_of_file(
        self, elements: list[int], neighbours: float, shapes: Mapping[str, tuple[int, ...]]
    ) -> nn.Module:
        """Make room for what a file holds; arguments as of `Architecture`."""
        from piwsl.architectures.gaussian_process.process import Network

        return Network.of_file(shapes)

    def problem_with(self, network: nn.Module, elements: list[int]) -> str | None:
        """Say which of the values of a file cannot be; arguments as of `Architecture`."""
        from piwsl.architectures.gaussian_process.process import Network

        assert isinstance(network, Network)
        return network.problem(elements)
