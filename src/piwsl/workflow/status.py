"""How far an experiment has come, and how long it will take: read from files, beside a Snakemake that runs or died.

What files cannot say is said to be unknown: whether a job of a machine that we do not see still lives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from pathlib import Path

from piwsl.files import last_line
from piwsl.logs import seconds_left
from piwsl.records import read_benchmark, read_labellings
from piwsl.reference.forces import BY_DIFFERENCES
from piwsl.reference.store import LabelStore, geometry_hash
from piwsl.structures.frames import charge_of, multiplicity_of, read_frames
from piwsl.workflow.graph import Job, every_job
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.layout import RECORDS, Layout
from piwsl.workflow.snakemake_notes import FOLDER, Mark, locked_since, marks

# Finished labelling jobs whose records say how long a frame of their level takes.
JOBS_READ = 20
# Frames that are looked up in the store of energies; beyond them, what is there already counts as if it were not.
MOST_LOOKED_UP = 20_000


class State(StrEnum):
    """What has become of a job."""

    DONE = "done"
    RUNNING = "running"
    QUEUED = "queued"
    """Handed to a scheduler, and not seen to begin."""
    FAILED = "failed"
    WAITING = "waiting"


@dataclass(frozen=True)
class Found:
    """A job, and what its files say of it."""

    job: Job
    state: State
    said: str = ""
    """The last line of its log, of jobs that run or failed."""
    silent: float | None = None
    """How long ago its log was written, s."""
    cut_off: bool = False
    """It was running when its Snakemake ended."""
    left: float | None = 0.0
    """How long it will take yet, s; None where nothing alike was timed."""
    scheduler_id: str | None = None


@dataclass(frozen=True)
class Status:
    """The jobs of an experiment."""

    experiment: str
    found: list[Found]
    locked_since: float | None
    """When the Snakemake began that holds the experiment, s since 1970; None where none does."""

    def of(self, *states: State) -> list[Found]:
        """Return the jobs in any of these states."""
        return [each for each in self.found if each.state in states]

    def by_rule(self) -> dict[str, list[Found]]:
        """Return the jobs of each rule, in the order of the first job of each."""
        rules: dict[str, list[Found]] = defaultdict(list)
        for each in self.found:
            rules[each.job.rule].append(each)
        return rules


def status_of(jobs: Jobs, now: float, folder: Path = FOLDER) -> Status:
    """Say what has become of each job of an experiment, and how long what is left will take.

    A job whose results are there is done, unless one that it builds upon is not. What only Snakemake knows, that an
    edit outdated a result, is not looked for.

    Args:
        jobs: of the experiment.
        now: s since 1970.
        folder: Snakemake's own.
    """
    layout = jobs.layout
    locked, started = locked_since(layout.folder, folder), marks(folder)
    found: dict[str, Found] = {}
    for job in every_job(jobs):
        undone = any(found[name].state != State.DONE for name in job.after)
        mark = next((started[result] for result in job.results if result in started), None)
        found[job.name] = _found(job, layout, mark, locked, undone, now)
    times = Times(jobs, found.values())
    whole = [_with_time(each, times, started, now) for each in found.values()]
    return Status(jobs.experiment.experiment, whole, locked)


def _found(job: Job, layout: Layout, mark: Mark | None, locked: float | None, undone: bool, now: float) -> Found:
    """Say what has become of a job.

    Args:
        job: it.
        layout: of the experiment.
        mark: Snakemake's note that it began, if there is one.
        locked: when the Snakemake began that holds the experiment, if one does.
        undone: whether results that it takes are not all there.
        now: s since 1970.
    """
    log = Path(layout.log(job.name))
    if mark is not None:
        if locked is None or mark.since < locked:
            return Found(job, State.WAITING, cut_off=True)
        written = _written(log)
        if written is None or written < mark.since:
            state = State.RUNNING if mark.scheduler_id is None else State.QUEUED
            return Found(job, state, scheduler_id=mark.scheduler_id)
        return Found(job, State.RUNNING, last_line(log), max(0.0, now - written), scheduler_id=mark.scheduler_id)
    if all(Path(result).exists() for result in job.results):
        return Found(job, State.WAITING if undone else State.DONE)
    written, ended = _written(log), _written(Path(layout.benchmark(job.name)))
    tried_again = written is None or (locked is not None and written < locked)
    taken_away = written is not None and ended is not None and ended >= written
    if tried_again or taken_away:
        return Found(job, State.WAITING)
    return Found(job, State.FAILED, last_line(log), None if written is None else now - written)


def _written(path: Path) -> float | None:
    with suppress(OSError):
        return path.stat().st_mtime
    return None


class Times:
    """How long jobs take, by those alike that have ended; labelling by the cost model, set right by what has ended."""

    def __init__(self, jobs: Jobs, found: Iterable[Found]) -> None:
        """Read the benchmarks of rules that are not through.

        Args:
            jobs: of the experiment.
            found: all of them.
        """
        every = list(found)
        wanted = {each.job.rule for each in every if each.state != State.DONE and each.job.kind}
        done = [each.job for each in every if each.state == State.DONE and each.job.rule in wanted]
        self._seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for job in done:
            if (took := read_benchmark(Path(jobs.layout.benchmark(job.name)))) is not None:
                for depth in range(1, len(job.kind) + 1):
                    self._seconds[job.rule, *job.kind[:depth]].append(took.wall_s)
        self._energies = Energies(jobs)
        self._factors = _factors([job for job in done if job.rule == "label"])

    def of(self, job: Job) -> float | None:
        """Return how long a job will take, s; None where nothing alike was timed, 0 of what takes no time to speak of.

        Those count that are alike in most of what decides how long a job takes.
        """
        if job.rule == "label" and job.labelling is not None:
            return job.labelling.cpu_s * self._factors.get(job.kind[:2], 1.0) * self._energies.missing(job)
        for depth in range(len(job.kind), 0, -1):
            if seconds := self._seconds.get((job.rule, *job.kind[:depth])):
                return sum(seconds) / len(seconds)
        if job.labelling is not None:
            return job.labelling.cpu_s
        return None if job.kind else 0.0


class Energies:
    """Which energies of frames are in the store: of jobs that were cut off, or of another experiment."""

    def __init__(self, jobs: Jobs) -> None:
        """Look nothing up yet."""
        self._jobs = jobs
        self._hashes = cache(self._hashes_of)
        self._stored = cache(self._stored_of)
        self._looked_up = 0

    def missing(self, job: Job) -> float:
        """Return which share of the frames of a labelling job has no energy yet; 1 where that is not known."""
        assert job.labelling is not None
        if job.labelling.forces in BY_DIFFERENCES or not (stored := self._stored(job.kind[0])):
            return 1.0
        frames = self._hashes(job.kind[0], job.labelling.part)[job.labelling.start : job.labelling.stop]
        return sum(each not in stored for each in frames) / len(frames) if frames else 1.0

    def _hashes_of(self, dataset: str, part: str) -> list[str]:
        """Return the hashes of the frames of a part; none where they are not made, or too many."""
        path = Path(self._jobs.layout.dataset(dataset).frames(part))
        self._looked_up += self._jobs.frames_wanted(dataset, part)
        if self._looked_up > MOST_LOOKED_UP or not path.exists():
            return []
        return [geometry_hash(atoms, charge_of(atoms), multiplicity_of(atoms)) for atoms in read_frames(path)]

    def _stored_of(self, dataset: str) -> set[str]:
        """Return the hashes of all geometries whose energy at the level of a dataset is known."""
        level = self._jobs.experiment.levels[self._jobs.level_name(dataset)]
        return {path.stem for path in LabelStore(Path(self._jobs.layout.store), level).folder.glob("*/*.json")}


def _factors(done: Iterable[Job]) -> dict[tuple[str, ...], float]:
    """Return by dataset and level how much longer energies took than the cost model says."""
    of: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    for job in done:
        # Of the energies of differences one is recorded.
        if job.labelling is not None and job.labelling.forces not in BY_DIFFERENCES:
            of[job.kind[:2]].append(job)
    factors = {}
    for kind, jobs in of.items():
        took, said = map(sum, zip(*(_took_and_said(job) for job in jobs[-JOBS_READ:]), strict=True))
        if took and said:
            factors[kind] = took / said
    return factors


def _took_and_said(job: Job) -> tuple[float, float]:
    """Return the CPU seconds of the energies of a finished job whose time is known, and those of the cost model."""
    assert job.labelling is not None
    (path,) = (Path(result) for result in job.results if result.endswith(RECORDS))
    took = [record.cpu_s for record in read_labellings(path) if record.cpu_s is not None]
    return sum(took), len(took) * job.labelling.cpu_s / (job.labelling.stop - job.labelling.start)


def _with_time(each: Found, times: Times, started: dict[str, Mark], now: float) -> Found:
    """Add how long a job will take yet: by its own log, or by those alike, less the time that it has run."""
    if each.state == State.DONE:
        return each
    expected = times.of(each.job)
    if each.state != State.RUNNING:
        return replace(each, left=expected)
    own = seconds_left(each.said)
    if own is not None:
        return replace(each, left=max(0.0, own - (each.silent or 0.0)))
    if expected is None:
        return replace(each, left=None)
    since = next(started[result].since for result in each.job.results if result in started)
    return replace(each, left=max(0.0, expected - (now - since)))


def unknown(found: Iterable[Found]) -> Iterator[tuple[str, int]]:
    """Yield rules and how many of their jobs are such that nothing alike was timed."""
    counts: dict[str, int] = defaultdict(int)
    for each in found:
        if each.left is None:
            counts[f"{each.job.rule} of {each.job.kind[0]}"] += 1
    yield from counts.items()
