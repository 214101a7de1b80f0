"""Training losses: errors of labels, and weak terms that tie energies at displaced geometries to forces."""

from piwsl.losses.displacements import draw_displacements, largest_displacement
from piwsl.losses.measure import Measure, Measured
from piwsl.losses.objective import Shares, displacements_of_step, training_loss

__all__ = [
    "Measure",
    "Measured",
    "Shares",
    "displacements_of_step",
    "draw_displacements",
    "largest_displacement",
    "training_loss",
]
