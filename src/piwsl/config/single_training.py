"""A training outside the grid: a model and a loss, of a file or of options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from piwsl.config.losses import Loss
from piwsl.config.models import Architecture, parse_model
from piwsl.config.reading import read_yaml
from piwsl.config.section import LONGEST_VALUE, config_error, one_line, parse_section


def parse_training(path: Path | None, architecture: str | None, steps: int | None) -> tuple[Architecture, Loss]:
    """Return the sections of a training outside the grid: those of a file, and what options say in their place.

    Args:
        path: YAML with `model` and `loss`, either or both, or None.
        architecture: in place of the model's; PaiNN where nothing says.
        steps: in place of the training's.

    Raises:
        ConfigError: the file cannot be read, or a section is not right.
    """
    source = "options" if path is None else str(path)
    given = {} if path is None else read_yaml(path)
    for key in given:
        if key not in ("model", "loss"):
            raise config_error(source, f"unknown key '{one_line(str(key), LONGEST_VALUE)}'; known are loss, model")
    model = given.get("model", {})
    if not isinstance(model, Mapping):
        raise config_error(source, "model: expected keys and values")
    model = {"architecture": "painn", **model} | ({} if architecture is None else {"architecture": architecture})
    if steps is not None:
        training = model.get("training", {})
        if not isinstance(training, Mapping):
            raise config_error(source, "model.training: expected keys and values")
        model["training"] = {**training, "steps": steps}
    return parse_model(model, source), parse_section(Loss, given.get("loss", {}), source)
