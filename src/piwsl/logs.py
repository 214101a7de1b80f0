"""Where the output of a job goes: all of it to its log file, what the user must read to the terminal as well."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from piwsl.errors import PiwslError


@contextmanager
def logged_to(path: str) -> Iterator[None]:
    """Send all output of the process, that of compiled libraries too, to a file.

    A PiwslError ends the process with its one line, in the log and on the terminal; any other exception leaves its
    traceback in the log.

    Args:
        path: the log file; it is written anew.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    # A line at a time, so that the log can be followed while the job runs.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both are text streams in a job
    try:
        yield
    except PiwslError as error:
        print(f"error: {error}", file=sys.stderr)
        os.write(terminal, f"error: {error}\n".encode())
        sys.exit(1)
    except Exception:  # printed here, while the log still takes the output
        traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(terminal, 2)
