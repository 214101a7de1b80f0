"""Checkpoints of a training run: at every validation, and when the job is told to stop; the newest readable counts."""

from __future__ import annotations

import pickle
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_int
from multiprocessing.sharedctypes import RawValue
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


class Checkpoints(Callback):
    """Writes a checkpoint at the end of every stretch of steps, and at once when a stopping signal has come."""

    def __init__(self, folder: Path, saved: Callable[[], object] = lambda: None) -> None:
        """Keep the folder that checkpoints are written to, and what is called after each."""
        super().__init__()
        self._folder, self._saved = folder, saved
        # In memory that forked processes share: what one of those that train together receives, all know.
        self._received = RawValue(c_int, 0)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note stopping signals, in this process and in those forked from it, while a training is begun and lasts."""
        handlers = {number: signal.signal(number, self._receive) for number in STOPPING_SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Have signals wait while the training starts: Lightning comes to answer SIGTERM in its own way, for a while.

        It would train on to the end of the stretch, and start what processes do together out of turn.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to the stopping signals again."""
        for number in STOPPING_SIGNALS:
            signal.signal(number, self._receive)
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let signals come, however the training ended."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING_SIGNALS)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let signals come."""
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
        told = bool(self._received.value)
        return told if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(told, all=False)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received.value = number

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
        cause = signal.Signals(self._received.value).name
        raise Interrupted(
            f"training was stopped by {cause} at step {trainer.global_step}; started again, it goes on from there"
        )
