"""Putting the report together: one HTML file that needs nothing else, and one CSV of all runs."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pandas as pd
import plotly.graph_objects as go
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from piwsl.config import ComputedDataset, Experiment, GivenDataset
from piwsl.data.dataset import Dataset
from piwsl.files import write_atomically, write_text
from piwsl.report import figures
from piwsl.report.tables import (
    MEASURES,
    Comparison,
    comparisons,
    free_atoms,
    means_over_seeds,
    reference_summaries,
    run_table,
)

PACKAGES = ["piwsl", "torch", "pyscf", "tblite", "ase", "snakemake"]


@dataclass(frozen=True)
class ReportFiles:
    """What the report is made of; a file of each kind for every run, in one order, and the records of all batches."""

    errors: list[Path]
    predictions: list[Path]
    histories: list[Path]
    simulations: list[Path]
    records: list[Path]
    atoms: list[Path]
    """Energies of free atoms, a file for every dataset that has them."""
    datasets: list[Path]
    """Dataset files; their folders are named by the datasets."""


def write_report(experiment: Experiment, files: ReportFiles, html_path: Path, table_path: Path) -> None:
    """Write the report and the table of all runs.

    Args:
        experiment: what was run.
        files: what it gave.
        html_path: HTML to write; figures and scripts are inside.
        table_path: CSV to write, one row a run.
    """
    table = run_table(files.errors, files.simulations)
    write_atomically(table_path, lambda path: table.to_csv(path, index=False))
    environment = Environment(
        loader=PackageLoader("piwsl", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    html = environment.get_template("template.html").render(
        experiment=experiment,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        plotly=get_plotlyjs(),
        runs=len(table),
        verdicts=[sentence(found) for found in comparisons(table, experiment)],
        measures=list(MEASURES.values()),
        rows=mean_rows(table),
        sections=figure_sections(experiment, files, table),
        levels={name: str(level) for name, level in experiment.levels.items()},
        computed=[name for name, dataset in experiment.datasets.items() if isinstance(dataset, ComputedDataset)],
        given={
            name: dataset.level
            for name, dataset in experiment.datasets.items()
            if isinstance(dataset, GivenDataset) and dataset.level
        },
        references=reference_summaries(files.records),
        atoms=free_atoms(files.atoms),
        warnings=data_warnings(files.datasets),
        config=yaml.safe_dump(experiment.plain(), sort_keys=False, allow_unicode=True),
        versions={package: version(package) for package in PACKAGES} | {"python": platform.python_version()},
    )
    write_text(html_path, html)


def data_warnings(datasets: list[Path]) -> dict[str, list[str]]:
    """Return what looked odd about the data, by dataset; datasets in order are left out."""
    found = {}
    for path in datasets:
        with Dataset(path) as dataset:
            found[path.parent.name] = dataset.warnings()
    return {name: warnings for name, warnings in found.items() if warnings}


def sentence(found: Comparison) -> dict[str, str]:
    """Say in words what one comparison shows."""
    quantity = {"energy_mae_meV": "energy", "force_mae_meV_per_A": "force"}[found.measure]
    change = abs(found.change_percent)
    if found.verdict == "undecided":
        seeds = "one seed decides nothing" if found.seeds < 2 else f"better in {found.better} of {found.seeds} seeds"
        average = f"{found.change_percent:+.0f} %".replace("-", "−")
        text = f"no clear effect on the {quantity} error ({average} on average; {seeds})"
    else:
        direction = "lower" if found.verdict == "better" else "higher"
        text = (
            f"{quantity} error {change:.0f} % {direction}, in all {found.seeds} seeds "
            f"(without any effect they would agree {100 * found.chance:.2g} % of the time)"
        )
    if found.unlike:
        text += (
            "; with one of the two losses the network corrects a pair potential, with the other it does not: say "
            "pair_potential: true or false to see what the loss alone does"
        )
    where = f"{found.dataset}, {found.model}, {found.size} frames, {found.weak} against {found.supervised}"
    return {"where": where, "text": text, "kind": found.verdict}


def mean_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of the report's table as text: mean ± standard deviation over seeds."""
    rows = []
    for group, values in means_over_seeds(table).iterrows():
        dataset, model, size, loss = cast(tuple[str, str, int, str], group)
        cells = [_mean_and_spread(name, values[name]["mean"], values[name]["std"]) for name in MEASURES]
        seeds = int(values["seeds"].iloc[0])
        rows.append({"group": (dataset, model, size), "loss": loss, "seeds": seeds, "cells": cells})
    return rows


def _mean_and_spread(measure: str, mean: float, spread: float) -> str:
    if pd.isna(mean):
        return "not labelled" if measure == "force_mae_meV_per_A" else "–"
    return _rounded(mean, 3) if pd.isna(spread) else f"{_rounded(mean, 3)} ± {_rounded(spread, 2)}"


def _rounded(value: float, digits: int) -> str:
    """Write a number with so many significant digits, without an exponent where a reader of errors expects none."""
    return f"{float(f'{value:.{digits}g}'):g}"


def figure_sections(experiment: Experiment, files: ReportFiles, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the figures of every dataset and model as HTML fragments."""
    colours = figures.loss_colours(list(experiment.losses))
    # The index of the table is the position of a run in the lists of files.
    predictions = pd.Series(files.predictions)
    histories = pd.Series(files.histories)
    sections = []
    for (dataset, model), runs in table.groupby(["dataset", "model"], sort=False):
        largest = runs[runs["size"] == runs["size"].max()]
        shown = largest[largest["seed"] == largest["seed"].iloc[0]]
        sections.append(
            {
                "dataset": dataset,
                "model": model,
                "shown": f"{int(shown['size'].iloc[0])} frames, seed {int(shown['seed'].iloc[0])}",
                "learning": _fragment(figures.learning_curves(runs, colours)),
                "parity": _fragment(figures.parity(_by_loss(shown, predictions), colours)),
                "stability": _fragment(figures.stability(runs, colours)),
                "histories": _fragment(figures.histories(_by_loss(shown, histories), colours)),
            }
        )
    return sections


def _by_loss(runs: pd.DataFrame, paths: pd.Series) -> dict[str, Path]:
    return dict(zip(runs["loss"], paths[runs.index], strict=True))


def _fragment(figure: go.Figure) -> str:
    return figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
