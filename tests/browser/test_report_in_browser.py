"""The report as a person sees it: headless Chromium draws it without an error and without the network."""

from __future__ import annotations

import re

from chromium import dump
from helpers import plain_experiment
from run_files import files_of

from piwsl.config import Experiment, parse_section
from piwsl.report.write import write_report


def test_every_figure_is_drawn_and_nothing_fails(tmp_path):
    experiment = parse_section(Experiment, plain_experiment(), "config.yaml")
    files = files_of(tmp_path / "runs", experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    page = tmp_path / "report.html"
    write_report(experiment, files, page, tmp_path / "results.csv")
    # What goes wrong in the page is written where the dump of the page shows it.
    watch = "<script>window.onerror = (text) => document.documentElement.setAttribute('data-error', text);</script>"
    page.write_text(page.read_text().replace("<head>", f"<head>{watch}", 1))
    html = dump(page.as_uri(), tmp_path / "profile")
    assert "data-error=" not in html.split("<head>")[0]
    drawn = re.findall(r'class="plotly-graph-div js-plotly-plot"', html)
    assert len(drawn) == 4
    for title in ("Energy MAE (meV)", "Force MAE (meV/Å)", "labelled frames", "stable time (ps)", "optimiser step"):
        assert title in html
    # Dots of both losses in both parity plots: 2 x (3 energies + 6 force components), and the learning curves'.
    assert html.count('class="point"') >= 18
