"""What finished runs leave behind, with errors of one's choice: the input of the report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from helpers import plain_experiment

from piwsl.config import Run
from piwsl.evaluation.breakdown import worst_frames
from piwsl.evaluation.predictions import Predictions, write_predictions
from piwsl.files import write_json
from piwsl.report.write import ReportFiles
from piwsl.simulation.replicas import SimulationOutputs
from piwsl.structures.frames import write_frames
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import Structure

Test = tuple[list[Structure], Predictions]
# Of two replicas, of which one failed.
STABILITY = {
    "simulation": "nvt", "stable_ps": 1.5, "time_ps": 2.0, "ended": "1 of 2 failed: a bond changed by more than 0.5 Å",
    "mean_temperature_K": 300.0, "replicas": 2, "failed": 1, "stability": "1 of 2 failed, after 1 ps, of 2 ps",
    "largest_bond_change_A": 0.2, "steps_per_second": 100.0, "reactive_bonds": ["O0-H3"],
    "outcomes": [
        {"frame": 0, "temperature_K": 300.0, "replica": 0, "stable_ps": 2.0, "failed": False},
        {"frame": 1, "temperature_K": 300.0, "replica": 0, "stable_ps": 1.0, "failed": True,
         "reason": "a bond changed by more than 0.5 Å"},
    ],
    "distances": [{"formula": "H2O", "error": 0.12, "r_A": [0.95, 1.0], "density_per_A": [9.0, 11.0],
                   "reference_per_A": [10.0, 10.0]}],
    "drift_meV_per_atom_per_ps": {"mean": 0.01, "deviation": 0.002, "largest": 0.03},
    "spectrum": {"wavenumber_per_cm": [0.0, 1600.0], "intensity": [0.0, 1.0]},
}  # fmt: skip


def files_of(
    folder: Path,
    runs: list[Run],
    energy: dict[str, list[float]],
    with_forces: bool = True,
    pair_potential: Collection[str] = (),
    spread: Mapping[str, float | None] | None = None,
    test: Callable[[float], Test] | None = None,
    simulation: str = "nvt",
) -> ReportFiles:
    """Write what runs leave behind, with energy errors (meV) by loss and seed; some losses have a pair potential.

    With measures of a spread, as of `piwsl.evaluation.metrics.SpreadSummary`, the models are committees of two.
    `simulation` is the name of the only one.
    `test` gives frames and what was predicted for an energy error in eV; by default those of three atoms.
    """
    files = ReportFiles([], [], [], [], [], [], [], [], [], [])
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
            here / "simulations" / simulation / "summary.json",
            run.plain() | STABILITY | {"simulation": simulation},
        )  # fmt: skip
        found = test(error / 1000) if test else _three_atoms(error / 1000, with_forces, bool(spread))
        write_predictions(here / "predictions.parquet", [found])
        write_frames(here / "worst.xyz", worst_frames(*found))
        history = pd.DataFrame({"step": [1, 2], "validation_energy_rmse": [0.2, 0.1]})
        if spread:
            history = pd.concat([history.assign(member=member) for member in range(2)])
        history.to_csv(here / "history.csv", index=False)
        files.errors.append(here / "errors.json")
        files.simulations.append(here / "simulations" / simulation / "summary.json")
        files.predictions.append(here / "predictions.parquet")
        files.histories.append(here / "history.csv")
        files.worst.append(here / "worst.xyz")
    return files


def _three_atoms(error: float, with_forces: bool, with_spread: bool) -> Test:
    """Return three labelled atoms of hydrogen, and predictions that are too high, forces by 10 / Å as much."""
    forces = [np.array([[x, 0.0, -x]]) for x in (-1.0, 0.2, 1.0)]
    structures = [
        Structure(
            np.array([1]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool),
            {REFERENCE: Labels(energy, label if with_forces else None)},
        )
        for energy, label in zip((0.0, 1.0, 2.0), forces, strict=True)
    ]  # fmt: skip
    predictions = Predictions(
        energy=np.arange(3.0) + error,
        forces=[label + 10 * error for label in forces],
        stress=np.full((3, 3, 3), np.nan),
        energy_std=np.full(3, 0.01) if with_spread else None,
        forces_std=[np.full((1, 3), 0.1)] * 3 if with_spread else None,
    )
    return structures, predictions


def random_test(frames: int, atoms: int) -> Callable[[float], Test]:
    """Return the test of models on frames of carbon, the same for all, with errors of normal distributions."""
    rng = np.random.default_rng(0)
    structures = [
        Structure(
            np.full(atoms, 6), 3.0 * rng.normal(size=(atoms, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool),
            {REFERENCE: Labels(float(rng.normal()), rng.normal(size=(atoms, 3)))}, temperature=300.0,
        )
        for _ in range(frames)
    ]  # fmt: skip

    def test(error: float) -> Test:
        energy = np.array([structure.energy for structure in structures]) + error * rng.normal(size=frames)
        forces = [structure.forces + 10 * error * rng.normal(size=(atoms, 3)) for structure in structures]
        return structures, Predictions(energy, forces, np.full((frames, 3, 3), np.nan))

    return test


def grid_of(models: int, losses: int, sizes: int, seeds: int) -> dict[str, Any]:
    """Return an experiment of so many models, losses, sizes and seeds."""
    plain = plain_experiment()
    weak = {f"weak_{number}": plain["losses"]["weak"] for number in range(1, losses)}
    return plain | {
        "models": {f"painn_{number}": plain["models"]["painn"] for number in range(models)},
        "losses": {"supervised": plain["losses"]["supervised"]} | weak,
        "sizes": [5 * number for number in range(1, sizes + 1)],
        "seeds": list(range(seeds)),
    }


def outputs_in(folder: Path) -> SimulationOutputs:
    """Return where a simulation writes, all in one folder."""
    names = ("trajectory.xyz", "series.parquet", "summary.json", "checkpoint.npz")
    return SimulationOutputs(*(folder / name for name in names))
