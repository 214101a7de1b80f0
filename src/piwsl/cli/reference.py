"""Reference energies: labels of frames, and what a store of finished energies holds."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from piwsl.cli.application import app, command
from piwsl.errors import PiwslError

if TYPE_CHECKING:  # imported where they are used: each command starts with what it needs
    from piwsl.config import Level
    from piwsl.reference.exporting import Export

Store = Annotated[Path, typer.Option(help="Folder of finished energies.")]


@command
def label(
    frames: Annotated[Path, typer.Argument(metavar="IN.xyz", help="Geometries; info may hold charge, multiplicity.")],
    labelled: Annotated[Path, typer.Argument(metavar="OUT.xyz", help="Labelled frames to write.")],
    level: Annotated[str, typer.Option(metavar="LEVEL", help="A preset, or a YAML file of one level.")],
    forces: Annotated[
        Literal["analytic", "differences", "slope"] | None,
        typer.Option(help="Also forces: gradients, or central differences; or the slope along one random direction."),
    ] = None,
    atoms: Annotated[bool, typer.Option(help="Also the free atoms: OUT-atoms.json.")] = False,
    store: Store = Path("results/labels"),
    mem_mb: Annotated[int, typer.Option(help="Memory in MB that may be used.")] = 2000,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads for one frame. Default: one, more where it takes hours.")
    ] = None,
) -> None:
    """Label geometries with a level of theory.

    Says first what that takes, by estimate. Writes `REF_energy` (eV) and, with --forces, `REF_forces` (eV/Å), or
    `REF_slope` (eV/Å) along `REF_direction`, and beside OUT.xyz one JSON line a frame with all components, or the
    reason of a failure. Finished energies are kept; started again, it goes on.

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


labels = typer.Typer(no_args_is_help=True, help="What a store of finished energies holds; nothing is computed.")
app.add_typer(labels, name="labels")
ALL = "all"


@partial(command, group=labels, name="export")
def export_labels(
    labelled: Annotated[Path, typer.Argument(metavar="OUT.xyz", help="Labelled frames to write.")],
    level: Annotated[str, typer.Option(metavar="LEVEL", help="A preset, a YAML file of one level, or `all`.")],
    config: Annotated[Path | None, typer.Option(help="An experiment, of which LEVEL is one of the levels.")] = None,
    store: Store = Path("results/labels"),
) -> None:
    """Write what a store has of a level as labelled frames.

    Finished energies, and those that follow from kept parts: a level that was never computed is combined from what
    others have computed, extrapolations included. Writes `REF_energy` (eV), `REF_forces` (eV/Å) where they are known,
    or `REF_slope` (eV/Å) along `REF_direction`, the energies of all parts (Hartree) in `components_Eh`, and beside
    OUT.xyz one JSON line a geometry: where its labels are from, or which parts it lacks. Displaced geometries are in
    the forces or the slope of theirs. Of `all`, each level has a file of its own: OUT-KEY.xyz.

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


def _left_out(problem: str) -> None:
    print(f"warning: {problem}; left out", file=sys.stderr)


def _write_export(path: Path, level: str, found: Export) -> None:
    from piwsl.files import write_json_lines
    from piwsl.structures.frames import write_frames

    write_frames(path, found.frames)
    write_json_lines(path.with_suffix(".jsonl"), found.rows)
    with_forces = sum(row.get("forces") not in (None, "slope") for row in found.rows)
    combined = sum(row.get("from") == "parts" for row in found.rows)
    print(f"{level}: {len(found.frames)} frames, {with_forces} with forces, {combined} combined from parts: {path}")
    for name, count in found.lacking().most_common():
        print(f"  {count} more lack {name}")


@partial(command, group=labels, name="list")
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


Archive = Annotated[Path, typer.Argument(metavar="LABELS.jsonl.xz", help="Finished energies, packed.")]


@partial(command, group=labels, name="pack")
def pack_labels(
    archive: Archive,
    level: Annotated[
        list[str] | None,
        typer.Option(metavar="LEVEL", help="A preset, or a YAML file of one level; may be said again. Default: all."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="An experiment, of which LEVEL is one of the levels.")] = None,
    store: Store = Path("results/labels"),
) -> None:
    """Write the finished energies of a store as one small file: `piwsl labels unpack` fills another store from it.

    Energies, forces and notes, those of displaced geometries, too: where labels of an experiment were packed, the
    experiment computes none of them again.

    Example: `piwsl labels pack ethanol.jsonl.xz --level ccsdt-cbs`
    """
    from piwsl.files import check_outputs
    from piwsl.reference.archive import pack
    from piwsl.reference.exporting import opened
    from piwsl.reference.recipe import level_key

    check_outputs([archive], inputs=[*map(Path, level or []), *([config] if config else [])])
    folders, _ = opened(store, _left_out)
    if level:
        of_key = {folder.key: folder for folder in folders}
        keys = {level_key(_level(said, config)): said for said in level}
        for key in keys.keys() - of_key.keys():
            raise PiwslError(f"{store}: has no energies of {keys[key]}; `piwsl labels list` says what it has")
        folders = [of_key[key] for key in keys]
    print(f"{pack(folders, archive)} records: {archive}, {archive.stat().st_size / 1000:,.0f} kB")


@partial(command, group=labels, name="unpack")
def unpack_labels(archive: Archive, store: Store = Path("results/labels")) -> None:
    """Put the energies of a file into a store. What is there stays.

    Example: `piwsl labels unpack ethanol.jsonl.xz`
    """
    from piwsl.reference.archive import unpack

    for found in unpack(archive, store):
        print(f"{found.level}: {found.new} records new, {found.there} there already")
