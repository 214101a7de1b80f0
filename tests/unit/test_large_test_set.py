"""Test sets of any number of frames are predicted and compared in the same memory, some frames at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import morse_frames
from scipy.special import erf

from piwsl.architectures.painn import PaiNN
from piwsl.data.dataset import TEST, TRAINING, write_structures
from piwsl.evaluation import predictions as predictions_module
from piwsl.evaluation.breakdown import Breakdown, WorstFrames
from piwsl.evaluation.calibration import Spreads
from piwsl.evaluation.metrics import ErrorSummary, SpreadSummary
from piwsl.evaluation.predictions import Predictions, read_formulas, read_predictions, write_predictions
from piwsl.models import Committee, build_potential, save_model
from piwsl.structures.labels import REFERENCE, Labels, Slope
from piwsl.structures.structure import Structure, from_atoms

FEW, MANY = 1_000, 5_000
# Bytes for each further frame, a few MB are noise of the allocator; one that is held takes 5,000 with its predictions.
MOST_A_FRAME = 2_000
EVALUATES = """
import re, sys
from pathlib import Path
import torch
from piwsl.config import Run
from piwsl.data import dataset
from piwsl.data.dataset import Dataset
from piwsl.data import views
from piwsl.evaluation import cheap, predictions
from piwsl.evaluation.evaluate import evaluate

torch.set_num_threads(1)
# All is as full with few frames, too.
views.READ_AT_ONCE = cheap.FRAMES_AT_ONCE = predictions.ROWS_AT_ONCE = 200
model, *names = map(Path, sys.argv[1:])
for path in names:
    run = Run(dataset="d", model="m", loss="l", size=2, seed=0)
    folder = path.with_suffix("")
    evaluate(path, run, model, folder / "errors.json", folder / "predictions.parquet", folder / "worst.xyz")
    with Dataset(path) as opened:
        cheap.errors_of_constant(opened)
    print(re.search(r"VmHWM:.*", Path("/proc/self/status").read_text()).group())
"""


def committee() -> Committee:
    """Return two untrained networks."""
    model = PaiNN(architecture="painn", cutoff=3.0, features=4, layers=1, radial=4)
    frames = [from_atoms(atoms) for atoms in morse_frames("H2O", 4)]
    torch.manual_seed(0)
    return Committee([build_potential(model, frames) for _ in range(2)])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the largest memory of a process from /proc")
def test_further_test_frames_take_a_few_bytes_of_memory_each(tmp_path):
    save_model(tmp_path / "model.safetensors", committee(), {})
    water = [from_atoms(atoms) for atoms in morse_frames("H2O", 50, forces=True)]
    files = [tmp_path / name for name in ("warm.h5", "few.h5", "many.h5")]
    for path, count in zip(files, (FEW, FEW, MANY), strict=True):
        write_structures(path, {TRAINING: water, TEST: (water[place % 50] for place in range(count))})
    run = subprocess.run(
        [sys.executable, "-c", EVALUATES, str(tmp_path / "model.safetensors"), *map(str, files)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    _, few, many = (1024 * int(line.split()[1]) for line in run.stdout.splitlines() if line.startswith("VmHWM"))
    assert (many - few) / (MANY - FEW) < MOST_A_FRAME


def compared(count: int) -> tuple[list[Structure], Predictions]:
    """Return frames of several compositions and temperatures, some labelled with forces, stress or slopes."""
    rng = np.random.default_rng(0)
    structures = []
    for place in range(count):
        numbers = np.array([[1, 8, 1], [6, 8], [8, 8, 8, 8]][place % 3 if place else 2])
        shape = (len(numbers), 3)
        direction = rng.normal(size=shape)
        labels = Labels(
            rng.normal(),
            rng.normal(size=shape) if place % 2 else None,
            rng.normal(size=(3, 3)) if place % 5 == 0 else None,
            slope=Slope(rng.normal(), direction / np.linalg.norm(direction)) if place % 4 == 0 else None,
        )
        cell, pbc, temperature = 9.0 * np.eye(3), np.full(3, True), [300.0, 500.0][place % 2]
        positions = rng.normal(size=shape)
        structures.append(Structure(numbers, positions, cell, pbc, {REFERENCE: labels}, temperature=temperature))
    like_forces = [rng.normal(size=structure.positions.shape) for structure in structures]
    spread = [np.abs(rng.normal(size=each.shape)) for each in like_forces]
    energies, stress = rng.normal(size=count), rng.normal(size=(count, 3, 3))
    return structures, Predictions(energies, like_forces, stress, np.abs(rng.normal(size=count)), spread)


def parts_of(structures: list[Structure], predictions: Predictions, length: int):
    """Yield frames and predictions, so many at a time."""
    for start in range(0, len(structures), length):
        part = slice(start, start + length)
        assert predictions.forces_std is not None
        assert predictions.energy_std is not None
        yield (
            structures[part],
            Predictions(
                predictions.energy[part], predictions.forces[part], predictions.stress[part],
                predictions.energy_std[part], predictions.forces_std[part],
            ),
        )  # fmt: skip


def test_errors_are_the_same_whether_frames_come_at_once_or_part_by_part():
    found = []
    for length in (100, 7, 1):
        errors, breakdown, spread, worst = ErrorSummary(), Breakdown(), SpreadSummary(), WorstFrames()
        for part in parts_of(*compared(100), length):
            for each in (errors, breakdown, spread, worst):
                each.add(*part)
        measures = errors.values() | breakdown.values() | spread.values({"energy": 2.0, "force": 0.5})
        found.append((measures | spread.spread(), worst.frames()))
    (measures, worst), *others = found
    assert len(measures) > 40
    assert None not in measures.values()
    for same, frames in others:
        assert same == pytest.approx(measures, rel=1e-12)
        assert list(same) == list(measures)
        for ours, theirs in zip(frames, worst, strict=True):
            for name in ("frame", "worst_in", "energy_error_meV", "REF_energy"):
                assert ours.info[name] == theirs.info[name]
            np.testing.assert_array_equal(ours.get_forces(), theirs.get_forces())


def test_a_file_of_predictions_has_the_same_rows_whatever_their_number_in_a_part(tmp_path, monkeypatch):
    whole = compared(50)
    write_predictions(tmp_path / "whole.parquet", [whole])
    monkeypatch.setattr(predictions_module, "ROWS_AT_ONCE", 10)
    write_predictions(tmp_path / "parts.parquet", parts_of(*whole, 7))
    one, other = (read_predictions(tmp_path / f"{name}.parquet") for name in ("whole", "parts"))
    for quantity in ("energy", "force", "slope"):
        np.testing.assert_array_equal(one[quantity].predicted, other[quantity].predicted)
        np.testing.assert_array_equal(one[quantity].label, other[quantity].label)
    assert read_formulas(tmp_path / "parts.parquet") == read_formulas(tmp_path / "whole.parquet")


@pytest.mark.parametrize("scale", [0.2, 1.0, 40.0])
@pytest.mark.parametrize("count", [3, 50, 20_000])
def test_the_area_by_a_histogram_is_that_of_all_errors_in_a_row(count, scale):
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.5, 2.0, count)
    errors = spread * rng.normal(size=count) * rng.choice([0.01, 1.0, 30.0], count)
    confidences = np.sort(erf(np.abs(errors) / (scale * spread) / np.sqrt(2.0)))
    edges, found = np.concatenate([[0.0], confidences, [1.0]]), np.arange(count + 1) / count
    upper, lower = ((each - found) * np.abs(each - found) / 2 for each in (edges[1:], edges[:-1]))
    assert Spreads.of(errors, spread).miscalibration_area(scale) == pytest.approx((upper - lower).sum(), abs=1e-8)
