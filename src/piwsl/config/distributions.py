"""Which installed distributions bring the kinds that a result was made with: named in model files and in the report."""

from __future__ import annotations

from collections.abc import Mapping

from piwsl.config.datasets import ComputedDataset, GivenDataset
from piwsl.config.levels import ENGINES, Level
from piwsl.config.losses import LOSS_TERMS, Loss
from piwsl.config.models import ARCHITECTURES, Architecture
from piwsl.readers import READERS


def of_training(model: Architecture, loss: Loss) -> dict[str, str]:
    """Return what a training uses that is not ours, and whose it is: {"architectures.toy": "toy_architecture 1.0"}."""
    found = ARCHITECTURES.named_source(model.architecture)
    for name in loss.terms:
        found |= LOSS_TERMS.named_source(name)
    return found


def of_dataset(dataset: ComputedDataset | GivenDataset, levels: Mapping[str, Level]) -> dict[str, str]:
    """Return, likewise, those that the frames of a dataset come from: its readers, or the engine of its level."""
    if isinstance(dataset, ComputedDataset):
        return ENGINES.named_source(levels[dataset.level].engine)
    found: dict[str, str] = {}
    for path in (dataset.file, dataset.test_file, dataset.pool_file):
        if path is not None:
            found |= READERS.named_source(dataset.format_of(path))
    return found
