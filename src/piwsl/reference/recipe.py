"""What a level of theory computes, spelt out: presets, defaults and published exponents as what they come to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from piwsl.config import Level, Stage, level_checks
from piwsl.config.levels import DEFAULT_ENGINE

if TYPE_CHECKING:
    from piwsl.reference.components import Fitted


def recipe(level: Level) -> dict[str, Any]:
    """Return all that the energy of a level depends on, and nothing else, as plain values.

    Two ways of saying one level have one recipe. A default, a preset or a published exponent that changes, changes it.
    """
    # Energies of PySCF were kept before there were other engines.
    found = level_checks.recipe(level)
    return found if level.engine == DEFAULT_ENGINE else {"engine": level.engine} | found


def stages_of(level: Fitted) -> list[dict[str, Any]]:
    """Return the stages of a level in an order of their own, with fitting bases and formulas."""
    stages = [_stage(stage, level) for stage in level.stages]
    return sorted(stages, key=lambda stage: json.dumps(stage, sort_keys=True))


def _stage(stage: Stage, level: Fitted) -> dict[str, Any]:
    from piwsl.reference.components import fitting_bases

    mean_field = stage.method in ("hf", "dft")
    fitting = [fitting_bases(level, basis) for basis in stage.bases] if stage.density_fitting else []
    # Only where there is one: labels of earlier levels keep their names.
    cut = {} if stage.natural_orbitals is None else {"natural_orbitals": stage.natural_orbitals}
    return {
        "method": stage.method,
        "minus": stage.minus,
        "functional": stage.functional,
        "dispersion": stage.dispersion,
        "bases": list(stage.bases),
        "density_fitting": stage.density_fitting,
        "auxiliary_bases": [[names.jk] if mean_field else [names.jk, names.ri] for names in fitting],
        "extrapolation": None if len(stage.bases) == 1 else stage.limit()._asdict(),
    } | cut


def level_key(level: Level) -> str:
    """Return a short hash of the recipe of a level."""
    return key_of(recipe(level))


def key_of(recipe: Mapping[str, Any]) -> str:
    """Return a short hash of a recipe."""
    text = json.dumps(recipe, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
