"""What of an experiment each job depends on: a job is redone when that, and nothing else, changes.

Snakemake compares the parameters of a rule as plain values; what a parameter leaves out redoes nothing. Whatever a job
needs and does not depend on (the wording of a level whose recipe stands in another parameter) is named where the rule
wires it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from ase import Atoms

import piwsl
from piwsl import catalogue
from piwsl.config import (
    ARCHITECTURES,
    LOSS_TERMS,
    ComputedDataset,
    Experiment,
    Geometries,
    GivenDataset,
    Level,
    Run,
)
from piwsl.config.acquisition import round_number
from piwsl.config.distributions import of_dataset
from piwsl.config.level_checks import in_words, unquestioned
from piwsl.config.levels import ENGINES
from piwsl.config.training import Resources
from piwsl.data.dataset import PARTS, POOL, TEST, TRAINING, WITHOUT_GIVEN_LEVELS
from piwsl.readers import DEFAULT, READERS
from piwsl.report.sections import SECTIONS
from piwsl.workflow.code import digests
from piwsl.workflow.contents import Contents
from piwsl.workflow.layout import LABELLED, RECORDS, Layout, NamedTestFiles, SimulationFiles
from piwsl.workflow.rounds import Rounds
from piwsl.workflow.snakemake_notes import FOLDER
from piwsl.workflow.test_sets import named_tests

if TYPE_CHECKING:
    from piwsl.reference.planning import LabellingJob
    from piwsl.workflow.cheap_labels import CheapJobs

LABELS_OF = {TRAINING: ("training",), TEST: ("test-forces", "test-slopes", "test"), POOL: ()}
# They say, write and find; what is said, written and found stands elsewhere.
NO_RESULTS = (
    "piwsl.errors",
    "piwsl.files",
    "piwsl.holding",
    "piwsl.logs",
    "piwsl.pieces",
    "piwsl.registry",
    "piwsl.sources",
)
# Behind what the store keeps, which has a version of its own: a finished energy is not computed again. What levels come
# to, and how they are called, are parameters.
ENERGIES = ("piwsl.reference.calculations", "piwsl.reference.engines")
KEPT_CODE = "piwsl-code.json"
NOTHING: Mapping[str, str] = MappingProxyType({})


class RunWildcards(Protocol):
    """What Snakemake hands to the functions of a rule that makes a file of a run."""

    dataset: str
    model: str
    loss: str
    size: str
    seed: str


class LabelWildcards(Protocol):
    """What Snakemake hands to the functions of a rule that labels."""

    dataset: str
    labels: str
    batch: str


class BatchWildcards(LabelWildcards, Protocol):
    """What Snakemake hands to the functions of a rule that makes files of a batch."""

    work: str


class ShareWildcards(LabelWildcards, Protocol):
    """What Snakemake hands to the functions of the rule that computes displaced energies."""

    share: str


class CheapWildcards(Protocol):
    """What Snakemake hands to the functions of the rule that labels with cheap levels."""

    dataset: str
    level: str
    part: str
    batch: str


def one_of(names: Iterable[str]) -> str:
    """Return a wildcard constraint that admits these names alone."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def growing(amount: Callable[[Any], int]) -> Callable[[Any, int], int]:
    """Return a resource of Snakemake's that grows with the attempt."""

    def grown(wildcards: Any, attempt: int) -> int:
        return attempt * amount(wildcards)

    return grown


def reading_time(_wildcards: Any, input: Any) -> int:
    """Return minutes for what reads a user's files twice: 30, and as many more for each GB."""
    return 30 + round(30 * input.size_mb / 1000)


def run_of(wildcards: RunWildcards) -> dict[str, str | int]:
    """Return the point of the grid that wildcards name, as plain values of a `Run`."""
    return {
        "dataset": wildcards.dataset,
        "model": wildcards.model,
        "loss": wildcards.loss,
        "size": int(wildcards.size),
        "seed": int(wildcards.seed),
    }


def _levels_of_part(section: GivenDataset, said: dict[str, Any], part: str | None) -> dict[str, Any]:
    """Return what is said of the given levels that a part depends on, or all, but for the words of the report.

    What is learned from has no labels of them but the weak forces.
    """
    needed = {*said} & {section.weak_forces} if part in WITHOUT_GIVEN_LEVELS else {*said}
    return {name: {key: each[key] for key in each if key != "level"} for name, each in said.items() if name in needed}


def _done(folder: str) -> list[tuple[int, int]]:
    """Return first frame and the one after the last of each labelling job whose files are in a folder."""
    found: dict[str, set[str]] = {}
    for path in Path(folder).iterdir() if Path(folder).is_dir() else ():
        if re.fullmatch(r"\d+-\d+", path.stem):
            found.setdefault(path.stem, set()).add(path.suffix)
    both = [name.split("-") for name, suffixes in found.items() if {LABELLED, RECORDS} <= suffixes]
    return [(int(start), int(stop)) for start, stop in both]


class Jobs:
    """The jobs of an experiment."""

    def __init__(self, experiment: Experiment, scripts: Path, planned: Mapping[str, str] = NOTHING) -> None:
        """Keep the experiment.

        Args:
            experiment: of the config.
            scripts: folder of what jobs run.
            planned: hashes of files of the user's, by path, where they were planned with; others are computed.
        """
        self.experiment = experiment
        self.layout = Layout(experiment.experiment)
        self._scripts = scripts
        self.test_sets = named_tests(experiment)
        self.rounds = Rounds(self)
        self.datasets = experiment.datasets | {name: test.section for name, test in self.test_sets.items()}
        datasets = self.datasets.items()
        self.computed = {name: section for name, section in datasets if isinstance(section, ComputedDataset)}
        self.given = {name: section for name, section in datasets if isinstance(section, GivenDataset)}
        # Asked for every job, and the same for many.
        self.contents = Contents(planned)
        self.structures = cache(self._structures)
        self.batches = cache(self._batches)
        self.work = cache(self._work)
        self.cheap = cache(self._cheap)
        self.cheap_batches = cache(self._cheap_batches)

    @cached_property
    def runs(self) -> list[Run]:
        """The grid."""
        return self.experiment.runs()

    def results(self) -> list[str]:
        """Return the files that users take away, and the datasets: Snakemake looks for those that are named alone."""
        pools = {path for run in self.runs for path in self._train_pool(run)}
        datasets = [self.layout.dataset(name) for name in sorted({run.dataset for run in self.runs})]
        return [
            self.layout.report,
            self.layout.table,
            *(path for files in datasets for path in (files.whole, files.part(TRAINING), files.part(TEST))),
            *sorted(pools),
            *self.files_of_test_sets(),
            *(path for run in self.runs for path in self.layout.run(run).taken_away()),
            *(path for files in self.tests() for path in files.taken_away()),
            *(path for files in self.simulations() for path in files.taken_away()),
        ]

    def simulations(self) -> list[SimulationFiles]:
        """Return the files of all simulations: of each run, in the order of the config."""
        return [self.layout.run(run).simulation(name) for run in self.runs for name in self.experiment.simulated(run)]

    def tests(self) -> list[NamedTestFiles]:
        """Return the files of all runs with named test sets: of each run, in the order of the config."""
        names = {dataset: list(section.tests) for dataset, section in self.experiment.datasets.items()}
        return [self.layout.run(run).test(name) for run in self.runs for name in names[run.dataset]]

    def files_of_test_sets(self) -> list[str]:
        """Return the dataset files of the named test sets of all datasets that a run takes."""
        taken = dict.fromkeys(run.dataset for run in self.runs)
        return [
            self.layout.dataset(name).test_set(test) for name in taken for test in self.experiment.datasets[name].tests
        ]

    # What any job depends on.

    @cached_property
    def code(self) -> dict[str, str]:
        """Hashes of the code behind each script, by its name."""
        package, scripts = Path(piwsl.__file__).parent, sorted(self._scripts.glob("*.py"))
        return digests(package, scripts, (*NO_RESULTS, *ENERGIES), FOLDER / KEPT_CODE)

    def others(self, model: str, loss: str) -> dict[str, str]:
        """Return where the kinds of a training come from that other distributions bring, by name: none of ours."""
        architecture = self.experiment.models[model].architecture
        found = {architecture: ARCHITECTURES.origin(architecture)}
        found |= {name: LOSS_TERMS.origin(name) for name in self.experiment.losses[loss].terms}
        return {name: origin for name, origin in found.items() if origin is not None}

    def distributions(self, dataset: str) -> dict[str, str]:
        """Return the distributions that read or computed a dataset's frames, by kind, where they are not ours."""
        return of_dataset(self.datasets[dataset], self.experiment.levels)

    # Frames of computed datasets.

    def _structures(self, dataset: str) -> list[Atoms]:
        from piwsl.reference.planning import structures

        return structures(self.computed[dataset])

    def frames_wanted(self, dataset: str, part: str) -> int:
        """Return how many frames a part has."""
        from piwsl.reference.planning import frames_wanted

        return frames_wanted(self.computed[dataset], part)

    def frames_of_source(self, dataset: str, part: str) -> int:
        """Return how many frames a trajectory gives."""
        from piwsl.reference.planning import frames_of_source

        return frames_of_source(self.computed[dataset], part)

    def candidates(self, dataset: str, part: str) -> list[str]:
        """Return the files that frames of a part are chosen from."""
        from piwsl.reference.planning import sources

        return [self.layout.dataset(dataset).candidates(part, source) for source in sources(self.computed[dataset])]

    def geometries(self, dataset: str, part: str) -> Geometries:
        """Return the section of given geometries as one part sees it."""
        section = self.computed[dataset].geometries
        assert section is not None
        return section.of_part(part)

    def pool_of_file(self, dataset: str, part: str) -> int:
        """Return how many frames of the file that training frames are taken from are the pool's; no test frame is."""
        from piwsl.reference.planning import pool_of_file

        return pool_of_file(self.computed[dataset], part)

    def whole_files(self) -> list[str]:
        """Return the named test sets of computed datasets that take all geometries of a file."""
        return [name for name in self.test_sets if name in self.computed and self.computed[name].geometries is not None]

    def scans(self) -> list[str]:
        """Return the named test sets whose geometries are made along a coordinate."""
        return [name for name, test in self.test_sets.items() if test.scan is not None]

    def units(self, dataset: str) -> dict[str, str]:
        """Return the units of a given test set's labels; none of computed ones, which are ours."""
        section = self.given.get(dataset)
        labels = None if section is None else section.labels_of(section.file)
        if labels is None:
            return {}
        return {name: getattr(labels, name) for name in ("energy_unit", "forces_unit", "stress_unit")}

    def candidates_each(self, dataset: str, part: str) -> int | None:
        """Return among how many candidates each frame is chosen; None where they are taken as they come."""
        section = self.computed[dataset]
        return section.candidates if part == TRAINING and section.selection == "farthest_point" else None

    def sampling(self, dataset: str, temperature: str) -> dict[str, Any]:
        """Return the sampling section as one trajectory sees it: other temperatures are none of its business."""
        section = self.computed[dataset].sampling
        assert section is not None
        own = {key: value for key, value in section.beyond_defaults().items() if key != "normal_modes"}
        return own | {"temperatures": [float(temperature)]}

    # Labels.

    def level_name(self, dataset: str) -> str:
        """Return the name of the level of a computed dataset."""
        return self.computed[dataset].level

    def _level(self, dataset: str) -> Level:
        return self.experiment.levels[self.level_name(dataset)]

    def baseline(self, model: str) -> dict[str, dict[str, Any]]:
        """Return by name the level that a model corrects, as plain values; none where it corrects none."""
        name = self.experiment.models[model].baseline
        return {} if name is None else {name: self.plain_level(name)}

    def cheap_levels(self, dataset: str) -> dict[str, dict[str, Any]]:
        """Return by name the cheap levels of a dataset, as plain values."""
        return {name: self.plain_level(name) for name in self.datasets[dataset].cheap_levels}

    def frequencies_of_levels(self) -> list[str]:
        """Return where minima and vibrations of cheap levels stand, of each dataset of a run that has some."""
        names = dict.fromkeys(run.dataset for run in self.runs)
        found = [name for name in names if self.experiment.datasets[name].cheap_levels]
        return [self.layout.dataset(name).frequencies for name in found]

    def examples(self) -> list[Run]:
        """Return a run of each dataset, model and loss to stand for all: of the largest size, its first seed."""
        found: dict[tuple[str, str, str], Run] = {}
        for run in self.runs:
            best = found.setdefault((run.dataset, run.model, run.loss), run)
            if run.size > best.size:
                found[run.dataset, run.model, run.loss] = run
        return [*found.values()]

    def plain_level(self, level: str) -> dict[str, Any]:
        """Return a level as plain values, as jobs get it."""
        return self.experiment.levels[level].plain()

    def plain_cheap_level(self, level: str) -> dict[str, Any]:
        """Return a level as plain values, as jobs get it that label frames with it beside their reference labels."""
        return unquestioned(self.experiment.levels[level]).plain()

    def levels(self) -> dict[str, str]:
        """Return the levels in words, as the report has them."""
        return {name: in_words(level) for name, level in self.experiment.levels.items()}

    def level_in_words(self, dataset: str) -> str | None:
        """Return the level of theory of a dataset's labels, as model files have it; None where nobody said it."""
        if dataset in self.computed:
            return in_words(self._level(dataset))
        return self.datasets[dataset].level

    def recipe(self, level: str) -> str:
        """Return what a level comes to, and the version of finished energies: their folder in the store."""
        from piwsl.reference.store import LabelStore

        return LabelStore(Path(self.layout.store), self.experiment.levels[level]).folder.name

    def engine(self, level: str) -> dict[str, str]:
        """Return by name the distribution that brings a level's engine, if not ours: what failed is tried again.

        Finished energies stay: what they depend on is the recipe.
        """
        name = self.experiment.levels[level].engine
        origin = ENGINES.origin(name)
        return {} if origin is None else {name: origin}

    def symbols(self, dataset: str) -> list[str]:
        """Return the elements of a computed dataset."""
        return sorted({symbol for atoms in self.structures(dataset) for symbol in atoms.get_chemical_symbols()})

    def _work(self, dataset: str, labels: str) -> str:
        """Return a short hash of what a frame takes: its level, its forces, and the structure that costs most.

        While it stays, jobs that are done stay as they were cut, whatever `frames_per_job` says now.
        """
        from piwsl.reference.planning import label_spans, representative

        every = self.structures(dataset)
        forces = label_spans(self.computed[dataset], every, self._level(dataset))[labels].forces
        text = json.dumps([self.recipe(self.level_name(dataset)), forces, representative(every).get_chemical_formula()])
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def _batches(self, dataset: str) -> dict[tuple[str, str], LabellingJob]:
        """Return every labelling job of a dataset, by labels and name."""
        from piwsl.reference.planning import label_batches, label_spans

        section, every, level = self.computed[dataset], self.structures(dataset), self._level(dataset)
        done = {labels: self._done(dataset, labels) for labels in label_spans(section, every, level)}
        return label_batches(section, every, level, done)

    def _done(self, dataset: str, labels: str) -> list[tuple[int, int]]:
        """Return first frame and the one after the last of each labelling job whose files are there."""
        return _done(self.layout.dataset(dataset).labels(labels, self.work(dataset, labels)))

    def part_of(self, labels: str) -> str:
        """Return the part, or the round of an acquisition, whose frames get such labels."""
        if round_number(labels) is not None:
            return labels
        return next(part for part, kinds in LABELS_OF.items() if labels in kinds)

    def batch(self, wildcards: LabelWildcards) -> LabellingJob:
        """Return what a labelling job does and needs."""
        from piwsl.reference.planning import label_batch

        dataset, labels, name = wildcards.dataset, wildcards.labels, wildcards.batch
        planned = self.batches(dataset).get((labels, name))
        if planned is not None:
            return planned
        # Cut before, and now done anew: its files were taken away since the plan was made.
        return label_batch(self.computed[dataset], self.structures(dataset), self._level(dataset), labels, name)

    def displaced(self, wildcards: BatchWildcards) -> list[str]:
        """Return the records of the jobs that compute displaced energies of a batch before it is labelled.

        A batch that is done keeps what it was made from, however its energies would be dealt out now.
        """
        files, names = self.layout.dataset(wildcards.dataset), (wildcards.labels, wildcards.work, wildcards.batch)
        if all(Path(files.batch(*names, suffix)).exists() for suffix in (LABELLED, RECORDS)):
            return sorted(map(str, Path(files.displaced(*names)).parent.glob(f"*{RECORDS}")))
        shares = self.batch(wildcards).shares
        return [files.displaced(*names, f"{number}-of-{shares}") for number in range(shares)]

    def share(self, wildcards: ShareWildcards) -> tuple[int, int]:
        """Return which job of how many computes displaced energies, counted from 0."""
        number, shares = map(int, wildcards.share.split("-of-"))
        return number, shares

    def labelled(self, dataset: str, part: str, suffix: str) -> list[str]:
        """Return the files of labelled frames of a part: LABELLED frames or RECORDS of all jobs."""
        if part == TRAINING and dataset in self.rounds.acquisitions:
            return self.rounds.labelled(dataset, self.rounds.numbers(dataset), suffix)
        return [path for labels in LABELS_OF[part] for path in self.batch_files(dataset, labels, suffix)]

    def batch_files(self, dataset: str, wanted: str, suffix: str) -> list[str]:
        """Return the files of the labelling jobs of such labels: LABELLED frames or RECORDS."""
        files = self.layout.dataset(dataset)
        return [
            files.batch(labels, self.work(dataset, labels), name, suffix)
            for labels, name in self.batches(dataset)
            if labels == wanted
        ]

    def frames_of_pool(self, dataset: str) -> list[str]:
        """Return the file of frames that are not labelled, if a computed dataset wants them."""
        return [self.layout.dataset(dataset).frames(POOL)] if self.computed[dataset].has_pool else []

    def free_atoms(self, dataset: str) -> list[str]:
        """Return the file of the energies of free atoms, if a computed dataset wants them."""
        return [self.layout.dataset(dataset).free_atoms] if self.computed[dataset].free_atoms else []

    # Labels of cheap levels, of computed datasets and given ones.

    def _cheap(self, dataset: str) -> CheapJobs:
        from piwsl.workflow.cheap_labels import CheapJobs

        parts = (TEST,) if dataset in self.test_sets else PARTS
        return CheapJobs(dataset, self.datasets[dataset], self.experiment.levels, parts)

    def cheap_work(self, level: str) -> str:
        """Return a short hash of what a frame takes: jobs that are done stay as they were cut while it does."""
        return hashlib.sha256(self.recipe(level).encode()).hexdigest()[:8]

    def _cheap_batches(self, dataset: str, level: str, part: str) -> dict[str, LabellingJob]:
        folder = self.layout.dataset(dataset).cheap_labels(level, part, self.cheap_work(level))
        return self.cheap(dataset).batches(level, part, _done(folder))

    def cheap_batch(self, wildcards: CheapWildcards) -> LabellingJob:
        """Return what a job that labels with a cheap level does and needs."""
        dataset, level, part, name = wildcards.dataset, wildcards.level, wildcards.part, wildcards.batch
        planned = self.cheap_batches(dataset, level, part).get(name)
        return self.cheap(dataset).batch(level, part, name) if planned is None else planned

    def cheap_labels(self, dataset: str, suffix: str, *parts: str) -> list[str]:
        """Return the files of all jobs that label parts with cheap levels: LABELLED frames or RECORDS.

        Args:
            dataset: its name.
            suffix: LABELLED or RECORDS.
            parts: of the dataset; by default all.
        """
        files = self.layout.dataset(dataset)
        return [
            files.cheap_batch(level, name, self.cheap_work(level), batch, suffix)
            for level in self.datasets[dataset].cheap_levels
            for part in parts or PARTS
            for name in self.labelled_parts(dataset, part)
            for batch in self.cheap_batches(dataset, level, name)
        ]

    def labelled_parts(self, dataset: str, part: str) -> list[str]:
        """Return the part, or the rounds that make it, as files of frames to label are called."""
        from piwsl.reference.planning import labelled_parts

        return labelled_parts(self.computed[dataset], part) if dataset in self.computed else [part]

    def frames_to_label_cheaply(self, wildcards: CheapWildcards) -> str:
        """Return the file of the frames of a part; of a round, those that have labels."""
        files, number = self.layout.dataset(wildcards.dataset), round_number(wildcards.part)
        return files.frames(wildcards.part) if number is None else files.bought(LABELLED, str(number))

    # Given datasets.

    def given_files(self, dataset: str, part: str | None = None) -> list[Path]:
        """Return the files of the user's that a part is taken from, or all; files of positions last."""
        section = self.given[dataset]
        wanted = self._deciding(dataset, part)
        positions = [path for name in wanted for path in section.split_off(name)]
        return list(dict.fromkeys([*self._frame_files(section, wanted), *positions]))

    def _deciding(self, dataset: str, part: str | None) -> Sequence[str]:
        """Return the parts whose files a part depends on: its own, or all where what is dropped goes by the others."""
        return PARTS if part is None or self.given[dataset].parts_are_compared else (part,)

    def _frame_files(self, section: GivenDataset, parts: Sequence[str]) -> list[Path]:
        files = {
            TRAINING: section.file,
            TEST: section.file if section.test_file is None else section.test_file,
            POOL: section.pool_file,
        }
        return list(dict.fromkeys(path for name in parts if (path := files[name]) is not None))

    def published_files(self, dataset: str) -> dict[str, catalogue.Source]:
        """Return where files of a dataset come from that are downloaded, archives included and first, by their names.

        A name is the path below the folder of downloads.
        """
        wanted = [source for path in self.given_files(dataset) if (source := catalogue.source_of(path)) is not None]
        archives = [source for each in wanted if each.archive and (source := catalogue.source_of(each.archive))]
        return {source.path.relative_to(catalogue.DOWNLOADS).as_posix(): source for source in [*archives, *wanted]}

    @cached_property
    def published(self) -> dict[str, catalogue.Source]:
        """The same of all datasets, each file once."""
        return {name: source for dataset in self.given for name, source in self.published_files(dataset).items()}

    def downloaded(self) -> list[str]:
        """Return the names of what is downloaded as it is."""
        return [name for name, source in self.published.items() if source.archive is None]

    def unpacked(self) -> list[str]:
        """Return the names of what is taken out of an archive that is downloaded."""
        return [name for name, source in self.published.items() if source.archive is not None]

    def to_download(self) -> list[str]:
        """Return the names of published sets of which a file is not here yet."""
        missing = {path for name in self.given for path in self.given_files(name) if catalogue.is_awaited(path)}
        return [
            name
            for name, entry in catalogue.entries().items()
            if not missing.isdisjoint(source.path for source in entry.sources())
        ]

    def given_settings(self, dataset: str, part: str | None = None) -> dict[str, Any]:
        """Return what of a given dataset's section a part depends on, or all, files aside; and what reads those."""
        section = self.given[dataset]
        said = section.beyond_defaults()
        unread = {"file", "test_file", "pool_file", "level", "format", "tests", "acquisition", "catalogue", "path"}
        if (part == POOL and not section.parts_are_compared) or section.test_frames is None:
            unread |= {"test_frames", "seed", "split"}
        if part == TEST:
            unread |= {"weak_forces"}
        if part in (TEST, POOL):
            unread |= {"groups"}
        levels = _levels_of_part(section, said.pop("given_levels", {}), part)
        kept = {key: value for key, value in said.items() if key not in unread}
        return kept | ({"given_levels": levels} if levels else {}) | self._readers(dataset, part)

    def geometry_settings(self, dataset: str, part: str) -> dict[str, Any]:
        """Return what of a given dataset's section the geometries of a part depend on: nothing that labels them."""
        labels = {"cheap_levels", "weak_forces", "groups", "given_levels"}
        return {key: value for key, value in self.given_settings(dataset, part).items() if key not in labels}

    def _readers(self, dataset: str, part: str | None) -> dict[str, list[str]]:
        """Return what reads the files of a part, and which readers of others that is; of extended XYZ nothing."""
        section = self.given[dataset]
        formats = [section.format_of(path) for path in self._frame_files(section, self._deciding(dataset, part))]
        origins = [origin for form in dict.fromkeys(formats) if (origin := READERS.origin(form)) is not None]
        read = {} if set(formats) <= {DEFAULT} else {"formats": formats}
        return read | ({"readers": origins} if origins else {})

    # Runs.

    def training_file(self, wildcards: RunWildcards) -> str:
        """Return the dataset file that a run learns from; of an acquisition, that of its size."""
        files = self.layout.dataset(wildcards.dataset)
        acquired = wildcards.dataset in self.rounds.acquisitions
        return files.of_size(wildcards.size) if acquired else files.part(TRAINING)

    def train_pool(self, wildcards: RunWildcards) -> list[str]:
        """Return the dataset file of the pool, as a teacher labelled it or as it is, if a run takes frames of it."""
        return self._train_pool(Run.model_validate(run_of(wildcards)))

    def _train_pool(self, run: Run) -> list[str]:
        teacher = self.experiment.teacher(run)
        if teacher is not None:
            return [self.layout.run(teacher).taught]
        return [self.layout.dataset(run.dataset).part(POOL)] if self.experiment.losses[run.loss].pool else []

    def resources(self, model: str) -> Resources:
        """Return what the training jobs of a model ask for."""
        return self.experiment.models[model].resources

    # The report.

    def sections_of_others(self) -> dict[str, dict[str, str]]:
        """Return where sections of the report come from that other distributions bring; {} where none does."""
        origins = {name: origin for name in SECTIONS if (origin := SECTIONS.origin(name)) is not None}
        return {"others": origins} if origins else {}
