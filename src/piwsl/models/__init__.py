"""Potentials: a batch in, energies and forces out; loading and saving them."""

from piwsl.models.baseline import Baseline, BaselineFailure
from piwsl.models.committee import Committee
from piwsl.models.pair import PairPotential, fit_pair_potential
from piwsl.models.potential import Potential
from piwsl.models.predictor import Predictor
from piwsl.models.statistics import build_potential
from piwsl.models.storage import load_model, save_model

__all__ = [
    "Baseline",
    "BaselineFailure",
    "Committee",
    "PairPotential",
    "Potential",
    "Predictor",
    "build_potential",
    "fit_pair_potential",
    "load_model",
    "save_model",
]
