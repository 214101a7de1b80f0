"""What finished runs leave behind, with errors of one's choice: the input of the report."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from piwsl.config import Run
from piwsl.evaluation.predict import Predictions
from piwsl.evaluation.predictions import write_predictions
from piwsl.files import write_json
from piwsl.report.write import ReportFiles
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import Structure


def files_of(
    folder: Path,
    runs: list[Run],
    energy: dict[str, list[float]],
    with_forces: bool = True,
    pair_potential: Collection[str] = (),
    spread: Mapping[str, float | None] | None = None,
) -> ReportFiles:
    """Write what runs leave behind, with energy errors (meV) by loss and seed; some losses have a pair potential.

    With measures of a spread, as of `piwsl.evaluation.metrics.spread_summary`, the models are committees of two.
    """
    files = ReportFiles([], [], [], [], [], [], [])
    for number, run in enumerate(runs):
        error = energy[run.loss][run.seed]
        here = folder / str(number)
        force = 10 * error if with_forces else None
        errors = {
            "energy_mae_meV": error,
            "energy_rmse_meV": error,
            "energy_mae_meV_per_atom": error / 4,
            "energy_constant_meV": error / 2,
            "energy_mae_without_constant_meV": error / 2,
            "pair_potential": run.loss in pair_potential,
        }
        errors |= spread or {}
        write_json(
            here / "errors.json",
            run.plain() | errors | {"force_mae_meV_per_A": force, "force_rmse_meV_per_A": force, "test_frames": 3,
                                    "test_force_frames": 3 if with_forces else 0},
        )  # fmt: skip
        write_json(
            here / "simulation.json",
            run.plain() | {"stable_ps": 1.5, "time_ps": 2.0, "ended": "completed", "mean_temperature_K": 300.0,
                           "largest_bond_change_A": 0.2, "steps_per_second": 100.0},
        )  # fmt: skip
        write_predictions(here / "predictions.parquet", *_predicted(with_forces, bool(spread)))
        history = pd.DataFrame({"step": [1, 2], "validation_energy_rmse": [0.2, 0.1]})
        if spread:
            history = pd.concat([history.assign(member=member) for member in range(2)])
        history.to_csv(here / "history.csv", index=False)
        files.errors.append(here / "errors.json")
        files.simulations.append(here / "simulation.json")
        files.predictions.append(here / "predictions.parquet")
        files.histories.append(here / "history.csv")
    return files


def _predicted(with_forces: bool, with_spread: bool) -> tuple[list[Structure], Predictions]:
    """Return three labelled atoms of hydrogen, and predictions that are 0.01 eV and 0.1 eV/Å too high."""
    forces = [np.array([[x, 0.0, -x]]) for x in (-1.0, 0.2, 1.0)]
    structures = [
        Structure(
            np.array([1]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool),
            {REFERENCE: Labels(energy, label if with_forces else None)},
        )
        for energy, label in zip((0.0, 1.0, 2.0), forces, strict=True)
    ]  # fmt: skip
    predictions = Predictions(
        energy=np.arange(3.0) + 0.01,
        forces=[label + 0.1 for label in forces],
        stress=np.full((3, 3, 3), np.nan),
        energy_std=np.full(3, 0.01) if with_spread else None,
        forces_std=[np.full((1, 3), 0.1)] * 3 if with_spread else None,
    )
    return structures, predictions
