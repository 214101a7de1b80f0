"""Where a training keeps what it writes, and what it writes of a member of a committee."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

History = list[dict[str, float]]

TENSORBOARD = "tensorboard"
"""Folder of TensorBoard's files, beside the history."""


@dataclass(frozen=True)
class Places:
    """The files of a model in training, or of a member."""

    folder: Path
    """Of the model file."""
    history_path: Path
    """CSV of the history, of all members."""
    members: int = 1
    member: int = 0
    before: History = field(default_factory=list)
    """Rows of the members that were trained before."""

    @property
    def _below(self) -> str:
        return f"member-{self.member}" if self.members > 1 else ""

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints" / self._below

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's files."""
        return self.history_path.parent / TENSORBOARD / self._below

    @property
    def diverged(self) -> Path:
        """Folder of what is needed to look at a divergence."""
        return self.folder / "diverged"

    @property
    def title(self) -> str:
        """What stands before a line of the log."""
        return f"member {self.member + 1} of {self.members}, " if self.members > 1 else ""

    def rows(self, history: History) -> History:
        """Return a history with those of the members before, each row with its member; or as it is."""
        if self.members == 1:
            return history
        return self.before + [{"member": self.member, **row} for row in history]
