"""What other programs see of a trained model, and of the levels of theory beside it: calculators of ASE."""

from piwsl.interfaces.calculator import PotentialCalculator
from piwsl.interfaces.level import LevelCalculator

__all__ = ["LevelCalculator", "PotentialCalculator"]
