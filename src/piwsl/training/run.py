"""Training one run from a dataset file to a model file, resumable at every validation."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
import numpy as np
import torch
from ase.data import chemical_symbols
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from numpy.typing import NDArray
from torch.multiprocessing.spawn import ProcessRaisedException

from piwsl.config import Loss, Model, Run
from piwsl.data.batch import graphs
from piwsl.data.dataset import POOL, TRAINING, Dataset, content_hash
from piwsl.data.splits import Split, split_frames
from piwsl.errors import PiwslError
from piwsl.files import refusal, write_text
from piwsl.losses import largest_displacement
from piwsl.models import PairPotential, Potential, build_potential, fit_pair_potential, save_model
from piwsl.models.potential import DTYPES
from piwsl.models.statistics import (
    batches_of,
    refit_references,
    stated_references,
)
from piwsl.structures.labels import REFERENCE, WEAK
from piwsl.structures.seeds import seed_of
from piwsl.structures.structure import Structure
from piwsl.training.checkpoints import Checkpoints, forwarded_signals, newest_readable
from piwsl.training.module import Diagnosis, EndOfStretch, PotentialModule, Task
from piwsl.training.progress import TENSORBOARD, watchers, write_history

# Raise this when the same config and data would be trained to other weights: checkpoints of before are set aside then.
PROCEDURE_VERSION = 4


@dataclass(frozen=True)
class Devices:
    """What a training runs on."""

    kind: Literal["cpu", "gpu"]
    count: int


CPU = Devices("cpu", 1)


def train(
    dataset_path: Path,
    run: Run,
    model: Model,
    loss: Loss,
    model_path: Path,
    history_path: Path,
    threads: int = 1,
    devices: Devices = CPU,
    pool_path: Path | None = None,
) -> None:
    """Train a potential and write it with its history.

    A run that was interrupted goes on from its newest readable checkpoint (one is written at every validation, and on
    SIGTERM and SIGUSR2), if config and data are the same; one of another config or other data is set aside.

    Args:
        dataset_path: dataset file.
        run: the point of the grid.
        model: architecture and training settings.
        loss: the training loss.
        model_path: safetensors file to write; checkpoints lie beside it until the run is done.
        history_path: CSV to write, a row a validation (losses as the loss's function has them, RMSE in eV an atom and
            eV/Å), as the run goes;
            TensorBoard's files lie in a folder beside it.
        threads: of the CPU; several devices have a process of one thread each.
        devices: what to train on; several share the frames of each step.
        pool_path: dataset file of the pool, where that is not in the other.

    Raises:
        Interrupted: a signal told it to stop.
        PiwslError: fewer labelled frames than the size, none with what the loss learns from, a diverging loss, or
            another process at the same run.
    """
    frames = _read(dataset_path, pool_path, run, model, loss)
    stated = _stated_references(run, model, frames)
    data_hash = content_hash(frames.training + frames.validation + frames.pool)
    folder = model_path.parent / "checkpoints"
    with _only_process(folder):
        atoms = frames.free_atoms if _wants_pairs(model, loss, frames) else {}
        _set_aside_foreign_checkpoints(folder, _fingerprint(run, model, loss, data_hash, [stated, atoms]))
        # A process that has computed with several threads hangs where it is forked.
        torch.set_num_threads(threads if devices.count == 1 else 1)
        pair, least_scale = None, 0.0
        if _wants_pairs(model, loss, frames):
            pair, least_scale = fit_pair_potential(frames.training, model.cutoff, frames.free_atoms)
            frames = frames.without(pair)
        task = _task(run, model, loss, frames, pair)
        torch.manual_seed(seed_of("initial weights", run.seed))
        potential = build_potential(model, frames.training, frames.free_atoms, least_scale)
        module = _fit(potential, task, folder, history_path, devices)
        if not (model.training.keeps_last or math.isfinite(module.best_criterion)):
            raise PiwslError("no validation gave finite errors; lower learning_rate or the weights of the loss")
        module.potential.load_state_dict(module.kept_weights)
        if not all(torch.isfinite(parameter).all() for parameter in module.potential.parameters()):
            raise PiwslError("the trained weights are not finite; lower learning_rate or the weights of the loss")
        refit_references(module.potential, batches_of(task.graphs))
        module.potential.pair = task.pair
        provenance = {"run": run.plain(), "loss": loss.plain(), "data": data_hash, "atomic_references": stated}
        write_history(history_path, module.history)
        save_model(model_path, module.potential, provenance)
        shutil.rmtree(folder)


@dataclass(frozen=True)
class _Frames:
    """What a run takes of a dataset, and where it stands there."""

    training: list[Structure]
    validation: list[Structure]
    split: Split
    pool: list[Structure]
    """Frames without labels; none where the loss takes none."""
    pool_indices: NDArray[np.int64]
    free_atoms: dict[int, float]
    """Energies at the level of the labels, atomic number to eV."""

    def without(self, pair: PairPotential) -> _Frames:
        """Return the frames with what a pair potential leaves of their labels."""
        training, validation, pool = map(pair.subtracted_from, (self.training, self.validation, self.pool))
        return replace(self, training=training, validation=validation, pool=pool)


def _read(path: Path, pool_path: Path | None, run: Run, model: Model, loss: Loss) -> _Frames:
    """Read the frames of a run, and refuse those that its loss could not learn from."""
    with Dataset(path) as dataset:
        split = split_frames(dataset.indices(TRAINING), run.size, run.seed, model.training.validation_fraction)
        training, validation = (
            _with_labels_of(loss, dataset.structures(frames)) for frames in (split.training, split.validation)
        )
        _check_elements(run, training, dataset.elements())
        free_atoms, labelled = dataset.atomic_energies(), len(dataset.indices(TRAINING))
    pool, pool_indices = _pool(pool_path or path) if loss.pool else ([], np.empty(0, dtype=np.int64))
    if pool_path is not None:
        pool_indices = pool_indices + labelled  # no frame of the pool stands where a labelled one does
    if loss.pool:
        _check_pool(run, loss, training, pool)
    _check_forces(run, loss, training, pool)
    return _Frames(training, validation, split, pool, pool_indices, free_atoms)


def _pool(path: Path) -> tuple[list[Structure], NDArray[np.int64]]:
    with Dataset(path) as dataset:
        indices = dataset.indices(POOL)
        return dataset.structures(indices), indices


def _wants_pairs(model: Model, loss: Loss, frames: _Frames) -> bool:
    """Whether a pair potential is fitted first: by default where no frame has a force that the loss looks at."""
    if model.pair_potential != "auto":
        return model.pair_potential
    return loss.weak_forces is None and all(structure.forces is None for structure in frames.training)


def _with_labels_of(loss: Loss, structures: list[Structure]) -> list[Structure]:
    """Take away the labels that a loss shall not see: neither directions nor the choice of weights may know them."""
    if loss.forces:
        return structures
    return [
        structure.labelled(REFERENCE, replace(structure.at_level(REFERENCE), forces=None)) for structure in structures
    ]


def _check_elements(run: Run, training: list[Structure], needed: list[int]) -> None:
    """Refuse, before it is trained, a model that could not be tested: an element it has never seen."""
    seen = {number for structure in training for number in structure.numbers.tolist()}
    if missing := sorted(set(needed) - seen):
        names = ", ".join(chemical_symbols[number] for number in missing)
        raise PiwslError(
            f"the {len(training)} training frames of size {run.size}, seed {run.seed} hold no {names}, which other "
            f"frames of dataset '{run.dataset}' do; raise the size"
        )


def _check_pool(run: Run, loss: Loss, training: list[Structure], pool: list[Structure]) -> None:
    """Refuse a pool of which the loss learns nothing, or that has elements of which no label says anything."""
    if not pool:
        raise PiwslError(
            f"loss '{run.loss}' takes frames of the pool, and dataset '{run.dataset}' has none; say pool_frames or "
            "pool_file there"
        )
    if not loss.self_consistent and all(structure.at_level(WEAK).forces is None for structure in pool):
        raise PiwslError(
            f"loss '{run.loss}' has weak_forces for the pool, but none of its {len(pool)} frames in dataset "
            f"'{run.dataset}' has such forces; say weak_forces: gfn2-xtb there, or give WEAK_forces"
        )
    labelled, unlabelled = (
        {number for structure in structures for number in structure.numbers.tolist()} for structures in (training, pool)
    )
    if missing := sorted(unlabelled - labelled):
        names = ", ".join(chemical_symbols[number] for number in missing)
        raise PiwslError(
            f"the pool of dataset '{run.dataset}' holds {names}, which the {len(training)} training frames of size "
            f"{run.size}, seed {run.seed} do not; take those frames out of the pool, or label some"
        )


def _check_forces(run: Run, loss: Loss, training: list[Structure], pool: list[Structure]) -> None:
    """Refuse a loss on forces, of the level of the labels or of a cheaper one, or on stress, that no frame has."""
    if loss.needs_forces and all(structure.forces is None for structure in training):
        raise PiwslError(
            f"loss '{run.loss}' has energy: 0, but none of the {len(training)} training frames of dataset "
            f"'{run.dataset}' has forces; give energy a weight"
        )
    if loss.stress and all(structure.stress is None for structure in training):
        raise PiwslError(
            f"loss '{run.loss}' has stress, but none of the {len(training)} training frames of dataset "
            f"'{run.dataset}' has one; give REF_stress, say stress_key, or leave it out"
        )
    if loss.weak_forces is not None and all(structure.at_level(WEAK).forces is None for structure in training + pool):
        beside = f" and {len(pool)} pool" if pool else ""
        raise PiwslError(
            f"loss '{run.loss}' has weak_forces, but none of the {len(training)} training{beside} frames of dataset "
            f"'{run.dataset}' has forces of a cheaper level; say weak_forces: gfn2-xtb there, or give WEAK_forces"
        )


def _stated_references(run: Run, model: Model, frames: _Frames) -> dict[str, float] | None:
    """Return the references that the config states, by chemical symbol in eV; None where they are fitted."""
    try:
        stated = stated_references(model, frames.training, frames.free_atoms)
    except PiwslError as error:
        raise PiwslError(f"model '{run.model}', dataset '{run.dataset}': {error}") from None
    return None if stated is None else {chemical_symbols[number]: energy for number, energy in stated.items()}


def _task(run: Run, model: Model, loss: Loss, frames: _Frames, pair: PairPotential | None) -> Task:
    dtype = DTYPES[model.dtype]
    # Two atoms may approach each other by one displacement each.
    skin = 2 * largest_displacement(loss.displacement) if loss.displaced else 0.0
    indices = frames.split.training
    learnt = graphs(frames.training, model.cutoff + skin, dtype, indices)
    pool = graphs(frames.pool, model.cutoff + skin, dtype, frames.pool_indices)
    held = graphs(frames.validation, model.cutoff, dtype, frames.split.validation)
    everywhere = np.concatenate([indices, frames.pool_indices])
    return Task(model.training, loss, run.seed, learnt, list(batches_of(held)), everywhere, pool, pair)


def _fit(potential: Potential, task: Task, folder: Path, history_path: Path, devices: Devices) -> PotentialModule:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    module = PotentialModule(potential, task)
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
        callbacks=[EndOfStretch(), *watchers(history_path), Checkpoints(folder), Diagnosis(folder.parent / "diverged")],
    )
    if devices.count == 1:
        trainer.fit(module, ckpt_path=newest_readable(folder), weights_only=True)
        return module
    try:
        with forwarded_signals(trainer):
            trainer.fit(module, ckpt_path=newest_readable(folder), weights_only=True)
    except ProcessRaisedException as error:
        last_line = str(error).strip().splitlines()[-1]
        raise PiwslError(refusal(error) or last_line.removeprefix("piwsl.errors.PiwslError: ")) from None
    last = newest_readable(folder)
    assert last is not None
    module.on_load_checkpoint(torch.load(last, map_location="cpu", weights_only=True))
    return module


def _fingerprint(run: Run, model: Model, loss: Loss, data_hash: str, energies_of_atoms: object) -> str:
    parts = [PROCEDURE_VERSION, run.plain(), model.plain(), loss.plain(), data_hash, energies_of_atoms]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _only_process(folder: Path) -> Iterator[None]:
    """Hold the run's folder: a local job that outlived its Snakemake may still be writing there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PiwslError(
                f"{folder.parent}: another process is training this run; wait for it, or stop it, then start again"
            ) from None
        yield


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
