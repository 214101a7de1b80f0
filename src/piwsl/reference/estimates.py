"""What labelling frames takes, before it starts: seconds and memory, and whether memory can do at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms

from piwsl.config import PRESETS, Level, level_checks, named_level
from piwsl.errors import PiwslError
from piwsl.reference.checks import check_level
from piwsl.reference.failures import FrameFailure
from piwsl.reference.forces import ForceMethod, check_forces
from piwsl.reference.planning import FrameCost, frame_cost
from piwsl.reference.store import LabelStore, geometry_hash, rounded
from piwsl.structures.frames import charge_of, frame_electron_problem, multiplicity_of
from piwsl.structures.geometry import geometry_problem, symbols_of

# Estimates are of what a frame takes in memory. With less, PySCF goes by the disk, slower, down to a quarter or so.
FITS = 0.25
MOST_PRESETS = 3
LENGTHS = {"days": 86400.0, "h": 3600.0, "min": 60.0}
# Less than so many of a unit are said in the next.
LONG_ENOUGH = 1.5


@dataclass(frozen=True)
class Kind:
    """Frames of one composition, charge and multiplicity."""

    example: Atoms
    cost: FrameCost
    """Of a frame."""
    frames: int


@dataclass(frozen=True)
class Estimate:
    """What labelling takes."""

    kinds: list[Kind] = field(default_factory=list)
    """That are to be computed."""
    stored: int = 0
    """Frames whose energy is in the store already."""

    def cpu_s(self) -> float:
        """Return the CPU seconds of all frames."""
        return sum(kind.frames * kind.cost.cpu_s for kind in self.kinds)

    def largest(self) -> Kind | None:
        """Return the frames that take most memory."""
        return max(self.kinds, key=lambda kind: kind.cost.memory_mb, default=None)

    def threads(self) -> int:
        """Return how many threads the frame that takes longest is worth."""
        return max((kind.cost.threads() for kind in self.kinds), default=1)

    def in_words(self, threads: int, memory_mb: int) -> str:
        """Return the estimate in a line.

        Args:
            threads: for one frame at a time.
            memory_mb: memory that may be used, MB.
        """
        largest = self.largest()
        stored = f", {self.stored} in the store" if self.stored else ""
        if largest is None:
            return f"nothing to compute{stored}"
        frames = sum(kind.frames for kind in self.kinds)
        wall = sum(kind.frames * kind.cost.wall_s(threads) for kind in self.kinds)
        on = f" ({duration(wall)} on {threads} threads)" if threads > 1 else ""
        return (
            f"estimate: {frames} frames to compute{stored}; {duration(self.cpu_s())} of CPU in all{on}, "
            f"{duration(max(kind.cost.cpu_s for kind in self.kinds))} and {largest.cost.memory_mb:,.0f} MB a frame"
            + (f", more than --mem-mb {memory_mb:,}: slower" if largest.cost.memory_mb > memory_mb else "")
        )


def duration(seconds: float) -> str:
    """Return a time with about two digits, as people say it."""
    unit, length = next(
        ((unit, length) for unit, length in LENGTHS.items() if seconds >= LONG_ENOUGH * length), ("s", 1.0)
    )
    amount = seconds / length
    return f"{amount:.0f} {unit}" if amount >= 10 else f"{amount:.2g} {unit}"


def estimate(frames: list[Atoms], level: Level, forces: ForceMethod | None, store: Path) -> Estimate:
    """Estimate what labelling frames takes. Those that will fail before anything is computed take nothing.

    Args:
        frames: geometries; info may carry charge and multiplicity.
        level: the level of theory.
        forces: how forces are computed, too.
        store: folder of finished energies.

    Raises:
        PiwslError: the engine of others gives no cost.
    """
    kept = LabelStore(store, level)
    kinds: dict[tuple[str, int, int], list[Atoms]] = {}
    stored = 0
    for atoms in frames:
        for charge, multiplicity in _electrons(atoms):
            if kept.path(geometry_hash(rounded(atoms), charge, multiplicity)).exists():
                stored += 1
            else:
                kinds.setdefault((atoms.get_chemical_formula(), charge, multiplicity), []).append(atoms)
    found = []
    for alike in kinds.values():
        with suppress(FrameFailure):  # it will be said when their turn comes
            found.append(Kind(alike[0], frame_cost(alike[:1], level, forces), len(alike)))
    return Estimate(found, stored)


def _electrons(atoms: Atoms) -> Iterator[tuple[int, int]]:
    """Yield charge and multiplicity of a frame that can be computed."""
    if atoms.pbc.any() or geometry_problem(atoms) is not None:
        return
    with suppress(PiwslError):
        if frame_electron_problem(atoms) is None:
            yield charge_of(atoms), multiplicity_of(atoms)


def check_memory(takes: Estimate, memory_mb: int, forces: ForceMethod | None) -> None:
    """Check that the frames fit into memory, as far as an estimate can tell.

    Args:
        takes: the estimate.
        memory_mb: memory that may be used, MB.
        forces: how forces are computed, too.

    Raises:
        PiwslError: a frame takes far more; says how much, and which presets would fit.
    """
    largest = takes.largest()
    if largest is None or FITS * largest.cost.memory_mb <= memory_mb:
        return
    fitting = _fitting(largest.example, memory_mb, forces)
    presets = "".join(f"; {name} takes about {megabytes:,.0f} MB" for name, megabytes in fitting.items())
    raise PiwslError(
        f"{largest.example.get_chemical_formula()} takes about {largest.cost.memory_mb:,.0f} MB at this level, by "
        f"estimate, and {memory_mb:,} MB may be used (--mem-mb): give as much, or another level{presets}"
    )


def _fitting(atoms: Atoms, memory_mb: int, forces: ForceMethod | None) -> Mapping[str, float]:
    """Return presets that fit into memory, and what they take, the most elaborate first."""
    found: dict[str, float] = {}
    for name in PRESETS:
        level = named_level(name)
        with suppress(PiwslError, FrameFailure):  # elements that its bases lack, forces that it has not
            check_level(level, set(symbols_of([atoms])))
            check_forces(level, {multiplicity_of(atoms)}, forces)
            takes = level_checks.cost(level, atoms, charge_of(atoms), multiplicity_of(atoms), forces == "analytic")
            if takes.memory_mb <= memory_mb:
                found[name] = takes.memory_mb
    return dict(sorted(found.items(), key=lambda each: -each[1])[:MOST_PRESETS])
