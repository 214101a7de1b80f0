"""What models and levels are, in the words of the report."""

from __future__ import annotations

from piwsl.config import Architecture, Experiment

# Longer formulas of levels stand in a section of their own; elsewhere it is the level's name.
LONGEST_FORMULA = 20


def model_in_words(name: str, model: Architecture) -> str:
    """Return what a model is that its name does not say: its architecture; a difference, taught, several."""
    said = [] if model.architecture == name else [model.architecture.replace("_", " ")]
    if model.baseline is not None:
        said.append(f"difference to {model.baseline}")
    if model.teacher is not None:
        said.append(f"taught by {model.teacher.model} ({model.teacher.loss})")
    if model.members > 1:
        said.append(f"{model.members} members")
    return ", ".join(said)


def level_in_words(experiment: Experiment, name: str) -> str:
    """Return a level of theory as its formula, or by its name where the formula is long."""
    formula = str(experiment.levels[name])
    return formula if len(formula) <= LONGEST_FORMULA else name


def run_in_words(size: float, seed: float) -> str:
    """Return which run of a dataset, model and loss one is."""
    return f"{int(size)} frames, seed {int(seed)}"
