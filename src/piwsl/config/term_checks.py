"""What a term of a loss gives, a stranger's perhaps, checked once: where a loss is made, before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from piwsl.config.section import LONGEST_VALUE, one_line
from piwsl.errors import ANY_ERROR, reason
from piwsl.residuals import is_factor, mean_problem

if TYPE_CHECKING:
    from piwsl.config.losses import Loss, LossTerm


def term_problem(term: LossTerm, loss: Loss) -> str | None:
    """Say what a term gives that no loss can be made of, or how it fails; None where it gives what it must.

    Args:
        term: the term.
        loss: that it is a term of.
    """
    try:
        return _problem_of_means(term.means(loss)) or _problem_of_numbers(term, loss)
    except ANY_ERROR as error:  # whatever a stranger's term does
        return f"failed ({reason(error)})"


def _problem_of_means(means: object) -> str | None:
    if not isinstance(means, Mapping) or not means:
        return f"means() gives {one_line(repr(means), LONGEST_VALUE)}, expected one Mean or more by name"
    for part, mean in means.items():
        if not isinstance(part, str) or not re.fullmatch("[A-Za-z0-9_]*", part):
            return f"means() calls a part {one_line(repr(part), LONGEST_VALUE)}; take letters, digits and _"
        if problem := mean_problem(mean):
            return f"its mean '{part}' {problem}"
    return None


def _problem_of_numbers(term: LossTerm, loss: Loss) -> str | None:
    for step in (0, loss.start, loss.start + loss.ramp):
        if not is_factor(factor := term.factor(step, loss)):
            return f"factor() gives {factor!r} at step {step}, no number from 0 on"
    for total in (1, 8):
        if not isinstance(count := term.structures(total), int) or not 0 <= count <= total:
            return f"structures({total}) gives {count!r}, no number of them"
    if not isinstance(last := term.teaches_forces, bool):
        return f"teaches_forces is {last!r}, expected a truth value"
    return None
