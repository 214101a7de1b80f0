"""Sections of the report: ours in their order, and one that another distribution brings, in the real report."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, distribution, morse_frames
from run_files import files_of

from piwsl.config import Experiment, parse_section
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.files import write_json
from piwsl.report.markup import render, rounded
from piwsl.report.sections import SECTIONS, ReportSection
from piwsl.structures.frames import write_frames
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.layout import Layout

TOY = (ROOT / "tests" / "toys" / "toy_section.py").read_text()
CONFIG = {
    "experiment": "given",
    "datasets": {"water": {"file": "frames.xyz", "test_frames": 2}},
    "models": {"painn": {"architecture": "painn"}},
    "losses": {"supervised": {}, "weak": {"pitc": {"weight": 1.0}}},
    "sizes": [4, 6],
    "seeds": [0, 1],
    "simulations": {"nvt": {"time": 2.0}},
}
REPORT = "results/given/report.html"
WRITE_REPORT = """
import sys
from pathlib import Path
from piwsl.config import Experiment, parse_section, read_yaml
from piwsl.logs import logged_to
from piwsl.report.write import ReportFiles, write_report
from piwsl.workflow.layout import Layout
experiment = parse_section(Experiment, read_yaml(Path("config.yaml")), "config.yaml")
runs = [Layout("given").run(run) for run in experiment.runs()]
of_runs = [[Path(getattr(run, kind)) for run in runs] for kind in ("errors", "predictions", "history")]
worst = [Path(run.worst) for run in runs]
simulations = [Path(run.simulation(name).summary) for run in runs for name in experiment.simulations]
with logged_to("log"):
    files = ReportFiles(*of_runs, simulations, [], [], [], [], [], worst)
    write_report(experiment, files, Path("report.html"), Path("results.csv"))
"""


@pytest.fixture
def finished(tmp_path) -> Path:
    """A folder of an experiment whose runs are done, and whose report is not written yet."""
    experiment = parse_section(Experiment, CONFIG, "config.yaml")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    frames = morse_frames("H2O", 8, forces=True)
    write_frames(tmp_path / "frames.xyz", frames)
    layout = Layout(experiment.experiment)
    write_dataset(tmp_path / layout.dataset("water").whole, {TRAINING: frames[:6], TEST: frames[6:]})
    files_of(tmp_path / "runs", experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    for number, run in enumerate(experiment.runs()):
        shutil.copytree(tmp_path / "runs" / str(number), tmp_path / layout.run(run).folder)
        write_json(tmp_path / layout.run(run).frequencies, run.plain() | {"points": []})
    return tmp_path


def installed(folder: Path, name: str, source: str, kind: str) -> None:
    distribution(folder, name, source, {"piwsl.report.sections": kind})


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where a folder's distributions are installed."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def report_rule(folder: Path, *arguments: str) -> str:
    """Let Snakemake write the report from what is there, where that is needed; return what it says."""
    command = ("-m", "snakemake", "--cores", "1", "--allowed-rules", "report", *arguments)
    done = run(folder, *command, "--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.yaml", "--", REPORT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def headings(page: str) -> list[str]:
    return re.findall(r"<h[23] [^>]*>(.*?)</h[23]>", page)


def test_ours_stand_in_the_order_of_the_report(finished):
    done = run(finished, "-c", WRITE_REPORT)
    assert done.returncode == 0, done.stderr
    assert headings((finished / "report.html").read_text()) == [
        "In short", "The best potential", "Paired comparisons", "Errors on the test frames", "water, painn",
        "Learning curves", "Parity", "Worst frames", "Stability of molecular dynamics", "Training", "Using a potential",
        "Where the numbers come from",
    ]  # fmt: skip
    assert "Not of piwsl" not in (finished / "report.html").read_text()
    assert all(issubclass(SECTIONS[name], ReportSection) for name in SECTIONS)


def test_one_of_another_distribution_stands_in_the_report_and_redoes_it_when_it_changes(finished):
    installed(finished, "toy_section", TOY, "speed = toy_section:Speed")
    report_rule(finished)
    page = (finished / REPORT).read_text()
    after = headings(page).index("Stability of molecular dynamics")
    assert headings(page)[after + 1 :] == [
        "Speed of the dynamics", "Training", "Using a potential", "Where the numbers come from",
    ]  # fmt: skip
    assert "Medians of 8 runs." in page
    assert page.count('class="plotly-graph-div"') == 12
    assert "Not of piwsl: report.sections.speed of toy_section 1.0." in page
    assert "Nothing to be done" in report_rule(finished, "--dry-run")
    (finished / "toy_section.py").write_text(TOY.replace("median()", "mean()"))
    assert "Params have changed" in report_rule(finished, "--dry-run")
    shutil.rmtree(finished / "toy_section-1.0.dist-info")
    assert "Params have changed" in report_rule(finished, "--dry-run")


def test_the_page_on_extending_says_what_the_table_of_runs_has(finished):
    assert run(finished, "-c", WRITE_REPORT).returncode == 0
    header = (finished / "results.csv").read_text().partition("\n")[0]
    page = (ROOT / "docs/how-to/extend.md").read_text()
    said = re.findall("`([A-Za-z0-9_]+)`", re.search(r"Columns of `runs`.*?\n\n(.*?)\n\n", page, re.DOTALL)[1])
    assert set(header.split(",")) <= set(said)


def test_a_report_of_ours_alone_names_no_other():
    assert Jobs(parse_section(Experiment, CONFIG, "config.yaml"), ROOT / "workflow").sections_of_others() == {}


SECTION = """
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection
class Toy(ReportSection):
    title, place = "Toy", {place}
    def html(self, context):
        {body}
"""


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("raise ZeroDivisionError('of\\nmine ' + 200 * 'x ')", "failed (ZeroDivisionError: of mine x x"),
        ("return render('{{ missing }}')", "failed (UndefinedError: 'missing' is undefined)"),
        ("return None", "failed (TypeError: html() returned NoneType, no str)"),
    ],
    ids=["raises", "names what it does not give", "no text"],
)
def test_one_that_fails_is_a_line_that_names_it_and_its_distribution(finished, body, problem):
    installed(finished, "toy", SECTION.format(place=5, body=body), "mine = toy:Toy")
    done = run(finished, "-c", WRITE_REPORT)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: toy 1.0: section 'mine' of the report ")
    assert problem in line
    assert len(line) <= 200
    assert not (finished / "report.html").exists()


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import nowhere", "cannot be loaded (ModuleNotFoundError: No module named 'nowhere')"),
        ("class Toy: pass", "is no ReportSection of piwsl's"),
        (SECTION.format(place="'first'", body="return ''"), "cannot be loaded (TypeError: Toy.place must be a number)"),
        (
            SECTION.format(place="float('nan')", body="return ''"),
            "cannot be loaded (TypeError: Toy.place must be a number)",
        ),
        ("raise SystemExit(3)", "cannot be loaded (SystemExit: 3)"),
    ],
    ids=["not imported", "no section", "no place", "nowhere", "exit"],
)
def test_one_that_cannot_be_loaded_is_said_before_anything_is_computed(finished, source, problem):
    installed(finished, "toy", source, "mine = toy:Toy")
    done = run(finished, "-m", "piwsl", "check", "config.yaml")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "toy 1.0" in line
    assert problem in line


def test_those_of_the_whole_experiment_stand_where_their_places_say_and_those_that_say_nothing_nowhere(finished):
    said = [(900, "last", "<hr>"), (40, "after figures", "<hr>"), (39.5, "before figures", "<hr>"), (20, "20", "<hr>")]
    said += [(5, "<b>text</b>", "<hr>"), (5, "nothing", ""), (5, "blank", "\n")]
    source, kinds = "from piwsl.report.sections import ReportSection\n", []
    for number, (place, title, html) in enumerate(said):
        source += f"class Toy{number}(ReportSection):\n    place, title = {place}, {title!r}\n"
        source += f"    def html(self, context): return {html!r}\n"
        kinds.append(f"kind{number} = toy:Toy{number}")
    installed(finished, "toy", source, "\n".join(kinds))
    assert run(finished, "-c", WRITE_REPORT).returncode == 0
    assert headings((finished / "report.html").read_text()) == [
        "&lt;b&gt;text&lt;/b&gt;", "In short", "The best potential", "Paired comparisons", "20",
        "Errors on the test frames", "before figures", "water, painn", "Learning curves", "Parity", "Worst frames",
        "Stability of molecular dynamics", "Training", "after figures", "Using a potential",
        "Where the numbers come from", "last",
    ]  # fmt: skip


def test_what_one_does_to_the_table_is_not_seen_by_others(finished):
    spoil = "context.runs['energy_mae_meV'] = 4321.0; return '<hr>'"
    installed(finished, "toy", SECTION.format(place=5, body=spoil), "mine = toy:Toy")
    assert run(finished, "-c", WRITE_REPORT).returncode == 0
    assert "4320 ± 0" not in (finished / "report.html").read_text()


def test_text_in_a_template_is_escaped_and_markup_is_not():
    said = render("<p>{{ text }}</p>", text="<script>alert(1)</script>")
    assert said == "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"
    assert render("<div>{{ inner }}</div>", inner=said) == f"<div>{said}</div>"


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [(6.51e-5, 2, "0.000065"), (1234567.0, 3, "1230000"), (2.0899, 3, "2.09"), (20.0, 3, "20"), (-0.05, 2, "-0.05")],
)
def test_numbers_are_rounded_without_exponents(value, digits, written):
    assert rounded(value, digits) == written
