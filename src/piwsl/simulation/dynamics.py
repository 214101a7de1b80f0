"""Langevin dynamics through ASE with a stability criterion.

A simulation is stable until a bond leaves its starting length by more than a tolerance: Fu et al., "Forces are not
enough: benchmark and critical evaluation for machine learning force fields with molecular simulations",
TMLR 2023 (arXiv 2210.07237), section 3 (0.5 Å for MD17).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.data import covalent_radii
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from piwsl.config import Simulation
from piwsl.data.batch import ImpossibleGeometry
from piwsl.errors import PiwslError
from piwsl.files import check_outputs
from piwsl.interfaces import PotentialCalculator
from piwsl.models import BaselineFailure, Predictor, load_model
from piwsl.simulation.observables import drift
from piwsl.simulation.trajectory import Trajectory
from piwsl.structures.frames import electrons_stated, read_frames
from piwsl.structures.geometry import geometry_problem
from piwsl.structures.seeds import generator
from piwsl.structures.structure import from_atoms

# Atoms closer than this multiple of the sum of their covalent radii are bonded.
BOND_FACTOR = 1.25
FRAMES_KEPT = 100


def bonds(atoms: Atoms) -> NDArray[np.int64]:
    """Return the bonded pairs of a geometry, (B, 2), first index smaller."""
    radii = covalent_radii[atoms.numbers]
    limits = BOND_FACTOR * (radii[:, None] + radii[None, :])
    close = atoms.get_all_distances(mic=bool(atoms.pbc.any())) < limits
    return np.argwhere(np.triu(close, k=1))


def bond_lengths(atoms: Atoms, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the lengths (B,) of pairs of atoms, Å, to the nearest image."""
    if len(pairs) == 0:
        return np.empty(0)
    mic = bool(atoms.pbc.any())
    return atoms.get_all_distances(mic=mic)[pairs[:, 0], pairs[:, 1]]


def _motion_problem(atoms: Atoms) -> str | None:
    if len(atoms) < 2:
        return "one atom alone does not move; give two or more"
    try:
        return None if atoms.get_number_of_degrees_of_freedom() > 0 else "its constraints leave no atom that may move"
    except NotImplementedError:  # such as symmetry, which thermal motion breaks
        names = ", ".join(type(constraint).__name__ for constraint in atoms.constraints)
        return f"its constraints ({names}) say nothing of a temperature; take them off"


@dataclass
class _Seen:
    """What all steps so far have shown, those of an earlier run that is gone on from included.

    A step ends with half the kick that the next one begins with: where that fails, neither temperature counts.
    """

    steps: int = 0
    """Those that a stable one has followed."""
    temperatures: float = 0.0
    """K, summed over them."""
    latest: float | None = None
    """K, of the step that none has followed yet."""
    largest_bond_change: float = 0.0
    """Å, of a step that failed, too."""

    def mean_temperature(self) -> float | None:
        """Return the mean over steps, K; None before there is one that counts."""
        if self.latest is None:
            return self.temperatures / self.steps if self.steps else None
        return (self.temperatures + self.latest) / (self.steps + 1)

    def note(self, temperature: float | None, bond_change: float) -> None:
        """Take a step in: its temperature, None if it failed, and the largest change of a bond."""
        if temperature is not None and self.latest is not None:
            self.steps, self.temperatures = self.steps + 1, self.temperatures + self.latest
        self.latest = temperature
        if np.isfinite(bond_change):
            self.largest_bond_change = max(self.largest_bond_change, bond_change)


def _seen_in(earlier: Sequence[Atoms], steps: int, progress: Callable[[str], object]) -> _Seen:
    """Return what the frames of an earlier run of as many steps have seen: the last one says it."""
    if steps == 0:
        return _Seen()
    info = earlier[-1].info
    if not {"mean_temperature_K", "largest_bond_change_A"} <= info.keys():
        progress("the frames before do not say their mean temperature and bond change; those told are of what follows")
        return _Seen()
    return _Seen(steps, steps * info["mean_temperature_K"], largest_bond_change=info["largest_bond_change_A"])


def _dynamics(atoms: Atoms, settings: Simulation, first: int) -> MolecularDynamics:
    """Return the dynamics that moves atoms, and give them velocities where they begin; `first` steps were done.

    What is held by constraints stays; where nothing is, the centre of mass is at rest.
    """
    rng = generator("simulation", settings.seed, *([first] if first else []))
    if not atoms.constraints:
        atoms.set_constraint(FixCom())
    if first == 0:
        MaxwellBoltzmannDistribution(atoms, temperature_K=settings.temperature, rng=rng)
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, timestep=settings.timestep * units.fs)
    return Langevin(
        atoms,
        timestep=settings.timestep * units.fs,
        temperature_K=settings.temperature,
        friction=settings.friction / units.fs,
        fixcm=False,
        rng=rng,
    )


def run_dynamics(
    start: Atoms,
    settings: Simulation,
    progress: Callable[[str], object] = print,
    keep: Callable[[Atoms], object] = lambda frame: None,
    earlier: Sequence[Atoms] = (),
) -> tuple[list[Atoms], dict[str, Any]]:
    """Run dynamics until the time is over, a bond breaks, or a baseline gives up on a geometry.

    Args:
        start: geometry with a calculator; it is not changed. Masses are its own, and atoms that its constraints fix
            stay: they have no part in the temperature.
        settings: ensemble, temperature (K), time (ps), timestep (fs), friction (1/fs), bond tolerance (Å), seed.
        progress: told a line ten times in a run.
        keep: given each frame as soon as it is there.
        earlier: frames of an earlier run from the same start, with velocities and `time_fs`; the last is gone on from.

    Returns:
        Frames along the way (at most about 100) with info `time_fs`, `temperature` (K), `total_energy` (eV) and, of all
        steps so far, `mean_temperature_K` and `largest_bond_change_A`; and a summary: stable_ps, time_ps, ended (why),
        mean_temperature_K, largest_bond_change_A, steps_per_second and, at constant energy, drift_meV_per_atom_per_ps.
        All but the speed is of the earlier run and this one together. A step that fails, and the one before, which ends
        with the kick that it follows, have no part in the drift and the mean temperature, which is None without others.

    Raises:
        PiwslError: the start is a single atom, or nothing of it may move.
    """
    if problem := _motion_problem(start):
        raise PiwslError(problem)
    atoms = _going_on(start, earlier[-1]) if earlier else start.copy()
    atoms.calc = start.calc
    first = round(earlier[-1].info["time_fs"] / settings.timestep) if earlier else 0
    seen = _seen_in(earlier, first, progress)
    dynamics = _dynamics(atoms, settings, first)
    steps = round(settings.time * 1000 / settings.timestep)
    keep_every = max(1, steps // FRAMES_KEPT)
    pairs = bonds(start)
    start_lengths = bond_lengths(start, pairs)
    frames: list[Atoms] = []

    def take(time_fs: float) -> None:
        frames.append(_snapshot(atoms, time_fs, seen))
        keep(frames[-1])

    atoms.get_forces()  # what cannot be computed at all is said before a file is touched
    if not earlier:
        take(0.0)
    ended, step = "completed", first
    started = time.perf_counter()
    while step < steps and ended == "completed":
        step += 1
        if (impossible := _move(dynamics, step)) is not None:
            ended = impossible
            break
        change = float(np.abs(bond_lengths(atoms, pairs) - start_lengths).max(initial=0.0))
        ended = _end(atoms, change, settings.bond_tolerance)
        seen.note(atoms.get_temperature() if ended == "completed" else None, change)
        if step % keep_every == 0 or ended != "completed":
            take(step * settings.timestep)
        if step % max(1, steps // 10) == 0:
            progress(f"{step * settings.timestep / 1000:g} ps of {settings.time:g}: {atoms.get_temperature():.0f} K")
    failed = ended != "completed"
    if failed:
        seen.latest = None
    summary = {
        "stable_ps": (step - failed) * settings.timestep / 1000,
        "time_ps": settings.time,
        "ended": ended,
        "mean_temperature_K": seen.mean_temperature(),
        "largest_bond_change_A": seen.largest_bond_change,
        "steps_per_second": round((step - first) / (time.perf_counter() - started), 1),
    }
    if settings.ensemble == "nve":
        summary["drift_meV_per_atom_per_ps"] = _drift([*earlier, *frames], (step - 2 * failed) * settings.timestep)
    return frames, summary


def _going_on(start: Atoms, last: Atoms) -> Atoms:
    """Return the last frame of an earlier run with masses and constraints of the start: files may say neither."""
    atoms, velocities = last.copy(), last.get_velocities()
    atoms.set_constraint(start.constraints)
    if start.has("masses") or last.has("masses"):
        atoms.set_masses(start.get_masses())
    atoms.set_velocities(velocities)
    return atoms


def _move(dynamics: MolecularDynamics, step: int) -> str | None:
    """Take a step; say why it cannot be taken, or None where it is."""
    try:
        dynamics.run(1)
    except ImpossibleGeometry as error:
        return f"the atoms flew apart: {error}"
    except BaselineFailure as failure:
        return f"step {step}: {failure}"
    return None


def _drift(frames: Sequence[Atoms], until_fs: float) -> float | None:
    """Return the drift of the total energy over frames until a time, meV/atom/ps; None of a single one."""
    known = [frame.info for frame in frames if {"time_fs", "total_energy"} <= frame.info.keys()]
    stable = [info for info in known if info["time_fs"] < until_fs + 1e-6]
    if len(stable) < 2:
        return None
    times, energies = (np.array([info[key] for info in stable]) for key in ("time_fs", "total_energy"))
    return drift(times / 1000, energies, len(frames[0]))


def _end(atoms: Atoms, bond_change: float, tolerance: float) -> str:
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.get_velocities()).all()):
        return "positions are no longer finite"
    if bond_change > tolerance:
        return f"a bond changed by more than {tolerance:g} Å"
    return "completed"


def _snapshot(atoms: Atoms, time_fs: float, seen: _Seen) -> Atoms:
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if atoms.has("masses"):
        frame.set_masses(atoms.get_masses())  # or momenta would be of the elements' own
    frame.set_velocities(atoms.get_velocities())
    energy = float(atoms.get_total_energy())
    frame.info = {
        "time_fs": time_fs,
        "temperature": atoms.get_temperature(),
        "total_energy": energy,
        "largest_bond_change_A": seen.largest_bond_change,
        **electrons_stated(atoms),
    }
    if (mean := seen.mean_temperature()) is not None:
        frame.info["mean_temperature_K"] = mean
    return frame


def say_cost(potential: Predictor, start: Atoms, source: str) -> None:
    """Print what a baseline adds to the cost of a step, measured at the start.

    Raises:
        PiwslError: it gives up on the start, or cannot be computed here.
    """
    if potential.baseline is None:
        return
    try:
        _, line = potential.baseline.cost(from_atoms(start))
    except BaselineFailure as failure:
        raise PiwslError(f"{source}: {failure}") from None
    print(line, flush=True)


def simulate_file(
    model_path: Path,
    start_path: Path,
    settings: Simulation,
    trajectory_path: Path,
    device: str = "cpu",
    restart: bool = False,
) -> dict[str, Any]:
    """Simulate from the first frame of a file, outside the grid of runs.

    Args:
        model_path: a model file.
        start_path: extended XYZ; its first frame is the start.
        settings: of the dynamics.
        trajectory_path: extended XYZ, written as it goes.
        device: cpu or cuda.
        restart: go on from the last frame of the trajectory, where there is one, until the time is over.

    Returns:
        The summary of `run_dynamics`.

    Raises:
        PiwslError: a file cannot be read or written, or the first frame is no geometry that the model knows; or
            the trajectory to go on from is of another molecule, without velocities, or at its end.
    """
    check_outputs([trajectory_path], inputs=[model_path, start_path])
    potential = load_model(model_path, device)
    start = read_frames(start_path)[0]
    if problem := geometry_problem(start) or _motion_problem(start):
        raise PiwslError(f"{start_path}: frame 0: {problem}")
    start.calc = PotentialCalculator(potential)
    try:
        potential.check_elements(start.numbers)
    except PiwslError as error:
        raise PiwslError(f"{start_path}: frame 0: {error}") from None
    say_cost(potential, start, f"{start_path}: frame 0")
    try:
        start.get_forces()
    except PiwslError as error:
        raise PiwslError(f"{start_path}: frame 0: {error}") from None
    earlier = _earlier_frames(trajectory_path, start, settings) if restart and trajectory_path.exists() else []
    trajectory = Trajectory(trajectory_path, continued=bool(earlier))
    _, summary = run_dynamics(start, settings, keep=trajectory.add, earlier=earlier)
    return summary


def _earlier_frames(path: Path, start: Atoms, settings: Simulation) -> list[Atoms]:
    """Return the frames of a trajectory, of which dynamics can go on from the last."""
    frames = read_frames(path)
    last = frames[-1]
    time_fs = last.info.get("time_fs")
    if not isinstance(time_fs, int | float) or not last.has("momenta"):
        raise PiwslError(f"{path}: its last frame has no time_fs or no momenta; leave out --restart")
    if not np.array_equal(last.numbers, start.numbers):
        raise PiwslError(f"{path}: is of other atoms than the start; leave out --restart")
    if time_fs >= 1000 * settings.time - settings.timestep / 2:
        raise PiwslError(f"{path}: is {time_fs / 1000:g} ps long already, of {settings.time:g}; raise --time")
    return frames
