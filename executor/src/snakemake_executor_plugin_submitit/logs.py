"""Where a job's output lies, and its last lines for a message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

LONGEST_NAME = 150


def log_path(folder: Path, rule: str, wildcards: Mapping[str, str], key: str) -> Path:
    """Return the log of a job, named by rule and wildcards; the key tells apart what these do not."""
    named = readable(wildcards)
    return folder / rule / (f"{named}-{key[:8]}.log" if named else f"{key[:8]}.log")


def readable(wildcards: Mapping[str, str]) -> str:
    """Return wildcards as a part of a path, and of what a user is told, has them."""
    named = ",".join(f"{name}={value}" for name, value in wildcards.items())
    return re.sub(r"[^A-Za-z0-9_.,=+-]+", "-", named)[:LONGEST_NAME]


def last_lines(path: Path, lines: int) -> str:
    """Return the end of a log, or a sentence where there is none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return "it wrote no log"
    return "\n".join(text.rstrip().splitlines()[-lines:])
