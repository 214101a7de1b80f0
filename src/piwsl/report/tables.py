"""The tables behind the report: one row a run, and one a cheap level, which nobody trained."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from piwsl.config import Experiment
from piwsl.data.dataset import TEST, Dataset
from piwsl.evaluation.cheap import errors_of_constant, errors_of_level
from piwsl.records import Errors, LearnedFrames, Stability, dataset_of, read_record
from piwsl.structures.labels import REFERENCE

CONSTANT = "the best constant"
AXES = ["dataset", "model", "loss", "size", "seed"]
MEASURES = {
    "energy_mae_meV": "Energy MAE (meV)",
    "energy_constant_meV": "constant (meV)",
    "force_mae_meV_per_A": "Force MAE (meV/Å)",
    "force_rmse_from_slopes_meV_per_A": "Force RMSE by slopes (meV/Å)",
    "stress_mae_meV_per_A3": "Stress MAE (meV/Å³)",
    "stable_ps": "Stable MD (ps)",
}
# Of a named test set.
TESTED = {
    name: title
    for name, title in MEASURES.items()
    if name in ("energy_mae_meV", "force_mae_meV_per_A", "force_rmse_from_slopes_meV_per_A", "stress_mae_meV_per_A3")
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
        simulations: JSON files of simulations, one of a run at most.

    Returns:
        Rows by dataset and model in the order of the files, then by size; columns dataset, model, loss, size, seed, the
        errors (meV, meV/Å; NaN without force labels), observation (as of `observation`), stable_ps, ... The index is a
        run's position in the files.
    """
    rows = [_tested(path, path.parent) for path in errors]
    tested = pd.DataFrame(rows, columns=None if rows else [*Errors.model_fields, "observation"])
    simulated = pd.DataFrame([_in_short(read_record(Stability, path)) for path in simulations], columns=SIMULATED)
    table = tested.merge(simulated.drop_duplicates(AXES), on=AXES, how="left", validate="one_to_one")
    known = {*MEASURES, "mean_temperature_K"}
    numeric = [column for column in table.columns if column in known or "_mae_" in column or "_rmse_" in column]
    position = {axis: table[axis].map(table[axis].drop_duplicates().tolist().index) for axis in ("dataset", "model")}
    order = table.assign(**position).sort_values(["dataset", "model", "size"], kind="stable").index
    return table.loc[order].astype(dict.fromkeys(numeric, float))


def _tested(errors: Path, folder: Path) -> dict[str, object]:
    """Read errors of the run in a folder, and which observation it is."""
    record = read_record(Errors, errors)
    return record.model_dump() | {"observation": observation(record, folder / "frames.json")}


def observation(run: Errors, frames: Path) -> str:
    """Return what runs have in common that are one observation, where dataset, model, loss and size are the same.

    A seed starts a training and chooses its frames. A model in closed form has no start: of the same frames it is the
    same function, whatever the seed.

    Args:
        run: it.
        frames: JSON of those that it learned from; without it seeds count one by one.
    """
    if not run.in_closed_form or not frames.exists():
        return f"seed {run.seed}"
    learned = sorted(read_record(LearnedFrames, frames).training)
    return f"frames {hashlib.sha256(repr(learned).encode()).hexdigest()[:12]}"


def observed(runs: pd.DataFrame, measure: str) -> pd.Series:
    """Return a measure an observation, runs alike in all but their seed given: means, but for rounding the same."""
    return runs.groupby("observation", sort=False)[measure].mean()


def _in_short(record: Stability) -> dict[str, object]:
    return {name: getattr(record, name) for name in SIMULATED}


def tested_table(errors: list[Path]) -> pd.DataFrame:
    """Read how models did on named test sets.

    Args:
        errors: JSON files of evaluations on such sets, each beside its predictions.

    Returns:
        A row a file, in the order of the files: columns dataset, model, loss, size, seed, test (the name of the set),
        the errors and observation as of `run_table`, and predictions, a path.
    """
    if not errors:
        columns = [*AXES, "test", *TESTED, "observation", "predictions"]
        return pd.DataFrame(columns=columns).astype({"size": int, "seed": int})
    # <run>/tests/<name>/errors.json
    rows = [_tested(path, path.parents[2]) | {"predictions": path.with_name("predictions.parquet")} for path in errors]
    return pd.DataFrame(rows).astype(dict.fromkeys(TESTED, float))


def beside_runs(runs: pd.DataFrame, tests: pd.DataFrame) -> pd.DataFrame:
    """Return a row a run with errors on named test sets as further columns, <measure>_on_<test>.

    Args:
        runs: as of `run_table`.
        tests: as of `tested_table`.
    """
    measures = [
        name
        for name in tests
        if re.fullmatch(r"(energy|force|slope|stress)_(mae|rmse)(_from_slopes)?_meV(_per_\w+)?", str(name))
    ]
    wide = tests.pivot(index=AXES, columns="test", values=measures)
    wide.columns = ["_on_".join(names) for names in wide.columns.to_flat_index()]
    return runs.join(wide, on=AXES)


def untrained_table(experiment: Experiment, datasets: list[Path], test_sets: list[Path]) -> pd.DataFrame:
    """Test what has learned nothing on named test sets: the best constant of each dataset, and further levels.

    Args:
        experiment: says which levels datasets have beside that of their labels.
        datasets: dataset files; their folders are named by the datasets.
        test_sets: dataset files .../<dataset>/tests/<test>.h5.

    Returns:
        A row a dataset, test set and level that it has labels of ("the best constant" first): columns dataset, test,
        level, known (as of `known_in_words`), and `TESTED`.
    """
    files = {path.parent.name: path for path in datasets}
    rows = []
    for path in test_sets:
        name = dataset_of(path)
        with Dataset(files[name]) as dataset, Dataset(path) as tested:
            found = {CONSTANT: errors_of_constant(dataset, tested)}
            levels = experiment.datasets[name].further_levels
            of_levels = {level: errors_of_level(dataset, level, tested) for level in levels}
            found |= {level: errors for level, errors in of_levels.items() if errors}
            known = {level: known_in_words(tested, errors) for level, errors in found.items()}
        rows += [
            {"dataset": name, "test": path.stem, "level": level, "known": known[level]} | errors
            for level, errors in found.items()
        ]
    columns = ["dataset", "test", "level", "known", *TESTED]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(TESTED, float))


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
        with Dataset(path) as dataset:
            rows.append({"dataset": path.parent.name} | errors_of_constant(dataset))
    return pd.DataFrame(rows, columns=["dataset", *MEASURES]).astype(dict.fromkeys(MEASURES, float))


def cheap_table(experiment: Experiment, paths: list[Path]) -> pd.DataFrame:
    """Test what needs no training: the further levels of each dataset, on the test frames that have their labels.

    Args:
        experiment: says which levels datasets have beside that of their labels.
        paths: dataset files; their folders are named by the datasets.

    Returns:
        A row a dataset and level, but for those that no test frame has: columns dataset, level, known (as of
        `known_in_words`), and `MEASURES` as of `piwsl.evaluation.cheap.errors_of_level`; of stable_ps nothing is known
        (NaN).
    """
    files = {path.parent.name: path for path in paths}
    pairs = [(name, level) for name, dataset in experiment.datasets.items() for level in dataset.further_levels]
    rows = []
    for name, level in pairs:
        if name not in files:  # no run takes the dataset
            continue
        with Dataset(files[name]) as dataset:
            if errors := errors_of_level(dataset, level):
                rows.append({"dataset": name, "level": level, "known": known_in_words(dataset, errors)} | errors)
    return pd.DataFrame(rows, columns=["dataset", "level", "known", *MEASURES]).astype(dict.fromkeys(MEASURES, float))


def known_in_words(dataset: Dataset, errors: Mapping[str, float | int | None]) -> str:
    """Say of how many test frames the errors of a level are, where that is not all that have such labels, or none.

    Args:
        dataset: whose test frames are meant.
        errors: as of `piwsl.evaluation.cheap.errors_of_level`.
    """
    test = dataset.indices(TEST)
    counts = {
        "energies": (errors["test_energy_frames"], int(dataset.labelled(REFERENCE, "energy")[test].sum())),
        "forces": (errors["test_force_frames"], int(dataset.labelled(REFERENCE, "forces")[test].sum())),
    }
    said = [f"{kind} of {known} of {all_}" for kind, (known, all_) in counts.items() if known and known < all_]
    return f"{', '.join(said)} test frames" if said else ""
