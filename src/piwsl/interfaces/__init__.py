"""What other programs see of a trained model: the ASE calculator."""

from piwsl.interfaces.calculator import PotentialCalculator

__all__ = ["PotentialCalculator"]
