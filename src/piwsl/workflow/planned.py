"""An experiment as it is run: what budgets leave open is divided before anything else looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from piwsl.config import (
    ARCHITECTURES,
    PRESETS,
    Acquisition,
    ComputedDataset,
    ConfigError,
    Experiment,
    Level,
    config_error,
    nearest,
    parse_level,
    parse_section,
)
from piwsl.config.acquisition import MOST_FRAMES
from piwsl.config.budget import FRAMES, ROUNDS
from piwsl.config.level_checks import unquestioned
from piwsl.config.levels import CHEAP, preset
from piwsl.errors import PiwslError

if TYPE_CHECKING:  # quantum chemistry, which an experiment without a budget does not ask
    from piwsl.reference.budget import Divided, Division

Keys = Mapping[str, Any]


def parse_experiment(keys: Any, source: str) -> Experiment:
    """Validate an experiment, with numbers of frames in place of what its budgets leave open.

    Args:
        keys: what YAML gave.
        source: the file it comes from, for messages.

    Raises:
        ConfigError: one line with the file, the key, what was found and what would be right.
    """
    found = divisions(keys, source)
    if not found:
        return parse_section(Experiment, keys, source)
    datasets = {name: _said(keys["datasets"][name], division) for name, division in found.items()}
    return parse_section(Experiment, {**keys, "datasets": {**keys["datasets"], **datasets}}, source)


def divisions(keys: Any, source: str) -> dict[str, Division]:
    """Return how the budgets of datasets are divided, by their names; arguments and errors as of `parse_experiment`."""
    datasets = keys.get("datasets") if isinstance(keys, Mapping) else None
    if not isinstance(datasets, Mapping):
        return {}
    return {
        name: _division(name, section, keys, source)
        for name, section in datasets.items()
        if isinstance(name, str) and isinstance(section, Mapping) and section.get("budget") is not None
    }


def _division(name: str, keys: Keys, experiment: Keys, source: str) -> Division:
    from piwsl.reference.budget import divide

    section = parse_section(
        ComputedDataset, _provisional(keys, f"{source}: datasets.{name}"), f"{source}: datasets.{name}"
    )
    assert section.budget is not None
    try:
        return divide(_divided(name, keys, section, experiment), section.budget)
    except PiwslError as error:
        raise config_error(source, error) from None


def _provisional(keys: Keys, source: str) -> dict[str, Any]:
    """Return a dataset's keys with the fewest frames where it says none, so that the others can be read."""
    acquisition = keys.get("acquisition")
    said = [keys.get(key) for key in ("test_force_frames", "test_slope_frames")]
    tested = sum(number for number in said if isinstance(number, int) and number > 0)
    found = {"training_frames": 1, "test_frames": min(max(tested, 1), MOST_FRAMES), **keys}
    if isinstance(acquisition, Mapping):
        found["acquisition"] = {"rounds": 1, "each": 1, **acquisition}
        rounds = parse_section(Acquisition, found["acquisition"], f"{source}.acquisition")
        found["training_frames"] = keys.get("training_frames", rounds.frames)
    return found


def _divided(name: str, keys: Keys, section: ComputedDataset, experiment: Keys) -> Divided:
    from piwsl.reference.budget import Divided
    from piwsl.reference.checks import check_cheap_levels, check_computed_dataset

    rounds = keys.get("acquisition") or ROUNDS
    level = _level(f"datasets.{name}.level", section.level, experiment)
    cheap = {each: _level(f"datasets.{name}.cheap_levels", each, experiment) for each in section.cheap_levels}
    structures = check_computed_dataset(name, section, level)
    check_cheap_levels(section.cheap_levels, cheap, structures)
    return Divided(
        name=name,
        section=section,
        structures=structures,
        open=frozenset([*(key for key in FRAMES if key not in keys), *(key for key in ROUNDS if key not in rounds)]),
        level=level,
        cheap=[*map(unquestioned, cheap.values())],
        has_pool=_has_pool(experiment),
        most_labels=_most_labels(experiment),
    )


def _level(key: str, name: str, experiment: Keys) -> Level:
    """Return a level of the experiment, or a preset, that a dataset names under a key."""
    levels = experiment.get("levels")
    said = levels if isinstance(levels, Mapping) else {}
    found = said.get(name, preset(name))
    if found is None:
        raise ConfigError(f"{key}: no level '{name}'; {nearest(name, [*map(str, said), *PRESETS, *CHEAP])}")
    return parse_level(found, f"levels.{name}")


def _sections(experiment: Keys, key: str) -> list[Keys]:
    """Return what stands under a key of an experiment by name; what is none, the experiment's own check tells."""
    named = experiment.get(key)
    return [section for section in named.values() if isinstance(section, Mapping)] if isinstance(named, Mapping) else []


def _has_pool(experiment: Keys) -> bool:
    """Whether a model is taught, or a loss takes frames of a pool."""
    asking = [("models", "teacher"), ("losses", "pool")]
    return any(bool(section.get(key)) for sections, key in asking for section in _sections(experiment, sections))


def _most_labels(experiment: Keys) -> int | None:
    """Return from how many labels each model may learn; None where all may from any number."""
    said = [model.get("architecture") for model in _sections(experiment, "models")]
    known = [ARCHITECTURES[name].most_labels for name in said if isinstance(name, str) and name in ARCHITECTURES]
    return min((most for most in known if most is not None), default=None)


def _said(keys: Keys, division: Division) -> dict[str, Any]:
    """Return a dataset's keys with all that its budget says."""
    frames = {key: number for key, number in division.frames.items() if number or key != "pool_frames"}
    if division.acquisition is None:
        return {**keys, **frames}
    rounds = {key: getattr(division.acquisition, key) for key in ROUNDS}
    return {**keys, **frames, "acquisition": {**keys["acquisition"], **rounds}}
