"""Tables behind the report: one row a run, means over seeds, what weak supervision bought, the reference stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from piwsl.config import Experiment
from piwsl.files import read_json, read_json_lines
from piwsl.workflow.layout import dataset_of

AXES = ["dataset", "model", "loss", "size", "seed"]
GROUP = ["dataset", "model", "size", "loss"]
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
    tested = pd.DataFrame([read_json(path) for path in errors])
    simulated = pd.DataFrame([read_json(path) for path in simulations])
    table = tested.merge(simulated, on=AXES, validate="one_to_one")
    # Results of an earlier version may lack what is measured since.
    expected = [*MEASURES, "pair_potential"]
    table = table.reindex(columns=[*table.columns, *(name for name in expected if name not in table.columns)])
    table["pair_potential"] = table["pair_potential"].fillna(value=False).astype(bool)
    numeric = [column for column in table.columns if column in MEASURES or "_mae_" in column or "_rmse_" in column]
    position = {axis: table[axis].map(table[axis].drop_duplicates().tolist().index) for axis in ("dataset", "model")}
    order = table.assign(**position).sort_values(["dataset", "model", "size"], kind="stable").index
    return table.loc[order].astype(dict.fromkeys(numeric, float))


def means_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over seeds, a row a (dataset, model, size, loss), in the table's order."""
    grouped = table.groupby(GROUP, sort=False)[list(MEASURES)].agg(["mean", "std"])
    grouped["seeds"] = table.groupby(GROUP, sort=False)["seed"].count()
    return grouped


@dataclass(frozen=True)
class Comparison:
    """A weak loss against the supervised one with the same dataset, model and size."""

    dataset: str
    model: str
    size: int
    weak: str
    supervised: str
    measure: str
    change_percent: float
    """Mean over seeds of the paired relative change; negative is a smaller error."""
    better: int
    """Seeds in which the weak loss had the smaller error."""
    seeds: int
    unlike: bool
    """Whether the models of one loss correct a pair potential and those of the other do not."""

    @property
    def chance(self) -> float:
        """How often all seeds would agree on one direction if there were no effect: 2 (1/2)^seeds."""
        return 2.0 ** (1 - self.seeds)

    @property
    def verdict(self) -> str:
        """What may be said: a direction only where all of at least two seeds agree."""
        if self.seeds < 2 or self.better not in (0, self.seeds):
            return "undecided"
        return "better" if self.better else "worse"


def comparisons(table: pd.DataFrame, experiment: Experiment) -> list[Comparison]:
    """Compare every weakly supervised loss with the first supervised one of the config, seed by seed.

    Args:
        table: one row a run.
        experiment: says which losses are supervised by labels of the reference level alone.
    """
    supervised = next((name for name, loss in experiment.losses.items() if loss.supervised), None)
    if supervised is None:
        return []
    found = []
    for (dataset, model, size), group in table.groupby(["dataset", "model", "size"], sort=False):
        by_loss = {str(loss): rows.set_index("seed") for loss, rows in group.groupby("loss", sort=False)}
        if supervised not in by_loss:
            continue
        base = by_loss[supervised]
        for loss, rows in by_loss.items():
            if experiment.losses[loss].supervised:
                continue
            for measure in ("energy_mae_meV", "force_mae_meV_per_A"):
                ratio = (rows[measure] / base[measure]).dropna()
                if len(ratio):
                    found.append(
                        Comparison(
                            str(dataset),
                            str(model),
                            int(str(size)),
                            loss,
                            supervised,
                            measure,
                            change_percent=float(100 * (ratio.mean() - 1)),
                            better=int((ratio < 1).sum()),
                            seeds=len(ratio),
                            unlike=bool((rows["pair_potential"] != base["pair_potential"]).loc[ratio.index].any()),
                        )
                    )
    return found


@dataclass(frozen=True)
class ReferenceSummary:
    """How the reference energies of a computed dataset came about."""

    dataset: str
    labelled: int
    failed: list[dict[str, Any]]
    seconds_per_energy: float | None
    """Median CPU seconds of one energy of the level."""
    largest_t1: float | None
    frozen_orbitals: int | None
    forces: dict[str, int]
    """How many frames have forces, by how those were computed."""
    uneasy_scf: int
    """Frames with an SCF that plain DIIS did not converge."""


def reference_summaries(records: list[Path]) -> list[ReferenceSummary]:
    """Summarise the records of all batches, a summary a dataset.

    Args:
        records: JSON lines of the batches, below .../datasets/<dataset>/.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in records:
        rows.setdefault(dataset_of(path), []).extend(read_json_lines(path))
    return [_summary(dataset, found) for dataset, found in rows.items()]


def _summary(dataset: str, rows: list[dict[str, Any]]) -> ReferenceSummary:
    good = [row for row in rows if row["status"] == "ok"]
    t1 = [row["t1_diagnostic"] for row in good if "t1_diagnostic" in row]
    return ReferenceSummary(
        dataset=dataset,
        labelled=len(good),
        failed=[row for row in rows if row["status"] == "failed"],
        seconds_per_energy=float(np.median([row["cpu_s"] for row in good])) if good else None,
        largest_t1=max(t1, default=None),
        frozen_orbitals=good[0].get("frozen_orbitals") if good else None,
        forces=dict(Counter(row["forces"] for row in good if row.get("forces"))),
        uneasy_scf=sum(any(how["converged_by"] != "DIIS" for how in row["scf"].values()) for row in good),
    )


def free_atoms(files: list[Path]) -> list[dict[str, Any]]:
    """Return the energies of free atoms, a row a dataset and element.

    Args:
        files: JSON, a record by chemical symbol; their folders are .../datasets/<dataset>/.
    """
    return [
        {"dataset": path.parent.name, "symbol": symbol, **record}
        for path in files
        for symbol, record in read_json(path).items()
    ]
