"""Checks of an experiment against the world outside its text: files, molecules, basis sets. Before any compute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from piwsl.config import ComputedDataset, ConfigError, Experiment, GivenDataset, parse_section, read_yaml
from piwsl.errors import PiwslError
from piwsl.files import write_text
from piwsl.structures.frames import count_frames


def load_experiment(path: Path) -> Experiment:
    """Read, validate and check an experiment.

    Args:
        path: its YAML file.

    Raises:
        ConfigError: one line that says what was found, where in the config, and what would be right.
    """
    experiment = parse_section(Experiment, read_yaml(path), str(path))
    check_experiment(experiment, str(path))
    return experiment


def check_experiment(experiment: Experiment, source: str) -> None:
    """Check what an experiment names: that files exist and suffice, that its levels can be computed.

    Args:
        experiment: the experiment.
        source: the file it comes from, for messages.

    Raises:
        ConfigError: one line.
    """
    try:
        for name, dataset in experiment.datasets.items():
            if isinstance(dataset, ComputedDataset):
                from piwsl.reference.checks import check_computed_dataset

                check_computed_dataset(name, dataset, experiment.levels[dataset.level])
            else:
                _check_given(name, dataset, experiment)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def costly_datasets(experiment: Experiment) -> Iterator[str]:
    """Say a line for each dataset whose reference energies take more than is sensible, by estimate."""
    for name, dataset in experiment.datasets.items():
        if isinstance(dataset, ComputedDataset):
            from piwsl.reference.planning import warning

            line = warning(name, dataset, experiment.levels[dataset.level])
            if line is not None:
                yield line


def _claim_note(experiment: Experiment) -> Path:
    return Path("results") / experiment.experiment / ".config"


def check_claim(experiment: Experiment, source: str) -> None:
    """Check that the experiment's folder of results belongs to no other config: two never write to one place.

    Args:
        experiment: the experiment.
        source: its config file, relative to the working directory or absolute.

    Raises:
        ConfigError: another config file was run under the same name.
    """
    note = _claim_note(experiment)
    owner = note.read_text(encoding="utf-8").strip() if note.exists() else None
    if owner is not None and Path(owner).resolve() != Path(source).resolve() and Path(owner).exists():
        raise ConfigError(
            f"{source}: experiment: {note.parent} belongs to {owner}; give this experiment a name of its own"
        )


def claim(experiment: Experiment, source: str) -> None:
    """Note whose results the experiment's folder holds."""
    write_text(_claim_note(experiment), f"{source}\n")


def _check_given(name: str, dataset: GivenDataset, experiment: Experiment) -> None:
    where = f"datasets.{name}"
    try:
        frames = count_frames(dataset.file)
        if dataset.test_file is not None and count_frames(dataset.test_file) == 0:
            raise PiwslError(f"{dataset.test_file}: holds no frame")
    except PiwslError as error:
        raise ConfigError(f"{where}: {error}") from None
    pool = frames - (dataset.test_frames or 0)
    largest = max((run.size for run in experiment.runs() if run.dataset == name), default=0)
    if largest > pool:
        held = f" less {dataset.test_frames} held out for testing" if dataset.test_frames else ""
        raise ConfigError(
            f"sizes: {largest} is more than the training frames of dataset '{name}' "
            f"({dataset.file} has {frames}{held}); leave the size out or give more frames"
        )
