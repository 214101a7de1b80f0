"""The labels that come with the experiments are those that they ask for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

EXPERIMENTS = Path("workflow", "experiments")


@pytest.mark.parametrize("experiment", ["ethanol", "other-molecules"])
def test_no_energy_that_costs_anything_is_computed_anew(experiment, tmp_path):
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    environment = os.environ | {"COLUMNS": "1000"}

    def said(*arguments: str | Path) -> str:
        command = [sys.executable, "-m", "piwsl", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    unpacked = said("labels", "unpack", EXPERIMENTS / f"{experiment}-labels.jsonl.xz")
    assert sum(int(new) for new in re.findall(r"(\d+) records new", unpacked)) > 3000
    planned = re.findall(
        r"^  (\S.*): (\d+) frames.*, (\d+) stored", said("plan", EXPERIMENTS / f"{experiment}.yaml"), re.M
    )
    assert sum(int(stored) for _, _, stored in planned) > 3000
    assert [part for part in planned if part[1] != part[2] and not part[0].startswith("gfn2-xtb")] == []
