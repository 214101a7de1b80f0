"""Training losses: errors of labels, and weak terms that tie energies at displaced geometries to forces."""

from piwsl.losses.displacements import draw_displacements, largest_displacement
from piwsl.losses.measure import Measure, Measured
from piwsl.losses.objective import displacements_of_step, loss_of_portions, training_loss
from piwsl.losses.terms import Portion, StepPlaces, displaced_structures, factors_of_rank, portions, residual_counts

__all__ = [
    "Measure",
    "Measured",
    "Portion",
    "StepPlaces",
    "displaced_structures",
    "displacements_of_step",
    "draw_displacements",
    "factors_of_rank",
    "largest_displacement",
    "loss_of_portions",
    "portions",
    "residual_counts",
    "training_loss",
]
