"""What goes into a paper: panels as SVG and PDF by Matplotlib, a journal's column wide, and tables as CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from piwsl.files import write_atomically, write_text
from piwsl.report.context import Context
from piwsl.report.panels import Axis, Panel, Series, stepped
from piwsl.report.sections import SECTIONS

COLUMN_CM, HEIGHT_CM = 8.5, 7.0
CM_AN_INCH = 2.54
# Points a pixel of the page, of which a column is a third.
POINTS_A_PIXEL = 0.5
# From so many points on they are a picture within the drawing.
MANY_POINTS = 2000
# Opacity of bands.
BAND = 0.15
LINES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3))}
MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "x": "X",
    "triangle-down": "v",
}
# Text stays text; the same data give the same file.
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "piwsl",
    "pdf.fonttype": 42,
    "axes.linewidth": 0.6,
}
METADATA = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
# How LaTeX writes what it has no letter for.
LATEX = {"±": r"$\pm$", "≥": r"$\geq$", "Å": r"\AA{}", "³": r"\textsuperscript{3}", "–": "--"}


def write_figures(context: Context, folder: Path) -> None:
    """Write the panels of all sections, <dataset>/<model>/<name>.svg and .pdf below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, panel in panels_of(context):
        figure = printed(panel)
        # Laid out once, not once a file.
        engine = figure.get_layout_engine()
        assert engine is not None
        with rc_context(STYLE):
            engine.execute(figure)
        figure.set_layout_engine("none")
        for suffix, metadata in METADATA.items():
            path = folder / place / f"{panel.name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            save = partial(figure.savefig, format=suffix.removeprefix("."), metadata=metadata)
            with rc_context(STYLE):
                write_atomically(path, save)


def panels_of(context: Context) -> Iterator[tuple[str, Panel]]:
    """Yield the panels of each dataset and model, with <dataset>/<model>."""
    for _, runs in context.of_each():
        place = "/".join(runs.runs[["dataset", "model"]].iloc[0])
        for name in SECTIONS:
            if SECTIONS[name].each:
                yield from ((place, panel) for panel in SECTIONS[name]().panels(runs))


def printed(panel: Panel) -> Figure:
    """Draw a panel with Matplotlib, a column of a journal wide."""
    with rc_context(STYLE):
        size = (COLUMN_CM / CM_AN_INCH, HEIGHT_CM / CM_AN_INCH)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        for series in panel.series:
            _draw(axes, series)
        _shape(axes, "x", panel.x)
        _shape(axes, "y", panel.y)
        axes.set_title(panel.title, loc="left", fontsize=8)
        if any(series.legend for series in panel.series):
            axes.legend(frameon=False, fontsize=7, handlelength=2.6)
    return figure


def _draw(axes: Axes, series: Series) -> None:
    look, x = series.look, np.asarray(series.x)
    if series.band is not None:
        low, high = map(np.asarray, series.band)
        corners = stepped(x, low, high) if series.steps else (x, low, high)
        axes.fill_between(*corners, color=look.colour, alpha=BAND, linewidth=0)
    axes.plot(
        x,
        np.asarray(series.y),
        color=look.colour,
        linestyle=LINES[look.dash] if series.line else "none",
        drawstyle="steps-post" if series.steps else "default",
        linewidth=POINTS_A_PIXEL * series.line,
        marker=MARKERS[look.symbol] if series.points else "none",
        markersize=POINTS_A_PIXEL * series.points,
        markeredgewidth=0,
        alpha=series.opacity,
        label=series.name if series.legend else None,
        rasterized=len(x) > MANY_POINTS,
    )


def _shape(axes: Axes, side: str, axis: Axis) -> None:
    """Give an axis its title, scale, ticks and range."""
    drawn = {"x": axes.xaxis, "y": axes.yaxis}[side]
    axes.set(**{f"{side}label": axis.title})
    if axis.log:
        axes.set(**{f"{side}scale": "log"})
    if axis.ticks:
        drawn.set_ticks(axis.ticks, labels=[f"{tick:g}" for tick in axis.ticks])
        drawn.set_minor_locator(NullLocator())
        drawn.set_minor_formatter(NullFormatter())
    if axis.range:
        axes.set(**{f"{side}lim": axis.range})


def write_tables(context: Context, folder: Path) -> None:
    """Write the tables of sections of the whole experiment: <name>.csv, and <name>.tex, which needs booktabs."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = [SECTIONS[name]() for name in SECTIONS if not SECTIONS[name].each]
    for section in sections:
        for name, table in section.tables(context).items():
            write_atomically(folder / f"{name}.csv", partial(table.numbers.to_csv, index=False))
            latex = table.words.astype(str).to_latex(index=False, escape=True)
            for sign, written in LATEX.items():
                latex = latex.replace(sign, written)
            write_text(folder / f"{name}.tex", latex)
