"""The documentation as a person reads it: pages ask no other host for anything, and are searched from the disk, too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from chromium import OWN_MACHINE_ALONE, PATIENCE, dump, installed
from helpers import ROOT

# What goes wrong in a page is written where its dump shows it.
WATCH = """<script>
const note = (what) => document.documentElement.setAttribute('data-wrong', what);
window.addEventListener('error', (event) => note(event.message || event.target.src || event.target.href), true);
document.addEventListener('securitypolicyviolation', (event) => note(event.blockedURI));
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The pages, which note what goes wrong in them."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    for page in folder.rglob("*.html"):
        page.write_text(page.read_text().replace("<head>", f"<head>{WATCH}", 1))
    return folder


class OwnContentAlone(SimpleHTTPRequestHandler):
    """Serves pages that may load nothing but what this server has."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline' data: blob:")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    """Where the pages are served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(OwnContentAlone, directory=str(site)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("page", ["index.html", "reference/config.html", "reference/python.html"])
def test_a_page_asks_no_other_host(address, page, tmp_path):
    html = dump(f"{address}/{page}", tmp_path / "profile")
    assert "</article>" in html
    assert "data-wrong=" not in html.split("<head>")[0]


def test_a_request_to_another_host_is_seen(address, site, tmp_path):
    page = (site / "index.html").read_text()
    asking = "<script>fetch('https://example.org/a.json').catch(() => {});</script></body>"
    (site / "asking.html").write_text(page.replace("</body>", asking))
    html = dump(f"{address}/asking.html", tmp_path / "profile")
    assert 'data-wrong="https://example.org/a.json"' in html.split("<head>")[0]


def test_a_key_is_found_in_pages_that_lie_on_the_disk(site):
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", OWN_MACHINE_ALONE]
        browser = playwright.chromium.launch(executable_path=installed(), args=arguments, timeout=PATIENCE)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto((site / "theory" / "training.html").as_uri())
        page.locator(".md-search__input").press_sequentially("bond_tolerance")
        page.wait_for_selector(".md-search-result__list li")
        assert "Every key" in page.inner_text(".md-search-result__list")
        assert page.locator("html").get_attribute("data-wrong") is None
        browser.close()
