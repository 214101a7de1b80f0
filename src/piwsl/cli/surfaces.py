"""Surfaces: dynamics, minima, vibrations and scans on a model, or on a level beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from piwsl.cli.application import Device, command
from piwsl.errors import PiwslError

Surface = Annotated[str, typer.Argument(metavar="MODEL", help="A model file, or a level: a preset, or a YAML file.")]
Beside = Annotated[
    list[str], typer.Option("--beside", metavar="MODEL", help="Another one to lay beside it; may be said again.")
]


@command
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
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; small systems want one.")] = 1,
) -> None:
    """Run molecular dynamics with a model, until the time is over or a bond of START.xyz breaks.

    Frames of the trajectory have velocities, `time_fs`, `temperature` (K), `total_energy` (eV) and, of all steps until
    then, `mean_temperature_K` and `largest_bond_change_A`. Atoms that `move_mask` fixes stay.

    Example: `piwsl md model.safetensors start.xyz --temperature 300 --time 10`
    """
    import torch

    from piwsl.config import Simulation, parse_section
    from piwsl.simulation.dynamics import simulate_file

    torch.set_num_threads(threads)
    options = {"ensemble": ensemble, "temperature": temperature, "time": time, "timestep": timestep}
    settings = parse_section(Simulation, options | {"friction": friction, "seed": seed}, "options")
    summary = simulate_file(model, start, settings, trajectory, device, restart)
    mean, drift = summary["mean_temperature_K"], summary.get("drift_meV_per_atom_per_ps")
    print(
        f"{summary['ended']} after {summary['stable_ps']:g} of {summary['time_ps']:g} ps, "
        + ("" if mean is None else f"mean temperature {mean:.0f} K, ")
        + ("" if drift is None else f"energy drift {drift:.3g} meV/atom/ps, ")
        + f"{summary['steps_per_second']:g} steps/s: {trajectory}"
    )


@command
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


@command
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


@command
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
