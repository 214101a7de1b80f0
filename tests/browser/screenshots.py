"""The pictures in README.md, of the report that `make demo` wrote.

On a desk they go to its first table, on a phone to its best potential.
"""

from __future__ import annotations

from pathlib import Path

from chromium import installed
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "results" / "ammonia" / "report.html"
# Width, and what the picture ends below.
PICTURES = {"report.png": (1180, "#errors"), "report-phone.png": (390, ".verdicts")}
# Pixels.
BELOW = 8


def main() -> None:
    """Write both."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=["--no-sandbox"])
        for name, (width, last) in PICTURES.items():
            picture(browser, width, last, ROOT / "docs" / name)
        browser.close()


def picture(browser: Browser, width: int, last: str, path: Path) -> None:
    """Write a picture of the page from its beginning to below the first element that a selector finds."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(REPORT.as_uri())
    box = page.locator(last).first.bounding_box()
    assert box is not None
    page.screenshot(
        path=path,
        full_page=True,
        clip={"x": 0, "y": 0, "width": width, "height": box["y"] + box["height"] + BELOW},
    )
    page.close()


if __name__ == "__main__":
    main()
