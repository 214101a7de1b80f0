"""Jobs of the workflow that are about to be submitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_submitit.logs import readable
from snakemake_executor_plugin_submitit.notes import digest


@dataclass(frozen=True)
class Member:
    """A job of the workflow; alone, or with others in a group."""

    job: Any
    key: str
    content: str

    @property
    def name(self) -> str:
        """Rule and wildcards."""
        return "/".join(filter(None, (self.job.rule.name, readable(self.job.wildcards_dict))))


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
        # Groups without a name of their own, as of pipes, have another one in each run.
        return digest(self.parameters | {"name": ""}) if self.job.attempt == 1 else ""

    @property
    def label(self) -> str:
        """Rule and wildcards, as its log is named; of a group, which has no wildcards, also the first member's."""
        own = f"{self.log.parent.name}/{self.log.stem}"
        return f"{own} ({and_more(self.names)})" if self.job.is_group() else own

    @property
    def names(self) -> list[str]:
        """Rule and wildcards of the members, in the order of the alphabet: Snakemake's is another in each run."""
        return sorted(member.name for member in self.members)

    def staying(self, made: Iterable[str]) -> set[str]:
        """Return the keys of those members that stay as they are made: from none that is to be made again."""
        staying = set(made)
        while outdated := {
            member.key for member in self.members if member.key in staying and self._follows(member, staying)
        }:
            staying -= outdated
        return staying

    def _follows(self, member: Member, staying: set[str]) -> bool:
        to_make = {str(path) for one in self.members if one.key not in staying for path in one.job.output}
        return not to_make.isdisjoint(map(str, member.job.input))


def and_more(names: Sequence[str]) -> str:
    """Name the first and count the others."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]
