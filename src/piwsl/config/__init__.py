"""The typed experiment: every key of config.yaml, its default and its check. Nothing here computes.

This is the only room that knows keys and defaults; all others receive a section of it.
"""

from piwsl.config.acquisition import Acquisition
from piwsl.config.budget import Budget
from piwsl.config.datasets import (
    ComputedDataset,
    Fault,
    Geometries,
    GivenDataset,
    Labelling,
    Molecule,
    Sampling,
)
from piwsl.config.experiment import Experiment, json_schema
from piwsl.config.levels import Cost, KeptParts, Level, Part, SinglePoint, named_level, parse_level, read_level
from piwsl.config.losses import LOSS_TERMS, DisplacedTerm, Loss, LossTerm
from piwsl.config.models import ARCHITECTURES, Architecture, MessagePassing, parse_model
from piwsl.config.reading import read_yaml
from piwsl.config.section import ConfigError, Section, config_error, nearest, parse_section
from piwsl.config.selectors import Run
from piwsl.config.simulation import ReplicaSimulation, Simulation
from piwsl.config.single_training import parse_training
from piwsl.config.split import Groups, Split
from piwsl.config.stages import PRESETS, Extrapolation, FittingBases, Stage, basis_family
from piwsl.config.test_sets import ComputedTest, GivenTest, Scan
from piwsl.config.training import Training

__all__ = [
    "ARCHITECTURES",
    "LOSS_TERMS",
    "PRESETS",
    "Acquisition",
    "Architecture",
    "Budget",
    "ComputedDataset",
    "ComputedTest",
    "ConfigError",
    "Cost",
    "DisplacedTerm",
    "Experiment",
    "Extrapolation",
    "Fault",
    "FittingBases",
    "Geometries",
    "GivenDataset",
    "GivenTest",
    "Groups",
    "KeptParts",
    "Labelling",
    "Level",
    "Loss",
    "LossTerm",
    "MessagePassing",
    "Molecule",
    "Part",
    "ReplicaSimulation",
    "Run",
    "Sampling",
    "Scan",
    "Section",
    "Simulation",
    "SinglePoint",
    "Split",
    "Stage",
    "Training",
    "basis_family",
    "config_error",
    "json_schema",
    "named_level",
    "nearest",
    "parse_level",
    "parse_model",
    "parse_section",
    "parse_training",
    "read_level",
    "read_yaml",
]
