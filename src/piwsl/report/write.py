"""Putting the report together: one HTML file that needs nothing else, and one CSV of all runs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from markupsafe import Markup

from piwsl.config import Experiment
from piwsl.errors import ANY_ERROR, PiwslError, reason
from piwsl.files import write_atomically, write_text
from piwsl.report.context import Context, FilesOfRun, Stage
from piwsl.report.figures import plotly
from piwsl.report.markup import page
from piwsl.report.printed import write_figures, write_tables
from piwsl.report.sections import PLACE_OF_EACH, SECTIONS
from piwsl.report.tables import (
    beside_runs,
    cheap_table,
    constant_table,
    run_table,
    tested_table,
    untrained_table,
)


@dataclass(frozen=True)
class ReportFiles:
    """What the report is made of; a file of each kind for every run, in one order, and the records of all batches."""

    errors: list[Path]
    predictions: list[Path]
    histories: list[Path]
    simulations: list[Path]
    """Those of the config of each run, one run after the other."""
    frequencies: list[Path]
    """Of some runs (`piwsl.records.Frequencies`)."""
    frequencies_of_levels: list[Path]
    """Of the cheap levels of datasets (`piwsl.records.FrequenciesOfLevels`)."""
    records: list[Path]
    atoms: list[Path]
    """Energies of free atoms, a file for every dataset that has them."""
    datasets: list[Path]
    """Dataset files; their folders are named by the datasets."""
    worst: list[Path]
    """Frames with the largest errors, a file a run."""
    tests: list[Path] = field(default_factory=list)
    """Errors of runs on named test sets, beside predictions."""
    test_sets: list[Path] = field(default_factory=list)
    """Dataset files of these, .../<dataset>/tests/<test>.h5."""
    rounds: list[Path] = field(default_factory=list)
    """Records of rounds of acquisitions (`piwsl.records.Round`)."""
    benchmarks: Path | None = None
    """Folder of what jobs took, <kind>/.../<job>.tsv (`piwsl.records.read_benchmark`)."""
    jobs: Collection[str] | None = None
    """Those of them that the config has, <kind>/.../<job>; None: all."""


@dataclass(frozen=True)
class ForPrint:
    """Folders of what goes into a paper."""

    figures: Path
    """<dataset>/<model>/<name>.svg and .pdf."""
    tables: Path
    """CSV and LaTeX."""


def write_report(
    experiment: Experiment,
    files: ReportFiles,
    html_path: Path,
    table_path: Path,
    for_print: ForPrint | None = None,
    unfinished: Sequence[Stage] = (),
    left_out: Sequence[str] = (),
) -> None:
    """Write the report and the table of all runs.

    Args:
        experiment: what was run.
        files: what it gave.
        html_path: HTML to write; figures and scripts are inside.
        table_path: CSV to write, one row a run.
        for_print: folders to write figures and tables for print to, if wanted.
        unfinished: all stages, where these are the files of an experiment that is not finished.
        left_out: results that are there and not reported, for they are of other settings: a line each.

    Raises:
        PiwslError: a file is no record, or a section of another distribution fails.
    """
    first = next(iter(experiment.simulations), None)
    table = run_table(files.errors, [path for path in files.simulations if path.parent.name == first])
    tests = tested_table(files.tests)
    whole = beside_runs(table, tests)
    write_atomically(table_path, lambda path: whole.to_csv(path, index=False))
    simulations = _by_run(experiment, files)
    of_runs = zip(files.errors, files.predictions, files.histories, simulations, files.worst, strict=True)
    context = Context(
        experiment=experiment,
        runs=table,
        files={number: FilesOfRun(*paths) for number, paths in enumerate(of_runs)},
        frequencies=files.frequencies,
        frequencies_of_levels=files.frequencies_of_levels,
        records=files.records,
        free_atoms=files.atoms,
        datasets=files.datasets,
        benchmarks=files.benchmarks,
        jobs=None if files.jobs is None else frozenset(files.jobs),
        cheap=cheap_table(experiment, files.datasets),
        constants=constant_table(files.datasets),
        tests=tests,
        untrained=untrained_table(experiment, files.datasets, files.test_sets),
        test_sets=files.test_sets,
        rounds=files.rounds,
        unfinished=unfinished,
        left_out=left_out,
        table=table_path.name,
    )
    html = page(
        title=experiment.experiment,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        plotly=plotly(),
        runs=len(table),
        parts=anchored(parts_of_page(context)),
    )
    if for_print:
        write_figures(context, for_print.figures)
        write_tables(context, for_print.tables)
    write_text(html_path, html)


def _by_run(experiment: Experiment, files: ReportFiles) -> list[dict[str, Path]]:
    """Return the simulations of each run by name, those below the folder of its errors; of some runs none."""
    below: dict[Path, dict[str, Path]] = defaultdict(dict)
    for path in files.simulations:
        below[path.parents[2]][path.parent.name] = path
    names = experiment.simulations
    return [{name: of[name] for name in names if name in of} for of in (below[path.parent] for path in files.errors)]


@dataclass(frozen=True)
class Part:
    """A heading, if any, and what stands below it."""

    level: int
    """2 below the title of the page, 3 below a heading."""
    title: str
    html: Markup
    anchor: str = ""
    """What links to the heading name; one of the page alone has it."""


def parts_of_page(context: Context) -> list[Part]:
    """Return all sections in their order, those of each dataset and model below headings of their own."""
    order = sorted(SECTIONS, key=lambda name: (SECTIONS[name].place, SECTIONS.source(name) is not None, name))
    whole = [name for name in order if not SECTIONS[name].each]
    before = [name for name in whole if SECTIONS[name].place < PLACE_OF_EACH]
    parts = _parts(before, context, 2)
    for title, runs in context.of_each():
        below = _parts((name for name in order if SECTIONS[name].each), runs, 3)
        parts += [Part(2, title, Markup()), *below] if below else []
    return parts + _parts(whole[len(before) :], context, 2)


def anchored(parts: list[Part]) -> list[Part]:
    """Return parts with anchors, which are the same in every report that has the heading where names allow."""
    found: dict[str, Part] = {}
    above = ""
    for number, part in enumerate(parts):
        above = part.title if part.level == 2 else above
        words = part.title if part.level == 2 else f"{above} {part.title}"
        anchor = re.sub(r"[^\w.]+", "-", words).strip("-").lower()
        anchor = f"{anchor}-{number}".strip("-") if anchor in found or not anchor else anchor
        found[anchor] = replace(part, anchor=anchor)
    return list(found.values())


def _parts(names: Iterable[str], context: Context, level: int) -> list[Part]:
    made = [(name, _html(name, context)) for name in names]
    return [Part(level, SECTIONS[name].title, Markup(html)) for name, html in made if html.strip()]


def _html(name: str, context: Context) -> str:
    source = SECTIONS.source(name)
    context = replace(context, runs=context.runs.copy())  # what one does to the table is not seen by the next
    if source is None:
        return SECTIONS[name]().html(context)
    try:
        html = SECTIONS[name]().html(context)
        if not isinstance(html, str):
            raise TypeError(f"html() returned {type(html).__name__}, no str")
    except ANY_ERROR as error:  # whatever their code does
        raise PiwslError(
            f"{source}: section '{name}' of the report failed ({reason(error)}); mend or uninstall it"
        ) from error
    return html
