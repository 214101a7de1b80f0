"""One potential in training, as Lightning sees it: steps, averaged weights, validation, what a checkpoint carries."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import PARAM_LIST, AveragedModel

from piwsl.config import Loss, Training
from piwsl.data.batch import Batch
from piwsl.errors import PiwslError
from piwsl.files import write_json
from piwsl.losses import (
    StepPlaces,
    displaced_structures,
    displacements_of_step,
    factors_of_rank,
    residual_counts,
    training_loss,
)
from piwsl.models import PairPotential, Potential, save_model
from piwsl.models.statistics import REFIT_STRUCTURES, Collated, batches_of, refit_references
from piwsl.training.batches import AnyOrder, Order, OrderBySize, StepBatches
from piwsl.training.compiled import CompiledLoss
from piwsl.training.validation import ValidationErrors

WARM_UP_SHARE = 0.02


def averaging(decay: float) -> Callable[[PARAM_LIST, PARAM_LIST, Tensor | int], None]:
    """Return the update of averaged weights a step: averaged ← d · averaged + (1 - d) · current.

    d = min(decay, (1 + n) / (10 + n)) after n averaged steps, as TensorFlow's `ExponentialMovingAverage` has it: a
    decay near one would hold on to the first weights for the whole of a short training.

    Args:
        decay: d of a long training.
    """

    def update(averaged: PARAM_LIST, current: PARAM_LIST, steps: Tensor | int) -> None:
        steps = int(steps)
        rate = 1.0 - min(decay, (1 + steps) / (10 + steps))
        for kept, new in zip(averaged, current, strict=True):
            kept.lerp_(new, rate)

    return update


Objective = Callable[[Batch, list[Tensor], Mapping[str, float], StepPlaces], tuple[Tensor, dict[str, Tensor]]]


def _as_it_stands(
    potential: Potential,
    loss: Loss,
    batch: Batch,
    displacements: list[Tensor],
    factors: Mapping[str, float],
    places: StepPlaces,
) -> tuple[Tensor, dict[str, Tensor]]:
    return training_loss(potential, batch, loss, displacements, factors, places)


@dataclass(frozen=True)
class Task:
    """What a run learns from and by which rules."""

    training: Training
    loss: Loss
    seed: int
    graphs: Sequence[Batch]
    """Labelled training frames, one batch of one structure each."""
    validation: Sequence[Batch] | Collated
    """Validation frames, batched."""
    frames: NDArray[np.int64]
    """Where the labelled training frames, and then those of the pool, stand in the dataset."""
    pool: Sequence[Batch] = ()
    """Frames of the pool, likewise."""
    pool_share: float = 0.0
    """Of a step's frames, how much is taken from the pool."""
    pair: PairPotential | None = None
    """What the labels of all frames are without, and energies of the potential are with."""
    loaders: int = 0
    """Processes that make batches ahead, for each that learns."""
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    """Atoms, or edges, of the labelled training frames, and of those of the pool, where a step has a limit of these."""
    with_energy: NDArray[np.int64] | None = None
    """Places of the labelled training frames with an energy; None where all have one."""

    @cached_property
    def order(self) -> AnyOrder:
        """Which frames each step learns from."""
        limits = self.training.room_of_step(self.pool_share)
        if limits is None or self.sizes is None:
            return self.order_by_structures
        labelled, pool = self.sizes
        return OrderBySize(labelled, limits, self.seed, pool)

    @property
    def order_by_structures(self) -> Order:
        """Which frames each step learns from, where all have equally many."""
        return Order(len(self.graphs), self.training.batch_size, self.seed, len(self.pool), self.pool_share)

    @cached_property
    def of_references(self) -> Sequence[Batch]:
        """The training frames that references are fitted to at each validation: some of those with an energy."""
        if self.with_energy is None or len(self.with_energy) == len(self.graphs):
            return self.graphs[:REFIT_STRUCTURES]
        return [self.graphs[place] for place in self.with_energy[:REFIT_STRUCTURES]]

    @property
    def epochs(self) -> int:
        """Stretches of `validate_every` steps; the last may be shorter."""
        return math.ceil(self.training.steps / self.training.validate_every)

    def steps_of_epoch(self, epoch: int) -> range:
        """Return the optimiser steps of a stretch between two validations."""
        start = epoch * self.training.validate_every
        return range(start, min(start + self.training.validate_every, self.training.steps))


class Diverged(PiwslError):
    """A loss that is not finite: at which step, on which training frames, in which terms."""

    def __init__(self, step: int, frames: list[int], terms: dict[str, float]) -> None:
        values = ", ".join(f"{name} {term:g}" for name, term in terms.items())
        super().__init__(
            f"training diverged at step {step}: the loss is not finite ({values}); "
            f"lower learning_rate or the weights of the weak terms (frames {frames} of the dataset; weights and terms "
            "in diverged/)"
        )
        self.step, self.frames, self.terms = step, frames, terms


class Diagnosis(Callback):
    """Writes what is needed to look at a divergence: the weights, the frames of the batch, the terms."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder to write to."""
        super().__init__()
        self._folder = folder

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the files."""
        if isinstance(exception, Diverged):
            assert isinstance(pl_module, PotentialModule)
            pl_module.potential.pair = pl_module.task.pair
            save_model(self._folder / "model.safetensors", pl_module.potential, {"step": exception.step})
            write_json(
                self._folder / "batch.json",
                {"step": exception.step, "frames": exception.frames, "terms": exception.terms},
            )


class EndOfStretch(Callback):
    """Has the module validate at the end of every stretch of steps, with or without frames kept for that.

    It stands before all callbacks that look at the history. (Lightning's own loop of validation is passed over where
    there is no frame for it, with all that hangs on it.)
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate."""
        assert isinstance(pl_module, PotentialModule)
        pl_module.validate()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the rest of the stretch."""
        assert isinstance(pl_module, PotentialModule)
        pl_module.stop_loading()


class PotentialModule(pl.LightningModule):
    """Trains a potential; keeps averaged weights, the last ones or those that did best in validation."""

    def __init__(self, potential: Potential, task: Task) -> None:
        """Keep the potential and the task; the best weights so far are none."""
        super().__init__()
        self.potential = potential
        self.averaged = AveragedModel(potential, multi_avg_fn=averaging(task.training.ema_decay))
        self.task = task
        self.history: list[dict[str, float]] = []
        self.best_criterion = math.inf
        self.kept_weights: dict[str, Tensor] = copy.deepcopy(potential.state_dict())
        """The last averaged weights, or those of the smallest criterion: as `Training.keeps_last` says."""
        self._since_best = 0
        self.plateau_share = 1.0
        """Factor of the learning rate by the plateau rule."""
        self._sums: dict[str, tuple[Tensor, int]] = {}
        """Sum of a term since the last validation, and at how many steps it was evaluated."""
        self._batches: StepBatches | None = None
        self._objective: Objective = partial(_as_it_stands, potential, task.loss)
        if task.training.compile:
            of_pool = task.order_by_structures.of_pool
            self._objective = CompiledLoss(potential, task.loss, task.graphs, task.pool, of_pool)

    def train_dataloader(self) -> StepBatches:
        """Return the batches of the current stretch of steps."""
        task = self.task
        stretch = task.steps_of_epoch(self.trainer.current_epoch)
        self._batches = StepBatches(
            task.graphs,
            task.order,
            stretch,
            done=lambda: self.global_step,
            rank=self.global_rank,
            ranks=self.trainer.world_size,
            pool=task.pool,
            loaders=task.loaders,
        )
        return self._batches

    def stop_loading(self) -> None:
        """Make no more batches: a process that ends waits for those that make them."""
        if self._batches is not None:
            self._batches.close()

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to where the potential is."""
        return batch.to(device)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; a short linear warm-up, then a cosine to zero or a plateau rule."""
        training = self.task.training
        optimizer = torch.optim.AdamW(
            self.potential.parameters(),
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
        )
        warm_up = max(1, round(WARM_UP_SHARE * training.steps))

        def factor(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            if training.schedule == "plateau":
                return self.plateau_share
            return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, training.steps - warm_up)))

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of a batch at a step; stop with a message where it is not finite."""
        task, step, ranks = self.task, self.global_step, self.trainer.world_size
        places = task.order.places(step, self.global_rank, ranks)
        factors = task.loss.factors(step)
        own = residual_counts(batch, task.loss, factors, places)
        together = self._summed(own)
        # A process without a frame evaluates, with factor 0, all of what it was given.
        own_factors = factors_of_rank(factors, own, together, ranks)
        here = places if places.own else StepPlaces.alone(batch.structures)
        total, terms = self._objective(batch, self._displacements(batch, own_factors, here), own_factors, here)
        if not torch.isfinite(total):
            frames = task.frames[task.order.frames(step)[places.own]]
            raise Diverged(step, frames.tolist(), {name: float(term) for name, term in terms.items()})
        self._note(factors, terms, own, together)
        return total

    def _summed(self, values: Tensor) -> Tensor:
        """Return the sum of the values of all processes."""
        summed = self.trainer.strategy.reduce(values.clone(), reduce_op="sum")
        assert isinstance(summed, Tensor)
        return summed

    def _note(self, factors: Mapping[str, float], terms: dict[str, Tensor], own: Tensor, together: Tensor) -> None:
        """Add the terms of the whole batch, of which this process has means over its own residuals, to the sums."""
        absent = own.new_zeros(())
        means = torch.stack([terms.get(name, absent).double() for name in factors])
        whole = self._summed(means * own / together.clamp_min(1.0))
        parts = self.task.loss.means()
        weights = own.new_tensor([parts[name].weight * factor for name, factor in factors.items()])
        found = {name: term for name, term, count in zip(factors, whole, together.tolist(), strict=True) if count}
        for name, term in (found | {"total": weights @ whole}).items():
            total_so_far, count = self._sums.get(name, (torch.zeros_like(term), 0))
            self._sums[name] = (total_so_far + term, count + 1)

    def _displacements(self, batch: Batch, factors: Mapping[str, float], places: StepPlaces) -> list[Tensor]:
        """Return displacements of as many structures as any term displaces at this step."""
        task, loss = self.task, self.task.loss
        count = displaced_structures(factors, loss, places)
        if not count:
            return []
        return displacements_of_step(self.potential, batch.first(count), loss, task.seed, self.global_step, places.own)

    def _averaged_potential(self) -> Potential:
        potential = self.averaged.module
        assert isinstance(potential, Potential)
        return potential

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and take the new weights into the average, before anyone may write a checkpoint."""
        super().optimizer_step(*args, **kwargs)
        self.averaged.update_parameters(self.potential)

    def validate(self) -> None:
        """Free the averaged weights of their constant error, compare them with validation labels, note and keep."""
        potential = self._averaged_potential()
        refit_references(potential, batches_of(self.task.of_references))
        row = {"step": self.global_step} | {
            f"training_{name}": float(total) / count for name, (total, count) in self._sums.items()
        }
        self._sums = {}
        if self.task.validation:
            errors = self._validation_errors(potential)
            # Of the first process, for all: sums on a GPU differ from one to the next, and all must stop at one step.
            criterion = self.trainer.strategy.broadcast(errors.criterion())
            row |= {f"validation_{name}_rmse": rmse for name, rmse in errors.rmse().items()}
            row |= {"validation_loss": errors.loss(), "validation_criterion": criterion}
            self._judge(criterion)
        if self.task.training.keeps_last or not self._since_best:
            self.kept_weights = copy.deepcopy(potential.state_dict())
        self.history.append(row)
        self._stop_early()

    def _validation_errors(self, potential: Potential) -> ValidationErrors:
        """Compare a potential with the labels of the validation frames, in the precision that it is used in."""
        errors = ValidationErrors(self.task.loss)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for batch in (batch.to(self.device) for batch in self.task.validation):
                errors.add(batch, potential.predict(batch, errors.properties_of(batch)))
        return errors

    def _judge(self, criterion: float) -> None:
        """Count the validations since the best one; the plateau rule lowers the learning rate after so many."""
        training = self.task.training
        if criterion < self.best_criterion:
            self.best_criterion = criterion
            self._since_best = 0
        else:
            self._since_best += 1
        if training.schedule == "plateau" and self._since_best and self._since_best % training.plateau_patience == 0:
            self.plateau_share *= training.plateau_factor

    def on_train_start(self) -> None:
        """End at once what was interrupted after its early stop."""
        self._stop_early()

    def _stop_early(self) -> None:
        patience = self.task.training.early_stopping
        if patience is not None and self._since_best >= patience:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add history and kept weights to a checkpoint."""
        checkpoint["history"] = self.history
        checkpoint["kept"] = {"criterion": self.best_criterion, "weights": self.kept_weights}
        checkpoint["sums"] = self._sums
        checkpoint["patience"] = {"since_best": self._since_best, "plateau_share": self.plateau_share}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take history and kept weights from a checkpoint."""
        self.history = checkpoint["history"]
        self.best_criterion = checkpoint["kept"]["criterion"]
        self.kept_weights = checkpoint["kept"]["weights"]
        self._sums = checkpoint["sums"]
        self._since_best = checkpoint["patience"]["since_best"]
        self.plateau_share = checkpoint["patience"]["plateau_share"]
