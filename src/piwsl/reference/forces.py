"""How forces of a level are had: analytic gradients where the engine has them, central differences elsewhere.

Where whole forces cost too much, the slope of the energy along one direction of a frame, by differences, tells
something of them: how wrong those of a model are, over many frames.
"""

from __future__ import annotations

from typing import Literal

from piwsl.config import Level
from piwsl.config.level_checks import problem_said
from piwsl.errors import PiwslError

ForceMethod = Literal["analytic", "differences", "slope"]
# Of these, what takes energies of displaced geometries.
BY_DIFFERENCES: tuple[ForceMethod, ...] = ("differences", "slope")


def check_forces(level: Level, multiplicities: set[int], wanted: ForceMethod | None) -> None:
    """Check that a level has the forces that are asked for.

    Args:
        level: the level of theory.
        multiplicities: 2S + 1 of the structures.
        wanted: how forces shall be computed.

    Raises:
        PiwslError: analytic gradients are asked for and the level has none, or differences of an energy that is not
            smooth; says which part and why.
    """
    problem = _first_problem(level, multiplicities)
    if wanted == "analytic" and problem is not None:
        raise PiwslError(f"{problem}; or ask for forces by differences")
    if wanted in BY_DIFFERENCES and (rough := problem_said(level, "differences_problem")) is not None:
        raise PiwslError(f"{rough}; ask for none, or for those of another level")


def force_method(level: Level, multiplicities: set[int], wanted: ForceMethod | None) -> ForceMethod:
    """Choose how forces are computed: as asked for, else analytic where that is possible for every structure."""
    return wanted or ("analytic" if _first_problem(level, multiplicities) is None else "differences")


def _first_problem(level: Level, multiplicities: set[int]) -> str | None:
    problems = (problem_said(level, "analytic_problem", multiplicity) for multiplicity in sorted(multiplicities))
    return next((problem for problem in problems if problem is not None), None)
