"""An experiment of a few CPU seconds in place of numbers of frames: what was planned is what runs, and is reported."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiment import configure, prepare
from helpers import snakemake
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.data.dataset import TEST, TRAINING, Dataset
from piwsl.records import read_labellings
from piwsl.structures.frames import read_frames

EDITS = {
    "datasets": {
        "water": {
            "molecule": {"file": "water.xyz"},
            "sampling": {"temperatures": [300], "stride": 5, "equilibration": 20},
            "level": "hf",
            "cheap_levels": ["gfn2-xtb"],
            "budget": {"cpu_hours": 0.0008},
            # A number that is said stays; the others are the budget's.
            "test_force_frames": 4,
        }
    },
    "models": {"process": {"architecture": "gaussian_process"}},
    "losses": {"supervised": {}},
    "sizes": [10],
    "exclude": [],
    "simulations": {},
}


def division(said: str) -> tuple[float, dict[str, int], dict[str, int]]:
    """Return of what `piwsl plan` says the CPU hours that are planned, the frames by share, and those by key."""
    (planned, shares), (keys,) = (
        re.search(pattern, said, re.MULTILINE).groups()
        for pattern in (r"CPU hours, ([\d.e-]+) planned: (.*)$", r"in place of the budget: (.*)$")
    )
    frames = {what: int(count) for what, count in re.findall(r"([a-z][\w ]*?) (\d+) frames", shares)}
    return float(planned), frames, {key: int(count) for key, count in re.findall(r"(\w+): (\d+)", keys)}


def test_what_a_budget_was_planned_to_buy_is_what_runs_and_the_report_has_both(tmp_path, monkeypatch):
    prepare(tmp_path)
    configure(tmp_path, **EDITS)
    monkeypatch.chdir(tmp_path)
    planned, shares, keys = division(CliRunner().invoke(app, ["plan", "config.yaml"]).stdout)
    assert keys["test_force_frames"] == shares["forces of test"] == 4
    result = snakemake(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr

    folder = Path("results/tiny/datasets/water")
    sampled = {part: len(read_frames(folder / "frames" / f"{part}.xyz")) for part in (TRAINING, TEST)}
    assert sum(sampled.values()) == shares["sampling"]
    with Dataset(folder / "dataset.h5") as dataset:
        training, test = (dataset.structures(dataset.indices(part)) for part in (TRAINING, TEST))
    assert len(training) == shares["training"] == keys["training_frames"]
    assert len(test) == shares["test"] == keys["test_frames"]
    assert sum(frame.forces is not None for frame in test) == shares["forces of test"]
    assert not any(frame.forces is not None for frame in training)
    both = training + test
    assert all(np.isfinite(frame.energy) and np.isfinite(frame.at_level("gfn2-xtb").energy) for frame in both)
    assert len(both) == shares["cheap levels"]
    for labels, count in (("labels", len(both)), ("cheap-labels", shares["cheap levels"])):
        computed = [row for path in (folder / labels).rglob("*.jsonl") for row in read_labellings(path)]
        assert [row.status for row in computed] == ["ok"] * count, labels

    cost = pd.read_csv("results/tiny/tables/cost.csv").set_index("stage")
    assert cost["planned_cpu_h"].sum() == pytest.approx(planned, rel=0.05)
    for stage in ("Geometries", "Reference energies", "Cheap levels"):
        assert cost.loc[stage, "planned_cpu_h"] > 0
        assert cost.loc[stage, "cpu_h"] > 0
    page = Path("results/tiny/report.html").read_text()
    assert f"The budget was 2.9 CPU seconds, of which {3600 * cost['planned_cpu_h'].sum():.2g} CPU seconds were" in page
