"""Harmonic frequencies of models beside those of a level of theory that has energies alone, such as CCSD(T)/CBS.

The level's minimum and Hessian come from energies at geometries displaced along the normal modes of a cheaper level
with forces, all by the same fraction of a mode's zero-point length: stiff modes little, soft modes far. Diagonal
elements are differences of five points, others of two beside those. Displacements that are images of one another have
one energy: start from a geometry that has its symmetry to 1e-6 Å. Ethanol takes 250 energies in place of the 4,500 of
differences of forces that are differences themselves.
Energies go through the label store, so a second run computes none again.

Frequencies at each surface's own minimum, without translations and rotations: `piwsl.surface.vibrations`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from piwsl.config import Level, named_level, read_level
from piwsl.config.levels import PRESETS
from piwsl.errors import PiwslError
from piwsl.files import write_json
from piwsl.reference.labelling import label_frames
from piwsl.structures.rigid import rigid_motions
from piwsl.surface.relaxation import relax
from piwsl.surface.source import geometries_of, surface_of
from piwsl.surface.vibrations import QUANTUM, Vibrations, vibrations

MEMORY_MB = 4000
# Of the zero-point length √(ħ/ω) of a mode: its energy rises by 0.02 ħω, 5 cm⁻¹ for a soft one.
FRACTION = 0.2
# For slopes, whose error is the third derivative times the square of it over 6: a stretched OH is 0.1 mÅ off.
SLOPE_FRACTION = 0.05
# Newton's steps to the minimum end when none is longer, in zero-point lengths.
AT_REST, MOST_STEPS = 0.001, 10
FMAX = 1e-4  # eV/Å
# Å² e²: geometries whose Coulomb matrices have eigenvalues closer than that are images of one another.
IMAGES_DECIMALS = 5

Displacement = Mapping[int, float]
"""Of modes, by their number, in zero-point lengths; others are at rest."""


@dataclass
class EnergySurface:
    """Energies of a level at geometries displaced along modes."""

    centre: Atoms
    directions: NDArray[np.float64]
    """(V, N, 3), Å: one zero-point length each."""
    level: Level
    store: Path
    workers: int
    known: dict[tuple[float, ...], float] = field(default_factory=dict)
    """eV, by what images of a geometry share."""

    def at(self, displacement: Displacement) -> Atoms:
        """Return the displaced geometry."""
        moved = self.centre.copy()
        for mode, length in displacement.items():
            moved.positions += length * self.directions[mode]
        return moved

    def image(self, displacement: Displacement) -> tuple[float, ...]:
        """Return what the displaced geometry shares with its images alone."""
        return coulomb_eigenvalues(self.at(displacement))

    def compute(self, displacements: Iterable[Displacement]) -> None:
        """Compute the energies that are not known yet."""
        wanted = {self.image(each): self.at(each) for each in displacements}
        lacking = [(image, atoms) for image, atoms in wanted.items() if image not in self.known]
        print(f"{len(lacking)} energies of {len(wanted)} geometries", flush=True)
        label = partial(energy_of, level=self.level, store=self.store)
        with ProcessPoolExecutor(self.workers) as pool:
            energies = pool.map(label, [atoms for _, atoms in lacking])
            self.known |= dict(zip([image for image, _ in lacking], energies, strict=True))

    def __call__(self, displacement: Displacement) -> float:
        """Return an energy that is known, eV."""
        return self.known[self.image(displacement)]


def energy_of(atoms: Atoms, level: Level, store: Path) -> float:
    """Return the energy of a geometry through the store, eV."""
    labelled, records = label_frames([atoms], level, store, None, MEMORY_MB, progress=lambda line: None)
    if not labelled:
        raise PiwslError(f"{records[0]['step']}: {records[0]['reason']}")
    return float(labelled[0].info["REF_energy"])


def coulomb_eigenvalues(atoms: Atoms) -> tuple[float, ...]:
    """Return the eigenvalues of the Coulomb matrix, e²/Å: the same for rotated, reflected and renumbered geometries.

    Rupp, Tkatchenko, Müller, von Lilienfeld, Phys. Rev. Lett. 108, 058301 (2012), equation 1.
    """
    distances = atoms.get_all_distances()
    np.fill_diagonal(distances, 1.0)
    matrix = np.outer(atoms.numbers, atoms.numbers) / distances
    np.fill_diagonal(matrix, 0.5 * atoms.numbers**2.4)
    return tuple(np.round(np.linalg.eigvalsh(matrix), IMAGES_DECIMALS) + 0.0)


def zero_point_directions(found: Vibrations, at: Atoms) -> NDArray[np.float64]:
    """Return modes as displacements (V, N, 3) of one zero-point length, Å, without what moves `at` as a whole.

    The zero-point length √(ħ/ω) of a mass-weighted coordinate is QUANTUM/√(ħω) in Å √u, ħω in eV.
    """
    roots = np.sqrt(at.get_masses())[:, None]
    rigid = rigid_motions(at.positions, at.get_masses())
    weighted = (found.modes * roots).reshape(len(found.modes), -1)
    weighted -= (weighted @ rigid.T) @ rigid
    left, _, right = np.linalg.svd(weighted, full_matrices=False)  # the nearest that are orthonormal
    lengths = QUANTUM / np.sqrt(found.frequencies * units.invcm)
    return (lengths[:, None] * (left @ right)).reshape(found.modes.shape) / roots


def minimum(surface: EnergySurface, found: Vibrations) -> EnergySurface:
    """Return the surface about its minimum, by Newton's steps with the Hessian of the cheaper level."""
    h = SLOPE_FRACTION
    for _ in range(MOST_STEPS):
        modes = range(len(surface.directions))
        # By symmetry a mode whose displacements are images of one another has no slope.
        sloping = [mode for mode in modes if surface.image({mode: h}) != surface.image({mode: -h})]
        surface.compute({mode: sign * h} for mode in sloping for sign in (1, -1))
        slopes = {mode: (surface({mode: h}) - surface({mode: -h})) / (2 * h) for mode in sloping}
        step = {mode: -slope / (found.frequencies[mode] * units.invcm) for mode, slope in slopes.items()}
        longest = max(map(abs, step.values()), default=0.0)
        print(f"step of {longest:.3g} zero-point lengths", flush=True)
        if longest < AT_REST:
            return surface
        centre = surface.at(step)
        surface = replace(surface, centre=centre, directions=zero_point_directions(found, centre), known={})
    raise PiwslError(f"no minimum within {MOST_STEPS} steps")


def force_constants(surface: EnergySurface) -> NDArray[np.float64]:
    """Return the second derivatives (V, V) by displacements in zero-point lengths, eV."""
    h, modes = FRACTION, range(len(surface.directions))
    pairs = [(i, j) for i, j in combinations(modes, 2) if not vanishes(surface, i, j)]
    along = [{mode: m * h} for mode in modes for m in (1, -1, 2, -2)]
    surface.compute([{}, *along, *({i: s * h, j: s * h} for i, j in pairs for s in (1, -1))])
    own = surface({})
    found = np.zeros((len(modes), len(modes)))
    single = {(i, s): surface({i: s * h}) for i in modes for s in (1, -1)}
    for i in modes:
        near, far = single[i, 1] + single[i, -1], surface({i: 2 * h}) + surface({i: -2 * h})
        found[i, i] = (16 * near - far - 30 * own) / (12 * h**2)
    for i, j in pairs:
        beside = sum(single[mode, s] for mode in (i, j) for s in (1, -1))
        both = surface({i: h, j: h}) + surface({i: -h, j: -h})
        found[i, j] = found[j, i] = (both - beside + 2 * own) / (2 * h**2)
    return found


def vanishes(surface: EnergySurface, i: int, j: int) -> bool:
    """Return whether symmetry makes a second derivative nothing: E(i, j) = E(i, -j) and E(-i, j) = E(-i, -j), or so."""
    h = FRACTION
    image = {(s, t): surface.image({i: s * h, j: t * h}) for s in (1, -1) for t in (1, -1)}
    by_j = image[1, 1] == image[1, -1] and image[-1, 1] == image[-1, -1]
    by_i = image[1, 1] == image[-1, 1] and image[1, -1] == image[-1, -1]
    return by_i or by_j


def frequencies_of(constants: NDArray[np.float64], guess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return frequencies, cm⁻¹, ascending.

    Args:
        constants: (V, V), eV, by displacements in zero-point lengths.
        guess: (V,), cm⁻¹: of the modes whose zero-point lengths these are.
    """
    # ∂²E/∂Q∂Q' = φ / (ℓ ℓ'), and ℓ = QUANTUM/√(ħω): the squares of quanta are √(ħω) φ √(ħω').
    roots = np.sqrt(guess * units.invcm)
    squares = np.linalg.eigvalsh(roots[:, None] * constants * roots)
    return np.sign(squares) * np.sqrt(np.abs(squares)) / units.invcm


def own_frequencies(said: str, start: Atoms) -> tuple[Atoms, NDArray[np.float64]]:
    """Return minimum and frequencies (cm⁻¹) of a surface with forces, a model file or a level."""
    found = vibrations_from(said, start)
    return found.atoms, found.frequencies


def vibrations_from(said: str, start: Atoms) -> Vibrations:
    """Relax on a surface, and find its vibrations."""
    relaxed = relax(surface_of(said, set(start.get_chemical_symbols())).of(start), FMAX)
    if not relaxed.converged:
        raise PiwslError(f"{said}: no minimum")
    return vibrations(relaxed.atoms)


def bonds_off(found: Atoms, reference: Atoms) -> float:
    """Return the largest difference of distances below 1.7 Å, Å."""
    ours, theirs = found.get_all_distances(), reference.get_all_distances()
    return float(np.abs(ours - theirs)[(theirs > 0) & (theirs < 1.7)].max())


def table(reference: NDArray[np.float64], rows: Mapping[str, tuple[NDArray[np.float64], float]]) -> list[str]:
    """Return lines: a surface, root mean square and largest deviation of its frequencies, and of its bonds."""
    lines = [
        "| surface | RMS (cm⁻¹) | largest (cm⁻¹) | zero-point energy (meV) | bonds (mÅ) |",
        "|---|---|---|---|---|",
    ]
    for name, (frequencies, bonds) in rows.items():
        off = frequencies - reference
        zero_point = 500 * units.invcm * off.sum()
        largest = off[np.abs(off).argmax()]
        rms = np.sqrt(np.square(off).mean())
        lines.append(f"| {name} | {rms:.1f} | {largest:+.0f} | {zero_point:+.1f} | {1000 * bonds:.1f} |")
    return lines


def level_of(said: str) -> Level:
    """Return a level by name or from its YAML file."""
    return named_level(said) if said in PRESETS else read_level(Path(said))


def reference_of(args: argparse.Namespace, start: Atoms) -> tuple[Atoms, NDArray[np.float64]]:
    """Return minimum and frequencies of the level, from the file of an earlier run where that is."""
    if args.out.exists():
        kept = json.loads(args.out.read_text())
        return Atoms(kept["symbols"], kept["positions_A"]), np.array(kept["frequencies_per_cm"])
    guess = vibrations_from(args.guess, start)
    level = level_of(args.level)
    directions = zero_point_directions(guess, guess.atoms)
    centre = guess.atoms.copy()
    surface = minimum(EnergySurface(centre, directions, level, args.store, args.workers), guess)
    found = frequencies_of(force_constants(surface), guess.frequencies)
    kept = {"level": str(level), "symbols": str(surface.centre.symbols)}
    kept |= {"positions_A": surface.centre.positions.tolist(), "frequencies_per_cm": found.tolist()}
    write_json(args.out, kept)
    return surface.centre, found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path, help="extended XYZ, as symmetric as the minimum; its first frame")
    parser.add_argument("out", type=Path, help="JSON with the level's minimum and frequencies; read where it exists")
    parser.add_argument("--level", default="ccsdt-cbs", help="a level, or a YAML file of one")
    parser.add_argument("--guess", default="gfn2-xtb", help="level with forces whose modes are displaced along")
    parser.add_argument("--beside", nargs="*", default=[], help="model files, and levels with forces")
    parser.add_argument("--store", type=Path, default=Path("results/labels"))
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(arguments)
    start = geometries_of(args.start)[0]
    reference, frequencies = reference_of(args, start)
    print("frequencies (cm⁻¹): " + " ".join(f"{each:.0f}" for each in frequencies))
    rows = {}
    for said in args.beside:
        atoms, found = own_frequencies(said, reference)
        rows[said] = (found, bonds_off(atoms, reference))
    print("\n".join(table(frequencies, rows)))


if __name__ == "__main__":
    main()
