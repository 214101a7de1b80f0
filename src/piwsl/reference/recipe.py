"""What a level of theory computes, spelt out: presets, defaults and published exponents as what they come to."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from piwsl.config import Level, Stage
from piwsl.reference.components import fitting_bases


def recipe(level: Level) -> dict[str, Any]:
    """Return all that the energy of a level depends on, and nothing else, as plain values.

    Two ways of saying one level have one recipe. A default, a preset or a published exponent that changes, changes it.

    Raises:
        ValueError: no fitting basis is known for an orbital basis.
    """
    stages = [_stage(stage, level) for stage in level.stages]
    correlated = any(stage.method not in ("hf", "dft") for stage in level.stages)
    return {
        "stages": sorted(stages, key=lambda stage: json.dumps(stage, sort_keys=True)),
        "frozen_core": level.frozen_core if correlated else None,
        "unrestricted": level.unrestricted,
        "stability": level.stability,
        "grid": level.grid if any(stage.method == "dft" for stage in level.stages) else None,
    }


def _stage(stage: Stage, level: Level) -> dict[str, Any]:
    mean_field = stage.method in ("hf", "dft")
    fitting = [fitting_bases(level, basis) for basis in stage.bases] if stage.density_fitting else []
    return {
        "method": stage.method,
        "minus": stage.minus,
        "functional": stage.functional,
        "dispersion": stage.dispersion,
        "bases": list(stage.bases),
        "density_fitting": stage.density_fitting,
        "auxiliary_bases": [[names.jk] if mean_field else [names.jk, names.ri] for names in fitting],
        "extrapolation": None if len(stage.bases) == 1 else stage.limit()._asdict(),
    }


def level_key(level: Level) -> str:
    """Return a short hash of the recipe of a level."""
    text = json.dumps(recipe(level), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
