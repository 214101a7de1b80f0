"""Apptainer, played by a program that binds for real: installed on a PATH of its own, and what it was told."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import debian_packages

TOY = Path(__file__).parent / "toys" / "apptainer.py"


def install() -> str | None:
    """Install what the played Apptainer stands on where root may; return why it cannot, or None."""
    return debian_packages.install(["bwrap"], "bubblewrap")


class Apptainer:
    """The program in a folder for PATH."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder)
        self._calls = folder / "calls"
        folder.mkdir()
        program = folder / "apptainer"
        words = shlex.join([sys.executable, str(TOY)])
        program.write_text(f'#!/bin/sh\nexport APPTAINER_CALLS={shlex.quote(str(self._calls))}\nexec {words} "$@"\n')
        program.chmod(0o755)

    def calls(self, action: str) -> list[list[str]]:
        """Return the words after an action (`exec`, `pull`), call by call."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        calls = (json.loads(line) for line in lines)
        return [call[call.index(action) + 1 :] for call in calls if action in call]
