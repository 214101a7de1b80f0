"""What a level of theory answers, checked: its engine may be a stranger's, whose mistake is one line that names it."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from piwsl.config.levels import ENGINES, Cost, Level
from piwsl.config.section import LONGEST_VALUE, one_line
from piwsl.errors import ANY_ERROR, PiwslError, reason
from piwsl.residuals import is_factor

Saying = Literal["problem", "remark", "analytic_problem", "differences_problem", "record_problem", "doubt"]
OF_COST = ("cpu_s", "memory_mb", "scratch_mb")


def problem_said(level: Level, method: Saying, *arguments: object) -> str | None:
    """Return what a method of a level says is wrong, or None where nothing is.

    Args:
        level: the level of theory.
        method: its name.
        arguments: of the method.

    Raises:
        PiwslError: it fails, or says neither text nor None.
    """
    found: str | None = _answer(level, method, (str, NoneType), *arguments)
    return found


def cost(level: Level, *arguments: object) -> Cost:
    """Return what a single point takes; arguments as of `Level.cost`.

    Raises:
        PiwslError: the level fails, or says no `Cost` of finite numbers from 0 on.
    """
    return _cost(level, "cost", *arguments)


def displaced_cost(level: Level, *arguments: object) -> Cost:
    """Return what an energy near another takes; arguments as of `Level.displaced_cost`, raises as `cost`."""
    return _cost(level, "displaced_cost", *arguments)


def _cost(level: Level, method: str, *arguments: object) -> Cost:
    found: Cost = _answer(level, method, (Cost,), *arguments)
    for name in OF_COST:
        if not is_factor(value := getattr(found, name)):
            raise _wrong(level, f"{method}() gives {name} {value!r}, expected a number from 0 on")
    return found


def recipe(level: Level) -> dict[str, Any]:
    """Return what an energy of a level depends on.

    Raises:
        PiwslError: the level fails, or says what JSON does not know.
    """
    return _plain(level, "recipe")


def part_recipes(level: Level) -> dict[str, dict[str, Any]]:
    """Return by name what each part of a level's energy depends on; raises as `recipe`."""
    return _plain(level, "part_recipes")


def versions(level: Level) -> dict[str, str]:
    """Return the versions of the programs that a level computes with; raises as `recipe`."""
    return _plain(level, "versions")


def of_free_atoms(level: Level) -> Level:
    """Return the level as it is computed for free atoms.

    Raises:
        PiwslError: it fails, or gives no level.
    """
    found: Level = _answer(level, "of_free_atoms", (Level,))
    return found


def beside(level: Level, folder: Path) -> Level:
    """Return the level for a model in a folder that corrects it; raises as `of_free_atoms`."""
    found: Level = _answer(level, "beside", (Level,), folder)
    return found


def unquestioned(level: Level) -> Level:
    """Return the level without what is computed for its doubts alone; raises as `of_free_atoms`."""
    found: Level = _answer(level, "unquestioned", (Level,))
    return found


def on_threads(level: Level, threads: int) -> Level:
    """Return the level as it computes on several threads; raises as `of_free_atoms`."""
    found: Level = _answer(level, "on_threads", (Level,), threads)
    return found


def in_words(level: Level) -> str:
    """Return the level in words.

    Raises:
        PiwslError: it has none.
    """
    found: str = _answer(level, "__str__", (str,))
    return found


def _plain(level: Level, method: str) -> dict[str, Any]:
    found: dict[str, Any] = _answer(level, method, (dict,))
    try:
        read = json.loads(json.dumps(found, sort_keys=True, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise _wrong(level, f"{method}() gives no plain values ({reason(error)})") from None
    if read.keys() != found.keys():
        raise _wrong(level, f"{method}() gives keys that are no text")
    return found


def _answer(level: Level, method: str, kinds: tuple[type, ...], *arguments: object) -> Any:
    try:
        found = getattr(level, method)(*arguments)
    except PiwslError:
        raise
    except ANY_ERROR as error:  # whatever a stranger's engine does
        if ENGINES.source(level.engine) is None:
            raise
        raise _wrong(level, f"{method}() failed ({reason(error)})") from error
    if not isinstance(found, kinds):
        shown = one_line(repr(found), LONGEST_VALUE)
        expected = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
        raise _wrong(level, f"{method}() gives {shown}, expected {expected}")
    return found


def _wrong(level: Level, problem: str) -> PiwslError:
    return PiwslError(
        one_line(f"{ENGINES.source(level.engine) or 'piwsl'}: engine '{level.engine}': {problem}; mend it")
    )
