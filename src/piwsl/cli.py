"""The command line: the pipeline's steps without Snakemake. Thin; every command calls one function."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from piwsl.errors import PiwslError
from piwsl.extras import naming_extras
from piwsl.files import refusal

if TYPE_CHECKING:  # imported where they are used: each command starts with what it needs
    from piwsl.config import Level
    from piwsl.reference.exporting import Export
    from piwsl.reference.planning import Plan

Format = Annotated[
    str | None, typer.Option("--format", help="What reads the frames: extxyz, ase, ...; default: by the file's name.")
]

Store = Annotated[Path, typer.Option(help="Folder of finished energies.")]

app = typer.Typer(
    name="piwsl",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Reference energies, potentials and simulations without Snakemake. Energies are in eV, lengths in Å.",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"piwsl {metadata.version('piwsl')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options without a command."""


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        with naming_extras():
            yield
    except PiwslError as error:
        _end(str(error))
    except (OSError, RuntimeError) as error:  # h5py and torch write by themselves
        reason = refusal(error)
        if reason is None:
            raise
        _end(reason)


def _end(reason: str) -> NoReturn:
    print(f"error: {reason}", file=sys.stderr)
    raise typer.Exit(1) from None


def _command(function: Callable[..., None], group: typer.Typer = app, name: str | None = None) -> Callable[..., None]:
    """Register a command whose PiwslError ends it with one line and exit code 1."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        with _errors_in_one_line():
            function(*args, **kwargs)

    return group.command(name)(wrapped)


def _level(given: str, config: Path | None = None) -> Level:
    """Return a level of an experiment where one is given, else a preset, or the level of a YAML file."""
    from piwsl.config import PRESETS, named_level, nearest, read_level
    from piwsl.config.levels import CHEAP

    if config is not None:
        from piwsl.preflight import load_experiment

        levels = load_experiment(config).levels
        if given not in levels:
            raise PiwslError(f"--level: {config} has no level '{given}'; {nearest(given, [*levels])}")
        return levels[given]
    if Path(given).exists():
        return read_level(Path(given))
    if given not in {*PRESETS, *CHEAP}:
        raise PiwslError(f"--level: neither a file nor a preset: '{given}'; {nearest(given, [*PRESETS, *CHEAP])}")
    return named_level(given)


@_command
def label(
    frames: Annotated[Path, typer.Argument(metavar="IN.xyz", help="Geometries; info may hold charge, multiplicity.")],
    labelled: Annotated[Path, typer.Argument(metavar="OUT.xyz", help="Labelled frames to write.")],
    level: Annotated[str, typer.Option(metavar="LEVEL", help="A preset, or a YAML file of one level.")],
    forces: Annotated[
        Literal["analytic", "differences"] | None, typer.Option(help="Also forces: gradients or central differences.")
    ] = None,
    atoms: Annotated[bool, typer.Option(help="Also the free atoms: OUT-atoms.json.")] = False,
    store: Store = Path("results/labels"),
    mem_mb: Annotated[int, typer.Option(help="Memory in MB that may be used.")] = 2000,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads for one frame. Default: one, more where it takes hours.")
    ] = None,
) -> None:
    """Label geometries with a level of theory.

    Says first what that takes, by estimate. Writes `REF_energy` (eV) and, with --forces, `REF_forces` (eV/Å), and
    beside OUT.xyz one JSON line a frame with all components, or the reason of a failure. Finished energies are kept;
    started again, it goes on.

    Example: `piwsl label water.xyz labelled.xyz --level ccsdt-cbs`
    """
    from piwsl.config.level_checks import on_threads, problem_said
    from piwsl.files import check_outputs, write_json, write_json_lines
    from piwsl.reference.atoms import free_atoms
    from piwsl.reference.checks import check_level, check_molecules
    from piwsl.reference.estimates import check_memory, estimate
    from piwsl.reference.forces import check_forces
    from piwsl.reference.labelling import label_frames
    from piwsl.structures.frames import read_frames, write_frames
    from piwsl.structures.geometry import symbols_of

    records_file, atoms_file = labelled.with_suffix(".jsonl"), labelled.with_name(f"{labelled.stem}-atoms.json")
    scheme = _level(level)
    geometries = read_frames(frames)
    multiplicities = check_molecules(geometries, frames)
    symbols = symbols_of(geometries)
    check_level(scheme, symbols)
    check_forces(scheme, multiplicities, forces)
    if remark := problem_said(scheme, "remark", symbols):
        print(f"{scheme}: {remark}")
    check_outputs([labelled, records_file, *([atoms_file] if atoms else [])], inputs=[frames, Path(level)])
    takes = estimate(geometries, scheme, forces, store)
    check_memory(takes, mem_mb, forces)
    threads = threads or min(takes.threads(), os.cpu_count() or 1)
    print(takes.in_words(threads, mem_mb))
    done, records = label_frames(geometries, on_threads(scheme, threads), store, forces, mem_mb)
    if atoms:
        write_json(atoms_file, free_atoms(symbols, scheme, store, mem_mb))
    write_frames(labelled, done)
    write_json_lines(records_file, records)
    print(f"{len(done)} of {len(geometries)} frames labelled: {labelled}; records: {records_file}")
    if len(done) < len(geometries):
        raise PiwslError(f"{len(geometries) - len(done)} frames failed; {records_file} says why")


@_command
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")],
    frames: Annotated[Path, typer.Argument(metavar="IN.xyz", help="Geometries, periodic or not.")],
    predicted: Annotated[Path, typer.Argument(metavar="OUT.xyz", help="Frames to write.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; small systems want one.")] = 1,
    form: Format = None,
) -> None:
    """Predict energies and forces of geometries.

    Writes `energy` (eV) and `forces` (eV/Å). Where the frames have labels (`REF_energy`, `REF_forces`), the errors
    are printed. Frames that the model's baseline gives up on are left out with a line each, and the exit code is 1.

    Example: `piwsl predict model.safetensors test.xyz predicted.xyz`
    """
    import torch

    from piwsl.evaluation.files import predict_file

    torch.set_num_threads(threads)
    predict_file(model, frames, predicted, device, form)


@_command
def train(
    frames: Annotated[Path, typer.Argument(metavar="FRAMES.xyz", help="Labelled frames.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where model and history go.")],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="`model` and `loss`, as sections of an experiment.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="painn, schnet, mace or an installed one; painn where nothing says.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    pool: Annotated[
        Path | None, typer.Option(help="Frames without labels, for a loss with a pool, or for a teacher to label.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(metavar="MODEL", help="A model file; it labels the pool.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs; 0 trains on the CPU.")] = 0,
    level: Annotated[str | None, typer.Option(help="Of theory, in words: what `piwsl info` says of the model.")] = None,
    form: Format = None,
) -> None:
    """Train a potential on the labelled frames of a file, without an experiment.

    Frames have `REF_energy` (eV) and, all, some or none, `REF_forces` (eV/Å); of .traj, .db and what else ASE reads the
    results of calculations are taken. Writes FOLDER/model.safetensors and
    FOLDER/history.csv. Interrupted and started again, it goes on.

    Example: `piwsl train frames.xyz my-model --architecture painn`
    """
    from piwsl import api
    from piwsl.config import parse_training
    from piwsl.data.reading import read_frames
    from piwsl.models import load_model
    from piwsl.readers import READERS, format_of

    if teacher is not None and pool is None:
        raise PiwslError("--teacher: there is nothing to label; name frames with --pool")
    model, loss = parse_training(config, architecture, steps)
    labelled, unlabelled = read_frames(frames, form), [] if pool is None else read_frames(pool, form)
    labelling = None if teacher is None else load_model(teacher)
    readers = {form or format_of(path) for path in (frames, pool) if path is not None}
    brought = {kind: source for name in sorted(readers) for kind, source in READERS.named_source(name).items()}
    api.train(labelled, folder, model, loss, seed, unlabelled, threads, gpus, labelling, brought, level)
    print(f"trained: {folder / 'model.safetensors'}")


@_command
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")],
    frames: Annotated[Path, typer.Argument(metavar="FRAMES.xyz", help="Labelled frames that it has not seen.")],
    errors: Annotated[Path | None, typer.Option(metavar="OUT.json", help="Also write the errors there.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    form: Format = None,
) -> None:
    """Say how far a model is from the labels of frames: energies, their constant part, forces, stress.

    Example: `piwsl evaluate my-model/model.safetensors test.xyz`
    """
    from piwsl import api
    from piwsl.data.reading import read_frames
    from piwsl.files import check_outputs, write_json
    from piwsl.models import load_model

    check_outputs([] if errors is None else [errors], inputs=[model, frames])
    found = api.evaluate(load_model(model, device), read_frames(frames, form))
    for name, value in found.items():
        print(f"{name}: {'not labelled' if value is None else f'{value:.4g}'}")
    if errors is not None:
        write_json(errors, found)


@_command
def md(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")],
    start: Annotated[Path, typer.Argument(metavar="START.xyz", help="The first frame is the start.")],
    temperature: Annotated[float, typer.Option(help="K.")] = 300.0,
    time: Annotated[float, typer.Option(help="ps.")] = 1.0,
    timestep: Annotated[float, typer.Option(help="fs.")] = 0.5,
    ensemble: Annotated[
        Literal["nvt", "nve"], typer.Option(help="Langevin dynamics, or constant energy, whose drift is told.")
    ] = "nvt",
    friction: Annotated[float, typer.Option(help="1/fs; of nvt.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Of velocities and noise.")] = 0,
    trajectory: Annotated[Path, typer.Option(help="Extended XYZ, written as it goes.")] = Path("trajectory.xyz"),
    restart: Annotated[
        bool, typer.Option("--restart", help="Go on from the trajectory's last frame, if there is one, to --time.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; small systems want one.")] = 1,
) -> None:
    """Run molecular dynamics with a model, until the time is over or a bond of START.xyz breaks.

    Frames of the trajectory have velocities, `time_fs`, `temperature` (K) and `total_energy` (eV).

    Example: `piwsl md model.safetensors start.xyz --temperature 300 --time 10`
    """
    import torch

    from piwsl.config import Simulation, parse_section
    from piwsl.simulation.dynamics import simulate_file

    torch.set_num_threads(threads)
    options = {"ensemble": ensemble, "temperature": temperature, "time": time, "timestep": timestep}
    settings = parse_section(Simulation, options | {"friction": friction, "seed": seed}, "options")
    summary = simulate_file(model, start, settings, trajectory, device, restart)
    drift = summary.get("drift_meV_per_atom_per_ps")
    print(
        f"{summary['ended']} after {summary['stable_ps']:g} of {summary['time_ps']:g} ps, "
        f"mean temperature {summary['mean_temperature_K']:.0f} K, "
        + ("" if drift is None else f"energy drift {drift:.3g} meV/atom/ps, ")
        + f"{summary['steps_per_second']:g} steps/s: {trajectory}"
    )


Surface = Annotated[str, typer.Argument(metavar="MODEL", help="A model file, or a level: a preset, or a YAML file.")]
Beside = Annotated[
    list[str], typer.Option("--beside", metavar="MODEL", help="Another one to lay beside it; may be said again.")
]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]


@_command
def relax(
    model: Surface,
    frames: Annotated[Path, typer.Argument(metavar="IN.xyz", help="Geometries, periodic or not.")],
    relaxed: Annotated[Path, typer.Argument(metavar="OUT.xyz", help="Relaxed frames to write.")],
    beside: Beside = [],  # noqa: B006 (typer's)
    fmax: Annotated[float, typer.Option(min=1e-8, help="eV/Å; no force is larger in the end.")] = 0.01,
    steps: Annotated[int, typer.Option(min=0, help="At most, a frame.")] = 1000,
    optimiser: Annotated[Literal["bfgs", "fire"], typer.Option(help="ASE's.")] = "bfgs",
    cell: Annotated[bool, typer.Option("--cell", help="Also the cell, of crystals.")] = False,
    device: Device = "cpu",
) -> None:
    """Relax geometries with a model or a level of theory, through ASE.

    Prints a row a frame: energy gained, force left, how far the atoms moved (root mean square, after superposition).
    Atoms that `move_mask` fixes stay. Frames that cannot be computed are left out with a line each. With --beside,
    OUT-NAME.xyz has the geometries of the others.

    Example: `piwsl relax model.safetensors start.xyz relaxed.xyz --beside gfn2-xtb`
    """
    from piwsl.surface.files import relax_file

    relax_file(model, frames, relaxed, beside, fmax, steps, optimiser, cell, device)


@_command
def vibrations(
    model: Surface,
    start: Annotated[Path, typer.Argument(metavar="START.xyz", help="The first frame is taken, and relaxed.")],
    found: Annotated[Path, typer.Argument(metavar="OUT.json", help="Written with OUT.molden and OUT.xyz.")],
    beside: Beside = [],  # noqa: B006 (typer's)
    as_given: Annotated[
        bool, typer.Option("--as-given", help="At the geometry as it is, a transition state for instance.")
    ] = False,
    temperature: Annotated[float, typer.Option(min=0.1, help="K.")] = 298.15,
    pressure: Annotated[float, typer.Option(min=1e-6, help="Pa.")] = 101325.0,
    symmetry_number: Annotated[int, typer.Option(min=1, help="Of the rotation: 2 of water, 3 of ammonia.")] = 1,
    device: Device = "cpu",
) -> None:
    """Compute harmonic frequencies, zero-point energy and, of molecules, ideal-gas thermochemistry.

    By central differences of forces, without translations and rotations; charge and multiplicity stand in the frame's
    info. An imaginary frequency is printed with an i, and negative in files. Geometries with forces above 0.1 eV/Å are
    refused.

    Example: `piwsl vibrations model.safetensors start.xyz vibrations.json --beside gfn2-xtb`
    """
    from piwsl.surface.files import vibrations_file

    vibrations_file(model, start, found, beside, as_given, temperature, pressure, symmetry_number, device)


@_command
def scan(
    model: Surface,
    start: Annotated[Path, typer.Argument(metavar="START.xyz", help="The first frame is taken.")],
    table: Annotated[Path, typer.Argument(metavar="OUT.csv", help="Written with OUT.xyz.")],
    atoms: Annotated[str, typer.Option(help="Two, three or four by index from 0: a distance, angle or dihedral.")],
    first: Annotated[float, typer.Option("--from", help="Å or °.")],
    last: Annotated[float, typer.Option("--to", help="Å or °.")],
    points: Annotated[int, typer.Option(min=1, help="Both ends included.")] = 25,
    beside: Beside = [],  # noqa: B006 (typer's)
    relaxed: Annotated[bool, typer.Option("--relax", help="Relax all else at each point.")] = False,
    fmax: Annotated[float, typer.Option(min=1e-8, help="eV/Å, with --relax.")] = 0.01,
    device: Device = "cpu",
) -> None:
    """Scan a distance, an angle or a dihedral with a model or a level of theory.

    Without --relax, what is bonded to the last atom moves with it, or one side of a dihedral about its axis, as it is.
    Prints energies from the lowest of each column; OUT.csv has total energies.

    Example: `piwsl scan model.safetensors start.xyz scan.csv --atoms "0 1 2 3" --from 0 --to 360 --points 37`
    """
    import numpy as np

    from piwsl.structures.coordinates import Coordinate
    from piwsl.surface.files import scan_file

    try:
        indices = tuple(map(int, atoms.replace(",", " ").split()))
    except ValueError:
        raise PiwslError(f"--atoms: found '{atoms}', expected indices such as \"0 1 2 3\"") from None
    values = np.linspace(first, last, points).tolist()
    scan_file(model, start, table, Coordinate(indices), values, beside, relaxed, fmax, device)


@_command
def info(model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")]) -> None:
    """Show what a model file holds: architecture, elements, units, versions; level of theory, charges, multiplicities.

    With the errors on test frames, where the evaluation of its experiment lies beside it.

    Example: `piwsl info results/ammonia/ammonia/painn/weak/n60/seed0/model.safetensors`
    """
    import yaml

    from piwsl.evaluation.files import errors_of
    from piwsl.models.storage import read_header
    from piwsl.workflow.layout import RunFiles

    header = read_header(model)
    errors = errors_of(model, header, Path(RunFiles(str(model.parent)).errors))
    told = header if errors is None else {**header, "test_errors": errors}
    print(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), end="")


@_command
def check(config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment.")]) -> None:
    """Check an experiment without running it, count its runs, and say what given datasets hold.

    Example: `piwsl check config.yaml`
    """
    from piwsl.preflight import costly_datasets, load_experiment, remarks

    experiment = load_experiment(config)
    for remark in remarks(experiment):
        print(remark)
    _warn(config, costly_datasets(experiment))
    print(f"{config}: experiment '{experiment.experiment}' is in order, {len(experiment.runs())} training runs")


def _warn(config: Path, lines: Iterable[str]) -> None:
    for line in lines:
        print(f"warning: {config}: {line}", file=sys.stderr)


def _print_plan(row: Plan) -> None:
    stored = "frames not made yet" if row.stored is None else f"{row.stored} stored"
    forces = f" with forces ({row.forces})" if row.forces else ""
    cores = f" and {row.threads} cores" if row.threads > 1 else ""
    jobs = f"{row.jobs} job{'s' if row.jobs > 1 else ''} of {row.mem_mb} MB{cores}"
    print(
        f"  {row.labels}: {row.frames} frames{forces}, {stored}: {jobs}, {row.cpu_hours:.2g} CPU hours, "
        f"{row.disk_mb:.1f} MB to keep, {row.scratch_mb:.0f} MB of scratch a job"
    )


@_command
def plan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment.")],
    results: Annotated[Path, typer.Option(help="Where results are; what is there is not planned.")] = Path("results"),
) -> None:
    """Say what reference energies and labels of cheap levels take, before anything is submitted.

    Frames, those that are stored already, jobs, CPU hours, memory and disk of each dataset. CPU hours are good within a
    factor of two.

    Example: `piwsl plan config.yaml`
    """
    from piwsl.config import ComputedDataset
    from piwsl.data.dataset import PARTS, TEST
    from piwsl.preflight import costly_datasets, level_remark, load_experiment
    from piwsl.reference.planning import plan_dataset
    from piwsl.workflow.cheap_labels import CheapJobs
    from piwsl.workflow.test_sets import named_tests

    experiment = load_experiment(config)
    _warn(config, costly_datasets(experiment))
    hours, jobs = 0.0, 0
    tests = named_tests(experiment)
    datasets = experiment.datasets | {name: test.section for name, test in tests.items()}
    for name, dataset in datasets.items():
        folder, store = results / experiment.experiment / "datasets" / name, results / "labels"
        parts = (TEST,) if name in tests else PARTS
        rows = list(CheapJobs(name, dataset, experiment.levels, parts).plans(folder, store))
        if isinstance(dataset, ComputedDataset):
            level = experiment.levels[dataset.level]
            print(f"{name}: {dataset.level} = {level}")
            if remark := level_remark(dataset, experiment):
                print(f"  {remark}")
            rows = [*plan_dataset(name, dataset, level, folder, store), *rows]
        elif rows:
            print(f"{name}: {dataset.file}, with cheap levels")
        for row in rows:
            _print_plan(row)
            hours, jobs = hours + row.cpu_hours, jobs + row.jobs
    runs = experiment.runs()
    choosing = len(set(experiment.trained(runs)) - set(runs))
    beside = f", and {choosing} whose models choose frames" if choosing else ""
    print(
        f"In all {jobs} jobs, about {hours:.2g} CPU hours, for reference energies and cheap levels; "
        f"{len(runs)} training runs{beside}."
    )


labels = typer.Typer(no_args_is_help=True, help="What a store of finished energies holds; nothing is computed.")
app.add_typer(labels, name="labels")
ALL = "all"


def _left_out(problem: str) -> None:
    print(f"warning: {problem}; left out", file=sys.stderr)


@partial(_command, group=labels, name="export")
def export_labels(
    labelled: Annotated[Path, typer.Argument(metavar="OUT.xyz", help="Labelled frames to write.")],
    level: Annotated[str, typer.Option(metavar="LEVEL", help="A preset, a YAML file of one level, or `all`.")],
    config: Annotated[Path | None, typer.Option(help="An experiment, of which LEVEL is one of the levels.")] = None,
    store: Store = Path("results/labels"),
) -> None:
    """Write what a store has of a level as labelled frames.

    Finished energies, and those that follow from kept parts: a level that was never computed is combined from what
    others have computed, extrapolations included. Writes `REF_energy` (eV), `REF_forces` (eV/Å) where they are known,
    the energies of all parts (Hartree) in `components_Eh`, and beside OUT.xyz one JSON line a geometry: where its
    labels are from, or which parts it lacks. Displaced geometries are in the forces of theirs. Of `all`, each level has
    a file of its own: OUT-KEY.xyz.

    Example: `piwsl labels export water.xyz --level mp2-cbs`
    """
    from piwsl.files import check_outputs
    from piwsl.reference.exporting import export_folder, export_level, opened

    levels, _ = opened(store, _left_out)
    if level != ALL:
        scheme = _level(level, config)
        check_outputs([labelled, labelled.with_suffix(".jsonl")], inputs=[Path(level), *([config] if config else [])])
        _write_export(labelled, str(scheme), export_level(store, scheme, _left_out))
        return
    paths = {folder: labelled.with_name(f"{labelled.stem}-{folder.key}{labelled.suffix}") for folder in levels}
    check_outputs([each for path in paths.values() for each in (path, path.with_suffix(".jsonl"))], inputs=[])
    for folder, path in paths.items():
        _write_export(path, str(folder.about().get(folder.kind)), export_folder(folder))


def _write_export(path: Path, level: str, found: Export) -> None:
    from piwsl.files import write_json_lines
    from piwsl.structures.frames import write_frames

    write_frames(path, found.frames)
    write_json_lines(path.with_suffix(".jsonl"), found.rows)
    with_forces = sum(row.get("forces") is not None for row in found.rows)
    combined = sum(row.get("from") == "parts" for row in found.rows)
    print(f"{level}: {len(found.frames)} frames, {with_forces} with forces, {combined} combined from parts: {path}")
    for name, count in found.lacking().most_common():
        print(f"  {count} more lack {name}")


@partial(_command, group=labels, name="list")
def list_labels(store: Store = Path("results/labels")) -> None:
    """Say which levels and parts a store has: how many energies, and the CPU hours that they took.

    Example: `piwsl labels list`
    """
    from piwsl.reference.exporting import opened, summary

    levels, parts = opened(store, _left_out)
    for kind, folders in (("levels", levels), ("parts", parts)):
        print(f"{kind}:")
        for row in map(summary, folders):
            print(
                f"  {row.key}  {row.records} energies, {row.with_forces} with gradients, "
                f"{row.cpu_hours:.2g} CPU hours: {row.name}"
            )


@_command
def status(config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment.")]) -> None:
    """Say how far an experiment has come: jobs done, running, failed and waiting, by rule, and the time left.

    In the folder where Snakemake runs or ran; it looks at files alone, and changes none. Times are those of jobs alike
    that have ended, of labelling jobs the cost model's, set right by the energies that are there.

    Example: `piwsl status config.yaml`
    """
    from time import time

    from piwsl.preflight import named_experiment
    from piwsl.workflow.jobs import Jobs
    from piwsl.workflow.status import status_of
    from piwsl.workflow.status_lines import status_lines

    now = time()
    jobs = Jobs(named_experiment(config), Path("workflow/scripts"))
    for line in status_lines(status_of(jobs, now), now):
        print(line)


@_command
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Folders of results, two or more.")],
    page: Annotated[Path, typer.Option(metavar="OUT.html", help="The page to write.")] = Path("comparison.html"),
) -> None:
    """Lay experiments side by side on one page: errors, what they cost, what differs in their configurations.

    Errors are compared on test frames that are the same to the last bit, labels included; where there are none, the
    page and the terminal say so. The first folder is what others are compared with.

    Example: `piwsl compare results/ammonia results/ammonia-with-forces`
    """
    from piwsl.workflow.compare import compare_folders

    for line in compare_folders(folders, page):
        print(f"warning: {line}", file=sys.stderr)
    print(f"compared: {page}")


@_command
def schema() -> None:
    """Print the JSON schema of an experiment, for editors.

    Example: `piwsl schema > workflow/schemas/config.schema.json`
    """
    from piwsl.config import json_schema

    print(json_schema(), end="")
