"""Jobs of the workflow that are about to be submitted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_submitit.notes import digest


@dataclass(frozen=True)
class Member:
    """A job of the workflow; alone, or with others in a group."""

    job: Any
    key: str
    content: str


@dataclass(frozen=True)
class Ready:
    """A job that is about to be submitted."""

    job: JobExecutorInterface
    members: tuple[Member, ...]
    whole: str
    log: Path
    parameters: dict[str, Any]

    @property
    def asked(self) -> str:
        """A hash of what it asks for; "" of a retry, which asks for more than one that is new."""
        return digest(self.parameters) if self.job.attempt == 1 else ""

    @property
    def label(self) -> str:
        """Rule and wildcards, as its log is named."""
        return f"{self.log.parent.name}/{self.log.stem}"
