"""CPU hours in place of numbers of frames."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from piwsl.config.section import Section

# What a budget says where a config does not: numbers of frames, and of rounds of an acquisition.
FRAMES = ("training_frames", "test_frames", "test_force_frames", "test_slope_frames", "pool_frames")
ROUNDS = ("rounds", "each")


def may_be_divided(schema: dict[str, Any]) -> None:
    """Let the JSON schema of a section do without what a budget says."""
    schema["required"] = [key for key in schema.get("required", []) if key not in (*FRAMES, *ROUNDS)]


class Budget(Section):
    """What may be spent on the frames of a dataset, in place of how many there are; `piwsl plan` says what it buys.

    Sampling, cheap levels and reference energies are paid of it, by the estimates of the cost model. Training is not,
    nor are named test sets.
    """

    cpu_hours: float = Field(gt=0, le=1e6, description="CPU hours in all.")
    test_share: float = Field(
        0.25, gt=0, le=0.9, description="Share of it for test frames at most, half of that for their forces or slopes."
    )
