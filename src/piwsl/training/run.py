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
import torch
from ase.data import chemical_symbols
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing import ProcessRaisedException

from piwsl.config import Loss, Model, Run
from piwsl.data.batch import graphs
from piwsl.data.dataset import TRAINING, Dataset, content_hash
from piwsl.data.splits import Split, split_frames
from piwsl.errors import PiwslError
from piwsl.files import refusal, write_text
from piwsl.losses import largest_displacement
from piwsl.models import Potential, build_potential, save_model
from piwsl.models.potential import DTYPES
from piwsl.models.statistics import batches_of, refit_references
from piwsl.structures.seeds import seed_of
from piwsl.structures.structure import Structure
from piwsl.training.checkpoints import Checkpoints, forwarded_signals, newest_readable
from piwsl.training.module import Diagnosis, PotentialModule, Task
from piwsl.training.progress import TENSORBOARD, watchers, write_history

# Raise this when the same config and data would be trained to other weights: checkpoints of before are set aside then.
PROCEDURE_VERSION = 3


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

    Raises:
        Interrupted: a signal told it to stop.
        PiwslError: fewer labelled frames than the size, none with what the loss learns from, a diverging loss, or
            another process at the same run.
    """
    with Dataset(dataset_path) as dataset:
        split = split_frames(dataset.indices(TRAINING), run.size, run.seed, model.training.validation_fraction)
        training, validation = (
            _with_labels_of(loss, dataset.structures(frames)) for frames in (split.training, split.validation)
        )
        _check_elements(run, training, dataset.elements())
    if loss.weak_forces is not None and all(structure.weak_forces is None for structure in training):
        raise PiwslError(
            f"loss '{run.loss}' has weak_forces, but none of the {len(training)} training frames of dataset "
            f"'{run.dataset}' has forces of a cheaper level; say weak_forces: gfn2-xtb there, or give WEAK_forces"
        )
    if loss.needs_forces and all(structure.forces is None for structure in training):
        raise PiwslError(
            f"loss '{run.loss}' has energy: 0, but none of the {len(training)} training frames of dataset "
            f"'{run.dataset}' has forces; give energy a weight"
        )
    data_hash = content_hash(training + validation)
    folder = model_path.parent / "checkpoints"
    with _only_process(folder):
        _set_aside_foreign_checkpoints(folder, _fingerprint(run, model, loss, data_hash))
        task = _task(run, model, loss, training, validation, split)
        # A process that has computed with several threads hangs where it is forked.
        torch.set_num_threads(threads if devices.count == 1 else 1)
        potential = _potential(model, training, run.seed)
        module = _fit(potential, task, folder, history_path, devices)
        if not math.isfinite(module.best_criterion):
            raise PiwslError("no validation gave finite errors; lower learning_rate or the weights of the loss")
        provenance = {
            "run": run.plain(),
            "loss": loss.plain(),
            "data": data_hash,
            "best": module.best_criterion,
        }
        module.potential.load_state_dict(module.best_weights)
        refit_references(module.potential, batches_of(task.graphs))
        write_history(history_path, module.history)
        save_model(model_path, module.potential, provenance)
        shutil.rmtree(folder)


def _with_labels_of(loss: Loss, structures: list[Structure]) -> list[Structure]:
    """Take away the labels that a loss shall not see: neither directions nor the choice of weights may know them."""
    if loss.forces:
        return structures
    return [replace(structure, forces=None) for structure in structures]


def _check_elements(run: Run, training: list[Structure], needed: list[int]) -> None:
    """Refuse, before it is trained, a model that could not be tested: an element it has never seen."""
    seen = {number for structure in training for number in structure.numbers.tolist()}
    if missing := sorted(set(needed) - seen):
        names = ", ".join(chemical_symbols[number] for number in missing)
        raise PiwslError(
            f"the {len(training)} training frames of size {run.size}, seed {run.seed} hold no {names}, which other "
            f"frames of dataset '{run.dataset}' do; raise the size"
        )


def _potential(model: Model, structures: list[Structure], seed: int) -> Potential:
    torch.manual_seed(seed_of("initial weights", seed))
    return build_potential(model, structures)


def _task(
    run: Run,
    model: Model,
    loss: Loss,
    training: list[Structure],
    validation: list[Structure],
    split: Split,
) -> Task:
    dtype = DTYPES[model.dtype]
    # Two atoms may approach each other by one displacement each.
    skin = 2 * largest_displacement(loss.displacement) if loss.displaced else 0.0
    learnt = graphs(training, model.cutoff + skin, dtype, split.training)
    held = graphs(validation, model.cutoff, dtype, split.validation)
    return Task(model.training, loss, run.seed, learnt, list(batches_of(held)), split.training)


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
        num_sanity_val_steps=0,
        gradient_clip_val=task.training.gradient_clip,
        inference_mode=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[Checkpoints(folder), Diagnosis(folder.parent / "diverged"), *watchers(history_path)],
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


def _fingerprint(run: Run, model: Model, loss: Loss, data_hash: str) -> str:
    text = json.dumps([PROCEDURE_VERSION, run.plain(), model.plain(), loss.plain(), data_hash], sort_keys=True)
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
