"""What cheaper reference frames cost in accuracy, and what they save: each option beside the full calculation.

Geometries are sampled as the pipeline samples them, with GFN2-xTB at 300 and 500 K, or come from a file. Of each, the
correction [CCSD(T) - MP2] of `ccsdt-cbs` is computed in full and with every option; where it is asked for, that in
cc-pVTZ, too, which takes minutes. A constant error is none to a potential: what counts is the scatter. Then, along a
trajectory: what it saves to start from the orbitals and the amplitudes of a geometry so many femtoseconds away. All in
one process, in turns, so that CPU seconds compare. Each line of the output is a calculation, written as soon as it is
known; a second run goes on where the first stopped, and prints the tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from ase import Atoms, units
from ase.build import minimize_rotation_and_translation
from ase.io import read
from numpy.typing import NDArray
from pyscf import gto, scf

from piwsl.config import KeptParts, Molecule, Part, Sampling
from piwsl.reference import correlation
from piwsl.reference.calculations import build_molecule, run_level
from piwsl.reference.components import MeanFieldKey
from piwsl.reference.correlation import correlate
from piwsl.reference.coupled_cluster import Amplitudes
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.mean_field import converge, projected
from piwsl.reference.sampling import trajectory

MEMORY_MB = 8000
MULTIPLICITY = {"CH3O": 2}
FRAMES = {"CH3CH2OH": 20, "CH3CHO": 5, "CH3O": 5}
TEMPERATURES = (300.0, 500.0)
TIMESTEP_FS = 0.5
# From one frame of the trajectory to the next.
STRIDES_FS = (1.0, 5.0, 20.0, 100.0)
NEIGHBOURS = 2

LIMIT = PySCF.model_validate({"preset": "mp2-cbs"})
WHOLE, WHOLE_IN_TRIPLE_ZETA, OF_LIMIT = "in full", "cc-pVTZ, in full", "HF/CBS + MP2/CBS"
# Keys of the stage [CCSD(T) - MP2].
FITTED = {"density_fitting": True}
OPTIONS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "natural orbitals, 1e-5": {"natural_orbitals": 1e-5},
    "natural orbitals, 1e-4": {"natural_orbitals": 1e-4},
    "natural orbitals, 3e-4": {"natural_orbitals": 3e-4},
    "natural orbitals, 1e-3": {"natural_orbitals": 1e-3},
    "fitted integrals": FITTED,
    "natural orbitals, 1e-4, fitted": FITTED | {"natural_orbitals": 1e-4},
}
LARGER = {"bases": ["cc-pvtz"]}
IN_TRIPLE_ZETA: dict[str, dict[str, Any]] = {
    "cc-pVTZ, natural orbitals, 3e-5, fitted": LARGER | FITTED | {"natural_orbitals": 3e-5},
    "cc-pVTZ, natural orbitals, 1e-4, fitted": LARGER | FITTED | {"natural_orbitals": 1e-4},
    "cc-pVTZ, natural orbitals, 3e-4, fitted": LARGER | FITTED | {"natural_orbitals": 3e-4},
    WHOLE_IN_TRIPLE_ZETA: LARGER,
}
ALL = (*OPTIONS, OF_LIMIT, *IN_TRIPLE_ZETA)


class Kept(KeptParts):
    """Parts of one geometry, in memory."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}

    def find(self, name: str) -> Part | None:
        return self._parts.get(name)

    def keep(self, name: str, part: Part) -> None:
        """Keep SCFs alone: MP2 is computed with each option, which may bring it along."""
        if "hf/" in name:
            self._parts.setdefault(name, part)


def level(keys: dict[str, Any]) -> PySCF:
    """Return the level of a correction: the SCF that it starts from, MP2, and the correction itself."""
    correction = {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"], "density_fitting": False} | keys
    shared = {key: correction[key] for key in ("bases", "density_fitting")}
    return PySCF.model_validate({"stages": [{"method": "hf"} | shared, {"method": "mp2"} | shared, correction]})


def sampled(name: str, stride_fs: float, frames: int, temperature: float) -> list[Atoms]:
    """Return frames of a trajectory."""
    molecule = Molecule(name=name, multiplicity=MULTIPLICITY.get(name, 1))
    sampling = Sampling(temperatures=[temperature], stride=round(stride_fs / TIMESTEP_FS), timestep=TIMESTEP_FS)
    return trajectory(molecule, sampling, temperature, "test", frames)


def geometries(name: str, file: Path | None) -> list[Atoms]:
    """Return the geometries of a molecule."""
    count = FRAMES[name]
    if file is not None:
        return read(file, slice(count))
    each = [sampled(name, 100.0, -(-count // 2), temperature) for temperature in TEMPERATURES]
    return [frame for pair in zip(*each, strict=True) for frame in pair][:count]


def correction(atoms: Atoms, keys: dict[str, Any], kept: KeptParts) -> dict[str, Any]:
    """Return [CCSD(T) - MP2] (Hartree) and CPU seconds of what it takes beside HF/CBS and MP2/CBS."""
    outcome = run_level(atoms, level(keys), 0, atoms.info.get("multiplicity", 1), MEMORY_MB, kept=kept)
    energies = {part.method: energy for part, energy in outcome.energies.items()}
    beside = {name: cpu_s for name, cpu_s in outcome.notes["cpu_s_of"].items() if name not in LIMIT.part_recipes()}
    return {
        "hartree": energies["ccsd(t)"] - energies["mp2"],
        "cpu_s": sum(beside.values()),
        "parts": beside,
        "virtual_orbitals": outcome.notes.get("virtual_orbitals"),
    }


def limit(atoms: Atoms) -> dict[str, Any]:
    """Return the CPU seconds of HF/CBS and MP2/CBS."""
    outcome = run_level(atoms, LIMIT, 0, atoms.info.get("multiplicity", 1), MEMORY_MB)
    return {"cpu_s": sum(outcome.notes["cpu_s_of"].values()), "parts": outcome.notes["cpu_s_of"]}


Way = Callable[[], dict[str, Any]]
Keep = Callable[[dict[str, Any], Way], None]


def ways(atoms: Atoms) -> dict[str, Way]:
    """Return the calculation of a frame with each option; its SCFs are shared, and so are their CPU seconds."""
    kept = Kept()
    options = {name: partial(correction, atoms, keys, kept) for name, keys in (OPTIONS | IN_TRIPLE_ZETA).items()}
    return options | {OF_LIMIT: partial(limit, atoms)}


SMALL, MIDDLE, LARGE = (MeanFieldKey(basis, basis != "cc-pvdz") for basis in ("cc-pvdz", "cc-pvtz", "cc-pvqz"))


class Solved:
    """The SCFs of `ccsdt-cbs` at a geometry, and CCSD on the smallest, as the pipeline starts them."""

    def __init__(self, atoms: Atoms) -> None:
        self.molecules = {key: build_molecule(atoms, key.basis, 0, 1, MEMORY_MB) for key in (SMALL, MIDDLE, LARGE)}
        self.scf = {MIDDLE: self.converged(MIDDLE, None)}
        self.scf |= {LARGE: self.converged(LARGE, self.from_smaller())}
        self.scf |= {SMALL: self.converged(SMALL, projected(self.scf[LARGE], self.molecules[SMALL]))}
        self.coupled_cluster = self.ccsd(None)

    def converged(self, key: MeanFieldKey, start: NDArray[np.float64] | None) -> scf.hf.SCF:
        return converge(self.molecules[key], key, LIMIT, start)[0]

    def from_smaller(self) -> NDArray[np.float64]:
        return projected(self.scf[MIDDLE], self.molecules[LARGE])

    def ccsd(self, near: Amplitudes | None) -> correlation.Correlation:
        # At the convergence of frames, whatever it starts from.
        with patch.object(correlation, "DIFFERENTIATED_AMPLITUDE_TOLERANCE", correlation.CC_AMPLITUDE_TOLERANCE):
            return correlate(self.scf[SMALL], {"ccsd"}, 3, None, None, None, near)


def orthonormal(orbitals: NDArray[np.float64], molecule: gto.Mole) -> NDArray[np.float64]:
    """Return orbitals of a geometry near by as orthonormal ones of this one, of the same coefficients (Löwdin)."""
    values, vectors = np.linalg.eigh(orbitals.T @ molecule.intor("int1e_ovlp") @ orbitals)
    return orbitals @ (vectors / np.sqrt(values)) @ vectors.T


def occupied(found: scf.hf.SCF) -> NDArray[np.float64]:
    """Return occupied orbitals, (functions, occupied)."""
    return found.mo_coeff[:, found.mo_occ > 0]


def started(atoms: Atoms, before: Atoms, stride_fs: float) -> dict[str, Any]:
    """Return cycles from the pipeline's own start and from a geometry near by, and how far the energies differ."""
    here, near = Solved(atoms), Solved(before)
    distance = np.sqrt(((atoms.positions - before.positions) ** 2).sum(axis=1).mean())
    found: dict[str, Any] = {"stride_fs": stride_fs, "rms_A": float(distance)}
    for key in (MIDDLE, LARGE, SMALL):
        orbitals = orthonormal(occupied(near.scf[key]), here.molecules[key])
        again = here.converged(key, 2.0 * orbitals @ orbitals.T)
        found[key.basis] = [int(here.scf[key].cycles), int(again.cycles)]
        found[f"{key.basis}, Eh"] = abs(again.e_tot - here.scf[key].e_tot)
    amplitudes = near.coupled_cluster.amplitudes
    assert amplitudes is not None
    again = here.ccsd(amplitudes)
    found["ccsd"] = [one.notes["ccsd_cycles"] for one in (here.coupled_cluster, again)]
    found["ccsd, Eh"] = abs(again.energies["ccsd"] - here.coupled_cluster.energies["ccsd"])
    return found


def neighbours(stride_fs: float) -> list[Atoms]:
    """Return frames of a trajectory, each turned onto the one before it, for basis functions have directions."""
    frames = sampled("CH3CH2OH", stride_fs, NEIGHBOURS, TEMPERATURES[0])
    for before, after in pairwise(frames):
        minimize_rotation_and_translation(before, after)
    return frames


def measure_starts(keep: Keep) -> None:
    """Compute what it saves to start from neighbours."""
    for stride in STRIDES_FS:
        frames = neighbours(stride)
        for number, (near, here) in enumerate(pairwise(frames)):
            what = {"molecule": "CH3CH2OH", "frame": number, "of": f"start, {stride:g} fs"}
            keep(what, partial(started, here, near, stride))


def measure_options(keep: Keep, name: str, frames: list[Atoms], options: Iterable[str]) -> None:
    """Compute frames with each of some options."""
    for number, atoms in enumerate(frames):
        each = ways(atoms)
        for of in options:
            keep({"molecule": name, "frame": number, "of": of}, each[of])


def keeping(path: Path) -> Keep:
    """Return what computes and writes down what is not in a file yet."""
    known = {(line["molecule"], line["frame"], line["of"]) for line in lines(path)}

    def keep(what: dict[str, Any], calculation: Way) -> None:
        if tuple(what.values()) not in known:
            line = what | calculation()
            with path.open("a") as output:
                output.write(json.dumps(line) + "\n")

    return keep


def measure(path: Path, given: argparse.Namespace) -> None:
    """Compute what is not in the file yet."""
    keep = keeping(path)
    for name in given.molecules:
        frames = geometries(name, given.geometries)[: given.frames]
        measure_options(keep, name, frames, [of for of in ALL if of in given.options])
    if given.starts:
        measure_starts(keep)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Return what is known."""
    if path.exists():
        yield from map(json.loads, path.read_text().splitlines())


def table_of_options(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield, in Markdown, errors in µEh and CPU seconds of each option, and those of a frame over the full ones."""
    yield "| | option | frames | mean, µEh | scatter, µEh (meV) | largest of the rest | CPU s | of a frame's |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in FRAMES:
        own = {
            of: {line["frame"]: line for line in found if (line["molecule"], line["of"]) == (name, of)} for of in ALL
        }
        shared = [line["cpu_s"] for line in own[OF_LIMIT].values()]
        for of in (*OPTIONS, *IN_TRIPLE_ZETA):
            whole = own[WHOLE_IN_TRIPLE_ZETA if of in IN_TRIPLE_ZETA else WHOLE]
            both = [(line, whole[frame]) for frame, line in own[of].items() if frame in whole]
            if both and shared:
                yield f"| {name} | {of} | {len(both)} | {cells(both, float(np.mean(shared)))} |"


def cells(both: list[tuple[dict[str, Any], dict[str, Any]]], shared: float) -> str:
    """Return errors and CPU seconds of one option beside the whole; the rest of a frame takes so many seconds."""
    microhartree = 1e6 * np.array([line["hartree"] - whole["hartree"] for line, whole in both])
    rest = microhartree - microhartree.mean()
    scatter = rest.std(ddof=1) if len(rest) > 1 else np.nan
    seconds, of_whole = (float(np.mean([pair[i]["cpu_s"] for pair in both])) for i in (0, 1))
    return (
        f"{microhartree.mean():.1f} | {scatter:.1f} ({scatter * 1e-3 * units.Hartree:.2f}) | {np.abs(rest).max():.1f} "
        f"| {seconds:.1f} | {(seconds + shared) / (of_whole + shared):.2f} |"
    ).removesuffix(" |")


def table_of_starts(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield, in Markdown, mean cycles from the pipeline's own start and from a geometry near by."""
    columns = (MIDDLE.basis, LARGE.basis, SMALL.basis, "ccsd")
    yield "| fs | rms, Å | " + " | ".join(columns) + " | energies within, Eh |"
    yield "|---|---|" + "---|" * len(columns) + "---|"
    for stride in STRIDES_FS:
        own = [line for line in found if line.get("stride_fs") == stride]
        if own:
            cycles = [np.mean([line[column] for line in own], axis=0) for column in columns]
            within = max(line[f"{column}, Eh"] for line in own for column in columns)
            cells = " | ".join(f"{usual:.1f}, {near:.1f}" for usual, near in cycles)
            distance = np.mean([line["rms_A"] for line in own])
            yield f"| {stride:g} | {distance:.3f} | {cells} | {within:.0e} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=Path("cheaper-frames.jsonl"))
    parser.add_argument("--molecules", nargs="*", choices=FRAMES, default=list(FRAMES))
    parser.add_argument("--options", nargs="+", choices=ALL, default=[*OPTIONS, OF_LIMIT], help="what to compute")
    parser.add_argument("--frames", type=int, help="of each molecule, the first ones")
    parser.add_argument("--geometries", type=Path, help="frames to take in place of sampled ones, of one molecule")
    parser.add_argument("--starts", action="store_true", help="also starts from geometries near by")
    parser.add_argument("--table", action="store_true", help="print what is known, and compute nothing")
    given = parser.parse_args()
    if not given.table:
        measure(given.file, given)
    known = list(lines(given.file))
    print(*table_of_options(known), "", *table_of_starts(known), sep="\n")
