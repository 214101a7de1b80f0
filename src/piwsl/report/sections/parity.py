"""Predictions against labels of the test frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from piwsl.evaluation.predictions import read_predictions
from piwsl.report.context import Context
from piwsl.report.figures import fragment, styled
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

TEMPLATE = """\
<p class="soft">Test frames; {{ shown }}. The dashed line is perfect agreement.</p>
{{ figure }}
"""


class Parity(ReportSection):
    """A figure for each dataset and model."""

    title = "Parity"
    place = 20
    each = True

    def html(self, context: Context) -> str:
        """Return the figure."""
        shown, files = context.example()
        figure = fragment(parity({loss: found.predictions for loss, found in files.items()}, context.colours))
        return render(TEMPLATE, shown=shown, figure=figure)


def parity(predictions: dict[str, Path], colours: dict[str, str]) -> go.Figure:
    """Draw predictions against labels of the test frames, energies relative to the mean label.

    Args:
        predictions: Parquet file of one run for each loss.
        colours: by loss.
    """
    read = {loss: read_predictions(path) for loss, path in predictions.items()}
    quantities = [("energy", "Energy (eV, less the mean label)")]
    if any(len(found["force"]) for found in read.values()):
        quantities.append(("force", "Force component (eV/Å)"))
    figure = make_subplots(cols=len(quantities), subplot_titles=[title for _, title in quantities])
    for column, (quantity, _) in enumerate(quantities, start=1):
        extremes = []
        for loss, found in read.items():
            label, predicted = found[quantity].label, found[quantity].predicted
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
    return styled(figure, height=480)
