"""Naming runs of the grid by what they have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from piwsl.config.section import Section

Axis = Literal["dataset", "model", "loss", "size", "seed"]
Selector = dict[Axis, Any]
Selectors = Annotated[list[Selector], Field(max_length=100)]


class Run(Section):
    """One point of the grid."""

    dataset: str
    model: str
    loss: str
    size: int
    seed: int


def is_one_of(run: Run, selectors: list[Selector]) -> bool:
    """Whether a run has, on every axis that one of the selectors names, a value that stands there."""
    return any(
        all(getattr(run, axis) in as_list(wanted) for axis, wanted in selector.items()) for selector in selectors
    )


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, another value as a list of it."""
    return value if isinstance(value, list) else [value]
