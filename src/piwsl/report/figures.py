"""What the figures of the report share: one colour a loss, one look, and how they get into a page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

# Okabe and Ito's palette, which the colour-blind can tell apart.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
GRID = "#e3e6ea"


def loss_colours(losses: list[str]) -> dict[str, str]:
    """Give each loss its colour."""
    return {loss: PALETTE[position % len(PALETTE)] for position, loss in enumerate(losses)}


def styled(figure: go.Figure, height: int = 420) -> go.Figure:
    """Give a figure the look of all; its height in pixels."""
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


def at_values(values: pd.Series) -> dict[str, object]:
    """Return a logarithmic axis with ticks at the values themselves."""
    return _log_axis(sorted({float(value) for value in values}))


def one_two_five(values: pd.Series) -> dict[str, object]:
    """Return a logarithmic axis with ticks at 1, 2 and 5 of every decade that the values touch."""
    positive = values[values > 0]
    if positive.empty:
        return {}
    low, high = np.floor(np.log10(positive.min())), np.ceil(np.log10(positive.max()))
    return _log_axis([digit * 10.0**decade for decade in np.arange(low, high + 1) for digit in (1, 2, 5)])


def fragment(figure: go.Figure) -> Markup:
    """Return a figure as markup, to be drawn by the plotly.js that the page holds."""
    config = {"displaylogo": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=config))


def plotly() -> Markup:
    """Return the code of plotly.js, which a page holds once."""
    return Markup(get_plotlyjs())
