"""The rounds of acquisitions: what each is chosen from and asked of, and the files that it and a size are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from piwsl.config import Acquisition, Run
from piwsl.config.acquisition import round_name
from piwsl.data.dataset import TRAINING
from piwsl.workflow.layout import LABELLED, RECORDS, ROUND

if TYPE_CHECKING:
    from piwsl.reference.planning import LabellingJob
    from piwsl.workflow.jobs import Jobs


class RoundWildcards(Protocol):
    """What Snakemake hands to the functions of a rule that makes files of a round."""

    dataset: str
    round: str


class Rounds:
    """The rounds of all datasets of an experiment that have an acquisition."""

    def __init__(self, jobs: Jobs) -> None:
        """Keep the jobs of the experiment."""
        self._jobs = jobs
        self.acquisitions: dict[str, Acquisition] = {
            name: dataset.acquisition
            for name, dataset in jobs.experiment.datasets.items()
            if dataset.acquisition is not None
        }

    def numbers(self, dataset: str) -> range:
        """Return the numbers of the rounds of a dataset that are made: none where no run takes it."""
        taken = any(run.dataset == dataset for run in self._jobs.runs)
        return self.acquisitions[dataset].numbers if taken else range(0)

    def of_size(self, dataset: str, size: int | str) -> range:
        """Return the numbers of the rounds that make up a size."""
        return range(self.acquisitions[dataset].round_of(int(size)) + 1)

    # What a round depends on.

    def candidates(self, dataset: str) -> str:
        """Return the file of the frames that rounds are chosen from."""
        files = self._jobs.layout.dataset(dataset)
        return files.frames(TRAINING) if dataset in self._jobs.computed else files.part(TRAINING)

    def asked(self, dataset: str, number: int) -> Run | None:
        """Return the run whose model chooses the frames of a round; None where chance does."""
        asked = self._jobs.experiment.asked(dataset)
        return asked[number - 1] if number and asked else None

    def model(self, wildcards: RoundWildcards) -> list[str]:
        """Return the file of the model that chooses the frames of a round; none where chance does."""
        run = self.asked(wildcards.dataset, int(wildcards.round))
        return [] if run is None else [self._jobs.layout.run(run).model]

    def wanted(self, wildcards: RoundWildcards) -> dict[str, Any]:
        """Return what a round is asked for, as plain values of a `Wanted`: nothing of how many others there are."""
        return self.wanted_of(wildcards.dataset, int(wildcards.round))

    def wanted_of(self, dataset: str, number: int) -> dict[str, Any]:
        """Return the same of a dataset and a number."""
        acquisition, run = self.acquisitions[dataset], self.asked(dataset, number)
        return {
            "dataset": dataset,
            "number": number,
            "frames": acquisition.frames_of(number),
            "by": acquisition.chooser(number),
            "seed": acquisition.seed,
            "learned": None if run is None else run.size,
        }

    def labelling_job(self, wildcards: RoundWildcards) -> LabellingJob:
        """Return what a job that labels frames of a round, or of its reserve, does and needs."""
        batches, labels = self._jobs.batches(wildcards.dataset), round_name(wildcards.round)
        return next(job for (kind, _), job in batches.items() if kind == labels)

    # What it gives.

    def records(self, dataset: str, numbers: Iterable[int]) -> list[str]:
        """Return the records of rounds: of computed datasets those that are written once frames are labelled."""
        files = self._jobs.layout.dataset(dataset)
        if dataset in self._jobs.computed:
            return [files.bought(ROUND, str(number)) for number in numbers]
        return [files.chosen(str(number)) for number in numbers]

    def every_record(self) -> list[str]:
        """Return the records of all rounds that are made, of all datasets."""
        return [path for name in self.acquisitions for path in self.records(name, self.numbers(name))]

    def labelled(self, dataset: str, numbers: Iterable[int], suffix: str) -> list[str]:
        """Return the files of labelled frames of rounds of a computed dataset: LABELLED frames or RECORDS of all."""
        files = self._jobs.layout.dataset(dataset)
        if suffix == LABELLED:
            return [files.bought(LABELLED, str(number)) for number in numbers]
        return [
            path
            for number in numbers
            for path in (*self._batches(dataset, number, RECORDS), files.bought(RECORDS, str(number)))
        ]

    def labelled_as_chosen(self, wildcards: RoundWildcards, suffix: str) -> list[str]:
        """Return the files of the labelling jobs of a round, in which some frames may have failed."""
        return self._batches(wildcards.dataset, wildcards.round, suffix)

    def _batches(self, dataset: str, number: int | str, suffix: str) -> list[str]:
        return self._jobs.batch_files(dataset, round_name(number), suffix)

    def cheap_labels(self, dataset: str, size: int | str, suffix: str) -> list[str]:
        """Return the files of all jobs that label the frames of a size with cheap levels."""
        return self._jobs.cheap_labels(dataset, suffix, *(round_name(number) for number in self.of_size(dataset, size)))
