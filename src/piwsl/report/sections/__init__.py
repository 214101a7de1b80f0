"""Sections of the report, a module each: what stands there, and its markup. Installed distributions bring others."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from piwsl.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

    from piwsl.report.context import Context
    from piwsl.report.panels import Panel

# Where among the sections of the whole experiment those of each dataset and model stand.
PLACE_OF_EACH = 40


@dataclass(frozen=True)
class Table:
    """A table for print."""

    numbers: pd.DataFrame
    """For CSV: columns say what they are, and the unit."""
    words: pd.DataFrame
    """For LaTeX: text, rounded, below the titles that the page has."""


class ReportSection(ABC):
    """A section of the report: its heading, its place, and what it shows. Made without arguments."""

    title: ClassVar[str] = ""
    """The heading; what has none goes on below the section before it."""
    place: ClassVar[float]
    """Sections stand in the order of their places; of one place, those of other distributions come last."""
    each: ClassVar[bool] = False
    """Whether it is made for each dataset and model, below the heading of these, or once for the whole experiment."""

    def __init_subclass__(cls) -> None:
        """Refuse a class whose place or title is none.

        Raises:
            TypeError: says which of them, and what it must be.
        """
        super().__init_subclass__()
        place = getattr(cls, "place", None)
        if not isinstance(place, int | float) or not math.isfinite(place):
            raise TypeError(f"{cls.__name__}.place must be a number")
        if not isinstance(cls.title, str):
            raise TypeError(f"{cls.__name__}.title must be text")

    def panels(self, context: Context) -> list[Panel]:
        """Return what is also written as files for print, of a section of each dataset and model; by default none.

        Args:
            context: as of `html`.
        """
        return []

    def tables(self, context: Context) -> dict[str, Table]:
        """Return what is also written as CSV and LaTeX, by name, of a section of the whole experiment; by default none.

        Args:
            context: as of `html`.
        """
        return {}

    @abstractmethod
    def html(self, context: Context) -> str:
        """Return what stands below the heading.

        Args:
            context: what the experiment gave; of a section of each dataset and model, their runs alone.

        Returns:
            Markup, which stands on the page as it is: text in it is escaped, as `piwsl.report.markup.render` does.
            Scripts and styles are inside; nothing is loaded. "" leaves the section out, its heading too.
        """


SECTIONS = Registry("piwsl.report.sections", ReportSection)  # type: ignore[type-abstract]  # kinds are derived from it
