"""Minima, vibrations and scans from file to file, with tables that people read."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console
from rich.table import Table

from piwsl.errors import PiwslError
from piwsl.files import check_outputs, write_json, write_text
from piwsl.structures.coordinates import Coordinate
from piwsl.structures.frames import write_frames
from piwsl.surface.relaxation import Optimiser, Relaxed, distance, relax
from piwsl.surface.scan import Point, scan
from piwsl.surface.source import Surface, geometries_of, naming, surfaces_of
from piwsl.surface.vibrations import Vibrations, molden, thermochemistry, vibrations

# Columns that a table has where nobody looks at it, so that no line is folded.
WIDTH_OF_FILES = 160
# eV/Å: vibrations of a molecule that is relaxed less are off by wavenumbers.
FMAX_OF_VIBRATIONS = 1e-3


def relax_file(
    model: str,
    frames_path: Path,
    relaxed_path: Path,
    beside: Sequence[str] = (),
    fmax: float = 0.01,
    most_steps: int = 1000,
    optimiser: Optimiser = "bfgs",
    cell: bool = False,
    device: str = "cpu",
) -> None:
    """Relax the frames of a file; print a table, write the geometries with energy and forces.

    Args:
        model: a model file, or a level of theory.
        frames_path: extended XYZ, or what else is read.
        relaxed_path: extended XYZ to write; those of what is asked beside it lie beside it, under their names.
        beside: other models or levels.
        fmax: eV/Å.
        most_steps: of a relaxation.
        optimiser: its name.
        cell: relax the cell, too.
        device: of models.

    Raises:
        PiwslError: a file cannot be read or written; or frames could not be computed (a line each), or have forces left
            at the end: the others are written before.
    """
    frames = geometries_of(frames_path)
    surfaces = surfaces_of(model, beside, frames, device)
    outputs = [relaxed_path, *(_beside(relaxed_path, surface) for surface in surfaces[1:])]
    check_outputs(outputs, inputs=[frames_path, Path(model), *map(Path, beside)])
    found: dict[int, list[Relaxed]] = {}
    for position, atoms in enumerate(frames):
        try:
            found[position] = [_relaxed(each, atoms, fmax, most_steps, optimiser, cell) for each in surfaces]
        except PiwslError as error:
            print(f"{frames_path}: frame {position} is left out: {error}", flush=True)
    if not found:
        raise PiwslError(f"{frames_path}: no frame is left; the lines above say why")
    for number, path in enumerate(outputs):
        write_frames(path, [_with_results(of_frame[number].atoms) for of_frame in found.values()])
    _print(_relaxed_table(surfaces, found))
    print(f"{len(found)} of {len(frames)} frames: {', '.join(map(str, outputs))}")
    if len(found) < len(frames):
        raise PiwslError(f"{frames_path}: {len(frames) - len(found)} frames are left out; the lines above say why")
    if late := sum(not each.converged for of_frame in found.values() for each in of_frame):
        raise PiwslError(
            f"{late} relaxations have forces above {fmax:g} eV/Å left; raise --steps, or take --optimiser fire"
        )


def vibrations_file(
    model: str,
    start_path: Path,
    json_path: Path,
    beside: Sequence[str] = (),
    as_given: bool = False,
    temperature: float = 298.15,
    pressure: float = 101325.0,
    symmetry_number: int = 1,
    device: str = "cpu",
) -> None:
    """Compute harmonic vibrations of the first frame of a file, relaxed before; print a table, write what others read.

    Args:
        model: a model file, or a level of theory.
        start_path: extended XYZ, or what else is read.
        json_path: JSON to write; geometry (.xyz) and normal modes (.molden) of the model lie beside it.
        beside: other models or levels.
        as_given: at the geometry as it is: a transition state, for instance.
        temperature: K.
        pressure: Pa.
        symmetry_number: of the rotation of the molecule.
        device: of models.

    Raises:
        PiwslError: a file cannot be read or written, or the frame cannot be computed or relaxed.
    """
    start = geometries_of(start_path)[0]
    surfaces = surfaces_of(model, beside, [start], device)
    geometry_path, modes_path = json_path.with_suffix(".xyz"), json_path.with_suffix(".molden")
    check_outputs([json_path, geometry_path, modes_path], inputs=[start_path, Path(model), *map(Path, beside)])
    found, records = [], []
    for surface in surfaces:
        with naming(f"{surface.name}: {start_path}: frame 0"):
            found.append(vibrations(surface.of(start) if as_given else _minimum(surface, start)))
            records.append(_record(surface, found[-1], temperature, pressure, symmetry_number))
    write_json(json_path, records)
    write_text(modes_path, molden(found[0]))
    write_frames(geometry_path, [_with_results(found[0].atoms)])
    _print(_vibrations_table(surfaces, found))
    _print(_thermochemistry_table(records))
    if found[0].shape is not None:
        print(f"Ideal gas at {temperature:g} K and {pressure:g} Pa, symmetry number {symmetry_number}.")
    print(f"Written: {json_path}, {modes_path}, {geometry_path}")


def scan_file(
    model: str,
    start_path: Path,
    table_path: Path,
    coordinate: Coordinate,
    values: Sequence[float],
    beside: Sequence[str] = (),
    relaxed: bool = False,
    fmax: float = 0.01,
    device: str = "cpu",
) -> None:
    """Scan an internal coordinate of the first frame of a file; print a table, write CSV and geometries.

    Args:
        model: a model file, or a level of theory.
        start_path: extended XYZ, or what else is read.
        table_path: CSV to write; the model's geometries (.xyz) lie beside it.
        coordinate: what is scanned.
        values: Å or °.
        beside: other models or levels.
        relaxed: relax all else at each value.
        fmax: eV/Å, where it is relaxed.
        device: of models.

    Raises:
        PiwslError: a file cannot be read or written, an atom is not there, or some points could not be computed; those
            that could are written before.
    """
    start = geometries_of(start_path)[0]
    with naming(f"{start_path}: frame 0"):
        coordinate.check(start)
    surfaces = surfaces_of(model, beside, [start], device)
    geometries_path = table_path.with_suffix(".xyz")
    check_outputs([table_path, geometries_path], inputs=[start_path, Path(model), *map(Path, beside)])
    found = []
    for surface in surfaces:
        with naming(f"{surface.name}: {start_path}: frame 0"):
            found.append(scan(surface.of(start), coordinate, values, relaxed, fmax))
    write_text(table_path, _scan_csv(surfaces, found, coordinate))
    write_frames(geometries_path, [_with_results(point.atoms) for point in found[0]])
    _print(_scan_table(surfaces, found, coordinate))
    print(f"{len(values)} points: {table_path}, {geometries_path}")
    problems = [
        f"{surface.name}: {coordinate.kind} {point.value:g} {coordinate.unit}: {point.problem}"
        for surface, points in zip(surfaces, found, strict=True)
        for point in points
        if point.problem is not None
    ]
    for problem in problems:
        print(problem)
    if problems:
        raise PiwslError(f"{len(problems)} points are missing or not relaxed; the lines above say why")


def _relaxed(surface: Surface, atoms: Atoms, fmax: float, most_steps: int, optimiser: Optimiser, cell: bool) -> Relaxed:
    with naming(surface.name):
        return relax(surface.of(atoms), fmax, most_steps, optimiser, cell)


def _minimum(surface: Surface, start: Atoms) -> Atoms:
    found = relax(surface.of(_unconstrained(start)), FMAX_OF_VIBRATIONS)
    if not found.converged:
        raise PiwslError(f"forces of {found.largest_force:.2g} eV/Å are left after {found.steps} steps; relax it first")
    return found.atoms


def _unconstrained(atoms: Atoms) -> Atoms:
    free = atoms.copy()
    free.set_constraint()
    return free


def _record(
    surface: Surface, found: Vibrations, temperature: float, pressure: float, symmetry_number: int
) -> dict[str, Any]:
    gas = None if found.shape is None else asdict(thermochemistry(found, temperature, pressure, symmetry_number))
    return {
        "surface": surface.name,
        "energy_eV": found.energy,
        "numbers": found.atoms.numbers.tolist(),
        "positions_A": found.atoms.positions.tolist(),
        "shape": found.shape,
        "frequencies_per_cm": found.frequencies.tolist(),
        "modes": found.modes.tolist(),
        "zero_point_energy_eV": found.zero_point_energy,
        "asymmetry_of_hessian": found.asymmetry,
        "ideal_gas": gas,
    }


def _with_results(atoms: Atoms) -> Atoms:
    """Return a geometry with what its calculator says of it, without that calculator; bare where it failed."""
    frame = atoms.copy()
    if atoms.calc is None:
        return frame
    energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return frame


def _beside(path: Path, surface: Surface) -> Path:
    name = re.sub(r"[^\w.-]+", "-", Path(surface.name).with_suffix("").as_posix()).strip("-")
    return path.with_name(f"{path.stem}-{name}{path.suffix}")


def _print(table: Table) -> None:
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH_OF_FILES)
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table()
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left")
    return table


def _relaxed_table(surfaces: Sequence[Surface], found: Mapping[int, Sequence[Relaxed]]) -> Table:
    first = ["from the first (Å)"] if len(surfaces) > 1 else []
    table = _table("frame", "surface", "steps", "energy (eV)", "gained (eV)", "force left (eV/Å)", "moved (Å)", *first)
    for position, of_frame in found.items():
        for surface, each in zip(surfaces, of_frame, strict=True):
            steps = f"{each.steps}" if each.converged else f"{each.steps}, not done"
            numbers = [f"{each.energy:.6f}", f"{each.gained:.6f}", f"{each.largest_force:.2g}", f"{each.moved:.4f}"]
            apart = [f"{distance(of_frame[0].atoms, each.atoms):.4f}"] if first else []
            table.add_row(str(position), surface.name, steps, *numbers, *apart)
    return table


def _vibrations_table(surfaces: Sequence[Surface], found: Sequence[Vibrations]) -> Table:
    table = _table("mode", *(f"{surface.name} (cm⁻¹)" for surface in surfaces))
    # One mode more or less has a molecule that is linear on one surface alone: ends are laid beside each other.
    most = max(len(each.frequencies) for each in found)
    for mode in range(most):
        places = [mode - most + len(each.frequencies) for each in found]
        cells = [
            "" if place < 0 else _wavenumber(each.frequencies[place]) for place, each in zip(places, found, strict=True)
        ]
        table.add_row(str(mode + 1), *cells)
    return table


def _wavenumber(value: float) -> str:
    return f"{value:.1f}" if value >= 0 else f"{-value:.1f}i"


def _thermochemistry_table(records: Sequence[dict[str, Any]]) -> Table:
    table = _table("", *(record["surface"] for record in records))
    rows: dict[str, list[str]] = {
        "energy (eV)": [f"{record['energy_eV']:.6f}" for record in records],
        "zero-point energy (eV)": [f"{record['zero_point_energy_eV']:.6f}" for record in records],
    }
    gases = [record["ideal_gas"] for record in records]
    if None not in gases:
        rows["enthalpy (eV)"] = [f"{gas['enthalpy_eV']:.6f}" for gas in gases]
        rows["entropy (meV/K)"] = [f"{1000 * gas['entropy_eV_per_K']:.6f}" for gas in gases]
        rows["Gibbs energy (eV)"] = [f"{gas['gibbs_energy_eV']:.6f}" for gas in gases]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _relative(points: Sequence[Point]) -> list[float]:
    energies = np.array([point.energy for point in points])
    lowest = np.nanmin(energies) if np.isfinite(energies).any() else np.nan
    return list(energies - lowest)


def _scan_table(surfaces: Sequence[Surface], found: Sequence[Sequence[Point]], coordinate: Coordinate) -> Table:
    table = _table(f"{coordinate.kind} ({coordinate.unit})", *(f"{surface.name} (eV)" for surface in surfaces))
    columns = [_relative(points) for points in found]
    for point, *energies in zip(found[0], *columns, strict=True):
        table.add_row(f"{point.value:g}", *(f"{energy:.4f}" if np.isfinite(energy) else "-" for energy in energies))
    return table


def _scan_csv(surfaces: Sequence[Surface], found: Sequence[Sequence[Point]], coordinate: Coordinate) -> str:
    """Return energies, not those relative to the lowest, in eV; empty where there are none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"{coordinate.kind}_{coordinate.unit}", *(f"{surface.name}_eV" for surface in surfaces)])
    for row in zip(*found, strict=True):
        writer.writerow([row[0].value, *(point.energy if np.isfinite(point.energy) else "" for point in row)])
    return text.getvalue()
