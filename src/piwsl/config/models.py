"""What all models have, whatever their architecture: the keys and their defaults."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from ase.data import atomic_numbers
from pydantic import BeforeValidator, Field, model_validator

from piwsl.config.section import LONGEST_VALUE, Name, OneOf, Section, nearest, one_line, parse_kind
from piwsl.config.training import Resources, Training
from piwsl.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray
    from torch import nn

    from piwsl.config.losses import Loss
    from piwsl.structures.structure import Structure

# The heaviest atom has -1.5e6 eV.
LARGEST_REFERENCE = 1e7


def _references(value: Any) -> Any:
    """Check energies by element here, in words: of a choice, pydantic says what each of its members lacks."""
    kinds = ("fitted", "free_atoms")
    if isinstance(value, str) and value not in kinds:
        raise ValueError(f"{nearest(value, [*kinds])}; or energies by element in eV, such as {{H: -13.6}}")
    if not isinstance(value, Mapping):
        if value in kinds:
            return value
        raise ValueError("say fitted, free_atoms, or energies by element in eV, such as {H: -13.6}")
    if not value:
        raise ValueError("holds no element; say fitted, or an energy an element in eV")
    for symbol, energy in value.items():
        if not isinstance(symbol, str) or atomic_numbers.get(symbol, 0) < 1:
            raise ValueError(f"no element '{one_line(str(symbol), LONGEST_VALUE)}'")
        number = isinstance(energy, int | float) and not isinstance(energy, bool)
        if not number or not abs(energy) <= LARGEST_REFERENCE:  # true for NaN, too
            raise ValueError(f"{symbol} is {one_line(str(energy), LONGEST_VALUE)}, no energy of an atom in eV")
    return {symbol: float(energy) for symbol, energy in value.items()}


AtomicReferences = Annotated[Literal["fitted", "free_atoms"] | dict[str, float], BeforeValidator(_references)]


class Fitted(NamedTuple):
    """What was fitted in closed form to M structures of n atoms."""

    network: nn.Module
    """As of `Architecture.network`, in eV; energies may have any constant."""
    left_energies: NDArray[np.float64]
    """(M,), eV: what is left of the energy of each by what is fitted without it; NaN where there is no label."""
    left_forces: NDArray[np.float64] | None
    """(M, n, 3), eV/Å, likewise."""


class Teacher(Section):
    """The run that labels the pool for a student: of the same dataset, size and seed."""

    model: Name = Field(description="A name under models.")
    loss: Name = Field(description="A name under losses.")


class Architecture(Section):
    """An architecture: its keys, and the network that they make.

    One of ours is a module of `piwsl.architectures`, whose name is what the key `architecture` says; it is imported to
    read a config, and imports torch only where it builds its network.
    """

    architecture: str = Field(description="Which network; the keys beside it are its own.")
    cutoff: float = Field(5.0, ge=0.5, le=20, description="Å.")
    dtype: Literal["float32", "float64"] = Field(
        "float32", description="Precision of the network; sums are in float64."
    )
    pair_potential: bool | Literal["auto"] = Field(
        "auto",
        description="Whether the network corrects a pair potential, which is fitted to the training frames in closed "
        "form; auto: where no forces are learned from.",
    )
    atomic_references: AtomicReferences = Field(
        "fitted",
        description="The part of the energy that elements alone say, eV an atom: fitted to the training energies; "
        "free_atoms of the dataset, or energies by element, both but for one fitted constant an atom of any element.",
    )
    baseline: Name | None = Field(
        None,
        description="One of the cheap_levels of the dataset, which the network learns the difference to; it is "
        "computed wherever the model is used.",
    )
    baseline_scale: Annotated[float, Field(ge=0, le=10)] | Literal["fitted"] = Field(
        "fitted",
        description="What the baseline is multiplied by before the difference to it is learned: fitted to the labelled "
        "frames, or a number; 1 is the plain difference.",
    )
    teacher: Teacher | None = Field(
        None,
        description="A run whose model labels the dataset's pool with energies and forces, which this one learns "
        "beside the labelled frames (training.taught_share says in which proportion). Default: none.",
    )
    members: int = Field(
        1,
        ge=1,
        le=32,
        description="Networks of a committee, which differ in their first weights and in the frames that they validate "
        "on: energies and forces are their means, and their spread says how sure these are. Training and predictions "
        "cost as many times as much.",
    )
    training: Training = Training()
    resources: Resources = Field(Resources(), exclude=True)

    most_labels: ClassVar[int | None] = None
    """From how many labels, energies and components of forces, a training may learn; None: from any number."""

    @model_validator(mode="after")
    def _references_are_of_the_difference(self) -> Self:
        if self.baseline is not None and self.atomic_references != "fitted":
            raise ValueError("atomic_references: of a difference to a baseline they are fitted; say so, or no baseline")
        return self

    @model_validator(mode="after")
    def _a_scale_is_of_a_baseline(self) -> Self:
        if self.baseline is None and self.baseline_scale != "fitted":
            raise ValueError("baseline_scale: there is no baseline; leave it out, or name one")
        return self

    @property
    def conservative(self) -> bool:
        """Whether forces are the gradient of the energy."""
        return True

    @property
    def local(self) -> bool:
        """Whether an atom knows nothing of what no chain of neighbours within the cutoff leads to."""
        return True

    @property
    def has_posterior(self) -> bool:
        """Whether networks are `piwsl.models.terms.WithPosterior`: they know what further labels would tell them."""
        return False

    def references_problem(self, symbols: Iterable[str], free_atoms: Iterable[str]) -> str | None:
        """Say which elements have no reference energy, or None where all have one or will be fitted.

        Args:
            symbols: chemical symbols of the data.
            free_atoms: those whose free atom's energy the data bring.
        """
        if self.atomic_references == "fitted":
            return None
        of_dataset = self.atomic_references == "free_atoms"
        missing = sorted(set(symbols) - set(free_atoms if of_dataset else self.atomic_references))
        if not missing:
            return None
        what = "free_atoms: the dataset has no free" if of_dataset else "has no energy of"
        return f"atomic_references: {what} {', '.join(missing)}; give energies by element in eV, or say fitted"

    @abstractmethod
    def network(self, elements: list[int], neighbours: float) -> nn.Module:
        """Build the untrained network; weights from torch's current random state, in torch's default precision or ours.

        Its `forward` takes a `piwsl.data.batch.Batch` of N atoms and returns one output an atom, (N,), in units of the
        potential's scale, and forces (N, 3) of a head of their own, or None where they are the gradient. Edges beyond
        the cutoff add nothing (losses evaluate with a longer list); outputs are twice differentiable in the positions,
        and depend on the order of neither atoms nor structures; structures of no atoms do no harm.

        Args:
            elements: atomic numbers that may occur, ascending.
            neighbours: average number of neighbours of an atom within the cutoff.
        """

    def loss_problem(self, loss: Loss) -> str | None:
        """Say which key of a loss the architecture cannot be trained with, and why; None where it can with all."""
        return None

    def frames_problem(self, frames: Sequence[Atoms]) -> str | None:
        """Say why structures cannot be learned by one model, or asked about; None, as by default, where they can."""
        return None

    def fitted(self, structures: Sequence[Structure], loss: Loss) -> Fitted | None:
        """Fit a network in closed form; None, as by default, where it is trained by steps.

        The same structures give the same network.

        Args:
            structures: of the training, without what the loss does not see; energies without atomic references.
            loss: of which `loss_problem` says nothing.

        Raises:
            PiwslError: they cannot be fitted; one line.
        """
        return None

    @property
    def in_closed_form(self) -> bool:
        """Whether `fitted` fits anything: those that have none of their own are trained by steps."""
        return type(self).fitted is not Architecture.fitted

    def network_of_file(
        self, elements: list[int], neighbours: float, shapes: Mapping[str, tuple[int, ...]]
    ) -> nn.Module:
        """Build the network whose values a file holds; by default its config alone says which.

        It is called where tensors have no values (torch's device "meta"), or, of a `bounded` one, where they have.

        Args:
            elements: as of `network`.
            neighbours: as of `network`.
            shapes: of the tensors of the file, by name.

        Raises:
            PiwslError: there is no such network; one line.
        """
        return self.network(elements, neighbours)

    def problem_with(self, network: nn.Module, elements: list[int]) -> str | None:
        """Say what of the values that a file has given a network cannot be; None, as by default, where all can.

        Args:
            network: of `network_of_file`, its values of the right shapes, and finite.
            elements: as of `network`.
        """
        return None

    def too_large_for(self, tensors: int, numbers: int) -> str | None:
        """Return the key that asks for more than a file holds, or None where the network may be in it.

        It is asked of files that anyone may have written: a network of which nothing is known here, as by default, is
        built without values first, which takes a second.

        Args:
            tensors: how many the file has.
            numbers: how many they hold.
        """
        return None

    @property
    def bounded(self) -> bool:
        """Whether what `too_large_for` lets pass has no more than some ten times the numbers of the file."""
        return False


class MessagePassing(Architecture):
    """Layers of messages along bonds. The largest is a network that one GPU holds; deeper ones overflow untrained."""

    features: int = Field(64, ge=2, le=2048, description="Channels.")
    layers: int = Field(3, ge=1, le=16, description="Interaction blocks.")
    radial: int = Field(20, ge=2, le=1024, description="Radial basis functions.")

    def too_large_for(self, tensors: int, numbers: int) -> str | None:
        """Return the key that asks for more than a file holds; arguments as of `Architecture`.

        Every layer has tensors of its own and a matrix of features by features.
        """
        if self.layers > tensors:
            return "layers"
        if self.layers * self.features**2 > numbers:
            return "features"
        return "radial" if self.radial > numbers else None

    @property
    def bounded(self) -> bool:
        """Whether the file bounds the network."""
        return True


ARCHITECTURES: Registry[Architecture] = Registry("piwsl.architectures", Architecture)  # type: ignore[type-abstract]  # no kind is made of the base


KINDS = OneOf(ARCHITECTURES, "architecture")
# What a config may have in the place of a model.
Model = Annotated[Architecture, KINDS]


def parse_model(mapping: Any, source: str) -> Architecture:
    """Validate a mapping as the section of its architecture.

    Args:
        mapping: with the key `architecture`.
        source: where it comes from, for messages.

    Raises:
        ConfigError: an unknown architecture, or a section that is not right.
    """
    return parse_kind(KINDS, mapping, source)
