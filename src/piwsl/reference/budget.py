"""What a budget of CPU hours buys of a dataset: frames to learn from, to test on and of a pool."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ase import Atoms

from piwsl.config import Acquisition, Budget, ComputedDataset, ConfigError, Level
from piwsl.config.budget import FRAMES
from piwsl.config.level_checks import problem_said
from piwsl.reference.forces import ForceMethod, force_method
from piwsl.reference.geometries import indices_of_parts, read_file
from piwsl.reference.planning import frame_cost, sampling_cpu_s, structures
from piwsl.structures.frames import multiplicity_of

# Steps in which training frames without rounds grow. What is left of a budget beyond the last is not spent: a better
# level is worth more than further energies of one molecule.
SIZES = (*range(10, 100, 5), *range(100, 500, 10), *range(500, 1001, 50))
# A mean absolute error is known within a twentieth or so from as many energies, that of forces within a tenth from as
# many frames with forces, or slopes of others.
MOST_TEST, MOST_FORCES, MOST_SLOPES = 200, 16, 100
# Below, neither an error nor a model means anything.
FEWEST_TEST, FEWEST_TRAINING = 10, 2
# Below, an error of forces is that of the frame that was met, and one of slopes has no standard error to speak of.
FEWEST_FORCES, FEWEST_SLOPES = 3, 10
POOL_OF_TRAINING, MOST_POOL = 4, 1000
# Geometries to choose from: so many times as many as are labelled, in few steps, for a choice among others is another.
CHOICE, CANDIDATES = 5, (250, 500, 1000, 2500, 5000)
# Rounds wait for one another, and each trains what it asks.
MOST_ROUNDS, OF_A_ROUND = 8, (10, *range(25, 126, 25))


@dataclass(frozen=True)
class Share:
    """A part of a budget."""

    what: str
    frames: int
    cpu_hours: float


@dataclass(frozen=True)
class Division:
    """How a budget is divided."""

    frames: dict[str, int]
    """Numbers of frames by the keys of a dataset, those that its config says among them."""
    learned: int
    """Frames that are labelled to be learned from."""
    acquisition: Acquisition | None
    """Which frames are labelled, if not all."""
    shares: tuple[Share, ...]
    most_taken: float
    """From how many frames each model may learn."""
    forces_by: ForceMethod
    """How forces of the level are computed."""

    @property
    def cpu_hours(self) -> float:
        """What is spent."""
        return sum(share.cpu_hours for share in self.shares)


@dataclass(frozen=True)
class Divided:
    """A dataset whose numbers of frames are left to a budget."""

    name: str
    section: ComputedDataset
    """Its numbers of frames are what the config says; those that are open do not matter."""
    structures: list[Atoms]
    """The molecule, or all given geometries."""
    open: frozenset[str]
    """The keys that are left to the budget."""
    level: Level
    cheap: Sequence[Level]
    """Whose energies and forces all frames get."""
    has_pool: bool
    """Whether anything learns from a pool."""
    most_labels: int | None = None
    """From how many energies and components of forces each model may learn; None: from any number."""

    @cached_property
    def energy_s(self) -> float:
        """CPU seconds of an energy."""
        return frame_cost(self.structures, self.level, None).cpu_s

    @cached_property
    def forces_by(self) -> ForceMethod:
        """How forces of the level are computed."""
        multiplicities = {multiplicity_of(atoms) for atoms in self.structures}
        return force_method(self.level, multiplicities, self.section.forces_by)

    @property
    def is_smooth(self) -> bool:
        """Whether differences of energies of the level tell slopes."""
        return problem_said(self.level, "differences_problem") is None

    @cached_property
    def forces_s(self) -> float:
        """CPU seconds of an energy with forces."""
        return frame_cost(self.structures, self.level, self.forces_by).cpu_s

    @cached_property
    def slope_s(self) -> float:
        """CPU seconds of an energy with the slope along one direction."""
        return frame_cost(self.structures, self.level, "slope").cpu_s

    @cached_property
    def cheap_s(self) -> float:
        """CPU seconds of a frame at all cheap levels."""
        return sum(frame_cost(self.structures, level, "analytic").cpu_s for level in self.cheap)

    @cached_property
    def available(self) -> dict[str, int] | None:
        """How many geometries files of them have, of "pool" where it has one; None where they are sampled."""
        geometries = self.section.geometries
        if geometries is None:
            return None
        frames = {path: len(read_file(path, geometries)) for path in geometries.files.values()}
        return {part: len(indices) for part, indices in indices_of_parts(geometries, frames).items()}

    @property
    def most_taken(self) -> float:
        """From how many frames each model may learn."""
        if self.most_labels is None:
            return math.inf
        components = 3 * max(map(len, self.structures)) if self.section.training_forces else 0
        return self.most_labels // (1 + components)

    def pool_beside(self, learned: int) -> float:
        """Return how many geometries there are for a pool, beside so many to learn from."""
        if self.available is None:
            return math.inf
        return self.available["pool"] if self._has_pool_file else self.available["training"] - learned

    def candidates_beside(self, pool: int) -> float:
        """Return how many geometries there are to choose from, beside a pool."""
        if self.available is None:
            return math.inf
        return self.available["training"] - (0 if self._has_pool_file else pool)

    @property
    def _has_pool_file(self) -> bool:
        return self.section.geometries is not None and self.section.geometries.pool_file is not None

    @property
    def most_learned(self) -> float:
        """How many geometries there are to learn from, beside a pool of the same file."""
        if self.available is None:
            return math.inf
        training = self.available["training"]
        if self._has_pool_file:
            return training
        return training - self.said("pool_frames", training // 2 if self.has_pool else 0)

    def said(self, key: str, otherwise: int) -> int:
        """Return the number of frames that the config says, or another where that is left open."""
        return otherwise if key in self.open else int(getattr(self.section, key) or 0)


def divide(divided: Divided, budget: Budget) -> Division:
    """Divide a budget.

    Test frames get their share of it at most, half of that for forces. The rest goes to training frames, and the pool
    and the geometries to choose from that go with them.

    Args:
        divided: the dataset.
        budget: the CPU hours.

    Raises:
        ConfigError: they do not suffice for the fewest frames that make sense; says how many would.
    """
    choices = _choices(divided, budget)
    affordable = bisect_right(choices, budget.cpu_hours, key=lambda choice: choice.cpu_hours)
    if affordable:
        return choices[affordable - 1]
    learned = f"{choices[0].learned} frames{' with forces' if divided.section.training_forces else ''} to learn from"
    raise ConfigError(
        f"datasets.{divided.name}.budget: {budget.cpu_hours:g} CPU hours are too few: {learned} and a test by "
        f"{divided.section.level} take {_enough(divided, budget):g}; give as many, or say a cheaper level"
    )


def _enough(divided: Divided, budget: Budget) -> float:
    """Return how many hours suffice, with two digits: the share of the test grows with them."""
    hours = budget.cpu_hours
    while (takes := _choices(divided, budget.model_copy(update={"cpu_hours": hours}))[0].cpu_hours) > hours:
        digit = 10.0 ** (math.floor(math.log10(takes)) - 1)
        hours = math.ceil(takes / digit) * digit
    return hours


def planned(name: str, section: ComputedDataset, level: Level, cheap: Sequence[Level]) -> tuple[Share, ...]:
    """Return what the frames of a dataset take by the cost model, of which a budget has said how many there are.

    Args:
        name: of the dataset.
        section: with all numbers of frames.
        level: of its labels.
        cheap: levels whose energies and forces all frames get.

    Raises:
        PiwslError: the molecule, or a file of geometries, is not there any more.
    """
    divided = Divided(name, section, structures(section), frozenset(), level, cheap, has_pool=bool(section.pool_frames))
    acquisition = section.acquisition
    learned = section.training_frames if acquisition is None else acquisition.frames
    return _shares(divided, {key: divided.said(key, 0) for key in FRAMES}, learned)


def _choices(divided: Divided, budget: Budget) -> list[Division]:
    """Return the divisions that there are, the cheapest first."""
    test = _test_frames(divided, budget)
    acquisition = divided.section.acquisition
    if acquisition is None:
        return [_division(divided, test, size, None) for size in _sizes(divided)]
    return [_division(divided, test, each.frames, each) for each in _acquisitions(divided, acquisition)]


def _test_frames(divided: Divided, budget: Budget) -> dict[str, int]:
    """Return how many test frames there are, and how many of them have forces or, where those take dozens, slopes."""
    half_s = 3600 * budget.cpu_hours * budget.test_share / 2
    most = MOST_TEST if divided.available is None else min(MOST_TEST, divided.available["test"])
    bought = int(half_s / (divided.energy_s + divided.cheap_s))
    said = sum(divided.said(key, 0) for key in ("test_force_frames", "test_slope_frames"))
    frames = divided.said("test_frames", max(min(max(bought, FEWEST_TEST), most), said))
    by_slopes = divided.forces_by == "differences" and divided.is_smooth
    analytic = divided.forces_by == "analytic"
    with_forces = min(int(half_s / _further_s(divided, divided.forces_s)), MOST_FORCES, frames) if analytic else 0
    forces = divided.said("test_force_frames", _enough_or_none(with_forces, FEWEST_FORCES))
    further = min(MOST_SLOPES, frames - forces)
    with_slopes = min(int(half_s / _further_s(divided, divided.slope_s)), further) if by_slopes else 0
    slopes = divided.said("test_slope_frames", _enough_or_none(with_slopes, FEWEST_SLOPES))
    return {"test_frames": frames, "test_force_frames": forces, "test_slope_frames": slopes}


def _enough_or_none(number: int, fewest: int) -> int:
    return number if number >= fewest else 0


def _further_s(divided: Divided, seconds: float) -> float:
    """Return what a test frame takes beyond its energy, which is never nothing."""
    return max(seconds - divided.energy_s, divided.energy_s / 10)


def _most(divided: Divided) -> int:
    """Return from how many frames there may be to learn at most."""
    most = int(min(SIZES[-1], divided.most_learned, divided.most_taken))
    if "training_frames" not in divided.open:
        most = min(most, divided.section.training_frames)
    return most


def _sizes(divided: Divided) -> list[int]:
    """Return from how many frames there may be to learn, the fewest first."""
    if "training_frames" not in divided.open:
        return [divided.section.training_frames]
    most = _most(divided)
    if most < FEWEST_TRAINING:
        raise ConfigError(
            f"datasets.{divided.name}: {most} frames are left to learn from, {FEWEST_TRAINING} at least; give more "
            "geometries, or a smaller pool"
        )
    return [size for size in SIZES if size <= most] or [most]


def _acquisitions(divided: Divided, acquisition: Acquisition) -> list[Acquisition]:
    """Return the rounds that there may be, the fewest frames first; of as many frames, the fewer rounds."""
    unsaid = {"rounds", "each"} & divided.open
    if not unsaid:
        return [acquisition]
    left = _most(divided) - acquisition.start
    if "each" not in unsaid:
        possible = [(number, acquisition.each) for number in range(1, left // acquisition.each + 1)]
    elif "rounds" not in unsaid:
        possible = [(acquisition.rounds, each) for each in range(1, left // acquisition.rounds + 1)]
    else:
        possible = [(number, each) for each in OF_A_ROUND for number in range(1, MOST_ROUNDS + 1)]
    found = {number * each: {"rounds": number, "each": each} for number, each in possible if number * each <= left}
    if not found:
        raise ConfigError(
            f"datasets.{divided.name}.acquisition: of {left + acquisition.start} frames to learn from at most, a start "
            f"of {acquisition.start} leaves too few for rounds; lower start, rounds or each"
        )
    return [acquisition.model_copy(update=found[frames]) for frames in sorted(found)]


def _division(divided: Divided, test: dict[str, int], learned: int, acquisition: Acquisition | None) -> Division:
    """Return the division with so many frames to learn from."""
    pool = min(POOL_OF_TRAINING * learned, MOST_POOL, divided.pool_beside(learned)) if divided.has_pool else 0
    pool = divided.said("pool_frames", int(pool))
    training = learned
    if acquisition is not None:
        candidates = next((number for number in CANDIDATES if number >= CHOICE * learned), CANDIDATES[-1])
        training = int(min(candidates, divided.candidates_beside(pool)))
    frames = {"training_frames": divided.said("training_frames", training), **test, "pool_frames": pool}
    shares = _shares(divided, frames, learned)
    return Division(frames, learned, acquisition, shares, divided.most_taken, divided.forces_by)


def _shares(divided: Divided, frames: dict[str, int], labelled: int) -> tuple[Share, ...]:
    """Return what numbers of frames take."""
    section = divided.section.model_copy(update=frames)
    of_parts = {"training": labelled, "test": frames["test_frames"], "pool": frames["pool_frames"]}
    sampled = {part: frames[f"{part}_frames"] for part in of_parts}
    training_s = divided.forces_s if section.training_forces else divided.energy_s
    forces, slopes = frames["test_force_frames"], frames["test_slope_frames"]
    seconds = {
        "sampling": (sum(sampled.values()), sum(sampling_cpu_s(section, divided.structures, part) for part in sampled)),
        "cheap levels": (sum(of_parts.values()), sum(of_parts.values()) * divided.cheap_s),
        "training": (labelled, labelled * training_s),
        "test": (of_parts["test"], of_parts["test"] * divided.energy_s),
        "forces of test": (forces, forces * (divided.forces_s - divided.energy_s)),
        "slopes of test": (slopes, slopes * (divided.slope_s - divided.energy_s)),
    }
    return tuple(Share(what, number, cpu_s / 3600) for what, (number, cpu_s) in seconds.items() if number)
