"""Potentials: a batch in, energies and forces out; loading and saving them."""

from piwsl.models.potential import Potential
from piwsl.models.statistics import build_potential
from piwsl.models.storage import load_model, save_model

__all__ = ["Potential", "build_potential", "load_model", "save_model"]
