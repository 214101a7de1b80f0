"""What a config may never bring: another exception than one line, a hang, an experiment that cannot run.

make fuzz FUZZ_COUNT=5000 FUZZ_SEED=1
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from fuzz.configs import configs, world
from helpers import ROOT, morse_frames, snakemake
from pyscf import gto
from snakemake.io import PeriodicityDetector

from piwsl.architectures.gaussian_process import GaussianProcess
from piwsl.architectures.painn import PaiNN
from piwsl.config import (
    Architecture,
    ComputedDataset,
    ConfigError,
    Experiment,
    Loss,
    ReplicaSimulation,
    Run,
    Sampling,
    Training,
)
from piwsl.config.models import MessagePassing
from piwsl.data.batch import collate, graph
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.losses import displacements_of_step, training_loss
from piwsl.models import build_potential
from piwsl.models.potential import DTYPES, Potential
from piwsl.preflight import load_experiment
from piwsl.reference.planning import label_batches, sources, structures
from piwsl.reference.sampling import trajectory
from piwsl.simulation import summary
from piwsl.simulation.engine import run_replicas
from piwsl.simulation.replicas import planned
from piwsl.structures.structure import from_atoms
from piwsl.training.run import train_run

SECONDS_A_CONFIG = 20
LONGEST_LINE = 200
# What no machine and no patience is enough for: written down here anew, so that the config's bounds are tested.
MOST_STEPS = 2e9
MOST_WEIGHTS = 1e10
MOST_JOBS = 20_000
MOST_MEGABYTES = 1e8
# Networks that the tests build: PaiNN of 64 features and 3 layers has about 150,000 weights.
WEIGHTS_TO_BUILD = 300_000


class Hang(BaseException):
    """Time is over."""


class Unfit(Exception):
    """An accepted config that cannot run."""


class Outcome(NamedTuple):
    """What a config came to."""

    kind: str
    """accepted, refused, or a fault: exception, message, hang, cannot run."""
    text: str


FAULTS = ("exception", "message", "hang", "cannot run", "disagreement")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Hang in what takes longer."""

    def over(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(path: Path, deep: bool = False) -> Outcome:
    """Check a config as `piwsl check` does and, if it is accepted, begin what it asks for; in its folder."""
    try:
        with time_limit(SECONDS_A_CONFIG):
            experiment = load_experiment(path)
    except ConfigError as error:
        text = str(error)
        bad = len(text) > LONGEST_LINE or not text.isprintable()
        return Outcome("message" if bad else "refused", text)
    except Hang:
        return Outcome("hang", "")
    except Exception as error:  # the very thing that is looked for
        return Outcome("exception", f"{type(error).__name__}: {error}")
    try:
        with time_limit((20 if deep else 3) * SECONDS_A_CONFIG):
            begin(experiment, deep)
    except Hang:
        return Outcome("hang", "accepted, then endless")
    except Exception as error:  # whatever it is, it would have come after the config was accepted
        return Outcome("cannot run", f"{type(error).__name__}: {error}")
    return Outcome("accepted", experiment.experiment)


def begin(experiment: Experiment, deep: bool) -> None:
    """Do a little of everything that an experiment asks for."""
    _check_names(experiment)
    for dataset in experiment.datasets.values():
        if isinstance(dataset, ComputedDataset):
            _begin_dataset(experiment, dataset)
    for simulation in experiment.simulations.values():
        _begin_simulation(simulation)
    runs = experiment.runs()
    if len(runs) > MOST_JOBS:
        raise Unfit(f"{len(runs)} runs")
    for model, loss in dict.fromkeys((run.model, run.loss) for run in runs):
        _begin_training(experiment.models[model], experiment.losses[loss], deep)


def _check_names(experiment: Experiment) -> None:
    periodic = PeriodicityDetector()
    for run in experiment.runs():
        names = [experiment.experiment, run.dataset, run.model, run.loss, f"n{run.size}", f"seed{run.seed}"]
        for name in names:
            if periodic.is_periodic(name) is not None or re.search(r"[/{}\x00-\x1f]", name) or name in ("", ".", ".."):
                raise Unfit(f"the name {name[:60]!r} is no wildcard")
        if any(len(f"{name}.snakemake_timestamp".encode()) > 255 for name in names):
            raise Unfit("a name of more than 255 bytes")
        if len("/".join(["results", *names, "checkpoints"]).encode()) > 1000:
            raise Unfit("a path of more than 1,000 bytes")
        if run.dataset in ("datasets", "logs", "benchmarks", "report.html", "results.csv", "snakemake.zip"):
            raise Unfit(f"a dataset in the place of {run.dataset}")
    if experiment.experiment in ("labels", "README.md"):
        raise Unfit(f"an experiment in the place of {experiment.experiment}")
    for dataset in experiment.datasets.values():
        published = getattr(dataset, "catalogue", None) is not None  # whose file is downloaded
        for file in (getattr(dataset, "file", None), getattr(dataset, "test_file", None)):
            if file is not None and (re.search(r"[{}@*?<>\x00-\x1f]", str(file)) or not (published or file.is_file())):
                raise Unfit(f"the file {str(file)[:60]!r}")


def _begin_dataset(experiment: Experiment, dataset: ComputedDataset) -> None:
    _plan(_Key(dataset), _Key(experiment.levels[dataset.level]))
    if dataset.molecule is None or dataset.sampling is None:
        return
    if not all(re.fullmatch(r"(modes-)?[0-9.e+]+K", source) for source in sources(dataset)):
        raise Unfit(f"a temperature that is no wildcard: {list(sources(dataset))}")
    sampling = dataset.sampling
    frames = dataset.training_frames * (dataset.candidates if dataset.selection == "farthest_point" else 1)
    if sampling.equilibration + sampling.stride * frames / len(sources(dataset)) > MOST_STEPS:
        raise Unfit("dynamics without end")
    for temperature in sampling.temperatures:
        _sample(dataset.molecule.model_dump_json(), sampling.model_dump_json(), temperature)


@functools.cache
def _plan(dataset: _Key, level: _Key) -> None:
    batches = label_batches(dataset.section, structures(dataset.section), level.section)
    if len(batches) > MOST_JOBS:
        raise Unfit(f"{len(batches)} labelling jobs")
    if any(batch.mem_mb > MOST_MEGABYTES or batch.runtime > 1e7 for batch in batches.values()):
        raise Unfit("a job larger than any machine")


@functools.cache
def _sample(molecule: str, sampling: str, temperature: float) -> None:
    section = Sampling.model_validate_json(sampling).model_copy(update={"stride": 1, "equilibration": 0})
    kind = ComputedDataset.model_fields["molecule"].annotation.__args__[0]
    frames = trajectory(kind.model_validate_json(molecule), section, temperature, "training", 2)
    if not all(np.isfinite(atoms.positions).all() for atoms in frames):
        raise Unfit("dynamics that are not finite after two steps")


def _begin_simulation(simulation: ReplicaSimulation) -> None:
    steps = simulation.time * 1000 / simulation.timestep
    if not 1 <= steps <= MOST_STEPS:
        raise Unfit(f"a simulation of {steps:g} steps")
    _simulate(
        simulation.model_copy(update={"time": 2 * simulation.timestep / 1000, "velocities_every": 0}).model_dump_json()
    )


@functools.cache
def _potential() -> Potential:
    config = PaiNN(architecture="painn", features=8, layers=1)
    return Potential(config, 2.0, {1: 0.0, 8: 0.0}, neighbours=100.0)


@functools.cache
def _simulate(simulation: str) -> None:
    settings = ReplicaSimulation.model_validate_json(simulation)
    frames = {number: from_atoms(atoms) for number, atoms in enumerate(morse_frames("H2O", 4))}
    replicas = planned(frames, settings)
    course = run_replicas(_potential(), replicas, settings, progress=lambda _: None)
    found = summary.Outcome(settings, replicas, course).summary(list(frames.values()))
    if not found["failed"] and not np.isfinite(found["mean_temperatures_K"]).all():
        raise Unfit("a simulation without a temperature")


def _begin_training(model: Architecture, loss: Loss, deep: bool) -> None:
    training = model.training
    weights = 0
    if isinstance(model, MessagePassing):
        weights = 12 * model.layers * model.features * (model.features + model.radial)
    if max(training.steps, training.validate_every, loss.start, loss.ramp) > MOST_STEPS or weights > MOST_WEIGHTS:
        raise Unfit("a training without end")
    if model.resources.mem_mb > MOST_MEGABYTES or model.resources.threads > 4096 or model.resources.gpus > 1000:
        raise Unfit("a job larger than any machine")
    if isinstance(model, GaussianProcess):
        _fit(_Key(model), _Key(loss))
    elif weights <= WEIGHTS_TO_BUILD:
        (_train if deep else _step)(_Key(model), _Key(loss))


class _Key:
    """A section that equals another of the same values, without its resources."""

    def __init__(self, section: Any) -> None:
        self.section, self.text = section, f"{type(section).__name__} {section.plain()}"

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.text == other.text


@functools.cache
def _frames() -> list[Any]:
    return morse_frames("H2O", 3) + morse_frames("NH3", 3, seed=1, forces=True)


@functools.cache
def _step(model_key: _Key, loss_key: _Key) -> None:
    model, loss = model_key.section, loss_key.section
    torch.manual_seed(0)
    structures = [from_atoms(atoms) for atoms in _frames()]
    potential = build_potential(model, structures)
    batch = collate([graph(structure, model.cutoff, DTYPES[model.dtype]) for structure in structures])
    draws = displacements_of_step(potential, batch, loss, seed=0, step=0)
    value, _ = training_loss(potential, batch, loss, draws, loss.factors(loss.start))
    value.backward()
    if not torch.isfinite(value):
        raise Unfit(f"a first loss of {float(value):g}")


@functools.cache
def _fit(model_key: _Key, loss_key: _Key) -> None:
    fitted = model_key.section.fitted([from_atoms(atoms) for atoms in morse_frames("H2O", 4)], loss_key.section)
    if not np.isfinite(fitted.left_energies).all():
        raise Unfit("a process that is not finite")


@functools.cache
def _train(model_key: _Key, loss_key: _Key) -> None:
    training: Training = model_key.section.training.model_copy(update={"steps": 2, "compile": False})
    model = model_key.section.model_copy(update={"training": training})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "dataset.h5", {TRAINING: _frames(), TEST: _frames()[:2]})
        run = Run(dataset="d", model="m", loss="l", size=6, seed=0)
        with redirect_stdout(None):
            train_run(
                folder / "dataset.h5", run, model, loss_key.section, folder / "m.safetensors", folder / "history.csv"
            )


@contextmanager
def quick_bases() -> Iterator[None]:
    """Look each basis up once."""
    known: Callable[..., Any] = functools.cache(gto.basis.load)
    with mock.patch.object(gto.basis, "load", known):
        yield


def fuzz(folder: Path, seed: int, count: int, deep: bool = False, dry_runs: int = 0) -> Iterator[tuple[bytes, Outcome]]:
    """Try so many configs in a folder, every `dry_runs`-th (0: none) with Snakemake, too."""
    world(folder)
    if dry_runs:
        shutil.copytree(ROOT / "workflow", folder / "workflow")
        shutil.copy(ROOT / "Snakefile", folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        with quick_bases():
            for number, text in enumerate(configs(seed, count)):
                path = Path("config.yaml")
                path.write_bytes(text)
                found = outcome(path, deep)
                yield text, found
                if dry_runs and number % dry_runs == 0 and found.kind in ("accepted", "refused"):
                    yield text, _agreement(folder, found)
    finally:
        os.chdir(before)


def _agreement(folder: Path, found: Outcome) -> Outcome:
    result = snakemake(folder, "--dry-run", "--quiet")
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    if found.kind == "accepted" and result.returncode != 0:
        return Outcome("disagreement", f"accepted by check, but: {result.stderr[-300:]}")
    if found.kind == "refused" and errors != [f"error: {found.text}"]:
        return Outcome("disagreement", f"refused by check with {found.text!r}, but: {result.stderr[-300:]}")
    return Outcome(f"dry run {found.kind}", "")


def main() -> int:
    """Try many configs, keep those with a fault, and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shallow", action="store_true", help="as the test suite does it: one step, no Snakemake")
    parser.add_argument("--dry-runs", type=int, default=50, help="every so many configs go through Snakemake")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="folder of configs with a fault")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    keep = options.keep.resolve()
    with tempfile.TemporaryDirectory() as folder:
        dry_runs = 0 if options.shallow else options.dry_runs
        for text, found in fuzz(Path(folder), options.seed, options.count, not options.shallow, dry_runs):
            counts[found.kind] += 1
            if found.kind in FAULTS:
                keep.mkdir(exist_ok=True)
                name = keep / f"{hashlib.sha256(text).hexdigest()[:10]}.yaml"
                name.write_bytes(text)
                print(f"{found.kind}: {found.text[:300]!r} ({name})", flush=True)
    print(f"seed {options.seed}: {dict(counts)} in {time.perf_counter() - started:.0f} s")
    return int(any(counts[kind] for kind in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
