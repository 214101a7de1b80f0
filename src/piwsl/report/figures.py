"""Figures of the report as plotly figures. One colour a loss, the same in all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from piwsl.report.tables import MEASURES

# Okabe and Ito's palette, which the colour-blind can tell apart.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
GRID = "#e3e6ea"


def loss_colours(losses: list[str]) -> dict[str, str]:
    """Give each loss its colour."""
    return {loss: PALETTE[position % len(PALETTE)] for position, loss in enumerate(losses)}


def _styled(figure: go.Figure, height: int = 420) -> go.Figure:
    figure.update_layout(
        height=height,
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1f2933"},
        margin={"l": 70, "r": 20, "t": 60, "b": 60},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.08, "x": 0},
    )
    figure.update_xaxes(gridcolor=GRID, linecolor="#9aa5b1", ticks="outside", zeroline=False)
    figure.update_yaxes(gridcolor=GRID, linecolor="#9aa5b1", ticks="outside", zeroline=False)
    return figure


def _log_axis(ticks: list[float]) -> dict[str, object]:
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _at_values(values: pd.Series) -> dict[str, object]:
    """Return a logarithmic axis with ticks at the values themselves."""
    return _log_axis(sorted({float(value) for value in values}))


def _one_two_five(values: pd.Series) -> dict[str, object]:
    """Return a logarithmic axis with ticks at 1, 2 and 5 of every decade that the values touch."""
    positive = values[values > 0]
    if positive.empty:
        return {}
    low, high = np.floor(np.log10(positive.min())), np.ceil(np.log10(positive.max()))
    return _log_axis([digit * 10.0**decade for decade in np.arange(low, high + 1) for digit in (1, 2, 5)])


def learning_curves(table: pd.DataFrame, colours: dict[str, str]) -> go.Figure:
    """Draw errors against the number of labelled frames: a dot a seed, a line through the means.

    Args:
        table: the runs of one dataset and model.
        colours: by loss.
    """
    measures = [name for name in ("energy_mae_meV", "force_mae_meV_per_A") if table[name].notna().any()]
    figure = make_subplots(cols=len(measures), subplot_titles=[MEASURES[name] for name in measures])
    for column, measure in enumerate(measures, start=1):
        for loss, rows in table.groupby("loss", sort=False):
            colour = colours[str(loss)]
            means = rows.groupby("size")[measure].mean()
            figure.add_trace(
                go.Scatter(
                    x=rows["size"],
                    y=rows[measure],
                    mode="markers",
                    name=str(loss),
                    legendgroup=str(loss),
                    showlegend=False,
                    marker={"color": colour, "size": 7, "opacity": 0.5},
                    customdata=rows["seed"],
                    hovertemplate="%{x} frames, seed %{customdata}: %{y:.3g}",
                ),
                row=1,
                col=column,
            )
            figure.add_trace(
                go.Scatter(
                    x=means.index,
                    y=means,
                    mode="lines+markers",
                    name=str(loss),
                    legendgroup=str(loss),
                    showlegend=column == 1,
                    line={"color": colour, "width": 2},
                    marker={"color": colour, "size": 9, "symbol": "diamond"},
                    hovertemplate="%{x} frames, mean over seeds: %{y:.3g}",
                ),
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text="labelled frames", row=1, col=column, **_at_values(table["size"]))
        figure.update_yaxes(row=1, col=column, **_one_two_five(table[measure]))
    return _styled(figure)


def parity(predictions: dict[str, Path], colours: dict[str, str]) -> go.Figure:
    """Draw predictions against labels of the test frames, energies relative to the mean label.

    Args:
        predictions: NPZ file of one run for each loss.
        colours: by loss.
    """
    arrays = {loss: np.load(path, allow_pickle=False) for loss, path in predictions.items()}
    quantities = [("energy", "Energy (eV, less the mean label)")]
    if any(len(found["force_label"]) for found in arrays.values()):
        quantities.append(("force", "Force component (eV/Å)"))
    figure = make_subplots(cols=len(quantities), subplot_titles=[title for _, title in quantities])
    for column, (quantity, _) in enumerate(quantities, start=1):
        extremes = []
        for loss, found in arrays.items():
            label, predicted = found[f"{quantity}_label"], found[f"{quantity}_predicted"]
            origin = label.mean() if quantity == "energy" else 0.0
            extremes += [label - origin, predicted - origin]
            figure.add_trace(
                go.Scatter(
                    x=label - origin,
                    y=predicted - origin,
                    mode="markers",
                    name=loss,
                    legendgroup=loss,
                    showlegend=column == 1,
                    marker={"color": colours[loss], "size": 7, "opacity": 0.65},
                    hovertemplate="reference %{x:.3f}, model %{y:.3f}",
                ),
                row=1,
                col=column,
            )
        low, high = float(np.concatenate(extremes).min()), float(np.concatenate(extremes).max())
        figure.add_trace(
            go.Scatter(
                x=[low, high],
                y=[low, high],
                mode="lines",
                showlegend=False,
                hoverinfo="skip",
                line={"color": "#616e7c", "width": 1, "dash": "dash"},
            ),
            row=1,
            col=column,
        )
        figure.update_xaxes(title_text="reference", row=1, col=column)
        figure.update_yaxes(title_text="model" if column == 1 else None, row=1, col=column)
    return _styled(figure, height=480)


def stability(table: pd.DataFrame, colours: dict[str, str]) -> go.Figure:
    """Draw how long the dynamics of every run stayed stable, a bar a run.

    Args:
        table: the runs of one dataset and model.
        colours: by loss.
    """
    figure = go.Figure()
    for loss, rows in table.groupby("loss", sort=False):
        figure.add_trace(
            go.Bar(
                x=[rows["size"].map("{} frames".format), rows["seed"].map("seed {}".format)],
                y=rows["stable_ps"],
                name=str(loss),
                marker={"color": colours[str(loss)]},
                customdata=np.stack([rows["ended"], rows["mean_temperature_K"]], axis=1),
                hovertemplate="%{y:.3f} ps, %{customdata[0]}, mean %{customdata[1]:.0f} K",
            )
        )
    wanted = float(table["time_ps"].max())
    figure.add_hline(y=wanted, line={"color": "#616e7c", "dash": "dash", "width": 1})
    figure.update_yaxes(title_text="stable time (ps)", range=[0, 1.08 * wanted])
    return _styled(figure, height=380)


def histories(paths: dict[str, Path], colours: dict[str, str]) -> go.Figure:
    """Draw the validation error of the energy in the course of training.

    Args:
        paths: history CSV of one run for each loss.
        colours: by loss.
    """
    figure = go.Figure()
    for loss, path in paths.items():
        rows = pd.read_csv(path)
        figure.add_trace(
            go.Scatter(
                x=rows["step"],
                y=1000 * rows["validation_energy_rmse"],
                mode="lines",
                name=loss,
                line={"color": colours[loss], "width": 2},
                hovertemplate="step %{x}: %{y:.3g} meV/atom",
            )
        )
    figure.update_xaxes(title_text="optimiser step")
    shown = pd.concat([1000 * pd.read_csv(path)["validation_energy_rmse"] for path in paths.values()])
    figure.update_yaxes(title_text="validation RMSE (meV/atom)", **_one_two_five(shown))
    return _styled(figure, height=360)
