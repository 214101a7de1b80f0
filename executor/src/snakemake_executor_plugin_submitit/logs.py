"""Where a job's output lies, and its last lines for a message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

LONGEST_NAME = 150


def log_path(folder: Path, rule: str, wildcards: Mapping[str, str], key: str) -> Path:
    """Return the log of a job, named by rule and wildcards; the key tells apart what these do not."""
    named = ",".join(f"{name}={value}" for name, value in wildcards.items())
    readable = re.sub(r"[^A-Za-z0-9_.,=+-]+", "-", named)[:LONGEST_NAME]
    return folder / rule / (f"{readable}-{key[:8]}.log" if readable else f"{key[:8]}.log")


def last_lines(path: Path, lines: int) -> str:
    """Return the end of a log, or a sentence where there is none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return "it wrote no log"
    return "\n".join(text.rstrip().splitlines()[-lines:])
