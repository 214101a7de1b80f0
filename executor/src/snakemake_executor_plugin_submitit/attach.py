"""What to do with a job that an earlier Snakemake has submitted already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from snakemake_executor_plugin_submitit.notes import Note


class Decision(Enum):
    """Submit it; go on with the one of before; end those of before, then submit; or take over what they have made."""

    SUBMIT = "submit"
    GO_ON = "go on"
    REPLACE = "replace"
    TAKE_OVER = "take over"


@dataclass(frozen=True)
class Earlier:
    """What has become of a member that an earlier run has submitted."""

    note: Note
    alive: bool
    """It waits, runs, or is about to end: it may still write."""
    fits: bool
    """It makes what would be submitted now, the same members by the same content, and nobody has cancelled it.

    While it has not begun, it also has to ask for the same resources.
    """
    made: bool
    """The member has ended well, by the same content, and its outputs wait for a Snakemake that takes them over."""


def decide(members: Sequence[Earlier | None]) -> Decision:
    """Decide for one job: by those of its members that are not made.

    Args:
        members: of the job, which is its only member unless it is a group; None where there is no note.
    """
    left = [member for member in members if member is None or not member.made]
    if not left:
        return Decision.TAKE_OVER
    if not any(member is not None and member.alive for member in left):
        return Decision.SUBMIT
    one = len({member.note.job_id for member in left if member is not None}) == 1
    if one and all(member is not None and member.fits for member in left):
        return Decision.GO_ON
    return Decision.REPLACE
