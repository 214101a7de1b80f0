"""How far radicals are from a minimum without the search for one, and how right their forces by differences are.

All in HF/cc-pVDZ, on displaced geometries. An SCF that starts from atomic densities may come to rest on a saddle point;
the search follows it down to a minimum. Forces by differences are compared with the analytic ones, as frames are
labelled and as they come out where every displaced geometry starts from atomic densities, too. Each line of the
output is a calculation, written as soon as it is known; a second run goes on where the first stopped, and prints the
tables.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import molecule

from piwsl.reference.differences import STENCIL, STEP_ANGSTROM, internal_directions
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.failures import FrameFailure
from piwsl.reference.labelling import label_frames
from piwsl.structures.frames import FORCES_KEY

MULTIPLICITIES = {"NO2": 2, "CN": 2, "O2": 3, "NO": 2, "CCH": 2, "OH": 2, "NH2": 2, "CH3": 2}
WITH_FORCES = ("NO2", "CN", "O2", "NO", "CCH")
FRAMES = 8
AMPLITUDE_ANGSTROM = 0.05
MEMORY_MB = 4000
BASIS = "cc-pvdz"
# Twice as far as forces of one state are off where its spin symmetry begins to break. Beyond that they are of several.
WRONG_EV_PER_ANGSTROM = 0.01


def frame(name: str, seed: int) -> Atoms:
    """Return a displaced geometry of a radical."""
    atoms = molecule(name)
    noise = np.random.default_rng(seed).normal(0.0, AMPLITUDE_ANGSTROM, atoms.positions.shape)
    info = {"multiplicity": MULTIPLICITIES[name]}
    return Atoms(atoms.numbers, atoms.positions + noise, info=info)


def hartree_fock(orbitals: str = "unrestricted", search: bool = True) -> PySCF:
    """Return HF, with or without the search for a minimum."""
    keys = {"method": "hf", "basis": BASIS, "density_fitting": False, "orbitals": orbitals}
    return PySCF.model_validate(keys | ({} if search else {"stability": False}))


def minimum(atoms: Atoms, orbitals: str) -> dict[str, Any]:
    """Return how far the SCF from atoms lies above the minimum (mEh), and ⟨S²⟩ of both."""
    energies, squares = [], []
    for search in (False, True):
        level = hartree_fock(orbitals, search)
        found = level.single_point(atoms, 0, atoms.info["multiplicity"], MEMORY_MB, False)
        energies.append(found.energy)
        squares.append(found.notes["scf"][f"hf/{BASIS}"]["s_squared"])
    return {"above_mEh": 1000 * (energies[0] - energies[1]) / units.Hartree, "s_squared": squares}


def labelled_forces(atoms: Atoms) -> dict[str, Any]:
    """Return the largest difference of a component of forces by differences from the analytic one, eV/Å."""
    found = {}
    for method in ("analytic", "differences"):
        with tempfile.TemporaryDirectory() as store:
            frames, (record,) = label_frames([atoms], hartree_fock(), Path(store), method, MEMORY_MB, lambda line: None)
        if record["status"] != "ok":
            raise FrameFailure(record["step"], record["reason"])
        found[method] = frames[0].arrays[FORCES_KEY]
    return {"eV_per_A": largest(found["differences"] - found["analytic"])}


def forces_from_atoms(atoms: Atoms, search: bool) -> dict[str, Any]:
    """Return the same where each geometry starts from atomic densities, and nothing asks whether curves are smooth."""
    level = hartree_fock(search=search)

    def energy(moved: Atoms) -> float:
        return level.single_point(moved, 0, atoms.info["multiplicity"], MEMORY_MB, False).energy

    analytic = level.single_point(atoms, 0, atoms.info["multiplicity"], MEMORY_MB, True).forces
    directions = internal_directions(atoms.positions)
    slopes = [slope(atoms, energy, direction) for direction in directions]
    return {"eV_per_A": largest(analytic + np.tensordot(slopes, directions, axes=1))}


def slope(atoms: Atoms, energy: Callable[[Atoms], float], direction: np.ndarray) -> float:
    """Return the slope of an energy along a direction, eV/Å, by the points that frames are labelled with."""

    def at(steps: int) -> float:
        moved = atoms.copy()
        moved.positions += steps * STEP_ANGSTROM * direction
        return energy(moved)

    return sum(weight * (at(steps) - at(-steps)) for steps, weight in STENCIL.items()) / STEP_ANGSTROM


def largest(forces: np.ndarray) -> float:
    """Return the largest component."""
    return float(np.abs(forces).max())


Calculation = Callable[[Atoms], dict[str, Any]]
MINIMA: dict[str, Calculation] = {
    "UHF": partial(minimum, orbitals="unrestricted"),
    "ROHF": partial(minimum, orbitals="restricted"),
}
FORCES: dict[str, Calculation] = {
    "from the frame, as labelled": labelled_forces,
    "from atoms, with the search": partial(forces_from_atoms, search=True),
    "from atoms, without it": partial(forces_from_atoms, search=False),
}


def measure(path: Path) -> None:
    """Compute what is not in the file yet."""
    known = {(line["molecule"], line["frame"], line["of"]) for line in lines(path)}
    wanted = [*itertools.product(MINIMA, range(FRAMES), MULTIPLICITIES)]
    wanted += itertools.product(FORCES, range(FRAMES), WITH_FORCES)
    for what, seed, name in wanted:
        if (name, seed, what) not in known:
            try:
                found = (MINIMA | FORCES)[what](frame(name, seed))
            except FrameFailure as failure:
                found = {"failed": str(failure)}
            with path.open("a") as file:
                file.write(json.dumps({"molecule": name, "frame": seed, "of": what, **found}) + "\n")


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Return what is known."""
    if path.exists():
        yield from map(json.loads, path.read_text().splitlines())


def table_of_minima(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield, in Markdown, what the search brings in each radical: mean and largest."""
    yield "| | frames | ⟨S²⟩, exact | UHF above its minimum, mEh | ⟨S²⟩ before | after | ROHF, mEh | ⟨S²⟩ |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, multiplicity in MULTIPLICITIES.items():
        own = {
            kind: [line for line in found if (line["of"], line["molecule"]) == (kind, name) and "failed" not in line]
            for kind in MINIMA
        }
        if all(own.values()):
            above = {kind: mean_and_largest([line["above_mEh"] for line in each]) for kind, each in own.items()}
            squares = {kind: np.array([line["s_squared"] for line in each]) for kind, each in own.items()}
            before, after = (mean_and_largest(each, 3) for each in squares["UHF"].T)
            exact = (multiplicity**2 - 1) / 4
            yield (
                f"| {name} | {len(own['UHF'])} | {exact:.2f} | {above['UHF']} | {before} | {after} "
                f"| {above['ROHF']} | {squares['ROHF'].max():.3f} |"
            )


def table_of_forces(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield, in Markdown, how far forces by differences are off by where displaced SCFs start: median and largest."""
    yield "| | frames | " + " | ".join(f"{way}, eV/Å | failed / wrong" for way in FORCES) + " |"
    yield "|---|---|" + "---|---|" * len(FORCES)
    for title, names in {**{name: (name,) for name in WITH_FORCES}, "all": WITH_FORCES}.items():
        each = [[line for line in found if line["of"] == way and line["molecule"] in names] for way in FORCES]
        if all(each):
            yield f"| {title} | {len(each[0])} | " + " | ".join(map(errors_of_forces, each)) + " |"


def errors_of_forces(found: list[dict[str, Any]]) -> str:
    """Return median and largest of the frames that did not fail, how many did, and how many are wrong and did not."""
    errors = np.array([line["eV_per_A"] for line in found if "failed" not in line])
    wrong = int((errors > WRONG_EV_PER_ANGSTROM).sum())
    return f"{np.median(errors):.2g} / {errors.max():.2g} | {len(found) - len(errors)} / {wrong}"


def mean_and_largest(values: Sequence[float] | np.ndarray, digits: int = 1) -> str:
    """Return mean and largest as a cell of a table."""
    return f"{np.mean(values):.{digits}f} / {np.max(values):.{digits}f}"


def tables(path: Path) -> None:
    """Print both tables, and why frames failed."""
    found = list(lines(path))
    print(*table_of_minima(found), "", *table_of_forces(found), sep="\n")
    for line in found:
        if "failed" in line:
            print(f"{line['molecule']}, frame {line['frame']}, {line['of']}: {line['failed']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=Path("open-shells.jsonl"))
    parser.add_argument("--table", action="store_true", help="print what is known, and compute nothing")
    given = parser.parse_args()
    if not given.table:
        measure(given.file)
    tables(given.file)
