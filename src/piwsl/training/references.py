"""Which atomic references a model gets, in words: for the log, the model file and the report."""

from __future__ import annotations

from collections.abc import Sequence

from ase.data import chemical_symbols

from piwsl.config import Architecture
from piwsl.models.statistics import MOST_FITTED, undetermined_elements
from piwsl.structures.structure import Structure
from piwsl.training.frames import TrainingFrames

STATED = "and one fitted energy an atom of any element"


def references_in_words(model: Architecture, frames: TrainingFrames, with_pairs: bool) -> str:
    """Say in one line where the references come from, what compositions leave open, and what free atoms are used for.

    Args:
        model: says which.
        frames: as the data have them, their free atoms included.
        with_pairs: whether a pair potential is fitted before.
    """
    kind = _kind(model, frames.training.with_energy().sample(MOST_FITTED))
    return "; ".join(said for said in (kind, _free_atoms(model, frames, with_pairs)) if said)


def _kind(model: Architecture, structures: Sequence[Structure]) -> str:
    if model.atomic_references == "free_atoms":
        return f"free atoms at the level of the labels, {STATED}"
    if model.atomic_references != "fitted":
        return f"stated in the config, {STATED}"
    difference = "" if model.baseline is None else f" less {model.baseline}"
    fitted = f"least squares of the training energies{difference}, an energy an element"
    if not (numbers := undetermined_elements(structures)):
        return fitted
    symbols = ", ".join(chemical_symbols[number] for number in numbers)
    return f"{fitted}; compositions leave those of {symbols} open: the smallest that fit, for these compositions alone"


def _free_atoms(model: Architecture, frames: TrainingFrames, with_pairs: bool) -> str:
    if not frames.free_atoms or model.atomic_references == "free_atoms":
        return ""
    if with_pairs and model.baseline is None:
        return "the free atoms of the data take part in the fit of the pair potential alone"
    return "the free atoms of the data are not used"
