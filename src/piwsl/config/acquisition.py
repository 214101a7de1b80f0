"""Which frames are labelled: some at first, then in rounds those that a model asks for."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from piwsl.config.budget import may_be_divided
from piwsl.config.section import LONGEST_VALUE, Name, Section, Seed, shortened

MOST_FRAMES = 100_000
MOST_ROUNDS = 1000
RANDOM = "random"
# A Gaussian process is asked, of one molecule.
OF_A_PROCESS = ("variance", "force_variance")
ROUND = re.compile(r"round-(\d+)")


def round_name(number: int | str) -> str:
    """Return what the frames of a round, and their labels, are called; the start is round 0."""
    return f"round-{number}"


def round_number(name: str) -> int | None:
    """Return which round frames or labels are called after; None of other names."""
    found = ROUND.fullmatch(name)
    return None if found is None else int(found[1])


class Acquisition(Section):
    """Which training frames of a dataset are labelled, of published ones whose labels are looked at: rounds of them.

    Each round but the first, the start, has the frames that a model of those before is least sure of. The sizes of
    runs name rounds: start, start + each, start + 2 each, ...; all seeds of a size learn the same frames.
    """

    model_config = ConfigDict(json_schema_extra=may_be_divided)

    start: Annotated[int, Field(ge=2, le=MOST_FRAMES)] = Field(
        25, description="Frames of the start, chosen at random among the training frames, all elements among them."
    )
    rounds: int = Field(ge=1, le=MOST_ROUNDS, description="How many rounds come after the start. A budget may say it.")
    each: Annotated[int, Field(ge=1, le=MOST_FRAMES)] = Field(25, description="Frames of each of these rounds.")
    by: Literal["variance", "force_variance", "disagreement", "random"] = Field(
        description="What chooses them: one by one the frame of whose energy a Gaussian process is least sure, given "
        "those chosen before, or the one whose energy leaves it least unsure of the forces at all candidates; the "
        "frames farthest from one another among those that a committee disagrees most on; or chance, to compare with."
    )
    model: Name | None = Field(
        None, description="A name under models: what is asked. It is trained on each size, seed `seed`, as a run is."
    )
    loss: Name | None = Field(None, description="A name under losses, that it is trained with.")
    seed: Seed = Field(0, description="Of the start, of chance, and of the model that is asked.")

    @model_validator(mode="after")
    def _somebody_is_asked(self) -> Self:
        for key in ("model", "loss"):
            said = getattr(self, key)
            if self.by == RANDOM and said is not None:
                raise ValueError(f"{key}: chance asks no model; leave it out, or say by: variance")
            if self.by != RANDOM and said is None:
                raise ValueError(f"{key}: this key is missing; by: {self.by} asks a model of that")
        return self

    @property
    def by_chance(self) -> bool:
        """Whether no model chooses."""
        return self.by == RANDOM

    @property
    def frames(self) -> int:
        """How many frames are labelled in all."""
        return self.size_after(self.rounds)

    @property
    def numbers(self) -> range:
        """The numbers of all rounds, the start, 0, among them."""
        return range(self.rounds + 1)

    @property
    def sizes(self) -> list[int]:
        """How many frames there are after each round."""
        return [self.size_after(number) for number in self.numbers]

    def size_after(self, number: int) -> int:
        """Return how many frames there are after a round."""
        return self.start + number * self.each

    def size_within(self, frames: int) -> int | None:
        """Return how many frames there are after the last round that has no more than so many; None where none has."""
        return max((size for size in self.sizes if size <= frames), default=None)

    def frames_of(self, number: int) -> int:
        """Return how many frames a round has."""
        return self.each if number else self.start

    def chooser(self, number: int) -> str:
        """Return what chooses the frames of a round."""
        return self.by if number else RANDOM

    def round_of(self, size: int) -> int:
        """Return the round after which there are so many frames: one of `sizes`."""
        return (size - self.start) // self.each

    def size_problem(self, size: int) -> str | None:
        """Say that no round ends with so many frames, or None where one does."""
        if size in self.sizes:
            return None
        return f"is none of {shortened(', '.join(map(str, self.sizes)), LONGEST_VALUE)}, which its acquisition has"
