"""What `import piwsl` offers: the steps of the pipeline on ASE's Atoms, without Snakemake and without its grid of runs.

Units are eV, Å, eV/Å, eV/Å³, fs and K. Labels are `REF_energy`, `REF_forces` and `REF_stress`, as in files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms

from piwsl.config import (
    Architecture,
    Level,
    Loss,
    Simulation,
    named_level,
    parse_level,
    parse_model,
    parse_section,
)
from piwsl.config.heads import head_problem
from piwsl.data.given import free_atoms
from piwsl.errors import PiwslError
from piwsl.evaluation.metrics import ErrorSummary
from piwsl.evaluation.predict import each_structure, predicted, structures_of, with_predictions
from piwsl.evaluation.predict import predict as predict_structures
from piwsl.evaluation.teaching import taught
from piwsl.extras import naming_extras
from piwsl.files import check_outputs
from piwsl.interfaces import PotentialCalculator
from piwsl.models import Baseline, Predictor, load_model
from piwsl.simulation.dynamics import run_dynamics
from piwsl.structures.geometry import symbols_of
from piwsl.structures.labels import REFERENCE
from piwsl.structures.structure import NO_LABELS, Structure

LABELS = Path("results/labels")


def predict(potential: Predictor, frames: Sequence[Atoms]) -> list[Atoms]:
    """Return copies of frames with energy (eV), forces (eV/Å) and, of crystals, stress (eV/Å³) in their calculator.

    Args:
        potential: of `load_model` or `train`.
        frames: geometries; labels are not looked at.

    Raises:
        PiwslError: an element that the potential was not trained on, or no geometry; names the frame.
    """
    return with_predictions(frames, predict_structures(potential, structures_of(frames, "frames", potential)))


def evaluate(potential: Predictor, frames: Iterable[Atoms]) -> dict[str, float | int | None]:
    """Return the errors of a potential on labelled frames, as `error_summary` does: meV, meV/Å, meV/Å³.

    Frames that the potential's baseline gives up on are left out, with a line each that says why; `test_frames` counts
    the others. Some frames are held at a time.

    Args:
        potential: of `load_model` or `train`.
        frames: each with `REF_energy`, `REF_forces` or both, and, on some or none, `REF_stress`; gone through once.

    Raises:
        PiwslError: a frame has neither energy nor forces, is no geometry, or holds elements that are unknown to the
            potential; or its baseline gives up on all of them.
    """
    structures = _with_labels(each_structure(frames, "frames", potential))
    baseline, found = potential.baseline, ErrorSummary()
    known = enumerate(structures) if baseline is None else baseline.each_known(structures, "frames")
    for part in predicted(potential, known):
        found.add(*part)
    return found.values()


def _with_labels(structures: Iterable[Structure]) -> Iterator[Structure]:
    """Yield structures, all of which must have an energy or forces."""
    for position, structure in enumerate(structures):
        if not np.isfinite(structure.energy) and structure.forces is None:
            raise PiwslError(f"frames: frame {position}: has no REF_energy and no REF_forces to compare with")
        yield structure


def train(
    frames: Sequence[Atoms],
    folder: Path | str,
    model: Architecture | Mapping[str, Any] | str = "painn",
    loss: Loss | Mapping[str, Any] | None = None,
    seed: int = 0,
    pool: Sequence[Atoms] = (),
    threads: int = 1,
    devices: int = 0,
    teacher: Predictor | None = None,
    distributions: Mapping[str, str] | None = None,
    level: str | None = None,
) -> Predictor:
    """Train a potential on labelled frames and return it; started again after an interruption, it goes on.

    Args:
        frames: each with `REF_energy`, `REF_forces` or both, some with an energy; on some or none `REF_stress`. Neutral
            frames of one atom among them say what molecules are bound by.
        folder: to write `model.safetensors`, `history.csv` and, until it is done, checkpoints to.
        model: an architecture by name, or a section as under `models` of a config; its baseline is a preset. Frames
            that a baseline gives up on are left out, with a line each.
        loss: a section as under `losses`; default: errors of energies and, where labelled, forces.
        seed: of everything random.
        pool: geometries without labels, for a loss with a share of them, or for a teacher to label.
        threads: of the CPU.
        devices: GPUs; 0 trains on the CPU.
        teacher: of `load_model` or `train`; labels the pool with energies and forces, which are learned beside those of
            the frames.
        distributions: names and versions of what read or computed the frames, for the model file.
        level: of theory, that the labels are of, in words, for the model file.

    Raises:
        PiwslError: a section or a frame that is not right, no labels that the loss or a head for forces learns from, a
            diverging loss, or a folder that holds a model already.
    """
    with naming_extras():
        from piwsl.training.frames import Names, frames_of_structures
        from piwsl.training.run import CPU, Devices
        from piwsl.training.run import train as train_frames

    section = {"architecture": model} if isinstance(model, str) else model
    architecture = parse_model(section, "model") if isinstance(section, Mapping) else section
    objective = loss if isinstance(loss, Loss) else parse_section(Loss, loss or {}, "loss")
    path, history = Path(folder) / "model.safetensors", Path(folder) / "history.csv"
    if path.exists():
        raise PiwslError(f"{path} is there already; name another folder, or take it away")
    baseline = _baseline(architecture, frames)
    electrons = baseline is not None or (teacher is not None and teacher.baseline is not None)
    labelled = structures_of(frames, "frames", electrons=True)
    # What files say of the pool is not looked at, whoever computed it.
    unlabelled = [each.labelled(REFERENCE, NO_LABELS) for each in structures_of(pool, "pool", electrons=electrons)]
    if baseline is not None:
        labelled, unlabelled = baseline.known_of(labelled, "frames"), baseline.known_of(unlabelled, "pool")
    taken = frames_of_structures(
        labelled,
        architecture,
        seed,
        unlabelled if teacher is None else taught(unlabelled, teacher),
        free_atoms(frames),
    )
    if problem := head_problem(architecture, objective, taken.have_forces()):
        raise PiwslError(f"model: {problem} to the loss")
    taken = replace(taken, distributions=dict(distributions or {}), level=level)
    check_outputs([path, history], inputs=[])
    where = Devices("gpu", devices) if devices else CPU
    train_frames(taken, architecture, objective, seed, path, history, threads, where, Names(), baseline=baseline)
    return load_model(path)


def _baseline(model: Architecture, frames: Sequence[Atoms]) -> Baseline | None:
    """Return what a model corrects: a preset, for outside an experiment nothing else has a name."""
    if model.baseline is None:
        return None
    baseline = Baseline(model.baseline, named_level(model.baseline))
    baseline.check(symbols_of([*frames]))
    return baseline


def label(
    frames: Sequence[Atoms],
    level: Level | Mapping[str, Any] | str = "ccsdt-cbs",
    forces: Literal["analytic", "differences", "slope"] | None = None,
    store: Path | str = LABELS,
    mem_mb: int = 2000,
) -> tuple[list[Atoms], list[dict[str, Any]]]:
    """Label geometries with a level of theory; finished energies are kept, and found again.

    Args:
        frames: geometries, Å; info may hold charge and multiplicity.
        level: a preset by name, or a section as under `levels` of a config.
        forces: also forces, by gradients or central differences; or the slope along one random direction of each
            frame.
        store: folder of finished energies.
        mem_mb: memory that may be used, MB.

    Returns:
        The labelled frames (`REF_energy` eV, `REF_forces` eV/Å, or `REF_slope` eV/Å with `REF_direction`) and a record
        for each frame given: its components, or why it failed.

    Raises:
        PiwslError: an unknown level, one that has no basis or forces for these molecules, or needs far more memory, or
            a store that refuses.
    """
    with naming_extras():
        from piwsl.reference.checks import check_level, check_molecules
        from piwsl.reference.estimates import check_memory, estimate
        from piwsl.reference.forces import check_forces
        from piwsl.reference.labelling import label_frames

    if isinstance(level, str):
        level = named_level(level)
    elif isinstance(level, Mapping):
        level = parse_level(level, "level")
    given = list(frames)
    multiplicities = check_molecules(given, Path("frames"))
    with naming_extras():
        check_level(level, symbols_of(given))
    check_forces(level, multiplicities, forces)
    check_memory(estimate(given, level, forces, Path(store)), mem_mb, forces)
    return label_frames(given, level, Path(store), forces, mem_mb)


def simulate(potential: Predictor, start: Atoms, **settings: Any) -> tuple[list[Atoms], dict[str, Any]]:
    """Run Langevin dynamics until the time is over or a bond breaks, as `run_dynamics` does.

    Args:
        potential: of `load_model` or `train`.
        start: geometry; it is not changed.
        settings: keys of the section `simulation`: temperature (K), time (ps), timestep (fs), seed, ...

    Returns:
        Frames along the way (at most about 100) and a summary: stable_ps, ended, mean_temperature_K, ...

    Raises:
        PiwslError: a setting that is not right, or a geometry that cannot move.
    """
    atoms = start.copy()
    atoms.calc = PotentialCalculator(potential)
    return run_dynamics(atoms, parse_section(Simulation, settings, "settings"), progress=lambda line: None)
