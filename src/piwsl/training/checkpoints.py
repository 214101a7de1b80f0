"""Checkpoints of a training run: at every validation, and when the job is told to stop; the newest readable counts."""

from __future__ import annotations

import pickle
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from piwsl.errors import PiwslError
from piwsl.files import write_atomically

PATTERN = "step-*.ckpt"
KEPT = 2
# What schedulers send before they take a machine away: SLURM, submitit, a user.
STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class Interrupted(PiwslError):
    """A run that was told to stop, and can go on from its checkpoint."""


def newest_readable(folder: Path) -> Path | None:
    """Return the newest checkpoint that can be read, or None.

    One that was cut off, or written by something else, is passed over with a message.
    """
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            print(
                f"checkpoint {path} cannot be read ({type(error).__name__}); going back to the one before", flush=True
            )
        else:
            return path
    return None


@contextmanager
def forwarded_signals(trainer: pl.Trainer) -> Iterator[None]:
    """Hand stopping signals on to the processes that train together; they write the checkpoint and end."""

    def forward(number: int, frame: FrameType | None) -> None:
        assert trainer.strategy.launcher is not None
        trainer.strategy.launcher.kill(signal.Signals(number))

    handlers = {number: signal.signal(number, forward) for number in STOPPING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class Checkpoints(Callback):
    """Writes a checkpoint at the end of every stretch of steps, and at once when a stopping signal has come."""

    def __init__(self, folder: Path, saved: Callable[[], object] = lambda: None) -> None:
        """Keep the folder that checkpoints are written to, and what is called after each."""
        super().__init__()
        self._folder, self._saved = folder, saved
        self._received: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to the stopping signals."""
        for number in STOPPING_SIGNALS:
            self._handlers[number] = signal.signal(number, self._receive)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back, however the training ended."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self.teardown(trainer, pl_module, "fit")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop in the middle of a stretch; at its end, validation and the usual checkpoint come first."""
        if self._told_to_stop(trainer) and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._save(trainer)
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint of a stretch."""
        self._save(trainer)
        if self._told_to_stop(trainer):
            self._stop(trainer)

    def _told_to_stop(self, trainer: pl.Trainer) -> bool:
        """Whether a signal has come; processes that train together agree on it, so that all stop at one step."""
        told = self._received is not None
        return told if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(told, all=False)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = signal.Signals(number)

    def _save(self, trainer: pl.Trainer) -> None:
        path = self._folder / f"step-{trainer.global_step:09d}.ckpt"
        if not trainer.is_global_zero:
            trainer.save_checkpoint(path)  # writes nothing, but the others wait for it
            return
        write_atomically(path, lambda temporary: trainer.save_checkpoint(temporary))
        self._saved()
        for old in sorted(self._folder.glob(PATTERN))[:-KEPT]:
            old.unlink()

    def _stop(self, trainer: pl.Trainer) -> None:
        cause = "a signal" if self._received is None else self._received.name
        raise Interrupted(
            f"training was stopped by {cause} at step {trainer.global_step}; started again, it goes on from there"
        )
