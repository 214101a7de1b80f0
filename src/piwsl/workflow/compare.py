"""Reading what experiments left in their folders, to lay them side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from math import nan
from pathlib import Path

import pandas as pd

from piwsl.config import ComputedDataset, Experiment, read_yaml
from piwsl.config.level_checks import in_words
from piwsl.data.dataset import TEST, Dataset, content_hash
from piwsl.errors import PiwslError
from piwsl.records import Benchmark, read_benchmark
from piwsl.report.against import Compared, FramesTested, write_comparison
from piwsl.report.tables import MEASURES
from piwsl.structures.labels import REFERENCE
from piwsl.workflow.layout import DatasetFiles, Layout
from piwsl.workflow.planned import parse_experiment

UNSAID = "level not said"


def compare_folders(folders: Sequence[Path], path: Path) -> list[str]:
    """Write a page that compares experiments.

    Args:
        folders: of results, two or more, with their tables of runs; the first is what others are compared with.
        path: HTML to write.

    Returns:
        What cannot be compared, a line each.

    Raises:
        PiwslError: a folder that is named twice, or holds no table of runs.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise PiwslError("compare: name two or more folders of results, each once, such as results/a results/b")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return write_comparison([read_experiment(*pair) for pair in zip(folders, names, strict=True)], path)


def read_experiment(folder: Path, name: str) -> Compared:
    """Read what an experiment left: the table of its runs, of what is there of one that is not finished.

    Args:
        folder: of its results.
        name: what it is to be called.

    Raises:
        PiwslError: there is no table of runs; or a test set is damaged.
    """
    runs = _table(folder)
    experiment = _experiment(folder)
    tests = {str(dataset): _test_set(folder, str(dataset), experiment) for dataset in runs["dataset"].unique()}
    return Compared(name, experiment, runs, tests, _hours(folder))


def _table(folder: Path) -> pd.DataFrame:
    layout = Layout(folder.name)
    for path in (folder / Path(layout.table).name, folder / Path(layout.partial_table).name):
        if path.exists():
            table = pd.read_csv(path)
            # One of an earlier version lacks what is measured since, and counts seeds one by one.
            table = table.reindex(columns=[*table.columns, *(name for name in MEASURES if name not in table)])
            return table if "observation" in table else table.assign(observation="seed " + table["seed"].astype(str))
    raise PiwslError(
        f"{folder}: no results.csv; finish the experiment, or say `snakemake partial_report` for what is there of it"
    )


def _experiment(folder: Path) -> Experiment | None:
    """Return the experiment by the config file that the folder names, if that is still there and still of this one."""
    note = folder / Path(Layout(folder.name).owner).name
    if not note.exists():
        return None
    # Noted from the folder that Snakemake was started in, in which results/<experiment> lies.
    path = folder.resolve().parent.parent / note.read_text(encoding="utf-8").strip()
    try:
        found = parse_experiment(read_yaml(path), str(path))
    except (PiwslError, OSError):
        return None
    return found if found.experiment == folder.resolve().name else None


def _test_set(folder: Path, dataset: str, experiment: Experiment | None) -> FramesTested:
    files = DatasetFiles(str(folder / "datasets" / dataset))
    with Dataset(Path(files.part(TEST))) as opened:
        test = opened.indices(TEST)
        # What cheap levels say of them, and where they come from, is another matter.
        labelled = content_hash(
            replace(each, labels={REFERENCE: each.at_level(REFERENCE)}, temperature=nan) for each in opened.each(test)
        )
        energies = int(opened.labelled(REFERENCE, "energy")[test].sum())
        plain = content_hash(replace(each, labels={}, temperature=nan) for each in opened.each(test))
    return FramesTested(labelled, plain, len(test), energies, _level(experiment, dataset))


def _level(experiment: Experiment | None, dataset: str) -> str:
    section = None if experiment is None else experiment.datasets.get(dataset)
    if section is None:
        return UNSAID
    if isinstance(section, ComputedDataset) and experiment is not None:
        return in_words(experiment.levels[section.level])
    return section.level or UNSAID


def _hours(folder: Path) -> dict[str, float]:
    """Return the hours that jobs took, by the folders of their benchmarks."""
    benchmarks = folder / "benchmarks"
    found: dict[str, float] = defaultdict(float)
    for path in sorted(benchmarks.rglob("*.tsv")):
        took = read_benchmark(path) or Benchmark()
        found[path.relative_to(benchmarks).parts[0].removesuffix(".tsv")] += took.wall_s / 3600
    return dict(found)
