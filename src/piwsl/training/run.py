"""Training: from frames to a model file, resumable at every validation."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from ase.data import chemical_symbols
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessRaisedException

from piwsl.config import Architecture, Loss, Run
from piwsl.config.distributions import of_training
from piwsl.data.memory import memory_of_job
from piwsl.errors import PiwslError
from piwsl.files import refusal, write_text
from piwsl.holding import alone_in
from piwsl.models import (
    Baseline,
    Committee,
    PairPotential,
    Potential,
    Predictor,
    build_potential,
    fit_pair_potential,
    save_model,
)
from piwsl.models.potential import DTYPES
from piwsl.models.scale import fit_scale
from piwsl.models.statistics import (
    MOST_FITTED,
    Collated,
    batches_of,
    mean_neighbours,
    refit_references,
    stated_references,
)
from piwsl.pieces import Pieces
from piwsl.structures.labels import WEAK
from piwsl.structures.seeds import seed_of
from piwsl.training.checkpoints import Checkpoints, newest_readable
from piwsl.training.closed_form import closed_form
from piwsl.training.frames import Names, TrainingFrames, frames_of_run
from piwsl.training.module import Diagnosis, EndOfStretch, PotentialModule, Task
from piwsl.training.places import TENSORBOARD, History, Places
from piwsl.training.progress import watchers, write_history
from piwsl.training.references import references_in_words
from piwsl.training.sizes import Sizes, check_room, reach
from piwsl.training.validation import HeldOut

# Raise this when the same config and data would be trained to other weights: checkpoints of before are set aside then.
PROCEDURE_VERSION = 8


@dataclass(frozen=True)
class Devices:
    """What a training runs on."""

    kind: Literal["cpu", "gpu"]
    count: int


CPU = Devices("cpu", 1)
MOST_LOADERS = 4
# How many times a baseline may be taken: beyond, labels are in another unit, or gradients.
LEAST_BELIEVED, MOST_BELIEVED = -0.1, 10.0
UNNAMED = Names()
GROUPS_SHOWN = 12
ERROR_OF_OURS = re.compile(r"^piwsl[.\w]*: ")
NOTHING: Mapping[str, Any] = MappingProxyType({})


def train_run(
    dataset_path: Path,
    run: Run,
    model: Architecture,
    loss: Loss,
    model_path: Path,
    history_path: Path,
    threads: int = 1,
    devices: Devices = CPU,
    pool_path: Path | None = None,
    baseline: Baseline | None = None,
    distributions: Mapping[str, str] = NOTHING,
    level: str | None = None,
    to_local_disk: bool = False,
    mem_mb: int | None = None,
    earlier_path: Path | None = None,
) -> None:
    """Train one point of the grid from a dataset file; other arguments, and what it raises, as of `train`.

    Which of its frames that learns from and validates on stands in `frames.json` beside the model file, with the hash
    of their content that the model file has.

    Args:
        dataset_path: dataset file.
        run: the point of the grid: which frames, which seed, and what messages call data, model and loss.
        model: architecture and training settings.
        loss: the training loss.
        model_path: safetensors file to write.
        history_path: CSV to write.
        threads: of the CPU.
        devices: what to train on.
        pool_path: dataset file of the pool, where that is not in the other.
        baseline: what the model corrects, if it does.
        distributions: those of others that read or computed the frames, by kind, for the model file.
        level: of theory, that the labels are of, in words, for the model file.
        to_local_disk: whether frames that do not fit the memory are read from a copy on a disk of this machine.
        mem_mb: memory that it may take, MB; by default what the machine has left.
        earlier_path: as of `train`.
    """
    # What frames and graphs are in Python each process comes to have of its own, though they are forked.
    processes = devices.count if devices.count == 1 else devices.count + 1
    memory = memory_of_job(mem_mb) / processes
    frames = frames_of_run(dataset_path, pool_path, run, model, loss, to_local_disk, memory)
    if groups := _validation_groups(frames):
        every = len(frames.training) + len(frames.validation)
        print(f"validation: {len(frames.validation)} of {every} frames, of {_named(groups)}", flush=True)
    frames = replace(frames, distributions=distributions, level=level)
    names, provenance = Names.of(run), {"run": run.plain()}
    paths = (model_path, history_path)
    train(
        frames,
        model,
        loss,
        run.seed,
        *paths,
        threads,
        devices,
        names,
        provenance,
        baseline,
        earlier_path,
        model_path.with_name("frames.json"),
    )


def _validation_groups(frames: TrainingFrames) -> list[str]:
    """Return the groups that are validated on, in order; none where frames are held out one by one."""
    return sorted({str(group) for group in frames.validation.groups()}) if frames.windows else []


def _named(groups: Sequence[str]) -> str:
    """Name some groups, and say how many there are."""
    more = ", ..." if len(groups) > GROUPS_SHOWN else ""
    return f"{len(groups)} groups: {', '.join(groups[:GROUPS_SHOWN])}{more}"


def train(
    frames: TrainingFrames,
    model: Architecture,
    loss: Loss,
    seed: int,
    model_path: Path,
    history_path: Path,
    threads: int = 1,
    devices: Devices = CPU,
    names: Names = UNNAMED,
    provenance: Mapping[str, Any] = NOTHING,
    baseline: Baseline | None = None,
    earlier_path: Path | None = None,
    frames_path: Path | None = None,
) -> None:
    """Train a potential and write it with its history.

    The members of a committee are trained one after the other; each validates on other frames (`of_member`).

    A training that was interrupted goes on from its newest readable checkpoint (one is written at every validation, and
    on SIGTERM and SIGUSR2), if config and data are the same; one of another config or other data is set aside. A model
    that is fitted in closed form has no checkpoint, and one row of history, whose validation leaves a frame out at a
    time.

    Args:
        frames: what it learns from.
        model: architecture and training settings.
        loss: the training loss.
        seed: of weights, order of frames and displacements.
        model_path: safetensors file to write; checkpoints lie beside it until the training is done.
        history_path: CSV to write, a row a validation (losses as the loss's function has them, RMSE in eV an atom and
            eV/Å; of a committee with the number of the member), as the training goes; TensorBoard's files lie in a
            folder beside it.
        threads: of the CPU; several devices have a process of one thread each.
        devices: what to train on; several share the frames of each step.
        names: what messages call data, model and loss.
        provenance: what the model file says of where it comes from, beside data, loss and seed.
        baseline: what the network learns the difference to, if it does.
        earlier_path: JSON for what processes before this one took, where it went on from a checkpoint (`Pieces.leave`).
        frames_path: JSON for which frames of their dataset file are learned from and validated on.

    Raises:
        Interrupted: a signal told it to stop.
        PiwslError: none of the frames has what the loss learns from, a loss or frames that the model cannot be fitted
            to, a baseline that the model does not name, a diverging loss, or another process at the same training.
    """
    if (given := None if baseline is None else baseline.name) != model.baseline:
        raise PiwslError(f"{names.model}: its baseline is {model.baseline or 'none'}, and {given or 'none'} was given")
    frames = frames.seen_by(loss)
    _check_members(frames.of_members(model.members), loss, names)
    if problem := model.loss_problem(loss):
        raise PiwslError(f"{names.loss}: {problem}; leave it out")
    if (sizes := Sizes.found(frames, model, loss, threads)) is not None:
        check_room(frames.of_members(model.members), model, loss, sizes, names)
    of_data = frames
    if baseline is not None:
        frames = frames.knowing(baseline)
        baseline = replace(baseline, scale=_scale(baseline, model, frames))
        frames = frames.less(baseline)
    of_members = frames.of_members(model.members)
    stated = _stated_references(model, frames, names)
    data_hash = frames.content_hash()
    folder = model_path.parent / "checkpoints"
    with alone_in(model_path.parent):
        if frames_path is not None:
            _write_places(frames_path, of_data, data_hash)
        with_pairs = all(_wants_pairs(model, loss, own) for own in of_members)
        references = references_in_words(model, of_data, with_pairs)
        print(f"atomic references: {references}", flush=True)
        atoms = frames.free_atoms if with_pairs else {}
        fingerprint = _fingerprint(provenance, seed, model, loss, data_hash, [stated, atoms])
        _set_aside_foreign_checkpoints(folder, fingerprint)
        pieces = Pieces(folder / "pieces.json", fingerprint)
        # A process that has computed with several threads hangs where it is forked.
        loaders = 0 if frames.in_memory else _loaders(devices, threads)
        torch.set_num_threads(threads - loaders * (devices.kind == "cpu") if devices.count == 1 else 1)
        alone = model.model_copy(update={"members": 1})
        recipe = _Recipe(alone, loss, seed, with_pairs, devices, loaders, pieces, sizes)
        places = Places(model_path.parent, history_path, model.members)
        potential, history, held_out = _trained(recipe, of_members, places)
        potential.baseline = baseline
        found = {"seed": seed, "loss": loss.plain(), "data": data_hash, "atomic_references": stated, **held_out}
        found["references"] = references
        found |= {"level": frames.level, "electrons": frames.electrons()}
        if brought := {**frames.distributions, **of_training(model, loss)}:
            found["distributions"] = brought
        write_history(history_path, history)
        save_model(model_path, potential, {**provenance, **found})
        if earlier_path is not None:
            pieces.leave(earlier_path)
        shutil.rmtree(folder)


def _write_places(path: Path, frames: TrainingFrames, data_hash: str) -> None:
    """Write where the frames stand among those for training, and the hash by which a model file is known to be theirs.

    Files of before have no hash.
    """
    learned = {"training": frames.training.indices.tolist(), "validation": frames.validation.indices.tolist()}
    groups = _validation_groups(frames)
    written = learned | ({"validation_groups": groups} if groups else {}) | {"data": data_hash}
    write_text(path, json.dumps(written) + "\n")


@dataclass(frozen=True)
class _Recipe:
    """What the potentials of a training have in common."""

    model: Architecture
    """Of one potential."""
    loss: Loss
    seed: int
    with_pairs: bool
    devices: Devices
    loaders: int
    """Processes that make batches for each device, of frames that are not in memory."""
    pieces: Pieces
    """The processes that the training has taken so far."""
    sizes: Sizes | None = None
    """Of all frames, where a step has a limit of these."""


def _trained(
    recipe: _Recipe, of_members: Sequence[TrainingFrames], places: Places
) -> tuple[Predictor, History, dict[str, Any]]:
    """Train the members one after the other; return the potential or committee, history, and errors of held-out frames.

    The first member is the potential that is trained without the others, to the last bit: number of neighbours
    included, of which a model has one.
    """
    neighbours = mean_neighbours(of_members[0].training[:MOST_FITTED], recipe.model.cutoff)
    history: History = []
    trained: list[tuple[Potential, Task]] = []
    for member, frames in enumerate(of_members):
        places = replace(places, member=member, before=history)
        seed = seed_of("members", recipe.seed, member) if member else recipe.seed
        potential, own, task = _one(replace(recipe, seed=seed), frames, neighbours, places)
        trained.append((potential, task))
        history = places.rows(own)
    if len(trained) == 1:
        ((potential, task),) = trained
        potential.pair = task.pair
        return potential, history, {}
    # Last of all: processes that share the devices are forked, and torch's backward pass does not outlive a fork.
    held_out = sum((HeldOut.of(potential, task.validation) for potential, task in trained), HeldOut())
    for potential, task in trained:
        potential.pair = task.pair
    return Committee([potential for potential, _ in trained]), history, {"held_out": held_out.errors().model_dump()}


def _one(recipe: _Recipe, frames: TrainingFrames, neighbours: float, places: Places) -> tuple[Potential, History, Task]:
    """Train one potential; return it, its history and what it learned from, without the pair potential of that."""
    model, loss, seed = recipe.model, recipe.loss, recipe.seed
    pair, least_scale = None, 0.0
    if recipe.with_pairs:
        labelled = frames.training if frames.training.have_forces() else frames.training.with_energy()
        pair, least_scale = fit_pair_potential(labelled.sample(MOST_FITTED), model.cutoff, frames.free_atoms)
        frames = frames.without(pair)
    task = _task(recipe, frames, pair)
    found_in_closed_form = closed_form(model, loss, frames, task.graphs)
    if found_in_closed_form is None:
        torch.manual_seed(seed_of("initial weights", seed))
        with_energy = frames.training.places_with_energy()
        fitted_to = with_energy[frames.training.with_energy().sampled(MOST_FITTED)]
        sample = [*frames.training.taken(fitted_to)]
        moved = [] if len(with_energy) == len(frames.training) else frames.training.sample(MOST_FITTED)
        untrained = build_potential(model, sample, frames.free_atoms, least_scale, neighbours, moved)
        potential, history = _by_steps(untrained, task, fitted_to.tolist(), places, recipe)
    else:
        potential, history = found_in_closed_form
    return potential, history, task


def _by_steps(
    potential: Potential, task: Task, fitted_to: Sequence[int], places: Places, recipe: _Recipe
) -> tuple[Potential, History]:
    """Train an untrained potential; return it with the weights that are kept, and its history.

    References are fitted once more in the end, to some of the training frames with energies.
    """
    module = _fit(potential, task, places, recipe.devices, recipe.pieces)
    if not (task.training.keeps_last or math.isfinite(module.best_criterion)):
        raise PiwslError("no validation gave finite errors; lower learning_rate or the weights of the loss")
    module.potential.load_state_dict(module.kept_weights)
    if not all(torch.isfinite(parameter).all() for parameter in module.potential.parameters()):
        raise PiwslError("the trained weights are not finite; lower learning_rate or the weights of the loss")
    refit_references(module.potential, batches_of([task.graphs[place] for place in fitted_to]))
    return module.potential, module.history


def _check_members(of_members: Sequence[TrainingFrames], loss: Loss, names: Names) -> None:
    """Refuse frames that a member could not learn from, or of which one would know fewer elements than another.

    Raises:
        PiwslError: the labels that the loss looks at are missing, a pool, or an element.
    """
    for frames in of_members:
        frames.check(loss, names)
    elements = set().union(*(frames.elements() for frames in of_members))
    for member, frames in enumerate(of_members):
        if missing := sorted(elements - frames.elements()):
            symbols = ", ".join(chemical_symbols[number] for number in missing)
            raise PiwslError(
                f"{names.model}: all frames with {symbols} are those that member {member + 1} of {len(of_members)} "
                "validates on; give more frames, or say validation_fraction: 0"
            )


def _wants_pairs(model: Architecture, loss: Loss, frames: TrainingFrames) -> bool:
    """Whether a pair potential is fitted first: by default where no frame has a force that the loss looks at."""
    if model.pair_potential != "auto":
        return model.pair_potential
    return not loss.terms_of_level(WEAK) and not frames.have_forces()


def _scale(baseline: Baseline, model: Architecture, frames: TrainingFrames) -> float:
    """Return what a baseline is multiplied by: a number of the config, or what fits the training frames best."""
    if model.baseline_scale != "fitted":
        return model.baseline_scale
    scale = fit_scale(frames.training.sample(MOST_FITTED), baseline.name)
    if not LEAST_BELIEVED < scale < MOST_BELIEVED:
        raise PiwslError(
            f"{baseline}: the labels are nearest to {scale:.3g} times its energies and forces; are they of the sign "
            "and in the units that were said? If so, say baseline_scale: 1"
        )
    print(f"{baseline} is taken {scale:.3f} times", flush=True)
    return scale


def _stated_references(model: Architecture, frames: TrainingFrames, names: Names) -> dict[str, float] | None:
    """Return the references that the config states, by chemical symbol in eV; None where they are fitted."""
    try:
        stated = stated_references(model, frames.training.with_energy().sample(MOST_FITTED), frames.free_atoms)
    except PiwslError as error:
        raise PiwslError(f"{names.model}, {names.dataset}: {error}") from None
    return None if stated is None else {chemical_symbols[number]: energy for number, energy in stated.items()}


def _task(recipe: _Recipe, frames: TrainingFrames, pair: PairPotential | None) -> Task:
    model, loss = recipe.model, recipe.loss
    dtype = DTYPES[model.dtype]
    learnt, pool = (view.graphs(reach(model, loss), dtype) for view in (frames.training, frames.pool))
    held = Collated(frames.validation.graphs(model.cutoff, dtype))
    everywhere = np.concatenate([frames.training.indices, frames.pool.indices])
    return Task(
        model.training,
        loss,
        recipe.seed,
        learnt,
        [*held] if frames.in_memory else held,
        everywhere,
        pool,
        frames.pool_share(model, loss),
        pair,
        recipe.loaders,
        None if recipe.sizes is None else (recipe.sizes.of(frames.training), recipe.sizes.of(frames.pool)),
        frames.training.places_with_energy(),
    )


def _loaders(devices: Devices, threads: int) -> int:
    """Return how many processes make batches for each device that learns: of the cores that are left.

    One keeps up with a network on the CPU; on one core it would take from the steps what it spares them.
    """
    most = MOST_LOADERS if devices.kind == "gpu" else 1
    return max(0, min(most, threads // devices.count - 1))


def _fit(potential: Potential, task: Task, places: Places, devices: Devices, pieces: Pieces) -> PotentialModule:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    module = PotentialModule(potential, task)
    folder = places.checkpoints
    checkpoints = Checkpoints(folder, pieces.saved)
    trainer = pl.Trainer(
        accelerator=devices.kind,
        devices=devices.count,
        # Forked, for a script of Snakemake cannot be started a second time; what the processes learned is read from
        # their last checkpoint.
        strategy=DDPStrategy(start_method="fork", find_unused_parameters=True) if devices.count > 1 else "auto",
        precision="bf16-mixed" if task.training.mixed_precision else "32-true",
        plugins=[LightningEnvironment()],
        max_epochs=task.epochs,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        limit_val_batches=0,
        gradient_clip_val=task.training.gradient_clip,
        inference_mode=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        # In this order: what is shown and what is saved is what was found.
        callbacks=[EndOfStretch(), *watchers(places), checkpoints, Diagnosis(places.diverged)],
    )
    if devices.count == 1:
        with checkpoints.listening():
            trainer.fit(module, ckpt_path=newest_readable(folder), weights_only=True)
        return module
    try:
        with checkpoints.listening(), _port_of_its_own():
            trainer.fit(module, ckpt_path=newest_readable(folder), weights_only=True)
    except ProcessRaisedException as error:
        last_line = str(error).strip().splitlines()[-1]
        raise PiwslError(refusal(error) or ERROR_OF_OURS.sub("", last_line)) from None
    last = newest_readable(folder)
    assert last is not None
    module.on_load_checkpoint(torch.load(last, map_location="cpu", weights_only=True))
    return module


@contextmanager
def _port_of_its_own() -> Iterator[None]:
    """Hold a port of this machine, which processes that train together meet at: no other training is given it.

    As nobody listens at it yet, the first of them may.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("", 0))
        os.environ["MASTER_PORT"] = str(held.getsockname()[1])
        yield


def _fingerprint(
    provenance: Mapping[str, Any], seed: int, model: Architecture, loss: Loss, data_hash: str, energies_of_atoms: object
) -> str:
    parts = [PROCEDURE_VERSION, dict(provenance), seed, model.plain(), loss.plain(), data_hash, energies_of_atoms]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _set_aside_foreign_checkpoints(folder: Path, fingerprint: str) -> None:
    note = folder / "fingerprint"
    if note.exists() and note.read_text() != fingerprint:
        number = 1 + sum(1 for _ in folder.parent.glob("checkpoints-superseded-*"))
        aside = folder.with_name(f"checkpoints-superseded-{number}")
        folder.rename(aside)
        print(f"config or data changed: the checkpoint of the earlier run was set aside as {aside}", flush=True)
    if not note.exists():
        shutil.rmtree(folder, ignore_errors=True)
        # TensorBoard would lay the curves of an earlier training over those of this one.
        shutil.rmtree(folder.parent / TENSORBOARD, ignore_errors=True)
        write_text(note, fingerprint)
