"""What a section of the report is made from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from piwsl.config import Experiment
from piwsl.report.panels import Look, loss_looks
from piwsl.report.tables import AXES, tested_table
from piwsl.report.words import run_in_words


@dataclass(frozen=True)
class FilesOfRun:
    """What one run gave."""

    errors: Path
    """JSON: `piwsl.records.Errors`."""
    predictions: Path
    """Parquet, a row a test frame: `piwsl.evaluation.predictions.read_predictions`."""
    history: Path
    """CSV, a row a validation."""
    simulations: Mapping[str, Path]
    """JSON: `piwsl.records.Stability`, of those that are done by name, in the order of the config."""
    worst: Path
    """Extended XYZ: `piwsl.evaluation.breakdown.worst_frames`."""

    @property
    def model(self) -> str:
        """The trained potential, which lies beside its errors."""
        return self.errors.with_name("model.safetensors").as_posix()


@dataclass(frozen=True)
class Stage:
    """The jobs of one rule, of an experiment that is not finished."""

    name: str
    jobs: int
    done: int
    failed: int


@dataclass(frozen=True)
class Context:
    """An experiment and what it gave: all of it, or the runs of one dataset and model."""

    experiment: Experiment
    runs: pd.DataFrame
    """A row a run, as `piwsl.report.tables.run_table` returns them."""
    files: Mapping[int, FilesOfRun]
    """By the index of `runs`."""
    records: list[Path]
    """JSON lines of all labelling jobs (`piwsl.records.read_labellings`), whatever the runs."""
    free_atoms: list[Path]
    """Energies of free atoms, a file a dataset that has them (`piwsl.records.read_free_atoms`)."""
    datasets: list[Path]
    """Dataset files (`piwsl.data.dataset.Dataset`); their folders are named by the datasets."""
    cheap: pd.DataFrame
    """A row a dataset and cheap level, as `piwsl.report.tables.cheap_table` returns them, whatever the runs."""
    constants: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["dataset"]))
    """A row a dataset, as `piwsl.report.tables.constant_table` returns them, whatever the runs."""
    frequencies: list[Path] = field(default_factory=list)
    """Minima and vibrations of some runs, whatever the runs here (`piwsl.records.Frequencies`)."""
    frequencies_of_levels: list[Path] = field(default_factory=list)
    """Those of the cheap levels of datasets (`piwsl.records.FrequenciesOfLevels`)."""
    tests: pd.DataFrame = field(default_factory=lambda: tested_table([]))
    """A row a run and named test set, as `piwsl.report.tables.tested_table` returns them, whatever the runs."""
    untrained: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["dataset", "test", "level", "known"]))
    """On those sets, as `piwsl.report.tables.untrained_table` returns it."""
    test_sets: list[Path] = field(default_factory=list)
    """Dataset files of the named test sets, .../<dataset>/tests/<test>.h5."""
    rounds: list[Path] = field(default_factory=list)
    """Records of rounds of acquisitions, of a dataset in their order (`piwsl.records.Round`)."""
    benchmarks: Path | None = None
    """Folder of what jobs took, <kind>/.../<job>.tsv (`piwsl.records.read_benchmark`)."""
    jobs: Collection[str] | None = None
    """Those of them that the experiment has, <kind>/.../<job>; None: all."""
    unfinished: Sequence[Stage] = ()
    """All stages, of an experiment that is not finished."""
    left_out: Sequence[str] = ()
    """Results that are there and of other settings than the experiment's, a line each."""
    table: str = "results.csv"
    """The file of all runs one by one, beside the report."""

    @property
    def not_trained(self) -> pd.DataFrame:
        """The best constants, and below them the cheap levels: rows as of `cheap`."""
        return pd.concat([self.constants.assign(level="the best constant"), self.cheap]).fillna({"known": ""})

    @property
    def looks(self) -> dict[str, Look]:
        """Colour, dash and symbol of each loss, the same in all figures."""
        return loss_looks(list(self.experiment.losses))

    def of_each(self) -> Iterator[tuple[str, Context]]:
        """Yield what belongs to each dataset and model, beside what these are in words."""
        for (dataset, model), runs in self.runs.groupby(["dataset", "model"], sort=False):
            yield f"{dataset}, {model}", replace(self, runs=runs)

    def of_tests(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield each named test set that runs here were tested on, and its rows of `tests` for these runs."""
        rows = self.tests.merge(self.runs[AXES], on=AXES)
        for test, own in rows.groupby("test", sort=False):
            yield str(test), own

    def example(self) -> tuple[str, dict[str, FilesOfRun]]:
        """Return one run of each loss, to stand for all of one dataset and model: of the largest size, its first seed.

        Returns:
            Which that is, in words; the files by loss.
        """
        largest = self.runs[self.runs["size"] == self.runs["size"].max()]
        shown = largest[largest["seed"] == largest["seed"].iloc[0]]
        words = run_in_words(shown["size"].iloc[0], shown["seed"].iloc[0])
        return words, {str(loss): self.files[index] for index, loss in shown["loss"].items()}
