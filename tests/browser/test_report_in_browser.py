"""The report as a person sees it: headless Chromium draws it without an error and without the network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from helpers import ROOT
from run_files import files_of

from piwsl.config import Experiment, parse_section
from piwsl.report.write import write_report


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return Chromium's path; install it where we may, skip where we may not, fail where it must be."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium", "fonts-dejavu-core"]):
            subprocess.run(["apt-get", "-qq", *command], env=environment, check=True, capture_output=True)
        found = shutil.which("chromium")
    if found is None:
        message = "Chromium is not installed (package chromium); the report was not looked at in a browser"
        # Who has no Chromium and may not install it misses one check; CI may not.
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return found


def test_every_figure_is_drawn_and_nothing_fails(chromium, tmp_path):
    experiment = parse_section(Experiment, yaml.safe_load((ROOT / "config.yaml").read_text()), "config.yaml")
    files = files_of(tmp_path / "runs", experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    page = tmp_path / "report.html"
    write_report(experiment, files, page, tmp_path / "results.csv")
    # What goes wrong in the page is written where the dump of the page shows it.
    watch = "<script>window.onerror = (text) => document.documentElement.setAttribute('data-error', text);</script>"
    page.write_text(page.read_text().replace("<head>", f"<head>{watch}", 1))
    html = dump(chromium, page, tmp_path / "profile")
    assert "data-error=" not in html.split("<head>")[0]
    drawn = re.findall(r'class="plotly-graph-div js-plotly-plot"', html)
    assert len(drawn) == 4
    for title in ("Energy MAE (meV)", "Force MAE (meV/Å)", "labelled frames", "stable time (ps)", "optimiser step"):
        assert title in html
    # Dots of both losses in both parity plots: 2 x (3 energies + 6 force components), and the learning curves'.
    assert html.count('class="point"') >= 18


def dump(chromium: str, page: Path, profile: Path) -> str:
    """Return the page as it stands after its scripts ran, the network cut off."""
    result = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--window-size=1200,3000",
         "--virtual-time-budget=15000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    return result.stdout
