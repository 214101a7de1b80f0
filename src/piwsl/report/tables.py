"""Tables behind the report: one row a run, means over seeds, what weak supervision bought, the reference stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from piwsl.config import Experiment
from piwsl.records import Errors, Labelling, Stability, read_free_atoms, read_labellings, read_record
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
    tested = pd.DataFrame([read_record(Errors, path).model_dump() for path in errors])
    simulated = pd.DataFrame([read_record(Stability, path).model_dump() for path in simulations])
    table = tested.merge(simulated, on=AXES, validate="one_to_one")
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
    failed: list[Labelling]
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
    found: dict[str, list[Labelling]] = {}
    for path in records:
        found.setdefault(dataset_of(path), []).extend(read_labellings(path))
    return [_summary(dataset, labellings) for dataset, labellings in found.items()]


def _summary(dataset: str, labellings: list[Labelling]) -> ReferenceSummary:
    good = [labelling for labelling in labellings if labelling.status == "ok"]
    seconds = [labelling.cpu_s for labelling in good if labelling.cpu_s is not None]
    return ReferenceSummary(
        dataset=dataset,
        labelled=len(good),
        failed=[labelling for labelling in labellings if labelling.status == "failed"],
        seconds_per_energy=float(np.median(seconds)) if seconds else None,
        largest_t1=max((found.t1_diagnostic for found in good if found.t1_diagnostic is not None), default=None),
        frozen_orbitals=good[0].frozen_orbitals if good else None,
        forces=dict(Counter(found.forces for found in good if found.forces)),
        uneasy_scf=sum(any(how.converged_by != "DIIS" for how in found.scf.values()) for found in good),
    )


@dataclass(frozen=True)
class FreeAtom:
    """The energy of a free atom, or why there is none."""

    dataset: str
    symbol: str
    found: Labelling


def free_atoms(files: list[Path]) -> list[FreeAtom]:
    """Return the energies of free atoms, a row a dataset and element.

    Args:
        files: JSON, a record by chemical symbol; below .../datasets/<dataset>/.
    """
    return [
        FreeAtom(dataset_of(path), symbol, found) for path in files for symbol, found in read_free_atoms(path).items()
    ]
