"""The table behind the report: one row a run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from piwsl.records import Errors, Stability, read_record

AXES = ["dataset", "model", "loss", "size", "seed"]
MEASURES = {
    "energy_mae_meV": "Energy MAE (meV)",
    "energy_constant_meV": "constant (meV)",
    "force_mae_meV_per_A": "Force MAE (meV/Å)",
    "stable_ps": "Stable MD (ps)",
}


def run_table(errors: list[Path], simulations: list[Path]) -> pd.DataFrame:
    """Join errors and simulations to one row a run.

    Args:
        errors: JSON files of evaluations.
        simulations: JSON files of simulations.

    Returns:
        Rows by dataset and model in the order of the files, then by size; columns dataset, model, loss, size, seed, the
        errors (meV, meV/Å; NaN without force labels), stable_ps, ... The index is a run's position in the files.
    """
    tested = pd.DataFrame([read_record(Errors, path).model_dump() for path in errors])
    simulated = pd.DataFrame([read_record(Stability, path).model_dump() for path in simulations])
    table = tested.merge(simulated, on=AXES, validate="one_to_one")
    numeric = [column for column in table.columns if column in MEASURES or "_mae_" in column or "_rmse_" in column]
    position = {axis: table[axis].map(table[axis].drop_duplicates().tolist().index) for axis in ("dataset", "model")}
    order = table.assign(**position).sort_values(["dataset", "model", "size"], kind="stable").index
    return table.loc[order].astype(dict.fromkeys(numeric, float))
