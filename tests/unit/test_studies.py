"""What the studies in tests/benchmarks share: a training is a line of a file, and is made once."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import ROOT

from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset

sys.path.append(str(ROOT / "tests" / "benchmarks"))

import studies


@dataclass(frozen=True)
class Point:
    molecule: str
    settings: str
    size: int
    seed: int


POINTS = [Point("water", settings, size, seed) for settings in ("", "radial=8") for size in (5, 10) for seed in (0, 1)]


def error_of(point):
    return {"error": point.size + point.seed + 10.0 * len(point.settings), "spread": None}


def test_a_point_is_measured_once_and_those_of_another_process_are_not_measured_again(tmp_path, capsys):
    path, measured = tmp_path / "study.csv", []

    def measure(point):
        measured.append(point)
        if point == POINTS[0]:  # meanwhile, another process makes the last one
            studies.measure_missing(path, POINTS[-1:], error_of)
        return error_of(point)

    studies.measure_missing(path, POINTS[:2], measure)
    studies.measure_missing(path, POINTS, measure)
    assert measured == POINTS[:-1]
    assert len(capsys.readouterr().out.splitlines()) == len(studies.results(path)) == len(POINTS)


def test_lines_of_before_an_interruption_stay(tmp_path):
    path = tmp_path / "study.csv"

    def interrupted(point):
        if point == POINTS[3]:
            raise KeyboardInterrupt
        return error_of(point)

    with pytest.raises(KeyboardInterrupt):
        studies.measure_missing(path, POINTS, interrupted)
    before = path.read_text()
    studies.measure_missing(path, POINTS, error_of)
    assert path.read_text().startswith(before)
    assert [Point(*row) for row in studies.results(path)[["molecule", "settings", "size", "seed"]].values] == POINTS


def test_the_table_has_means_over_seeds_and_how_many_they_are(tmp_path):
    path = tmp_path / "study.csv"
    studies.measure_missing(path, POINTS[:-1], error_of)
    rows = studies.results(path)
    rows["largest"] = rows["error"]
    header, *lines = studies.means_over_seeds(rows, Point, largest=["largest"]).splitlines()
    assert header.split() == ["molecule", "settings", "size", "error", "largest", "seeds"]
    assert [line.split()[-4:] for line in lines] == [
        ["5", "5.5", "6.0", "2"],
        ["10", "10.5", "11.0", "2"],
        ["5", "85.5", "86.0", "2"],
        ["10", "90.0", "90.0", "1"],
    ]


def test_the_pool_has_no_labels_and_shares_no_frame_with_those_that_sizes_draw_from(tmp_path):
    frames = studies.LABELLED_FRAMES + studies.POOL_FRAMES
    positions = np.random.default_rng(0).normal(size=(frames, 3, 3)) + np.eye(3) * 5
    arrays = {"nuclear_charges": [8, 1, 1], "coords": positions, "energies": np.arange(frames), "forces": positions}
    np.savez(tmp_path / "rmd17.npz", **arrays)
    parts = studies.labelled_pool_and_test(tmp_path / "rmd17.npz", tmp_path / "rmd17.npz")
    paths = studies.write_with_and_without_forces(tmp_path, parts)
    for labels, path in paths.items():
        with Dataset(path) as dataset:
            training, pool, test = (dataset.structures(dataset.indices(part)) for part in (TRAINING, POOL, TEST))
        assert not {s.positions.tobytes() for s in training} & {s.positions.tobytes() for s in pool}
        assert all(np.isnan(s.energy) and s.forces is None for s in pool)
        assert all((s.forces is None) == (labels == "energies") for s in training)
        np.testing.assert_allclose([s.energy for s in test], np.arange(300) * studies.KCAL_PER_MOL)
        assert all(s.forces is not None for s in test)
