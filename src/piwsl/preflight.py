"""Checks of an experiment against the world outside its text: files, molecules, basis sets. Before any compute."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from pydantic import BaseModel

from piwsl.catalogue import find, is_awaited
from piwsl.config import (
    Acquisition,
    Architecture,
    ComputedDataset,
    ConfigError,
    Experiment,
    GivenDataset,
    Level,
    Loss,
    Run,
    config_error,
    level_checks,
    read_yaml,
)
from piwsl.config.acquisition import OF_A_PROCESS
from piwsl.config.heads import head_problem
from piwsl.config.training import Largest
from piwsl.data.dataset import PARTS, POOL, TEST, TRAINING, Dataset
from piwsl.data.dropping import frames_left, frames_of, is_counted, kept_of, left_of
from piwsl.data.given import (
    GivenFrames,
    findings_of_levels,
    frames_taken,
    free_atoms,
    names_of_files,
    read_files,
    summary,
    survey_files,
)
from piwsl.data.plausibility import Parts, copies_of, doubts_of_levels, warnings, warnings_of_test
from piwsl.data.splits import MOST_DIGITS, read_positions, split_run
from piwsl.data.survey import Formulas, Survey, survey_of
from piwsl.errors import PiwslError
from piwsl.files import write_text
from piwsl.records import Finding
from piwsl.report.sections import SECTIONS
from piwsl.structures.frames import (
    ENERGY_KEY,
    FORCES_KEY,
    STRESS_KEY,
    WEAK_FORCES_KEY,
    frame_electron_problem,
)
from piwsl.structures.geometry import symbols_of
from piwsl.structures.labels import WEAK
from piwsl.structures.structure import from_atoms
from piwsl.workflow.layout import Layout, named_test
from piwsl.workflow.planned import parse_experiment
from piwsl.workflow.test_sets import check_test, named_tests, of_section

# A start of the pipeline shall take seconds: of larger files some frames are looked at, and all of them at the import.
FRAMES_CHECKED = 5000

# So many Snakemake plans in minutes.
MOST_JOBS = 10_000


def load_experiment(path: Path) -> Experiment:
    """Read, validate and check an experiment, as Snakemake does before anything else.

    Args:
        path: its YAML file; results are below the working directory.

    Raises:
        ConfigError: one line that says what was found, where in the config, and what would be right.
    """
    experiment = parse_experiment(read_yaml(path), str(path))
    check_start(experiment, str(path))
    return experiment


def named_experiment(path: Path) -> Experiment:
    """Read and validate an experiment whose results are looked at: what it names is not opened.

    Args:
        path: its YAML file; results are below the working directory.

    Raises:
        ConfigError: the config is none, or the results of its name are another's.
    """
    experiment = parse_experiment(read_yaml(path), str(path))
    check_claim(experiment, str(path))
    return experiment


def check_start(experiment: Experiment, source: str) -> None:
    """Check all that must be in order before anything is computed, as the functions that it calls say."""
    check_experiment(experiment, source)
    check_claim(experiment, source)
    check_sections()


def config_file(files: Sequence[Path], overrides: Mapping[str, object]) -> Path:
    """Return the one file that an experiment is read from: what stands there is what was run.

    Args:
        files: of Snakemake's --configfile.
        overrides: of Snakemake's --config.

    Raises:
        ConfigError: keys on the command line, or several files.
    """
    if overrides:
        raise ConfigError(f"--config {next(iter(overrides))}=...: keys stand in a config file alone; edit a copy of it")
    if len(files) > 1:
        raise ConfigError(f"--configfile: one file is an experiment, found {', '.join(map(os.path.relpath, files))}")
    return Path(os.path.relpath(files[0])) if files else Path("config.yaml")


def check_experiment(experiment: Experiment, source: str) -> None:
    """Check what an experiment names: that files exist and suffice, that its levels can be computed.

    Args:
        experiment: the experiment.
        source: the file it comes from, for messages.

    Raises:
        ConfigError: one line.
    """
    try:
        _check_inputs(experiment)
        for name, dataset in experiment.datasets.items():
            _check_files(name, dataset)
            if isinstance(dataset, ComputedDataset):
                from piwsl.reference.checks import check_computed_dataset

                every = check_computed_dataset(name, dataset, experiment.levels[dataset.level])
                _check_jobs(name, dataset, every, experiment.levels[dataset.level])
                if dataset.acquisition is not None:
                    _check_acquisition(name, dataset.acquisition, dataset.training_frames, every)
                symbols = symbols_of(every)
                _check_cheap_levels(name, dataset, experiment, every)
                _check_references(name, experiment, symbols, symbols)  # a free atom that fails is known to the run
                _check_room(name, experiment, partial(_learned_from, dataset, every))
                _check_structures(name, experiment, every, f"dataset '{name}'")
                components = 3 * min(map(len, every)) if dataset.training_forces else 0
                _check_label_counts(name, experiment, _Labels(components))
                _check_tests(name, experiment, every, every=True)
            elif not _is_awaited(name, dataset):
                _check_given(name, dataset, experiment)
            _check_made(name, experiment)
    except ConfigError as error:
        raise config_error(source, error) from None


def costly_datasets(experiment: Experiment) -> Iterator[str]:
    """Say a line for each dataset whose reference energies take more than is sensible, by estimate."""
    tests = {name: test.section for name, test in named_tests(experiment).items()}
    for name, dataset in (experiment.datasets | tests).items():
        if isinstance(dataset, ComputedDataset):
            from piwsl.reference.planning import structures, warning

            line = warning(name.replace("/", "."), dataset, structures(dataset), experiment.levels[dataset.level])
            if line is not None:
                yield line


def check_claim(experiment: Experiment, source: str) -> None:
    """Check that the experiment's folder of results belongs to no other config: two never write to one place.

    Args:
        experiment: the experiment.
        source: its config file, relative to the working directory or absolute.

    Raises:
        ConfigError: another config file was run under the same name.
    """
    note = Path(Layout(experiment.experiment).owner)
    owner = note.read_text(encoding="utf-8").strip() if note.exists() else None
    if owner is not None and Path(owner).resolve() != Path(source).resolve() and Path(owner).exists():
        raise config_error(
            source, f"experiment: {note.parent} belongs to {owner}; give this experiment a name of its own"
        )


def check_sections() -> None:
    """Check that sections of the report that other distributions bring can be loaded.

    Raises:
        PiwslError: one cannot; names it and its distribution.
    """
    for name in SECTIONS:
        SECTIONS.origin(name)


def claim(experiment: Experiment, source: str) -> None:
    """Note whose results the experiment's folder holds."""
    write_text(Path(Layout(experiment.experiment).owner), f"{source}\n")


def plan_of(config: Mapping[str, Any], sources: Iterable[Path]) -> str:
    """Return what a plan stands on, for the jobs that are planned: hashes of the config and of the workflow's text.

    Args:
        config: keys and values as `read_yaml` gave them; those of a module, as they were handed over.
        sources: Snakefile and rules.
    """
    hashed = (json.dumps(config, sort_keys=True, default=str).encode(), b"\0".join(map(Path.read_bytes, sources)))
    return " ".join(hashlib.sha256(part).hexdigest()[:16] for part in hashed)


def check_plan(found: str, planned: str) -> None:
    """Check, within a job, that it would do what was planned, and what Snakemake will record of it.

    Args:
        found: of the job, by `plan_of`.
        planned: of the Snakemake that planned it.

    Raises:
        PiwslError: config or rules are others.
    """
    for what, now, then in zip(("config", "Snakefile or workflow/rules"), found.split(), planned.split(), strict=True):
        if now != then:
            raise PiwslError(f"{what}: edited after this job was planned; start snakemake again, which plans anew")


def check_image(path: Path) -> None:
    """Check that the image is there which all rules are to run in.

    Args:
        path: of it; a folder or a link to one will do.

    Raises:
        PiwslError: it is not, and the text says how to build it; or Snakemake would not take its path.
    """
    if any(character.isspace() for character in str(path)):
        raise PiwslError(f"{path}: Snakemake takes no image with a space in its path; move the checkout to one without")
    if not path.exists():
        image = os.path.relpath(path)
        raise PiwslError(
            f"{image}: with --sdm apptainer all rules run in this image, and it is not there; build it in the folder "
            "of the Snakefile (apptainer build envs/piwsl.sif envs/piwsl.def), or put a link there"
        )


def _check_inputs(experiment: Experiment) -> None:
    """Refuse to read what lies among the experiment's own results: Snakemake removes a file before it makes it anew."""
    folder = Path(Layout(experiment.experiment).folder)
    for key, path in _paths(experiment):
        if any(Path(place(path)).is_relative_to(place(folder)) for place in (os.path.abspath, os.path.realpath)):
            raise ConfigError(f"{key}: {path} lies where this experiment writes; copy it out of {folder} first")


def _paths(value: Any, key: str = "") -> Iterator[tuple[str, Path]]:
    """Yield the files that a section names, and their keys."""
    if isinstance(value, Path):
        yield key, value
    elif isinstance(value, BaseModel | Mapping):
        for name, each in value.items() if isinstance(value, Mapping) else value:
            yield from _paths(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _paths(each, key)


def _check_files(name: str, dataset: ComputedDataset | GivenDataset) -> None:
    """Refuse what is there and is no file, such as a folder or a pipe, which a reader would wait for."""
    if isinstance(dataset, GivenDataset):
        files = {"file": dataset.file, "test_file": dataset.test_file, "pool_file": dataset.pool_file}
    else:
        files = {"molecule.file": None if dataset.molecule is None else dataset.molecule.file}
        if dataset.geometries is not None:
            files |= {f"geometries.{key}": path for key, path in dataset.geometries.files.items()}
    if isinstance(dataset, GivenDataset) and dataset.split is not None:
        positions = {"split.training": dataset.split.training, "split.test": dataset.split.test}
        files |= positions | {"split.stored": dataset.split.stored}
        for key, file in positions.items():
            if file is not None and not is_awaited(file):
                try:
                    read_positions(file, frames=10**MOST_DIGITS)  # of how many frames is looked at where these are
                except PiwslError as error:
                    raise ConfigError(f"datasets.{name}.{key}: {error}") from None
    files |= {f"tests.{test}.file": said.file for test, said in dataset.tests.items()}
    for key, file in files.items():
        if file is not None and file.exists() and not file.is_file():
            raise ConfigError(f"datasets.{name}.{key}: {file} is no file")


def _is_awaited(name: str, dataset: GivenDataset) -> bool:
    """Whether a file of a published set is to be downloaded yet: what it holds is looked at by the import.

    Raises:
        ConfigError: the plan needs to know its frames.
    """
    missing = [path for path in dataset.files if is_awaited(path)]
    if missing and dataset.cheap_levels:
        raise ConfigError(
            f"datasets.{name}.cheap_levels: jobs are cut by the frames of {missing[0]}, which is not here yet; say "
            f"`piwsl data download {dataset.catalogue}` first"
        )
    return bool(missing)


def _check_jobs(name: str, dataset: ComputedDataset, every: list[Atoms], level: Level) -> None:
    from piwsl.reference.planning import label_batches

    jobs = sum(1 + batch.shares for batch in label_batches(dataset, every, level).values())
    if jobs > MOST_JOBS:
        raise ConfigError(
            f"datasets.{name}: {jobs} labelling jobs, {MOST_JOBS} at most; ask for fewer frames, or raise "
            "labelling.frames_per_job"
        )


def _check_tests(name: str, experiment: Experiment, training: list[Atoms], every: bool) -> None:
    """Check the named test sets of a dataset.

    Args:
        name: of the dataset.
        experiment: the experiment.
        training: its training frames, or what they are sampled from.
        every: whether these are all of them.
    """
    symbols = symbols_of(training) if every else None
    dataset = experiment.datasets[name]
    level = experiment.levels[dataset.level] if isinstance(dataset, ComputedDataset) else None
    for test in dataset.tests:
        where = f"datasets.{name}.tests.{test}"
        try:
            found = of_section(name, dataset, test)
            frames = check_test(found, symbols, level, FRAMES_CHECKED)
        except PiwslError as error:
            raise ConfigError(f"{where}: {error}") from None
        if dataset.cheap_levels and any(atoms.pbc.any() for atoms in frames):
            raise ConfigError(f"{where}: holds periodic frames, and cheap_levels compute molecules; leave them out")
        _check_structures(name, experiment, [*training[:1], *frames], f"test '{test}' of dataset '{name}'")
        if isinstance(found.section, ComputedDataset) and level is not None:
            _check_jobs(f"{name}.tests.{test}", found.section, frames, level)


def _check_given(name: str, dataset: GivenDataset, experiment: Experiment) -> None:
    try:
        frames = frames_taken(dataset, dataset.file)
        files = read_files(dataset, FRAMES_CHECKED)
        available = frames_left(dataset, TRAINING)
        kept = kept_of(dataset, files)
    except PiwslError as error:
        raise ConfigError(f"datasets.{name}: {error}") from None
    runs = [run for run in experiment.runs() if run.dataset == name]
    largest = max((run.size for run in runs), default=0)
    if largest > available:
        why = "held out for testing" if dataset.split is None else "that are tested or in neither part"
        why += ", or dropped" if dataset.drop else ""
        strided = f" by its stride of {dataset.stride}" if dataset.stride > 1 else ""
        held = f" less {frames - available} {why}" if available < frames else ""
        raise ConfigError(
            f"sizes: {largest} is more than the training frames of dataset '{name}' "
            f"({dataset.file} has {frames}{strided}{held}); leave the size out or give more frames"
        )
    _check_groups(name, dataset, experiment, runs)
    if not np.isfinite(kept.parts[TRAINING].file.survey.energies[kept.parts[TRAINING].indices]).all():
        _check_energies(name, dataset, experiment, runs)
    if dataset.acquisition is not None:
        _check_acquisition(name, dataset.acquisition, available, files[0].frames)
    if dataset.cheap_levels:
        _check_molecules(name, files)
        _check_cheap_levels(name, dataset, experiment, [atoms for file in files for atoms in file.frames])
    # Of a file that was not read whole, the import will tell, as below.
    by_part = frames_of(kept)
    training = by_part[TRAINING]
    _check_tests(name, experiment, training, every=files[0].every == dataset.stride)
    if runs:
        symbols, alone = symbols_of(training), {chemical_symbols[number] for number in free_atoms(files[0].frames)}
        whole = files[0].every == dataset.stride
        _check_references(name, experiment, symbols, alone if whole else symbols)
        _check_room(name, experiment, by_part.__getitem__)
        _check_structures(name, experiment, [*training, *by_part[TEST], *by_part[POOL]], f"dataset '{name}'")
        if whole:
            _check_labels(name, dataset, experiment, runs, by_part)
            _check_label_counts(name, experiment, _Labels.of(training))
        untested = sorted(symbols_of(by_part[TEST]) - symbols)
        if untested and whole:
            key = next(key for key in ("test_file", "test_frames", "split") if getattr(dataset, key) is not None)
            raise ConfigError(
                f"datasets.{name}.{key}: test frames hold {', '.join(untested)}, which no training frame does; take "
                "those frames out, or train on some"
            )
        unknown = sorted(symbols_of(by_part[POOL]) - symbols)
        if unknown and whole and any(experiment.losses[run.loss].pool for run in runs):
            raise ConfigError(
                f"datasets.{name}.pool_file: holds {', '.join(unknown)}, which no training frame does; take those "
                "frames out, or label some"
            )


def _check_groups(name: str, dataset: GivenDataset, experiment: Experiment, runs: list[Run]) -> None:
    """Refuse runs whose frames are of groups that cannot be validated on, as training would draw them."""
    grouped = [run for run in runs if experiment.models[run.model].training.validation_by == "group"]
    if not grouped or dataset.acquisition is not None or not is_counted(dataset):
        return  # what is chosen or read later is refused when a training starts
    try:
        groups = [str(group) for group in left_of(dataset).groups or ()]
    except PiwslError as error:
        raise ConfigError(f"datasets.{name}: {error}") from None
    drawn = {(run.model, run.size, run.seed) for run in grouped}
    for key, size, seed in sorted(drawn):
        model = experiment.models[key]
        try:
            split_run(np.arange(len(groups)), lambda: groups, size, seed, model)
        except PiwslError as error:
            raise ConfigError(f"models.{key}.training.{error} (dataset '{name}')") from None


def _check_energies(name: str, dataset: GivenDataset, experiment: Experiment, runs: list[Run]) -> None:
    """Refuse runs whose frames, as training would draw them, leave open where energies of an element begin."""
    if dataset.acquisition is not None or not is_counted(dataset):
        return  # what is chosen or read later is refused when a training starts
    try:
        training = kept_of(dataset, survey_files(dataset, checked=False)).parts[TRAINING]
    except PiwslError as error:
        raise ConfigError(f"datasets.{name}: {error}") from None
    survey, belonging = training.file.survey.rows(training.indices), training.file.belonging
    groups = [] if belonging is None else [str(belonging[row]) for row in training.indices.tolist()]
    for key, size, seed in sorted({(run.model, run.size, run.seed) for run in runs}):
        model = experiment.models[key]
        split = split_run(np.arange(len(survey)), lambda: groups, size, seed, model)
        for member in range(model.members):
            learned = survey.rows(split.of_member(member).training)
            of_member = f", member {member + 1}" if member else ""
            where = f"that model '{key}' learns from at size {size}, seed {seed}{of_member}"
            _check_energies_of(learned, survey, f"dataset '{name}' {where}")


def _check_energies_of(learned: Survey, every: Survey, which: str) -> None:
    """Refuse frames to learn from, which are said to be of `which`, without an energy, of all elements or of one."""
    known = learned.rows(learned.with_energy)
    missing = sorted({*learned.elements()} - {*known.elements()})
    if not missing:
        return
    of_elements, among, all_ = "", " training frames", every
    if len(known):
        among = of_elements = f" with {', '.join(chemical_symbols[number] for number in missing)}"
        learned, all_ = (frames.rows(frames.holding(missing)) for frames in (learned, every))
    raise ConfigError(
        f"sizes: of the {len(learned)} frames{of_elements} of {which} none has an energy "
        f"({np.count_nonzero(all_.with_energy)} of all {len(all_)}{among} have one); raise the size, or give more"
    )


def _check_acquisition(name: str, acquisition: Acquisition, available: int, frames: list[Atoms]) -> None:
    """Refuse rounds beyond the frames, and models that are asked about what they could not learn.

    Args:
        name: of the dataset.
        acquisition: its section.
        available: how many frames there are to choose from.
        frames: some of them, or what they are sampled from.
    """
    key = f"datasets.{name}.acquisition"
    if acquisition.frames > available:
        raise ConfigError(
            f"{key}: start and rounds take {acquisition.frames} frames, and there are {available} to choose from; ask "
            "for fewer, or give more"
        )
    if acquisition.model is not None and any(atoms.pbc.any() for atoms in frames):
        raise ConfigError(f"{key}.by: {acquisition.by} is of molecules, and frames are periodic; say by: random")
    formulas = sorted({atoms.get_chemical_formula() for atoms in frames})
    if acquisition.by in OF_A_PROCESS and len(formulas) > 1:
        raise ConfigError(
            f"{key}.by: {acquisition.by} is of one molecule, and frames are of {formulas[0]} and {formulas[1]}; say "
            "by: disagreement"
        )


def _check_labels(
    name: str, dataset: GivenDataset, experiment: Experiment, runs: list[Run], frames: Mapping[str, list[Atoms]]
) -> None:
    """Refuse losses on forces, of the labels' level or a cheaper one, or on stress, that no training frame has."""
    training, pool = frames[TRAINING], frames[POOL]
    forces = any(FORCES_KEY in atoms.arrays for atoms in training)
    for run in runs:
        terms = experiment.losses[run.loss].terms_of_labelled_forces
        model = experiment.models[run.model]
        labelled = forces or model.teacher is not None
        if terms and not labelled:
            raise ConfigError(
                f"losses.{run.loss}.{terms[0]}: made of labelled forces, and frames of dataset '{name}' have none; say "
                "forces_key, another anchor, or leave the run out"
            )
        if problem := head_problem(model, experiment.losses[run.loss], labelled):
            raise ConfigError(f"models.{run.model}: {problem} to losses.{run.loss}, or leave dataset '{name}' out")
    for key in dict.fromkeys(run.loss for run in runs):
        loss = experiment.losses[key]
        if loss.needs_forces and not forces:
            raise ConfigError(
                f"losses.{key}.energy: 0, but frames of dataset '{name}' have no forces; give energy a weight, say "
                "forces_key, or leave the run out"
            )
        if loss.stress and not any(STRESS_KEY in atoms.info for atoms in training):
            raise ConfigError(
                f"losses.{key}.stress: frames of dataset '{name}' have none; say stress_key, or leave it or the run out"
            )
        weak = [WEAK_FORCES_KEY in atoms.arrays for atoms in (training + pool if loss.pool else training)]
        if (cheap := loss.terms_of_level(WEAK)) and not dataset.computes_weak_forces and not any(weak):
            raise ConfigError(
                f"losses.{key}.{cheap[0]}: dataset '{name}' has no forces of a cheaper level; say "
                f"datasets.{name}.weak_forces: gfn2-xtb, give WEAK_forces, or leave the run out"
            )


def _check_molecules(name: str, files: list[GivenFrames]) -> None:
    """Refuse periodic frames beside cheap levels, which compute molecules."""
    for file in files:
        for atoms in file.frames:
            if atoms.pbc.any():
                raise ConfigError(
                    f"datasets.{name}.cheap_levels: frame {atoms.info['frame']} of {file.path} is periodic, and levels "
                    'compute molecules; leave them out, or say pbc="F F F" there if it is one'
                )


def _check_cheap_levels(
    name: str, dataset: ComputedDataset | GivenDataset, experiment: Experiment, frames: list[Atoms]
) -> None:
    """Refuse a cheap level that lacks an element, a program or forces, or takes more jobs than are planned."""
    if not dataset.cheap_levels:
        return
    from piwsl.reference.checks import check_cheap_levels
    from piwsl.workflow.cheap_labels import CheapJobs

    check_cheap_levels(dataset.cheap_levels, experiment.levels, frames)
    jobs = CheapJobs(name, dataset, experiment.levels)
    for level in dataset.cheap_levels:
        if (count := sum(len(jobs.batches(level, part)) for part in jobs.parts)) > MOST_JOBS:
            raise ConfigError(
                f"datasets.{name}.cheap_levels: '{level}' takes {count} labelling jobs, {MOST_JOBS} at most; leave it "
                "out, or ask for fewer frames"
            )


def _check_references(name: str, experiment: Experiment, symbols: set[str], alone: set[str]) -> None:
    """Refuse a model whose stated references lack an element of a dataset; free atoms are known of those alone."""
    for model in dict.fromkeys(run.model for run in experiment.runs() if run.dataset == name):
        problem = experiment.models[model].references_problem(symbols, alone)
        if problem is not None:
            raise ConfigError(f"models.{model}.{problem} (dataset '{name}')")


def _learned_from(dataset: ComputedDataset, every: list[Atoms], part: str) -> list[Atoms]:
    """Return the structures that frames of a part, none of the test, are taken from or sampled from."""
    if dataset.geometries is None:
        return every
    from piwsl.reference.geometries import read_file

    return read_file(dataset.geometries.file_of(part), dataset.geometries)


def _check_structures(name: str, experiment: Experiment, frames: list[Atoms], where: str) -> None:
    """Refuse models of a dataset's runs that cannot learn structures, or be asked about them.

    Args:
        name: of the dataset.
        experiment: has the models of its runs.
        frames: the structures.
        where: they are from.
    """
    for key in dict.fromkeys(run.model for run in experiment.every_run() if run.dataset == name):
        if (problem := experiment.models[key].frames_problem(frames)) is not None:
            raise ConfigError(
                f"models.{key}: {problem} ({where}); choose another model, or leave its runs out (exclude)"
            )


class _Labels(NamedTuple):
    """The labels of frames of which a training draws some."""

    components: int
    """Of the forces of each that has any."""
    without_energy: int = 0
    without_forces: int = 0

    @classmethod
    def of(cls, frames: list[Atoms]) -> Self:
        """Return those of given frames."""
        return cls(
            3 * min(map(len, frames)),
            sum(not np.isfinite(atoms.info.get(ENERGY_KEY, np.nan)) for atoms in frames),
            sum(FORCES_KEY not in atoms.arrays for atoms in frames),
        )

    def at_least(self, size: int, loss: Loss) -> int:
        """Return how many a loss looks at, whichever frames are drawn."""
        energies, forces = max(size - self.without_energy, 0), max(size - self.without_forces, 0)
        return energies * (loss.energy > 0) + forces * self.components * (loss.forces > 0)


def _check_label_counts(name: str, experiment: Experiment, labels: _Labels) -> None:
    """Refuse runs with more labels than their model takes.

    Args:
        name: of the dataset.
        experiment: has the models and losses of its runs.
        labels: of its training frames.
    """
    for run in experiment.every_run():
        model = experiment.models[run.model]
        if run.dataset != name or model.most_labels is None:
            continue
        if (count := labels.at_least(run.size, experiment.losses[run.loss])) > model.most_labels:
            raise ConfigError(
                f"models.{run.model}: learns from {model.most_labels} labels at most, and {run.size} frames of dataset "
                f"'{name}' have {count} energies and components of forces; ask for fewer frames, or leave the run out "
                "(exclude)"
            )


def _check_room(name: str, experiment: Experiment, frames_of_part: Callable[[str], list[Atoms]]) -> None:
    """Refuse a model whose steps have no room for a frame of a dataset, or of the pool where a run takes such.

    Args:
        name: of the dataset.
        experiment: has the models and losses of its runs.
        frames_of_part: asked for training frames and, where a run takes such, for those of the pool.
    """
    # The same for most runs.
    largest = cache(lambda part, within: _largest(frames_of_part(part), within))
    of_dataset = (run for run in experiment.runs() if run.dataset == name)
    for model_name, loss_name in dict.fromkeys((run.model, run.loss) for run in of_dataset):
        model, loss = experiment.models[model_name], experiment.losses[loss_name]
        if model.training.limit is None:
            continue
        share = loss.pool if model.teacher is None else model.training.taught_share
        within = _reach(model, loss)
        pool = largest(POOL, within) if share else None
        if (problem := model.training.room_problem(share, largest(TRAINING, within), pool)) is not None:
            raise ConfigError(f"models.{model_name}.{problem} (dataset '{name}')")


def _reach(model: Architecture, loss: Loss) -> float | None:
    """Return within which distance (Å) edges of a step are counted; None where its limit is of atoms."""
    if model.training.max_edges is None:
        return None
    from piwsl.training.sizes import reach

    return reach(model, loss)


def _largest(frames: list[Atoms], within: float | None) -> Largest | None:
    """Return the largest of some frames, in edges within a distance (Å) or, without one, in atoms."""
    sizes = [*map(len, frames)]
    if within is not None:
        from piwsl.data.batch import ImpossibleGeometry
        from piwsl.data.views import held

        structures = [from_atoms(atoms, levels=(), electrons=False) for atoms in frames]
        try:
            sizes = held(structures).edges(within).tolist()
        except ImpossibleGeometry:
            return None  # the import or the training tells of it
    place = max(range(len(frames)), key=sizes.__getitem__, default=None)
    if place is None:
        return None
    formula = frames[place].get_chemical_formula()
    called = f"{frames[place].info['frame']} ({formula})" if "frame" in frames[place].info else formula
    return Largest(called, sizes[place])


def _check_made(name: str, experiment: Experiment) -> None:
    """Check the dataset files of an earlier run, before Snakemake deletes models that a job could not make anew."""
    layout, tests = Layout(experiment.experiment), experiment.datasets[name].tests
    files = layout.dataset(name)
    acquisition = experiment.datasets[name].acquisition
    of_sizes = [] if acquisition is None else [files.of_size(str(size)) for size in acquisition.sizes]
    of_tests = [layout.dataset(named_test(name, test)).part(TEST) for test in tests]
    made = (files.whole, *map(files.part, PARTS), *of_sizes, *of_tests, *map(files.test_set, tests))
    for path in map(Path, made):
        if not path.exists():
            continue
        try:
            with Dataset(path) as dataset:
                dataset.verify(most=FRAMES_CHECKED)  # jobs compare what they read
        except PiwslError as error:
            raise ConfigError(f"datasets.{name}: {error}") from None


def remarks(experiment: Experiment) -> list[str]:
    """Say what given datasets hold, a line a file, what looks odd about them, and which bases computed ones take.

    Args:
        experiment: checked already.
    """
    lines = []
    for name, dataset in experiment.datasets.items():
        if isinstance(dataset, GivenDataset) and any(map(is_awaited, dataset.files)):
            lines.append(
                f"{name}: {dataset.catalogue} is downloaded when it runs: {find(str(dataset.catalogue)).address}"
            )
        elif isinstance(dataset, GivenDataset):
            files = read_files(dataset, FRAMES_CHECKED)
            lines += [f"{name}{_seen([file])}: {summary(dataset, file)}" for file in files]
            labels, kept, seen = dataset.labels_of(dataset.file), kept_of(dataset, files), _seen(files)
            if dataset.drop:
                lines += _dropped(name, dataset, kept.findings(), seen)
            by_part = frames_of(kept)
            every = [atoms for part in PARTS for atoms in by_part.get(part, ())]
            of_levels = findings_of_levels(dataset, files)
            of_levels += doubts_of_levels(kept.survey, every.__getitem__, names_of_files(dataset))
            odd = [found.said for found in of_levels]
            odd += warnings(by_part, labels.energy_unit, labels.forces_unit, labels.stress_unit)
            lines += [f"{name}{seen}: warning: {warning}" for warning in odd]
            if dataset.cheap_levels:
                lines += [f"{name}: warning: {line}" for line in _electrons_that_do_not_fit(files)]
            lines += _remarks_on_tests(name, dataset, by_part[TRAINING])
        elif remark := level_remark(dataset, experiment):
            lines.append(f"{name}: {dataset.level}: {remark}")
    return lines


def _seen(files: Sequence[GivenFrames]) -> str:
    """Say how many frames of files were looked at, where that is not all."""
    every = max(file.every for file in files)
    return f" (one frame in {every} was read)" if every > 1 else ""


def _dropped(name: str, dataset: GivenDataset, sampled: Sequence[Finding], seen: str) -> Iterator[str]:
    """Say what will be dropped of a dataset, of all its frames where they are counted, and what is left."""
    if is_counted(dataset):
        sampled, seen = left_of(dataset).findings, ""
    yield from (f"{name}{seen}: {found.said}" for found in sampled)
    yield f"{name}: {_left(dataset)}"


def _left(dataset: GivenDataset) -> str:
    """Say how many frames are left of each part."""
    counts = {part: frames_left(dataset, part) for part in PARTS}
    at_most = "" if is_counted(dataset) else "at most "
    return f"left are {at_most}{', '.join(f'{count} {part} frames' for part, count in counts.items() if count)}"


def _remarks_on_tests(name: str, dataset: GivenDataset, learned: list[Atoms]) -> Iterator[str]:
    """Say likewise what the named test sets of a given dataset hold, beside the frames of its own file."""
    formulas = Formulas()
    known = survey_of(learned if dataset.tests else [], formulas)
    for test in dataset.tests:
        section = dataset.tested_on(test)
        file, labels = read_files(section, FRAMES_CHECKED, checked=False)[0], section.labels_of(section.file)
        yield f"{name}, test set {test}: {summary(section, file)}"
        tested = survey_of(file.frames, formulas)
        odd = findings_of_levels(section, [file])
        alone = Parts.of({TEST: (file.survey, file.taken)}, {TEST: str(file.path)})
        odd += doubts_of_levels(alone, file.frames.__getitem__, names_of_files(section))
        units = labels.energy_unit, labels.forces_unit, labels.stress_unit
        odd += warnings_of_test(tested, known, file.frames.__getitem__, *units)
        yield from (f"{name}, test set {test}: warning: {found.said}" for found in odd)
        if copies := copies_of(known, tested, [*learned, *file.frames].__getitem__):
            yield f"{name}, test set {test}: warning: {len(copies)} frames are among those of {dataset.file}"


def level_remark(dataset: ComputedDataset, experiment: Experiment) -> str | None:
    """Say what of a computed dataset's elements is not computed quite as its level's words say; None where all is."""
    from piwsl.reference.planning import structures

    return level_checks.problem_said(experiment.levels[dataset.level], "remark", symbols_of(structures(dataset)))


def _electrons_that_do_not_fit(files: list[GivenFrames]) -> Iterator[str]:
    """Say of which frames of a file cheap levels will have no labels, for charge and multiplicity cannot be."""
    for file in files:
        problems = [
            (atoms.info["frame"], problem) for atoms in file.frames if (problem := frame_electron_problem(atoms))
        ]
        if problems:
            position, problem = problems[0]
            yield (
                f"cheap levels leave out {len(problems)} of the frames of {file.path}: frame {position}: {problem}; "
                "say charge= and multiplicity= there"
            )
