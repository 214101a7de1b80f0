"""The tables behind the report: one row a run, and one a cheap level, which nobody trained."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from piwsl.config import Experiment
from piwsl.data.dataset import Dataset
from piwsl.records import Errors, Stability, read_record

AXES = ["dataset", "model", "loss", "size", "seed"]
MEASURES = {
    "energy_mae_meV": "Energy MAE (meV)",
    "energy_constant_meV": "constant (meV)",
    "force_mae_meV_per_A": "Force MAE (meV/Å)",
    "stable_ps": "Stable MD (ps)",
}
# Of the first simulation of a run.
SIMULATED = [
    *AXES, "stable_ps", "time_ps", "ended", "mean_temperature_K", "replicas", "failed", "stability",
    "largest_bond_change_A", "steps_per_second",
]  # fmt: skip


def run_table(errors: list[Path], simulations: list[Path]) -> pd.DataFrame:
    """Join errors and simulations to one row a run.

    Args:
        errors: JSON files of evaluations.
        simulations: JSON files of simulations; of several of a run the first counts, and there may be none.

    Returns:
        Rows by dataset and model in the order of the files, then by size; columns dataset, model, loss, size, seed, the
        errors (meV, meV/Å; NaN without force labels), stable_ps, ... The index is a run's position in the files.
    """
    rows = [read_record(Errors, path).model_dump() for path in errors]
    tested = pd.DataFrame(rows, columns=None if rows else [*Errors.model_fields])
    simulated = pd.DataFrame([_in_short(read_record(Stability, path)) for path in simulations], columns=SIMULATED)
    table = tested.merge(simulated.drop_duplicates(AXES), on=AXES, how="left", validate="one_to_one")
    numeric = [column for column in table.columns if column in MEASURES or "_mae_" in column or "_rmse_" in column]
    position = {axis: table[axis].map(table[axis].drop_duplicates().tolist().index) for axis in ("dataset", "model")}
    order = table.assign(**position).sort_values(["dataset", "model", "size"], kind="stable").index
    return table.loc[order].astype(dict.fromkeys(numeric, float))


def _in_short(record: Stability) -> dict[str, object]:
    return {name: getattr(record, name) for name in SIMULATED}


def constant_table(paths: list[Path]) -> pd.DataFrame:
    """Test what has learned nothing: the best constant of each dataset, on its test frames.

    Args:
        paths: dataset files; their folders are named by the datasets.

    Returns:
        A row a dataset: columns dataset, and `MEASURES` as of `piwsl.evaluation.cheap.errors_of_constant`; of stable_ps
        nothing is known (NaN).
    """
    rows = []
    for path in paths:
        from piwsl.evaluation.cheap import errors_of_constant  # imports torch

        with Dataset(path) as dataset:
            rows.append({"dataset": path.parent.name} | errors_of_constant(dataset))
    return pd.DataFrame(rows, columns=["dataset", *MEASURES]).astype(dict.fromkeys(MEASURES, float))


def cheap_table(experiment: Experiment, paths: list[Path]) -> pd.DataFrame:
    """Test what costs nothing: the cheap levels of each dataset, on its test frames.

    Args:
        experiment: says which cheap levels datasets have.
        paths: dataset files; their folders are named by the datasets.

    Returns:
        A row a dataset and level: columns dataset, level, and `MEASURES` as of
        `piwsl.evaluation.cheap.errors_of_level`; of stable_ps nothing is known (NaN).
    """
    files = {path.parent.name: path for path in paths}
    pairs = [(name, level) for name, dataset in experiment.datasets.items() for level in dataset.cheap_levels]
    rows = []
    for name, level in pairs:
        if name not in files:  # no run takes the dataset
            continue
        # It imports torch, which takes longer than all else of a report without cheap levels.
        from piwsl.evaluation.cheap import errors_of_level

        with Dataset(files[name]) as dataset:
            rows.append({"dataset": name, "level": level} | errors_of_level(dataset, level))
    return pd.DataFrame(rows, columns=["dataset", "level", *MEASURES]).astype(dict.fromkeys(MEASURES, float))
