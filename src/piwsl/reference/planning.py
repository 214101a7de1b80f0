"""What labelling a dataset takes, before anything is submitted: sources of frames, batches, CPU hours, memory, disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ase import Atoms

from piwsl.config import PRESETS, ComputedDataset, Cost, Labelling, Level, level_checks, named_level
from piwsl.config.acquisition import ROUND, round_name, round_number
from piwsl.errors import PiwslError
from piwsl.reference.checks import check_level
from piwsl.reference.differences import displaced_geometries, energies_needed
from piwsl.reference.forces import BY_DIFFERENCES, ForceMethod, check_forces, force_method
from piwsl.reference.geometries import (
    TEST,
    TRAINING,
    frames_of_part,
    load_molecule,
    read_file,
    read_geometries,
    whole_file,
)
from piwsl.reference.selection import candidates_needed
from piwsl.reference.store import STORED_FORCES, LabelStore, geometry_hash
from piwsl.structures.frames import charge_of, multiplicity_of, read_frames

TARGET_MINUTES = 20
SMALLEST_TIME_LIMIT_MINUTES = 30
# Reading and writing a frame.
SHORTEST_FRAME_SECONDS = 1e-3
# Starting Python and reading files, whatever the batch.
JOB_OVERHEAD_MB = 300
RECORD_KILOBYTES = 4
# One process of one thread a core is best, until an energy takes this long.
HOURS_A_THREAD = 1.0
MOST_THREADS = 8
# Of several threads on one molecule, at least: integrals and triples share the work well, input and output do not.
EFFICIENCY = 0.5
# Beyond these a user is told, before anything is submitted.
LONGEST_FRAME_HOURS = 24
LARGEST_NODE_MB = 256_000
MOST_HOURS = 2000
# Of a step of dynamics on GFN2-xTB: ethanol 2 ms, aspirin 10.
STEP_SECONDS, STEP_SECONDS_A_PAIR = 3e-4, 2.2e-5
MINIMUM_STEPS = 50
# In the store, to estimate how many of them are there.
CANDIDATES_LOOKED_AT = 50
BY_ESTIMATE = Labelling()


@dataclass(frozen=True)
class LabellingJob:
    """The frames of one labelling job."""

    part: str
    """training, test or pool, or round-0 and so on: which file of frames they are of."""
    start: int
    stop: int
    forces: ForceMethod | None
    mem_mb: int
    """Of the first attempt."""
    runtime: int
    """Minutes, of the first attempt."""
    cpu_s: float
    """Estimated CPU seconds of the whole batch."""
    scratch_mb: float
    """Estimated room on the disk of temporary files."""
    threads: int
    """Cores for one molecule at a time."""
    shares: int = 0
    """Jobs before this one, among which displaced energies of its frame are dealt out; 0 where it computes them."""
    share_runtime: int = 0
    """Minutes, of the first attempt of each of those."""


@dataclass(frozen=True)
class FrameCost(Cost):
    """What one frame takes, with all of its energies."""

    energies: int = 1

    def threads(self) -> int:
        """Return how many threads an energy is worth: one, unless it takes hours."""
        return max(1, min(MOST_THREADS, int(self.cpu_s / self.energies / 3600 / HOURS_A_THREAD)))

    def wall_s(self, threads: int) -> float:
        """Return about how long a frame takes on so many threads."""
        return self.cpu_s / max(1.0, EFFICIENCY * threads)


def structures(dataset: ComputedDataset) -> list[Atoms]:
    """Return the molecule, or all given geometries but those of a file for the pool, which the level never labels."""
    if dataset.molecule is not None:
        return [load_molecule(dataset.molecule)]
    geometries = dataset.geometries
    assert geometries is not None
    return [frame for path in geometries.labelled_files for frame in read_file(path, geometries)]


def structures_with_pool(dataset: ComputedDataset) -> list[Atoms]:
    """Return the molecule, or all given geometries."""
    return structures(dataset) if dataset.geometries is None else read_geometries(dataset.geometries)


def representative(every: list[Atoms]) -> Atoms:
    """Return the structure whose cost is taken for every frame: the molecule, or the largest given geometry."""
    return max(every, key=lambda atoms: int(atoms.numbers.sum()))


def sources(dataset: ComputedDataset) -> dict[str, float]:
    """Return what candidates come from: names of files, and the temperature of each in K (given geometries: none)."""
    if dataset.sampling is None:
        return {"given": 0.0}
    trajectories = {f"{temperature:g}K": temperature for temperature in dataset.sampling.temperatures}
    modes = {f"modes-{temperature:g}K": temperature for temperature in dataset.sampling.normal_modes}
    return trajectories | modes


def frames_wanted(dataset: ComputedDataset, part: str) -> int:
    """Return how many frames a part has, "training", "test" or "pool", or a round of an acquisition."""
    number = round_number(part)
    if number is not None and dataset.acquisition is not None:
        return dataset.acquisition.frames_of(number)
    wanted = {"training": dataset.training_frames, "test": dataset.test_frames, "pool": dataset.pool_frames or 0}
    return wanted[part]


def pool_of_file(dataset: ComputedDataset, part: str) -> int:
    """Return how many frames of the file that training frames are taken from are the pool's; no test frame is."""
    assert dataset.geometries is not None
    return 0 if part == TEST or dataset.geometries.pool_file is not None else dataset.pool_frames or 0


def labelled_parts(dataset: ComputedDataset, part: str) -> list[str]:
    """Return the names of files of frames whose labels make a part: of training frames, the rounds of an acquisition.

    A round makes itself.
    """
    if part == "training" and dataset.acquisition is not None:
        return [round_name(number) for number in dataset.acquisition.numbers]
    return [part]


def frames_of_source(dataset: ComputedDataset, part: str) -> int:
    """Return how many frames each source gives of a part."""
    wanted = frames_wanted(dataset, part)
    if part == "training" and dataset.selection == "farthest_point":
        wanted = candidates_needed(wanted, dataset.candidates)
    return math.ceil(wanted / len(sources(dataset)))


def sampling_cpu_s(dataset: ComputedDataset, every: list[Atoms], part: str) -> float:
    """Estimate what the geometries of a part take: steps of dynamics on GFN2-xTB, and the minimum and its Hessian.

    Args:
        dataset: the section.
        every: its structures.
        part: "training", "test" or "pool".

    Returns:
        CPU seconds; 0 of given geometries.
    """
    frames, sampling = frames_of_source(dataset, part), dataset.sampling
    if sampling is None or not frames:
        return 0.0
    atoms = len(representative(every))
    dynamics = len(sampling.temperatures) * (sampling.equilibration + frames * sampling.stride)
    modes = len(sampling.normal_modes) * (MINIMUM_STEPS + 6 * atoms)
    return (dynamics + modes) * (STEP_SECONDS + STEP_SECONDS_A_PAIR * atoms**2)


@dataclass(frozen=True)
class Span:
    """Neighbouring frames that are labelled alike."""

    part: str
    """training, test or pool, or a round."""
    first: int
    last: int
    """The one after the last frame."""
    forces: ForceMethod | None


def made_from(dataset: ComputedDataset, part: str) -> str | None:
    """Return what the geometries of a part follow from, as text: datasets alike in it share them, and their labels.

    Args:
        dataset: the section.
        part: training, test or pool, or a round of an acquisition.

    Returns:
        None of a round, whose geometries a model chooses.
    """
    if round_number(part) is not None:
        return None
    return f"{frames_wanted(dataset, part)} {followed(dataset, part)}"


def followed(dataset: ComputedDataset, part: str) -> str:
    """Return what the geometries of a part follow from but for their number, as text.

    Args:
        dataset: the section.
        part: training, test or pool.
    """
    keys = {"molecule", "sampling"}
    keys |= {"selection", "candidates"} if part == "training" else set()
    found = f"{part} {dataset.model_dump_json(include=keys)}"
    if dataset.geometries is None:
        return found
    beside = "" if dataset.geometries.pool_file else f" {dataset.pool_frames}"  # which its file is shared with
    return f"{found} {dataset.geometries.of_part(part).model_dump_json()}{beside}"


def label_spans(dataset: ComputedDataset, every: list[Atoms], level: Level) -> dict[str, Span]:
    """Say which frames get which labels.

    Args:
        dataset: how many frames, with which forces.
        every: the structures of the dataset.
        level: the level of theory.

    Returns:
        By labels ("training" or, of an acquisition, "round-0" and so on, "test-forces", "test-slopes", "test"); those
        without frames are left out.
    """
    with_forces = force_method(level, {multiplicity_of(atoms) for atoms in every}, dataset.forces_by)
    of_training = with_forces if dataset.training_forces else None
    slopes = dataset.test_force_frames + dataset.test_slope_frames
    spans = {
        **{
            part: Span(part, 0, frames_wanted(dataset, part), of_training)
            for part in labelled_parts(dataset, "training")
        },
        "test-forces": Span("test", 0, dataset.test_force_frames, with_forces),
        "test-slopes": Span("test", dataset.test_force_frames, slopes, "slope"),
        "test": Span("test", slopes, dataset.test_frames, None),
    }
    return {labels: span for labels, span in spans.items() if span.last > span.first}


def label_batches(
    dataset: ComputedDataset,
    every: list[Atoms],
    level: Level,
    cut_before: Mapping[str, Iterable[tuple[int, int]]] | None = None,
) -> dict[tuple[str, str], LabellingJob]:
    """Cut the frames of a dataset into jobs.

    Args:
        dataset: how many frames, with which forces; sizes of jobs where the config gives them.
        every: the structures of the dataset, read once for all that asks for them.
        level: the level of theory.
        cut_before: by labels, first frame and the one after the last of each job that is done: sizes of jobs are
            those of the frames that are left.

    Returns:
        By labels (as of `label_spans`) and name ("00000-00010") the batch.
    """
    batches = {}
    for labels, span in label_spans(dataset, every, level).items():
        cost = frame_cost(every, level, span.forces)
        step = _frames_per_job(dataset.labelling, cost, span.forces)
        for start, stop in _cut(span, step, (cut_before or {}).get(labels, ())):
            batches[labels, batch_name(start, stop)] = _batch(dataset.labelling, cost, span, start, stop)
    return batches


def batch_name(start: int, stop: int) -> str:
    """Return how the files of a batch are named, by its first frame and the one after its last."""
    return f"{start:05d}-{stop:05d}"


def label_batch(dataset: ComputedDataset, every: list[Atoms], level: Level, labels: str, name: str) -> LabellingJob:
    """Return the batch of a name; it need not be one that `label_batches` would cut now."""
    span = label_spans(dataset, every, level)[labels]
    start, stop = map(int, name.split("-"))
    return _batch(dataset.labelling, frame_cost(every, level, span.forces), span, start, stop)


def cheap_batches(
    part: str, frames: int, every: list[Atoms], level: Level, cut_before: Iterable[tuple[int, int]] = ()
) -> dict[str, LabellingJob]:
    """Cut the frames of a part into jobs that label them with a cheap level, its forces included.

    Args:
        part: "training", "test" or "pool".
        frames: how many there are.
        every: structures, the largest of which costs what each frame is taken to cost.
        level: the level.
        cut_before: as of `label_batches`.

    Returns:
        By name ("00000-00010") the batch.
    """
    span, cost = Span(part, 0, frames, "analytic"), frame_cost(every, level, "analytic")
    cuts = _cut(span, _frames_per_job(BY_ESTIMATE, cost, span.forces), cut_before)
    return {batch_name(start, stop): _batch(BY_ESTIMATE, cost, span, start, stop) for start, stop in cuts}


def cheap_batch(part: str, every: list[Atoms], level: Level, name: str) -> LabellingJob:
    """Return the batch of a name; it need not be one that `cheap_batches` would cut now."""
    start, stop = map(int, name.split("-"))
    return _batch(BY_ESTIMATE, frame_cost(every, level, "analytic"), Span(part, start, stop, "analytic"), start, stop)


def _cut(span: Span, step: int, before: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Cut a span; what was cut before stays, and the gaps are cut anew."""
    at = span.first
    for start, stop in [*sorted(before), (span.last, span.last)]:
        if at <= start and stop <= span.last:
            yield from ((first, min(first + step, start)) for first in range(at, start, step))
            if start < stop:
                yield start, stop
            at = stop


def frame_cost(every: list[Atoms], level: Level, forces: ForceMethod | None) -> FrameCost:
    """Return the estimated cost of one frame of a dataset, of all of its structures."""
    atoms = representative(every)
    cost = level_checks.cost(level, atoms, charge_of(atoms), multiplicity_of(atoms), forces == "analytic")
    if forces not in BY_DIFFERENCES:
        return FrameCost(cost.cpu_s, cost.memory_mb, cost.scratch_mb)
    energies = energies_needed(atoms.positions, forces)
    near = level_checks.displaced_cost(level, atoms, charge_of(atoms), multiplicity_of(atoms))
    return FrameCost(cost.cpu_s + (energies - 1) * near.cpu_s, cost.memory_mb, cost.scratch_mb, energies)


def _frames_per_job(labelling: Labelling, cost: Cost, forces: ForceMethod | None) -> int:
    if forces == "differences":
        return 1  # dozens of energies: a job of its own
    by_estimate = max(1, int(60 * TARGET_MINUTES / max(cost.cpu_s, SHORTEST_FRAME_SECONDS)))
    return labelling.frames_per_job or by_estimate


def _batch(labelling: Labelling, cost: FrameCost, span: Span, start: int, stop: int) -> LabellingJob:
    """Return a job; each of its frames costs so much, all of its energies included."""
    threads = labelling.threads or cost.threads()
    frame_s, frames = cost.wall_s(threads), stop - start
    shares = _shares(frame_s, cost.energies) if frames == 1 else 0
    # What is dealt out begins with the frame itself, whose orbitals the others start from.
    first_s = frame_s / cost.energies
    own, each = (first_s, first_s + frame_s / shares) if shares else (frames * frame_s, 0.0)
    megabytes = 100 * math.ceil((JOB_OVERHEAD_MB + 1.3 * cost.memory_mb) / 100)
    return LabellingJob(
        part=span.part,
        start=start,
        stop=stop,
        forces=span.forces,
        mem_mb=labelling.mem_mb or megabytes,
        runtime=labelling.runtime or _time_limit(own),
        cpu_s=frames * cost.cpu_s,
        scratch_mb=cost.scratch_mb,
        threads=threads,
        shares=shares,
        share_runtime=labelling.runtime or _time_limit(each),
    )


def _shares(seconds: float, energies: int) -> int:
    """Return among how many jobs the displaced energies of a frame that takes so long are dealt out; 0: none."""
    jobs = min(math.ceil(seconds / (60 * TARGET_MINUTES)), energies - 1)
    return jobs if jobs > 1 else 0


def _time_limit(seconds: float) -> int:
    """Return the minutes that a job gets for its estimate.

    That is good within a factor of two or so; a job that needs more gets more at its next attempt.
    """
    return max(SMALLEST_TIME_LIMIT_MINUTES, math.ceil(3 * seconds / 60))


def warning(name: str, dataset: ComputedDataset, every: list[Atoms], level: Level) -> str | None:
    """Say in one line that labels of a dataset take more than is sensible, and what would be cheaper; None if not.

    Args:
        name: of the dataset.
        dataset: the section.
        every: its structures.
        level: the level of theory.
    """
    batches = label_batches(dataset, every, level).values()
    hours = sum(batch.cpu_s for batch in batches) / 3600
    costs = [frame_cost(every, level, forces) for forces in {batch.forces for batch in batches}]
    frame_hours = max(cost.cpu_s for cost in costs) / 3600
    memory_mb = max(cost.memory_mb for cost in costs)
    wall_s = max(cost.wall_s(dataset.labelling.threads or cost.threads()) for cost in costs)
    minutes = max(wall_s / max(batch.shares, 1) for batch in batches) / 60
    limit, given_mb = dataset.labelling.runtime or math.inf, dataset.labelling.mem_mb or math.inf
    problems = {
        f"more than a day of one core for a frame ({frame_hours:,.0f} h)": frame_hours > LONGEST_FRAME_HOURS,
        f"more than labelling.runtime for a job ({minutes:,.0f} min)": minutes > limit,
        f"more than labelling.mem_mb ({memory_mb:,.0f} MB)": memory_mb > given_mb,
        f"more memory than nodes have ({memory_mb / 1000:,.0f} GB)": memory_mb > LARGEST_NODE_MB,
        f"{hours:,.0f} CPU hours in all": hours > MOST_HOURS,
    }
    found = [problem for problem, is_one in problems.items() if is_one]
    if not found:
        return None
    cheaper = [f"{other} about {took:,.0f} h" for other, took in _cheaper(dataset, every, hours).items()]
    advice = f"; {', '.join(cheaper)}" if cheaper else "; a cheaper level or fewer frames would do"
    return f"datasets.{name}: {dataset.level} takes {', '.join(found)}, by estimate{advice}"


def _cheaper(dataset: ComputedDataset, every: list[Atoms], hours: float) -> dict[str, float]:
    """Return the presets that take less than half the time for a dataset, and their CPU hours."""
    symbols = {symbol for atoms in every for symbol in atoms.get_chemical_symbols()}
    multiplicities = {multiplicity_of(atoms) for atoms in every}
    found = {}
    for preset in PRESETS:
        level = named_level(preset)
        with suppress(PiwslError):  # elements that its bases lack
            check_level(level, symbols)
            check_forces(level, multiplicities, dataset.forces_by)
            found[preset] = sum(batch.cpu_s for batch in label_batches(dataset, every, level).values()) / 3600
    return {preset: took for preset, took in found.items() if took < hours / 2}


@dataclass(frozen=True)
class Plan:
    """What one kind of labels of a dataset takes."""

    dataset: str
    part: str
    """training, test or pool, or a round."""
    labels: str
    forces: ForceMethod | None
    frames: int
    stored: int | None
    """Frames whose energy is in the store already; None while the frames themselves are not known yet."""
    jobs: int
    cpu_hours: float
    """Of the energies that are not stored."""
    mem_mb: int
    """Of one job."""
    threads: int
    """Of one job."""
    disk_mb: float
    """Records in the store, of energies and their parts."""
    scratch_mb: float
    """Temporary files of one job."""


class KnownFrames:
    """Frames of a dataset that are known before anything runs: those that are made, and those that its files say."""

    def __init__(
        self,
        folder: Path,
        dataset: ComputedDataset | None = None,
        whole: bool = False,
        is_current: Callable[[str], bool] = lambda part: True,
    ) -> None:
        """Keep where frames are looked for.

        Args:
            folder: of the dataset's results.
            dataset: the section, whose files say frames; None: those that are made are known.
            whole: the test frames are those of its file, in the order there.
            is_current: whether those of a part that are made follow from the dataset as it is now.
        """
        self._folder, self._dataset, self._whole, self._is_current = folder, dataset, whole, is_current
        self._parts: dict[str, list[Atoms] | None] = {}

    def of_part(self, part: str) -> list[Atoms] | None:
        """Return the frames of a part, or of a round of an acquisition; None while nothing says them.

        Those that were made before an edit may be fewer than are wanted now.
        """
        if part not in self._parts:
            made, cut = self._folder / "frames" / f"{part}.xyz", self._cut(part)
            known = cut is None and made.exists() and self._is_current(part)
            self._parts[part] = read_frames(made) if known else cut
        return self._parts[part]

    def candidates(self, part: str) -> list[Atoms]:
        """Return what frames of a part that are not known yet will be chosen from; none where nothing says it."""
        if round_number(part) is not None:
            return self.of_part(TRAINING) or []
        return self._given(part) or []

    def _cut(self, part: str) -> list[Atoms] | None:
        """Return the frames of a part where they follow from a file alone."""
        chosen = self._dataset is not None and part == TRAINING and self._dataset.selection == "farthest_point"
        return None if chosen else self._given(part)

    def _given(self, part: str) -> list[Atoms] | None:
        """Return the frames of a file that a part has, or is chosen from."""
        dataset = self._dataset
        if dataset is None or dataset.geometries is None or round_number(part) is not None:
            return None
        if self._whole:
            return whole_file(dataset.geometries)
        frames = frames_of_part(dataset.geometries, part, pool_of_file(dataset, part))
        return frames[: frames_of_source(dataset, part)]


class Planned:
    """Energies that plans have counted: where one is needed again, it is there by then."""

    def __init__(self) -> None:
        """Begin with none."""
        self._energies: set[tuple[str, str, bool]] = set()

    def has(self, atoms: Atoms, forces: ForceMethod | None, store: LabelStore) -> bool:
        """Whether an energy was counted, with its forces where those are analytic."""
        key = (store.key, _hash(atoms))
        return (*key, True) in self._energies or (forces != "analytic" and (*key, False) in self._energies)

    def add(self, atoms: Atoms, forces: ForceMethod | None, store: LabelStore) -> None:
        """Count an energy."""
        self._energies.add((store.key, _hash(atoms), forces == "analytic"))


def plan_dataset(
    name: str, dataset: ComputedDataset, level: Level, known: KnownFrames, store: Path, planned: Planned | None = None
) -> Iterator[Plan]:
    """Say what labelling a dataset takes.

    Args:
        name: of the dataset.
        dataset: the section.
        level: the level of theory.
        known: frames, which are looked up in the store.
        store: folder of finished energies.
        planned: what plans before this one have counted; this one's are added.
    """
    every, planned = structures(dataset), planned or Planned()
    batches = label_batches(dataset, every, level)
    positions = representative(every).positions
    for labels in dict.fromkeys(labels for labels, _ in batches):
        own = [batch for (kind, _), batch in batches.items() if kind == labels]
        energies = energies_needed(positions, own[0].forces)
        yield _plan(name, labels, own, energies, known, LabelStore(store, level), planned)


def shared_labels(plan: Plan, dataset: ComputedDataset) -> tuple[object, ...] | None:
    """Return what labels follow from: those of plans alike in it are computed once.

    Args:
        plan: of the dataset.
        dataset: the section.

    Returns:
        None of a round.
    """
    geometries = made_from(dataset, plan.part)
    if geometries is None:
        return None
    return geometries, plan.labels, plan.forces, plan.frames, dataset.level


def of_all_rounds(plans: Iterable[Plan]) -> list[Plan]:
    """Return plans with those of the rounds of an acquisition, of a kind, as one."""
    found: dict[str, list[Plan]] = {}
    for plan in plans:
        found.setdefault(ROUND.sub("rounds", plan.labels), []).append(plan)
    return [replace(_added(alike), labels=labels) for labels, alike in found.items()]


def _added(plans: list[Plan]) -> Plan:
    stored = [plan.stored for plan in plans if plan.stored is not None]
    return replace(
        plans[0],
        frames=sum(plan.frames for plan in plans),
        stored=sum(stored) if stored else None,
        jobs=sum(plan.jobs for plan in plans),
        cpu_hours=sum(plan.cpu_hours for plan in plans),
        disk_mb=sum(plan.disk_mb for plan in plans),
    )


def plan_cheap_level(
    name: str,
    batches: Sequence[LabellingJob],
    level_name: str,
    level: Level,
    known: KnownFrames,
    store: Path,
    planned: Planned,
) -> Plan:
    """Say what labelling a part of a dataset with a cheap level takes; other arguments as of `plan_dataset`.

    Args:
        name: of the dataset.
        batches: of the part and level.
        level_name: that the frames keep the labels under.
        level: the level.
        known: frames, which are looked up in the store.
        store: folder of finished energies.
        planned: as of `plan_dataset`.
    """
    return _plan(name, f"{level_name}, {batches[0].part}", batches, 1, known, LabelStore(store, level), planned)


def _plan(
    name: str,
    labels: str,
    own: Sequence[LabellingJob],
    energies: int,
    known: KnownFrames,
    store: LabelStore,
    planned: Planned,
) -> Plan:
    """Add up the jobs of one kind of labels, of which each frame takes so many energies."""
    frames = sum(batch.stop - batch.start for batch in own)
    found = _found(known.of_part(own[0].part), own, store, planned)
    if found is None:
        wanted = frames * energies
        left = wanted * (1 - _share_there(known.candidates(own[0].part), own, store, planned))
    else:
        unknown = (frames - found.frames) * energies
        wanted, left = found.wanted + unknown, found.left + unknown
    return Plan(
        dataset=name,
        part=own[0].part,
        labels=labels,
        forces=own[0].forces,
        frames=frames,
        stored=found and found.stored,
        jobs=sum(1 + batch.shares for batch in own),
        cpu_hours=sum(batch.cpu_s for batch in own) / 3600 * left / (frames * energies),
        mem_mb=max(batch.mem_mb for batch in own),
        threads=max(batch.threads for batch in own),
        disk_mb=wanted * (1 + len(level_checks.part_recipes(store.level))) * RECORD_KILOBYTES / 1000,
        scratch_mb=max(batch.scratch_mb for batch in own),
    )


def _share_there(
    candidates: list[Atoms], batches: Sequence[LabellingJob], store: LabelStore, planned: Planned
) -> float:
    """Estimate of which share of frames that a model will choose the energies are stored or planned already."""
    forces = batches[0].forces
    looked_at = candidates[:: max(1, len(candidates) // CANDIDATES_LOOKED_AT)]
    there = sum(planned.has(frame, forces, store) or _is_stored(frame, forces, store) for frame in looked_at)
    return there / len(looked_at) if looked_at else 0.0


class _Found(NamedTuple):
    """The frames of some jobs, as far as they are known."""

    frames: int
    stored: int
    """Frames whose own energy is in the store, with its forces where those are analytic."""
    wanted: int
    """Energies in all: a linear molecule has fewer internal directions once it is bent."""
    left: int
    """Energies that are neither in the store nor planned."""


def _found(
    part: list[Atoms] | None, batches: Sequence[LabellingJob], store: LabelStore, planned: Planned
) -> _Found | None:
    """Look frames of a part up in the store, and plan what lacks; None while they are not known yet."""
    if part is None:
        return None
    forces = batches[0].forces
    frames = part[batches[0].start : batches[-1].stop]
    lacking = [(frame, forces) for frame in frames if not _is_stored(frame, forces, store)]
    stored = len(frames) - len(lacking)
    displaced = [each for frame in frames for each in displaced_geometries(frame, forces)]
    lacking += [(each, None) for each in displaced if not _is_stored(each, None, store)]
    left = [each for each in lacking if not planned.has(*each, store)]
    for each in left:
        planned.add(*each, store)
    return _Found(len(frames), stored, len(frames) + len(displaced), len(left))


def _is_stored(atoms: Atoms, forces: ForceMethod | None, store: LabelStore) -> bool:
    found = store.find(_hash(atoms))
    return found is not None and (STORED_FORCES in found or forces != "analytic")


def _hash(atoms: Atoms) -> str:
    return geometry_hash(atoms, charge_of(atoms), multiplicity_of(atoms))
