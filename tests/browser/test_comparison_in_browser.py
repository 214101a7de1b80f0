"""Experiments side by side in headless Chromium: on a desk, and on a phone in the dark."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from chromium import PATIENCE, installed
from helpers import plain_experiment

from piwsl.config import Experiment, parse_section
from piwsl.report.against import Compared, FramesTested, write_comparison
from piwsl.report.tables import MEASURES

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")


def compared(name: str, error: float, **keys: object) -> Compared:
    """Return an experiment of four trainings, with an error of its own."""
    experiment = parse_section(Experiment, plain_experiment() | keys | {"experiment": name}, "config.yaml")
    unknown = dict.fromkeys(MEASURES, math.nan)
    rows = [
        run.plain() | unknown | {"energy_mae_meV": error * (1 + run.seed), "force_mae_meV_per_A": 10 * error,
                                 "failed": 0.0, "energy_constant_meV": 1.0, "stable_ps": 1.0, "pair_potential": True,
                                 "observation": f"seed {run.seed}"}
        for run in experiment.runs()
    ]  # fmt: skip
    tests = {
        "ammonia": FramesTested("labels", "geometries", 24, 24, "DF-HF/CBS(cc-pvtz, cc-pvqz) + [CCSD(T) - MP2]/cc-pvdz")
    }
    return Compared(name, experiment, pd.DataFrame(rows), tests, {"train": 0.1, "label": 0.2})


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    assert write_comparison([compared("ammonia", 10.0), compared("ammonia-again", 8.0, sizes=[25, 50])], path) == []
    return path


@pytest.fixture(params=["wide", "phone, dark"])
def page(request, comparison) -> Iterator[sync_api.Page]:
    """The comparison, opened; what it asked for and what went wrong are in `asked` and `wrong`."""
    phone = "phone" in request.param
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=["--no-sandbox"], timeout=PATIENCE)
        size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 900}
        opened = browser.new_page(viewport=size, color_scheme="dark" if phone else "light")
        opened.set_default_timeout(PATIENCE)
        opened.asked, opened.wrong = [], []
        opened.on("request", lambda made: opened.asked.append(made.url))
        opened.on("pageerror", lambda error: opened.wrong.append(str(error)))
        opened.on("console", lambda said: opened.wrong.append(said.text) if said.type in ("error", "warning") else None)
        opened.goto(comparison.as_uri())
        yield opened
        browser.close()


def test_it_is_read_on_a_desk_and_on_a_phone_and_asks_for_nothing(page, comparison):
    assert page.wrong == []
    assert page.asked == [comparison.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.locator(".js-plotly-plot .main-svg").count() >= 4
    found = axe.Axe().run(page).response["violations"]
    serious = [(rule["id"], node["html"][:200]) for rule in found if rule["impact"] in ("serious", "critical")
               for node in rule["nodes"]]  # fmt: skip
    assert serious == []


def test_rows_are_sorted_and_found(page):
    header = page.locator("#test-set-1 th", has_text="Energy MAE (meV), ammonia-again")
    header.locator("button").click()
    cells = page.locator("#test-set-1 tbody tr td:nth-child(6)").all()
    assert [cell.get_attribute("data-value") for cell in cells] == ["12.0"] * 4 + [""] * 2  # two sizes; 100 it lacks
    page.get_by_label("Rows with the words").fill("weak")
    assert page.locator(".filter output").inner_text() == "3 of 6 rows"
