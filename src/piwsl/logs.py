"""Where the output of a job goes: all of it to its log file, what the user must read to the terminal as well."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from piwsl.errors import PiwslError
from piwsl.extras import naming_extras
from piwsl.files import refusal

LEFT = re.compile(r"(?:(\d+) h )?(?:(\d+) min )?(?:(\d+) s )?left")


def duration(seconds: float) -> str:
    """Return a time in words, as long ones are read: 25 s, 3 min 05 s, 2 h 04 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def seconds_left(line: str) -> float | None:
    """Return the seconds that a line of a log says are left, as `duration` words them; None where it says nothing."""
    for found in LEFT.finditer(line):
        if any(found.groups()):
            hours, minutes, seconds = (int(number or 0) for number in found.groups())
            return 3600.0 * hours + 60.0 * minutes + seconds
    return None


@contextmanager
def logged_to(path: str) -> Iterator[None]:
    """Send all output of the process, that of compiled libraries too, to a file.

    A PiwslError ends the process with its one line, in the log and on the terminal, and so does a disk that is full or
    refuses; any other exception leaves its traceback in the log.

    Args:
        path: the log file; it is written anew.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError as error:
        sys.exit(f"error: {refusal(error) or error}")
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    # A line at a time, so that the log can be followed while the job runs.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both are text streams in a job
    try:
        with naming_extras():
            yield
    except PiwslError as error:
        _end(str(error), terminal)
    except Exception as error:  # printed here, while the log still takes the output
        if reason := refusal(error):
            _end(reason, terminal)
        with suppress(OSError):
            traceback.print_exc()
        sys.exit(1)
    finally:
        # The log may be what the disk has no room for.
        with suppress(OSError):
            sys.stdout.flush()
        with suppress(OSError):
            sys.stderr.flush()
        os.dup2(terminal, 2)


def _end(reason: str, terminal: int) -> NoReturn:
    """End the process with one line on the terminal and, where it still takes it, in the log."""
    os.write(terminal, f"error: {reason}\n".encode())
    with suppress(OSError):
        print(f"error: {reason}", file=sys.stderr)
    sys.exit(1)
