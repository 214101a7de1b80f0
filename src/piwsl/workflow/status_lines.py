"""What `piwsl status` says: a table by rule, what runs and failed, and what nobody can know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from piwsl.logs import duration
from piwsl.workflow.layout import Layout
from piwsl.workflow.status import Found, State, Status, unknown

# Jobs that are named one by one.
MOST_NAMED = 10
LONGEST_LINE = 100


def status_lines(status: Status, now: float) -> Iterator[str]:
    """Yield what is to be said of an experiment.

    Args:
        status: of its jobs.
        now: s since 1970.
    """
    undone = [each for each in status.found if each.state != State.DONE]
    done = len(status.found) - len(undone)
    yield f"{status.experiment}: {done} of {len(status.found)} jobs done{_left_in_all(status, undone)}"
    yield ""
    yield from _table(status)
    for title, state in (("Running", State.RUNNING), ("Failed", State.FAILED)):
        if named := status.of(state):
            yield ""
            yield from _named(title, named, Layout(status.experiment))
    yield ""
    yield from _notes(status, now)


def _left_in_all(status: Status, undone: list[Found]) -> str:
    if not undone:
        return ""
    known = [each.left for each in undone if each.left is not None]
    if not known:
        return "; how long is left is not known yet"
    seconds, at_once = sum(known), len(status.of(State.RUNNING))
    pace = f", {duration(seconds / at_once)} if {at_once} run at a time, as now" if at_once > 1 else ""
    about = "about" if len(known) == len(undone) else "at least"
    return f"; {about} {duration(seconds)} left, one job after another{pace}"


def _table(status: Status) -> Iterator[str]:
    states = [state for state in State if state != State.QUEUED or status.of(state)]
    rows = [["", *(state.value for state in states), "time left"]]
    rows += [_row(rule, found, states) for rule, found in status.by_rule().items()]
    rows.append(_row("in all", status.found, states))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        yield "  ".join(
            [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
        )


def _row(name: str, found: list[Found], states: Iterable[State]) -> list[str]:
    counts = [sum(each.state == state for each in found) for state in states]
    undone = [each for each in found if each.state != State.DONE]
    known = [each.left for each in undone if each.left is not None]
    left = " + ".join([*([duration(sum(known))] if known else []), *(["?"] if len(known) < len(undone) else [])])
    return [name, *(str(count or "-") for count in counts), left or "-"]


def _named(title: str, found: list[Found], layout: Layout) -> Iterator[str]:
    yield f"{title}:"
    for each in found[:MOST_NAMED]:
        job = f" (job {each.scheduler_id})" if each.scheduler_id else ""
        ago = "no line in its log yet" if each.silent is None else f"its log, {duration(each.silent)} ago"
        yield f"  {each.job.name}{job}; {ago}{f': {_short(each.said)}' if each.said else ''}"
        if each.state == State.FAILED:
            yield f"    {layout.log(each.job.name)}"
    if len(found) > MOST_NAMED:
        yield f"  and {len(found) - MOST_NAMED} more"


def _short(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..."


def _notes(status: Status, now: float) -> Iterator[str]:
    """Say what the table leaves open."""
    cut_off = sum(each.cut_off for each in status.found)
    if status.locked_since is not None:
        started = datetime.fromtimestamp(status.locked_since).strftime("%Y-%m-%d %H:%M")
        yield (
            f"A Snakemake began at {started} and has not ended, or was killed: its lock is there. Whether what is "
            "called running still runs is not known here; its log says when it last wrote."
        )
    elif cut_off:
        yield (
            "No Snakemake is at it. A job that outlived a killed one, here or on a cluster, is not seen and counts as "
            "waiting."
        )
    if cut_off:
        yield f"{cut_off} of those that wait were running when their Snakemake ended; they go on from what they saved."
    if status.of(State.FAILED):
        yield "What failed is done again when Snakemake is started again, and counts in the time left."
    if unknowns := list(unknown(status.found)):
        named = ", ".join(f"{rule} ({count})" for rule, count in unknowns[:MOST_NAMED])
        more = f" and {len(unknowns) - MOST_NAMED} kinds more" if len(unknowns) > MOST_NAMED else ""
        yield f"Not in the time left, for none alike has ended yet: {named}{more}."
    if status.of(State.DONE):
        yield "Results that are there count as done; whether an edit outdated them, `snakemake --dry-run` says."
