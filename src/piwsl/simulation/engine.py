"""A simulation of replicas from any point on: who goes on, what is noted, when it is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from piwsl.config import ReplicaSimulation
from piwsl.logs import duration
from piwsl.models import Predictor
from piwsl.simulation.course import Course, resumed
from piwsl.simulation.group import Group, Replica
from piwsl.simulation.integrators import State
from piwsl.simulation.observables import power

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
SAMPLES = 1000
CHECKPOINT_SECONDS = 60.0


def run_replicas(
    potential: Predictor,
    replicas: Sequence[Replica],
    settings: ReplicaSimulation,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Callable[[str], object] = print,
    saved: Callable[[], object] = lambda: None,
) -> Course:
    """Simulate replicas until the time is over or all have failed; one that fails stops no other.

    Args:
        potential: what moves them; where it corrects a baseline, that is computed for one replica after the other.
        replicas: at least one, each of two atoms or more.
        settings: ensemble, time, timestep, friction, tolerance of bonds, seed, what is kept.
        checkpoint: NPZ that is written once a minute, and gone on from where it is there.
        key: tells what is simulated apart from what else may have used that file.
        progress: told a line ten times in a run.
        saved: called each time that the checkpoint is written.
    """
    run = _Run(potential, list(replicas), settings)
    course = resumed(checkpoint, key) if checkpoint is not None else None
    if course is None:
        course = run.start()
    else:
        progress(f"going on from {_ps(course.step, settings):g} ps of {settings.time:g}")
    began = written = time.perf_counter()
    seconds, first = course.seconds, course.step
    for _ in run.steps(course):
        now = time.perf_counter()
        course.seconds = seconds + now - began
        if course.step % max(1, settings.steps // 10) == 0:
            left = (now - began) / (course.step - first) * (settings.steps - course.step)
            progress(_line(course, settings, left))
        if checkpoint is not None and now - written > CHECKPOINT_SECONDS:
            course.save(checkpoint, key)
            saved()
            written = now
    return course


def _ps(step: int, settings: ReplicaSimulation) -> float:
    return step * settings.timestep / 1000


def _line(course: Course, settings: ReplicaSimulation, left: float) -> str:
    counts = f"{len(course.alive)} of {len(course.ended)} replicas stable"
    return f"{_ps(course.step, settings):g} ps of {settings.time:g}: {counts}, {duration(left)} left"


class _Run:
    """Moves a course on, and notes in it what is seen."""

    def __init__(self, potential: Predictor, replicas: list[Replica], settings: ReplicaSimulation) -> None:
        self._potential = potential
        self._replicas = replicas
        self._settings = settings
        self._owner = np.repeat(np.arange(len(replicas)), [replica.atoms for replica in replicas])
        self._sample_every = max(1, settings.steps // SAMPLES)
        self._frame_every = max(1, settings.steps // settings.frames)
        self._segment = settings.segment

    def start(self) -> Course:
        """Return the course at time 0."""
        group = Group(self._potential, self._replicas, self._settings)
        state = group.first_state()
        count, everybody = len(self._replicas), np.arange(len(self._replicas))
        course = Course(
            step=0,
            positions=_array(state.positions),
            velocities=_array(state.velocities),
            energies=_array(state.energies),
            forces=_array(state.forces),
            start_energies=_array(state.energies),
            ended=np.full(count, -1),
            reasons=[""] * count,
            bond_changes=np.zeros(count),
            kinetic=np.zeros(len(self._owner)),
            kinetic_samples=np.zeros(count, dtype=np.int64),
            power=np.zeros((count, self._segment // 2 + 1 if self._segment else 0)),
            segments=np.zeros(count, dtype=np.int64),
        )
        _end(course, group.surface.problems, everybody)
        self._sample(course, group, state, everybody)
        self._keep_frame(course, everybody)
        return course

    def steps(self, course: Course) -> Iterator[None]:
        """Move the course on, a step at a time, until the time is over or nobody is left."""
        while course.step < self._settings.steps and len(course.alive):
            yield from self._steps_together(course, course.alive)

    def _steps_together(self, course: Course, alive: Numbers) -> Iterator[None]:
        """Move those that are alive until one of them fails, or the time is over."""
        group = Group(self._potential, [self._replicas[number] for number in alive], self._settings)
        criteria = group.criteria(course.start_energies[alive])
        atoms = np.isin(self._owner, alive)
        state = State(
            group.tensor(course.positions[atoms]),
            group.tensor(course.velocities[atoms]),
            group.tensor(course.energies[alive]),
            group.tensor(course.forces[atoms]),
        )
        failures: dict[int, str] = {}
        while course.step < self._settings.steps and not failures:
            state = group.moved(state, course.step)
            course.step += 1
            changes = criteria.bond_changes(state.positions)
            failures = criteria.failures(state, changes) | group.surface.problems
            _store(course, state, alive, atoms)
            course.bond_changes[alive] = np.fmax(course.bond_changes[alive], _array(changes))
            self._note(course, group, state, alive, alive[list(failures)])
            _end(course, failures, alive)
            yield

    def _note(self, course: Course, group: Group, state: State, alive: Numbers, failing: Numbers) -> None:
        """Keep what is due at this step; of those that fail at it, the last frame."""
        if course.step % self._sample_every == 0:
            self._sample(course, group, state, alive)
        if course.step % self._frame_every == 0:
            self._keep_frame(course, alive)
        elif len(failing):
            self._keep_frame(course, failing)
        if self._segment and course.step % self._settings.velocities_every == 0:
            self._add_velocities(course, np.setdiff1d(alive, failing))

    def _sample(self, course: Course, group: Group, state: State, alive: Numbers) -> None:
        kinetic, count = _array(group.masses.kinetic(state.velocities)), len(self._replicas)
        course.sample_steps.append(course.step)
        course.temperatures.append(_of_all(_array(group.kinetic_temperatures(state)), alive, count))
        course.potentials.append(_of_all(_array(state.energies), alive, count))
        course.totals.append(_of_all(kinetic + _array(state.energies), alive, count))
        if 2 * course.step >= self._settings.steps:
            of_atoms = (0.5 * group.masses.of_atoms * group.halfway(state) ** 2).sum(1)
            course.kinetic[np.isin(self._owner, alive)] += _array(of_atoms)
            course.kinetic_samples[alive] += 1

    def _keep_frame(self, course: Course, who: Numbers) -> None:
        atoms = np.isin(self._owner, who)
        course.frame_steps.append(course.step)
        course.frame_positions.append(_of_all(course.positions[atoms], np.flatnonzero(atoms), len(atoms)))
        course.frame_velocities.append(_of_all(course.velocities[atoms], np.flatnonzero(atoms), len(atoms)))

    def _add_velocities(self, course: Course, alive: Numbers) -> None:
        """Add velocities to the segment, and the spectrum of a complete one to those of who has lived through it."""
        course.segment.append(course.velocities.copy())
        if len(course.segment) < self._segment:
            return
        velocities = np.stack(course.segment)
        for number in alive:
            course.power[number] += power(velocities[:, self._owner == number], self._replicas[number].masses)
            course.segments[number] += 1
        course.segment.clear()


def _end(course: Course, failures: dict[int, str], alive: Numbers) -> None:
    for number, reason in failures.items():
        course.ended[alive[number]] = course.step
        course.reasons[alive[number]] = reason


def _store(course: Course, state: State, alive: Numbers, atoms: NDArray[np.bool_]) -> None:
    course.positions[atoms] = _array(state.positions)
    course.velocities[atoms] = _array(state.velocities)
    course.forces[atoms] = _array(state.forces)
    course.energies[alive] = _array(state.energies)


def _of_all(values: Array, who: Numbers, count: int) -> Array:
    """Return values of some among all `count`; NaN of the others."""
    found = np.full((count, *values.shape[1:]), np.nan)
    found[who] = values
    return found


def _array(values: Tensor) -> Array:
    return values.detach().cpu().numpy().copy()
