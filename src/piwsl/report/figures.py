"""How figures get into the page: drawn by plotly, in one look, each with a sentence for those who do not see it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from piwsl.report.markup import render
from piwsl.report.panels import Axis, Panel, Series, stepped

GRID = "#e3e6ea"
# The toolbar is left out: none of its buttons says anything, and one sends the data to a server.
CONFIG = {"displayModeBar": False, "responsive": True}
FIGURE = """\
<figure class="figure">
{% if title %}
<figcaption>{{ title }}</figcaption>
{% endif %}
<div role="img" aria-label="{{ said }}">{{ drawn }}</div></figure>
"""
PANELS = """\
<div{% if figures | length > 1 %} class="panels"{% endif %}>{% for figure in figures %}{{ figure }}{% endfor %}</div>
"""


def styled(figure: go.Figure, height: int = 420) -> go.Figure:
    """Give a figure the look of all; its height in pixels. The page sees to the colours of text, axes and grid."""
    clear = "rgba(0,0,0,0)"
    figure.update_layout(
        height=height,
        template="none",
        paper_bgcolor=clear,
        plot_bgcolor=clear,
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1f2933"},
        margin={"l": 65, "r": 15, "t": 40, "b": 55},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "bgcolor": clear},
    )
    figure.update_xaxes(gridcolor=GRID, linecolor="#9aa5b1", ticks="outside", zeroline=False)
    figure.update_yaxes(gridcolor=GRID, linecolor="#9aa5b1", ticks="outside", zeroline=False)
    return figure


def drawn(panel: Panel, height: int = 420) -> go.Figure:
    """Draw a panel with plotly, without its title; its height in pixels."""
    bands = [_band(series) for series in panel.series if series.band is not None]
    figure = go.Figure([*bands, *(_trace(series) for series in panel.series)])
    figure.update_xaxes(**_axis(panel.x))
    figure.update_yaxes(**_axis(panel.y))
    return styled(figure.update_layout(dragmode=False), height)


def _trace(series: Series) -> go.Scatter:
    modes = [mode for mode, wanted in (("lines", series.line), ("markers", series.points)) if wanted]
    colour = series.look.colour
    return go.Scatter(
        x=np.asarray(series.x),
        y=np.asarray(series.y),
        mode="+".join(modes),
        name=series.name,
        legendgroup=series.name,
        showlegend=series.legend,
        line=_line(series) if series.line else None,
        marker={"color": colour, "size": series.points, "symbol": series.look.symbol, "opacity": series.opacity},
        customdata=np.asarray(series.more) if np.size(series.more) else None,
        hovertemplate=series.hover or None,
        hoverinfo=None if series.hover else "skip",
    )


def _line(series: Series) -> dict[str, object]:
    shape = "hv" if series.steps else "linear"
    return {"color": series.look.colour, "width": series.line, "dash": series.look.dash, "shape": shape}


def _band(series: Series) -> go.Scatter:
    assert series.band is not None
    x, low, high = stepped(series.x, *series.band) if series.steps else map(np.asarray, (series.x, *series.band))
    return go.Scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        mode="lines",
        fill="toself",
        fillcolor=series.look.colour,
        opacity=0.15,
        line={"width": 0},
        legendgroup=series.name,
        hoverinfo="skip",
        showlegend=False,
    )


def _axis(axis: Axis) -> dict[str, object]:
    said: dict[str, object] = {"title_text": axis.title}
    if axis.log:
        said["type"] = "log"
    if axis.ticks:
        said |= {"tickvals": list(axis.ticks), "ticktext": [f"{tick:g}" for tick in axis.ticks]}
    if axis.range:
        said["range"] = list(np.log10(axis.range)) if axis.log else list(axis.range)
    return said


def panels(shown: Iterable[Panel], height: int = 420) -> Markup:
    """Return panels as markup, side by side where the page has the width."""
    return render(PANELS, figures=[fragment(drawn(panel, height), panel.said, panel.title) for panel in shown])


def fragment(figure: go.Figure, said: str | None = None, title: str = "") -> Markup:
    """Return a figure as markup, to be drawn by the plotly.js that the page holds.

    Args:
        figure: it.
        said: what it shows, in a sentence, for those who do not see it; by default its axes and what is drawn.
        title: above it, where no legend runs into it, however narrow the page.
    """
    html = Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG))
    return render(FIGURE, said=said or described(figure), title=title, drawn=html)


def described(figure: go.Figure) -> str:
    """Return which axes a figure has, and the names of what is drawn."""
    across, up = (
        " and ".join(dict.fromkeys(axis.title.text for axis in axes() if axis.title.text))
        for axes in (figure.select_xaxes, figure.select_yaxes)
    )
    axes = " against ".join(filter(None, (up, across)))
    names = ", ".join(dict.fromkeys(trace.name for trace in figure.data if trace.name))
    return f"Figure: {': '.join(filter(None, (axes, names)))}"


def plotly() -> Markup:
    """Return the code of plotly.js, which a page holds once."""
    return Markup(get_plotlyjs())
