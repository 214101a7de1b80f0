"""Where results lie: every path below `results/`, for rules (with wildcards), plans, checks, the report and tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from piwsl.config import Run
from piwsl.records import earlier_pieces

RESULTS = "results"
LABELLED, RECORDS, ROUND = ".xyz", ".jsonl", ".json"


def named_test(dataset: str = "{dataset}", test: str = "{test}") -> str:
    """Return the name under which a named test set is a dataset of its own, of test frames alone."""
    return f"{dataset}/tests/{test}"


@dataclass(frozen=True)
class RunFiles:
    """The files of one point of the grid."""

    folder: str

    @property
    def model(self) -> str:
        """The trained potential."""
        return f"{self.folder}/model.safetensors"

    @property
    def taught(self) -> str:
        """The dataset file of the pool with labels of this run's model, for a student."""
        return f"{self.folder}/taught.h5"

    @property
    def history(self) -> str:
        """A row a validation."""
        return f"{self.folder}/history.csv"

    @property
    def errors(self) -> str:
        """Errors on the test frames."""
        return f"{self.folder}/errors.json"

    @property
    def predictions(self) -> str:
        """Predictions for the test frames, beside their labels."""
        return f"{self.folder}/predictions.parquet"

    @property
    def worst(self) -> str:
        """The test frames with the largest errors."""
        return f"{self.folder}/worst.xyz"

    @property
    def frequencies(self) -> str:
        """Minima and vibrations of the model."""
        return f"{self.folder}/frequencies.json"

    def test(self, name: str = "{test}") -> NamedTestFiles:
        """Return the files of a named test set; by default with a wildcard for its name."""
        return NamedTestFiles(f"{self.folder}/tests/{name}")

    def simulation(self, name: str = "{simulation}") -> SimulationFiles:
        """Return the files of a simulation; by default with a wildcard for its name."""
        return SimulationFiles(f"{self.folder}/simulations/{name}")

    def taken_away(self) -> list[str]:
        """Return the files that users take away, beside those of named test sets and simulations."""
        return [self.model, self.history, self.errors, self.predictions, self.worst]


@dataclass(frozen=True)
class NamedTestFiles:
    """The files of one named test set with the model of a run."""

    folder: str

    @property
    def errors(self) -> str:
        """Errors on its frames."""
        return f"{self.folder}/errors.json"

    @property
    def predictions(self) -> str:
        """Predictions for its frames, beside their labels."""
        return f"{self.folder}/predictions.parquet"

    @property
    def worst(self) -> str:
        """Its frames with the largest errors."""
        return f"{self.folder}/worst.xyz"

    def taken_away(self) -> list[str]:
        """Return the files that users take away."""
        return [self.errors, self.predictions, self.worst]


@dataclass(frozen=True)
class SimulationFiles:
    """The files of one simulation with the model of a run."""

    folder: str

    @property
    def trajectory(self) -> str:
        """Frames of all replicas."""
        return f"{self.folder}/trajectory.xyz"

    @property
    def series(self) -> str:
        """Temperature and energies over time."""
        return f"{self.folder}/series.parquet"

    @property
    def summary(self) -> str:
        """How it went."""
        return f"{self.folder}/summary.json"

    def taken_away(self) -> list[str]:
        """Return the files that users take away."""
        return [self.trajectory, self.series, self.summary]


@dataclass(frozen=True)
class DatasetFiles:
    """The files of one dataset."""

    folder: str

    @property
    def whole(self) -> str:
        """The dataset file of all parts, for people and for the report."""
        return f"{self.folder}/dataset.h5"

    @property
    def split(self) -> str:
        """Which frames of given files are for training and test, with hashes of the files."""
        return f"{self.folder}/split.json"

    @property
    def dropped(self) -> str:
        """Which given frames were left out, and why: a row a frame."""
        return f"{self.folder}/dropped.csv"

    def part(self, part: str) -> str:
        """Return the dataset file of "training", "test" or "pool" alone: a job depends on the frames it takes."""
        return f"{self.folder}/{part}.h5"

    def test_set(self, name: str = "{test}") -> str:
        """Return the dataset file of a named test set, without frames that are among the training frames.

        What it is made of lies in the folder of the dataset `named_test` names.
        """
        return f"{self.folder}/tests/{name}.h5"

    @property
    def frequencies(self) -> str:
        """Minima and vibrations of the cheap levels."""
        return f"{self.folder}/frequencies.json"

    @property
    def free_atoms(self) -> str:
        """Energies of free atoms at the level of the labels."""
        return f"{self.folder}/isolated-atoms.json"

    def chosen(self, number: str = "{round}") -> str:
        """Return the record of a round of an acquisition as it was chosen; by default with a wildcard."""
        return f"{self.folder}/rounds/{number}-chosen.json"

    def bought(self, suffix: str, number: str = "{round}") -> str:
        """Return what came of a round of a computed dataset: LABELLED frames, RECORDS of replacements, or ROUND."""
        return f"{self.folder}/rounds/{number}{suffix}"

    def of_size(self, size: str = "{size}") -> str:
        """Return the dataset file of the frames that an acquisition had bought when they were so many."""
        return f"{self.folder}/sizes/n{size}.h5"

    def candidates(self, part: str, source: str) -> str:
        """Return the frames of one source that those of a part are chosen from."""
        return f"{self.folder}/candidates/{part}-{source}.xyz"

    def frames(self, part: str) -> str:
        """Return the frames of a part, or of a round of an acquisition, without labels."""
        return f"{self.folder}/frames/{part}.xyz"

    def labels(self, labels: str, work: str) -> str:
        """Return the folder of labelling jobs that are cut alike.

        Args:
            labels: "training", "test", "test-forces", "test-slopes", or "round-0" and so on of an acquisition.
            work: what each frame takes, as `Jobs.work` names it.
        """
        return f"{self.folder}/labels/{labels}/{work}"

    def cheap_labels(self, level: str, part: str, work: str) -> str:
        """Return the folder of jobs that label a part with a cheap level, by its name.

        Args:
            level: name of the level.
            part: "training", "test" or "pool", or "round-0" and so on of an acquisition.
            work: what each frame takes, as `Jobs.cheap_work` names it.
        """
        return f"{self.folder}/cheap-labels/{level}/{part}/{work}"

    def cheap_batch(self, level: str, part: str, work: str, name: str, suffix: str) -> str:
        """Return a file of such a job: LABELLED frames or RECORDS."""
        return f"{self.cheap_labels(level, part, work)}/{name}{suffix}"

    def displaced(self, labels: str, work: str, name: str, share: str = "{share}") -> str:
        """Return the records of a job that computes displaced energies of a batch beforehand.

        Args:
            labels: as of `labels`.
            work: as of `labels`.
            name: of the batch.
            share: which job, "0-of-4"; by default a wildcard.
        """
        return f"{self.labels(labels, work)}/{name}.displaced/{share}{RECORDS}"

    def batch(self, labels: str, work: str, name: str, suffix: str) -> str:
        """Return a file of a labelling job: LABELLED frames or RECORDS."""
        return f"{self.labels(labels, work)}/{name}{suffix}"


@dataclass(frozen=True)
class Layout:
    """Where an experiment's results lie, relative to the working directory."""

    experiment: str

    @property
    def folder(self) -> str:
        """All that belongs to the experiment alone."""
        return f"{RESULTS}/{self.experiment}"

    @property
    def store(self) -> str:
        """Finished energies, shared by all experiments."""
        return f"{RESULTS}/labels"

    @property
    def owner(self) -> str:
        """A note of the config file that the results belong to."""
        return f"{self.folder}/.config"

    @property
    def report(self) -> str:
        """The report of all runs."""
        return f"{self.folder}/report.html"

    @property
    def snakemake_report(self) -> str:
        """Snakemake's own report of a run on a cluster."""
        return f"{self.folder}/snakemake.zip"

    @property
    def table(self) -> str:
        """A row a run."""
        return f"{self.folder}/results.csv"

    @property
    def partial_report(self) -> str:
        """The report of what is there before the experiment is finished."""
        return f"{self.folder}/partial-report.html"

    @property
    def partial_table(self) -> str:
        """A row a run that is tested, likewise."""
        return f"{self.folder}/partial-results.csv"

    @property
    def figures(self) -> str:
        """Figures of the report for print, a folder."""
        return f"{self.folder}/figures"

    @property
    def tables(self) -> str:
        """Tables of the report for print, a folder."""
        return f"{self.folder}/tables"

    def dataset(self, name: str = "{dataset}") -> DatasetFiles:
        """Return the files of a dataset; by default with a wildcard for its name."""
        return DatasetFiles(f"{self.folder}/datasets/{name}")

    def run(self, run: Run | None = None) -> RunFiles:
        """Return the files of a run; by default with wildcards for its point of the grid."""
        if run is None:
            return RunFiles(f"{self.folder}/{{dataset}}/{{model}}/{{loss}}/n{{size}}/seed{{seed}}")
        return RunFiles(f"{self.folder}/{run.dataset}/{run.model}/{run.loss}/n{run.size}/seed{run.seed}")

    def log(self, job: str) -> str:
        """Return the log of a job, named by rule and wildcards."""
        return f"{self.folder}/logs/{job}.log"

    @property
    def benchmarks(self) -> str:
        """Time and memory of all jobs, a folder."""
        return f"{self.folder}/benchmarks"

    def benchmark(self, job: str) -> str:
        """Return time and memory of a job, named by rule and wildcards."""
        return f"{self.benchmarks}/{job}.tsv"

    def earlier_pieces(self, job: str) -> str:
        """Return what the pieces of a job before its last one took, where it was stopped and went on."""
        return str(earlier_pieces(Path(self.benchmark(job))))
