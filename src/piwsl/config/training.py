"""Models, their training and losses, and the simulations that test them: the keys and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from piwsl.config.section import ConfigError, Section, nearest, parse_section


class Training(Section):
    """How a model is fitted."""

    steps: PositiveInt = Field(2000, description="Optimiser steps.")
    batch_size: PositiveInt = Field(8, description="Structures a step.")
    learning_rate: PositiveFloat = Field(1e-3, description="Peak rate of AdamW (amsgrad); cosine decay to zero.")
    weight_decay: NonNegativeFloat = Field(0.0)
    gradient_clip: PositiveFloat = Field(10.0, description="Largest norm of the gradient.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay a step of the averaged weights that are kept.")
    validate_every: PositiveInt = Field(100, description="Steps between validations; a checkpoint is written at each.")
    validation_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share of a size's frames that chooses the best weights."
    )


class Resources(Section):
    """What a training job asks for; a change of it retrains nothing."""

    gpus: int = Field(0, ge=0, le=1, description="GPUs; 0 trains on the CPU.")
    threads: PositiveInt = Field(1, description="CPU threads.")
    mem_mb: PositiveInt = Field(4000, description="MB; grows with the attempt.")
    runtime: PositiveInt = Field(240, description="Time limit in minutes; grows with the attempt.")


class MessagePassing(Section):
    """What all architectures have."""

    cutoff: PositiveFloat = Field(5.0, description="Å.")
    features: int = Field(64, ge=2, description="Channels.")
    layers: PositiveInt = Field(3, description="Interaction blocks.")
    radial: int = Field(20, ge=2, description="Radial basis functions.")
    dtype: Literal["float32", "float64"] = "float32"
    training: Training = Training()
    resources: Resources = Field(Resources(), exclude=True)


class PaiNN(MessagePassing):
    """PaiNN (Schütt, Unke, Gastegger, ICML 2021)."""

    architecture: Literal["painn"]
    forces: Literal["conservative", "direct"] = Field(
        "conservative", description="The gradient of the energy, or a head of their own."
    )


class SchNet(MessagePassing):
    """SchNet (Schütt et al., J. Chem. Phys. 148, 241722, 2018); forces are the gradient."""

    architecture: Literal["schnet"]


Model = PaiNN | SchNet
ARCHITECTURES: dict[str, type[PaiNN] | type[SchNet]] = {"painn": PaiNN, "schnet": SchNet}


class WeakTerm(Section):
    """A weak loss: weight and order of the expansion of the energy along the displacement."""

    weight: PositiveFloat = Field(description="Factor relative to the other terms.")
    order: Literal[1, 2] = Field(1, description="1: the paper's; 2: trapezoid, with the force at both ends.")


class Loss(Section):
    """A training loss: squared errors of the labels and, optionally, the weak terms PITC and PISC."""

    energy: PositiveFloat = Field(1.0, description="Weight of the squared energy error per atom.")
    forces: PositiveFloat = Field(100.0, description="Weight of the squared force error, where forces are labelled.")
    pitc: WeakTerm | None = Field(None, description="Taylor-expansion consistency E(r+δ) = E(r) - <δ, F(r)>.")
    pisc: WeakTerm | None = Field(None, description="Path-independence consistency between r+δ and r+δ'.")
    displacement: PositiveFloat = Field(0.02, description="Å; standard deviation of a component of δ and δ'.")


class Simulation(Section):
    """A Langevin run with every trained model, started from a test frame."""

    temperature: PositiveFloat = Field(300.0, description="K.")
    time: PositiveFloat = Field(1.0, description="ps.")
    timestep: PositiveFloat = Field(0.5, description="fs.")
    friction: PositiveFloat = Field(0.01, description="1/fs.")
    bond_tolerance: PositiveFloat = Field(
        0.5, description="Å; a bond that leaves its starting length by more ends the stable time."
    )
    seed: int = Field(0, ge=0)


def parse_model(mapping: Any, source: str) -> Model:
    """Validate a mapping as the section of its architecture.

    Args:
        mapping: with the key `architecture`.
        source: where it comes from, for messages.

    Raises:
        ConfigError: an unknown architecture, or a section that is not right.
    """
    architecture = mapping.get("architecture") if isinstance(mapping, Mapping) else None
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"{source}: no architecture '{architecture}'; {nearest(architecture, ARCHITECTURES)}")
    return parse_section(ARCHITECTURES[architecture], mapping, source)
