"""Every job that an experiment takes, in the order in which Snakemake could do them, without asking Snakemake.

Planning ten thousand jobs takes Snakemake minutes; here they are the same by rule, log and results, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from piwsl.config import Experiment, Run
from piwsl.config.acquisition import round_name, round_number
from piwsl.data.dataset import PARTS, POOL, TEST, TRAINING
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.layout import LABELLED, RECORDS, ROUND, Layout, named_test

if TYPE_CHECKING:
    from piwsl.reference.planning import LabellingJob
    from piwsl.workflow.test_sets import NamedTest


@dataclass(frozen=True)
class Job:
    """A job: what a rule does once."""

    rule: str
    name: str
    """Of its log, and of its benchmark where it has one."""
    results: tuple[str, ...]
    """The files that it makes."""
    after: tuple[str, ...] = ()
    """Names of the jobs whose results it takes."""
    kind: tuple[str, ...] = ()
    """What decides how long it takes, from what matters most: jobs that begin alike take about as long."""
    labelling: LabellingJob | None = None
    """What it does and needs, where it labels."""


def every_job(jobs: Jobs) -> list[Job]:
    """Return the jobs that all results of an experiment take; each comes after those whose results it takes."""
    found = [*_downloads(jobs)]
    for name in jobs.experiment.datasets:
        dataset = _Dataset(jobs, name)
        frames = [job for part in PARTS for job in dataset.frames(part)]
        labels = [*dataset.labels(), *dataset.cheap_labels()]
        found += [*frames, *labels, *dataset.rounds(labels), *dataset.together(labels)]
    for name, test in jobs.test_sets.items():
        if any(run.dataset == test.dataset for run in jobs.runs):
            found += _test_set(_Dataset(jobs, name, test.dataset), test, jobs.layout)
    found += _runs(jobs)
    layout = jobs.layout
    report = (layout.report, layout.table, layout.figures, layout.tables)
    whole = [*found, Job("report", "report", report, tuple(job.name for job in found if job.rule != "teach"))]
    return _in_order(whole)


def measured(jobs: Jobs) -> list[str]:
    """Return the names of the jobs whose benchmarks are those of the config's results.

    They are all jobs of the experiment, and the vibrations of all runs, which `snakemake frequencies` finds.
    """
    return [*dict.fromkeys([*(job.name for job in every_job(jobs)), *(f"vibrate/{_point(run)}" for run in jobs.runs)])]


def _downloads(jobs: Jobs) -> Iterator[Job]:
    """Yield the jobs that bring files of published sets, where a run takes them."""
    taken = dict.fromkeys(run.dataset for run in jobs.runs)
    datasets = [*taken, *(name for name, test in jobs.test_sets.items() if test.dataset in taken)]
    given = [name for name in datasets if name in jobs.given]
    published = {name: source for dataset in given for name, source in jobs.published_files(dataset).items()}
    names = {source.path: name for name, source in published.items()}
    for name, source in published.items():
        if source.archive is None:
            yield Job("download", _published(jobs, name), (str(source.path),))
        else:
            yield Job("unpack", _published(jobs, name), (str(source.path),), (_published(jobs, names[source.archive]),))


def _published(jobs: Jobs, name: str) -> str:
    """Return the name of the job that brings a file of a published set."""
    return f"{'download' if jobs.published[name].archive is None else 'unpack'}/{name}"


def _in_order(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs such that each comes after those whose results it takes, and in their order where it may.

    Rounds of an acquisition wait for models of the grid, all others are in order already.
    """
    by_name, found = {job.name: job for job in jobs}, dict[str, Job]()
    for job in jobs:
        waiting = [job]
        while waiting:
            before = [by_name[name] for name in waiting[-1].after if name not in found]
            if before:
                waiting += reversed(before)
            else:
                last = waiting.pop()
                found.setdefault(last.name, last)
    return [*found.values()]


def _test_set(own: _Dataset, test: NamedTest, layout: Layout) -> Iterator[Job]:
    """Yield the jobs that make a named test set: those of a dataset of test frames alone, and what it leaves out."""
    yield from own.frames(TEST)
    labels = [*own.labels(), *own.cheap_labels()]
    yield from labels
    yield own.part(TEST, [job.name for job in labels])
    after = (part_of(named_test(test.dataset, test.name), TEST), part_of(test.dataset, TRAINING))
    made = (layout.dataset(test.dataset).test_set(test.name),)
    yield Job("make_test_set", test_set_of(test.dataset, test.name), made, after)


def test_set_of(dataset: str, test: str) -> str:
    """Return the name of the job that makes a named test set of a dataset."""
    return f"dataset/{dataset}/tests/{test}"


@dataclass
class _BatchName:
    """Names a labelling job."""

    dataset: str
    labels: str
    work: str
    batch: str


class _Dataset:
    """The jobs of one dataset, or of a named test set of another, whose runs it has."""

    def __init__(self, jobs: Jobs, name: str, of_runs: str | None = None) -> None:
        self._jobs, self._name = jobs, name
        self._files = jobs.layout.dataset(name)
        self._computed = name in jobs.computed
        self._runs = [run for run in jobs.runs if run.dataset == (of_runs or name)]
        self._acquisition = jobs.rounds.acquisitions.get(name)
        self._asked = jobs.experiment.asked(name) if self._acquisition is not None else []
        # Made where a run takes the dataset, and not otherwise.
        self._of_runs = (POOL,) if self._acquisition is None else (POOL, TRAINING)

    def frames(self, part: str) -> Iterator[Job]:
        """Yield the jobs that make the frames of a part, where somebody labels them or takes them as they are."""
        if not self._computed:
            if self._runs and self._jobs.cheap_levels(self._name) and part in self._jobs.cheap(self._name).parts:
                yield Job(
                    "take_geometries", f"take/{self._name}/{part}", (self._files.frames(part),), self._brought(part)
                )
        elif self._frames_are_made(part):
            sources = [self._source(part, path) for path in self._jobs.candidates(self._name, part)]
            yield from sources
            after = tuple(source.name for source in sources)
            yield Job("select", self._frames_of(part), (self._files.frames(part),), after)

    def _frames_are_made(self, part: str) -> bool:
        """Whether frames of a part of a computed dataset are wanted: of some parts, where a run takes them."""
        return bool(self._jobs.frames_wanted(self._name, part) and (self._runs or part not in self._of_runs))

    def _source(self, part: str, path: str) -> Job:
        if self._name in self._jobs.scans():
            return Job("scan", f"scan/{self._name}", (path,))
        if self._name in self._jobs.whole_files():
            return Job("take_whole_file", f"take/{self._name}", (path,))
        if self._jobs.computed[self._name].sampling is None:
            return Job("split_geometries", f"split/{self._name}/{part}", (path,))
        source = PurePath(path).stem.removeprefix(f"{part}-")
        kind = "normal modes" if source.startswith("modes-") else "dynamics"
        return Job("sample", f"sample/{self._name}/{part}-{source}", (path,), kind=(self._name, kind, part))

    def _frames_of(self, part: str) -> str:
        """Return the name of the job that makes the frames of a part, or of a round."""
        if round_number(part) is not None:
            return f"choose/{self._name}/{part}"
        return f"{'select' if self._computed else 'take'}/{self._name}/{part}"

    def _frames_known(self, part: str) -> str:
        """Return the name of the job after which it is known which frames of a part, or of a round, are labelled."""
        return self._frames_of(part) if round_number(part) is None else self._completed(part)

    def _completed(self, part: str) -> str:
        """Return the name of the job after which a round has its frames."""
        return f"complete/{self._name}/{part}" if self._computed else self._frames_of(part)

    def labels(self) -> Iterator[Job]:
        """Yield the jobs that label at the level of the dataset, free atoms included."""
        if not self._computed:
            return
        level = self._jobs.level_name(self._name)
        for (labels, name), batch in self._jobs.batches(self._name).items():
            if batch.part in self._jobs.labelled_parts(self._name, TRAINING) and not self._frames_are_made(TRAINING):
                continue
            work = self._jobs.work(self._name, labels)
            made = tuple(self._files.batch(labels, work, name, suffix) for suffix in (LABELLED, RECORDS))
            log, kind = f"{self._name}/{labels}/{work}/{name}", (self._name, level, labels)
            frames = (self._frames_of(batch.part),)
            displaced = self._jobs.displaced(_BatchName(self._name, labels, work, name))
            each = replace(batch, cpu_s=batch.cpu_s / max(len(displaced), 1))
            shares = [
                Job(
                    "displace",
                    f"displace/{log.removeprefix('label/')}/{PurePath(path).stem}",
                    (path,),
                    frames,
                    kind,
                    each,
                )
                for path in displaced
            ]
            yield from shares
            left = replace(batch, cpu_s=0.0) if shares else batch
            yield Job("label", f"label/{log}", made, (*frames, *(share.name for share in shares)), kind, left)
        for path in self._jobs.free_atoms(self._name):
            yield Job("label_free_atoms", self._free_atoms, (path,), kind=(self._name,))

    @property
    def _free_atoms(self) -> str:
        return f"isolated-atoms/{self._name}"

    def cheap_labels(self) -> Iterator[Job]:
        """Yield the jobs that label with cheap levels, where a run takes the dataset."""
        for level in self._jobs.cheap_levels(self._name) if self._runs else ():
            work = self._jobs.cheap_work(level)
            for part in self._jobs.cheap(self._name).parts:
                for name, batch in self._jobs.cheap_batches(self._name, level, part).items():
                    files = (self._files.cheap_batch(level, part, work, name, end) for end in (LABELLED, RECORDS))
                    log = f"label/{self._name}/{level}/{part}/{work}/{name}"
                    kind = (self._name, level, part)
                    yield Job("label_cheaply", log, tuple(files), (self._frames_known(part),), kind, batch)

    def rounds(self, labels: Sequence[Job]) -> Iterator[Job]:
        """Yield the jobs of an acquisition that choose frames, and that put them together, by round and by size.

        Args:
            labels: all labelling jobs of the dataset.
        """
        if self._acquisition is None or not self._runs:
            return
        candidates = self._frames_of(TRAINING) if self._computed else part_of(self._name, TRAINING)
        before: tuple[str, ...] = ()
        for number in self._acquisition.numbers:
            part, asked = round_name(number), self._jobs.rounds.asked(self._name, number)
            models = () if asked is None else (f"train/{_point(asked)}",)
            made = (self._files.frames(part), self._files.chosen(str(number)))
            yield Job("choose_round", self._frames_of(part), made, (candidates, *before, *models), (self._name,))
            if self._computed:
                after = [job.name for job in labels if job.rule == "label" and _part(job) == part]
                bought = tuple(self._files.bought(suffix, str(number)) for suffix in (LABELLED, RECORDS, ROUND))
                yield Job("complete_round", self._completed(part), bought, (self._frames_of(part), *after))
            before = (*before, self._completed(part))
        for size in sorted({run.size for run in [*self._runs, *self._asked]}):
            yield self._of_size(size, labels)

    def _of_size(self, size: int, labels: Sequence[Job]) -> Job:
        parts = [round_name(number) for number in self._jobs.rounds.of_size(self._name, size)]
        after = [self._completed(part) for part in parts]
        if self._computed:
            after += [job.name for job in labels if _part(job) in parts or not job.labelling]
        else:
            after.append(part_of(self._name, TRAINING))
        rule = "assemble_size" if self._computed else "take_size"
        return Job(rule, size_of(self._name, size), (self._files.of_size(str(size)),), tuple(after))

    def together(self, labels: Sequence[Job]) -> Iterator[Job]:
        """Yield the jobs that put the dataset together, its parts and the whole, where a run takes it."""
        if not self._runs:
            return
        after = {
            part: [job.name for job in labels if _part(job) in self._jobs.labelled_parts(self._name, part)]
            for part in PARTS
        }
        if self._computed and self._acquisition is not None:
            after[TRAINING] += [self._completed(part) for part in self._jobs.labelled_parts(self._name, TRAINING)]
        after[TRAINING] += [job.name for job in labels if not job.labelling]
        after[POOL] += [self._frames_of(POOL)] if self._computed and self._jobs.frames_of_pool(self._name) else []
        for part in (TRAINING, TEST, *((POOL,) if self._pool_is_taken() else ())):
            yield self.part(part, after[part])
        whole = tuple(name for names in [self._brought(), *after.values()] for name in names)
        made = (self._files.whole,) if self._computed else (self._files.whole, self._files.dropped, self._files.split)
        yield Job(f"{self._made_by}_dataset", f"dataset/{self._name}", made, whole)
        if self._files.frequencies in self._jobs.frequencies_of_levels():
            log, taken = f"vibrate-levels/{self._name}", (part_of(self._name, TEST),)
            yield Job("vibrate_levels", log, (self._files.frequencies,), taken)

    def part(self, part: str, after: Sequence[str]) -> Job:
        """Return the job that puts a part together, after those of these names."""
        taken = (*self._brought(part), *after)
        return Job(f"{self._made_by}_part", part_of(self._name, part), (self._files.part(part),), taken)

    def _brought(self, part: str | None = None) -> tuple[str, ...]:
        """Return the names of the jobs that bring the files of a part, or of all."""
        if self._computed:
            return ()
        files = set(self._jobs.given_files(self._name, part))
        published = self._jobs.published_files(self._name).items()
        return tuple(_published(self._jobs, name) for name, source in published if source.path in files)

    @property
    def _made_by(self) -> str:
        return "assemble" if self._computed else "import"

    def _pool_is_taken(self) -> bool:
        """Whether a run learns from frames of the pool, or a teacher labels them for one."""
        experiment = self._jobs.experiment
        trained = [*self._runs, *self._asked]
        return any(experiment.losses[run.loss].pool or experiment.teacher(run) is not None for run in trained)


def _part(job: Job) -> str | None:
    """Return the part, or the round, that a job labels frames of; None of others."""
    return None if job.labelling is None else job.labelling.part


def size_of(dataset: str, size: int) -> str:
    """Return the name of the job that puts together what an acquisition had bought at a size."""
    return f"dataset/{dataset}/n{size}"


def part_of(dataset: str, part: str) -> str:
    """Return the name of the job that puts a part of a dataset together."""
    return f"dataset/{dataset}/{part}"


def _runs(jobs: Jobs) -> Iterator[Job]:
    """Yield the jobs of all points of the grid, and of those beside it that teach one, or choose frames."""
    grid, examples = set(jobs.runs), set(jobs.examples())
    trained = jobs.experiment.trained(jobs.runs)
    lines = [[*_teachers(jobs.experiment, run), run] for run in trained]
    teachers = {teacher for line in lines for teacher in line[:-1]}
    for run in dict.fromkeys(run for line in lines for run in line):
        yield _train(jobs, run)
        if run in teachers:
            after = (f"train/{_point(run)}", part_of(run.dataset, POOL))
            yield Job("teach", f"teach/{_point(run)}", (jobs.layout.run(run).taught,), after, _kind(run))
        if run in grid:
            yield from _tests(jobs, run, run in examples)


def _teachers(experiment: Experiment, run: Run) -> list[Run]:
    """Return who teaches a run, and before that who teaches the teacher."""
    teacher = experiment.teacher(run)
    return [] if teacher is None else [*_teachers(experiment, teacher), teacher]


def _train(jobs: Jobs, run: Run) -> Job:
    files, teacher = jobs.layout.run(run), jobs.experiment.teacher(run)
    acquired = run.dataset in jobs.rounds.acquisitions
    after = [size_of(run.dataset, run.size) if acquired else part_of(run.dataset, TRAINING)]
    if teacher is not None:
        after.append(f"teach/{_point(teacher)}")
    elif jobs.experiment.losses[run.loss].pool:
        after.append(part_of(run.dataset, POOL))
    return Job("train", f"train/{_point(run)}", (files.model, files.history), tuple(after), _kind(run))


def _tests(jobs: Jobs, run: Run, vibrates: bool) -> Iterator[Job]:
    """Yield the jobs that test the model of a run."""
    files, point, kind = jobs.layout.run(run), _point(run), _kind(run)
    after = (f"train/{point}", part_of(run.dataset, TEST))
    yield Job("evaluate", f"evaluate/{point}", (files.errors, files.predictions, files.worst), after, kind)
    for test in jobs.experiment.datasets[run.dataset].tests:
        made, taken = tuple(files.test(test).taken_away()), (after[0], test_set_of(run.dataset, test))
        yield Job("evaluate_on", f"evaluate/{point}-on-{test}", made, taken, (test, *kind))
    for name in jobs.experiment.simulated(run):
        made = tuple(files.simulation(name).taken_away())
        yield Job("simulate", f"simulate/{point}/{name}", made, after, (f"{run.model}, {name}", *kind[1:]))
    if vibrates:
        yield Job("vibrate", f"vibrate/{point}", (files.frequencies,), after, kind)


def _point(run: Run) -> str:
    return f"{run.dataset}/{run.model}/{run.loss}/n{run.size}-seed{run.seed}"


def _kind(run: Run) -> tuple[str, ...]:
    return (run.model, run.dataset, run.loss, str(run.size))
