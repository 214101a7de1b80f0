"""How a model is fitted, and what the job asks for: the keys and their defaults."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from piwsl.config.section import Megabytes, Minutes, Section, Steps

Validations = Annotated[int, Field(ge=1, le=1_000_000)]


class Limit(NamedTuple):
    """How large a step may be, where its size is not a number of structures."""

    key: Literal["max_atoms", "max_edges"]
    most: int

    @property
    def unit(self) -> Literal["atoms", "edges"]:
        """What is counted."""
        return "atoms" if self.key == "max_atoms" else "edges"

    @property
    def remedy(self) -> str:
        """What to do about a frame that is larger."""
        return f"raise {self.key}" + ("" if self.unit == "atoms" else ", or lower the cutoff")


class Largest(NamedTuple):
    """The largest of some frames."""

    name: str
    """Of the frame, for messages."""
    size: int
    """In what a step has a limit of."""


class Training(Section):
    """How a model is fitted."""

    steps: Steps = Field(1500, description="Optimiser steps.")
    batch_size: int = Field(4, ge=1, le=100_000, description="Structures a step.")
    max_atoms: int | None = Field(
        None,
        ge=2,
        le=100_000_000,
        description="In place of batch_size: a step learns from as many structures as have no more atoms together, so "
        "that mixed sizes fill a GPU. Default: batch_size structures.",
    )
    max_edges: int | None = Field(
        None,
        ge=2,
        le=10_000_000_000,
        exclude_if=lambda most: most is None,
        description="In place of batch_size: a step learns from as many structures as have no more edges together "
        "(neighbours within the cutoff, plus 8 times displacement where a loss displaces, summed over atoms), so that "
        "mixed densities fill a GPU. Default: batch_size structures.",
    )
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
    validation_by: Literal["frame", "group"] = Field(
        "frame",
        exclude_if=lambda by: by == "frame",
        description="What is not learned from: frames at random, or whole groups (trajectories, molecules), as many as "
        "come nearest to the share, between a half and twice of it.",
    )
    taught_share: float = Field(
        0.75,
        gt=0,
        lt=1,
        description="Share of each step's frames that a teacher labelled, where there is one; of the others one at "
        "least.",
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

    @property
    def limit(self) -> Limit | None:
        """How many atoms or edges a step has at most; None where structures count."""
        if self.max_atoms is not None:
            return Limit("max_atoms", self.max_atoms)
        return None if self.max_edges is None else Limit("max_edges", self.max_edges)

    def room_of_step(self, share: float) -> tuple[int, int] | None:
        """Return how much of its limit a step has for labelled frames and for the pool; None where structures count.

        Args:
            share: of a step, how much is taken from the pool.
        """
        if self.limit is None:
            return None
        unlabelled = min(max(1, round(share * self.limit.most)), self.limit.most - 1) if share else 0
        return self.limit.most - unlabelled, unlabelled

    def room_problem(self, share: float, labelled: Largest | None, pool: Largest | None) -> str | None:
        """Say which frame is larger than a step may be, or None where none is.

        Args:
            share: as of `room_of_step`.
            labelled: the largest labelled frame; None where there is none.
            pool: likewise of the pool, where frames are taken from it.
        """
        limit, room = self.limit, self.room_of_step(share)
        if limit is None or room is None:
            return None
        for part, largest, most in zip(("training", "pool"), (labelled, pool), room, strict=True):
            if largest is not None and largest.size > most:
                less = f", {most} of them for frames of the {part}" if most != limit.most else ""
                return (
                    f"training.{limit.key}: {limit.most}{less}, and {part} frame {largest.name} has {largest.size} "
                    f"{limit.unit}; {limit.remedy}"
                )
        return None

    @model_validator(mode="after")
    def _judged_by_some_frames(self) -> Self:
        if self.validation_fraction == 0 and not self.keeps_last:
            raise ValueError(
                "validation_fraction: the plateau rule and early_stopping go by validation frames; say more than 0"
            )
        if self.validation_fraction == 0 and self.validation_by == "group":
            raise ValueError("validation_by: no frame is validated on, with validation_fraction: 0; leave it out")
        return self

    @model_validator(mode="after")
    def _one_size_of_a_step(self) -> Self:
        if self.limit is None:
            return self
        key = self.limit.key
        if key == "max_atoms" and self.max_edges is not None:
            raise ValueError("max_edges: says how large a step is, as max_atoms does; leave one of the two out")
        if self.batch_size != type(self).model_fields["batch_size"].default:
            raise ValueError(f"{key}: says how large a step is, as batch_size does; leave one of the two out")
        if self.compile:
            raise ValueError(f"{key}: steps differ in size, and compile is for one size; leave one of the two out")
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
    gpu_mem_mb: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="MB of a GPU that it needs at most; 0: not known. Trainings that say so may share a GPU.",
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads.")
    mem_mb: Megabytes = Field(
        4000,
        description="MB; grows with the attempt. Frames that take up to half of it with their neighbours are held.",
    )
    runtime: Minutes = Field(240, description="Time limit in minutes; grows with the attempt.")
    to_local_disk: bool = Field(
        False,
        description="Copy a dataset file that does not fit the memory to $TMPDIR first, for a slow shared disk.",
    )

    @model_validator(mode="after")
    def _share_of_one_gpu(self) -> Self:
        if self.gpu_mem_mb and self.gpus != 1:
            raise ValueError(f"gpu_mem_mb: is of a training on one GPU; found gpus: {self.gpus}")
        return self
