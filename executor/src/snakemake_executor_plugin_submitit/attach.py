"""What to do with a job that an earlier Snakemake has submitted already."""

from __future__ import annotations

from enum import Enum

from snakemake_executor_plugin_submitit.states import is_over


class Decision(Enum):
    """Submit it; go on with the one of before; or end that one, then submit."""

    SUBMIT = "submit"
    GO_ON = "go on"
    REPLACE = "replace"


def decide(same: bool, state: str, problem: str | None) -> Decision:
    """Decide for one job.

    Args:
        same: whether its parameters and inputs are what they were.
        state: in sacct's words; of a job that sacct does not know, one that is over.
        problem: of its result, "" for a good one; None where it has left none.
    """
    alive = problem is None and not is_over(state)
    if same and (alive or problem == ""):
        return Decision.GO_ON
    return Decision.REPLACE if alive else Decision.SUBMIT
