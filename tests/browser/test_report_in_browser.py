"""The report as people read it in headless Chromium: on a desk, on a phone, in the dark, on paper and by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from chromium import PATIENCE, installed
from helpers import morse_frames, plain_experiment
from run_files import files_of

from piwsl.config import Experiment, parse_section
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.evaluation.breakdown import worst_frames
from piwsl.evaluation.predictions import Predictions
from piwsl.report.choice import STEPS, packed
from piwsl.report.molecules import drawing, svg
from piwsl.report.write import write_report
from piwsl.structures.frames import write_frames
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import from_atoms

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
A4_WIDTH = 688  # CSS pixels between margins of 14 mm
SPREAD = {
    f"{quantity}_{measure}": value
    for quantity in ("energy", "force")
    for measure, value in (
        ("error_over_spread", 1.4), ("miscalibration_area", 0.1), ("spread_scale", 1.5),
        ("scaled_miscalibration_area", 0.05),
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A report with all figures and tables that runs alone fill."""
    folder = tmp_path_factory.mktemp("report")
    experiment = parse_section(Experiment, plain_experiment(), "config.yaml")
    energy = {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]}
    files = files_of(folder / "runs", experiment.runs(), energy, spread=SPREAD, simulation="bath")
    for path in files.worst:
        write_frames(path, worst())
    files.datasets.append(folder / "ammonia" / "dataset.h5")
    frames = {TRAINING: morse_frames("NH3", 3, forces=True), TEST: morse_frames("NH3", 2, forces=True)}
    write_dataset(files.datasets[0], frames)
    write_report(experiment, files, folder / "report.html", folder / "results.csv")
    return folder / "report.html"


def worst() -> list[Atoms]:
    """Return a molecule, a crystal and an atom; the forces on their first atoms are wrong."""
    structures = [from_atoms(atoms) for atoms in (molecule("CH3CH2OH"), bulk("NaCl", "rocksalt", a=5.6), Atoms("H"))]
    nothing = [np.zeros((len(structure.numbers), 3)) for structure in structures]
    labelled = [
        structure.labelled(REFERENCE, Labels(0.0, forces))
        for structure, forces in zip(structures, nothing, strict=True)
    ]
    wrong = [forces + 0.1 * (np.arange(len(forces)) == 0)[:, None] for forces in nothing]
    return worst_frames(labelled, Predictions(np.array([0.9, 0.1, 0.01]), wrong, np.full((3, 3, 3), np.nan)))


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=installed(), args=["--no-sandbox"], timeout=PATIENCE)
        yield opened
        opened.close()


@contextmanager
def opened(browser: sync_api.Browser, address: str, **how: Any) -> Iterator[sync_api.Page]:
    """Open a page that is refused whatever it asks for, and may complain of nothing; both fail what opened it."""
    context = browser.new_context(**how)
    context.set_default_timeout(PATIENCE)
    asked: list[str] = []
    wrong: list[str] = []

    def refuse(route: sync_api.Route) -> None:
        asked.append(route.request.url)
        route.abort()

    context.route(lambda url: url != address, refuse)
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.goto(address)
    yield page
    context.close()
    assert (asked, wrong) == ([], [])


@pytest.fixture(params=["wide", "phone", "wide, dark", "phone, dark"])
def page(request, browser, report) -> Iterator[sync_api.Page]:
    size, scheme = PHONE if "phone" in request.param else WIDE, "dark" if "dark" in request.param else "light"
    with opened(browser, report.as_uri(), viewport=size, color_scheme=scheme) as found:
        yield found


@pytest.fixture
def desk(browser, report) -> Iterator[sync_api.Page]:
    with opened(browser, report.as_uri(), viewport=WIDE) as found:
        yield found


ASKING = """<script>
fetch('https://example.org/a.json').catch(() => { document.body.dataset.refused = ''; });
</script></body>"""


@pytest.mark.parametrize(("policy", "said"), [(True, "Content Security Policy"), (False, "https://example.org/a.json")])
def test_a_request_fails_whatever_opened_the_page(browser, report, tmp_path, policy, said):
    text = report.read_text().replace("</body>", ASKING)
    text = text if policy else text.replace("Content-Security-Policy", "nothing")
    (tmp_path / "asking.html").write_text(text)
    with (
        pytest.raises(AssertionError, match=said),
        opened(browser, (tmp_path / "asking.html").as_uri()) as page,
    ):
        page.wait_for_selector("[data-refused]", state="attached")


def test_every_figure_is_drawn(page):
    assert page.locator(".js-plotly-plot .main-svg").count() >= 14  # two or three a figure
    # Dots of both losses in both parity plots, 2 x (3 energies + 6 force components), and those of learning curves.
    assert page.locator("path.point").count() >= 18


def test_nothing_serious_hinders_those_who_see_or_move_less(page):
    found = axe.Axe().run(page).response["violations"]
    serious = [(rule["id"], node["html"][:200]) for rule in found if rule["impact"] in ("serious", "critical")
               for node in rule["nodes"]]  # fmt: skip
    assert serious == []


def test_nothing_is_wider_than_the_page(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    for box in boxes(page, ".js-plotly-plot .svg-container"):
        assert box["x"] + box["width"] <= page.viewport_size["width"]


def test_errors_of_energies_and_forces_are_in_view_without_scrolling(page):
    headers = [header for header in page.locator("#errors th").all() if header.is_visible()]
    ends = {header.inner_text(): box["x"] + box["width"] for header in headers if (box := header.bounding_box())}
    width = page.viewport_size["width"]
    assert [title for title, end in ends.items() if "MAE" in title and end > width] == []
    assert sum("MAE" in title for title in ends) == 2
    assert page.get_by_text("has more columns").is_visible() == (width < 480)


def test_figures_do_not_lie_over_each_other(page):
    found = boxes(page, ".svg-container")
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            beside = one["x"] + one["width"] <= other["x"] + 1 or other["x"] + other["width"] <= one["x"] + 1
            assert beside or one["y"] + one["height"] <= other["y"] + 1


def test_text_of_figures_stands_out(page):
    ink, ground = page.evaluate(
        """() => [getComputedStyle(document.querySelector('.xtick text')).fill,
                  getComputedStyle(document.body).backgroundColor]"""
    )
    assert contrast(rgb(ink), rgb(ground)) >= 7.0


def test_a_sorted_column_is_in_order_and_says_so(desk):
    header = desk.locator("#errors th", has_text="Energy MAE (meV)")
    for way, ordered in (("ascending", sorted), ("descending", lambda values: sorted(values, reverse=True))):
        header.locator("button").focus()
        desk.keyboard.press("Enter")
        assert header.get_attribute("aria-sort") == way
        cells = desk.locator("#errors tbody tr td:nth-child(6)").all()
        values = [float(value) for cell in cells if (value := cell.get_attribute("data-value"))]
        assert len(values) == 5
        assert values == ordered(values)
    desk.locator("#errors th button", has_text="Loss").click()
    assert header.get_attribute("aria-sort") is None


def test_rows_are_found_by_their_words(desk):
    desk.get_by_label("Rows with the words").fill("painn weak")
    shown = [row for row in desk.locator("#errors tbody tr").all() if row.is_visible()]
    assert len(shown) == 2
    assert all("weak" in row.inner_text() for row in shown)
    assert desk.locator(".filter output").inner_text() == "2 of 5 rows"


def test_a_run_is_chosen_by_keyboard_and_what_is_drawn_and_said_of_it_changes(desk):
    parity = desk.locator("[data-name=parity-energy]")
    drawn = """box => box.querySelector('.js-plotly-plot').data.slice(0, 2)
                  .map(({visible, x, y}) => [visible, [...x], [...y]])"""
    said = parity.locator("[role=img]")
    (_, x, y), _ = parity.evaluate(drawn)
    assert y == pytest.approx([value + 0.010 for value in x], abs=1e-3)
    run, loss = desk.locator(".runs select").all()
    run.focus()
    desk.keyboard.press("ArrowUp")  # of seeds of 100 frames the first is shown; before it are those of 25
    loss.focus()
    desk.keyboard.press("End")
    (supervised, _, _), (weak, x, y) = parity.evaluate(drawn)
    assert (supervised, weak) == (False, True)
    assert y == pytest.approx([value + 0.012 for value in x], abs=1e-3)
    assert said.get_attribute("aria-label").endswith("25 frames, seed 1. weak: mean absolute difference 12 meV.")
    assert desk.locator(".runs output").inner_text() == "25 frames, seed 1: weak"


def test_packed_numbers_are_what_was_packed(desk):
    numbers = np.random.default_rng(0).normal(size=1000)
    found = np.array(desk.evaluate("array => unpacked(array)", packed(numbers)))
    np.testing.assert_allclose(found, numbers, rtol=0, atol=0.501 * np.ptp(numbers) / STEPS)


def test_a_frame_is_drawn_by_the_script_as_it_is_without(desk):
    choice = desk.locator(".frames select").nth(1)
    assert choice.locator("option").count() == 3
    for number, atoms in enumerate(worst()):
        choice.select_option(index=number)
        markup = desk.locator(".frames svg").evaluate("svg => svg.innerHTML")
        assert markup == svg(drawing(atoms), 0)


def test_a_frame_is_chosen_and_turned_by_keyboard_and_turned_back(desk):
    image, said = desk.locator(".frames svg"), desk.locator(".frames output")
    drawn = "svg => svg.innerHTML"
    first = image.evaluate(drawn)
    desk.locator(".turn").focus()
    for key in ("ArrowLeft", "ArrowDown"):
        before = image.evaluate(drawn)
        desk.keyboard.press(key)
        assert image.evaluate(drawn) != before
    assert desk.locator(".frames .ball").count() == 9
    desk.keyboard.press("Home")
    assert image.evaluate(drawn) == first
    run, frame = desk.locator(".frames select").all()
    run.focus()
    desk.keyboard.press("End")
    frame.focus()
    desk.keyboard.press("ArrowDown")
    assert said.inner_text().startswith("Frame 1 of the test frames, ClNa; the box is its cell. Energy off by +100 meV")
    assert image.get_attribute("aria-label").startswith(
        "weak, 100 frames, seed 1, frame 1, worst in energy and forces: balls"
    )
    assert image.locator(".edge").count() == 12


def test_a_frame_follows_the_mouse_and_goes_round_without_a_change(desk):
    seen = "svg => [...svg.querySelectorAll('.ball')].map(ball => [Number(ball.getAttribute('cx'))])"
    turn = desk.locator(".turn")
    turn.scroll_into_view_if_needed()
    before = turn.locator("svg").evaluate(seen)
    box = turn.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    desk.mouse.move(x, y)
    desk.mouse.down()
    desk.mouse.move(x + 90, y)
    half = turn.locator("svg").evaluate(seen)
    assert half != before
    desk.mouse.up()
    desk.mouse.move(x, y)
    assert turn.locator("svg").evaluate(seen) == half
    turn.focus()
    for _ in range(36):
        desk.keyboard.press("ArrowRight")
    assert sorted(turn.locator("svg").evaluate(seen)) == sorted(half)


def test_a_frame_is_turned_by_a_finger(browser, report):
    seen = "svg => svg.querySelector('.ball').getAttribute('cx')"
    with opened(browser, report.as_uri(), viewport=PHONE, has_touch=True) as page:
        turn = page.locator(".turn")
        turn.scroll_into_view_if_needed()
        box, before = turn.bounding_box(), turn.locator("svg").evaluate(seen)
        hand = page.context.new_cdp_session(page)
        for kind, across in (("touchStart", 0), ("touchMove", 30), ("touchMove", 60), ("touchEnd", None)):
            points = [] if across is None else [{"x": box["x"] + 100 + across, "y": box["y"] + 100}]
            hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        assert turn.locator("svg").evaluate(seen) != before


def test_without_scripts_the_first_choice_is_there(browser, report):
    with opened(browser, report.as_uri(), viewport=WIDE, java_script_enabled=False) as page:
        pictures = page.locator(".runs img").all()
        assert [picture.is_visible() for picture in pictures] == 4 * [True]
        assert page.locator(".frames .ball").count() == 9
        assert not any(choice.is_visible() for choice in page.locator(".choice").all())


def test_the_keyboard_is_not_kept_by_toolbars(desk):
    stops = desk.evaluate(
        "[...document.querySelectorAll('.figure a[href], .figure button, .figure [tabindex]')].length"
    )
    assert stops == 0
    desk.keyboard.press("Tab")
    desk.keyboard.press("Enter")
    assert desk.evaluate("document.activeElement.id") == "content"


def test_every_link_of_the_contents_leads_to_a_heading(desk):
    targets = [link.get_attribute("href") for link in desk.locator("nav a").all()]
    assert len(targets) == desk.locator("h2").count() == len(set(targets))
    assert all(desk.evaluate("id => !!document.getElementById(id.slice(1))?.matches('h2')", name) for name in targets)


def test_every_figure_has_a_sentence_of_its_own(desk):
    said = [figure.get_attribute("aria-label") for figure in desk.locator(".figure [role=img]").all()]
    assert len(said) == len(set(said)) >= 7
    assert any("supervised 15 at" in words for words in said)


def test_on_paper_no_column_and_no_figure_is_cut_off(desk):
    desk.set_viewport_size({"width": A4_WIDTH, "height": 1000})
    desk.emulate_media(media="print")
    desk.wait_for_function("document.querySelector('.svg-container').getBoundingClientRect().width < 344")
    ends = desk.evaluate(
        """[...document.querySelectorAll('main *')].filter(element => !element.closest('.js-plotly-plot, .skip'))
           .concat([...document.querySelectorAll('.svg-container')])
           .map(element => element.getBoundingClientRect().right)"""
    )
    assert max(ends) <= A4_WIDTH + 1


def test_the_pdf_has_every_cell_every_axis_and_every_letter_of_a_drawing(desk, tmp_path):
    pypdf = pytest.importorskip("pypdf")
    shown = desk.evaluate(
        """[...document.querySelectorAll('th, td, .xtitle, .ytitle, .frames svg text, figcaption')]
           .filter(element => element.checkVisibility()).map(element => element.textContent)"""
    )
    assert len(shown) > 100
    desk.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    written = squeezed("".join(sheet.extract_text() for sheet in pypdf.PdfReader(tmp_path / "report.pdf").pages))
    assert [words for words in shown if squeezed(words) not in written] == []


def squeezed(text: str) -> str:
    """Return letters without spaces and ligatures, which lines and fonts bring."""
    return "".join(normalize("NFKC", text).split())


def boxes(page: sync_api.Page, selector: str) -> list[dict[str, float]]:
    return [box for element in page.locator(selector).all() if (box := element.bounding_box())]


def rgb(said: str) -> list[float]:
    return [int(part) / 255 for part in said.removeprefix("rgb(").removesuffix(")").split(", ")]


def contrast(one: list[float], other: list[float]) -> float:
    """Return the contrast ratio of WCAG 2.2."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: list[float]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
