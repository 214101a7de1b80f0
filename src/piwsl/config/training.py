"""Models, their training and losses, and the simulations that test them: the keys and their defaults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from ase.data import atomic_numbers
from pydantic import BeforeValidator, Field, NonNegativeFloat, model_validator

from piwsl.config.reading import read_yaml
from piwsl.config.section import (
    LONGEST_VALUE,
    Femtoseconds,
    Friction,
    Kelvin,
    Megabytes,
    Minutes,
    Section,
    Seed,
    Steps,
    StepsOrNone,
    Weight,
    config_error,
    nearest,
    one_line,
    parse_section,
)

Validations = Annotated[int, Field(ge=1, le=1_000_000)]


class Training(Section):
    """How a model is fitted."""

    steps: Steps = Field(1500, description="Optimiser steps.")
    batch_size: int = Field(4, ge=1, le=100_000, description="Structures a step.")
    # At 0.1 a PaiNN of the default size is NaN after its first step.
    learning_rate: float = Field(2e-3, ge=1e-30, le=0.05, description="Peak rate of AdamW.")
    schedule: Literal["cosine", "plateau"] = Field(
        "cosine",
        description="After a short warm-up: cosine to zero at the last step, or the rate times plateau_factor whenever "
        "plateau_patience validations have not improved.",
    )
    plateau_patience: Validations = Field(5, description="Validations without improvement before the rate falls.")
    plateau_factor: float = Field(0.5, ge=0.001, lt=1, description="What the rate falls by then.")
    early_stopping: Validations | None = Field(
        None, description="Validations without improvement after which training ends; default: never before `steps`."
    )
    weight_decay: float = Field(0.0, ge=0, le=100, description="Of AdamW.")
    gradient_clip: float = Field(0.05, ge=1e-6, le=1e9, description="Largest norm of the gradient.")
    ema_decay: float = Field(
        0.99, ge=0, lt=1, description="Decay a step of the averaged weights that are kept; less in the first steps."
    )
    validate_every: Steps = Field(100, description="Steps between validations; a checkpoint is written at each.")
    validation_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of a size's frames that is not learned from, for curves, the plateau rule and early "
        "stopping; one frame at least, or 0: none.",
    )
    mixed_precision: bool = Field(False, description="Matrix products in bfloat16; sums and energies as they were.")
    compile: bool = Field(
        False,
        description="Compile loss and gradients (minutes, once for all runs alike on a machine); for long trainings.",
    )

    @property
    def keeps_last(self) -> bool:
        """Whether the last weights are kept, and not those that did best in validation.

        Where the learning rate falls to zero the last weights are converged; a few validation frames would choose by
        their noise, and by forces alone.
        """
        return self.schedule == "cosine" and self.early_stopping is None

    @model_validator(mode="after")
    def _judged_by_some_frames(self) -> Self:
        if self.validation_fraction == 0 and not self.keeps_last:
            raise ValueError(
                "validation_fraction: the plateau rule and early_stopping go by validation frames; say more than 0"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_of_haste(self) -> Self:
        if self.compile and self.mixed_precision:
            raise ValueError("compile: does not go with mixed_precision; choose one")
        return self


class Resources(Section):
    """What a training job asks for; a change of it retrains nothing."""

    gpus: int = Field(
        0, ge=0, le=64, description="GPUs of one node; 0 trains on the CPU. Several share the structures of a step."
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads.")
    mem_mb: Megabytes = Field(4000, description="MB; grows with the attempt.")
    runtime: Minutes = Field(240, description="Time limit in minutes; grows with the attempt.")


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


class MessagePassing(Section):
    """What all architectures have. The largest is a network that one GPU holds; deeper ones overflow untrained."""

    cutoff: float = Field(5.0, ge=0.5, le=20, description="Å.")
    features: int = Field(64, ge=2, le=2048, description="Channels.")
    layers: int = Field(3, ge=1, le=16, description="Interaction blocks.")
    radial: int = Field(20, ge=2, le=1024, description="Radial basis functions.")
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
    training: Training = Training()
    resources: Resources = Field(Resources(), exclude=True)

    @property
    def conservative(self) -> bool:
        """Whether forces are the gradient of the energy."""
        return True

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


class PaiNN(MessagePassing):
    """PaiNN (Schütt, Unke, Gastegger, ICML 2021)."""

    architecture: Literal["painn"] = Field(description="Which network; the keys beside it are its own.")
    layers: int = Field(2, ge=1, le=16, description="Interaction blocks.")
    forces: Literal["conservative", "direct"] = Field(
        "conservative", description="The gradient of the energy, or a head of their own."
    )

    @property
    def conservative(self) -> bool:
        """Whether forces are the gradient of the energy."""
        return self.forces == "conservative"


class SchNetTraining(Training):
    """How a SchNet is fitted."""

    learning_rate: float = Field(5e-3, ge=1e-30, le=0.05, description="Peak rate of AdamW.")


class SchNet(MessagePassing):
    """SchNet (Schütt et al., J. Chem. Phys. 148, 241722, 2018); forces are the gradient."""

    architecture: Literal["schnet"] = Field(description="Which network; the keys beside it are its own.")
    training: SchNetTraining = SchNetTraining()


class MACETraining(Training):
    """How a MACE is fitted."""

    steps: Steps = Field(2000, description="Optimiser steps.")
    learning_rate: float = Field(1e-2, ge=1e-30, le=0.05, description="Peak rate of AdamW.")


class MACE(MessagePassing):
    """MACE (Batatia et al., NeurIPS 2022), by mace-torch; forces are the gradient."""

    architecture: Literal["mace"] = Field(description="Which network; the keys beside it are its own.")
    features: int = Field(32, ge=2, le=2048, description="Channels.")
    layers: int = Field(2, ge=1, le=16, description="Interaction blocks.")
    radial: int = Field(8, ge=2, le=1024, description="Radial basis functions.")
    # mace-torch brings the coefficients of these products, and makes them in seconds.
    max_ell: int = Field(3, ge=1, le=3, description="Largest degree of the spherical harmonics of bonds.")
    max_L: int = Field(1, ge=0, le=3, description="Largest degree of the features.")
    correlation: int = Field(3, ge=1, le=3, description="Neighbours in a product; the body order is one more.")
    training: MACETraining = MACETraining()


Model = PaiNN | SchNet | MACE
ARCHITECTURES: dict[str, type[PaiNN] | type[SchNet] | type[MACE]] = {"painn": PaiNN, "schnet": SchNet, "mace": MACE}


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool | float):
        raise ValueError(f"say 1, 2 or an order's name, found {value!r}")
    return value


Quadrature = Annotated[Literal[1, 2, "simpson", "gauss-legendre"], BeforeValidator(_no_truth_value)]
Order = Annotated[
    Literal[1, 2, "simpson", "gauss-legendre", "central", "quadratic", "central-4"],
    BeforeValidator(_no_truth_value),
]
QUADRATURES = (
    "1: force at the start (the paper's); 2: trapezoid; simpson, gauss-legendre (three points): longer displacements"
)


class DisplacedTerm(Section):
    """A term at displaced geometries: its weight, at which steps it is evaluated, and on how much of the batch."""

    weight: Weight = Field(description="Factor relative to the other terms.")
    every: Steps = Field(
        1, description="Evaluated at every so many steps, with its weight times that: the mean gradient is the same."
    )
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the structures of a step that it is evaluated on, of labelled frames and of those of the "
        "pool alike.",
    )

    def structures(self, total: int) -> int:
        """Return how many of the structures of a step are looked at, the first ones."""
        return max(1, math.ceil(self.share * total - 1e-9))  # 0.07 * 100 is a little more than 7


class PITC(DisplacedTerm):
    """Taylor-expansion consistency: E(r+δ), or energies around r, against an anchor at r."""

    order: Order = Field(
        1,
        description=f"{QUADRATURES}; without any force, central: E(r) against the mean of E(r±δ); quadratic: against "
        "the parabola through E(r-δ), E(r+δ/2), E(r+δ), order 2 by energies; central-4: against the cubic through "
        "E(r±δ/2) and E(r±δ).",
    )
    anchor: Literal["model", "label", "pseudo-label"] = Field(
        "model",
        description="model: E(r) and F(r) of the model; label: E of the label, F of the model; pseudo-label: both of "
        "the label, on structures with forces.",
    )

    @model_validator(mode="after")
    def _label_forces_are_at_the_start(self) -> Self:
        if self.anchor == "pseudo-label" and self.order != 1:
            raise ValueError("order: a pseudo-label has the labelled force, which is known at the start alone; say 1")
        return self


class PISC(DisplacedTerm):
    """Path-independence consistency between A = r, B = r+δ' and C = r+δ."""

    order: Quadrature = Field(1, description=f"{QUADRATURES}.")
    every: Steps = Field(2, description="As of pitc; at every second step it costs half as much.")
    closing: Literal["B to C", "C to B", "C to A", "two routes", "loop"] = Field(
        "B to C",
        description="B to C: E(C) against E(B) and the work (the paper's); C to B; C to A; two routes: to C from A and "
        "from B; loop: the work along A, B, C, A.",
    )


class WeakForces(Section):
    """Forces of a cheaper level as labels."""

    weight: Weight = Field(description="Factor of their mean squared error.")
    until: Steps | None = Field(
        None, description="Step at which their weight has fallen, linearly, to 0. Default: it does not fall."
    )

    def factor(self, step: int) -> float:
        """Return the factor of the weight at an optimiser step, from 0."""
        return 1.0 if self.until is None else max(0.0, 1.0 - step / self.until)


class Augmentation(DisplacedTerm):
    """Noisy augmentation, a baseline: the labels of r as labels at r+δ."""

    weight: Weight = Field(1.0, description="Factor of the energy and force losses at r+δ.")


class Loss(Section):
    """A training loss: errors of the labels and, optionally, weak terms."""

    energy: NonNegativeFloat = Field(1.0, le=1e9, description="Weight of the energy error; 0: forces alone.")
    forces: NonNegativeFloat = Field(
        1.0,
        le=1e9,
        description="Weight of the force error, where forces are labelled; 0: labelled forces are not looked at.",
    )
    stress: NonNegativeFloat = Field(
        0.0,
        le=1e9,
        description="Weight of the stress error in (eV/Å³)², where stress is labelled; 0: it is not looked at.",
    )
    pitc: PITC | None = Field(None, description="Taylor-expansion consistency E(r+δ) = E(r) - <δ, F(r)>.")
    pisc: PISC | None = Field(None, description="Path-independence consistency between r+δ and r+δ'.")
    augmentation: Augmentation | None = Field(None, description="Labels of r at r+δ; a baseline.")
    weak_forces: WeakForces | None = Field(
        None, description="Error against forces of a cheaper level, where frames have them (WEAK_forces)."
    )
    displacement: float = Field(
        0.02,
        ge=1e-5,
        le=1,
        description="Å; standard deviation of a component of δ and δ', or as the kind of direction has it.",
    )
    direction: Literal["gaussian", "uniform", "sphere", "adversarial"] = Field(
        "gaussian",
        description="gaussian; uniform in a box of that half-width; sphere: every atom moves that far; adversarial: δ "
        "along the error of the force, or where that is not labelled along the gradient of the PITC residual.",
    )
    function: Literal["mse", "mae", "huber"] = Field("mse", description="Of all residuals.")
    huber: float = Field(
        0.01, ge=1e-6, le=1000, description="Residual where huber turns from square to linear, eV or eV/Å."
    )
    per: Literal["atom", "structure"] = Field("atom", description="Whether energy residuals are divided by N atoms.")
    pool: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of each step's frames that is taken from the pool: frames without labels, for terms that "
        "need none.",
    )
    start: StepsOrNone = Field(0, description="Steps without the terms at displaced geometries.")
    ramp: StepsOrNone = Field(0, description="Steps after that in which their weights grow linearly to full.")

    @model_validator(mode="before")
    @classmethod
    def _every_stands_in_its_term(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "every" in value:
            raise ValueError("every: stands in each weak term now, e.g. pitc: {weight: 1, every: 2}; move it there")
        return value

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if self.needs_forces and not self.forces:
            raise ValueError("energy and forces are both 0, and no weak_forces last; give one of them a weight")
        if self.augmentation is not None and not (self.energy or self.forces):
            raise ValueError("augmentation: is of energy and forces, which are both 0; give one of them a weight")
        return self

    @model_validator(mode="after")
    def _pseudo_labels_are_forces(self) -> Self:
        if self.forces == 0 and self.pitc is not None and self.pitc.anchor == "pseudo-label":
            raise ValueError("pitc.anchor: a pseudo-label is made of labelled forces, which `forces: 0` leaves out")
        return self

    @model_validator(mode="after")
    def _something_looks_at_the_pool(self) -> Self:
        if self.pool and not self.self_consistent and self.weak_forces is None:
            raise ValueError(
                "pool: no term of this loss looks at frames without labels; give pitc (anchor: model), pisc or "
                "weak_forces, or leave the pool out"
            )
        return self

    @property
    def displaced_terms(self) -> dict[str, DisplacedTerm]:
        """Return what is evaluated at displaced geometries, by the name of the mean; augmentation is two of them."""
        sections = {
            "pitc": self.pitc,
            "pisc": self.pisc,
            "augmentation_energy": self.augmentation,
            "augmentation_forces": self.augmentation,
        }
        return {name: section for name, section in sections.items() if section is not None}

    @property
    def displaced(self) -> bool:
        """Whether any term is evaluated at displaced geometries: pitc, pisc, augmentation."""
        return bool(self.displaced_terms)

    @property
    def weights(self) -> dict[str, float]:
        """Return the weights of the means that the loss is the sum of, by name."""
        weights = {"energy": self.energy, "forces": self.forces, "stress": self.stress}
        if self.weak_forces is not None:
            weights["weak_forces"] = self.weak_forces.weight
        labels = {"augmentation_energy": self.energy, "augmentation_forces": self.forces}
        return weights | {name: term.weight * labels.get(name, 1.0) for name, term in self.displaced_terms.items()}

    @property
    def needs_forces(self) -> bool:
        """Whether without labelled forces nothing, or nothing for good, is learned from: of energies it has none."""
        lasting = self.weak_forces is not None and self.weak_forces.until is None
        return self.energy == 0 and not lasting

    @property
    def self_consistent(self) -> bool:
        """Whether a term compares the model with itself alone, and needs no label: pitc (anchor: model), pisc."""
        return self.pisc is not None or (self.pitc is not None and self.pitc.anchor == "model")

    @property
    def supervised(self) -> bool:
        """Whether errors of the labels of the reference level are all: what weak supervision is compared with."""
        return not self.displaced and self.weak_forces is None

    def factors(self, step: int) -> dict[str, float]:
        """Return the factors of the weights at an optimiser step, by name; what is not there is not evaluated.

        Args:
            step: from 0.
        """
        factors = {"energy": 1.0, "forces": 1.0, "stress": 1.0}
        if self.weak_forces is not None:
            factors["weak_forces"] = self.weak_forces.factor(step)
        since = step - self.start
        grown = min(1.0, (since + 1) / (self.ramp + 1))
        for name, term in self.displaced_terms.items():
            factors[name] = grown * term.every if since >= 0 and since % term.every == 0 else 0.0
        weights = self.weights
        return {name: factor for name, factor in factors.items() if factor * weights[name]}


MOST_STEPS = 1e9


class Simulation(Section):
    """A Langevin run with every trained model, started from a test frame."""

    temperature: Kelvin = Field(300.0, description="K.")
    time: float = Field(1.0, ge=1e-6, le=1_000_000, description="ps.")
    timestep: Femtoseconds = Field(0.5, description="fs.")
    friction: Friction = Field(0.01, description="1/fs.")
    bond_tolerance: float = Field(
        0.5, ge=0.01, le=100, description="Å; a bond that leaves its starting length by more ends the stable time."
    )
    seed: Seed = Field(0, description="Of velocities and noise.")

    @model_validator(mode="after")
    def _some_steps(self) -> Self:
        steps = self.time * 1000 / self.timestep
        if steps < 1:
            raise ValueError(f"time: {self.time:g} ps is less than one step of {self.timestep:g} fs; raise it")
        if steps > MOST_STEPS:
            raise ValueError(f"time: {self.time:g} ps are {steps:.0e} steps of {self.timestep:g} fs; 1e9 never end")
        return self


def parse_model(mapping: Any, source: str) -> Model:
    """Validate a mapping as the section of its architecture.

    Args:
        mapping: with the key `architecture`.
        source: where it comes from, for messages.

    Raises:
        ConfigError: an unknown architecture, or a section that is not right.
    """
    architecture = mapping.get("architecture") if isinstance(mapping, Mapping) else None
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise config_error(source, f"no architecture '{architecture}'; {nearest(architecture, ARCHITECTURES)}")
    return parse_section(ARCHITECTURES[architecture], mapping, source)


def parse_training(path: Path | None, architecture: str | None, steps: int | None) -> tuple[Model, Loss]:
    """Return the sections of a training outside the grid: those of a file, and what options say in their place.

    Args:
        path: YAML with `model` and `loss`, either or both, or None.
        architecture: in place of the model's; PaiNN where nothing says.
        steps: in place of the training's.

    Raises:
        ConfigError: the file cannot be read, or a section is not right.
    """
    source = "options" if path is None else str(path)
    given = {} if path is None else read_yaml(path)
    for key in given:
        if key not in ("model", "loss"):
            raise config_error(source, f"unknown key '{one_line(str(key), LONGEST_VALUE)}'; known are loss, model")
    model = given.get("model", {})
    if not isinstance(model, Mapping):
        raise config_error(source, "model: expected keys and values")
    model = {"architecture": "painn", **model} | ({} if architecture is None else {"architecture": architecture})
    if steps is not None:
        training = model.get("training", {})
        if not isinstance(training, Mapping):
            raise config_error(source, "model.training: expected keys and values")
        model["training"] = {**training, "steps": steps}
    return parse_model(model, source), parse_section(Loss, given.get("loss", {}), source)
