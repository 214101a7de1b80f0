"""What can be seen of a training while it runs: lines, a bar on a terminal, a CSV file, and TensorBoard's files."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from tensorboardX import SummaryWriter

from piwsl.files import write_atomically
from piwsl.logs import duration
from piwsl.training.module import PotentialModule
from piwsl.training.places import History, Places


def write_history(path: Path, history: History) -> None:
    """Write the rows of a history as CSV, atomically."""
    write_atomically(path, lambda temporary: pd.DataFrame(history).to_csv(temporary, index=False))


class Lines(Callback):
    """Prints the newest row of the history at every validation, and how long the training may still take."""

    def __init__(self, places: Places) -> None:
        """Keep which member of how many this is."""
        super().__init__()
        self._places = places
        self._started, self._first = time.perf_counter(), 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, at the step that this process begins with."""
        self._started, self._first = time.perf_counter(), trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print a line."""
        if trainer.is_global_zero:
            assert isinstance(pl_module, PotentialModule)
            row, training = pl_module.history[-1], pl_module.task.training
            values = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "step")
            elapsed = time.perf_counter() - self._started
            members_after = self._places.members - self._places.member - 1
            left = time_left(elapsed, self._first, trainer.global_step, training.steps, members_after)
            clock = f"{duration(elapsed)}, {'' if training.early_stopping is None else 'at most '}{duration(left)} left"
            print(f"{self._places.title}step {row['step']} of {training.steps} ({clock}): {values}", flush=True)


def time_left(elapsed: float, first: int, step: int, steps: int, members_after: int = 0) -> float:
    """Return how long a training will take if it goes on as it did in this process, s.

    Args:
        elapsed: since this process took its first step, s.
        first: the step that it went on from.
        step: those that are done, of earlier processes, too.
        steps: of a potential.
        members_after: how many potentials follow, each with as many steps.
    """
    return elapsed / max(step - first, 1) * (steps - step + members_after * steps)


class Bar(Callback):
    """A progress bar of all steps, on standard error."""

    def __init__(self) -> None:
        super().__init__()
        columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        assert isinstance(pl_module, PotentialModule)
        self._task = self._bar.add_task("steps", total=pl_module.task.training.steps)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move it on."""
        self._bar.update(self._task, completed=trainer.global_step)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take it away."""
        self._bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Take it away."""
        self._bar.stop()


class Logs(Callback):
    """Keeps the history on disk as it grows: as CSV, and for TensorBoard in a folder beside it."""

    def __init__(self, places: Places) -> None:
        """Keep where the files are."""
        super().__init__()
        self._places = places
        self._writer: SummaryWriter | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what the validation found."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, PotentialModule)
        history = pl_module.history
        write_history(self._places.history_path, self._places.rows(history))
        rows = history[-1:]
        if self._writer is None:
            # A run that was interrupted begins again with all it knows: of an older file, nothing is shown.
            rows = history
            self._writer = SummaryWriter(str(self._places.tensorboard), purge_step=int(history[0]["step"]))
        for row in rows:
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(name, value, int(row["step"]))
        self._writer.flush()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def watchers(places: Places) -> list[Callback]:
    """Return the callbacks that show a training; the bar where standard error is a terminal."""
    return [Lines(places), Logs(places), *([Bar()] if sys.stderr.isatty() else [])]
