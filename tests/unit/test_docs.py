"""The documentation is complete, and can be read without the network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest
from helpers import ROOT

from piwsl.config import ARCHITECTURES, LOSS_TERMS, Experiment, Section, stages

# What a browser fetches by itself: elements, and which of their attributes says from where.
FETCHED = {
    "audio": "src", "embed": "src", "iframe": "src", "image": "href", "img": "src", "input": "src", "link": "href",
    "object": "data", "script": "src", "source": "src", "track": "src", "video": "src",
}  # fmt: skip
OTHER_HOST = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
LINKS_THAT_FETCH_NOTHING = {"canonical", "next", "prev"}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The pages, built as `make docs` builds them."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


class Fetched(HTMLParser):
    """Collects what a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and given.get("rel") in LINKS_THAT_FETCH_NOTHING:
            return
        if FETCHED.get(tag) in given:
            self.found.append(given[FETCHED[tag]])
        self.found += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
        self.found += addresses(given.get("style", ""))


def addresses(css: str) -> list[str]:
    """Return what a style sheet fetches."""
    return re.findall(r"""(?:url\(\s*["']?|@import\s+["'])([^"')]+)""", css)


def fetched_by(page: str) -> list[str]:
    parser = Fetched()
    parser.feed(page)
    return parser.found + addresses("".join(re.findall(r"<style[^>]*>(.*?)</style>", page, re.DOTALL)))


def test_pages_load_nothing_from_another_host(site):
    pages = sorted(site.rglob("*.html"))
    fetched = {str(page.relative_to(site)): fetched_by(page.read_text()) for page in pages}
    fetched |= {path.name: addresses(path.read_text()) for path in site.rglob("*.css")}
    assert len(pages) > 15
    assert all(found for page, found in fetched.items() if page.endswith(".html"))
    assert {page: found for page, found in fetched.items() if any(map(OTHER_HOST.match, found))} == {}


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://example.org/a.js"></script>',
        '<link rel="stylesheet" href="//example.org/a.css">',
        '<link rel="preconnect" href="https://example.org">',
        '<img src="a.png" srcset="https://example.org/b.png 2x">',
        "<style>@import 'https://example.org/a.css';</style>",
        '<p style="background: url(https://example.org/a.png)">',
    ],
)
def test_what_would_be_loaded_is_seen(page):
    assert any(map(OTHER_HOST.match, fetched_by(page)))


def sections_of(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections that the value of a key may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections_of(field.annotation)
    for part in get_args(annotation):
        yield from sections_of(part)


def test_every_key_has_a_line_with_its_meaning(site):
    page = (site / "reference" / "config.html").read_text()
    lines = re.findall(r"<tr>\s*<td><code>(\w+)</code></td>(.*?)</tr>", page, re.DOTALL)
    kinds = [registry[name] for registry in (ARCHITECTURES, LOSS_TERMS) for name in registry]
    keys = {key for root in (Experiment, *kinds) for section in sections_of(root) for key in section.model_fields}
    assert len(keys) > 100
    assert keys - {key for key, _ in lines} == set()
    assert [key for key, line in lines if re.search(r"<td>\s*</td>\s*$", line)] == []


def test_defaults_are_those_of_each_architecture(site):
    page = (site / "reference" / "config.html").read_text()
    (row,) = re.findall(r"<tr>\s*<td><code>learning_rate</code></td>(.*?)</tr>", page, re.DOTALL)
    kinds = [ARCHITECTURES[name] for name in ARCHITECTURES]
    defaults = {kind.__name__: kind.model_fields["training"].default.learning_rate for kind in kinds}
    usual = defaults.pop(next(iter(defaults)))
    assert f"<td><code>{usual}</code>" in row
    others = {name: default for name, default in defaults.items() if default != usual}
    assert others
    assert [name for name, default in others.items() if f"{name} <code>{default}</code>" not in row] == []


def test_every_command_is_described(site):
    from piwsl.cli import app

    page = (site / "reference" / "command-line.html").read_text()
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert [name for name in names if f"<code>piwsl {name}</code>" not in page] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(name):
    links = re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_examples_of_configs_are_in_order(tmp_path):
    from piwsl.config import read_yaml
    from piwsl.workflow.planned import parse_experiment

    whole = [
        block
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
        if block.startswith("experiment:")
    ]
    assert whole
    for block in whole:
        (tmp_path / "config.yaml").write_text(block)
        parse_experiment(read_yaml(tmp_path / "config.yaml"), "config.yaml")


def test_files_and_targets_that_pages_name_exist():
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    text = "\n".join(page.read_text() for page in pages)
    files = set(re.findall(r"`((?:src|tests|workflow|slurm|envs|docs)/[\w./-]+)`", text))
    targets = set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", text, re.MULTILINE))
    rules = re.findall(r"^([a-z0-9 -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(files) > 10
    assert len(targets) > 10
    assert {file for file in files if not (ROOT / file).exists()} == set()
    assert targets - {name for line in rules for name in line.split()} == set()


def test_each_fault_of_the_executor_has_a_test_that_exists():
    page = (ROOT / "executor" / "README.md").read_text()
    _, _, *rows = [line for line in page.partition("## Faults")[2].splitlines() if line.startswith("|")]
    sources = [
        path.read_text() for folder in ("executor/tests", "tests/cluster") for path in (ROOT / folder).glob("*.py")
    ]
    defined = {name for source in sources for name in re.findall(r"^def (test_\w+)\(", source, re.MULTILINE)}
    named = [set(re.findall(r"`(test_\w+)`", row.split("|")[3])) for row in rows]
    assert len(rows) > 35
    assert all(named)
    assert set().union(*named) - defined == set()


def test_exponents_of_the_theory_are_those_of_the_code():
    page = (ROOT / "docs" / "theory" / "basis-set-limit.md").read_text()
    for label, exponents in {
        "α of √X, cc-pVXZ": [stages.SQUARE_ROOT_EXPONENTS["cc", cardinal] for cardinal in (2, 3)],
        "α of √X, aug-cc-pVXZ": [stages.SQUARE_ROOT_EXPONENTS["aug-cc", cardinal] for cardinal in (2, 3)],
        "α of √X, def2": [stages.SQUARE_ROOT_EXPONENTS["def2", cardinal] for cardinal in (2, 3)],
        "β, def2": [stages.DEF2_CORRELATION_EXPONENTS[cardinal] for cardinal in (2, 3)],
    }.items():
        assert f"| {label} | {exponents[0]:.2f} | {exponents[1]:.2f} |" in page
    assert f"α = {stages.HALKIER_EXPONENT}" in page
    assert f"β = {stages.HELGAKER_EXPONENT:g}" in page
