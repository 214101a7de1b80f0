"""The report of an experiment of many runs: its size, how long it takes to write, and to open in headless Chromium."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from chromium import installed
from playwright.sync_api import sync_playwright
from run_files import files_of, grid_of, random_test

from piwsl.config import Experiment, parse_section
from piwsl.report.write import ForPrint, write_report

# 200 runs are of 2 models, 5 losses and 4 sizes.
MODELS, LOSSES, SIZES = 2, 5, 4
# A figure is there when it has been drawn, not when its place is.
DRAWN = "[...document.querySelectorAll('.js-plotly-plot')].every(figure => figure.querySelector('.main-svg'))"


def main() -> None:
    """Write what runs leave behind, their report as the workflow does, and open it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help=f"to the next multiple of {MODELS * LOSSES * SIZES}")
    parser.add_argument("--frames", type=int, default=1000, help="of the test set")
    parser.add_argument("--atoms", type=int, default=9, help="of a frame")
    given = parser.parse_args()
    seeds = -(-given.runs // (MODELS * LOSSES * SIZES))
    experiment = parse_section(Experiment, grid_of(MODELS, LOSSES, SIZES, seeds), "config.yaml")
    errors = {loss: [5.0 + number + 2 * seed for seed in range(seeds)] for number, loss in enumerate(experiment.losses)}
    with tempfile.TemporaryDirectory() as name:
        folder, page = Path(name), Path(name) / "report.html"
        files = files_of(folder / "runs", experiment.runs(), errors, test=random_test(given.frames, given.atoms))
        started, busy = time.perf_counter(), time.process_time()
        for_print = ForPrint(folder / "figures", folder / "tables")
        write_report(experiment, files, page, folder / "results.csv", for_print)
        written, busy = time.perf_counter() - started, time.process_time() - busy
        print(f"{len(experiment.runs())} runs, {given.frames} test frames of {given.atoms} atoms")
        print(
            f"{page.stat().st_size / 1e6:.2f} MB, written with figures for print in {written:.1f} s, {busy:.1f} CPU s"
        )
        print(f"all figures drawn, and another run chosen, in {seconds_to_open(page):.1f} s")


def seconds_to_open(path: Path) -> float:
    """Return the seconds from asking for a page to all its figures drawn and a chosen run drawn in its place."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        started = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_function(DRAWN)
        page.locator(".runs select").first.select_option(index=0)
        seconds = time.perf_counter() - started
        browser.close()
    return seconds


if __name__ == "__main__":
    main()
